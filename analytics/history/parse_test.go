package history

import (
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/test/seeds"
)

func randomText(r *rand.Rand) string {
	words := []string{"", "596", "transactions", "card testing", `a "b"`, "ü", "\\", "line\nbreak", "{}", ",", "null"}
	return words[r.IntN(len(words))]
}

func randomValues(r *rand.Rand) event.Values {
	var out event.Values
	for range r.IntN(4) {
		out = append(out, event.Value{Name: "v" + randomText(r), JSON: []string{"1", "-2.5e3", `"x"`, "true", "null", `"a\"b"`, "0", "10", "[1]"}[r.IntN(9)]})
	}
	return out
}

// TestParseAgainstUnmarshal has the fast parser agree with UnmarshalJSON wherever
// it takes a record at all.
func TestParseAgainstUnmarshal(t *testing.T) {
	r := seeds.Rand(t)
	taken := 0
	for range 20_000 {
		d := event.Decision{Time: event.Time(r.Int64N(4e18) - 2e18), Stream: randomText(r), Key: randomText(r), Action: "review", Score: r.NormFloat64() * 100, Values: randomValues(r),
			Role: event.RoleLive, Program: randomText(r), Late: r.IntN(2) == 0, Topic: "transactions", Partition: int32(r.IntN(9)), Offset: r.Int64()}
		for range r.IntN(3) {
			d.Rules = append(d.Rules, randomText(r))
		}
		if checkDecision(t, d.AppendJSON(nil)) {
			taken++
		}
		a := event.Alert{ID: randomText(r), Time: d.Time, Rule: randomText(r), Stream: d.Stream, Key: d.Key, Severity: "high", Score: d.Score, Action: "alert", Message: randomText(r), Values: d.Values, Topic: d.Topic, Partition: d.Partition, Offset: d.Offset}
		checkAlert(t, a.AppendJSON(nil))
	}
	if taken == 0 {
		t.Error("the fast parser takes nothing")
	}
}

func checkDecision(t *testing.T, text []byte) bool {
	t.Helper()
	var s scratch
	var fast, slow event.Decision
	if !parseDecision(text, &fast, &s) {
		return false
	}
	if err := slow.UnmarshalJSON(text); err != nil {
		t.Fatalf("%s: taken by the fast parser only: %v", text, err)
	}
	if got, want := string(s.values), string(slow.Values.AppendJSON(nil)); got != want {
		t.Fatalf("%s: values %s, want %s", text, got, want)
	}
	if len(fast.Rules) == 0 {
		fast.Rules = nil
	}
	if len(slow.Rules) == 0 {
		slow.Rules = nil
	}
	slow.Values = nil
	if !reflect.DeepEqual(fast, slow) {
		t.Fatalf("%s:\nfast %+v\nslow %+v", text, fast, slow)
	}
	return true
}

func checkAlert(t *testing.T, text []byte) {
	t.Helper()
	var s scratch
	var fast, slow event.Alert
	if !parseAlert(text, &fast, &s) {
		return
	}
	if err := slow.UnmarshalJSON(text); err != nil {
		t.Fatalf("%s: taken by the fast parser only: %v", text, err)
	}
	if got, want := string(s.values), string(slow.Values.AppendJSON(nil)); got != want {
		t.Fatalf("%s: values %s, want %s", text, got, want)
	}
	slow.Values = nil
	if !reflect.DeepEqual(fast, slow) {
		t.Fatalf("%s:\nfast %+v\nslow %+v", text, fast, slow)
	}
}

func FuzzParse(f *testing.F) {
	d := event.Decision{Time: 1522540831123456789, Stream: "transactions", Key: "596", Action: "review", Score: 60.5, Rules: []string{"a", "b"}, Values: event.Values{{Name: "tx.amount", JSON: `"57.16"`}, {Name: "n", JSON: "3"}}, Role: "live", Program: "p", Topic: "t", Partition: 1, Offset: 17}
	a := event.Alert{ID: "t/1/17/a", Time: event.MinTime, Rule: "a", Values: d.Values, Topic: "t"}
	for _, seed := range [][]byte{d.AppendJSON(nil), a.AppendJSON(nil), []byte("{}"), nil, []byte(strings.Replace(string(d.AppendJSON(nil)), "60.5", "1e400", 1)), []byte(strings.Replace(string(d.AppendJSON(nil)), "60.5", "01", 1))} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		checkDecision(t, text)
		checkAlert(t, text)
	})
}

func BenchmarkParseDecision(b *testing.B) {
	d := event.Decision{Time: 1522540831123456789, Stream: "transactions", Key: "596", Action: "review", Score: 60.5, Rules: []string{"card-testing"}, Values: event.Values{{Name: "tx.amount", JSON: `"57.16"`}, {Name: "n", JSON: "3"}}, Role: "live", Program: "0123456789abcdef", Topic: "transactions", Partition: 1, Offset: 17}
	text := d.AppendJSON(nil)
	b.Run("fast", func(b *testing.B) {
		var s scratch
		var d event.Decision
		b.ReportAllocs()
		for b.Loop() {
			if !parseDecision(text, &d, &s) {
				b.Fatal("not taken")
			}
		}
	})
	b.Run("unmarshal", func(b *testing.B) {
		var d event.Decision
		b.ReportAllocs()
		for b.Loop() {
			if err := d.UnmarshalJSON(text); err != nil {
				b.Fatal(err)
			}
		}
	})
}

package event

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"
	"unicode/utf8"

	"github.com/weirstream/weir/test/seeds"
)

type jsonRecord interface {
	AppendJSON(dst []byte) []byte
}

func records() []jsonRecord {
	values := Values{{"tx.amount", `"12.30"`}, {`last("1h").by(tx.card).count()`, "4"}, {"a \"b\"\n", "null"}, {"x", "true"}}
	return []jsonRecord{
		&Decision{},
		&Decision{Time: 1522540831_000000001, Stream: "tx", Key: "k\x01\"é\u2028", Action: "review", Score: 60.5, Rules: []string{"a", "b"}, Values: values,
			Role: RoleLive, Program: "p", Late: true, Topic: "t", Partition: 3, Offset: math.MaxInt64},
		&Alert{},
		&Alert{ID: AlertID("t", 1, 2, "r"), Time: -1, Rule: "r", Stream: "s", Key: "k", Severity: "high", Score: 1e-9, Action: "alert", Message: "m\t", Values: values, Topic: "t", Partition: 1, Offset: 2},
		&Delivery{},
		&Delivery{Time: 5, Alert: "t/1/2/r", Rule: "r", Receiver: "hook", Attempt: 2, Outcome: "retry", Status: 503, Error: "e", DurationMillis: 1.5, NextAttempt: 7, AlertPartition: 1, AlertOffset: 2},
		&DeadLetter{Reason: "syntax", Topic: "t", Partition: 1, Offset: 9, Raw: []byte{0, 0xff}},
		&DeadLetter{Stream: "s", Reason: "type", Field: "amount", Detail: "d", File: "f.csv", Line: 3, Column: 4, Raw: []byte("a,b")},
	}
}

func TestRecordsRoundTrip(t *testing.T) {
	for _, rec := range records() {
		first := rec.AppendJSON(nil)
		if !json.Valid(first) {
			t.Errorf("%T: not JSON: %s", rec, first)
			continue
		}
		back := reflect.New(reflect.TypeOf(rec).Elem()).Interface()
		if err := json.Unmarshal(first, back); err != nil {
			t.Errorf("%T: %v: %s", rec, err, first)
			continue
		}
		if again := back.(jsonRecord).AppendJSON(nil); string(again) != string(first) {
			t.Errorf("%T: read back and written again:\n got %s\nwant %s", rec, again, first)
		}
		if nested, err := json.Marshal(map[string]any{"r": rec}); err != nil || string(nested) != `{"r":`+string(first)+`}` {
			// json.Marshal compacts and escapes HTML characters; the values here have none.
			if !utf8.Valid(first) || !containsLineSeparator(first) {
				t.Errorf("%T: nested: %s, %v", rec, nested, err)
			}
		}
		zero := reflect.ValueOf(rec).Elem().IsZero()
		if got := reflect.ValueOf(back).Elem().Interface(); !zero && !reflect.DeepEqual(got, reflect.ValueOf(rec).Elem().Interface()) {
			t.Errorf("%T:\n got %+v\nwant %+v", rec, got, rec)
		}
		if string(rec.AppendJSON([]byte("before"))) != "before"+string(first) {
			t.Errorf("%T: appending is not appending", rec)
		}
	}
}

func containsLineSeparator(b []byte) bool {
	for _, r := range string(b) {
		if r == '\u2028' || r == '\u2029' {
			return true
		}
	}
	return false
}

func TestIdentity(t *testing.T) {
	d := Decision{Topic: "t", Partition: 1, Offset: 2, Role: "shadow:x"}
	if got := string(d.Identity().AppendText(nil)); got != "t/1/2/shadow:x" {
		t.Errorf("identity %q", got)
	}
}

// TestJSONNumbers reads what is written and compares the bits.
func TestJSONNumbers(t *testing.T) {
	r := seeds.Rand(t)
	cases := []float64{0, math.Copysign(0, -1), 1e-6, 9.99e-7, 1e20, 1e21, math.MaxFloat64, math.SmallestNonzeroFloat64, 0.1}
	for range 20_000 {
		cases = append(cases, math.Float64frombits(r.Uint64()))
	}
	for _, f := range cases {
		text := AppendJSONDouble(nil, f)
		if math.IsNaN(f) || math.IsInf(f, 0) {
			if string(text) != "null" {
				t.Errorf("%v is written as %s", f, text)
			}
			continue
		}
		var back float64
		if err := json.Unmarshal(text, &back); err != nil || math.Float64bits(back) != math.Float64bits(f) {
			t.Fatalf("%v: written as %s, read as %v, %v", f, text, back, err)
		}
	}
}

// FuzzJSONString compares with encoding/json, which reads it back.
func FuzzJSONString(f *testing.F) {
	for _, s := range []string{"", "plain", "\"\\/\b\f\n\r\t\x00\x1f\x7f", "é\u2028\U0001F600", "\xff\xe2\x82", "\ufffd<>&"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text := AppendJSONString(nil, s)
		var got, want string
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatalf("%q is written as %s: %v", s, text, err)
		}
		through, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(through, &want); err != nil {
			t.Fatal(err)
		}
		if got != want || !utf8.Valid(text) {
			t.Errorf("%q is read back as %q, want %q", s, got, want)
		}
	})
}

// FuzzRecords checks that nothing makes the readers of records panic, and that
// what they take is written and read the same again.
func FuzzRecords(f *testing.F) {
	for _, rec := range records() {
		f.Add(rec.AppendJSON(nil))
	}
	f.Add([]byte(`{"time":"2018-13-01T00:00:00Z"}`))
	f.Add([]byte(`{"values":[1]}`))
	f.Add([]byte(`{"values":{"a":1,"a":2}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, into := range []any{new(Decision), new(Alert), new(Delivery), new(DeadLetter)} {
			if json.Unmarshal(b, into) != nil {
				continue
			}
			first := into.(jsonRecord).AppendJSON(nil)
			again := reflect.New(reflect.TypeOf(into).Elem()).Interface()
			if err := json.Unmarshal(first, again); err != nil {
				t.Fatalf("%T from %q: %v: %s", into, b, err, first)
			}
			if second := again.(jsonRecord).AppendJSON(nil); string(second) != string(first) {
				t.Fatalf("%T from %q:\nfirst %s\nthen  %s", into, b, first, second)
			}
		}
	})
}

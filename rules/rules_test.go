package rules

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/cep/engine"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
)

// transactions is the stream of most tests.
func transactions() *schema.Stream {
	fields := []event.Field{
		{Name: "id", Type: event.Type{Kind: event.String}},
		{Name: "ts", Type: event.Type{Kind: event.Timestamp}},
		{Name: "card", Type: event.Type{Kind: event.String}},
		{Name: "amount", Type: event.Type{Kind: event.Decimal, Scale: 2}},
		{Name: "fee", Type: event.Type{Kind: event.Decimal, Scale: 4}, Optional: true},
		{Name: "score", Type: event.Type{Kind: event.Double}, Optional: true},
		{Name: "items", Type: event.Type{Kind: event.Int64}},
		{Name: "country", Type: event.Type{Kind: event.String}, Optional: true},
		{Name: "online", Type: event.Type{Kind: event.Bool}},
		{Name: "geo.city", Type: event.Type{Kind: event.String}, Optional: true},
	}
	return &schema.Stream{Topic: "tx", Partitions: 1, Format: schema.JSON, Fields: make([]schema.Field, len(fields)),
		Schema: &event.Schema{Stream: "transactions", Alias: "tx", Fields: fields, Time: 1, Key: 2, ID: 0}}
}

func clicks() *schema.Stream {
	fields := []event.Field{
		{Name: "at", Type: event.Type{Kind: event.Timestamp}},
		{Name: "user", Type: event.Type{Kind: event.String}},
		{Name: "path", Type: event.Type{Kind: event.String}},
		{Name: "ip", Type: event.Type{Kind: event.String}},
	}
	return &schema.Stream{Topic: "clicks", Partitions: 1, Format: schema.JSON, Fields: make([]schema.Field, len(fields)),
		Schema: &event.Schema{Stream: "clicks", Alias: "click", Fields: fields, Time: 0, Key: 1, ID: -1}}
}

// row is one event, by field name: a value, or nil for absent.
type row map[string]any

// put appends a row to a batch of all fields.
func put(b *event.Batch, r row) {
	i := len(b.Offset)
	b.Origin = []event.Origin{{Topic: "tx"}}
	b.Offset = append(b.Offset, int64(i))
	t := event.Time(i) * event.Time(time.Second)
	if v, given := r["ts"].(time.Duration); given {
		t = event.Time(v)
	}
	b.Time = append(b.Time, t)
	for j, f := range b.Schema.Fields {
		c := &b.Cols[j]
		v, given := r[f.Name]
		switch {
		case f.Name == "ts":
			c.AppendInt64(int64(t))
		case given && v == nil, !given && f.Optional:
			c.AppendNull()
		case !given:
			zero(c)
		default:
			value(c, v)
		}
	}
}

func zero(c *event.Column) {
	switch c.Type.Kind {
	case event.Bool:
		c.AppendBool(false)
	case event.String:
		c.AppendBytes([]byte("x"))
	default:
		c.AppendInt64(1)
	}
}

func value(c *event.Column, v any) {
	switch v := v.(type) {
	case bool:
		c.AppendBool(v)
	case int:
		c.AppendInt64(int64(v))
	case float64:
		c.AppendDouble(v)
	case string:
		if c.Type.Kind == event.Decimal {
			d, err := event.ParseDecimal([]byte(v), int(c.Type.Scale))
			if err != nil {
				panic(err)
			}
			c.AppendInt64(d)
			return
		}
		c.AppendBytes([]byte(v))
	}
}

func all(s *event.Schema) []int {
	out := make([]int, len(s.Fields))
	for i := range out {
		out[i] = i
	}
	return out
}

// run evaluates a program on rows.
func run(t testing.TB, p *Program, s *schema.Stream, rows ...row) []engine.Finding {
	t.Helper()
	in, err := p.Instance(s)
	if err != nil {
		t.Fatal(err)
	}
	var b event.Batch
	b.Reset(s.Schema, all(s.Schema))
	for _, r := range rows {
		put(&b, r)
	}
	found, err := decideBatch(p, in, s, &b, nil)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func compileOne(t testing.TB, when string) (*Program, *schema.Stream) {
	t.Helper()
	s := transactions()
	p, err := Compile(Set{{ID: "r", Stream: "transactions", When: when, Action: "alert", Mode: "live"}}, Catalog{Streams: []*schema.Stream{s}})
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	return p, s
}

func TestConditions(t *testing.T) {
	full := row{"id": "t1", "card": "c1", "amount": "220.01", "fee": "0.0125", "score": 0.5, "items": 3, "country": "DE", "online": true, "geo.city": "Ulm"}
	bare := row{"id": "t2", "card": "c2", "amount": "220.00", "items": 0}
	for _, c := range []struct {
		when       string
		full, bare string // yes, no, absent, error
	}{
		{`tx.amount > 220`, "yes", "no"},
		{`tx.amount >= 220`, "yes", "yes"},
		{`220 < tx.amount`, "yes", "no"},
		{`tx.amount >= 220.005`, "yes", "no"},
		{`tx.amount < 220.005`, "no", "yes"},
		{`tx.amount == 220.010`, "yes", "no"},
		{`tx.amount != 220.0`, "yes", "no"},
		{`tx.amount > -1`, "yes", "yes"},
		{`tx.amount > - 1.5`, "yes", "yes"},
		{`tx.amount > 2.2e2`, "yes", "no"},
		{`tx.amount + 0.99 == 221`, "yes", "no"},
		{`tx.amount - tx.amount == 0`, "yes", "yes"},
		{`-tx.amount < -220.001`, "yes", "no"},
		{`tx.amount * 2 == 440.02`, "yes", "no"},
		{`tx.amount * 1.5 == 330.015`, "yes", "no"},
		{`tx.amount in [1, 220.01, 5.12345]`, "yes", "no"},
		{`tx.amount + tx.fee == 220.0225`, "yes", "absent"},
		{`tx.amount > tx.items`, "yes", "yes"},
		{`tx.amount * tx.items == 660.03`, "yes", "no"},
		{`tx.amount / 2 == 110.005`, "yes", "no"},
		{`tx.amount > tx.score`, "yes", "absent"},
		{`tx.amount + 92233720368547758.07 > 0`, "error", "error"},
		{`tx.score > 0`, "yes", "absent"},
		{`tx.score == 0.5`, "yes", "absent"},
		{`tx.score * 2 == 1`, "yes", "absent"},
		{`3 * tx.score > 1`, "yes", "absent"},
		{`tx.score + tx.items == 3.5`, "yes", "absent"},
		{`10 / tx.items == 3`, "yes", "error"},
		{`10 % tx.items == 1`, "yes", "error"},
		{`tx.items * 9223372036854775807 > 0`, "error", "no"},
		{`tx.country == "DE"`, "yes", "absent"},
		{`tx.country != "FR"`, "yes", "absent"},
		{`tx.country in ["FR", "DE"]`, "yes", "absent"},
		{`!(tx.country in ["FR"])`, "yes", "absent"},
		{`has(tx.country)`, "yes", "no"},
		{`!has(tx.country)`, "no", "yes"},
		{`has(tx.country) && tx.country == "DE"`, "yes", "no"},
		{`has(tx.card)`, "yes", "yes"},
		{`tx.country.orValue("XX") == "XX"`, "no", "yes"},
		{`tx.?country.orValue("XX") == "XX"`, "no", "yes"},
		{`tx.?country.hasValue()`, "yes", "no"},
		{`tx.score.orValue(0) == 0`, "no", "yes"},
		{`tx.fee.orValue(0.5) == 0.5`, "no", "yes"},
		{`tx.geo.city == "Ulm"`, "yes", "absent"},
		{`has(tx.geo.city)`, "yes", "no"},
		{`tx.country == "DE" || tx.items == 0`, "yes", "yes"},
		{`tx.items == 0 || tx.country == "DE"`, "yes", "yes"},
		{`tx.country == "DE" && tx.items == 99`, "no", "no"},
		{`tx.items == 99 && tx.country == "DE"`, "no", "no"},
		{`tx.country == "DE" && 10 / tx.items == 3`, "yes", "absent"},
		{`10 / tx.items == 3 && tx.country == "DE"`, "yes", "error"},
		{`tx.online ? tx.amount > 220 : tx.items == 0`, "yes", "yes"},
		{`(tx.online ? tx.amount : 0) > 1`, "yes", "no"},
		{`tx.card.startsWith("c") && tx.id.endsWith("1")`, "yes", "no"},
		{`tx.id.contains("2")`, "no", "yes"},
		{`size(tx.card) == 2 && tx.card.size() == 2`, "yes", "yes"},
		{`tx.card < "c2"`, "yes", "no"},
		{`double(tx.amount) > 220.005`, "yes", "no"},
		{`decimal("220.01") == tx.amount`, "yes", "no"},
		{`string(tx.amount) == "220.01"`, "yes", "no"},
		{`tx.card.matches("^c[1]$")`, "yes", "no"},
		{`["c1", "c9"].exists(c, c == tx.card)`, "yes", "no"},
		{`[1, 2].all(n, tx.amount > 220)`, "yes", "no"},
		{`tx.ts < timestamp("2000-01-01T00:00:00Z")`, "yes", "yes"},
		{`tx.ts - timestamp("1970-01-01T00:00:00Z") < duration("1s")`, "yes", "yes"},
		{`last("1h").by(tx.card).count() == 1`, "yes", "yes"},
		{`last("1h").by(tx.card).where(tx.amount > 220).count() == 1`, "yes", "no"},
		{`last("1h").by(tx.card).sum(tx.amount) == 220.01`, "yes", "no"},
		{`last("1h").by(tx.card).sum(tx.amount * 2) > 440.01`, "yes", "no"},
		{`last("1h").by(tx.card).mean(tx.amount) > 220.005`, "yes", "no"},
		{`last("1h").by(tx.card).mean(tx.score) == 0.5`, "yes", "absent"},
		{`last("1h").by(tx.card).mean(tx.score).orValue(7) == 7`, "no", "yes"},
		{`last("1h").by(tx.card).mean(tx.score).hasValue()`, "yes", "no"},
		{`last("1h").by(tx.card).sum(tx.items) == 3`, "yes", "no"},
		{`last("1h").by(tx.card).sum(tx.fee) == 0`, "no", "yes"},
		{`transactions.last("1h").by(tx.card).count() == 1`, "yes", "yes"},
		{`tx.amount > 2 * last("1h").by(tx.card).mean(tx.amount)`, "no", "no"},
		{`tx.amount * 2 > last("1h").by(tx.card).sum(tx.amount)`, "yes", "yes"},
		{`last("1h").by(tx.card).sum(tx.amount + 92233720368547758.07) == 0`, "yes", "yes"},
	} {
		p, s := compileOne(t, c.when)
		for i, r := range []row{full, bare} {
			want := []string{c.full, c.bare}[i]
			before := p.Rules()[0]
			found := run(t, p, s, []row{full, bare}[i])
			after := p.Rules()[0]
			got := "no"
			switch {
			case len(found) == 1:
				got = "yes"
			case after.NoData > before.NoData:
				got = "absent"
			case after.Errors > before.Errors && !strings.Contains(c.when, "sum(tx.amount + 922"):
				got = "error"
			}
			if got != want {
				t.Errorf("%s on %v: %s, want %s (%s)", c.when, r, got, want, after.LastError)
			}
		}
	}
}

func TestMessageAndValues(t *testing.T) {
	s := transactions()
	p, err := Compile(Set{{ID: "r", Stream: "transactions", Action: "review", Mode: "live", Severity: "high", Score: 60,
		When:    `tx.amount > 100 && last("1h").by(tx.card).where(tx.amount<5).count() >= 1 && !has(tx.country)`,
		Message: `"card " + tx.card + " paid " + string(tx.amount)`}}, Catalog{Streams: []*schema.Stream{s}})
	if err != nil {
		t.Fatal(err)
	}
	found := run(t, p, s, row{"card": "c1", "amount": "1"}, row{"card": "c2", "amount": "200"}, row{"card": "c1", "amount": "200.5"})
	if len(found) != 1 {
		t.Fatalf("%d findings, want 1", len(found))
	}
	f := found[0]
	if f.Row != 2 || f.Message != "card c1 paid 200.50" || f.Action != "review" || f.Severity != "high" || f.Score != 60 || f.Shadow {
		t.Errorf("finding %+v", f)
	}
	if got, want := string(f.Values.AppendJSON(nil)), `{"tx.amount":"200.50","last(\"1h\").by(tx.card).where(tx.amount < 5).count()":1,"tx.country":null,"tx.card":"c1"}`; got != want {
		t.Errorf("values %s\nwant   %s", got, want)
	}
}

func TestSharing(t *testing.T) {
	s := transactions()
	set := Set{}
	for i, when := range []string{
		`last("1h").by(tx.card).count() > 3`,
		`last("60m").by(tx.card).count() > 9 && tx.items > 1`,
		`last("1d").by(tx.card).mean(tx.amount) > 10`,
		`last("1h").by(tx.card).where(tx.amount  <  5).sum(tx.amount) > 10`,
	} {
		set = append(set, Rule{ID: fmt.Sprint("r", i), Stream: "transactions", When: when, Mode: "live", Action: "alert"})
	}
	set = append(set, Rule{ID: "off", Stream: "transactions", When: `last("9h").by(tx.card).where(tx.online).count() > 1`, Mode: "off", Action: "alert"})
	p, err := Compile(set, Catalog{Streams: []*schema.Stream{s}})
	if err != nil {
		t.Fatal(err)
	}
	in, err := p.Instance(s)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(in.Operators()); n != 2 {
		t.Errorf("%d operators, want 2: one without and one with a filter", n)
	}
	if n := len(in.Features()); n != 3 {
		t.Errorf("%d features, want 3", n)
	}
	if got := len(p.Rules()); got != 5 {
		t.Errorf("%d rules shown, want 5", got)
	}
}

func TestProblems(t *testing.T) {
	const yaml = "id: r\nstream: transactions\nwhen: >\n  tx.amount > 1 &&\n  %s\naction: review\n"
	for _, c := range []struct{ part, at, want string }{
		{`tx.amuont > 3`, "5:6", `no field "amuont" (did you mean "amount"?)`},
		{`tx.items > 1 && tx.card > 3`, "5:27", `">" is not defined for (string, int)`},
		{`txx.amount > 3`, "5:7", `unknown name "txx.amount"; expected a field as tx.NAME, or a function (did you mean "tx.amount"?)`},
		{`tx.amount >`, "", "Syntax error"},
		{`tx.amount = 3`, "5:13", `(did you mean "=="?)`},
		{`tx.items > 1 AND tx.items > 3`, "5:16", `(did you mean "&&"?)`},
		{`tx.items > 1 | tx.items > 3`, "5:16", `(did you mean "||"?)`},
		{`tx.items + 1`, "5:12", "expected type 'bool' but found 'int'"},
		{`tx == 3`, "5:3", "tx is the whole event"},
		{`last("1h").by(tx.card).cout() > 3`, "5:26", `a window has no cout (did you mean "count"?)`},
		{`last("1h").by(tx.card).max(tx.card) > 3`, "5:33", "max takes a number, a timestamp or a bool, found string"},
		{`last("1h").by(tx.card).lag(tx.amount, 0) > 3`, "5:41", "expected a number from 1 to 1000"},
		{`last("1h").by(tx.card).quantile(tx.amount) > 3.0`, "5:26", "quantile takes an expression and a number, as quantile(tx.amount, 0.95)"},
		{`last("1h").by(tx.card).quantile(tx.amount, 95) > 3.0`, "5:46", "expected a number from 0 to 1"},
		{`last("1h").by(tx.card).speed(tx.score) > 3.0`, "5:26", "speed takes two expressions"},
		{`last("1h").by(tx.card).speed(tx.score, tx.amount) > 3.0`, "5:45", "speed takes degrees as doubles, found decimal"},
		{`last("1h").by(tx.card) > 3`, "5:14", "a window needs an aggregate at its end"},
		{`last("1h").by(tx.card, tx.card).count() > 3`, "5:29", "tx.card stands in by twice"},
		{`last("1h").by(tx.card, tx.score).count() > 3`, "5:29", "a double is no key"},
		{`last(0).by(tx.card).count() > 3`, "5:8", "expected from 1 to 1000000"},
		{`session(3).by(tx.card).count() > 3`, "5:11", "expected a duration"},
		{`last("1x").by(tx.card).count() > 3`, "5:8", "expected a number and a unit"},
		{`last("1h").by(tx.card).delay(7).count() > 3`, "5:26", "delay takes one duration"},
		{`last("1h").by(tx.card).delay("1h").delay("2h").count() > 3`, "5:38", "stands once"},
		{`last("1h").by(tx.card).excluding_current(1).count() > 3`, "5:26", "takes nothing"},
		{`click.last("1h").by(tx.card).count() > 3`, "5:20", "by over another stream takes two fields for each part of the key: the past event's, of clicks, and the current one's, of transactions (.by(click.FIELD, tx.FIELD))"},
		{`clicks.last("1h").by(tx.card, click.user).count() > 3`, "5:27", "expected a field to group by, as click.NAME"},
		{`clicks.last("1h").by(click.user, tx.items).count() > 3`, "5:30", "user is a string and items a int64: they are never the same"},
		{`clicks.last("1h").by(click.user, tx.card, click.user, tx.country).count() > 3`, "5:21", "click.user stands in by twice"},
		{`clicks.last("1h").by(click.user, tx.card).where(tx.amount > 3).count() > 3`, "5:51", `unknown name "tx"`},
		{`clicks.last("1h").by(click.usr, tx.card).count() > 3`, "5:30", `no field "usr"`},
		{`clicks.last("1h").by(click.user, tx.card).is_new(click.path)`, "5:45", "the current event is none of clicks"},
		{`clicks.last("1h").by(click.user, tx.card).excluding_current().count() > 3`, "5:", "the current event is none of clicks"},
		{`clikcs.last("1h").by(tx.card, tx.card).count() > 3`, "5:3", `there is no stream "clikcs" (did you mean "clicks"?)`},
		{`last("1h").by(tx.card).where(last("1h").by(tx.card).count() > 1).count() > 3`, "5:32", "a window inside a window"},
		{`last("1h").by(tx.card).where(tx.amont > 1).count() > 3`, "5:35", `no field "amont"`},
		{`last("1h").by(tx.card).where(tx.amount > "x").count() > 3`, "5:42", `">" is not defined for (decimal, string)`},
		{`last("1h").by(tx.card).where(tx.items).count() > 3`, "5:35", "expected a condition (bool), found int"},
		{`last("1h").by(tx.card).sum(tx.card) > 3`, "5:33", "sum takes a number, found string"},
		{`last("1h").by(tx.card).sum() > 3`, "5:26", "sum takes one expression"},
		{`last("1h").by(tx.card).count(tx.amount) > 3`, "5:26", "count takes nothing"},
		{`tx.merchant in list("trusted")`, "", `no field "merchant"`},
		{`tx.card in list("trusted")`, "5:19", `there is no list "trusted" (declare it in weir.yaml, under lists)`},
		{`tx.amount > 0.1234567890123456789`, "5:15", "more decimal places"},
		{`[1].exists(tx, tx > 0)`, "", "cannot name an element"},
	} {
		set, err := ParseFile("rules/r.yaml", fmt.Appendf(nil, yaml, c.part))
		if err == nil {
			_, err = Compile(set, Catalog{Streams: []*schema.Stream{transactions(), clicks()}})
		}
		var ps schema.Problems
		if !errors.As(err, &ps) || len(ps) == 0 {
			t.Errorf("%s: %v, want problems", c.part, err)
			continue
		}
		got := ps[0].Error()
		if !strings.HasPrefix(got, "rules/r.yaml:"+c.at) || !strings.Contains(got, c.want) {
			t.Errorf("%s:\n got %s\nwant %s ... %s", c.part, got, c.at, c.want)
		}
	}
}

func TestSpans(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"1ns": 1, "250us": 250 * time.Microsecond, "5ms": 5 * time.Millisecond, "90s": 90 * time.Second, "1h30m": 90 * time.Minute,
		"1.5h": 90 * time.Minute, "30d": 720 * time.Hour, "2w": 336 * time.Hour, "0.5us": 500, "106751d": 106751 * 24 * time.Hour,
	} {
		if got, err := parseSpan(text); err != nil || got != want {
			t.Errorf("%q: %v %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "1", "h", "1H", "1 h", "-1h", "0s", "0.5ns", "1h1", "400000d", "1..5h", "1y", "1e3s"} {
		if got, err := parseSpan(text); err == nil {
			t.Errorf("%q: %v, want an error", text, got)
		}
	}
}

func TestProgramID(t *testing.T) {
	a, _ := compileOne(t, `tx.amount > 1`)
	b, _ := compileOne(t, `tx.amount > 1`)
	c, _ := compileOne(t, `tx.amount > 2`)
	if a.ID() != b.ID() || a.ID() == c.ID() || len(a.ID()) != 16 {
		t.Errorf("ids %s %s %s", a.ID(), b.ID(), c.ID())
	}
}

func TestDecimalCompare(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"1", "1.000", 0}, {"-1.5", "-1.49", -1}, {"9223372036854775807", "0.000000000000000001", 1},
		{"-9223372036854775808", "0.5", -1}, {"0", "-0.0001", 1}, {"220.005", "220.01", -1},
	} {
		a, errA := parseDecimal(c.a)
		b, errB := parseDecimal(c.b)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		if a.compare(b) != c.want || b.compare(a) != -c.want {
			t.Errorf("%s against %s: %d, %d", c.a, c.b, a.compare(b), b.compare(a))
		}
	}
	if _, fits := (decimal{v: math.MaxInt64}).add(decimal{v: 1}); fits {
		t.Error("an overflow passed")
	}
}

// TestMoreWindowsThanFields has a rule with more windows than its stream has
// fields: what fired must be told all the same.
func TestMoreWindowsThanFields(t *testing.T) {
	s := transactions()
	var when []string
	for i := range 2 * len(s.Schema.Fields) {
		when = append(when, fmt.Sprintf(`last("%dm").by(tx.card).count() >= 1`, i+1))
	}
	p, err := Compile(Set{{ID: "r", Stream: "transactions", When: strings.Join(when, " && "), Action: "alert", Mode: "live"}}, Catalog{Streams: []*schema.Stream{s}})
	if err != nil {
		t.Fatal(err)
	}
	found := run(t, p, s, row{"id": "t1", "card": "c1"})
	if len(found) != 1 || len(found[0].Values) != len(when) {
		t.Fatalf("found %+v, want one finding with %d values", found, len(when))
	}
	for _, v := range found[0].Values {
		if v.JSON != "1" {
			t.Errorf("%s = %s, want 1", v.Name, v.JSON)
		}
	}
}

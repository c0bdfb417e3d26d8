package rules

import (
	"errors"
	"strings"
	"testing"

	"github.com/weirstream/weir/ingest/decode"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/source"
)

// orders is a stream with lists, maps and structs.
func orders(t testing.TB) *schema.Stream {
	s := &schema.Stream{Topic: "o", Partitions: 1, Format: schema.JSON, Schema: &event.Schema{Stream: "orders", Alias: "tx", Time: 0, Key: 1, ID: -1}}
	for _, f := range [][2]string{{"ts", "timestamp"}, {"card", "string"}, {"geo", "struct(lat double, lon double?, place struct(city string, zip int64)?)?"},
		{"items", "list(struct(sku string, price decimal(2), gift bool?))"}, {"tags", "list(string?)"}, {"attrs", "map(string)"}, {"fees", "map(decimal(2))"}, {"sizes", "list(double)"}, {"prices", "list(decimal(2))"}} {
		ty, err := event.ParseType(strings.TrimSuffix(f[1], ")?"))
		if err != nil {
			ty, err = event.ParseType(strings.TrimSuffix(f[1], "?"))
		}
		if err != nil {
			t.Fatal(err)
		}
		s.Schema.Fields = append(s.Schema.Fields, event.Field{Name: f[0], Type: ty, Optional: strings.HasSuffix(f[1], "?")})
		s.Fields = append(s.Fields, schema.Field{})
	}
	return s
}

// outcomeOf is what a rule makes of one JSON event.
func outcomeOf(t *testing.T, s *schema.Stream, when, message, value string) (string, RuleStatus, string) {
	t.Helper()
	p, err := Compile(Set{{ID: "r", Stream: "orders", When: when, Message: message, Action: "alert", Mode: "live"}}, Catalog{Streams: []*schema.Stream{s}})
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	in, err := p.Instance(s)
	if err != nil {
		t.Fatal(err)
	}
	d, err := decode.New(s, in.Needs(), decode.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var b event.Batch
	b.Reset(s.Schema, in.Needs())
	d.Decode(&b, event.Origin{Topic: "o"}, []source.Record{{Value: []byte(value)}}, func(_ *source.Record, f decode.Failure) { t.Fatal(f) })
	found, err := decideBatch(p, in, s, &b, nil)
	if err != nil {
		t.Fatal(err)
	}
	st := p.Rules()[0]
	values := ""
	if len(found) > 0 {
		values = string(found[0].Values.AppendJSON(nil)) + " " + found[0].Message
	}
	switch {
	case st.Fired > 0:
		return "yes", st, values
	case st.NoData > 0:
		return "absent", st, values
	case st.Errors > 0:
		return "error", st, values
	}
	return "no", st, values
}

const (
	fullOrder = `{"ts":"2018-04-01T00:00:00Z","card":"c","geo":{"lat":48.4,"lon":10,"place":{"city":"Ulm","zip":89073}},
		"items":[{"sku":"a","price":99.99,"gift":true},{"sku":"b","price":100.01}],"tags":["x",null,"y"],"attrs":{"k":"v","4":"z"},"fees":{"pos":1.50},"sizes":[1,2.5],"prices":[1.10,220.005e0]}`
	bareOrder = `{"ts":"2018-04-01T00:00:00Z","card":"c","items":[],"tags":[],"attrs":{},"fees":{},"sizes":[],"prices":[]}`
)

func TestNestedConditions(t *testing.T) {
	s := orders(t)
	full := strings.Replace(fullOrder, "220.005e0", "220.01", 1)
	for _, c := range []struct{ when, full, bare string }{
		{`tx.geo.lat > 48`, "yes", "absent"},
		{`tx.geo.lat > 48 && tx.geo.place.city == "Ulm" && tx.geo.place.zip > 89000`, "yes", "absent"},
		{`has(tx.geo.lon) && tx.geo.lon < 11`, "yes", "no"},
		{`has(tx.geo)`, "yes", "no"},
		{`!has(tx.geo.place)`, "no", "yes"},
		{`tx.geo.lat.orValue(0) > 48`, "yes", "no"},
		{`tx.geo.lat == tx.geo.lat && tx.card == "c"`, "yes", "absent"},
		{`tx.items.exists(i, i.price > 100)`, "yes", "no"},
		{`tx.items.exists(i, i.price > 100.01)`, "no", "no"},
		{`tx.items.all(i, i.price >= 99.99)`, "yes", "yes"},
		{`tx.items.filter(i, i.sku == "a").size() == 1`, "yes", "no"},
		{`tx.items.exists(i, i.gift)`, "yes", "no"},
		{`tx.items.exists(i, has(i.gift) && i.price < 100)`, "yes", "no"},
		{`tx.items[1].price == 100.01`, "yes", "absent"},
		{`size(tx.items) == 2 && tx.items.size() == 2`, "yes", "no"},
		{`tx.tags.contains("x")`, "yes", "no"},
		{`"y" in tx.tags`, "yes", "no"},
		{`"z" in tx.tags`, "no", "no"},
		{`tx.tags[1] == "x"`, "absent", "absent"},
		{`tx.tags.exists(t, t.startsWith("y"))`, "yes", "no"},
		{`tx.attrs["k"] == "v"`, "yes", "absent"},
		{`tx.attrs.k == "v"`, "yes", "absent"},
		{`"k" in tx.attrs`, "yes", "no"},
		{`has(tx.attrs.k)`, "yes", "no"},
		{`tx.attrs[?"k"].orValue("none") == "v"`, "yes", "no"},
		{`tx.attrs[?"q"].orValue("none") == "none"`, "yes", "yes"},
		{`tx.fees["pos"] >= 1.5`, "yes", "absent"},
		{`tx.fees[?"pos"].orValue(2) < 1.75`, "yes", "no"},
		{`tx.fees.exists(k, k == "pos" && tx.fees[k] == 1.5)`, "yes", "no"},
		{`tx.sizes.exists(x, x > 2) && 1 in tx.sizes`, "yes", "no"},
		{`220.01 in tx.prices && tx.prices.contains(1.1)`, "yes", "no"},
		{`220.010001 in tx.prices`, "no", "no"},
		{`tx.geo.lat > 100 && tx.items[7].price > 1`, "no", "absent"},
	} {
		for i, value := range []string{full, bareOrder} {
			if got, st, _ := outcomeOf(t, s, c.when, "", value); got != []string{c.full, c.bare}[i] {
				t.Errorf("%s: event %d: %s (%s), want %s", c.when, i, got, st.LastError, []string{c.full, c.bare}[i])
			}
		}
	}
	_, _, values := outcomeOf(t, s, `tx.geo.place.city == "Ulm" && size(tx.tags) == 3`, `"in " + tx.geo.place.city`, full)
	if want := `{"tx.geo.place.city":"Ulm","tx.tags":["x",null,"y"]} in Ulm`; values != want {
		t.Errorf("values %s\n  want %s", values, want)
	}
	long := strings.Replace(bareOrder, `"tags":[]`, `"tags":["`+strings.Repeat(`long","`, 1000)+`"]`, 1)
	if _, _, values := outcomeOf(t, s, `size(tx.tags) > 3`, "", long); values != `{"tx.tags":"1001 elements, too long to be kept here"} ` {
		t.Errorf("a long list is shown as %.100s", values)
	}
}

// TestNestedPathsAreNative: reading a struct's member does not need cel-go.
func TestNestedPathsAreNative(t *testing.T) {
	s := orders(t)
	p, err := Compile(Set{{ID: "r", Stream: "orders", When: `tx.geo.lat > 48 && has(tx.geo.place)`, Action: "alert", Mode: "live"}}, Catalog{Streams: []*schema.Stream{s}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range p.rules[0].clauses {
		if c.native == nil {
			t.Error("a clause runs in cel-go")
		}
	}
}

func TestNestedProblems(t *testing.T) {
	s := orders(t)
	for when, want := range map[string]string{
		`tx.geo.latt > 1`:                   `the struct has no member "latt" (did you mean "lat"?)`,
		`tx.geo > 1`:                        `is not defined for`,
		`tx.items.exists(i, i.prise > 1)`:   `the struct has no member "prise" (did you mean "price"?)`,
		`tx.items.price > 1`:                `a list has no member "price" (take an element, as [0], or ask all of them, as .exists(i, ...))`,
		`tx.items.exists(i, i.price > "x")`: `">" is not defined for`,
		`tx.tags.contains(1)`:               `"contains" is not defined for`,
		`tx.attrs[1] == "x"`:                `is not defined for`,
		`tx.card.size.x > 1`:                `has no field`,
		`tx.items.exists(i, i.price > 1.1234567890123456789)`: `beside a decimal`,
	} {
		_, err := Compile(Set{{ID: "r", Stream: "orders", When: when, Action: "alert", Mode: "live"}}, Catalog{Streams: []*schema.Stream{s}})
		var ps schema.Problems
		if !errors.As(err, &ps) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n got %v\nwant %s", when, err, want)
		}
	}
}

package rules

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/cep/engine"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/sink"
	"github.com/weirstream/weir/ingest/source"
	"github.com/weirstream/weir/ingest/table"
)

func typed(kind event.Kind) event.Type { return event.Type{Kind: kind} }

// testTables are what the expressions of tests look up.
var testTables = []*table.Definition{
	table.NewList("cards", typed(event.String)),
	table.NewList("counts", typed(event.Int64)),
	table.NewList("amounts", event.Type{Kind: event.Decimal, Scale: 2}),
	{Name: "countries", Key: []event.Field{{Name: "code", Type: typed(event.String)}}, Columns: []event.Field{
		{Name: "group", Type: typed(event.String), Optional: true}, {Name: "risk", Type: typed(event.Int64), Optional: true},
		{Name: "rate", Type: typed(event.Double)}, {Name: "blocked", Type: typed(event.Bool)}, {Name: "until", Type: typed(event.Timestamp), Optional: true}}},
	{Name: "pairs", Key: []event.Field{{Name: "code", Type: typed(event.String)}, {Name: "items", Type: typed(event.Int64)}}, Columns: []event.Field{
		{Name: "fee", Type: event.Type{Kind: event.Decimal, Scale: 4}}}},
}

// nullLog takes changes and keeps nothing.
type nullLog struct{ n int64 }

func (l *nullLog) Append(_ context.Context, _ string, _ int32, recs []sink.Record) (int64, error) {
	l.n += int64(len(recs))
	return l.n - int64(len(recs)), nil
}
func (l *nullLog) Durable(context.Context, string, int32, int64) error { return nil }
func (l *nullLog) End(string, int32) (int64, error)                    { return 0, nil }
func (l *nullLog) open(context.Context, string, int32, int64) (source.Source, error) {
	return nil, fmt.Errorf("nothing is kept")
}

func testContents(t testing.TB) *table.View {
	t.Helper()
	l := &nullLog{}
	s, err := table.Open(context.Background(), table.Options{Open: l.open, Log: l})
	if err != nil {
		t.Fatal(err)
	}
	var changes []table.Change
	for _, d := range testTables {
		changes = append(changes, table.Change{Op: table.OpDeclare, Definition: d})
	}
	text := func(s string) table.Value { return table.Value{Bytes: []byte(s)} }
	number := func(n int64) table.Value { return table.Value{Bits: uint64(n)} }
	put := func(name string, key []table.Value, columns ...table.Value) {
		changes = append(changes, table.Change{Op: table.OpPut, Table: name, Entry: table.Entry{Key: key, Columns: columns}})
	}
	put("cards", []table.Value{text("c1")})
	put("cards", []table.Value{text("DE")})
	changes = append(changes, table.Change{Op: table.OpPut, Table: "cards", Entry: table.Entry{Key: []table.Value{text("c2")}, Expires: event.MinTime + 1}})
	put("counts", []table.Value{number(2)})
	put("counts", []table.Value{number(-1)})
	put("amounts", []table.Value{number(250)})
	put("amounts", []table.Value{number(100)})
	put("amounts", []table.Value{number(7777)})
	put("countries", []table.Value{text("DE")}, text("DE"), number(3), table.Value{Bits: 0x3fe0000000000000}, number(1), number(1))
	put("countries", []table.Value{text("ü")}, table.Value{Null: true}, table.Value{Null: true}, number(0), number(0), table.Value{Null: true})
	put("countries", []table.Value{text("")}, text("c1"), number(-9223372036854775808), number(0), number(1), table.Value{Null: true})
	put("pairs", []table.Value{text("DE"), number(2)}, number(12345))
	put("pairs", []table.Value{text(""), number(0)}, number(0))
	if _, err := s.Change(context.Background(), changes); err != nil {
		t.Fatal(err)
	}
	return s.Head()
}

// TestLookups fires rules on one event and looks at what their decisions name.
func TestLookups(t *testing.T) {
	for when, want := range map[string]string{
		`tx.card in list("cards")`:                                                             `{"tx.card":"c1","tx.card in list(\"cards\")":true}`,
		`!(tx.country in list("cards"))`:                                                       ``,
		`lookup("countries", tx.country).risk > 2`:                                             `{"tx.country":"DE","lookup(\"countries\", tx.country).risk":3}`,
		`lookup("countries", "XX").risk > 2`:                                                   ``,
		`lookup("countries", "XX").risk.orValue(9) > 2`:                                        `{"lookup(\"countries\", \"XX\").risk":null}`,
		`lookup("countries", "XX").?risk.orValue(9) > 2`:                                       `{"lookup(\"countries\", \"XX\").risk":null}`,
		`!has(lookup("countries", "XX").risk) && tx.card == "c1"`:                              `{"tx.card":"c1","has(lookup(\"countries\", \"XX\").risk)":false}`,
		`lookup("countries", "XX").risk > 2 || tx.card == "c1"`:                                `{"tx.card":"c1","lookup(\"countries\", \"XX\").risk":null}`,
		`lookup("pairs", tx.country, tx.items).fee == 1.2345`:                                  `{"tx.country":"DE","tx.items":2,"lookup(\"pairs\", tx.country, tx.items).fee":"1.2345"}`,
		`tx.country in table("countries")`:                                                     `{"tx.country":"DE","tx.country in table(\"countries\")":true}`,
		`tx.amount in list("amounts")`:                                                         `{"tx.amount":"2.50","tx.amount in list(\"amounts\")":true}`,
		`tx.items in list("amounts")`:                                                          ``,
		`2.5 in list("amounts") && 2.505 in list("amounts") == false`:                          `{"2.5 in list(\"amounts\")":true,"2.505 in list(\"amounts\")":false}`,
		`lookup("countries", tx.country).until == timestamp("1970-01-01T00:00:00.000000001Z")`: `{"tx.country":"DE","lookup(\"countries\", tx.country).until":"1970-01-01T00:00:00.000000001Z"}`,
		`[tx.card, "x"].exists(c, c in list("cards"))`:                                         `{"tx.card":"c1"}`,
		`last("1h").by(tx.card).where(tx.card in list("cards")).count() == 1`:                  `{"last(\"1h\").by(tx.card).where(tx.card in list(\"cards\")).count()":1}`,
		`last("1h").by(tx.card).sum(lookup("countries", tx.country).risk) == 3`:                `{"last(\"1h\").by(tx.card).sum(lookup(\"countries\", tx.country).risk)":3}`,
		`lookup("countries", tx.country).group.startsWith("D") && lookup("countries", lookup("countries", tx.country).group).blocked`: `{"tx.country":"DE","lookup(\"countries\", tx.country).group":"DE","lookup(\"countries\", lookup(\"countries\", tx.country).group).blocked":true}`,
	} {
		s := transactions()
		p, err := Compile(Set{{ID: "r", Stream: "transactions", When: when, Action: "alert", Mode: "live"}}, Catalog{Streams: []*schema.Stream{s}, Tables: testTables})
		if err != nil {
			t.Errorf("%s: %v", when, err)
			continue
		}
		in, err := p.Instance(s)
		if err != nil {
			t.Fatal(err)
		}
		in.(engine.TableUser).UseTables(testContents(t))
		var b event.Batch
		b.Reset(s.Schema, all(s.Schema))
		put(&b, row{"card": "c1", "amount": "2.50", "items": 2, "country": "DE", "online": true})
		found, err := decideBatch(p, in, s, &b, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if len(found) > 0 {
			got = string(found[0].Values.AppendJSON(nil))
		}
		if status := p.Rules()[0]; status.Errors > 0 {
			t.Errorf("%s: %s", when, status.LastError)
		}
		if got != want {
			t.Errorf("%s:\n got %s\nwant %s", when, got, want)
		}
	}
}

// TestLookupMistakes wants each told with its place and what to do.
func TestLookupMistakes(t *testing.T) {
	for when, want := range map[string]string{
		`tx.card in list("card")`:                        `there is no list "card" (did you mean "cards"?)`,
		`tx.card in list("nothing-like-it")`:             `there is no list "nothing-like-it" (there are cards, counts, amounts)`,
		`tx.card in list("countries")`:                   `"countries" is a table, not a list (write x in table("countries"), or lookup("countries", KEY).COLUMN)`,
		`tx.card in table("cards")`:                      `"cards" is a list, not a table (write x in list("cards"))`,
		`lookup("cards", tx.card).x == 1`:                `"cards" is a list, not a table (write x in list("cards"))`,
		`tx.card in list(tx.country)`:                    `expected a name in quotes, as list("NAME")`,
		`list("cards").size() > 1`:                       `list("...") stands behind in: x in list("...")`,
		`tx.items in list("cards")`:                      `list cards has the key (string), found (int)`,
		`lookup("countries", tx.items).risk > 1`:         `table countries has the key (string), found (int)`,
		`lookup("countries", tx.country).risc > 1`:       `table countries has no column "risc" (did you mean "risk"?)`,
		`lookup("countires", tx.country).risk > 1`:       `there is no table "countires" (did you mean "countries"?)`,
		`lookup("pairs", tx.country).fee > 1`:            `table pairs has a key of 2 fields, found 1 (write lookup("pairs", code, items))`,
		`tx.country in table("pairs")`:                   `table pairs has a key of 2 fields (ask has(lookup("pairs", code, items).COLUMN))`,
		`has(tx.card) && lookup("countries", "DE")`:      `lookup needs a column (as lookup("merchants", tx.merchant).category)`,
		`lookup("countries", tx.country).risk == "high"`: `"==" is not defined for (int, string)`,
		`lokup("countries", tx.country).risk > 1`:        `did you mean "lookup"?`,
	} {
		_, err := Compile(Set{{ID: "r", Stream: "transactions", When: when, Action: "alert", Mode: "live"}}, Catalog{Streams: []*schema.Stream{transactions()}, Tables: testTables})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n got %v\nwant %s", when, err, want)
		}
	}
}

// TestOlderTable reads a View in which the table had other columns.
func TestOlderTable(t *testing.T) {
	s := transactions()
	newer := *testTables[3]
	newer.Columns = append([]event.Field{{Name: "region", Type: typed(event.String), Optional: true}}, newer.Columns...)
	p, err := Compile(Set{{ID: "r", Stream: "transactions", When: `lookup("countries", tx.country).risk == 3 && lookup("countries", tx.country).region.orValue("none") == "none"`, Action: "alert", Mode: "live"}},
		Catalog{Streams: []*schema.Stream{s}, Tables: []*table.Definition{&newer}})
	if err != nil {
		t.Fatal(err)
	}
	in, err := p.Instance(s)
	if err != nil {
		t.Fatal(err)
	}
	var b event.Batch
	b.Reset(s.Schema, all(s.Schema))
	put(&b, row{"card": "c1", "amount": "2.50", "items": 2, "country": "DE", "online": true})
	for contents, want := range map[*table.View]int{testContents(t): 1, table.Empty(): 0} {
		in.(engine.TableUser).UseTables(contents)
		var out cep.Outbox
		out.Reset(in.Features())
		out.Late, out.Watermark = make([]bool, 1), make([]event.Time, 1)
		out.Low = out.Watermark
		found, err := in.Decide(&b, &out, nil)
		if err != nil || len(found) != want {
			t.Errorf("%d findings, want %d, %v", len(found), want, err)
		}
	}
}

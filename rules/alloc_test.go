package rules

import (
	"fmt"
	"testing"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/cep/engine"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
)

// quietRules use all of the subset and never fire on the rows of quietBatch.
var quietRules = []string{
	`tx.amount > 220`,
	`tx.amount >= 220.005 && tx.country == "DE"`,
	`last("1h").by(tx.card).count() >= 4000000`,
	`tx.amount > 10 * last("2h").by(tx.card).where(tx.online).mean(tx.amount) + 1000`,
	`last("1h").by(tx.card).sum(tx.amount * 2) < 0 || tx.card.startsWith("z")`,
	`tx.country in ["FR", "GB"] && !(tx.items in [1, 2, 3])`,
	`tx.score.orValue(0) > 100`,
	`tx.card in list("cards") && tx.items in list("counts") && tx.amount in list("amounts")`,
	`lookup("pairs", tx.country, tx.items).fee > 100 || lookup("countries", tx.country).group == "never"`,
	`last("1h").by(tx.card).where(!(tx.card in list("cards"))).count() > 5000000`,
}

func quietInstance(t testing.TB) (*instance, *schema.Stream) {
	t.Helper()
	s := transactions()
	var set Set
	for i, when := range quietRules {
		set = append(set, Rule{ID: fmt.Sprint("r", i), Stream: "transactions", When: when, Action: "alert", Mode: "live"})
	}
	p, err := Compile(set, Catalog{Streams: []*schema.Stream{s}, Tables: testTables})
	if err != nil {
		t.Fatal(err)
	}
	in, err := p.Instance(s)
	if err != nil {
		t.Fatal(err)
	}
	in.(*instance).UseTables(testContents(t))
	for _, r := range p.rules {
		for _, c := range r.clauses {
			if c.native == nil {
				t.Errorf("%s: a part of it runs in cel-go", r.rule.When)
			}
		}
	}
	return in.(*instance), s
}

// quietRun is a batch of rows and what runs an instance over it.
func quietRun(t testing.TB, in *instance, s *schema.Stream, rows int) func() {
	var b event.Batch
	b.Reset(s.Schema, all(s.Schema))
	for i := range rows {
		put(&b, row{"card": fmt.Sprint("c", i%50), "amount": "12.50", "items": 2, "country": "ES", "online": i%3 == 0})
	}
	var out cep.Outbox
	found := make([]engine.Finding, 0, 8)
	clock := cep.NewClock(0, nil, 0)
	return func() {
		out.Reset(in.Features())
		for i := range b.Time {
			b.Time[i] += event.Time(rows) * 1e9 // the next run's events are later
		}
		clock.Arrive(&b, &out)
		for _, op := range in.operators {
			if err := op.Process(&b, &out); err != nil {
				t.Fatal(err)
			}
		}
		var err error
		if found, err = in.Decide(&b, &out, found[:0]); err != nil || len(found) > 0 {
			t.Fatal(err, len(found))
		}
	}
}

// TestNoAllocations wants none once memory has grown to what the windows hold.
func TestNoAllocations(t *testing.T) {
	in, s := quietInstance(t)
	run := quietRun(t, in, s, 512)
	for range 60 { // beyond the longest window
		run()
	}
	if n := testing.AllocsPerRun(100, run); n > 0 {
		t.Errorf("%v allocations for 512 events on which nothing fires", n)
	}
}

// BenchmarkRules is one event through three operators and seven rules.
func BenchmarkRules(b *testing.B) {
	in, s := quietInstance(b)
	const rows = 1024
	run := quietRun(b, in, s, rows)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if n%rows == 0 {
			run()
		}
		n++
	}
}

package history

import (
	"context"
	"testing"
	"time"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
)

// TestDeclare gives a running History other streams: one that is added is filled, one
// that is as before keeps its rows and goes on, one that changed is filled anew, and
// one that is gone has no table.
func TestDeclare(t *testing.T) {
	l, db := newFakeLog(map[string]int{"transactions": 2, "others": 1}), temp(t)
	h, _ := start(t, db, []*schema.Stream{transactions()}, l.options())
	declare := func(streams ...*schema.Stream) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := h.Declare(ctx, streams); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(query, want string) {
		t.Helper()
		if got := ask(t, db, query); got != want {
			t.Errorf("%s:\n got %s\nwant %s", query, got, want)
		}
	}
	next := 0
	fill := func() {
		t.Helper()
		for range 500 {
			l.append("transactions", next%2, transaction(next))
			l.append("others", 0, transaction(next))
			next++
		}
		wait(t, h, l, "transactions")
	}
	fill()
	others := transactions()
	others.Topic, others.Schema.Stream = "others", "others"
	declare(transactions(), others)
	wait(t, h, l, "others")
	fill()
	wait(t, h, l, "others")
	expect("SELECT (SELECT count(*) FROM transactions), count(*), max(_offset) FROM others", "1000|1000|999")

	more := transactions()
	more.Schema.Fields = append(more.Schema.Fields, event.Field{Name: "again", Type: event.Type{Kind: event.Double}})
	more.Fields = append(more.Fields, schema.Field{From: "TX_AMOUNT"})
	declare(more, others)
	fill()
	wait(t, h, l, "others")
	expect("SELECT count(*), count(again), (SELECT count(*) FROM others) FROM transactions", "1500|1500|1500")

	taken := transactions()
	taken.Schema.Stream = "Decisions"
	if h.Check([]*schema.Stream{taken}) == nil || h.Declare(t.Context(), []*schema.Stream{taken}) == nil {
		t.Error("a stream with the name of a table of Weir's own is taken")
	}
	declare(more)
	fill()
	expect("SELECT count(*), (SELECT count(*) FROM duckdb_tables() WHERE table_name = 'others') FROM transactions", "2000|0")
	for _, f := range h.Freshness() {
		if f.Name == "others" {
			t.Errorf("a stream that is gone: %+v", f)
		}
	}
}

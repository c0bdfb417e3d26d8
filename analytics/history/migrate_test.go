package history

import (
	"path/filepath"
	"testing"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
)

// TestMigrate changes a declaration after retention has cut the log: the rows stay,
// and rows of the new declaration come behind them.
func TestMigrate(t *testing.T) {
	l := newFakeLog(map[string]int{"transactions": 2})
	for i := range 300 {
		l.append("transactions", i%2, transaction(i))
	}
	path := filepath.Join(t.TempDir(), "weir.duckdb")
	s := transactions()
	db := open(t, path)
	h, stop := start(t, db, []*schema.Stream{s}, l.options())
	wait(t, h, l, "transactions")
	stop()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	later := transactions()
	f := &later.Schema.Fields
	(*f)[5].Type = event.Type{Kind: event.Decimal, Scale: 3} // secs, an int64
	(*f)[3].Name = "device"
	later.Fields[3].From = "TERMINAL_ID"
	*f = append(*f, event.Field{Name: "geo", Type: event.StructOf(event.Field{Name: "lat", Type: event.Type{Kind: event.Double}}), Optional: true})
	later.Fields = append(later.Fields, schema.Field{})
	*f, later.Fields = append((*f)[:7:7], (*f)[8:]...), append(later.Fields[:7:7], later.Fields[8:]...) // without fraud
	o := l.options()
	o.Start = func(string, int32) (int64, error) { return 40, nil }
	for i := range 100 {
		l.append("transactions", i%2, transaction(300+i))
	}
	db = open(t, path)
	h, stop = start(t, db, []*schema.Stream{later}, o)
	defer stop()
	wait(t, h, l, "transactions")
	if got := ask(t, db, `SELECT count(*), count(DISTINCT id), sum(id), count(secs), sum(secs)::VARCHAR, count(device), count(geo), min(_offset), count(DISTINCT _topic) FROM transactions`); got != "400|400|79800|400|79800.000|400|0|0|1" {
		t.Errorf("after the migration: %s", got)
	}
	if got := ask(t, db, `SELECT count(*) FROM duckdb_columns() WHERE table_name = 'transactions' AND column_name IN ('fraud', 'terminal')`); got != "0" {
		t.Errorf("%s columns are left of what is no longer declared", got)
	}
}

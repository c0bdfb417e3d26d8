package analytics

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/weirstream/weir/analytics/duck"
)

func TestTemp(t *testing.T) {
	db, err := duck.Open(filepath.Join(t.TempDir(), "x.duckdb"), duck.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, c := range duckSplit(catalogSQL) {
		if err := db.Writer().Exec(c); err != nil {
			t.Errorf("%s\n%v", c[:min(len(c), 120)], err)
		}
	}
	e, err := New(db, Options{})
	if err != nil {
		t.Fatal(err)
	}
	db.Writer().Exec("CREATE TABLE tx(ts TIMESTAMP_NS, amount DECIMAL(18,2), rules VARCHAR[], _topic VARCHAR GENERATED ALWAYS AS ('t'))")
	for _, q := range []string{"SELECT version(), now(), current_schema(), current_database(), current_user", "SELECT * FROM pg_catalog.pg_class", "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute",
		"SELECT parse_ident('a.\"B c\"'), quote_ident('A'), 'tx'::regclass, 'x'::regtype, current_setting('server_version_num'), 'xabcx' ~ 'abc', 'ABC' !~* 'b'", "SELECT count(*) FROM tx WHERE ts > now() - INTERVAL '1 hour' AND ts < current_timestamp",
		"SELECT * FROM information_schema.columns", "SELECT session_user, user, current_role", "SELECT to_char(now(), 'YYYY-MM-DD HH24:MI:SS')", "SELECT count(*) FROM pg_proc"} {
		r, err := e.Query(context.Background(), q)
		if err != nil {
			t.Errorf("%s: %v", q, err)
			continue
		}
		t.Log(q, r.Columns, r.Rows)
	}
	e.Close()
}

func duckSplit(s string) []string { return Split(s) }

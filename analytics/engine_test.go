package analytics

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weirstream/weir/analytics/duck"
	"github.com/weirstream/weir/analytics/history"
	"github.com/weirstream/weir/ingest/event"
)

func newEngine(t testing.TB, o Options) (*Engine, *duck.DB) {
	t.Helper()
	db, err := duck.Open(filepath.Join(t.TempDir(), "weir.duckdb"), duck.Options{})
	if err != nil {
		t.Fatal(err)
	}
	e, err := New(db, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		e.Close()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return e, db
}

func exec(t testing.TB, db *duck.DB, text string) {
	t.Helper()
	if err := db.Writer().Exec(text); err != nil {
		t.Fatal(err)
	}
}

func TestQuery(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	fresh := []history.Freshness{{Name: "tx", Topic: "tx", Offset: 7, Watermark: event.MinTime}, {Name: "other", Topic: "other"}}
	e, db := newEngine(t, Options{RowsMax: 3, Registerer: reg, Freshness: func() []history.Freshness { return fresh }})
	exec(t, db, `CREATE TABLE tx(ts TIMESTAMP_NS, amount DECIMAL(18,2), rules VARCHAR[], "values" JSON, b BLOB, n BIGINT, f DOUBLE, ok BOOLEAN)`)
	exec(t, db, `INSERT INTO tx VALUES ('2018-04-01 00:00:31.123456789', 57.16, ['a','b'], '{"x":"1.50"}', 'ab'::BLOB, 9, 1.5, true), (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)`)
	res, err := e.Query(context.Background(), "SELECT *, sum(n) OVER () AS s, interval 90 second AS i, {'a': n} AS st FROM tx WHERE n = $1", int64(9))
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(res.Rows)
	if err != nil {
		t.Fatal(err)
	}
	if want := `[["2018-04-01T00:00:31.123456789Z","57.16",["a","b"],{"x":"1.50"},"YWI=",9,1.5,true,9,"00:01:30",{"a":9}]]`; string(got) != want {
		t.Errorf("rows %s, want %s", got, want)
	}
	if want := []Column{{"ts", "TIMESTAMP_NS"}, {"amount", "DECIMAL(18,2)"}, {"rules", "VARCHAR[]"}, {"values", "JSON"}}; !reflect.DeepEqual(res.Columns[:4], want) {
		t.Errorf("columns %v", res.Columns)
	}
	if !reflect.DeepEqual(res.Freshness, fresh[:1]) || res.Truncated || res.Elapsed <= 0 {
		t.Errorf("%+v", res)
	}
	if res, err = e.Query(context.Background(), "SELECT * FROM range(10)"); err != nil || !res.Truncated || len(res.Rows) != 3 {
		t.Errorf("%+v %v", res, err)
	}
	if _, err = e.Query(context.Background(), "SELECT * FROM tx WHERE n = $1"); err == nil {
		t.Error("a missing parameter is no error")
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v %v", problems, err)
	}
	if n := testutil.ToFloat64(e.metrics.running); n != 0 {
		t.Errorf("%v statements run", n)
	}
}

func TestLimits(t *testing.T) {
	e, _ := newEngine(t, Options{Timeout: 50 * time.Millisecond})
	_, err := e.Query(context.Background(), "SELECT sum(a.range * b.range) FROM range(10000000) a, range(1000000) b")
	var ee *Error
	if !errors.As(err, &ee) || ee.Code != "57014" || !strings.Contains(ee.Message, "timeout") {
		t.Errorf("time-out: %v", err)
	}
	e, _ = newEngine(t, Options{Concurrency: 1})
	st, err := e.Describe(context.Background(), "SELECT * FROM range(1000000000)")
	if err != nil {
		t.Fatal(err)
	}
	cur, err := e.Run(context.Background(), st, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := e.Query(ctx, "SELECT 1"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second statement beyond the concurrency: %v", err)
	}
	cur.Close()
	cur.Close()
	if _, err := e.Query(context.Background(), "SELECT 1"); err != nil {
		t.Error(err)
	}
}

func TestErrorPosition(t *testing.T) {
	e, db := newEngine(t, Options{})
	exec(t, db, "CREATE TABLE tx(ts TIMESTAMP_NS, card VARCHAR)")
	for text, want := range map[string]Error{
		"SELECT foo FROM tx": {Code: "42703", Position: 8},
		"SELECT 'ü', pg_catalog.version(), foo FROM public.tx":  {Code: "42703", Position: 35},
		"SELECT current_timestamp, card ~ 'x', foo FROM tx":     {Code: "42703", Position: 39},
		"SELECT * FROM pg_catalog.nosuch":                       {Code: "42P01", Position: 26},
		"SELECT nosuch(1)":                                      {Code: "42883", Position: 8},
		"SELECT 1 +":                                            {Code: "42601", Position: 11},
		"SELECT (1":                                             {Code: "42601", Position: 10},
		"SELECT 1/0 FROM nosuch.x":                              {Code: "42P01", Position: 17},
		"SELECT card FROM tx GROUP BY ts":                       {Code: "42803", Position: 8},
		"DELETE FROM tx":                                        {Code: "42501"},
		"SELECT 99999999999999999999::BIGINT":                   {Code: "22P02", Position: 28},
		"SELECT * FROM tx WHERE ts > '2018-04-01'::timestamptz": {Code: "42804", Position: 27},
		"SELECT 1; SELECT 2":                                    {Code: "42501"},
		"":                                                      {Code: "42501"},
	} {
		_, err := e.Query(context.Background(), text)
		var ee *Error
		if !errors.As(err, &ee) || ee.Code != want.Code || ee.Position != want.Position {
			t.Errorf("%s: %v at %d, want %s at %d", text, err, ee.Position, want.Code, want.Position)
		}
	}
}

func TestTranslate(t *testing.T) {
	for in, want := range map[string]string{
		"SELECT pg_catalog.version()":                                    "SELECT version()",
		`SELECT "pg_catalog" . version(), x.public.y`:                    `SELECT  version(), x.public.y`,
		`SELECT * FROM "public"."tx"`:                                    `SELECT * FROM "tx"`,
		"SELECT 'pg_catalog.x', \"public.x\", $$public.x$$ -- public.x":  "SELECT 'pg_catalog.x', \"public.x\", $$public.x$$ -- public.x",
		"SELECT public FROM t":                                           "SELECT public FROM t",
		"SELECT * FROM information_schema.tables":                        "SELECT * FROM weir_info.tables",
		"a OPERATOR(pg_catalog.~) '^(x)$' COLLATE pg_catalog.default":    "a  ~ ('(?s).*(?:' || '^(x)$' || ').*') ",
		"a OPERATOR ( pg_catalog.+ ) b":                                  "a  +  b",
		"a ~ 'x' AND b !~* $1":                                           "a  ~ ('(?s).*(?:' || 'x' || ').*') AND b  !~ ('(?si).*(?:' || $1 || ').*')",
		"a ~ b":                                                          "a ~ b",
		"SELECT 'tx'::regclass, '5' :: pg_catalog.regclass, x::regclass": "SELECT regclass_oid('tx'), regclass_oid('5'), x::regclass",
		"SELECT current_timestamp, t.current_timestamp":                  "SELECT now(), t.current_timestamp",
		`SELECT x::"char", "char" FROM t COLLATE "C"`:                    `SELECT x::VARCHAR, "char" FROM t `,
		"/* /* nested */ public.x */ SELECT public.x":                    "/* /* nested */ public.x */ SELECT x",
		"E'it\\'s public.x' || public.x":                                 "E'it\\'s public.x' || x",
	} {
		if got := translate(in).text; got != want {
			t.Errorf("%s\n got %s\nwant %s", in, got, want)
		}
	}
}

func TestSplit(t *testing.T) {
	for in, want := range map[string][]string{
		"":                                  nil,
		" ; -- x\n ; /* ; */":               nil,
		"SELECT 1":                          {"SELECT 1"},
		"SELECT 1; SELECT ';' ; ":           {"SELECT 1", " SELECT ';' "},
		"SELECT $a$;$a$;SELECT \";\"":       {"SELECT $a$;$a$", "SELECT \";\""},
		"SELECT 'unterminated; ":            {"SELECT 'unterminated; "},
		"SELECT 1 -- comment; with a ;\n;X": {"SELECT 1 -- comment; with a ;\n", "X"},
	} {
		if got := Split(in); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := Words(" /* x */ set Session  a.b TO 'X y' ", 10); !reflect.DeepEqual(got, []string{"SET", "SESSION", "A", ".", "B", "TO", "'X y'"}) {
		t.Errorf("%q", got)
	}
	if got := CastParams("SELECT $1, '$1', $2, $10, $0", []string{"BIGINT", ""}); got != "SELECT CAST($1 AS BIGINT), '$1', $2, $10, $0" {
		t.Error(got)
	}
}

// FuzzTranslate wants the tokens to cover the text, the way back to be inside it,
// and what is quoted to stay.
func FuzzTranslate(f *testing.F) {
	for _, seed := range []string{"SELECT pg_catalog.x ~ 'a' COLLATE \"C\"", "'", "\"", "$$", "$a$x$a$", "/*", "--", "1e", "'x'::regclass", "OPERATOR(pg_catalog.", "public.", "E'\\", "ü\u00a0$1::", "a.b.public.c", "$1$1", ";;'"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		end := 0
		for _, tok := range tokenize(text) {
			if tok.start != end || tok.end <= tok.start {
				t.Fatalf("%q: token %+v after %d", text, tok, end)
			}
			end = tok.end
		}
		if end != len(text) {
			t.Fatalf("%q: tokens end at %d", text, end)
		}
		tr := translate(text)
		last := 0
		for i := range len(tr.text) + 1 {
			at := tr.origin(i)
			if at < last || at > len(text) {
				t.Fatalf("%q -> %q: byte %d stands for %d after %d", text, tr.text, i, at, last)
			}
			last = at
		}
		for _, part := range Split(text) {
			Words(part, 3)
			CastParams(part, []string{"BIGINT"})
		}
	})
}

// TestTokensAgainstDuckDB has DuckDB split what we split: the number of statements
// must agree, or a statement could hide in another.
func TestTokensAgainstDuckDB(t *testing.T) {
	e, _ := newEngine(t, Options{})
	for _, text := range []string{
		"SELECT 'a;b'", "SELECT \"a;b\" FROM (SELECT 1 AS \"a;b\")", "SELECT $$a;b$$", "SELECT $x$a;$$;b$x$", "SELECT E'a\\';b'", "SELECT 'a''; b'", "SELECT 1 /* ; /* ; */ ; */", "SELECT 1 -- ; \n + 2",
		"SELECT 'a' -- '\n ", "SELECT U&'\\0061;'", "SELECT x'3b'", "SELECT 1\u00a0+ 2", "SELECT 'it''s' || ';' || \"x;\"\"y\" FROM (SELECT 'a' AS \"x;\"\"y\")", "SELECT 5 AS a$b",
	} {
		if parts := Split(text); len(parts) != 1 {
			t.Errorf("%s: %d statements, DuckDB is to be given one", text, len(parts))
			continue
		}
		if _, err := e.Query(context.Background(), text); err != nil && strings.Contains(err.Error(), "more than one statement") {
			t.Errorf("%s: DuckDB reads more than one statement", text)
		}
	}
}

func TestDecimalAndIntervalText(t *testing.T) {
	for _, c := range []struct {
		months, days int32
		micros       int64
		want         string
	}{{0, 0, 0, "00:00:00"}, {14, 3, 14_706_500_000, "1 year 2 mons 3 days 04:05:06.5"}, {-1, 1, -1, "-1 mon 1 day -00:00:00.000001"}, {24, 0, 0, "2 years"}, {0, 0, 90_000_000_000_000, "25000:00:00"}} {
		if got := IntervalText(c.months, c.days, c.micros); got != c.want {
			t.Errorf("%v: %s", c, got)
		}
	}
	e, _ := newEngine(t, Options{})
	res, err := e.Query(context.Background(), "SELECT 0.05::DECIMAL(4,2), -0.05::DECIMAL(4,2), 12345678901234567890123.45::DECIMAL(38,2), -1::DECIMAL(38,0), 0.001::DECIMAL(38,3), 170141183460469231731687303715884105727::HUGEINT, 18446744073709551615::UBIGINT")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(res.Rows[0]), "[0.05 -0.05 12345678901234567890123.45 -1 0.001 170141183460469231731687303715884105727 18446744073709551615]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestCatalogOnce wants a second start to leave the catalog alone, and a database
// made anew to get it again.
func TestCatalogOnce(t *testing.T) {
	e, db := newEngine(t, Options{})
	if err := makeCatalog(db.Writer()); err != nil {
		t.Fatal(err)
	}
	if err := db.Reopen(); err != nil {
		t.Fatal(err)
	}
	if res, err := e.Query(context.Background(), "SELECT count(*) FROM pg_catalog.pg_class"); err != nil || res.Rows[0][0] != int64(0) {
		t.Errorf("%v %v", res, err)
	}
}

func BenchmarkQuery(b *testing.B) {
	e, db := newEngine(b, Options{})
	exec(b, db, "CREATE TABLE tx AS SELECT range AS n, range % 100 AS k FROM range(1000000)")
	for _, q := range []string{"SELECT 1", "SELECT count(*) FROM tx", "SELECT k, sum(n) FROM tx GROUP BY k"} {
		b.Run(q, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := e.Query(context.Background(), q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

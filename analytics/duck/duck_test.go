package duck

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/test/seeds"
)

func openTemp(t testing.TB) *DB {
	t.Helper()
	db, err := Open(filepath.Join(t.TempDir(), "weir.duckdb"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func mustExec(t testing.TB, w *Writer, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if err := w.Exec(text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
}

func openConn(t testing.TB, db *DB) *Conn {
	t.Helper()
	c, err := db.Conn("main")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// text is the answer as lines of values, by DuckDB's own casts to VARCHAR.
func text(t testing.TB, c *Conn, query string, args ...any) string {
	t.Helper()
	s, err := tryText(c, query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return s
}

func tryText(c *Conn, query string, args ...any) (string, error) {
	rows, err := c.Query(context.Background(), "SELECT CAST(COLUMNS(*) AS VARCHAR) FROM ("+query+")", args...)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	var b strings.Builder
	for {
		chunk, err := rows.Next()
		if chunk == nil {
			return strings.TrimSuffix(b.String(), "\n"), err
		}
		for i := range chunk.Len() {
			for j := range chunk.Columns {
				if j > 0 {
					b.WriteByte('|')
				}
				if v := &chunk.Columns[j]; v.IsNull(i) {
					b.WriteString("NULL")
				} else {
					b.Write(v.Bytes(i))
				}
			}
			b.WriteByte('\n')
		}
	}
}

func count(t testing.TB, c *Conn, query string) int64 {
	t.Helper()
	rows, err := c.Query(context.Background(), query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	chunk, err := rows.Next()
	if err != nil || chunk == nil {
		t.Fatalf("%s: %v", query, err)
	}
	return chunk.Columns[0].Int64(0)
}

var everyType = []event.Type{{Kind: event.Bool}, {Kind: event.Int64}, {Kind: event.Double}, {Kind: event.Decimal, Scale: 2}, {Kind: event.String}, {Kind: event.Timestamp}, {Kind: event.Bytes}}

const everyTable = "CREATE TABLE t(b BOOLEAN, i BIGINT, _topic VARCHAR GENERATED ALWAYS AS ('a topic of some length') VIRTUAL, d DOUBLE, m DECIMAL(18,2), s VARCHAR, ts TIMESTAMP_NS, y BLOB, l VARCHAR[])"

// randomRows fills columns of every type, with absent values, and gives the text
// that SQL is expected to answer.
func randomRows(r *rand.Rand, n int) ([]Column, []string) {
	cols := make([]Column, len(everyType)+1)
	for i := range everyType {
		cols[i].Column = &event.Column{}
		cols[i].Reset(everyType[i])
	}
	list := Column{Column: &event.Column{}, Lists: []int32{0}}
	list.Reset(event.Type{Kind: event.String})
	want := make([]string, n)
	nullable := r.IntN(2) == 0
	for row := range n {
		var parts []string
		for i := range everyType {
			c := cols[i].Column
			if nullable && r.IntN(5) == 0 {
				c.AppendNull()
				parts = append(parts, "NULL")
				continue
			}
			switch everyType[i].Kind {
			case event.Bool:
				v := r.IntN(2) == 0
				c.AppendBool(v)
				parts = append(parts, fmt.Sprint(v))
			case event.Int64:
				v := r.Int64() - r.Int64()
				c.AppendInt64(v)
				parts = append(parts, fmt.Sprint(v))
			case event.Double:
				v := float64(r.IntN(1000)) / 4
				c.AppendDouble(v)
				s := fmt.Sprint(v)
				if !strings.Contains(s, ".") {
					s += ".0"
				}
				parts = append(parts, s)
			case event.Decimal:
				v := r.Int64N(2e17) - 1e17
				c.AppendInt64(v)
				parts = append(parts, event.FormatDecimal(v, 2))
			case event.String, event.Bytes:
				v := strings.Repeat("ü", r.IntN(20)) + "x"
				if everyType[i].Kind == event.Bytes {
					v = strings.Repeat("y", r.IntN(30))
				}
				c.AppendBytes([]byte(v))
				parts = append(parts, v)
			case event.Timestamp:
				v := event.FromTime(time.Date(2018, 4, 1, 0, 0, 0, 0, time.UTC)) + event.Time(r.Int64N(1e17))
				c.AppendInt64(int64(v))
				s := v.Time().Format("2006-01-02 15:04:05.999999999")
				parts = append(parts, s)
			}
		}
		elems := r.IntN(4)
		var names []string
		for range elems {
			v := strings.Repeat("r", 1+r.IntN(20))
			list.AppendBytes([]byte(v))
			names = append(names, v)
		}
		list.Lists = append(list.Lists, int32(list.Len()))
		parts = append(parts, "["+strings.Join(names, ", ")+"]")
		parts = append(parts[:2:2], append([]string{"a topic of some length"}, parts[2:]...)...)
		want[row] = strings.Join(parts, "|")
	}
	cols[len(everyType)] = list
	return cols, want
}

func TestAppendRoundTrip(t *testing.T) {
	r := seeds.Rand(t)
	db := openTemp(t)
	w := db.Writer()
	c := openConn(t, db)
	for _, n := range []int{1, 7, 2047, 2048, 2049, 5000} {
		mustExec(t, w, "DROP TABLE IF EXISTS t", everyTable)
		cols, want := randomRows(r, n)
		if err := w.Begin(); err != nil {
			t.Fatal(err)
		}
		table, err := w.Table("main", "t")
		if err != nil {
			t.Fatal(err)
		}
		if err := table.Append(cols); err != nil {
			t.Fatal(err)
		}
		if got := count(t, c, "SELECT count(*) FROM t"); got != 0 {
			t.Fatalf("%d rows are visible before the commit", got)
		}
		if err := w.Commit(); err != nil {
			t.Fatal(err)
		}
		got := strings.Split(text(t, c, "SELECT * FROM t"), "\n")
		if len(got) != n {
			t.Fatalf("%d rows of %d", len(got), n)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("%d rows, row %d:\n got %s\nwant %s", n, i, got[i], want[i])
			}
		}
		w.Rollback() // the table is altered next
	}
}

func TestRollbackDropsWhatWasAppended(t *testing.T) {
	db := openTemp(t)
	w := db.Writer()
	mustExec(t, w, everyTable)
	cols, _ := randomRows(rand.New(rand.NewPCG(1, 1)), 5000)
	for range 3 {
		if err := w.Begin(); err != nil {
			t.Fatal(err)
		}
		table, err := w.Table("main", "t")
		if err != nil {
			t.Fatal(err)
		}
		if err := table.Append(cols); err != nil {
			t.Fatal(err)
		}
		w.Rollback()
	}
	if got := count(t, openConn(t, db), "SELECT count(*) FROM t"); got != 0 {
		t.Fatalf("%d rows after rollbacks", got)
	}
}

// TestPolicy tries what a user must not be able to do, and what he must.
func TestPolicy(t *testing.T) {
	db := openTemp(t)
	mustExec(t, db.Writer(), "CREATE TABLE ticks(ts TIMESTAMP_NS, v BIGINT)", "INSERT INTO ticks VALUES ('2018-04-01', 1)")
	c := openConn(t, db)
	out := filepath.Join(t.TempDir(), "out")
	for _, query := range []string{
		"INSERT INTO ticks VALUES ('2018-04-01', 2)", "DELETE FROM ticks", "UPDATE ticks SET v=2", "DROP TABLE ticks", "CREATE TABLE x(a INT)",
		"CREATE TEMP TABLE x(a INT)", "CREATE VIEW x AS SELECT 1", "CREATE MACRO f() AS 1", "ALTER TABLE ticks ADD COLUMN w INT", "TRUNCATE ticks",
		"ATTACH '" + out + "'", "DETACH weir", "USE system", "INSTALL httpfs", "LOAD httpfs", "SET threads=1", "RESET threads", "SET search_path='x'",
		"PRAGMA enable_profiling", "PRAGMA database_list", "CALL checkpoint()", "CHECKPOINT", "FORCE CHECKPOINT", "VACUUM", "ANALYZE", "BEGIN", "COMMIT", "ROLLBACK",
		"COPY ticks TO '" + out + "'", "COPY ticks FROM '" + out + "'", "EXPORT DATABASE '" + out + "'", "IMPORT DATABASE '" + out + "'", "PREPARE p AS SELECT 1", "EXECUTE p",
		"SELECT 1; SELECT 2", "SELECT 1; DROP TABLE ticks", "EXPLAIN ANALYZE DROP TABLE ticks", "EXPLAIN ANALYZE INSERT INTO ticks VALUES (now(), 1)",
		"SELECT * FROM checkpoint()", "SELECT * FROM Force_Checkpoint()", "FROM enable_logging()", "SELECT * FROM enable_profiling(save_location='" + out + "')",
		"SELECT * FROM \"enable_profiling\"()", "SELECT * FROM system.main.disable_logging()", "SELECT * FROM truncate_duckdb_logs()", "SELECT * FROM disable_peg_parser()",
		"SELECT (SELECT count(*) FROM enable_logging())", "WITH a AS (FROM enable_logging()) SELECT * FROM a", "EXPLAIN ANALYZE SELECT * FROM enable_logging()",
		"EXPLAIN (ANALYZE) SELECT * FROM enable_logging()", "EXPLAIN /* x */ ANALYZE FROM enable_logging()", "SELECT * FROM query('FROM enable_logging()')",
		"SELECT * FROM json_execute_serialized_sql(json_serialize_sql('FROM enable_logging()'))", "SELECT * FROM read_csv('/etc/passwd')", "SELECT * FROM read_text('/etc/passwd')",
		"SELECT * FROM read_blob('" + db.Path() + "')", "SELECT * FROM '/etc/passwd'", "SELECT * FROM glob('/*')", "SELECT * FROM parquet_scan('x')", "SELECT write_log('x')",
		"SELECT * FROM duckdb_secrets()", "SELECT * FROM ticks WHERE v IN (SELECT 1 FROM enable_logging())", "", ";", "-- nothing",
	} {
		if got, err := tryRaw(c, query); err == nil {
			t.Errorf("%s: answered %d rows, want an error", query, got)
		}
	}
	if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a statement wrote a file: %v", err)
	}
	for _, query := range []string{
		"SELECT * FROM ticks", "FROM ticks", "WITH x AS (SELECT 1 AS a) SELECT * FROM x", "VALUES (1), (2)", "(SELECT 1) UNION ALL (SELECT 2)", "SELECT * FROM range(3)",
		"SELECT * FROM generate_series(1, 3)", "SELECT unnest([1,2])", "EXPLAIN SELECT * FROM ticks", "EXPLAIN ANALYZE SELECT * FROM ticks", "EXPLAIN (FORMAT json) SELECT * FROM ticks",
		"EXPLAIN (SELECT count(*) FROM ticks)", "DESCRIBE ticks", "SHOW TABLES", "SUMMARIZE ticks", "SELECT * FROM ticks;", "SELECT * FROM duckdb_tables()",
		"SELECT a.*, b.v FROM ticks a ASOF JOIN ticks b ON a.ts >= b.ts", "TABLE ticks", "SELECT sum(v) OVER (ORDER BY ts RANGE BETWEEN INTERVAL 1 HOUR PRECEDING AND CURRENT ROW) FROM ticks",
		"PIVOT ticks ON v IN (1, 2) USING count(*)",
	} {
		if _, err := tryRaw(c, query); err != nil {
			t.Errorf("%s: %v", query, err)
		}
	}
	if got := text(t, c, "SELECT * FROM ticks"); got != "2018-04-01 00:00:00|1" {
		t.Errorf("the table was changed: %s", got)
	}
}

func tryRaw(c *Conn, query string) (int, error) {
	rows, err := c.Query(context.Background(), query)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	n := 0
	for {
		chunk, err := rows.Next()
		if chunk == nil {
			return n, err
		}
		n += chunk.Len()
	}
}

// TestTimestamps fixes what people may write against a TIMESTAMP_NS column.
func TestTimestamps(t *testing.T) {
	db := openTemp(t)
	mustExec(t, db.Writer(), "CREATE TABLE ticks(ts TIMESTAMP_NS)", "INSERT INTO ticks VALUES ('2018-04-01 00:00:31.123456789'), ('2024-08-08 23:54:16.207640365')")
	c := openConn(t, db)
	for query, want := range map[string]string{
		"SELECT count(*) FROM ticks WHERE ts > '2018-04-02'":                                                            "1",
		"SELECT count(*) FROM ticks WHERE ts > DATE '2018-04-02'":                                                       "1",
		"SELECT count(*) FROM ticks WHERE ts = '2018-04-01 00:00:31.123456789'":                                         "1",
		"SELECT count(*) FROM ticks WHERE ts BETWEEN '2018-04-01T00:00:00Z' AND '2018-04-02T00:00:00.5Z'":               "1",
		"SELECT date_trunc('hour', ts) FROM ticks ORDER BY 1 LIMIT 1":                                                   "2018-04-01 00:00:00",
		"SELECT time_bucket(INTERVAL 10 SECOND, ts) FROM ticks ORDER BY 1 LIMIT 1":                                      "2018-04-01 00:00:30",
		"SELECT extract(hour FROM max(ts)), epoch_ns(max(ts)) FROM ticks":                                               "23|1723161256207640365",
		"SELECT ts FROM ticks ORDER BY ts LIMIT 1":                                                                      "2018-04-01 00:00:31.123456789",
		"SELECT max(ts) - min(ts) > INTERVAL 1 DAY FROM ticks":                                                          "true",
		"SELECT count(*) FROM ticks a ASOF JOIN ticks b ON a.ts >= b.ts":                                                "2",
		"SELECT count(*) FROM (SELECT count(*) OVER (ORDER BY ts RANGE INTERVAL 1 HOUR PRECEDING) FROM ticks)":          "2",
		"SELECT count(*) FROM ticks WHERE ts > TIMESTAMP '2018-04-02' AND ts::DATE > '2018-04-02'":                      "1",
		"SELECT count(*) FROM ticks WHERE ts::TIMESTAMPTZ > TIMESTAMPTZ '2018-04-02 00:00:00+02'":                       "1",
		"SELECT floor(extract(epoch FROM ts)/300)*300 FROM ticks ORDER BY 1 LIMIT 1":                                    "1522540800.0",
		"SELECT date_trunc('minute', ts AT TIME ZONE 'UTC' AT TIME ZONE 'Europe/Paris') FROM ticks ORDER BY ts LIMIT 1": "2018-04-01 02:00:00",
	} {
		if got := text(t, c, query); got != want {
			t.Errorf("%s = %s, want %s", query, got, want)
		}
	}
}

// TestStaleStatement is trap 2: a statement planned before an append must not
// answer from the statistics of then.
func TestStaleStatement(t *testing.T) {
	db := openTemp(t)
	w := db.Writer()
	mustExec(t, w, "CREATE TABLE t(i BIGINT)")
	c := openConn(t, db)
	const query = "SELECT count(*) FROM t"
	if _, err := c.Describe(context.Background(), query); err != nil {
		t.Fatal(err)
	}
	for n := int64(1); n <= 5; n++ {
		if got := count(t, c, query); got != (n-1)*1000 {
			t.Fatalf("count %d before append %d", got, n)
		}
		col := &event.Column{}
		col.Reset(event.Type{Kind: event.Int64})
		for i := range 1000 {
			col.AppendInt64(int64(i))
		}
		if err := w.Begin(); err != nil {
			t.Fatal(err)
		}
		table, err := w.Table("main", "t")
		if err != nil {
			t.Fatal(err)
		}
		if err := table.Append([]Column{{Column: col}}); err != nil {
			t.Fatal(err)
		}
		if err := w.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	if got := count(t, c, query); got != 5000 {
		t.Fatalf("count %d, want 5000", got)
	}
}

// TestTableFunction is trap 1's counterpart: column subsets, filters and second
// scans over a Go table give right answers.
func TestTableFunction(t *testing.T) {
	db := openTemp(t)
	const n = 5000
	build := func() []event.Column {
		cols := make([]event.Column, 3)
		cols[0].Reset(event.Type{Kind: event.Int64})
		cols[1].Reset(event.Type{Kind: event.String})
		cols[2].Reset(event.Type{Kind: event.Double})
		for i := range n {
			cols[0].AppendInt64(int64(i))
			if i%7 == 0 {
				cols[1].AppendNull()
			} else {
				cols[1].AppendBytes([]byte(fmt.Sprintf("key number %d", i%7)))
			}
			cols[2].AppendDouble(float64(i))
		}
		return cols
	}
	err := db.Register(&TableFunction{Name: "weir_live", Scan: build, Columns: []event.Field{
		{Name: "k", Type: event.Type{Kind: event.Int64}}, {Name: "s", Type: event.Type{Kind: event.String}}, {Name: "d", Type: event.Type{Kind: event.Double}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	mustExec(t, db.Writer(), "CREATE VIEW live AS SELECT * FROM weir_live()")
	c := openConn(t, db)
	check := func() {
		t.Helper()
		for query, want := range map[string]string{
			"SELECT count(*) FROM live":                             "5000",
			"SELECT count(*), sum(d)::BIGINT FROM live":             "5000|12497500",
			"SELECT sum(d)::BIGINT FROM live WHERE k < 10":          "45",
			"SELECT s FROM live WHERE k = 4243":                     "key number 1",
			"SELECT count(*) FROM live WHERE s IS NULL":             "715",
			"SELECT count(*) FROM live a JOIN live b USING (k)":     "5000",
			"SELECT d, k FROM live ORDER BY k DESC LIMIT 1":         "4999.0|4999",
			"SELECT max(s) FROM live GROUP BY s ORDER BY 1 LIMIT 1": "key number 1",
		} {
			for range 2 {
				if got := text(t, c, query); got != want {
					t.Errorf("%s = %s, want %s", query, got, want)
				}
			}
		}
	}
	check()
	if err := db.Reopen(); err != nil {
		t.Fatal(err)
	}
	check()
}

func TestCancel(t *testing.T) {
	db := openTemp(t)
	c := openConn(t, db)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	started := time.Now()
	rows, err := c.Query(ctx, "SELECT sum(a.range * b.range) FROM range(10000000) a, range(1000000) b")
	if err == nil {
		_, err = rows.Next()
		rows.Close()
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("error %v, want %v", err, context.DeadlineExceeded)
	}
	if took := time.Since(started); took > time.Minute {
		t.Errorf("the time-out took %v", took)
	}
	if got := text(t, c, "SELECT 1"); got != "1" {
		t.Errorf("after a time-out the connection answers %s", got)
	}
}

// TestStreaming reads the start of a result that would not fit into memory.
func TestStreaming(t *testing.T) {
	db := openTemp(t)
	c := openConn(t, db)
	rows, err := c.Query(context.Background(), "SELECT range, 'some text that is not short at all' FROM range(1000000000000)")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for n < 100_000 {
		chunk, err := rows.Next()
		if err != nil {
			t.Fatal(err)
		}
		for i := range chunk.Len() {
			if chunk.Columns[0].Int64(i) != int64(n) {
				t.Fatalf("row %d has %d", n, chunk.Columns[0].Int64(i))
			}
			n++
		}
	}
	rows.Close()
	if got := text(t, c, "SELECT 1"); got != "1" {
		t.Errorf("after an abandoned result the connection answers %s", got)
	}
}

func TestErrors(t *testing.T) {
	db := openTemp(t)
	mustExec(t, db.Writer(), "CREATE TABLE t(i BIGINT)")
	c := openConn(t, db)
	for query, want := range map[string]Error{
		"SELECT foo FROM t":    {Type: "Binder", Subtype: "COLUMN_NOT_FOUND", Position: 7},
		"SELECT * FROM nosuch": {Type: "Catalog", Subtype: "MISSING_ENTRY", Position: 14},
		"SELECT nosuch(1)":     {Type: "Catalog", Subtype: "MISSING_ENTRY", Position: 7},
		"SELECT 1 +":           {Type: "Parser", Subtype: "SYNTAX_ERROR", Position: 10},
		"SELECT 'x'::INT":      {Type: "Conversion", Position: 10},
	} {
		_, err := tryRaw(c, query)
		var e *Error
		if !errors.As(err, &e) || e.Type != want.Type || e.Subtype != want.Subtype || e.Position != want.Position {
			t.Errorf("%s: %#v", query, err)
		}
	}
}

func TestMovedAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.duckdb")
	for name, damage := range map[string]func() error{
		"not a database": func() error { return os.WriteFile(path, []byte(strings.Repeat("rubbish ", 10_000)), 0o600) },
		"a flipped header": func() error {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteAt([]byte{0xff, 0xff, 0xff, 0xff}, 12)
			return err
		},
		"damaged metadata": func() error {
			st, err := os.Stat(path)
			if err != nil {
				return err
			}
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteAt(make([]byte, st.Size()-12288), 12288)
			return err
		},
		"another format": func() error {
			db, err := Open(path, Options{})
			if err != nil {
				return err
			}
			if err := db.Writer().Exec("UPDATE weir_state.meta SET version=99"); err != nil {
				return err
			}
			return db.Close()
		},
	} {
		db, err := Open(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		mustExec(t, db.Writer(), "CREATE TABLE IF NOT EXISTS t AS SELECT range AS i FROM range(100000)")
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		if db, err = Open(path, Options{}); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !db.Moved() {
			t.Errorf("%s: not moved aside", name)
		}
		if _, err := os.Stat(path + ".bad"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestDamagedLog flips bytes of the write-ahead log of a database that was not
// closed: it opens with whole transactions, or is put aside, and never fails.
func TestDamagedLog(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "weir.duckdb")
	db, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := db.Writer()
	mustExec(t, w, "CREATE TABLE t(i BIGINT, n BIGINT)")
	for n := range 20 {
		mustExec(t, w, fmt.Sprintf("INSERT INTO t SELECT range, %d FROM range(100)", n))
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	wal, err := os.ReadFile(path + ".wal")
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	r := seeds.Rand(t)
	for round := range 10 {
		torn := append([]byte(nil), wal...)
		if round%2 == 0 {
			torn = torn[:r.IntN(len(torn))]
		} else {
			torn[r.IntN(len(torn))] ^= 1 << r.IntN(8)
		}
		copied := filepath.Join(dir, fmt.Sprintf("copy%d.duckdb", round))
		for name, data := range map[string][]byte{copied: file, copied + ".wal": torn} {
			if err := os.WriteFile(name, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		db, err := Open(copied, Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Errorf("round %d: %v", round, err)
			continue
		}
		c, err := db.Conn("main")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := tryText(c, "SELECT count(*) % 100, count(*) = 100 * count(DISTINCT n) FROM t"); err == nil && got != "0|true" {
			t.Errorf("round %d: a transaction is there in part: %s", round, got)
		}
		c.Close()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestSecondProcessIsRefused opens the file from a child: DuckDB's lock is held
// by the process.
func TestSecondProcessIsRefused(t *testing.T) {
	if path := os.Getenv("WEIR_TEST_OPEN"); path != "" {
		_, err := Open(path, Options{})
		fmt.Println("opened:", err)
		return
	}
	db := openTemp(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestSecondProcessIsRefused$", "-test.v")
	cmd.Env = append(os.Environ(), "WEIR_TEST_OPEN="+db.Path())
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Could not set lock") {
		t.Fatalf("the second process: %v\n%s", err, out)
	}
	if _, err := os.Stat(db.Path() + ".bad"); err == nil {
		t.Fatal("the file in use was moved aside")
	}
}

// TestKill kills a process in the middle of its transactions: what it said to
// have committed is there, and nothing of what it had not.
func TestKill(t *testing.T) {
	const rows = 1000
	if path := os.Getenv("WEIR_TEST_KILL"); path != "" {
		db, err := Open(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		w := db.Writer()
		mustExec(t, w, "CREATE TABLE t(i BIGINT)")
		col := &event.Column{}
		for n := 0; ; n++ {
			col.Reset(event.Type{Kind: event.Int64})
			for range rows {
				col.AppendInt64(int64(n))
			}
			if err := w.Begin(); err != nil {
				t.Fatal(err)
			}
			table, err := w.Table("main", "t")
			if err != nil {
				t.Fatal(err)
			}
			if err := table.Append([]Column{{Column: col}}); err != nil {
				t.Fatal(err)
			}
			if err := w.Commit(); err != nil {
				t.Fatal(err)
			}
			fmt.Println("committed", n)
		}
	}
	path := filepath.Join(t.TempDir(), "weir.duckdb")
	cmd := exec.Command(os.Args[0], "-test.run=^TestKill$", "-test.v")
	cmd.Env = append(os.Environ(), "WEIR_TEST_KILL="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	committed := int64(-1)
	for scan := bufio.NewScanner(out); scan.Scan(); {
		if _, err := fmt.Sscanf(scan.Text(), "committed %d", &committed); err == nil && committed == 50 {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait() // it was killed
	db, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if db.Moved() {
		t.Fatal("the file was taken for damaged")
	}
	c := openConn(t, db)
	defer c.Close()
	batches := count(t, c, "SELECT count(DISTINCT i) FROM t")
	if batches < committed+1 {
		t.Errorf("%d transactions are left of %d committed", batches, committed+1)
	}
	if got := count(t, c, "SELECT count(*) FROM t"); got != batches*rows {
		t.Errorf("%d rows of %d transactions of %d: one is there in part", got, batches, rows)
	}
}

func BenchmarkAppend(b *testing.B) {
	db := openTemp(b)
	w := db.Writer()
	mustExec(b, w, "CREATE TABLE t(id BIGINT, ts TIMESTAMP_NS, card VARCHAR, terminal VARCHAR, amount DECIMAL(18,2), secs BIGINT, days BIGINT, fraud BIGINT, scenario BIGINT, _topic VARCHAR GENERATED ALWAYS AS ('transactions'), _partition BIGINT, _offset BIGINT)")
	const n = 10_000
	kinds := []event.Kind{event.Int64, event.Timestamp, event.String, event.String, event.Decimal, event.Int64, event.Int64, event.Int64, event.Int64, event.Int64, event.Int64}
	cols := make([]Column, len(kinds))
	for i, k := range kinds {
		cols[i].Column = &event.Column{}
		cols[i].Reset(event.Type{Kind: k})
		for row := range n {
			if k == event.String {
				cols[i].AppendBytes(fmt.Appendf(nil, "%d", row%5000))
			} else {
				cols[i].AppendInt64(int64(row))
			}
		}
	}
	b.ReportAllocs()
	rows := 0
	for b.Loop() {
		if rows%100_000 == 0 {
			if err := w.Begin(); err != nil {
				b.Fatal(err)
			}
		}
		t, err := w.Table("main", "t")
		if err != nil {
			b.Fatal(err)
		}
		if err := t.Append(cols); err != nil {
			b.Fatal(err)
		}
		if rows += n; rows%100_000 == 0 {
			if err := w.Commit(); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
	w.Rollback()
}

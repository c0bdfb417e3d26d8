package pgwire

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	_ "github.com/lib/pq"

	"github.com/weirstream/weir/analytics"
	"github.com/weirstream/weir/analytics/duck"
	"github.com/weirstream/weir/ingest/event"
)

func (w *world) url(extra string) string {
	return "postgres://grafana:secret@" + w.addr + "/db?sslmode=prefer" + extra
}

func (w *world) pgx(t testing.TB, mode pgx.QueryExecMode) *pgx.Conn {
	t.Helper()
	cfg, err := pgx.ParseConfig(w.url(""))
	if err != nil {
		t.Fatal(err)
	}
	cfg.DefaultQueryExecMode = mode
	c, err := pgx.ConnectConfig(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = c.Close(ctx) // a test may have broken it
	})
	return c
}

var modes = map[string]pgx.QueryExecMode{
	"statements cached": pgx.QueryExecModeCacheStatement, "described": pgx.QueryExecModeDescribeExec, "described and cached": pgx.QueryExecModeCacheDescribe,
	"exec": pgx.QueryExecModeExec, "simple": pgx.QueryExecModeSimpleProtocol,
}

// TestPgx reads every type in every mode, binary and text.
func TestPgx(t *testing.T) {
	w := startWorld(t, analytics.Options{}, Options{})
	ctx := context.Background()
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			c := w.pgx(t, mode)
			var (
				id, card, js string
				ts           time.Time
				amount       pgtype.Numeric
				fraud        bool
				score        *float64
				n            int64
				rules        []string
			)
			for range 3 { // a cached statement, too
				err := c.QueryRow(ctx, `SELECT id, ts, card, amount, fraud, score, n FROM transactions WHERE n = $1 AND amount >= $2 AND ts >= $3 AND card LIKE $4 AND fraud = $5`,
					int64(11), 2.5, time.Date(2018, 4, 1, 0, 0, 11, 0, time.UTC), "card%", false).Scan(&id, &ts, &card, &amount, &fraud, &score, &n)
				if err != nil {
					t.Fatal(err)
				}
				f, err := amount.Float64Value()
				if err != nil || id != "tx11" || !ts.Equal(time.Date(2018, 4, 1, 0, 0, 11, 0, time.UTC)) || card != "card 4" || f.Float64 != 2.75 || fraud || score == nil || *score != 11/3.0 || n != 11 {
					t.Fatalf("%v %v %v %v %v %v %v %v", id, ts, card, f, fraud, score, n, err)
				}
			}
			if err := c.QueryRow(ctx, `SELECT rules, values::text FROM decisions WHERE key = $1`, "k").Scan(&rules, &js); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(rules, []string{"a", "b,c", `d"e`}) || js != `{"tx.amount":"5.00"}` {
				t.Fatalf("%q %s", rules, js)
			}
			if err := c.QueryRow(ctx, `SELECT rules FROM decisions WHERE key IS NULL`).Scan(&rules); err != nil || len(rules) != 0 {
				t.Fatalf("%q %v", rules, err)
			}
			var nothing *time.Time
			if err := c.QueryRow(ctx, `SELECT time FROM decisions WHERE key IS NULL`).Scan(&nothing); err != nil || nothing != nil {
				t.Fatalf("%v %v", nothing, err)
			}
			var iv pgtype.Interval
			var day time.Time
			var ints []int64
			if err := c.QueryRow(ctx, `SELECT interval '1 month 2 days 3 seconds', date '1999-12-31', [1,2]::bigint[]`).Scan(&iv, &day, &ints); err != nil {
				t.Fatal(err)
			}
			if iv.Months != 1 || iv.Days != 2 || iv.Microseconds != 3_000_000 || day.Format(time.DateOnly) != "1999-12-31" || !reflect.DeepEqual(ints, []int64{1, 2}) {
				t.Fatalf("%v %v %v", iv, day, ints)
			}
		})
	}
}

// TestTextAndBinaryAgree reads the same numbers in both formats.
func TestTextAndBinaryAgree(t *testing.T) {
	w := startWorld(t, analytics.Options{}, Options{})
	c := w.pgx(t, pgx.QueryExecModeCacheStatement)
	ctx := context.Background()
	for _, v := range []string{"0", "1", "-1", "0.01", "-0.01", "12345678901234567.89", "99999999999999999999999999999999999999", "-170141183460469231731687303715884105727", "10000", "10001.0001", "0.00010", "1000000000000"} {
		typ := "DECIMAL(38,0)"
		if i := strings.IndexByte(v, '.'); i >= 0 {
			typ = fmt.Sprintf("DECIMAL(38,%d)", len(v)-i-1)
		}
		if v == "-170141183460469231731687303715884105727" {
			typ = "HUGEINT"
		}
		for _, format := range []int16{pgx.TextFormatCode, pgx.BinaryFormatCode} {
			var got pgtype.Numeric
			err := c.QueryRow(ctx, "SELECT '"+v+"'::"+typ+" AS v", pgx.QueryResultFormats{format}).Scan(&got)
			if err != nil {
				t.Fatalf("%s: %v", v, err)
			}
			text, err := got.Value()
			var want pgtype.Numeric
			if serr := want.Scan(v); serr != nil || err != nil {
				t.Fatal(serr, err)
			}
			wantText, err := want.Value()
			if err != nil || strings.TrimRight(strings.TrimRight(fmt.Sprint(text), "0"), ".") != strings.TrimRight(strings.TrimRight(fmt.Sprint(wantText), "0"), ".") {
				t.Errorf("%s in format %d is %v", v, format, text)
			}
		}
	}
}

func TestLibPQ(t *testing.T) {
	w := startWorld(t, analytics.Options{}, Options{})
	for _, extra := range []string{"", "&binary_parameters=yes"} {
		db, err := sql.Open("postgres", strings.Replace(w.url(extra), "prefer", "disable", 1))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if err := db.Ping(); err != nil {
			t.Fatal(err)
		}
		var n int
		var ts time.Time
		var amount string
		if err := db.QueryRow("SELECT n, ts, amount FROM transactions WHERE id = $1 AND n < $2", "tx3", 100).Scan(&n, &ts, &amount); err != nil {
			t.Fatal(err)
		}
		if n != 3 || ts.Second() != 3 || amount != "0.75" {
			t.Errorf("%d %v %s", n, ts, amount)
		}
		tx, err := db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec("SELECT nosuch"); err == nil {
			t.Error("no error")
		}
		if _, err := tx.Exec("SELECT 1"); err == nil || !strings.Contains(err.Error(), "current transaction is aborted") {
			t.Errorf("in a failed transaction: %v", err)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
	}
}

func code(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return fmt.Sprint(err)
}

func TestErrorFields(t *testing.T) {
	w := startWorld(t, analytics.Options{}, Options{})
	for name, mode := range modes {
		c := w.pgx(t, mode)
		_, err := c.Exec(context.Background(), "SELECT n,\n  foo FROM transactions")
		var e *pgconn.PgError
		if !errors.As(err, &e) || e.Code != "42703" || e.Position != 13 || e.Severity != "ERROR" {
			t.Errorf("%s: %#v", name, err)
		}
		if _, err := c.Exec(context.Background(), "SELECT 1"); err != nil {
			t.Errorf("%s: after an error: %v", name, err)
		}
	}
}

// TestStaleStatement is trap 2 over the wire: a prepared statement sees what was
// appended after it was prepared.
func TestStaleStatement(t *testing.T) {
	w := startWorld(t, analytics.Options{}, Options{})
	c := w.pgx(t, pgx.QueryExecModeCacheStatement)
	ctx := context.Background()
	if _, err := c.Prepare(ctx, "count", "SELECT count(*) FROM transactions WHERE n >= 0"); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		var n int
		if err := c.QueryRow(ctx, "count").Scan(&n); err != nil || n != 1000*(i+1) {
			t.Fatalf("%d rows, want %d: %v", n, 1000*(i+1), err)
		}
		if err := w.db.Writer().Exec("INSERT INTO transactions(id, n) SELECT 'more', range FROM range(1000)"); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.db.Writer().Exec("ALTER TABLE transactions ALTER n TYPE VARCHAR"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exec(ctx, "count"); err == nil {
		t.Log("the statement still binds after its table changed") // n >= 0 casts
	}
}

func TestCancel(t *testing.T) {
	w := startWorld(t, analytics.Options{}, Options{})
	c := w.pgx(t, pgx.QueryExecModeExec)
	const endless = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(1000000) b"
	stopped := make(chan error, 1)
	go func() {
		_, err := c.Exec(context.Background(), endless)
		stopped <- err
	}()
	w.waitRunning(t, 1)
	if err := c.PgConn().CancelRequest(context.Background()); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-stopped:
		if code(err) != "57014" {
			t.Errorf("cancelled: %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("a cancel request has no effect")
	}
	if _, err := c.Exec(context.Background(), "SELECT 1"); err != nil {
		t.Errorf("after a cancel: %v", err)
	}
	if _, err := c.Exec(context.Background(), "SET statement_timeout = 100"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exec(context.Background(), endless); code(err) != "57014" {
		t.Errorf("statement_timeout: %v", err)
	}
}

// waitRunning waits until that many statements run.
func (w *world) waitRunning(t testing.TB, n int) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for w.engine.Running() != n {
		if time.Now().After(deadline) {
			t.Fatalf("%d statements run, want %d", w.engine.Running(), n)
		}
		time.Sleep(time.Millisecond)
	}
}

// TestClientGone breaks the connection in the middle of a statement.
func TestClientGone(t *testing.T) {
	w := startWorld(t, analytics.Options{}, Options{})
	cfg, err := pgx.ParseConfig(w.url(""))
	if err != nil {
		t.Fatal(err)
	}
	var raw net.Conn
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		raw = c
		return c, err
	}
	c, err := pgx.ConnectConfig(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	go c.Exec(context.Background(), "SELECT sum(a.range * b.range) FROM range(10000000) a, range(1000000) b")
	w.waitRunning(t, 1)
	raw.Close()
	w.waitRunning(t, 0)
}

// TestStreamed reads some rows of an endless result, then breaks off.
func TestStreamed(t *testing.T) {
	w := startWorld(t, analytics.Options{}, Options{})
	c := w.pgx(t, pgx.QueryExecModeExec)
	rows, err := c.Query(context.Background(), "SELECT range, 'a text of some length' FROM range(1000000000000)")
	if err != nil {
		t.Fatal(err)
	}
	for i := int64(0); i < 100_000; i++ {
		var n int64
		var s string
		if !rows.Next() {
			t.Fatal(rows.Err())
		}
		if err := rows.Scan(&n, &s); err != nil || n != i {
			t.Fatalf("row %d: %d %v", i, n, err)
		}
	}
	if err := c.PgConn().CancelRequest(context.Background()); err != nil {
		t.Fatal(err)
	}
	rows.Close()
	if code(rows.Err()) != "57014" {
		t.Errorf("cancelled while reading: %v", rows.Err())
	}
}

// TestPortalInParts fetches a portal in parts with another statement in between,
// as JDBC does with a fetch size.
func TestPortalInParts(t *testing.T) {
	w := startWorld(t, analytics.Options{}, Options{})
	c := w.pgx(t, pgx.QueryExecModeExec)
	ctx := context.Background()
	if _, err := c.Exec(ctx, "BEGIN"); err != nil {
		t.Fatal(err)
	}
	pc := c.PgConn()
	f := pc.Frontend()
	send := func(build func()) (rows int, suspended bool) {
		t.Helper()
		build()
		f.Send(&syncMessage)
		if err := f.Flush(); err != nil {
			t.Fatal(err)
		}
		for {
			msg, err := pc.ReceiveMessage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			switch m := msg.(type) {
			case *dataRow:
				rows++
			case *portalSuspended:
				suspended = true
			case *errorResponse:
				t.Fatal(m.Message)
			case *readyForQuery:
				return rows, suspended
			}
		}
	}
	if n, s := send(func() {
		f.SendParse(&parseMessage{Name: "s", Query: "SELECT n FROM transactions ORDER BY n"})
		f.SendBind(&bindMessage{DestinationPortal: "p", PreparedStatement: "s"})
		f.SendExecute(&executeMessage{Portal: "p", MaxRows: 300})
	}); n != 300 || !s {
		t.Fatalf("%d rows, suspended %v", n, s)
	}
	if n, _ := send(func() {
		f.SendParse(&parseMessage{Name: "", Query: "SELECT 1"})
		f.SendBind(&bindMessage{})
		f.SendExecute(&executeMessage{})
	}); n != 1 {
		t.Fatalf("%d rows in between", n)
	}
	if n, s := send(func() { f.SendExecute(&executeMessage{Portal: "p", MaxRows: 300}) }); n != 300 || !s {
		t.Fatalf("%d rows, suspended %v", n, s)
	}
	if n, s := send(func() { f.SendExecute(&executeMessage{Portal: "p"}) }); n != 400 || s {
		t.Fatalf("%d rows at the end, suspended %v", n, s)
	}
	w.waitRunning(t, 0)
}

func TestTooManyClients(t *testing.T) {
	w := startWorld(t, analytics.Options{}, Options{ConnectionsMax: 2})
	url := strings.Replace(w.url(""), "prefer", "disable", 1) // each try for TLS would be a client
	connect := func() *pgx.Conn {
		c, err := pgx.Connect(context.Background(), url)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	a, b := connect(), connect()
	defer b.Close(context.Background())
	if _, err := pgx.Connect(context.Background(), url); code(err) != "53300" {
		t.Errorf("the third client: %v", err)
	}
	a.Close(context.Background())
	for { // until the server has seen it go
		c, err := pgx.Connect(context.Background(), url)
		if err == nil {
			c.Close(context.Background())
			break
		}
		if code(err) != "53300" {
			t.Fatal(err)
		}
	}
	if err := b.Ping(context.Background()); err != nil {
		t.Error(err)
	}
}

// TestConcurrentReaders counts from several connections while rows are appended:
// every count is that of a whole commit, and none goes back.
func TestConcurrentReaders(t *testing.T) {
	w := startWorld(t, analytics.Options{}, Options{})
	const commits, rows = 40, 2500
	if err := w.db.Writer().Exec("CREATE TABLE live(n BIGINT)"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	over := make(chan struct{})
	for range 4 {
		c := w.pgx(t, pgx.QueryExecModeCacheStatement)
		wg.Go(func() {
			last := int64(0)
			for {
				var n, sum int64
				if err := c.QueryRow(context.Background(), "SELECT count(*), coalesce(sum(n), 0)::bigint FROM live").Scan(&n, &sum); err != nil {
					t.Error(err)
					return
				}
				if n%rows != 0 || n < last || sum != n {
					t.Errorf("count %d after %d, sum %d", n, last, sum)
					return
				}
				last = n
				select {
				case <-over:
					if n == commits*rows {
						return
					}
				default:
				}
			}
		})
	}
	col := &event.Column{}
	col.Reset(event.Type{Kind: event.Int64})
	for range rows {
		col.AppendInt64(1)
	}
	writer := w.db.Writer()
	for range commits {
		if err := writer.Begin(); err != nil {
			t.Fatal(err)
		}
		table, err := writer.Table("main", "live")
		if err != nil {
			t.Fatal(err)
		}
		if err := table.Append([]duck.Column{{Column: col}}); err != nil {
			t.Fatal(err)
		}
		if err := writer.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	close(over)
	wg.Wait()
}

// BenchmarkRows reads a large result through pgx.
func BenchmarkRows(b *testing.B) {
	w := startWorld(b, analytics.Options{}, Options{})
	c := w.pgx(b, pgx.QueryExecModeCacheStatement)
	const rows = 200_000
	if err := w.db.Writer().Exec(fmt.Sprintf("CREATE TABLE many AS SELECT range AS n, 'card ' || range AS card, (range / 7)::DECIMAL(18,2) AS amount, make_timestamp_ns(range * 1000000) AS ts FROM range(%d)", rows)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		res, err := c.Query(context.Background(), "SELECT * FROM many")
		if err != nil {
			b.Fatal(err)
		}
		n := 0
		for res.Next() {
			n++
		}
		if res.Err() != nil || n != rows {
			b.Fatal(n, res.Err())
		}
	}
	b.ReportMetric(float64(b.N*rows)/b.Elapsed().Seconds(), "rows/s")
}

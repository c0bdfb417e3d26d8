package history

import (
	"compress/gzip"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weirstream/weir/analytics/duck"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/source"
	"github.com/weirstream/weir/test/published"
	"github.com/weirstream/weir/test/seeds"
)

// fakeLog is a log in memory: topics of partitions of records.
type fakeLog struct {
	mu     sync.Mutex
	topics map[string][][]source.Record
	grown  chan struct{}
	chunk  int // records in a chunk
	// fail, where not nil, is asked before each chunk.
	fail func(topic string, partition int32, at int64) error
}

func newFakeLog(topics map[string]int) *fakeLog {
	l := &fakeLog{topics: map[string][][]source.Record{}, grown: make(chan struct{}), chunk: 500}
	for _, t := range []string{event.TopicDecisions, event.TopicAlerts, event.TopicDeliveries, event.TopicDeadLetters} {
		l.topics[t] = make([][]source.Record, 2)
	}
	for t, n := range topics {
		l.topics[t] = make([][]source.Record, n)
	}
	return l
}

func (l *fakeLog) append(topic string, partition int, values ...[]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &l.topics[topic][partition]
	for _, v := range values {
		*p = append(*p, source.Record{Offset: int64(len(*p)), Timestamp: time.Now().UnixMilli(), Value: v})
	}
	close(l.grown)
	l.grown = make(chan struct{})
}

func (l *fakeLog) options() Options {
	return Options{
		Open: func(_ context.Context, topic string, partition int32, from int64) (source.Source, error) {
			return &fakeSource{log: l, topic: topic, partition: partition, at: from}, nil
		},
		Partitions: func(topic string) (int32, error) {
			if p, ok := l.topics[topic]; ok {
				return int32(len(p)), nil
			}
			return 0, errors.New("no topic " + topic)
		},
		HighWatermark: func(topic string, partition int32) (int64, error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			if int(partition) >= len(l.topics[topic]) {
				return 0, errors.New("no such partition")
			}
			return int64(len(l.topics[topic][partition])), nil
		},
		CommitEvery: 5 * time.Millisecond,
		Logger:      slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
}

type fakeSource struct {
	log       *fakeLog
	topic     string
	partition int32
	at        int64
}

func (s *fakeSource) Next(ctx context.Context) (source.Chunk, error) {
	for {
		s.log.mu.Lock()
		recs, grown := s.log.topics[s.topic][s.partition], s.log.grown
		if s.log.fail != nil {
			if err := s.log.fail(s.topic, s.partition, s.at); err != nil {
				s.log.mu.Unlock()
				return source.Chunk{}, err
			}
		}
		s.log.mu.Unlock()
		if n := min(len(recs)-int(s.at), s.log.chunk); n > 0 {
			c := source.Chunk{Topic: s.topic, Partition: s.partition, Records: recs[s.at : int(s.at)+n], Next: s.at + int64(n), HighWatermark: int64(len(recs))}
			s.at += int64(n)
			return c, nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return source.Chunk{}, ctx.Err()
		}
	}
}

func (s *fakeSource) SeekTo(offset int64) error { s.at = offset; return nil }
func (s *fakeSource) Close() error              { return nil }

func transactions() *schema.Stream {
	field := func(name string, k event.Kind, scale uint8) event.Field {
		return event.Field{Name: name, Type: event.Type{Kind: k, Scale: scale}}
	}
	s := &schema.Stream{
		Topic: "transactions", Partitions: 2, Format: schema.JSON, Lateness: 5 * time.Second,
		Schema: &event.Schema{Stream: "transactions", Alias: "tx", Time: 1, Key: 2, ID: 0, Fields: []event.Field{
			field("id", event.Int64, 0), field("ts", event.Timestamp, 0), field("card", event.String, 0), field("terminal", event.String, 0), field("amount", event.Decimal, 2),
			field("secs", event.Int64, 0), field("days", event.Int64, 0), field("fraud", event.Int64, 0), field("scenario", event.Int64, 0),
		}},
		Fields: []schema.Field{{From: "TRANSACTION_ID"}, {From: "TX_DATETIME", Layout: "%Y-%m-%d %H:%M:%S"}, {From: "CUSTOMER_ID"}, {From: "TERMINAL_ID"}, {From: "TX_AMOUNT"},
			{From: "TX_TIME_SECONDS"}, {From: "TX_TIME_DAYS"}, {From: "TX_FRAUD"}, {From: "TX_FRAUD_SCENARIO"}},
	}
	return s
}

// transaction is one record of the stream.
func transaction(i int) []byte {
	ts := time.Date(2018, 4, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(i) * time.Second)
	return fmt.Appendf(nil, `{"TRANSACTION_ID":%d,"TX_DATETIME":"%s","CUSTOMER_ID":"%d","TERMINAL_ID":"%d","TX_AMOUNT":%d.%02d,"TX_TIME_SECONDS":%d,"TX_TIME_DAYS":0,"TX_FRAUD":0,"TX_FRAUD_SCENARIO":0}`,
		i, ts.Format("2006-01-02 15:04:05"), i%5000, i%10000, i%300, i%100, i)
}

func open(t testing.TB, path string) *duck.DB {
	t.Helper()
	db, err := duck.Open(path, duck.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func temp(t testing.TB) *duck.DB {
	t.Helper()
	db := open(t, filepath.Join(t.TempDir(), "weir.duckdb"))
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// start runs a history until the returned function, which waits for its end.
func start(t testing.TB, db *duck.DB, streams []*schema.Stream, o Options) (*History, func()) {
	t.Helper()
	h, err := New(db, streams, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	var once sync.Once
	stop := func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return h, stop
}

func wait(t testing.TB, h *History, l *fakeLog, topic string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for i, recs := range l.topics[topic] {
		if len(recs) == 0 {
			continue
		}
		if err := h.WaitFor(ctx, topic, int32(i), int64(len(recs))-1); err != nil {
			t.Fatalf("%s[%d]: %v; %v", topic, i, err, h.Freshness())
		}
	}
}

// ask is the answer of a query as text.
func ask(t testing.TB, db *duck.DB, query string) string {
	t.Helper()
	c, err := db.Conn("main")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	rows, err := c.Query(context.Background(), "SELECT concat_ws('|', COLUMNS(*)) FROM ("+query+")")
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	var lines []string
	for {
		chunk, err := rows.Next()
		if err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		if chunk == nil {
			return strings.Join(lines, "\n")
		}
		for i := range chunk.Len() {
			var parts []string
			for j := range chunk.Columns {
				parts = append(parts, string(chunk.Columns[j].Bytes(i)))
			}
			lines = append(lines, strings.Join(parts, "|"))
		}
	}
}

func TestStreamTable(t *testing.T) {
	l, db := newFakeLog(map[string]int{"transactions": 2}), temp(t)
	for i := range 3000 {
		l.append("transactions", i%2, transaction(i))
	}
	l.append("transactions", 0, []byte(`{"TRANSACTION_ID":"no"}`), nil, []byte(`not json`))
	l.append("transactions", 0, transaction(3000))
	reg := prometheus.NewPedanticRegistry()
	o := l.options()
	o.Registerer = reg
	h, _ := start(t, db, []*schema.Stream{transactions()}, o)
	wait(t, h, l, "transactions")
	for query, want := range map[string]string{
		"SELECT count(*), count(DISTINCT id), sum(id)::BIGINT FROM transactions":                                "3001|3001|4501500",
		"SELECT * FROM transactions WHERE id = 2001":                                                            "2001|2018-04-01 00:33:21|2001|2001|201.01|2001|0|0|0|transactions|1|1000",
		"SELECT _partition, count(*), min(_offset), max(_offset) FROM transactions GROUP BY 1 ORDER BY 1":       "0|1501|0|1503\n1|1500|0|1499",
		`SELECT name, "partition", "offset", watermark, age_ms FROM weir_freshness WHERE name = 'transactions'`: "transactions|0|1504|2018-04-01 00:49:55|0\ntransactions|1|1500|2018-04-01 00:49:54|0",
	} {
		if got := ask(t, db, query); got != want {
			t.Errorf("%s:\n got %s\nwant %s", query, got, want)
		}
	}
	if got := testutil.ToFloat64(h.metrics.refused.WithLabelValues("transactions")); got != 3 {
		t.Errorf("%v records refused, want 3", got)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v %v", problems, err)
	}
	for _, f := range h.Freshness() {
		if f.Age != 0 {
			t.Errorf("caught up, but %+v", f)
		}
	}
}

// TestOwnTables puts records of each kind through, those that the fast parser does
// not take included.
func TestOwnTables(t *testing.T) {
	l, db := newFakeLog(nil), temp(t)
	at := event.FromTime(time.Date(2018, 4, 1, 0, 0, 31, 123456789, time.UTC))
	d := event.Decision{Time: at, Stream: "transactions", Key: "596", Action: "review", Score: 60.5, Rules: []string{"a", "b"}, Values: event.Values{{Name: "tx.amount", JSON: `"57.16"`}, {Name: "n", JSON: "3"}},
		Role: event.RoleLive, Program: "p1", Topic: "transactions", Partition: 1, Offset: 17}
	odd := d
	odd.Key, odd.Rules, odd.Late, odd.Offset = "a \"quoted\" ü", nil, true, 18
	l.append(event.TopicDecisions, 0, d.AppendJSON(nil), odd.AppendJSON(nil), []byte("rubbish"))
	a := event.Alert{ID: "transactions/1/17/a", Time: at, Rule: "a", Stream: "transactions", Key: "596", Severity: "high", Score: 60, Action: "review", Message: "card 596, ü", Values: d.Values, Topic: "transactions", Partition: 1, Offset: 17}
	l.append(event.TopicAlerts, 1, a.AppendJSON(nil))
	dl := event.Delivery{Time: at, Alert: a.ID, Rule: "a", Receiver: "hook", Attempt: 2, Outcome: "delivered", Status: 200, DurationMillis: 12.5, NextAttempt: event.MinTime, AlertPartition: 1, AlertOffset: 3}
	l.append(event.TopicDeliveries, 0, nil, dl.AppendJSON(nil))
	l.topics[event.TopicDeliveries][0][0].Key = []byte(positionsKey)
	l.append(event.TopicDeadLetters, 0,
		(&event.DeadLetter{Stream: "transactions", Reason: "type", Field: "amount", Detail: "x", File: "f.csv", Line: 7, Column: 3, Raw: []byte("a\x00b")}).AppendJSON(nil),
		(&event.DeadLetter{Stream: "transactions", Reason: "syntax", Topic: "transactions", Partition: 1, Offset: 99, Raw: []byte("{")}).AppendJSON(nil))
	h, _ := start(t, db, nil, l.options())
	for _, topic := range []string{event.TopicDecisions, event.TopicAlerts, event.TopicDeliveries, event.TopicDeadLetters} {
		wait(t, h, l, topic)
	}
	for query, want := range map[string]string{
		"SELECT * FROM decisions ORDER BY _offset": `2018-04-01 00:00:31.123456789|transactions|596|review|60.5|[a, b]|{"tx.amount":"57.16","n":3}|live|p1|false|transactions|1|17` + "\n" +
			`2018-04-01 00:00:31.123456789|transactions|a "quoted" ü|review|60.5|[]|{"tx.amount":"57.16","n":3}|live|p1|true|transactions|1|18`,
		`SELECT "values"->>'tx.amount' FROM decisions WHERE list_contains(rules, 'b')`: "57.16",
		"SELECT * FROM alerts":     `transactions/1/17/a|2018-04-01 00:00:31.123456789|a|transactions|596|high|60.0|review|card 596, ü|{"tx.amount":"57.16","n":3}|transactions|1|17`,
		"SELECT * FROM deliveries": `2018-04-01 00:00:31.123456789|transactions/1/17/a|a|hook|2|delivered|200||12.5||weir.alerts|1|3`,
		"SELECT stream, reason, field, file, line, \"column\", raw, _topic, _partition, _offset FROM deadletters ORDER BY reason": `transactions|syntax|||||{|transactions|1|99` + "\n" + `transactions|type|amount|f.csv|7|3|a\x00b|||`,
	} {
		if got := ask(t, db, query); got != want {
			t.Errorf("%s:\n got %s\nwant %s", query, got, want)
		}
	}
	for table, want := range map[string]float64{"decisions": 1, "deliveries": 0} {
		if got := testutil.ToFloat64(h.metrics.refused.WithLabelValues(table)); got != want {
			t.Errorf("%v records of %s refused, want %v", got, table, want)
		}
	}
}

// TestRestart stops and starts at random and expects each record once.
func TestRestart(t *testing.T) {
	r := seeds.Rand(t)
	l := newFakeLog(map[string]int{"transactions": 2})
	l.chunk = 97
	path := filepath.Join(t.TempDir(), "weir.duckdb")
	n := 0
	for range 6 {
		for range 500 + r.IntN(3000) {
			l.append("transactions", r.IntN(2), transaction(n))
			n++
		}
		db := open(t, path)
		h, stop := start(t, db, []*schema.Stream{transactions()}, l.options())
		if r.IntN(3) > 0 {
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(r.IntN(30))*time.Millisecond)
			_ = h.WaitFor(ctx, "transactions", 0, int64(len(l.topics["transactions"][0])-1)) // however far it comes
			cancel()
		}
		stop()
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	db := open(t, path)
	defer db.Close()
	h, stop := start(t, db, []*schema.Stream{transactions()}, l.options())
	wait(t, h, l, "transactions")
	stop()
	if got, want := ask(t, db, "SELECT count(*), count(DISTINCT id) FROM transactions"), fmt.Sprintf("%d|%d", n, n); got != want {
		t.Errorf("rows %s, want %s", got, want)
	}
}

// TestKill kills a process in the middle of filling, several times.
func TestKill(t *testing.T) {
	const total = 60_000
	fill := func() *fakeLog {
		l := newFakeLog(map[string]int{"transactions": 2})
		recs := make([][][]byte, 2)
		for i := range total {
			recs[i%2] = append(recs[i%2], transaction(i))
		}
		l.append("transactions", 0, recs[0]...)
		l.append("transactions", 1, recs[1]...)
		return l
	}
	if path := os.Getenv("WEIR_TEST_KILL"); path != "" {
		l := fill()
		db := open(t, path)
		o := l.options()
		o.CommitRows = 5000
		h, _ := start(t, db, []*schema.Stream{transactions()}, o)
		fmt.Println("started")
		wait(t, h, l, "transactions")
		fmt.Println("filled")
		time.Sleep(time.Hour) // until it is killed
	}
	path := filepath.Join(t.TempDir(), "weir.duckdb")
	r := seeds.Rand(t)
	for range 3 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKill$")
		cmd.Env = append(os.Environ(), "WEIR_TEST_KILL="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var line string
		if _, err := fmt.Fscanln(out, &line); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(20+r.IntN(200)) * time.Millisecond) // any moment will do
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
	}
	db := open(t, path)
	defer db.Close()
	if db.Moved() {
		t.Fatal("the database was taken for damaged")
	}
	before := ask(t, db, "SELECT count(*) = count(DISTINCT id) AND count(*) = (SELECT sum(next) FROM weir_state.positions WHERE name = 'transactions') FROM transactions")
	if before != "true" {
		t.Error("after a kill, the rows are not those of the positions")
	}
	l := fill()
	h, stop := start(t, db, []*schema.Stream{transactions()}, l.options())
	wait(t, h, l, "transactions")
	stop()
	if got, want := ask(t, db, "SELECT count(*), count(DISTINCT id) FROM transactions"), fmt.Sprintf("%d|%d", total, total); got != want {
		t.Errorf("rows %s, want %s", got, want)
	}
}

// TestRefill changes what is declared, and the log.
func TestRefill(t *testing.T) {
	l, db := newFakeLog(map[string]int{"transactions": 2}), temp(t)
	for i := range 1000 {
		l.append("transactions", i%2, transaction(i))
	}
	check := func(s []*schema.Stream, query, want string) {
		t.Helper()
		h, stop := start(t, db, s, l.options())
		defer stop()
		if len(s) > 0 {
			wait(t, h, l, "transactions")
		}
		if got := ask(t, db, query); got != want {
			t.Errorf("%s:\n got %s\nwant %s", query, got, want)
		}
	}
	check([]*schema.Stream{transactions()}, "SELECT count(*) FROM transactions", "1000")

	more := transactions()
	more.Schema.Fields = append(more.Schema.Fields, event.Field{Name: "again", Type: event.Type{Kind: event.Double}})
	more.Fields = append(more.Fields, schema.Field{From: "TX_AMOUNT"})
	check([]*schema.Stream{more}, "SELECT count(*), max(again) FROM transactions", "1000|299.99")

	l.topics["transactions"] = make([][]source.Record, 3) // deleted and made anew
	for i := range 300 {
		l.append("transactions", i%3, transaction(i))
	}
	check([]*schema.Stream{more}, "SELECT count(*) FROM transactions", "300")
	check(nil, "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'transactions'", "0")
	check([]*schema.Stream{transactions()}, "SELECT count(*) FROM transactions", "300")
}

func TestNames(t *testing.T) {
	l, db := newFakeLog(map[string]int{"transactions": 1}), temp(t)
	for _, c := range []struct {
		change func(*schema.Stream)
		want   string
	}{
		{func(s *schema.Stream) { s.Schema.Stream = "Alerts" }, "collide with Alerts"},
		{func(s *schema.Stream) { s.Schema.Stream = "weir_freshness" }, "collide with weir_freshness"},
		{func(s *schema.Stream) { s.Schema.Fields[3].Name = "CARD" }, "collide with the column"},
		{func(s *schema.Stream) { s.Schema.Fields[3].Name = "_offset" }, "collide with the column"},
		{func(s *schema.Stream) { s.Topic = "nosuch" }, "no topic nosuch"},
	} {
		s := transactions()
		c.change(s)
		if _, err := New(db, []*schema.Stream{s}, l.options()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
	s := transactions()
	s.Schema.Stream = `odd "name'; DROP TABLE x`
	s.Schema.Fields[2].Name = `a "b' c`
	l.append("transactions", 0, transaction(1))
	h, _ := start(t, db, []*schema.Stream{s}, l.options())
	wait(t, h, l, "transactions")
	if got := ask(t, db, `SELECT "a ""b' c" FROM "odd ""name'; DROP TABLE x"`); got != "1" {
		t.Errorf("got %s", got)
	}
}

// TestErrors has one partition fail while the others go on.
func TestErrors(t *testing.T) {
	l, db := newFakeLog(map[string]int{"transactions": 2}), temp(t)
	for i := range 2000 {
		l.append("transactions", i%2, transaction(i))
	}
	broken := true
	l.fail = func(topic string, partition int32, at int64) error {
		if broken && topic == "transactions" && partition == 1 && at >= 500 {
			return errors.New("corrupt batch")
		}
		return nil
	}
	h, _ := start(t, db, []*schema.Stream{transactions()}, l.options())
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := h.WaitFor(ctx, "transactions", 0, 999); err != nil {
		t.Fatal(err)
	}
	if err := h.WaitFor(ctx, "transactions", 1, 499); err != nil {
		t.Fatal(err)
	}
	for _, f := range h.Freshness() {
		if f.Topic == "transactions" && f.Partition == 1 && (f.Offset != 500 || f.Age <= 0) {
			t.Errorf("freshness of the broken partition: %+v", f)
		}
	}
	l.mu.Lock()
	broken = false
	l.mu.Unlock()
	wait(t, h, l, "transactions")
}

// TestCheckpoint keeps the write-ahead log small while a query holds its snapshot
// open, and the query's answer whole.
func TestCheckpoint(t *testing.T) {
	l, db := newFakeLog(map[string]int{"transactions": 1}), temp(t)
	more := func(n int) {
		at := len(l.topics["transactions"][0])
		recs := make([][]byte, n)
		for i := range recs {
			recs[i] = transaction(at + i)
		}
		l.append("transactions", 0, recs...)
	}
	more(20_000)
	o := l.options()
	o.CheckpointBytes = 256 << 10
	h, _ := start(t, db, []*schema.Stream{transactions()}, o)
	wait(t, h, l, "transactions")
	c, err := db.Conn("main")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	rows, err := c.Query(context.Background(), "SELECT id FROM transactions")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for range 5 {
		more(20_000)
		wait(t, h, l, "transactions")
	}
	// A commit finds the log beyond its size and folds it, before the next.
	more(1)
	wait(t, h, l, "transactions")
	more(1)
	wait(t, h, l, "transactions")
	if size := db.WALSize(); size > 4<<20 {
		t.Errorf("under an open query the write-ahead log has grown to %d bytes", size)
	}
	seen := 0
	for {
		chunk, err := rows.Next()
		if err != nil {
			t.Fatal(err)
		}
		if chunk == nil {
			break
		}
		seen += chunk.Len()
	}
	if seen != 20_000 {
		t.Errorf("the open query saw %d rows, want 20000", seen)
	}
	if n := testutil.ToFloat64(h.metrics.errors); n != 0 {
		t.Errorf("%v errors", n)
	}
	if got := ask(t, db, "SELECT count(*), count(DISTINCT id) FROM transactions"); got != "120002|120002" {
		t.Errorf("rows %s", got)
	}
}

// realTransactions are the first n rows of the file as JSON records.
func realTransactions(t testing.TB, n int) [][]byte {
	f, err := os.Open(published.File(t, "transactions.csv.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	r := csv.NewReader(z)
	r.ReuseRecord = true
	head, err := r.Read()
	if err != nil {
		t.Fatal(err)
	}
	head = append([]string(nil), head...)
	var out [][]byte
	for len(out) < n {
		row, err := r.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b := []byte{'{'}
		for i, v := range row {
			if i > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendQuote(b, head[i])
			b = append(b, ':')
			if i >= 1 && i <= 3 {
				b = strconv.AppendQuote(b, v)
			} else {
				b = append(b, v...)
			}
		}
		out = append(out, append(b, '}'))
	}
	return out
}

// TestRealTransactions fills from a part of the real file and compares with the
// figures that the file's first 50,000 rows have.
func TestRealTransactions(t *testing.T) {
	l, db := newFakeLog(map[string]int{"transactions": 2}), temp(t)
	recs := realTransactions(t, 50_000)
	byKey := make([][][]byte, 2)
	for i, r := range recs {
		byKey[i%2] = append(byKey[i%2], r)
	}
	for p, r := range byKey {
		l.append("transactions", p, r...)
	}
	l.chunk = 5000
	h, _ := start(t, db, []*schema.Stream{transactions()}, l.options())
	wait(t, h, l, "transactions")
	if got := ask(t, db, "SELECT count(*), min(ts), max(id), count(*) FILTER (WHERE amount > 220), count(DISTINCT card) FROM transactions"); got != want50k {
		t.Errorf("got %s, want %s", got, want50k)
	}
	if got := ask(t, db, "SELECT id, ts, card, terminal, amount, secs, days, fraud, scenario FROM transactions WHERE id IN (0, 2) ORDER BY id"); got != "0|2018-04-01 00:00:31|596|3156|57.16|31|0|0|0\n2|2018-04-01 00:07:56|2|1365|146.00|476|0|0|0" {
		t.Errorf("got %s", got)
	}
}

// By zcat | awk over the file.
const want50k = "50000|2018-04-01 00:00:31|49999|28|4749"

// BenchmarkFill measures decode and append of the real records, each part by
// itself and both together.
func BenchmarkFill(b *testing.B) {
	recs := realTransactions(b, 200_000)
	records := make([]source.Record, len(recs))
	bytes := 0
	for i, r := range recs {
		records[i] = source.Record{Offset: int64(i), Value: r}
		bytes += len(r)
	}
	s := transactions()
	tab, err := streamTable(s)
	if err != nil {
		b.Fatal(err)
	}
	const chunk = 5000
	parts := func(b *testing.B, decoding, appending bool) {
		decode, err := tab.decoder(0, nil)
		if err != nil {
			b.Fatal(err)
		}
		l, db := newFakeLog(map[string]int{"transactions": 1}), temp(b)
		if _, err := New(db, []*schema.Stream{s}, l.options()); err != nil {
			b.Fatal(err)
		}
		w := db.Writer()
		r := &run{part: &partition{}}
		r.fill(decode, source.Chunk{Records: records[:chunk], Next: chunk})
		b.ReportAllocs()
		b.SetBytes(int64(bytes / len(recs) * chunk))
		rows, at := 0, 0
		began := cpuTime(b)
		for b.Loop() {
			if decoding {
				r.fill(decode, source.Chunk{Records: records[at : at+chunk], Next: int64(at + chunk)})
				if at += chunk; at == len(records) {
					at = 0
				}
			}
			if appending {
				if rows%100_000 == 0 {
					if err := w.Begin(); err != nil {
						b.Fatal(err)
					}
				}
				t, err := w.Table("main", "transactions")
				if err != nil {
					b.Fatal(err)
				}
				if err := t.Append(r.cols); err != nil {
					b.Fatal(err)
				}
			}
			if rows += chunk; appending && rows%100_000 == 0 {
				if err := w.Commit(); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(float64(cpuTime(b)-began)/float64(rows), "cpu-ns/row")
		w.Rollback()
		b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
	}
	b.Run("decode", func(b *testing.B) { parts(b, true, false) })
	b.Run("append", func(b *testing.B) { parts(b, false, true) })
	b.Run("both", func(b *testing.B) { parts(b, true, true) })
}

// cpuTime is the processor time of this process, in nanoseconds: on a busy machine
// it says more than the clock does.
func cpuTime(b *testing.B) int64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// BenchmarkRun fills a table with 200,000 real records through Run.
func BenchmarkRun(b *testing.B) {
	recs := realTransactions(b, 200_000)
	for b.Loop() {
		b.StopTimer()
		l, db := newFakeLog(map[string]int{"transactions": 2}), temp(b)
		l.chunk = 5000
		l.append("transactions", 0, recs[:100_000]...)
		l.append("transactions", 1, recs[100_000:]...)
		o := l.options()
		o.CommitEvery = 200 * time.Millisecond
		b.StartTimer()
		h, stop := start(b, db, []*schema.Stream{transactions()}, o)
		wait(b, h, l, "transactions")
		b.StopTimer()
		stop()
		b.StartTimer()
	}
	b.ReportMetric(float64(b.N*len(recs))/b.Elapsed().Seconds(), "rows/s")
}

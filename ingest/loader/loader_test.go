package loader_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/loader"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/log/broker"
	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/test/loopback"
	"github.com/weirstream/weir/test/seeds"
)

var discard = slog.New(slog.DiscardHandler)

var quiet = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))

// node is a broker in this process.
type node struct {
	t    testing.TB
	dir  string
	addr string
	log  *commitlog.Log
	stop func()
}

func startNode(t testing.TB) *node {
	n := &node{t: t, dir: t.TempDir(), addr: loopback.Any()}
	n.start()
	t.Cleanup(func() { n.stop() })
	if _, err := n.log.CreateTopic(commitlog.TopicSpec{Name: event.TopicDeadLetters, Partitions: 2}); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *node) start() {
	n.t.Helper()
	l, err := commitlog.Open(context.Background(), n.dir, commitlog.Options{Logger: quiet})
	if err != nil {
		n.t.Fatal(err)
	}
	s, err := broker.New(l, broker.Options{Logger: quiet, DrainTimeout: 100 * time.Millisecond})
	if err != nil {
		n.t.Fatal(err)
	}
	ln, err := net.Listen("tcp", n.addr)
	if err != nil {
		n.t.Fatal(err)
	}
	n.addr, n.log = ln.Addr().String(), l
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ln) }()
	n.stop = func() {
		cancel()
		if err := <-served; err != nil {
			n.t.Error(err)
		}
		if err := l.Close(); err != nil {
			n.t.Error(err)
		}
		n.stop = func() {}
	}
}

// records is every record of a topic, by partition.
func (n *node) records(topic string) [][]record.Record {
	n.t.Helper()
	t, ok := n.log.Topic(topic)
	if !ok {
		return nil
	}
	var out [][]record.Record
	for _, p := range t.Partitions() {
		if err := p.Flush(context.Background()); err != nil {
			n.t.Fatal(err)
		}
		var recs []record.Record
		c := p.NewCursor(p.Start())
		for {
			b, err := p.Read(c, 1<<20)
			if err != nil {
				n.t.Fatal(err)
			}
			if len(b) == 0 {
				break
			}
			var r record.Reader
			r.Reset(bytes.Clone(b))
			for {
				rec, err := r.Next()
				if err != nil {
					break
				}
				one := *rec
				one.Value, one.Key, one.Headers = bytes.Clone(rec.Value), bytes.Clone(rec.Key), nil
				recs = append(recs, one)
			}
		}
		out = append(out, recs)
	}
	return out
}

func (n *node) count(topic string) int {
	total := 0
	for _, p := range n.records(topic) {
		total += len(p)
	}
	return total
}

// transactions is the stream of transactions.csv.gz.
func transactions(format schema.Format) *schema.Stream {
	return &schema.Stream{
		Schema: &event.Schema{Stream: "transactions", Alias: "tx", Fields: []event.Field{
			{Name: "id", Type: event.Type{Kind: event.Int64}},
			{Name: "ts", Type: event.Type{Kind: event.Timestamp}},
			{Name: "card", Type: event.Type{Kind: event.String}},
			{Name: "merchant", Type: event.Type{Kind: event.String}},
			{Name: "amount", Type: event.Type{Kind: event.Decimal, Scale: 2}},
			{Name: "fraud", Type: event.Type{Kind: event.Bool}, Optional: true},
		}, Time: 1, Key: 2, ID: 0},
		Topic: "transactions", Partitions: 3, Format: format,
		Columns: []string{"TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_FRAUD"},
		Fields: []schema.Field{{From: "TRANSACTION_ID"}, {From: "TX_DATETIME", Layout: "%Y-%m-%d %H:%M:%S"}, {From: "CUSTOMER_ID"},
			{From: "TERMINAL_ID"}, {From: "TX_AMOUNT"}, {From: "TX_FRAUD"}},
	}
}

// generated writes a file of n rows of which every badth is bad, and gives its
// path and the number of bad rows.
func generated(t testing.TB, name string, n, bad int, seed uint64) (string, int) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 1))
	var b bytes.Buffer
	b.WriteString("TRANSACTION_ID,TX_DATETIME,CUSTOMER_ID,TERMINAL_ID,TX_AMOUNT,TX_TIME_SECONDS,TX_FRAUD\n")
	at := time.Date(2018, 4, 1, 0, 0, 0, 0, time.UTC)
	dead := 0
	for i := range n {
		at = at.Add(time.Duration(rnd.IntN(60)) * time.Second)
		amount := fmt.Sprintf("%d.%02d", rnd.IntN(500), rnd.IntN(100))
		if bad > 0 && i%bad == bad-1 {
			amount = "a lot"
			dead++
		}
		merchant := fmt.Sprint(rnd.IntN(10000))
		if rnd.IntN(50) == 0 {
			merchant = "\"a \"\"quoted\"\"\nname\""
		}
		fmt.Fprintf(&b, "%d,%s,%d,%s,%s,%d,%d\n", i, at.Format(time.DateTime), rnd.IntN(5000), merchant, amount, i, rnd.IntN(2))
	}
	path := filepath.Join(t.TempDir(), name)
	data := b.Bytes()
	if strings.HasSuffix(name, ".gz") {
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		w.Write(data)
		w.Close()
		data = z.Bytes()
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, dead
}

// checkRows wants each row of a file of transactions exactly once, and, where its
// rows are numbered in order, in order in its partition.
func checkRows(t *testing.T, n *node, rows, dead int, ordered bool) {
	t.Helper()
	seen := map[string]bool{}
	for p, recs := range n.records("transactions") {
		last := -1
		for _, r := range recs {
			var v struct{ TRANSACTION_ID json.Number }
			if err := json.Unmarshal(r.Value, &v); err != nil {
				t.Fatalf("%s: %v", r.Value, err)
			}
			id := v.TRANSACTION_ID.String()
			if seen[id] {
				t.Fatalf("row %s is there twice", id)
			}
			seen[id] = true
			k, _ := v.TRANSACTION_ID.Int64()
			if ordered && int(k) < last {
				t.Fatalf("partition %d: row %d after %d", p, k, last)
			}
			last = int(k)
		}
	}
	if len(seen) != rows-dead {
		t.Fatalf("%d rows, expected %d", len(seen), rows-dead)
	}
	lines := map[int64]bool{}
	for _, recs := range n.records(event.TopicDeadLetters) {
		for _, r := range recs {
			var d event.DeadLetter
			if err := json.Unmarshal(r.Value, &d); err != nil {
				t.Fatal(err)
			}
			if lines[d.Line] {
				t.Fatalf("dead letter of line %d is there twice", d.Line)
			}
			lines[d.Line] = true
			if d.Field != "amount" || d.Reason != "type" || d.Column == 0 {
				t.Fatalf("%+v", d)
			}
		}
	}
	if len(lines) != dead {
		t.Fatalf("%d dead letters, expected %d", len(lines), dead)
	}
}

func load(n *node, path string, s *schema.Stream) (loader.Progress, error) {
	return loader.Load(context.Background(), path, loader.Options{Addr: n.addr, Stream: s, Logger: quiet})
}

func TestLoad(t *testing.T) {
	for _, name := range []string{"rows.csv", "rows.csv.gz"} {
		t.Run(name, func(t *testing.T) {
			n := startNode(t)
			path, dead := generated(t, name, 12_000, 1000, 1)
			p, err := load(n, path, transactions(schema.JSON))
			if err != nil || p.Accepted != 12_000-int64(dead) || p.Dead != int64(dead) || p.Lines != 12_000 || p.BytesRead != p.BytesTotal {
				t.Fatalf("%v %+v", err, p)
			}
			checkRows(t, n, 12_000, dead, true)
			p, err = load(n, path, transactions(schema.JSON))
			if err != nil || !p.Already || p.Accepted+p.Dead != 0 || p.Skipped != 12_000 {
				t.Fatalf("second load: %v %+v", err, p)
			}
			checkRows(t, n, 12_000, dead, true)
			// Again: everything is there twice, and an interrupted repetition resumes.
			p, err = loader.Load(context.Background(), path, loader.Options{Addr: n.addr, Stream: transactions(schema.JSON), Again: true, Logger: quiet})
			if err != nil || p.Accepted != 12_000-int64(dead) {
				t.Fatalf("again: %v %+v", err, p)
			}
			p, err = load(n, path, transactions(schema.JSON))
			if err != nil || !p.Already || n.count("transactions") != 2*(12_000-dead) {
				t.Fatalf("after again: %v %+v", err, p)
			}
		})
	}
}

// TestMended: a file of the same name and size in which one digit in the middle was
// mended is another file.
func TestMended(t *testing.T) {
	n := startNode(t)
	path, dead := generated(t, "rows.csv", 12_000, 1000, 1)
	if _, err := load(n, path, transactions(schema.JSON)); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := len(text) / 2; ; at++ {
		if text[at] == '1' {
			text[at] = '2'
			break
		}
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := load(n, path, transactions(schema.JSON))
	if err != nil || p.Already || p.Skipped != 0 || p.Accepted+p.Dead != 12_000 {
		t.Fatalf("%v %+v, with %d dead letters before", err, p, dead)
	}
}

// TestInterrupted cancels a load at random moments until it is through.
func TestInterrupted(t *testing.T) {
	seed := seeds.One(t)
	rnd := rand.New(rand.NewPCG(seed, 2))
	n := startNode(t)
	const rows = 60_000
	path, dead := generated(t, "rows.csv", rows, 777, seed)
	for round := 0; ; round++ {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(20+rnd.IntN(100+10*round))*time.Millisecond)
		p, err := loader.Load(ctx, path, loader.Options{Addr: n.addr, Stream: transactions(schema.JSON), Logger: quiet})
		cancel()
		if err == nil {
			t.Logf("through after %d interruptions: %+v", round, p)
			break
		}
		if !errors.Is(err, loader.ErrInterrupted) && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if round == 40 {
			if _, err := load(n, path, transactions(schema.JSON)); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	checkRows(t, n, rows, dead, true)
}

// TestBrokerRestarts stops and starts the broker while a load runs.
func TestBrokerRestarts(t *testing.T) {
	n := startNode(t)
	const rows = 60_000
	path, dead := generated(t, "rows.csv", rows, 777, 3)
	reached := make(chan struct{}, 100)
	done := make(chan error, 1)
	go func() {
		_, err := loader.Load(context.Background(), path, loader.Options{Addr: n.addr, Stream: transactions(schema.JSON), Logger: slog.New(slog.DiscardHandler),
			Progress: func(loader.Progress) {
				select {
				case reached <- struct{}{}:
				default:
				}
			}})
		done <- err
	}()
	for range 3 {
		select {
		case <-reached:
			n.stop()
			n.start()
		case err := <-done:
			done <- err
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	checkRows(t, n, rows, dead, true)
}

// TestTwoAtOnce resumes an interrupted load twice at the same time: what the one
// has on its way meets what the other sends, as after a kill and a quick restart.
// Both succeed, or one of them says that the other is at work.
func TestTwoAtOnce(t *testing.T) {
	n := startNode(t)
	const rows = 60_000
	path, dead := generated(t, "rows.csv", rows, 777, 21)
	topic, err := n.log.CreateTopic(commitlog.TopicSpec{Name: "transactions", Partitions: 3})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		p, _ := topic.Partition(0)
		if p.Wait(ctx, 0) == nil {
			cancel()
		}
	}()
	if _, err := loader.Load(ctx, path, loader.Options{Addr: n.addr, Stream: transactions(schema.JSON), Logger: discard}); !errors.Is(err, loader.ErrInterrupted) {
		t.Fatalf("not interrupted: %v", err)
	}
	errs := make(chan error, 3)
	for range 3 {
		go func() {
			_, err := load(n, path, transactions(schema.JSON))
			errs <- err
		}()
	}
	for range 3 {
		if err := <-errs; err != nil && !strings.Contains(err.Error(), "another load of this file") {
			t.Fatal(err)
		}
	}
	if _, err := load(n, path, transactions(schema.JSON)); err != nil {
		t.Fatal(err)
	}
	checkRows(t, n, rows, dead, true)
}

package rules

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/weirstream/weir/cep/engine"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/sink"
	"github.com/weirstream/weir/ingest/source"
	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/log/vfs"
	"github.com/weirstream/weir/test/published"
	"github.com/weirstream/weir/test/seeds"
)

// handbook is the stream of transactions.csv.gz, its lines as they are.
func handbook(partitions int32) *schema.Stream {
	fields := []event.Field{
		{Name: "id", Type: event.Type{Kind: event.Int64}},
		{Name: "ts", Type: event.Type{Kind: event.Timestamp}},
		{Name: "card", Type: event.Type{Kind: event.String}},
		{Name: "terminal", Type: event.Type{Kind: event.String}},
		{Name: "amount", Type: event.Type{Kind: event.Decimal, Scale: 2}},
	}
	return &schema.Stream{Topic: "transactions", Partitions: partitions, Format: schema.CSV, Delimiter: ',',
		Columns: []string{"TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_TIME_SECONDS", "TX_TIME_DAYS", "TX_FRAUD", "TX_FRAUD_SCENARIO"},
		Fields:  []schema.Field{{From: "TRANSACTION_ID"}, {From: "TX_DATETIME", Layout: "%Y-%m-%d %H:%M:%S"}, {From: "CUSTOMER_ID"}, {From: "TERMINAL_ID"}, {From: "TX_AMOUNT"}},
		Schema:  &event.Schema{Stream: "transactions", Alias: "tx", Fields: fields, Time: 1, Key: 2, ID: 0}}
}

// expected counts by hand what the two rules of TestHandbook must find.
type expected struct {
	rows, large, often int64
	recent             map[string][]int64
}

func (e *expected) line(line []byte) (card []byte) {
	f := bytes.Split(line, []byte(","))
	e.rows++
	if amount, _ := strconv.ParseFloat(string(f[4]), 64); amount > 220 {
		e.large++
	}
	at, _ := strconv.ParseInt(string(f[5]), 10, 64)
	times := append(e.recent[string(f[2])], at)
	for times[0] <= at-3600 {
		times = times[1:]
	}
	e.recent[string(f[2])] = times
	if len(times) >= 4 {
		e.often++
	}
	return f[2]
}

// testLog is a log on disk with everything the engine needs.
func testLog(t testing.TB, s *schema.Stream) *commitlog.Log {
	t.Helper()
	l, err := commitlog.Open(t.Context(), t.TempDir(), commitlog.Options{NoSync: true, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	for topic, n := range map[string]int32{s.Topic: s.Partitions, event.TopicDecisions: 2, event.TopicAlerts: 2, event.TopicDeadLetters: 1} {
		if _, err := l.CreateTopic(commitlog.TopicSpec{Name: topic, Partitions: n}); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// produce writes up to limit rows of the file, partitioned by card.
func produce(t testing.TB, l *commitlog.Log, s *schema.Stream, limit int64) *expected {
	t.Helper()
	file, err := os.Open(published.File(t, "transactions.csv.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	gz, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	want := &expected{recent: map[string][]int64{}}
	builders := make([]record.Builder, s.Partitions)
	flush := func(p int32) {
		b := &builders[p]
		if b.Count() == 0 {
			return
		}
		batch, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		part, err := l.Partition(s.Topic, p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := part.Append(t.Context(), batch, 1); err != nil {
			t.Fatal(err)
		}
		b.Reset(record.BatchOptions{})
	}
	for i := range builders {
		builders[i].Reset(record.BatchOptions{})
	}
	sc := bufio.NewScanner(gz)
	sc.Scan() // the header
	for want.rows < limit && sc.Scan() {
		card := want.line(sc.Bytes())
		p := sink.Partition(card, s.Partitions)
		builders[p].Append(0, card, sc.Bytes(), nil)
		if builders[p].Len() > 256<<10 {
			flush(p)
		}
	}
	if sc.Err() != nil {
		t.Fatal(sc.Err())
	}
	for p := range s.Partitions {
		flush(p)
	}
	return want
}

func engineOptions(l *commitlog.Log, fs vfs.FS) engine.Options {
	open := func(_ context.Context, topic string, partition int32, from int64) (source.Source, error) {
		p, err := l.Partition(topic, partition)
		if err != nil {
			return nil, err
		}
		return source.NewPartition(p, source.Options{From: from}), nil
	}
	return engine.Options{FS: fs, Dir: "checkpoints", Open: open, Sink: sink.NewLocal(l), Logger: quiet(),
		OutputPartitions: map[string]int32{event.TopicDecisions: 2, event.TopicAlerts: 2}, CheckpointEvery: 200 * time.Millisecond}
}

// decideAll runs an engine until every partition is decided to its end.
func decideAll(t testing.TB, s *schema.Stream, p *Program, o engine.Options, l *commitlog.Log) []engine.ShardStatus {
	t.Helper()
	e, err := engine.New([]*schema.Stream{s}, p, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for finished := false; !finished; {
		select {
		case err := <-done:
			t.Fatalf("the engine stopped: %v", err)
		case <-tick.C:
		}
		finished = true
		for _, st := range e.Status() {
			part, err := l.Partition(st.Topic, st.Partition)
			if err != nil {
				t.Fatal(err)
			}
			finished = finished && st.Cursor >= part.End()
		}
	}
	cancel()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	return e.Status()
}

// TestHandbook runs the two rules of the walking appliance over the published
// transactions: the whole file with WEIR_LONG=1, else a part of it.
func TestHandbook(t *testing.T) {
	limit := int64(250_000)
	if testing.Short() {
		limit = 50_000
	}
	if seeds.Long(t) {
		limit = 1 << 62
	}
	s := handbook(4)
	l := testLog(t, s)
	want := produce(t, l, s, limit)
	if limit == 1<<62 && (want.rows != 1_754_155 || want.large != 3258 || want.often != 1264) {
		t.Fatalf("the file has %d rows, %d large, %d often", want.rows, want.large, want.often)
	}
	p, err := Compile(Set{
		{ID: "large", Stream: "transactions", When: `tx.amount > 220`, Action: "alert", Severity: "low", Mode: "live"},
		{ID: "often", Stream: "transactions", When: `last("1h").by(tx.card).count() >= 4`, Action: "review", Severity: "high", Mode: "live",
			Message: `"card " + tx.card + ": " + string(last("1h").by(tx.card).count()) + " in an hour"`},
	}, Catalog{Streams: []*schema.Stream{s}})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	status := decideAll(t, s, p, engineOptions(l, vfs.NewMem(1)), l)
	took := time.Since(start)
	var got engine.ShardStatus
	for _, st := range status {
		got.Events += st.Events
		got.Alerts += st.Alerts
		got.DeadLetters += st.DeadLetters
		got.Late += st.Late
	}
	if got.Events != want.rows || got.Alerts != want.large+want.often || got.DeadLetters != 0 || got.Late != 0 {
		t.Errorf("engine: %+v; want %d events, %d alerts", got, want.rows, want.large+want.often)
	}
	for i, n := range []int64{want.large, want.often} {
		if r := p.Rules()[i]; r.Fired != n || r.Evaluated != want.rows || r.Errors != 0 || r.NoData != 0 {
			t.Errorf("rule %s fired %d times of %d (%s), want %d of %d", r.ID, r.Fired, r.Evaluated, r.LastError, n, want.rows)
		}
	}
	t.Logf("%d events, %d + %d alerts in %v: %.0f events/s", got.Events, want.large, want.often, took, float64(got.Events)/took.Seconds())
	// The records themselves, and none twice.
	seen := map[string]bool{}
	for _, st := range []int32{0, 1} {
		part, err := l.Partition(event.TopicAlerts, st)
		if err != nil {
			t.Fatal(err)
		}
		src := source.NewPartition(part, source.Options{To: part.HighWatermark()})
		for {
			c, err := src.Next(t.Context())
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range c.Records {
				var a event.Alert
				if err := a.UnmarshalJSON(r.Value); err != nil {
					t.Fatal(err)
				}
				if seen[a.ID] {
					t.Errorf("%s twice", a.ID)
				}
				seen[a.ID] = true
			}
		}
	}
	if int64(len(seen)) != want.large+want.often {
		t.Errorf("%d alerts in the topic, want %d", len(seen), want.large+want.often)
	}
}

// BenchmarkShard is 400,000 events through a whole shard, of which ns/event tells
// one: read from the log, decode,
// window, rules, outputs. Four rules, of which few fire.
func BenchmarkShard(b *testing.B) {
	s := handbook(1)
	l := testLog(b, s)
	want := produce(b, l, s, 400_000)
	p, err := Compile(benchRules(), Catalog{Streams: []*schema.Stream{s}})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	n := int64(0)
	for b.Loop() {
		o := engineOptions(l, vfs.NewMem(1))
		o.CheckpointEvery = time.Hour
		decideAll(b, s, p, o, l)
		n += want.rows
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/event")
}

func benchRules() Set {
	set := Set{}
	for i, when := range []string{
		`tx.amount > 220`,
		`last("1h").by(tx.card).count() >= 4`,
		`tx.amount > 150 && last("1d").by(tx.card).sum(tx.amount) > 1500`,
		`tx.amount >= 100 && tx.amount > 10 * last("7d").by(tx.card).mean(tx.amount)`,
	} {
		set = append(set, Rule{ID: fmt.Sprint("r", i), Stream: "transactions", When: when, Action: "alert", Mode: "live"})
	}
	return set
}

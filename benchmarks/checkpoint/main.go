package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/weirstream/weir/benchmarks/machine"
	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/cep/engine"
	"github.com/weirstream/weir/cep/window"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/sink"
	"github.com/weirstream/weir/ingest/source"
	"github.com/weirstream/weir/log/vfs"
)

type options struct {
	keys, rate     int
	every, measure time.Duration
	dir, results   string
	only           string
	restart        bool
}

func main() {
	var o options
	flag.IntVar(&o.keys, "keys", 1_000_000, "keys")
	flag.IntVar(&o.rate, "rate", 10_000, "events per second")
	flag.DurationVar(&o.every, "every", 5*time.Second, "time between checkpoints")
	flag.DurationVar(&o.measure, "measure", 40*time.Second, "time measured, for each distribution of keys")
	flag.StringVar(&o.only, "only", "", "uniform or zipf: measure that distribution of keys only")
	flag.BoolVar(&o.restart, "restart", true, "measure a restart, too")
	flag.StringVar(&o.dir, "dir", "", "directory for checkpoints; empty: a temporary one")
	flag.StringVar(&o.results, "out", "", "file to write the figures to as well, as Markdown")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := machine.Record(o.results, "# What checkpoints cost\n\nWritten by `go run ./benchmarks/checkpoint -out benchmarks/checkpoint/results.md`.",
		func(out io.Writer) error { return measure(ctx, &o, out) })
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchmark:", err)
		os.Exit(1)
	}
}

func measure(ctx context.Context, o *options, out io.Writer) error {
	fmt.Fprintf(out, "machine   %s\n", machine.Describe())
	fmt.Fprintf(out, "settings  one shard, %d keys in 8 windows of 1 h and less, 2 events of each before the first checkpoint, then %d events/s for %v, a checkpoint every %v\n", o.keys, o.rate, o.measure, o.every)
	fmt.Fprintf(out, "held is the time from when the shard gets records, up to %d, or hears that there are none, to when it asks again\n\n", o.rate/100)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "keys\tcheckpoints\tMiB each, the first two\tMiB each, the others\tMiB kept\theld p50 ms\tp99 ms\tp99.9 ms\tmax ms\trestart s\t")
	for _, zipf := range []bool{false, true} {
		if o.only != "" && (o.only == "zipf") != zipf {
			continue
		}
		if err := one(ctx, o, zipf, w); err != nil {
			return err
		}
	}
	return w.Flush()
}

func one(ctx context.Context, o *options, zipf bool, out io.Writer) error {
	dir, err := os.MkdirTemp(o.dir, "checkpoints")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	files := &counting{FS: vfs.OS}
	feed := newFeed(o, zipf)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	e, err := engine.New([]*schema.Stream{stream()}, program{}, engine.Options{
		FS: files, Dir: dir, Sink: &forgetful{}, CheckpointEvery: o.every, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Open: func(context.Context, string, int32, int64) (source.Source, error) { return feed, nil },
	})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	select {
	case <-feed.filled:
	case err := <-ended:
		return err
	}
	first, firstCount := files.settled(ctx)
	feed.measuring.Store(true)
	files.manifests.Store(0)
	files.bytes.Store(0)
	select {
	case <-time.After(o.measure):
	case <-ctx.Done():
	}
	feed.measuring.Store(false)
	bytes, n := files.bytes.Load(), max(1, files.manifests.Load())
	cancel()
	if err := <-ended; err != nil {
		return err
	}
	kept, err := size(dir)
	if err != nil {
		return err
	}
	var again time.Duration
	if o.restart {
		if again, err = restart(dir, feed.next); err != nil {
			return err
		}
	}
	held := feed.held
	slices.Sort(held)
	at := func(q float64) float64 { return float64(held[int(q*float64(len(held)-1))].Microseconds()) / 1000 }
	name := "uniform"
	if zipf {
		name = "Zipf 1.1"
	}
	_, err = fmt.Fprintf(out, "%s\t%d\t%.1f\t%.1f\t%.1f\t%.2f\t%.1f\t%.1f\t%.1f\t%.1f\t\n", name, n, float64(first)/float64(max(1, firstCount))/(1<<20), float64(bytes)/float64(n)/(1<<20),
		float64(kept)/(1<<20), at(0.5), at(0.99), at(0.999), at(1), again.Seconds())
	return err
}

// size is what the checkpoints take.
func size(dir string) (sum int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	return sum, err
}

// restart is how long an engine takes from New to where it asks for records.
func restart(dir string, from int64) (time.Duration, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	begun := time.Now()
	opened := make(chan int64, 1)
	e, err := engine.New([]*schema.Stream{stream()}, program{}, engine.Options{
		FS: vfs.OS, Dir: dir, Sink: &forgetful{}, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Open: func(_ context.Context, _ string, _ int32, from int64) (source.Source, error) {
			opened <- from
			return nothing{}, nil
		},
	})
	if err != nil {
		return 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	at := <-opened
	took := time.Since(begun)
	cancel()
	if err := <-ended; err != nil {
		return 0, err
	}
	if at != from {
		return 0, fmt.Errorf("the shard begins at %d, want %d", at, from)
	}
	return took, nil
}

// nothing is a source without records.
type nothing struct{}

func (nothing) Next(ctx context.Context) (source.Chunk, error) {
	<-ctx.Done()
	return source.Chunk{}, ctx.Err()
}
func (nothing) SeekTo(int64) error { return nil }
func (nothing) Close() error       { return nil }

// feed makes the records of a partition: first two of each key as fast as they are
// taken, then keys at random at the rate.
type feed struct {
	o         *options
	rng       *rand.Rand
	zipf      *rand.Zipf
	next      int64
	start     time.Time // of the rate
	base      int64     // the offset then
	filled    chan struct{}
	given     time.Time
	measuring atomic.Bool
	held      []time.Duration
}

func newFeed(o *options, zipf bool) *feed {
	f := &feed{o: o, rng: rand.New(rand.NewPCG(1, 2)), filled: make(chan struct{})}
	if zipf {
		f.zipf = rand.NewZipf(f.rng, 1.1, 1, uint64(o.keys-1))
	}
	return f
}

// Next implements source.Source.
func (f *feed) Next(ctx context.Context) (source.Chunk, error) {
	if !f.given.IsZero() && f.measuring.Load() {
		f.held = append(f.held, time.Since(f.given))
	}
	defer func() { f.given = time.Now() }()
	n := 1000
	if f.next >= int64(2*f.o.keys) {
		if f.start.IsZero() {
			f.start, f.base = time.Now(), f.next
			close(f.filled)
		}
		n = f.o.rate / 100
		due := f.start.Add(time.Duration(f.next-f.base+int64(n)) * time.Second / time.Duration(f.o.rate))
		if wait := time.Until(due); wait > 0 {
			t := time.NewTimer(wait)
			defer t.Stop()
			select {
			case <-t.C:
			case <-ctx.Done():
				return source.Chunk{}, ctx.Err()
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return source.Chunk{}, err
	}
	c := source.Chunk{Topic: "in", From: f.next, Records: make([]source.Record, n)}
	for i := range c.Records {
		c.Records[i] = f.record()
	}
	c.Next, c.HighWatermark = f.next, f.next
	return c, nil
}

func (f *feed) record() source.Record {
	key := f.next % int64(f.o.keys)
	switch {
	case f.next < int64(2*f.o.keys):
	case f.zipf != nil:
		key = int64(f.zipf.Uint64())
	default:
		key = f.rng.Int64N(int64(f.o.keys))
	}
	// Event time goes on as the events of the rate would have it.
	ms := 1_700_000_000_000 + f.next*1000/int64(f.o.rate)
	value := strconv.AppendInt([]byte(`{"ts": `), ms, 10)
	value = strconv.AppendInt(append(value, `, "key": "customer-`...), key, 10)
	value = strconv.AppendInt(append(value, `", "amount": `...), f.rng.Int64N(100_000), 10)
	r := source.Record{Offset: f.next, Timestamp: ms, Value: append(value, '}')}
	f.next++
	return r
}

func (f *feed) SeekTo(int64) error { return nil }
func (f *feed) Close() error       { return nil }

// forgetful is a sink.
type forgetful struct{ end atomic.Int64 }

func (s *forgetful) Append(_ context.Context, _ string, _ int32, recs []sink.Record) (int64, error) {
	return s.end.Add(int64(len(recs))) - int64(len(recs)), nil
}
func (s *forgetful) Durable(context.Context, string, int32, int64) error { return nil }
func (s *forgetful) End(topic string, _ int32) (int64, error) {
	if topic == "in" {
		return 0, fmt.Errorf("not known")
	}
	return s.end.Load(), nil
}

// counting counts what is written, and checkpoints by the renames that finish them.
type counting struct {
	vfs.FS
	bytes, manifests atomic.Int64
}

func (c *counting) Create(name string) (vfs.File, error) {
	f, err := c.FS.Create(name)
	return countingFile{f, c}, err
}

func (c *counting) Rename(a, b string) error {
	c.manifests.Add(1)
	return c.FS.Rename(a, b)
}

type countingFile struct {
	vfs.File
	c *counting
}

func (f countingFile) WriteAt(p []byte, at int64) (int, error) {
	n, err := f.File.WriteAt(p, at)
	f.c.bytes.Add(int64(n))
	return n, err
}

// settled waits for a checkpoint that holds all keys and returns what was written, and
// in how many checkpoints.
func (c *counting) settled(ctx context.Context) (bytes, n int64) {
	c.bytes.Store(0)
	before := c.manifests.Load()
	for c.manifests.Load() < before+2 && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	return c.bytes.Load(), c.manifests.Load() - before
}

func stream() *schema.Stream {
	fields := []event.Field{
		{Name: "ts", Type: event.Type{Kind: event.Timestamp}},
		{Name: "key", Type: event.Type{Kind: event.String}},
		{Name: "amount", Type: event.Type{Kind: event.Int64}},
	}
	return &schema.Stream{Topic: "in", Partitions: 1, Format: schema.JSON, Lateness: time.Second,
		Fields: []schema.Field{{Layout: "unix_ms"}, {}, {}},
		Schema: &event.Schema{Stream: "s", Alias: "s", Fields: fields, Time: 0, Key: 1, ID: -1}}
}

// program has eight windows by key and finds nothing.
type program struct{}

func (program) ID() string                                       { return "benchmark" }
func (program) Instance(*schema.Stream) (engine.Instance, error) { return newInstance() }

type instance struct {
	op    engine.Operator
	types []event.Type
}

func newInstance() (*instance, error) {
	amount := func(b *event.Batch, row int) (uint64, bool) { return uint64(b.Cols[2].Int64[row]), true }
	cfg := window.Config{Keys: []int{1}, Values: []window.Value{{Type: event.Type{Kind: event.Int64}, Read: amount}}}
	i := &instance{}
	for n, length := range []time.Duration{time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 20 * time.Minute, 30 * time.Minute, 45 * time.Minute, time.Hour} {
		x := window.Extent{Length: length}
		cfg.Outputs = append(cfg.Outputs, window.Output{Slot: 2 * n, Extent: x, Aggregate: window.Count, Value: -1},
			window.Output{Slot: 2*n + 1, Extent: x, Aggregate: window.Sum})
		i.types = append(i.types, event.Type{Kind: event.Int64}, event.Type{Kind: event.Int64})
	}
	op, err := window.New(cfg)
	i.op = engine.Operator{Identity: "eight windows", Name: "by(s.key)", Operator: op}
	return i, err
}

func (i *instance) Needs() []int                 { return []int{2} }
func (i *instance) Features() []event.Type       { return i.types }
func (i *instance) Operators() []engine.Operator { return []engine.Operator{i.op} }

func (i *instance) Decide(*event.Batch, *cep.Outbox, []engine.Finding) ([]engine.Finding, error) {
	return nil, nil
}

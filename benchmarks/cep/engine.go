package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/weirstream/weir/benchmarks/machine"
	"github.com/weirstream/weir/cep/engine"
	"github.com/weirstream/weir/ingest/event"
	streams "github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/sink"
	"github.com/weirstream/weir/ingest/source"
	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/log/vfs"
	"github.com/weirstream/weir/rules"
)

// payments is the stream of the engine's figures: JSON, by card.
func payments(partitions int32, all bool) *streams.Stream {
	fields := []event.Field{
		{Name: "id", Type: event.Type{Kind: event.Int64}},
		{Name: "ts", Type: event.Type{Kind: event.Timestamp}},
		{Name: "card", Type: event.Type{Kind: event.String}},
		{Name: "shop", Type: event.Type{Kind: event.String}},
		{Name: "amount", Type: money},
		{Name: "country", Type: event.Type{Kind: event.String}},
	}
	s := &streams.Stream{Topic: "payments", Partitions: partitions, Format: streams.JSON, AllDecisions: all, Fields: make([]streams.Field, len(fields)),
		Schema: &event.Schema{Stream: "payments", Alias: "tx", Fields: fields, Time: 1, Key: 2, ID: -1}}
	s.Fields[1].Layout = "unix_ms"
	return s
}

const (
	cards, shops = 100_000, 10_000
	firstTime    = 1_700_000_000_000 // of events, in milliseconds
)

// payment appends event i, of a time in milliseconds, and returns its card.
func payment(dst []byte, i int, ms int64) (card, value []byte) {
	h := mix(uint64(i))
	dst = strconv.AppendUint(append(dst, 'c'), h%cards, 10)
	card = dst[:len(dst):len(dst)]
	value = fmt.Appendf(dst[len(dst):], `{"id":%d,"ts":%d,"card":"%s","shop":"m%d","amount":%d.%02d,"country":"DE"}`, i, ms, card, mix(h)%shops, h>>20%1000, h>>40%100)
	return card, value
}

// whole is an engine over a log on disk, for one figure.
type whole struct {
	dir    string
	log    *commitlog.Log
	stream *streams.Stream
	engine *engine.Engine
	topics map[string]int32
}

// newWhole makes a log in a directory of its own and compiles rules.
func newWhole(ctx context.Context, o options, s *streams.Stream, whens []string) (w *whole, err error) {
	w = &whole{stream: s, topics: map[string]int32{s.Topic: s.Partitions, event.TopicDecisions: s.Partitions, event.TopicAlerts: s.Partitions, event.TopicDeadLetters: 1}}
	if w.dir, err = os.MkdirTemp(o.dir, "weir-engine"); err != nil {
		return nil, err
	}
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	if w.log, err = commitlog.Open(ctx, w.dir+"/log", commitlog.Options{Logger: quiet}); err != nil {
		return w, err
	}
	for topic, n := range w.topics {
		if _, err := w.log.CreateTopic(commitlog.TopicSpec{Name: topic, Partitions: n}); err != nil {
			return w, err
		}
	}
	var set rules.Set
	for i, when := range whens {
		set = append(set, rules.Rule{ID: "r" + strconv.Itoa(i), Stream: s.Schema.Stream, When: when, Action: "allow", Mode: "live"})
	}
	program, err := rules.Compile(set, rules.Catalog{Streams: []*streams.Stream{s}})
	if err != nil {
		return w, err
	}
	w.engine, err = engine.New([]*streams.Stream{s}, program, engine.Options{FS: vfs.OS, Dir: w.dir + "/checkpoints", Open: w.open, Sink: sink.NewLocal(w.log),
		OutputPartitions: w.topics, KeyedTopic: w.keyedTopic, Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	return w, err
}

func (w *whole) open(_ context.Context, topic string, partition int32, from int64) (source.Source, error) {
	p, err := w.log.Partition(topic, partition)
	if err != nil {
		return nil, err
	}
	return source.NewPartition(p, source.Options{From: from}), nil
}

func (w *whole) keyedTopic(topic string, n int32) (int32, error) {
	if _, there := w.log.Topic(topic); !there {
		if _, err := w.log.CreateTopic(commitlog.TopicSpec{Name: topic, Partitions: n}); err != nil {
			return 0, err
		}
		w.topics[topic] = n
	}
	return n, nil
}

func (w *whole) close() error {
	var err error
	if w.log != nil {
		err = w.log.Close()
	}
	return errors.Join(err, os.RemoveAll(w.dir))
}

// fill appends events, each a step later than the one before, and waits until they are
// durable.
func (w *whole) fill(ctx context.Context, from, to int, step float64) error {
	builders := make([]record.Builder, w.stream.Partitions)
	flush := func(p int32, acks int16) error {
		batch, err := builders[p].Build()
		if err != nil {
			return err
		}
		part, err := w.log.Partition(w.stream.Topic, p)
		if err == nil {
			_, err = part.Append(ctx, batch, acks)
		}
		builders[p].Reset(record.BatchOptions{})
		return err
	}
	for p := range builders {
		builders[p].Reset(record.BatchOptions{})
	}
	var buf []byte
	for i := from; i < to; i++ {
		card, value := payment(buf[:0], i, firstTime+int64(float64(i)*step))
		p := sink.Partition(card, w.stream.Partitions)
		builders[p].Append(0, card, value, nil)
		if builders[p].Count() == 1000 {
			if err := flush(p, 0); err != nil {
				return err
			}
		}
	}
	for p := range w.stream.Partitions {
		if builders[p].Count() > 0 {
			if err := flush(p, 0); err != nil {
				return err
			}
		}
		if err := w.durable(ctx, w.stream.Topic, p); err != nil {
			return err
		}
	}
	return nil
}

// durable waits until all of a partition is on the disk.
func (w *whole) durable(ctx context.Context, topic string, partition int32) error {
	p, err := w.log.Partition(topic, partition)
	if err != nil || p.End() == 0 {
		return err
	}
	return sink.NewLocal(w.log).Durable(ctx, topic, partition, p.End()-1)
}

// decided waits until all of the stream is decided and the decisions are durable.
func (w *whole) decided(ctx context.Context) error {
	for _, st := range w.engine.Status() {
		p, err := w.log.Partition(st.Topic, st.Partition)
		if err != nil {
			return err
		}
		for i := int(st.Partition); st.Cursor < p.End(); st = w.engine.Status()[i] {
			if st.Err != "" || ctx.Err() != nil {
				return fmt.Errorf("not decided: %s, %w", st.Err, ctx.Err())
			}
			time.Sleep(time.Millisecond)
		}
	}
	for p := range w.topics[event.TopicDecisions] {
		if err := w.durable(ctx, event.TopicDecisions, p); err != nil {
			return err
		}
	}
	return nil
}

// tenWindows are five by the stream's key and five by another, each asked at every
// event. Few events satisfy one.
var tenWindows = []string{
	`last("1m").by(tx.card).count() >= 4`, `last("1h").by(tx.card).sum(tx.amount) > 4000`, `last("1d").by(tx.card).count() >= 14`,
	`last("7d").by(tx.card).sum(tx.amount) > 20000`, `last("30d").by(tx.card).mean(tx.amount) > 950.0`,
	`last("1m").by(tx.shop).count() >= 8`, `last("1h").by(tx.shop).sum(tx.amount) > 9000`, `last("1d").by(tx.shop).count() >= 40`,
	`last("7d").by(tx.shop).sum(tx.amount) > 90000`, `last("30d").by(tx.shop).mean(tx.amount) > 950.0`,
}

// wholeEngine is events per second from a log that is full.
func wholeEngine(ctx context.Context, o options, out io.Writer) error {
	const span = 40 * 24 * time.Hour
	fmt.Fprintf(out, "\nThe whole engine: %d events of JSON in a log on disk, over %d days, %d cards, %d shops; ten windows of 1 min to 30 d, five by card (the stream's key) and\nfive by shop (a keyed stream); until all are decided and all decisions are synced. GOMAXPROCS %d; median of %d runs\n",
		o.payments, int(span.Hours()/24), cards, shops, runtime.GOMAXPROCS(0), o.runs)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(table, "  partitions\twindows\tevents/s\tCPU ns/event\tdecisions\tbytes/event in\tkeyed bytes/event\t\n")
	for _, partitions := range o.partitions {
		for _, c := range []struct {
			name  string
			whens []string
		}{{"5 by card", tenWindows[:5]}, {"5 by card, 5 by shop", tenWindows}} {
			var runs []wholeFigures
			for range o.runs {
				f, err := wholeRun(ctx, o, partitions, c.whens, float64(span.Milliseconds())/float64(o.payments))
				if err != nil {
					return err
				}
				runs = append(runs, f)
			}
			slices.SortFunc(runs, func(a, b wholeFigures) int { return int(a.rate - b.rate) })
			f := runs[len(runs)/2]
			fmt.Fprintf(table, "  %d\t%s\t%.0f\t%.0f\t%d\t%.0f\t%.0f\t\n", partitions, c.name, f.rate, f.cpu, f.decisions, f.in, f.keyed)
		}
	}
	return table.Flush()
}

type wholeFigures struct {
	rate, cpu, in, keyed float64
	decisions            int64
}

func wholeRun(ctx context.Context, o options, partitions int32, whens []string, step float64) (f wholeFigures, err error) {
	w, err := newWhole(ctx, o, payments(partitions, false), whens)
	if w != nil {
		defer func() { err = errors.Join(err, w.close()) }()
	}
	if err == nil {
		err = w.fill(ctx, 0, o.payments, step)
	}
	if err != nil {
		return f, err
	}
	runtime.GC()
	before, err := machine.CPUTime()
	if err != nil {
		return f, err
	}
	if o.profile != "" {
		file, err := os.Create(fmt.Sprintf("%s.%d.%d", o.profile, partitions, len(whens)))
		if err != nil {
			return f, err
		}
		defer file.Close()
		if err := pprof.StartCPUProfile(file); err != nil {
			return f, err
		}
		defer pprof.StopCPUProfile()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	began := time.Now()
	done := make(chan error, 1)
	go func() { done <- w.engine.Run(ctx) }()
	if err := w.decided(ctx); err != nil {
		return f, err
	}
	took := time.Since(began)
	after, err := machine.CPUTime()
	cancel()
	n := float64(o.payments)
	f.rate, f.cpu = n/took.Seconds(), float64(after-before)/n
	for _, st := range w.engine.Status() {
		f.decisions += st.Decisions
	}
	for topic, parts := range w.topics {
		for p := range parts {
			part, err := w.log.Partition(topic, p)
			if err != nil {
				return f, err
			}
			switch {
			case topic == w.stream.Topic:
				f.in += float64(part.Size()) / n
			case strings.HasPrefix(topic, engine.TopicKeyed):
				f.keyed += float64(part.Size()) / n
			}
		}
	}
	return f, errors.Join(err, <-done)
}

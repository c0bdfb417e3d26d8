package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/weirstream/weir/benchmarks/machine"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/source"
	"github.com/weirstream/weir/log/record"
)

// held is how many events are in the windows of a latency's figure, whatever their
// length: what a window of 30 days costs must not depend on how long that is.
const held = 200_000

// windowLengths are those of the latency's figures.
var windowLengths = []string{"1m", "1h", "7d", "30d"}

// windowKeys are what they are by.
var windowKeys = []string{"card", "card and shop"}

// latencies is the time from when an event was due to be appended until its decision is
// durable, with events at a fixed rate whatever the engine does.
func latencies(ctx context.Context, o options, out io.Writer) error {
	fmt.Fprintf(out, "\nFrom appended to decision durable, ms: open loop, from when an event was due; every event has a decision; sum and count of one length, by card and by shop,\n"+
		"%d events in each window and one that leaves with each that comes; %v for each line, after %v that do not count. fsync: writes of 4 KiB to a file beside the log, each synced, before\n"+
		"and after each line with nothing else to do\n", held, o.lasts, warm)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(table, "  keys\tevents/s\twindow\tp50\tp99\tp99.9\tmax\tfsync p50\tp99\tp99.9\tmax\tp99.9 / fsync p99.9\tload\t\n")
	for _, keys := range o.by {
		for _, rate := range o.rates {
			for _, length := range o.lengths {
				whens := []string{`last("` + length + `").by(tx.card).count() > 1000000`, `last("` + length + `").by(tx.card).sum(tx.amount) > 1000000000`}
				if keys != "card" {
					whens = append(whens, `last("`+length+`").by(tx.shop).count() > 1000000`, `last("`+length+`").by(tx.shop).sum(tx.amount) > 1000000000`)
				}
				took, syncs, err := latency(ctx, o, whens, length, rate)
				if err != nil {
					return err
				}
				fmt.Fprintf(table, "  %s\t%d\t%s\t%s\t%s\t%.1f\t%s\t\n", keys, rate, length, quantiles(took), quantiles(syncs), float64(at(took, 0.999))/float64(at(syncs, 0.999)), machine.Load())
			}
		}
	}
	return table.Flush()
}

const warm = time.Second

func at(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func quantiles(d []time.Duration) string {
	slices.Sort(d)
	var text []string
	for _, q := range []float64{0.5, 0.99, 0.999, 1} {
		text = append(text, fmt.Sprintf("%.2f", float64(at(d, q))/float64(time.Millisecond)))
	}
	return strings.Join(text, "\t")
}

// latency is one line: of events, and of syncs.
func latency(ctx context.Context, o options, whens []string, length string, rate int) (took, syncs []time.Duration, err error) {
	span, err := time.ParseDuration(map[string]string{"7d": "168h", "30d": "720h"}[length])
	if err != nil {
		if span, err = time.ParseDuration(length); err != nil {
			return nil, nil, err
		}
	}
	step := float64(span.Milliseconds()) / held
	w, err := newWhole(ctx, o, payments(1, true), whens)
	if w != nil {
		defer func() { err = errors.Join(err, w.close()) }()
	}
	if err == nil {
		err = w.fill(ctx, 0, held, step)
	}
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- w.engine.Run(ctx) }()
	if err := w.decided(ctx); err != nil {
		return nil, nil, err
	}
	if syncs, err = bareSyncs(w.dir, nil); err != nil {
		return nil, nil, err
	}
	began := time.Now()
	n := int(float64(rate) * (warm + o.lasts).Seconds())
	due := func(i int) time.Time { return began.Add(time.Duration(i) * time.Second / time.Duration(rate)) }
	fed := make(chan error, 1)
	go func() { fed <- w.feed(ctx, n, step, due) }()
	if took, err = w.decisions(ctx, n, due); err != nil {
		return nil, nil, err
	}
	if err := <-fed; err != nil {
		return nil, nil, err
	}
	cancel()
	if err := <-done; err != nil {
		return nil, nil, err
	}
	syncs, err = bareSyncs(w.dir, syncs)
	return took[int(float64(rate)*warm.Seconds()):], syncs, err
}

// feed appends events when they are due; those that are due together are a batch.
func (w *whole) feed(ctx context.Context, n int, step float64, due func(int) time.Time) error {
	part, err := w.log.Partition(w.stream.Topic, 0)
	if err != nil {
		return err
	}
	var b record.Builder
	var buf []byte
	for i := 0; i < n && ctx.Err() == nil; {
		time.Sleep(time.Until(due(i)))
		b.Reset(record.BatchOptions{})
		for now := time.Now(); i < n && !due(i).After(now); i++ {
			card, value := payment(buf[:0], held+i, firstTime+int64(float64(held+i)*step))
			b.Append(0, card, value, nil)
		}
		if b.Count() == 0 {
			continue
		}
		batch, err := b.Build()
		if err != nil {
			return err
		}
		if _, err := part.Append(ctx, batch, 0); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// decisions waits for the decisions on n events behind the first ones, as a reader of
// durable records sees them, and returns how long each took.
func (w *whole) decisions(ctx context.Context, n int, due func(int) time.Time) ([]time.Duration, error) {
	src, err := w.open(ctx, event.TopicDecisions, 0, held)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	took := make([]time.Duration, 0, n)
	for len(took) < n {
		var c source.Chunk
		if c, err = src.Next(ctx); err != nil {
			return nil, err
		}
		now := time.Now()
		for i := range c.Records {
			if c.Records[i].Offset != int64(held+len(took)) {
				return nil, fmt.Errorf("decision %d is at offset %d: some event has none, or two", len(took), c.Records[i].Offset)
			}
			took = append(took, now.Sub(due(len(took))))
		}
	}
	return took, nil
}

// syncsEach is how many bare writes are synced before and after each line.
const syncsEach = 500

// bareSyncs appends to took how long single writes take to be on the disk.
func bareSyncs(dir string, took []time.Duration) ([]time.Duration, error) {
	f, err := os.CreateTemp(dir, "sync")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	page := make([]byte, 4096)
	for range syncsEach {
		began := time.Now()
		if _, err := f.Write(page); err != nil {
			return nil, err
		}
		if err := f.Sync(); err != nil {
			return nil, err
		}
		took = append(took, time.Since(began))
	}
	return took, nil
}

package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/source"
)

// fillKeyed brings the events that were decided before a keyed stream was there into
// it, in the merger's order. It begins where an interrupted fill ended.
func (g *group) fillKeyed(ctx context.Context, topic *keyedTopic) error {
	fill := newKeyedFill(g.engine, topic)
	behind := false
	for _, s := range g.shards {
		for _, p := range s.projections {
			if p.topic != topic.topic() {
				continue
			}
			fill.add(s, p).to = s.cursor
			for i := range p.parts {
				behind = behind || p.parts[i].next < s.cursor
			}
		}
	}
	if !behind {
		return nil
	}
	defer fill.close()
	for _, f := range fill.all {
		f.shard.logger.Info("a keyed stream is new: the events decided so far are brought into it", "keyed", topic.Name, "offsets", f.to)
	}
	return fill.run(ctx, nil)
}

// keyedFill brings what is in the logs of sources into a keyed stream.
type keyedFill struct {
	topic  *keyedTopic
	merger *merger
	all    []*filler
}

func newKeyedFill(e *Engine, topic *keyedTopic) *keyedFill {
	return &keyedFill{topic: topic, merger: newMerger(e.opts.Sink, []*keyedTopic{topic})}
}

// add adds the partition of a shard, which is written as a projection.
func (k *keyedFill) add(s *shard, p *projection) *filler {
	f := &filler{shard: s, projection: p, lane: k.merger.add(s, []*projection{p}, event.MinTime)}
	k.all = append(k.all, f)
	return f
}

func (k *keyedFill) close() {
	for _, f := range k.all {
		if f.src != nil {
			f.src.Close()
		}
	}
}

// left is how many offsets are still to be read.
func (k *keyedFill) left() (n int64) {
	for _, f := range k.all {
		n += max(0, f.to-f.at)
	}
	return n
}

// run brings in what is before the offsets to. Between steps it calls rest with the time
// that one took.
func (k *keyedFill) run(ctx context.Context, rest func(time.Duration) error) error {
	for _, f := range k.all {
		if err := f.open(ctx); err != nil {
			return err
		}
		f.done = false
		if err := k.merger.read(ctx, f.lane, true); err != nil {
			return err
		}
	}
	for left := len(k.all); left > 0; {
		left = 0
		begun := time.Now()
		for _, f := range k.all {
			if err := f.step(ctx, k.merger); err != nil {
				return err
			}
			if !f.done {
				left++
			}
		}
		if rest != nil {
			if err := rest(time.Since(begun)); err != nil {
				return err
			}
		}
	}
	for _, f := range k.all {
		if err := k.merger.mark(ctx, f.lane, f.to, f.reader.clock.Watermark(), f.reader.changes); err != nil {
			return err
		}
	}
	return nil
}

// filler reads a source partition from its beginning for a keyed stream.
type filler struct {
	shard      *shard
	projection *projection
	lane       *lane
	to         int64 // the end of what is filled

	reader  *shard // decodes as the shard did
	src     source.Source
	records []source.Record
	at      int64 // all before it are read
	next    int64 // all before it are in records, or read
	done    bool
}

// open begins to read, or reads on: the journal is there up to what is to be filled.
func (f *filler) open(ctx context.Context) (err error) {
	if f.src != nil {
		return f.reader.readJournal(ctx)
	}
	s := f.shard
	f.reader = newShard(s.engine, s.stream, s.program, s.partition, s.engine.metrics)
	f.reader.keyed, f.reader.aside = s.keyed, true
	if err := f.reader.begin(); err != nil {
		return err
	}
	if err := f.reader.openJournal(ctx, 0); err != nil {
		return err
	}
	f.reader.filling = true
	f.src, err = s.engine.opts.Open(ctx, s.origin.Topic, s.partition, 0)
	return err
}

// step offers the next batch where the one before is merged, or says that there is none.
func (f *filler) step(ctx context.Context, m *merger) error {
	r := f.reader
	if f.done || len(f.lane.units) > 0 {
		return nil
	}
	for len(f.records) == 0 && f.next < f.to {
		c, err := f.src.Next(ctx)
		if err != nil {
			return fmt.Errorf("%s[%d]@%d: fill %s: %w", r.origin.Topic, r.partition, f.at, f.projection.topic, err)
		}
		f.next, f.records = c.Next, c.Records
	}
	n := 0
	for n < min(len(f.records), r.engine.opts.BatchRows) && f.records[n].Offset < f.to {
		n++
	}
	if n == 0 {
		f.done, f.at = true, f.to
		return m.read(ctx, f.lane, false)
	}
	n, err := r.merge(ctx, func(i int) int64 { return f.records[i].Offset }, n, func() error { return nil })
	if err != nil {
		return err
	}
	r.from, r.to, r.tables = f.records[0].Offset, f.records[n-1].Offset+1, r.changes
	r.outputs.reset()
	r.process(f.records[:n])
	f.records, f.at = f.records[n:], r.to
	f.projection.route(r.unit)
	return m.offer(ctx, f.lane, r.unit)
}

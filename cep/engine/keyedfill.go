package engine

import (
	"context"
	"fmt"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/source"
)

// fillKeyed brings the events that were decided before a keyed stream was there into
// it, in the merger's order. It begins where an interrupted fill ended.
func (g *group) fillKeyed(ctx context.Context, topic *keyedTopic) error {
	m := newMerger(g.engine.opts.Sink, []*keyedTopic{topic})
	var all []*filler
	behind := false
	for _, s := range g.shards {
		for _, p := range s.projections {
			if p.topic != topic.topic() {
				continue
			}
			all = append(all, &filler{shard: s, projection: p, lane: m.add(s, []*projection{p}, event.MinTime), to: s.cursor})
			for i := range p.parts {
				behind = behind || p.parts[i].next < s.cursor
			}
		}
	}
	if !behind {
		return nil
	}
	for _, f := range all {
		f.shard.logger.Info("a keyed stream is new: the events decided so far are brought into it", "keyed", topic.Name, "offsets", f.to)
		if err := f.open(ctx); err != nil {
			return err
		}
		defer f.src.Close()
	}
	for left := len(all); left > 0; {
		left = 0
		for _, f := range all {
			if err := f.step(ctx, m); err != nil {
				return err
			}
			if !f.done {
				left++
			}
		}
	}
	for _, f := range all {
		if err := m.mark(ctx, f.lane, f.to, f.reader.clock.Watermark(), f.reader.changes); err != nil {
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
	done    bool
}

func (f *filler) open(ctx context.Context) (err error) {
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
	for len(f.records) == 0 {
		if f.at >= f.to {
			f.done = true
			return m.read(ctx, f.lane, false)
		}
		c, err := f.src.Next(ctx)
		if err != nil {
			return fmt.Errorf("%s[%d]@%d: fill %s: %w", r.origin.Topic, r.partition, f.at, f.projection.topic, err)
		}
		f.at, f.records = c.Next, c.Records
		for len(f.records) > 0 && f.records[len(f.records)-1].Offset >= f.to {
			f.records = f.records[:len(f.records)-1]
		}
	}
	n, err := r.merge(ctx, func(i int) int64 { return f.records[i].Offset }, min(len(f.records), r.engine.opts.BatchRows), func() error { return nil })
	if err != nil {
		return err
	}
	r.from, r.to, r.tables = f.records[0].Offset, f.records[n-1].Offset+1, r.changes
	r.outputs.reset()
	r.process(f.records[:n])
	f.records = f.records[n:]
	f.projection.route(r.unit)
	return m.offer(ctx, f.lane, r.unit)
}

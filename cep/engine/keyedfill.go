package engine

import (
	"context"
	"fmt"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/source"
)

// fillKeyed brings the events that were decided before a keyed stream was there into
// it, in the order of their times, and of equal ones of topic, partition and offset. An
// event that is logged behind a younger one of its partition counts as old as that. It
// begins where an interrupted fill ended.
func (g *group) fillKeyed(ctx context.Context, topic *keyedTopic) error {
	var all []*filler
	behind := false
	for _, s := range g.shards {
		for _, p := range s.projections {
			if p.topic != topic.topic() {
				continue
			}
			f := &filler{shard: s, projection: p, effective: event.MinTime, to: s.cursor}
			all = append(all, f)
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
		defer f.close()
	}
	open := make([]*filler, topic.partitions) // whose rows wait to be written, by partition
	for {
		f, err := oldest(ctx, all)
		if err != nil || f == nil {
			return err
		}
		q := f.decoder.route[f.row]
		if o := open[q]; o != f && o != nil {
			if err := o.write(ctx, q); err != nil {
				return err
			}
		}
		open[q] = f
		f.rows[q] = append(f.rows[q], int32(f.row))
		f.row++
	}
}

// oldest is the filler with the next row, nil where all are done. It writes what is
// left of those that come to the end of a batch.
func oldest(ctx context.Context, all []*filler) (next *filler, err error) {
	for _, f := range all {
		if err := f.ahead(ctx); err != nil {
			return nil, err
		}
		if !f.done && (next == nil || f.before(next)) {
			next = f
		}
	}
	return next, nil
}

// filler reads a source partition from its beginning for a keyed stream.
type filler struct {
	shard      *shard
	projection *projection
	to         int64 // the end of what is filled

	reader    *shard // decodes as the shard did
	decoder   *projection
	src       source.Source
	records   []source.Record
	row       int
	at        int64     // all before it are read
	rows      [][]int32 // of the batch, not yet written, by partition
	effective event.Time
	done      bool
}

func (f *filler) open(ctx context.Context) (err error) {
	s := f.shard
	f.reader = newShard(s.engine, s.stream, s.program, s.partition, s.engine.metrics)
	f.reader.keyed = s.keyed
	if err := f.reader.begin(); err != nil {
		return err
	}
	if err := f.reader.openJournal(ctx, 0); err != nil {
		return err
	}
	f.reader.filling = true
	f.decoder = newProjection(f.projection.topic, f.projection.source, int32(len(f.projection.parts)))
	f.rows = make([][]int32, len(f.projection.parts))
	f.src, err = s.engine.opts.Open(ctx, s.origin.Topic, s.partition, 0)
	return err
}

func (f *filler) close() {
	if f.src != nil {
		f.src.Close()
	}
}

// before reports whether the filler's next row comes before that of another.
func (f *filler) before(o *filler) bool {
	a, b := f.time(), o.time()
	switch {
	case a != b:
		return a < b
	case f.shard.origin.Topic != o.shard.origin.Topic:
		return f.shard.origin.Topic < o.shard.origin.Topic
	}
	return f.shard.partition < o.shard.partition
}

func (f *filler) time() event.Time { return max(f.effective, f.reader.batch.Time[f.row]) }

// ahead makes sure that there is a next row, or that all is done.
func (f *filler) ahead(ctx context.Context) error {
	for !f.done && f.row == f.reader.batch.Len() {
		for q := range f.rows {
			if err := f.write(ctx, int32(q)); err != nil {
				return err
			}
		}
		if err := f.batch(ctx); err != nil {
			return err
		}
	}
	if !f.done {
		f.effective = f.time()
	}
	return nil
}

// batch decodes the next batch, which may be empty, or marks the end.
func (f *filler) batch(ctx context.Context) error {
	r := f.reader
	f.row = 0
	r.batch.Reset(r.stream.Schema, r.project)
	for len(f.records) == 0 {
		if f.at >= f.to {
			f.done = true
			return f.shard.mark(ctx, f.projection, f.to, r.clock.Watermark(), r.changes)
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
	f.decoder.assign(&r.batch)
	return nil
}

// write appends the rows that wait for a partition, but for those that are there.
func (f *filler) write(ctx context.Context, q int32) error {
	part, r := &f.projection.parts[q], f.reader
	rows := f.rows[q]
	f.rows[q] = f.rows[q][:0]
	for len(rows) > 0 && r.batch.Offset[rows[0]] < part.next {
		rows = rows[1:]
	}
	if len(rows) == 0 {
		return nil
	}
	last := rows[len(rows)-1]
	part.rows = rows
	to := blockTo{sink: r.engine.opts.Sink, partition: r.partition, incarnation: f.shard.incarnation(), to: r.batch.Offset[last] + 1,
		watermark: r.outbox.Low[last], tables: r.tables}
	if err := f.projection.append(ctx, to, q, &r.batch, &r.outbox); err != nil {
		return err
	}
	part.rows = nil
	return nil
}

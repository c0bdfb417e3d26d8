package engine

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/source"
)

// keyedTopic is a keyed stream with its topic.
type keyedTopic struct {
	Keyed
	index      int   // in the program
	wanted     int32 // partitions, where it is not there yet
	partitions int32
}

// keyedShard runs the operators of one partition of a keyed stream and delivers what
// they find to the shards of its sources.
type keyedShard struct {
	engine    *Engine
	program   KeyedProgram
	topic     *keyedTopic
	partition int32
	logger    *slog.Logger

	// The rest belongs to the shard's goroutine.
	cursor    int64
	sources   []keyedFrom // of each partition of each source
	instance  KeyedInstance
	batch     event.Batch
	described cep.Outbox   // Late, Watermark and Low of the block at hand
	outboxes  []cep.Outbox // by source that reads: features
	low       event.Time
	loaded    int64 // changes of weir.tables that the instance was told of
}

// keyedFrom is what a keyed shard knows of one of its sources' partitions.
type keyedFrom struct {
	shard     *shard
	source    int // index in Keyed.Sources
	read      int // index in the shard's gather; -1: it reads nothing from here
	next      int64
	watermark event.Time
}

func newKeyedShard(e *Engine, prog KeyedProgram, topic *keyedTopic, partition int32, shards []*shard) *keyedShard {
	k := &keyedShard{engine: e, program: prog, topic: topic, partition: partition, logger: e.logger.With("topic", topic.topic(), "partition", partition)}
	for _, s := range shards {
		if at := topic.source(s.stream.Schema.Stream); at >= 0 {
			k.sources = append(k.sources, keyedFrom{shard: s, source: at})
		}
	}
	return k
}

// guard makes a panic in do an error.
func (k *keyedShard) guard(do func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			k.logger.Error("panic", "offset", k.cursor, "panic", r)
			err = fmt.Errorf("%s[%d]@%d: panic: %v", k.topic.topic(), k.partition, k.cursor, r)
		}
	}()
	return do()
}

// restore puts the shard at the beginning of its log. Its sources are restored.
func (k *keyedShard) restore(ctx context.Context) (err error) {
	if k.instance, err = k.program.KeyedInstance(k.topic.index); err != nil {
		return fmt.Errorf("keyed stream %s: %w", k.topic.Name, err)
	}
	k.cursor, k.low, k.loaded = 0, event.MinTime, -1
	k.outboxes = make([]cep.Outbox, len(k.topic.Sources))
	for i := range k.sources {
		f := &k.sources[i]
		f.next, f.watermark = 0, event.MinTime
		f.read = f.shard.gather.index(k.topic.topic())
	}
	return nil
}

// run feeds the operators until ctx is done.
func (k *keyedShard) run(ctx context.Context) error {
	src, err := k.engine.opts.Open(ctx, k.topic.topic(), k.partition, k.cursor)
	if err != nil {
		return err
	}
	defer src.Close()
	for {
		c, err := src.Next(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("%s[%d]@%d: %w", k.topic.topic(), k.partition, k.cursor, err)
		}
		for i := range c.Records {
			if err := k.block(ctx, &c.Records[i]); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return fmt.Errorf("%s[%d]@%d: %w", k.topic.topic(), k.partition, c.Records[i].Offset, err)
			}
			k.cursor = c.Records[i].Offset + 1
		}
		k.cursor = c.Next
	}
}

// block takes one block in.
func (k *keyedShard) block(ctx context.Context, rec *source.Record) error {
	r := blockReader{data: rec.Value}
	h := r.header()
	if r.err != nil {
		return r.err
	}
	from, at := k.from(&h)
	if at < 0 {
		return fmt.Errorf("a block of the stream %q, which this keyed stream does not have", h.stream)
	}
	if h.rows > 0 {
		src := &k.topic.Sources[at]
		k.batch.Reset(src.Stream.Schema, src.Fields)
		k.batch.Watermark = k.low
		k.batch.Origin = append(k.batch.Origin, event.Origin{Topic: src.Stream.Topic, Partition: h.partition})
		k.described.Reset(nil)
		if err := r.rows(&h, k.low, &k.batch, &k.described, src.Fields); err != nil {
			return err
		}
		if err := k.engine.useTables(ctx, k.instance, h.tables, &k.loaded); err != nil {
			return fmt.Errorf("tables: %w", err)
		}
		if err := k.operate(at); err != nil {
			return err
		}
	}
	if from == nil { // of a topic that is no longer there, or a partition of one
		return nil
	}
	if from.read >= 0 {
		p := &part{}
		if h.rows > 0 {
			p = k.part(from)
		}
		if _, err := from.shard.gather.deliver(ctx, from.read, k.partition, p, h.to); err != nil {
			return err
		}
	}
	from.next = max(from.next, h.to)
	from.watermark = max(from.watermark, h.watermark)
	return k.advance()
}

// from is the source partition of a block and the index of its source; nil where it is
// of a partition that the source no longer has, -1 where it is of no source.
func (k *keyedShard) from(h *blockHeader) (*keyedFrom, int) {
	at := k.topic.source(h.stream)
	for i := range k.sources {
		f := &k.sources[i]
		if f.source == at && f.shard.partition == h.partition && f.shard.incarnation() == h.incarnation {
			return f, at
		}
	}
	return nil, at
}

// operate runs the operators that the rows of a source enter or ask.
func (k *keyedShard) operate(at int) error {
	for i := range k.outboxes {
		if features := k.instance.Features(i); len(features) > 0 {
			o := &k.outboxes[i]
			o.Reset(features)
			o.Late, o.Watermark, o.Low = k.described.Late, k.described.Watermark, k.described.Low
			if i != at {
				o.Skip = func(int, int) bool { return true }
			}
		}
	}
	for _, op := range k.instance.Operators() {
		var err error
		switch out := &k.outboxes[op.Reader]; {
		case op.Over == at:
			err = op.Process(&k.batch, out)
		case op.Reader == at:
			err = op.Operator.Operator.(Asker).Ask(&k.batch, out)
		}
		if err != nil {
			return fmt.Errorf("operator %s: %w", op.Identity, err)
		}
	}
	return nil
}

// advance tells the operators the lowest watermark of all sources.
func (k *keyedShard) advance() error {
	low := event.Time(math.MaxInt64)
	for i := range k.sources {
		low = min(low, k.sources[i].watermark)
	}
	if low <= k.low {
		return nil
	}
	k.low = low
	for _, op := range k.instance.Operators() {
		if err := op.Advance(low, &k.outboxes[op.Reader]); err != nil {
			return fmt.Errorf("operator %s: %w", op.Identity, err)
		}
	}
	return nil
}

// part takes the features of the batch at hand that its source reads out of the outbox.
func (k *keyedShard) part(from *keyedFrom) *part {
	slots, out := k.topic.Sources[from.source].Reads, &k.outboxes[from.source]
	p := &part{offsets: slices.Clone(k.batch.Offset), features: make([]event.Column, len(slots))}
	for i, slot := range slots {
		p.features[i], out.Features[slot] = out.Features[slot], event.Column{}
	}
	for _, f := range out.Faults {
		p.faults = append(p.faults, cep.Fault{Slot: slices.Index(slots, f.Slot), Row: f.Row, Err: f.Err})
	}
	for _, f := range out.Marks {
		p.marks = append(p.marks, cep.Fault{Slot: slices.Index(slots, f.Slot), Row: f.Row, Err: f.Err})
	}
	return p
}

package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/cep/checkpoint"
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
	readers   []string // by operator: the stream whose rules read it
	labels    []string // of metrics

	mu     sync.Mutex
	status KeyedStatus

	// The rest belongs to the shard's goroutine.
	cursor    int64
	sources   []keyedFrom // of each partition of each source
	instance  KeyedInstance
	ops       []Operator // of instance
	batch     event.Batch
	described cep.Outbox   // Late, Watermark and Low of the block at hand
	outboxes  []cep.Outbox // by source that reads: features
	low       event.Time
	loaded    int64 // changes of weir.tables that the instance was told of
	topicID   string
	meter

	checkpoints checkpoints
	saved       int64 // the cursor of the newest checkpoint
	savedAt     time.Time

	// Blocks in which there was a panic are processed row by row; the second time at the
	// same row it is left out.
	at       int64 // the block at hand; -1: none
	row      int   // of it, where it is processed row by row, else -1
	careful  map[int64]bool
	poisoned map[int64]map[int]string
}

// KeyedStatus is where a shard of a keyed stream stands.
type KeyedStatus struct {
	Topic         string
	Partition     int32
	Sources       []string // streams
	Cursor        int64    // of the next block
	HighWatermark int64
	Watermark     event.Time // the lowest of its sources
	Rows          int64      // since the process began
	Err           string
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
	k := &keyedShard{engine: e, program: prog, topic: topic, partition: partition, logger: e.logger.With("topic", topic.topic(), "partition", partition),
		careful: map[int64]bool{}, poisoned: map[int64]map[int]string{}}
	k.checkpoints = checkpoints{store: checkpoint.Open(e.opts.FS, k.dir())}
	k.labels = []string{topic.topic(), strconv.Itoa(int(partition))}
	k.status = KeyedStatus{Topic: topic.topic(), Partition: partition, Watermark: event.MinTime}
	for _, src := range topic.Sources {
		k.status.Sources = append(k.status.Sources, src.Stream.Schema.Stream)
	}
	for _, s := range shards {
		if at := topic.source(s.stream.Schema.Stream); at >= 0 {
			k.sources = append(k.sources, keyedFrom{shard: s, source: at})
		}
	}
	return k
}

// guard makes a panic in do an error, and notes where it was.
func (k *keyedShard) guard(do func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = k.panicked(r)
		}
		k.mu.Lock()
		if k.status.Err = ""; err != nil {
			k.status.Err = err.Error()
		}
		k.mu.Unlock()
	}()
	return do()
}

// panicked notes where a panic happened, for the next life.
func (k *keyedShard) panicked(r any) error {
	k.logger.Error("panic", "offset", k.at, "row", k.row, "panic", r, "stack", string(debug.Stack()))
	switch {
	case k.at < 0: // not in a block
	case k.row < 0:
		k.careful[k.at] = true
	default:
		if k.poisoned[k.at] == nil {
			k.poisoned[k.at] = map[int]string{}
		}
		k.poisoned[k.at][k.row] = fmt.Sprint(r)
	}
	return fmt.Errorf("%s[%d]@%d: %w: %v", k.topic.topic(), k.partition, k.at, errPanic, r)
}

// run feeds the operators until ctx is done, and then writes the last checkpoint, for
// which work leaves some time.
func (k *keyedShard) run(ctx, work context.Context) error {
	defer k.checkpoints.abandon()
	src, err := k.engine.opts.Open(ctx, k.topic.topic(), k.partition, k.cursor)
	if err != nil {
		return err
	}
	defer src.Close()
	for {
		c, err := k.next(ctx, src)
		switch {
		case ctx.Err() != nil:
			return k.in(k.checkpoint(work))
		case errors.Is(err, context.DeadlineExceeded):
			// There is something to do for a checkpoint.
		case err != nil:
			return k.in(err)
		default:
			if err := k.chunk(ctx, &c); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return k.in(err)
			}
		}
		if err := k.keep(work); err != nil {
			return k.in(err)
		}
	}
}

// in says where an error was.
func (k *keyedShard) in(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s[%d]@%d: %w", k.topic.topic(), k.partition, k.cursor, err)
}

// next waits for blocks, not longer than until there is something to do for a
// checkpoint.
func (k *keyedShard) next(ctx context.Context, src source.Source) (source.Chunk, error) {
	var wait time.Duration
	switch {
	case k.checkpoints.busy():
		wait = k.checkpoints.patience()
	case k.cursor != k.saved:
		wait = time.Until(k.savedAt.Add(k.engine.opts.CheckpointEvery))
	default:
		return src.Next(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	return src.Next(ctx)
}

// chunk takes blocks in.
func (k *keyedShard) chunk(ctx context.Context, c *source.Chunk) error {
	for i := range c.Records {
		k.at, k.row = c.Records[i].Offset, -1
		if err := k.block(ctx, &c.Records[i]); err != nil {
			return err
		}
		k.cursor = c.Records[i].Offset + 1
	}
	k.cursor, k.at = c.Next, -1
	k.publish(c.HighWatermark)
	return nil
}

// publish shows where the shard stands.
func (k *keyedShard) publish(highWatermark int64) {
	k.mu.Lock()
	k.status.Cursor, k.status.HighWatermark, k.status.Watermark = k.cursor, max(highWatermark, k.cursor), k.low
	lag := k.status.HighWatermark - k.cursor
	k.mu.Unlock()
	k.engine.metrics.keyed.lag.WithLabelValues(k.labels...).Set(float64(lag))
	if k.low != event.MinTime {
		k.engine.metrics.keyed.watermark.WithLabelValues(k.labels...).Set(seconds(k.low))
	}
	k.show(k.ops, false)
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
	p := &part{}
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
		if err := k.rows(at, p); err != nil {
			return err
		}
		k.mu.Lock()
		k.status.Rows += int64(h.rows)
		k.mu.Unlock()
		k.engine.metrics.keyed.rows.WithLabelValues(k.labels...).Add(float64(h.rows))
	}
	if from == nil { // of a topic that is no longer there, or a partition of one
		return nil
	}
	if from.read >= 0 {
		if err := from.shard.gather.deliver(ctx, from.read, k.partition, p, h.to); err != nil {
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

// rows runs the operators on the batch at hand and leaves in p what its source reads. A
// row that made them panic twice is left out: it enters nothing, and what is read of it
// is a fault.
func (k *keyedShard) rows(at int, p *part) error {
	p.offsets = slices.Clone(k.batch.Offset)
	if !k.careful[k.at] {
		if err := k.operate(at); err != nil {
			return err
		}
		p.take(&k.topic.Sources[at], &k.outboxes[at])
		return nil
	}
	all, described := k.batch, k.described
	defer func() { k.batch, k.described = all, described }()
	p.features = make([]event.Column, len(k.topic.Sources[at].Reads))
	for i, slot := range k.topic.Sources[at].Reads {
		p.features[i].Reset(k.instance.Features(at)[slot])
	}
	for row := range all.Len() {
		k.row = row
		if text, bad := k.poisoned[k.at][row]; bad {
			k.logger.Error("an event is left out of the windows of a keyed stream: they panicked twice", "offset", all.Offset[row], "panic", text)
			for i := range p.features {
				p.features[i].AppendNull()
				p.faults = append(p.faults, cep.Fault{Slot: i, Row: row, Err: fmt.Errorf("panic in a window: %s", text)})
			}
			continue
		}
		k.batch, k.described = event.Batch{}, cep.Outbox{}
		k.batch.Reset(all.Schema, k.topic.Sources[at].Fields)
		k.batch.Watermark, k.batch.Origin = all.Watermark, all.Origin
		k.batch.Offset, k.batch.Time = all.Offset[row:row+1], all.Time[row:row+1]
		for _, f := range k.topic.Sources[at].Fields {
			k.batch.Cols[f].AppendFrom(&all.Cols[f], row)
		}
		k.described.Late, k.described.Watermark, k.described.Low = described.Late[row:row+1], described.Watermark[row:row+1], described.Low[row:row+1]
		if err := k.operate(at); err != nil {
			return err
		}
		var one part
		one.take(&k.topic.Sources[at], &k.outboxes[at])
		p.join(&one, row)
	}
	return nil
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
	k.meet(k.ops)
	start := time.Now()
	for i, op := range k.instance.Operators() {
		out := &k.outboxes[op.Reader]
		marks := len(out.Marks)
		var err error
		switch {
		case op.Over == at:
			err = op.Process(&k.batch, out)
		case op.Reader == at:
			err = op.Operator.Operator.(Asker).Ask(&k.batch, out)
		default:
			continue
		}
		if err != nil {
			return fmt.Errorf("operator %s: %w", op.Identity, err)
		}
		now := time.Now()
		k.charge(i, k.batch.Len(), len(out.Marks)-marks, now.Sub(start))
		start = now
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

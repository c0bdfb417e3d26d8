package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime/debug"
	"slices"
	"sync"
	"time"

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
	metrics   keyedShardMetrics

	mu     sync.Mutex
	status KeyedStatus

	// The rest belongs to the shard's goroutine.
	cursor    int64
	sources   []keyedFrom // of each partition of each source
	instance  KeyedInstance
	ops       []Operator    // of instance
	headers   []blockHeader // of the block at hand
	parts     []*keyedPart
	base      int // rows of the block before the batch
	batch     event.Batch
	described cep.Outbox   // Late, Watermark and Low of the block at hand
	outboxes  []cep.Outbox // by source that reads: features
	low       event.Time
	loaded    int64 // changes of weir.tables that the instance was told of
	topicID   string
	meter
	pins keyedPins

	checkpoints checkpoints
	saved       int64           // the cursor of the newest checkpoint
	paused      bool            // it ended with its state, for another life to go on with it
	aside       bool            // it reads beside the one whose directory this is, and delivers nothing
	only        map[string]bool // operators that are run; nil: all
	cut         bool            // of a stretch of a replay, which goes beyond it: the last checkpoint was begun

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
	k.checkpoints = e.checkpointsIn(k.dir())
	k.metrics = e.metrics.keyed.of(topic.topic(), partition)
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
	defer func() {
		if !k.paused {
			k.checkpoints.abandon()
		}
	}()
	src, err := k.engine.opts.Open(ctx, k.topic.topic(), k.partition, k.cursor)
	if err != nil {
		return err
	}
	defer src.Close()
	for {
		c, err := k.next(ctx, src)
		switch {
		case ctx.Err() != nil && !slices.ContainsFunc(k.sources, func(f keyedFrom) bool { return !f.shard.paused }):
			k.checkpoints.leave()
			k.paused = true
			return nil
		case ctx.Err() != nil:
			return k.in(k.checkpoint(work))
		case errors.Is(err, context.DeadlineExceeded):
			// There is something to do for a checkpoint.
		case err != nil:
			return k.in(err)
		default:
			if err := k.chunk(work, &c); err != nil { // no source that has ended holds it up
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
	ctx, cancel := context.WithTimeout(ctx, k.checkpoints.due(k.moved()))
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
	k.metrics.lag.Set(float64(lag))
	if k.low != event.MinTime {
		k.metrics.watermark.Set(seconds(k.low))
	}
	k.show(k.ops, false)
}

// block takes one block in.
func (k *keyedShard) block(ctx context.Context, rec *source.Record) error {
	r := blockReader{data: rec.Value}
	k.headers = r.headers(k.headers[:0])
	order := r.order(k.headers)
	if err := k.cutAt(ctx); err != nil {
		return err
	}
	for len(k.parts) < len(k.headers) {
		k.parts = append(k.parts, &keyedPart{})
	}
	for i := range k.headers {
		h, p := &k.headers[i], k.parts[i]
		if r.err != nil {
			break
		}
		p.row, p.of = 0, part{} // a life may have ended within a block
		if p.from, p.source = k.from(h); p.source < 0 {
			return fmt.Errorf("a block of the stream %q, which this keyed stream does not have", h.stream)
		}
		src := &k.topic.Sources[p.source]
		p.batch.Reset(src.Stream.Schema, src.Fields)
		p.described.Reset(nil)
		if h.rows > 0 {
			if err := r.rows(h, k.low, &p.batch, &p.described, src.Fields); err != nil {
				return err
			}
			k.pins.saw(p.batch.Time)
		}
	}
	if err := r.end(); err != nil {
		return err
	}
	if err := k.runs(ctx, order); err != nil {
		return err
	}
	rows := 0
	for i := range k.headers {
		h, f := &k.headers[i], k.parts[i].from
		if f == nil {
			continue
		}
		if f.read >= 0 {
			if err := f.shard.gather.deliver(ctx, f.read, k.partition, &part{}, h.to); err != nil {
				return err
			}
		}
		f.next = max(f.next, h.to)
		f.watermark = max(f.watermark, h.watermark)
		rows += h.rows
	}
	if !k.aside {
		k.mu.Lock()
		k.status.Rows += int64(rows)
		k.mu.Unlock()
		k.metrics.rows.Add(float64(rows))
	}
	return k.advance()
}

// keyedPart is a part of the block at hand.
type keyedPart struct {
	from      *keyedFrom // nil: of a topic that is no longer there, as are its rows then
	source    int
	batch     event.Batch
	described cep.Outbox
	row       int // the next one, in order
	of        part
}

// runs takes the rows of the block at hand in, in order, those of one stream together
// that follow each other.
func (k *keyedShard) runs(ctx context.Context, order []uint8) error {
	k.base = 0
	if len(k.headers) == 1 {
		p := k.parts[0]
		if k.headers[0].rows == 0 || p.from == nil {
			return nil
		}
		k.batch, p.batch = p.batch, k.batch
		k.described, p.described = p.described, k.described
		k.batch.Origin = append(k.batch.Origin, event.Origin{Topic: k.topic.Sources[p.source].Stream.Topic, Partition: k.headers[0].partition})
		return k.runRows(ctx, nil)
	}
	for len(order) > 0 {
		n, first := 1, order[0]
		if k.parts[first].from == nil {
			k.parts[first].row++
			k.base++
			order = order[1:]
			continue
		}
		for n < len(order) && k.alike(order[n], first) {
			n++
		}
		k.gatherRun(order[:n])
		if err := k.runRows(ctx, order[:n]); err != nil {
			return err
		}
		k.base += n
		order = order[n:]
	}
	return nil
}

// alike reports whether rows of two parts can be taken in together.
func (k *keyedShard) alike(a, b uint8) bool {
	return a == b || k.parts[a].from != nil && k.parts[a].source == k.parts[b].source && k.headers[a].tables == k.headers[b].tables
}

// gatherRun makes one batch of the next rows of parts.
func (k *keyedShard) gatherRun(order []uint8) {
	src := &k.topic.Sources[k.parts[order[0]].source]
	b, d := &k.batch, &k.described
	b.Reset(src.Stream.Schema, src.Fields)
	d.Reset(nil)
	for _, i := range order {
		p := k.parts[i]
		row := p.row
		p.row++
		b.Origin = append(b.Origin, event.Origin{Topic: src.Stream.Topic, Partition: k.headers[i].partition})
		b.Offset, b.Time = append(b.Offset, p.batch.Offset[row]), append(b.Time, p.batch.Time[row])
		d.Late, d.Watermark, d.Low = append(d.Late, p.described.Late[row]), append(d.Watermark, p.described.Watermark[row]), append(d.Low, p.described.Low[row])
		for _, f := range src.Fields {
			b.Cols[f].AppendFrom(&p.batch.Cols[f], row)
		}
	}
}

// runRows runs the operators on the batch at hand, of rows of parts in an order, and
// delivers what they find; without an order all are of the first part.
func (k *keyedShard) runRows(ctx context.Context, order []uint8) error {
	first := 0
	if order != nil {
		first = int(order[0])
	}
	k.batch.Watermark = k.low
	if err := k.engine.useTables(ctx, k.instance, k.headers[first].tables, &k.loaded); err != nil {
		return fmt.Errorf("tables: %w", err)
	}
	var all part
	if err := k.rows(k.parts[first].source, &all); err != nil {
		return err
	}
	if order == nil {
		return k.deliver(ctx, 0, &all)
	}
	for row, i := range order {
		one := &k.parts[i].of
		one.offsets, one.rows = append(one.offsets, k.batch.Offset[row]), append(one.rows, int32(row))
	}
	for i := range k.headers {
		one := k.parts[i].of
		if len(one.offsets) == 0 {
			continue
		}
		k.parts[i].of = part{}
		one.features, one.faults, one.marks = all.features, all.faults, all.marks
		if err := k.deliver(ctx, i, &one); err != nil {
			return err
		}
	}
	return nil
}

// deliver hands features to the source of a part, where it reads some.
func (k *keyedShard) deliver(ctx context.Context, i int, p *part) error {
	f := k.parts[i].from
	if f == nil || f.read < 0 {
		return nil
	}
	return f.shard.gather.deliver(ctx, f.read, k.partition, p, 0)
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
		if !k.aside {
			p.take(&k.topic.Sources[at], &k.outboxes[at])
		}
		return nil
	}
	all, described := k.batch, k.described
	defer func() { k.batch, k.described = all, described }()
	p.features = make([]event.Column, len(k.topic.Sources[at].Reads))
	for i, slot := range k.topic.Sources[at].Reads {
		p.features[i].Reset(k.instance.Features(at)[slot])
	}
	for row := range all.Len() {
		k.row = k.base + row
		if text, bad := k.poisoned[k.at][k.row]; bad {
			k.logger.Error("an event is left out of the windows of a keyed stream: they panicked twice", "offset", all.Offset[row], "panic", text)
			for i := range p.features {
				p.features[i].AppendNull()
				p.faults = append(p.faults, cep.Fault{Slot: i, Row: row, Err: fmt.Errorf("panic in a window: %s", text)})
			}
			continue
		}
		k.batch, k.described = event.Batch{}, cep.Outbox{}
		k.batch.Reset(all.Schema, k.topic.Sources[at].Fields)
		k.batch.Watermark, k.batch.Origin = all.Watermark, []event.Origin{all.OriginOf(row)}
		k.batch.Offset, k.batch.Time = all.Offset[row:row+1], all.Time[row:row+1]
		for _, f := range k.topic.Sources[at].Fields {
			k.batch.Cols[f].AppendFrom(&all.Cols[f], row)
		}
		k.described.Late, k.described.Watermark, k.described.Low = described.Late[row:row+1], described.Watermark[row:row+1], described.Low[row:row+1]
		if err := k.operate(at); err != nil {
			return err
		}
		if k.aside {
			continue
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
		if k.only != nil && !k.only[op.Identity] {
			continue
		}
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

package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/cep/checkpoint"
	"github.com/weirstream/weir/ingest/event"
)

// A checkpoint of a keyed stream's shard says beside the state of operators, as
// cep.SnapshotWriter writes it: a version, the identity of the topic, the cursor, the
// lowest watermark, and of each source partition whose rows came before the cursor its
// stream, partition, incarnation, how far it was told and its watermark.
//
// It becomes visible when all sources' own checkpoints have passed what it has taken in:
// what a source will ask for again, the shard will find again.
const keyedCheckpointVersion = 1

// savedKeyed is a checkpoint's contents.
type savedKeyed struct {
	topicID string
	cursor  int64
	low     event.Time
	sources []blockHeader // stream, partition, incarnation, to and watermark
	saved   *checkpoint.Saved
}

// gate lets through who waits for a number to be reached.
type gate struct {
	mu    sync.Mutex
	at    int64
	moved chan struct{} // closed when at grows; nil: nobody waits
}

func (g *gate) reach(at int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.at = at; g.moved != nil {
		close(g.moved)
		g.moved = nil
	}
}

func (g *gate) wait(ctx context.Context, at int64) error {
	for {
		g.mu.Lock()
		if g.at >= at {
			g.mu.Unlock()
			return nil
		}
		if g.moved == nil {
			g.moved = make(chan struct{})
		}
		moved := g.moved
		g.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (k *keyedShard) dir() string {
	return filepath.Join(k.engine.opts.Dir, k.topic.topic()+"-"+strconv.Itoa(int(k.partition)))
}

// moved reports whether there is something that a checkpoint could save.
func (k *keyedShard) moved() bool { return !k.cut && k.cursor != k.saved }

// keep goes on with the checkpoint at hand, or begins one that is due.
func (k *keyedShard) keep(ctx context.Context) error {
	if !k.checkpoints.busy() {
		if k.checkpoints.due(k.moved()) > 0 {
			return nil
		}
		if err := k.freeze(ctx); err != nil {
			return err
		}
	}
	if w := k.checkpoints.goOn(&k.meter, k.ops); w != nil {
		return k.durable(w)
	}
	return nil
}

// checkpoint saves the shard as of its cursor, and returns when that is durable. Its
// sources have ended.
func (k *keyedShard) checkpoint(ctx context.Context) error {
	if !k.settled() {
		return nil // a source failed: it will ask again
	}
	if k.checkpoints.busy() {
		if err := k.durable(k.checkpoints.finish()); err != nil {
			return err
		}
	}
	if !k.moved() {
		return nil
	}
	if err := k.freeze(ctx); err != nil {
		return err
	}
	return k.durable(k.checkpoints.finish())
}

// cutAt begins the last checkpoint of a stretch of a replay, before the first block with
// something behind it: the next stretch goes on from there, or from the one that is being
// written. What this stretch reads behind that is in no checkpoint.
func (k *keyedShard) cutAt(ctx context.Context) error {
	if !k.engine.opts.goesOn || k.cut || !slices.ContainsFunc(k.headers, k.behind) {
		return nil
	}
	begins := k.moved() && !k.checkpoints.busy()
	k.cut = true
	if !begins {
		return nil
	}
	return k.freeze(ctx)
}

// behind reports whether a part of a block goes beyond the range that is replayed.
func (k *keyedShard) behind(h blockHeader) bool {
	f, _ := k.from(&h)
	if f == nil {
		return false
	}
	_, to := k.engine.opts.replayed(f.shard.origin.Topic, h.partition)
	return h.to > to
}

// settled reports whether all sources' checkpoints have passed what was taken in, or the
// stretch that is replayed.
func (k *keyedShard) settled() bool {
	for i := range k.sources {
		f := &k.sources[i]
		next := f.next
		if k.cut {
			_, to := k.engine.opts.replayed(f.shard.origin.Topic, f.shard.partition)
			next = min(next, to)
		}
		if next > f.shard.saved {
			return false
		}
	}
	return true
}

// freeze begins a checkpoint.
func (k *keyedShard) freeze(ctx context.Context) error {
	meta, err := k.encode()
	if err == nil {
		type passed struct {
			gate *gate
			next int64
		}
		var all []passed
		for i := range k.sources {
			all = append(all, passed{&k.sources[i].shard.kept, k.sources[i].next})
		}
		k.topsAt = 0
		k.pins.passBy(k.cursor, k.low, reachOf(k.ops))
		err = k.checkpoints.begin(ctx, k.cursor, meta, k.ops, func(ctx context.Context) error {
			for _, p := range all {
				if err := p.gate.wait(ctx, p.next); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}

// durable notes that a checkpoint is durable, or failed.
func (k *keyedShard) durable(w *writing) error {
	if w.err != nil {
		return fmt.Errorf("checkpoint: %w", w.err)
	}
	k.saved = w.cursor
	k.pin()
	if err := k.engine.sweepLeft(k.dir(), k.ops, &k.checkpoints); err != nil {
		return err
	}
	for offset := range k.careful {
		if offset < k.saved {
			delete(k.careful, offset)
			delete(k.poisoned, offset)
		}
	}
	k.metrics.checkpoint.Observe(time.Since(w.begun).Seconds())
	k.metrics.pause.Observe(w.pause.Seconds())
	return nil
}

func (k *keyedShard) encode() ([]byte, error) {
	var buf bytes.Buffer
	w := cep.NewSnapshotWriter(&buf)
	w.Uvarint(keyedCheckpointVersion)
	w.Bytes([]byte(k.topicID))
	w.Varint(k.cursor)
	w.Varint(int64(k.low))
	w.Uvarint(uint64(len(k.sources)))
	for i := range k.sources {
		f := &k.sources[i]
		w.Bytes([]byte(f.shard.stream.Schema.Stream))
		w.Varint(int64(f.shard.partition))
		w.Uint64(f.shard.incarnation())
		w.Varint(f.next)
		w.Varint(int64(f.watermark))
	}
	err := w.Flush()
	return buf.Bytes(), err
}

func decodeKeyed(data []byte) (*savedKeyed, error) {
	r := cep.NewSnapshotReader(bytes.NewReader(data))
	if v := r.Uvarint(); r.Err() == nil && v != keyedCheckpointVersion {
		return nil, fmt.Errorf("version %d, this program reads %d", v, keyedCheckpointVersion)
	}
	st := &savedKeyed{topicID: string(r.Bytes(nil, len(data)))}
	st.cursor, st.low = r.Varint(), event.Time(r.Varint())
	for n := r.Uvarint(); n > 0 && r.Err() == nil; n-- {
		h := blockHeader{stream: string(r.Bytes(nil, len(data))), partition: int32(r.Varint()), incarnation: r.Uint64()}
		h.to, h.watermark = r.Varint(), event.Time(r.Varint())
		st.sources = append(st.sources, h)
	}
	return st, r.Err()
}

// restore puts the shard where its newest checkpoint left it that its sources have
// passed, or at the beginning of its log. The sources are restored.
func (k *keyedShard) restore(ctx context.Context) error {
	if of := k.engine.opts.TopicID; of != nil {
		var err error
		if k.topicID, err = of(k.topic.topic()); err != nil {
			return err
		}
	}
	for below := uint64(math.MaxUint64); ; {
		if err := k.begin(); err != nil {
			return err
		}
		st, err := newestOf(k.checkpoints.store, below, k.readCheckpoint, k.warnUnusable)
		if err != nil {
			return fmt.Errorf("%s[%d]: read checkpoints: %w", k.topic.topic(), k.partition, err)
		}
		if st == nil {
			k.checkpoints.store.Restart()
			return nil
		}
		err = replayOperators(k.checkpoints.store, st.saved, nil, k.ops)
		if err == nil {
			return k.resume(st)
		}
		k.logger.Info("the state of windows in a checkpoint cannot be used", "why", err)
		if below = st.saved.Generation; !errors.Is(err, checkpoint.ErrDamaged) {
			below = 0 // a window is new: nor can the one before
		}
	}
}

// begin makes everything that a life needs anew.
func (k *keyedShard) begin() (err error) {
	if k.instance, err = k.program.KeyedInstance(k.topic.index); err != nil {
		return fmt.Errorf("keyed stream %s: %w", k.topic.Name, err)
	}
	k.cursor, k.saved, k.low, k.loaded = 0, 0, event.MinTime, -1
	k.checkpoints.begun, k.pins = time.Now(), keyedPins{newest: event.MinTime}
	k.outboxes = make([]cep.Outbox, len(k.topic.Sources))
	k.at, k.row, k.cut = -1, -1, false
	k.readers = nil
	k.mu.Lock()
	k.ops = nil
	for _, op := range k.instance.Operators() {
		k.readers = append(k.readers, k.topic.Sources[op.Reader].Stream.Schema.Stream)
		k.ops = append(k.ops, op.Operator)
	}
	k.mu.Unlock()
	if !k.aside {
		if err := k.engine.placeEvents(k.dir(), k.ops); err != nil {
			return fmt.Errorf("%s[%d]: %w", k.topic.topic(), k.partition, err)
		}
	}
	for i := range k.sources {
		f := &k.sources[i]
		f.next, f.watermark, f.read = 0, event.MinTime, -1
	}
	return nil
}

func (st *savedKeyed) of() *checkpoint.Saved { return st.saved }

// readCheckpoint reads a checkpoint but for the state of operators.
func (k *keyedShard) readCheckpoint(generation uint64) (*savedKeyed, error) {
	saved, err := k.checkpoints.store.Load(generation)
	if err != nil {
		return nil, err
	}
	st, err := decodeKeyed(saved.Meta)
	if err != nil {
		return nil, err
	}
	st.saved = saved
	return st, k.usable(st)
}

func (k *keyedShard) warnUnusable(generation uint64, err error) {
	k.logger.Warn("a checkpoint cannot be used; an older one or the log itself will do", "file", k.checkpoints.store.Name(generation), "err", err)
}

// usable refuses a checkpoint of another topic, and one whose sources will ask for what
// it has taken in.
func (k *keyedShard) usable(st *savedKeyed) error {
	if st.topicID != k.topicID {
		return errors.New("it is of another topic of that name")
	}
	if end, err := k.engine.opts.Sink.End(k.topic.topic(), k.partition); err == nil && st.cursor > end {
		return fmt.Errorf("it is at offset %d and the topic ends at %d", st.cursor, end)
	}
	for i := range st.sources {
		f := k.saidOf(&st.sources[i])
		if f == nil {
			return fmt.Errorf("it has events of %s[%d], which was deleted or made again since", st.sources[i].stream, st.sources[i].partition)
		}
		if st.sources[i].to > f.shard.cursor {
			return fmt.Errorf("it has %s[%d] before offset %d, of which those from %d on are to be decided", f.shard.origin.Topic, f.shard.partition, st.sources[i].to, f.shard.cursor)
		}
	}
	return nil
}

// saidOf is the source partition that a checkpoint tells of, nil where there is none.
func (k *keyedShard) saidOf(h *blockHeader) *keyedFrom {
	f, _ := k.from(h)
	return f
}

// resume goes on from a checkpoint whose state the operators have.
func (k *keyedShard) resume(st *savedKeyed) error {
	k.cursor, k.saved, k.low = st.cursor, st.cursor, st.low
	for i := range st.sources {
		f := k.saidOf(&st.sources[i])
		f.next, f.watermark = st.sources[i].to, st.sources[i].watermark
		k.pins.newest = max(k.pins.newest, f.shard.clock.Newest()) // what it took in its source has
	}
	for _, op := range k.instance.Operators() {
		if err := op.Advance(k.low, &k.outboxes[op.Reader]); err != nil {
			return err
		}
	}
	k.publish(k.cursor)
	return nil
}

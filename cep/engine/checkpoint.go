package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"strconv"
	"time"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/cep/checkpoint"
	"github.com/weirstream/weir/ingest/event"
)

// What a checkpoint says beside the state of operators is the magic, the parts below
// as cep.SnapshotWriter writes them, and a CRC-32C of all of it. Up to version 4 the
// operators followed, and all of it was one file.
const (
	checkpointMagic   = "WEIRCKP1"
	checkpointVersion = 5 // 1 did not say of which source it is, 2 had no journal, 3 one watermark only
	identityMax       = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// savedState is a checkpoint's contents.
type savedState struct {
	state
	program   string // that has decided; empty: none has
	source    savedSource
	clock     []byte // as cep.Clock writes it
	ends      []savedEnd
	needs     needs
	saved     *checkpoint.Saved
	operators map[string][]byte // up to version 4: state by identity
}

// savedSource is what a checkpoint was made of: the same cursor in another topic,
// or the same operators over events that are read in another way, are not the
// same state.
type savedSource struct {
	known    bool   // false in version 1
	topic    string // its name
	id       string // tells it from another of that name; empty where not known
	declared string // what of the stream's declaration an event's values hang on
}

type savedEnd struct {
	topic     string
	partition int32
	end       int64
}

// dir is where the shard's checkpoints are.
func (s *shard) dir() string {
	return filepath.Join(s.engine.opts.Dir, s.stream.Schema.Stream+"-"+strconv.Itoa(int(s.partition)))
}

// keep goes on with the checkpoint at hand, or begins one that is due.
func (s *shard) keep(ctx context.Context) error {
	if !s.checkpoints.busy() {
		if s.checkpoints.due(s.position != s.saved) > 0 {
			return nil
		}
		if err := s.beginCheckpoint(ctx); err != nil || !s.checkpoints.busy() {
			return err
		}
	}
	if w := s.checkpoints.goOn(&s.meter, s.instance.Operators()); w != nil {
		return s.durable(w)
	}
	return nil
}

// checkpoint saves the shard as of its cursor, and returns when that is durable.
func (s *shard) checkpoint(ctx context.Context) error {
	if s.checkpoints.busy() {
		if err := s.durable(s.checkpoints.finish()); err != nil {
			return err
		}
	}
	if err := s.beginCheckpoint(ctx); err != nil || !s.checkpoints.busy() {
		return err
	}
	w := s.checkpoints.finish()
	for !s.lookTop(s.instance.Operators(), slice) {
	}
	return s.durable(w)
}

// beginCheckpoint begins a checkpoint where something has moved.
func (s *shard) beginCheckpoint(ctx context.Context) error {
	if err := s.drain(ctx); err != nil {
		return err
	}
	if s.cursor == s.saved && s.everSaved {
		return nil
	}
	if s.lane != nil {
		if err := s.merger.mark(ctx, s.lane, s.position, s.clock.Watermark(), s.changes); err != nil {
			return err
		}
	}
	return s.freeze(ctx)
}

// save writes a checkpoint even where nothing has moved.
func (s *shard) save(ctx context.Context) error {
	if err := s.freeze(ctx); err != nil {
		return err
	}
	return s.durable(s.checkpoints.finish())
}

// freeze begins a checkpoint of the shard as of its cursor.
func (s *shard) freeze(ctx context.Context) error {
	ends, outputs := s.ends()
	needs := s.passBy(ends)
	meta, err := s.encode(needs)
	if err == nil {
		s.topsAt = 0
		err = s.checkpoints.begin(ctx, s.cursor, meta, s.stateful(), func(ctx context.Context) error {
			return s.engine.durable(ctx, outputs)
		})
		s.begunNeeds = needs
	}
	if err != nil {
		return fmt.Errorf("%s[%d]@%d: checkpoint: %w", s.origin.Topic, s.partition, s.cursor, err)
	}
	return nil
}

// durable waits until outputs are.
func (e *Engine) durable(ctx context.Context, outputs []awaited) error {
	for _, o := range outputs {
		if err := e.opts.Sink.Durable(ctx, o.topic, o.partition, o.offset); err != nil {
			return fmt.Errorf("wait for %s[%d]@%d: %w", o.topic, o.partition, o.offset, err)
		}
	}
	return nil
}

// outputsDurable waits until all is durable that was written to the outputs.
func (s *shard) outputsDurable(ctx context.Context) error {
	var all []awaited
	for i := range s.outputs.topics {
		if o := &s.outputs.topics[i]; o.last >= 0 {
			all = append(all, awaited{o.topic, o.partition, o.last})
		}
	}
	return s.engine.durable(ctx, all)
}

// durable notes that a checkpoint is durable, or failed.
func (s *shard) durable(w *writing) error {
	if w.err != nil {
		return fmt.Errorf("%s[%d]@%d: checkpoint: %w", s.origin.Topic, s.partition, w.cursor, w.err)
	}
	s.saved, s.everSaved = w.cursor, true
	s.kept.reach(s.saved)
	s.needed(s.begunNeeds)
	for offset := range s.strikes {
		if offset < s.saved {
			delete(s.strikes, offset)
			delete(s.poisoned, offset)
		}
	}
	if err := s.engine.sweepLeft(s.dir(), s.instance.Operators(), &s.checkpoints); err != nil {
		return err
	}
	s.metrics.checkpoint.Observe(time.Since(w.begun).Seconds())
	s.metrics.pause.Observe(w.pause.Seconds())
	s.metrics.pieces.Add(float64(w.count))
	s.metrics.written.Add(float64(w.bytes))
	s.metrics.kept.Set(float64(s.checkpoints.store.Bytes()))
	s.showOperators(false)
	return nil
}

// ends are where the outputs written so far end, and which of them have to be durable
// before that can be said.
func (s *shard) ends() (ends []savedEnd, outputs []awaited) {
	add := func(t *output) {
		if t.last >= 0 {
			outputs = append(outputs, awaited{t.topic, t.partition, t.last})
		}
		ends = append(ends, savedEnd{t.topic, t.partition, t.settled(s.cursor)})
	}
	for i := range s.outputs.topics {
		add(&s.outputs.topics[i])
	}
	for _, p := range s.projections {
		for i := range p.parts {
			add(&p.parts[i].output)
		}
	}
	return ends, outputs
}

// settled is the offset from which a restart at the cursor must look for the
// shard's records: all before are of events before the cursor, and durable. That
// is not the partition's end, where records of other shards may not be durable:
// should those get lost, this shard's next ones would stand before it.
func (o *output) settled(cursor int64) int64 {
	if cursor < o.reach {
		return o.from // some that were found are of events still to come
	}
	clear(o.written)
	clear(o.decided)
	return max(o.end, o.last+1)
}

func (s *shard) encode(n needs) ([]byte, error) {
	var buf bytes.Buffer
	buf.WriteString(checkpointMagic)
	w := cep.NewSnapshotWriter(&buf)
	w.Uvarint(checkpointVersion)
	program := s.program.ID()
	if s.engine.opts.Journal == JournalLive {
		program = s.inForce // it may stand in for that one, or have decided nothing yet
	}
	w.Bytes([]byte(program))
	for _, text := range []string{s.source.topic, s.source.id, s.source.declared} {
		w.Bytes([]byte(text))
	}
	w.Varint(s.cursor)
	if err := appendSnapshot(w, s.clock.Snapshot); err != nil {
		return nil, err
	}
	c := &s.counts
	for _, n := range []int64{c.events, c.decisions, c.alerts, c.late, c.deadLetters} {
		w.Varint(n)
	}
	w.Varint(s.changes)
	w.Varint(s.journaled)
	w.Uvarint(uint64(len(n.ends)))
	for _, e := range n.ends {
		w.Bytes([]byte(e.topic))
		w.Varint(int64(e.partition))
		w.Varint(e.end)
	}
	w.Varint(n.source)
	w.Varint(n.journal)
	w.Uvarint(uint64(len(s.passed)))
	for _, p := range s.passed {
		w.Varint(p.offset)
		w.Varint(int64(p.newest))
		w.Varint(p.journaled)
	}
	if err := w.Flush(); err != nil {
		return nil, err
	}
	return binary.LittleEndian.AppendUint32(buf.Bytes(), crc32.Checksum(buf.Bytes(), castagnoli)), nil
}

// appendSnapshot writes a snapshot as bytes of its own.
func appendSnapshot(w *cep.SnapshotWriter, snapshot func(*cep.SnapshotWriter) error) error {
	var one bytes.Buffer
	ow := cep.NewSnapshotWriter(&one)
	if err := snapshot(ow); err != nil {
		return err
	}
	if err := ow.Flush(); err != nil {
		return err
	}
	w.Bytes(one.Bytes())
	return nil
}

// decodeCheckpoint reads what encode wrote. data is retained by operators.
func decodeCheckpoint(data []byte) (*savedState, error) {
	if len(data) < len(checkpointMagic)+4 || string(data[:len(checkpointMagic)]) != checkpointMagic {
		return nil, errors.New("not a checkpoint")
	}
	body := data[:len(data)-4]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(data[len(body):]) {
		return nil, errors.New("damaged: its checksum does not match")
	}
	r := cep.NewSnapshotReader(bytes.NewReader(body[len(checkpointMagic):]))
	v := r.Uvarint()
	if v < 1 || v > checkpointVersion {
		return nil, fmt.Errorf("version %d, this program reads %d", v, checkpointVersion)
	}
	limit := len(data)
	out := &savedState{operators: map[string][]byte{}}
	out.program = string(r.Bytes(nil, limit))
	if out.source.known = v > 1; out.source.known {
		for _, text := range []*string{&out.source.topic, &out.source.id, &out.source.declared} {
			*text = string(r.Bytes(nil, limit))
		}
	}
	out.cursor = r.Varint()
	if v > 3 {
		out.clock = r.Bytes(nil, limit)
	} else {
		// The greatest time, and no groups.
		out.clock = binary.AppendUvarint(binary.AppendVarint(nil, r.Varint()), 0)
	}
	c := &out.counts
	for _, n := range []*int64{&c.events, &c.decisions, &c.alerts, &c.late, &c.deadLetters} {
		*n = r.Varint()
	}
	if v > 2 {
		out.changes, out.journaled = r.Varint(), r.Varint()
	}
	for n := r.Uvarint(); n > 0 && r.Err() == nil; n-- {
		topic := string(r.Bytes(nil, limit))
		out.ends = append(out.ends, savedEnd{topic, int32(r.Varint()), r.Varint()})
	}
	out.needs = needs{source: out.cursor, journal: out.journaled, ends: out.ends}
	if v > 4 {
		out.needs.source, out.needs.journal = r.Varint(), r.Varint()
		for n := r.Uvarint(); n > 0 && r.Err() == nil; n-- {
			out.passed = append(out.passed, passed{r.Varint(), event.Time(r.Varint()), r.Varint()})
		}
		return out, r.Err()
	}
	for n := r.Uvarint(); n > 0 && r.Err() == nil; n-- {
		id := string(r.Bytes(nil, min(limit, identityMax)))
		out.operators[id] = r.Bytes(nil, limit)
	}
	return out, r.Err()
}

// newest is the newest checkpoint below a generation that can be read, nil where there
// is none. What comes next adds to it.
func (s *shard) newest(below uint64) (*savedState, error) {
	return newestOf(s.checkpoints.store, below, s.readCheckpoint, s.warnUnusable)
}

// newestOf is newest of a store: read reads a checkpoint, and warn is told of those that
// cannot be used.
func newestOf[T interface{ of() *checkpoint.Saved }](store *checkpoint.Store, below uint64, read func(generation uint64) (T, error), warn func(uint64, error)) (none T, err error) {
	gens, err := store.Generations()
	if err != nil {
		return none, err
	}
	for _, g := range gens {
		if g >= below {
			continue
		}
		st, err := read(g)
		if err == nil {
			store.Use(st.of())
			return st, nil
		}
		warn(g, err)
	}
	store.Use(nil)
	return none, nil
}

func (st *savedState) of() *checkpoint.Saved { return st.saved }

func (s *shard) warnUnusable(generation uint64, err error) {
	s.logger.Warn("a checkpoint cannot be used; an older one or the log itself will do", "file", s.checkpoints.store.Name(generation), "err", err)
}

// readCheckpoint reads a checkpoint but for the state of operators.
func (s *shard) readCheckpoint(generation uint64) (*savedState, error) {
	saved, err := s.checkpoints.store.Load(generation)
	if err != nil {
		return nil, err
	}
	data := saved.Meta
	if saved.Old != nil {
		data = saved.Old
	}
	st, err := decodeCheckpoint(data)
	if err != nil {
		return nil, err
	}
	st.saved = saved
	return st, nil
}

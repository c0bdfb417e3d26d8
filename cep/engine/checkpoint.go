package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/log/vfs"
)

// A checkpoint is a file <generation>.checkpoint in the shard's directory: the
// magic, the parts below as cep.SnapshotWriter writes them, and a CRC-32C of all
// of it. The newest two generations are kept: should the newest be damaged, the
// one before it does, with more to suppress.
const (
	checkpointMagic   = "WEIRCKP1"
	checkpointVersion = 4 // 1 did not say of which source it is, 2 had no journal, 3 one watermark only
	checkpointSuffix  = ".checkpoint"
	generationsKept   = 2
	identityMax       = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// savedState is a checkpoint's contents.
type savedState struct {
	state
	program   string
	source    savedSource
	clock     []byte // as cep.Clock writes it
	ends      []savedEnd
	operators map[string][]byte // state by identity
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

// checkpoint saves the shard as of its cursor. It waits until the outputs before
// it are durable.
func (s *shard) checkpoint(ctx context.Context) error {
	if err := s.drain(ctx); err != nil {
		return err
	}
	if s.cursor == s.saved && s.generation > 0 {
		return nil
	}
	if err := s.markProjections(ctx); err != nil {
		return err
	}
	return s.save(ctx)
}

// save writes a checkpoint even where nothing has moved.
func (s *shard) save(ctx context.Context) error {
	begun := time.Now()
	ends, err := s.settle(ctx)
	if err != nil {
		return fmt.Errorf("%s[%d]@%d: checkpoint: %w", s.origin.Topic, s.partition, s.cursor, err)
	}
	data, err := s.encode(ends)
	if err == nil {
		err = s.store(data)
	}
	if err != nil {
		return fmt.Errorf("%s[%d]@%d: checkpoint: %w", s.origin.Topic, s.partition, s.cursor, err)
	}
	s.saved, s.savedAt = s.cursor, time.Now()
	for offset := range s.strikes {
		if offset < s.saved {
			delete(s.strikes, offset)
			delete(s.poisoned, offset)
		}
	}
	s.metrics.checkpoint.Observe(s.savedAt.Sub(begun).Seconds())
	s.show(true)
	return nil
}

// settle waits until the outputs written so far are durable and returns where they
// end.
func (s *shard) settle(ctx context.Context) ([]savedEnd, error) {
	var ends []savedEnd
	for i := range s.outputs.topics {
		t := &s.outputs.topics[i]
		if t.last >= 0 {
			if err := s.engine.opts.Sink.Durable(ctx, t.topic, t.partition, t.last); err != nil {
				return nil, fmt.Errorf("wait for %s[%d]@%d: %w", t.topic, t.partition, t.last, err)
			}
		}
		ends = append(ends, savedEnd{t.topic, t.partition, t.settled(s.cursor)})
	}
	for _, p := range s.projections {
		for i := range p.parts {
			t := &p.parts[i]
			if t.last >= 0 {
				if err := s.engine.opts.Sink.Durable(ctx, t.topic, t.partition, t.last); err != nil {
					return nil, fmt.Errorf("wait for %s[%d]@%d: %w", t.topic, t.partition, t.last, err)
				}
			}
			ends = append(ends, savedEnd{t.topic, t.partition, t.settled(s.cursor)})
		}
	}
	return ends, nil
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

func (s *shard) encode(ends []savedEnd) ([]byte, error) {
	var buf bytes.Buffer
	buf.WriteString(checkpointMagic)
	w := cep.NewSnapshotWriter(&buf)
	w.Uvarint(checkpointVersion)
	w.Bytes([]byte(s.program.ID()))
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
	w.Uvarint(uint64(len(ends)))
	for _, e := range ends {
		w.Bytes([]byte(e.topic))
		w.Varint(int64(e.partition))
		w.Varint(e.end)
	}
	ops := s.stateful()
	w.Uvarint(uint64(len(ops)))
	for _, op := range ops {
		w.Bytes([]byte(op.Identity))
		if err := appendSnapshot(w, op.Snapshot); err != nil {
			return nil, err
		}
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
	for n := r.Uvarint(); n > 0 && r.Err() == nil; n-- {
		id := string(r.Bytes(nil, min(limit, identityMax)))
		out.operators[id] = r.Bytes(nil, limit)
	}
	return out, r.Err()
}

// store writes a checkpoint file and removes those that are no longer needed.
func (s *shard) store(data []byte) error {
	vf, dir := s.engine.opts.FS, s.dir()
	if err := vf.MkdirAll(dir); err != nil {
		return err
	}
	if err := vfs.WriteFile(vf, s.file(s.generation+1), data); err != nil {
		return err
	}
	s.generation++
	gens, err := s.generations()
	if err != nil {
		return err
	}
	for _, g := range gens {
		if g+generationsKept <= s.generation {
			if err := vf.Remove(s.file(g)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

func (s *shard) file(generation uint64) string {
	return filepath.Join(s.dir(), fmt.Sprintf("%020d%s", generation, checkpointSuffix))
}

// generations are those on disk, newest first.
func (s *shard) generations() ([]uint64, error) {
	names, err := s.engine.opts.FS.List(s.dir())
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, err
	}
	var gens []uint64
	for _, n := range names {
		digits, found := strings.CutSuffix(n, checkpointSuffix)
		if g, err := strconv.ParseUint(digits, 10, 64); found && err == nil {
			gens = append(gens, g)
		}
	}
	slices.Sort(gens)
	slices.Reverse(gens)
	return gens, nil
}

// newest is the newest checkpoint that is whole, nil where there is none.
func (s *shard) newest() (*savedState, error) {
	gens, err := s.generations()
	if err != nil {
		return nil, err
	}
	for i, g := range gens {
		if i == 0 {
			s.generation = g
		}
		data, err := vfs.ReadFile(s.engine.opts.FS, s.file(g))
		if err == nil {
			var st *savedState
			if st, err = decodeCheckpoint(data); err == nil {
				return st, nil
			}
		}
		s.logger.Warn("a checkpoint cannot be used; an older one or the log itself will do", "file", s.file(g), "err", err)
	}
	return nil, nil
}

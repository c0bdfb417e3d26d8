package engine

import (
	"fmt"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/decode"
	"github.com/weirstream/weir/ingest/dedupe"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/source"
)

// stateful are the operators whose state a checkpoint holds: the program's, and the
// ids of a stream that leaves out duplicates.
func (s *shard) stateful() []Operator {
	ops := s.instance.Operators()
	if s.seen == nil {
		return ops
	}
	return append(ops[:len(ops):len(ops)], Operator{Identity: fmt.Sprintf("dedupe/1 span=%v", s.stream.Dedupe), Operator: seenState{s.seen}})
}

// takeID has the id of a record that is left out known as taken. Its retries were
// duplicates before it was left out, and some may have been left out of keyed streams as
// such; so they are duplicates for ever.
func (s *shard) takeID(recs []source.Record) {
	if s.seen == nil {
		return
	}
	defer s.batch.Reset(s.stream.Schema, s.project)
	defer func() { _ = recover() }() // of a record at which the decoder panics
	s.decoder.Decode(&s.batch, s.origin, recs, func(*source.Record, decode.Failure) {})
}

// seenState keeps a Seen in checkpoints, of which it is a cep.Incremental. The decoder
// is what uses it.
type seenState struct{ *dedupe.Seen }

var _ cep.Incremental = seenState{}

func (seenState) Process(*event.Batch, *cep.Outbox) error { return nil }

func (seenState) Advance(event.Time, *cep.Outbox) error { return nil }

func (s seenState) Snapshot(w *cep.SnapshotWriter) error {
	w.Bytes(s.AppendSnapshot(nil))
	return nil
}

// seenMax bounds what is read of a checkpoint: some forty million ids.
const seenMax = 1 << 30

func (s seenState) Restore(r *cep.SnapshotReader) error {
	data := r.Bytes(nil, seenMax)
	if err := r.Err(); err != nil {
		return err
	}
	return s.Seen.Restore(data)
}

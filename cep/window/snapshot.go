package window

import (
	"fmt"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
)

// snapshotVersion is the first number of a snapshot. Version 1: stride, keys;
// for each key in the order of its hash: key, events; for each event: time less
// the one before it, words.
const snapshotVersion = 1

// Snapshot implements cep.Operator. Running sums and tails are not written: they
// follow from the events.
func (s *Sliding) Snapshot(w *cep.SnapshotWriter) error {
	old := s.watermark.Sub(s.longest)
	w.Uvarint(snapshotVersion)
	w.Uvarint(uint64(s.stride))
	keys := uint64(0)
	for _, slot := range s.table.slots {
		if slot == 0 {
			continue
		}
		if s.rec(uint32(slot)-1).newest > old {
			keys++
		}
	}
	w.Uvarint(keys)
	var key []byte
	for _, slot := range s.table.slots {
		if slot == 0 {
			continue
		}
		r := s.rec(uint32(slot) - 1)
		v := s.ring(r)
		live := v.after(0, r.n, old)
		if live == r.n {
			continue
		}
		key = s.appendKey(key[:0], r)
		w.Bytes(key)
		w.Uvarint(uint64(r.n - live))
		last := event.Time(0)
		for i := live; i < r.n; i++ {
			words := v.event(i)
			w.Varint(int64(event.Time(words[0]) - last))
			last = event.Time(words[0])
			for _, word := range words[1:] {
				w.Uint64(word)
			}
		}
	}
	return nil
}

// Restore implements cep.Operator.
func (s *Sliding) Restore(r *cep.SnapshotReader) error {
	s.reset()
	s.watermark = event.MinTime
	if v := r.Uvarint(); r.Err() == nil && v != snapshotVersion {
		return fmt.Errorf("window: %w: version %d, this program reads %d", cep.ErrSnapshot, v, snapshotVersion)
	}
	if v := r.Uvarint(); r.Err() == nil && v != uint64(s.stride) {
		return fmt.Errorf("window: %w: events of %d words where this program has %d", cep.ErrSnapshot, v, s.stride)
	}
	keys := r.Uvarint()
	var key []byte
	for ; keys > 0 && r.Err() == nil; keys-- {
		key = r.Bytes(key, keyMax)
		n := r.Uvarint()
		if r.Err() != nil || n == 0 {
			break
		}
		hash := hashOf(key)
		if _, found := s.find(hash, key); found {
			return fmt.Errorf("window: %w: a key twice", cep.ErrSnapshot)
		}
		id := s.newRecord(hash, key)
		last := event.Time(0)
		for ; n > 0; n-- {
			last += event.Time(r.Varint())
			for i := 1; i < s.stride; i++ {
				s.scratch[i] = r.Uint64()
			}
			if r.Err() != nil {
				break
			}
			s.push(id, last)
		}
	}
	if r.Err() != nil {
		s.reset()
		return fmt.Errorf("window: %w", r.Err())
	}
	return nil
}

package window

import (
	"fmt"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
)

// snapshotVersion is the first number of a snapshot. Version 2: the number of
// values, whether events have a mask, keys; for each key in the order of its hash:
// key, the time of the latest event that was left out (0: none, else 1 and the
// time), events; for each event: time less the one before it, the mask of absent
// values, the values that are there (text with its length).
const snapshotVersion = 2

// Snapshot implements cep.Operator. What the parts hold is not written: it follows
// from the events.
func (s *Sliding) Snapshot(w *cep.SnapshotWriter) error {
	w.Uvarint(snapshotVersion)
	w.Uvarint(uint64(len(s.cfg.Values)))
	w.Uvarint(uint64(s.stride))
	keys := uint64(0)
	for _, slot := range s.table.slots {
		if slot != 0 && s.live(s.rec(uint32(slot)-1), s.low) < s.rec(uint32(slot)-1).n {
			keys++
		}
	}
	w.Uvarint(keys)
	var key []byte
	for _, slot := range s.table.slots {
		if slot == 0 {
			continue
		}
		id := uint32(slot) - 1
		r := s.rec(id)
		live := s.live(r, s.low)
		if live == r.n {
			continue
		}
		key = s.appendKey(key[:0], r)
		w.Bytes(key)
		s.snapshotCapped(w, id, r)
		w.Uvarint(uint64(r.n - live))
		v := s.ring(r)
		last := event.Time(0)
		for i := live; i < r.n; i++ {
			words := v.event(i)
			w.Varint(int64(event.Time(words[0]) - last))
			last = event.Time(words[0])
			s.snapshotValues(w, words)
		}
	}
	return nil
}

// snapshotCapped writes what MaxEvents left out of a key, as far as it still shows.
func (s *Sliding) snapshotCapped(w *cep.SnapshotWriter, id uint32, r *record) {
	if t, ok := s.capped[id]; ok {
		v := s.ring(r)
		for i := range s.extents {
			if s.lacks(&s.extents[i], &v, r.n, t, s.low) {
				w.Uvarint(1)
				w.Varint(int64(t))
				return
			}
		}
	}
	w.Uvarint(0)
}

func (s *Sliding) snapshotValues(w *cep.SnapshotWriter, words []uint64) {
	if s.masked {
		w.Uvarint(words[s.stride-1])
	}
	for i := range s.cfg.Values {
		switch {
		case !s.has(words, i):
		case s.cfg.Values[i].isText():
			w.Bytes(s.dict.text(uint32(words[1+i])))
		default:
			w.Uint64(words[1+i])
		}
	}
}

// live is the first event of a key that an extent may be asked for at a watermark or
// later.
func (s *Sliding) live(r *record, watermark event.Time) uint32 {
	v := s.ring(r)
	n := r.n
	for i := range s.extents {
		n = min(n, s.held(&s.extents[i], &v, r.n, watermark))
	}
	return n
}

// Restore implements cep.Operator.
func (s *Sliding) Restore(r *cep.SnapshotReader) error {
	s.reset()
	s.watermark, s.low = event.MinTime, event.MinTime
	if v := r.Uvarint(); r.Err() == nil && v != snapshotVersion {
		return fmt.Errorf("window: %w: version %d, this program reads %d", cep.ErrSnapshot, v, snapshotVersion)
	}
	if v := r.Uvarint(); r.Err() == nil && v != uint64(len(s.cfg.Values)) {
		return fmt.Errorf("window: %w: events of %d values where this program has %d", cep.ErrSnapshot, v, len(s.cfg.Values))
	}
	if v := r.Uvarint(); r.Err() == nil && v != uint64(s.stride) {
		return fmt.Errorf("window: %w: events of %d words where this program has %d", cep.ErrSnapshot, v, s.stride)
	}
	var key []byte
	keys := r.Uvarint()
	s.table.reserve(int(min(keys, uint64(s.reserveMax))))
	for ; keys > 0 && r.Err() == nil; keys-- {
		key = r.Bytes(key, keyMax)
		hash := hashOf(key)
		if _, found := s.find(hash, key); found && r.Err() == nil {
			return fmt.Errorf("window: %w: a key twice", cep.ErrSnapshot)
		}
		left := r.Uvarint()
		lost := event.Time(0)
		if left == 1 {
			lost = event.Time(r.Varint())
		}
		n := r.Uvarint()
		if r.Err() != nil {
			break
		}
		if n == 0 || n > uint64(s.cfg.MaxEvents) || left > 1 {
			s.reset()
			return fmt.Errorf("window: %w: %d events of a key", cep.ErrSnapshot, n)
		}
		id := s.newRecord(hash, key)
		if left == 1 {
			s.mark(id, lost)
		}
		if err := s.restoreEvents(r, id, n); err != nil {
			s.reset()
			return err
		}
	}
	if r.Err() != nil {
		s.reset()
		return fmt.Errorf("window: %w", r.Err())
	}
	return nil
}

func (s *Sliding) restoreEvents(r *cep.SnapshotReader, id uint32, n uint64) error {
	last := event.Time(0)
	for first := true; n > 0; n-- {
		t := last + event.Time(r.Varint())
		if !first && t < last {
			return fmt.Errorf("window: %w: events out of order", cep.ErrSnapshot)
		}
		first, last = false, t
		mask := uint64(0)
		if s.masked {
			mask = r.Uvarint()
			s.scratch[s.stride-1] = mask
		}
		for i := range s.cfg.Values {
			s.scratch[1+i] = 0
			switch {
			case mask>>i&1 != 0:
			case s.cfg.Values[i].isText():
				text := r.Bytes(nil, keyMax)
				if r.Err() == nil {
					s.scratch[1+i] = uint64(s.dict.add(text))
				}
			default:
				s.scratch[1+i] = r.Uint64()
			}
		}
		if r.Err() != nil {
			return fmt.Errorf("window: %w", r.Err())
		}
		s.push(id, last)
	}
	return nil
}

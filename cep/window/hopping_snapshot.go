package window

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
)

// hoppingVersion is the first number of a snapshot: the watermark, the missed events,
// the panes in their order; of each its number and its keys in the order of their
// first events; of each key the number of events and what the parts hold, sets in the
// order of their values.
const hoppingVersion = 1

// Snapshot implements cep.Operator.
func (h *Hopping) Snapshot(w *cep.SnapshotWriter) error {
	w.Uvarint(hoppingVersion)
	w.Uvarint(uint64(h.cells))
	w.Varint(int64(h.low))
	w.Varint(h.missed)
	w.Uvarint(uint64(len(h.panes)))
	var key []byte
	for _, p := range h.panes {
		w.Varint(p.index)
		w.Uvarint(uint64(len(p.records)))
		for _, id := range p.records {
			key = h.appendKey(key[:0], h.rec(id))
			w.Bytes(key[:len(key)-paneBytes])
			cells := h.cellsOf(id)
			w.Uvarint(cells[countAt])
			for i := range h.extent.parts {
				one := &h.extent.parts[i]
				h.snapshotPart(w, one, cells[one.at:one.at+one.words], wideKey(id, one.at))
			}
		}
	}
	return nil
}

func (s *store) snapshotPart(w *cep.SnapshotWriter, p *part, c []uint64, wide uint64) {
	switch p.kind {
	case setPart:
		s.snapshotSet(w, p, c)
	case sketchPart:
		b := block{c}
		w.Uvarint(uint64(b.n()))
		for _, word := range s.words(b)[:b.n()] {
			w.Uint64(word)
		}
	case firstPart, lastPart:
		w.Uvarint(c[0])
		if c[0] != 0 {
			w.Varint(int64(c[1]))
			s.snapshotWord(w, p, c[2])
		}
	default:
		for _, word := range c {
			w.Uint64(word)
		}
	}
	if !p.double {
		return
	}
	switch p.kind {
	case sumPart:
		one := s.wide[wide]
		if one == nil {
			w.Uvarint(0)
			return
		}
		for _, n := range []int{one.n, one.nan, one.pos, one.neg} {
			w.Uvarint(uint64(n))
		}
		for _, limb := range one.limbs {
			w.Uint64(limb)
		}
	case squarePart:
		one := s.wideSquares[wide]
		if one == nil {
			w.Uvarint(0)
			return
		}
		w.Uvarint(uint64(one.n))
		w.Bytes(one.sum.Bytes())
	}
}

// snapshotWord writes a value, a text as such.
func (s *store) snapshotWord(w *cep.SnapshotWriter, p *part, word uint64) {
	if p.holds {
		w.Bytes(s.dict.text(uint32(word)))
	} else {
		w.Uint64(word)
	}
}

func (s *store) snapshotSet(w *cep.SnapshotWriter, p *part, c []uint64) {
	var all []setEntry
	s.eachInSet(c, func(value, count uint64) { all = append(all, setEntry{value, count}) })
	kind := s.values[p.value].Type.Kind
	slices.SortFunc(all, func(a, b setEntry) int { return s.compareValues(kind, a.value, b.value) })
	w.Uvarint(uint64(len(all)))
	for _, e := range all {
		s.snapshotWord(w, p, e.value)
		w.Uvarint(e.count)
	}
}

// Restore implements cep.Operator.
func (h *Hopping) Restore(r *cep.SnapshotReader) error {
	h.reset()
	err := h.restore(r)
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		h.reset()
		return fmt.Errorf("window: %w", err)
	}
	return nil
}

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", cep.ErrSnapshot, fmt.Sprintf(format, args...))
}

func (h *Hopping) restore(r *cep.SnapshotReader) error {
	if v := r.Uvarint(); r.Err() == nil && v != hoppingVersion {
		return bad("version %d, this program reads %d", v, hoppingVersion)
	}
	if n := r.Uvarint(); r.Err() == nil && n != uint64(h.cells) {
		return bad("keys of %d words where this program has %d", n, h.cells)
	}
	h.low = event.Time(r.Varint())
	h.missed = r.Varint()
	var key []byte
	for panes := r.Uvarint(); panes > 0 && r.Err() == nil; panes-- {
		index := r.Varint()
		if n := len(h.panes); n > 0 && index <= h.panes[n-1].index {
			return bad("panes out of order")
		}
		records := r.Uvarint()
		if r.Err() == nil && records == 0 {
			return bad("an empty pane")
		}
		for ; records > 0 && r.Err() == nil; records-- {
			key = r.Bytes(key, keyMax)
			if r.Err() != nil {
				break
			}
			if !h.isKey(key) {
				return bad("a key that is none")
			}
			key = binary.BigEndian.AppendUint64(key, uint64(index))
			hash := hashOf(key)
			if _, found := h.find(hash, key); found {
				return bad("a key twice")
			}
			if err := h.restoreRecord(r, h.add(index, hash, key)); err != nil {
				return err
			}
		}
	}
	return nil
}

// isKey reports whether appendKeyFields can read a key.
func (h *Hopping) isKey(key []byte) bool {
	if len(h.cfg.Keys) == 1 && (h.cfg.KeyTypes[0].Kind == event.String || h.cfg.KeyTypes[0].Kind == event.Bytes) {
		return true
	}
	for _, t := range h.cfg.KeyTypes {
		n, at := uint64(8), 0
		switch t.Kind {
		case event.String, event.Bytes:
			n, at = binary.Uvarint(key)
		case event.Bool:
			n = 1
		}
		if at < 0 || n > uint64(len(key)-at) {
			return false
		}
		key = key[at+int(n):]
	}
	return len(key) == 0
}

func (h *Hopping) restoreRecord(r *cep.SnapshotReader, id uint32) error {
	cells := h.cellsOf(id)
	cells[countAt] = r.Uvarint()
	for i := range h.extent.parts {
		p := &h.extent.parts[i]
		if err := h.restorePart(r, p, cells[p.at:p.at+p.words], wideKey(id, p.at)); err != nil {
			return err
		}
	}
	return nil
}

func (s *store) restorePart(r *cep.SnapshotReader, p *part, c []uint64, wide uint64) error {
	switch p.kind {
	case setPart:
		if err := s.restoreSet(r, p, c); err != nil {
			return err
		}
	case sketchPart:
		last := uint64(0)
		for n := r.Uvarint(); n > 0 && r.Err() == nil; n-- {
			word := r.Uint64()
			if r.Err() == nil && (uint32(word) == 0 || word>>32 <= last>>32 && last != 0) {
				return bad("a sketch out of order")
			}
			last = word
			if r.Err() == nil {
				s.sketchAdd(c, bucketIn(word), uint32(word), false)
			}
		}
	case firstPart, lastPart:
		there := r.Uvarint()
		if there > 1 {
			return bad("%d values where one is kept", there)
		}
		if there == 1 {
			t, word := r.Varint(), s.restoreWord(r, p)
			if r.Err() == nil {
				c[0], c[1], c[2] = 1, uint64(t), word
			}
		}
	default:
		for i := range c {
			c[i] = r.Uint64()
		}
		if p.kind == placesPart && c[0] > 2 || (p.kind == minPart || p.kind == maxPart) && c[0] > 1 {
			return bad("more values than are kept")
		}
	}
	if p.double {
		s.restoreWide(r, p, wide)
	}
	return nil
}

// restoreWord reads a value; a text is held then.
func (s *store) restoreWord(r *cep.SnapshotReader, p *part) uint64 {
	if !p.holds {
		return r.Uint64()
	}
	text := r.Bytes(nil, keyMax)
	if r.Err() != nil {
		return 0
	}
	return uint64(s.dict.add(text))
}

func (s *store) restoreSet(r *cep.SnapshotReader, p *part, c []uint64) error {
	kind := s.values[p.value].Type.Kind
	last := uint64(0)
	for n, first := r.Uvarint(), true; n > 0 && r.Err() == nil; n-- {
		value := s.restoreWord(r, p)
		count := r.Uvarint()
		if r.Err() != nil {
			break
		}
		if s.values[p.value].isText() && !s.dict.there(value) {
			return bad("a text of the number %d", value)
		}
		if count == 0 || !first && s.compareValues(kind, last, value) >= 0 {
			return bad("a set out of order")
		}
		first, last = false, value
		s.setAdd(c, value, count, false)
		if len(c) > blockWords {
			addFrequency(c, count, count, false)
		}
	}
	return nil
}

func (s *store) restoreWide(r *cep.SnapshotReader, p *part, key uint64) {
	switch p.kind {
	case sumPart:
		n := r.Uvarint()
		if n == 0 || r.Err() != nil {
			return
		}
		one := wideSum{n: int(n), nan: int(r.Uvarint()), pos: int(r.Uvarint()), neg: int(r.Uvarint())}
		for i := range one.limbs {
			one.limbs[i] = r.Uint64()
		}
		s.mergeWide(key, &one)
	case squarePart:
		n := r.Uvarint()
		if n == 0 || r.Err() != nil {
			return
		}
		one := wideSquare{n: int(n)}
		one.sum.SetBytes(r.Bytes(nil, wideSquareMax))
		s.mergeWideSquares(key, &one)
	}
}

// wideSquareMax is the bytes that a sum of squares of doubles has at most.
const wideSquareMax = 1024

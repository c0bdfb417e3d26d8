package dedupe

import (
	"encoding/binary"

	"github.com/weirstream/weir/ingest/event"
)

// Generations, as cep.Incremental has them. A share is a range of the upper halves of
// the keys' low parts, by which the table is ordered. What changes in a share while it
// is being written is undone in what is written (note).
//
// A piece is a sequence of heads (version, turn, greatest time, number of ids) and entries (the number
// of ids; of each its time and key). Ids that are no longer within the span may be
// there or not.
const (
	pieceHead = iota
	pieceEntries

	pieceVersion = 1
	fullTurn     = 1 << 32 // cep.FullTurn
	slotsAtOnce  = 512
	entryBytes   = 24
)

// changes is what the next generation will hold.
type changes struct {
	fresh []entry // ids taken, in order; only once there is a generation
	based bool
	turn  uint64
}

// freeze is a generation that is being written.
type freeze struct {
	on       bool
	headed   bool
	greatest event.Time    // as it was
	pos, end uint64        // of the share, still to be written
	fresh    []entry       // what had changed, still to be written
	undo     map[Key]int64 // of ids that changed since, in what is still to be written: entry.when as it was
}

// note is told of an entry before it changes.
func (s *Seen) note(old, fresh *entry) {
	if s.changes.based {
		s.changes.fresh = append(s.changes.fresh, *fresh)
	}
	f := &s.freeze
	if half := fresh.key.Lo >> 32; !f.on || half < f.pos || half >= f.end {
		return
	}
	if _, known := f.undo[fresh.key]; !known {
		if f.undo == nil {
			f.undo = map[Key]int64{}
		}
		f.undo[fresh.key] = old.when
	}
}

// Size estimates, in bytes, what has changed since the newest Freeze and all.
func (s *Seen) Size() (changed, all int64) {
	return int64(len(s.changes.fresh)) * entryBytes, int64(s.used) * entryBytes
}

// Freeze begins a generation: of what is known now.
func (s *Seen) Freeze(share uint64) (turn uint64) {
	c, f := &s.changes, &s.freeze
	if f.on {
		panic("dedupe: Freeze before the generation at hand was written")
	}
	if !c.based {
		share = fullTurn
	}
	pos := c.turn % fullTurn
	end := min(pos+share, fullTurn)
	*f = freeze{on: true, greatest: s.greatest, pos: pos, end: end, fresh: c.fresh}
	*c = changes{based: true, turn: c.turn + end - pos}
	return c.turn
}

// Write appends a piece of the generation, and reports whether it was the last.
func (s *Seen) Write(dst []byte, about int) ([]byte, bool) {
	f := &s.freeze
	if !f.on {
		return dst, true
	}
	about += len(dst)
	if !f.headed {
		f.headed = true
		dst = binary.AppendUvarint(append(dst, pieceHead, pieceVersion), s.changes.turn)
		dst = binary.LittleEndian.AppendUint64(dst, uint64(f.greatest))
		dst = binary.LittleEndian.AppendUint32(dst, uint32(s.used))
	}
	for len(dst) < about {
		switch {
		case f.pos < f.end:
			dst = s.writeShare(dst)
		case len(f.fresh) > 0:
			n := min(len(f.fresh), slotsAtOnce)
			dst = binary.LittleEndian.AppendUint32(append(dst, pieceEntries), uint32(n))
			for i := range n {
				dst = appendEntry(dst, &f.fresh[i])
			}
			f.fresh = f.fresh[n:]
		default:
			*f = freeze{}
			return dst, true
		}
	}
	return dst, false
}

// writeShare writes the ids of some more of the share.
func (s *Seen) writeShare(dst []byte) []byte {
	f := &s.freeze
	mask := uint64(len(s.table) - 1)
	end := min(f.end, f.pos+max(1, uint64(slotsAtOnce)*fullTurn/uint64(len(s.table))))
	dst = binary.LittleEndian.AppendUint32(append(dst, pieceEntries), 0)
	count, n := len(dst)-4, uint32(0)
	// What belongs before a place stands before the first free one from there on.
	last := s.home(end<<32 - 1)
	for at := s.home(f.pos << 32); ; at++ {
		e := s.table[at&mask]
		if !e.used() {
			if at > last {
				break
			}
			continue
		}
		if half := e.key.Lo >> 32; half < f.pos || half >= end {
			continue
		}
		if when, changed := f.undo[e.key]; changed {
			e.when = when
		}
		if e.used() && !s.expired(&e, f.greatest) {
			dst = appendEntry(dst, &e)
			n++
		}
	}
	binary.LittleEndian.PutUint32(dst[count:], n)
	f.pos = end
	return dst
}

func appendEntry(dst []byte, e *entry) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(e.at()))
	dst = binary.LittleEndian.AppendUint64(dst, e.key.Hi)
	return binary.LittleEndian.AppendUint64(dst, e.key.Lo)
}

// Apply takes a piece in. data is not retained.
func (s *Seen) Apply(data []byte) error {
	for len(data) > 0 {
		kind := data[0]
		data = data[1:]
		var err error
		switch kind {
		case pieceHead:
			data, err = s.applyHead(data)
		case pieceEntries:
			data, err = s.applyEntries(data)
		default:
			err = ErrSnapshot
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Seen) applyHead(data []byte) ([]byte, error) {
	if len(data) < 1 || data[0] != pieceVersion {
		return nil, ErrSnapshot
	}
	turn, n := binary.Uvarint(data[1:])
	if n <= 0 || len(data) < 1+n+12 {
		return nil, ErrSnapshot
	}
	s.changes.based, s.changes.turn = true, turn
	s.greatest = max(s.greatest, event.Time(binary.LittleEndian.Uint64(data[1+n:])))
	s.reserve(int(min(binary.LittleEndian.Uint32(data[1+n+8:]), s.reserveMax)))
	return data[1+n+12:], nil
}

// reserve makes room for n ids, before they come in the order of the table: in one that
// grows with them all would belong to its first places.
func (s *Seen) reserve(n int) {
	size := len(s.table)
	for 4*n > 3*size {
		size *= 2
	}
	if size > len(s.table) {
		s.resize(size, s.greatest)
	}
}

func (s *Seen) applyEntries(data []byte) ([]byte, error) {
	if len(data) < 4 {
		return nil, ErrSnapshot
	}
	n := uint64(binary.LittleEndian.Uint32(data))
	data = data[4:]
	if uint64(len(data)) < n*entryBytes {
		return nil, ErrSnapshot
	}
	for ; n > 0; n-- {
		at := event.Time(binary.LittleEndian.Uint64(data))
		k := Key{binary.LittleEndian.Uint64(data[8:]), binary.LittleEndian.Uint64(data[16:])}
		if at == event.MinTime || at > s.greatest {
			return nil, ErrSnapshot
		}
		s.put(newEntry(k, at))
		data = data[entryBytes:]
	}
	return data, nil
}

// put enters an id as it was.
func (s *Seen) put(fresh entry) {
	e := s.find(fresh.key)
	grows := !e.used()
	*e = fresh
	if grows {
		if s.used++; 4*s.used > 3*len(s.table) {
			s.rehash()
		}
	}
}

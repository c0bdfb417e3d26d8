package table

import (
	"bytes"
	"encoding/binary"
	"math"

	"github.com/weirstream/weir/ingest/event"
)

// segment is a hash table of entries whose bytes stand in one arena: two slices
// and no pointers, whatever the number of entries. Once part of a View it is not
// written again.
type segment struct {
	slots []uint32 // offset in arena + slotBase; 0: never used, 1: removed
	arena []byte
	count int
	used  int // slots that are not 0
	waste int // bytes in arena of entries that are gone
}

const (
	slotFree    = 0
	slotRemoved = 1
	slotBase    = 2
)

// An entry in an arena: this header, a bit for each column that has a value, eight
// bytes for each column (a number, or offset and length of its bytes from the
// entry's beginning), key, author, reason, bytes of columns.
const (
	atLength  = 0
	atHash    = 4
	atExpires = 8
	atSince   = 16
	atKey     = 24 // length
	atAuthor  = 28 // length
	atReason  = 30 // length
	atBitmap  = 32
)

func bitmapBytes(columns int) int { return (columns + 7) / 8 }

func keyAt(columns int) int { return atBitmap + bitmapBytes(columns) + 8*columns }

// appendEntry appends an entry's bytes; false where it is larger than EntryMax.
func appendEntry(dst []byte, hash uint32, key []byte, e *Entry) ([]byte, bool) {
	start := len(dst)
	size := keyAt(len(e.Columns)) + len(key) + len(e.Author) + len(e.Reason)
	for i := range e.Columns {
		size += len(e.Columns[i].Bytes)
	}
	if size > EntryMax || len(e.Author) > math.MaxUint16 || len(e.Reason) > math.MaxUint16 {
		return dst, false
	}
	le := binary.LittleEndian
	dst = le.AppendUint32(dst, uint32(size))
	dst = le.AppendUint32(dst, hash)
	dst = le.AppendUint64(dst, uint64(e.Expires))
	dst = le.AppendUint64(dst, uint64(e.Since))
	dst = le.AppendUint32(dst, uint32(len(key)))
	dst = le.AppendUint16(dst, uint16(len(e.Author)))
	dst = le.AppendUint16(dst, uint16(len(e.Reason)))
	bits := len(dst)
	for range bitmapBytes(len(e.Columns)) {
		dst = append(dst, 0)
	}
	at := keyAt(len(e.Columns)) + len(key) + len(e.Author) + len(e.Reason)
	for i := range e.Columns {
		v := &e.Columns[i]
		if !v.Null {
			dst[bits+i>>3] |= 1 << (i & 7)
		}
		if v.Bytes != nil {
			dst = le.AppendUint32(dst, uint32(at))
			dst = le.AppendUint32(dst, uint32(len(v.Bytes)))
			at += len(v.Bytes)
			continue
		}
		dst = le.AppendUint64(dst, v.Bits)
	}
	dst = append(append(append(dst, key...), e.Author...), e.Reason...)
	for i := range e.Columns {
		dst = append(dst, e.Columns[i].Bytes...)
	}
	return dst, len(dst)-start == size
}

// at is the entry at an offset of the arena.
func (s *segment) at(off uint32) []byte {
	n := binary.LittleEndian.Uint32(s.arena[off:])
	return s.arena[off : off+n : off+n]
}

func entryHash(e []byte) uint32 { return binary.LittleEndian.Uint32(e[atHash:]) }

func entryKey(e []byte, columns int) []byte {
	at := keyAt(columns)
	return e[at : at+int(binary.LittleEndian.Uint32(e[atKey:]))]
}

// find is the slot of a key, and its entry, nil where there is none.
func (s *segment) find(hash uint32, key []byte, columns int) (slot int, entry []byte) {
	if len(s.slots) == 0 {
		return -1, nil
	}
	mask := uint32(len(s.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		switch ref := s.slots[i]; ref {
		case slotFree:
			return -1, nil
		case slotRemoved:
		default:
			if e := s.at(ref - slotBase); entryHash(e) == hash && bytes.Equal(entryKey(e, columns), key) {
				return int(i), e
			}
		}
	}
}

// clone is a copy to write to, without what is gone where that is much.
func (s *segment) clone() *segment {
	if s == nil {
		return &segment{}
	}
	if s.waste > len(s.arena)/2 {
		return s.rebuilt(s.count + 1)
	}
	c := *s
	c.slots = append(make([]uint32, 0, len(s.slots)), s.slots...)
	c.arena = append(make([]byte, 0, len(s.arena)+len(s.arena)/8+256), s.arena...)
	return &c
}

// rebuilt is a copy without what is gone, with room for n entries.
func (s *segment) rebuilt(n int) *segment {
	size := 8
	for size < 2*n {
		size *= 2
	}
	c := &segment{slots: make([]uint32, size), arena: make([]byte, 0, len(s.arena)-s.waste+256)}
	s.each(func(e []byte) { c.insert(e) })
	return c
}

// each calls f for every entry, in no order that means anything.
func (s *segment) each(f func(e []byte)) {
	if s == nil {
		return
	}
	for _, ref := range s.slots {
		if ref >= slotBase {
			f(s.at(ref - slotBase))
		}
	}
}

// insert copies an entry in whose key is not there.
func (s *segment) insert(e []byte) {
	if 4*(s.used+1) > 3*len(s.slots) {
		*s = *s.rebuilt(2 * (s.count + 1))
	}
	off := uint32(len(s.arena))
	s.arena = append(s.arena, e...)
	mask := uint32(len(s.slots) - 1)
	i := entryHash(e) & mask
	for s.slots[i] >= slotBase {
		i = (i + 1) & mask
	}
	if s.slots[i] == slotFree {
		s.used++
	}
	s.slots[i] = off + slotBase
	s.count++
}

// replace puts e in the place of the entry in a slot.
func (s *segment) replace(slot int, old, e []byte) {
	s.waste += len(old)
	s.slots[slot] = uint32(len(s.arena)) + slotBase
	s.arena = append(s.arena, e...)
	s.shrink()
}

func (s *segment) remove(slot int, old []byte) {
	s.waste += len(old)
	s.slots[slot] = slotRemoved
	s.count--
	s.shrink()
}

// shrink drops what is gone when it is more than what is there, so that a burst of
// changes stays cheap and a segment small.
func (s *segment) shrink() {
	if s.waste > 4096 && s.waste > 3*len(s.arena)/4 {
		*s = *s.rebuilt(s.count + 1)
	}
}

// Row is an entry that Find found. It is valid for ever; its bytes are the View's.
type Row struct {
	e   []byte
	def *Definition
}

// IsNull tells that a column has no value.
func (r Row) IsNull(column int) bool { return r.e[atBitmap+column>>3]&(1<<(column&7)) == 0 }

// Bits is the value of a column that is no string and no bytes.
func (r Row) Bits(column int) uint64 {
	return binary.LittleEndian.Uint64(r.e[atBitmap+bitmapBytes(len(r.def.Columns))+8*column:])
}

// Bytes is the value of a column of strings or bytes.
func (r Row) Bytes(column int) []byte {
	slot := r.e[atBitmap+bitmapBytes(len(r.def.Columns))+8*column:]
	at, n := binary.LittleEndian.Uint32(slot), binary.LittleEndian.Uint32(slot[4:])
	return r.e[at : at+n : at+n]
}

func expires(e []byte) event.Time { return event.Time(binary.LittleEndian.Uint64(e[atExpires:])) }

// SeenAt tells that an event of a time sees the entry.
func (r Row) SeenAt(at event.Time) bool {
	return at < expires(r.e) || expires(r.e) == event.MaxTime
}

// AppendSearch appends the texts that people search an entry by.
func (r Row) AppendSearch(dst []byte) []byte {
	e := r.Entry()
	for i, f := range r.def.Key {
		dst = append(AppendText(dst, f.Type, e.Key[i]), '\n')
	}
	for i, f := range r.def.Columns {
		dst = append(AppendText(dst, f.Type, e.Columns[i]), '\n')
	}
	return append(append(append(dst, e.Author...), '\n'), e.Reason...)
}

// Entry is the row with its key, its columns and what is known about it.
func (r Row) Entry() Entry {
	d := r.def
	le := binary.LittleEndian
	out := Entry{Key: decodeKey(d.Key, entryKey(r.e, len(d.Columns))), Expires: expires(r.e), Since: event.Time(le.Uint64(r.e[atSince:]))}
	at := keyAt(len(d.Columns)) + int(le.Uint32(r.e[atKey:]))
	author, reason := int(le.Uint16(r.e[atAuthor:])), int(le.Uint16(r.e[atReason:]))
	out.Author, out.Reason = string(r.e[at:at+author]), string(r.e[at+author:at+author+reason])
	for i, c := range d.Columns {
		switch {
		case r.IsNull(i):
			out.Columns = append(out.Columns, Value{Null: true})
		case c.Type.Kind == event.String || c.Type.Kind == event.Bytes:
			out.Columns = append(out.Columns, Value{Bytes: r.Bytes(i)})
		default:
			out.Columns = append(out.Columns, Value{Bits: r.Bits(i)})
		}
	}
	return out
}

package dedupe

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math/bits"
	"slices"
	"time"

	"github.com/weirstream/weir/ingest/event"
)

// Key identifies an event.
type Key struct{ Hi, Lo uint64 }

// OfText is the key of a string or bytes id, which is not retained.
func OfText(id []byte) Key {
	sum := sha256.Sum256(id)
	return Key{binary.BigEndian.Uint64(sum[:]), binary.BigEndian.Uint64(sum[8:])}
}

// OfInt64 is the key of an int64 id. Its low part spreads it over the table.
func OfInt64(id int64) Key { return Key{uint64(id), uint64(id) * 0x9e3779b97f4a7c15} }

// Seen is the ids of one partition within the span.
type Seen struct {
	span     time.Duration
	greatest event.Time // taken; MinTime before the first
	table    []entry    // open addressing; its length is a power of two
	used     int        // entries, expired ones included

	changes changes // since the newest generation
	freeze  freeze  // the generation at hand

	reserveMax uint32 // for how many ids at most room is made before they come
}

type entry struct {
	key  Key
	when int64 // the event's time less MinTime; 0: a free entry
}

func newEntry(k Key, at event.Time) entry { return entry{k, int64(at) ^ int64(event.MinTime)} }

func (e *entry) at() event.Time { return event.Time(e.when ^ int64(event.MinTime)) }

func (e *entry) used() bool { return e.when != 0 }

// tableMin is the length of the smallest table.
const tableMin = 64

// New is an empty Seen.
func New(span time.Duration) *Seen {
	return &Seen{span: span, greatest: event.MinTime, table: make([]entry, tableMin), reserveMax: 1 << 28}
}

// Duplicate reports whether an event is a duplicate, and notes it where not.
func (s *Seen) Duplicate(k Key, at event.Time) bool {
	now := max(s.greatest, at)
	e := s.find(k)
	if e.used() && !s.expired(e, now) && e.at().Sub(s.span) <= at {
		return true
	}
	s.greatest = now
	switch fresh := newEntry(k, at); {
	case s.expired(&fresh, now): // later than the span: forgotten at once
	case e.used():
		s.note(e, &fresh)
		*e = fresh
	default:
		s.note(e, &fresh)
		*e = fresh
		if s.used++; 4*s.used > 3*len(s.table) {
			s.rehash()
		}
	}
	return false
}

// expired reports whether an event is of no more use: whatever comes is later than
// the span after it.
func (s *Seen) expired(e *entry, now event.Time) bool { return e.at().Add(s.span) < now }

// home is where the entry of a key with that low part belongs. Entries stand in the
// order of their low parts but for where they collide.
func (s *Seen) home(lo uint64) uint64 { return lo >> (64 - bits.TrailingZeros(uint(len(s.table)))) }

// find is the entry of a key, or the free one where it belongs.
func (s *Seen) find(k Key) *entry {
	mask := uint64(len(s.table) - 1)
	for at := s.home(k.Lo); ; at = (at + 1) & mask {
		if e := &s.table[at]; !e.used() || e.key == k {
			return e
		}
	}
}

// rehash leaves the expired ids out of a table of the size that the others need.
func (s *Seen) rehash() {
	live, now := 0, s.greatest
	if s.freeze.on {
		now = s.freeze.greatest // the generation has them
	}
	for i := range s.table {
		if s.table[i].used() && !s.expired(&s.table[i], now) {
			live++
		}
	}
	size := tableMin
	for 8*live > 3*size {
		size *= 2
	}
	s.resize(size, now)
}

// resize leaves the ids that are expired at a time out of a table of another size.
func (s *Seen) resize(size int, now event.Time) {
	old := s.table
	s.table, s.used = make([]entry, size), 0
	for i := range old {
		if old[i].used() && !s.expired(&old[i], now) {
			*s.find(old[i].key) = old[i]
			s.used++
		}
	}
}

// Len is how many ids are within the span.
func (s *Seen) Len() int {
	n := 0
	for i := range s.table {
		if e := &s.table[i]; e.used() && !s.expired(e, s.greatest) {
			n++
		}
	}
	return n
}

// AppendSnapshot appends the state: the greatest time, then each id within the span
// with its time, by time and id.
func (s *Seen) AppendSnapshot(dst []byte) []byte {
	live := make([]*entry, 0, s.used)
	for i := range s.table {
		if e := &s.table[i]; e.used() && !s.expired(e, s.greatest) {
			live = append(live, e)
		}
	}
	slices.SortFunc(live, func(a, b *entry) int {
		return cmp.Or(cmp.Compare(a.at(), b.at()), cmp.Compare(a.key.Hi, b.key.Hi), cmp.Compare(a.key.Lo, b.key.Lo))
	})
	dst = slices.Grow(dst, 8+24*len(live))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(s.greatest))
	for _, e := range live {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(e.at()))
		dst = binary.LittleEndian.AppendUint64(dst, e.key.Hi)
		dst = binary.LittleEndian.AppendUint64(dst, e.key.Lo)
	}
	return dst
}

// ErrSnapshot is returned for what AppendSnapshot did not write.
var ErrSnapshot = errors.New("not a state of known ids")

// Restore puts a Seen, which is empty, into the state of a snapshot. data is not
// retained.
func (s *Seen) Restore(data []byte) error {
	if len(data) < 8 || (len(data)-8)%24 != 0 {
		return ErrSnapshot
	}
	greatest := event.Time(binary.LittleEndian.Uint64(data))
	for data = data[8:]; len(data) > 0; data = data[24:] {
		at := event.Time(binary.LittleEndian.Uint64(data))
		if at > greatest {
			return ErrSnapshot
		}
		s.Duplicate(Key{binary.LittleEndian.Uint64(data[8:]), binary.LittleEndian.Uint64(data[16:])}, at)
	}
	s.greatest = max(s.greatest, greatest)
	return nil
}

package window

import "github.com/weirstream/weir/ingest/event"

// zone is the rows that an offset's iterator has given and that events to come may
// have to see otherwise: those with a time above the low watermark less the offset. The
// rows of a key are chained, the latest in the log first. It is a ring that grows and
// shrinks; rows have numbers of its own that only grow.
type zone struct {
	stride int
	rows   []zoneRow // a power of two of places
	words  []uint64  // stride for each place
	first  uint64    // number of the oldest row
	next   uint64    // number that the next one gets
}

type zoneRow struct {
	at     int64      // the row in the reservoir
	newest event.Time // of the key's rows in the chain up to this one
	before uint32     // names the key's row before it
	key    uint32
}

const zoneSmallest = 64

func (z *zone) row(n uint64) *zoneRow { return &z.rows[n&uint64(len(z.rows)-1)] }

func (z *zone) wordsOf(n uint64) []uint64 {
	at := int(n&uint64(len(z.rows)-1)) * z.stride
	return z.words[at : at+z.stride]
}

func (z *zone) time(n uint64) event.Time { return event.Time(z.wordsOf(n)[0]) }

func (z *zone) n() int { return int(z.next - z.first) }

// numbers is how many numbers of rows there are as keys and rows name them: from 1 on, 0
// is none. What is named thus is the latest row of that number, if it is of the key.
const numbers = 1<<32 - 1

// named is the row of a key that a number names; false where it is gone.
func (z *zone) named(number, key uint32) (uint64, bool) {
	if number == 0 {
		return 0, false
	}
	back := (z.next%numbers + numbers - uint64(number-1)) % numbers
	if back == 0 {
		back = numbers
	}
	n := z.next - back
	return n, back <= z.next && n >= z.first && z.row(n).key == key
}

// push adds a row of a key, of which last names the latest.
func (z *zone) push(at int64, key uint32, words []uint64, last *uint32) {
	if z.n() == len(z.rows) {
		z.resize(max(zoneSmallest, 2*len(z.rows)))
	}
	r := zoneRow{at: at, key: key, newest: event.Time(words[0])}
	if before, there := z.named(*last, key); there {
		r.before = *last
		r.newest = max(r.newest, z.row(before).newest)
	}
	*z.row(z.next) = r
	copy(z.wordsOf(z.next), words)
	*last = uint32(z.next%numbers) + 1
	z.next++
}

// pop forgets the oldest row.
func (z *zone) pop() {
	z.first++
	if len(z.rows) > zoneSmallest && z.n()*8 < len(z.rows) {
		z.resize(len(z.rows) / 2)
	}
}

func (z *zone) resize(places int) {
	old := *z
	z.rows, z.words = make([]zoneRow, places), make([]uint64, places*z.stride)
	for n := old.first; n < old.next; n++ {
		*z.row(n) = *old.row(n)
		copy(z.wordsOf(n), old.wordsOf(n))
	}
}

// later visits the rows of a key that are behind t; last names the latest.
func (z *zone) later(last, key uint32, t event.Time, visit func(words []uint64)) {
	for n, there := z.named(last, key); there; n, there = z.named(last, key) {
		r := z.row(n)
		if r.newest <= t {
			return
		}
		if words := z.wordsOf(n); event.Time(words[0]) > t {
			visit(words)
		}
		last = r.before
	}
}

func (z *zone) bytes() int64 { return int64(len(z.rows))*32 + int64(len(z.words))*8 }

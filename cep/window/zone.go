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
	before uint64     // number of the key's row before it, plus 1
	newest event.Time // of the key's rows in the chain up to this one
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

// push adds a row of a key, of which last is the number of the latest, plus 1.
func (z *zone) push(at int64, key uint32, words []uint64, last *uint64) {
	if z.n() == len(z.rows) {
		z.resize(max(zoneSmallest, 2*len(z.rows)))
	}
	r := zoneRow{at: at, key: key, newest: event.Time(words[0])}
	if *last > z.first {
		r.before = *last
		r.newest = max(r.newest, z.row(*last-1).newest)
	}
	*z.row(z.next) = r
	copy(z.wordsOf(z.next), words)
	z.next++
	*last = z.next
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

// later visits the rows of a key that are behind t; last is as for push.
func (z *zone) later(last uint64, t event.Time, visit func(words []uint64)) {
	for last > z.first {
		r := z.row(last - 1)
		if r.newest <= t {
			return
		}
		if words := z.wordsOf(last - 1); event.Time(words[0]) > t {
			visit(words)
		}
		last = r.before
	}
}

func (z *zone) bytes() int64 { return int64(len(z.rows))*32 + int64(len(z.words))*8 }

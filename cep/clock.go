package cep

import (
	"encoding/binary"
	"maps"
	"slices"
	"time"

	"github.com/weirstream/weir/ingest/event"
)

// Clock tells a stream's watermarks: event times up to which the stream, or a group
// of its events, is taken to be complete.
//
// Without By the watermark is the greatest event time seen less Lateness. With By
// each group of events with equal values in those fields has its own: the greatest
// time seen in the group less Lateness. A group that is more than Idle behind the
// greatest time of all is not waited for: no watermark is lower than that less Idle.
//
// Where no events come, Pass lets the time go on.
type Clock struct {
	lateness time.Duration
	by       []int // fields
	idle     time.Duration

	greatest event.Time // MinTime before the first event
	groups   map[string]event.Time
	sparse   int // groups from which on it is worth looking for those to forget
	key      []byte
}

// NewClock makes the clock of a stream before its first event. Idle is not below
// lateness; it says nothing where by is empty.
func NewClock(lateness time.Duration, by []int, idle time.Duration) *Clock {
	c := &Clock{lateness: lateness, by: by, idle: max(idle, lateness)}
	c.reset()
	return c
}

// reset sets the clock to before the first event.
func (c *Clock) reset() {
	c.greatest, c.sparse = event.MinTime, sparseMin
	c.groups = map[string]event.Time{}
}

const sparseMin = 1024

// Arrive describes the rows of a batch, in their order, in the outbox. Where the
// clock has groups, the batch has their fields.
func (c *Clock) Arrive(b *event.Batch, out *Outbox) {
	for row, t := range b.Time {
		low := c.Watermark()
		wm := low
		if len(c.by) > 0 {
			wm = max(low, c.arriveInGroup(b, row, t))
		}
		out.Watermark = append(out.Watermark, wm)
		out.Low = append(out.Low, low)
		out.Late = append(out.Late, t < wm)
		c.greatest = max(c.greatest, t)
	}
}

// arriveInGroup takes an event to its group and returns what the group's own times
// say of the watermark before it.
func (c *Clock) arriveInGroup(b *event.Batch, row int, t event.Time) event.Time {
	c.key = c.key[:0]
	for _, f := range c.by {
		col := &b.Cols[f]
		if col.IsNull(row) {
			c.key = append(c.key, 0)
			continue
		}
		c.key = append(c.key, 1, 0, 0, 0, 0)
		at := len(c.key)
		c.key = col.AppendText(c.key, row)
		binary.BigEndian.PutUint32(c.key[at-4:], uint32(len(c.key)-at))
	}
	group, known := c.groups[string(c.key)]
	if !known {
		group = event.MinTime
	}
	if t > group {
		if !known && len(c.groups) >= c.sparse {
			c.forget()
			c.sparse = max(sparseMin, 2*len(c.groups))
		}
		c.groups[string(c.key)] = t
	}
	return less(group, c.lateness)
}

// Pass has the effect on the watermarks that an event of time t would have, of a group
// of its own where there are groups. It never sets them back.
func (c *Clock) Pass(t event.Time) { c.greatest = max(c.greatest, t) }

// Newest is the greatest time of an event or of Pass, MinTime before the first.
func (c *Clock) Newest() event.Time { return c.greatest }

// Watermark is the lowest there is now: no event is late whose time is not below
// it, but for its group's own.
func (c *Clock) Watermark() event.Time {
	if len(c.by) > 0 {
		return less(c.greatest, c.idle)
	}
	return less(c.greatest, c.lateness)
}

func less(t event.Time, d time.Duration) event.Time {
	if t == event.MinTime {
		return t
	}
	return t.Sub(d)
}

// forget drops the groups whose own watermark is not above the lowest: they say no
// more than a group that was never seen.
func (c *Clock) forget() {
	low := c.Watermark()
	maps.DeleteFunc(c.groups, func(_ string, t event.Time) bool { return less(t, c.lateness) <= low })
}

// groupKeyMax bounds a group's key in a snapshot: above any record.
const groupKeyMax = 16 << 20

// Snapshot writes the state.
func (c *Clock) Snapshot(w *SnapshotWriter) error {
	w.Varint(int64(c.greatest))
	c.forget()
	w.Uvarint(uint64(len(c.groups)))
	for _, key := range slices.Sorted(maps.Keys(c.groups)) {
		w.Bytes([]byte(key))
		w.Varint(int64(c.groups[key]))
	}
	return nil
}

// Restore replaces the state by what Snapshot wrote.
func (c *Clock) Restore(r *SnapshotReader) error {
	c.reset()
	c.greatest = event.Time(r.Varint())
	for n := r.Uvarint(); n > 0 && r.Err() == nil; n-- {
		key := string(r.Bytes(nil, groupKeyMax))
		c.groups[key] = event.Time(r.Varint())
	}
	return r.Err()
}

package engine

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
)

// Bounds on what waits between a shard and its keyed streams.
const (
	// parkedRows are decoded and wait for their features.
	parkedRows = 8192
	// gatherRows of one partition of a keyed stream are there before they are asked for.
	// That is more than parkedRows and a batch, so that shards that wait for each
	// other's room cannot all be waiting: what holds one of them up was written after
	// what the other one needs.
	gatherRows = 4 * parkedRows
)

// gather is where the features that keyed streams find for a shard's events come
// together, by their offsets.
type gather struct {
	mu      sync.Mutex
	room    sync.Cond
	closed  bool
	decided int64 // events before it want nothing
	until   int64 // nor those from it on
	reads   []*gathered
	wake    func() // of the shard that waits for features; nil: it does not
}

// gathered is what comes from one keyed stream.
type gathered struct {
	topic  string
	index  int // of the shard's projection
	slots  []int
	queues []gatherQueue // by partition
	order  []place       // of the batch that is merged: where each row's features are
}

type place struct {
	part *part
	row  int
}

// gatherQueue holds the features of rows in the order of their offsets.
type gatherQueue struct {
	parts []*part
	rows  int
	reach int64 // all before this source offset are there
}

// part is the features of some rows, by source offset.
type part struct {
	offsets  []int64
	rows     []int32        // where each is in features; nil: at its own place
	features []event.Column // as gathered.slots
	faults   []cep.Fault    // by index of slots and row of features
	marks    []cep.Fault
	at       int // the first that is not used up
}

func (p *part) index(i int) int {
	if p.rows == nil {
		return i
	}
	return int(p.rows[i])
}

// take moves what a source reads out of an outbox.
func (p *part) take(src *KeyedSource, out *cep.Outbox) {
	p.features = make([]event.Column, len(src.Reads))
	for i, slot := range src.Reads {
		p.features[i], out.Features[slot] = out.Features[slot], event.Column{}
	}
	in := func(faults []cep.Fault) (own []cep.Fault) {
		for _, f := range faults {
			own = append(own, cep.Fault{Slot: slices.Index(src.Reads, f.Slot), Row: f.Row, Err: f.Err})
		}
		return own
	}
	p.faults, p.marks = in(out.Faults), in(out.Marks)
}

// join appends the features of one row.
func (p *part) join(one *part, row int) {
	for i := range p.features {
		p.features[i].AppendFrom(&one.features[i], 0)
	}
	for _, f := range one.faults {
		p.faults = append(p.faults, cep.Fault{Slot: f.Slot, Row: row, Err: f.Err})
	}
	for _, f := range one.marks {
		p.marks = append(p.marks, cep.Fault{Slot: f.Slot, Row: row, Err: f.Err})
	}
}

// newGather is for what comes of a shard's projections that it reads, where it has decided
// all before an offset.
func newGather(projections []*projection, from int64) *gather {
	g := &gather{decided: from, until: math.MaxInt64}
	g.room.L = &g.mu
	for _, p := range projections {
		if len(p.source.Reads) > 0 {
			g.reads = append(g.reads, &gathered{topic: p.topic, index: p.index, slots: p.source.Reads, queues: make([]gatherQueue, len(p.parts))})
		}
	}
	return g
}

// deliver takes the features of rows in from partition q of the shard's keyed stream
// at index k, all before to being told then. It waits while there are too many that are
// not asked for yet. It retains p.
func (g *gather) deliver(ctx context.Context, k int, q int32, p *part, to int64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	queue := &g.reads[k].queues[q]
	if err := g.roomIn(ctx, queue); err != nil {
		return err
	}
	for p.at < len(p.offsets) && p.offsets[p.at] < g.decided {
		p.at++
	}
	for n := len(p.offsets); n > 0 && p.offsets[n-1] >= g.until; n-- {
		p.offsets = p.offsets[:n-1]
	}
	if p.at < len(p.offsets) {
		queue.parts = append(queue.parts, p)
		queue.rows += len(p.offsets) - p.at
	}
	if queue.reach = max(queue.reach, to); g.wake != nil {
		g.wake()
	}
	return nil
}

// roomIn waits until a queue has room.
func (g *gather) roomIn(ctx context.Context, queue *gatherQueue) error {
	full := func() bool { return !g.closed && queue.rows > gatherRows && ctx.Err() == nil }
	if full() {
		stop := context.AfterFunc(ctx, func() { g.mu.Lock(); g.room.Broadcast(); g.mu.Unlock() })
		defer stop()
		for full() {
			g.room.Wait()
		}
	}
	return ctx.Err()
}

// ready reports whether all features of a unit are there, or else has wake called when
// some more are.
func (g *gather) ready(u *unit, wake func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.wake = nil
	if !u.projected.Load() {
		g.wake = wake
		return false
	}
	for _, r := range g.reads {
		for q := range r.queues {
			if r.queues[q].reach < u.needs[r.index][q] {
				g.wake = wake
				return false
			}
		}
	}
	return true
}

// merge moves the features of a unit that is ready into its outbox.
func (g *gather) merge(u *unit) error {
	for _, r := range g.reads {
		if err := g.place(r, u); err != nil {
			return err
		}
		for i, slot := range r.slots {
			c := &u.outbox.Features[slot]
			for _, p := range r.order {
				c.AppendFrom(&p.part.features[i], p.row)
			}
		}
		for row, p := range r.order {
			u.outbox.Faults = p.part.tell(u.outbox.Faults, p.part.faults, r.slots, p.row, row)
			u.outbox.Marks = p.part.tell(u.outbox.Marks, p.part.marks, r.slots, p.row, row)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.decided = u.to
	for _, r := range g.reads {
		for q := range r.queues {
			r.queues[q].drop(u.to)
		}
	}
	g.room.Broadcast()
	return nil
}

// place finds the features of each row. Nobody else takes from the queues.
func (g *gather) place(r *gathered, u *unit) error {
	r.order = r.order[:0]
	g.mu.Lock()
	queues := slices.Clone(r.queues) // others only append
	g.mu.Unlock()
	at := make([]int, len(queues))
	for i, offset := range u.batch.Offset {
		q := u.routes[r.index][i]
		parts := queues[q].parts
		for {
			if at[q] == len(parts) {
				return fmt.Errorf("the features of the event at offset %d are not there", offset)
			}
			p := parts[at[q]]
			for p.at < len(p.offsets) && p.offsets[p.at] < offset {
				p.at++ // of an event that was not one when it was decoded again
			}
			if p.at < len(p.offsets) {
				if p.offsets[p.at] != offset {
					return fmt.Errorf("the features of the event at offset %d are not there, of %d they are", offset, p.offsets[p.at])
				}
				r.order = append(r.order, place{p, p.index(p.at)})
				p.at++
				break
			}
			at[q]++
		}
	}
	return nil
}

// tell appends what of faults is about a part's row, for the unit's row.
func (p *part) tell(dst, faults []cep.Fault, slots []int, from, row int) []cep.Fault {
	for _, f := range faults {
		if f.Row == from {
			dst = append(dst, cep.Fault{Slot: slots[f.Slot], Row: row, Err: f.Err})
		}
	}
	return dst
}

// drop forgets the features of events before an offset.
func (q *gatherQueue) drop(offset int64) {
	n := 0
	for _, p := range q.parts {
		last := len(p.offsets) - 1
		if p.offsets[last] >= offset {
			break
		}
		n++
	}
	clear(q.parts[:n])
	q.parts = slices.Delete(q.parts, 0, n)
	q.rows = 0
	for _, p := range q.parts {
		q.rows += len(p.offsets) - p.at
	}
}

// poke has the shard look again.
func (g *gather) poke() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.wake != nil {
		g.wake()
	}
}

// close ends all waiting: a shard of the group failed.
func (g *gather) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	g.room.Broadcast()
	if g.wake != nil {
		g.wake()
	}
}

// finish says that the shard has decided all that it will: what still comes is let go,
// so that it holds up nobody behind it.
func (g *gather) finish() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.decided = math.MaxInt64
	for _, r := range g.reads {
		clear(r.queues)
	}
	g.room.Broadcast()
}

func (g *gather) isClosed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}

// index is that of a keyed stream among those that are read, -1 where it is not.
func (g *gather) index(topic string) int {
	return slices.IndexFunc(g.reads, func(r *gathered) bool { return r.topic == topic })
}

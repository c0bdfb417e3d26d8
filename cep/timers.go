package cep

import (
	"container/heap"
	"slices"

	"github.com/weirstream/weir/ingest/event"
)

// Timers are the times that an operator waits for. They come due in their order, those
// of one time in the order in which they were asked for. The zero value has none.
type Timers struct {
	heap  timerHeap
	asked uint64
}

// timer is a time with what the operator knows it by.
type timer struct {
	at  event.Time
	seq uint64
	id  uint64
}

func (t timer) before(o timer) bool { return t.at < o.at || t.at == o.at && t.seq < o.seq }

// Ask waits for the watermark to reach a time. Snapshots hold id, so it may not be
// where something happens to lie in memory.
func (t *Timers) Ask(at event.Time, id uint64) {
	heap.Push(&t.heap, timer{at, t.asked, id})
	t.asked++
}

// Due takes the first time that a watermark has reached, false where there is none.
// An operator calls it until then with Low of each row, before it takes the row in, and
// with what Advance tells.
func (t *Timers) Due(low event.Time) (at event.Time, id uint64, ok bool) {
	if len(t.heap) == 0 || t.heap[0].at > low {
		return 0, 0, false
	}
	first := heap.Pop(&t.heap).(timer)
	return first.at, first.id, true
}

// Len is how many times are waited for.
func (t *Timers) Len() int { return len(t.heap) }

// Snapshot writes the times in their order.
func (t *Timers) Snapshot(w *SnapshotWriter) error {
	sorted := slices.SortedFunc(slices.Values(t.heap), func(a, b timer) int {
		if a.before(b) {
			return -1
		}
		return 1
	})
	w.Uvarint(uint64(len(sorted)))
	for _, one := range sorted {
		w.Varint(int64(one.at))
		w.Uvarint(one.id)
	}
	return nil
}

// Restore replaces the times by what Snapshot wrote.
func (t *Timers) Restore(r *SnapshotReader) error {
	*t = Timers{}
	for n := r.Uvarint(); n > 0 && r.Err() == nil; n-- {
		at := event.Time(r.Varint())
		t.Ask(at, r.Uvarint())
	}
	if r.Err() != nil {
		*t = Timers{}
	}
	return r.Err()
}

// timerHeap implements heap.Interface.
type timerHeap []timer

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].before(h[j]) }
func (h timerHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *timerHeap) Push(x any)        { *h = append(*h, x.(timer)) }

func (h *timerHeap) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}

package alerts

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/weirstream/weir/ingest/event"
)

// Words of Delivery.Outcome.
const (
	outcomeDelivered = "delivered"
	outcomeRetry     = "retry"
	outcomeFailed    = "failed"
)

// tries are the attempts that were made to notify of one alert.
type tries struct {
	n     int
	first event.Time // of the first attempt; MinTime before it
	next  event.Time // not before; MinTime: at once
}

// position is how far one receiver is with one partition of weir.alerts.
type position struct {
	next      int64              // every alert below is done, but those in open
	open      map[int64]tries    // below next; beyond it, what is known of alerts not read again yet
	done      map[int64]struct{} // at or beyond next: done before a restart, not read again yet
	delivered int64
	failed    int64
}

func newPosition(next int64) position {
	return position{next: next, open: map[int64]tries{}, done: map[int64]struct{}{}}
}

func (p *position) clone() position {
	c := *p
	c.open, c.done = maps.Clone(p.open), maps.Clone(p.done)
	return c
}

// start is the first offset that has to be read (again).
func (p *position) start() int64 {
	from := p.next
	for o := range p.open {
		from = min(from, o)
	}
	return from
}

// wants reports whether the alert at offset is still to be notified, and what was
// tried before.
func (p *position) wants(offset int64) (tries, bool) {
	if t, ok := p.open[offset]; ok {
		return t, true
	}
	if _, ok := p.done[offset]; ok || offset < p.next {
		return tries{}, false
	}
	return tries{first: event.MinTime, next: event.MinTime}, true
}

// read notes that the range [from, to) was read and that exactly the alerts in
// opened are to be notified.
func (p *position) read(from, to int64, opened []int64) {
	maps.DeleteFunc(p.done, func(o int64, _ struct{}) bool { return o < to })
	// Of those that were open before a restart, some may no longer be wanted.
	maps.DeleteFunc(p.open, func(o int64, _ tries) bool {
		if o < from || o >= to {
			return false
		}
		_, still := slices.BinarySearch(opened, o)
		return !still
	})
	for _, o := range opened {
		if _, ok := p.open[o]; !ok {
			p.open[o] = tries{first: event.MinTime, next: event.MinTime}
		}
	}
	p.next = max(p.next, to)
}

// apply notes one attempt. It is the one function that both the running router
// and a restart go through.
func (p *position) apply(d *event.Delivery) {
	t, ok := p.wants(d.AlertOffset)
	if !ok {
		return // a record that was written twice
	}
	switch d.Outcome {
	case outcomeRetry:
		if t.first == event.MinTime {
			t.first = d.Time
		}
		t.n, t.next = d.Attempt, d.NextAttempt
		p.open[d.AlertOffset] = t
		return
	case outcomeDelivered:
		p.delivered++
	case outcomeFailed:
		p.failed++
	}
	delete(p.open, d.AlertOffset)
	if d.AlertOffset >= p.next {
		p.done[d.AlertOffset] = struct{}{}
	}
}

// partitionState is where all receivers are in one partition of weir.alerts.
type partitionState struct {
	end       int64 // of the partition, as last seen
	receivers []position
}

// checkpoint is the JSON of a positions record. Receivers are by name, so that
// their order in the configuration does not matter.
type checkpoint struct {
	Version    int                   `json:"v"`
	Partitions []partitionCheckpoint `json:"partitions"`
}

type partitionCheckpoint struct {
	Partition int32                         `json:"p"`
	End       int64                         `json:"end"`
	Receivers map[string]positionCheckpoint `json:"receivers"`
}

type positionCheckpoint struct {
	Next      int64      `json:"next"`
	Open      [][4]int64 `json:"open,omitempty"` // offset, attempts, first, next; times are 0 where there is none
	Done      []int64    `json:"done,omitempty"`
	Delivered int64      `json:"delivered"`
	Failed    int64      `json:"failed"`
}

const checkpointVersion = 1

func (p *position) checkpoint() positionCheckpoint {
	c := positionCheckpoint{Next: p.next, Delivered: p.delivered, Failed: p.failed}
	for _, o := range slices.Sorted(maps.Keys(p.open)) {
		t := p.open[o]
		c.Open = append(c.Open, [4]int64{o, int64(t.n), orZero(t.first), orZero(t.next)})
	}
	if len(p.done) > 0 {
		c.Done = slices.Sorted(maps.Keys(p.done))
	}
	return c
}

func (c *positionCheckpoint) position() position {
	p := newPosition(c.Next)
	p.delivered, p.failed = c.Delivered, c.Failed
	for _, o := range c.Open {
		p.open[o[0]] = tries{n: int(o[1]), first: orMin(o[2]), next: orMin(o[3])}
	}
	for _, o := range c.Done {
		p.done[o] = struct{}{}
	}
	return p
}

// The attempts of most open alerts are none: 0 is shorter than MinTime.
func orZero(t event.Time) int64 {
	if t == event.MinTime {
		return 0
	}
	return int64(t)
}

func orMin(t int64) event.Time {
	if t == 0 {
		return event.MinTime
	}
	return event.Time(t)
}

// parseCheckpoint reads what a positions record's header holds.
func parseCheckpoint(text []byte) (*checkpoint, error) {
	var c checkpoint
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, fmt.Errorf("positions record: %w", err)
	}
	if c.Version != checkpointVersion {
		return nil, fmt.Errorf("positions record: version %d, this program reads version %d", c.Version, checkpointVersion)
	}
	return &c, nil
}

package loader

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/weirstream/weir/ingest/event"
)

// Pace lets rows go when their time has come: an event that lies d after the first
// one is sent d/speed after it. One Pace may serve several loads, which then begin
// together. It is safe for use by several goroutines.
type Pace struct {
	speed float64

	mu       sync.Mutex
	awaited  int        // loads that have not shown their first row
	first    event.Time // of all loads
	began    time.Time
	together chan struct{} // closed when all have
}

// NewPace is a pace of speed times real time for so many loads. Each of them must
// be run, or the others wait for it.
func NewPace(speed float64, loads int) (*Pace, error) {
	if !(speed > 0) || math.IsInf(speed, 0) {
		return nil, fmt.Errorf("speed %v: expected a number above 0, such as 10 for ten times as fast as it happened", speed)
	}
	return &Pace{speed: speed, awaited: loads, first: math.MaxInt64, together: make(chan struct{})}, nil
}

// arrive notes that a load has its first row, or that it ended without one, and
// lets all go once the last has.
func (p *Pace) arrive(first event.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.first = min(p.first, first)
	if p.awaited--; p.awaited == 0 {
		p.began = time.Now()
		close(p.together)
	}
}

// pacer is a load's part in a Pace. It belongs to the load's goroutine.
type pacer struct {
	pace    *Pace // nil: none
	arrived bool
	timer   *time.Timer
}

// leave is called when the load ends, however far it came.
func (p *pacer) leave() {
	if p.pace != nil && !p.arrived {
		p.arrived = true
		p.pace.arrive(math.MaxInt64)
	}
}

// finest is the time below which it is not worth waiting.
const finest = time.Millisecond

// wait returns when an event of time t is due; before it waits, it calls flush.
func (p *pacer) wait(ctx context.Context, t event.Time, flush func() error) error {
	if p.pace == nil {
		return nil
	}
	if !p.arrived {
		p.arrived = true
		p.pace.arrive(t)
		select {
		case <-p.pace.together:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	after := float64(t) - float64(p.pace.first) // a duration would overflow for far times
	due := p.pace.began.Add(time.Duration(min(after/p.pace.speed, math.MaxInt64/2)))
	if time.Until(due) < finest {
		return nil
	}
	if err := flush(); err != nil {
		return err
	}
	if p.timer == nil {
		p.timer = time.NewTimer(time.Until(due))
	} else {
		p.timer.Reset(time.Until(due))
	}
	select {
	case <-p.timer.C:
		return nil
	case <-ctx.Done():
		p.timer.Stop()
		return ctx.Err()
	}
}

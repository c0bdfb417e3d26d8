package engine

import (
	"context"
	"time"

	"github.com/weirstream/weir/ingest/event"
)

// A partition without records for Stream.Idle is idle: so that it does not hold back
// what waits for event time, its shard journals a mark and lets time go on as if an
// event of the mark's time had come. That time is Idle before the earliest of the wall
// clock and the newest events of the stream's partitions that are not idle.
//
// There are no marks in a stream whose events are not of now, as while old data is
// loaded or replayed: its newest event, of all partitions, or mark has to be within
// nearby of the wall clock. Nor is a partition marked that is behind the others by
// more than that, before it has been without records for as long: what it gets next
// may follow its last.
//
// So an event that is in the log before its time is further back than Idle and the
// stream's lateness is never late for a mark.

// nearby is how far the newest event of a stream may be from the wall clock: an hour,
// and so long that the marks themselves stay within.
func nearby(idle time.Duration) time.Duration { return max(time.Hour, 4*idle) }

// pace is how a shard gets on, for the other partitions of its stream. It is guarded
// by the shard's lock.
type pace struct {
	running bool       // else it restores, stands still for a change, or waits after an error
	behind  bool       // there are records that it has not decided
	arrived time.Time  // when the newest record came, or the shard began
	newest  event.Time // greatest time of an event or mark; MinTime before the first
}

// arrive notes that records came, or that the shard begins to wait for them.
func (s *shard) arrive(now time.Time) {
	s.mu.Lock()
	s.pace.running, s.pace.arrived = true, now
	s.mu.Unlock()
	s.idleAt = now.Add(s.stream.Idle)
}

// halted notes that the shard does not run any more.
func (s *shard) halted() {
	s.mu.Lock()
	s.pace.running = false
	s.mu.Unlock()
}

// marksIdle reports whether the shard writes idle marks: it decides what comes now,
// and has something that time matters to.
func (s *shard) marksIdle() bool {
	return s.stream.Idle > 0 && s.engine.opts.Journal == JournalLive && (len(s.instance.Operators()) > 0 || len(s.projections) > 0)
}

// rest lets time go on where the partition is idle, and calls then.
func (s *shard) rest(ctx context.Context, then func() error) error {
	now := s.engine.opts.Now()
	if !s.marksIdle() || now.Before(s.idleAt) {
		return nil
	}
	s.idleAt = now.Add(s.stream.Idle)
	t, idle := s.idleMark(now)
	if !idle || len(s.marks) > 0 || s.position < s.settled {
		return nil
	}
	// What is in the log and cannot be read yet, as behind an open transaction, is not
	// nothing. What is written after this has come after now.
	if end, err := s.engine.opts.Sink.End(s.origin.Topic, s.partition); err == nil && end > s.position {
		return nil
	}
	if err := s.enter(ctx, journalRecord{Kind: kindIdle, Time: int64(t)}, now.UnixMilli()); err != nil {
		return err
	}
	s.metrics.idle.Inc()
	s.pass(s.position, t)
	if err := then(); err != nil {
		return err
	}
	s.publish(s.cursor)
	return nil
}

// idleMark is the time of the mark that is due at now, false where none is.
func (s *shard) idleMark(now time.Time) (event.Time, bool) {
	idle, at := s.stream.Idle, event.FromTime(now)
	own := s.clock.Newest()
	newest, least := own, at
	near := func(t event.Time) bool { return t >= at.Sub(nearby(idle)) && t <= at.Add(nearby(idle)) }
	for _, other := range s.engine.shards() {
		if other.stream.Topic != s.stream.Topic || other == s {
			continue
		}
		other.mu.Lock()
		p := other.pace
		other.mu.Unlock()
		newest = max(newest, p.newest)
		if !p.running || p.behind || now.Sub(p.arrived) < idle {
			least = min(least, p.newest)
		}
	}
	patience := idle
	if own != event.MinTime && !near(own) {
		patience = nearby(idle)
	}
	mark, step := least.Sub(idle), own
	if own != event.MinTime {
		step = own.Add(idle / 2)
	}
	return mark, mark > step && near(newest) && now.Sub(s.pace.arrived) >= patience
}

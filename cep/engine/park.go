package engine

import (
	"context"
	"errors"

	"github.com/weirstream/weir/ingest/source"
)

// parking is what a shard that waits for features of keyed streams holds.
type parking struct {
	keyed       []*keyedTopic
	projections []*projection
	gather      *gather
	merger      *merger // of the group
	lane        *lane   // there
	parked      []*unit // decoded and projected, in order
	parkedRows  int     // dead letters count as some
	spare       []*unit
	woken       chan struct{}
}

// letterWeight is how many bytes of a dead letter count as a parked row.
const letterWeight = 1 << 10

var (
	errStopped = errors.New("another shard of the group stopped")
	// errUnmerged says that a unit will not be projected in this life, as another source
	// has older events that are no longer read.
	errUnmerged = errors.New("the shard stops with events that are not in a keyed stream yet")
)

// park projects the batch at hand and puts it where it waits for its features, and
// decides those that have theirs. While too many wait, it waits too.
func (s *shard) park(ctx context.Context) error {
	s.letters, s.weight = s.outputs.lettersApart(s.letters[:0]), s.batch.Len()
	for i := range s.letters {
		s.weight += 1 + len(s.letters[i].Value)/letterWeight
	}
	for _, p := range s.projections {
		p.route(s.unit)
	}
	s.projected.Store(false)
	s.parked = append(s.parked, s.unit)
	s.parkedRows += s.weight
	if err := s.merger.offer(ctx, s.lane, s.unit); err != nil {
		return err
	}
	if n := len(s.spare); n > 0 {
		s.unit, s.spare = s.spare[n-1], s.spare[:n-1]
	} else {
		s.unit = &unit{}
	}
	for s.parkedRows > parkedRows {
		if err := s.await(ctx); err != nil {
			return err
		}
	}
	return s.release(ctx)
}

// release decides what is parked and has its features.
func (s *shard) release(ctx context.Context) error {
	for len(s.parked) > 0 && s.gather.ready(s.parked[0], nil) {
		if err := s.decideParked(ctx); err != nil {
			return err
		}
	}
	return nil
}

// await waits until the first of what is parked has its features, and decides it.
func (s *shard) await(ctx context.Context) error {
	wake := func() {
		select {
		case s.woken <- struct{}{}:
		default:
		}
	}
	for !s.gather.ready(s.parked[0], wake) {
		if err := s.merger.failure(); err != nil {
			return err
		}
		switch {
		case s.gather.isClosed():
			return errStopped
		case !s.parked[0].projected.Load() && s.merger.stuck():
			return errUnmerged
		}
		select {
		case <-s.woken:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return s.decideParked(ctx)
}

// drain decides all that is parked.
func (s *shard) drain(ctx context.Context) error {
	for len(s.parked) > 0 {
		if err := s.await(ctx); err != nil {
			return err
		}
	}
	s.cursor = max(s.cursor, s.position)
	return nil
}

// decideParked decides the first of what is parked.
func (s *shard) decideParked(ctx context.Context) error {
	at := s.unit
	s.unit = s.parked[0]
	s.parked = s.parked[1:]
	s.parkedRows -= s.weight
	s.outputs.reset()
	s.outputs.topics[toDeadLetters].recs = append(s.outputs.topics[toDeadLetters].recs, s.letters...)
	if err := s.finish(ctx); err != nil {
		return err
	}
	s.spare = append(s.spare, s.unit)
	s.unit = at
	s.arrived(s.position)
	return nil
}

// reads tells the merger whether there is more to read than the shard has decoded.
func (s *shard) reads(ctx context.Context, src source.Source) error {
	if s.lane == nil {
		return nil
	}
	end, tells := src.(ender)
	return s.merger.read(ctx, s.lane, tells && end.End() > s.position)
}

// ender is a Source that tells where what there is to read now ends.
type ender interface{ End() int64 }

package engine

import (
	"context"
	"errors"
	"time"
)

// parking is what a shard that waits for features of keyed streams holds.
type parking struct {
	keyed       []*keyedTopic
	projections []*projection
	gather      *gather
	parked      []*unit // decoded and projected, in order
	parkedRows  int
	spare       []*unit
	woken       chan struct{}
}

var errStopped = errors.New("another shard of the group stopped")

// park projects the batch at hand and puts it where it waits for its features, and
// decides those that have theirs. While too many wait, it waits too.
func (s *shard) park(ctx context.Context) error {
	if err := s.outputs.write(ctx, s, time.Since(s.taken)); err != nil { // dead letters
		return err
	}
	if err := s.projectBatch(ctx); err != nil {
		return err
	}
	s.note()
	s.parked = append(s.parked, s.unit)
	s.parkedRows += s.batch.Len()
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

// note keeps with the unit at hand what it waits for.
func (s *shard) note() {
	u, k := s.unit, 0
	for _, p := range s.projections {
		if len(p.source.Reads) == 0 {
			continue
		}
		if k == len(u.routes) {
			u.routes, u.needs = append(u.routes, nil), append(u.needs, make([]int64, len(p.parts)))
		}
		u.routes[k] = append(u.routes[k][:0], p.route...)
		clear(u.needs[k])
		for row, q := range p.route {
			u.needs[k][q] = u.batch.Offset[row] + 1
		}
		k++
	}
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
		if s.gather.isClosed() {
			return errStopped
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
	s.parkedRows -= s.batch.Len()
	s.outputs.reset()
	if err := s.finish(ctx); err != nil {
		return err
	}
	s.spare = append(s.spare, s.unit)
	s.unit = at
	s.arrived(s.position)
	return nil
}

package engine

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// group is shards that start, fail and restart together, as what one of them does
// again another one waits for: those of all streams that share keyed streams, or one
// shard alone.
type group struct {
	engine *Engine
	shards []*shard

	cancel context.CancelFunc
	ended  chan struct{} // nil: not started; closed when err is what the group ended with
	err    error
}

// same reports whether two groups run the same programs over the same partitions of
// the same streams.
func (g *group) same(o *group) bool {
	return slices.EqualFunc(g.shards, o.shards, func(a, b *shard) bool {
		return a.stream == b.stream && a.program == b.program && a.partition == b.partition
	})
}

// start runs the group's shards, where they do not run yet.
func (g *group) start(ctx context.Context) {
	if g.ended != nil {
		return
	}
	ctx, g.cancel = context.WithCancel(ctx)
	g.ended = make(chan struct{})
	go func() {
		defer close(g.ended)
		g.err = g.supervise(ctx)
	}()
}

// stop ends the group and waits for it.
func (g *group) stop() error {
	if g.ended == nil {
		return nil
	}
	g.cancel()
	<-g.ended
	return g.err
}

// supervise runs the group and restarts it from its checkpoints when a shard fails,
// with back-off, until ctx is done.
func (g *group) supervise(ctx context.Context) error {
	wait := backoffMin
	for {
		before := g.saved()
		err := g.life(ctx)
		if ctx.Err() != nil {
			return err
		}
		if g.saved() > before {
			wait = backoffMin // it got somewhere
		}
		for _, s := range g.shards {
			s.failed(err, wait)
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
		wait = min(2*wait, backoffMax)
	}
}

// saved grows when a shard of the group writes a checkpoint.
func (g *group) saved() (sum int64) {
	for _, s := range g.shards {
		sum += s.saved
	}
	return sum
}

// life is the group from its checkpoints to its end: an error of a shard, or nil when
// ctx is done and the last checkpoints are written.
func (g *group) life(ctx context.Context) error {
	work, cancel := lingering(ctx, stopTimeout)
	defer cancel()
	for _, s := range g.shards {
		if err := s.guard(func() error { return s.restore(ctx) }); err != nil {
			if ctx.Err() != nil {
				return nil // nothing was done that a checkpoint could save
			}
			return err
		}
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var running sync.WaitGroup
	errs := make([]error, len(g.shards))
	for i, s := range g.shards {
		running.Go(func() {
			if errs[i] = s.guard(func() error { return s.run(ctx, work) }); errs[i] != nil {
				fail(errs[i])
			}
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirstream/weir/ingest/schema"
)

// group is shards that start, fail and restart together, as what one of them does
// again another one waits for: those of all streams that share keyed streams, or one
// shard alone.
type group struct {
	engine *Engine
	shards []*shard
	topics []*keyedTopic
	merger *merger // of this life

	resumed bool         // its shards have their state
	lives   atomic.Int64 // that began

	mu     sync.Mutex
	keyed  []*keyedShard // changed by the group's goroutine, under mu
	failed chan struct{} // closed when it fails instead of pausing; nil: it need not

	cancel context.CancelFunc
	ended  chan struct{} // nil: not started; closed when err is what the group ended with
	err    error
}

// same reports whether two groups run the same programs, by their IDs, over the same
// partitions of the same streams.
func (g *group) same(o *group) bool {
	return slices.EqualFunc(g.shards, o.shards, func(a, b *shard) bool {
		return a.stream == b.stream && a.declared.ID() == b.declared.ID() && a.partition == b.partition
	})
}

// changes reports whether two groups differ in their programs alone, and can change from
// one to the other while they run.
func (g *group) changes(o *group) bool {
	if len(g.topics)+len(o.topics) > 0 || len(g.shards) != 1 || len(o.shards) != 1 {
		return false
	}
	a, b := g.shards[0], o.shards[0]
	return a.stream == b.stream && a.partition == b.partition && canChange(a.declared, b.declared)
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
		defer g.cancel()
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
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			g.abandon() // those of shards that had paused when another failed
			return err
		}
		g.unpause()
		if g.engine.opts.replayed != nil && !errors.Is(err, errPanic) {
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
			g.abandon()
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
	g.lives.Add(1)
	if !g.resumed {
		if err := g.restore(ctx); err != nil {
			if ctx.Err() != nil {
				return nil // nothing was done that a checkpoint could save
			}
			return err
		}
	}
	g.resumed = false
	g.join(work)
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	keyed, enough := context.WithCancel(work)
	defer enough()
	var sources, all sync.WaitGroup
	errs := make([]error, len(g.shards)+len(g.keyed))
	run := func(i int, do func() error) {
		if errs[i] = do(); errs[i] != nil {
			fail(errs[i])
			for _, s := range g.shards {
				if s.gather != nil {
					s.gather.close() // what it waits for may never come
				}
			}
		}
	}
	for i, s := range g.shards {
		sources.Go(func() {
			run(i, func() error { return s.guard(func() error { return s.run(ctx, work) }) })
			if s.gather != nil && errs[i] == nil {
				s.gather.finish()
			}
		})
	}
	for i, k := range g.keyed {
		all.Go(func() {
			run(len(g.shards)+i, func() error { return k.guard(func() error { return k.run(keyed, work) }) })
		})
	}
	sources.Wait() // they need the keyed ones until they have decided all they took
	enough()
	all.Wait()
	g.merger.close()
	return firstCause(errs)
}

// firstCause is the errors but for those that say that another one stopped, unless there
// are no others.
func firstCause(errs []error) error {
	causes := slices.DeleteFunc(slices.Clone(errs), func(err error) bool { return errors.Is(err, errStopped) })
	if err := errors.Join(causes...); err != nil {
		return err
	}
	return errors.Join(errs...)
}

// abandon gives up the checkpoints that are being written. The group has ended.
func (g *group) abandon() {
	for _, s := range g.shards {
		s.checkpoints.abandon()
	}
	for _, k := range g.keyed {
		k.checkpoints.abandon()
	}
}

// restore puts all shards where their checkpoints left them, and brings into keyed
// streams that are new what was decided before.
func (g *group) restore(ctx context.Context) error {
	g.abandon() // of one that was paused
	for _, t := range g.topics {
		var err error
		if t.partitions, err = g.engine.opts.KeyedTopic(t.topic(), t.wanted); err != nil {
			return fmt.Errorf("%s: %w", t.topic(), err)
		}
	}
	for _, s := range g.shards {
		if err := s.guard(func() error { return s.restore(ctx) }); err != nil {
			return err
		}
	}
	for _, t := range g.topics {
		if err := g.fillKeyed(ctx, t); err != nil {
			return err
		}
	}
	if g.keyed == nil {
		g.makeKeyed()
	}
	for _, k := range g.keyed {
		if err := k.guard(func() error { return k.restore(ctx) }); err != nil {
			return err
		}
	}
	return nil
}

// join brings the shards together for a life whose work a context bounds.
func (g *group) join(work context.Context) {
	g.merger = newMerger(g.engine.opts.Sink, g.topics)
	g.merger.wait, g.merger.now, g.merger.ctx = g.engine.opts.KeyedWait, g.engine.opts.Now, work
	for _, s := range g.shards {
		s.paused = false
		s.checkpoints.join(work)
		s.meetKeyed(g.merger)
	}
	for _, k := range g.keyed {
		k.paused = false
		k.checkpoints.join(work)
		for i := range k.sources {
			f := &k.sources[i]
			f.read = f.shard.gather.index(k.topic.topic())
		}
	}
}

// meetKeyed puts the shard between a merger and the keyed streams, where it has to do with
// some: nothing is under way.
func (s *shard) meetKeyed(m *merger) {
	s.merger, s.lane, s.gather = nil, nil, nil
	if len(s.projections) == 0 {
		return
	}
	s.gather = newGather(s.projections, s.cursor)
	if replayed := s.engine.opts.replayed; replayed != nil {
		_, s.gather.until = replayed(s.origin.Topic, s.partition)
	}
	s.merger, s.lane = m, m.add(s, s.projections, s.clock.Newest())
	s.lane.gather = s.gather
}

// pause ends the group, at the next place that is possible, for its shards to go on with
// what they have. It reports whether they can, and whether it has ended at all: one that
// fails meanwhile goes on by itself.
func (g *group) pause() (paused, ended bool) {
	failed := make(chan struct{})
	g.mu.Lock()
	g.failed = failed
	g.mu.Unlock()
	for _, s := range g.shards {
		s.pausing.Store(true)
		s.call()
	}
	select {
	case <-failed:
		return false, false
	case <-g.ended:
	}
	paused = g.err == nil
	for _, s := range g.shards {
		s.pausing.Store(false)
		paused = paused && s.paused
	}
	return paused, true
}

// unpause gives a pause up.
func (g *group) unpause() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failed != nil {
		for _, s := range g.shards {
			s.pausing.Store(false)
		}
		close(g.failed)
		g.failed = nil
	}
}

// resume starts a group whose shards were paused, with what they have or, where that is
// not whole, from their checkpoints.
func (g *group) resume(ctx context.Context, whole bool) {
	g.ended, g.resumed, g.failed = nil, whole, nil
	g.start(ctx)
}

// makeKeyed makes the shards of the keyed streams.
func (g *group) makeKeyed() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, t := range g.topics {
		for q := range t.partitions {
			g.keyed = append(g.keyed, newKeyedShard(g.engine, g.shards[0].program.(KeyedProgram), t, q, g.shards))
		}
	}
}

func (g *group) keyedShards() []*keyedShard {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.keyed
}

// groupsOf are new shards, one for each partition, in their groups.
func (e *Engine) groupsOf(streams []*schema.Stream, prog Program, partitions map[string]int32) ([]*group, error) {
	topics := map[string]string{}
	for _, s := range streams {
		if other, taken := topics[s.Topic]; taken {
			return nil, fmt.Errorf("engine: the streams %s and %s read the same topic %s; one stream reads a topic", other, s.Schema.Stream, s.Topic)
		}
		topics[s.Topic] = s.Schema.Stream
	}
	keyed := keyedOf(prog)
	if len(keyed) > 0 && e.opts.KeyedTopic == nil {
		return nil, errNoKeyed
	}
	var out []*group
	of := map[string]*group{} // by stream: those that share keyed streams
	for i := range keyed {
		g := &group{engine: e, topics: []*keyedTopic{{Keyed: keyed[i], index: i}}}
		for _, src := range keyed[i].Sources {
			if o := of[src.Stream.Schema.Stream]; o != nil && o != g {
				g.topics = append(o.topics, g.topics...)
				for name := range of {
					if of[name] == o {
						of[name] = g
					}
				}
			}
			of[src.Stream.Schema.Stream] = g
		}
	}
	for _, s := range streams {
		n := s.Partitions
		if p, ok := partitions[s.Topic]; ok {
			n = p
		}
		g := of[s.Schema.Stream]
		for p := range n {
			sh := newShard(e, s, prog, p, e.metrics)
			if g == nil {
				out = append(out, &group{engine: e, shards: []*shard{sh}})
				continue
			}
			sh.keyed = g.topics
			if len(g.shards) == 0 {
				out = append(out, g)
			}
			g.shards = append(g.shards, sh)
		}
		if g != nil {
			for _, t := range g.topics {
				if t.source(s.Schema.Stream) >= 0 {
					t.wanted = max(t.wanted, n)
				}
			}
		}
	}
	return out, nil
}

package engine

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"
)

// A change to or from a program that reads keyed streams is of all shards that share them.
// It is warmed beside them, as in change.go: keyed streams that are new are filled from the
// sources' logs, and operators that are new from those or from the keyed streams. When all
// of that is near to where the shards are, these are paused, with nothing undecided; what
// is left is read; the journal says for each source that the new program decides from
// there on; operators go over to it as they are, and new groups go on. Keyed streams that
// stay keep their shards, those that are new get theirs, others end.

// regrouping is such a change of some groups.
type regrouping struct {
	engine *Engine
	declaration
	groups []*group // that it changes: of the program before

	poisoned map[string]*keyedShard // by directory: the newest reader, for what it panicked at

	cancel context.CancelFunc
	done   chan struct{}
}

// begin starts the groups. Where the journal names another program than the declared one,
// and one of them reads keyed streams, they begin with that one, where it is known: what
// it had in hand when the process ended is decided by it. The change follows.
func (e *Engine) begin(ctx context.Context) {
	d := e.declared
	if first := e.inForce(ctx); first != nil {
		groups, err := e.groupsOf(d.streams, first, d.partitions)
		if err == nil {
			e.mu.Lock()
			e.groups = groups
			e.mu.Unlock()
			for _, g := range groups {
				g.pin()
			}
			defer func() {
				if err := e.declare(d); err != nil {
					e.logger.Error("the declared program cannot be changed to", "program", d.program.ID(), "err", err)
				}
			}()
		}
	}
	for _, g := range e.groups {
		g.start(ctx)
	}
}

// inForce is the program that the journal names last; nil where that is the declared one,
// or shards change from it by themselves, or it is not known.
func (e *Engine) inForce(ctx context.Context) Program {
	if e.opts.Programs == nil || e.opts.Journal != JournalLive {
		return nil
	}
	id, newest := "", int64(-1)
	for _, s := range e.shards() {
		at, program, err := s.inForceAt(ctx)
		if err != nil {
			e.logger.Warn("which program has decided is not known: the declared one begins", "err", err)
			return nil
		}
		if program != "" && (at > newest || id == "") {
			id, newest = program, at
		}
	}
	if id == "" || id == e.declared.program.ID() {
		return nil
	}
	p, err := e.programOf(id)
	if err != nil || canChange(p, e.declared.program) {
		return nil
	}
	return p
}

// inForceAt is the program that the journal names last for the shard, and where it does;
// -1 where only its checkpoint tells.
func (s *shard) inForceAt(ctx context.Context) (at int64, program string, err error) {
	if s.source, err = s.sourceNow(); err != nil {
		return 0, "", err
	}
	st, err := s.newest(math.MaxUint64)
	if err != nil {
		return 0, "", err
	}
	at, from := int64(-1), int64(0)
	if st != nil {
		program, from = st.program, st.journaled
	}
	if err := s.openJournal(ctx, from); err != nil {
		return 0, "", err
	}
	for i := range s.marks {
		if m := &s.marks[i]; m.Kind == kindProgram {
			at, program = m.offset, m.Program
		}
	}
	return at, program, nil
}

// errAgain says that the groups are not those any more that were prepared for.
var errAgain = errors.New("the shards have started again meanwhile")

// related are the groups among which shards of a group are, before and after a change.
func related(g *group, before, after []*group) (from, to []*group) {
	from = []*group{g}
	for grown := true; grown; {
		n := len(from) + len(to)
		to, from = sharing(from, after, to), sharing(to, before, from)
		grown = len(from)+len(to) > n
	}
	return from, to
}

// sharing appends those of all that share shards with some of groups, and are not there.
func sharing(groups, all, dst []*group) []*group {
	for _, g := range all {
		shares := slices.ContainsFunc(slices.Collect(shardsIn(groups)), func(s *shard) bool {
			return slices.ContainsFunc(g.shards, s.isAt)
		})
		if shares && !slices.Contains(dst, g) {
			dst = append(dst, g)
		}
	}
	return dst
}

// isAt reports whether two shards decide the same partition of the same stream.
func (s *shard) isAt(o *shard) bool { return s.stream == o.stream && s.partition == o.partition }

// sameShards reports whether groups have shards for the same.
func sameShards(a, b []*group) bool {
	in := func(a, b []*group) bool {
		others := slices.Collect(shardsIn(b))
		for s := range shardsIn(a) {
			if !slices.ContainsFunc(others, s.isAt) {
				return false
			}
		}
		return true
	}
	return in(a, b) && in(b, a)
}

// regroup begins to change groups.
func (e *Engine) regroup(r *regrouping) {
	ctx, cancel := context.WithCancel(e.ctx)
	r.cancel, r.done, r.poisoned = cancel, make(chan struct{}), map[string]*keyedShard{}
	e.regroupings = append(e.regroupings, r)
	for s := range shardsIn(r.groups) { // it does not change by itself
		s.mu.Lock()
		if s.running != nil {
			s.declared = s.running
		}
		s.mu.Unlock()
		s.call()
	}
	go func() {
		defer close(r.done)
		defer r.show(nil)
		for ctx.Err() == nil {
			err := contained(func() error { return r.run(ctx) })
			if err == nil || ctx.Err() != nil {
				return
			}
			wait := backoffMin
			if !errors.Is(err, errAgain) {
				e.logger.Error("a new program could not be made ready; it is tried again", "program", r.program.ID(), "err", err)
				wait = warmAgain
				for s := range shardsIn(r.groups) {
					s.warmingFailed(err)
				}
			}
			select {
			case <-ctx.Done():
			case <-time.After(wait):
			}
		}
	}()
}

// endRegroupings gives all of them up.
func (e *Engine) endRegroupings() {
	for _, r := range e.regroupings {
		r.cancel()
		<-r.done
	}
	e.regroupings = nil
}

// run makes the change.
func (r *regrouping) run(ctx context.Context) error {
	if err := r.started(ctx); err != nil {
		return err
	}
	if part := r.part(); part != nil {
		if err := r.changeTo(ctx, part); err != nil {
			return err
		}
		if err := r.started(ctx); err != nil {
			return err
		}
	}
	return r.changeTo(ctx, r.program)
}

// part is the program that can be in force at once, until the one that is declared can; nil
// where the one before is.
func (r *regrouping) part() Program {
	var before Program
	for s := range shardsIn(r.groups) {
		s.mu.Lock()
		running := s.running
		s.mu.Unlock()
		if before != nil && before.ID() != running.ID() {
			return nil
		}
		before = running
	}
	return r.engine.over(r.program, before)
}

// changeTo changes to a program.
func (r *regrouping) changeTo(ctx context.Context, p Program) error {
	c, err := r.prepare(ctx, p)
	if c != nil {
		defer c.close()
	}
	if err != nil {
		return err
	}
	if err := c.follow(ctx); err != nil {
		return err
	}
	select {
	case r.engine.declaring <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-r.engine.declaring }()
	return c.switchOver(ctx)
}

// started waits until all shards run.
func (r *regrouping) started(ctx context.Context) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for !r.running() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// running reports whether all shards run.
func (r *regrouping) running() bool {
	for s := range shardsIn(r.groups) {
		s.mu.Lock()
		running := s.pace.running
		s.mu.Unlock()
		if !running {
			return false
		}
	}
	return true
}

// show tells in Status how far the warming is; nil: there is none.
func (r *regrouping) show(c *changeover) {
	for s := range shardsIn(r.groups) {
		s.mu.Lock()
		if st := &s.status; c == nil {
			st.Warming, st.Warmed, st.WarmingErr, s.waiting = "", 0, "", nil
		} else {
			st.Warming, st.Warmed, s.waiting = r.program.ID(), c.warmed(s), c.waits
		}
		s.mu.Unlock()
	}
}

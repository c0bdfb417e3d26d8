package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/weirstream/weir/ingest/source"
)

// changeover is one attempt at a change: what is made ready for it.
type changeover struct {
	*regrouping
	program Program
	next    []*group // with shards of their own, in whose place those that run come
	lives   []int64  // of the groups
	moves   []*move
	fills   []*keyedFill
	keyed   []*keyedWarming
	waits   []string // rules
	taken   bool     // the change is made
}

// move is a shard that gets another program.
type move struct {
	shard  *shard // that runs
	shadow *shard // of the next groups
	before Program
	local  *warming
	made   []*projection // onto keyed streams that are new
}

// keyedWarming makes the state of operators of a keyed stream's partition.
type keyedWarming struct {
	group   *group      // the next one
	running *keyedShard // that has what stays; nil: the keyed stream is new
	reader  *keyedShard // has the program's instance, and takes the place where nothing runs
	missing map[string]bool
	src     source.Source // nil: nothing is missing
	blocks  []source.Record
	next    int64 // all before it are in blocks, or read
}

func (c *changeover) close() {
	for _, m := range c.moves {
		if m.local != nil {
			m.local.close()
		}
	}
	for _, f := range c.fills {
		f.close()
		if !c.taken {
			c.engine.unpinKeyed(f.topic)
		}
	}
	for _, w := range c.keyed {
		if w.src != nil {
			w.src.Close()
		}
	}
}

// warmed is how far a shard's log was read for the change, on average of all that read it.
func (c *changeover) warmed(s *shard) int64 {
	read, readers := int64(0), int64(0)
	for _, m := range c.moves {
		if m.shard != s {
			continue
		}
		if m.local != nil && m.local.src != nil {
			read, readers = read+m.local.at, readers+1
		}
		for _, fill := range c.fills {
			for _, f := range fill.all {
				if f.shard == m.shadow {
					read, readers = read+f.at, readers+1
				}
			}
		}
	}
	return read / max(readers, 1)
}

// prepare finds out what is missing, and opens what that is made from.
func (r *regrouping) prepare(ctx context.Context, p Program) (*changeover, error) {
	all, err := r.engine.groupsOf(r.streams, p, r.partitions)
	if err != nil {
		return nil, err
	}
	c := &changeover{regrouping: r, program: p}
	for _, g := range r.groups {
		c.lives = append(c.lives, g.lives.Load())
	}
	for _, g := range all {
		if r.has(g.shards[0]) != nil {
			c.next = append(c.next, g)
		}
	}
	for _, g := range c.next {
		for _, t := range g.topics {
			if t.partitions, err = r.engine.opts.KeyedTopic(t.topic(), t.wanted); err != nil {
				return c, fmt.Errorf("%s: %w", t.topic(), err)
			}
		}
		for _, shadow := range g.shards {
			if err := c.prepareShard(ctx, shadow); err != nil {
				return c, err
			}
		}
		for _, t := range g.topics {
			if err := c.prepareKeyed(ctx, g, t); err != nil {
				return c, err
			}
		}
	}
	slices.Sort(c.waits)
	c.waits = slices.Compact(c.waits)
	return c, nil
}

// has is the shard that runs where a new one would; nil: none does.
func (r *regrouping) has(n *shard) *shard {
	for s := range shardsIn(r.groups) {
		if s.isAt(n) {
			return s
		}
	}
	return nil
}

func (c *changeover) prepareShard(ctx context.Context, shadow *shard) (err error) {
	m := &move{shard: c.has(shadow), shadow: shadow}
	c.moves = append(c.moves, m)
	m.shard.mu.Lock()
	m.before = m.shard.running
	m.shard.mu.Unlock()
	if shadow.source, err = shadow.sourceNow(); err != nil {
		return err
	}
	has, err := m.before.Instance(m.shard.stream)
	if err != nil {
		return err
	}
	m.local, err = m.shard.warmFor(ctx, c.program, shadow.keyed, has.Operators(), 1)
	if err == nil {
		m.local.shown = func() int64 { return c.warmed(m.shard) }
		c.await(m.local.reader.instance.Operators(), m.local.missing)
	}
	return err
}

// await notes the rules that wait for operators.
func (c *changeover) await(ops []Operator, missing map[string]bool) {
	for _, op := range ops {
		if missing[op.Identity] {
			c.waits = append(c.waits, op.Rules...)
		}
	}
}

// prepareKeyed opens what a keyed stream's operators are made from, and the sources' logs
// where it is new.
func (c *changeover) prepareKeyed(ctx context.Context, g *group, t *keyedTopic) error {
	var there []*keyedShard
	for _, old := range c.groups {
		for _, k := range old.keyedShards() {
			if k.topic.topic() == t.topic() {
				there = append(there, k)
			}
		}
	}
	if there == nil {
		if err := c.prepareFill(ctx, g, t); err != nil {
			return err
		}
	}
	for q := range t.partitions {
		w := &keyedWarming{group: g, reader: newKeyedShard(c.engine, c.program.(KeyedProgram), t, q, g.shards)}
		c.keyed = append(c.keyed, w)
		if i := slices.IndexFunc(there, func(k *keyedShard) bool { return k.partition == q }); i >= 0 {
			w.running = there[i]
		}
		if before := c.poisoned[w.reader.dir()]; before != nil {
			w.reader.careful, w.reader.poisoned = before.careful, before.poisoned
		}
		c.poisoned[w.reader.dir()] = w.reader
		if err := w.open(ctx); err != nil {
			return err
		}
		c.await(w.reader.ops, w.missing)
	}
	return nil
}

func (c *changeover) prepareFill(ctx context.Context, g *group, t *keyedTopic) error {
	fill := newKeyedFill(c.engine, t)
	c.engine.pinKeyed(t)
	c.fills = append(c.fills, fill)
	for _, shadow := range g.shards {
		at := t.source(shadow.stream.Schema.Stream)
		if at < 0 {
			continue
		}
		p := newProjection(t.topic(), &t.Sources[at], t.partitions, 0)
		for q := range p.parts {
			if err := shadow.scanProjected(ctx, &p.parts[q], nil); err != nil {
				return err
			}
		}
		fill.add(shadow, p)
		for _, m := range c.moves {
			if m.shadow == shadow {
				m.made = append(m.made, p)
			}
		}
	}
	return nil
}

// open begins to make what the reader lacks.
func (w *keyedWarming) open(ctx context.Context) error {
	k, e := w.reader, w.reader.engine
	k.aside = true
	if of := e.opts.TopicID; of != nil {
		var err error
		if k.topicID, err = of(k.topic.topic()); err != nil {
			return err
		}
	}
	if err := k.begin(); err != nil {
		return err
	}
	var has []Operator
	if w.running != nil {
		w.running.mu.Lock()
		has = w.running.ops
		w.running.mu.Unlock()
	} else if _, err := k.checkpoints.store.Generations(); err != nil {
		return err
	}
	w.missing = missing(k.ops, has)
	for _, op := range k.ops {
		if w.missing[op.Identity] {
			e.place(k.dir(), op)
		}
	}
	k.only = w.missing
	if len(w.missing) == 0 && w.running != nil {
		return nil
	}
	var err error
	w.src, err = e.opts.Open(ctx, k.topic.topic(), k.partition, 0)
	return err
}

// end is up to where the reader can read now.
func (w *keyedWarming) end() (int64, error) {
	k := w.running
	if k == nil {
		return w.reader.engine.opts.Sink.End(w.reader.topic.topic(), w.reader.partition)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.status.Cursor, nil
}

// to reads all blocks before an offset, which are there.
func (w *keyedWarming) to(ctx context.Context, offset int64, rest func(time.Duration) error) error {
	if w.src == nil {
		return nil
	}
	k := w.reader
	for k.cursor < offset {
		begun := time.Now()
		if len(w.blocks) == 0 {
			c, err := w.src.Next(ctx)
			if err != nil {
				return k.in(err)
			}
			w.blocks, w.next = c.Records, c.Next
		}
		for len(w.blocks) > 0 && w.blocks[0].Offset < offset {
			k.at, k.row = w.blocks[0].Offset, -1
			if err := k.guard(func() error { return k.block(ctx, &w.blocks[0]) }); err != nil {
				return k.in(err)
			}
			k.cursor, w.blocks = w.blocks[0].Offset+1, w.blocks[1:]
		}
		k.at = -1
		if len(w.blocks) == 0 {
			k.cursor = max(k.cursor, w.next)
		} else {
			k.cursor = max(k.cursor, offset)
		}
		if rest != nil {
			if err := rest(time.Since(begun)); err != nil {
				return err
			}
		}
	}
	return nil
}

// follow reads until all is near to where the shards are. It rests as long as it works.
func (c *changeover) follow(ctx context.Context) error {
	rest := func(worked time.Duration) error {
		c.show(c)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(worked):
			return nil
		}
	}
	for {
		read := int64(0)
		for _, m := range c.moves {
			begun := m.local.at
			if m.local.src != nil {
				if err := m.local.follow(ctx, m.shard); err != nil {
					return err
				}
			}
			read += m.local.at - begun
		}
		for _, fill := range c.fills {
			for _, f := range fill.all {
				f.to = max(f.to, c.cursor(f.shard))
			}
			read += fill.left()
			if err := fill.run(ctx, rest); err != nil {
				return err
			}
		}
		for _, w := range c.keyed {
			end, err := w.end()
			if err != nil {
				return err
			}
			if w.src != nil {
				read += max(0, end-w.reader.cursor)
			}
			if err := w.to(ctx, end, rest); err != nil {
				return err
			}
		}
		if read <= warmNear {
			return nil
		}
	}
}

// cursor is where the shard is in whose place a shadow stands.
func (c *changeover) cursor(shadow *shard) int64 {
	s := c.has(shadow)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status.Cursor
}

// switchOver changes the program, while nothing is declared.
func (c *changeover) switchOver(ctx context.Context) error {
	e := c.engine
	if !c.running() || !c.sameLives() {
		return errAgain
	}
	begun := time.Now()
	if err := c.pause(ctx); err != nil {
		return err
	}
	whole := true
	if err := contained(c.take); err != nil {
		e.logger.Error("the state of windows could not be handed over: it is restored", "program", c.program.ID(), "err", err)
		whole = false
		for _, g := range c.groups {
			g.abandon()
		}
	}
	c.taken = true
	c.endKeyed()
	e.mu.Lock()
	groups := slices.DeleteFunc(slices.Clone(e.groups), func(g *group) bool { return slices.Contains(c.groups, g) })
	e.groups = append(groups, c.next...)
	e.mu.Unlock()
	c.show(nil)
	c.groups = c.next
	for _, g := range c.next {
		if !whole {
			g.keyed = nil
		}
		g.resume(e.ctx, whole)
	}
	e.logger.Info("a program is in force", "program", c.program.ID(), "held", time.Since(begun))
	return nil
}

// pause has all shards stand still, and the change ready. With an error they go on.
func (c *changeover) pause(ctx context.Context) error {
	e := c.engine
	paused, ended := make([]bool, len(c.groups)), make([]bool, len(c.groups))
	for i, g := range c.groups {
		if paused[i], ended[i] = g.pause(); !paused[i] {
			break // the others need not stand still
		}
	}
	err := errAgain
	if !slices.Contains(paused, false) {
		err = contained(func() error { return c.ready(ctx) })
	}
	if err == nil {
		return nil
	}
	for i, g := range c.groups {
		switch {
		case ended[i] && (paused[i] || e.ctx.Err() == nil):
			g.resume(e.ctx, paused[i])
		case ended[i]: // some of its shards may have paused
			g.abandon()
		}
	}
	return err
}

// ready reads what is left, now that the shards stand still, and has the journal say that
// the program decides from there on.
func (c *changeover) ready(ctx context.Context) error {
	if !c.sameLives() {
		return errAgain
	}
	for _, m := range c.moves {
		if m.shard.program.ID() != m.before.ID() || m.local.at > m.shard.position {
			return errAgain
		}
		if err := m.local.to(ctx, m.shard.position, m.shard.journaled); err != nil {
			return err
		}
	}
	for _, fill := range c.fills {
		for _, f := range fill.all {
			f.to = c.has(f.shard).position
		}
		if err := fill.run(ctx, nil); err != nil {
			return err
		}
	}
	for _, w := range c.keyed {
		if w.running == nil {
			continue // it reads on in its own time
		}
		if w.reader.cursor > w.running.cursor {
			return errAgain
		}
		if err := w.to(ctx, w.running.cursor, nil); err != nil {
			return err
		}
	}
	// All that the one before decided is durable before the journal has one of the marks.
	if err := c.each(func(s *shard) error { return s.outputsDurable(ctx) }); err != nil {
		return err
	}
	return c.each(func(s *shard) error { return s.enterProgram(ctx, c.program.ID()) })
}

// sameLives reports whether no group has begun again since the change was prepared.
func (c *changeover) sameLives() bool {
	for i, g := range c.groups {
		if g.lives.Load() != c.lives[i] {
			return false
		}
	}
	return true
}

// each does something with all shards at once.
func (c *changeover) each(do func(s *shard) error) error {
	errs := make([]error, len(c.moves))
	var all sync.WaitGroup
	for i, m := range c.moves {
		all.Go(func() { errs[i] = do(m.shard) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// take brings the shards that run into the new groups, with the new program.
func (c *changeover) take() error {
	for _, m := range c.moves {
		s := m.shard
		s.mu.Lock()
		s.declared = c.program
		s.mu.Unlock()
	}
	var errs []error
	for _, g := range c.next {
		for i, shadow := range g.shards {
			g.shards[i] = c.has(shadow)
		}
	}
	for _, m := range c.moves {
		errs = append(errs, m.take())
	}
	for _, g := range c.next {
		errs = append(errs, c.takeKeyed(g))
	}
	return errors.Join(errs...)
}

// endKeyed ends the shards of keyed streams that are read no more.
func (c *changeover) endKeyed() {
	for _, old := range c.groups {
		for _, k := range old.keyed {
			if !slices.ContainsFunc(c.keyed, func(w *keyedWarming) bool { return w.running == k }) {
				k.checkpoints.abandon()
				c.engine.unpinKeyed(k.topic)
			}
		}
	}
}

// take gives the shard its program, and its part of the keyed streams.
func (m *move) take() error {
	s := m.shard
	if err := s.become(m.local); err != nil {
		return err
	}
	before := append(s.projections, m.made...)
	s.keyed, s.projections = m.shadow.keyed, nil
	for _, k := range s.keyed {
		at := k.source(s.stream.Schema.Stream)
		if at < 0 {
			continue
		}
		p := before[slices.IndexFunc(before, func(p *projection) bool { return p.topic == k.topic() })]
		p.source, p.index = &k.Sources[at], len(s.projections)
		s.projections = append(s.projections, p)
	}
	for _, p := range m.made {
		for q := range p.parts {
			s.settled = max(s.settled, p.parts[q].reach)
		}
	}
	s.publish(s.cursor)
	return nil
}

// takeKeyed gives the shards of a group's keyed streams their program.
func (c *changeover) takeKeyed(g *group) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.keyed = nil
	for _, w := range c.keyed {
		if w.group != g {
			continue
		}
		k := w.running
		if k == nil {
			k = w.reader
			k.checkpoints.store.Restart()
			k.aside, k.only = false, nil
			for i := range k.sources {
				k.sources[i].shard = c.has(k.sources[i].shard)
			}
		} else if err := k.become(w); err != nil {
			return err
		}
		g.keyed = append(g.keyed, k)
	}
	return nil
}

// become gives the shard the program that was made ready.
func (k *keyedShard) become(w *keyedWarming) error {
	r := w.reader
	if err := k.engine.inherit(k.dir(), r.ops, k.ops, w.missing, &k.checkpoints); err != nil {
		return err
	}
	k.succeed()
	k.program, k.topic, k.instance, k.outboxes, k.loaded = r.program, r.topic, r.instance, r.outboxes, -1
	k.readers = r.readers
	k.mu.Lock()
	k.ops = r.ops
	k.mu.Unlock()
	for _, op := range k.instance.Operators() {
		if err := op.Advance(k.low, &k.outboxes[op.Reader]); err != nil {
			return err
		}
	}
	k.publish(k.cursor)
	return nil
}

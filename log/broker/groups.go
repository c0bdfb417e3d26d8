package broker

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/group"
	"github.com/weirstream/weir/log/record"
)

const (
	// maxGroups bounds the groups that are remembered; a new one beyond is refused
	// with COORDINATOR_NOT_AVAILABLE.
	maxGroups = 100_000
	// maxOffsetMetadata is Kafka's offset.metadata.max.bytes.
	maxOffsetMetadata = 4096
	// sweepEvery is how often expired offsets are looked for; Kafka's
	// offsets.retention.check.interval.ms is 10 minutes.
	sweepEvery = time.Minute
	// tickTimeout is how long a timer's change may wait for room in the log.
	tickTimeout = 5 * time.Second
)

// groups is the group coordinator: it gives requests to the state machines of
// log/group, stores in __consumer_offsets what they change, and answers when that
// is durable.
//
// Requests of a group are serialised by its cell's mutex, which is held while
// records are appended and never while somebody waits for the disk or for other
// members. Timers: one per group with members, and the sweep; stop ends them.
type groups struct {
	log     *commitlog.Log
	topic   *stateTopic
	cfg     group.Config
	logger  *slog.Logger
	metrics *groupMetrics

	// began are the topics there were when the coordinator began, by name: what it
	// reads was committed for them.
	began map[string]*commitlog.Topic

	mu      sync.Mutex
	byID    map[string]*cell
	stopped bool
	timers  sync.WaitGroup // running now

	txnMu sync.Mutex
	txns  map[txnKey]map[*cell]bool // cells with offsets of an open transaction
}

type txnKey struct {
	partition int32
	producer  int64
}

// cell is one group: its members, where there are any, and its offsets.
type cell struct {
	id        string
	partition int32 // of the state topic

	mu       sync.Mutex
	gone     bool // not in byID any more
	classic  *group.Classic
	consumer *group.Consumer // instead of classic
	changed  time.Time       // consumer, last: where it is empty, since when
	offsets  group.Offsets
	last     stored // everything so far is durable with this
	tickets  group.Ticket
	waiting  map[group.Ticket]*waiter
	timer    *time.Timer
	armed    time.Time // when timer fires; zero: it does not
}

// waiter is a JoinGroup or SyncGroup that waits for others. What it got is there
// once done is closed, and may be read where await has no error: who stopped waiting
// may be answered at that moment.
type waiter struct {
	done chan struct{}
	join group.JoinResult
	sync group.SyncResult
	at   stored // to be durable before the answer leaves
}

func newGroups(l *commitlog.Log, cfg group.Config, logger *slog.Logger) *groups {
	began := map[string]*commitlog.Topic{}
	for _, t := range l.Topics() {
		began[t.Name()] = t
	}
	return &groups{
		log: l, began: began, topic: newStateTopic(l, offsetsTopic, logger), cfg: cfg.WithDefaults(), logger: logger,
		metrics: newGroupMetrics(), byID: map[string]*cell{}, txns: map[txnKey]map[*cell]bool{},
	}
}

// run loads the state and then looks after it until ctx is done.
func (g *groups) run(ctx context.Context) {
	g.topic.load(ctx, g)
	g.began = nil
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			g.sweep(ctx, time.Now())
		case <-ctx.Done():
			return
		}
	}
}

// stop ends the timers. No request may be running or come.
func (g *groups) stop() {
	g.mu.Lock()
	g.stopped = true
	list := slices.Collect(maps.Values(g.byID))
	g.mu.Unlock()
	for _, c := range list {
		c.mu.Lock()
		if c.timer != nil {
			c.timer.Stop()
		}
		c.mu.Unlock()
	}
	g.timers.Wait()
}

// errNoGroup says that there is no such group.
var errNoGroup = errors.New("no such group")

// lock is the cell of a group, locked; it is made where create says so. Errors:
// errNoGroup, or Kafka's where the coordinator cannot say.
func (g *groups) lock(id string, create bool) (*cell, error) {
	partition := g.topic.partition(id)
	if err := g.topic.ready(partition); err != nil {
		return nil, err
	}
	for {
		g.mu.Lock()
		c := g.byID[id]
		switch {
		case g.stopped:
			g.mu.Unlock()
			return nil, kerr.CoordinatorNotAvailable
		case c == nil && !create:
			g.mu.Unlock()
			return nil, errNoGroup
		case c == nil && len(g.byID) >= maxGroups:
			g.mu.Unlock()
			g.logger.Warn("group refused: there are too many", "group", id, "limit", maxGroups)
			return nil, kerr.CoordinatorNotAvailable
		case c == nil:
			c = g.newCell(id, partition)
		}
		g.mu.Unlock()
		c.mu.Lock()
		if !c.gone {
			return c, nil
		}
		c.mu.Unlock()
	}
}

// newCell makes a group. The caller holds mu.
func (g *groups) newCell(id string, partition int32) *cell {
	c := &cell{id: id, partition: partition, waiting: map[group.Ticket]*waiter{}}
	g.byID[id] = c
	return c
}

// all are the groups there are, in order of id; where one is not loaded yet, the
// error says so.
func (g *groups) all() ([]*cell, error) {
	if err := g.topic.allReady(); err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	list := make([]*cell, 0, len(g.byID))
	for _, id := range slices.Sorted(maps.Keys(g.byID)) {
		list = append(list, g.byID[id])
	}
	return list, nil
}

// members is the classic group in c, where it is one or may become one.
func (g *groups) members(c *cell, now time.Time) *group.Classic {
	if c.classic == nil {
		c.classic = group.NewClassic(&g.cfg, now)
	}
	return c.classic
}

// state is what the group is called to be.
func (c *cell) state() group.State {
	switch {
	case c.consumer != nil:
		return c.consumer.State()
	case c.classic != nil:
		return c.classic.State()
	}
	return group.Empty
}

// empty reports whether the group has no members, not even on the way.
func (c *cell) empty() bool {
	switch {
	case c.consumer != nil:
		return c.consumer.Members() == 0
	case c.classic != nil:
		return c.classic.Idle()
	}
	return true
}

// wait makes a ticket for a request that is answered later. The caller holds
// c.mu.
func (c *cell) wait() (group.Ticket, *waiter) {
	c.tickets++
	w := &waiter{done: make(chan struct{})}
	c.waiting[c.tickets] = w
	return c.tickets, w
}

// await returns when w has its answer and that is durable. An error is Kafka's:
// the server stops, its client is gone, or the disk failed.
func (w *waiter) await(ctx context.Context) error {
	select {
	case <-w.done:
	case <-ctx.Done():
		return kerr.CoordinatorNotAvailable
	}
	return durable(ctx, w.at)
}

// durable waits for at; the error is what a coordinator says who may not answer.
func durable(ctx context.Context, at stored) error {
	if err := at.wait(ctx); err != nil {
		return kerr.CoordinatorNotAvailable
	}
	return nil
}

// store appends records of c. The caller holds c.mu.
func (g *groups) store(ctx context.Context, c *cell, now time.Time, o record.BatchOptions, records []group.Record) error {
	kvs := make([]keyValue, len(records))
	for i, r := range records {
		kvs[i] = keyValue{r.Key, r.Value}
	}
	at, err := g.topic.append(ctx, c.partition, o, now, kvs...)
	if err != nil {
		return err
	}
	if len(records) > 0 {
		c.last = at
	}
	return nil
}

// storePlain is store outside of transactions.
func (g *groups) storePlain(ctx context.Context, c *cell, now time.Time, records []group.Record) error {
	return g.store(ctx, c, now, record.BatchOptions{}, records)
}

// apply does what the classic group of c asks for, and sets its timer. The caller
// holds c.mu.
func (g *groups) apply(ctx context.Context, c *cell, now time.Time, eff group.Effects) {
	if eff.Store {
		if err := g.storePlain(ctx, c, now, c.classic.Stored(c.id)); err != nil {
			g.logger.Error("group not stored; it rebalances", "group", c.id, "err", err)
			for i := range eff.Synced {
				if eff.Synced[i].Err == nil {
					eff.Synced[i].SyncResult = group.SyncResult{Err: kerr.CoordinatorNotAvailable}
				}
			}
			for i := range eff.Joined {
				if eff.Joined[i].Err == nil {
					eff.Joined[i].JoinResult = group.JoinResult{Err: kerr.CoordinatorNotAvailable, Generation: -1, MemberID: eff.Joined[i].MemberID}
				}
			}
			again := c.classic.Unstored(now)
			eff.Joined, eff.Synced = append(eff.Joined, again.Joined...), append(eff.Synced, again.Synced...)
		}
	}
	if eff.Rebalanced {
		g.metrics.rebalances.Inc()
	}
	for _, j := range eff.Joined {
		c.answer(j.Ticket, eff.Store, func(w *waiter) { w.join = j.JoinResult })
	}
	for _, s := range eff.Synced {
		c.answer(s.Ticket, eff.Store, func(w *waiter) { w.sync = s.SyncResult })
	}
	g.arm(c)
}

func (c *cell) answer(t group.Ticket, stored bool, with func(*waiter)) {
	w := c.waiting[t]
	if w == nil {
		return
	}
	delete(c.waiting, t)
	if with(w); stored {
		w.at = c.last
	}
	close(w.done)
}

// arm sets c's timer. The caller holds c.mu.
func (g *groups) arm(c *cell) {
	var at time.Time
	var ok bool
	switch {
	case c.gone:
	case c.consumer != nil:
		at, ok = c.consumer.Deadline()
	case c.classic != nil:
		at, ok = c.classic.Deadline()
	}
	switch {
	case !ok:
		if c.timer != nil {
			c.timer.Stop()
		}
		c.armed = time.Time{}
	case c.armed.IsZero() || at.Before(c.armed):
		c.armed = at
		if c.timer == nil {
			c.timer = time.AfterFunc(time.Until(at), func() { g.tick(c) })
		} else {
			c.timer.Reset(time.Until(at))
		}
	}
}

// tick is c's timer.
func (g *groups) tick(c *cell) {
	g.mu.Lock()
	if g.stopped {
		g.mu.Unlock()
		return
	}
	g.timers.Add(1)
	g.mu.Unlock()
	defer g.timers.Done()
	ctx, cancel := context.WithTimeout(context.Background(), tickTimeout)
	defer cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return
	}
	c.armed = time.Time{}
	now := time.Now()
	switch {
	case c.consumer != nil:
		_ = g.applyConsumer(ctx, c, now, c.consumer.Tick(now)) // it says so itself
	case c.classic != nil:
		g.apply(ctx, c, now, c.classic.Tick(now))
	}
}

// forget takes c out, which nobody is in any more. The caller holds c.mu and has
// stored that it is gone.
func (g *groups) forget(c *cell, now time.Time) {
	if c.classic != nil {
		c.classic.Kill(now)
	}
	c.gone = true
	g.arm(c)
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.byID, c.id)
}

// forgotten are the records that remove all of c.
func (c *cell) forgotten() []group.Record {
	var list []group.Record
	for _, p := range c.offsets.Partitions() {
		list = append(list, group.ForgottenOffset(c.id, p))
	}
	switch {
	case c.consumer != nil:
		list = append(list, c.consumer.Forgotten(c.id)...)
	case c.classic != nil:
		list = append(list, c.classic.Forgotten(c.id)...)
	}
	return list
}

// sweep removes offsets whose time is over and whose topic is gone, and groups
// that nothing is left of.
func (g *groups) sweep(ctx context.Context, now time.Time) {
	list, err := g.all()
	if err != nil {
		return // when it is loaded
	}
	for _, c := range list {
		if ctx.Err() != nil {
			return
		}
		_, _ = g.dropOffsets(ctx, c, now, func(p group.TopicPartition) bool { // it says so itself
			if _, ok := g.log.Topic(p.Topic); !ok {
				return true
			}
			at, ok := c.offsets.Get(p)
			return ok && !c.offsets.Unstable(p) && c.expired(now, g.cfg.Retention, p, at)
		})
	}
}

// expired reports whether an offset of c has outlived its retention: those of a
// group without members, counted from when it lost the last one, and those of
// topics that nobody in it reads. The caller holds c.mu.
func (c *cell) expired(now time.Time, retention time.Duration, p group.TopicPartition, at group.Offset) bool {
	base := time.UnixMilli(at.Time)
	switch {
	case !c.empty():
		if c.subscribed(p.Topic) {
			return false
		}
	case c.consumer != nil && c.changed.After(base):
		base = c.changed
	case c.classic != nil && c.classic.ProtocolType() != "" && c.classic.Since().After(base):
		base = c.classic.Since()
	}
	return now.Sub(base) >= retention
}

// subscribed reports whether members of c read the topic, as far as that can be
// known. The caller holds c.mu.
func (c *cell) subscribed(topic string) bool {
	switch {
	case c.consumer != nil:
		return c.consumer.Subscribed(topic)
	case c.classic != nil && len(c.classic.ProtocolType()) > 0 && !c.empty():
		return c.classic.Subscribed(topic)
	}
	return false
}

// dropOffsets removes the offsets of c that gone names, those of open transactions
// included, and c where nothing is left. That is so once what it returns is durable.
func (g *groups) dropOffsets(ctx context.Context, c *cell, now time.Time, gone func(group.TopicPartition) bool) (stored, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return stored{}, nil
	}
	var records []group.Record
	var drop []group.TopicPartition
	all := c.offsets.Partitions()
	for _, p := range all {
		if gone(p) {
			drop = append(drop, p)
			records = append(records, group.ForgottenOffset(c.id, p))
		}
	}
	over := c.empty() && len(drop) == len(all)
	if over {
		records = c.forgotten()
	}
	if len(records) > 0 && (g.topic.made() || c.last.p != nil) {
		if err := g.storePlain(ctx, c, now, records); err != nil {
			g.logger.Error("offsets that expired or whose topic is gone not removed; tried again later", "group", c.id, "err", err)
			return stored{}, err
		}
	}
	for _, p := range drop {
		c.offsets.Delete(p)
	}
	if over {
		g.forget(c, now)
	}
	return c.last, nil
}

// topicDeleted forgets, durably, what groups committed for a topic that is no more:
// another one of that name has nothing to do with it.
func (g *groups) topicDeleted(ctx context.Context, topic string) {
	now := time.Now()
	var removed []stored
	for _, c := range g.ready() {
		at, err := g.dropOffsets(ctx, c, now, func(p group.TopicPartition) bool { return p.Topic == topic })
		if err == nil {
			removed = append(removed, at)
		}
	}
	for _, at := range removed {
		if err := at.wait(ctx); err != nil {
			g.logger.Error("offsets of a deleted topic are not known to be removed for good", "topic", topic, "err", err)
			return
		}
	}
}

// ready are the groups whose partition was read; replayed sees to the others.
func (g *groups) ready() []*cell {
	g.mu.Lock()
	list := slices.Collect(maps.Values(g.byID))
	g.mu.Unlock()
	return slices.DeleteFunc(list, func(c *cell) bool { return g.topic.ready(c.partition) != nil })
}

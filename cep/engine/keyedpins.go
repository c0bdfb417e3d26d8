package engine

import (
	"fmt"
	"time"

	"github.com/weirstream/weir/ingest/event"
)

// A partition of a keyed stream is pinned from where the events begin of which its windows
// would be made again. That is known from what this process has seen of it: until its
// windows' reach is behind it, all of it is pinned.

// keyedPins is what of its topic a keyed shard needs.
type keyedPins struct {
	newest event.Time // of the events taken in
	passed []passed
	before int64 // what the checkpoint before the newest needs
	begun  int64 // what the one at hand will
}

// keyedOwner is who pins, for people.
func keyedOwner(topic string, partition int32) string {
	return fmt.Sprintf("engine: %s/%d", topic, partition)
}

// pin pins what a group needs that does not run yet.
func (g *group) pin() {
	for _, s := range g.shards {
		s.pinSaved()
	}
	g.engine.pinKeyed(g.topics...)
}

// pinKeyed pins all of keyed streams that are not read yet.
func (e *Engine) pinKeyed(topics ...*keyedTopic) { e.pinKeyedFrom(0, topics) }

// unpinKeyed takes back what was pinned of keyed streams that are read no more, and what
// metrics told of them.
func (e *Engine) unpinKeyed(topics ...*keyedTopic) {
	for _, t := range topics {
		e.metrics.keyed.forget(t.topic())
	}
	e.pinKeyedFrom(-1, topics)
}

func (e *Engine) pinKeyedFrom(offset int64, topics []*keyedTopic) {
	if e.opts.Pin == nil {
		return
	}
	for _, t := range topics {
		for q := range max(t.wanted, t.partitions) {
			e.opts.Pin(keyedOwner(t.topic(), q), t.topic(), q, offset)
		}
	}
}

// saw notes the times of events that were taken in.
func (p *keyedPins) saw(times []event.Time) {
	for _, t := range times {
		p.newest = max(p.newest, t)
	}
}

// passBy notes that a checkpoint is begun at a cursor, and what that needs.
func (p *keyedPins) passBy(cursor int64, low event.Time, reach time.Duration) {
	var from passed
	p.passed, from = passBy(p.passed, passed{offset: cursor, newest: p.newest}, low, reach)
	p.begun = from.offset
}

// pin pins what the newest two checkpoints need, once the one at hand is durable.
func (k *keyedShard) pin() {
	if pin := k.engine.opts.Pin; pin != nil {
		pin(keyedOwner(k.topic.topic(), k.partition), k.topic.topic(), k.partition, min(k.pins.before, k.pins.begun))
	}
	k.pins.before = k.pins.begun
}

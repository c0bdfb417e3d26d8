package broker

import (
	"context"
	"time"

	"github.com/weirstream/weir/log/group"
	"github.com/weirstream/weir/log/record"
)

// What the group coordinator does with what it reads from __consumer_offsets at
// the start: see replayer.

// loadCell is the cell of a group that is read.
func (g *groups) loadCell(id string, partition int32) *cell {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c := g.byID[id]; c != nil {
		return c
	}
	return g.newCell(id, partition)
}

// replay implements replayer.
func (g *groups) replay(partition int32, h *record.BatchHeader, r *record.Record) {
	l, err := group.Load(r.Key, r.Value)
	if err != nil {
		g.logger.Warn("record of a group passed over", "topic", offsetsTopic, "partition", partition, "offset", r.Offset, "err", err)
		return
	}
	if l.Offset == nil && l.Classic == nil && l.Consumer == nil {
		return
	}
	c := g.loadCell(l.Group, partition)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case l.Offset != nil && h.Transactional() && !l.Removed:
		l.Offset.Offset.Place = r.Offset
		c.offsets.CommitPending(h.ProducerID, l.Offset.Partition, l.Offset.Offset)
		g.noteTxn(c, h.ProducerID)
	case l.Offset != nil && l.Removed:
		c.offsets.Delete(l.Offset.Partition) // and what is open
	case l.Offset != nil:
		l.Offset.Offset.Place = r.Offset
		c.offsets.Commit(l.Offset.Partition, l.Offset.Offset)
	case l.Classic != nil && l.Removed:
		c.classic = nil
	case l.Classic != nil:
		c.classic = group.RestoreClassic(&g.cfg, time.Now(), l.Classic.Value)
	case l.Consumer != nil:
		if c.consumer == nil {
			c.consumer = group.NewConsumer(&g.cfg, time.Now())
		}
		c.consumer.Restore(l.Consumer)
		if at := time.UnixMilli(r.Timestamp); at.After(c.changed) {
			c.changed = at
		}
	}
}

// replayMarker implements replayer.
func (g *groups) replayMarker(partition int32, h *record.BatchHeader, commit bool) {
	g.endTxn(partition, h.ProducerID, commit)
}

// replayed implements replayer: who was a member has a session timeout from now on
// to come again.
func (g *groups) replayed(partition int32) {
	g.mu.Lock()
	var list []*cell
	for _, c := range g.byID {
		if c.partition == partition {
			list = append(list, c)
		}
	}
	g.mu.Unlock()
	now := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), tickTimeout)
	defer cancel()
	var last stored
	for _, c := range list {
		c.mu.Lock()
		if g.dropStale(ctx, c, now); c.last.p != nil {
			last = c.last
		}
		if c.consumer != nil && c.consumer.Epoch() < 0 {
			c.consumer = nil // it was removed
		}
		switch {
		case c.consumer != nil:
			c.classic = nil
			c.consumer.Restored(now)
			g.arm(c)
		case c.classic != nil:
			g.arm(c)
		case c.offsets.Idle():
			g.forget(c, now)
		}
		c.mu.Unlock()
	}
	if err := last.wait(ctx); err != nil {
		g.logger.Error("offsets of topics that are gone may come back with the next start", "partition", partition, "err", err)
	}
}

// dropStale removes offsets of topics that are not there, or are again: a crash can
// come between the end of a topic and that of its offsets. The caller holds c.mu.
func (g *groups) dropStale(ctx context.Context, c *cell, now time.Time) {
	var records []group.Record
	for _, p := range c.offsets.Partitions() {
		if t, ok := g.log.Topic(p.Topic); !ok || t != g.began[p.Topic] {
			c.offsets.Delete(p)
			records = append(records, group.ForgottenOffset(c.id, p))
		}
	}
	if len(records) == 0 {
		return
	}
	if err := g.storePlain(ctx, c, now, records); err != nil {
		g.logger.Error("offsets of topics that are gone may come back with the next start", "group", c.id, "offsets", len(records), "err", err)
	}
}

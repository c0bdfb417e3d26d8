package broker

import (
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
		c.offsets.Delete(l.Offset.Partition)
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
	for _, c := range list {
		c.mu.Lock()
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
}

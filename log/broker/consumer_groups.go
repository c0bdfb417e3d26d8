package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/group"
)

// groupTopics is what groups of the consumer protocol may know of the log.
type groupTopics struct{ log *commitlog.Log }

// Topic implements group.Topics.
func (t groupTopics) Topic(name string) (id [16]byte, partitions int32, ok bool) {
	topic, ok := t.log.Topic(name)
	if !ok {
		return id, 0, false
	}
	return topic.ID(), int32(len(topic.Partitions())), true
}

// Names implements group.Topics. Patterns match internal topics, too: a client
// that does not want them has to say so, as with Kafka.
func (t groupTopics) Names() []string {
	var names []string
	for _, topic := range t.log.Topics() {
		names = append(names, topic.Name())
	}
	return names
}

// applyConsumer stores what has changed in the consumer group of c, and sets its
// timer. The caller holds c.mu.
func (g *groups) applyConsumer(ctx context.Context, c *cell, now time.Time, eff group.ConsumerEffects) error {
	defer g.arm(c)
	if eff.Rebalanced {
		g.metrics.rebalances.Inc()
	}
	if !eff.Store {
		return nil
	}
	c.changed = now
	if err := g.storePlain(ctx, c, now, c.consumer.Changes(c.id)); err != nil {
		g.logger.Error("group not stored; tried again with its next change", "group", c.id, "err", err)
		c.consumer.Unstored()
		return kerr.CoordinatorNotAvailable
	}
	return nil
}

// beat gives a heartbeat to its group and returns when what it changed is durable.
func (g *groups) beat(ctx context.Context, id string, b group.Beat) (group.BeatResult, error) {
	c, err := g.lock(id, b.Epoch == 0)
	if errors.Is(err, errNoGroup) {
		err = refuse(kerr.GroupIDNotFound, fmt.Sprintf("group %s not found", id))
	}
	if err != nil {
		return group.BeatResult{}, err
	}
	r, at, err := func() (group.BeatResult, stored, error) {
		defer c.mu.Unlock()
		now := time.Now()
		if err := g.becomeConsumer(ctx, c, now, b.Epoch == 0); err != nil {
			return group.BeatResult{}, stored{}, err
		}
		r, eff := c.consumer.Heartbeat(now, b, groupTopics{g.log})
		err := g.applyConsumer(ctx, c, now, eff)
		return r, c.last, err
	}()
	switch {
	case err != nil:
		return r, err
	case r.Err != nil:
		return r, refuse(r.Err, r.Reason)
	}
	return r, durable(ctx, at)
}

// becomeConsumer makes a classic group without members one of the consumer
// protocol, where a member joins. The caller holds c.mu.
func (g *groups) becomeConsumer(ctx context.Context, c *cell, now time.Time, joins bool) error {
	if c.consumer != nil {
		return nil
	}
	if !joins || c.classic != nil && !c.classic.Idle() {
		return refuse(kerr.GroupIDNotFound, fmt.Sprintf("group %s is not a consumer group", c.id))
	}
	if c.classic != nil {
		if err := g.storePlain(ctx, c, now, c.classic.Forgotten(c.id)); err != nil {
			return kerr.CoordinatorNotAvailable
		}
		c.classic = nil
	}
	c.consumer, c.changed = group.NewConsumer(&g.cfg, now), now
	return nil
}

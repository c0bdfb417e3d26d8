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
// timer. A group that no member of the consumer protocol is left in becomes a classic
// one, and c.consumer is nil. The caller holds c.mu.
func (g *groups) applyConsumer(ctx context.Context, c *cell, now time.Time, eff group.ConsumerEffects) error {
	defer g.arm(c)
	if eff.Rebalanced {
		g.metrics.rebalances.Inc()
	}
	if !eff.Store {
		return nil
	}
	if c.consumer.OnlyClassic() && g.downgrade(ctx, c, now) {
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

// downgrade makes the consumer group of c, whose members all speak the classic
// protocol, a classic one; where that cannot be stored it goes on as it is. The caller
// holds c.mu.
func (g *groups) downgrade(ctx context.Context, c *cell, now time.Time) bool {
	classic, eff := c.consumer.Downgrade(now, groupTopics{g.log})
	records := append(c.consumer.Forgotten(c.id), classic.Stored(c.id)...)
	if err := g.storePlain(ctx, c, now, records); err != nil {
		g.logger.Error("group not made a classic one; tried again with its next change", "group", c.id, "err", err)
		return false
	}
	g.logger.Info("group is a classic one now: its last member of the consumer protocol is gone", "group", c.id, "members", classic.Members())
	c.classic, c.consumer = classic, nil
	g.metrics.downgrades.Inc()
	g.apply(ctx, c, now, eff)
	return true
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
		if c.consumer == nil && c.classic != nil && c.classic.Members() > 0 {
			r, err := g.upgrade(ctx, c, now, b)
			return r, c.last, err
		}
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

// upgrade gives a heartbeat to the classic group of c, which becomes one of the
// consumer protocol where that makes a member join. The caller holds c.mu.
func (g *groups) upgrade(ctx context.Context, c *cell, now time.Time, b group.Beat) (group.BeatResult, error) {
	switch {
	case c.classic.ProtocolType() != group.ConsumerProtocol:
		return group.BeatResult{}, refuse(kerr.GroupIDNotFound, fmt.Sprintf("group %s is not a consumer group", c.id))
	case b.Epoch != 0:
		// Its last member of the consumer protocol was removed: this one.
		return group.BeatResult{}, refuse(kerr.UnknownMemberID, "the member is not in the group")
	}
	consumer, kind, why := c.classic.Upgrade(now, groupTopics{g.log})
	if kind != nil {
		return group.BeatResult{}, refuse(kind, fmt.Sprintf("group %s cannot change to the consumer protocol: %s", c.id, why))
	}
	r, eff := consumer.Heartbeat(now, b, groupTopics{g.log})
	if r.Err != nil {
		return r, nil
	}
	if err := g.storePlain(ctx, c, now, append(c.classic.Forgotten(c.id), consumer.Changes(c.id)...)); err != nil {
		g.logger.Error("group not changed to the consumer protocol", "group", c.id, "err", err)
		return r, kerr.CoordinatorNotAvailable
	}
	g.logger.Info("group is of the consumer protocol now: a member of it joined", "group", c.id, "members", consumer.Members())
	g.metrics.upgrades.Inc()
	if eff.Rebalanced {
		g.metrics.rebalances.Inc()
	}
	g.apply(ctx, c, now, c.classic.Upgraded(now))
	c.classic, c.consumer, c.changed = nil, consumer, now
	g.arm(c)
	return r, nil
}

// becomeConsumer makes a classic group without members one of the consumer
// protocol, where a member joins. The caller holds c.mu.
func (g *groups) becomeConsumer(ctx context.Context, c *cell, now time.Time, joins bool) error {
	if c.consumer != nil {
		return nil
	}
	if !joins {
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

package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// A group with members goes from one protocol to the other while they go on reading:
// with the first member of the consumer protocol that joins a classic group of
// consumers, and with the last one that is gone from a group in which all others
// speak the classic protocol.

// Upgrade is the group, with its members, as one of the consumer protocol, or why it
// cannot be. The group itself is as before. Each member has what its leader assigned
// to it, or, where it has joined again since and was not told, what it said that it
// has; partitions that it was told to let go, and has not yet said that it did, are
// nobody else's till then.
func (g *Classic) Upgrade(now time.Time, topics Topics) (*Consumer, *kerr.Error, string) {
	if g.protocolType != ConsumerProtocol || len(g.members) == 0 {
		return nil, kerr.GroupIDNotFound, "the group is a classic one, and not of consumers"
	}
	c := NewConsumer(g.cfg, now)
	c.epoch, c.targetEpoch, c.changed, c.changedTarget = g.generation, g.generation, true, true
	c.out.Store = true
	claims := map[*consumerMember]Slots{}
	for _, old := range g.inOrder() {
		claim, ok := readClaim(old.protocols, topics)
		if !ok {
			return nil, kerr.GroupIDNotFound, "the metadata of member " + old.id + " of the classic group is not a consumer's"
		}
		held, err, why := g.held(old, topics)
		if err != nil {
			return nil, err, why
		}
		m := c.newMember(&Beat{MemberID: old.id, Instance: old.instance})
		m.rack, m.clientID, m.clientHost, m.rebalance, m.topics = claim.rack, old.clientID, old.clientHost, old.rebalance, claim.topics
		m.epoch = g.generation
		if old.epoch != 0 { // it comes from the consumer protocol, and was in no generation since
			m.epoch = old.epoch
		}
		m.previous = m.epoch
		m.classic = &classicMember{session: old.session, protocols: old.protocols}
		m.changed, m.changedTarget = true, true
		m.expires = c.at(now.Add(old.session))
		c.members[m.id], claims[m] = m, claim.owned
		if m.instance != nil {
			c.static[*m.instance] = m.id
		}
		c.own(m, c.free(held), Slots{})
	}
	for _, old := range g.inOrder() {
		m := c.members[old.id]
		if rest := c.free(claims[m]); old.asks() {
			c.own(m, rest, Slots{})
		} else if len(rest) > 0 {
			c.own(m, m.assigned, rest)
			m.state, m.revokeBy = memberUnrevoked, c.at(now.Add(m.rebalance))
		}
		m.target = m.assigned
	}
	return c, nil, ""
}

// asks reports whether the member has joined, and was not told yet what it gets.
func (m *member) asks() bool { return m.join != 0 || m.unsynced }

// held is what the member was told that it has.
func (g *Classic) held(m *member, topics Topics) (Slots, *kerr.Error, string) {
	s := Slots{}
	if m.asks() {
		return s, nil, ""
	}
	a, ok := readAssignment(m.assignment)
	if !ok {
		return nil, kerr.GroupIDNotFound, "the assignment of member " + m.id + " of the classic group is not a consumer's"
	}
	if len(a.UserData) > 0 && !standardAssignors[g.protocol] {
		return nil, kerr.UnsupportedVersion, "the classic group's own assignor, " + g.protocol + ", tells its members more than partitions"
	}
	for _, t := range a.Topics {
		s.add(topics, t.Topic, t.Partitions)
	}
	return s, nil, ""
}

// free are those of s that nobody has.
func (g *Consumer) free(s Slots) Slots {
	free := Slots{}
	for x := range s {
		if _, taken := g.owners[x]; !taken {
			free[x] = struct{}{}
		}
	}
	return free
}

// Upgraded says that what Upgrade gave has taken the group's place: who waits is told
// to join again.
func (g *Classic) Upgraded(now time.Time) Effects {
	for _, m := range g.inOrder() {
		g.refuseJoin(m.join, m.id, kerr.RebalanceInProgress)
		g.refuseSync(m.sync, kerr.RebalanceInProgress)
	}
	g.Kill(now)
	return g.take()
}

// Downgrade is a group of members of the classic protocol only (OnlyClassic) as a
// classic one, in which a rebalance begins. A member's epoch is right till that is
// over, even where it is not the generation: nobody else has what it has. The group
// itself is as before.
func (g *Consumer) Downgrade(now time.Time, topics Topics) (*Classic, Effects) {
	names := map[[16]byte]string{}
	for _, m := range g.members {
		for _, name := range m.topics {
			if id, _, ok := topics.Topic(name); ok {
				names[id] = name
			}
		}
	}
	c := NewClassic(g.cfg, now)
	c.state, c.generation, c.protocolType = Stable, g.TargetEpoch(), ConsumerProtocol
	for _, from := range g.inOrder() {
		c.joined++
		m := &member{
			id: from.id, order: c.joined, instance: from.instance, clientID: from.clientID, clientHost: from.clientHost,
			session: from.classic.session, rebalance: from.rebalance, protocols: from.classic.protocols,
			assignment: assignmentOf(from.assigned, names, from.classic.metadata()), epoch: from.epoch, expires: c.at(now.Add(from.classic.session)),
		}
		c.members[m.id] = m
		if m.instance != nil {
			c.static[*m.instance] = m.id
		}
	}
	c.protocol = c.choose()
	c.prepare(now)
	return c, c.take()
}

package clients

import (
	"fmt"
	"testing"
)

// migrates: a group of three members goes over to the consumer protocol (KIP-848), one
// member after the other, and back, while records come in. Nothing is lost, and
// nothing is consumed twice: every member commits what it has consumed before it lets
// go of a partition. It does so from both kinds of classic rebalances.
func migrates(t *testing.T, c *client, argv []string, r *reader) {
	for _, assignor := range []string{"range", "cooperative-sticky"} {
		m := &migration{t: t, c: c, argv: argv, r: r, assignor: assignor, topic: r.topic(name(c, "migrate-"+assignor), partitions), group: name(c, "migrate-"+assignor)}
		m.run()
	}
}

// migration is one group, and all members that it ever had.
type migration struct {
	t                      *testing.T
	c                      *client
	argv                   []string
	r                      *reader
	assignor, topic, group string
	all                    []*program
	made                   int
}

func (m *migration) run() {
	m.t.Helper()
	var members []*program
	for range 3 {
		members = append(members, m.member(""))
	}
	m.settled("all of the classic protocol", false)
	for _, protocol := range []string{"consumer", ""} {
		for i := range members {
			members[i].leave()
			m.produce()
			members[i] = m.member(protocol)
			m.settled(fmt.Sprintf("member %d of protocol %q", i, protocol), protocol == "consumer" || i < 2)
		}
	}
	for _, p := range members {
		p.leave()
	}
	for at, n := range m.seen() {
		if n != 1 {
			m.t.Errorf("%s: offset %d of partition %d was consumed %d times", m.assignor, at.offset, at.partition, n)
		}
	}
	each := int64(m.made / partitions)
	m.r.committed(m.group, m.topic, map[int32]int64{0: each, 1: each, 2: each, 3: each})
}

func (m *migration) member(protocol string) *program {
	m.t.Helper()
	p := m.c.call(m.t, m.argv, m.r.addr, "group", "topic="+m.topic, "group="+m.group, "protocol="+protocol, "assignor="+m.assignor)
	m.all = append(m.all, p)
	return p
}

func (m *migration) produce() {
	m.t.Helper()
	m.r.produce(records(m.topic, "migrate", m.made, m.made+40)...)
	m.made += 40
}

// seen is how often each record was consumed, by whomever.
func (m *migration) seen() map[place]int {
	all := map[place]int{}
	for _, p := range m.all {
		for at, n := range seen(p.wait("", always)) {
			all[at] += n
		}
	}
	return all
}

// settled produces, and waits until three members share the partitions in a group of
// that protocol and have consumed all.
func (m *migration) settled(step string, byBroker bool) {
	m.t.Helper()
	m.produce()
	until(m.t, m.assignor+", "+step, func() (bool, string) {
		assigned := m.r.assigned
		if byBroker {
			assigned = m.r.assignedByBroker
		}
		shares, state, err := assigned(m.group, m.topic)
		held := map[int32]bool{}
		for _, share := range shares {
			for _, p := range share {
				held[p] = true
			}
		}
		if err != nil || state != "Stable" || len(shares) != 3 || len(held) != partitions {
			return false, fmt.Sprintf("%s with shares %v, %v", state, shares, err)
		}
		got := len(m.seen())
		return got == m.made, fmt.Sprintf("%d of %d records", got, m.made)
	})
}

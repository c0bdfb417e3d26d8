package group

import (
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// What consumers of the classic protocol tell each other within it: the metadata
// with which they join, and the assignments that their leader makes.

// ConsumerProtocol is the protocol type of consumers, whose metadata Kafka defines.
const ConsumerProtocol = "consumer"

// standardAssignors are those that clients bring along. Only they can do without the
// user data of their assignments.
var standardAssignors = map[string]bool{"range": true, "roundrobin": true, "sticky": true, "cooperative-sticky": true}

// readSubscription reads a consumer's metadata.
func readSubscription(metadata []byte) (m kmsg.ConsumerMemberMetadata, ok bool) {
	defer func() {
		if recover() != nil { // in kmsg: generated code over hostile input
			m, ok = kmsg.ConsumerMemberMetadata{}, false
		}
	}()
	err := m.ReadFrom(metadata)
	return m, err == nil
}

// readAssignment reads a consumer's assignment; an empty one has no partitions.
func readAssignment(assignment []byte) (a kmsg.ConsumerMemberAssignment, ok bool) {
	defer func() {
		if recover() != nil { // in kmsg: generated code over hostile input
			a, ok = kmsg.ConsumerMemberAssignment{}, false
		}
	}()
	if len(assignment) == 0 {
		return a, true
	}
	err := a.ReadFrom(assignment)
	return a, err == nil
}

// add adds those of a topic's partitions that there are.
func (s Slots) add(topics Topics, name string, partitions []int32) {
	id, n, ok := topics.Topic(name)
	for _, p := range partitions {
		if ok && p >= 0 && p < n {
			s[Slot{id, p}] = struct{}{}
		}
	}
}

// consumerClaim is what a consumer says of itself when it joins.
type consumerClaim struct {
	topics []string
	rack   *string
	owned  Slots // what it has, and does not let go before it is told to
}

// readClaim reads the metadata of all protocols that a consumer offers. It owns what
// any of them says: a client of both kinds of protocol may tell only in the
// cooperative one.
func readClaim(protocols []Protocol, topics Topics) (c consumerClaim, ok bool) {
	c.owned = Slots{}
	for i, p := range protocols {
		m, ok := readSubscription(p.Metadata)
		if !ok {
			return c, false
		}
		if i == 0 {
			c.topics, c.rack = slices.Compact(slices.Sorted(slices.Values(m.Topics))), m.Rack
		}
		for _, o := range m.OwnedPartitions {
			c.owned.add(topics, o.Topic, o.Partitions)
		}
	}
	return c, len(protocols) > 0
}

// assignmentOf writes partitions as the assignment of a consumer that sent metadata.
func assignmentOf(s Slots, names map[[16]byte]string, metadata []byte) []byte {
	a := kmsg.NewConsumerMemberAssignment()
	if len(metadata) >= 2 {
		a.Version = int16(metadata[0])<<8 | int16(metadata[1])
	}
	for _, x := range s.Sorted() {
		name, ok := names[x.Topic]
		if !ok {
			continue // deleted meanwhile
		}
		n := len(a.Topics)
		if n == 0 || a.Topics[n-1].Topic != name {
			a.Topics = append(a.Topics, kmsg.ConsumerMemberAssignmentTopic{Topic: name})
			n++
		}
		a.Topics[n-1].Partitions = append(a.Topics[n-1].Partitions, x.Partition)
	}
	return a.AppendTo(nil)
}

// names are the topics by id, as of the last look.
func (g *Consumer) names() map[[16]byte]string {
	names := make(map[[16]byte]string, len(g.topics))
	for name, t := range maps.All(g.topics) {
		names[t.id] = name
	}
	return names
}

package group

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// mixed is a group with the member "b" of the consumer protocol, which came first.
type mixed struct {
	*testing.T
	g      *Consumer
	now    time.Time
	topics simTopics
}

func newMixed(t *testing.T) *mixed {
	cfg := Config{}.WithDefaults()
	m := &mixed{T: t, now: time.Unix(1_700_000_000, 0), topics: simTopics{"t": {[16]byte{1}, 2}}}
	m.g = NewConsumer(&cfg, m.now)
	m.beat("b", 0, Slots{})
	return m
}

func (m *mixed) beat(id string, epoch int32, owned Slots) BeatResult {
	m.Helper()
	r, _ := m.g.Heartbeat(m.now, Beat{MemberID: id, Epoch: epoch, Rebalance: time.Minute, Topics: []string{"t"}, Owned: owned}, m.topics)
	if r.Err != nil {
		m.Fatal(r.Err, r.Reason)
	}
	return r
}

// join is a JoinGroup of a classic member that says that it has so many partitions.
func (m *mixed) join(id string, partitions ...int32) JoinResult {
	m.Helper()
	meta := kmsg.NewConsumerMemberMetadata()
	meta.Version, meta.Topics = 1, []string{"t"}
	meta.OwnedPartitions = []kmsg.ConsumerMemberMetadataOwnedPartition{{Topic: "t", Partitions: partitions}}
	r, _ := m.g.Join(m.now, JoinRequest{MemberID: id, ProtocolType: ConsumerProtocol, Protocols: []Protocol{{"cooperative-sticky", meta.AppendTo(nil)}}, Session: 10 * time.Second, Rebalance: 30 * time.Second}, m.topics)
	if r.Err != nil {
		m.Fatal(r.Err)
	}
	return r
}

func (m *mixed) sync(id string, generation int32) (partitions []int32) {
	m.Helper()
	r, _ := m.g.Sync(m.now, SyncRequest{Caller: Caller{MemberID: id, Generation: generation}}, m.topics)
	a, ok := readAssignment(r.Assignment)
	if r.Err != nil || !ok || r.Protocol != "cooperative-sticky" {
		m.Fatalf("%+v", r)
	}
	for _, t := range a.Topics {
		partitions = append(partitions, t.Partitions...)
	}
	return partitions
}

func (m *mixed) alive(id string, generation int32) *kerr.Error {
	err, _ := m.g.Alive(m.now, Caller{MemberID: id, Generation: generation}, m.topics)
	return err
}

// lives lets time pass in which a member's heartbeats come, and reports whether it is
// a member in the end.
func (m *mixed) lives(id string, generation int32, d time.Duration) bool {
	for end := m.now.Add(d); m.now.Before(end); {
		m.now = m.now.Add(time.Second)
		m.g.Tick(m.now)
		m.alive(id, generation)
	}
	return m.g.members[id] != nil
}

// TestMixedSteps: a classic member is told to join again for each step that it has
// to take: to let go, to go on, to get what others had.
func TestMixedSteps(t *testing.T) {
	m := newMixed(t)
	first := m.join("a")
	if got := m.sync("a", first.Generation); len(got) != 0 || m.alive("a", first.Generation) != nil {
		t.Fatalf("%v before anybody has let go", got)
	}
	kept := m.beat("b", 1, nil).Assigned
	if m.alive("a", first.Generation) != nil {
		t.Fatal("told to join while the other has not let go")
	}
	m.beat("b", 1, kept)
	if m.alive("a", first.Generation) != kerr.RebalanceInProgress {
		t.Fatal("not told to get what is free")
	}
	second := m.join("a")
	got := m.sync("a", second.Generation)
	if len(got) != 1 || m.alive("a", second.Generation) != nil {
		t.Fatal(got)
	}

	m.beat("b", -1, nil)
	m.beat("b2", 0, Slots{})
	m.beat("b3", 0, Slots{})
	m.beat("b4", 0, Slots{}) // there are two partitions: one of a's is to go at some time
	if r, _ := m.g.Sync(m.now, SyncRequest{Caller: Caller{MemberID: "a", Generation: second.Generation}}, m.topics); r.Err != kerr.RebalanceInProgress {
		t.Fatalf("%+v, though there is a later epoch", r)
	}
	m.g.members["a"].target = Slots{}
	if third := m.join("a", got...); third.Generation != second.Generation || m.g.members["a"].state != memberUnrevoked {
		t.Fatalf("%+v", third)
	}
	if left := m.sync("a", second.Generation); len(left) != 0 {
		t.Fatal("has", left, "of what it must let go")
	}
	m.g.epoch = second.Generation // nothing else is new
	if m.alive("a", second.Generation) != kerr.RebalanceInProgress {
		t.Fatal("not told to say that it has let go")
	}
}

// TestMixedOverdue: a classic member that is alive but does not take its step within
// its rebalance timeout is removed.
func TestMixedOverdue(t *testing.T) {
	m := newMixed(t)
	r := m.join("a")
	if m.lives("a", r.Generation, 31*time.Second) {
		t.Error("it joined, and never synced")
	}
	m.beat("b", 1, Slots{})
	r = m.join("a")
	if m.sync("a", r.Generation); !m.lives("a", r.Generation, 40*time.Second) {
		t.Error("removed though it has nothing to do")
	}
	m.beat("c", 0, Slots{})
	if m.lives("a", r.Generation, 31*time.Second) {
		t.Error("it was told to join, and never did")
	}
	r = m.join("a")
	m.sync("a", r.Generation)
	m.now = m.now.Add(11 * time.Second)
	if m.g.Tick(m.now); m.g.members["a"] != nil {
		t.Error("it is not heard of for longer than its session timeout")
	}
}

// TestUpgradeClaims: what members of a classic group have at the moment of the change
// is nobody else's, whatever their rebalance has come to.
func TestUpgradeClaims(t *testing.T) {
	cfg := Config{InitialDelay: -1}.WithDefaults()
	topics := simTopics{"t": {[16]byte{1}, 3}}
	now := time.Unix(1_700_000_000, 0)
	join := func(g *Classic, ticket Ticket, id string, owned ...int32) {
		meta := kmsg.NewConsumerMemberMetadata()
		meta.Version, meta.Topics = 1, []string{"t"}
		meta.OwnedPartitions = []kmsg.ConsumerMemberMetadataOwnedPartition{{Topic: "t", Partitions: owned}}
		g.Join(now, JoinRequest{Ticket: ticket, MemberID: id, NewID: id, RequireKnownID: id == "", ProtocolType: ConsumerProtocol, Protocols: []Protocol{{"cooperative-sticky", meta.AppendTo(nil)}}, Session: 10 * time.Second, Rebalance: 30 * time.Second})
	}
	has := func(c *Consumer, id string, assigned, revoking int) {
		t.Helper()
		if m := c.members[id]; len(m.assigned) != assigned || len(m.revoking) != revoking || (m.state == memberUnrevoked) != (revoking > 0) {
			t.Fatalf("%s has %v and lets go of %v", id, m.assigned, m.revoking)
		}
	}
	plan := func(partitions ...int32) []byte {
		s := Slots{}
		s.add(topics, "t", partitions)
		return assignmentOf(s, map[[16]byte]string{{1}: "t"}, nil)
	}
	upgraded := func(g *Classic) *Consumer {
		t.Helper()
		c, err, why := g.Upgrade(now, topics)
		if err != nil {
			t.Fatal(err, why)
		}
		return c
	}

	g := NewClassic(&cfg, now)
	g.pending["a"], g.pending["z"] = now.Add(time.Hour), now.Add(time.Hour)
	join(g, 1, "a", 0, 1, 2) // from where it was before
	join(g, 2, "z")
	has(upgraded(g), "a", 3, 0) // it waits for the others
	if g.State() != CompletingRebalance {
		t.Fatal(g.State())
	}
	g.Sync(now, SyncRequest{Ticket: 3, Caller: Caller{MemberID: "z", Generation: g.Generation()}})
	has(upgraded(g), "a", 3, 0) // it is to be told
	g.Sync(now, SyncRequest{Ticket: 4, Caller: Caller{MemberID: "a", Generation: g.Generation()}, Assignments: map[string][]byte{"a": plan(0, 1), "z": plan()}})
	c := upgraded(g)
	has(c, "a", 2, 1) // it was told, and has not said that it let go
	r, _ := c.Heartbeat(now, Beat{MemberID: "n", Rebalance: time.Minute, Topics: []string{"t"}, Owned: Slots{}}, topics)
	if r.Err != nil || len(r.Assigned) != 0 {
		t.Fatalf("the one who comes got %v", r.Assigned)
	}
	join(g, 5, "a", 0, 1)
	join(g, 6, "z")
	if eff := g.Upgraded(now); len(eff.Joined)+len(eff.Synced) > 1 || g.State() != Dead {
		t.Fatalf("%+v", eff)
	}
}

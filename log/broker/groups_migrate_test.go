package broker_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/broker"
	"github.com/weirstream/weir/log/group"
)

// reads counts what members of a group have read, whoever they are.
type reads struct {
	mu    sync.Mutex
	count map[string]int
}

func (r *reads) total() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.count)
}

// member reads and commits what it has read before it lets go of a partition, until
// the function that it returns is called.
func (r *reads) member(t *testing.T, n *node, opts ...kgo.Opt) (leave func()) {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(n.addr), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("events"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.HeartbeatInterval(50 * time.Millisecond), kgo.FetchMaxWait(100 * time.Millisecond), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll()}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			cl.PollFetches(ctx).EachRecord(func(rec *kgo.Record) {
				r.mu.Lock()
				r.count[string(rec.Value)]++
				r.mu.Unlock()
			})
			in, cancel := context.WithTimeout(context.Background(), patience)
			if err := cl.CommitUncommittedOffsets(in); err != nil {
				t.Errorf("commit: %v", err)
			}
			cancel()
			cl.AllowRebalance()
		}
	}()
	leave = sync.OnceFunc(func() {
		stop()
		<-done
		cl.CloseAllowingRebalance()
	})
	t.Cleanup(leave)
	return leave
}

// shares are what the members of the group have, by member, in a group of either
// protocol; nil while it is not stable.
func shares(t *testing.T, n *node) (list []int, consumer bool) {
	t.Helper()
	cd := kmsg.NewPtrConsumerGroupDescribeRequest()
	cd.Groups = []string{"g"}
	if g := ask[*kmsg.ConsumerGroupDescribeResponse](t, n, cd, -1).Groups[0]; g.ErrorCode == 0 {
		if g.State != "Stable" {
			return nil, true
		}
		for _, m := range g.Members {
			has := 0
			for _, a := range m.Assignment.TopicPartitions {
				has += len(a.Partitions)
			}
			list = append(list, has)
		}
		return list, true
	}
	dg := kmsg.NewPtrDescribeGroupsRequest()
	dg.Groups = []string{"g"}
	g := ask[*kmsg.DescribeGroupsResponse](t, n, dg, -1).Groups[0]
	for _, m := range g.Members {
		var a kmsg.ConsumerMemberAssignment
		if g.State != "Stable" || a.ReadFrom(m.MemberAssignment) != nil {
			return nil, false
		}
		has := 0
		for _, topic := range a.Topics {
			has += len(topic.Partitions)
		}
		list = append(list, has)
	}
	return list, false
}

// TestGroupMigration: a group of three members of franz-go goes over to the consumer
// protocol one by one, and back, while records come in and the broker restarts.
// Each record is read once, and the group is of the right protocol at each step.
func TestGroupMigration(t *testing.T) {
	for name, opts := range map[string][]kgo.Opt{
		"eager":       {kgo.Balancers(kgo.RangeBalancer())},
		"cooperative": {kgo.Balancers(kgo.CooperativeStickyBalancer())},
		"static":      {kgo.Balancers(kgo.CooperativeStickyBalancer())},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := startNode(t, broker.Options{Groups: group.Config{Heartbeat: 50 * time.Millisecond}})
			n.topic("events", 6)
			producer := kgoClient(t, n)
			r := &reads{count: map[string]int{}}
			start := func(i int, consumer bool) func() {
				of := slices.Clone(opts)
				if name == "static" {
					of = append(of, kgo.InstanceID(fmt.Sprint("i", i)))
				}
				if consumer {
					of = append(of, kgo.ServerSideBalancer())
				}
				return r.member(t, n, of...)
			}
			made := 0
			produce := func() {
				for range 50 {
					rec := &kgo.Record{Topic: "events", Key: fmt.Append(nil, made), Value: fmt.Append(nil, made)}
					if err := producer.ProduceSync(within(t, patience), rec).FirstErr(); err != nil {
						t.Fatal(err)
					}
					made++
				}
			}
			settled := func(step string, consumer bool) {
				produce()
				eventually(t, step+": three members share the partitions", func() bool {
					got, is := shares(t, n)
					return is == consumer && slices.Equal(got, []int{2, 2, 2})
				})
				eventually(t, step+": all is read", func() bool { return r.total() == made })
			}
			members := []func(){start(0, false), start(1, false), start(2, false)}
			settled("classic", false)
			for _, consumer := range []bool{true, false} {
				for i := range members {
					members[i]()
					produce()
					members[i] = start(i, consumer)
					if settled(fmt.Sprintf("member %d, consumer %v", i, consumer), consumer || i < 2); i == 1 && consumer {
						n.restart()
						settled("after a restart", true)
					}
				}
			}
			for _, leave := range members {
				leave()
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			for _, value := range slices.Sorted(maps.Keys(r.count)) {
				if r.count[value] != 1 {
					t.Errorf("record %s was read %d times", value, r.count[value])
				}
			}
		})
	}
}

// mixedGroup is a client that says what it likes to the group "g".
type mixedGroup struct {
	*testing.T
	n *node
}

func (m mixedGroup) beat(member string, epoch int32, instance *string) (*kmsg.ConsumerGroupHeartbeatResponse, error) {
	m.Helper()
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Group, req.MemberID, req.MemberEpoch, req.InstanceID = "g", member, epoch, instance
	if epoch == 0 {
		req.SubscribedTopicNames, req.RebalanceTimeoutMillis, req.Topics = []string{"t"}, 10_000, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	}
	resp := ask[*kmsg.ConsumerGroupHeartbeatResponse](m.T, m.n, req, -1)
	return resp, kerr.ErrorForCode(resp.ErrorCode)
}

// join is a JoinGroup of a static member, which gets its id at once.
func (m mixedGroup) join(member, instance, kind, protocol string, metadata []byte) (*kmsg.JoinGroupResponse, error) {
	m.Helper()
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.MemberID, req.ProtocolType, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = "g", member, kind, 10_000, 10_000
	if instance != "" {
		req.InstanceID = &instance
	}
	req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: protocol, Metadata: metadata}}
	resp := ask[*kmsg.JoinGroupResponse](m.T, m.n, req, -1)
	return resp, kerr.ErrorForCode(resp.ErrorCode)
}

func (m mixedGroup) sync(member string, generation int32, assign []byte) (*kmsg.SyncGroupResponse, error) {
	m.Helper()
	req := kmsg.NewPtrSyncGroupRequest()
	req.Group, req.MemberID, req.Generation = "g", member, generation
	if assign != nil {
		req.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: member, MemberAssignment: assign}}
	}
	resp := ask[*kmsg.SyncGroupResponse](m.T, m.n, req, -1)
	return resp, kerr.ErrorForCode(resp.ErrorCode)
}

func (m mixedGroup) alive(member string, generation int32) error {
	m.Helper()
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group, req.MemberID, req.Generation = "g", member, generation
	return kerr.ErrorForCode(ask[*kmsg.HeartbeatResponse](m.T, m.n, req, -1).ErrorCode)
}

func (m mixedGroup) commit(member string, generation, partition int32, version int16) error {
	m.Helper()
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.MemberID, req.Generation = "g", member, generation
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Partition, p.Offset = partition, 1
	req.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{p}}}
	return kerr.ErrorForCode(ask[*kmsg.OffsetCommitResponse](m.T, m.n, req, version).Topics[0].Partitions[0].ErrorCode)
}

func (m mixedGroup) want(what string, got error, want *kerr.Error) {
	m.Helper()
	if want == nil && got != nil || want != nil && got != error(want) {
		m.Fatalf("%s: %v, want %v", what, got, want)
	}
}

func consumerMetadata() []byte {
	m := kmsg.NewConsumerMemberMetadata()
	m.Version, m.Topics = 3, []string{"t"}
	return m.AppendTo(nil)
}

func consumerAssignment(user []byte, partitions ...int32) []byte {
	a := kmsg.NewConsumerMemberAssignment()
	a.Topics, a.UserData = []kmsg.ConsumerMemberAssignmentTopic{{Topic: "t", Partitions: partitions}}, user
	return a.AppendTo(nil)
}

// TestMixedGroup: what members of the two protocols are told in one group, through
// both changes of it and a restart.
func TestMixedGroup(t *testing.T) {
	n := startNode(t, broker.Options{})
	n.topic("t", 2)
	m := mixedGroup{t, n}
	j, err := m.join("", "i", group.ConsumerProtocol, "range", consumerMetadata())
	m.want("join", err, nil)
	a, generation := j.MemberID, j.Generation
	_, err = m.sync(a, generation, consumerAssignment(nil, 0, 1))
	m.want("sync", err, nil)
	m.want("a commit", m.commit(a, generation, 0, 8), nil)

	b, err := m.beat("b", 0, nil)
	m.want("a member of the other protocol joins", err, nil)
	if b.MemberEpoch <= generation || len(b.Assignment.Topics) > 0 {
		t.Fatalf("it got %+v", b)
	}
	if got := listed(t, n)["g"]; got != "Reconciling consumer consumer" {
		t.Fatal(got)
	}
	m.want("a heartbeat of the classic member", m.alive(a, generation), kerr.RebalanceInProgress)
	m.want("its commit", m.commit(a, generation, 0, 8), nil)
	m.want("with a later generation", m.commit(a, generation+1, 0, 8), kerr.IllegalGeneration)
	m.want("with an old version of the other", m.commit("b", b.MemberEpoch, 0, 8), kerr.UnsupportedVersion)
	m.want("a heartbeat of the other member", m.alive("b", b.MemberEpoch), kerr.UnknownMemberID)
	_, err = m.join("", "", group.ConsumerProtocol, "sticky", consumerMetadata())
	m.want("a protocol that the classic member does not know", err, kerr.InconsistentGroupProtocol)
	_, err = m.join("", "", "connect", "range", consumerMetadata())
	m.want("a member that is no consumer", err, kerr.InconsistentGroupProtocol)
	_, err = m.join("", "", group.ConsumerProtocol, "range", []byte{1})
	m.want("a consumer whose metadata is none", err, kerr.InconsistentGroupProtocol)
	_, err = m.join("", "", group.ConsumerProtocol, "range", consumerMetadata())
	m.want("a new member", err, kerr.MemberIDRequired)

	n.restart()
	m.want("it joins again", func() error { // the answer of who is still being loaded comes first
		eventually(t, "loaded", func() bool {
			j, err = m.join(a, "i", group.ConsumerProtocol, "range", consumerMetadata())
			return err != error(kerr.CoordinatorLoadInProgress) && err != error(kerr.CoordinatorNotAvailable)
		})
		return err
	}(), nil)
	if j.Generation <= generation || j.LeaderID != "" || len(j.Members) > 0 || *j.Protocol != "range" || *j.ProtocolType != "consumer" {
		t.Fatalf("%+v", j)
	}
	generation = j.Generation
	_, err = m.sync(a, generation-1, nil)
	m.want("sync of before", err, kerr.IllegalGeneration)
	s, err := m.sync(a, generation, nil)
	m.want("sync", err, nil)
	var got kmsg.ConsumerMemberAssignment
	if err := got.ReadFrom(s.MemberAssignment); err != nil || len(got.Topics) != 1 || got.Topics[0].Topic != "t" || len(got.Topics[0].Partitions) != 1 {
		t.Fatalf("%x: %v", s.MemberAssignment, err)
	}
	m.want("heartbeat", m.alive(a, generation), nil)
	mine := got.Topics[0].Partitions[0]
	m.want("a commit of before for what it still has", m.commit(a, generation-1, mine, 8), nil)
	m.want("for what it has no more", m.commit(a, generation-1, 1-mine, 8), kerr.IllegalGeneration)
	m.want("its commit", m.commit(a, generation, got.Topics[0].Partitions[0], 8), nil)

	cd := kmsg.NewPtrConsumerGroupDescribeRequest()
	cd.Groups = []string{"g"}
	types := map[string]int8{}
	for _, member := range ask[*kmsg.ConsumerGroupDescribeResponse](t, n, cd, -1).Groups[0].Members {
		types[member.MemberID] = member.MemberType
	}
	if !maps.Equal(types, map[string]int8{a: 0, "b": 1}) {
		t.Fatal(types)
	}
	dg := kmsg.NewPtrDescribeGroupsRequest()
	dg.Groups = []string{"g"}
	if d := ask[*kmsg.DescribeGroupsResponse](t, n, dg, -1).Groups[0]; d.State != "Dead" || d.ErrorCode != kerr.GroupIDNotFound.Code {
		t.Fatalf("%+v", d)
	}

	_, err = m.beat("b", -1, nil)
	m.want("the other member leaves", err, nil)
	if got := listed(t, n)["g"]; got != "PreparingRebalance classic consumer" {
		t.Fatal(got)
	}
	n.restart()
	eventually(t, "a classic group that rebalances, after a restart, too", func() bool { return listed(t, n)["g"] == "PreparingRebalance classic consumer" })
	_, err = m.beat("b", b.MemberEpoch, nil)
	m.want("a heartbeat of who is gone", err, kerr.UnknownMemberID)
	m.want("a heartbeat of the classic member", m.alive(a, generation), kerr.RebalanceInProgress)
	m.want("its commit", m.commit(a, generation, got.Topics[0].Partitions[0], 8), nil)
	j, err = m.join(a, "i", group.ConsumerProtocol, "range", consumerMetadata())
	if m.want("it joins", err, nil); j.Generation <= generation || j.LeaderID != a {
		t.Fatalf("%+v", j)
	}
}

// TestStaticMemberMigrates: a static member that is started again with the other
// protocol takes its own place, and what it was is fenced.
func TestStaticMemberMigrates(t *testing.T) {
	n := startNode(t, broker.Options{})
	n.topic("t", 2)
	m := mixedGroup{t, n}
	i := "i"
	j, err := m.join("", i, group.ConsumerProtocol, "range", consumerMetadata())
	m.want("join", err, nil)
	_, err = m.sync(j.MemberID, j.Generation, consumerAssignment(nil, 0, 1))
	m.want("sync", err, nil)
	b, err := m.beat("b", 0, &i)
	if m.want("it comes back", err, nil); len(b.Assignment.Topics) != 1 || len(b.Assignment.Topics[0].Partitions) != 2 {
		t.Fatalf("%+v", b)
	}
	if got := listed(t, n)["g"]; got != "Stable consumer consumer" {
		t.Fatal(got)
	}
	m.want("what it was", m.commit(j.MemberID, j.Generation, 0, 9), kerr.UnknownMemberID)
	again, err := m.join("", i, group.ConsumerProtocol, "range", consumerMetadata())
	m.want("and comes back again", err, nil)
	if got := listed(t, n)["g"]; again.MemberID == "b" || got != "PreparingRebalance classic consumer" {
		t.Fatalf("%+v, %s", again, got)
	}
	_, err = m.beat("b", b.MemberEpoch, &i)
	m.want("what it was", err, kerr.UnknownMemberID)
	_, err = m.sync(again.MemberID, again.Generation, nil)
	m.want("sync", err, kerr.RebalanceInProgress)
	again, err = m.join(again.MemberID, i, group.ConsumerProtocol, "range", consumerMetadata())
	if m.want("join", err, nil); again.LeaderID != again.MemberID {
		t.Fatalf("%+v", again)
	}
}

// TestNoMigration: a classic group that is not of consumers, or whose assignments
// cannot be carried over, stays what it is.
func TestNoMigration(t *testing.T) {
	for name, c := range map[string]struct {
		kind, protocol       string
		metadata, assignment []byte
		want                 *kerr.Error
	}{
		"not consumers":       {"connect", "compatible", []byte{1}, []byte{1}, kerr.GroupIDNotFound},
		"not their metadata":  {"consumer", "range", []byte{1}, consumerAssignment(nil, 0), kerr.GroupIDNotFound},
		"not an assignment":   {"consumer", "range", consumerMetadata(), []byte{0, 0, 0, 1}, kerr.GroupIDNotFound},
		"an assignor's data":  {"consumer", "stream", consumerMetadata(), consumerAssignment([]byte{1}, 0), kerr.UnsupportedVersion},
		"a standard assignor": {"consumer", "sticky", consumerMetadata(), consumerAssignment([]byte{1}, 0), nil},
	} {
		t.Run(name, func(t *testing.T) {
			n := startNode(t, broker.Options{})
			n.topic("t", 2)
			m := mixedGroup{t, n}
			j, err := m.join("", "i", c.kind, c.protocol, c.metadata)
			m.want("join", err, nil)
			_, err = m.sync(j.MemberID, j.Generation, c.assignment)
			m.want("sync", err, nil)
			_, err = m.beat("b", 0, nil)
			if m.want("a member of the other protocol", err, c.want); c.want == nil {
				return
			}
			if m.want("the group goes on", m.alive(j.MemberID, j.Generation), nil); listed(t, n)["g"] != "Stable classic "+c.kind {
				t.Fatal(listed(t, n))
			}
		})
	}
}

package broker_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/broker"
)

// ask sends a request in its highest version (or v, where that is not negative).
func ask[R kmsg.Response](t *testing.T, n *node, req kmsg.Request, v int16) R {
	t.Helper()
	if v < 0 {
		v = req.MaxVersion()
	}
	req.SetVersion(v)
	resp := req.ResponseKind()
	if err := resp.ReadFrom(rawRequest(t, n, req)); err != nil {
		t.Fatal(err)
	}
	return resp.(R)
}

// loaded waits until the broker has read what transactions there are. Who asks before is
// to come again, and whatever is open in the log then and in none of them is aborted.
func loaded(t *testing.T, n *node) {
	t.Helper()
	eventually(t, "transactions are loaded", func() bool {
		return ask[*kmsg.ListTransactionsResponse](t, n, kmsg.NewPtrListTransactionsRequest(), -1).ErrorCode == 0
	})
}

func commitOffset(t *testing.T, n *node, group, topic string, offset int64, metadata string) int16 {
	t.Helper()
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group = group
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Offset, p.LeaderEpoch, p.Metadata = offset, 5, &metadata
	req.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: topic, Partitions: []kmsg.OffsetCommitRequestTopicPartition{p}}}
	return ask[*kmsg.OffsetCommitResponse](t, n, req, 9).Topics[0].Partitions[0].ErrorCode
}

// offsetOf is a group's offset of partition 0, with its leader epoch and metadata.
func offsetOf(t *testing.T, n *node, group, topic string) (int64, int32, string) {
	t.Helper()
	req := kmsg.NewPtrOffsetFetchRequest()
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group, g.Topics = group, []kmsg.OffsetFetchRequestGroupTopic{{Topic: topic, Partitions: []int32{0}}}
	req.Groups = append(req.Groups, g)
	got := ask[*kmsg.OffsetFetchResponse](t, n, req, 9).Groups[0]
	if got.ErrorCode != 0 || got.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Fatalf("%+v", got)
	}
	p := got.Topics[0].Partitions[0]
	return p.Offset, p.LeaderEpoch, *p.Metadata
}

func listed(t *testing.T, n *node) map[string]string {
	t.Helper()
	groups := map[string]string{}
	for _, g := range ask[*kmsg.ListGroupsResponse](t, n, kmsg.NewPtrListGroupsRequest(), -1).Groups {
		groups[g.Group] = g.GroupState + " " + g.GroupType + " " + g.ProtocolType
	}
	return groups
}

// TestOffsets: offsets without members: kept over a restart with epoch and
// metadata, refused where they cannot be, gone with their topic or group.
func TestOffsets(t *testing.T) {
	n := startNode(t, broker.Options{})
	n.topic("t", 1)
	n.topic("u", 1)
	if at, epoch, meta := offsetOf(t, n, "none", "t"); at != -1 || epoch != -1 || meta != "" {
		t.Fatalf("of an unknown group: %d, %d, %q", at, epoch, meta)
	}
	if len(listed(t, n)) > 0 || len(n.log.Topics()) != 2 {
		t.Fatal("to ask for offsets made something")
	}
	for _, c := range []struct {
		topic, meta string
		want        *kerr.Error
	}{{"t", "here", nil}, {"u", "", nil}, {"none", "", kerr.UnknownTopicOrPartition}, {"t", string(make([]byte, 4097)), kerr.OffsetMetadataTooLarge}} {
		if code := commitOffset(t, n, "g", c.topic, 7, c.meta); code != 0 && c.want == nil || c.want != nil && code != c.want.Code {
			t.Fatalf("commit for %s: %v, want %v", c.topic, kerr.ErrorForCode(code), c.want)
		}
	}
	for range 2 {
		if at, epoch, meta := offsetOf(t, n, "g", "t"); at != 7 || epoch != 5 || meta != "here" {
			t.Fatalf("read %d, %d, %q", at, epoch, meta)
		}
		if got := listed(t, n); got["g"] != "Empty classic " {
			t.Fatal(got)
		}
		n.restart()
		eventually(t, "loaded", func() bool {
			return ask[*kmsg.ListGroupsResponse](t, n, kmsg.NewPtrListGroupsRequest(), -1).ErrorCode == 0
		})
	}
	del := kmsg.NewPtrDeleteTopicsRequest()
	name := "t"
	del.Topics = []kmsg.DeleteTopicsRequestTopic{{Topic: &name}}
	if code := ask[*kmsg.DeleteTopicsResponse](t, n, del, -1).Topics[0].ErrorCode; code != 0 {
		t.Fatal(kerr.ErrorForCode(code))
	}
	n.topic("t", 1)
	if at, _, _ := offsetOf(t, n, "g", "t"); at != -1 {
		t.Fatalf("offset %d of a topic that was deleted", at)
	}
	dg := kmsg.NewPtrDeleteGroupsRequest()
	dg.Groups = []string{"g", "none"}
	got := ask[*kmsg.DeleteGroupsResponse](t, n, dg, -1).Groups
	if got[0].ErrorCode != 0 || got[1].ErrorCode != kerr.GroupIDNotFound.Code || len(listed(t, n)) > 0 {
		t.Fatalf("%+v", got)
	}
	if at, _, _ := offsetOf(t, n, "g", "u"); at != -1 {
		t.Fatalf("offset %d of a group that was deleted", at)
	}
}

// TestInternalTopics: clients see them as internal and can neither write nor
// delete them.
func TestInternalTopics(t *testing.T) {
	n := startNode(t, broker.Options{MayWrite: func(string, broker.Operation) bool { return true }})
	n.topic("t", 1)
	commitOffset(t, n, "g", "t", 1, "")
	name := "__consumer_offsets"
	meta := kmsg.NewPtrMetadataRequest()
	meta.Topics = []kmsg.MetadataRequestTopic{{Topic: &name}}
	if got := ask[*kmsg.MetadataResponse](t, n, meta, -1).Topics[0]; !got.IsInternal || len(got.Partitions) != 16 {
		t.Fatalf("%+v", got)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(n.addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(within(t, patience), &kgo.Record{Topic: name, Value: []byte("x")}).FirstErr(); err != kerr.TopicAuthorizationFailed {
		t.Fatalf("produce: %v", err)
	}
	del := kmsg.NewPtrDeleteTopicsRequest()
	del.Topics = []kmsg.DeleteTopicsRequestTopic{{Topic: &name}}
	if code := ask[*kmsg.DeleteTopicsResponse](t, n, del, -1).Topics[0].ErrorCode; code != kerr.TopicAuthorizationFailed.Code {
		t.Fatal(kerr.ErrorForCode(code))
	}
}

// TestGroupMembers: what DescribeGroups and the admin keys say of a group with a
// member, and that a static member that is restarted causes no rebalance.
func TestGroupMembers(t *testing.T) {
	n := startNode(t, broker.Options{})
	n.topic("t", 2)
	describe := func() kmsg.DescribeGroupsResponseGroup {
		req := kmsg.NewPtrDescribeGroupsRequest()
		req.Groups = []string{"g"}
		return ask[*kmsg.DescribeGroupsResponse](t, n, req, -1).Groups[0]
	}
	a := consumeGroup(t, n, "g", "t", kgo.InstanceID("one"), kgo.Balancers(kgo.RangeBalancer()))
	eventually(t, "all partitions", func() bool { return a.holds() == 2 })
	before := describe()
	if before.State != "Stable" || before.Protocol != "range" || len(before.Members) != 1 || *before.Members[0].InstanceID != "one" || len(before.Members[0].MemberAssignment) == 0 {
		t.Fatalf("%+v", before)
	}
	if code := commitOffset(t, n, "g", "t", 1, ""); code != kerr.UnknownMemberID.Code {
		t.Fatalf("commit from outside: %v", kerr.ErrorForCode(code))
	}
	dg := kmsg.NewPtrDeleteGroupsRequest()
	dg.Groups = []string{"g"}
	if code := ask[*kmsg.DeleteGroupsResponse](t, n, dg, -1).Groups[0].ErrorCode; code != kerr.NonEmptyGroup.Code {
		t.Fatal(kerr.ErrorForCode(code))
	}
	a.close()
	b := consumeGroup(t, n, "g", "t", kgo.InstanceID("one"), kgo.Balancers(kgo.RangeBalancer()))
	eventually(t, "all partitions again", func() bool { return b.holds() == 2 })
	after := describe()
	if after.State != "Stable" || after.Members[0].MemberID == before.Members[0].MemberID {
		t.Fatalf("%+v", after)
	}
	_, generation := b.cl.GroupMetadata()
	if generation != 1 {
		t.Fatalf("generation %d: it rebalanced", generation)
	}
	leave := kmsg.NewPtrLeaveGroupRequest()
	one := "one"
	leave.Group, leave.Members = "g", []kmsg.LeaveGroupRequestMember{{InstanceID: &one}}
	if got := ask[*kmsg.LeaveGroupResponse](t, n, leave, -1); got.ErrorCode != 0 || got.Members[0].ErrorCode != 0 {
		t.Fatalf("%+v", got)
	}
}

// TestCommitWithEarlierEpoch: a member that commits with the epoch of before, while
// the new one is on its way to it, is refused only for what it does not have any more.
func TestCommitWithEarlierEpoch(t *testing.T) {
	n := startNode(t, broker.Options{})
	n.topic("t", 2)
	topic, _ := n.log.Topic("t")
	beat := func(member string, epoch int32, owned ...int32) *kmsg.ConsumerGroupHeartbeatResponse {
		t.Helper()
		req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		req.Group, req.MemberID, req.MemberEpoch = "g", member, epoch
		if epoch == 0 {
			req.SubscribedTopicNames, req.RebalanceTimeoutMillis = []string{"t"}, 10_000
		}
		if owned != nil {
			req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{{TopicID: topic.ID(), Partitions: owned}}
		}
		resp := ask[*kmsg.ConsumerGroupHeartbeatResponse](t, n, req, -1)
		if resp.ErrorCode != 0 {
			t.Fatal(kerr.ErrorForCode(resp.ErrorCode))
		}
		return resp
	}
	commit := func(epoch, partition int32) error {
		t.Helper()
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Group, req.MemberID, req.Generation = "g", "a", epoch
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset = partition, 1
		req.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{p}}}
		return kerr.ErrorForCode(ask[*kmsg.OffsetCommitResponse](t, n, req, 9).Topics[0].Partitions[0].ErrorCode)
	}
	first := beat("a", 0).MemberEpoch
	beat("b", 0)
	kept := beat("a", first).Assignment.Topics[0].Partitions
	if len(kept) != 1 {
		t.Fatalf("keeps %v", kept)
	}
	if now := beat("a", first, kept...).MemberEpoch; now <= first {
		t.Fatalf("epoch %d after %d", now, first)
	}
	if err := commit(first, kept[0]); err != nil {
		t.Errorf("what it still has: %v", err)
	}
	if err := commit(first, 1-kept[0]); err != error(kerr.StaleMemberEpoch) {
		t.Errorf("what it has no more: %v", err)
	}
}

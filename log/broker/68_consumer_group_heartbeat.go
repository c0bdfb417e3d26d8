package broker

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/group"
)

// ConsumerGroupHeartbeat: be a member of a group whose partitions the broker
// assigns (KIP-848).
//
// Behaviour:
//   - epoch 0 joins, -1 leaves, -2 leaves as a static member that will be back; else
//     it is the epoch of the last answer;
//   - the answer has an assignment where it is another than before, or where the
//     member joined or told everything; a partition is in it only once nobody else
//     has it;
//   - server assignors: uniform (default) and range;
//   - what an answer says is durable before it is given, and a group goes on after a
//     restart where it was;
//   - with the first member that joins, a classic group becomes one of this protocol,
//     its members, where it has some, with it; one whose members are not consumers is
//     GROUP_ID_NOT_FOUND. With the last one that is gone and others that speak the
//     classic protocol it becomes a classic group again, and rebalances.
//
// Versions: 1 brought patterns of topics, which are RE2 and match whole names, and
// member ids made by the client.

func consumerGroupHeartbeat(ctx context.Context, c *conn, h header, req *kmsg.ConsumerGroupHeartbeatRequest) kmsg.Response {
	resp := response[*kmsg.ConsumerGroupHeartbeatResponse](req)
	var r group.BeatResult
	err := checkBeat(req)
	if err == nil {
		r, err = c.srv.groups.beat(ctx, req.Group, beatOf(c, h, req))
	}
	resp.HeartbeatIntervalMillis = int32(c.srv.groups.cfg.Heartbeat.Milliseconds())
	if resp.ErrorCode, resp.ErrorMessage = c.srv.code(err), text(err); err != nil {
		return resp
	}
	resp.MemberID, resp.MemberEpoch = &r.MemberID, r.Epoch
	if r.Assigned != nil {
		resp.Assignment = &kmsg.ConsumerGroupHeartbeatResponseAssignment{}
		for _, x := range r.Assigned.Sorted() {
			list := &resp.Assignment.Topics
			if n := len(*list); n == 0 || (*list)[n-1].TopicID != x.Topic {
				*list = append(*list, kmsg.ConsumerGroupHeartbeatResponseAssignmentTopic{TopicID: x.Topic})
			}
			last := &(*list)[len(*list)-1]
			last.Partitions = append(last.Partitions, x.Partition)
		}
	}
	return resp
}

// checkBeat is what can be said of a request without its group.
func checkBeat(req *kmsg.ConsumerGroupHeartbeatRequest) error {
	bad := func(why string) error { return refuse(kerr.InvalidRequest, why) }
	switch {
	case req.Group == "":
		return bad("the group id is empty")
	case req.MemberID == "" && (req.Version >= 1 || req.MemberEpoch != 0):
		return bad("the member id is empty")
	case req.InstanceID != nil && *req.InstanceID == "":
		return bad("the instance id is empty")
	case req.RackID != nil && *req.RackID == "":
		return bad("the rack id is empty")
	case req.MemberEpoch < -2:
		return bad("the member epoch is invalid")
	case req.MemberEpoch == -2 && req.InstanceID == nil:
		return bad("only a static member can leave for a while")
	case req.MemberEpoch == 0 && req.RebalanceTimeoutMillis < 0:
		return bad("a member that joins must tell its rebalance timeout")
	case req.MemberEpoch == 0 && len(req.Topics) > 0:
		return bad("a member that joins has no partitions")
	case req.MemberEpoch == 0 && req.SubscribedTopicNames == nil && (req.SubscribedTopicRegex == nil || *req.SubscribedTopicRegex == ""):
		return bad("a member that joins must subscribe to something")
	case req.SubscribedTopicRegex != nil && len(*req.SubscribedTopicRegex) > maxPattern:
		return refuse(kerr.InvalidRegularExpression, fmt.Sprintf("a pattern of topics has at most %d bytes", maxPattern))
	case req.ServerAssignor != nil && !group.KnownAssignor(*req.ServerAssignor):
		return refuse(kerr.UnsupportedAssignor, "server assignors are uniform and range")
	}
	return nil
}

func beatOf(c *conn, h header, req *kmsg.ConsumerGroupHeartbeatRequest) group.Beat {
	b := group.Beat{
		MemberID: req.MemberID, Epoch: req.MemberEpoch, Instance: req.InstanceID, Rack: req.RackID,
		ClientID: h.clientID, ClientHost: c.clientHost(), Rebalance: -1,
		Topics: req.SubscribedTopicNames, Regex: req.SubscribedTopicRegex, Assignor: req.ServerAssignor,
	}
	if b.MemberID == "" {
		b.MemberID = newMemberID(h.clientID)
	}
	if req.RebalanceTimeoutMillis >= 0 {
		b.Rebalance = time.Duration(req.RebalanceTimeoutMillis) * time.Millisecond
	}
	if req.Topics != nil {
		b.Owned = group.Slots{}
	}
	for _, rt := range req.Topics {
		for _, p := range rt.Partitions {
			b.Owned[group.Slot{Topic: rt.TopicID, Partition: p}] = struct{}{}
		}
	}
	return b
}

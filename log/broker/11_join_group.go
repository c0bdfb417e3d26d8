package broker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/group"
)

// JoinGroup: become a member of the next generation of a classic group.
//
// Behaviour:
//   - answered when every member has joined or the rebalance timeout of the slowest
//     is over; the answer to the leader has all members. It waits on its
//     connection's writer, and ends with the connection; the member stays until its
//     session timeout is over, as in Kafka;
//   - the first generation of an empty group waits Options.Groups.InitialDelay for
//     more members;
//   - a new member without an id gets one and MEMBER_ID_REQUIRED (KIP-394); a static
//     one (group.instance.id, KIP-345) that was restarted takes its predecessor's
//     place, without a rebalance where the group is stable;
//   - rebalances by the broker (KIP-848) are ConsumerGroupHeartbeat's. A group with
//     members of that protocol takes in consumers of this one, which are answered at
//     once and never lead; without members it becomes a classic one.
//
// Versions: 1 has a rebalance timeout of its own, 4 MEMBER_ID_REQUIRED, 5 static
// members, 6 is flexible, 7 names the protocol type, 8 a reason, 9 can tell a
// leader to skip the assignment.

// header's client id and the address are what DescribeGroups shows.
func (c *conn) clientHost() string {
	if a, ok := c.nc.RemoteAddr().(*net.TCPAddr); ok {
		return "/" + a.IP.String()
	}
	return "/"
}

// newMemberID is an id that nobody had before.
func newMemberID(prefix string) string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // does not fail
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	s := hex.EncodeToString(b[:])
	return prefix + "-" + s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

func millis(ms int32) time.Duration { return time.Duration(ms) * time.Millisecond }

func joinGroup(ctx context.Context, c *conn, h header, req *kmsg.JoinGroupRequest) kmsg.Response {
	r := group.JoinRequest{
		MemberID: req.MemberID, Instance: req.InstanceID, RequireKnownID: req.Version >= 4, CanSkip: req.Version >= 9,
		ClientID: h.clientID, ClientHost: c.clientHost(), ProtocolType: req.ProtocolType,
		Session: millis(req.SessionTimeoutMillis), Rebalance: millis(req.RebalanceTimeoutMillis),
	}
	if req.Version < 1 || r.Rebalance < 0 {
		r.Rebalance = r.Session
	}
	if r.NewID = newMemberID(h.clientID); r.Instance != nil {
		r.NewID = newMemberID(*r.Instance)
	}
	for _, p := range req.Protocols {
		r.Protocols = append(r.Protocols, group.Protocol{Name: p.Name, Metadata: p.Metadata})
	}
	result, err := c.srv.groups.join(ctx, req.Group, r)
	if err != nil {
		result = group.JoinResult{Generation: -1, MemberID: req.MemberID}
	} else if result.Err != nil {
		err = result.Err
	}
	resp := response[*kmsg.JoinGroupResponse](req)
	resp.ErrorCode, resp.Generation, resp.MemberID, resp.LeaderID = c.srv.code(err), result.Generation, result.MemberID, result.Leader
	resp.SkipAssignment = result.SkipAssignment
	if err == nil {
		resp.ProtocolType, resp.Protocol = &result.ProtocolType, &result.Protocol
	}
	for _, m := range result.Members {
		sm := kmsg.NewJoinGroupResponseMember()
		sm.MemberID, sm.InstanceID, sm.ProtocolMetadata = m.ID, m.Instance, m.Metadata
		resp.Members = append(resp.Members, sm)
	}
	return resp
}

// join takes a member in and returns when the group's next generation is there.
func (g *groups) join(ctx context.Context, id string, r group.JoinRequest) (group.JoinResult, error) {
	if id == "" {
		return group.JoinResult{}, kerr.InvalidGroupID
	}
	c, err := g.lock(id, r.MemberID == "")
	if errors.Is(err, errNoGroup) {
		err = kerr.UnknownMemberID
	}
	if err != nil {
		return group.JoinResult{}, err
	}
	now := time.Now()
	if c.consumer != nil {
		if c.consumer.Members() > 0 {
			r, eff := c.consumer.Join(now, r, groupTopics{g.log})
			err := g.applyConsumer(ctx, c, now, eff)
			at := c.last
			c.mu.Unlock()
			if err == nil {
				err = durable(ctx, at)
			}
			return r, err
		}
		if err := g.becomeClassic(ctx, c, now); err != nil {
			c.mu.Unlock()
			return group.JoinResult{}, err
		}
	}
	var w *waiter
	r.Ticket, w = c.wait()
	g.apply(ctx, c, now, g.members(c, now).Join(now, r))
	c.mu.Unlock()
	if err := w.await(ctx); err != nil {
		return group.JoinResult{}, err
	}
	return w.join, nil
}

// becomeClassic makes a group of the consumer protocol without members a classic
// one. The caller holds c.mu.
func (g *groups) becomeClassic(ctx context.Context, c *cell, now time.Time) error {
	if err := g.storePlain(ctx, c, now, c.consumer.Forgotten(c.id)); err != nil {
		return kerr.CoordinatorNotAvailable
	}
	c.consumer = nil
	return nil
}

package broker

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/group"
)

// SyncGroup: learn what the leader of the generation assigned; the leader brings
// it.
//
// Behaviour: answered when the leader has synced and the group is stored, so that
// a group goes on after a restart with the assignment that it had; in a group of the
// consumer protocol, whose members the broker assigns to, at once. A member that does
// not sync within the rebalance timeout is removed.
//
// Versions: 3 has static members, 4 is flexible, 5 names the protocol.

func syncGroup(ctx context.Context, c *conn, _ header, req *kmsg.SyncGroupRequest) kmsg.Response {
	r := group.SyncRequest{Caller: group.Caller{MemberID: req.MemberID, Instance: req.InstanceID, Generation: req.Generation},
		ProtocolType: req.ProtocolType, Protocol: req.Protocol, Assignments: make(map[string][]byte, len(req.GroupAssignment))}
	for _, a := range req.GroupAssignment {
		r.Assignments[a.MemberID] = a.MemberAssignment
	}
	result, err := c.srv.groups.sync(ctx, req.Group, r)
	if err == nil && result.Err != nil {
		err = result.Err
	}
	resp := response[*kmsg.SyncGroupResponse](req)
	if resp.ErrorCode = c.srv.code(err); err != nil {
		return resp
	}
	resp.ProtocolType, resp.Protocol, resp.MemberAssignment = &result.ProtocolType, &result.Protocol, result.Assignment
	return resp
}

func (g *groups) sync(ctx context.Context, id string, r group.SyncRequest) (group.SyncResult, error) {
	c, err := g.lockMembers(id)
	if err != nil {
		return group.SyncResult{}, err
	}
	now := time.Now()
	if c.consumer != nil {
		result, eff := c.consumer.Sync(now, r, groupTopics{g.log})
		err := g.applyConsumer(ctx, c, now, eff)
		at := c.last
		c.mu.Unlock()
		if err == nil {
			err = durable(ctx, at)
		}
		return result, err
	}
	var w *waiter
	r.Ticket, w = c.wait()
	g.apply(ctx, c, now, c.classic.Sync(now, r))
	at := c.last
	c.mu.Unlock()
	if err := w.await(ctx); err != nil {
		return group.SyncResult{}, err
	}
	return w.sync, durable(ctx, at) // a stable group's assignment may not be durable yet
}

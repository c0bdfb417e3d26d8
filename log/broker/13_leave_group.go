package broker

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/group"
)

// LeaveGroup: members leave a classic group, which rebalances once for all of them.
//
// Behaviour: each member has its own error. A static member can be named by its
// instance id alone, which is how an operator removes it, in a group of the consumer
// protocol, too.
//
// Versions: 3 names many members, 4 is flexible, 5 has reasons.

func leaveGroup(ctx context.Context, c *conn, req *kmsg.LeaveGroupRequest) kmsg.Response {
	resp := response[*kmsg.LeaveGroupResponse](req)
	leavers := []group.Caller{{MemberID: req.MemberID}}
	if req.Version >= 3 {
		leavers = leavers[:0]
		for _, m := range req.Members {
			leavers = append(leavers, group.Caller{MemberID: m.MemberID, Instance: m.InstanceID})
		}
	}
	errs, err := c.srv.groups.leave(ctx, req.Group, leavers)
	if req.Version < 3 && err == nil {
		err = errs[0]
	}
	if resp.ErrorCode = c.srv.code(err); err != nil || req.Version < 3 {
		return resp
	}
	for i, m := range req.Members {
		sm := kmsg.NewLeaveGroupResponseMember()
		sm.MemberID, sm.InstanceID, sm.ErrorCode = m.MemberID, m.InstanceID, c.srv.code(errs[i])
		resp.Members = append(resp.Members, sm)
	}
	return resp
}

// leave takes members out; each has its error.
func (g *groups) leave(ctx context.Context, id string, leavers []group.Caller) ([]error, error) {
	errs := make([]error, len(leavers))
	c, err := g.lockMembers(id)
	if err == error(kerr.UnknownMemberID) {
		for i := range errs {
			errs[i] = err
		}
		return errs, nil
	}
	if err != nil {
		return nil, err
	}
	now := time.Now()
	var list []*kerr.Error
	if c.consumer != nil {
		var eff group.ConsumerEffects
		list, eff = c.consumer.Leave(leavers)
		err = g.applyConsumer(ctx, c, now, eff)
	} else {
		var eff group.Effects
		list, eff = c.classic.Leave(now, leavers)
		g.apply(ctx, c, now, eff)
	}
	at := c.last
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	for i, e := range list {
		errs[i] = orNone(e)
	}
	return errs, durable(ctx, at)
}

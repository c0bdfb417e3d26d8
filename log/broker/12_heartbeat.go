package broker

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/group"
)

// Heartbeat: a member of a classic group is alive, or one of the classic protocol in a
// group of the other (KIP-848).
//
// Behaviour: REBALANCE_IN_PROGRESS tells it to join again. A group that does not
// exist is UNKNOWN_MEMBER_ID, as in Kafka.
//
// Versions: 3 has static members, 4 is flexible.

func heartbeat(ctx context.Context, c *conn, req *kmsg.HeartbeatRequest) kmsg.Response {
	resp := response[*kmsg.HeartbeatResponse](req)
	resp.ErrorCode = c.srv.code(c.srv.groups.heartbeat(ctx, req.Group, group.Caller{MemberID: req.MemberID, Instance: req.InstanceID, Generation: req.Generation}))
	return resp
}

func (g *groups) heartbeat(ctx context.Context, id string, caller group.Caller) error {
	c, err := g.lockMembers(id)
	if err != nil {
		return err
	}
	defer c.mu.Unlock()
	now := time.Now()
	if c.consumer == nil {
		return orNone(c.classic.Heartbeat(now, caller))
	}
	kind, eff := c.consumer.Alive(now, caller, groupTopics{g.log})
	if err := g.applyConsumer(ctx, c, now, eff); err != nil {
		return err
	}
	return orNone(kind)
}

// orNone is an error of Kafka's, or none.
func orNone(err *kerr.Error) error {
	if err == nil {
		return nil
	}
	return err
}

// lockMembers is the cell of a group that has members or had some, locked;
// UNKNOWN_MEMBER_ID where there is none.
func (g *groups) lockMembers(id string) (*cell, error) {
	if id == "" {
		return nil, kerr.InvalidGroupID
	}
	c, err := g.lock(id, false)
	if errors.Is(err, errNoGroup) {
		return nil, kerr.UnknownMemberID
	}
	if err == nil && c.classic == nil && c.consumer == nil {
		c.mu.Unlock()
		return nil, kerr.UnknownMemberID
	}
	return c, err
}

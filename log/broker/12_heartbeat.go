package broker

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/group"
)

// Heartbeat: a member of a classic group is alive.
//
// Behaviour: REBALANCE_IN_PROGRESS tells it to join again. A group that does not
// exist is UNKNOWN_MEMBER_ID, as in Kafka.
//
// Versions: 3 has static members, 4 is flexible.

func heartbeat(_ context.Context, c *conn, req *kmsg.HeartbeatRequest) kmsg.Response {
	resp := response[*kmsg.HeartbeatResponse](req)
	resp.ErrorCode = c.srv.code(c.srv.groups.heartbeat(req.Group, group.Caller{MemberID: req.MemberID, Instance: req.InstanceID, Generation: req.Generation}))
	return resp
}

func (g *groups) heartbeat(id string, caller group.Caller) error {
	c, err := g.lockClassic(id)
	if err != nil {
		return err
	}
	defer c.mu.Unlock()
	if err := c.classic.Heartbeat(time.Now(), caller); err != nil {
		return err
	}
	return nil
}

// lockClassic is the cell of a classic group that has members or had some, locked;
// UNKNOWN_MEMBER_ID where there is none.
func (g *groups) lockClassic(id string) (*cell, error) {
	if id == "" {
		return nil, kerr.InvalidGroupID
	}
	c, err := g.lock(id, false)
	if errors.Is(err, errNoGroup) {
		return nil, kerr.UnknownMemberID
	}
	if err == nil && c.classic == nil {
		c.mu.Unlock()
		return nil, kerr.UnknownMemberID
	}
	return c, err
}

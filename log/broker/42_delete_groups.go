package broker

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteGroups: forget groups and their offsets, durably, before the answer.
//
// Behaviour: a group with members is NON_EMPTY_GROUP, one that does not exist
// GROUP_ID_NOT_FOUND.
//
// Versions: 2 is flexible, 3 has error messages.

func deleteGroups(ctx context.Context, c *conn, req *kmsg.DeleteGroupsRequest) kmsg.Response {
	resp := response[*kmsg.DeleteGroupsResponse](req)
	for _, id := range req.Groups {
		sg := kmsg.NewDeleteGroupsResponseGroup()
		sg.Group = id
		err := c.srv.groups.remove(ctx, id)
		sg.ErrorCode, sg.ErrorMessage = c.srv.code(err), text(err)
		resp.Groups = append(resp.Groups, sg)
	}
	return resp
}

func (g *groups) remove(ctx context.Context, id string) error {
	c, err := g.lock(id, false)
	if errors.Is(err, errNoGroup) {
		return kerr.GroupIDNotFound
	}
	if err != nil {
		return err
	}
	at, err := func() (stored, error) {
		defer c.mu.Unlock()
		if !c.empty() {
			return stored{}, kerr.NonEmptyGroup
		}
		now := time.Now()
		if err := g.storePlain(ctx, c, now, c.forgotten()); err != nil {
			return stored{}, kerr.CoordinatorNotAvailable
		}
		g.forget(c, now)
		return c.last, nil
	}()
	if err != nil {
		return err
	}
	return durable(ctx, at)
}

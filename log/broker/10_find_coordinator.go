package broker

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// FindCoordinator: who coordinates a group or a transactional id.
//
// Behaviour: this broker, for every key of both types; while the state is being
// read the coordinator itself says so. Share groups (type 2) are not served. The
// topic of the coordinator's state is made where it is not there yet: clients count
// on seeing it afterwards, as with Kafka. A key that is named more than once is
// answered once.
//
// Versions: 1 brought transactional ids, 3 is flexible, 4 asks for many keys.

func findCoordinator(_ context.Context, c *conn, req *kmsg.FindCoordinatorRequest) kmsg.Response {
	resp := response[*kmsg.FindCoordinatorResponse](req)
	err := c.coordinator(req.CoordinatorType)
	id, host, port := int32(nodeID), "", int32(0)
	if host, port = c.advertised(); err != nil {
		id, host, port = -1, "", -1
	}
	if req.Version < 4 {
		resp.NodeID, resp.Host, resp.Port = id, host, port
		resp.ErrorCode, resp.ErrorMessage = c.srv.code(err), text(err)
		return resp
	}
	for _, key := range distinctNames(req.CoordinatorKeys) {
		sc := kmsg.NewFindCoordinatorResponseCoordinator()
		sc.Key, sc.NodeID, sc.Host, sc.Port = key, id, host, port
		sc.ErrorCode, sc.ErrorMessage = c.srv.code(err), text(err)
		resp.Coordinators = append(resp.Coordinators, sc)
	}
	return resp
}

// coordinator makes sure that the coordinator of a type can keep its state.
func (c *conn) coordinator(of int8) (err error) {
	switch of {
	case 0:
		err = c.srv.groups.topic.ensure()
	case 1:
		err = c.srv.txns.state.ensure()
	default:
		return refuse(kerr.InvalidRequest, fmt.Sprintf("coordinators of type %d are not served", of))
	}
	if err != nil {
		c.logger.Error("a coordinator cannot keep its state", "err", err)
		return kerr.CoordinatorNotAvailable
	}
	return nil
}

package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// InitProducerId: an id for an idempotent producer.
//
// Behaviour: a new id, never used before and never again, with epoch 0. A
// transactional id is refused with TRANSACTIONAL_ID_AUTHORIZATION_FAILED, which
// clients report instead of retrying.
//
// Versions: 2 is flexible; 3 may carry the id and epoch that a transactional
// producer has, which an idempotent one has no use for.

func initProducerID(_ context.Context, c *conn, req *kmsg.InitProducerIDRequest) kmsg.Response {
	resp := response[*kmsg.InitProducerIDResponse](req)
	resp.ProducerID, resp.ProducerEpoch = -1, -1
	if req.TransactionalID != nil {
		resp.ErrorCode = c.srv.code(kerr.TransactionalIDAuthorizationFailed)
		return resp
	}
	id, err := c.srv.log.NewProducerID()
	if err != nil {
		c.logger.Error("no producer id", "err", err)
		resp.ErrorCode = c.srv.code(err)
		return resp
	}
	resp.ProducerID, resp.ProducerEpoch = id, 0
	return resp
}

package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/group"
)

// InitProducerId: an id for an idempotent producer, or the id and a new epoch for
// a transactional one.
//
// Behaviour:
//   - without a transactional id: a new producer id, never used before and never
//     again, with epoch 0;
//   - with one: its producer id with the next epoch, so that producers with the
//     same transactional id and an older epoch are fenced. A transaction that was
//     ongoing is aborted first, and the answer waits for that; where it takes
//     longer than two seconds, CONCURRENT_TRANSACTIONS;
//   - a producer that says which id and epoch it has gets the next epoch only if it
//     is still the newest (KIP-360); a transaction that ran into its timeout does
//     not fence it (KIP-588);
//   - epochs used up: a new producer id.
//
// Versions: 2 is flexible; 3 may carry the id and epoch that the producer has; 4
// says PRODUCER_FENCED where older ones say INVALID_PRODUCER_EPOCH; 5 may say
// TRANSACTION_ABORTABLE.

func initProducerID(ctx context.Context, c *conn, req *kmsg.InitProducerIDRequest) kmsg.Response {
	resp := response[*kmsg.InitProducerIDResponse](req)
	resp.ProducerID, resp.ProducerEpoch = -1, -1
	if req.TransactionalID == nil {
		id, err := c.srv.log.NewProducerID()
		if err != nil {
			c.logger.Error("no producer id", "err", err)
			resp.ErrorCode = c.srv.code(err)
			return resp
		}
		resp.ProducerID, resp.ProducerEpoch = id, 0
		return resp
	}
	p, err := c.srv.initTransactional(ctx, req)
	resp.ErrorCode = c.srv.code(fencedSince(err, req.Version, 4))
	resp.ProducerID, resp.ProducerEpoch = p.ID, p.Epoch
	return resp
}

func (s *Server) initTransactional(ctx context.Context, req *kmsg.InitProducerIDRequest) (group.Producer, error) {
	timeout := time.Duration(req.TransactionTimeoutMillis) * time.Millisecond
	expected := group.Producer{ID: req.ProducerID, Epoch: req.ProducerEpoch}
	switch {
	case timeout <= 0 || timeout > s.opt.TransactionMaxTimeout:
		return group.NoProducer, refuse(kerr.InvalidTransactionTimeout, fmt.Sprintf("transaction timeout %v; at most %v", timeout, s.opt.TransactionMaxTimeout))
	case req.Version < 3:
		expected = group.NoProducer
	case (expected.ID < 0) != (expected.Epoch < 0):
		return group.NoProducer, refuse(kerr.InvalidRequest, "producer id and epoch go together")
	case expected.ID < 0:
		expected = group.NoProducer
	}
	p, err := s.txns.init(ctx, *req.TransactionalID, timeout, expected)
	if err != nil {
		return group.NoProducer, err
	}
	return p, nil
}

// fencedSince is err as a request of that version may hear of it: before the
// version since, PRODUCER_FENCED was INVALID_PRODUCER_EPOCH.
func fencedSince(err error, version, since int16) error {
	if version < since && errors.Is(err, group.ErrProducerFenced) {
		return kerr.InvalidProducerEpoch
	}
	return err
}

// abortableSince is err as a request of that version may hear of it: before the
// version since there was no TRANSACTION_ABORTABLE.
func abortableSince(err error, version, since int16) error {
	if version < since && errors.Is(err, group.ErrTxnTimedOut) {
		return kerr.InvalidTxnState
	}
	return err
}

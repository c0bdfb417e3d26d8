package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/group"
)

// EndTxn: commit or abort a transaction.
//
// Behaviour: the decision is durable before the answer and stands from then on.
// The answer also waits until every partition has its marker, for at most two
// seconds, so that the producer can begin its next transaction at once and finds
// what it committed. A repeated request gets the answer of the first.
//
// Versions: 2 says PRODUCER_FENCED where older ones say INVALID_PRODUCER_EPOCH; 3
// is flexible; 4 may say TRANSACTION_ABORTABLE; 5 gives the producer a new epoch
// for its next transaction, so that late requests of this one mean nothing to it
// (KIP-890).

func startEndTxn(ctx context.Context, c *conn, req *kmsg.EndTxnRequest) func(context.Context) kmsg.Response {
	p := group.Producer{ID: req.ProducerID, Epoch: req.ProducerEpoch}
	finish, err := c.srv.txns.end(ctx, req.TransactionalID, p, req.Commit, req.Version >= 5)
	return func(ctx context.Context) kmsg.Response {
		next := group.NoProducer
		if err == nil {
			next, err = finish(ctx)
		}
		resp := response[*kmsg.EndTxnResponse](req)
		resp.ErrorCode = c.srv.code(fencedSince(abortableSince(err, req.Version, 4), req.Version, 2))
		resp.ProducerID, resp.ProducerEpoch = next.ID, next.Epoch
		return resp
	}
}

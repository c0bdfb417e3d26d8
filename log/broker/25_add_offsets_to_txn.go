package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/group"
)

// AddOffsetsToTxn: tell the coordinator that a transaction will commit offsets of a
// group.
//
// Behaviour: the partition of __consumer_offsets that keeps the group's offsets
// becomes part of the transaction. Producers that speak KIP-890 (TxnOffsetCommit 5
// and later) do not send this.
//
// Versions: 2 says PRODUCER_FENCED where older ones say INVALID_PRODUCER_EPOCH; 3
// is flexible; 4 may say TRANSACTION_ABORTABLE.

func startAddOffsetsToTxn(ctx context.Context, c *conn, req *kmsg.AddOffsetsToTxnRequest) func(context.Context) kmsg.Response {
	var st stored
	part, err := c.srv.groups.offsetsPartition(req.Group)
	if err == nil {
		st, err = c.srv.txns.add(ctx, req.TransactionalID, group.Producer{ID: req.ProducerID, Epoch: req.ProducerEpoch}, 0, part)
	}
	return func(ctx context.Context) kmsg.Response {
		if err == nil {
			err = st.wait(ctx)
		}
		resp := response[*kmsg.AddOffsetsToTxnResponse](req)
		resp.ErrorCode = c.srv.code(fencedSince(err, req.Version, 2))
		return resp
	}
}

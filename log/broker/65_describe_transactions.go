package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/group"
)

// DescribeTransactions: the state of transactional ids (KIP-664), of each that is
// named once.
//
// Versions: 0 is the only one, and flexible.

func describeTransactions(_ context.Context, c *conn, req *kmsg.DescribeTransactionsRequest) kmsg.Response {
	resp := response[*kmsg.DescribeTransactionsResponse](req)
	for _, id := range distinctNames(req.TransactionalIDs) {
		resp.TransactionStates = append(resp.TransactionStates, c.srv.describeTransaction(id))
	}
	return resp
}

func (s *Server) describeTransaction(id string) kmsg.DescribeTransactionsResponseTransactionState {
	d := kmsg.NewDescribeTransactionsResponseTransactionState()
	d.TransactionalID, d.ProducerID, d.ProducerEpoch, d.StartTimestamp = id, -1, -1, -1
	tr, err := s.txns.find(id)
	if err != nil {
		if err == group.ErrProducerIDMapping {
			err = kerr.TransactionalIDNotFound
		}
		d.ErrorCode = s.code(err)
		return d
	}
	tr.mu.RLock()
	t := tr.t
	tr.mu.RUnlock()
	d.State, d.TimeoutMillis = t.State.String(), int32(t.Timeout.Milliseconds())
	d.ProducerID, d.ProducerEpoch = t.Producer.ID, t.Epoch
	if !t.Started.IsZero() {
		d.StartTimestamp = t.Started.UnixMilli()
	}
	for _, p := range t.Partitions {
		n := len(d.Topics)
		if n == 0 || d.Topics[n-1].Topic != p.Topic {
			d.Topics = append(d.Topics, kmsg.DescribeTransactionsResponseTransactionStateTopic{Topic: p.Topic})
			n++
		}
		d.Topics[n-1].Partitions = append(d.Topics[n-1].Partitions, p.Partition)
	}
	return d
}

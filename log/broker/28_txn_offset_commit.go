package broker

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/group"
)

// TxnOffsetCommit: note how far a group has read, as part of a transaction.
//
// Behaviour: the offsets are durable before the answer, pending until the
// transaction ends, and count if it is committed. Otherwise as OffsetCommit.
//
// Versions: 3 is flexible and brought members and generations; 5 makes the group
// part of the transaction by itself (KIP-890) and may say TRANSACTION_ABORTABLE
// where older ones say INVALID_TXN_STATE; 6 names topics by id.

func txnOffsetCommit(ctx context.Context, c *conn, req *kmsg.TxnOffsetCommitRequest) kmsg.Response {
	resp, err := c.srv.commitTransactional(ctx, req)
	if err == nil {
		return resp
	}
	switch {
	case errors.Is(err, group.ErrProducerFenced):
		err = kerr.InvalidProducerEpoch
	case errors.Is(err, group.ErrInvalidTxnState) && req.Version >= 5:
		err = kerr.TransactionAbortable
	}
	resp = response[*kmsg.TxnOffsetCommitResponse](req)
	for i := range req.Topics {
		rt := kmsg.NewTxnOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = req.Topics[i].Topic, req.Topics[i].TopicID
		for _, p := range req.Topics[i].Partitions {
			rp := kmsg.NewTxnOffsetCommitResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, c.srv.code(err)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// commitTransactional holds the transaction open while the offsets are appended to
// it.
func (s *Server) commitTransactional(ctx context.Context, req *kmsg.TxnOffsetCommitRequest) (*kmsg.TxnOffsetCommitResponse, error) {
	tr, err := s.txns.find(req.TransactionalID)
	if err != nil {
		return nil, err
	}
	part, err := s.groups.offsetsPartition(req.Group)
	if err != nil {
		return nil, err
	}
	st, err := tr.enter(ctx, s.txns, group.Producer{ID: req.ProducerID, Epoch: req.ProducerEpoch}, part, req.Version >= 5)
	if err != nil {
		return nil, err
	}
	resp := s.groups.addTxnOffsets(ctx, s, req)
	tr.leave()
	return resp, st.wait(ctx)
}

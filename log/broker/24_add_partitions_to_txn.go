package broker

import (
	"context"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/group"
)

// AddPartitionsToTxn: tell the coordinator which partitions a transaction writes.
//
// Behaviour: all partitions are added or none; where one cannot be, the others
// answer OPERATION_NOT_ATTEMPTED. The first one begins the transaction. The answer
// waits until that is durable. Producers that speak KIP-890 (Produce 12 and later)
// do not send this.
//
// Versions: 2 says PRODUCER_FENCED where older ones say INVALID_PRODUCER_EPOCH; 3
// is flexible. 4 and later are between brokers, and not served.

func startAddPartitionsToTxn(ctx context.Context, c *conn, req *kmsg.AddPartitionsToTxnRequest) func(context.Context) kmsg.Response {
	var parts []group.TopicPartition
	missing := map[group.TopicPartition]error{}
	for i := range req.Topics {
		rt := &req.Topics[i]
		for _, n := range rt.Partitions {
			part := group.TopicPartition{Topic: rt.Topic, Partition: n}
			if _, err := c.srv.log.Partition(rt.Topic, n); err != nil {
				missing[part] = kerr.UnknownTopicOrPartition
			} else if !c.srv.opt.MayWrite(rt.Topic, OpProduce) || strings.HasPrefix(rt.Topic, ownPrefix) {
				missing[part] = kerr.TopicAuthorizationFailed
			}
			parts = append(parts, part)
		}
	}
	var st stored
	var err error
	if len(missing) > 0 {
		err = kerr.OperationNotAttempted
	} else {
		st, err = c.srv.txns.add(ctx, req.TransactionalID, group.Producer{ID: req.ProducerID, Epoch: req.ProducerEpoch}, 0, parts...)
	}
	return func(ctx context.Context) kmsg.Response {
		if err == nil {
			err = st.wait(ctx)
		}
		err = fencedSince(err, req.Version, 2)
		resp := response[*kmsg.AddPartitionsToTxnResponse](req)
		for i := range req.Topics {
			rt := kmsg.NewAddPartitionsToTxnResponseTopic()
			rt.Topic = req.Topics[i].Topic
			for _, n := range req.Topics[i].Partitions {
				rp := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
				rp.Partition = n
				if own := missing[group.TopicPartition{Topic: rt.Topic, Partition: n}]; own != nil {
					rp.ErrorCode = c.srv.code(own)
				} else {
					rp.ErrorCode = c.srv.code(err)
				}
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp
	}
}

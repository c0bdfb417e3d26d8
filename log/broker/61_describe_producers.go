package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeProducers: what partitions know of their producers (KIP-664), to find
// who holds readers of committed records back. A partition that is named more than
// once is answered once.
//
// Versions: 0 is the only one, and flexible.

func describeProducers(_ context.Context, c *conn, req *kmsg.DescribeProducersRequest) kmsg.Response {
	resp := response[*kmsg.DescribeProducersResponse](req)
	seen := map[string]map[int32]bool{}
	for i := range req.Topics {
		rt := kmsg.NewDescribeProducersResponseTopic()
		rt.Topic = req.Topics[i].Topic
		if seen[rt.Topic] == nil {
			seen[rt.Topic] = map[int32]bool{}
		}
		topic, notFound := c.srv.find(rt.Topic, [16]byte{}, false)
		for _, n := range req.Topics[i].Partitions {
			if seen[rt.Topic][n] {
				continue
			}
			seen[rt.Topic][n] = true
			rp := kmsg.NewDescribeProducersResponseTopicPartition()
			rp.Partition = n
			p, err := partitionOf(topic, n, notFound)
			if err != nil {
				rp.ErrorCode, rp.ErrorMessage = c.srv.code(err), text(err)
				rt.Partitions = append(rt.Partitions, rp)
				continue
			}
			for _, s := range p.Producers() {
				one := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
				one.ProducerID, one.ProducerEpoch, one.LastSequence = s.ProducerID, int32(s.Epoch), s.LastSequence
				one.LastTimestamp, one.CoordinatorEpoch, one.CurrentTxnStartOffset = s.LastTime.UnixMilli(), s.CoordinatorEpoch, s.TxnStart
				rp.ActiveProducers = append(rp.ActiveProducers, one)
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// OffsetForLeaderEpoch: where a leader epoch ends, by which a client or follower
// finds where its log and the leader's part (KIP-101, KIP-320).
//
// Behaviour: an epoch begins with each start of the broker. The answer is the
// largest epoch with records of at most the one asked for, and the offset after
// its last record; for the current epoch the high watermark. For an epoch that has
// not begun both are -1.
//
// Versions: 2 brought the client's current epoch, 3 replica ids, 4 is flexible.

func offsetForLeaderEpoch(_ context.Context, c *conn, req *kmsg.OffsetForLeaderEpochRequest) kmsg.Response {
	resp := response[*kmsg.OffsetForLeaderEpochResponse](req)
	for i := range req.Topics {
		rt := &req.Topics[i]
		t, err := c.srv.find(rt.Topic, [16]byte{}, false)
		st := kmsg.NewOffsetForLeaderEpochResponseTopic()
		st.Topic = rt.Topic
		for j := range rt.Partitions {
			rp := &rt.Partitions[j]
			sp := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			sp.Partition, sp.LeaderEpoch, sp.EndOffset = rp.Partition, -1, -1
			p, err := partitionOf(t, rp.Partition, err)
			if err == nil {
				err = checkEpoch(p, rp.CurrentLeaderEpoch)
			}
			if err == nil {
				sp.LeaderEpoch, sp.EndOffset = p.EpochEnd(rp.LeaderEpoch)
			}
			sp.ErrorCode = c.srv.code(err)
			st.Partitions = append(st.Partitions, sp)
		}
		resp.Topics = append(resp.Topics, st)
	}
	return resp
}

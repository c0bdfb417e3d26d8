package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// OffsetForLeaderEpoch: where a leader epoch ends, by which a client or follower
// finds where its log and the leader's part (KIP-101, KIP-320).
//
// Behaviour: for the current epoch, the high watermark. For an epoch that is not
// known, and for all others while the log keeps no history of them, epoch and
// offset are -1, upon which clients keep their place.
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
			if err == nil && rp.LeaderEpoch == p.LeaderEpoch() {
				sp.LeaderEpoch, sp.EndOffset = rp.LeaderEpoch, p.HighWatermark()
			}
			sp.ErrorCode = c.srv.code(err)
			st.Partitions = append(st.Partitions, sp)
		}
		resp.Topics = append(resp.Topics, st)
	}
	return resp
}

package broker

import (
	"context"
	"math"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/commitlog"
)

// ListOffsets: offsets by time.
//
// Behaviour: a timestamp in ms finds the first record at or after it (offset -1
// where there is none). Negative ones are names: -1 latest, -2 earliest, -3 the
// record with the greatest timestamp, -4 earliest local (there is no other),
// -5 latest tiered and -6 earliest not yet tiered (there is no tiered storage:
// -1 and the earliest). With isolation level read_committed the latest is the last
// stable offset, and what lies past it is not found by its time. A partition that is
// named more than once is INVALID_REQUEST.
//
// Versions: 4 brought leader epochs, 6 flexible fields, 7 timestamp -3, 8 -4,
// 9 -5, 11 -6. Version 0 answered with several offsets and is not served.

const (
	latestOffset         = -1
	earliestOffset       = -2
	maxTimestampOffset   = -3
	earliestLocalOffset  = -4
	latestTieredOffset   = -5
	earliestPendingOfset = -6
)

func listOffsets(ctx context.Context, c *conn, req *kmsg.ListOffsetsRequest) kmsg.Response {
	resp := response[*kmsg.ListOffsetsResponse](req)
	named := map[sessionKey]int{}
	for i := range req.Topics {
		for j := range req.Topics[i].Partitions {
			named[sessionKey{name: req.Topics[i].Topic, partition: req.Topics[i].Partitions[j].Partition}]++
		}
	}
	for i := range req.Topics {
		rt := &req.Topics[i]
		t, err := c.srv.find(rt.Topic, [16]byte{}, false)
		st := kmsg.NewListOffsetsResponseTopic()
		st.Topic = rt.Topic
		for j := range rt.Partitions {
			rp := &rt.Partitions[j]
			sp := kmsg.NewListOffsetsResponseTopicPartition()
			sp.Partition = rp.Partition
			p, err := partitionOf(t, rp.Partition, err)
			if named[sessionKey{name: rt.Topic, partition: rp.Partition}] > 1 {
				err = kerr.InvalidRequest
			}
			if err == nil {
				err = checkEpoch(p, rp.CurrentLeaderEpoch)
			}
			if err == nil {
				sp.Offset, sp.Timestamp, err = offsetFor(p, rp.Timestamp, req.IsolationLevel == readCommitted)
				sp.LeaderEpoch = p.LeaderEpoch()
			}
			if sp.ErrorCode = c.srv.code(err); err != nil {
				sp.Offset, sp.Timestamp, sp.LeaderEpoch = -1, -1, -1
			}
			st.Partitions = append(st.Partitions, sp)
		}
		resp.Topics = append(resp.Topics, st)
	}
	return resp
}

// offsetFor answers one timestamp, names included; -1, -1 where there is none.
func offsetFor(p *commitlog.Partition, ms int64, committed bool) (offset, timestamp int64, err error) {
	switch ms {
	case latestOffset:
		if committed {
			return p.LastStableOffset(), -1, nil
		}
		return p.HighWatermark(), -1, nil
	case earliestOffset, earliestLocalOffset, earliestPendingOfset:
		return p.Start(), -1, nil
	case latestTieredOffset:
		return -1, -1, nil
	case maxTimestampOffset:
		if ms, err = maxTimestamp(p); err != nil || ms < 0 {
			return -1, -1, err
		}
	}
	if ms < 0 {
		return -1, -1, nil
	}
	offset, timestamp, err = p.OffsetForTime(ms)
	if committed && offset >= p.LastStableOffset() {
		return -1, -1, err // not to be read yet
	}
	return offset, timestamp, err
}

// maxTimestamp is the greatest timestamp in p, -1 where p is empty: the greatest
// ms for which there is a record at or after it.
func maxTimestamp(p *commitlog.Partition) (int64, error) {
	if offset, _, err := p.OffsetForTime(0); err != nil || offset < 0 {
		return -1, err
	}
	low, high := int64(0), int64(math.MaxInt64) // low has a record; high, in 292 million years, has none
	for low < high-1 {
		mid := low + (high-low)/2
		offset, _, err := p.OffsetForTime(mid)
		if err != nil {
			return -1, err
		}
		if offset >= 0 {
			low = mid
		} else {
			high = mid
		}
	}
	return low, nil
}

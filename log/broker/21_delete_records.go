package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/commitlog"
)

// DeleteRecords: delete the oldest records of partitions, durably, before the
// answer, which tells the first offset that is left.
//
// Behaviour: -1 is the high watermark, beyond which nothing can be deleted. Who may
// not delete a topic may not empty it; the coordinators' topics are
// INVALID_TOPIC_EXCEPTION, as with Kafka. A topic that is only compacted keeps its
// last record of each key, so there it is POLICY_VIOLATION.
//
// Versions: 2 is flexible.

func deleteRecords(ctx context.Context, c *conn, req *kmsg.DeleteRecordsRequest) kmsg.Response {
	resp := response[*kmsg.DeleteRecordsResponse](req)
	timeout := min(max(time.Duration(req.TimeoutMillis)*time.Millisecond, minProduceTimeout), maxDeleteTimeout)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for i := range req.Topics {
		rt := &req.Topics[i]
		t, err := c.srv.deletable(rt.Topic)
		st := kmsg.NewDeleteRecordsResponseTopic()
		st.Topic = rt.Topic
		for j := range rt.Partitions {
			rp := &rt.Partitions[j]
			sp := kmsg.NewDeleteRecordsResponseTopicPartition()
			sp.Partition, sp.LowWatermark = rp.Partition, -1
			p, err := partitionOf(t, rp.Partition, err)
			if err == nil {
				err = c.deleteBefore(ctx, p, rp.Offset)
			}
			if sp.ErrorCode = c.srv.code(err); err == nil {
				sp.LowWatermark = p.Start()
			}
			st.Partitions = append(st.Partitions, sp)
		}
		resp.Topics = append(resp.Topics, st)
	}
	return resp
}

// maxDeleteTimeout is the longest that a client may have a deletion wait.
const maxDeleteTimeout = time.Minute

// deletable is the topic if a client may delete records of it.
func (s *Server) deletable(name string) (*commitlog.Topic, error) {
	t, err := s.find(name, [16]byte{}, false)
	if err != nil {
		return nil, err
	}
	if internalTopic(name) {
		return nil, kerr.InvalidTopicException
	}
	if !s.opt.MayWrite(name, OpDelete) {
		return nil, notForClients(name, OpDelete)
	}
	if policy, ok := t.Configs()["cleanup.policy"]; ok && !strings.Contains(policy, "delete") {
		return nil, refuse(kerr.PolicyViolation, fmt.Sprintf("topic %q has cleanup.policy=%s", name, policy))
	}
	return t, nil
}

// deleteBefore deletes the records of p below an offset.
func (c *conn) deleteBefore(ctx context.Context, p *commitlog.Partition, offset int64) error {
	if offset == -1 {
		offset = p.HighWatermark()
	}
	if offset < 0 {
		return kerr.OffsetOutOfRange
	}
	err := p.DeleteRecords(ctx, offset)
	switch {
	case err == nil:
		c.logger.Info("records deleted", "topic", p.Topic(), "partition", p.Index(), "below", offset)
	case !errors.Is(err, commitlog.ErrOffsetOutOfRange):
		c.logger.Error("records not deleted", "topic", p.Topic(), "partition", p.Index(), "below", offset, "err", err)
	}
	return err
}

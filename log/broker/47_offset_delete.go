package broker

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/group"
)

// OffsetDelete: forget the committed offsets of partitions, durably, before the
// answer.
//
// Behaviour: a topic that a member of the group reads is GROUP_SUBSCRIBED_TO_TOPIC;
// a group with members that are not consumers is NON_EMPTY_GROUP.

func offsetDelete(ctx context.Context, c *conn, req *kmsg.OffsetDeleteRequest) kmsg.Response {
	resp := response[*kmsg.OffsetDeleteResponse](req)
	topics, err := c.srv.deleteOffsets(ctx, req)
	if resp.ErrorCode = c.srv.code(err); err == nil {
		resp.Topics = topics
	}
	return resp
}

func (s *Server) deleteOffsets(ctx context.Context, req *kmsg.OffsetDeleteRequest) ([]kmsg.OffsetDeleteResponseTopic, error) {
	c, err := s.groups.lock(req.Group, false)
	if errors.Is(err, errNoGroup) {
		err = kerr.GroupIDNotFound
	}
	if err != nil {
		return nil, err
	}
	topics, at, err := s.deleteOffsetsOf(ctx, c, req)
	c.mu.Unlock()
	if err == nil {
		err = durable(ctx, at)
	}
	return topics, err
}

// deleteOffsetsOf deletes what of c it may. The caller holds c.mu.
func (s *Server) deleteOffsetsOf(ctx context.Context, c *cell, req *kmsg.OffsetDeleteRequest) ([]kmsg.OffsetDeleteResponseTopic, stored, error) {
	if c.consumer == nil && !c.empty() && c.classic.ProtocolType() != group.ConsumerProtocol {
		return nil, stored{}, kerr.NonEmptyGroup
	}
	var topics []kmsg.OffsetDeleteResponseTopic
	var drop []group.TopicPartition
	var records []group.Record
	for _, rt := range req.Topics {
		st := kmsg.NewOffsetDeleteResponseTopic()
		st.Topic = rt.Topic
		t, err := s.find(rt.Topic, [16]byte{}, false)
		if err == nil && !c.empty() && c.subscribed(rt.Topic) {
			err = kerr.GroupSubscribedToTopic
		}
		for _, rp := range rt.Partitions {
			sp := kmsg.NewOffsetDeleteResponseTopicPartition()
			_, err := partitionOf(t, rp.Partition, err)
			sp.Partition, sp.ErrorCode = rp.Partition, s.code(err)
			st.Partitions = append(st.Partitions, sp)
			p := group.TopicPartition{Topic: rt.Topic, Partition: rp.Partition}
			if _, has := c.offsets.Get(p); err == nil && (has || c.offsets.Unstable(p)) {
				drop, records = append(drop, p), append(records, group.ForgottenOffset(c.id, p))
			}
		}
		topics = append(topics, st)
	}
	if err := s.groups.storePlain(ctx, c, time.Now(), records); err != nil {
		return nil, stored{}, kerr.CoordinatorNotAvailable
	}
	for _, p := range drop {
		c.offsets.Delete(p)
	}
	return topics, c.last, nil
}

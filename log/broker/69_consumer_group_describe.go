package broker

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/group"
)

// ConsumerGroupDescribe: state, members and assignments of groups of the consumer
// protocol.
//
// Behaviour: a classic group, and one that does not exist, is GROUP_ID_NOT_FOUND.
// A group that is named more than once is answered once.
//
// Versions: 1 says of each member which protocol it speaks.

func consumerGroupDescribe(_ context.Context, c *conn, req *kmsg.ConsumerGroupDescribeRequest) kmsg.Response {
	resp := response[*kmsg.ConsumerGroupDescribeResponse](req)
	for _, id := range distinctNames(req.Groups) {
		sg := kmsg.NewConsumerGroupDescribeResponseGroup()
		sg.Group, sg.AuthorizedOperations = id, noOperations
		err := c.srv.describeConsumerGroup(&sg)
		sg.ErrorCode, sg.ErrorMessage = c.srv.code(err), text(err)
		resp.Groups = append(resp.Groups, sg)
	}
	return resp
}

func (s *Server) describeConsumerGroup(sg *kmsg.ConsumerGroupDescribeResponseGroup) error {
	c, err := s.groups.lock(sg.Group, false)
	if errors.Is(err, errNoGroup) {
		return refuse(kerr.GroupIDNotFound, fmt.Sprintf("group %s not found", sg.Group))
	}
	if err != nil {
		return err
	}
	defer c.mu.Unlock()
	if c.consumer == nil {
		return refuse(kerr.GroupIDNotFound, fmt.Sprintf("group %s is not a consumer group", sg.Group))
	}
	sg.State, sg.Epoch, sg.AssignmentEpoch = c.state().String(), c.consumer.Epoch(), c.consumer.TargetEpoch()
	assignor, members := c.consumer.View()
	sg.AssignorName = assignor
	for _, m := range members {
		sm := kmsg.NewConsumerGroupDescribeResponseGroupMember()
		sm.MemberID, sm.InstanceID, sm.RackID, sm.MemberEpoch = m.ID, m.Instance, m.Rack, m.Epoch
		sm.ClientID, sm.ClientHost, sm.SubscribedTopics, sm.MemberType = m.ClientID, m.ClientHost, m.Topics, 1
		if m.Classic {
			sm.MemberType = 0
		}
		if m.Regex != "" {
			sm.SubscribedTopicRegex = &m.Regex
		}
		sm.Assignment, sm.TargetAssignment = s.describeSlots(m.Assigned), s.describeSlots(m.Target)
		sg.Members = append(sg.Members, sm)
	}
	return nil
}

// describeSlots is an assignment with the names of its topics.
func (s *Server) describeSlots(slots group.Slots) kmsg.Assignment {
	var a kmsg.Assignment
	for _, x := range slots.Sorted() {
		n := len(a.TopicPartitions)
		if n == 0 || a.TopicPartitions[n-1].TopicID != x.Topic {
			tp := kmsg.AssignmentTopicPartition{TopicID: x.Topic}
			if t, ok := s.log.TopicByID(x.Topic); ok {
				tp.Topic = t.Name()
			}
			a.TopicPartitions = append(a.TopicPartitions, tp)
			n++
		}
		last := &a.TopicPartitions[n-1]
		last.Partitions = append(last.Partitions, x.Partition)
	}
	return a
}

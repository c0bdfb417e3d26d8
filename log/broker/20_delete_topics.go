package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteTopics: delete topics with their records, durably, before the answer.
//
// Behaviour: fetches that wait on a deleted topic are answered at once. Weir's own
// topics are not for clients to delete. What
// groups committed for the topic is forgotten.
//
// Versions: 4 is flexible, 5 has error messages, 6 names topics by name or id.

func deleteTopics(ctx context.Context, c *conn, req *kmsg.DeleteTopicsRequest) kmsg.Response {
	resp := response[*kmsg.DeleteTopicsResponse](req)
	topics := req.Topics
	for _, name := range req.TopicNames {
		rt := kmsg.NewDeleteTopicsRequestTopic()
		rt.Topic = &name
		topics = append(topics, rt)
	}
	named := map[string]int{}
	for i := range topics {
		if name := topics[i].Topic; name != nil {
			named[*name]++
		}
	}
	for i := range topics {
		st := kmsg.NewDeleteTopicsResponseTopic()
		st.Topic, st.TopicID = topics[i].Topic, topics[i].TopicID
		var err error
		switch name := st.Topic; {
		case name != nil && named[*name] > 1:
			err = refuse(kerr.InvalidRequest, "the request names the topic more than once")
		case name != nil && st.TopicID != [16]byte{}, name == nil && st.TopicID == [16]byte{}:
			err = refuse(kerr.InvalidRequest, "expected a topic's name or its id, and not both")
		default:
			err = c.srv.deleteTopic(ctx, &st)
		}
		st.ErrorCode, st.ErrorMessage = c.srv.code(err), text(err)
		resp.Topics = append(resp.Topics, st)
	}
	return resp
}

// deleteTopic deletes the topic that st names and completes st's name and id.
func (s *Server) deleteTopic(ctx context.Context, st *kmsg.DeleteTopicsResponseTopic) error {
	byID := st.Topic == nil
	var name string
	if !byID {
		name = *st.Topic
	}
	t, err := s.find(name, st.TopicID, byID)
	if err != nil {
		return err
	}
	name = t.Name()
	st.Topic, st.TopicID = &name, t.ID()
	if !s.opt.MayWrite(name, OpDelete) {
		return notForClients(name, OpDelete)
	}
	if err := s.log.DeleteTopic(name); err != nil {
		return err
	}
	s.opt.Logger.Info("topic deleted", "topic", name)
	s.groups.topicDeleted(ctx, name)
	return nil
}

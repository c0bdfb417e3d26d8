package broker

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/commitlog"
)

// CreatePartitions: grow topics to a number of partitions, durably, before the
// answer.
//
// Behaviour: the number is the new total and must be more than there are. An
// assignment may only name this broker, once for each new partition. Weir's own
// topics are not for clients to grow.
//
// Versions: 2 is flexible.

func createPartitions(_ context.Context, c *conn, req *kmsg.CreatePartitionsRequest) kmsg.Response {
	resp := response[*kmsg.CreatePartitionsResponse](req)
	named := map[string]int{}
	for i := range req.Topics {
		named[req.Topics[i].Topic]++
	}
	for i := range req.Topics {
		st := kmsg.NewCreatePartitionsResponseTopic()
		st.Topic = req.Topics[i].Topic
		err := refuse(kerr.InvalidRequest, "the request names the topic more than once")
		if named[st.Topic] == 1 {
			err = c.srv.createPartitions(&req.Topics[i], req.ValidateOnly)
		}
		st.ErrorCode, st.ErrorMessage = c.srv.code(err), text(err)
		resp.Topics = append(resp.Topics, st)
	}
	return resp
}

func (s *Server) createPartitions(rt *kmsg.CreatePartitionsRequestTopic, validateOnly bool) error {
	t, err := s.find(rt.Topic, [16]byte{}, false)
	if err != nil {
		return err
	}
	if !s.opt.MayWrite(rt.Topic, OpCreate) {
		return notForClients(rt.Topic, OpAlter)
	}
	have := int32(len(t.Partitions()))
	if rt.Count <= have || rt.Count > commitlog.MaxPartitions {
		return refuse(kerr.InvalidPartitions, fmt.Sprintf("%d partitions: expected more than the %d there are, at most %d", rt.Count, have, commitlog.MaxPartitions))
	}
	if n := len(rt.Assignment); n > 0 && n != int(rt.Count-have) {
		return refuse(kerr.InvalidReplicaAssignment, fmt.Sprintf("%d assignments for %d new partitions", n, rt.Count-have))
	}
	for _, a := range rt.Assignment {
		if len(a.Replicas) != 1 || a.Replicas[0] != nodeID {
			return refuse(kerr.InvalidReplicaAssignment, fmt.Sprintf("broker %d is the only one", nodeID))
		}
	}
	if validateOnly {
		return nil
	}
	return s.log.AddPartitions(rt.Topic, rt.Count)
}

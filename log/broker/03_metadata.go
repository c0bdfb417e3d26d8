package broker

import (
	"context"
	"errors"
	"net"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/commitlog"
)

// Metadata: brokers, topics, partitions and their leaders.
//
// Behaviour: the one broker leads and replicates every partition. A topic asked
// for by name that does not exist is made, with Options.Partitions partitions,
// where the request and Options allow it and clients may create it; the answer
// has it at once. It is made on arrival, so that a pipelined produce finds it. A topic
// that is named more than once is answered once.
// A name that no topic can have, or that collides with another topic's, is
// INVALID_TOPIC_EXCEPTION. Authorized operations are
// what MayWrite and the served keys leave to clients.
//
// Versions: 0 asks for all topics with an empty list, later ones with null;
// 4 says whether topics may be made, before that they may; 8 may ask for authorized
// operations; 9 is flexible; 10 has topic ids, 12 takes them in requests.

// noOperations says that authorized operations were not asked for.
const noOperations = -2147483648

// operation is the bit of an ACL operation in a set of them.
func operation(o kmsg.ACLOperation) int32 { return 1 << o }

// clusterOperations are what any client may do to the cluster.
var clusterOperations = operation(kmsg.ACLOperationCreate) | operation(kmsg.ACLOperationDescribe) |
	operation(kmsg.ACLOperationDescribeConfigs) | operation(kmsg.ACLOperationIdempotentWrite)

// topicOperations are what any client may do to a topic.
func (s *Server) topicOperations(name string) int32 {
	set := operation(kmsg.ACLOperationRead) | operation(kmsg.ACLOperationDescribe) | operation(kmsg.ACLOperationDescribeConfigs)
	for op, may := range map[Operation]int32{
		OpProduce: operation(kmsg.ACLOperationWrite),
		OpCreate:  operation(kmsg.ACLOperationCreate) | operation(kmsg.ACLOperationAlter), // to alter a topic is to add partitions
		OpDelete:  operation(kmsg.ACLOperationDelete),
		OpAlter:   operation(kmsg.ACLOperationAlterConfigs),
	} {
		if s.opt.MayWrite(name, op) {
			set |= may
		}
	}
	return set
}

// startMetadata makes topics, where it must.
func startMetadata(_ context.Context, c *conn, req *kmsg.MetadataRequest) func(context.Context) kmsg.Response {
	create := (req.AllowAutoTopicCreation || req.Version < 4) && !c.srv.opt.NoAutoCreate
	var named []namedTopic
	topics := distinct(req.Topics, func(rt *kmsg.MetadataRequestTopic) sessionKey {
		if rt.Topic == nil {
			return sessionKey{id: rt.TopicID}
		}
		return sessionKey{name: *rt.Topic}
	})
	for i := range topics {
		t, err := c.srv.metadataTopic(&topics[i], create)
		named = append(named, namedTopic{&topics[i], t, err})
	}
	return func(context.Context) kmsg.Response { return metadata(c, req, named) }
}

// namedTopic is a topic that a request names, and what is there under that name.
type namedTopic struct {
	*kmsg.MetadataRequestTopic
	found *commitlog.Topic
	err   error
}

func metadata(c *conn, req *kmsg.MetadataRequest, named []namedTopic) kmsg.Response {
	resp := response[*kmsg.MetadataResponse](req)
	b := kmsg.NewMetadataResponseBroker()
	b.NodeID = nodeID
	b.Host, b.Port = c.advertised()
	resp.Brokers = append(resp.Brokers, b)
	resp.ClusterID = &c.srv.opt.ClusterID
	resp.ControllerID = nodeID
	resp.AuthorizedOperations = noOperations
	if req.IncludeClusterAuthorizedOperations {
		resp.AuthorizedOperations = clusterOperations
	}
	if req.Topics == nil || req.Version == 0 && len(req.Topics) == 0 {
		for _, t := range c.srv.log.Topics() {
			resp.Topics = append(resp.Topics, c.srv.describeTopic(t, req.IncludeTopicAuthorizedOperations))
		}
		return resp
	}
	for i := range named {
		one := &named[i]
		if one.err == nil {
			resp.Topics = append(resp.Topics, c.srv.describeTopic(one.found, req.IncludeTopicAuthorizedOperations))
			continue
		}
		st := kmsg.NewMetadataResponseTopic()
		st.Topic, st.TopicID, st.ErrorCode, st.AuthorizedOperations = one.Topic, one.TopicID, c.srv.code(one.err), noOperations
		if st.Topic == nil && req.Version < 12 {
			st.Topic = new(string) // not nullable there
		}
		resp.Topics = append(resp.Topics, st)
	}
	return resp
}

// metadataTopic finds the topic that a request names, or makes it.
func (s *Server) metadataTopic(rt *kmsg.MetadataRequestTopic, create bool) (*commitlog.Topic, error) {
	if rt.Topic == nil {
		return s.find("", rt.TopicID, true)
	}
	name := *rt.Topic
	t, err := s.find(name, [16]byte{}, false)
	if err != nil && !validTopicName(name) {
		return nil, kerr.InvalidTopicException
	}
	if err == nil || !create || !s.opt.MayWrite(name, OpCreate) {
		return t, err
	}
	t, err = s.log.CreateTopic(commitlog.TopicSpec{Name: name, Partitions: s.opt.Partitions, Distinct: true})
	switch {
	case errors.Is(err, commitlog.ErrTopicExists): // made meanwhile
		return s.find(name, [16]byte{}, false)
	case err != nil:
		if codeOf(err) != kerr.InvalidTopicException {
			s.opt.Logger.Error("topic not made on demand", "topic", name, "err", err)
		}
		return nil, err
	}
	s.opt.Logger.Info("topic made on demand", "topic", name, "partitions", s.opt.Partitions)
	return t, nil
}

func (s *Server) describeTopic(t *commitlog.Topic, operations bool) kmsg.MetadataResponseTopic {
	st := kmsg.NewMetadataResponseTopic()
	name := t.Name()
	st.Topic, st.TopicID, st.AuthorizedOperations = &name, t.ID(), noOperations
	st.IsInternal = internalTopic(name)
	if operations {
		st.AuthorizedOperations = s.topicOperations(name)
	}
	for _, p := range t.Partitions() {
		sp := kmsg.NewMetadataResponseTopicPartition()
		sp.Partition, sp.Leader, sp.LeaderEpoch = p.Index(), nodeID, p.LeaderEpoch()
		sp.Replicas, sp.ISR = []int32{nodeID}, []int32{nodeID}
		st.Partitions = append(st.Partitions, sp)
	}
	return st
}

// advertised is the address under which the client of c can reach this broker.
func (c *conn) advertised() (string, int32) {
	if c.srv.advertisedHost != "" {
		return c.srv.advertisedHost, c.srv.advertisedPort
	}
	if a, ok := c.nc.LocalAddr().(*net.TCPAddr); ok {
		return a.IP.String(), int32(a.Port)
	}
	return "localhost", 9092
}

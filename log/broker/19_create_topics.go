package broker

import (
	"context"
	"fmt"
	"regexp"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/commitlog"
)

// CreateTopics: make topics, durably, before the answer.
//
// Behaviour: replication factor 1 or -1 (default); a replica assignment may only
// name this broker, for partitions 0 to n-1; partitions -1 is the default. Weir's
// own topics are not for clients to make. A topic named twice in one request is
// INVALID_REQUEST and not made; a name that differs from another topic's in dots and
// underscores only is INVALID_TOPIC_EXCEPTION. What is beyond 10,000 partitions in one
// request is POLICY_VIOLATION.
//
// Versions: 4 brought the defaults of -1, 5 flexible fields and the configs in the
// answer, 7 the topic id.

// maxCreatedPartitions bounds what one request makes, as Kafka does.
const maxCreatedPartitions = 10_000

// createdTopic is what became of a topic that a request names.
type createdTopic struct {
	spec  commitlog.TopicSpec
	topic *commitlog.Topic // nil: only validated, or refused
	err   error
}

// startCreateTopics makes the topics. Their settings, which are many times as large
// as the request, are told when it is the answer's turn.
func startCreateTopics(_ context.Context, c *conn, req *kmsg.CreateTopicsRequest) func(context.Context) kmsg.Response {
	named := map[string]int{}
	for i := range req.Topics {
		named[req.Topics[i].Topic]++
	}
	var made []createdTopic
	partitions := int64(0)
	for i := range req.Topics {
		rt := &req.Topics[i]
		spec, err := c.srv.topicSpec(rt)
		if named[rt.Topic] > 1 {
			if named[rt.Topic] == alreadyAnswered {
				continue
			}
			named[rt.Topic] = alreadyAnswered
			err = refuse(kerr.InvalidRequest, "the request names the topic more than once")
		}
		if partitions += min(max(1, int64(spec.Partitions)), commitlog.MaxPartitions); err == nil && partitions > maxCreatedPartitions {
			err = refuse(kerr.PolicyViolation, fmt.Sprintf("one request makes at most %d partitions", maxCreatedPartitions))
		}
		one := createdTopic{spec: spec, err: err}
		if err == nil {
			one.topic, one.err = c.srv.makeTopic(spec, req.ValidateOnly)
		}
		made = append(made, one)
	}
	return func(context.Context) kmsg.Response { return createTopics(c, req, made) }
}

func createTopics(c *conn, req *kmsg.CreateTopicsRequest, made []createdTopic) kmsg.Response {
	resp := response[*kmsg.CreateTopicsResponse](req)
	for _, one := range made {
		st := kmsg.NewCreateTopicsResponseTopic()
		st.Topic = one.spec.Name
		st.ErrorCode, st.ErrorMessage = c.srv.code(one.err), text(one.err)
		st.NumPartitions, st.ReplicationFactor = -1, -1
		if one.err == nil {
			st.NumPartitions, st.ReplicationFactor = one.spec.Partitions, 1
			st.Configs = createdConfigs(c.srv, one.spec)
		}
		if one.topic != nil {
			st.TopicID = one.topic.ID()
		}
		resp.Topics = append(resp.Topics, st)
	}
	return resp
}

// alreadyAnswered marks a topic that a request names more than once.
const alreadyAnswered = 1 << 30

// topicSpec is what a request asks for; the error is Kafka's.
func (s *Server) topicSpec(rt *kmsg.CreateTopicsRequestTopic) (commitlog.TopicSpec, error) {
	spec := commitlog.TopicSpec{Name: rt.Topic, Partitions: rt.NumPartitions, Distinct: true}
	if len(rt.Configs) > 0 {
		spec.Configs = make(map[string]string, len(rt.Configs))
	}
	for _, kv := range rt.Configs {
		if kv.Value == nil {
			return spec, refuse(kerr.InvalidConfig, fmt.Sprintf("config %s: null is not a value", kv.Name))
		}
		spec.Configs[kv.Name] = *kv.Value
	}
	if !s.opt.MayWrite(rt.Topic, OpCreate) {
		return spec, notForClients(rt.Topic, OpCreate)
	}
	if len(rt.ReplicaAssignment) > 0 {
		return assigned(spec, rt)
	}
	if rf := rt.ReplicationFactor; rf != 1 && rf != -1 {
		return spec, refuse(kerr.InvalidReplicationFactor, fmt.Sprintf("replication factor %d: there is one broker", rf))
	}
	if spec.Partitions == -1 {
		spec.Partitions = s.opt.Partitions
	}
	if spec.Partitions < 1 {
		return spec, refuse(kerr.InvalidPartitions, fmt.Sprintf("%d partitions; expected at least 1", spec.Partitions))
	}
	return spec, nil
}

// assigned checks a replica assignment, which also says how many partitions
// there are.
func assigned(spec commitlog.TopicSpec, rt *kmsg.CreateTopicsRequestTopic) (commitlog.TopicSpec, error) {
	if rt.NumPartitions != -1 || rt.ReplicationFactor != -1 {
		return spec, refuse(kerr.InvalidRequest, "with a replica assignment, partitions and replication factor must be -1")
	}
	n := len(rt.ReplicaAssignment)
	seen := make(map[int32]bool, n)
	for _, ra := range rt.ReplicaAssignment {
		if ra.Partition < 0 || int(ra.Partition) >= n || seen[ra.Partition] || len(ra.Replicas) != 1 || ra.Replicas[0] != nodeID {
			return spec, refuse(kerr.InvalidReplicaAssignment, fmt.Sprintf("expected partitions 0 to %d, each on broker %d", n-1, nodeID))
		}
		seen[ra.Partition] = true
	}
	spec.Partitions = int32(n)
	return spec, nil
}

// makeTopic makes the topic, or only says whether it could.
func (s *Server) makeTopic(spec commitlog.TopicSpec, validateOnly bool) (*commitlog.Topic, error) {
	if validateOnly {
		return nil, s.checkTopic(spec)
	}
	t, err := s.log.CreateTopic(spec)
	if err != nil {
		return nil, err
	}
	s.opt.Logger.Info("topic created", "topic", spec.Name, "partitions", spec.Partitions)
	return t, nil
}

// topicName is Kafka's rule for names.
var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

func validTopicName(name string) bool {
	return topicName.MatchString(name) && name != "." && name != ".."
}

// checkTopic says what CreateTopic would have against spec.
func (s *Server) checkTopic(spec commitlog.TopicSpec) error {
	if !validTopicName(spec.Name) {
		return commitlog.ErrInvalidTopic
	}
	if _, ok := s.log.Topic(spec.Name); ok {
		return fmt.Errorf("%w: %s", commitlog.ErrTopicExists, spec.Name)
	}
	if err := s.log.CheckDistinct(spec.Name); err != nil {
		return err
	}
	if spec.Partitions > commitlog.MaxPartitions {
		return commitlog.ErrInvalidPartitions
	}
	return commitlog.CheckConfigs(spec.Configs)
}

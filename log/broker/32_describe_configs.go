package broker

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/commitlog"
)

// DescribeConfigs: the settings of topics and of this broker, by Kafka's names.
//
// Behaviour: topics answer with what they were made with and the defaults of the
// rest; a broker is named by its id or by the empty name, which asks for settings
// that were changed while it runs, of which there are none. Nothing is secret.
// Synonyms are a topic's own value, where it has one, and the default of all topics
// under the broker's name for it. No names of settings, null or empty, are all. A
// resource that is named more than once is answered once.
// Kafka Connect refuses its topics unless cleanup.policy is exactly what it asked
// for, so set values are given back as they were set.
//
// Versions: 1 brought sources and synonyms, 3 types and documentation, 4 is
// flexible.

// config is one setting.
type config struct {
	name  string
	kind  kmsg.ConfigType
	value string
	set   bool // by whoever made the topic
	doc   string
	// what is used where a topic has no value of its own, and the broker's name for it
	fallback, brokerName string
}

// brokerNames are Kafka's names of broker settings that are the defaults of topic
// settings.
var brokerNames = map[string]string{
	"cleanup.policy": "log.cleanup.policy", "compression.type": "compression.type", "delete.retention.ms": "log.cleaner.delete.retention.ms",
	"file.delete.delay.ms": "log.segment.delete.delay.ms", "flush.messages": "log.flush.interval.messages", "flush.ms": "log.flush.interval.ms",
	"index.interval.bytes": "log.index.interval.bytes", "max.compaction.lag.ms": "log.cleaner.max.compaction.lag.ms", "max.message.bytes": "message.max.bytes",
	"message.downconversion.enable":  "log.message.downconversion.enable",
	"message.timestamp.after.max.ms": "log.message.timestamp.after.max.ms", "message.timestamp.before.max.ms": "log.message.timestamp.before.max.ms",
	"message.timestamp.type": "log.message.timestamp.type", "min.cleanable.dirty.ratio": "log.cleaner.min.cleanable.ratio",
	"min.compaction.lag.ms": "log.cleaner.min.compaction.lag.ms", "min.insync.replicas": "min.insync.replicas", "preallocate": "log.preallocate",
	"retention.bytes": "log.retention.bytes", "retention.ms": "log.retention.ms", "segment.bytes": "log.segment.bytes",
	"segment.index.bytes": "log.index.size.max.bytes", "segment.jitter.ms": "log.roll.jitter.ms", "segment.ms": "log.roll.ms",
	"unclean.leader.election.enable": "unclean.leader.election.enable",
}

// topicConfigs is what a topic with those settings has, by name.
func (s *Server) topicConfigs(set map[string]string) []config {
	defs := s.log.ConfigDefs()
	list := make([]config, 0, len(defs))
	for _, d := range defs {
		one := config{name: d.Name, kind: kmsg.ConfigType(d.Type), value: d.Default, doc: d.Doc, fallback: d.Default, brokerName: cmp.Or(brokerNames[d.Name], d.Name)}
		if v, ok := set[d.Name]; ok {
			one.value, one.set = v, true
		}
		list = append(list, one)
	}
	return list
}

// brokerConfigs is what this broker has, by name.
func (s *Server) brokerConfigs() []config {
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	list := []config{
		{name: "auto.create.topics.enable", kind: kmsg.ConfigTypeBoolean, value: strconv.FormatBool(!s.opt.NoAutoCreate), doc: "Whether asking for a topic makes it."},
		{name: "broker.id", kind: kmsg.ConfigTypeInt, value: strconv.Itoa(nodeID), doc: "This broker."},
		{name: "connections.max.idle.ms", kind: kmsg.ConfigTypeLong, value: number(s.opt.IdleTimeout.Milliseconds()), doc: "When an idle connection is closed."},
		{name: "delete.topic.enable", kind: kmsg.ConfigTypeBoolean, value: "true", doc: "Whether topics can be deleted; Weir's own cannot."},
		{name: "default.replication.factor", kind: kmsg.ConfigTypeInt, value: "1", doc: "Replicas of a new topic."},
		{name: "fetch.max.bytes", kind: kmsg.ConfigTypeInt, value: number(int64(s.opt.MaxFetchBytes)), doc: "The largest fetch response, in bytes of records."},
		{name: "max.connections.per.ip", kind: kmsg.ConfigTypeInt, value: strconv.Itoa(s.opt.MaxConnectionsPerAddress), doc: "The most connections open at once from one address."},
		{name: "max.connections", kind: kmsg.ConfigTypeInt, value: strconv.Itoa(s.opt.MaxConnections), doc: "The most connections open at once."},
		{name: "log.dirs", kind: kmsg.ConfigTypeList, value: s.opt.LogDir, doc: "Where the log is."},
		{name: "node.id", kind: kmsg.ConfigTypeInt, value: strconv.Itoa(nodeID), doc: "This broker."},
		{name: "num.partitions", kind: kmsg.ConfigTypeInt, value: number(int64(s.opt.Partitions)), doc: "Partitions of a topic made without a number."},
		{name: "offsets.topic.replication.factor", kind: kmsg.ConfigTypeShort, value: "1", doc: "Replicas of __consumer_offsets."},
		{name: "queued.max.request.bytes", kind: kmsg.ConfigTypeLong, value: number(s.opt.InFlightBytes), doc: "What all connections may hold in requests that are read."},
		{name: "socket.request.max.bytes", kind: kmsg.ConfigTypeInt, value: number(int64(s.opt.MaxRequestBytes)), doc: "The largest request."},
		{name: "transaction.state.log.min.isr", kind: kmsg.ConfigTypeInt, value: "1", doc: "Replicas that must have a change of __transaction_state."},
		{name: "transaction.state.log.replication.factor", kind: kmsg.ConfigTypeShort, value: "1", doc: "Replicas of __transaction_state."},
	}
	for _, one := range s.topicConfigs(nil) {
		one.name, one.doc = one.brokerName, "The default of topics: "+one.doc
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b config) int { return strings.Compare(a.name, b.name) })
	return list
}

func describeConfigs(_ context.Context, c *conn, req *kmsg.DescribeConfigsRequest) kmsg.Response {
	resp := response[*kmsg.DescribeConfigsResponse](req)
	resources := distinct(req.Resources, func(rr *kmsg.DescribeConfigsRequestResource) resource {
		return resource{rr.ResourceType, rr.ResourceName}
	})
	for i := range resources {
		rr := &resources[i]
		sr := kmsg.NewDescribeConfigsResponseResource()
		sr.ResourceType, sr.ResourceName = rr.ResourceType, rr.ResourceName
		list, err := c.srv.configsOf(rr)
		sr.ErrorCode, sr.ErrorMessage = c.srv.code(err), text(err)
		names := setOf(rr.ConfigNames)
		for _, one := range list {
			if len(names) == 0 || names[one.name] {
				sr.Configs = append(sr.Configs, describeConfig(one, rr.ResourceType, req))
			}
		}
		resp.Resources = append(resp.Resources, sr)
	}
	return resp
}

func (s *Server) configsOf(rr *kmsg.DescribeConfigsRequestResource) ([]config, error) {
	switch rr.ResourceType {
	case kmsg.ConfigResourceTypeTopic:
		if !validTopicName(rr.ResourceName) {
			return nil, fmt.Errorf("%w %q", commitlog.ErrInvalidTopic, rr.ResourceName)
		}
		t, err := s.find(rr.ResourceName, [16]byte{}, false)
		if err != nil {
			return nil, err
		}
		return s.topicConfigs(t.Configs()), nil
	case kmsg.ConfigResourceTypeBroker:
		if rr.ResourceName == "" {
			return nil, nil
		}
		if rr.ResourceName != strconv.Itoa(nodeID) {
			return nil, refuse(kerr.InvalidRequest, fmt.Sprintf("broker %q; expected %d or nothing", rr.ResourceName, nodeID))
		}
		return s.brokerConfigs(), nil
	}
	return nil, refuse(kerr.InvalidRequest, fmt.Sprintf("resources of type %s have no configs here", rr.ResourceType))
}

func describeConfig(one config, of kmsg.ConfigResourceType, req *kmsg.DescribeConfigsRequest) kmsg.DescribeConfigsResponseResourceConfig {
	sc := kmsg.NewDescribeConfigsResponseResourceConfig()
	sc.Name, sc.Value, sc.ConfigType = one.name, &one.value, one.kind
	sc.Source, sc.IsDefault = kmsg.ConfigSourceDefaultConfig, !one.set
	sc.ReadOnly = of == kmsg.ConfigResourceTypeBroker
	switch {
	case one.set:
		sc.Source = kmsg.ConfigSourceDynamicTopicConfig
	case of == kmsg.ConfigResourceTypeBroker && one.brokerName == "":
		sc.Source, sc.IsDefault = kmsg.ConfigSourceStaticBrokerConfig, false
	}
	if req.IncludeDocumentation {
		sc.Documentation = &one.doc
	}
	if req.IncludeSynonyms {
		add := func(name, value string, source kmsg.ConfigSource) {
			syn := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
			syn.Name, syn.Value, syn.Source = name, &value, source
			sc.ConfigSynonyms = append(sc.ConfigSynonyms, syn)
		}
		if one.set || one.brokerName == "" {
			add(one.name, one.value, sc.Source)
		}
		if one.brokerName != "" {
			add(one.brokerName, one.fallback, kmsg.ConfigSourceDefaultConfig)
		}
	}
	return sc
}

// createdConfigs is the list of a new topic's settings in CreateTopics' form.
func createdConfigs(s *Server, spec commitlog.TopicSpec) []kmsg.CreateTopicsResponseTopicConfig {
	var list []kmsg.CreateTopicsResponseTopicConfig
	for _, one := range s.topicConfigs(spec.Configs) {
		sc := kmsg.NewCreateTopicsResponseTopicConfig()
		sc.Name, sc.Value, sc.Source = one.name, &one.value, int8(kmsg.ConfigSourceDefaultConfig)
		if one.set {
			sc.Source = int8(kmsg.ConfigSourceDynamicTopicConfig)
		}
		list = append(list, sc)
	}
	return list
}

package broker_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/broker"
	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/record"
)

// configValue is a topic's setting, with its source.
func configValue(t *testing.T, adm *kadm.Client, topic, name string) string {
	t.Helper()
	all, err := adm.DescribeTopicConfigs(within(t, patience), topic)
	if err != nil || all[0].Err != nil {
		t.Fatal(err, all)
	}
	for _, c := range all[0].Configs {
		if c.Key == name {
			return fmt.Sprint(*c.Value, " ", c.Source)
		}
	}
	t.Fatalf("%s has no %s", topic, name)
	return ""
}

func alteration(op kadm.IncrementalOp, name, value string) kadm.AlterConfig {
	a := kadm.AlterConfig{Op: op, Name: name}
	if value != "null" {
		a.Value = &value
	}
	return a
}

func TestAlterConfigs(t *testing.T) {
	n := startNode(t, broker.Options{})
	n.topic("t", 1)
	n.topic("weir.alerts", 1)
	adm := kadm.NewClient(kgoClient(t, n))
	ctx := within(t, patience)
	for _, c := range []struct {
		alter []kadm.AlterConfig
		want  error
		name  string
		value string // afterwards
	}{
		{[]kadm.AlterConfig{alteration(kadm.SetConfig, "retention.ms", "1000")}, nil, "retention.ms", "1000 DYNAMIC_TOPIC_CONFIG"},
		{[]kadm.AlterConfig{alteration(kadm.SetConfig, "retention.ms", "soon")}, kerr.InvalidConfig, "retention.ms", "1000 DYNAMIC_TOPIC_CONFIG"},
		{[]kadm.AlterConfig{alteration(kadm.SetConfig, "retention.ms", "null")}, kerr.InvalidRequest, "retention.ms", "1000 DYNAMIC_TOPIC_CONFIG"},
		{[]kadm.AlterConfig{alteration(kadm.DeleteConfig, "retention.ms", "null")}, nil, "retention.ms", "-1 DEFAULT_CONFIG"},
		{[]kadm.AlterConfig{alteration(kadm.AppendConfig, "cleanup.policy", "compact")}, nil, "cleanup.policy", "delete,compact DYNAMIC_TOPIC_CONFIG"},
		{[]kadm.AlterConfig{alteration(kadm.AppendConfig, "cleanup.policy", "compact")}, nil, "cleanup.policy", "delete,compact DYNAMIC_TOPIC_CONFIG"},
		{[]kadm.AlterConfig{alteration(kadm.SubtractConfig, "cleanup.policy", "delete")}, nil, "cleanup.policy", "compact DYNAMIC_TOPIC_CONFIG"},
		{[]kadm.AlterConfig{alteration(kadm.AppendConfig, "cleanup.policy", "burn")}, kerr.InvalidConfig, "cleanup.policy", "compact DYNAMIC_TOPIC_CONFIG"},
		{[]kadm.AlterConfig{alteration(kadm.AppendConfig, "retention.ms", "1")}, kerr.InvalidConfig, "retention.ms", "-1 DEFAULT_CONFIG"},
		{[]kadm.AlterConfig{alteration(kadm.SetConfig, "no.such", "1")}, kerr.InvalidConfig, "retention.ms", "-1 DEFAULT_CONFIG"},
		{[]kadm.AlterConfig{alteration(kadm.DeleteConfig, "no.such", "null")}, kerr.InvalidConfig, "retention.ms", "-1 DEFAULT_CONFIG"},
		{[]kadm.AlterConfig{alteration(kadm.SetConfig, "segment.ms", "9"), alteration(kadm.SetConfig, "segment.ms", "8")}, kerr.InvalidRequest, "segment.ms", "604800000 DEFAULT_CONFIG"},
		{[]kadm.AlterConfig{alteration(kadm.SetConfig, "segment.ms", "9"), alteration(kadm.SetConfig, "retention.ms", "x")}, kerr.InvalidConfig, "segment.ms", "604800000 DEFAULT_CONFIG"},
	} {
		resp, err := adm.AlterTopicConfigs(ctx, c.alter, "t")
		if err != nil || !errors.Is(resp[0].Err, c.want) {
			t.Errorf("%v: %v %v, expected %v", c.alter, err, resp, c.want)
		}
		if resp[0].Err != nil && resp[0].ErrMessage == "" {
			t.Errorf("%v: no words", c.alter)
		}
		if got := configValue(t, adm, "t", c.name); got != c.value {
			t.Errorf("%v: %s is %s, expected %s", c.alter, c.name, got, c.value)
		}
	}
	set := []kadm.AlterConfig{alteration(kadm.SetConfig, "retention.ms", "5")}
	for name, want := range map[string]error{"weir.alerts": kerr.TopicAuthorizationFailed, "nosuch": kerr.UnknownTopicOrPartition} {
		if resp, err := adm.AlterTopicConfigs(ctx, set, name); err != nil || !errors.Is(resp[0].Err, want) {
			t.Errorf("%s: %v %v", name, err, resp)
		}
	}
	if resp, err := adm.AlterBrokerConfigs(ctx, set, 1); err != nil || !errors.Is(resp[0].Err, kerr.InvalidRequest) {
		t.Errorf("broker: %v %v", err, resp)
	}
	if resp, err := adm.ValidateAlterTopicConfigs(ctx, set, "t"); err != nil || resp[0].Err != nil {
		t.Error(err, resp)
	}
	if got := configValue(t, adm, "t", "retention.ms"); got != "-1 DEFAULT_CONFIG" {
		t.Errorf("validating made retention.ms %s", got)
	}
	if resp, err := adm.AlterTopicConfigsState(ctx, set, "t"); err != nil || resp[0].Err != nil {
		t.Error(err, resp)
	}
	n.restart()
	if got := configValue(t, adm, "t", "cleanup.policy") + ", " + configValue(t, adm, "t", "retention.ms"); got != "delete DEFAULT_CONFIG, 5 DYNAMIC_TOPIC_CONFIG" {
		t.Errorf("after all were replaced: %s", got)
	}
}

// TestConfigSynonyms: what a topic has of its own and what it would have without.
func TestConfigSynonyms(t *testing.T) {
	n := startNode(t, broker.Options{})
	n.topic("t", 1)
	n.topic("u", 1)
	if err := n.log.SetConfigs("t", map[string]string{"retention.ms": "7"}); err != nil {
		t.Fatal(err)
	}
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.Version, req.IncludeSynonyms, req.IncludeDocumentation = 4, true, true
	req.Resources = []kmsg.DescribeConfigsRequestResource{
		{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "t"},
		{ResourceType: kmsg.ConfigResourceTypeBroker, ResourceName: "1", ConfigNames: []string{"log.retention.ms", "node.id"}},
		{ResourceType: kmsg.ConfigResourceTypeBroker, ResourceName: ""},
		{ResourceType: kmsg.ConfigResourceTypeBroker, ResourceName: "2"},
		{ResourceType: kmsg.ConfigResourceTypeBrokerLogger, ResourceName: "1"},
		{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "a b"},
		{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "nosuch"},
		{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "u", ConfigNames: []string{}},
	}
	resp := req.ResponseKind().(*kmsg.DescribeConfigsResponse)
	if err := resp.ReadFrom(rawRequest(t, n, req)); err != nil {
		t.Fatal(err)
	}
	synonyms := func(c kmsg.DescribeConfigsResponseResourceConfig) string {
		s := fmt.Sprintf("%s=%s %v:", c.Name, *c.Value, c.Source)
		for _, y := range c.ConfigSynonyms {
			s += fmt.Sprintf(" %s=%s %v", y.Name, *y.Value, y.Source)
		}
		return s
	}
	var got []string
	for _, c := range resp.Resources[0].Configs {
		if c.Documentation == nil || *c.Documentation == "" || c.ReadOnly || c.IsSensitive {
			t.Errorf("%+v", c)
		}
		if slices.Contains([]string{"retention.ms", "max.message.bytes"}, c.Name) {
			got = append(got, synonyms(c))
		}
	}
	for _, c := range resp.Resources[1].Configs {
		if !c.ReadOnly {
			t.Errorf("%s of the broker can be changed", c.Name)
		}
		got = append(got, synonyms(c))
	}
	want := []string{
		"max.message.bytes=16777216 DEFAULT_CONFIG: message.max.bytes=16777216 DEFAULT_CONFIG",
		"retention.ms=7 DYNAMIC_TOPIC_CONFIG: retention.ms=7 DYNAMIC_TOPIC_CONFIG log.retention.ms=-1 DEFAULT_CONFIG",
		"log.retention.ms=-1 DEFAULT_CONFIG: log.retention.ms=-1 DEFAULT_CONFIG",
		"node.id=1 STATIC_BROKER_CONFIG: node.id=1 STATIC_BROKER_CONFIG",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nexpected\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for i, want := range []int16{0, 0, 0, kerr.InvalidRequest.Code, kerr.InvalidRequest.Code, kerr.InvalidTopicException.Code, kerr.UnknownTopicOrPartition.Code} {
		if resp.Resources[i].ErrorCode != want {
			t.Errorf("%+v", resp.Resources[i])
		}
	}
	if len(resp.Resources[2].Configs) > 0 {
		t.Error("settings that nobody changed while the broker runs")
	}
	if n := len(resp.Resources[7].Configs); n < 20 {
		t.Errorf("%d settings where none are named", n)
	}
}

// TestRecordErrors: the records without a key are named, the others are not.
func TestRecordErrors(t *testing.T) {
	n := startNode(t, broker.Options{})
	if _, err := n.log.CreateTopic(commitlog.TopicSpec{Name: "compacted", Partitions: 1, Configs: map[string]string{"cleanup.policy": "compact"}}); err != nil {
		t.Fatal(err)
	}
	var b record.Builder
	b.Reset(record.BatchOptions{})
	for i := range 5 {
		var key []byte
		if i%2 == 0 {
			key = []byte("k")
		}
		b.Append(1, key, []byte("v"), nil)
	}
	batch, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	for version := int16(8); version <= 12; version++ {
		req := produceRequest("compacted", version, -1, batch)
		resp := req.ResponseKind().(*kmsg.ProduceResponse)
		if err := resp.ReadFrom(rawRequest(t, n, req)); err != nil {
			t.Fatalf("version %d: %v", version, err)
		}
		got := resp.Topics[0].Partitions[0]
		if kerr.ErrorForCode(got.ErrorCode) != kerr.InvalidRecord || len(got.ErrorRecords) != 2 ||
			got.ErrorRecords[0].RelativeOffset != 1 || got.ErrorRecords[1].RelativeOffset != 3 || got.ErrorRecords[0].ErrorMessage == nil {
			t.Errorf("version %d: %+v", version, got)
		}
	}
}

func TestDeleteRecords(t *testing.T) {
	n := startNode(t, broker.Options{})
	n.topic("t", 2)
	n.topic("compacted", 1)
	n.topic("weir.alerts", 1)
	n.topic("__consumer_offsets", 1)
	if err := n.log.SetConfigs("compacted", map[string]string{"cleanup.policy": "compact"}); err != nil {
		t.Fatal(err)
	}
	cl := kgoClient(t, n, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	ctx := within(t, patience)
	for i := range 10 {
		if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "t", Value: fmt.Append(nil, i)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	adm := kadm.NewClient(cl)
	for _, c := range []struct {
		topic     string
		partition int32
		offset    int64
		want      error
		low       int64
	}{
		{"t", 0, 4, nil, 4},
		{"t", 0, 2, nil, 4}, // gone already
		{"t", 0, 11, kerr.OffsetOutOfRange, -1},
		{"t", 0, -2, kerr.OffsetOutOfRange, -1},
		{"t", 1, -1, nil, 0},
		{"t", 2, 0, kerr.UnknownTopicOrPartition, -1},
		{"nosuch", 0, 0, kerr.UnknownTopicOrPartition, -1},
		{"compacted", 0, 0, kerr.PolicyViolation, -1},
		{"weir.alerts", 0, 0, kerr.TopicAuthorizationFailed, -1},
		{"__consumer_offsets", 0, 0, kerr.InvalidTopicException, -1},
	} {
		req := &kmsg.DeleteRecordsRequest{Version: 2, TimeoutMillis: int32(patience.Milliseconds()), Topics: []kmsg.DeleteRecordsRequestTopic{
			{Topic: c.topic, Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Partition: c.partition, Offset: c.offset}}}}}
		resp := req.ResponseKind().(*kmsg.DeleteRecordsResponse)
		if err := resp.ReadFrom(rawRequest(t, n, req)); err != nil {
			t.Fatal(err)
		}
		p := resp.Topics[0].Partitions[0]
		if got := kerr.ErrorForCode(p.ErrorCode); !errors.Is(got, c.want) || p.LowWatermark != c.low {
			t.Errorf("%+v: %v, low watermark %d", c, got, p.LowWatermark)
		}
	}
	n.restart()
	starts, err := adm.ListStartOffsets(ctx, "t")
	if o, _ := starts.Lookup("t", 0); err != nil || o.Offset != 4 {
		t.Errorf("%v: starts at %d", err, o.Offset)
	}
	if got := kgoRead(t, n, "t", 6); string(got[0].Value) != "4" {
		t.Errorf("first record %s", got[0].Value)
	}
}

func TestACLs(t *testing.T) {
	n := startNode(t, broker.Options{})
	adm := kadm.NewClient(kgoClient(t, n))
	ctx := within(t, patience)
	b := kadm.NewACLs().Topics("t").Allow("User:a").AllowHosts("*").Operations(kadm.OpRead).ResourcePatternType(kadm.ACLPatternLiteral)
	made, err := adm.CreateACLs(ctx, b)
	if err != nil || len(made) != 1 || !errors.Is(made[0].Err, kerr.SecurityDisabled) {
		t.Errorf("%v %+v", err, made)
	}
	gone, err := adm.DeleteACLs(ctx, b)
	if err != nil || len(gone) != 1 || !errors.Is(gone[0].Err, kerr.SecurityDisabled) {
		t.Errorf("%v %+v", err, gone)
	}
	all, err := adm.DescribeACLs(ctx, b)
	if err != nil || len(all) != 1 || !errors.Is(all[0].Err, kerr.SecurityDisabled) {
		t.Errorf("%v %+v", err, all)
	}
}

// TestAuthorizedOperations: what clients are told they may do is what they may do.
func TestAuthorizedOperations(t *testing.T) {
	n := startNode(t, broker.Options{})
	n.topic("t", 1)
	n.topic("weir.alerts", 1)
	req := &kmsg.MetadataRequest{Version: 10, IncludeTopicAuthorizedOperations: true, IncludeClusterAuthorizedOperations: true}
	resp := req.ResponseKind().(*kmsg.MetadataResponse)
	if err := resp.ReadFrom(rawRequest(t, n, req)); err != nil {
		t.Fatal(err)
	}
	if want := int32(1<<5 | 1<<8 | 1<<10 | 1<<12); resp.AuthorizedOperations != want {
		t.Errorf("cluster: %b, expected %b", resp.AuthorizedOperations, want)
	}
	for i, want := range []int32{1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8 | 1<<10 | 1<<11, 1<<3 | 1<<8 | 1<<10} {
		if got := resp.Topics[i].AuthorizedOperations; got != want {
			t.Errorf("%s: %b, expected %b", *resp.Topics[i].Topic, got, want)
		}
	}
}

// TestTopicMistakes: each mistake about topics has Kafka's error.
func TestTopicMistakes(t *testing.T) {
	n := startNode(t, broker.Options{Partitions: 3})
	n.topic("t", 2)
	n.topic("a.b", 1)
	create := func(change func(*kmsg.CreateTopicsRequestTopic)) kmsg.Request {
		rt := kmsg.NewCreateTopicsRequestTopic()
		rt.Topic, rt.NumPartitions, rt.ReplicationFactor = "new", 1, 1
		change(&rt)
		req := kmsg.NewPtrCreateTopicsRequest()
		req.Version, req.Topics = 7, append(req.Topics, rt)
		return req
	}
	assign := func(count int32, factor int16, replicas ...[]int32) kmsg.Request {
		return create(func(rt *kmsg.CreateTopicsRequestTopic) {
			rt.NumPartitions, rt.ReplicationFactor = count, factor
			for i, r := range replicas {
				rt.ReplicaAssignment = append(rt.ReplicaAssignment, kmsg.CreateTopicsRequestTopicReplicaAssignment{Partition: int32(i), Replicas: r})
			}
		})
	}
	validate := func(req kmsg.Request) kmsg.Request {
		req.(*kmsg.CreateTopicsRequest).ValidateOnly = true
		return req
	}
	grow := func(count int32, topics ...string) kmsg.Request {
		req := kmsg.NewPtrCreatePartitionsRequest()
		req.Version = 3
		for _, name := range topics {
			req.Topics = append(req.Topics, kmsg.CreatePartitionsRequestTopic{Topic: name, Count: count})
		}
		return req
	}
	name := "t"
	drop := func(topics ...kmsg.DeleteTopicsRequestTopic) kmsg.Request {
		return &kmsg.DeleteTopicsRequest{Version: 6, Topics: topics}
	}
	for _, c := range []struct {
		name string
		req  kmsg.Request
		want *kerr.Error
	}{
		{"factor 3", create(func(rt *kmsg.CreateTopicsRequestTopic) { rt.ReplicationFactor = 3 }), kerr.InvalidReplicationFactor},
		{"factor 0", create(func(rt *kmsg.CreateTopicsRequestTopic) { rt.ReplicationFactor = 0 }), kerr.InvalidReplicationFactor},
		{"no partitions", create(func(rt *kmsg.CreateTopicsRequestTopic) { rt.NumPartitions = 0 }), kerr.InvalidPartitions},
		{"too many partitions", create(func(rt *kmsg.CreateTopicsRequestTopic) { rt.NumPartitions = 1 << 30 }), kerr.InvalidPartitions},
		{"there already", create(func(rt *kmsg.CreateTopicsRequestTopic) { rt.Topic = "t" }), kerr.TopicAlreadyExists},
		{"bad name", create(func(rt *kmsg.CreateTopicsRequestTopic) { rt.Topic = "a b" }), kerr.InvalidTopicException},
		{"dots", create(func(rt *kmsg.CreateTopicsRequestTopic) { rt.Topic = ".." }), kerr.InvalidTopicException},
		{"collides", create(func(rt *kmsg.CreateTopicsRequestTopic) { rt.Topic = "a_b" }), kerr.InvalidTopicException},
		{"would collide", validate(create(func(rt *kmsg.CreateTopicsRequestTopic) { rt.Topic = "a_b" })), kerr.InvalidTopicException},
		{"is there, as is one it collides with", validate(create(func(rt *kmsg.CreateTopicsRequestTopic) { rt.Topic = "a.b" })), kerr.TopicAlreadyExists},
		{"internal", create(func(rt *kmsg.CreateTopicsRequestTopic) { rt.Topic = "__consumer_offsets" }), kerr.TopicAuthorizationFailed},
		{"another broker", assign(-1, -1, []int32{2}), kerr.InvalidReplicaAssignment},
		{"two replicas", assign(-1, -1, []int32{1, 2}), kerr.InvalidReplicaAssignment},
		{"assignment and count", assign(1, -1, []int32{1}), kerr.InvalidRequest},
		{"grow to less", grow(1, "t"), kerr.InvalidPartitions},
		{"grow to the same", grow(2, "t"), kerr.InvalidPartitions},
		{"grow twice", grow(4, "t", "t"), kerr.InvalidRequest},
		{"grow unknown", grow(4, "nosuch"), kerr.UnknownTopicOrPartition},
		{"delete twice", drop(kmsg.DeleteTopicsRequestTopic{Topic: &name}, kmsg.DeleteTopicsRequestTopic{Topic: &name}), kerr.InvalidRequest},
		{"delete by name and id", drop(kmsg.DeleteTopicsRequestTopic{Topic: &name, TopicID: [16]byte{1}}), kerr.InvalidRequest},
		{"delete nothing", drop(kmsg.DeleteTopicsRequestTopic{}), kerr.InvalidRequest},
		{"delete unknown id", drop(kmsg.DeleteTopicsRequestTopic{TopicID: [16]byte{1}}), kerr.UnknownTopicID},
		// What is no mistake, last.
		{"assignment", assign(-1, -1, []int32{1}, []int32{1}), nil},
		{"grow", grow(4, "t"), nil},
	} {
		raw := rawRequest(t, n, c.req)
		var code int16
		var words *string
		switch resp := c.req.ResponseKind().(type) {
		case *kmsg.CreateTopicsResponse:
			if err := resp.ReadFrom(raw); err != nil {
				t.Fatal(err)
			}
			code, words = resp.Topics[0].ErrorCode, resp.Topics[0].ErrorMessage
		case *kmsg.CreatePartitionsResponse:
			if err := resp.ReadFrom(raw); err != nil {
				t.Fatal(err)
			}
			code, words = resp.Topics[0].ErrorCode, resp.Topics[0].ErrorMessage
		case *kmsg.DeleteTopicsResponse:
			if err := resp.ReadFrom(raw); err != nil {
				t.Fatal(err)
			}
			code, words = resp.Topics[0].ErrorCode, resp.Topics[0].ErrorMessage
		}
		got := kerr.ErrorForCode(code)
		if c.want == nil && got != nil || c.want != nil && (!errors.Is(got, error(c.want)) || deref(words) == "") {
			t.Errorf("%s: %v %q, expected %v", c.name, got, deref(words), c.want)
		}
	}
	byHand, _ := n.log.Topic("new")
	grown, _ := n.log.Topic("t")
	if len(byHand.Partitions()) != 2 || len(grown.Partitions()) != 4 {
		t.Errorf("%d and %d partitions", len(byHand.Partitions()), len(grown.Partitions()))
	}
	// Metadata of a name that no topic can have, or none beside those there are.
	for _, bad := range []string{"a b", "a_b"} {
		req := &kmsg.MetadataRequest{Version: 9, AllowAutoTopicCreation: true, Topics: []kmsg.MetadataRequestTopic{{Topic: &bad}}}
		resp := req.ResponseKind().(*kmsg.MetadataResponse)
		if err := resp.ReadFrom(rawRequest(t, n, req)); err != nil || resp.Topics[0].ErrorCode != kerr.InvalidTopicException.Code {
			t.Errorf("%v %+v", err, resp.Topics)
		}
	}
}

// TestLogDirs: the partitions that are asked for, and the volume's room.
func TestLogDirs(t *testing.T) {
	n := startNode(t, broker.Options{})
	n.topic("t", 2)
	n.topic("u", 1)
	for _, c := range []struct {
		topics []kmsg.DescribeLogDirsRequestTopic
		want   string
	}{
		{nil, "t[0 1] u[0] "},
		{[]kmsg.DescribeLogDirsRequestTopic{}, ""},
		{[]kmsg.DescribeLogDirsRequestTopic{{Topic: "t", Partitions: []int32{1, 7}}, {Topic: "nosuch", Partitions: []int32{0}}}, "t[1] "},
	} {
		for version := int16(1); version <= 5; version++ {
			req := &kmsg.DescribeLogDirsRequest{Version: version, Topics: c.topics}
			resp := req.ResponseKind().(*kmsg.DescribeLogDirsResponse)
			if err := resp.ReadFrom(rawRequest(t, n, req)); err != nil || resp.ErrorCode != 0 || len(resp.Dirs) != 1 {
				t.Fatalf("version %d: %v, %+v", version, err, resp)
			}
			dir, got := resp.Dirs[0], ""
			for _, topic := range dir.Topics {
				var parts []int32
				for _, p := range topic.Partitions {
					parts = append(parts, p.Partition)
				}
				got += fmt.Sprint(topic.Topic, parts, " ")
			}
			if got != c.want {
				t.Errorf("version %d: %q, expected %q", version, got, c.want)
			}
			if version >= 4 && (dir.UsableBytes <= 0 || dir.TotalBytes < dir.UsableBytes) {
				t.Errorf("version %d: %d bytes of %d", version, dir.UsableBytes, dir.TotalBytes)
			}
		}
	}
}

package loader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// client makes the few requests that a load needs. Each is tried once; retry does
// them again.
type client struct {
	kgo      *kgo.Client
	logger   *slog.Logger
	retryFor time.Duration

	mu   sync.Mutex
	told time.Time // when a retry was last told
}

func newClient(o *Options) (*client, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(o.Addr), kgo.ClientID("weir-load"), kgo.RequestRetries(0),
		kgo.RetryTimeout(5*time.Second), kgo.DialTimeout(5*time.Second), kgo.RequestTimeoutOverhead(10*time.Second))
	if err != nil {
		return nil, fmt.Errorf("kafka client for %s: %w", o.Addr, err)
	}
	return &client{kgo: cl, logger: o.Logger, retryFor: o.RetryFor}, nil
}

// complainEvery is how long retries are silent after one was told: partitions fail
// together, and a person needs to read it once.
const complainEvery = 10 * time.Second

// complain tells of a retry, rarely.
func (c *client) complain(what string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.told) >= complainEvery {
		c.told = now
		c.logger.Warn("trying again", "what", what, "err", err, "for", c.retryFor)
	}
}

// retry calls f until it succeeds, its error is not worth another try, or
// retryFor has passed.
func (c *client) retry(ctx context.Context, what string, f func() error) error {
	began, wait := time.Now(), 50*time.Millisecond
	for {
		err := f()
		if err == nil || !worthRetrying(err) {
			return err
		}
		if ctx.Err() != nil {
			return err
		}
		if time.Since(began)+wait > c.retryFor {
			return fmt.Errorf("%s: given up after %s: %w", what, time.Since(began).Round(time.Second), err)
		}
		c.complain(what, err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return err
		}
		wait = min(2*wait, 2*time.Second)
	}
}

// worthRetrying: Kafka says for its own errors; anything else is the network.
func worthRetrying(err error) bool {
	var code *kerr.Error
	if errors.As(err, &code) {
		// Sequences do not get into order by themselves.
		return code.Retriable && code != kerr.OutOfOrderSequenceNumber
	}
	return !errors.Is(err, context.Canceled)
}

// topic is what a load knows of a topic.
type topic struct {
	name    string
	id      [16]byte
	leaders []int32 // by partition
}

// describe asks for a topic. The error is Kafka's, such as
// kerr.UnknownTopicOrPartition.
func (c *client) describe(ctx context.Context, name string) (*topic, error) {
	req := kmsg.NewPtrMetadataRequest()
	rt := kmsg.NewMetadataRequestTopic()
	rt.Topic = &name
	req.Topics = append(req.Topics, rt)
	req.AllowAutoTopicCreation = false
	resp, err := req.RequestWith(ctx, c.kgo)
	if err != nil {
		return nil, fmt.Errorf("metadata of %s: %w", name, err)
	}
	if len(resp.Topics) != 1 {
		return nil, fmt.Errorf("metadata of %s: %d topics answered", name, len(resp.Topics))
	}
	rt1 := &resp.Topics[0]
	if err := kerr.ErrorForCode(rt1.ErrorCode); err != nil {
		return nil, fmt.Errorf("topic %s: %w", name, err)
	}
	t := &topic{name: name, id: rt1.TopicID, leaders: make([]int32, len(rt1.Partitions))}
	for i := range rt1.Partitions {
		p := &rt1.Partitions[i]
		if int(p.Partition) >= len(t.leaders) || p.Partition < 0 {
			return nil, fmt.Errorf("metadata of %s: partition %d of %d", name, p.Partition, len(t.leaders))
		}
		t.leaders[p.Partition] = p.Leader
	}
	if len(t.leaders) == 0 {
		return nil, fmt.Errorf("topic %s has no partitions", name)
	}
	return t, nil
}

// ensure is describe that makes the topic where it is missing.
func (c *client) ensure(ctx context.Context, name string, partitions int32) (*topic, error) {
	t, err := c.describe(ctx, name)
	if !errors.Is(err, kerr.UnknownTopicOrPartition) {
		return t, err
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = name, partitions, -1
	forever := "-1"
	retention := kmsg.NewCreateTopicsRequestTopicConfig()
	retention.Name, retention.Value = "retention.ms", &forever
	rt.Configs = append(rt.Configs, retention)
	req.Topics = append(req.Topics, rt)
	resp, rerr := req.RequestWith(ctx, c.kgo)
	if rerr != nil {
		return nil, fmt.Errorf("create topic %s: %w", name, rerr)
	}
	if len(resp.Topics) == 1 {
		if cerr := kerr.ErrorForCode(resp.Topics[0].ErrorCode); cerr != nil && !errors.Is(cerr, kerr.TopicAlreadyExists) {
			return nil, fmt.Errorf("topic %s does not exist and was not made: %w", name, cerr)
		}
	}
	return c.describe(ctx, name)
}

// producerID asks for a producer id.
func (c *client) producerID(ctx context.Context) (int64, int16, error) {
	resp, err := kmsg.NewPtrInitProducerIDRequest().RequestWith(ctx, c.kgo)
	if err != nil {
		return 0, 0, fmt.Errorf("producer id: %w", err)
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return 0, 0, fmt.Errorf("producer id: %w", err)
	}
	return resp.ProducerID, resp.ProducerEpoch, nil
}

// offset asks for a partition's offset by ListOffsets' timestamp or name for one.
func (c *client) offset(ctx context.Context, t *topic, partition int, at int64) (int64, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = t.name
	rp := kmsg.NewListOffsetsRequestTopicPartition()
	rp.Partition, rp.Timestamp, rp.CurrentLeaderEpoch = int32(partition), at, -1
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(ctx, c.kgo.Broker(int(t.leaders[partition])))
	if err != nil {
		return 0, fmt.Errorf("offsets of %s/%d: %w", t.name, partition, err)
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return 0, fmt.Errorf("offsets of %s/%d: no answer for it", t.name, partition)
	}
	p := &resp.Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
		return 0, fmt.Errorf("offsets of %s/%d: %w", t.name, partition, err)
	}
	return p.Offset, nil
}

// fetchBytes is how much one fetch of a scan asks for.
const fetchBytes = 4 << 20

// fetch reads batches from offset on.
func (c *client) fetch(ctx context.Context, t *topic, partition int, offset int64) (batches []byte, watermark int64, err error) {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = 0, 1, fetchBytes
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.TopicID = t.name, t.id
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes, rp.CurrentLeaderEpoch = int32(partition), offset, fetchBytes, -1
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(ctx, c.kgo.Broker(int(t.leaders[partition])))
	if err != nil {
		return nil, 0, fmt.Errorf("fetch %s/%d at %d: %w", t.name, partition, offset, err)
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return nil, 0, fmt.Errorf("fetch %s/%d at %d: no answer for it (error code %d)", t.name, partition, offset, resp.ErrorCode)
	}
	p := &resp.Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
		return nil, 0, fmt.Errorf("fetch %s/%d at %d: %w", t.name, partition, offset, err)
	}
	return p.RecordBatches, p.HighWatermark, nil
}

// produce sends one batch and waits for its acknowledgement.
func (c *client) produce(ctx context.Context, t *topic, partition int, batch []byte) error {
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 10_000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.TopicID = t.name, t.id
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = int32(partition), batch
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(ctx, c.kgo.Broker(int(t.leaders[partition])))
	if err != nil {
		return fmt.Errorf("produce to %s/%d: %w", t.name, partition, err)
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return fmt.Errorf("produce to %s/%d: no answer for it", t.name, partition)
	}
	p := &resp.Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(p.ErrorCode); err != nil && !errors.Is(err, kerr.DuplicateSequenceNumber) {
		if p.ErrorMessage != nil {
			return fmt.Errorf("produce to %s/%d: %s: %w", t.name, partition, *p.ErrorMessage, err)
		}
		return fmt.Errorf("produce to %s/%d: %w", t.name, partition, err)
	}
	return nil
}

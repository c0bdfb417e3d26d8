// confluent runs the scenarios of test/clients with confluent-kafka-go, which
// is librdkafka.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"clients/contract"
)

func main() {
	contract.Main(map[string]func(contract.Args) error{
		"produce": produce, "consume": consume, "group": group, "transact": transact, "admin": admin,
	})
}

func message(topic string, r contract.Record) *kafka.Message {
	m := &kafka.Message{TopicPartition: kafka.TopicPartition{Topic: &topic, Partition: r.Partition}, Key: r.Key, Value: r.Value, Timestamp: r.Time}
	for _, h := range r.Headers {
		m.Headers = append(m.Headers, kafka.Header{Key: h.Key, Value: []byte(h.Value)})
	}
	return m
}

func emit(m *kafka.Message) {
	var headers []contract.Header
	for _, h := range m.Headers {
		headers = append(headers, contract.Header{Key: h.Key, Value: string(h.Value)})
	}
	contract.EmitRecord(m.TopicPartition.Partition, int64(m.TopicPartition.Offset), m.Key, m.Value, headers, m.Timestamp)
}

func produce(a contract.Args) error {
	p, err := kafka.NewProducer(&kafka.ConfigMap{"bootstrap.servers": a.Bootstrap, "enable.idempotence": a.Bool("idempotent"),
		"compression.type": a.Text("codec"), "statistics.interval.ms": 100, "linger.ms": 5})
	if err != nil {
		return err
	}
	defer p.Close()
	go statistics(p)
	return contract.Batches(a, func(records []contract.Record) error { return send(p, a.Text("topic"), records) })
}

// statistics prints what librdkafka measured, once: the number of brokers it knows.
func statistics(p *kafka.Producer) {
	for e := range p.Events() {
		s, ok := e.(*kafka.Stats)
		if !ok {
			continue
		}
		var of struct{ Brokers map[string]any }
		if err := json.Unmarshal([]byte(s.String()), &of); err != nil {
			contract.Fail(err)
		}
		contract.Emit("statistics", map[string]any{"brokers": len(of.Brokers)})
	}
}

// send sends the records and waits for all acknowledgements.
func send(p *kafka.Producer, topic string, records []contract.Record) error {
	acks := make(chan kafka.Event, len(records))
	for _, r := range records {
		if err := p.Produce(message(topic, r), acks); err != nil {
			return err
		}
	}
	var first error
	for range records {
		if m := (<-acks).(*kafka.Message); m.TopicPartition.Error != nil && first == nil {
			first = m.TopicPartition.Error
		}
	}
	return first
}

func consumer(a contract.Args, more kafka.ConfigMap) (*kafka.Consumer, error) {
	config := kafka.ConfigMap{"bootstrap.servers": a.Bootstrap, "group.id": a.Text("group"), "auto.offset.reset": "earliest",
		"enable.auto.commit": false, "fetch.wait.max.ms": 100}
	for k, v := range more {
		config[k] = v
	}
	return kafka.NewConsumer(&config)
}

func consume(a contract.Args) error {
	c, err := consumer(a, kafka.ConfigMap{"group.id": "unused", "isolation.level": "read_" + a.Text("isolation")})
	if err != nil {
		return err
	}
	defer c.Close()
	topic := a.Text("topic")
	var all []kafka.TopicPartition
	for p := range a.Int("partitions") {
		all = append(all, kafka.TopicPartition{Topic: &topic, Partition: int32(p), Offset: kafka.OffsetBeginning})
	}
	if err := c.Assign(all); err != nil {
		return err
	}
	for ends := contract.NewEnds(len(all)); !ends.All(); {
		m, err := c.ReadMessage(-1)
		if err != nil {
			return err
		}
		if !ends.End(m.TopicPartition.Partition, m.Value) {
			emit(m)
		}
	}
	return nil
}

func group(a contract.Args) error {
	left := contract.Left()
	config := kafka.ConfigMap{"heartbeat.interval.ms": 500, "session.timeout.ms": 6000, "partition.assignment.strategy": "cooperative-sticky"}
	if a.Text("protocol") == "consumer" { // KIP-848: the broker assigns
		config = kafka.ConfigMap{"group.protocol": "consumer"}
	}
	c, err := consumer(a, config)
	if err != nil {
		return err
	}
	rebalanced := func(c *kafka.Consumer, e kafka.Event) error {
		held := map[int32]bool{}
		now, err := c.Assignment()
		if err != nil {
			return err
		}
		for _, p := range now {
			held[p.Partition] = true
		}
		switch e := e.(type) {
		case kafka.AssignedPartitions:
			for _, p := range e.Partitions {
				held[p.Partition] = true
			}
		case kafka.RevokedPartitions:
			for _, p := range e.Partitions {
				delete(held, p.Partition)
			}
		}
		var parts []int32
		for p := range held {
			parts = append(parts, p)
		}
		contract.Emit("assigned", map[string]any{"partitions": parts})
		return nil
	}
	if err := c.Subscribe(a.Text("topic"), rebalanced); err != nil {
		return err
	}
	for {
		select {
		case <-left:
			return c.Close()
		default:
		}
		m, err := c.ReadMessage(100 * time.Millisecond)
		if e, ok := err.(kafka.Error); ok && e.IsTimeout() {
			continue
		}
		if err != nil {
			return err
		}
		emit(m)
		if _, err := c.CommitMessage(m); err != nil {
			return err
		}
	}
}

func transact(a contract.Args) error {
	ctx, topic := context.Background(), a.Text("topic")
	p, err := kafka.NewProducer(&kafka.ConfigMap{"bootstrap.servers": a.Bootstrap, "transactional.id": a.Text("id"), "linger.ms": 5})
	if err != nil {
		return err
	}
	defer p.Close()
	c, err := consumer(a, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	fenced := func(err error) error {
		if e, ok := err.(kafka.Error); ok && (e.Code() == kafka.ErrFenced || e.Code() == kafka.ErrProducerFenced || e.Code() == kafka.ErrInvalidProducerEpoch) {
			return fmt.Errorf("%w: %w", contract.ErrFenced, err)
		}
		return err
	}
	begun := false
	return contract.Steps(func(step string, args []int) error {
		switch step {
		case "begin":
			if !begun {
				begun = true
				if err := p.InitTransactions(ctx); err != nil {
					return err
				}
			}
			return p.BeginTransaction()
		case "produce":
			var records []contract.Record
			for i := args[0]; i < args[0]+args[1]; i++ {
				records = append(records, contract.Of(a.Text("run"), i, a.Int("partitions")))
			}
			return fenced(send(p, topic, records))
		case "offset":
			source := a.Text("source")
			group, err := c.GetConsumerGroupMetadata()
			if err != nil {
				return err
			}
			return p.SendOffsetsToTransaction(ctx, []kafka.TopicPartition{{Topic: &source, Partition: 0, Offset: kafka.Offset(args[0])}}, group)
		case "commit":
			return fenced(p.CommitTransaction(ctx))
		case "abort":
			return p.AbortTransaction(ctx)
		}
		return fmt.Errorf("no step %q", step)
	})
}

func admin(a contract.Args) error {
	ctx, topic := context.Background(), a.Text("topic")
	p, err := kafka.NewProducer(&kafka.ConfigMap{"bootstrap.servers": a.Bootstrap})
	if err != nil {
		return err
	}
	defer p.Close()
	adm, err := kafka.NewAdminClientFromProducer(p)
	if err != nil {
		return err
	}
	defer adm.Close()
	made, err := adm.CreateTopics(ctx, []kafka.TopicSpecification{{Topic: topic, NumPartitions: 3, ReplicationFactor: 1,
		Config: map[string]string{"retention.ms": contract.Retention}}})
	if err != nil {
		return err
	}
	if made[0].Error.Code() != kafka.ErrNoError {
		return made[0].Error
	}
	var records []contract.Record
	for i := range 30 {
		records = append(records, contract.Of(a.Text("run"), i, 3))
	}
	if err := send(p, topic, records); err != nil {
		return err
	}
	described, err := adm.DescribeConfigs(ctx, []kafka.ConfigResource{{Type: kafka.ResourceTopic, Name: topic}})
	if err != nil {
		return err
	}
	contract.Emit("config", map[string]any{"retention.ms": described[0].Config["retention.ms"].Value})
	deleted, err := adm.DeleteRecords(ctx, []kafka.TopicPartition{{Topic: &topic, Partition: 0, Offset: 5}})
	if err != nil {
		return err
	}
	return deleted.DeleteRecordsResults[0].TopicPartition.Error
}

// sarama runs the scenarios of test/clients with IBM's sarama.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/IBM/sarama"

	"clients/contract"
)

func main() {
	sarama.PanicHandler = func(v any) { log.Fatalln("sarama panicked:", v) }
	contract.Main(map[string]func(contract.Args) error{
		"produce": produce, "consume": consume, "group": group, "transact": transact, "admin": admin,
	})
}

var codecs = map[string]sarama.CompressionCodec{"": sarama.CompressionNone, "none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP,
	"snappy": sarama.CompressionSnappy, "lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD}

func config(a contract.Args) *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.MaxVersion
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Return.Successes = true
	c.Producer.Compression = codecs[a.Text("codec")]
	c.Producer.Retry.Max = 100
	c.Metadata.Retry.Max = 100
	if a.Bool("idempotent") || a.Text("id") != "" {
		c.Producer.Idempotent = true
		c.Net.MaxOpenRequests = 1
	}
	c.Producer.Transaction.ID = a.Text("id")
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	if a.Text("isolation") == "committed" {
		c.Consumer.IsolationLevel = sarama.ReadCommitted
	}
	return c
}

func message(topic string, r contract.Record) *sarama.ProducerMessage {
	m := &sarama.ProducerMessage{Topic: topic, Partition: r.Partition, Timestamp: r.Time}
	if r.Key != nil {
		m.Key = sarama.ByteEncoder(r.Key)
	}
	if r.Value != nil {
		m.Value = sarama.ByteEncoder(r.Value)
	}
	for _, h := range r.Headers {
		m.Headers = append(m.Headers, sarama.RecordHeader{Key: []byte(h.Key), Value: []byte(h.Value)})
	}
	return m
}

func emit(m *sarama.ConsumerMessage) {
	var headers []contract.Header
	for _, h := range m.Headers {
		headers = append(headers, contract.Header{Key: string(h.Key), Value: string(h.Value)})
	}
	contract.EmitRecord(m.Partition, m.Offset, m.Key, m.Value, headers, m.Timestamp)
}

func produce(a contract.Args) error {
	p, err := sarama.NewSyncProducer([]string{a.Bootstrap}, config(a))
	if err != nil {
		return err
	}
	defer p.Close()
	return contract.Batches(a, func(records []contract.Record) error {
		return send(p, a.Text("topic"), records)
	})
}

func send(p sarama.SyncProducer, topic string, records []contract.Record) error {
	var batch []*sarama.ProducerMessage
	for _, r := range records {
		batch = append(batch, message(topic, r))
	}
	err := p.SendMessages(batch)
	var each sarama.ProducerErrors
	if errors.As(err, &each) {
		return fmt.Errorf("%d failed: %w", len(each), each[0].Err)
	}
	return err
}

func consume(a contract.Args) error {
	c, err := sarama.NewConsumer([]string{a.Bootstrap}, config(a))
	if err != nil {
		return err
	}
	defer c.Close()
	got := make(chan *sarama.ConsumerMessage)
	for p := range a.Int("partitions") {
		pc, err := c.ConsumePartition(a.Text("topic"), int32(p), sarama.OffsetOldest)
		if err != nil {
			return err
		}
		go func() {
			for m := range pc.Messages() {
				got <- m
			}
		}()
	}
	for ends := contract.NewEnds(a.Int("partitions")); !ends.All(); {
		if m := <-got; !ends.End(m.Partition, m.Value) {
			emit(m)
		}
	}
	return nil
}

// member consumes as a member of a group and commits every record.
type member struct{ topic string }

func (m member) Setup(s sarama.ConsumerGroupSession) error {
	contract.Emit("assigned", map[string]any{"partitions": s.Claims()[m.topic]})
	return nil
}

func (m member) Cleanup(s sarama.ConsumerGroupSession) error {
	s.Commit()
	return nil
}

func (m member) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case r, open := <-claim.Messages():
			if !open {
				return nil
			}
			emit(r)
			s.MarkMessage(r, "")
		case <-s.Context().Done():
			return nil
		}
	}
}

func group(a contract.Args) error {
	c := config(a)
	c.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	c.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyRange()}
	g, err := sarama.NewConsumerGroup([]string{a.Bootstrap}, a.Text("group"), c)
	if err != nil {
		return err
	}
	ctx, leave := context.WithCancel(context.Background())
	left := contract.Left()
	go func() {
		<-left
		leave()
	}()
	for ctx.Err() == nil {
		if err := g.Consume(ctx, []string{a.Text("topic")}, member{a.Text("topic")}); err != nil {
			return err
		}
	}
	return g.Close()
}

func transact(a contract.Args) error {
	p, err := sarama.NewSyncProducer([]string{a.Bootstrap}, config(a))
	if err != nil {
		return err
	}
	defer p.Close()
	fenced := func(err error) error {
		if errors.Is(err, sarama.ErrProducerFenced) || errors.Is(err, sarama.ErrInvalidProducerEpoch) || p.TxnStatus()&sarama.ProducerTxnFlagFatalError != 0 {
			return fmt.Errorf("%w: %w", contract.ErrFenced, err)
		}
		return err
	}
	return contract.Steps(func(step string, args []int) error {
		switch step {
		case "begin":
			return p.BeginTxn()
		case "produce":
			var records []contract.Record
			for i := args[0]; i < args[0]+args[1]; i++ {
				records = append(records, contract.Of(a.Text("run"), i, a.Int("partitions")))
			}
			return fenced(send(p, a.Text("topic"), records))
		case "offset":
			return p.AddOffsetsToTxn(map[string][]*sarama.PartitionOffsetMetadata{
				a.Text("source"): {{Partition: 0, Offset: int64(args[0])}}}, a.Text("group"))
		case "commit":
			return fenced(p.CommitTxn())
		case "abort":
			return p.AbortTxn()
		}
		return fmt.Errorf("no step %q", step)
	})
}

func admin(a contract.Args) error {
	adm, err := sarama.NewClusterAdmin([]string{a.Bootstrap}, config(a))
	if err != nil {
		return err
	}
	defer adm.Close()
	topic, retention := a.Text("topic"), contract.Retention
	err = adm.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 3, ReplicationFactor: 1,
		ConfigEntries: map[string]*string{"retention.ms": &retention}}, false)
	if err != nil {
		return err
	}
	p, err := sarama.NewSyncProducer([]string{a.Bootstrap}, config(a))
	if err != nil {
		return err
	}
	defer p.Close()
	var records []contract.Record
	for i := range 30 {
		records = append(records, contract.Of(a.Text("run"), i, 3))
	}
	if err := send(p, topic, records); err != nil {
		return err
	}
	entries, err := adm.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic, ConfigNames: []string{"retention.ms"}})
	if err != nil {
		return err
	}
	for _, e := range entries {
		contract.Emit("config", map[string]any{e.Name: e.Value})
	}
	return adm.DeleteRecords(topic, map[int32]int64{0: 5})
}

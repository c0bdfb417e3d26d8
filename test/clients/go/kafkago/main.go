// kafkago runs the scenarios of test/clients with segmentio's kafka-go.
package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"

	"clients/contract"
)

func main() {
	contract.Main(map[string]func(contract.Args) error{"produce": produce, "consume": consume, "group": group, "transact": transact, "admin": admin})
}

var codecs = map[string]kafka.Compression{"gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd}

// byIndex chooses the partition that the contract names.
func byIndex(m kafka.Message, partitions ...int) int { return m.WriterData.(int) }

func message(r contract.Record) kafka.Message {
	m := kafka.Message{Key: r.Key, Value: r.Value, Time: r.Time, WriterData: int(r.Partition)}
	for _, h := range r.Headers {
		m.Headers = append(m.Headers, kafka.Header{Key: h.Key, Value: []byte(h.Value)})
	}
	return m
}

func emit(m kafka.Message) {
	var headers []contract.Header
	for _, h := range m.Headers {
		headers = append(headers, contract.Header{Key: h.Key, Value: string(h.Value)})
	}
	contract.EmitRecord(int32(m.Partition), m.Offset, m.Key, m.Value, headers, m.Time)
}

func writer(a contract.Args, topic string) *kafka.Writer {
	return &kafka.Writer{Addr: kafka.TCP(a.Bootstrap), Topic: topic, Balancer: kafka.BalancerFunc(byIndex), RequiredAcks: kafka.RequireAll,
		Compression: codecs[a.Text("codec")], BatchTimeout: 5 * time.Millisecond, MaxAttempts: 100}
}

func produce(a contract.Args) error {
	w := writer(a, a.Text("topic"))
	defer w.Close()
	return contract.Batches(a, func(records []contract.Record) error { return send(w, records) })
}

func send(w *kafka.Writer, records []contract.Record) error {
	var batch []kafka.Message
	for _, r := range records {
		batch = append(batch, message(r))
	}
	return w.WriteMessages(context.Background(), batch...)
}

func consume(a contract.Args) error {
	isolation := kafka.ReadUncommitted
	if a.Text("isolation") == "committed" {
		isolation = kafka.ReadCommitted
	}
	got, failed := make(chan kafka.Message), make(chan error)
	for p := range a.Int("partitions") {
		r := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{a.Bootstrap}, Topic: a.Text("topic"), Partition: p,
			IsolationLevel: isolation, MaxWait: 100 * time.Millisecond})
		defer r.Close()
		go func() {
			for {
				m, err := r.ReadMessage(context.Background())
				if err != nil {
					failed <- err
					return
				}
				got <- m
			}
		}()
	}
	for ends := contract.NewEnds(a.Int("partitions")); !ends.All(); {
		select {
		case m := <-got:
			if !ends.End(int32(m.Partition), m.Value) {
				emit(m)
			}
		case err := <-failed:
			return err
		}
	}
	return nil
}

// group does not print assignments: kafka-go's Reader does not tell them.
func group(a contract.Args) error {
	ctx, leave := context.WithCancel(context.Background())
	left := contract.Left()
	go func() {
		<-left
		leave()
	}()
	r := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{a.Bootstrap}, GroupID: a.Text("group"), Topic: a.Text("topic"),
		StartOffset: kafka.FirstOffset, MaxWait: 100 * time.Millisecond, HeartbeatInterval: 500 * time.Millisecond, RebalanceTimeout: 10 * time.Second})
	for {
		m, err := r.FetchMessage(ctx)
		if errors.Is(err, context.Canceled) {
			return r.Close()
		}
		if err != nil {
			return err
		}
		emit(m)
		if err := r.CommitMessages(context.Background(), m); err != nil {
			return err
		}
	}
}

// transact holds offsets only: kafka-go's producers know no transactions.
func transact(a contract.Args) error {
	cl, ctx := &kafka.Client{Addr: kafka.TCP(a.Bootstrap)}, context.Background()
	id, group := a.Text("id"), a.Text("group")
	var session *kafka.ProducerSession
	return contract.Steps(func(step string, args []int) error {
		switch step {
		case "begin":
			if session != nil {
				return nil
			}
			return retried(func() error {
				got, err := cl.InitProducerID(ctx, &kafka.InitProducerIDRequest{TransactionalID: id, TransactionTimeoutMs: 60000, ProducerID: -1, ProducerEpoch: -1})
				if err != nil {
					return err
				}
				session = got.Producer
				return got.Error
			})
		case "offset":
			err := retried(func() error {
				added, err := cl.AddOffsetsToTxn(ctx, &kafka.AddOffsetsToTxnRequest{TransactionalID: id, ProducerID: session.ProducerID,
					ProducerEpoch: session.ProducerEpoch, GroupID: group})
				if err != nil {
					return err
				}
				return added.Error
			})
			if err != nil {
				return err
			}
			done, err := cl.TxnOffsetCommit(ctx, &kafka.TxnOffsetCommitRequest{TransactionalID: id, ProducerID: session.ProducerID,
				ProducerEpoch: session.ProducerEpoch, GroupID: group, GenerationID: -1,
				Topics: map[string][]kafka.TxnOffsetCommit{a.Text("source"): {{Offset: int64(args[0])}}}})
			if err != nil {
				return err
			}
			return done.Topics[a.Text("source")][0].Error
		case "commit", "abort":
			ended, err := cl.EndTxn(ctx, &kafka.EndTxnRequest{TransactionalID: id, ProducerID: session.ProducerID,
				ProducerEpoch: session.ProducerEpoch, Committed: step == "commit"})
			if err != nil {
				return err
			}
			if errors.Is(ended.Error, kafka.ProducerFenced) || errors.Is(ended.Error, kafka.InvalidProducerEpoch) {
				return fmt.Errorf("%w: %w", contract.ErrFenced, ended.Error)
			}
			return ended.Error
		}
		return fmt.Errorf("no step %q", step)
	})
}

// retried repeats what waits for the end of an earlier transaction, as other
// libraries do by themselves.
func retried(f func() error) error {
	for {
		err := f()
		if !errors.Is(err, kafka.ConcurrentTransactions) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// admin does not delete records: kafka-go cannot.
func admin(a contract.Args) error {
	cl, ctx, topic := &kafka.Client{Addr: kafka.TCP(a.Bootstrap)}, context.Background(), a.Text("topic")
	made, err := cl.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{Topic: topic, NumPartitions: 3, ReplicationFactor: 1,
		ConfigEntries: []kafka.ConfigEntry{{ConfigName: "retention.ms", ConfigValue: contract.Retention}}}}})
	if err != nil {
		return err
	}
	if err := made.Errors[topic]; err != nil {
		return fmt.Errorf("creating %s: %w", topic, err)
	}
	w := writer(a, topic)
	defer w.Close()
	var records []contract.Record
	for i := range 30 {
		records = append(records, contract.Of(a.Text("run"), i, 3))
	}
	if err := send(w, records); err != nil {
		return err
	}
	described, err := cl.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{
		{ResourceType: kafka.ResourceTypeTopic, ResourceName: topic, ConfigNames: []string{"retention.ms"}}}})
	if err != nil {
		return err
	}
	for _, e := range described.Resources[0].ConfigEntries {
		contract.Emit("config", map[string]any{e.ConfigName: e.ConfigValue})
	}
	return nil
}

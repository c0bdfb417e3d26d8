// franz runs the scenarios of test/clients with franz-go.
package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"clients/contract"
)

func main() {
	contract.Main(map[string]func(contract.Args) error{
		"produce": produce, "consume": consume, "group": group, "transact": transact, "admin": admin,
	})
}

var codecs = map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}

func record(topic string, r contract.Record) *kgo.Record {
	kr := &kgo.Record{Topic: topic, Partition: r.Partition, Key: r.Key, Value: r.Value, Timestamp: r.Time}
	for _, h := range r.Headers {
		kr.Headers = append(kr.Headers, kgo.RecordHeader{Key: h.Key, Value: []byte(h.Value)})
	}
	return kr
}

func emit(r *kgo.Record) {
	var headers []contract.Header
	for _, h := range r.Headers {
		headers = append(headers, contract.Header{Key: h.Key, Value: string(h.Value)})
	}
	contract.EmitRecord(r.Partition, r.Offset, r.Key, r.Value, headers, r.Timestamp)
}

func produce(a contract.Args) error {
	opts := []kgo.Opt{kgo.SeedBrokers(a.Bootstrap), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(codecs[a.Text("codec")])}
	if !a.Bool("idempotent") {
		opts = append(opts, kgo.DisableIdempotentWrite())
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return err
	}
	defer cl.Close()
	return contract.Batches(a, func(records []contract.Record) error {
		var batch []*kgo.Record
		for _, r := range records {
			batch = append(batch, record(a.Text("topic"), r))
		}
		return cl.ProduceSync(context.Background(), batch...).FirstErr()
	})
}

func consume(a contract.Args) error {
	isolation := kgo.ReadUncommitted()
	if a.Text("isolation") == "committed" {
		isolation = kgo.ReadCommitted()
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(a.Bootstrap), kgo.ConsumeTopics(a.Text("topic")),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(isolation))
	if err != nil {
		return err
	}
	defer cl.Close()
	ends := contract.NewEnds(a.Int("partitions"))
	for !ends.All() {
		fs := cl.PollFetches(context.Background())
		if err := fs.Err(); err != nil {
			return err
		}
		fs.EachRecord(func(r *kgo.Record) {
			if !ends.End(r.Partition, r.Value) {
				emit(r)
			}
		})
	}
	return nil
}

func group(a contract.Args) error {
	ctx, leave := context.WithCancel(context.Background())
	defer leave()
	left := contract.Left()
	go func() {
		<-left
		leave()
	}()
	var mu sync.Mutex
	held := map[int32]bool{}
	changed := func(add bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(ctx context.Context, cl *kgo.Client, parts map[string][]int32) {
			mu.Lock()
			defer mu.Unlock()
			var now []int32
			for _, p := range parts[a.Text("topic")] {
				if held[p] = add; !add {
					delete(held, p)
				}
			}
			for p := range held {
				now = append(now, p)
			}
			contract.Emit("assigned", map[string]any{"partitions": now})
		}
	}
	opts := []kgo.Opt{kgo.SeedBrokers(a.Bootstrap), kgo.ConsumerGroup(a.Text("group")), kgo.ConsumeTopics(a.Text("topic")),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(changed(true)), kgo.OnPartitionsRevoked(changed(false)), kgo.OnPartitionsLost(changed(false))}
	if a.Text("assignor") == "range" { // otherwise it is cooperative-sticky
		opts = append(opts, kgo.Balancers(kgo.RangeBalancer()))
	}
	if a.Text("protocol") == "consumer" { // KIP-848: the broker assigns
		opts = append(opts, kgo.ServerSideBalancer())
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return err
	}
	defer cl.CloseAllowingRebalance()
	for {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err := fs.Err(); err != nil {
			return err
		}
		fs.EachRecord(emit)
		if err := cl.CommitUncommittedOffsets(context.Background()); err != nil {
			return err
		}
		cl.AllowRebalance()
	}
}

// transact is a consumer and a producer in one session: the offsets of the
// transaction are those of what it polled.
func transact(a contract.Args) error {
	opts := []kgo.Opt{kgo.SeedBrokers(a.Bootstrap), kgo.TransactionalID(a.Text("id")), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ConsumerGroup(a.Text("group")), kgo.ConsumeTopics(a.Text("source")), kgo.RequireStableFetchOffsets(),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())}
	s, err := kgo.NewGroupTransactSession(opts...)
	if err != nil {
		return err
	}
	defer s.Close()
	ctx := context.Background()
	fenced := func(err error) error {
		if errors.Is(err, kerr.ProducerFenced) || errors.Is(err, kerr.InvalidProducerEpoch) || errors.Is(err, kgo.ErrClientClosed) {
			return fmt.Errorf("%w: %w", contract.ErrFenced, err)
		}
		return err
	}
	var committed, at int // offsets of the source
	return contract.Steps(func(step string, args []int) error {
		switch step {
		case "begin":
			if _, _, err := s.Client().ProducerID(ctx); err != nil { // fences an earlier one
				return err
			}
			return s.Begin()
		case "produce":
			var mu sync.Mutex
			var first error
			for i := args[0]; i < args[0]+args[1]; i++ {
				s.Produce(ctx, record(a.Text("topic"), contract.Of(a.Text("run"), i, a.Int("partitions"))), func(_ *kgo.Record, err error) {
					mu.Lock()
					defer mu.Unlock()
					if first == nil {
						first = err
					}
				})
			}
			if err := s.Client().Flush(ctx); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			return fenced(first)
		case "offset":
			for at = committed; at < args[0]; {
				fs := s.PollRecords(ctx, args[0]-at)
				if err := fs.Err(); err != nil {
					return err
				}
				fs.EachRecord(func(r *kgo.Record) { at = int(r.Offset) + 1 })
			}
			return nil
		case "commit", "abort":
			done, err := s.End(ctx, kgo.TransactionEndTry(step == "commit"))
			if err == nil && done != (step == "commit") {
				err = errors.New("the session was aborted")
			}
			if done {
				committed = at
			}
			return fenced(err)
		}
		return fmt.Errorf("no step %q", step)
	})
}

func admin(a contract.Args) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(a.Bootstrap), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer cl.Close()
	adm, ctx, topic := kadm.NewClient(cl), context.Background(), a.Text("topic")
	retention := contract.Retention
	if _, err := adm.CreateTopic(ctx, 3, 1, map[string]*string{"retention.ms": &retention}, topic); err != nil {
		return err
	}
	for i := range 30 {
		if err := cl.ProduceSync(ctx, record(topic, contract.Of(a.Text("run"), i, 3))).FirstErr(); err != nil {
			return err
		}
	}
	configs, err := adm.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return err
	}
	for _, c := range configs[0].Configs {
		if c.Key == "retention.ms" {
			contract.Emit("config", map[string]any{c.Key: c.MaybeValue()})
		}
	}
	resp, err := adm.DeleteRecords(ctx, kadm.Offsets{topic: {0: {Topic: topic, Partition: 0, At: 5}}})
	if err != nil {
		return err
	}
	return resp.Error()
}

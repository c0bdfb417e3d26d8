package broker_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirstream/weir/log/broker"
)

// BenchmarkProduce and BenchmarkConsume are one franz-go client over loopback, in
// this process: acks all, one replica, group-committed fsync, batches of up to
// 1 MB, no compression.
func BenchmarkProduce(b *testing.B) {
	for _, size := range []int{100, 1000} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			n := startNode(b, broker.Options{})
			n.topic("t", 4)
			cl := kgoClient(b, n, kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.DefaultProduceTopic("t"), kgo.MaxBufferedRecords(200_000), kgo.ProducerLinger(5*time.Millisecond))
			value := bytes.Repeat([]byte("x"), size)
			ctx := context.Background()
			b.SetBytes(int64(size))
			b.ReportAllocs()
			began := time.Now()
			for b.Loop() {
				cl.Produce(ctx, &kgo.Record{Value: value}, func(_ *kgo.Record, err error) {
					if err != nil {
						b.Error(err)
					}
				})
			}
			if err := cl.Flush(ctx); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "acked/s")
		})
	}
}

func BenchmarkConsume(b *testing.B) {
	for _, size := range []int{100, 1000} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			n := startNode(b, broker.Options{})
			n.topic("t", 4)
			ctx := context.Background()
			prod := kgoClient(b, n, kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.DefaultProduceTopic("t"))
			records := 200_000_000 / (size + 100)
			for range records {
				prod.Produce(ctx, &kgo.Record{Value: bytes.Repeat([]byte("x"), size)}, nil)
			}
			if err := prod.Flush(ctx); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			var cl *kgo.Client
			left, read := 0, 0
			for b.Loop() {
				if left == 0 {
					if cl == nil || read >= records {
						if cl != nil {
							cl.Close()
						}
						cl = kgoClient(b, n, kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxPartitionBytes(4<<20))
						read = 0
					}
					fs := cl.PollFetches(ctx)
					if err := fs.Err(); err != nil {
						b.Fatal(err)
					}
					left = fs.NumRecords()
					read += left
					continue
				}
				left--
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

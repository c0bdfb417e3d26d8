package broker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/broker"
	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/test/published"
)

func kgoClient(t testing.TB, n *node, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(n.addr), kgo.RetryTimeout(10 * time.Second)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// kgoRead reads n records of topic from the start.
func kgoRead(t testing.TB, n *node, topic string, want int, opts ...kgo.Opt) []*kgo.Record {
	t.Helper()
	cl := kgoClient(t, n, append([]kgo.Opt{kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())}, opts...)...)
	defer cl.Close()
	ctx := within(t, patience)
	var got []*kgo.Record
	for len(got) < want {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatalf("after %d of %d records: %v", len(got), want, err)
		}
		got = append(got, fs.Records()...)
	}
	return got
}

var kgoCodecs = map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}

func TestKgo(t *testing.T) {
	n := startNode(t, broker.Options{})
	for name, codec := range kgoCodecs {
		t.Run(name, func(t *testing.T) {
			topic := "kgo-" + name
			n.topic(topic, 3)
			cl := kgoClient(t, n, kgo.ProducerBatchCompression(codec), kgo.DefaultProduceTopic(topic))
			ctx := within(t, patience)
			const count = 2000
			var failed atomic.Int64
			for i := range count {
				r := &kgo.Record{Key: fmt.Appendf(nil, "k%d", i%17), Value: bytes.Repeat(fmt.Appendf(nil, "value %d ", i), 5),
					Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("v")}}}
				cl.Produce(ctx, r, func(_ *kgo.Record, err error) {
					if err != nil {
						failed.Add(1)
						t.Log(err)
					}
				})
			}
			if err := cl.Flush(ctx); err != nil || failed.Load() > 0 {
				t.Fatalf("flush: %v, %d failed", err, failed.Load())
			}
			seen := map[string]bool{}
			next := map[int32]int64{}
			for _, r := range kgoRead(t, n, topic, count) {
				if r.Offset != next[r.Partition] {
					t.Fatalf("partition %d: offset %d, expected %d", r.Partition, r.Offset, next[r.Partition])
				}
				next[r.Partition]++
				seen[string(r.Value)] = true
				if len(r.Headers) != 1 || r.Headers[0].Key != "h" {
					t.Fatalf("headers %v", r.Headers)
				}
			}
			if len(seen) != count {
				t.Fatalf("%d distinct values, expected %d", len(seen), count)
			}
		})
	}
}

// TestKgoVersions speaks the versions of older clients.
func TestKgoVersions(t *testing.T) {
	n := startNode(t, broker.Options{})
	for _, fetch := range []int16{4, 7, 11, 12, 13, 18} {
		produce := map[int16]int16{4: 3, 7: 7, 11: 8, 12: 9, 13: 12, 18: 13}[fetch]
		t.Run(fmt.Sprintf("produce %d fetch %d", produce, fetch), func(t *testing.T) {
			topic := fmt.Sprintf("versions-%d", fetch)
			n.topic(topic, 1)
			cl := kgoClient(t, n, kgo.DisableIdempotentWrite(), kgo.ProducerBatchCompression(kgo.GzipCompression()))
			ctx := within(t, patience)
			if err := cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("x")}).FirstErr(); err != nil {
				t.Fatal(err)
			}
			req := kmsg.NewPtrFetchRequest()
			req.Version, req.MaxBytes, req.MinBytes, req.MaxWaitMillis = fetch, 1<<20, 1, 1000
			rt := kmsg.NewFetchRequestTopic()
			rt.Topic = topic
			topicOf, _ := n.log.Topic(topic)
			rt.TopicID = topicOf.ID()
			rp := kmsg.NewFetchRequestTopicPartition()
			rp.PartitionMaxBytes = 1 << 20
			rp.CurrentLeaderEpoch = -1
			rt.Partitions = append(rt.Partitions, rp)
			req.Topics = append(req.Topics, rt)
			raw := rawRequest(t, n, req)
			resp := req.ResponseKind().(*kmsg.FetchResponse)
			if err := resp.ReadFrom(raw); err != nil {
				t.Fatal(err)
			}
			p := resp.Topics[0].Partitions[0]
			if p.ErrorCode != 0 || p.HighWatermark != 1 || len(p.RecordBatches) < 61 {
				t.Fatalf("%+v", p)
			}
			if again := resp.AppendTo(nil); !bytes.Equal(again, raw) {
				t.Fatalf("kmsg would have encoded\n%x, not\n%x", again, raw)
			}
		})
	}
}

func TestKadm(t *testing.T) {
	n := startNode(t, broker.Options{ClusterID: "c-1"})
	adm := kadm.NewClient(kgoClient(t, n))
	ctx := within(t, patience)

	made, err := adm.CreateTopics(ctx, 4, 1, map[string]*string{"cleanup.policy": kadm.StringPtr("compact")}, "a", "b")
	if err != nil || made.Error() != nil {
		t.Fatal(err, made.Error())
	}
	if made["a"].ID == (kadm.TopicID{}) || made["a"].NumPartitions != 4 {
		t.Fatalf("%+v", made["a"])
	}
	if again, _ := adm.CreateTopic(ctx, 1, 1, nil, "a"); !errors.Is(again.Err, kerr.TopicAlreadyExists) {
		t.Fatalf("created twice: %v", again.Err)
	}
	if own, _ := adm.CreateTopic(ctx, 1, 1, nil, "weir.mine"); !errors.Is(own.Err, kerr.TopicAuthorizationFailed) {
		t.Fatalf("created weir.mine: %v", own.Err)
	}
	if rf, _ := adm.CreateTopic(ctx, 1, 3, nil, "three"); !errors.Is(rf.Err, kerr.InvalidReplicationFactor) {
		t.Fatalf("created with 3 replicas: %v", rf.Err)
	}
	if bad, _ := adm.CreateTopic(ctx, 1, 1, nil, "a/b"); !errors.Is(bad.Err, kerr.InvalidTopicException) {
		t.Fatalf("created a/b: %v", bad.Err)
	}
	if bad, _ := adm.CreateTopic(ctx, 1, 1, map[string]*string{"retention.ms": kadm.StringPtr("soon")}, "c"); !errors.Is(bad.Err, kerr.InvalidConfig) {
		t.Fatalf("created with retention.ms=soon: %v", bad.Err)
	}
	if would, err := adm.ValidateCreateTopics(ctx, 1, 1, nil, "d"); err != nil || would.Error() != nil {
		t.Fatal(err, would.Error())
	}
	if _, ok := n.log.Topic("d"); ok {
		t.Fatal("validating made the topic")
	}
	meta, err := adm.Metadata(ctx)
	if err != nil || meta.Cluster != "c-1" || len(meta.Brokers) != 1 || meta.Controller != 1 || len(meta.Topics["a"].Partitions) != 4 {
		t.Fatalf("%v %+v", err, meta)
	}
	configs, err := adm.DescribeTopicConfigs(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range configs[0].Configs {
		if c.Key == "cleanup.policy" && *c.Value != "compact" {
			t.Fatalf("cleanup.policy %s", *c.Value)
		}
	}
	if b, err := adm.DescribeBrokerConfigs(ctx, 1); err != nil || len(b[0].Configs) == 0 {
		t.Fatal(err, b)
	}
	dirs, err := adm.DescribeAllLogDirs(ctx, nil)
	if err != nil || len(dirs) != 1 {
		t.Fatal(err, dirs)
	}
	gone, err := adm.DeleteTopics(ctx, "a", "nosuch")
	if err != nil || gone["a"].Err != nil || !errors.Is(gone["nosuch"].Err, kerr.UnknownTopicOrPartition) {
		t.Fatalf("%v %+v", err, gone)
	}
	if left := n.log.Topics(); len(left) != 1 || left[0].Name() != "b" {
		t.Fatalf("%d topics left", len(left))
	}
}

func TestListOffsets(t *testing.T) {
	n := startNode(t, broker.Options{})
	n.topic("t", 1)
	cl := kgoClient(t, n)
	ctx := within(t, patience)
	base := time.UnixMilli(1_700_000_000_000)
	// Two batches; the second holds the greatest timestamp in its middle.
	for _, times := range [][]int{{0, 10, 20}, {30, 90, 40}} {
		var recs []*kgo.Record
		for _, s := range times {
			recs = append(recs, &kgo.Record{Topic: "t", Value: []byte(strconv.Itoa(s)), Timestamp: base.Add(time.Duration(s) * time.Second)})
		}
		if err := cl.ProduceSync(ctx, recs...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	adm := kadm.NewClient(cl)
	check := func(name string, got kadm.ListedOffsets, err error, want int64) {
		t.Helper()
		if o, _ := got.Lookup("t", 0); err != nil || o.Err != nil || o.Offset != want {
			t.Errorf("%s: %+v (%v), expected %d", name, o, err, want)
		}
	}
	start, err := adm.ListStartOffsets(ctx, "t")
	check("start", start, err, 0)
	end, err := adm.ListEndOffsets(ctx, "t")
	check("end", end, err, 6)
	committed, err := adm.ListCommittedOffsets(ctx, "t")
	check("committed", committed, err, 6)
	most, err := adm.ListMaxTimestampOffsets(ctx, "t")
	check("max timestamp", most, err, 4)
	for after, want := range map[int]int64{0: 0, 5: 1, 10: 1, 25: 3, 31: 4, 90: 4} {
		got, err := adm.ListOffsetsAfterMilli(ctx, base.Add(time.Duration(after)*time.Second).UnixMilli(), "t")
		check(fmt.Sprintf("after %d s", after), got, err, want)
	}
}

// TestIdempotentAcrossRestart sends the same batch before and after a restart.
func TestIdempotentAcrossRestart(t *testing.T) {
	n := startNode(t, broker.Options{})
	n.topic("t", 1)
	ctx := within(t, patience)
	id, err := n.log.NewProducerID()
	if err != nil {
		t.Fatal(err)
	}
	send := func(seq int32, values ...string) (int64, error) {
		cl := kgoClient(t, n)
		defer cl.Close()
		topic, _ := n.log.Topic("t")
		return produceBatch(ctx, cl, topic, id, seq, values...)
	}
	for i, c := range []struct {
		seq  int32
		want int64
		err  error
	}{
		{0, 0, nil}, {2, 2, nil}, {2, 2, nil}, {9, -1, kerr.OutOfOrderSequenceNumber},
	} {
		if got, err := send(c.seq, "a", "b"); got != c.want || !errors.Is(err, c.err) {
			t.Fatalf("send %d: offset %d, %v", i, got, err)
		}
	}
	n.restart()
	for _, seq := range []int32{0, 2} {
		if got, err := send(seq, "a", "b"); err != nil || got != int64(seq) {
			t.Fatalf("retry of sequence %d after restart: offset %d, %v", seq, got, err)
		}
	}
	if got, err := send(4, "c"); err != nil || got != 4 {
		t.Fatalf("next after restart: offset %d, %v", got, err)
	}
	if again, err := n.log.NewProducerID(); err != nil || again == id {
		t.Fatalf("producer id %d given twice (%v)", again, err)
	}
}

func TestRestartBetween(t *testing.T) {
	n := startNode(t, broker.Options{})
	n.topic("t", 2)
	cl := kgoClient(t, n)
	ctx := within(t, patience)
	for round := range 3 {
		for i := range 50 {
			r := &kgo.Record{Topic: "t", Key: []byte{byte(i)}, Value: fmt.Appendf(nil, "%d-%d", round, i)}
			if err := cl.ProduceSync(ctx, r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		n.restart()
	}
	if got := kgoRead(t, n, "t", 150); len(got) != 150 {
		t.Fatalf("%d records", len(got))
	}
}

// TestFetchWakes: a waiting fetch is woken by an append, not by its time running
// out, whether it waits on one partition or on several.
func TestFetchWakes(t *testing.T) {
	n := startNode(t, broker.Options{})
	for _, partitions := range []int32{1, 5} {
		topic := fmt.Sprintf("t%d", partitions)
		n.topic(topic, partitions)
		cons := kgoClient(t, n, kgo.ConsumeTopics(topic), kgo.FetchMaxWait(30*time.Second), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		prod := kgoClient(t, n, kgo.RecordPartitioner(kgo.ManualPartitioner()))
		ctx := within(t, patience)
		for i := range int32(10) {
			if err := prod.ProduceSync(ctx, &kgo.Record{Topic: topic, Partition: i % partitions, Value: []byte("x")}).FirstErr(); err != nil {
				t.Fatal(err)
			}
			fs := cons.PollFetches(ctx)
			if err := fs.Err(); err != nil || fs.NumRecords() != 1 {
				t.Fatalf("partitions %d, record %d: %v, %d records", partitions, i, err, fs.NumRecords())
			}
		}
	}
}

func TestOwnTopics(t *testing.T) {
	n := startNode(t, broker.Options{})
	n.topic("weir.decisions", 1)
	n.topic("weir.deadletters", 1)
	cl := kgoClient(t, n)
	ctx := within(t, patience)
	if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "weir.decisions", Value: []byte("x")}).FirstErr(); !errors.Is(err, kerr.TopicAuthorizationFailed) {
		t.Fatalf("produce to weir.decisions: %v", err)
	}
	if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "weir.deadletters", Value: []byte("x")}).FirstErr(); err != nil {
		t.Fatalf("produce to weir.deadletters: %v", err)
	}
	kgoRead(t, n, "weir.deadletters", 1)
	if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "made-on-demand", Value: []byte("x")}).FirstErr(); err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Fatal(err)
	}
	auto := kgoClient(t, n, kgo.AllowAutoTopicCreation())
	if err := auto.ProduceSync(ctx, &kgo.Record{Topic: "made-on-demand", Value: []byte("x")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// kcat runs kcat against n with stdin and gives its output.
func kcat(t *testing.T, n *node, stdin string, args ...string) string {
	t.Helper()
	path := published.Program(t, "kcat")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, append([]string{"-b", n.addr}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("kcat %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return out.String()
}

func TestKcat(t *testing.T) {
	n := startNode(t, broker.Options{})
	n.topic("listed", 3)
	if out := kcat(t, n, "", "-L"); !strings.Contains(out, `topic "listed" with 3 partitions`) || !strings.Contains(out, "broker 1 at "+n.addr) {
		t.Fatalf("kcat -L:\n%s", out)
	}
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		t.Run(codec, func(t *testing.T) {
			topic := "kcat-" + codec
			var in strings.Builder
			for i := range 1000 {
				fmt.Fprintf(&in, "key%d:value %d of many that compress well\n", i%7, i)
			}
			kcat(t, n, in.String(), "-P", "-t", topic, "-K:", "-z", codec)
			out := kcat(t, n, "", "-C", "-t", topic, "-K:", "-o", "beginning", "-e", "-q")
			if out != in.String() {
				t.Fatalf("consumed %d bytes, produced %d", len(out), in.Len())
			}
			if got := kcat(t, n, "", "-Q", "-t", topic+":0:-1"); !strings.Contains(got, "offset 1000") {
				t.Fatalf("kcat -Q: %s", got)
			}
			// What librdkafka compressed is stored as it came.
			p, err := n.log.Partition(topic, 0)
			if err != nil {
				t.Fatal(err)
			}
			data, err := p.Read(p.NewCursor(0), 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			for len(data) > 0 {
				h, err := record.Check(data)
				if err != nil {
					t.Fatal(err)
				}
				// librdkafka takes FindCoordinator for a sign that lz4 is known, and
				// sends it plain as long as there are no groups.
				if h.Count > 100 && h.Codec().String() != codec && codec != "lz4" {
					t.Errorf("batch of %d records stored as %s", h.Count, h.Codec())
				}
				data = data[h.Size():]
			}
		})
	}
	kcat(t, n, "x\n", "-P", "-t", "listed", "-p", "0", "-X", "enable.idempotence=true")
	kcat(t, n, "x\n", "-P", "-t", "listed", "-p", "0", "-X", "acks=0")
}

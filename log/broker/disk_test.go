package broker_test

import (
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/broker"
	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/log/vfs"
)

// produceOne sends one batch and gives the answer's partition.
func produceOne(t *testing.T, n *node, batch []byte) kmsg.ProduceResponseTopicPartition {
	t.Helper()
	resp := &kmsg.ProduceResponse{Version: 12}
	if err := resp.ReadFrom(rawRequest(t, n, produceRequest("t", 12, -1, batch))); err != nil {
		t.Fatal(err)
	}
	return resp.Topics[0].Partitions[0]
}

// TestDiskFull: a full disk is an error that says so, and passes with it.
func TestDiskFull(t *testing.T) {
	fs := vfs.NewFaulty(vfs.NewMem(1))
	n := startNodeOn(t, fs, broker.Options{})
	n.topic("t", 1)
	if p := produceOne(t, n, batchOf(t, record.BatchOptions{}, "a")); p.ErrorCode != 0 {
		t.Fatalf("%+v", p)
	}
	fs.SetSpace(100)
	p := produceOne(t, n, batchOf(t, record.BatchOptions{}, strings.Repeat("b", 1000)))
	if p.ErrorCode != kerr.KafkaStorageError.Code || p.BaseOffset != -1 || !strings.Contains(deref(p.ErrorMessage), "disk full") {
		t.Fatalf("%+v %s", p, deref(p.ErrorMessage))
	}
	fs.SetSpace(1 << 30)
	if p := produceOne(t, n, batchOf(t, record.BatchOptions{}, "c")); p.ErrorCode != 0 || p.BaseOffset != 1 {
		t.Fatalf("%+v", p)
	}
	if got := kgoRead(t, n, "t", 2); string(got[1].Value) != "c" {
		t.Fatalf("%s", got[1].Value)
	}
}

// TestSyncFails: a batch that was appended and not synced is not acknowledged.
func TestSyncFails(t *testing.T) {
	fs := vfs.NewFaulty(vfs.NewMem(1))
	n := startNodeOn(t, fs, broker.Options{Logger: slog.New(slog.DiscardHandler)})
	n.topic("t", 1)
	fs.FailSync(0, io.ErrUnexpectedEOF)
	if p := produceOne(t, n, batchOf(t, record.BatchOptions{}, "a")); p.ErrorCode != kerr.KafkaStorageError.Code || p.BaseOffset != -1 {
		t.Fatalf("%+v", p)
	}
	if p, _ := n.log.Partition("t", 0); p.HighWatermark() != 0 {
		t.Fatalf("high watermark %d", p.HighWatermark())
	}
}

// TestCorrupt: a flipped byte is an error to the client, and the record is never
// sent.
func TestCorrupt(t *testing.T) {
	fs := vfs.NewMem(1)
	n := startNodeOn(t, fs, broker.Options{Logger: slog.New(slog.DiscardHandler)})
	if _, err := n.log.CreateTopic(commitlog.TopicSpec{Name: "t", Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	produceOne(t, n, batchOf(t, record.BatchOptions{}, "good"))
	produceOne(t, n, batchOf(t, record.BatchOptions{}, "to be hurt"))
	p, _ := n.log.Partition("t", 0)
	if err := vfs.FlipByte(fs, filepath.Join(n.dir, "topics", "t-0", "00000000000000000000.log"), p.Size()-3); err != nil {
		t.Fatal(err)
	}
	for offset, want := range []int16{0, kerr.CorruptMessage.Code} {
		req := fetchRequest(n, "t", int64(offset))
		resp := req.ResponseKind().(*kmsg.FetchResponse)
		if err := resp.ReadFrom(rawRequest(t, n, req)); err != nil {
			t.Fatal(err)
		}
		got := resp.Topics[0].Partitions[0]
		if got.ErrorCode != want || strings.Contains(string(got.RecordBatches), "hurt") {
			t.Fatalf("offset %d: %+v", offset, got)
		}
	}
}

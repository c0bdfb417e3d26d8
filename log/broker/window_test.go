package broker_test

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/broker"
	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/test/seeds"
)

// TestProduceInPieces: whatever the sizes of its batches and the pieces in which a
// request arrives, each batch is appended as it was sent, and the connection goes on.
func TestProduceInPieces(t *testing.T) {
	rng := seeds.Rand(t)
	n := startNode(t, broker.Options{})
	const partitions = 7
	n.topic("t", partitions)
	nc := dial(t, n)
	nc.SetDeadline(time.Now().Add(2 * time.Minute)) // for all rounds, on a slow machine
	topic, _ := n.log.Topic("t")
	var cursors []*commitlog.Cursor
	for _, p := range topic.Partitions() {
		cursors = append(cursors, p.NewCursor(0))
	}
	sizes := []int{1, 100, 60 << 10, 64 << 10, 65 << 10, 300 << 10, 1 << 20, 3 << 20}
	for round := range 40 {
		var batches [][]byte
		for range 1 + rng.IntN(partitions) {
			value := make([]byte, sizes[rng.IntN(len(sizes))]+rng.IntN(50))
			for i := range value[:min(len(value), 64)] {
				value[i] = byte(rng.Uint32())
			}
			batches = append(batches, batchOf(t, record.BatchOptions{}, string(value)))
		}
		req := produceRequest("t", int16([]int{3, 8, 9, 12, 13}[rng.IntN(5)]), -1, batches...)
		req.Topics[0].TopicID = topic.ID()
		sendInPieces(t, rng, nc, encodeRequest(req, int32(round)))
		body := readResponse(t, nc)[4:]
		if req.IsFlexible() {
			body = body[1:]
		}
		resp := req.ResponseKind().(*kmsg.ProduceResponse)
		if err := resp.ReadFrom(body); err != nil {
			t.Fatalf("v%d: %v", req.Version, err)
		}
		for i, rp := range resp.Topics[0].Partitions {
			p := topic.Partitions()[i]
			got, err := p.Read(cursors[i], 8<<20)
			if err != nil || rp.ErrorCode != 0 {
				t.Fatalf("round %d partition %d: %v, error code %d", round, i, err, rp.ErrorCode)
			}
			want := batches[i]
			record.SetBaseOffset(want, rp.BaseOffset)
			record.SetLeaderEpoch(want, p.LeaderEpoch())
			if !bytes.Equal(got, want) {
				t.Fatalf("round %d partition %d: a batch of %d bytes is stored as another, of %d", round, i, len(want), len(got))
			}
		}
	}
}

// sendInPieces writes b in a few writes.
func sendInPieces(t *testing.T, rng *rand.Rand, nc interface{ Write([]byte) (int, error) }, b []byte) {
	t.Helper()
	for len(b) > 0 {
		k := len(b)
		switch rng.IntN(3) {
		case 0:
			k = 1 + rng.IntN(min(k, 20))
		case 1:
			k = 1 + rng.IntN(k)
		}
		if _, err := nc.Write(b[:k]); err != nil {
			t.Fatal(err)
		}
		b = b[k:]
	}
}

// TestProduceNeedsOneBatch: of a request with many batches, what has arrived is
// appended before the rest has, and the memory of one batch is held.
func TestProduceNeedsOneBatch(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	n := startNode(t, broker.Options{Registerer: reg})
	n.topic("t", 12)
	topic, _ := n.log.Topic("t")
	var batches [][]byte
	for range 12 {
		batches = append(batches, batchOf(t, record.BatchOptions{}, string(make([]byte, 1<<20))))
	}
	frame := encodeRequest(produceRequest("t", 12, -1, batches...), 1)
	nc := dial(t, n)
	if _, err := nc.Write(frame[:len(frame)-1]); err != nil {
		t.Fatal(err)
	}
	for _, p := range topic.Partitions()[:11] {
		if err := p.Wait(within(t, patience), 0); err != nil {
			t.Fatalf("%v: %v", p, err)
		}
	}
	held := counted(t, reg, "weir_broker_request_bytes", "")
	if last := topic.Partitions()[11].End(); last != 0 || held < 1 || held > 3<<20 {
		t.Errorf("%v bytes held; the last batch, which is not there yet, has offset %d", held, last-1)
	}
	if _, err := nc.Write(frame[len(frame)-1:]); err != nil {
		t.Fatal(err)
	}
	readResponse(t, nc)
	for _, p := range topic.Partitions() {
		if p.HighWatermark() != 1 {
			t.Errorf("%v: high watermark %d", p, p.HighWatermark())
		}
	}
	becomes(t, reg, "weir_broker_request_bytes", "", 0)
}

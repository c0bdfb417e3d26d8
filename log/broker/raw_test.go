package broker_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/record"
)

// dial opens a connection to n that fails rather than hang.
func dial(t testing.TB, n *node) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", n.addr)
	if err != nil {
		t.Fatal(err)
	}
	nc.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { nc.Close() })
	return nc
}

// encodeRequest is req as a frame.
func encodeRequest(req kmsg.Request, correlation int32) []byte {
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("test")).AppendRequest(nil, req, correlation)
}

// readResponse reads one response's frame.
func readResponse(t testing.TB, nc net.Conn) []byte {
	t.Helper()
	var size [4]byte
	if _, err := io.ReadFull(nc, size[:]); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(nc, body); err != nil {
		t.Fatal(err)
	}
	return body
}

// rawRequest sends req on a connection of its own and gives the response's body.
func rawRequest(t testing.TB, n *node, req kmsg.Request) []byte {
	t.Helper()
	nc := dial(t, n)
	defer nc.Close()
	if _, err := nc.Write(encodeRequest(req, 7)); err != nil {
		t.Fatal(err)
	}
	body := readResponse(t, nc)
	if got := binary.BigEndian.Uint32(body); got != 7 {
		t.Fatalf("correlation %d", got)
	}
	body = body[4:]
	if req.IsFlexible() && req.Key() != 18 {
		if body[0] != 0 {
			t.Fatalf("response header tags %d", body[0])
		}
		body = body[1:]
	}
	return body
}

// batchOf is one record batch.
func batchOf(t testing.TB, o record.BatchOptions, values ...string) []byte {
	t.Helper()
	var b record.Builder
	b.Reset(o)
	for _, v := range values {
		b.Append(1_700_000_000_000, nil, []byte(v), nil)
	}
	batch, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

func produceRequest(topic string, version, acks int16, batches ...[]byte) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = version, acks, int32(patience.Milliseconds())
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic = topic
	for i, b := range batches {
		rp := kmsg.NewProduceRequestTopicPartition()
		rp.Partition, rp.Records = int32(i), b
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	return req
}

// produceBatch sends one batch of an idempotent producer to partition 0.
func produceBatch(ctx context.Context, cl *kgo.Client, topic *commitlog.Topic, id int64, seq int32, values ...string) (int64, error) {
	var b record.Builder
	b.Reset(record.BatchOptions{ProducerID: id, BaseSequence: seq})
	for _, v := range values {
		b.Append(1_700_000_000_000, nil, []byte(v), nil)
	}
	batch, err := b.Build()
	if err != nil {
		return -1, err
	}
	req := produceRequest(topic.Name(), 13, -1, batch)
	req.Topics[0].TopicID = topic.ID()
	resp, err := cl.Broker(1).Request(ctx, req)
	if err != nil {
		return -1, err
	}
	p := resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	return p.BaseOffset, kerr.ErrorForCode(p.ErrorCode)
}

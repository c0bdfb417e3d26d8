package broker_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirstream/weir/log/broker"
	"github.com/weirstream/weir/log/record"
)

// TestTransform: what Options.Transform returns is what is in the log, and what it
// refuses is not.
func TestTransform(t *testing.T) {
	n := startNode(t, broker.Options{Transform: func(topic string, batch []byte) ([]byte, error) {
		if topic == "plain" {
			return batch, nil
		}
		var r record.Reader
		r.Reset(batch)
		recs, err := r.ReadBatch(nil)
		if err != nil {
			return nil, err
		}
		h := r.Header()
		var b record.Builder
		b.Reset(record.BatchOptions{Codec: h.Codec(), ProducerID: h.ProducerID, ProducerEpoch: h.ProducerEpoch, BaseSequence: h.BaseSequence})
		for _, rec := range recs {
			if string(rec.Value) == "refuse" {
				return nil, fmt.Errorf("a record: %w", record.ErrRecord)
			}
			b.Append(rec.Timestamp, rec.Key, bytes.ToUpper(rec.Value), rec.Headers)
		}
		return b.Build()
	}})
	n.topic("shout", 1)
	n.topic("plain", 1)
	cl := kgoClient(t, n, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	ctx := within(t, patience)
	for range 20 {
		for _, topic := range []string{"shout", "plain"} {
			if err := cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("value")}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "shout", Value: []byte("refuse")}).FirstErr(); !errors.Is(err, kerr.InvalidRecord) {
		t.Errorf("refused with %v", err)
	}
	for topic, want := range map[string]string{"shout": "VALUE", "plain": "value"} {
		for i, r := range kgoRead(t, n, topic, 20) {
			if string(r.Value) != want || r.Offset != int64(i) {
				t.Errorf("%s: offset %d is %q", topic, r.Offset, r.Value)
			}
		}
		p, err := n.log.Partition(topic, 0)
		if err != nil || p.HighWatermark() != 20 {
			t.Errorf("%s: ends at %d, %v", topic, p.HighWatermark(), err)
		}
	}
}

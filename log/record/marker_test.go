package record

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestMarker writes markers that Kafka's definitions of key and value read.
func TestMarker(t *testing.T) {
	for _, m := range []Marker{{ProducerID: 7, ProducerEpoch: 3, CoordinatorEpoch: 12, Commit: true, Timestamp: 99}, {ProducerID: 0, CoordinatorEpoch: -1}} {
		b := AppendMarker(nil, m)
		h, err := Check(b)
		if err != nil || h.Size() != len(b) || !h.Control() || !h.Transactional() || h.ProducerID != m.ProducerID || h.BaseSequence != -1 {
			t.Fatalf("%+v: %v", h, err)
		}
		if got, err := ParseMarker(b); err != nil || got != m {
			t.Fatalf("%+v, want %+v: %v", got, m, err)
		}
		var kb kmsg.RecordBatch
		if err := kb.ReadFrom(b); err != nil {
			t.Fatal(err)
		}
		var kr kmsg.Record
		if err := kr.ReadFrom(kb.Records); err != nil {
			t.Fatal(err)
		}
		var key kmsg.ControlRecordKey
		var value kmsg.EndTxnMarker
		if err := errors.Join(key.ReadFrom(kr.Key), value.ReadFrom(kr.Value)); err != nil {
			t.Fatal(err)
		}
		if commit := key.Type == kmsg.ControlRecordKeyTypeCommit; commit != m.Commit || key.Version != 0 || value.Version != 0 || value.CoordinatorEpoch != m.CoordinatorEpoch {
			t.Fatalf("%+v %+v", key, value)
		}
	}
}

func FuzzParseMarker(f *testing.F) {
	f.Add(AppendMarker(nil, Marker{ProducerID: 1, Commit: true}))
	f.Add(AppendMarker(nil, Marker{ProducerID: 1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := ParseMarker(b); err == nil && m.ProducerID == 1 && len(b) < HeaderSize {
			t.Fatal("a marker without a header")
		}
	})
}

package cep

import (
	"bytes"
	"errors"
	"io"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/weirstream/weir/ingest/event"
)

func TestSnapshotRoundTrip(t *testing.T) {
	var buf bytes.Buffer
	w := NewSnapshotWriter(&buf)
	w.Uvarint(math.MaxUint64)
	w.Varint(math.MinInt64)
	w.Uint64(7)
	w.Bytes([]byte("state"))
	w.Bytes(nil)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	whole := buf.Bytes()
	r := NewSnapshotReader(bytes.NewReader(whole))
	if a, b, c := r.Uvarint(), r.Varint(), r.Uint64(); a != math.MaxUint64 || b != math.MinInt64 || c != 7 {
		t.Errorf("read %d %d %d", a, b, c)
	}
	if a, b := r.Bytes(nil, 5), r.Bytes(nil, 5); string(a) != "state" || len(b) != 0 || r.Err() != nil {
		t.Errorf("read %q %q %v", a, b, r.Err())
	}
	for n := range whole {
		r := NewSnapshotReader(bytes.NewReader(whole[:n]))
		r.Uvarint()
		r.Varint()
		r.Uint64()
		r.Bytes(nil, 5)
		r.Bytes(nil, 5)
		if !errors.Is(r.Err(), ErrSnapshot) {
			t.Errorf("cut to %d bytes: %v", n, r.Err())
		}
	}
	r = NewSnapshotReader(bytes.NewReader([]byte{200, 1}))
	if b := r.Bytes(nil, 100); len(b) != 0 || !errors.Is(r.Err(), ErrSnapshot) {
		t.Errorf("over the limit: %q %v", b, r.Err())
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func TestSnapshotWriterKeepsItsError(t *testing.T) {
	w := NewSnapshotWriter(full{})
	w.Bytes(make([]byte, 1<<20))
	w.Uvarint(1)
	if err := w.Flush(); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("flush: %v", err)
	}
}

func TestOutbox(t *testing.T) {
	var o Outbox
	for range 2 { // the second time with what the first left behind
		o.Reset([]event.Type{{Kind: event.Int64}})
		clock := NewClock(5*time.Nanosecond, nil, 0)
		clock.Arrive(&event.Batch{Time: []event.Time{10, 20, 14, 15, 30, 24}}, &o)
		if got := clock.Watermark(); got != 25 {
			t.Errorf("watermark %d in the end", got)
		}
		if want := []bool{false, false, true, false, false, true}; !slices.Equal(o.Late, want) {
			t.Errorf("late %v, want %v", o.Late, want)
		}
		if want := []event.Time{event.MinTime, 5, 15, 15, 15, 25}; !slices.Equal(o.Watermark, want) {
			t.Errorf("watermarks %v, want %v", o.Watermark, want)
		}
		if !slices.Equal(o.Low, o.Watermark) {
			t.Errorf("lowest watermarks %v, want %v", o.Low, o.Watermark)
		}
		o.Fault(0, 3, io.EOF)
		if o.FaultAt(0, 3) != io.EOF || o.FaultAt(0, 2) != nil || len(o.Faults) != 1 {
			t.Errorf("faults %v", o.Faults)
		}
	}
}

package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/log/vfs"
)

var _ Sink = (*Local)(nil)

func openLog(t testing.TB, fs vfs.FS) *commitlog.Log {
	t.Helper()
	l, err := commitlog.Open(context.Background(), "data", commitlog.Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func newTopic(t testing.TB, l *commitlog.Log, name string, partitions int32) {
	t.Helper()
	if _, err := l.CreateTopic(commitlog.TopicSpec{Name: name, Partitions: partitions}); err != nil {
		t.Fatal(err)
	}
}

// stored reads a partition's records up to its high watermark, and the sizes of
// its batches.
func stored(t testing.TB, l *commitlog.Log, topic string, partition int32) (recs []Record, batches []int32) {
	t.Helper()
	p, err := l.Partition(topic, partition)
	if err != nil {
		t.Fatal(err)
	}
	c := p.NewCursor(0)
	for {
		b, err := p.Read(c, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) == 0 {
			return recs, batches
		}
		for len(b) > 0 {
			h, err := record.Check(b)
			if err != nil {
				t.Fatal(err)
			}
			var r record.Reader
			r.Reset(bytes.Clone(b[:h.Size()]))
			if recs, err = r.ReadBatch(recs); err != nil {
				t.Fatal(err)
			}
			batches = append(batches, h.Count)
			b = b[h.Size():]
		}
	}
}

func TestAppend(t *testing.T) {
	ctx := t.Context()
	l := openLog(t, vfs.NewMem(1))
	newTopic(t, l, "out", 2)
	s := NewLocal(l)
	recs := []Record{
		{Offset: 77, Timestamp: 5, Key: []byte("k"), Value: []byte("v"), Headers: []Header{{Key: "h", Value: []byte("x")}}},
		{Timestamp: 4, Value: []byte{}},
		{Timestamp: 6},
	}
	for i, want := range []int64{0, 3} {
		base, err := s.Append(ctx, "out", 1, recs)
		if err != nil || base != want {
			t.Fatalf("append %d: base %d, %v, want %d", i, base, err, want)
		}
	}
	if base, err := s.Append(ctx, "out", 1, nil); err != nil || base != 6 {
		t.Errorf("no record: base %d, %v", base, err)
	}
	if err := s.Durable(ctx, "out", 1, 5); err != nil {
		t.Fatal(err)
	}
	got, batches := stored(t, l, "out", 1)
	if len(got) != 6 || fmt.Sprint(batches) != "[3 3]" {
		t.Fatalf("%d records in batches of %v", len(got), batches)
	}
	for i, r := range got {
		w := recs[i%3]
		if r.Offset != int64(i) || r.Timestamp != w.Timestamp || !bytes.Equal(r.Key, w.Key) || !bytes.Equal(r.Value, w.Value) || (r.Value == nil) != (w.Value == nil) || len(r.Headers) != len(w.Headers) {
			t.Errorf("record %d: %+v, want %+v", i, r, w)
		}
	}
	if end, err := s.End("out", 1); err != nil || end != 6 {
		t.Errorf("End is %d, %v", end, err)
	}
	if n, err := s.Partitions("out"); err != nil || n != 2 {
		t.Errorf("Partitions is %d, %v", n, err)
	}
}

func TestErrors(t *testing.T) {
	ctx := t.Context()
	l := openLog(t, vfs.NewMem(1))
	newTopic(t, l, "out", 1)
	s := NewLocal(l)
	if _, err := s.Append(ctx, "none", 0, []Record{{}}); !errors.Is(err, commitlog.ErrUnknownTopic) || !strings.Contains(err.Error(), "none") {
		t.Errorf("unknown topic: %v", err)
	}
	if _, err := s.Append(ctx, "out", 1, []Record{{}}); !errors.Is(err, commitlog.ErrUnknownPartition) {
		t.Errorf("unknown partition: %v", err)
	}
	if err := s.Durable(ctx, "none", 0, 0); !errors.Is(err, commitlog.ErrUnknownTopic) {
		t.Errorf("durable: %v", err)
	}
	if _, err := s.Partitions("none"); !errors.Is(err, commitlog.ErrUnknownTopic) {
		t.Errorf("partitions: %v", err)
	}
	if _, err := s.End("out", 7); !errors.Is(err, commitlog.ErrUnknownPartition) {
		t.Errorf("end: %v", err)
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.Durable(done, "out", 0, 10); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for a record that never comes: %v", err)
	}
}

// TestSplit appends more than a batch holds while others append to the same
// partition through the same sink: offsets stay dense.
func TestSplit(t *testing.T) {
	ctx := t.Context()
	l := openLog(t, vfs.NewMem(1))
	newTopic(t, l, "out", 1)
	s := NewLocal(l)
	const each = 40
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			recs := make([]Record, each)
			for i := range recs {
				recs[i] = Record{Key: []byte{byte(w)}, Value: bytes.Repeat([]byte{byte(i)}, 100_000)}
			}
			base, err := s.Append(ctx, "out", 0, recs)
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Durable(ctx, "out", 0, base+each-1); err != nil {
				t.Error(err)
			}
			if base%each != 0 {
				t.Errorf("the base %d is not where an append of %d records begins", base, each)
			}
		})
	}
	wg.Wait()
	recs, batches := stored(t, l, "out", 0)
	if len(recs) != 4*each || len(batches) < 16 {
		t.Fatalf("%d records in %d batches", len(recs), len(batches))
	}
	for i, r := range recs {
		if r.Key[0] != recs[i/each*each].Key[0] || r.Value[0] != byte(i%each) || r.Offset != int64(i) {
			t.Fatalf("record %d is out of its place", i)
		}
	}
}

// TestBatchIsWholeAfterCrash crashes after unsynced appends: each batch is there
// whole or not at all, and what was waited for is there.
func TestBatchIsWholeAfterCrash(t *testing.T) {
	ctx := t.Context()
	for seed := range uint64(20) {
		fs := vfs.NewMem(seed)
		l := openLog(t, fs)
		newTopic(t, l, "out", 1)
		s := NewLocal(l)
		recs := make([]Record, 7)
		for i := range recs {
			recs[i].Value = bytes.Repeat([]byte{byte(i)}, 500)
		}
		var durable int64
		for i := range 10 {
			base, err := s.Append(ctx, "out", 0, recs)
			if err != nil {
				t.Fatal(err)
			}
			if i == 4 {
				durable = base + int64(len(recs))
				if err := s.Durable(ctx, "out", 0, durable-1); err != nil {
					t.Fatal(err)
				}
			}
		}
		crashed := fs.CrashClone()
		after := openLog(t, crashed)
		got, _ := stored(t, after, "out", 0)
		if n := int64(len(got)); n < durable || n%int64(len(recs)) != 0 {
			t.Errorf("seed %d: %d records after the crash, at least %d were durable", seed, n, durable)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	ctx := context.Background()
	l := openLog(b, vfs.NewMem(1))
	newTopic(b, l, "out", 1)
	s := NewLocal(l)
	recs := make([]Record, 100)
	for i := range recs {
		recs[i] = Record{Key: []byte("customer"), Value: bytes.Repeat([]byte("x"), 300), Headers: []Header{{Key: "weir-origin", Value: []byte("transactions/0/123/live")}}}
	}
	b.ReportAllocs()
	for b.Loop() {
		base, err := s.Append(ctx, "out", 0, recs)
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Durable(ctx, "out", 0, base+99); err != nil {
			b.Fatal(err)
		}
	}
}

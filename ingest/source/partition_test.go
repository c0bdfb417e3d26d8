package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/log/vfs"
	"github.com/weirstream/weir/test/seeds"
)

var _ Source = (*Partition)(nil)

func openPartition(t testing.TB) *commitlog.Partition {
	t.Helper()
	l, err := commitlog.Open(context.Background(), "data", commitlog.Options{FS: vfs.NewMem(1), SegmentBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	topic, err := l.CreateTopic(commitlog.TopicSpec{Name: "in", Partitions: 1})
	if err != nil {
		t.Fatal(err)
	}
	p, _ := topic.Partition(0)
	return p
}

// write appends one batch of n records whose values say their offsets.
func write(t testing.TB, p *commitlog.Partition, n int, codec record.Codec) {
	t.Helper()
	var b record.Builder
	b.Reset(record.BatchOptions{Codec: codec})
	for i := range n {
		o := p.End() + int64(i)
		b.Append(o*10, []byte("key"), fmt.Append(nil, "value ", o), []Header{{Key: "h", Value: fmt.Append(nil, o)}})
	}
	batch, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Append(context.Background(), batch, 1); err != nil {
		t.Fatal(err)
	}
}

// read checks that the source gives exactly the offsets from..to, each with its
// own value and headers, and returns the number of chunks.
func read(t testing.TB, s Source, from, to int64) (chunks int) {
	t.Helper()
	for at := from; at < to; chunks++ {
		c, err := s.Next(context.Background())
		if err != nil {
			t.Fatalf("at %d: %v", at, err)
		}
		if c.Topic != "in" || c.Partition != 0 || len(c.Records) == 0 || c.HighWatermark < c.Next {
			t.Fatalf("chunk %+v", c)
		}
		for _, r := range c.Records {
			if want := fmt.Append(nil, "value ", at); r.Offset != at || r.Timestamp != at*10 || !bytes.Equal(r.Value, want) ||
				len(r.Headers) != 1 || !bytes.Equal(r.Headers[0].Value, fmt.Append(nil, at)) {
				t.Fatalf("offset %d: record %+v with value %q", at, r, r.Value)
			}
			at++
		}
		if c.Next != at {
			t.Fatalf("Next is %d after record %d", c.Next, at-1)
		}
	}
	return chunks
}

func TestReadsEverythingOnce(t *testing.T) {
	r := seeds.Rand(t)
	p := openPartition(t)
	for range 300 {
		codec := record.None
		if r.IntN(4) == 0 {
			codec = record.Codec(r.IntN(5))
		}
		write(t, p, 1+r.IntN(20), codec)
	}
	end := p.HighWatermark()
	for _, bytesMax := range []int{0, 1, 300, 5000} {
		s := NewPartition(p, Options{To: end, BytesMax: bytesMax})
		read(t, s, 0, end)
		if _, err := s.Next(t.Context()); !errors.Is(err, io.EOF) {
			t.Errorf("at the end: %v", err)
		}
	}
	for range 100 {
		from := r.Int64N(end)
		to := from + 1 + r.Int64N(end-from)
		s := NewPartition(p, Options{From: from, To: to, BytesMax: 1 + r.IntN(3000)})
		read(t, s, from, to)
		if _, err := s.Next(t.Context()); !errors.Is(err, io.EOF) {
			t.Errorf("at the end of %d to %d: %v", from, to, err)
		}
		at := from + r.Int64N(to-from)
		if err := s.SeekTo(at); err != nil {
			t.Fatal(err)
		}
		read(t, s, at, to)
	}
}

func TestMergesSmallBatches(t *testing.T) {
	p := openPartition(t)
	for range 200 {
		write(t, p, 1, record.None)
	}
	if n := read(t, NewPartition(p, Options{To: 200}), 0, 200); n > 4 {
		t.Errorf("%d chunks for 200 batches of one record", n)
	}
}

func TestBlocksUntilThereIsARecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := openPartition(t)
		s := NewPartition(p, Options{})
		got := make(chan Chunk)
		go func() {
			for {
				c, err := s.Next(t.Context())
				if err != nil {
					close(got)
					return
				}
				c.Records = bytesOnly(c.Records)
				got <- c
			}
		}()
		synctest.Wait()
		select {
		case c := <-got:
			t.Fatalf("a chunk of an empty partition: %+v", c)
		default:
		}
		write(t, p, 2, record.None)
		if c := <-got; len(c.Records) != 2 || c.Next != 2 || c.HighWatermark != 2 {
			t.Errorf("chunk %+v", c)
		}
		write(t, p, 1, record.None)
		if c := <-got; len(c.Records) != 1 || c.Records[0].Offset != 2 {
			t.Errorf("chunk %+v", c)
		}
	})
}

// bytesOnly copies what outlives the chunk.
func bytesOnly(recs []Record) []Record {
	out := make([]Record, len(recs))
	for i, r := range recs {
		out[i] = Record{Offset: r.Offset, Value: bytes.Clone(r.Value)}
	}
	return out
}

func TestErrors(t *testing.T) {
	p := openPartition(t)
	write(t, p, 3, record.None)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewPartition(p, Options{}).Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	if _, err := NewPartition(p, Options{From: -1}).Next(t.Context()); !errors.Is(err, commitlog.ErrOffsetOutOfRange) {
		t.Errorf("out of range: %v", err)
	}
	if _, err := NewPartition(p, Options{From: 2, To: 2}).Next(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("an empty range: %v", err)
	}
	s := NewPartition(p, Options{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Next(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("Next after Close: %v", err)
	}
	if err := s.SeekTo(0); !errors.Is(err, ErrClosed) {
		t.Errorf("SeekTo after Close: %v", err)
	}
}

// TestUnreadableBatch has a batch with a right CRC around records that are none.
func TestUnreadableBatch(t *testing.T) {
	p := openPartition(t)
	write(t, p, 2, record.None)
	if _, err := p.Append(t.Context(), unreadable(t, 3), 1); err != nil {
		t.Skipf("the log refuses such a batch: %v", err)
	}
	write(t, p, 2, record.None)
	s := NewPartition(p, Options{To: 7})
	var offsets []int64
	for {
		c, err := s.Next(t.Context())
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range c.Records {
			offsets = append(offsets, r.Offset)
			if r.Offset == 2 && (r.Value != nil || r.Key != nil || r.Headers[0].Key != HeaderUnreadable || !strings.Contains(string(r.Headers[0].Value), "malformed record")) {
				t.Errorf("record for the batch: %+v", r)
			}
		}
	}
	if got := fmt.Sprint(offsets); got != "[0 1 2 5 6]" {
		t.Errorf("offsets %s", got)
	}
}

// unreadable is a batch of n records whose bytes are nonsense under a right CRC.
func unreadable(t testing.TB, n int) []byte {
	t.Helper()
	var b record.Builder
	b.Reset(record.BatchOptions{})
	for range n {
		b.Append(50, nil, []byte("0123456789"), nil)
	}
	batch, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	for i := record.HeaderSize; i < len(batch); i++ {
		batch[i] = 0xff
	}
	// Setting the append time computes the CRC anew.
	record.SetLogAppendTime(batch, 50)
	return batch
}

func BenchmarkNext(b *testing.B) {
	p := openPartition(b)
	var build record.Builder
	value := bytes.Repeat([]byte("x"), 200)
	for range 1000 {
		build.Reset(record.BatchOptions{})
		for range 100 {
			build.Append(1, []byte("customer"), value, nil)
		}
		batch, err := build.Build()
		if err != nil {
			b.Fatal(err)
		}
		if _, err := p.Append(context.Background(), batch, 0); err != nil {
			b.Fatal(err)
		}
	}
	if err := p.Flush(context.Background()); err != nil {
		b.Fatal(err)
	}
	s := NewPartition(p, Options{To: p.HighWatermark()})
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if err := s.SeekTo(0); err != nil {
			b.Fatal(err)
		}
		for {
			c, err := s.Next(context.Background())
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				b.Fatal(err)
			}
			n += len(c.Records)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds()/1e6, "Mrecords/s")
}

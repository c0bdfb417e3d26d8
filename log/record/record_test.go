package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/test/seeds"
)

var codecs = []Codec{None, Gzip, Snappy, LZ4, Zstd}

// randomRecords makes n records of every shape: null and empty keys and values,
// headers or none, times that go back.
func randomRecords(rng *rand.Rand, n int) []Record {
	maybe := func(limit int) []byte {
		switch rng.IntN(4) {
		case 0:
			return nil
		case 1:
			return []byte{}
		}
		b := make([]byte, rng.IntN(limit))
		for i := range b {
			b[i] = byte('a' + rng.IntN(4))
		}
		return b
	}
	recs := make([]Record, n)
	for i := range recs {
		recs[i] = Record{Offset: int64(i), Timestamp: 1_700_000_000_000 + rng.Int64N(100_000) - 50_000, Key: maybe(20), Value: maybe(300)}
		for range rng.IntN(3) {
			recs[i].Headers = append(recs[i].Headers, Header{Key: fmt.Sprint("h", rng.IntN(5)), Value: maybe(10)})
		}
	}
	return recs
}

func build(t testing.TB, b *Builder, o BatchOptions, recs []Record) []byte {
	t.Helper()
	b.Reset(o)
	for _, r := range recs {
		b.Append(r.Timestamp, r.Key, r.Value, r.Headers)
	}
	out, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(out)
}

// TestRoundTrip builds batches of every codec and reads them back as one run.
func TestRoundTrip(t *testing.T) {
	rng := seeds.Rand(t)
	var b Builder
	r := NewReader(Options{})
	for range 50 {
		var run []byte
		var want []Record
		for range 1 + rng.IntN(4) {
			recs := randomRecords(rng, 1+rng.IntN(200))
			batch := build(t, &b, BatchOptions{Codec: codecs[rng.IntN(len(codecs))], ProducerID: -1}, recs)
			SetBaseOffset(batch, int64(len(want)))
			SetLeaderEpoch(batch, 7)
			if _, err := Check(batch); err != nil {
				t.Fatal(err)
			}
			for i := range recs {
				recs[i].Offset = int64(len(want))
				want = append(want, recs[i])
			}
			run = append(run, batch...)
		}
		r.Reset(run)
		for i := range want {
			got, err := r.Next()
			if err != nil {
				t.Fatalf("record %d: %v", i, err)
			}
			if !reflect.DeepEqual(got.Clone(), want[i]) {
				t.Fatalf("record %d: got %+v, want %+v", i, *got, want[i])
			}
		}
		if _, err := r.Next(); err != io.EOF {
			t.Fatalf("at the end: %v", err)
		}
	}
}

// TestAgainstKmsg reads what we build with franz-go's independent definition of
// the format.
func TestAgainstKmsg(t *testing.T) {
	var b Builder
	rng := rand.New(rand.NewPCG(3, 4))
	recs := randomRecords(rng, 40)
	batch := build(t, &b, BatchOptions{ProducerID: 99, ProducerEpoch: 3, BaseSequence: 17}, recs)
	var k kmsg.RecordBatch
	if err := k.ReadFrom(batch); err != nil {
		t.Fatal(err)
	}
	h, err := Check(batch)
	if err != nil {
		t.Fatal(err)
	}
	got := BatchHeader{k.FirstOffset, k.Length, k.PartitionLeaderEpoch, k.Magic, uint32(k.CRC), k.Attributes, k.LastOffsetDelta,
		k.FirstTimestamp, k.MaxTimestamp, k.ProducerID, k.ProducerEpoch, k.FirstSequence, k.NumRecords}
	if got != h || h.ProducerID != 99 || h.BaseSequence != 17 || h.ProducerEpoch != 3 || h.LeaderEpoch != -1 {
		t.Fatalf("kmsg reads %+v, we read %+v", got, h)
	}
	rest := k.Records
	for i, want := range recs {
		n, w := binary.Varint(rest)
		var rec kmsg.Record
		if err := rec.ReadFrom(rest[:w+int(n)]); err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
		rest = rest[w+int(n):]
		if !bytes.Equal(rec.Key, want.Key) || !bytes.Equal(rec.Value, want.Value) || len(rec.Headers) != len(want.Headers) ||
			k.FirstTimestamp+rec.TimestampDelta64 != want.Timestamp || int(rec.OffsetDelta) != i {
			t.Fatalf("record %d: kmsg reads %+v, want %+v", i, rec, want)
		}
	}
}

// TestSnappyRaw reads unframed snappy, as librdkafka and franz-go send it.
func TestSnappyRaw(t *testing.T) {
	plain := bytes.Repeat([]byte("weir "), 1000)
	var d decoders
	for _, src := range [][]byte{s2.EncodeSnappy(nil, plain)} {
		got, err := d.decompress(nil, src, Snappy, 1<<20)
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	}
}

func TestCheckNamesWhatIsWrong(t *testing.T) {
	var b Builder
	good := build(t, &b, BatchOptions{}, randomRecords(rand.New(rand.NewPCG(1, 2)), 3))
	for name, c := range map[string]struct {
		change func([]byte) []byte
		want   error
	}{
		"empty":      {func(b []byte) []byte { return nil }, ErrShort},
		"short head": {func(b []byte) []byte { return b[:60] }, ErrShort},
		"torn":       {func(b []byte) []byte { return b[:len(b)-1] }, ErrShort},
		"magic":      {func(b []byte) []byte { b[atMagic] = 1; return b }, ErrMagic},
		"flipped":    {func(b []byte) []byte { b[len(b)-1] ^= 4; return b }, ErrCRC},
		"length":     {func(b []byte) []byte { binary.BigEndian.PutUint32(b[atLength:], 3); return b }, ErrSize},
		"negative":   {func(b []byte) []byte { b[atLength] = 0xff; return b }, ErrSize},
		"count":      {func(b []byte) []byte { b[atCount+3] = 9; SetLogAppendTime(b, 1); return b }, ErrCount},
		"codec":      {func(b []byte) []byte { b[atAttributes+1] = 7; SetLogAppendTime(b, 1); return b }, ErrCodec},
	} {
		if _, err := Check(c.change(bytes.Clone(good))); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// TestBadBatchHurtsItselfOnly has a batch whose records do not parse between two
// good ones.
func TestBadBatchHurtsItselfOnly(t *testing.T) {
	var b Builder
	one := build(t, &b, BatchOptions{}, []Record{{Key: []byte("k"), Value: []byte("v")}})
	bad := bytes.Clone(one)
	SetBaseOffset(bad, 1)
	bad[HeaderSize] = 0x7e // the record claims more than there is
	SetLogAppendTime(bad, 5)
	last := bytes.Clone(one)
	SetBaseOffset(last, 2)
	r := NewReader(Options{})
	r.Reset(bytes.Join([][]byte{one, bad, last}, nil))
	if rec, err := r.Next(); err != nil || rec.Offset != 0 {
		t.Fatal(rec, err)
	}
	var be *BatchError
	if _, err := r.Next(); !errors.As(err, &be) || be.BaseOffset != 1 || be.LastOffset != 1 || !errors.Is(err, ErrRecord) {
		t.Fatalf("want a BatchError at offset 1, got %v", err)
	}
	if rec, err := r.Next(); err != nil || rec.Offset != 2 {
		t.Fatal(rec, err)
	}
}

func TestLogAppendTime(t *testing.T) {
	var b Builder
	batch := build(t, &b, BatchOptions{Codec: Zstd}, randomRecords(rand.New(rand.NewPCG(1, 2)), 3))
	SetLogAppendTime(batch, 42)
	if h, err := Check(batch); err != nil || !h.LogAppendTime() || h.Codec() != Zstd {
		t.Fatal(h, err)
	}
	var r Reader
	r.Reset(batch)
	recs, err := r.ReadBatch(nil)
	if err != nil || len(recs) != 3 || recs[0].Timestamp != 42 || recs[2].Timestamp != 42 {
		t.Fatal(recs, err)
	}
}

// TestBomb has batches that decompress to more than the limit.
func TestBomb(t *testing.T) {
	var b Builder
	for _, c := range codecs[1:] {
		batch := build(t, &b, BatchOptions{Codec: c}, []Record{{Value: make([]byte, 1<<20)}})
		r := NewReader(Options{MaxDecompressed: 1 << 19})
		r.Reset(batch)
		if _, err := r.Next(); !errors.Is(err, ErrDecompressed) {
			t.Errorf("%v: %v", c, err)
		}
		if cap(r.plain) > 1<<20 {
			t.Errorf("%v: %d bytes reserved", c, cap(r.plain))
		}
		if _, err := r.Next(); err != io.EOF {
			t.Errorf("%v: after the bomb %v", c, err)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	var b Builder
	recs := randomRecords(rand.New(rand.NewPCG(8, 2)), 100)
	batch := build(t, &b, BatchOptions{}, recs)
	r := NewReader(Options{})
	readAll := func() {
		r.Reset(batch)
		for {
			if _, err := r.Next(); err != nil {
				return
			}
		}
	}
	readAll()
	if n := testing.AllocsPerRun(20, readAll); n != 0 {
		t.Errorf("reading allocates %v times", n)
	}
	if n := testing.AllocsPerRun(20, func() {
		b.Reset(BatchOptions{})
		for i := range recs {
			b.Append(recs[i].Timestamp, recs[i].Key, recs[i].Value, recs[i].Headers)
		}
		if _, err := b.Build(); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("building allocates %v times", n)
	}
}

func FuzzCheck(f *testing.F) {
	var b Builder
	for _, c := range codecs {
		f.Add(build(f, &b, BatchOptions{Codec: c}, randomRecords(rand.New(rand.NewPCG(1, 2)), 3)))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		h, err := Check(in)
		if err != nil {
			return
		}
		if h.Size() > len(in) || h.Size() < HeaderSize || h.Count != h.LastOffsetDelta+1 {
			t.Fatalf("accepted %+v of %d bytes", h, len(in))
		}
		if _, err := Check(in[:h.Size()-1]); err == nil {
			t.Fatal("accepted a torn batch")
		}
	})
}

// FuzzReader reads anything, with the CRC ignored so that the fuzzer gets past
// it; what it can read it must be able to write and read again.
func FuzzReader(f *testing.F) {
	var b Builder
	for _, c := range codecs {
		f.Add(build(f, &b, BatchOptions{Codec: c}, randomRecords(rand.New(rand.NewPCG(1, 2)), 5)))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := NewReader(Options{MaxDecompressed: 1 << 20, SkipCRC: true})
		r.Reset(in)
		for {
			recs, err := r.ReadBatch(nil)
			var be *BatchError
			if errors.As(err, &be) {
				continue
			}
			if err != nil {
				return
			}
			again := make([]Record, len(recs))
			for i := range recs {
				again[i] = recs[i].Clone()
				again[i].Offset = int64(i)
			}
			var b Builder
			var r2 Reader
			r2.Reset(build(t, &b, BatchOptions{}, again))
			got, err := r2.ReadBatch(nil)
			if err != nil || len(got) != len(again) {
				t.Fatalf("%d of %d records again: %v", len(got), len(again), err)
			}
			for i := range got {
				if !bytes.Equal(got[i].Value, again[i].Value) || !bytes.Equal(got[i].Key, again[i].Key) || got[i].Timestamp != again[i].Timestamp {
					t.Fatalf("record %d: %+v, want %+v", i, got[i], again[i])
				}
			}
		}
	})
}

func benchRecords() []Record {
	rng := rand.New(rand.NewPCG(1, 2))
	recs := make([]Record, 8192)
	for i := range recs {
		recs[i] = Record{Timestamp: 1_700_000_000_000 + int64(i), Key: fmt.Appendf(nil, "%016d", rng.Int64N(100000)),
			Value: fmt.Appendf(nil, `{"id":"t%d","ts":"2026-01-02T03:04:05Z","card":"%016d","amount":%d.%02d}`, i, rng.Int64N(100000), rng.IntN(1000), rng.IntN(100))}
	}
	return recs
}

func BenchmarkBuild(b *testing.B) {
	recs := benchRecords()
	for _, c := range codecs {
		b.Run(c.String(), func(b *testing.B) {
			var bb Builder
			b.ReportAllocs()
			for b.Loop() {
				bb.Reset(BatchOptions{Codec: c})
				for i := range recs {
					bb.Append(recs[i].Timestamp, recs[i].Key, recs[i].Value, nil)
				}
				if _, err := bb.Build(); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(int64(bb.Len()))
			b.ReportMetric(float64(b.N)*float64(len(recs))/b.Elapsed().Seconds(), "records/s")
		})
	}
}

func BenchmarkRead(b *testing.B) {
	recs := benchRecords()
	for _, c := range codecs {
		b.Run(c.String(), func(b *testing.B) {
			var bb Builder
			batch := build(b, &bb, BatchOptions{Codec: c}, recs)
			b.SetBytes(int64(bb.Len()))
			var r Reader
			var dst []Record
			b.ReportAllocs()
			for b.Loop() {
				r.Reset(batch)
				var err error
				if dst, err = r.ReadBatch(dst[:0]); err != nil || len(dst) != len(recs) {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*float64(len(recs))/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// TestRewrite keeps some records of batches of every codec, twice, with a delete
// horizon: offsets, times, producer and sequences stay.
func TestRewrite(t *testing.T) {
	for _, c := range []Codec{None, Gzip, Snappy, LZ4, Zstd} {
		var b Builder
		b.Reset(BatchOptions{Codec: c, ProducerID: 9, ProducerEpoch: 2, BaseSequence: 40, Transactional: true})
		for i := range int64(6) {
			b.Append(1000-i*10, []byte{byte('a' + i)}, []byte("v"), []Header{{Key: "h", Value: nil}})
		}
		batch, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		SetBaseOffset(batch, 100)
		var w Rewriter
		recs, err := w.Records(batch)
		if err != nil || len(recs) != 6 {
			t.Fatal(len(recs), err)
		}
		once, err := w.Rewrite(nil, batch, []Record{recs[1], recs[2], recs[5]}, 77)
		if err != nil {
			t.Fatal(err)
		}
		recs, err = w.Records(once)
		if err != nil || len(recs) != 3 {
			t.Fatal(len(recs), err)
		}
		twice, err := w.Rewrite(nil, once, recs[2:], 99)
		if err != nil {
			t.Fatal(err)
		}
		h, err := CheckStored(twice)
		if err != nil || h.Codec() != c || h.BaseOffset != 100 || h.LastOffset() != 105 || h.ProducerID != 9 || h.BaseSequence != 40 || !h.Transactional() || h.MaxTimestamp != 950 {
			t.Fatalf("%+v: %v", h, err)
		}
		if at, ok := h.DeleteHorizon(); !ok || at != 77 {
			t.Fatal(at, ok)
		}
		if recs, err = w.Records(twice); err != nil || len(recs) != 1 || recs[0].Offset != 105 || recs[0].Timestamp != 950 || string(recs[0].Key) != "f" || len(recs[0].Headers) != 1 {
			t.Fatalf("%+v: %v", recs, err)
		}
		none, err := w.Rewrite(nil, twice, nil, -1)
		if h, herr := CheckStored(none); err != nil || herr != nil || h.Count != 0 || h.LastOffset() != 105 || h.ProducerID != 9 || h.Codec() != None || h.IsGap() {
			t.Fatalf("%+v: %v %v", h, err, herr)
		}
		if h, err := CheckStored(AppendGap(nil, 3, 5, 1)); err != nil || !h.IsGap() {
			t.Fatalf("%+v: %v", h, err)
		}
	}
}

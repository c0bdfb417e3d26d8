package commitlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/log/vfs"
	"github.com/weirstream/weir/test/seeds"
)

// TestProducers drives an idempotent producer, restarts in between.
func TestProducers(t *testing.T) {
	m := vfs.NewMem(1)
	o := testOptions(m)
	l := mustOpen(t, "data", o)
	p := mustTopic(t, l, "a", 1).Partitions()[0]
	send := func(epoch int16, sequence int32, n int) (int64, error) {
		return p.Append(context.Background(), newBatch(record.BatchOptions{ProducerID: 5, ProducerEpoch: epoch, BaseSequence: sequence}, "x", n, 50, 1), 1)
	}
	restart := func(how string) {
		switch how {
		case "":
			return
		case "clean":
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		case "crash":
			m = m.CrashClone()
			_ = l.Close()
			o.FS = m
		case "checkpoint, crash":
			if err := p.checkpoint(context.Background()); err != nil {
				t.Fatal(err)
			}
			m = m.CrashClone()
			_ = l.Close()
			o.FS = m
		}
		l = mustOpen(t, "data", o)
		p = mustPartition(t, l, "a", 0)
	}
	sequence := int32(0)
	for _, how := range []string{"", "clean", "crash", "checkpoint, crash", "crash"} {
		var bases []int64
		first := sequence
		for range 6 {
			base, err := send(1, sequence, 2)
			if err != nil {
				t.Fatal(how, err)
			}
			bases = append(bases, base)
			sequence += 2
		}
		restart(how)
		for i := 1; i < 6; i++ { // five are remembered
			if base, err := send(1, first+int32(2*i), 2); err != nil || base != bases[i] {
				t.Fatalf("%s: duplicate at %d, first was at %d: %v", how, base, bases[i], err)
			}
		}
		for _, c := range []struct {
			epoch    int16
			sequence int32
			want     error
		}{{1, first, ErrOutOfOrderSequence}, {1, sequence + 1, ErrOutOfOrderSequence}, {0, sequence, ErrInvalidProducerEpoch}, {2, 1, ErrOutOfOrderSequence}} {
			if _, err := send(c.epoch, c.sequence, 2); !errors.Is(err, c.want) {
				t.Fatalf("%s: %+v: %v", how, c, err)
			}
		}
	}
	if _, err := send(2, 0, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := send(1, sequence, 1); !errors.Is(err, ErrInvalidProducerEpoch) {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestSequencesWrap(t *testing.T) {
	ps := producers{}
	h := record.BatchHeader{ProducerID: 1, BaseSequence: math.MaxInt32 - 1, LastOffsetDelta: 1}
	ps.update(&h, time.Time{})
	if next := ps[1].nextSequence(); next != 0 {
		t.Fatal(next)
	}
	h = record.BatchHeader{ProducerID: 2, BaseSequence: math.MaxInt32, LastOffsetDelta: 2}
	ps.update(&h, time.Time{})
	if next := ps[2].nextSequence(); next != 2 {
		t.Fatal(next)
	}
	f := newFields(ps.appendTo(nil))
	again := readProducers(f, 2)
	if !f.ok || len(f.b) != 0 || len(again) != 2 || again[2].kept != ps[2].kept {
		t.Fatalf("%+v", again)
	}
}

// TestOffsetForTime compares with a walk over all records, with times that jump.
func TestOffsetForTime(t *testing.T) {
	rng := seeds.Rand(t)
	m := vfs.NewMem(1)
	o := testOptions(m)
	l := mustOpen(t, "data", o)
	p := mustTopic(t, l, "a", 1).Partitions()[0]
	var times []int64
	for i := range 150 {
		var b record.Builder
		b.Reset(record.BatchOptions{Codec: record.Codec(rng.IntN(5))})
		for range 1 + rng.IntN(4) {
			at := int64(i*10) + rng.Int64N(100)
			times = append(times, at)
			b.Append(at, nil, make([]byte, rng.IntN(400)), nil)
		}
		batch, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		mustAppend(t, p, batch)
	}
	check := func() {
		t.Helper()
		for ms := int64(-10); ms < 1700; ms += 7 {
			want := int64(-1)
			for i, at := range times {
				if at >= ms {
					want = int64(i)
					break
				}
			}
			offset, at, err := p.OffsetForTime(ms)
			if err != nil || offset != want || offset >= 0 && at != times[offset] || offset < 0 && at != -1 {
				t.Fatalf("time %d: offset %d at %d, want %d: %v", ms, offset, at, want, err)
			}
		}
	}
	check()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, "data", o)
	p = mustPartition(t, l, "a", 0)
	check()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestConcurrent has appenders, readers and waiters on a few partitions of the
// real file system, with a deletion in the middle.
func TestConcurrent(t *testing.T) {
	o := testOptions(nil)
	o.MaxOpenFiles = 4
	o.UnflushedMax = 20_000
	o.CheckpointBytes = 5_000
	o.ScrubBytesPerSecond = 1 << 40
	o.ScrubEvery = time.Millisecond
	l := mustOpen(t, t.TempDir(), o)
	keep := mustTopic(t, l, "keep", 2).Partitions()
	doomed := mustTopic(t, l, "doomed", 2).Partitions()
	const appenders, each = 3, 60
	var group sync.WaitGroup
	for _, p := range append(keep, doomed...) {
		for a := range appenders {
			group.Go(func() {
				for i := range each {
					acks := int16(i%3 - 1)
					_, err := p.Append(context.Background(), newBatch(record.BatchOptions{}, fmt.Sprint(a, "-", i), 2, 100, 1), acks)
					if errors.Is(err, ErrDeleted) && p.Topic() == "doomed" {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		for range 2 {
			group.Go(func() { followTo(t, p, 2*appenders*each) })
		}
	}
	if err := doomed[0].Wait(context.Background(), 20); err != nil {
		t.Error(err)
	}
	if err := l.DeleteTopic("doomed"); err != nil {
		t.Error(err)
	}
	if _, err := l.CreateTopic(TopicSpec{Name: "doomed", Partitions: 1}); err != nil {
		t.Error(err)
	}
	if again := mustPartition(t, l, "doomed", 0); again.End() != 0 {
		t.Error("the new topic has records of the old")
	}
	group.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// followTo reads a partition as it grows, every offset once and in order.
func followTo(t *testing.T, p *Partition, end int64) {
	c := p.NewCursor(0)
	r := record.NewReader(record.Options{SkipCRC: true})
	for next := int64(0); next < end; {
		run, err := p.Read(c, 3000)
		if errors.Is(err, ErrDeleted) && p.Topic() == "doomed" {
			return
		}
		if err != nil {
			t.Error(err)
			return
		}
		r.Reset(run)
		for {
			rec, err := r.Next()
			if err != nil {
				break
			}
			if rec.Offset != next {
				t.Errorf("offset %d, want %d", rec.Offset, next)
				return
			}
			next++
		}
		if len(run) == 0 {
			if err := p.Wait(context.Background(), next); err != nil && !errors.Is(err, ErrDeleted) {
				t.Error(err)
				return
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	m := vfs.NewMem(1)
	l := mustOpen(t, "data", testOptions(m))
	p := mustTopic(t, l, "a", 1, "max.message.bytes", "300").Partitions()[0]
	ctx := context.Background()
	good := newBatch(record.BatchOptions{}, "x", 1, 10, 1)
	for name, c := range map[string]struct {
		batch []byte
		acks  int16
		want  error
	}{
		"acks":     {good, 2, ErrInvalidAcks},
		"large":    {newBatch(record.BatchOptions{}, "x", 1, 400, 1), 1, ErrBatchTooLarge},
		"empty":    {nil, 1, record.ErrShort},
		"two":      {append(good[:len(good):len(good)], good...), 1, record.ErrSize},
		"crc":      {append(good[:len(good)-1:len(good)-1], 9), 1, record.ErrCRC},
		"is wrong": {append(good[:len(good)-1:len(good)-1], 9), 1, ErrInvalidBatch},
		"gap":      {record.AppendGap(nil, 0, 5, 0), 1, record.ErrCount},
	} {
		if base, err := p.Append(ctx, c.batch, c.acks); !errors.Is(err, c.want) || base >= 0 {
			t.Errorf("%s: %d, %v", name, base, err)
		}
	}
	for name, c := range map[string]struct {
		spec TopicSpec
		want error
		text string
	}{
		"exists":     {TopicSpec{Name: "a", Partitions: 1}, ErrTopicExists, "a"},
		"slash":      {TopicSpec{Name: "a/b", Partitions: 1}, ErrInvalidTopic, "a/b"},
		"dots":       {TopicSpec{Name: "..", Partitions: 1}, ErrInvalidTopic, ".."},
		"long":       {TopicSpec{Name: strings.Repeat("x", 250), Partitions: 1}, ErrInvalidTopic, "249"},
		"none":       {TopicSpec{Name: "b"}, ErrInvalidPartitions, "0"},
		"unknown":    {TopicSpec{Name: "b", Partitions: 1, Configs: map[string]string{"retention": "1"}}, ErrInvalidConfig, `"retention"`},
		"not number": {TopicSpec{Name: "b", Partitions: 1, Configs: map[string]string{"retention.ms": "1d"}}, ErrInvalidConfig, "whole number"},
		"too small":  {TopicSpec{Name: "b", Partitions: 1, Configs: map[string]string{"retention.ms": "-2"}}, ErrInvalidConfig, "-1"},
		"enum":       {TopicSpec{Name: "b", Partitions: 1, Configs: map[string]string{"compression.type": "brotli"}}, ErrInvalidConfig, "zstd"},
		"list":       {TopicSpec{Name: "b", Partitions: 1, Configs: map[string]string{"cleanup.policy": "delete,burn"}}, ErrInvalidConfig, "compact"},
	} {
		if _, err := l.CreateTopic(c.spec); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := l.Partition("a", 1); !errors.Is(err, ErrUnknownPartition) {
		t.Error(err)
	}
	if _, err := l.Partition("b", 0); !errors.Is(err, ErrUnknownTopic) {
		t.Error(err)
	}
	if err := l.DeleteTopic("b"); !errors.Is(err, ErrUnknownTopic) {
		t.Error(err)
	}
	if _, err := Open(ctx, "data", testOptions(m)); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "data") {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	if _, err := p.Append(ctx, good, 0); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}

// TestDefaultsAreValid checks every default with its own rule.
func TestDefaultsAreValid(t *testing.T) {
	l := mustOpen(t, "data", testOptions(vfs.NewMem(1)))
	for _, d := range l.ConfigDefs() {
		if err := CheckConfigs(map[string]string{d.Name: d.Default}); err != nil || d.Doc == "" {
			t.Errorf("%s: %v", d.Name, err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestDistinct: names that differ in dots and underscores only are told apart by
// those who ask for it, also after a restart, and until the other is gone.
func TestDistinct(t *testing.T) {
	m := vfs.NewMem(1)
	l := mustOpen(t, "data", testOptions(m))
	mustTopic(t, l, "a.b_c", 1)
	mustTopic(t, l, "a.b.c", 1) // who does not ask may
	refused := func(name, other string) {
		t.Helper()
		_, err := l.CreateTopic(TopicSpec{Name: name, Partitions: 1, Distinct: true})
		if !errors.Is(err, ErrInvalidTopic) || !strings.Contains(err.Error(), other) {
			t.Errorf("%s beside %s: %v", name, other, err)
		}
	}
	refused("a_b_c", "a.b_c")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, "data", testOptions(m))
	defer l.Close()
	if _, err := l.CreateTopic(TopicSpec{Name: "a.b.c", Partitions: 1, Distinct: true}); !errors.Is(err, ErrTopicExists) {
		t.Error(err)
	}
	if err := l.DeleteTopic("a.b_c"); err != nil {
		t.Fatal(err)
	}
	refused("a_b_c", "a.b.c")
	if err := l.DeleteTopic("a.b.c"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a_b_c", "a-b-c", "A_b_c"} {
		if _, err := l.CreateTopic(TopicSpec{Name: name, Partitions: 1, Distinct: true}); err != nil {
			t.Error(err)
		}
	}
}

// TestTopicsSurvive changes topics and finds them again.
func TestTopicsSurvive(t *testing.T) {
	m := vfs.NewMem(1)
	l := mustOpen(t, "data", testOptions(m))
	id := mustTopic(t, l, "a", 1, "cleanup.policy", "compact").ID()
	gone := mustTopic(t, l, "gone", 1).ID()
	if err := l.DeleteTopic("gone"); err != nil {
		t.Fatal(err)
	}
	if _, ok := l.TopicByID(gone); ok {
		t.Error("a deleted topic has its id")
	}
	cluster := l.ClusterID()
	if err := l.AddPartitions("a", 3); err != nil {
		t.Fatal(err)
	}
	if err := l.AddPartitions("a", 3); !errors.Is(err, ErrInvalidPartitions) {
		t.Fatal(err)
	}
	fill(t, mustPartition(t, l, "a", 2), 3)
	if err := l.SetConfigs("a", map[string]string{"retention.ms": "5"}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, "data", testOptions(m))
	topic, ok := l.Topic("a")
	if !ok || topic.ID() != id || len(topic.Partitions()) != 3 || len(topic.Configs()) != 1 || topic.Configs()["retention.ms"] != "5" || l.ClusterID() != cluster {
		t.Fatalf("%+v", topic)
	}
	if byID, ok := l.TopicByID(id); !ok || byID != topic {
		t.Fatal(byID)
	}
	if mustPartition(t, l, "a", 2).End() != 6 {
		t.Fatal("records are lost")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestRetention deletes old segments by size and by time, and records on demand.
func TestRetention(t *testing.T) {
	m := vfs.NewMem(1)
	now := time.UnixMilli(1_000_000)
	o := testOptions(m)
	o.Now = func() time.Time { return now }
	l := mustOpenAlone(t, "data", o)
	bySize := mustTopic(t, l, "size", 1, "retention.bytes", "20000").Partitions()[0]
	byTime := mustTopic(t, l, "time", 1, "retention.ms", "60000").Partitions()[0]
	byHand := mustTopic(t, l, "hand", 1).Partitions()[0]
	for _, p := range []*Partition{bySize, byTime, byHand} {
		fill(t, p, 100) // record times near 1000 ms
		if err := p.retain(t.Context(), now); err != nil {
			t.Fatal(err)
		}
	}
	if size := bySize.Size(); size < 20000 || size > 20000+16<<10 || bySize.Start() == 0 {
		t.Fatalf("size %d, start %d", size, bySize.Start())
	}
	if n := len(byTime.segs); n != 1 || byTime.Start() != byTime.segs[0].base {
		t.Fatalf("%d segments, start %d", n, byTime.Start())
	}
	if byHand.Start() != 0 {
		t.Fatal("deleted without being told")
	}
	if err := byHand.DeleteRecords(context.Background(), 101); err != nil {
		t.Fatal(err)
	}
	if err := byHand.DeleteRecords(context.Background(), 1000); !errors.Is(err, ErrOffsetOutOfRange) {
		t.Fatal(err)
	}
	m = m.CrashClone()
	o.FS = m
	_ = l.Close()
	l = mustOpenAlone(t, "data", o)
	p := mustPartition(t, l, "hand", 0)
	if p.Start() != 101 || p.segs[0].base > 101 || p.segs[0].base == 0 {
		t.Fatalf("start %d, first segment %d", p.Start(), p.segs[0].base)
	}
	if _, err := p.Read(p.NewCursor(100), 1); !errors.Is(err, ErrOffsetOutOfRange) {
		t.Fatal(err)
	}
	if got, err := readAll(p, 101, 1<<20); err != nil || len(got) != 50 {
		t.Fatal(len(got), err)
	}
	if offset, _, err := p.OffsetForTime(0); err != nil || offset != 101 {
		t.Fatal(offset, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestProducersOutliveTheirRecords: retention takes a producer's records and a crash
// the memory; the producer goes on as if nothing had been, and is known again.
func TestProducersOutliveTheirRecords(t *testing.T) {
	for _, full := range []bool{false, true} {
		t.Run(fmt.Sprint("disk full ", full), func(t *testing.T) {
			m := vfs.NewMem(1)
			faulty := vfs.NewFaulty(m)
			now := time.UnixMilli(1_000_000)
			o := testOptions(faulty)
			o.Now = func() time.Time { return now }
			l := mustOpenAlone(t, "data", o)
			p := mustTopic(t, l, "a", 1, "retention.bytes", "20000").Partitions()[0]
			last := newBatch(record.BatchOptions{ProducerID: 5, ProducerEpoch: 1, BaseSequence: 40, Transactional: true}, "x", 2, 50, 1)
			base := mustAppend(t, p, last)
			commit := func() {
				if _, err := p.AppendMarker(t.Context(), Marker{ProducerID: 5, ProducerEpoch: 1, Commit: true}); err != nil {
					t.Fatal(err)
				}
			}
			commit()
			fill(t, p, 100)
			commit() // sent again, as by a coordinator that does not know
			if full {
				faulty.SetSpace(0)
			}
			if err := p.retain(t.Context(), now); err != nil || p.Start() <= base+2 {
				t.Fatal(p.Start(), err)
			}
			m = m.CrashClone()
			_ = l.Close()
			o.FS = m
			l = mustOpenAlone(t, "data", o)
			defer func() {
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
			}()
			p = mustPartition(t, l, "a", 0)
			send := func(sequence int32) error {
				_, err := p.Append(t.Context(), newBatch(record.BatchOptions{ProducerID: 5, ProducerEpoch: 1, BaseSequence: sequence}, "x", 2, 50, 1), 1)
				return err
			}
			if !full {
				if again := mustAppend(t, p, bytes.Clone(last)); again != base {
					t.Fatalf("sent again: %d, it was at %d", again, base)
				}
				if err := send(44); !errors.Is(err, ErrOutOfOrderSequence) {
					t.Fatal(err)
				}
			}
			// All that may be left is a marker, over another crash too.
			if err := p.checkpoint(t.Context()); err != nil {
				t.Fatal(err)
			}
			m = m.CrashClone()
			_ = l.Close()
			o.FS = m
			l = mustOpenAlone(t, "data", o)
			p = mustPartition(t, l, "a", 0)
			if err := send(42); err != nil {
				t.Fatal(err)
			}
			if err := send(50); !errors.Is(err, ErrOutOfOrderSequence) {
				t.Fatal(err)
			}
		})
	}
}

// TestAppendTime stamps batches and rolls segments by age.
func TestAppendTime(t *testing.T) {
	now := time.UnixMilli(5000)
	o := testOptions(vfs.NewMem(1))
	o.Now = func() time.Time { return now }
	l := mustOpenAlone(t, "data", o)
	p := mustTopic(t, l, "a", 1, "message.timestamp.type", "LogAppendTime", "segment.ms", "1000").Partitions()[0]
	fill(t, p, 2)
	now = now.Add(2 * time.Second)
	fill(t, p, 2)
	if len(p.segs) != 2 {
		t.Fatalf("%d segments", len(p.segs))
	}
	if offset, at, err := p.OffsetForTime(5001); err != nil || offset != 4 || at != 7000 {
		t.Fatal(offset, at, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestBackpressure has a context end while too much is not durable.
func TestBackpressure(t *testing.T) {
	o := testOptions(vfs.NewMem(1))
	o.UnflushedMax = 100
	l := mustOpen(t, "data", o)
	p := mustTopic(t, l, "a", 1).Partitions()[0]
	l.flusher.wrote(1000) // as if a slow disk held it
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	b := newBatch(record.BatchOptions{}, "x", 1, 10, 1)
	if _, err := p.Append(ctx, b, 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	waited := make(chan error)
	go func() {
		_, err := p.Append(context.Background(), b, 1)
		waited <- err
	}()
	l.flusher.done(1000)
	if err := <-waited; err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct {
		name   string
		noSync bool
		size   int
		acks   int16
	}{{"nosync/64KiB", true, 64 << 10, 1}, {"nosync/1KiB", true, 1 << 10, 1}, {"fsync/64KiB/acks0", false, 64 << 10, 0}, {"fsync/64KiB/acks1", false, 64 << 10, 1}} {
		b.Run(c.name, func(b *testing.B) {
			l := mustOpen(b, b.TempDir(), Options{NoSync: c.noSync, Logger: quiet, ScrubBytesPerSecond: -1})
			p := mustTopic(b, l, "a", 1, "retention.bytes", "1000000000").Partitions()[0]
			batch := newBatch(record.BatchOptions{}, "x", 1, c.size-100, 1)
			b.SetBytes(int64(len(batch)))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := p.Append(context.Background(), batch, c.acks); err != nil {
					b.Fatal(err)
				}
				if i%20_000 == 19_999 { // spare the disk
					if err := p.retain(context.Background(), time.Now()); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.StopTimer()
			if err := l.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkAppendMany has 16 producers, each on partitions of its own, that wait
// for every fsync.
func BenchmarkAppendMany(b *testing.B) {
	l := mustOpen(b, b.TempDir(), Options{Logger: quiet, ScrubBytesPerSecond: -1})
	const producers = 16
	ps := mustTopic(b, l, "a", producers).Partitions()
	b.SetBytes(producers * 4096)
	b.ReportAllocs()
	for b.Loop() {
		var group sync.WaitGroup
		for _, p := range ps {
			group.Go(func() {
				if _, err := p.Append(context.Background(), newBatch(record.BatchOptions{}, "x", 1, 4000, 1), 1); err != nil {
					b.Error(err)
				}
			})
		}
		group.Wait()
	}
	b.StopTimer()
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkRead(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			l := mustOpen(b, b.TempDir(), Options{NoSync: true, Logger: quiet, ScrubBytesPerSecond: -1})
			p := mustTopic(b, l, "a", 1).Partitions()[0]
			for p.Size() < 64<<20 {
				mustAppend(b, p, newBatch(record.BatchOptions{}, "x", 1, size-100, 1))
			}
			c := p.NewCursor(0)
			var n int64
			b.ReportAllocs()
			for b.Loop() {
				run, err := p.Read(c, 1<<20)
				if err != nil {
					b.Fatal(err)
				}
				if len(run) == 0 {
					c.SeekTo(0)
				}
				n += int64(len(run))
			}
			b.SetBytes(n / int64(b.N))
			if err := l.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

package commitlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"

	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/log/vfs"
)

var quiet = slog.New(slog.DiscardHandler)

// testOptions have no background reads and small segments.
func testOptions(fsys vfs.FS) Options {
	return Options{FS: fsys, Logger: quiet, SegmentBytes: 8 << 10, ScrubBytesPerSecond: -1, CompactEvery: -1}
}

func mustOpen(t testing.TB, dir string, o Options) *Log {
	t.Helper()
	l, err := Open(context.Background(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// mustOpenAlone is mustOpen without the janitor, for a test that does by hand what it does
// every second, or changes the clock or the disk that it looks at.
func mustOpenAlone(t testing.TB, dir string, o Options) *Log {
	t.Helper()
	l := mustOpen(t, dir, o)
	l.stop()
	l.background.Wait()
	return l
}

func mustTopic(t testing.TB, l *Log, name string, partitions int32, configs ...string) *Topic {
	t.Helper()
	set := map[string]string{}
	for i := 0; i+1 < len(configs); i += 2 {
		set[configs[i]] = configs[i+1]
	}
	topic, err := l.CreateTopic(TopicSpec{Name: name, Partitions: partitions, Configs: set})
	if err != nil {
		t.Fatal(err)
	}
	return topic
}

func mustPartition(t testing.TB, l *Log, topic string, i int32) *Partition {
	t.Helper()
	p, err := l.Partition(topic, i)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// newBatch has n records; each value begins with tag. Times are at ms.
func newBatch(o record.BatchOptions, tag string, n, size int, ms int64) []byte {
	var b record.Builder
	b.Reset(o)
	for i := range n {
		v := fmt.Appendf(nil, "%s/%d/", tag, i)
		b.Append(ms, []byte(tag), append(v, make([]byte, size)...), nil)
	}
	out, err := b.Build()
	if err != nil {
		panic(err)
	}
	return bytes.Clone(out)
}

func mustAppend(t testing.TB, p *Partition, batch []byte) int64 {
	t.Helper()
	base, err := p.Append(context.Background(), batch, -1)
	if err != nil {
		t.Fatal(err)
	}
	return base
}

// readAll reads every batch from the cursor to the high watermark.
func readAll(p *Partition, from int64, bytesMax int) (batches [][]byte, err error) {
	c := p.NewCursor(from)
	for {
		run, err := p.Read(c, bytesMax)
		if err != nil || len(run) == 0 {
			return batches, err
		}
		for len(run) > 0 {
			h, err := record.Check(run)
			if err != nil && !errors.Is(err, record.ErrCount) { // a gap has no records
				return batches, fmt.Errorf("served: %w", err)
			}
			batches = append(batches, bytes.Clone(run[:h.Size()]))
			run = run[h.Size():]
		}
	}
}

func TestAppendRead(t *testing.T) {
	for _, noSync := range []bool{false, true} {
		t.Run(fmt.Sprint("nosync ", noSync), func(t *testing.T) {
			o := testOptions(vfs.NewMem(1))
			o.NoSync = noSync
			l := mustOpen(t, "data", o)
			p := mustTopic(t, l, "a", 2).Partitions()[1]
			var want [][]byte
			rng := rand.New(rand.NewPCG(1, 2))
			for i := range 200 {
				b := newBatch(record.BatchOptions{}, fmt.Sprint(i), 1+rng.IntN(5), rng.IntN(300), int64(i))
				end := p.End()
				if base := mustAppend(t, p, b); base != end {
					t.Fatalf("base %d, end was %d", base, end)
				}
				want = append(want, b)
			}
			if len(p.segs) < 3 {
				t.Fatalf("%d segments", len(p.segs))
			}
			check := func(p *Partition) {
				t.Helper()
				for _, bytesMax := range []int{1, 700, 1 << 20} {
					got, err := readAll(p, 0, bytesMax)
					if err != nil || len(got) != len(want) {
						t.Fatalf("%d of %d batches: %v", len(got), len(want), err)
					}
					for i := range want {
						if !bytes.Equal(got[i], want[i]) {
							t.Fatalf("batch %d differs", i)
						}
					}
				}
				for offset := range p.HighWatermark() {
					run, err := p.Read(p.NewCursor(offset), 1)
					if err != nil {
						t.Fatal(err)
					}
					if h, err := record.Check(run); err != nil || h.BaseOffset > offset || h.LastOffset() < offset {
						t.Fatalf("offset %d: batch %d to %d, %v", offset, h.BaseOffset, h.LastOffset(), err)
					}
				}
			}
			check(p)
			if _, err := p.Read(p.NewCursor(p.End()+1), 1); !errors.Is(err, ErrOffsetOutOfRange) {
				t.Fatal(err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := p.Read(p.NewCursor(0), 1); !errors.Is(err, ErrClosed) {
				t.Fatal(err)
			}
			l = mustOpen(t, "data", o)
			check(mustPartition(t, l, "a", 1))
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

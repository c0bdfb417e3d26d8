package commitlog

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/log/vfs"
	"github.com/weirstream/weir/test/seeds"
)

// fill appends n batches of two records each, acknowledged, and returns them.
func fill(t testing.TB, p *Partition, n int) (batches [][]byte) {
	t.Helper()
	for i := range n {
		b := newBatch(record.BatchOptions{}, fmt.Sprint("b", i), 2, 150, int64(1000+i))
		mustAppend(t, p, b)
		batches = append(batches, b)
	}
	return batches
}

// positionOf is where the batch with a base offset lies.
func positionOf(t testing.TB, p *Partition, base int64) (seg *segment, pos int64) {
	t.Helper()
	c := p.NewCursor(base)
	if _, err := p.Read(c, 1); err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	seg = p.segs[p.find(base)]
	c = p.NewCursor(seg.base)
	pos = 0
	p.mu.Unlock()
	for c.offset < base {
		run, err := p.Read(c, 1)
		if err != nil {
			t.Fatal(err)
		}
		pos += int64(len(run))
	}
	p.mu.Lock()
	return seg, pos
}

// kill closes a log as a kill would: no mark of a clean shutdown.
func kill(t testing.TB, l *Log, fsys vfs.FS, dir string) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := fsys.Remove(filepath.Join(dir, "clean")); err != nil {
		t.Fatal(err)
	}
	if err := fsys.SyncDir(dir); err != nil {
		t.Fatal(err)
	}
}

// abandon leaves a log as a kill -9 would: nothing is flushed or written, all that
// was written is in the page cache.
func abandon(t testing.TB, l *Log, m *vfs.Mem) *vfs.Mem {
	t.Helper()
	for {
		// A clone that kept everything is what a kill leaves.
		c := m.CrashClone()
		if sameFiles(t, m, c) {
			_ = l.Close()
			return c
		}
	}
}

func sameFiles(t testing.TB, a, b vfs.FS) bool {
	t.Helper()
	var walk func(dir string) bool
	walk = func(dir string) bool {
		names, err := a.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		others, err := b.List(dir)
		if err != nil || !slices.Equal(names, others) {
			return false
		}
		for _, name := range names {
			name = filepath.Join(dir, name)
			info, err := a.Stat(name)
			if err != nil {
				t.Fatal(err)
			}
			if info.Dir {
				if !walk(name) {
					return false
				}
				continue
			}
			x, _ := vfs.ReadFile(a, name)
			y, _ := vfs.ReadFile(b, name)
			if !bytes.Equal(x, y) {
				return false
			}
		}
		return true
	}
	return walk(".")
}

// TestFlippedByteSealed flips each of many bytes of a sealed segment: it is found
// and named by reads and by Verify, never served, and counted once.
func TestFlippedByteSealed(t *testing.T) {
	fsys := vfs.NewMem(1)
	o := testOptions(fsys)
	l := mustOpen(t, "data", o)
	batches := fill(t, mustTopic(t, l, "a", 1).Partitions()[0], 100)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	rng := seeds.Rand(t)
	for range 40 {
		registry := prometheus.NewRegistry()
		o.Registerer = registry
		l := mustOpen(t, "data", o)
		p := mustPartition(t, l, "a", 0)
		damagedBatch := rng.IntN(10) // the first segments are sealed
		seg, pos := positionOf(t, p, int64(2*damagedBatch))
		at := pos + rng.Int64N(int64(len(batches[damagedBatch])))
		if err := vfs.FlipByte(fsys, seg.file, at); err != nil {
			t.Fatal(err)
		}
		got, err := readAll(p, 0, 1<<20)
		var ce *CorruptError
		if len(got) != damagedBatch {
			t.Fatalf("byte %d: served %d batches before number %d", at-pos, len(got), damagedBatch)
		}
		if !errors.As(err, &ce) || ce.Topic != "a" || ce.Partition != 0 || ce.File != seg.file || ce.Position != pos || ce.Offset != int64(2*damagedBatch) || ce.Offline {
			t.Fatalf("byte %d: %#v", at-pos, err)
		}
		found, err := l.Verify(context.Background(), nil)
		if err != nil || len(found) != 1 || found[0].Position != pos || found[0].Offset != ce.Offset {
			t.Fatalf("Verify: %v %v", found, err)
		}
		if n, err := testutil.GatherAndCount(registry, "weir_log_corrupt_batches"); err != nil || n != 1 || testutil.ToFloat64(l.metrics.corruptions) != 1 || len(l.Damage()) != 1 {
			t.Fatal("not counted once", n, err)
		}
		// What lies after it is served, and appends go on.
		if rest, err := readAll(p, int64(2*damagedBatch+2), 1<<20); err != nil || len(rest) != len(batches)-damagedBatch-1 {
			t.Fatalf("%d batches after it: %v", len(rest), err)
		}
		if err := vfs.FlipByte(fsys, seg.file, at); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestScrubber finds damage on its own.
func TestScrubber(t *testing.T) {
	fsys := vfs.NewMem(1)
	o := testOptions(fsys)
	l := mustOpen(t, "data", o)
	p := mustTopic(t, l, "a", 1).Partitions()[0]
	fill(t, p, 100)
	seg, pos := positionOf(t, p, 20)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := vfs.FlipByte(fsys, seg.file, pos+100); err != nil {
		t.Fatal(err)
	}
	o.ScrubBytesPerSecond = 1 << 40
	registry := prometheus.NewRegistry()
	o.Registerer = registry
	l = mustOpen(t, "data", o)
	for testutil.ToFloat64(l.metrics.scrubBytes) < float64(mustPartition(t, l, "a", 0).Size()) {
		if t.Context().Err() != nil {
			t.Fatal("not scrubbed")
		}
	}
	if d := l.Damage(); len(d) != 1 || d[0].Offset != 20 || d[0].Position != pos || d[0].File != seg.file {
		t.Fatal(d)
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Fatal(problems, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestTornTail cuts what follows the last valid batch after a kill.
func TestTornTail(t *testing.T) {
	for _, tail := range [][]byte{{1}, make([]byte, 1000), newBatch(record.BatchOptions{}, "x", 3, 100, 1)[:200]} {
		m := vfs.NewMem(1)
		l := mustOpen(t, "data", testOptions(m))
		p := mustTopic(t, l, "a", 1).Partitions()[0]
		want := fill(t, p, 30)
		file, size := p.segs[len(p.segs)-1].file, p.segs[len(p.segs)-1].size
		m = abandon(t, l, m)
		f, err := m.OpenFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(tail, size); err != nil {
			t.Fatal(err)
		}
		l = mustOpen(t, "data", testOptions(m))
		p = mustPartition(t, l, "a", 0)
		if got, err := readAll(p, 0, 1<<20); err != nil || len(got) != len(want) {
			t.Fatalf("%d of %d batches: %v", len(got), len(want), err)
		}
		if now, _ := f.Size(); now != size {
			t.Fatalf("size %d, want %d", now, size)
		}
		lost := len(bytes.TrimRight(tail, "\x00")) // zeros are space that was taken ahead
		if cut := testutil.ToFloat64(l.metrics.cutBytes); cut != float64(lost) {
			t.Fatalf("%v bytes are counted as cut, expected %d", cut, lost)
		}
		fill(t, p, 1)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAcknowledgedDamageStops flips a byte in the active segment, acknowledged and
// not checkpointed: the partition stops there, says what to run, and the other one
// works; Repair saves every batch but the damaged one.
func TestAcknowledgedDamageStops(t *testing.T) {
	for _, c := range []struct {
		name  string
		marks bool // the file synced is there
		last  bool // the damaged batch is the last one
	}{{"with marks", true, false}, {"last batch", true, true}, {"without marks", false, false}} {
		t.Run(c.name, func(t *testing.T) {
			m := vfs.NewMem(1)
			o := testOptions(m)
			o.SegmentBytes = 1 << 20
			l := mustOpen(t, "data", o)
			topic := mustTopic(t, l, "a", 2)
			p, other := topic.Partitions()[0], topic.Partitions()[1]
			batches := fill(t, p, 30)
			fill(t, other, 5)
			bad := 20
			if c.last {
				bad = 29
			}
			seg, pos := positionOf(t, p, int64(2*bad))
			m = abandon(t, l, m)
			if err := vfs.FlipByte(m, seg.file, pos+70); err != nil {
				t.Fatal(err)
			}
			if !c.marks {
				if err := m.Remove("data/synced"); err != nil {
					t.Fatal(err)
				}
			}
			o.FS = m
			for range 3 { // opening again must not make it worse
				l = mustOpen(t, "data", o)
				checkStopped(t, l, seg.file, pos, bad)
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
			}
			report, err := Repair(context.Background(), "data", "a", 0, o)
			if err != nil {
				t.Fatal(err)
			}
			if report.End != 60 || report.Batches != 29 || len(report.Lost) != 1 || report.Lost[0].From != int64(2*bad) || report.Lost[0].To != int64(2*bad+2) {
				t.Fatalf("%+v", report)
			}
			if kept, err := vfs.ReadFile(m, report.Lost[0].Kept); err != nil || len(kept) != len(batches[bad]) {
				t.Fatal(len(kept), err)
			}
			checkRepaired(t, o, batches, bad)
		})
	}
}

func checkStopped(t *testing.T, l *Log, file string, pos int64, bad int) {
	t.Helper()
	p := mustPartition(t, l, "a", 0)
	var ce *CorruptError
	if !errors.As(p.Err(), &ce) || !ce.Offline || ce.Offset != int64(2*bad) || ce.File != file || ce.Position != pos ||
		ce.Repair != "weir log repair --data-dir data --topic a --partition 0" || !strings.Contains(ce.Error(), ce.Repair) {
		t.Fatalf("%+v", p.Err())
	}
	if got, err := readAll(p, 0, 1<<20); len(got) != bad || !errors.As(err, &ce) {
		t.Fatalf("%d batches, %v", len(got), err)
	}
	if _, err := p.Append(context.Background(), newBatch(record.BatchOptions{}, "x", 1, 1, 1), 1); !errors.As(err, &ce) {
		t.Fatal(err)
	}
	if err := p.Wait(context.Background(), int64(2*bad)); !errors.As(err, &ce) {
		t.Fatal(err)
	}
	fill(t, mustPartition(t, l, "a", 1), 1)
}

func checkRepaired(t *testing.T, o Options, batches [][]byte, bad int) {
	t.Helper()
	l := mustOpen(t, "data", o)
	p := mustPartition(t, l, "a", 0)
	fill(t, p, 1)
	got, err := readAll(p, 0, 1<<20)
	if err != nil || len(got) != len(batches)+1 {
		t.Fatalf("%d batches: %v", len(got), err)
	}
	r := record.NewReader(record.Options{})
	var offsets []int64
	for i, b := range got {
		if i != bad && i < len(batches) && !bytes.Equal(b, batches[i]) {
			t.Fatalf("batch %d differs", i)
		}
		r.Reset(b)
		for {
			rec, err := r.Next()
			if err != nil {
				break
			}
			offsets = append(offsets, rec.Offset)
		}
	}
	if len(offsets) != 60 || slices.Contains(offsets, int64(2*bad)) {
		t.Fatal(offsets)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, "data", o)
	if found, err := l.Verify(context.Background(), nil); err != nil || len(found) > 0 {
		t.Fatal(found, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestLostFiles removes acknowledged segments: the loss is named, and a repair
// does not give the offsets again.
func TestLostFiles(t *testing.T) {
	m := vfs.NewMem(1)
	o := testOptions(m)
	l := mustOpen(t, "data", o)
	p := mustTopic(t, l, "a", 1).Partitions()[0]
	fill(t, p, 100)
	var files []string
	for _, seg := range p.segs {
		files = append(files, seg.file)
	}
	m = abandon(t, l, m)
	o.FS = m
	for _, file := range files {
		if err := m.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	l = mustOpen(t, "data", o)
	var ce *CorruptError
	if p := mustPartition(t, l, "a", 0); !errors.As(p.Err(), &ce) {
		t.Fatal(p.Err())
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if report, err := Repair(context.Background(), "data", "a", 0, o); err != nil || report.End != 200 {
		t.Fatal(report, err)
	}
	l = mustOpen(t, "data", o)
	p = mustPartition(t, l, "a", 0)
	if base := mustAppend(t, p, newBatch(record.BatchOptions{}, "x", 1, 1, 1)); base != 200 {
		t.Fatal(base)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestDamagedSideFiles flips bytes of indexes and checkpoints: they are made anew.
func TestDamagedSideFiles(t *testing.T) {
	for _, which := range []string{".index", "checkpoint"} {
		for _, flip := range []int64{0, 11, 20, 60} {
			m := vfs.NewMem(1)
			o := testOptions(m)
			l := mustOpen(t, "data", o)
			p := mustTopic(t, l, "a", 1).Partitions()[0]
			fill(t, p, 100)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			names, err := m.List(p.dir)
			if err != nil {
				t.Fatal(err)
			}
			newer := false
			for _, name := range names {
				if strings.HasSuffix(name, which) {
					newer = newer || flip == 11
					if err := vfs.FlipByte(m, filepath.Join(p.dir, name), flip); err != nil {
						t.Fatal(err)
					}
				}
			}
			l, err = Open(context.Background(), "data", o)
			if newer {
				// A newer format is refused, of an index not before it is used.
				if which == "checkpoint" && !errors.Is(err, ErrNewerFormat) {
					t.Fatal(which, flip, err)
				}
				if err == nil {
					_ = l.Close()
				}
				continue
			}
			if err != nil {
				t.Fatal(which, flip, err)
			}
			p = mustPartition(t, l, "a", 0)
			for offset := range int64(200) {
				run, err := p.Read(p.NewCursor(offset), 1)
				if err != nil {
					t.Fatal(which, flip, err)
				}
				if h, _ := record.Check(run); h.BaseOffset != offset&^1 {
					t.Fatal(which, flip, offset, h.BaseOffset)
				}
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestDiskFull fills the disk in the middle of appends: they fail with
// ErrDiskFull, nothing half-written is seen, and the log goes on when space
// returns, before and after a restart.
func TestDiskFull(t *testing.T) {
	seed := seeds.One(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	m := vfs.NewMem(seed)
	fsys := vfs.NewFaulty(m)
	o := testOptions(fsys)
	o.CheckpointBytes = 2000
	l := mustOpen(t, "data", o)
	p := mustTopic(t, l, "a", 1).Partitions()[0]
	var want [][]byte
	for round := range 60 {
		space := rng.Int64N(3000)
		fsys.SetSpace(space)
		failed := 0
		for range 20 {
			b := newBatch(record.BatchOptions{}, fmt.Sprint(round), 1, rng.IntN(400), 1)
			_, err := p.Append(context.Background(), b, -1)
			switch {
			case err == nil:
				want = append(want, bytes.Clone(b))
			case errors.Is(err, ErrDiskFull):
				failed++
			default:
				t.Fatal(err)
			}
		}
		if space < 1000 && failed == 0 {
			t.Fatal("the disk was never full")
		}
		if _, err := l.CreateTopic(TopicSpec{Name: "full", Partitions: 1}); failed > 0 && !errors.Is(err, ErrDiskFull) {
			t.Fatal(err)
		} else if err == nil {
			if err := l.DeleteTopic("full"); err != nil && !errors.Is(err, ErrDiskFull) {
				t.Fatal(err)
			}
		}
		fsys.SetSpace(math.MaxInt64)
		if rng.IntN(3) == 0 {
			if rng.IntN(2) == 0 {
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
			} else {
				m = m.CrashClone()
				_ = l.Close()
				fsys = vfs.NewFaulty(m)
				o.FS = fsys
			}
			l = mustOpen(t, "data", o)
			p = mustPartition(t, l, "a", 0)
		}
		got, err := readAll(p, 0, 1<<20)
		if err != nil || len(got) != len(want) {
			t.Fatalf("round %d: %d of %d batches: %v", round, len(got), len(want), err)
		}
		for i := range want {
			if !bytes.Equal(got[i], want[i]) {
				t.Fatalf("round %d: batch %d differs", round, i)
			}
		}
	}
}

// TestSyncFails: after a failed fsync nothing is acknowledged by that partition,
// the others work, and the next Open has what was acknowledged.
func TestSyncFails(t *testing.T) {
	m := vfs.NewMem(1)
	fsys := vfs.NewFaulty(m)
	o := testOptions(fsys)
	l := mustOpen(t, "data", o)
	topic := mustTopic(t, l, "a", 2)
	p := topic.Partitions()[0]
	want := fill(t, p, 10)
	fsys.FailSync(0, syscall.EIO)
	b := newBatch(record.BatchOptions{}, "x", 1, 1, 1)
	if _, err := p.Append(context.Background(), b, 1); !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	if _, err := p.Append(context.Background(), b, 1); !errors.Is(err, ErrFailed) {
		t.Fatal(err)
	}
	fill(t, topic.Partitions()[1], 3)
	for end := time.Now().Add(time.Minute); l.flusher.behind.Load() != 0; time.Sleep(time.Millisecond) { // a moment after an append is told
		if time.Now().After(end) {
			t.Fatalf("%d bytes behind", l.flusher.behind.Load())
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, "data", o)
	p = mustPartition(t, l, "a", 0)
	if got, err := readAll(p, 0, 1<<20); err != nil || len(got) != len(want) {
		t.Fatalf("%d of %d batches: %v", len(got), len(want), err)
	}
	fill(t, p, 3)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestNewerFormats refuses each file of a newer version by name.
func TestNewerFormats(t *testing.T) {
	for _, name := range []string{"meta", "producer-ids", "clean", "synced", "topics/a-0/checkpoint", "topics/a-0/leader-epochs",
		"topics/a-0/00000000000000000000.index", "topics/a-0/00000000000000000000.txnindex"} {
		m := vfs.NewMem(1)
		l := mustOpen(t, "data", testOptions(m))
		p := mustTopic(t, l, "a", 1).Partitions()[0]
		fill(t, p, 5)
		mustAppend(t, p, newBatch(record.BatchOptions{ProducerID: 1, Transactional: true}, "x", 1, 10, 1))
		if _, err := p.AppendMarker(context.Background(), Marker{ProducerID: 1}); err != nil {
			t.Fatal(err)
		}
		if _, err := l.NewProducerID(); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("data", filepath.FromSlash(name))
		b, err := vfs.ReadFile(m, file)
		if err != nil {
			t.Fatal(err)
		}
		binary.BigEndian.PutUint32(b[8:], 99)
		if err := vfs.WriteFile(m, file, b); err != nil {
			t.Fatal(err)
		}
		l, err = Open(context.Background(), "data", testOptions(m))
		if !errors.Is(err, ErrNewerFormat) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			_ = l.Close()
		}
		if lock, err := m.Lock("data/LOCK"); err != nil {
			t.Errorf("%s: the lock is kept: %v", name, err)
		} else {
			_ = lock.Close()
		}
	}
}

// FuzzRecovery opens a partition whose only segment is anything. It must not
// panic, what it serves must check, and a second Open must find the same.
func FuzzRecovery(f *testing.F) {
	good := newBatch(record.BatchOptions{}, "a", 2, 10, 1)
	second := newBatch(record.BatchOptions{Codec: record.Zstd, ProducerID: 4}, "b", 3, 10, 1)
	record.SetBaseOffset(second, 2)
	f.Add(good, int64(0), true)
	f.Add(append(bytes.Clone(good), second...), int64(2), true)
	f.Add(append(bytes.Clone(good), second[:50]...), int64(2), false)
	f.Add(append(append(bytes.Clone(good), 1, 2, 3), second...), int64(-1), false)
	f.Fuzz(func(t *testing.T, content []byte, mark int64, marks bool) {
		m := vfs.NewMem(1)
		o := testOptions(m)
		l := mustOpen(t, "data", o)
		p := mustTopic(t, l, "a", 1).Partitions()[0]
		file := filepath.Join(p.dir, segmentName(0))
		kill(t, l, m, "data")
		if err := vfs.WriteFile(m, file, content); err != nil {
			t.Fatal(err)
		}
		mark &= 63
		file = l.syncedName()
		s := syncedFile{log: l}
		s.begin()
		s.add(p, mark)
		s.finish()
		if err := vfs.WriteFile(m, file, append(syncedKind.wrap(nil), s.buf...)); err != nil {
			t.Fatal(err)
		}
		if !marks {
			if err := m.Remove(file); err != nil {
				t.Fatal(err)
			}
		}
		var ends []int64
		for range 2 {
			l := mustOpen(t, "data", o)
			p := mustPartition(t, l, "a", 0)
			if _, err := readAll(p, 0, 100); err != nil {
				var ce *CorruptError
				if !errors.As(err, &ce) {
					t.Fatal(err)
				}
			}
			for offset := range min(p.End(), 100) {
				if _, err := p.Read(p.NewCursor(offset), 1); err != nil {
					t.Fatalf("offset %d of %d: %v", offset, p.End(), err)
				}
			}
			if _, _, err := p.OffsetForTime(mark); err != nil {
				t.Fatal(err)
			}
			ends = append(ends, p.End())
			kill(t, l, m, "data")
		}
		if ends[0] != ends[1] {
			t.Fatalf("end %d, then %d", ends[0], ends[1])
		}
		if _, err := Repair(context.Background(), "data", "a", 0, o); err != nil {
			t.Fatal(err)
		}
		l = mustOpen(t, "data", o)
		fill(t, mustPartition(t, l, "a", 0), 1)
		if found, err := l.Verify(context.Background(), nil); err != nil || len(found) > 0 {
			t.Fatal(found, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

package commitlog

import (
	"context"
	"testing"
	"time"

	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/log/vfs"
)

// TestPins: retention by age and by size leaves what is pinned and nothing else, tells
// how much that is, and takes it when the pin moves on or goes.
func TestPins(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	o := testOptions(vfs.NewMem(1))
	o.Now = func() time.Time { return now }
	l := mustOpenAlone(t, "data", o)
	bySize := mustTopic(t, l, "size", 1, "retention.bytes", "1").Partitions()[0]
	byTime := mustTopic(t, l, "time", 1, "retention.ms", "60000").Partitions()[0]
	for _, p := range []*Partition{bySize, byTime} {
		fill(t, p, 100)
		retain := func() {
			t.Helper()
			if err := p.retain(t.Context(), now); err != nil {
				t.Fatal(err)
			}
		}
		p.Pin("windows", 40)
		p.Pin("checkpoint", 90)
		if owner, from, ok := p.Pinned(); owner != "windows" || from != 40 || !ok {
			t.Fatal(owner, from, ok)
		}
		retain()
		if start := p.Start(); start == 0 || start > 40 || p.segs[1].base <= 40 {
			t.Fatalf("starts at %d, the next segment at %d", start, p.segs[1].base)
		}
		held := p.PinnedBytes()
		if active := p.segs[len(p.segs)-1].size; held != p.Size()-active || held == 0 {
			t.Fatalf("%d bytes are held of %d", held, p.Size())
		}
		p.Pin("windows", 80)
		retain()
		if start := p.Start(); start <= 40 || start > 80 || p.PinnedBytes() >= held {
			t.Fatalf("starts at %d, %d bytes are held", start, p.PinnedBytes())
		}
		p.Unpin("windows")
		p.Unpin("checkpoint")
		retain()
		if p.PinnedBytes() != 0 || len(p.segs) != 1 {
			t.Fatalf("%d bytes are held, %d segments", p.PinnedBytes(), len(p.segs))
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestPinsYield: what a person deletes goes, pinned or not, and so does what a full disk
// needs, when nothing else is left.
func TestPinsYield(t *testing.T) {
	fsys := &fullFS{FS: vfs.NewMem(1), free: 1 << 40}
	o := testOptions(fsys)
	o.MinFreeBytes = 20_000
	l := mustOpenAlone(t, "data", o)
	pinned := mustTopic(t, l, "pinned", 1, "retention.ms", "100000000000").Partitions()[0]
	other := mustTopic(t, l, "other", 1, "retention.ms", "100000000000").Partitions()[0]
	for i := range 60 {
		mustAppend(t, pinned, newBatch(record.BatchOptions{}, "x", 2, 300, int64(i)))
		mustAppend(t, other, newBatch(record.BatchOptions{}, "x", 2, 300, int64(i+1000)))
	}
	pinned.Pin("windows", 0)
	fsys.free = 100
	if err := l.makeRoom(context.Background()); err != nil {
		t.Fatal(err)
	}
	if pinned.Start() != 0 || other.Start() == 0 {
		t.Fatalf("starts at %d and %d", pinned.Start(), other.Start())
	}
	fsys.free = -1 << 40
	if err := l.makeRoom(context.Background()); err != nil {
		t.Fatal(err)
	}
	if len(pinned.segs) != 1 {
		t.Fatalf("%d segments are left", len(pinned.segs))
	}
	fsys.free = 1 << 40
	end := pinned.End()
	if err := pinned.DeleteRecords(context.Background(), end); err != nil || pinned.Start() != end {
		t.Fatal(err, pinned.Start())
	}
	if err := l.DeleteTopic("pinned"); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestHoldRetention: nothing goes before those who need it have pinned it.
func TestHoldRetention(t *testing.T) {
	o := testOptions(vfs.NewMem(1))
	o.HoldRetention = true
	l := mustOpen(t, "data", o)
	if l.retaining.Load() {
		t.Fatal("retention is not held")
	}
	l.BeginRetention()
	if !l.retaining.Load() {
		t.Fatal("retention does not begin")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

package commitlog

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/log/vfs"
)

// roomy is a log that takes space ahead from the first byte on.
func roomy(fsys vfs.FS) Options {
	o := testOptions(fsys)
	o.SegmentBytes, o.roomFrom = 64<<10, 1
	return o
}

// TestRoomAfterCrash: the space that was taken ahead is no damage after a crash, of
// sealed segments neither, and nothing is said to be lost; a repair finds none.
func TestRoomAfterCrash(t *testing.T) {
	disk := vfs.NewMem(1)
	l := mustOpen(t, "data", roomy(disk))
	p := mustTopic(t, l, "t", 1).Partitions()[0]
	for range 5 { // three to a segment
		mustAppend(t, p, newBatch(record.BatchOptions{ProducerID: -1}, "r", 1, 20<<10, 1))
	}
	active, sealed := p.segs[1], p.segs[0]
	if size := fileSize(t, disk, active.file); size != active.room || size <= active.size {
		t.Fatalf("a file of %d bytes for %d, and room to %d", size, active.size, active.room)
	}
	if size := fileSize(t, disk, sealed.file); size != sealed.size {
		t.Fatalf("a sealed file of %d bytes for %d", size, sealed.size)
	}
	sizes := map[string]int64{active.file: active.size, sealed.file: sealed.size}
	crashed := killed(t, disk)
	// As if its truncation were lost with the power.
	f, err := crashed.OpenFile(sealed.file)
	if err == nil {
		err = f.Truncate(sealed.size + 5000)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, repair := range []bool{false, true} {
		disk := killed(t, crashed)
		var said bytes.Buffer
		o := roomy(disk)
		o.Logger = slog.New(slog.NewTextHandler(&said, nil))
		if repair {
			report, err := Repair(context.Background(), "data", "t", 0, o)
			if err != nil || len(report.Lost) > 0 || report.End != 5 {
				t.Errorf("repair: %+v, %v", report, err)
			}
		}
		l := mustOpen(t, "data", o)
		p, err := l.Partition("t", 0)
		if err != nil || p.Err() != nil || p.End() != 5 {
			t.Fatalf("repair %v: %v, %v, ends at %d", repair, err, p.Err(), p.End())
		}
		for name, want := range sizes {
			if size := fileSize(t, disk, name); size != want {
				t.Errorf("repair %v: %s has %d bytes, expected %d", repair, name, size, want)
			}
		}
		if strings.Contains(said.String(), "cut") {
			t.Errorf("repair %v: zeros are said to be lost:\n%s", repair, &said)
		}
		if found, err := l.Verify(context.Background(), nil); err != nil || len(found) > 0 {
			t.Errorf("repair %v: %v, %v", repair, found, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRoomOfSealedIsGoneBeforeCheckpoint: what lies before a checkpoint is not scanned
// for where batches end, so a crash right after one must not bring zeros back there.
func TestRoomOfSealedIsGoneBeforeCheckpoint(t *testing.T) {
	for seed := range uint64(40) {
		disk := vfs.NewMem(seed)
		l := mustOpen(t, "data", roomy(disk))
		p := mustTopic(t, l, "t", 1).Partitions()[0]
		for range 4 { // all are durable; then the fourth begins a segment
			mustAppend(t, p, newBatch(record.BatchOptions{ProducerID: -1}, "r", 1, 20<<10, 1))
		}
		if err := p.checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
		after := mustOpen(t, "data", roomy(disk.CrashClone()))
		q, err := after.Partition("t", 0)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := readAll(q, 0, 1<<20); err != nil || len(got) != 4 {
			t.Errorf("seed %d: %d batches, %v", seed, len(got), err)
		}
		if err := after.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTornBatchBeforeRoom: a batch that was half written when the power went, with zeros
// behind, is cut, and what is said to be lost is what was written of it.
func TestTornBatchBeforeRoom(t *testing.T) {
	disk := vfs.NewMem(1)
	l := mustOpen(t, "data", roomy(disk))
	p := mustTopic(t, l, "t", 1).Partitions()[0]
	mustAppend(t, p, newBatch(record.BatchOptions{ProducerID: -1}, "r", 1, 1000, 1))
	seg := p.segs[0]
	crashed := killed(t, disk)
	f, err := crashed.OpenFile(seg.file)
	if err == nil {
		_, err = f.WriteAt(bytes.Repeat([]byte{1}, 777), seg.size)
	}
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	o := roomy(crashed)
	o.Logger = slog.New(slog.NewTextHandler(&said, nil))
	after := mustOpen(t, "data", o)
	defer after.Close()
	if !strings.Contains(said.String(), "bytes=777") {
		t.Errorf("of 777 bytes it says:\n%s", &said)
	}
	if size := fileSize(t, crashed, seg.file); size != seg.size {
		t.Errorf("%d bytes are left, expected %d", size, seg.size)
	}
}

// killed is what a kill leaves: all that was written.
func killed(t *testing.T, disk *vfs.Mem) *vfs.Mem {
	t.Helper()
	to := vfs.NewMem(1)
	var copyDir func(dir string)
	copyDir = func(dir string) {
		names, err := disk.List(dir)
		if err == nil {
			err = to.MkdirAll(dir)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			name = dir + "/" + name
			if info, err := disk.Stat(name); err != nil {
				t.Fatal(err)
			} else if info.Dir {
				copyDir(name)
				continue
			}
			data, err := vfs.ReadFile(disk, name)
			if err == nil {
				err = vfs.WriteFile(to, name, data)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	copyDir("data")
	return to
}

func fileSize(t *testing.T, fsys vfs.FS, name string) int64 {
	t.Helper()
	info, err := fsys.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size
}

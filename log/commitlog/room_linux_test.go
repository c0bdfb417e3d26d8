package commitlog

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/log/vfs"
)

// TestRoomIsGivenBack: space is taken ahead where much is written only, and none is left
// when a segment or the log is closed.
func TestRoomIsGivenBack(t *testing.T) {
	dir := t.TempDir()
	o := testOptions(vfs.OS)
	o.SegmentBytes = 4 << 20
	var later atomic.Int64
	o.Now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	l := mustOpen(t, dir, o)
	large, small := mustTopic(t, l, "large", 1).Partitions()[0], mustTopic(t, l, "small", 1).Partitions()[0]
	for range 6 { // the fifth begins a second segment
		mustAppend(t, large, newBatch(record.BatchOptions{ProducerID: -1}, "r", 1, 900<<10, 1))
		mustAppend(t, small, newBatch(record.BatchOptions{ProducerID: -1}, "r", 1, 1000, 1))
	}
	if len(large.segs) != 2 || large.segs[1].room <= large.segs[1].size {
		t.Errorf("%d segments, the last with room to %d of %d: nothing was taken ahead", len(large.segs), large.segs[1].room, large.segs[1].size)
	}
	if small.segs[0].room != 0 {
		t.Errorf("room to %d for small writes", small.segs[0].room)
	}
	checkSpace(t, large.segs[0])
	if info, err := os.Stat(large.segs[1].file); err != nil || info.Size() != large.segs[1].room {
		t.Errorf("%v, %v: expected a size of %d", info, err, large.segs[1].room)
	}
	// Where nothing much is written for a while, it is given back as well.
	later.Store(int64(2 * time.Minute))
	if failures, err := l.tidy(t.Context(), false); failures > 0 {
		t.Fatal(err)
	}
	large.appendMu.Lock() // the janitor may be at it
	if large.segs[1].room != 0 {
		t.Errorf("room to %d is kept", large.segs[1].room)
	}
	large.appendMu.Unlock()
	checkSpace(t, large.segs[1])
	mustAppend(t, large, newBatch(record.BatchOptions{ProducerID: -1}, "r", 1, 100<<10, 1))
	segs := append(large.segs, small.segs...)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, seg := range segs {
		checkSpace(t, seg)
	}
}

// checkSpace fails where a segment takes more space than its bytes do.
func checkSpace(t *testing.T, seg *segment) {
	t.Helper()
	info, err := os.Stat(seg.file)
	if err != nil {
		t.Fatal(err)
	}
	if space := info.Sys().(*syscall.Stat_t).Blocks * 512; info.Size() != seg.size || space > seg.size+64<<10 {
		t.Errorf("%s: %d bytes, expected %d, which take %d", filepath.Base(seg.file), info.Size(), seg.size, space)
	}
}

// TestRoomOnFullDisk: a file system that cannot take space ahead takes batches.
func TestRoomOnFullDisk(t *testing.T) {
	l := mustOpen(t, t.TempDir(), testOptions(noRoom{vfs.OS}))
	defer l.Close()
	p := mustTopic(t, l, "t", 1).Partitions()[0]
	for range 2 {
		mustAppend(t, p, newBatch(record.BatchOptions{ProducerID: -1}, "r", 1, 100<<10, 1))
	}
}

type noRoom struct{ vfs.FS }

func (f noRoom) Create(name string) (vfs.File, error) {
	file, err := f.FS.Create(name)
	return noRoomFile{file}, err
}

func (f noRoom) OpenFile(name string) (vfs.File, error) {
	file, err := f.FS.OpenFile(name)
	return noRoomFile{file}, err
}

type noRoomFile struct{ vfs.File }

func (noRoomFile) Preallocate(int64, int64) error { return syscall.ENOSPC }

package commitlog

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/log/vfs"
)

// slowSyncs is a file system on which a sync of some files takes until it is let go on.
type slowSyncs struct {
	vfs.FS
	slow     func(name string) bool
	begun    chan error // gets what the sync will return
	refuse   error      // to make them; nil: they are made
	at, most atomic.Int64
}

func (f *slowSyncs) Create(name string) (vfs.File, error) {
	if f.refuse != nil && f.slow(name) {
		return nil, f.refuse
	}
	return f.wrap(name)(f.FS.Create(name))
}

func (f *slowSyncs) OpenFile(name string) (vfs.File, error) { return f.wrap(name)(f.FS.OpenFile(name)) }

func (f *slowSyncs) wrap(name string) func(vfs.File, error) (vfs.File, error) {
	return func(file vfs.File, err error) (vfs.File, error) {
		if err != nil || !f.slow(name) {
			return file, err
		}
		return slowSync{file, f}, nil
	}
}

type slowSync struct {
	vfs.File
	f *slowSyncs
}

func (s slowSync) Sync() error {
	if n := s.f.at.Add(1); n > s.f.most.Load() {
		s.f.most.Store(n)
	}
	defer s.f.at.Add(-1)
	if err := <-s.f.begun; err != nil {
		return err
	}
	return s.File.Sync()
}

// TestSlowSync: a partition whose sync takes long holds up no other one, has no second
// one meanwhile, and what came meanwhile shares the next.
func TestSlowSync(t *testing.T) {
	disk := &slowSyncs{FS: vfs.NewMem(1), slow: func(name string) bool { return strings.Contains(name, "slow-0") && strings.HasSuffix(name, logSuffix) }, begun: make(chan error)}
	l := mustOpen(t, "data", testOptions(disk))
	slow, fast := mustTopic(t, l, "slow", 1).Partitions()[0], mustTopic(t, l, "fast", 1).Partitions()[0]
	batch := func() []byte { return newBatch(record.BatchOptions{ProducerID: -1}, "r", 1, 100, 1) }
	appendTo := func(p *Partition) {
		t.Helper()
		if _, err := p.Append(t.Context(), batch(), 0); err != nil {
			t.Fatal(err)
		}
	}
	appendTo(slow)
	for disk.at.Load() == 0 {
		time.Sleep(time.Millisecond) // between two looks at a condition
	}
	for range 5 {
		appendTo(slow)
		mustAppend(t, fast, batch())
	}
	if hw := slow.HighWatermark(); hw != 0 {
		t.Fatalf("%d batches are acknowledged that are not synced", hw)
	}
	disk.begun <- nil
	if err := slow.Wait(t.Context(), 0); err != nil || slow.HighWatermark() != 1 {
		t.Fatalf("after the first sync %d batches are durable, %v", slow.HighWatermark(), err)
	}
	disk.begun <- nil
	if err := slow.Wait(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	if n := disk.most.Load(); n != 1 {
		t.Errorf("%d syncs of one partition at the same time", n)
	}
	// One that fails is the last: the next might say that all is well.
	appendTo(slow)
	for disk.at.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	appendTo(slow)
	broken := errors.New("broken")
	disk.begun <- broken
	if err := slow.Wait(t.Context(), 6); !errors.Is(err, ErrFailed) || !errors.Is(err, broken) {
		t.Errorf("after a failed sync: %v", err)
	}
	mustAppend(t, fast, batch())
	if hw := slow.HighWatermark(); hw != 6 {
		t.Errorf("after a failed sync %d batches are durable, expected 6", hw)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestMarksAreRotated: the file of what was synced is written anew while partitions are
// synced, which wait for nothing, and has what was marked meanwhile.
func TestMarksAreRotated(t *testing.T) {
	disk := &slowSyncs{FS: vfs.NewMem(1), slow: func(name string) bool { return strings.HasSuffix(name, "synced.next") }, begun: make(chan error)}
	o := testOptions(disk)
	o.marksMax = 4000
	l := mustOpenAlone(t, "data", o)
	topic := mustTopic(t, l, "t", 2)
	parts := topic.Partitions()
	add := func(p *Partition) {
		t.Helper()
		mustAppend(t, p, newBatch(record.BatchOptions{ProducerID: -1}, "r", 1, 10, 1))
	}
	check := func() {
		t.Helper()
		marks, err := readSynced(disk, "data/synced", quiet)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range parts {
			if mark := marks[markKey{topic.seq, p.index}]; mark != p.End() {
				t.Errorf("%v: the mark is %d, expected %d", p, mark, p.End())
			}
		}
	}
	for _, broken := range []error{nil, errors.New("broken"), nil} {
		for range 50 {
			add(parts[0])
		}
		disk.refuse = errors.New("no more files")
		l.marks.rotate()
		disk.refuse = nil
		before := fileSize(t, disk, "data/synced")
		rotated := make(chan struct{})
		go func() { l.marks.rotate(); close(rotated) }()
		for disk.at.Load() == 0 {
			time.Sleep(time.Millisecond) // between two looks at a condition
		}
		add(parts[1])
		l.marks.rotate() // one at a time
		check()
		disk.begun <- broken
		<-rotated
		check()
		if after := fileSize(t, disk, "data/synced"); broken == nil && after >= before {
			t.Errorf("it had %d bytes and has %d", before, after)
		}
		add(parts[1])
		check()
	}
	// It is there whole where nobody rotates it.
	for range 200 {
		add(parts[0])
	}
	if size := fileSize(t, disk, "data/synced"); size > o.marksMax+100 {
		t.Errorf("it has %d bytes", size)
	}
	check()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

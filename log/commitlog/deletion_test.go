package commitlog

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/log/vfs"
)

// stuck is a file system on which a directory cannot be removed.
type stuck struct {
	vfs.FS
	dir string
}

func (f *stuck) Remove(name string) error {
	if f.dir != "" && filepath.Base(name) == f.dir {
		return errors.New("stuck")
	}
	return f.FS.Remove(name)
}

// TestDeletionFails: where a topic's directories cannot be removed, one of its name is
// made once they are, and no deletion that is made up for takes what is in that.
func TestDeletionFails(t *testing.T) {
	fsys := &stuck{FS: vfs.NewMem(1)}
	l := mustOpen(t, "data", testOptions(fsys))
	mustAppend(t, mustTopic(t, l, "a", 2).Partitions()[0], newBatch(record.BatchOptions{}, "old", 1, 10, 1))
	fsys.dir = "a-1"
	if err := l.DeleteTopic("a"); err == nil {
		t.Fatal("a directory that is there has been removed")
	}
	if _, ok := l.Topic("a"); ok {
		t.Error("the topic is there")
	}
	if _, err := l.CreateTopic(TopicSpec{Name: "a", Partitions: 1}); err == nil {
		t.Fatal("made in the place of one that is not gone")
	}
	fsys.dir = ""
	mustAppend(t, mustTopic(t, l, "a", 1).Partitions()[0], newBatch(record.BatchOptions{}, "new", 1, 10, 1))
	// As one before this one left it: both in the file of the topics.
	next := *l.meta
	next.Topics = append([]topicMeta{{Name: "a", ID: strings.Repeat("0", 32), Seq: 1, Partitions: 2, Deleting: true}}, next.Topics...)
	if err := l.saveMeta(&next); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = mustOpen(t, "data", testOptions(fsys))
		if p := mustPartition(t, l, "a", 0); p.End() != 1 {
			t.Fatalf("%d records, want the one of the new topic", p.End())
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestDeletionWaits: what is being written into a partition's directory is there before
// the directory goes, and nothing is written into it later.
func TestDeletionWaits(t *testing.T) {
	for _, file := range []string{"checkpoint.tmp", "leader-epochs.tmp"} {
		t.Run(file, func(t *testing.T) {
			disk := &slowSyncs{FS: vfs.NewMem(1), slow: func(name string) bool { return strings.HasSuffix(name, filepath.Join("a-0", file)) }, begun: make(chan error)}
			l := mustOpen(t, "data", testOptions(disk))
			p := mustTopic(t, l, "a", 1).Partitions()[0]
			saved := make(chan error, 1)
			if _, err := p.Append(t.Context(), newBatch(record.BatchOptions{}, "v", 1, 10, 1), 0); err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(file, "checkpoint") {
				go func() { saved <- p.checkpoint(t.Context()) }()
			} else {
				saved <- nil // the flusher writes it
			}
			for disk.at.Load() == 0 {
				time.Sleep(time.Millisecond) // between two looks at a condition
			}
			deleted := make(chan error, 1)
			go func() { deleted <- l.DeleteTopic("a") }()
			for len(deleted) == 0 && p.enter() == nil { // until it waits, or has gone on
				p.writing.RUnlock()
				time.Sleep(time.Millisecond)
			}
			select {
			case err := <-deleted:
				t.Fatalf("deleted while %s is written: %v", file, err)
			default:
			}
			disk.begun <- nil
			if err := errors.Join(<-saved, <-deleted); err != nil {
				t.Fatal(err)
			}
			if names, err := disk.List("data/topics"); err != nil || len(names) > 0 {
				t.Fatalf("left: %v, %v", names, err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestDeletedRecordsStayDeleted: DeleteRecords, beside a checkpoint that was begun before
// it, holds behind a crash.
func TestDeletedRecordsStayDeleted(t *testing.T) {
	m := vfs.NewMem(1)
	disk := &slowSyncs{FS: m, slow: func(name string) bool { return strings.HasSuffix(name, "checkpoint.tmp") }, begun: make(chan error)}
	l := mustOpenAlone(t, "data", testOptions(disk))
	p := mustTopic(t, l, "a", 1).Partitions()[0]
	fill(t, p, 3)
	saved, deleted := make(chan error, 1), make(chan error, 1)
	go func() { saved <- p.checkpoint(t.Context()) }()
	for disk.at.Load() == 0 {
		time.Sleep(time.Millisecond) // between two looks at a condition
	}
	go func() { deleted <- p.DeleteRecords(t.Context(), 2) }()
	for p.Start() != 2 {
		time.Sleep(time.Millisecond)
	}
	for end := time.Now().Add(100 * time.Millisecond); disk.at.Load() < 2 && time.Now().Before(end); { // a second one would be begun soon
		time.Sleep(time.Millisecond)
	}
	if disk.at.Load() > 1 {
		t.Error("two checkpoints are written at once: the earlier one may be what stays")
	}
	close(disk.begun)
	if err := errors.Join(<-saved, <-deleted); err != nil {
		t.Fatal(err)
	}
	m = m.CrashClone()
	_ = l.Close()
	l = mustOpenAlone(t, "data", testOptions(m))
	if p := mustPartition(t, l, "a", 0); p.Start() != 2 {
		t.Errorf("starts at %d, and its records to 2 were deleted", p.Start())
	}
}

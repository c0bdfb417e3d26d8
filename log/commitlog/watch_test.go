package commitlog

import (
	"testing"
	"time"

	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/log/vfs"
)

// TestWatch: one channel tells of appends to any of the partitions and of their
// end, and of nothing after Unwatch.
func TestWatch(t *testing.T) {
	l := mustOpen(t, "data", testOptions(vfs.NewMem(1)))
	defer l.Close()
	c := make(chan struct{}, 1)
	told := func() {
		t.Helper()
		select {
		case <-c:
		case <-time.After(time.Minute):
			t.Fatal("not told")
		}
	}
	ps := mustTopic(t, l, "t", 3).Partitions()
	for _, p := range ps {
		p.Watch(c)
	}
	for _, p := range ps {
		mustAppend(t, p, newBatch(record.BatchOptions{}, "v", 1, 1, 1))
		told()
	}
	for _, p := range ps[1:] {
		p.Unwatch(c)
	}
	mustAppend(t, ps[1], newBatch(record.BatchOptions{}, "v", 1, 1, 1))
	select {
	case <-c:
		t.Fatal("told after Unwatch")
	default: // Append returned after the change was told
	}
	if err := l.DeleteTopic("t"); err != nil {
		t.Fatal(err)
	}
	told()
	for _, p := range ps {
		if p.Unwatch(c); len(p.watchers) > 0 {
			t.Fatalf("%d watchers left", len(p.watchers))
		}
	}
}

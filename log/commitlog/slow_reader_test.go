package commitlog

import (
	"context"
	"testing"
	"time"

	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/log/vfs"
)

// TestSlowReaderAtSegmentEnd leaves a cursor at the end of a segment while
// retention removes that segment: the cursor goes on with the next one.
func TestSlowReaderAtSegmentEnd(t *testing.T) {
	for _, left := range []int{1, 3} { // segments after the removed one
		o := testOptions(vfs.NewMem(1))
		o.SegmentBytes = 1 // a batch each
		l := mustOpen(t, "data", o)
		p := mustTopic(t, l, "t", 1, "retention.ms", "60000").Partitions()[0]
		mustAppend(t, p, newBatch(record.BatchOptions{}, "old", 3, 10, 1000))
		c := p.NewCursor(0)
		if b, err := p.Read(c, 1<<20); err != nil || len(b) == 0 {
			t.Fatal(len(b), err)
		}
		now := time.Now()
		for range left {
			mustAppend(t, p, newBatch(record.BatchOptions{}, "new", 2, 10, now.UnixMilli()))
		}
		if err := p.retain(t.Context(), now); err != nil {
			t.Fatal(err)
		}
		if p.Start() != 3 || len(p.segs) != left {
			t.Fatalf("start %d, %d segments", p.Start(), len(p.segs))
		}
		for c.Offset() < p.HighWatermark() {
			before := c.Offset()
			if _, err := p.Read(c, 1<<20); err != nil || c.Offset() == before {
				t.Fatalf("%d segments left: at %d after %d: %v", left, c.Offset(), before, err)
			}
		}
		if err := p.Wait(context.Background(), 3); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

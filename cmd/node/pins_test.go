package node

import (
	"net/http/httptest"
	"strings"
	"testing"
)

// TestPins: what a restart and the windows need of a stream's topic is pinned before
// anything could be deleted, in each life from further on.
func TestPins(t *testing.T) {
	receiver := httptest.NewServer(nil)
	defer receiver.Close()
	dir := t.TempDir()
	for life, want := range []int64{0, 0, 0, 3} {
		n, stop := startNode(t, dir, receiver.URL)
		topic, ok := n.log.Topic("payments")
		if !ok {
			t.Fatal("no topic")
		}
		p := topic.Partitions()[0]
		owner, from, pinned := p.Pinned()
		if !pinned || owner != "engine: payments/0" || from != want {
			t.Errorf("life %d: pinned %v by %q from %d, want from %d", life, pinned, owner, from, want)
		}
		switch life {
		case 0:
			produce(t, n, payment("a", 0, "1"), payment("a", 1, "1"), payment("a", 2, "1"))
		case 1, 2: // the window of an hour is past the first events
			produce(t, n, strings.Replace(payment("a", life, "1"), "T00:", "T03:", 1))
		}
		eventually(t, "all events are decided", func() bool {
			for _, sh := range n.engine.Status() {
				if sh.Topic == "payments" && sh.Partition == 0 {
					return sh.Cursor == p.HighWatermark()
				}
			}
			return false
		})
		stop()
	}
}

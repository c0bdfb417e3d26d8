package node

import (
	"testing"
	"time"
)

// TestStreamTopicDeleted deletes the topic of a running stream from inside, as no
// client may: the rest of the node works on, says what is wrong, and stops in order.
func TestStreamTopicDeleted(t *testing.T) {
	n, stop := startNode(t, t.TempDir(), "http://127.0.0.1:9/")
	produce(t, n, payment("c1", 1, "500.00"))
	eventually(t, "a row", func() bool { return sqlInt(t, n, "SELECT count(*) FROM payments") == 1 })
	if err := n.log.DeleteTopic("payments"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "trouble is named", func() bool {
		var o Overview
		get(t, n, "/v1/overview", 200, &o)
		return len(o.Trouble) > 0
	})
	if got := sqlInt(t, n, "SELECT count(*) FROM payments"); got != 1 {
		t.Errorf("%d rows after the deletion", got)
	}
	begun := time.Now()
	stop()
	if took := time.Since(begun); took > 8*time.Second {
		t.Errorf("the stop took %v", took)
	}
}

// TestStreamTopicDeletedAtOnce deletes it while events are on their way, and stops.
func TestStreamTopicDeletedAtOnce(t *testing.T) {
	for range 5 {
		n, stop := startNode(t, t.TempDir(), "http://127.0.0.1:9/")
		for i := range 20 {
			produce(t, n, payment("c1", i, "500.00"))
		}
		if err := n.log.DeleteTopic("payments"); err != nil {
			t.Fatal(err)
		}
		var o Overview
		get(t, n, "/v1/overview", 200, &o)
		stop()
	}
}

package node

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/sink"
)

// damage flips a byte in the middle of a partition's first segment and removes
// what would keep recovery from looking there.
func damage(t *testing.T, dir, partition string) {
	t.Helper()
	place := filepath.Join(dir, "data", "log", "topics", partition)
	segments, err := filepath.Glob(filepath.Join(place, "*.log"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("segments of %s: %v %v", partition, segments, err)
	}
	data, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	if len(data) == 0 {
		t.Fatalf("%s is empty", segments[0])
	}
	data[len(data)/2] ^= 0x10
	if err := os.WriteFile(segments[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{filepath.Join(place, "checkpoint"), filepath.Join(dir, "data", "log", "clean")} {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDamagedPartitions takes one partition after another out of service: the
// rest of the node works.
func TestDamagedPartitions(t *testing.T) {
	for _, partition := range []string{"payments-0", "weir.alerts-0", "weir.decisions-0", event.TopicDeadLetters + "-0"} {
		t.Run(partition, func(t *testing.T) {
			posts := make(chan string, 100)
			receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				posts <- r.Header.Get("webhook-id")
			}))
			defer receiver.Close()
			dir := t.TempDir()
			n, stop := startNode(t, dir, receiver.URL)
			var first []string
			for i := range 20 { // both partitions, each with alerts and dead letters
				card := string(rune('a' + i))
				first = append(first, payment(card, i, "150"), payment(card, i, `"nonsense"`))
			}
			produce(t, n, first...)
			for range 20 {
				<-posts
			}
			var page AlertsPage
			eventually(t, "deliveries in SQL", func() bool {
				get(t, n, "/v1/alerts", 200, &page)
				sum := 0
				for _, a := range page.Alerts {
					sum += len(a.Deliveries)
				}
				return sum == 20
			})
			stop()
			damage(t, dir, partition)
			n, stop = startNode(t, dir, receiver.URL)
			healthy := func() string {
				resp, err := http.Get("http://" + n.HTTPAddr() + "/-/healthy")
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				if err != nil || resp.StatusCode != http.StatusOK {
					t.Fatalf("%s, %v", resp.Status, err)
				}
				return string(body)
			}
			repair := "weir log repair --data-dir " + filepath.Join(dir, "data", "log") + " "
			if text := healthy(); !strings.HasPrefix(text, "healthy\n") || !strings.Contains(text, repair) {
				t.Errorf("health: %s", text)
			}
			var o Overview
			get(t, n, "/v1/overview", 200, &o)
			if len(o.Trouble) == 0 || !strings.Contains(o.Trouble[0], repair) {
				t.Errorf("trouble %q", o.Trouble)
			}
			// The SQL side keeps what it had read of the lost records.
			var sum int64
			for _, table := range []string{"payments", "alerts", "decisions", "deadletters"} {
				res, err := n.query(t.Context(), "SELECT count(*) FROM "+table)
				if err != nil {
					t.Fatal(err)
				}
				sum += asInt(res.Rows[0][0])
			}
			if sum != 80 {
				t.Errorf("%d rows, want 80", sum)
			}
			// The other partition is decided.
			other := ""
			for i := 0; other == ""; i++ {
				if c := fmt.Sprint("card", i); sink.Partition([]byte(c), 2) == 1 {
					other = c
				}
			}
			end, err := n.highWatermark("payments", 1)
			if err != nil {
				t.Fatal(err)
			}
			produce(t, n, payment(other, 59, "150"))
			eventually(t, "the other partition is decided", func() bool {
				for _, sh := range n.engine.Status() {
					if sh.Partition == 1 && sh.Cursor > end {
						return true
					}
				}
				return false
			})
			stop()
		})
	}
}

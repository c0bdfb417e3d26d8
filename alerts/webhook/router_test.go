package webhook

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirstream/weir/alerts"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/sink"
	"github.com/weirstream/weir/ingest/source"
	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/vfs"
	"github.com/weirstream/weir/test/seeds"
)

// node is a router with its log on a file system.
type node struct {
	log    *commitlog.Log
	sink   *sink.Local
	router *alerts.Router
	stop   func() error
}

const partitions = 2

func boot(t testing.TB, fs vfs.FS, receivers ...alerts.Named) *node {
	t.Helper()
	l, err := commitlog.Open(t.Context(), "log", commitlog.Options{FS: fs, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for _, topic := range []string{event.TopicAlerts, event.TopicDeliveries} {
		if _, ok := l.Topic(topic); ok {
			continue
		}
		if _, err := l.CreateTopic(commitlog.TopicSpec{Name: topic, Partitions: partitions, Configs: map[string]string{"retention.ms": "-1"}}); err != nil {
			t.Fatal(err)
		}
	}
	n := &node{log: l, sink: sink.NewLocal(l)}
	n.router, err = alerts.New(receivers, alerts.Options{
		Sources: func(_ context.Context, topic string, partition int32, from int64) (source.Source, error) {
			p, err := l.Partition(topic, partition)
			if err != nil {
				return nil, err
			}
			return source.NewPartition(p, source.Options{From: from}), nil
		},
		Partitions: func(string) (int32, error) { return partitions, nil },
		HighWatermark: func(topic string, partition int32) (int64, error) {
			p, err := l.Partition(topic, partition)
			if err != nil {
				return 0, err
			}
			return p.HighWatermark(), nil
		},
		Sink: n.sink, BackoffMin: time.Millisecond, BackoffMax: 20 * time.Millisecond, ProbeMax: 20 * time.Millisecond,
		RetryAfterMax: 50 * time.Millisecond, CheckpointEvery: 20 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.router.Run(ctx) }()
	n.stop = func() error { cancel(); return <-done }
	return n
}

// raise writes alert number i and waits until it is durable.
func (n *node) raise(t testing.TB, i int) string {
	t.Helper()
	id, p, base := n.write(t, i)
	if err := n.sink.Durable(t.Context(), event.TopicAlerts, p, base); err != nil {
		t.Fatal(err)
	}
	return id
}

func (n *node) write(t testing.TB, i int) (id string, partition int32, offset int64) {
	t.Helper()
	p := int32(i % partitions)
	a := event.Alert{ID: event.AlertID("tx", p, int64(i), "r"), Rule: "r", Stream: "tx", Severity: "high", Action: "review", Message: fmt.Sprint("number ", i), Topic: "tx", Partition: p, Offset: int64(i)}
	base, err := n.sink.Append(t.Context(), event.TopicAlerts, p, []sink.Record{{Timestamp: int64(i), Key: []byte("k"), Value: a.AppendJSON(nil)}})
	if err != nil {
		t.Fatal(err)
	}
	return a.ID, p, base
}

// hook is an endpoint that answers badly at times and remembers what came.
type hook struct {
	t      testing.TB
	mu     sync.Mutex
	random *rand.Rand
	bodies map[string]string // by webhook-id
	taken  map[string]int
	well   atomic.Bool
}

func (h *hook) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // cut off by a crash
	}
	id := req.Header.Get("Webhook-Id")
	h.mu.Lock()
	defer h.mu.Unlock()
	if first, ok := h.bodies[id]; ok && first != string(body) {
		h.t.Errorf("%s came with different content: %s and %s", id, first, body)
	}
	h.bodies[id] = string(body)
	if !h.well.Load() {
		switch h.random.IntN(10) {
		case 0:
			w.WriteHeader(500)
			return
		case 1:
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(429)
			return
		case 2:
			panic(http.ErrAbortHandler) // taken or not? the sender cannot know
		}
	}
	h.taken[id]++
}

// TestCrashes runs the router on a real log over a file system that forgets what
// was not synced, with a real endpoint, and pulls the plug at random moments.
func TestCrashes(t *testing.T) {
	seed := seeds.One(t)
	random := rand.New(rand.NewPCG(seed, 1))
	h := &hook{t: t, random: rand.New(rand.NewPCG(seed, 2)), bodies: map[string]string{}, taken: map[string]int{}}
	s := httptest.NewServer(h)
	defer s.Close()
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	r, err := New(s.URL, Options{Allow: loopback, Secrets: []string{newSecret}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()

	fs := vfs.NewMem(seed)
	var raised []string
	for range 6 {
		n := boot(t, fs, alerts.Named{Name: "hook", Receiver: r})
		for range 50 + random.IntN(200) {
			raised = append(raised, n.raise(t, len(raised)))
		}
		<-time.After(time.Duration(random.IntN(40)) * time.Millisecond) // the random moment
		crashed := fs.CrashClone()
		if err := n.stop(); err != nil {
			t.Fatal(err)
		}
		if err := n.log.Close(); err != nil {
			t.Fatal(err)
		}
		fs = crashed
	}
	h.well.Store(true)
	n := boot(t, fs, alerts.Named{Name: "hook", Receiver: r})
	deadline := time.Now().Add(time.Minute)
	for {
		st := n.router.Status()[0]
		if st.Lag == 0 && st.Delivered == int64(len(raised)) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("after a minute: %+v of %d", st, len(raised))
		}
		<-time.After(5 * time.Millisecond)
	}
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	if err := n.log.Close(); err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range raised {
		if h.taken[id] == 0 {
			t.Errorf("%s was never taken", id)
		}
	}
}

// BenchmarkRouter is notifications through the whole router: log, queue, signed
// POST on loopback with 8 in flight, delivery records.
func BenchmarkRouter(b *testing.B) {
	var got atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		got.Add(1)
	}))
	defer s.Close()
	r, err := New(s.URL, Options{Allow: loopback, Secrets: []string{newSecret}})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	n := boot(b, vfs.NewMem(1), alerts.Named{Name: "hook", Receiver: r})
	b.ReportAllocs()
	began := time.Now()
	raised := int64(0)
	for b.Loop() {
		n.write(b, int(raised))                 // accepted; the log makes it durable by itself
		if raised++; raised-got.Load() > 2000 { // the log may be ahead, not boundlessly
			for raised-got.Load() > 1000 {
				<-time.After(time.Millisecond)
			}
		}
	}
	for got.Load() < raised {
		<-time.After(time.Millisecond)
	}
	b.ReportMetric(float64(raised)/time.Since(began).Seconds(), "webhooks/s")
	if err := n.stop(); err != nil {
		b.Fatal(err)
	}
	if err := n.log.Close(); err != nil {
		b.Fatal(err)
	}
}

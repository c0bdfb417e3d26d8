package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/log/vfs"
)

// TestPositiveHash: as Java has it, the least number included.
func TestPositiveHash(t *testing.T) {
	for s, want := range map[string]int32{"": 0, "hello": 99162322, "polygenelubricants": 0, "é": 233, "😀": 1772899, "console-consumer-1": javaHash("console-consumer-1")} {
		if got := positiveHash(s); got != want {
			t.Errorf("%q: %d, want %d", s, got, want)
		}
	}
}

// javaHash is the definition, for ASCII.
func javaHash(s string) int32 {
	var sum int32
	for i := range len(s) {
		power := int32(1)
		for range len(s) - 1 - i {
			power *= 31
		}
		sum += int32(s[i]) * power
	}
	if sum < 0 {
		sum = -sum
	}
	return sum
}

// recorder keeps the last value of each key, in the order of the log.
type recorder struct {
	mu     sync.Mutex
	values map[string]string
	ended  map[int32]bool
}

func (r *recorder) replay(p int32, _ *record.BatchHeader, rec *record.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := fmt.Sprint(p, "/", string(rec.Key))
	if delete(r.values, key); rec.Value != nil {
		r.values[key] = string(rec.Value)
	}
}
func (r *recorder) replayMarker(int32, *record.BatchHeader, bool) {}
func (r *recorder) replayed(p int32)                              { r.mu.Lock(); defer r.mu.Unlock(); r.ended[p] = true }

func openMem(t *testing.T, fs *vfs.Mem) *commitlog.Log {
	t.Helper()
	l, err := commitlog.Open(t.Context(), "data", commitlog.Options{FS: fs, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestStateTopic: nothing is made before the first append; what was waited for is
// there after a crash, last value by key, and nobody is served before it is read.
func TestStateTopic(t *testing.T) {
	fs := vfs.NewMem(1)
	l := openMem(t, fs)
	st := newStateTopic(l, offsetsTopic, slog.New(slog.DiscardHandler))
	rec := &recorder{values: map[string]string{}, ended: map[int32]bool{}}
	st.load(t.Context(), rec)
	if len(l.Topics()) > 0 || len(rec.ended) > 0 || st.ready(3) != nil {
		t.Fatal("a topic that was never needed is there")
	}
	want := map[string]string{}
	var group sync.WaitGroup
	for g := range 8 {
		id := fmt.Sprint("group", g)
		p := st.partition(id)
		want[fmt.Sprint(p, "/", id)] = "4"
		group.Go(func() {
			for i := range 5 {
				gone := keyValue{[]byte("gone" + id), []byte("x")}
				if i == 4 {
					gone.value = nil
				}
				at, err := st.append(t.Context(), p, record.BatchOptions{}, time.Now(), keyValue{[]byte(id), fmt.Append(nil, i)}, gone)
				if err == nil {
					err = at.wait(t.Context())
				}
				if err != nil || !at.durable() {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	after := openMem(t, fs.CrashClone())
	defer after.Close()
	l.Close()
	st = newStateTopic(after, offsetsTopic, slog.New(slog.DiscardHandler))
	if err := st.ready(0); !errors.Is(err, kerr.CoordinatorLoadInProgress) {
		t.Fatalf("before the load: %v", err)
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	st.load(stopped, rec)
	if err := st.ready(0); !errors.Is(err, kerr.CoordinatorLoadInProgress) || len(rec.ended) > 0 {
		t.Fatalf("after a load that was stopped: %v", err)
	}
	st.load(t.Context(), rec)
	if !maps.Equal(rec.values, want) || len(rec.ended) != statePartitions || st.ready(0) != nil {
		t.Fatalf("loaded %v of %d partitions, want %v", rec.values, len(rec.ended), want)
	}
}

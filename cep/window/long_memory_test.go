package window

import (
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/cep/reservoir"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/log/vfs"
	"github.com/weirstream/weir/test/seeds"
)

// TestLongMemory: a window of 30 days needs no more memory than one of an hour with the
// same live keys and as many events in it. With WEIR_LONG=1 a hundred million events are
// in the window, else two million.
func TestLongMemory(t *testing.T) {
	events, keys := 2_000_000, 20_000
	if seeds.Long(t) {
		events, keys = 100_000_000, 1_000_000
	}
	run := func(length time.Duration) *longRun {
		r := newLongRun(t, keys, length, time.Duration(int64(length)/int64(events)))
		r.events(events + events/10)
		return r
	}
	hour := run(time.Hour)
	month := run(30 * 24 * time.Hour)
	for _, r := range []*longRun{hour, month} {
		s := r.stats
		t.Logf("%v: %d keys, %d events in the window; operator %.1f MB, %.0f bytes a key; heap %.1f MB; disk %.1f MB, %.2f bytes an event; %.0f ns an event",
			r.length, s.Keys, s.Events, float64(s.Bytes)/1e6, float64(s.Bytes)/float64(s.Keys), float64(r.heap)/1e6, float64(s.Disk)/1e6, float64(s.Disk)/float64(s.Events), r.nanos)
		if int(s.Keys) != keys || int(s.Events) < events*99/100 {
			t.Errorf("%v: %d keys and %d events are held, expected %d and %d", r.length, s.Keys, s.Events, keys, events)
		}
	}
	// Files go whole, and blocks come in powers of two.
	if most := hour.stats.Bytes + hour.stats.Bytes/20 + 1<<20; month.stats.Bytes > most {
		t.Errorf("30 days need %d bytes, an hour %d", month.stats.Bytes, hour.stats.Bytes)
	}
	if most := hour.heap + hour.heap/20 + 4<<20; month.heap > most {
		t.Errorf("30 days need %d bytes of heap, an hour %d", month.heap, hour.heap)
	}
	if most := int64(keys*200 + 4<<20); month.stats.Bytes > most {
		t.Errorf("%d keys need %d bytes, expected at most %d", keys, month.stats.Bytes, most)
	}
}

// longRun is the count, sum and mean of one length over random events, a tenth of them
// out of order.
type longRun struct {
	t      *testing.T
	length time.Duration
	step   time.Duration // between two events
	keys   int
	op     *Long
	types  []event.Type

	stats cep.Stats
	heap  int64
	nanos float64
}

func newLongRun(t *testing.T, keys int, length, step time.Duration) *longRun {
	amount := event.Type{Kind: event.Decimal, Scale: 2}
	cfg := Config{Keys: []int{1}, Values: []Value{{Type: amount, Read: readInt(2)}}}
	r := &longRun{t: t, length: length, step: step, keys: keys}
	for i, a := range []Aggregate{Count, Sum, Mean} {
		cfg.Outputs = append(cfg.Outputs, Output{Slot: i, Extent: Extent{Length: length}, Aggregate: a})
		r.types = append(r.types, ResultType(a, amount))
	}
	var err error
	if r.op, err = NewLong(cfg, reservoir.Options{}); err != nil {
		t.Fatal(err)
	}
	r.op.Keep(vfs.OS, t.TempDir())
	return r
}

func (r *longRun) events(n int) {
	before := heap()
	rng := rand.New(rand.NewPCG(1, 1))
	lateness := 100 * r.step
	clock := cep.NewClock(lateness, nil, 0)
	var batch event.Batch
	var out cep.Outbox
	var took time.Duration
	key := make([]byte, 8)
	for i := 0; i < n; {
		batch.Reset(testSchema, []int{1, 2})
		for range min(1024, n-i) {
			at := event.Time(i) * event.Time(r.step)
			if rng.IntN(10) == 0 {
				at -= event.Time(rng.Int64N(int64(lateness)))
			}
			// Every key is as live in an hour as in a month.
			binary.BigEndian.PutUint64(key, uint64((i*7919)%r.keys)*0x9e3779b97f4a7c15)
			batch.Offset = append(batch.Offset, int64(i))
			batch.Time = append(batch.Time, at)
			batch.Cols[1].AppendBytes(key)
			batch.Cols[2].AppendInt64(int64(rng.IntN(10_000)))
			i++
		}
		out.Reset(r.types)
		clock.Arrive(&batch, &out)
		start := time.Now()
		if err := r.op.Process(&batch, &out); err != nil {
			r.t.Fatal(err)
		}
		if err := r.op.Advance(clock.Watermark(), &out); err != nil {
			r.t.Fatal(err)
		}
		took += time.Since(start)
	}
	r.stats, r.nanos = r.op.Stats(), float64(took.Nanoseconds())/float64(n)
	r.heap = heap() - before
	runtime.KeepAlive(r.op)
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

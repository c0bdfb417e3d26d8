package window

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/cep/reservoir"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/log/vfs"
)

// BenchmarkSliding is one event through one operator with count, sum and mean of
// one length, by keys and by events in the window of each key.
func BenchmarkSliding(b *testing.B) {
	for _, c := range []struct {
		keys, events int
		disorder     int // events behind, at most
	}{
		{1, 64, 0}, {1, 4096, 0}, {1, 262_144, 0},
		{100_000, 8, 0}, {100_000, 64, 0},
		{1, 4096, 64}, {1, 4096, 1024},
	} {
		b.Run(fmt.Sprintf("keys=%d/events=%d/disorder=%d", c.keys, c.events, c.disorder), func(b *testing.B) {
			benchmarkSliding(b, c.keys, c.events, c.disorder, 1)
		})
	}
	b.Run("keys=100000/events=64/lengths=10", func(b *testing.B) { benchmarkSliding(b, 100_000, 64, 0, 10) })
}

func benchmarkSliding(b *testing.B, keys, events, disorder, lengths int) {
	cfg, types := benchmarkConfig(keys, events, lengths)
	op, err := New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	benchmarkEvents(b, op, types, keys, events, disorder)
	s := op.Stats()
	b.ReportMetric(float64(s.Bytes)/float64(max(1, s.Keys)), "B/key")
}

func benchmarkConfig(keys, events, lengths int) (cfg Config, types []event.Type) {
	amount := event.Type{Kind: event.Decimal, Scale: 2}
	cfg = Config{Keys: []int{1}, Values: []Value{{Type: amount, Read: readInt(2)}}}
	for i := range lengths {
		d := time.Duration(keys*events) / time.Duration(i+1)
		for _, a := range []Aggregate{Count, Sum, Mean} {
			cfg.Outputs = append(cfg.Outputs, Output{Slot: len(types), Extent: Extent{Length: d}, Aggregate: a})
			types = append(types, ResultType(a, amount))
		}
	}
	return cfg, types
}

func benchmarkEvents(b *testing.B, op cep.Operator, types []event.Type, keys, events, disorder int) {
	const rows = 1024
	r := rand.New(rand.NewPCG(1, 1))
	names := make([][]byte, keys)
	for i := range names {
		names[i] = binary.BigEndian.AppendUint64(nil, uint64(i)*0x9e3779b97f4a7c15)
	}
	var batch event.Batch
	var out cep.Outbox
	now, clock := event.Time(0), cep.NewClock(time.Duration(disorder), nil, 0)
	one := func() {
		batch.Reset(testSchema, []int{1, 2})
		for i := range rows {
			now++
			t := now
			if disorder > 0 && i%2 == 0 {
				t -= event.Time(r.IntN(disorder))
			}
			batch.Offset = append(batch.Offset, int64(i))
			batch.Time = append(batch.Time, t)
			batch.Cols[1].AppendBytes(names[r.IntN(keys)])
			batch.Cols[2].AppendInt64(int64(r.IntN(10000)))
		}
		out.Reset(types)
		clock.Arrive(&batch, &out)
	}
	process := func() {
		if err := op.Process(&batch, &out); err != nil {
			b.Fatal(err)
		}
	}
	for n := 0; n < 2*keys*events; n += rows {
		one()
		process()
	}
	b.ReportAllocs()
	// Only Process is timed: making a batch costs as much, and stopping the
	// benchmark's own timer more.
	var spent time.Duration
	n := 0
	for b.Loop() {
		if n%rows == 0 {
			one()
			start := time.Now()
			process()
			spent += time.Since(start)
		}
		n++
	}
	b.ReportMetric(float64(spent.Nanoseconds())/float64((n+rows-1)/rows*rows), "ns/event")
}

// BenchmarkLong is BenchmarkSliding with the events on disk.
func BenchmarkLong(b *testing.B) {
	for _, lengths := range []int{1, 10} {
		b.Run(fmt.Sprintf("keys=100000/events=64/lengths=%d", lengths), func(b *testing.B) {
			cfg, types := benchmarkConfig(100_000, 64, lengths)
			op, err := NewLong(cfg, reservoir.Options{})
			if err != nil {
				b.Fatal(err)
			}
			op.Keep(vfs.OS, b.TempDir())
			benchmarkEvents(b, op, types, 100_000, 64, 0)
			s := op.Stats()
			b.ReportMetric(float64(s.Bytes)/float64(max(1, s.Keys)), "B/key")
			b.ReportMetric(float64(s.Disk)/float64(max(1, s.Events)), "disk-B/event")
		})
	}
}

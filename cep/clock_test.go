package cep

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/test/seeds"
)

var clockSchema = &event.Schema{Stream: "ticks", Fields: []event.Field{
	{Name: "ts", Type: event.Type{Kind: event.Timestamp}}, {Name: "venue", Type: event.Type{Kind: event.String}, Optional: true}, {Name: "symbol", Type: event.Type{Kind: event.Int64}},
}}

type tick struct {
	at     event.Time
	venue  *string
	symbol int64
}

// TestClockGroups compares groups' watermarks with a plain account of them, over
// batches, snapshots and groups that are forgotten.
func TestClockGroups(t *testing.T) {
	seeds.Each(t, 200, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 1))
		lateness, idle := time.Duration(r.IntN(20)), time.Duration(0)
		idle = lateness + time.Duration(r.IntN(200))
		clock := NewClock(lateness, []int{1, 2}, idle)
		clock.sparse = 4
		last, greatest := map[string]event.Time{}, event.MinTime
		venues := []string{"", "a", "ab", "b"}
		now := event.Time(0)
		var b event.Batch
		var out Outbox
		for range 60 {
			b.Reset(clockSchema, []int{1, 2})
			out.Reset(nil)
			var ticks []tick
			for range 1 + r.IntN(20) {
				now += event.Time(r.IntN(5))
				k := tick{at: now - event.Time(r.IntN(250)), symbol: int64(r.IntN(3))}
				if i := r.IntN(5); i < 4 {
					k.venue = &venues[i]
					b.Cols[1].AppendBytes([]byte(venues[i]))
				} else {
					b.Cols[1].AppendNull()
				}
				b.Cols[2].AppendInt64(k.symbol)
				b.Time = append(b.Time, k.at)
				ticks = append(ticks, k)
			}
			clock.Arrive(&b, &out)
			for i, k := range ticks {
				group := fmt.Sprint(k.venue == nil, k.symbol)
				if k.venue != nil {
					group += *k.venue
				}
				low, want := event.MinTime, event.MinTime
				if greatest != event.MinTime {
					low = greatest.Sub(idle)
					want = low
				}
				if at, ok := last[group]; ok {
					want = max(want, at.Sub(lateness))
				}
				if out.Watermark[i] != want || out.Low[i] != low || out.Late[i] != (k.at < want) {
					t.Fatalf("seed %d: watermark %d, lowest %d, late %v; want %d and %d", seed, out.Watermark[i], out.Low[i], out.Late[i], want, low)
				}
				greatest = max(greatest, k.at)
				if at, ok := last[group]; !ok || k.at > at {
					last[group] = k.at
				}
			}
			if r.IntN(10) == 0 {
				clock = reopened(t, clock, NewClock(lateness, []int{1, 2}, idle))
			}
		}
	})
}

// reopened is fresh with the state of a clock.
func reopened(t *testing.T, clock, fresh *Clock) *Clock {
	t.Helper()
	snapshot := func(c *Clock) []byte {
		var buf bytes.Buffer
		w := NewSnapshotWriter(&buf)
		if err := c.Snapshot(w); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		return buf.Bytes()
	}
	text := snapshot(clock)
	if err := fresh.Restore(NewSnapshotReader(bytes.NewReader(text))); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, snapshot(fresh)) {
		t.Fatal("what was restored has another snapshot")
	}
	for n := range text {
		cut := NewClock(0, []int{1}, 0)
		if err := cut.Restore(NewSnapshotReader(bytes.NewReader(text[:n]))); err == nil {
			t.Fatalf("a snapshot cut at %d of %d bytes was restored", n, len(text))
		}
	}
	return fresh
}

package loader

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirstream/weir/ingest/event"
)

const second = event.Time(time.Second)

// TestPace: two loads begin together, and each event goes when it is due and not
// before, however late the loads meet.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := NewPace(10, 3)
		if err != nil {
			t.Fatal(err)
		}
		var flushed atomic.Int64
		flush := func() error { flushed.Add(1); return nil }
		run := func(after time.Duration, times []event.Time, want []time.Duration) {
			time.Sleep(after)
			one := pacer{pace: p}
			defer one.leave()
			for i, at := range times {
				if err := one.wait(t.Context(), at, flush); err != nil {
					t.Error(err)
				}
				if i == 0 {
					continue // who comes first waits for the other
				}
				if got := time.Since(p.began); got != want[i] {
					t.Errorf("event at %s left after %s, want %s", at, got, want[i])
				}
			}
		}
		go run(0, []event.Time{100 * second, 105 * second, 101 * second, 120 * second},
			[]time.Duration{0, 500 * time.Millisecond, 500 * time.Millisecond, 2 * time.Second})
		go run(time.Hour, []event.Time{110 * second, 111 * second}, []time.Duration{0, 1100 * time.Millisecond})
		go func() {
			time.Sleep(30 * time.Minute)
			(&pacer{pace: p}).leave() // has no row
		}()
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if n := flushed.Load(); n != 4 {
			t.Errorf("flushed %d times, want before each of the 4 waits", n)
		}
	})
}

func TestPaceStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := NewPace(1, 1)
		if err != nil {
			t.Fatal(err)
		}
		one := pacer{pace: p}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		flush := func() error { return nil }
		for _, at := range []event.Time{0, event.MaxTime} {
			err = one.wait(ctx, at, flush)
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting for a far event: %v", err)
		}
	})
}

func TestSpeed(t *testing.T) {
	for _, speed := range []float64{0, -1, math.NaN(), math.Inf(1)} {
		if _, err := NewPace(speed, 1); err == nil {
			t.Errorf("a speed of %v was taken", speed)
		}
	}
}

// TestShiftToNow: no event is ahead of the clock when it is sent, and the load ends
// with an event of now.
func TestShiftToNow(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
	s := Span{First: event.FromTime(now.Add(-1000 * time.Hour)), Last: event.FromTime(now.Add(-900 * time.Hour)), Rows: 2}
	for _, c := range []struct {
		speed       float64
		first, last time.Duration // from now on
	}{
		{0, -100 * time.Hour, 0},
		{1, 0, 100 * time.Hour},
		{10, -90 * time.Hour, 10 * time.Hour},
		{0.5, 0, 100 * time.Hour},
	} {
		shift := ShiftToNow(s, c.speed, now, time.Nanosecond)
		if first, last := s.First.Add(shift).Time().Sub(now), s.Last.Add(shift).Time().Sub(now); first != c.first || last != c.last {
			t.Errorf("speed %v: from %s to %s, want %s to %s", c.speed, first, last, c.first, c.last)
		}
	}
	for _, unit := range []time.Duration{time.Second, time.Hour} {
		shift := ShiftToNow(s, 0, now.Add(-2000*time.Hour), unit) // backwards
		if late := -1100*time.Hour - shift; shift%unit != 0 || late < 0 || late >= unit {
			t.Errorf("shifted by %s, which is no multiple of %s below -1100h", shift, unit)
		}
	}
}

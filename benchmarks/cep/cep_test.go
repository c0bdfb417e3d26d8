package main

import (
	"context"
	"strings"
	"testing"
	"time"
)

// TestMeasure runs every part but the peer, small.
func TestMeasure(t *testing.T) {
	var out strings.Builder
	o := options{round: time.Microsecond, rounds: 1, sizes: []int{8, 64}}
	if err := byAggregate(context.Background(), o, &out); err != nil {
		t.Fatal(err)
	}
	for _, a := range aggregates {
		if !strings.Contains(out.String(), a.name) {
			t.Errorf("no figures of %s in\n%s", a.name, out.String())
		}
	}
	if err := besideFlink(context.Background(), o, &out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "not run: Flink") {
		t.Errorf("the absent peer is not named:\n%s", out.String())
	}
}

// TestWeirRun compares the added up results with sums made plainly.
func TestWeirRun(t *testing.T) {
	w := workload{outputs: sumAndCount, lengths: lengths(3, 500), keys: 7}
	const events = 3000
	got, err := weirRun(context.Background(), w, events)
	if err != nil {
		t.Fatal(err)
	}
	want := int64(0)
	for i := range events {
		key := mix(uint64(i)) % 7
		for _, l := range w.lengths {
			for j := max(0, i-int(l)+1); j <= i; j++ {
				if h := mix(uint64(j)); h%7 == key {
					want += int64(mix(h)%100_000) + 1
				}
			}
		}
	}
	if got.Rows != events || got.Sum != want {
		t.Errorf("%d rows that add up to %d, want %d and %d", got.Rows, got.Sum, events, want)
	}
}

// TestWholeEngine runs the engine's parts small; every event satisfies the windows' rule.
func TestWholeEngine(t *testing.T) {
	o := options{dir: t.TempDir(), payments: 3000, lasts: 100 * time.Millisecond}
	f, err := wholeRun(t.Context(), o, 2, []string{`last("1m").by(tx.card).count() >= 1`, `last("1m").by(tx.shop).count() >= 1`}, 10)
	if err != nil || f.decisions != 3000 || f.rate <= 0 || f.keyed <= 0 {
		t.Errorf("%+v, %v", f, err)
	}
	if testing.Short() {
		return
	}
	took, syncs, err := latency(t.Context(), o, []string{`last("7d").by(tx.shop).count() > 1000000`}, "7d", 1000)
	if err != nil || len(took) != 100 || len(syncs) != 2*syncsEach || took[0] <= 0 {
		t.Errorf("%d latencies, %d syncs, %v", len(took), len(syncs), err)
	}
}

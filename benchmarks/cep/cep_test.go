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

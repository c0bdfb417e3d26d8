package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestSidesAgree: every side gives the same values of every event.
func TestSidesAgree(t *testing.T) {
	all, err := workloads(200)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range all {
		var want []row
		for i := range w.recs {
			r, err := convert(value("ts", i), value("card", i), value("merchant", i), value("amount", i))
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, r)
		}
		for _, s := range w.sides {
			t.Run(w.name+"/"+s.name, func(t *testing.T) {
				for range 2 { // buffers are used again
					if err := s.run(); err != nil {
						t.Fatal(err)
					}
					if got := s.rows(); !slices.Equal(got, want) {
						t.Fatalf("%d rows, the first %+v, expected %d, %+v", len(got), got[:min(1, len(got))], len(want), want[0])
					}
				}
			})
		}
	}
}

func TestMeasure(t *testing.T) {
	var out strings.Builder
	if err := measure(options{events: 50, rounds: 1, round: 1, warm: 1}, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"machine", "GOMAXPROCS 1", "JSON, 10 fields", "JSON, 40 fields", "CSV, 10 fields", "weir ingest/decode", "fastjson", "encoding/csv"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, out.String())
		}
	}
}

// Go benchmarks of the same sides, for profiles and benchstat.
func BenchmarkSides(b *testing.B) {
	all, err := workloads(1000)
	if err != nil {
		b.Fatal(err)
	}
	for _, w := range all {
		for _, s := range w.sides {
			b.Run(strings.ReplaceAll(fmt.Sprintf("%s/%s", w.name, s.name), " ", "_"), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(w.file)))
				for b.Loop() {
					if err := s.run(); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(w.recs)), "ns/event")
			})
		}
	}
}

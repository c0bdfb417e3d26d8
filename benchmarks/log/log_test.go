package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weirstream/weir/test/published"
)

// weirBinary is the weir under test: WEIR_BINARY, or one built for this run.
var weirBinary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if len(os.Args) == 3 && os.Args[1] == "-nothing" { // this binary as the broker that keeps nothing
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
			defer stop()
			if err := serveNothing(ctx, os.Args[2]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			return 0
		}
		path, remove, err := published.Weir()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer remove()
		weirBinary = path
		return m.Run()
	}())
}

// TestShort runs the whole harness for a moment, against Weir alone: what is
// acknowledged is consumed and equal, and there are figures for every cell.
func TestShort(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var out strings.Builder
	o := options{weir: weirBinary, dir: t.TempDir(), short: true, runs: 1, produce: 50 * time.Millisecond, latency: 50 * time.Millisecond, fill: 100_000}
	if err := measure(ctx, o, &out); err != nil {
		t.Fatal(err)
	}
	for _, c := range cells {
		if !strings.Contains(out.String(), c.String()) {
			t.Errorf("no figures for %v", c)
		}
	}
	if !strings.Contains(out.String(), "a broker that keeps nothing") || !strings.Contains(out.String(), "the kernel, for a write to a new file") {
		t.Error("no figures for what bounds the others")
	}
	for _, b := range begins(nil, o) {
		if !strings.Contains(out.String(), b.name) {
			t.Errorf("no figure for the start of %s", b.name)
		}
	}
	if !strings.Contains(out.String(), "Apache Kafka was not run") {
		t.Error("the output does not say that the peer was not run")
	}
}

// TestMedian: the figure is one of those measured.
func TestMedian(t *testing.T) {
	if m := median([]float64{3, 1, 2}); m != 2 {
		t.Error(m)
	}
}

// TestValues: records differ, and the checksum tells them apart.
func TestValues(t *testing.T) {
	v, seen := newValues(), map[string]bool{}
	for range 10_000 {
		b := make([]byte, 100)
		v.fill(b)
		if seen[string(b)] {
			t.Fatal("a value twice")
		}
		seen[string(b)] = true
	}
}

// TestStarts: a start takes less than a tenth of a second of one CPU, or as long as
// three times that where a busy machine makes everything dearer.
func TestStarts(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	o := options{weir: weirBinary, dir: t.TempDir(), short: true, produce: 200 * time.Millisecond, fill: 20_000_000}
	for _, b := range begins(nil, o) {
		all, bytes, err := b.measure(ctx, o)
		if err != nil {
			t.Fatalf("%s: %v", b.name, err)
		}
		t.Logf("%s, %d bytes: ready after %v, CPU %v", b.name, bytes, all[0].ready, all[0].cpu)
		if all[0].cpu > 300*time.Millisecond {
			t.Errorf("%s: CPU time %v", b.name, all[0].cpu)
		}
	}
}

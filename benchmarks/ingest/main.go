package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/weirstream/weir/benchmarks/machine"
)

type options struct {
	events, rounds int
	round, warm    time.Duration
	out            string
}

func main() {
	var o options
	flag.IntVar(&o.events, "events", 1000, "records of one chunk, decoded again and again")
	flag.IntVar(&o.rounds, "rounds", 7, "rounds; the median is the figure")
	flag.DurationVar(&o.round, "round", 400*time.Millisecond, "how long a side runs in one round")
	flag.DurationVar(&o.warm, "warm", 200*time.Millisecond, "how long a side runs before the first round")
	flag.StringVar(&o.out, "out", "", "also write what is printed into this Markdown file")
	flag.Parse()
	if err := record(o); err != nil {
		fmt.Fprintln(os.Stderr, "benchmark:", err)
		os.Exit(1)
	}
}

// record measures, and writes the figures where it is asked to.
func record(o options) error {
	heading := "# Decoding beside its peers: a recorded run\n\n" +
		"Written by `go run ./benchmarks/ingest -out FILE` (`make bench`) at commit " + commit() + ", " + time.Now().UTC().Format("2 January 2006") + ". What is measured, and how, is in\n" +
		"doc.go. The aim is 1 M events/s of one core for 10 fields of which 4 are needed, and no\nallocation per event."
	return machine.Record(o.out, heading, func(out io.Writer) error { return measure(o, out) })
}

// commit is that of the checkout.
func commit() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "(not known)"
	}
	return strings.TrimSpace(string(out))
}

func measure(o options, out io.Writer) error {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	all, err := workloads(o.events)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "machine   %s\n", machine.Describe())
	fmt.Fprintf(out, "settings  GOMAXPROCS 1, chunks of %d events, %v warm-up, median of %d rounds of %v in which the sides take turns; events/s and ns by CPU time, collector included\n", o.events, o.warm, o.rounds, o.round)
	fmt.Fprintf(out, "peers     %s\n", peers())
	fmt.Fprintf(out, "work      each side gives the time in ns, card, merchant and an exact decimal of every event; texts are converted with time.Parse and event.ParseDecimal where a library does not\n")
	for _, w := range all {
		if err := w.measure(o, out); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
	}
	return nil
}

// figures are what one round of one side gives, per event.
type figures struct {
	cpu, wall     float64 // ns
	allocs, bytes float64
}

func (w *workload) measure(o options, out io.Writer) error {
	fmt.Fprintf(out, "\n%s; %d bytes an event\n", w.name, w.bytesEach())
	rounds := make([][]figures, len(w.sides))
	for _, s := range w.sides {
		if _, err := run(s, o.warm, len(w.recs)); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	for range o.rounds {
		for i, s := range w.sides {
			f, err := run(s, o.round, len(w.recs))
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			rounds[i] = append(rounds[i], f)
		}
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "  side\tevents/s\tns/event\t(least - most)\ton the clock\tallocs/event\tB/event\tdoes")
	for i, s := range w.sides {
		m, least, most := median(rounds[i])
		fmt.Fprintf(table, "  %s\t%.0f\t%.0f\t(%.0f - %.0f)\t%.0f\t%.2f\t%.0f\t%s\n", s.name, 1e9/m.cpu, m.cpu, least, most, m.wall, m.allocs, m.bytes, s.less)
	}
	return table.Flush()
}

// run decodes for about that long.
func run(s side, long time.Duration, events int) (f figures, err error) {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu, err := machine.CPUTime()
	if err != nil {
		return f, err
	}
	began, times := time.Now(), 0
	for time.Since(began) < long {
		if err := s.run(); err != nil {
			return f, err
		}
		times++
	}
	wall := time.Since(began)
	used, err := machine.CPUTime()
	if err != nil {
		return f, err
	}
	runtime.ReadMemStats(&after)
	n := float64(times * events)
	return figures{cpu: float64(used-cpu) / n, wall: float64(wall) / n,
		allocs: float64(after.Mallocs-before.Mallocs) / n, bytes: float64(after.TotalAlloc-before.TotalAlloc) / n}, nil
}

// median is the round with the median CPU time, and the least and most of them.
func median(rounds []figures) (m figures, least, most float64) {
	slices.SortFunc(rounds, func(a, b figures) int { return int(1000 * (a.cpu - b.cpu)) })
	return rounds[len(rounds)/2], rounds[0].cpu, rounds[len(rounds)-1].cpu
}

// peers is the versions of the libraries in this binary.
func peers() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown versions"
	}
	var out []string
	for _, d := range info.Deps {
		switch d.Path {
		case "github.com/goccy/go-json", "github.com/valyala/fastjson", "github.com/apache/arrow-go/v18":
			out = append(out, strings.TrimPrefix(d.Path, "github.com/")+" "+d.Version)
		}
	}
	return strings.Join(out, ", ") + ", the standard library; bytedance/sonic v1.14.2 is left out: it falls back to encoding/json with Go 1.26"
}

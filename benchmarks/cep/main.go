package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/weirstream/weir/benchmarks/machine"
)

type options struct {
	round          time.Duration
	rounds         int
	keys, each     int   // of the part with many keys: keys, and events of each in the longest window
	events         int   // measured there, after the windows are full
	sizes          []int // of windows of one key, in events
	flink, results string

	// Of the engine's figures.
	part, dir, profile string
	payments, runs     int
	partitions         []int32
	rates              []int
	lasts              time.Duration
	lengths, by        []string // of the windows of latency's figures, and their keys
}

func main() {
	o := options{sizes: windowSizes, partitions: []int32{1, 2, 4}, rates: []int{1000, 10_000, 50_000}, lengths: windowLengths, by: windowKeys}
	flag.DurationVar(&o.round, "round", 100*time.Millisecond, "CPU time of one round of one figure")
	flag.IntVar(&o.rounds, "rounds", 3, "rounds of a figure; the median is printed")
	flag.IntVar(&o.keys, "keys", 100_000, "keys beside Flink")
	flag.IntVar(&o.each, "each", 16, "events of a key in the longest window beside Flink")
	flag.IntVar(&o.events, "events", 400_000, "events beside Flink behind those that fill the windows")
	flag.StringVar(&o.flink, "flink", "bin/flink", "directory with Flink's jars; they are got with mvn where it is absent; empty: no peer")
	flag.StringVar(&o.results, "out", "", "file to write the figures to as well, as Markdown")
	flag.StringVar(&o.part, "part", "windows", "what to measure: windows, or the whole engine")
	flag.StringVar(&o.dir, "dir", "", "where to put the engine's logs; empty: the system's temporary directory")
	flag.StringVar(&o.profile, "profile", "", "beginning of the names of files with a CPU profile of each run of the engine")
	flag.IntVar(&o.payments, "payments", 1_000_000, "events of the whole engine; 0: only latency is measured")
	flag.IntVar(&o.runs, "runs", 3, "runs of a figure of the whole engine; the median is printed")
	flag.DurationVar(&o.lasts, "lasts", 10*time.Second, "how long a figure of latency is measured")
	flag.Func("rates", "events/s of the figures of latency, with commas between", func(text string) (err error) {
		o.rates, err = numbers(text)
		return err
	})
	flag.Func("lengths", "windows of the figures of latency, with commas between", func(text string) error {
		o.lengths = strings.Split(text, ",")
		return nil
	})
	flag.Func("by", "keys of the windows of the figures of latency, with commas between: card, or card and shop", func(text string) error {
		o.by = strings.Split(text, ",")
		return nil
	})
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "benchmark:", err)
		os.Exit(1)
	}
}

func numbers(text string) (out []int, err error) {
	for one := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(one)
		if err != nil || n <= 0 {
			return nil, fmt.Errorf("%q is not a number of events", one)
		}
		out = append(out, n)
	}
	return out, nil
}

func run(ctx context.Context, o options) error {
	switch o.part {
	case "windows":
	case "engine":
		return machine.Record(o.results, "# What the whole engine takes\n\nWritten by `go run ./benchmarks/cep -part engine -out benchmarks/cep/engine.md`.",
			func(out io.Writer) error {
				fmt.Fprintf(out, "machine   %s\n", machine.Describe())
				if o.payments > 0 {
					if err := wholeEngine(ctx, o, out); err != nil {
						return err
					}
				}
				return latencies(ctx, o, out)
			})
	default:
		return fmt.Errorf("-part %s: there are windows and engine", o.part)
	}
	return machine.Record(o.results, "# What windows cost\n\nWritten by `go run ./benchmarks/cep -out benchmarks/cep/results.md`.",
		func(out io.Writer) error { return measure(ctx, o, out) })
}

func measure(ctx context.Context, o options, out io.Writer) error {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	fmt.Fprintf(out, "machine   %s\n", machine.Describe())
	fmt.Fprintf(out, "settings  GOMAXPROCS 1, batches of %d events, median of %d rounds of %v; CPU time of Process, collector included, making the events not\n", batchRows, o.rounds, o.round)
	if err := byAggregate(ctx, o, out); err != nil {
		return err
	}
	if err := manyKeys(ctx, o, out); err != nil {
		return err
	}
	return besideFlink(ctx, o, out)
}

// windowSizes are the events in a window; the second is the one that is told of more.
var windowSizes = []int{64, 4096, 262_144}

// behind is how far events are behind at most in the figures out of order.
const behind = 1024

func byAggregate(ctx context.Context, o options, out io.Writer) error {
	fmt.Fprintf(out, "\nOne key, one window: ns/event by events in the window; out of order: every second event up to %d events behind\n", behind)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(table, "  aggregate\t")
	for _, order := range []string{"", "ooo "} {
		for _, n := range o.sizes {
			fmt.Fprintf(table, "%s%d\t", order, n)
		}
	}
	fmt.Fprintf(table, "events/s at %d\tallocs/event\t\n", o.sizes[1])
	for _, a := range aggregates {
		fmt.Fprintf(table, "  %s\t", a.name)
		var middle figures
		for _, late := range []int{0, behind} {
			for _, n := range o.sizes {
				f, err := figure(ctx, o, workload{outputs: []output{a.of}, lengths: []time.Duration{time.Duration(n)}, keys: 1, full: n + late, behind: late})
				if err != nil {
					return fmt.Errorf("%s: %w", a.name, err)
				}
				if late == 0 && n == o.sizes[1] {
					middle = f
				}
				fmt.Fprintf(table, "%.0f\t", f.cpu)
			}
		}
		fmt.Fprintf(table, "%.0f\t%.3f\t\n", 1e9/middle.cpu, middle.allocs)
	}
	return table.Flush()
}

func manyKeys(ctx context.Context, o options, out io.Writer) error {
	const keys, each = 100_000, 64
	fmt.Fprintf(out, "\n%d keys at random, %d events of each in the longest window; sum and count of each window\n", keys, each)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(table, "  windows\tns/event\tns/event and window\tevents/s\tallocs/event\tbytes/key\t\n")
	for _, windows := range []int{1, 10} {
		f, err := figure(ctx, o, workload{outputs: sumAndCount, lengths: lengths(windows, keys*each), keys: keys, full: keys * each})
		if err != nil {
			return err
		}
		fmt.Fprintf(table, "  %d\t%.0f\t%.0f\t%.0f\t%.3f\t%.0f\t\n", windows, f.cpu, f.cpu/float64(windows), 1e9/f.cpu, f.allocs, f.bytesPerKey)
	}
	return table.Flush()
}

// lengths are those of n windows up to a longest: all of it, a half, a third...
func lengths(n, longest int) []time.Duration {
	var out []time.Duration
	for i := range n {
		out = append(out, time.Duration(longest/(i+1)))
	}
	return out
}

// figures are what one round gives, per event.
type figures struct {
	cpu         float64 // ns
	allocs      float64
	bytesPerKey float64 // of the operator's memory
}

// figure is the round with the median CPU time.
func figure(ctx context.Context, o options, w workload) (figures, error) {
	d, err := newDriver(w)
	if err != nil {
		return figures{}, err
	}
	for n := 0; n < w.full; n += batchRows {
		if ctx.Err() != nil {
			return figures{}, ctx.Err()
		}
		if _, err := d.batch(); err != nil {
			return figures{}, err
		}
	}
	var rounds []figures
	for range o.rounds {
		f, err := d.round(ctx, o.round)
		if err != nil {
			return f, err
		}
		rounds = append(rounds, f)
	}
	slices.SortFunc(rounds, func(a, b figures) int { return int(1000 * (a.cpu - b.cpu)) })
	return rounds[len(rounds)/2], nil
}

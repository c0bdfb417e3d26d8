package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/weirstream/weir/benchmarks/machine"
)

type options struct {
	weir, kafka, dir, out string
	runs                  int
	produce, latency      time.Duration
	fill                  int64
	short, alone          bool
	profile               string
	nothing               string
}

var cells = []cell{
	{size: 100, partitions: 1, rate: 10_000}, {size: 100, partitions: 12, rate: 10_000},
	{size: 1000, partitions: 1, rate: 5_000}, {size: 1000, partitions: 12, rate: 5_000},
}

func main() {
	var o options
	flag.StringVar(&o.weir, "weir", "", "the binary to measure (default: one built of this source for the run)")
	flag.StringVar(&o.kafka, "kafka", "bin/kafka", "directory with Apache Kafka's jars; they are got with mvn where it is absent")
	flag.StringVar(&o.dir, "dir", "", "where to put the data directories (default: the system's temporary directory)")
	flag.StringVar(&o.out, "out", "", "also write what is printed into this Markdown file")
	flag.IntVar(&o.runs, "runs", 3, "repetitions; the median is the figure")
	flag.DurationVar(&o.produce, "produce", 4*time.Second, "how long to produce")
	flag.DurationVar(&o.latency, "latency", 4*time.Second, "how long to send at the fixed rate")
	flag.Int64Var(&o.fill, "fill", 2_000_000_000, "bytes that a server starts with where it does not start empty")
	flag.BoolVar(&o.alone, "alone", false, "without the peer")
	flag.BoolVar(&o.short, "short", false, "a moment of each, without the peer: whether it works")
	flag.StringVar(&o.profile, "cpuprofile", "", "run Weir's log and broker in this process, alone, and write a CPU profile")
	flag.StringVar(&o.nothing, "nothing", "", "serve at this address as a broker that keeps nothing, and measure nothing: see bounds.go")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	do := func() error { return run(ctx, o) }
	if o.nothing != "" {
		do = func() error { return serveNothing(ctx, o.nothing) }
	}
	if err := do(); err != nil {
		fmt.Fprintln(os.Stderr, "benchmark:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	if o.short {
		o.runs, o.produce, o.latency, o.fill = 1, 200*time.Millisecond, 200*time.Millisecond, 1_000_000
	}
	if o.weir == "" {
		dir, err := os.MkdirTemp(o.dir, "weir-binary")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		o.weir = filepath.Join(dir, "weir")
		if out, err := exec.CommandContext(ctx, "go", "build", "-o", o.weir, "./cmd/weir").CombinedOutput(); err != nil {
			return fmt.Errorf("build weir: %w\n%s", err, out)
		}
	}
	return machine.Record(o.out, "# Weir's log beside Apache Kafka: a recorded run\n\n"+
		"Written by `go run ./benchmarks/log -out FILE` (`make bench`). What is measured, and how, is in doc.go.",
		func(out io.Writer) error { return measure(ctx, o, out) })
}

// jars gets Apache Kafka where it is not there yet.
func (o options) jars(ctx context.Context) error {
	if _, err := (kafka{o.kafka}).version(); err == nil {
		return nil
	}
	dir, err := filepath.Abs(o.kafka)
	if err != nil {
		return err
	}
	mvn := exec.CommandContext(ctx, "mvn", "-q", "-B", "-f", "benchmarks/log/kafka/pom.xml", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+dir)
	if out, err := mvn.CombinedOutput(); err != nil {
		return fmt.Errorf("get Apache Kafka: %w\n%s", err, out)
	}
	return nil
}

func measure(ctx context.Context, o options, out io.Writer) error {
	sides := []side{weirSide(o.weir)}
	peer := "Apache Kafka was not run: -alone, -short and -cpuprofile measure Weir alone"
	if !o.short && !o.alone && o.profile == "" {
		if err := o.jars(ctx); err != nil {
			return err
		}
		version, err := kafka{o.kafka}.version()
		if err != nil {
			return err
		}
		sides = append(sides, kafkaSides(o.kafka)...)
		peer = fmt.Sprintf("Apache Kafka %s, KRaft, one node; %s; JVM %s", version, javaVersion(ctx), strings.Join(kafkaJVM, " "))
	}
	fmt.Fprintf(out, "machine   %s\n", machine.Describe())
	fmt.Fprintf(out, "weir      %s\n", weirVersion(ctx, o.weir))
	fmt.Fprintf(out, "peer      %s\n", peer)
	fmt.Fprintf(out, "client    franz-go %s, on the same machine: idempotent, acks=all, one producer, batches to %d bytes, linger %v, no compression, round robin; then one consumer of all partitions\n", moduleVersion("github.com/twmb/franz-go"), batchBytes, linger)
	fmt.Fprintf(out, "topics    replication 1, %s\n", configWords())
	for _, s := range sides {
		fmt.Fprintf(out, "fsync     %s: %s\n", s.name, s.fsync)
	}
	fmt.Fprintf(out, "work      after a warm-up and %d MiB written to a file and removed, for the kernel to have memory at hand, produce for %v and flush, consume it all and compare, send at a fixed rate for %v with linger 0; %d repetitions, sides taking turns, median; in parentheses each repetition\n\n", touched>>20, o.produce, o.latency, o.runs)
	r := results{cells: map[string][]figures{}, ready: map[string][]time.Duration{}, peak: map[string][]int64{}}
	for n := range o.runs {
		for i := range sides {
			if err := r.one(ctx, sides[(i+n)%len(sides)], o); err != nil {
				return err
			}
		}
	}
	if err := r.print(out, sides); err != nil {
		return err
	}
	if o.profile == "" {
		if err := bounds(ctx, o, out); err != nil {
			return err
		}
		fmt.Fprintln(out)
		if err := starts(ctx, sides, o, out); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "\nload after %s\n", machine.Load())
	return nil
}

// results are all figures, by side and, where it applies, cell.
type results struct {
	cells map[string][]figures
	ready map[string][]time.Duration
	peak  map[string][]int64
}

// one starts a side, runs every cell on it and stops it.
func (r *results) one(ctx context.Context, s side, o options) (err error) {
	dir, err := os.MkdirTemp(o.dir, "weir-bench")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	run := s.run
	if o.profile != "" {
		run = o.profiled
	}
	srv, err := run(ctx, dir)
	if err != nil {
		return err
	}
	r.ready[s.name] = append(r.ready[s.name], srv.ready)
	if err := warm(ctx, s, srv, o); err != nil {
		return errors.Join(fmt.Errorf("%s: warm up: %w", s.name, err), srv.stop())
	}
	for _, c := range cells {
		f, err := c.run(ctx, s, srv, o)
		if err != nil {
			return errors.Join(fmt.Errorf("%s, %v: %w", s.name, c, err), srv.stop())
		}
		key := s.name + c.String()
		r.cells[key] = append(r.cells[key], f)
		fmt.Fprintf(os.Stderr, "%s, %v: %.0f rec/s in, %.0f rec/s out, p99 %v\n", s.name, c, f.produce, f.consume, f.p99.Round(10*time.Microsecond))
	}
	peak, err := machine.PeakMemory(srv.pid)
	if err != nil {
		return errors.Join(err, srv.stop())
	}
	r.peak[s.name] = append(r.peak[s.name], peak)
	return srv.stop()
}

func (r *results) print(out io.Writer, sides []side) error {
	for _, c := range cells {
		fmt.Fprintf(out, "%v\n", c)
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintf(w, "  side\tproduce rec/s\tMB/s\t(each, rec/s)\tconsume rec/s\tMB/s\t(each, rec/s)\tserver CPU s/GB in\tout\tdriver CPU s/GB in\tout\n")
		for _, s := range sides {
			all := r.cells[s.name+c.String()]
			in := each(all, func(f figures) float64 { return f.produce })
			outs := each(all, func(f figures) float64 { return f.consume })
			fmt.Fprintf(w, "  %s\t%.0f\t%.1f\t(%s)\t%.0f\t%.1f\t(%s)\t%.2f\t%.2f\t%.2f\t%.2f\n", s.name, median(in), median(in)*float64(c.size)/1e6, words("%.0f", in),
				median(outs), median(outs)*float64(c.size)/1e6, words("%.0f", outs),
				median(each(all, func(f figures) float64 { return f.cpuProduce })), median(each(all, func(f figures) float64 { return f.cpuConsume })),
				median(each(all, func(f figures) float64 { return f.driverProduce })), median(each(all, func(f figures) float64 { return f.driverConsume })))
		}
		fmt.Fprintf(w, "  produce latency at %d rec/s, ms\tp50\tp99\t(each p99)\tp99.9\tmax\t(each max)\tserver CPU cores\n", c.rate)
		for _, s := range sides {
			all := r.cells[s.name+c.String()]
			ms := func(get func(f figures) time.Duration) []float64 {
				return each(all, func(f figures) float64 { return float64(get(f).Microseconds()) / 1000 })
			}
			p99, slowest := ms(func(f figures) time.Duration { return f.p99 }), ms(func(f figures) time.Duration { return f.slowest })
			fmt.Fprintf(w, "  %s\t%.2f\t%.2f\t(%s)\t%.2f\t%.2f\t(%s)\t%.2f\n", s.name, median(ms(func(f figures) time.Duration { return f.p50 })), median(p99), words("%.2f", p99),
				median(ms(func(f figures) time.Duration { return f.p999 })), median(slowest), words("%.2f", slowest), median(each(all, func(f figures) float64 { return f.cpuLatency })))
		}
		if err := w.Flush(); err != nil {
			return err
		}
		fmt.Fprintln(out)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "the server\tready, ms\t(each)\tpeak memory, MiB\t(each)\n")
	for _, s := range sides {
		ready, peak := []float64{}, []float64{}
		for _, d := range r.ready[s.name] {
			ready = append(ready, float64(d.Microseconds())/1000)
		}
		for _, b := range r.peak[s.name] {
			peak = append(peak, float64(b)/(1<<20))
		}
		fmt.Fprintf(w, "  %s\t%.0f\t(%s)\t%.0f\t(%s)\n", s.name, median(ready), words("%.0f", ready), median(peak), words("%.0f", peak))
	}
	fmt.Fprintln(w)
	return w.Flush()
}

func each(all []figures, get func(figures) float64) []float64 {
	vs := make([]float64, len(all))
	for i, f := range all {
		vs[i] = get(f)
	}
	return vs
}

func median[T cmp.Ordered](vs []T) T {
	sorted := slices.Sorted(slices.Values(vs))
	return sorted[len(sorted)/2]
}

func words(format string, vs []float64) string {
	var some []string
	for _, v := range vs {
		some = append(some, fmt.Sprintf(format, v))
	}
	return strings.Join(some, " ")
}

func configWords() string {
	var some []string
	for k, v := range topicConfigs {
		some = append(some, k+"="+v)
	}
	slices.Sort(some)
	return strings.Join(some, " ")
}

func javaVersion(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "java", "--version").Output()
	if err != nil {
		return "unknown Java"
	}
	first, _, _ := strings.Cut(string(out), "\n")
	return first
}

func weirVersion(ctx context.Context, binary string) string {
	out, err := exec.CommandContext(ctx, binary, "version").Output()
	if err != nil {
		return "unknown version"
	}
	return strings.TrimSpace(string(out))
}

func moduleVersion(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "of unknown version"
	}
	for _, m := range info.Deps {
		if m.Path == path {
			return m.Version
		}
	}
	return "of unknown version"
}

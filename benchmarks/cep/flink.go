package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/weirstream/weir/benchmarks/machine"
)

// sideFigures are what a side says of a run. Rows and Sum (of all results of all
// rows) must be the same on both.
type sideFigures struct {
	Rows int64 `json:"rows"`
	Sum  int64 `json:"sum"`
	Wall int64 `json:"wall_ns"`
	CPU  int64 `json:"cpu_ns"`
	peak int64 // bytes
}

// besideFlink runs the same windows over the same events here and in Flink.
func besideFlink(ctx context.Context, o options, out io.Writer) error {
	fill := o.keys * o.each
	fmt.Fprintf(out, "\nBeside Flink SQL: %d keys at random, %d events of each in the longest window, %d events from empty windows on, all of them timed;\n"+
		"sum and count of each window; events made in the process, one thread, results added up and compared\n", o.keys, o.each, fill+o.events)
	if o.flink == "" {
		fmt.Fprintln(out, "  not run: Flink (-flink is empty)")
		return nil
	}
	f, err := newFlink(ctx, o.flink)
	if err != nil {
		return err
	}
	defer os.RemoveAll(f.classes)
	fmt.Fprintf(out, "peer      Flink %s, parallelism 1, heap state, object reuse; JVM %s; its warm-up of %d events is not timed\n", f.version, strings.Join(flinkJVM[:1], " "), flinkWarm)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(table, "  windows\tside\tevents/s\tCPU ns/event\tpeak memory MiB\t\n")
	for _, windows := range []int{1, 10} {
		w := workload{outputs: sumAndCount, lengths: lengths(windows, fill), keys: o.keys}
		ours, err := weirRun(ctx, w, fill+o.events)
		if err != nil {
			return err
		}
		theirs, err := f.run(ctx, w, fill+o.events)
		if err != nil {
			return err
		}
		for _, s := range []struct {
			name string
			sideFigures
		}{{"weir", ours}, {"flink", theirs}} {
			n := float64(s.Rows)
			fmt.Fprintf(table, "  %d\t%s\t%.0f\t%.0f\t%d\t\n", windows, s.name, n/float64(s.Wall)*1e9, float64(s.CPU)/n, s.peak>>20)
		}
		if ours.Rows != theirs.Rows || ours.Sum != theirs.Sum {
			return fmt.Errorf("%d windows: %d rows that add up to %d here, %d to %d in Flink", windows, ours.Rows, ours.Sum, theirs.Rows, theirs.Sum)
		}
	}
	return table.Flush()
}

// weirRun times the operator and the making of the events, as for Flink. Times
// are in ns here and in ms there.
func weirRun(ctx context.Context, w workload, events int) (s sideFigures, err error) {
	d, err := newDriver(w)
	if err != nil {
		return s, err
	}
	runtime.GC()
	began, cpu := time.Now(), time.Duration(0)
	if cpu, err = machine.CPUTime(); err != nil {
		return s, err
	}
	for s.Rows < int64(events) {
		if ctx.Err() != nil {
			return s, ctx.Err()
		}
		d.make()
		if err := d.op.Process(&d.b, &d.out); err != nil {
			return s, err
		}
		rows := min(batchRows, events-int(s.Rows))
		for i := range d.out.Features {
			for _, v := range d.out.Features[i].Int64[:rows] {
				s.Sum += v
			}
		}
		s.Rows += int64(rows)
	}
	after, err := machine.CPUTime()
	if err != nil {
		return s, err
	}
	s.Wall, s.CPU = int64(time.Since(began)), int64(after-cpu)
	s.peak, err = machine.PeakMemory(os.Getpid())
	return s, err
}

type flink struct{ jars, classes, version string }

var flinkJVM = []string{"-Xmx8g", "--add-opens=java.base/java.util=ALL-UNNAMED", "--add-opens=java.base/java.lang=ALL-UNNAMED"}

const flinkWarm = 50_000

// newFlink gets the jars where they are not yet, and compiles the peer.
func newFlink(ctx context.Context, jars string) (f flink, err error) {
	f.jars, err = filepath.Abs(jars)
	if err != nil {
		return f, err
	}
	if _, err := os.Stat(f.jars); os.IsNotExist(err) {
		fmt.Fprintln(os.Stderr, "getting Flink with mvn")
		if err := command(ctx, "mvn", "-q", "-B", "-f", "benchmarks/cep/flink/pom.xml", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+f.jars); err != nil {
			os.RemoveAll(f.jars)
			return f, err
		}
	}
	streaming, err := filepath.Glob(filepath.Join(f.jars, "flink-streaming-java-*.jar"))
	if err != nil || len(streaming) != 1 {
		return f, fmt.Errorf("no Flink in %s: remove the directory and run again", f.jars)
	}
	f.version = strings.TrimSuffix(strings.TrimPrefix(filepath.Base(streaming[0]), "flink-streaming-java-"), ".jar")
	if f.classes, err = os.MkdirTemp("", "weir-flink"); err != nil {
		return f, err
	}
	return f, command(ctx, "javac", "-cp", filepath.Join(f.jars, "*"), "-d", f.classes, "benchmarks/cep/flink/Over.java")
}

func command(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}

func (f flink) run(ctx context.Context, w workload, events int) (s sideFigures, err error) {
	args := append([]string{}, flinkJVM...)
	args = append(args, "-cp", f.classes+":"+filepath.Join(f.jars, "*"), "Over", strconv.Itoa(flinkWarm), strconv.Itoa(events), strconv.Itoa(w.keys))
	for _, l := range w.lengths {
		args = append(args, strconv.Itoa(int(l)))
	}
	cmd := exec.CommandContext(ctx, "java", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	if err != nil {
		return s, fmt.Errorf("flink: %w\n%s%s", err, text, stderr.Bytes())
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("flink printed %q: %w", text, err)
	}
	if use, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		s.peak = use.Maxrss << 10
	}
	return s, nil
}

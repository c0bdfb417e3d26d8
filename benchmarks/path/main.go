package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/weirstream/weir/benchmarks/machine"
)

// want are the counts that a right run has on the handbook's whole file.
const (
	wantRows      = 1_754_155
	wantAlerts    = 3_258 + 1_264
	settleTimeout = 5 * time.Minute
)

type options struct {
	weir, data, examples, dir string
	runs                      int
}

func main() {
	var o options
	flag.StringVar(&o.weir, "weir", "bin/weir", "the binary to measure")
	flag.StringVar(&o.data, "data", envOr("WEIR_DATA", "../shared/data"), "directory with transactions.csv.gz")
	flag.StringVar(&o.examples, "examples", "docs/examples", "directory with weir.yaml and rules")
	flag.StringVar(&o.dir, "dir", "", "where to put the data directories (default: the system's temporary directory)")
	flag.IntVar(&o.runs, "runs", 3, "how many runs; the median is the figure")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := measure(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "benchmark:", err)
		os.Exit(1)
	}
}

func envOr(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// figures are what one run gives.
type figures struct {
	wall               time.Duration
	loaded             time.Duration // when the load command ended
	serverCPU, loadCPU time.Duration
	peak               int64 // bytes resident, of the appliance
	disk               int64 // bytes in the data directory at the end
	receiverCalls      int64
}

func (f figures) perSecond() float64 { return wantRows / f.wall.Seconds() }

func measure(ctx context.Context, o options, out io.Writer) error {
	fmt.Fprintf(out, "machine   %s\n", machine.Describe())
	fmt.Fprintf(out, "settings  defaults: fsync before ack, 4 partitions, JSON records, 2 rules (1 window of 1 h by card), 1 webhook receiver on loopback\n")
	fmt.Fprintf(out, "input     transactions.csv.gz, %d rows\n", wantRows)
	var all []figures
	for i := range o.runs {
		f, err := one(ctx, o)
		if err != nil {
			return fmt.Errorf("run %d: %w", i+1, err)
		}
		all = append(all, f)
		fmt.Fprintf(out, "run %d     %.0f events/s; %.2f s until decided and in SQL (%.2f s until loaded); CPU appliance %.1f s, loader %.1f s; peak memory %d MiB; disk %d MiB; %d webhook calls\n",
			i+1, f.perSecond(), f.wall.Seconds(), f.loaded.Seconds(), f.serverCPU.Seconds(), f.loadCPU.Seconds(), f.peak>>20, f.disk>>20, f.receiverCalls)
	}
	slices.SortFunc(all, func(a, b figures) int { return int(a.wall - b.wall) })
	m := all[len(all)/2]
	fmt.Fprintf(out, "median    %.0f events/s, peak memory %d MiB\n", m.perSecond(), m.peak>>20)
	return nil
}

var readyLine = regexp.MustCompile(`msg=ready .*kafka=(\S+) http=(\S+) sql=(\S+)`)

func one(ctx context.Context, o options) (f figures, err error) {
	dir, err := os.MkdirTemp(o.dir, "weir-bench")
	if err != nil {
		return f, err
	}
	defer os.RemoveAll(dir)
	var calls atomic.Int64
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) }))
	defer receiver.Close()
	if err := os.CopyFS(dir, os.DirFS(o.examples)); err != nil {
		return f, err
	}
	conf := filepath.Join(dir, "weir.yaml")
	text, err := os.ReadFile(conf)
	if err != nil {
		return f, err
	}
	text = append(text, "\nreceivers:\n  - name: desk\n    webhook: {url: \""+receiver.URL+"\", allow_cidrs: [127.0.0.0/8]}\n"...)
	if err := os.WriteFile(conf, text, 0o600); err != nil {
		return f, err
	}

	server := exec.CommandContext(ctx, o.weir, "run", "--config", conf, "--data-dir", filepath.Join(dir, "data"),
		"--kafka-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--sql-addr", "127.0.0.1:0")
	server.Cancel = func() error { return server.Process.Signal(syscall.SIGTERM) }
	stderr, err := server.StderrPipe()
	if err != nil {
		return f, err
	}
	if err := server.Start(); err != nil {
		return f, err
	}
	kafka, web, err := waitReady(stderr)
	if err != nil {
		return f, errors.Join(err, server.Process.Kill(), server.Wait())
	}

	began := time.Now()
	load := exec.CommandContext(ctx, o.weir, "load", filepath.Join(o.data, "transactions.csv.gz"), "--stream", "transactions", "--kafka-addr", kafka, "--http-addr", web, "--quiet")
	load.Stderr = os.Stderr
	if err := load.Run(); err != nil {
		return f, errors.Join(fmt.Errorf("load: %w", err), server.Process.Kill(), server.Wait())
	}
	f.loaded = time.Since(began)
	f.loadCPU = load.ProcessState.UserTime() + load.ProcessState.SystemTime()
	if err := settle(ctx, web); err != nil {
		return f, errors.Join(err, server.Process.Kill(), server.Wait())
	}
	f.wall = time.Since(began)
	f.receiverCalls = calls.Load()
	f.peak, err = machine.PeakMemory(server.Process.Pid)
	if err != nil {
		return f, err
	}
	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		return f, err
	}
	if err := server.Wait(); err != nil {
		return f, fmt.Errorf("appliance: %w", err)
	}
	f.serverCPU = server.ProcessState.UserTime() + server.ProcessState.SystemTime()
	f.disk, err = size(filepath.Join(dir, "data"))
	return f, err
}

func waitReady(stderr io.Reader) (kafka, web string, err error) {
	var seen []string
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		if m := readyLine.FindStringSubmatch(lines.Text()); m != nil {
			go io.Copy(io.Discard, stderr) //nolint:errcheck // it ends with the process
			return m[1], m[2], nil
		}
		seen = append(seen, lines.Text())
	}
	return "", "", fmt.Errorf("the appliance did not become ready:\n%s", strings.Join(seen, "\n"))
}

// settle waits until SQL has every row and every alert.
func settle(ctx context.Context, web string) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		rows, err := count(ctx, web, "transactions")
		if err != nil {
			return err
		}
		alerts, err := count(ctx, web, "alerts")
		if err != nil {
			return err
		}
		if rows > wantRows || alerts > wantAlerts {
			return fmt.Errorf("SQL counts %d rows and %d alerts, want %d and %d", rows, alerts, wantRows, wantAlerts)
		}
		if rows == wantRows && alerts == wantAlerts {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("not settled: SQL counts %d rows and %d alerts, want %d and %d", rows, alerts, wantRows, wantAlerts)
		}
	}
}

func count(ctx context.Context, web, table string) (int64, error) {
	body, err := json.Marshal(map[string]string{"query": "SELECT count(*) FROM " + table})
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+web+"/v1/sql", bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var answer struct{ Rows [][]json.Number }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || len(answer.Rows) != 1 {
		return 0, fmt.Errorf("counting %s: %s, %v rows, %w", table, resp.Status, len(answer.Rows), err)
	}
	return answer.Rows[0][0].Int64()
}

func size(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	return total, err
}

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/cmd/config"
	"github.com/weirstream/weir/cmd/node"
	"github.com/weirstream/weir/ingest/loader"
	"github.com/weirstream/weir/ingest/schema"
)

type loadFlags struct {
	stream, config, kafkaAddr, httpAddr, speed string
	again, quiet, shiftToNow                   bool
}

func newLoad() *cobra.Command {
	var f loadFlags
	cmd := &cobra.Command{
		Use: "load FILE... --stream NAME | load STREAM=FILE...", Short: "Load CSV or NDJSON files into streams", Args: cobra.MinimumNArgs(1),
		Long: `Loads CSV files (with a header line) or NDJSON files, plain or gzip, into a
stream of a running weir. A file's columns are found by the names in the
stream's declaration (from:). A line that does not fit goes to the topic
weir.deadletters with its place and the reason; the others are loaded.

Several files for one stream are merged by event time: of the rows that are next
in their files the earliest goes first.

Interrupted, the same command resumes: rows already in the stream are not
written again. Files that are wholly there are left alone unless --again.

--speed 10x plays the files: rows leave in the distances of their event times,
ten times as fast as it happened. --shift-to-now moves all event times by the
same amount, so that they end now (with --speed, when their turn comes) and none
is ahead of the clock; such a load begins anew each time.`,
		Example: `  weir load transactions.csv.gz --stream transactions
  weir load clicks.ndjson --stream clicks --kafka-addr 127.0.0.1:9092
  weir load monday.csv tuesday.csv --stream transactions
  weir load transactions=tx.csv.gz clicks=clicks.csv.gz --speed 10x --shift-to-now`,
		RunE: func(cmd *cobra.Command, args []string) error { return runLoad(cmd, args, f) },
	}
	d := config.Default()
	cmd.Flags().StringVar(&f.stream, "stream", "", "`NAME` of the stream; without it each file is written STREAM=FILE")
	cmd.Flags().StringVar(&f.config, "config", "", "take the streams' declarations and the address from this `FILE`, not from the running weir")
	cmd.Flags().StringVar(&f.kafkaAddr, "kafka-addr", d.KafkaAddr, "`HOST:PORT` of weir's Kafka listener")
	cmd.Flags().StringVar(&f.httpAddr, "http-addr", d.HTTPAddr, "`HOST:PORT` of weir's HTTP listener")
	cmd.Flags().StringVar(&f.speed, "speed", "", "send events as they happened, so many `TIMES` as fast: 1x, 10x, 0.5x")
	cmd.Flags().BoolVar(&f.shiftToNow, "shift-to-now", false, "move the event times so that they end now")
	cmd.Flags().BoolVar(&f.again, "again", false, "load the files although their rows are already there")
	cmd.Flags().BoolVar(&f.quiet, "quiet", false, "no progress")
	return cmd
}

// target is a stream with the files for it.
type target struct {
	stream *schema.Stream
	files  []string
}

// String names the files for messages.
func (t *target) String() string { return strings.Join(t.files, ", ") }

func runLoad(cmd *cobra.Command, args []string, f loadFlags) error {
	speed, err := parseSpeed(f.speed)
	if err != nil {
		return mistake{err}
	}
	targets, err := findTargets(cmd, args, &f)
	if err != nil {
		return err
	}
	o := loader.Options{Addr: f.kafkaAddr, Again: f.again, Logger: newLogger(cmd.ErrOrStderr(), levelQuiet, false)}
	if f.shiftToNow {
		if o.Shift, err = findShift(cmd, targets, speed, f.quiet); err != nil {
			return err
		}
	}
	if speed > 0 {
		if o.Pace, err = loader.NewPace(speed, len(targets)); err != nil {
			return mistake{fmt.Errorf("--speed: %w", err)}
		}
	}
	meters := newMeters(newMeter(cmd.ErrOrStderr(), meterName(args), f.quiet), len(targets))
	errs := make([]error, len(targets))
	done := make([]loader.Progress, len(targets))
	var group sync.WaitGroup
	for i, t := range targets {
		group.Go(func() {
			o := o
			o.Stream, o.Progress = t.stream, meters.of(i)
			done[i], errs[i] = loader.LoadAll(cmd.Context(), t.files, o)
		})
	}
	group.Wait()
	meters.end()
	for i, t := range targets {
		errs[i] = outcome(cmd.OutOrStdout(), t, done[i], errs[i], &o)
	}
	return errors.Join(errs...)
}

// outcome tells how a load ended.
func outcome(out io.Writer, t target, p loader.Progress, err error, o *loader.Options) error {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return mistake{err}
	case errors.Is(err, context.Canceled):
		how := "the same command resumes"
		switch {
		case o.Shift != 0:
			how = "with shifted times it cannot be resumed: the same command begins anew"
		case o.Again:
			how = "the same command without --again resumes"
		}
		return fmt.Errorf("stopped after %s rows of %s were written; %s", count(p.Accepted+p.Skipped), t.String(), how)
	case err != nil:
		return err
	}
	fmt.Fprintf(out, "%s: %s rows loaded, %s already there, %s to weir.deadletters, in %s (%s rows/s)\n",
		t.String(), count(p.Accepted), count(p.Skipped), count(p.Dead), p.Elapsed.Round(time.Millisecond), count(rate(p.Accepted, p.Elapsed)))
	return nil
}

// parseSpeed reads "10x" or "10"; 0 where there is none.
func parseSpeed(text string) (float64, error) {
	if text == "" {
		return 0, nil
	}
	v, err := strconv.ParseFloat(strings.TrimSuffix(text, "x"), 64)
	if err != nil || !(v > 0) || math.IsInf(v, 0) {
		return 0, fmt.Errorf("--speed %q: expected a number above 0, such as 10x for ten times as fast as it happened", text)
	}
	return v, nil
}

// meterName is what the meter calls the files.
func meterName(args []string) string {
	if len(args) == 1 {
		return args[0]
	}
	return fmt.Sprintf("%d files", len(args))
}

// findTargets sorts the arguments by stream, in the order in which streams come.
func findTargets(cmd *cobra.Command, args []string, f *loadFlags) ([]target, error) {
	var targets []target
	byName := map[string]int{}
	for _, arg := range args {
		name, file := f.stream, arg
		if name == "" {
			var ok bool
			if name, file, ok = strings.Cut(arg, "="); !ok || name == "" || file == "" {
				return nil, mistake{fmt.Errorf("which stream is %q for? name it with --stream NAME, or write STREAM=FILE for each file", arg)}
			}
		}
		i, known := byName[name]
		if !known {
			stream, err := findStream(cmd, name, f)
			if err != nil {
				return nil, err
			}
			i, byName[name] = len(targets), len(targets)
			targets = append(targets, target{stream: stream})
		}
		if slices.Contains(targets[i].files, file) {
			return nil, mistake{fmt.Errorf("%s is named twice", file)}
		}
		targets[i].files = append(targets[i].files, file)
	}
	return targets, nil
}

// findShift reads all files for their times.
func findShift(cmd *cobra.Command, targets []target, speed float64, quiet bool) (time.Duration, error) {
	var all loader.Span
	unit := time.Second
	began := time.Now()
	for _, t := range targets {
		m := newMeter(cmd.ErrOrStderr(), "reading the times of "+t.String(), quiet)
		span, err := loader.FindSpan(cmd.Context(), t.files, t.stream, func(read, total int64) {
			m.show(loader.Progress{BytesRead: read, BytesTotal: total, Elapsed: time.Since(began)})
		})
		m.end()
		switch {
		case errors.Is(err, os.ErrNotExist):
			return 0, mistake{err}
		case errors.Is(err, context.Canceled):
			return 0, errors.New("stopped while reading the times; nothing was loaded")
		case err != nil:
			return 0, err
		}
		all = all.Join(span)
		one, err := loader.TimeUnit(t.stream)
		if err != nil {
			return 0, err
		}
		unit = max(unit, one)
	}
	if all.Rows == 0 {
		return 0, mistake{errors.New("--shift-to-now: no row of the files fits its stream, so there is no time to shift; load without it and see `weir deadletter list`")}
	}
	shift := loader.ShiftToNow(all, speed, time.Now(), unit)
	fmt.Fprintf(cmd.OutOrStdout(), "event times from %s to %s, shifted by %s: to %s\n", all.First, all.Last, shift, all.Last.Add(shift))
	return shift, nil
}

// findStream takes the declaration, and the address that is not given, from the
// file where one is named, else the declaration from the running weir.
func findStream(cmd *cobra.Command, name string, f *loadFlags) (*schema.Stream, error) {
	if f.config == "" {
		return askStream(cmd.Context(), f.httpAddr, name)
	}
	cfg, err := config.Load(f.config)
	if err != nil {
		return nil, err
	}
	if !cmd.Flags().Changed("kafka-addr") {
		f.kafkaAddr = cfg.KafkaAddr
	}
	var names []string
	for _, s := range cfg.Streams {
		if s.Schema.Stream == name {
			return s, nil
		}
		names = append(names, s.Schema.Stream)
	}
	return nil, mistake{fmt.Errorf("%s declares no stream %q; it has %v %s", f.config, name, names, schema.Suggest(name, names))}
}

// askTimeout bounds the question for a stream's declaration.
const askTimeout = 10 * time.Second

func askStream(ctx context.Context, addr, name string) (*schema.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/v1/streams/"+url.PathEscape(name), nil)
	if err != nil {
		return nil, mistake{fmt.Errorf("--http-addr %q: expected HOST:PORT", addr)}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking weir for the stream: %w (is `weir run` up? another address: --http-addr)", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("asking weir for the stream: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		var problem struct{ Detail string }
		if json.Unmarshal(body, &problem) == nil && problem.Detail != "" {
			return nil, mistake{errors.New(problem.Detail)}
		}
		return nil, fmt.Errorf("asking weir at %s for the stream: %s", addr, resp.Status)
	}
	var view node.StreamView
	if err := json.Unmarshal(body, &view); err != nil {
		return nil, fmt.Errorf("asking weir at %s for the stream: %w", addr, err)
	}
	return view.Stream()
}

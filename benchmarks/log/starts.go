package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/weirstream/weir/cmd/demo"
)

// A begin is a start of a server: with what in its directory, and after what end.
type begin struct {
	name   string
	side   side
	runs   int
	filled bool
	killed bool // else it was stopped in good order
}

// begins are the starts that are measured.
func begins(sides []side, o options) (all []begin) {
	runs := 5
	if o.short {
		runs = 1
	}
	all = append(all,
		begin{name: "weir, empty directory", side: weirSide(o.weir), runs: runs},
		begin{name: "weir, the demo's configuration, empty directory", side: weirDemo(o.weir), runs: runs},
		begin{name: "weir, the demo's configuration, after a clean stop", side: weirDemo(o.weir), runs: runs, filled: true},
		begin{name: "weir, after kill -9", side: weirSide(o.weir), runs: runs, filled: true, killed: true})
	for _, s := range sides {
		if s.name == "kafka" { // its starts take seconds
			all = append(all,
				begin{name: "kafka, empty directory", side: s, runs: 1},
				begin{name: "kafka, after a clean stop", side: s, runs: 2, filled: true})
		}
	}
	return all
}

// weirDemo is Weir with the streams, rules and receivers of `weir demo`.
func weirDemo(binary string) side {
	s := weirSide(binary)
	plain := s.start
	s.start = func(ctx context.Context, dir, addr string) (*exec.Cmd, error) {
		config, err := demo.WriteConfig(dir)
		if err != nil {
			return nil, err
		}
		cmd, err := plain(ctx, dir, addr)
		if err != nil {
			return nil, err
		}
		cmd.Args = append(cmd.Args, "--config", config)
		return cmd, nil
	}
	return s
}

// started is one start: when the first answers were there, and the CPU time that the
// process had used then, which other work on the machine does not change.
type started struct{ ready, cpu time.Duration }

// starts measures and prints the starts.
func starts(ctx context.Context, sides []side, o options, out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "start, until ApiVersions and Metadata are answered\tms\t(each)\tCPU, ms\t(each)\n")
	for _, b := range begins(sides, o) {
		all, bytes, err := b.measure(ctx, o)
		if err != nil {
			return fmt.Errorf("start of %s: %w", b.name, err)
		}
		ms := func(get func(started) time.Duration) (vs []float64) {
			for _, s := range all {
				vs = append(vs, float64(get(s).Microseconds())/1000)
			}
			return vs
		}
		ready, cpu := ms(func(s started) time.Duration { return s.ready }), ms(func(s started) time.Duration { return s.cpu })
		name := b.name
		if b.filled {
			name += fmt.Sprintf(", %.1f GB in 12 partitions", float64(bytes)/1e9)
		}
		fmt.Fprintf(w, "  %s\t%.0f\t(%s)\t%.0f\t(%s)\n", name, median(ready), words("%.0f", ready), median(cpu), words("%.0f", cpu))
		fmt.Fprintf(os.Stderr, "%s: ready after %.0f ms\n", name, median(ready))
	}
	return w.Flush()
}

func (b begin) measure(ctx context.Context, o options) (all []started, bytes int64, err error) {
	dir, err := os.MkdirTemp(o.dir, "weir-bench")
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if b.filled {
		if bytes, err = b.fill(ctx, dir, o); err != nil {
			return nil, 0, fmt.Errorf("fill: %w", err)
		}
	}
	for range b.runs {
		at := dir
		if !b.filled {
			if at, err = os.MkdirTemp(dir, "run"); err != nil {
				return nil, 0, err
			}
		}
		srv, err := b.side.run(ctx, at)
		if err != nil {
			return nil, 0, err
		}
		all = append(all, started{srv.ready, srv.readyCPU})
		if err := b.end(srv); err != nil {
			return nil, 0, err
		}
	}
	return all, bytes, nil
}

func (b begin) end(srv *server) error {
	if b.killed {
		return srv.kill()
	}
	return srv.stop()
}

// fill produces o.fill bytes.
func (b begin) fill(ctx context.Context, dir string, o options) (bytes int64, err error) {
	srv, err := b.side.run(ctx, dir)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, b.end(srv)) }()
	c := cell{size: 1000, partitions: 12}
	if err := c.create(ctx, b.side, srv, "fill"); err != nil {
		return 0, err
	}
	for bytes < o.fill {
		sent, err := c.produce(ctx, srv, "fill", o, &figures{})
		if err != nil {
			return bytes, err
		}
		bytes += sent.count * int64(c.size)
	}
	_, err = os.Stat(filepath.Join(dir, "data"))
	return bytes, err
}

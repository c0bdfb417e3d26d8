package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/cmd/config"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/infer"
	"github.com/weirstream/weir/ingest/loader"
	"github.com/weirstream/weir/ingest/schema"
)

func newStream() *cobra.Command {
	cmd := &cobra.Command{Use: "stream", Short: "Look at streams, make them and work on their declarations", Args: cobra.NoArgs,
		Example: `  weir stream infer transactions.csv.gz > transactions.yaml
  weir stream apply -f transactions.yaml
  weir stream show transactions`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(newInfer())
	addStreamCommands(cmd)
	return cmd
}

type inferFlags struct {
	name           string
	rows           int64
	noCheck, quiet bool
}

func newInfer() *cobra.Command {
	var f inferFlags
	cmd := &cobra.Command{
		Use: "infer FILE", Short: "Print a streams: block that fits a file", Args: cobra.ExactArgs(1),
		Long: `Reads a CSV file (with a header line) or an NDJSON file, plain or gzip, and prints
a streams: block for weir.yaml: the types, which fields are optional, the time,
the key and the id, each guess explained beside it. No value of the file is
printed.

The whole file is read, because the last row may have one decimal place more than
the first million, and then read once more with the block to see that every row
fits. --rows N reads the first N rows only, and says so.`,
		Example: `  weir stream infer transactions.csv.gz > weir.yaml
  weir stream infer clicks.ndjson --name clicks --rows 10000`,
		RunE: func(cmd *cobra.Command, args []string) error { return runInfer(cmd, args[0], f) },
	}
	cmd.Flags().StringVar(&f.name, "name", "", "`NAME` of the stream (default: made from the file's)")
	cmd.Flags().Int64Var(&f.rows, "rows", 0, "read the first `N` rows only (default: all)")
	cmd.Flags().BoolVar(&f.noCheck, "no-check", false, "do not read the file again with the block")
	cmd.Flags().BoolVar(&f.quiet, "quiet", false, "no progress")
	return cmd
}

func runInfer(cmd *cobra.Command, path string, f inferFlags) error {
	if f.rows < 0 {
		return mistake{errors.New("--rows: expected a number of rows, 0 for all")}
	}
	meter := newMeter(cmd.ErrOrStderr(), path, f.quiet)
	began := time.Now()
	g, err := infer.File(cmd.Context(), path, infer.Options{Name: f.name, Rows: f.rows, Progress: func(rows, read, total int64) {
		meter.show(loader.Progress{Lines: rows, Accepted: rows, BytesRead: read, BytesTotal: total, Elapsed: time.Since(began)})
	}})
	meter.end()
	if errors.Is(err, os.ErrNotExist) {
		return mistake{err}
	}
	if err != nil {
		return err
	}
	block := g.YAML()
	// The block is what a person will paste: it must be one that weir takes.
	cfg, err := config.Parse("the block for "+path, []byte(block), config.ParseOptions{})
	if err != nil {
		var p *schema.Problem
		if errors.As(err, &p) && p.Hint == "" { // such as a name that is reserved
			p.Hint = "choose another name with --name"
		}
		return err
	}
	if g.Whole && !f.noCheck {
		good, bad, err := checkRows(cmd.Context(), path, cfg.Streams[0], g)
		if err != nil {
			return err
		}
		block = fmt.Sprintf("# Checked with every row of the file: %s fit, %s do not.\n", count(good), count(bad)) + g.YAML()
	}
	_, err = io.WriteString(cmd.OutOrStdout(), block)
	return err
}

// checkRows reads a whole file as a load into the stream would, and tells g how far
// its rows are out of order.
func checkRows(ctx context.Context, path string, s *schema.Stream, g *infer.Guess) (good, bad int64, err error) {
	rows, end, err := loader.OpenRows(ctx, path, s)
	if err != nil {
		return 0, 0, err
	}
	var order infer.Disorder
	err = rows.Each(ctx, func(r *loader.Row) error { good++; order.Add(r.Time); return nil }, func(int64, *event.DeadLetter) error { bad++; return nil })
	g.SetDisorder(&order)
	return good, bad, errors.Join(err, end())
}

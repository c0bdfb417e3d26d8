package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/cmd/config"
	"github.com/weirstream/weir/cmd/node"
	"github.com/weirstream/weir/ingest/loader"
	"github.com/weirstream/weir/ingest/schema"
)

type loadFlags struct {
	stream, config, kafkaAddr, httpAddr string
	again, quiet                        bool
}

func newLoad() *cobra.Command {
	var f loadFlags
	cmd := &cobra.Command{
		Use: "load FILE --stream NAME", Short: "Load a CSV or NDJSON file into a stream", Args: cobra.ExactArgs(1),
		Long: `Loads a CSV file (with a header line) or an NDJSON file, plain or gzip, into a
stream of a running weir. The file's columns are found by the names in the
stream's declaration (from:). A line that does not fit goes to the topic
weir.deadletters with its place and the reason; the others are loaded.

Interrupted, the same command resumes: rows already in the stream are not
written again. A file that is wholly there is left alone unless --again.`,
		Example: `  weir load transactions.csv.gz --stream transactions
  weir load clicks.ndjson --stream clicks --kafka-addr 127.0.0.1:9092`,
		RunE: func(cmd *cobra.Command, args []string) error { return runLoad(cmd, args[0], f) },
	}
	d := config.Default()
	cmd.Flags().StringVar(&f.stream, "stream", "", "`NAME` of the stream (needed)")
	cmd.Flags().StringVar(&f.config, "config", "", "take the stream's declaration and the address from this `FILE`, not from the running weir")
	cmd.Flags().StringVar(&f.kafkaAddr, "kafka-addr", d.KafkaAddr, "`HOST:PORT` of weir's Kafka listener")
	cmd.Flags().StringVar(&f.httpAddr, "http-addr", d.HTTPAddr, "`HOST:PORT` of weir's HTTP listener")
	cmd.Flags().BoolVar(&f.again, "again", false, "load the file although its rows are already there")
	cmd.Flags().BoolVar(&f.quiet, "quiet", false, "no progress")
	return cmd
}

func runLoad(cmd *cobra.Command, path string, f loadFlags) error {
	if f.stream == "" {
		return mistake{errors.New("which stream? name it with --stream NAME")}
	}
	stream, err := findStream(cmd, &f)
	if err != nil {
		return err
	}
	meter := newMeter(cmd.ErrOrStderr(), path, f.quiet)
	p, err := loader.Load(cmd.Context(), path, loader.Options{
		Addr: f.kafkaAddr, Stream: stream, Again: f.again, Progress: meter.show, Logger: newLogger(cmd.ErrOrStderr(), levelQuiet, false),
	})
	meter.end()
	if errors.Is(err, os.ErrNotExist) {
		return mistake{err}
	}
	if errors.Is(err, context.Canceled) {
		how := "the same command resumes"
		if f.again {
			how = "the same command without --again resumes"
		}
		return fmt.Errorf("stopped after %s of the file's rows were written; %s", count(p.Accepted+p.Skipped), how)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s: %s rows loaded, %s already there, %s to weir.deadletters, in %s (%s rows/s)\n",
		path, count(p.Accepted), count(p.Skipped), count(p.Dead), p.Elapsed.Round(time.Millisecond), count(rate(p.Accepted, p.Elapsed)))
	return nil
}

// findStream takes the declaration, and the address that is not given, from the
// file where one is named, else the declaration from the running weir.
func findStream(cmd *cobra.Command, f *loadFlags) (*schema.Stream, error) {
	if f.config == "" {
		return askStream(cmd.Context(), f.httpAddr, f.stream)
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
		if s.Schema.Stream == f.stream {
			return s, nil
		}
		names = append(names, s.Schema.Stream)
	}
	return nil, mistake{fmt.Errorf("%s declares no stream %q; it has %v %s", f.config, f.stream, names, schema.Suggest(f.stream, names))}
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

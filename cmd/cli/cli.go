package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/ingest/schema"
)

// Version is set by the build; a plain `go build` leaves the module's own.
var Version = ""

// Exit codes.
const (
	exitDone    = 0
	exitFailed  = 1
	exitMistake = 2
)

// mistake marks an error as the fault of what the person wrote.
type mistake struct{ error }

func (m mistake) Unwrap() error { return m.error }

// Main runs the command line args and returns the exit code.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := interruptible(stderr)
	defer stop()
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	if strings.HasPrefix(err.Error(), "unknown command ") { // cobra has no type for it
		err = mistake{err}
	}
	fmt.Fprintln(stderr, describe(err))
	var problem *schema.Problem
	var fault mistake
	if errors.As(err, &problem) || errors.As(err, &fault) {
		return exitMistake
	}
	return exitFailed
}

// describe is the error as a person reads it: problems stand a line each, so
// that an editor can jump to their places.
func describe(err error) string {
	var problems schema.Problems
	if errors.As(err, &problems) {
		return problems.Error()
	}
	return "weir: " + err.Error()
}

// interruptible returns a context that the first SIGINT or SIGTERM cancels; a
// second one ends the process at once.
func interruptible(stderr io.Writer) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		if _, ok := <-signals; !ok {
			return
		}
		cancel()
		if s, ok := <-signals; ok {
			fmt.Fprintf(stderr, "weir: %v again: stopping at once\n", s)
			os.Exit(exitFailed)
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(signals)
		cancel()
	}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "weir",
		Version:       version(),
		Short:         "Fraud detection, complex event processing and live SQL on one log",
		SilenceErrors: true,
		SilenceUsage:  true,
		Long: `Weir takes in events over the Kafka protocol, decides each of them by rules over
exact sliding windows, keeps them in SQL, and notifies receivers.

Begin with:
  weir demo                      three simulated streams, rules and a receiver
  weir run --config weir.yaml    your own streams
  weir load FILE --stream NAME   a file into a stream of a running weir`,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return mistake{fmt.Errorf("%w\nsee: %s --help", err, cmd.CommandPath())}
	})
	root.AddCommand(newRun(), newDemo(), newCheckConfig(), newLoad(), newStream(), newDeadLetter(), newTopic(), newProduce(), newConsume(), newGroup(), newTransaction(), newRule(), newList(), newTable(), newErase(), newLog(), newVersion())
	for _, c := range root.Commands() {
		markArgs(c)
	}
	return root
}

// markArgs makes wrong arguments a mistake of the person, for the exit code.
func markArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return mistake{fmt.Errorf("%w\nsee: %s --help", err, cmd.CommandPath())}
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		markArgs(sub)
	}
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			fmt.Fprintf(cmd.OutOrStdout(), "weir %s\n", version())
			return nil
		},
	}
}

func version() string {
	if Version != "" {
		return Version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "dev"
}

// levelQuiet keeps a client command's log to what a person must know.
const levelQuiet = slog.LevelWarn

// newLogger writes to stderr, for people; log.format json is for machines.
func newLogger(stderr io.Writer, level slog.Level, asJSON bool) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	if asJSON {
		return slog.New(slog.NewJSONHandler(stderr, opts))
	}
	return slog.New(slog.NewTextHandler(stderr, opts))
}

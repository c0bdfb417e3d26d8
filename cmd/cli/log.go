package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/cmd/config"
	"github.com/weirstream/weir/log/commitlog"
)

// newLog has the commands for the log's files; they need the data directory for
// themselves.
func newLog() *cobra.Command {
	cmd := &cobra.Command{
		Use: "log", Short: "Verify and repair the log's files (with weir stopped)",
		RunE: func(*cobra.Command, []string) error {
			return mistake{errors.New("which one? weir log verify, or weir log repair")}
		},
	}
	cmd.AddCommand(newLogVerify(), newLogRepair())
	return cmd
}

// logDir is the log within a data directory, or dir itself where it is the log: as
// the log's own messages name it.
func logDir(dir string) string {
	if _, err := os.Stat(filepath.Join(dir, "meta")); err == nil {
		return dir
	}
	return filepath.Join(dir, "log")
}

func newLogVerify() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "verify", Short: "Check every batch of every partition", Args: cobra.NoArgs,
		Example: "  weir log verify --data-dir /var/lib/weir",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := os.Stat(logDir(dir)); err != nil {
				return mistake{fmt.Errorf("no log in %s: %w", dir, err)} // Open would make one
			}
			l, err := commitlog.Open(cmd.Context(), logDir(dir), commitlog.Options{Logger: newLogger(cmd.ErrOrStderr(), levelQuiet, false)})
			if err != nil {
				return err
			}
			defer l.Close()
			var read int64
			damage, err := l.Verify(cmd.Context(), func(p commitlog.VerifyProgress) {
				read = p.Bytes
				fmt.Fprintf(cmd.ErrOrStderr(), "%s[%d] %d of %d MiB\n", p.Topic, p.Partition, p.Bytes>>20, p.Total>>20)
			})
			if err != nil {
				return err
			}
			for _, d := range damage {
				fmt.Fprintln(cmd.OutOrStdout(), d)
			}
			if len(damage) > 0 {
				return fmt.Errorf("%d damaged places", len(damage))
			}
			fmt.Fprintf(cmd.OutOrStdout(), "good: %d MiB in %d topics\n", read>>20, len(l.Topics()))
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "data-dir", config.Default().DataDir, "`DIR` of the log")
	return cmd
}

func newLogRepair() *cobra.Command {
	var dir, topic string
	var partition int32
	cmd := &cobra.Command{
		Use: "repair", Short: "Put a partition with damage back into service, naming what is lost", Args: cobra.NoArgs,
		Long: `Repairs one partition, with weir stopped: valid batches stay at their offsets,
damaged bytes are moved to a file beside the segment, lost offsets are not given
again. What is lost is printed.`,
		Example: "  weir log repair --data-dir /var/lib/weir --topic transactions --partition 0",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if topic == "" || partition < 0 {
				return mistake{errors.New("which one? name it with --topic NAME --partition N")}
			}
			report, err := commitlog.Repair(cmd.Context(), logDir(dir), topic, partition, commitlog.Options{Logger: newLogger(cmd.ErrOrStderr(), levelQuiet, false)})
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s[%d] is in service again\n", topic, partition)
			if len(report.Lost) == 0 {
				fmt.Fprintln(cmd.OutOrStdout(), "nothing was lost")
			}
			for _, l := range report.Lost {
				fmt.Fprintf(cmd.OutOrStdout(), "lost: offsets %d to %d (exclusive), %d bytes: %s\n", l.From, l.To, l.Bytes, l.Reason)
				if l.Kept != "" {
					fmt.Fprintf(cmd.OutOrStdout(), "  the damaged bytes are kept in %s\n", l.Kept)
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "data-dir", config.Default().DataDir, "`DIR` of the log")
	cmd.Flags().StringVar(&topic, "topic", "", "`NAME` of the topic")
	cmd.Flags().Int32Var(&partition, "partition", -1, "`N` of the partition")
	return cmd
}

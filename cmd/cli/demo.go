package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/weirstream/weir/cmd/config"
	"github.com/weirstream/weir/cmd/demo"
	"github.com/weirstream/weir/cmd/node"
)

func newDemo() *cobra.Command {
	var f serverFlags
	var seed uint64
	cmd := &cobra.Command{
		Use: "demo", Short: "Run with three simulated streams, sample rules and a webhook receiver", Args: cobra.NoArgs,
		Long: `Runs the appliance with simulated card transactions (with the fraud scenarios of
the Fraud Detection Handbook), web clicks (with account take-overs) and market
ticks (with bursts and crossed quotes), sample rules, and a webhook receiver that
prints the alerts it gets. Everything is in one directory, which is removed at the
end unless --data-dir names it; weir.yaml and rules/ in it are yours to edit: weir rule reload
has it read the rules again.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			level, err := f.level()
			if err != nil {
				return err
			}
			logger := newLogger(cmd.ErrOrStderr(), level, f.logJSON)
			return runDemo(cmd.Context(), f, seed, logger, cmd.OutOrStdout())
		},
	}
	f.register(cmd)
	cmd.Flags().Lookup("data-dir").Usage = "`DIR` for everything (default: a temporary one, removed at the end)"
	cmd.Flags().Lookup("log-level").DefValue = "warn"
	f.logLevel = "warn"
	cmd.Flags().Uint64Var(&seed, "seed", 1, "of the simulated streams: the same seed gives the same events")
	return cmd
}

func runDemo(ctx context.Context, f serverFlags, seed uint64, logger *slog.Logger, out io.Writer) (err error) {
	dir := f.dataDir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "weir-demo-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	receiver, err := demo.NewReceiver(out)
	if err != nil {
		return err
	}
	if f.config == "" {
		if f.config, err = demo.WriteConfig(dir); err != nil {
			return err
		}
	}
	cfg, err := config.Load(f.config)
	if err != nil {
		return err
	}
	desk, err := receiver.Declaration()
	if err != nil {
		return err
	}
	cfg.Receivers = append(cfg.Receivers, desk)
	f.dataDir = filepath.Join(dir, "data")
	if err := f.apply(cfg); err != nil {
		return err
	}
	prepared, err := node.Prepare(cfg)
	if err != nil {
		return err
	}
	n := node.New(prepared, node.Options{Version: version(), Logger: logger})
	g, ctx := errgroup.WithContext(ctx)
	// The receiver outlives the node, which at its stop still delivers.
	receiving, stopReceiver := context.WithCancel(context.WithoutCancel(ctx))
	g.Go(func() error { return receiver.Run(receiving) })
	g.Go(func() error {
		defer stopReceiver()
		return n.Run(ctx)
	})
	g.Go(func() error {
		reloadOnHangup(receiving, n)
		return nil
	})
	g.Go(func() error {
		select {
		case <-n.Ready():
		case <-ctx.Done():
			return nil
		}
		printAddresses(out, n, dir)
		return demo.Feed(ctx, n.KafkaAddr(), seed)
	})
	return g.Wait()
}

func printAddresses(out io.Writer, n *node.Node, dir string) {
	fmt.Fprintf(out, `Weir is running. ctrl-C stops it.

  console   http://%s/
  Kafka     %-16s   kcat -b %s -L
  SQL       %-16s   psql -h %s -p %s -c 'select count(*) from transactions'
  metrics   http://%s/metrics
  files     %s   (weir.yaml and rules/ are yours to edit)

The webhook receiver prints what it gets:

`, n.HTTPAddr(), n.KafkaAddr(), n.KafkaAddr(), n.SQLAddr(), hostOf(n.SQLAddr()), portOf(n.SQLAddr()), n.HTTPAddr(), dir)
}

func hostOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return host
}

func portOf(addr string) string {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return port
}

package cli

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"errors"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/cmd/config"
	"github.com/weirstream/weir/cmd/node"
)

// defaultConfig is read where --config is not given and the file exists.
const defaultConfig = "weir.yaml"

// serverFlags are the flags of run and demo; each is also a key of weir.yaml,
// over which the flag wins.
type serverFlags struct {
	config, dataDir, kafkaAddr, httpAddr, sqlAddr string
	logLevel                                      string
	logJSON                                       bool
}

func (f *serverFlags) register(cmd *cobra.Command) {
	d := config.Default()
	cmd.Flags().StringVar(&f.config, "config", "", "configuration `FILE` (default "+defaultConfig+" where it exists)")
	cmd.Flags().StringVar(&f.dataDir, "data-dir", "", fmt.Sprintf("`DIR` for everything that is kept (default %s)", d.DataDir))
	cmd.Flags().StringVar(&f.kafkaAddr, "kafka-addr", "", fmt.Sprintf("`HOST:PORT` for Kafka clients (default %s)", d.KafkaAddr))
	cmd.Flags().StringVar(&f.httpAddr, "http-addr", "", fmt.Sprintf("`HOST:PORT` for console, REST and metrics (default %s)", d.HTTPAddr))
	cmd.Flags().StringVar(&f.sqlAddr, "sql-addr", "", fmt.Sprintf("`HOST:PORT` for PostgreSQL clients (default %s)", d.SQLAddr))
	cmd.Flags().StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	cmd.Flags().BoolVar(&f.logJSON, "log-json", false, "write the log as JSON lines")
}

// apply lets the given flags win over the file.
func (f *serverFlags) apply(cfg *config.Config) error {
	if f.dataDir != "" {
		cfg.DataDir = f.dataDir
	}
	for _, o := range []struct {
		name, flag string
		to         *string
	}{{"kafka-addr", f.kafkaAddr, &cfg.KafkaAddr}, {"http-addr", f.httpAddr, &cfg.HTTPAddr}, {"sql-addr", f.sqlAddr, &cfg.SQLAddr}} {
		if o.flag == "" {
			continue
		}
		if err := config.CheckAddr(o.flag); err != nil {
			return mistake{fmt.Errorf("--%s %q: %w", o.name, o.flag, err)}
		}
		*o.to = o.flag
	}
	return nil
}

func (f *serverFlags) level() (slog.Level, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(f.logLevel)); err != nil {
		return 0, mistake{fmt.Errorf("--log-level %q: expected debug, info, warn or error", f.logLevel)}
	}
	return l, nil
}

// namedConfig reads the file that is to be looked at.
func namedConfig(path string) (*config.Config, error) {
	if _, err := os.Stat(defaultConfig); path == "" && errors.Is(err, fs.ErrNotExist) {
		return nil, mistake{fmt.Errorf("there is no %s here: name your configuration with --config FILE", defaultConfig)}
	}
	return loadConfig(path)
}

// loadConfig reads the file, or the defaults where none is named and none is
// there.
func loadConfig(path string) (*config.Config, error) {
	if path == "" {
		if _, err := os.Stat(defaultConfig); errors.Is(err, fs.ErrNotExist) {
			cfg := config.Default()
			return &cfg, nil
		}
		path = defaultConfig
	}
	cfg, err := config.Load(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, mistake{fmt.Errorf("%w: name your configuration with --config FILE", err)}
	}
	return cfg, err
}

func newRun() *cobra.Command {
	var f serverFlags
	cmd := &cobra.Command{
		Use: "run", Short: "Run the appliance", Args: cobra.NoArgs,
		Example: `  weir run
  weir run --config weir.yaml --data-dir /var/lib/weir
  weir run --http-addr 0.0.0.0:8080`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			level, err := f.level()
			if err != nil {
				return err
			}
			cfg, err := loadConfig(f.config)
			if err != nil {
				return err
			}
			if err := f.apply(cfg); err != nil {
				return err
			}
			logger := newLogger(cmd.ErrOrStderr(), level, f.logJSON)
			return runNode(cmd.Context(), cfg, logger)
		},
	}
	f.register(cmd)
	return cmd
}

func runNode(ctx context.Context, cfg *config.Config, logger *slog.Logger) error {
	prepared, err := node.Prepare(cfg)
	if err != nil {
		return err
	}
	if len(cfg.Streams) == 0 {
		logger.Warn("no streams are configured: the log takes records, but nothing decides them; see docs/guides/streams.md")
	}
	n := node.New(prepared, node.Options{Version: version(), Logger: logger})
	running, ended := context.WithCancel(ctx)
	defer ended()
	go reloadOnHangup(running, n)
	return n.Run(ctx)
}

func newCheckConfig() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use: "check-config", Short: "Check weir.yaml and its rules without starting anything", Args: cobra.NoArgs,
		Example: "  weir check-config --config weir.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := namedConfig(path)
			if err != nil {
				return err
			}
			p, err := node.Prepare(cfg)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "good: %d streams, %d rules, %d receivers; program %s\n",
				len(cfg.Streams), len(p.Program.Rules()), len(cfg.Receivers), p.Program.ID())
			return nil
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "configuration `FILE` (default "+defaultConfig+" where it exists)")
	return cmd
}

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/cmd/config"
	"github.com/weirstream/weir/cmd/node"
	"github.com/weirstream/weir/ingest/schema"
)

func newReload() *cobra.Command {
	f := rest{}
	asJSON := false
	cmd := &cobra.Command{
		Use: "reload", Short: "Have a running weir read its rule files again", Args: cobra.NoArgs,
		Long: `Has a running weir read its rule files, and the CSV files of its tables and lists,
again. Where there is a mistake in one, nothing changes, and each mistake is named with
its file, line and column. Else they decide from the next event on. Rules whose windows
are there keep them; a rule with a window that no rule had begins when that is made from
the log, which weir rule list --running shows. SIGHUP and POST /-/reload do the same.`,
		Example: "  weir rule check && weir rule test && weir rule reload",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var v node.ReloadView
			if err := f.call(cmd.Context(), http.MethodPost, "/v1/reload", "", nil, &v); err != nil {
				var m mistake
				if errors.As(err, &m) { // a line for each, which begins with its place
					return schema.Problems{{Message: m.Error()}}
				}
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(&v)
			}
			_, err := io.WriteString(cmd.OutOrStdout(), v.String())
			return err
		},
	}
	cmd.Flags().StringVar(&f.httpAddr, "http-addr", config.Default().HTTPAddr, "`HOST:PORT` of weir's HTTP listener")
	cmd.Flags().BoolVar(&asJSON, "json", false, "JSON instead of a text for people")
	return cmd
}

// reloadOnHangup reloads a node's rules on each SIGHUP, until ctx is done. The node says
// in its log what came of it.
func reloadOnHangup(ctx context.Context, n *node.Node) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	select {
	case <-n.Ready(): // one that came before it waits
	case <-ctx.Done():
		return
	}
	for {
		select {
		case <-hangups:
			_, _ = n.Reload(ctx)
		case <-ctx.Done():
			return
		}
	}
}

type listFlags struct {
	rest
	running, asJSON bool
}

func newRuleList(path *string) *cobra.Command {
	var f listFlags
	cmd := &cobra.Command{
		Use: "list", Short: "List the rules of the files, or with --running what they do in a running weir", Args: cobra.NoArgs,
		Long: `Lists the rules of the configuration's files. With --running it asks a weir that runs,
and shows what each rule does: active; warming, with how far its windows are made from
the log; failing, where it met errors in the last minute or its stream is not decided;
off. Then the keyed streams that windows by other fields than the streams' keys need.`,
		Example: "  weir rule list\n  weir rule list --running\n  weir rule list --running --http-addr weir.example.com:8080 --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.running || cmd.Flags().Changed("http-addr") {
				return f.list(cmd)
			}
			if f.asJSON {
				return mistake{errors.New("--json goes with --running")}
			}
			return listRules(cmd.OutOrStdout(), *path)
		},
	}
	cmd.Flags().BoolVar(&f.running, "running", false, "ask a running weir")
	cmd.Flags().StringVar(&f.httpAddr, "http-addr", config.Default().HTTPAddr, "`HOST:PORT` of weir's HTTP listener; implies --running")
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "JSON instead of a text for people")
	return cmd
}

func (f *listFlags) list(cmd *cobra.Command) error {
	var all struct {
		Rules []node.RuleView  `json:"rules"`
		Keyed []node.KeyedView `json:"keyed"`
	}
	if err := f.get(cmd.Context(), "/v1/rules", &all.Rules); err != nil {
		return err
	}
	if err := f.get(cmd.Context(), "/v1/keyed", &all.Keyed); err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if f.asJSON {
		return json.NewEncoder(out).Encode(all)
	}
	if len(all.Rules) == 0 {
		fmt.Fprintln(out, "there are no rules")
	} else if err := printRules(out, all.Rules); err != nil {
		return err
	}
	if len(all.Keyed) == 0 {
		return nil
	}
	fmt.Fprintln(out)
	return printKeyed(out, all.Keyed)
}

func printRules(out io.Writer, all []node.RuleView) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tSTREAM\tMODE\tACTION\tSTATE\tSINCE\tFIRED\tERRORS\tNO DATA\tFILE")
	for i := range all {
		r := &all[i]
		state := r.State
		if r.Warming != nil {
			state = fmt.Sprintf("warming %.1f %% (%s of %s)", r.Warming.Percent, count(r.Warming.Rows), count(r.Warming.Of))
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s:%d\n", r.ID, r.Stream, r.Mode, r.Action, state, since(r.Since), count(r.Fired), count(r.Errors), count(r.NoData), r.File, r.Line)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for i := range all {
		switch r := &all[i]; {
		case r.Trouble == "":
		case r.Warming != nil:
			fmt.Fprintf(out, "%s: its windows could not be made, which is tried again: %s\n", r.ID, printable(r.Trouble))
		default:
			fmt.Fprintf(out, "%s is failing: %s\n", r.ID, printable(r.Trouble))
		}
	}
	return nil
}

func since(at *time.Time) string {
	if at == nil {
		return ""
	}
	return at.UTC().Format(time.RFC3339)
}

func printKeyed(out io.Writer, all []node.KeyedView) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "KEYED STREAM\tPARTITION\tKEY\tSTATE\tLAG\tWATERMARK\tDISK\tRULES")
	for i := range all {
		k := &all[i]
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\n", k.Topic, k.Partition, strings.Join(k.Key, ", "), k.State, count(k.Lag), since(k.Watermark), size(k.Bytes), strings.Join(k.Rules, ", "))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for i := range all {
		if k := &all[i]; k.Trouble != "" {
			fmt.Fprintf(out, "%s, partition %d does not run: %s\n", k.Topic, k.Partition, printable(k.Trouble))
		}
	}
	return nil
}

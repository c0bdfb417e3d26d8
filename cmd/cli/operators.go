package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/cmd/config"
	"github.com/weirstream/weir/cmd/node"
)

type operatorFlags struct {
	rest
	keys, asJSON bool
}

func newOperators() *cobra.Command {
	var f operatorFlags
	cmd := &cobra.Command{
		Use: "operators [ID]", Short: "Show what the windows of the running rules, or of one, hold and cost", Args: cobra.MaximumNArgs(1),
		Long: `Shows what keeps the windows of the rules that a weir is running: windows with the
same key and the same condition are kept together, for all rules. Tells keys, events,
memory and the time for each event, and of how many keys events are left out because of
the limit of events per key. --keys adds the keys with the most events, as of some
seconds ago.`,
		Example: "  weir rule operators\n  weir rule operators card-testing --keys",
		RunE:    func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
	}
	cmd.Flags().StringVar(&f.httpAddr, "http-addr", config.Default().HTTPAddr, "`HOST:PORT` of weir's HTTP listener")
	cmd.Flags().BoolVar(&f.keys, "keys", false, "the keys with the most events, too")
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "JSON instead of a text for people")
	return cmd
}

func (f *operatorFlags) run(cmd *cobra.Command, args []string) error {
	path := "/v1/operators"
	if len(args) == 1 {
		path += "?" + url.Values{"rule": {args[0]}}.Encode()
	}
	var all []node.OperatorView
	if err := f.get(cmd.Context(), path, &all); err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	switch {
	case f.asJSON:
		return json.NewEncoder(out).Encode(all)
	case len(all) == 0 && len(args) == 1:
		fmt.Fprintf(out, "%s reads no window\n", args[0])
		return nil
	case len(all) == 0:
		fmt.Fprintln(out, "no rule reads a window")
		return nil
	}
	return f.print(out, all)
}

func (f *operatorFlags) print(out io.Writer, all []node.OperatorView) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "STREAM\tWINDOWS\tKEYS\tEVENTS\tMEMORY\tDISK\tNS/EVENT\tCAPPED KEYS\tRULES")
	for i := range all {
		v := &all[i]
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%.0f\t%s\t%s\n", v.Stream, printable(v.Name), count(v.Keys), count(v.Events), size(v.Bytes), size(v.DiskBytes), v.NanosEach, count(v.CappedKeys), strings.Join(v.Rules, ", "))
	}
	if err := t.Flush(); err != nil || !f.keys {
		return err
	}
	for i := range all {
		v := &all[i]
		fmt.Fprintf(out, "\n%s %s\n", v.Stream, printable(v.Name))
		fmt.Fprintln(t, "  KEY\tEVENTS\tMEMORY")
		for _, k := range v.Top {
			fmt.Fprintf(t, "  %s\t%s\t%s\n", printable(k.Key), count(k.Events), size(k.Bytes))
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	return nil
}

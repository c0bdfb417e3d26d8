package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/cmd/config"
	"github.com/weirstream/weir/cmd/node"
	"github.com/weirstream/weir/rules"
)

type planFlags struct {
	rest
	path   *string
	asJSON bool
}

// plannedView is an operator of the plan with what it costs where it runs.
type plannedView struct {
	rules.Planned
	Running *node.OperatorView `json:"Running,omitempty"`
}

func newPlan(path *string) *cobra.Command {
	f := planFlags{path: path}
	cmd := &cobra.Command{
		Use: "plan [ID...]", Short: "Show where the windows of the rules, or of those named, are kept and what that costs",
		Long: `Compiles the rules and shows for each window operator where it runs, how far back it
keeps what, and which events take a hop for it: windows by another key than the stream's,
or over another stream, run on a keyed stream, a topic into which their events are written
once more. Where a weir runs these rules at --http-addr, the plan has what it measures.`,
		Example: "  weir rule plan\n  weir rule plan busy-terminal --config weir.yaml",
		RunE:    func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
	}
	cmd.Flags().StringVar(&f.httpAddr, "http-addr", config.Default().HTTPAddr, "`HOST:PORT` of weir's HTTP listener, for what is measured")
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "JSON instead of a text for people")
	return cmd
}

func (f *planFlags) run(cmd *cobra.Command, ids []string) error {
	p, err := prepare(*f.path)
	if err != nil {
		return err
	}
	if _, err := only(p.Rules, ids); err != nil {
		return err
	}
	var running []node.OperatorView
	unmeasured := f.get(cmd.Context(), "/v1/operators", &running)
	var all []plannedView
	for _, planned := range p.Program.Plan() {
		if len(ids) > 0 && !slices.ContainsFunc(planned.Rules, func(id string) bool { return slices.Contains(ids, id) }) {
			continue
		}
		v := plannedView{Planned: planned}
		for i := range running {
			if r := &running[i]; r.Stream == planned.Stream && r.Name == planned.Name && r.Keyed == planned.Keyed {
				v.Running = r
			}
		}
		all = append(all, v)
	}
	out := cmd.OutOrStdout()
	if f.asJSON {
		return json.NewEncoder(out).Encode(all)
	}
	if len(all) == 0 {
		fmt.Fprintln(out, "no rule reads a window: each event is decided by itself, where it arrives")
		return nil
	}
	if err := printPlan(out, all); err != nil {
		return err
	}
	if unmeasured != nil {
		fmt.Fprintf(out, "\nNothing is measured: %v\n", unmeasured)
	}
	return nil
}

func printPlan(out io.Writer, all []plannedView) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "STREAM\tWINDOWS\tKEEPS\tWHERE\tKEYS\tMEMORY\tDISK\tNS/EVENT\tRULES")
	var keyed []string
	for i := range all {
		v := &all[i]
		where, keeps := "where events arrive", strings.Join(v.Keeps, ", ")
		if v.Keyed != "" {
			where = v.Keyed
			if !slices.Contains(keyed, v.Keyed) {
				keyed = append(keyed, v.Keyed)
			}
		}
		keys, memory, disk, each := "-", "-", "-", "-"
		if r := v.Running; r != nil {
			keys, memory, disk, each = count(r.Keys), size(r.Bytes), size(r.DiskBytes), fmt.Sprintf("%.0f", r.NanosEach)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", v.Stream, printable(v.Name), keeps, where, keys, memory, disk, each, strings.Join(v.Rules, ", "))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, topic := range keyed {
		i := slices.IndexFunc(all, func(v plannedView) bool { return v.Keyed == topic })
		fmt.Fprintf(out, "\n%s: each event is written once more, and its decision waits for that; it takes along", topic)
		for j, stream := range slices.Sorted(maps.Keys(all[i].Takes)) {
			if j > 0 {
				fmt.Fprint(out, ", and")
			}
			fields := all[i].Takes[stream]
			if len(fields) == 0 {
				fields = []string{"nothing but the time"}
			}
			fmt.Fprintf(out, " of %s %s", stream, strings.Join(fields, ", "))
		}
		fmt.Fprintln(out)
	}
	return nil
}

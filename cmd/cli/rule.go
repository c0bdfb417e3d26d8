package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/cmd/node"
	"github.com/weirstream/weir/rules"
)

// newRule has the commands for rule files, which need no running weir, and those that ask
// one.
func newRule() *cobra.Command {
	cmd := &cobra.Command{
		Use: "rule", Short: "Check, list, test and reload rules, and see what their windows cost",
		RunE: func(*cobra.Command, []string) error {
			return mistake{errors.New("which one? weir rule check, weir rule list, weir rule test, weir rule plan, weir rule reload, or weir rule operators")}
		},
	}
	var path string
	cmd.PersistentFlags().StringVar(&path, "config", "", "configuration `FILE` (default "+defaultConfig+" where it exists)")
	cmd.AddCommand(
		&cobra.Command{
			Use: "check", Short: "Compile all rules and name each mistake", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return checkRules(cmd.OutOrStdout(), path) },
		},
		newRuleList(&path),
		&cobra.Command{
			Use: "test [ID...]", Short: "Run the cases under tests: of the rules, or of those named",
			Long: `Runs the cases under tests: of each rule: the events of a case's file (NDJSON, or
CSV of the stream's columns) are decided by that rule alone, and it must fire on the
events named under expect and on no other.`,
			Example: "  weir rule test\n  weir rule test card-testing --config weir.yaml",
			RunE:    func(cmd *cobra.Command, args []string) error { return testRules(cmd.OutOrStdout(), path, args) },
		},
		newPlan(&path),
		newOperators(),
		newReload(),
	)
	return cmd
}

func prepare(path string) (*node.Prepared, error) {
	cfg, err := namedConfig(path)
	if err != nil {
		return nil, err
	}
	return node.Prepare(cfg)
}

func checkRules(out io.Writer, path string) error {
	p, err := prepare(path)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "good: %d rules; program %s\n", len(p.Program.Rules()), p.Program.ID())
	return nil
}

func listRules(out io.Writer, path string) error {
	p, err := prepare(path)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tSTREAM\tMODE\tACTION\tSEVERITY\tSCORE\tFILE")
	for _, r := range p.Program.Rules() {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%g\t%s:%d\n", r.ID, r.Stream, r.Mode, r.Action, r.Severity, r.Score, r.File, r.Line)
	}
	return table.Flush()
}

func testRules(out io.Writer, path string, ids []string) error {
	p, err := prepare(path)
	if err != nil {
		return err
	}
	set, err := only(p.Rules, ids)
	if err != nil {
		return err
	}
	catalog, err := p.WithContents()
	if err != nil {
		return err
	}
	failed, passed := 0, 0
	for _, r := range rules.RunTests(set, catalog) {
		if r.Passed() {
			passed++
			fmt.Fprintf(out, "ok    %s: %s (%d events)\n", r.Rule, r.Name, r.Events)
			continue
		}
		failed++
		fmt.Fprintf(out, "FAIL  %s: %s (%s:%d)\n", r.Rule, r.Name, r.File, r.Line)
		if r.Err != nil {
			fmt.Fprintf(out, "      %v\n", r.Err)
		}
		if len(r.Missing) > 0 {
			fmt.Fprintf(out, "      did not fire on %s\n", strings.Join(r.Missing, ", "))
		}
		if len(r.Unexpected) > 0 {
			fmt.Fprintf(out, "      fired on %s, which the case does not expect\n", strings.Join(r.Unexpected, ", "))
		}
	}
	switch {
	case failed > 0:
		return fmt.Errorf("%d of %d cases failed", failed, failed+passed)
	case passed == 0:
		return mistake{errors.New("no rule has a case: add tests: to one, see docs/guides/rules.md")}
	}
	fmt.Fprintf(out, "all %d cases passed\n", passed)
	return nil
}

// only is the rules with these ids, all where none is named.
func only(set rules.Set, ids []string) (rules.Set, error) {
	if len(ids) == 0 {
		return set, nil
	}
	var out rules.Set
	for _, id := range ids {
		found := false
		for i := range set {
			if set[i].ID == id {
				out, found = append(out, set[i]), true
			}
		}
		if !found {
			return nil, mistake{fmt.Errorf("there is no rule %q; weir rule list shows them", id)}
		}
	}
	return out, nil
}

package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/cmd/config"
	"github.com/weirstream/weir/cmd/node"
)

// tableFlags are those of weir list and weir table.
type tableFlags struct {
	rest
	kind    string // list or table
	asJSON  bool
	search  string
	limit   int
	reason  string
	author  string
	expires string
	output  string
}

func newList() *cobra.Command {
	f := &tableFlags{kind: "list"}
	return f.command("Look at and change the lists that rules ask", `  weir list show
  weir list show trusted-merchants --search acme
  weir list add blocked-cards 4111000011112222 --reason "case 77" --expires 30d
  weir list import trusted-merchants merchants.csv`)
}

func newTable() *cobra.Command {
	f := &tableFlags{kind: "table"}
	return f.command("Look at and change the dimension tables that rules look up", `  weir table show merchants --search acme
  weir table add merchants merchant=acme category=food risk=3
  weir table import merchants merchants.csv`)
}

func (f *tableFlags) command(short, example string) *cobra.Command {
	cmd := &cobra.Command{Use: f.kind, Short: short, Example: example, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.PersistentFlags().StringVar(&f.httpAddr, "http-addr", config.Default().HTTPAddr, "`HOST:PORT` of weir's HTTP listener")
	show := &cobra.Command{Use: "show [NAME]", Short: fmt.Sprintf("Show the %ss, or the entries of one", f.kind), Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.show(cmd, args) }}
	show.Flags().StringVar(&f.search, "search", "", "only entries with this `TEXT`")
	show.Flags().IntVar(&f.limit, "limit", 100, "at most `N` entries")
	show.Flags().BoolVar(&f.asJSON, "json", false, "JSON instead of a text for people")

	add := &cobra.Command{Use: "add NAME VALUE...", Short: "Add values, or change what is known about them", Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return f.add(cmd, args) }}
	remove := &cobra.Command{Use: "remove NAME VALUE...", Short: "Remove values", Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return f.remove(cmd, args) }}
	if f.kind == "table" {
		add.Use, add.Short = "add NAME FIELD=VALUE...", "Add an entry, or put it in the place of the one of its key"
		remove.Use, remove.Short = "remove NAME VALUE...", "Remove the entry of a key: the values of its fields, in order"
	}
	add.Flags().StringVar(&f.expires, "expires", "", "until when: a `TIME` such as 2026-01-31T12:00:00Z, or a duration from now such as 30d; events at or after it do not see the entry")
	load := &cobra.Command{Use: "import NAME FILE", Short: fmt.Sprintf("Put what a CSV file says in the place of all entries of a %s", f.kind), Args: cobra.ExactArgs(2),
		Long: `Makes a list or table what a CSV file says, in one step: what is not in the file is
removed, and only what differs changes. The first line names the columns: the fields
(value, for a list) and where wanted _expires and _reason. FILE - is standard input.`,
		RunE: func(cmd *cobra.Command, args []string) error { return f.load(cmd, args) }}
	for _, c := range []*cobra.Command{add, remove, load} {
		c.Flags().StringVar(&f.reason, "reason", "", "why, kept with the change")
		c.Flags().StringVar(&f.author, "author", os.Getenv("USER"), "who, kept with the change")
	}
	export := &cobra.Command{Use: "export NAME", Short: "Write all entries as CSV", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.export(cmd, args[0]) }}
	export.Flags().StringVar(&f.output, "output", "", "to this `FILE` instead of standard output")
	cmd.AddCommand(show, add, remove, load, export)
	return cmd
}

// path is where a list or table is in the REST API.
func (f *tableFlags) path(name, rest string) string {
	return "/v1/" + f.kind + "s/" + url.PathEscape(name) + rest
}

func (f *tableFlags) show(cmd *cobra.Command, args []string) error {
	if f.limit < 1 || f.limit > limitMax {
		return mistake{fmt.Errorf("--limit: expected a number from 1 to %d", limitMax)}
	}
	if len(args) == 0 {
		return f.showAll(cmd)
	}
	var v node.TableView
	if err := f.get(cmd.Context(), f.path(args[0], ""), &v); err != nil {
		return err
	}
	query := url.Values{"limit": {fmt.Sprint(f.limit)}, "search": {f.search}}
	var page node.EntriesPage
	if err := f.get(cmd.Context(), f.path(args[0], "/entries?"+query.Encode()), &page); err != nil {
		return err
	}
	if f.asJSON {
		for _, e := range page.Entries {
			fmt.Fprintf(cmd.OutOrStdout(), "%s\n", e)
		}
		return nil
	}
	return f.print(cmd.OutOrStdout(), &v, &page)
}

func (f *tableFlags) showAll(cmd *cobra.Command) error {
	var all []node.TableView
	if err := f.get(cmd.Context(), "/v1/"+f.kind+"s", &all); err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if f.asJSON {
		return json.NewEncoder(out).Encode(all)
	}
	if len(all) == 0 {
		fmt.Fprintf(out, "there are no %ss; declare one in weir.yaml, under %[1]ss\n", f.kind)
		return nil
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tENTRIES\tKEY\tFIELDS\tFROM")
	for i := range all {
		v := &all[i]
		var fields []string
		for _, field := range v.Fields {
			fields = append(fields, field.Name+" "+field.Type)
		}
		from := v.Source
		if from == "" {
			from = "the API"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", v.Name, count(v.Entries), strings.Join(v.Key, ", "), strings.Join(fields, ", "), printable(from))
	}
	return t.Flush()
}

// print shows a page as columns.
func (f *tableFlags) print(out io.Writer, v *node.TableView, page *node.EntriesPage) error {
	if len(page.Entries) == 0 {
		if f.search != "" {
			fmt.Fprintf(out, "no entry of %s has %q\n", v.Name, f.search)
		} else {
			fmt.Fprintf(out, "%s is empty\n", v.Name)
		}
		return nil
	}
	var columns []string
	for _, field := range v.Fields {
		columns = append(columns, field.Name)
	}
	columns = append(columns, "_expires", "_since", "_author", "_reason")
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.ToUpper(strings.ReplaceAll(strings.Join(columns, "\t"), "_", "")))
	for _, raw := range page.Entries {
		var members map[string]json.RawMessage
		if err := json.Unmarshal(raw, &members); err != nil {
			return err
		}
		cells := make([]string, len(columns))
		for i, name := range columns {
			cells[i] = cellOf(members[name])
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if page.Next != "" {
		fmt.Fprintf(out, "... there are more than %d: --search TEXT, --limit N or weir %s export %s\n", len(page.Entries), f.kind, v.Name)
	}
	return nil
}

func cellOf(raw json.RawMessage) string {
	var text string
	switch {
	case len(raw) == 0:
		return "-"
	case json.Unmarshal(raw, &text) == nil:
		return printable(text)
	}
	return printable(string(raw))
}

// expiry is --expires as a time; nil where it is not given.
func (f *tableFlags) expiry(now time.Time) (*time.Time, error) {
	if f.expires == "" {
		return nil, nil
	}
	if t, err := time.Parse(time.RFC3339, f.expires); err == nil {
		return &t, nil
	}
	d, err := config.ParseDuration(f.expires)
	if err != nil {
		return nil, mistake{fmt.Errorf("--expires %q: expected a time such as 2026-01-31T12:00:00Z, or a duration such as 30d", f.expires)}
	}
	t := now.Add(d).UTC().Truncate(time.Second)
	return &t, nil
}

func (f *tableFlags) add(cmd *cobra.Command, args []string) error {
	expires, err := f.expiry(time.Now())
	if err != nil {
		return err
	}
	body := node.NewEntries{Author: f.author, Reason: f.reason, Expires: expires}
	if f.kind == "list" {
		for _, v := range args[1:] {
			raw, err := json.Marshal(map[string]string{"value": v})
			if err != nil {
				return err
			}
			body.Entries = append(body.Entries, raw)
		}
	} else {
		entry := map[string]string{}
		for _, a := range args[1:] {
			name, value, ok := strings.Cut(a, "=")
			if !ok {
				return mistake{fmt.Errorf("found %q, expected FIELD=VALUE", a)}
			}
			entry[name] = value
		}
		raw, err := json.Marshal(entry)
		if err != nil {
			return err
		}
		body.Entries = append(body.Entries, raw)
	}
	var c node.Changed
	if err := f.post(cmd.Context(), f.path(args[0], "/entries"), body, &c); err != nil {
		return err
	}
	f.tell(cmd, args[0], &c)
	return nil
}

func (f *tableFlags) tell(cmd *cobra.Command, name string, c *node.Changed) {
	fmt.Fprintf(cmd.OutOrStdout(), "%s: %s changed, %s entries now\n", name, count(int64(c.Changed)), count(c.Entries))
}

func (f *tableFlags) remove(cmd *cobra.Command, args []string) error {
	keys := [][]string{}
	if f.kind == "list" {
		for _, v := range args[1:] {
			keys = append(keys, []string{v})
		}
	} else {
		keys = append(keys, slices.Clone(args[1:]))
	}
	body := map[string]any{"keys": keys, "author": f.author, "reason": f.reason}
	var c node.Changed
	if err := f.post(cmd.Context(), f.path(args[0], "/entries/remove"), body, &c); err != nil {
		return err
	}
	f.tell(cmd, args[0], &c)
	return nil
}

func (f *tableFlags) load(cmd *cobra.Command, args []string) error {
	var in io.Reader = cmd.InOrStdin()
	if args[1] != "-" {
		file, err := os.Open(args[1])
		if err != nil {
			return mistake{err}
		}
		defer file.Close()
		in = file
	}
	query := url.Values{"file": {filepath.Base(args[1])}, "author": {f.author}, "reason": {f.reason}}
	var c node.Changed
	if err := f.call(cmd.Context(), http.MethodPut, f.path(args[0], "/entries?"+query.Encode()), "text/csv", in, &c); err != nil {
		return err
	}
	f.tell(cmd, args[0], &c)
	return nil
}

func (f *tableFlags) export(cmd *cobra.Command, name string) (err error) {
	resp, err := f.do(cmd.Context(), http.MethodGet, f.path(name, "/entries.csv"), "", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	out := cmd.OutOrStdout()
	if f.output != "" {
		file, err := os.Create(f.output)
		if err != nil {
			return mistake{err}
		}
		_, err = io.Copy(file, resp.Body)
		return errors.Join(err, file.Close())
	}
	_, err = io.Copy(out, resp.Body)
	return err
}

package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/cmd/config"
	"github.com/weirstream/weir/cmd/node"
)

// streamFlags are those of the commands that ask a running weir.
type streamFlags struct {
	rest
	asJSON bool
	file   string
}

// addStreamCommands adds the commands that work on the streams of a running weir.
func addStreamCommands(cmd *cobra.Command) {
	f := &streamFlags{}
	list := &cobra.Command{Use: "list", Short: "List the streams of a running weir", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.list(cmd) }}
	show := &cobra.Command{Use: "show NAME", Short: "Show a stream: its fields, where it is declared, how far it is", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.show(cmd, args[0]) }}
	for _, c := range []*cobra.Command{list, show} {
		c.Flags().BoolVar(&f.asJSON, "json", false, "JSON instead of a text for people")
	}
	apply := &cobra.Command{Use: "apply -f FILE", Short: "Make the streams of a file, or give them new versions", Args: cobra.NoArgs,
		Long: `Makes each stream that stands under streams: in a file, as weir stream infer prints
it, in a running weir: its topic, its SQL table, its place in the engine. Nothing needs
a restart. A stream that is there already gets a new version, if its records still fit
(compatibility). Streams that weir.yaml declares are changed there. FILE - is standard
input.`,
		Example: `  weir stream infer clicks.csv.gz | weir stream apply -f -`,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.apply(cmd) }}
	apply.Flags().StringVarP(&f.file, "file", "f", "", "the `FILE` with the declarations")
	_ = apply.MarkFlagRequired("file")
	remove := &cobra.Command{Use: "delete NAME", Short: "Remove a stream that was made so; its topic and records stay", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.remove(cmd, args[0]) }}
	for _, c := range []*cobra.Command{list, show, apply, remove} {
		c.Flags().StringVar(&f.httpAddr, "http-addr", config.Default().HTTPAddr, "`HOST:PORT` of weir's HTTP listener")
		cmd.AddCommand(c)
	}
}

func streamPath(name string) string { return "/v1/streams/" + url.PathEscape(name) }

func (f *streamFlags) list(cmd *cobra.Command) error {
	var all []node.StreamView
	if err := f.get(cmd.Context(), "/v1/streams", &all); err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if f.asJSON {
		return json.NewEncoder(out).Encode(all)
	}
	if len(all) == 0 {
		fmt.Fprintln(out, "there are no streams; declare one in weir.yaml, or make one: weir stream apply")
		return nil
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tTOPIC\tPARTITIONS\tFORMAT\tKEY\tFIELDS\tVERSION\tRECORDS\tDECLARED")
	for i := range all {
		v := &all[i]
		key := v.Key
		if key == "" {
			key = "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%d\t%d\t%s\t%s\n", v.Name, v.Topic, v.Partitions, v.Format, key, len(v.Fields), v.Version, count(v.Events), v.Declared)
	}
	return t.Flush()
}

func (f *streamFlags) show(cmd *cobra.Command, name string) error {
	var v node.StreamView
	if err := f.get(cmd.Context(), streamPath(name), &v); err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if f.asJSON {
		return json.NewEncoder(out).Encode(&v)
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name string, value any) {
		if text := fmt.Sprint(value); text != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, printable(text))
		}
	}
	line("stream", fmt.Sprintf("%s, version %d, %s", v.Name, v.Version, map[bool]string{true: "declared in weir.yaml", false: "made over HTTP"}[v.Declared == "weir.yaml"]))
	line("in rules", v.Alias)
	line("topic", fmt.Sprintf("%s, %d partitions, %s, %s records", v.Topic, v.Partitions, v.Format, count(v.Events)))
	line("time", fmt.Sprintf("%s, lateness %s", v.Time, v.Lateness))
	if len(v.WatermarkBy) > 0 {
		line("watermark", fmt.Sprintf("by %s, idle after %s", strings.Join(v.WatermarkBy, ", "), v.WatermarkIdle))
	}
	line("idle", map[bool]string{true: "", false: v.Idle}[v.Idle == "0s"])
	line("key", v.Key)
	line("id", v.ID)
	line("dedupe", v.Dedupe)
	line("max_ahead", v.MaxAhead)
	line("not decided yet", count(v.Lag))
	line("dead letters", count(v.DeadLetters))
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(t, "\nFIELD\tTYPE\tFROM\tLAYOUT\tSENSITIVE")
	for i := range v.Fields {
		showField(t, &v.Fields[i], "")
	}
	return t.Flush()
}

// showField is a line for a field, and one for each of its members that says more
// than its type does.
func showField(out io.Writer, v *node.FieldView, indent string) {
	or := func(text string) string {
		if text == "" {
			return "-"
		}
		return printable(text)
	}
	typ, sensitive := v.Type, v.Sensitive
	if v.Optional {
		typ += "?"
	}
	if v.FreeText {
		sensitive = "free_text"
	}
	if v.Subject {
		sensitive = strings.TrimPrefix(sensitive+", subject", ", ")
	}
	name := v.Name
	if name == "" {
		name = "(each)"
	}
	fmt.Fprintf(out, "%s%s\t%s\t%s\t%s\t%s\n", indent, name, typ, or(v.From), or(v.Layout), or(sensitive))
	for i := range v.Members {
		if m := &v.Members[i]; m.Name != "" || m.Sensitive != "" || m.FreeText || len(m.Members) > 0 || m.Layout != "" {
			showField(out, m, indent+"  ")
		}
	}
}

func (f *streamFlags) apply(cmd *cobra.Command) error {
	var data []byte
	var err error
	if f.file == "-" {
		data, err = io.ReadAll(io.LimitReader(cmd.InOrStdin(), config.FileSizeMax+1))
	} else {
		data, err = os.ReadFile(f.file)
	}
	if err != nil {
		return mistake{err}
	}
	names, declarations, err := config.Streams(f.file, data)
	if err != nil {
		return err
	}
	for i, name := range names {
		var v node.StreamView
		err := f.call(cmd.Context(), http.MethodPut, streamPath(name), "application/yaml", bytes.NewReader(declarations[name]), &v)
		if err != nil {
			if i > 0 {
				err = fmt.Errorf("%w\n%s before it took effect", err, strings.Join(names[:i], ", "))
			}
			var m mistake
			if errors.As(err, &m) {
				return mistake{fmt.Errorf("%s: %w", name, err)}
			}
			return fmt.Errorf("%s: %w", name, err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s: version %d, %d fields, topic %s with %d partitions\n", name, v.Version, len(v.Fields), v.Topic, v.Partitions)
	}
	return nil
}

func (f *streamFlags) remove(cmd *cobra.Command, name string) error {
	resp, err := f.do(cmd.Context(), http.MethodDelete, streamPath(name), "", nil)
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s is removed; its topic and records stay\n", name)
	return resp.Body.Close()
}

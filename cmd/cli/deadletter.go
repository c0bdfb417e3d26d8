package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/weirstream/weir/cmd/config"
	"github.com/weirstream/weir/cmd/node"
	"github.com/weirstream/weir/ingest/deadletter"
)

func newDeadLetter() *cobra.Command {
	cmd := &cobra.Command{Use: "deadletter", Short: "List and replay events that could not be taken", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(newDeadLetterList(), newDeadLetterReplay())
	return cmd
}

type deadLetterFlags struct {
	httpAddr, stream, reason string
	limit                    int
	asJSON, dryRun           bool
	columns                  []string
}

func (f *deadLetterFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.httpAddr, "http-addr", config.Default().HTTPAddr, "`HOST:PORT` of weir's HTTP listener")
	cmd.Flags().StringVar(&f.stream, "stream", "", "`NAME` of the stream")
	cmd.Flags().StringVar(&f.reason, "reason", "", "only this `REASON`: syntax, type, missing, time, size or encoding")
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "JSON instead of a text for people")
}

// limitMax is the longest list.
const limitMax = 10_000

func newDeadLetterList() *cobra.Command {
	var f deadLetterFlags
	cmd := &cobra.Command{
		Use: "list", Short: "List dead letters, newest first", Args: cobra.NoArgs,
		Long: `Lists the newest dead letters of a running weir: where each came from (a line of a
file, a line of an HTTP body, a place in a topic), the field, the reason and what
was found. With --json each is an object in a line of its own, with its raw bytes
in base64.`,
		Example: `  weir deadletter list --stream transactions --reason type
  weir deadletter list --json | jq -r .raw | base64 -d`,
		RunE: func(cmd *cobra.Command, _ []string) error { return listDeadLetters(cmd, &f) },
	}
	f.add(cmd)
	cmd.Flags().IntVar(&f.limit, "limit", 50, "at most `N`")
	return cmd
}

func listDeadLetters(cmd *cobra.Command, f *deadLetterFlags) error {
	if f.limit < 1 || f.limit > limitMax {
		return mistake{fmt.Errorf("--limit: expected a number from 1 to %d", limitMax)}
	}
	where, args := []string{"true"}, []any{}
	for column, value := range map[string]string{"stream": f.stream, "reason": f.reason} {
		if value != "" {
			args = append(args, value)
			where = append(where, column+" = $"+strconv.Itoa(len(args)))
		}
	}
	query := `SELECT epoch_ms(time), stream, reason, field, detail, file, line, "column", _topic, _partition, _offset, base64(raw)
		FROM deadletters WHERE ` + strings.Join(where, " AND ") + ` ORDER BY time DESC, stream, file, line DESC, _topic, _partition, _offset DESC LIMIT ` + strconv.Itoa(f.limit)
	var out struct {
		Rows      [][]any
		Freshness []node.FreshnessView
	}
	if err := callNode(cmd.Context(), f.httpAddr, "/v1/sql", node.SQLQuery{Query: query, Args: args}, &out); err != nil {
		return err
	}
	letters := make([]letterView, 0, len(out.Rows))
	for _, row := range out.Rows {
		v, err := viewLetter(row)
		if err != nil {
			return err
		}
		letters = append(letters, v)
	}
	if f.asJSON {
		enc := json.NewEncoder(cmd.OutOrStdout())
		for i := range letters {
			if err := enc.Encode(&letters[i]); err != nil {
				return err
			}
		}
		return nil
	}
	printLetters(cmd.OutOrStdout(), letters)
	for _, fr := range out.Freshness {
		if fr.AgeMillis > 0 {
			fmt.Fprintln(cmd.ErrOrStderr(), "weir: there may be newer ones: SQL has not read all of weir.deadletters yet")
			break
		}
	}
	return nil
}

// letterView is a dead letter as --json prints it.
type letterView struct {
	Time      time.Time `json:"time"`
	Stream    string    `json:"stream"`
	Reason    string    `json:"reason"`
	Field     string    `json:"field"`
	Detail    string    `json:"detail"`
	File      string    `json:"file,omitempty"`
	Line      int64     `json:"line,omitempty"`
	Column    int64     `json:"column,omitempty"`
	Topic     string    `json:"topic,omitempty"`
	Partition *int64    `json:"partition,omitempty"`
	Offset    *int64    `json:"offset,omitempty"`
	Raw       string    `json:"raw"` // base64
}

func viewLetter(row []any) (v letterView, err error) {
	if len(row) != 12 {
		return v, fmt.Errorf("weir answered %d columns of dead letters, expected 12: is it of another version?", len(row))
	}
	text := func(i int) string { s, _ := row[i].(string); return s }
	number := func(i int) *int64 {
		var n int64
		switch x := row[i].(type) {
		case float64:
			n = int64(x)
		case string: // beyond 53 bits
			n, err = strconv.ParseInt(x, 10, 64)
		default:
			return nil
		}
		return &n
	}
	orZero := func(p *int64) int64 {
		if p == nil {
			return 0
		}
		return *p
	}
	v = letterView{Time: time.UnixMilli(orZero(number(0))).UTC(), Stream: text(1), Reason: text(2), Field: text(3), Detail: text(4),
		File: text(5), Line: orZero(number(6)), Column: orZero(number(7)), Topic: text(8), Partition: number(9), Offset: number(10), Raw: text(11)}
	return v, err
}

// place is where a dead letter came from.
func (v *letterView) place() string {
	switch {
	case v.File != "" && v.Column > 0:
		return fmt.Sprintf("%s:%d:%d", v.File, v.Line, v.Column)
	case v.File != "":
		return fmt.Sprintf("%s:%d", v.File, v.Line)
	case v.Partition != nil && v.Offset != nil:
		return fmt.Sprintf("%s[%d]@%d", v.Topic, *v.Partition, *v.Offset)
	}
	return v.Topic
}

func printLetters(w io.Writer, letters []letterView) {
	if len(letters) == 0 {
		fmt.Fprintln(w, "no dead letters")
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "TIME\tSTREAM\tPLACE\tREASON\tFIELD\tDETAIL")
	for i := range letters {
		v := &letters[i]
		field := v.Field
		if field == "" {
			field = "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", v.Time.Format(time.RFC3339), v.Stream, printable(v.place()), v.Reason, printable(field), printable(v.Detail))
	}
	_ = t.Flush() // to a writer whose errors the next write has too
}

// printable keeps what came from outside from moving a terminal's cursor.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

func newDeadLetterReplay() *cobra.Command {
	var f deadLetterFlags
	cmd := &cobra.Command{
		Use: "replay --stream NAME", Short: "Write dead letters that fit now into their stream", Args: cobra.NoArgs,
		Long: `Tries each dead letter of a stream against the stream's present declaration, and
writes those that fit into the stream: after a field was made optional, a type
mended, a column renamed. Each is written once, however often the command is run or
interrupted. The dead letters stay where they are.

What cannot be replayed is counted: letters of which only the first 64 KiB were
kept; lines of CSV files that were loaded before weir noted their columns (name
these with --columns); letters of files and of HTTP of a stream whose key is
sensitive, since the key that chooses the partition is no longer in them (send
them again instead).`,
		Example: `  weir deadletter replay --stream transactions --dry-run
  weir deadletter replay --stream transactions --reason missing`,
		RunE: func(cmd *cobra.Command, _ []string) error { return replayDeadLetters(cmd, &f) },
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "count, write nothing")
	cmd.Flags().StringSliceVar(&f.columns, "columns", nil, "the `COLUMNS` of CSV files whose dead letters do not name them")
	return cmd
}

func replayDeadLetters(cmd *cobra.Command, f *deadLetterFlags) error {
	if f.stream == "" {
		return mistake{errors.New("which stream? name it with --stream NAME")}
	}
	var res deadletter.Result
	err := callNode(cmd.Context(), f.httpAddr, "/v1/deadletters/replay", node.Replay{Stream: f.stream, Reason: f.reason, Columns: f.columns, DryRun: f.dryRun}, &res)
	if errors.Is(err, context.Canceled) {
		return errors.New("stopped; the same command goes on")
	}
	if err != nil {
		return err
	}
	if f.asJSON {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(&res)
	}
	printReplay(cmd.OutOrStdout(), f, &res)
	return nil
}

func printReplay(w io.Writer, f *deadLetterFlags, res *deadletter.Result) {
	verb := "replayed"
	if f.dryRun {
		verb = "would be replayed"
	}
	fmt.Fprintf(w, "%s: %s dead letters, %s %s, %s replayed before\n", f.stream, count(res.Read), count(res.Replayed), verb, count(res.Already))
	reasons := make([]string, 0, len(res.Bad))
	for reason := range res.Bad {
		reasons = append(reasons, reason)
	}
	slices.Sort(reasons)
	for _, reason := range reasons {
		fmt.Fprintf(w, "  %s still do not fit: %s\n", count(res.Bad[reason]), reason)
	}
	if res.Example != "" {
		fmt.Fprintf(w, "  the first of them: %s\n", printable(res.Example))
	}
	for _, left := range []struct {
		n   int64
		why string
	}{
		{res.Cut, "are left: only the first 64 KiB were kept"},
		{res.Unknown, "are left: the columns of their file are not known (--columns)"},
		{res.Unplaced, "are left: the stream's key is sensitive, so that their partition is not known; send them again"},
	} {
		if left.n > 0 {
			fmt.Fprintf(w, "  %s %s\n", count(left.n), left.why)
		}
	}
}

// callNode posts a question to a running weir and reads its answer.
func callNode(ctx context.Context, addr, path string, question, into any) error {
	body, err := json.Marshal(question)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+path, bytes.NewReader(body))
	if err != nil {
		return mistake{fmt.Errorf("--http-addr %q: expected HOST:PORT", addr)}
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("asking weir: %w (is `weir run` up? another address: --http-addr)", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
			return fmt.Errorf("asking weir at %s: %w", addr, err)
		}
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("asking weir at %s: %w", addr, err)
	}
	var problem struct{ Detail string }
	switch {
	case json.Unmarshal(text, &problem) != nil || problem.Detail == "":
		return fmt.Errorf("asking weir at %s: %s", addr, resp.Status)
	case resp.StatusCode < 500:
		return mistake{errors.New(problem.Detail)}
	}
	return errors.New(problem.Detail)
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirstream/weir/cmd/config"
	"github.com/weirstream/weir/ingest/schema"
)

// kafkaFlags are what the commands share that speak the Kafka protocol; with them
// they work on any Kafka cluster, too.
type kafkaFlags struct {
	addr   string
	asJSON bool
}

func (f *kafkaFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.addr, "kafka-addr", config.Default().KafkaAddr, "`HOST:PORT` of weir's Kafka listener")
}

func (f *kafkaFlags) addJSON(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "JSON instead of a table for people")
}

// askKafkaTimeout bounds the first answer of a broker.
const askKafkaTimeout = 5 * time.Second

// connect is a client whose broker has answered.
func (f *kafkaFlags) connect(ctx context.Context, opts ...kgo.Opt) (*kgo.Client, error) {
	seeds := strings.Split(f.addr, ",")
	for _, one := range seeds {
		if _, port, err := net.SplitHostPort(one); err != nil || port == "" {
			return nil, mistake{fmt.Errorf("--kafka-addr %q: expected HOST:PORT", f.addr)}
		}
	}
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(seeds...), kgo.ClientID("weir"), kgo.DialTimeout(askKafkaTimeout),
		kgo.RetryTimeout(2 * askKafkaTimeout), kgo.UnknownTopicRetries(1)}, opts...)...)
	if err != nil {
		return nil, mistake{err}
	}
	within, cancel := context.WithTimeout(ctx, askKafkaTimeout)
	defer cancel()
	if err := cl.Ping(within); err != nil {
		cl.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("no Kafka broker answers at %s: %w\nstart one with `weir run` or `weir demo`; another address: --kafka-addr HOST:PORT", f.addr, rootCause(err))
	}
	return cl, nil
}

// rootCause is the last error that a chain of client errors was made of: which
// address refused is in the message already.
func rootCause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// admin runs f with a client for administration.
func (f *kafkaFlags) admin(cmd *cobra.Command, do func(ctx context.Context, adm *kadm.Client) error) error {
	return f.client(cmd, func(ctx context.Context, cl *kgo.Client) error { return do(ctx, kadm.NewClient(cl)) })
}

// client runs f with a client.
func (f *kafkaFlags) client(cmd *cobra.Command, do func(ctx context.Context, cl *kgo.Client) error) error {
	cl, err := f.connect(cmd.Context())
	if err != nil {
		return interrupted(err)
	}
	defer cl.Close()
	return interrupted(do(cmd.Context(), cl))
}

// interrupted words the end that a person asked for.
func interrupted(err error) error {
	if errors.Is(err, context.Canceled) {
		return errors.New("stopped")
	}
	return err
}

// advice is what to do about Kafka's errors that a person can do something about.
var advice = []struct {
	is   error
	text string
}{
	{kerr.UnknownTopicOrPartition, "there is no such topic or partition; see: weir topic list"},
	{kerr.TopicAlreadyExists, "the topic is there already; see: weir topic describe"},
	{kerr.TopicAuthorizationFailed, "the topic is Weir's own, or a declared stream's: clients may not do that to it"},
	{kerr.GroupIDNotFound, "there is no such group; see: weir group list"},
	{kerr.NonEmptyGroup, "the group has members: stop them first"},
	{kerr.UnknownMemberID, "the group has members: stop them first"},
	{kerr.CoordinatorNotAvailable, "the broker does not serve consumer groups"},
	{kerr.UnsupportedVersion, "the broker does not serve that"},
	{kerr.MessageTooLarge, "the record is larger than the topic's max.message.bytes"},
}

// explain is Kafka's error for a person; words are what the broker said, if
// anything.
func explain(err error, words string) error {
	if err == nil {
		return nil
	}
	var known *kerr.Error
	if !errors.As(err, &known) {
		return err
	}
	if words != "" {
		return fmt.Errorf("%s (%s)", words, known.Message)
	}
	for _, a := range advice {
		if errors.Is(err, a.is) {
			return fmt.Errorf("%s (%s)", a.text, known.Message)
		}
	}
	return fmt.Errorf("%s: %s", known.Message, known.Description)
}

// topicsOf finds topics by name, all where none is named; that one is not there is
// a mistake with a suggestion.
func topicsOf(ctx context.Context, adm *kadm.Client, names ...string) (kadm.TopicDetails, error) {
	all, err := adm.ListTopicsWithInternal(ctx)
	if err != nil {
		return nil, explain(err, "")
	}
	if len(names) == 0 {
		return all, nil
	}
	found := kadm.TopicDetails{}
	for _, name := range names {
		t, ok := all[name]
		if !ok {
			return nil, mistake{fmt.Errorf("there is no topic %q%s; see: weir topic list, weir topic create", name, suggestion(name, all.Names()))}
		}
		found[name] = t
	}
	return found, nil
}

// suggestion is ": did you mean ...?" or nothing.
func suggestion(name string, known []string) string {
	if s := schema.Suggest(name, known); s != "" {
		return ": " + s
	}
	return ""
}

// partitionsOf checks partition numbers against a topic; all where none is given.
func partitionsOf(t kadm.TopicDetail, want []int32) ([]int32, error) {
	have := t.Partitions.Numbers()
	if len(want) == 0 {
		return have, nil
	}
	for _, p := range want {
		if !slices.Contains(have, p) {
			return nil, mistake{fmt.Errorf("topic %s has no partition %d; it has 0 to %d", t.Topic, p, len(have)-1)}
		}
	}
	return want, nil
}

// printJSON writes one value a line.
func printJSON(w io.Writer, v any) error {
	_, err := w.Write(appendJSON(nil, v))
	return err
}

// table prints rows under a heading, aligned.
func table(w io.Writer, heading string, rows [][]string) error {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.ReplaceAll(heading, " ", "\t"))
	for _, row := range rows {
		for i := range row {
			row[i] = printable(row[i])
		}
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(b.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// things is "1 record", "2 records".
func things(n int64, name string) string {
	if n == 1 {
		return "1 " + name
	}
	return count(n) + " " + name + "s"
}

// size is n bytes for a person.
func size(n int64) string {
	if n < 1024 {
		return strconv.FormatInt(n, 10) + " B"
	}
	f, unit := float64(n), 0
	for f >= 1024 && unit < 4 {
		f, unit = f/1024, unit+1
	}
	return fmt.Sprintf("%.1f %s", f, []string{"B", "KiB", "MiB", "GiB", "TiB"}[unit])
}

// isTerminal reports whether a person looks at w.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// parseTime reads a moment: a time, a date, or how long ago.
func parseTime(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(strings.TrimPrefix(s, "-")); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.UTC); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time: expected one such as 2026-01-31T12:00:00Z, 2026-01-31, or how long ago: 90s, 15m, 24h", s)
}

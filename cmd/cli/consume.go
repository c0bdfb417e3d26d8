package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

type consumeFlags struct {
	kafkaFlags
	from, format, group, isolation string
	last, count                    int64
	partitions                     []int32
	untilEnd, quiet                bool
}

func newConsume() *cobra.Command {
	var f consumeFlags
	cmd := &cobra.Command{
		Use: "consume TOPIC...", Short: "Read records of topics", Args: cobra.MinimumNArgs(1),
		Long: `Prints the records of topics, from the beginning unless told otherwise, and waits for
more until ctrl-C, --count records or, with --until-end, the end as it was at the
start. There is an order within each partition, not between them.

--from is beginning, end, an offset, or a time: 2026-01-31T12:00:00Z, 2026-01-31, or
how long ago, such as 15m. --last N begins N records before the end of each partition.

--format is plain (the value), key-value (KEY:VALUE), json, or a format of your own:
  %t topic  %p partition  %o offset  %k key  %v value  %d time in ms  %e leader epoch
  %d{go[2006-01-02T15:04:05Z07:00]} time  %h{%k=%v } headers  %v{hex} %v{base64} bytes
  \n \t as usual

Records are printed as they are in the log: fields that a stream declares sensitive
are hashed, masked or encrypted there. On a terminal, control characters are shown
as "?"; in files and pipes they stay.`,
		Example: `  weir consume weir.alerts --from end
  weir consume transactions --last 5 --until-end --json
  weir consume transactions --from 15m --partition 0 --count 100
  weir consume transactions --format '%p@%o %k %v\n'
  weir consume transactions --group audit --until-end`,
		RunE: func(cmd *cobra.Command, args []string) error { return runConsume(cmd, args, &f) },
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.from, "from", "beginning", "`WHERE` to begin")
	cmd.Flags().Int64Var(&f.last, "last", 0, "begin `N` records before the end of each partition")
	cmd.Flags().Int32SliceVar(&f.partitions, "partition", nil, "only these partitions: `N,...`")
	cmd.Flags().Int64Var(&f.count, "count", 0, "end after `N` records")
	cmd.Flags().BoolVar(&f.untilEnd, "until-end", false, "end at the end as it is now")
	cmd.Flags().StringVar(&f.group, "group", "", "as a member of group `NAME`, from its offsets, which are committed as records are printed; --from is for partitions without one")
	cmd.Flags().StringVar(&f.isolation, "isolation", "committed", "`LEVEL`: committed, or uncommitted to see open and aborted transactions, too")
	cmd.Flags().StringVar(&f.format, "format", "plain", "`FORMAT` of a record")
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "as --format json: each record an object in a line of its own")
	cmd.Flags().BoolVar(&f.quiet, "quiet", false, "nothing on standard error but errors")
	return cmd
}

func runConsume(cmd *cobra.Command, topics []string, f *consumeFlags) error {
	if err := f.check(cmd); err != nil {
		return err
	}
	print, err := newPrinter(cmd, f)
	if err != nil {
		return err
	}
	cl, err := f.connect(cmd.Context())
	if err != nil {
		return interrupted(err)
	}
	defer cl.Close()
	plan, err := f.plan(cmd.Context(), kadm.NewClient(cl), topics)
	if err != nil {
		return interrupted(err)
	}
	c := &consumer{f: f, plan: plan, print: print}
	err = c.run(cmd)
	if ferr := print.flush(); err == nil {
		err = ferr
	}
	if !f.quiet && (err == nil || errors.Is(err, context.Canceled)) {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s\n", things(c.printed, "record"))
	}
	if errors.Is(err, context.Canceled) {
		return nil // how one ends a consumer
	}
	return err
}

func (f *consumeFlags) check(cmd *cobra.Command) error {
	if f.asJSON {
		if cmd.Flags().Changed("format") && f.format != "json" {
			return mistake{errors.New("--json and --format: one of them")}
		}
		f.format = "json"
	}
	switch {
	case f.isolation != "committed" && f.isolation != "uncommitted":
		return mistake{fmt.Errorf("--isolation %q: expected committed or uncommitted", f.isolation)}
	case f.last < 0 || f.count < 0:
		return mistake{errors.New("--last and --count: expected a number of at least 1")}
	case f.last > 0 && cmd.Flags().Changed("from"):
		return mistake{errors.New("--last and --from: one of them")}
	case f.group != "" && (f.last > 0 || len(f.partitions) > 0):
		return mistake{errors.New("a group chooses its partitions and offsets itself: leave --last and --partition away (weir group reset-offsets moves them)")}
	}
	return nil
}

// consumePlan is where to begin and end.
type consumePlan struct {
	topics []string
	from   map[string]map[int32]kgo.Offset
	reset  kgo.Offset                 // of a group's partitions that have no offset
	ends   map[string]map[int32]int64 // as of now; partitions with something to read
}

// plan looks up where partitions begin and end.
func (f *consumeFlags) plan(ctx context.Context, adm *kadm.Client, topics []string) (*consumePlan, error) {
	found, err := topicsOf(ctx, adm, topics...)
	if err != nil {
		return nil, err
	}
	listEnds := adm.ListCommittedOffsets
	if f.isolation == "uncommitted" {
		listEnds = adm.ListEndOffsets
	}
	starts, err := adm.ListStartOffsets(ctx, topics...)
	if err != nil {
		return nil, explain(err, "")
	}
	ends, err := listEnds(ctx, topics...)
	if err != nil {
		return nil, explain(err, "")
	}
	if err := errors.Join(starts.Error(), ends.Error()); err != nil {
		return nil, explain(err, "")
	}
	places, err := f.places(ctx, adm, topics, starts, ends)
	if err != nil {
		return nil, err
	}
	var done kadm.OffsetResponses
	if f.group != "" {
		if done, err = adm.FetchOffsets(ctx, f.group); err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
			return nil, explain(err, "")
		}
	}
	plan := &consumePlan{topics: topics, from: map[string]map[int32]kgo.Offset{}, ends: map[string]map[int32]int64{}, reset: kgo.NewOffset().AtStart()}
	if f.from == "end" {
		plan.reset = kgo.NewOffset().AtEnd()
	}
	for _, topic := range topics {
		partitions, err := partitionsOf(found[topic], f.partitions)
		if err != nil {
			return nil, err
		}
		plan.from[topic], plan.ends[topic] = map[int32]kgo.Offset{}, map[int32]int64{}
		for _, p := range partitions {
			start, _ := starts.Lookup(topic, p)
			end, _ := ends.Lookup(topic, p)
			at := min(max(places(topic, p), start.Offset), end.Offset)
			plan.from[topic][p] = kgo.NewOffset().At(at)
			if committed, ok := done.Lookup(topic, p); ok && committed.Err == nil && committed.At >= 0 {
				at = committed.At
			}
			if at < end.Offset {
				plan.ends[topic][p] = end.Offset
			}
		}
	}
	return plan, nil
}

// places is the function from a partition to the offset where to begin, before it
// is bounded by what is there.
func (f *consumeFlags) places(ctx context.Context, adm *kadm.Client, topics []string, starts, ends kadm.ListedOffsets) (func(topic string, p int32) int64, error) {
	of := func(list kadm.ListedOffsets) func(string, int32) int64 {
		return func(topic string, p int32) int64 { o, _ := list.Lookup(topic, p); return o.Offset }
	}
	switch f.from {
	case "beginning", "start", "earliest":
		if f.last > 0 {
			return func(topic string, p int32) int64 { return of(ends)(topic, p) - f.last }, nil
		}
		return of(starts), nil
	case "end", "latest":
		f.from = "end"
		return of(ends), nil
	}
	if n, err := strconv.ParseInt(f.from, 10, 64); err == nil {
		if n < 0 {
			return nil, mistake{fmt.Errorf("--from %d: an offset is at least 0; for records before the end there is --last N", n)}
		}
		return func(string, int32) int64 { return n }, nil
	}
	at, err := parseTime(f.from, time.Now())
	if err != nil {
		return nil, mistake{fmt.Errorf("--from: expected beginning, end or an offset, or a time: %w", err)}
	}
	since, err := adm.ListOffsetsAfterMilli(ctx, at.UnixMilli(), topics...) // the end where there is none
	if err != nil {
		return nil, explain(err, "")
	}
	return of(since), nil
}

// consumer reads as planned.
type consumer struct {
	f       *consumeFlags
	plan    *consumePlan
	print   *printer
	printed int64
}

// quietEnd is how long nothing must come for --until-end to believe that the rest
// up to the end is no record: markers of transactions, or gaps of compaction.
const quietEnd = 3 * time.Second

// joinTime is how much longer that is where a group has to be joined first.
const joinTime = 10 * time.Second

func (c *consumer) run(cmd *cobra.Command) error {
	left := 0
	for _, ps := range c.plan.ends {
		left += len(ps)
	}
	if c.f.untilEnd && left == 0 {
		return nil
	}
	opts := []kgo.Opt{kgo.ConsumePartitions(c.plan.from), kgo.KeepControlRecords()}
	if c.f.group != "" {
		opts = []kgo.Opt{kgo.ConsumerGroup(c.f.group), kgo.ConsumeTopics(c.plan.topics...), kgo.ConsumeResetOffset(c.plan.reset), kgo.DisableAutoCommit(), kgo.KeepControlRecords(), kgo.BlockRebalanceOnPoll()}
	}
	if c.f.isolation == "committed" {
		opts = append(opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	}
	cl, err := c.f.connect(cmd.Context(), opts...)
	if err != nil {
		return err
	}
	defer cl.Close()
	if c.f.group != "" {
		defer cl.LeaveGroup()
		defer cl.AllowRebalance()
	}
	ctx := cmd.Context()
	heard, silence := time.Now(), quietEnd
	if c.f.group != "" {
		silence += joinTime
	}
	for {
		done, any, err := c.poll(ctx, cl)
		if err != nil || done {
			return err
		}
		if any {
			heard = time.Now()
			continue
		}
		if c.f.untilEnd && time.Since(heard) > silence {
			return nil
		}
	}
}

// pollFor bounds one poll, so that what was printed gets out.
const pollFor = 200 * time.Millisecond

// poll prints what came; done is that there is no more to do.
func (c *consumer) poll(ctx context.Context, cl *kgo.Client) (done, any bool, err error) {
	within, cancel := context.WithTimeout(ctx, pollFor)
	defer cancel()
	fetches := cl.PollRecords(within, 10_000)
	defer cl.AllowRebalance()
	for _, e := range fetches.Errors() {
		if errors.Is(e.Err, context.DeadlineExceeded) {
			continue
		}
		if errors.Is(e.Err, context.Canceled) {
			return false, false, context.Canceled
		}
		return false, false, fmt.Errorf("%s[%d]: %w", e.Topic, e.Partition, explain(e.Err, ""))
	}
	var seen []*kgo.Record
	for it := fetches.RecordIter(); !it.Done() && !done; {
		r := it.Next()
		any = true
		if !r.Attrs.IsControl() {
			if err := c.print.record(r); err != nil {
				return true, any, err
			}
			c.printed++
		}
		seen = append(seen, r)
		done = c.reached(r) || c.f.count > 0 && c.printed >= c.f.count
	}
	if err := c.print.flush(); err != nil {
		return true, any, err
	}
	if c.f.group != "" && len(seen) > 0 {
		if err := cl.CommitRecords(context.WithoutCancel(ctx), seen...); err != nil {
			return true, any, fmt.Errorf("offsets of group %s not committed: %w", c.f.group, explain(err, ""))
		}
	}
	return done, any, nil
}

// reached notes how far a partition was read, and reports whether all have come to
// their ends.
func (c *consumer) reached(r *kgo.Record) bool {
	ends := c.plan.ends[r.Topic]
	if end, ok := ends[r.Partition]; ok && r.Offset >= end-1 {
		delete(ends, r.Partition)
	}
	return c.f.untilEnd && !slices.ContainsFunc(slices.Collect(maps.Values(c.plan.ends)), func(ps map[int32]int64) bool { return len(ps) > 0 })
}

// printer writes records in a format.
type printer struct {
	out      *bufio.Writer
	terminal bool
	append   func([]byte, *kgo.Record) []byte
	buf      []byte
}

func newPrinter(cmd *cobra.Command, f *consumeFlags) (*printer, error) {
	p := &printer{out: bufio.NewWriterSize(cmd.OutOrStdout(), 64<<10), terminal: isTerminal(cmd.OutOrStdout())}
	layout := f.format
	switch f.format {
	case "json":
		p.append = appendRecord
		return p, nil
	case "plain":
		layout = `%v\n`
	case "key-value":
		layout = `%k:%v\n`
	default:
		if !strings.Contains(f.format, "%") {
			return nil, mistake{fmt.Errorf("--format %q: expected plain, key-value, json, or a format with %%v and the like", f.format)}
		}
	}
	formatter, err := kgo.NewRecordFormatter(layout)
	if err != nil {
		return nil, mistake{fmt.Errorf("--format: %w", err)}
	}
	p.append = formatter.AppendRecord
	return p, nil
}

func (p *printer) record(r *kgo.Record) error {
	p.buf = p.append(p.buf[:0], r)
	if p.terminal {
		_, err := p.out.WriteString(forTerminal(string(p.buf)))
		return err
	}
	_, err := p.out.Write(p.buf)
	return err
}

func (p *printer) flush() error { return p.out.Flush() }

// forTerminal keeps what a record holds from being taken for commands to the
// terminal.
func forTerminal(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}

// appendRecord appends r as JSON in a line of its own.
func appendRecord(dst []byte, r *kgo.Record) []byte {
	v := recordView{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp.UTC().Format("2006-01-02T15:04:05.000Z07:00"),
		LeaderEpoch: r.LeaderEpoch, ProducerID: r.ProducerID}
	v.Key, v.KeyBase64 = textOrBase64(r.Key)
	v.Value, v.ValueBase64 = textOrBase64(r.Value)
	for _, h := range r.Headers {
		one := recordedHeader{Key: h.Key}
		if text, encoded := textOrBase64(h.Value); encoded != nil {
			one.ValueBase64 = encoded
		} else if text != nil {
			s := string(h.Value)
			one.Value = &s
		}
		v.Headers = append(v.Headers, one)
	}
	return appendJSON(dst, &v)
}

// appendJSON appends v as JSON and a line end, with <, > and & as they are: it is
// for people and jq, not for HTML.
func appendJSON(dst []byte, v any) []byte {
	b := bytes.NewBuffer(dst)
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // strings and numbers
	}
	return b.Bytes()
}

// textOrBase64 is b as a JSON string, or in base64 where it is no text; neither
// where there is none.
func textOrBase64(b []byte) (json.RawMessage, *string) {
	if b == nil {
		return nil, nil
	}
	if utf8.Valid(b) {
		return bytes.TrimSuffix(appendJSON(nil, string(b)), []byte("\n")), nil
	}
	s := base64.StdEncoding.EncodeToString(b)
	return nil, &s
}

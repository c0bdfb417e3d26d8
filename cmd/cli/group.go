package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

func newGroup() *cobra.Command {
	cmd := &cobra.Command{Use: "group", Short: "List and describe consumer groups, move and delete their offsets", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(newGroupList(), newGroupDescribe(), newGroupLag(), newGroupReset(), newGroupDelete())
	return cmd
}

// groupView is a group as --json prints it.
type groupView struct {
	Group      string       `json:"group"`
	State      string       `json:"state"`
	Protocol   string       `json:"protocol,omitempty"` // how partitions are assigned
	Lag        int64        `json:"lag"`
	Members    []memberView `json:"members"`
	Partitions []lagView    `json:"partitions"`
}

type memberView struct {
	Member   string             `json:"member"`
	Instance string             `json:"instance,omitempty"`
	Client   string             `json:"client"`
	Host     string             `json:"host"`
	Assigned map[string][]int32 `json:"assigned"`
}

type lagView struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"` // -1: none is committed
	End       int64  `json:"end"`
	Lag       int64  `json:"lag"` // -1: unknown
	Member    string `json:"member,omitempty"`
	Error     string `json:"error,omitempty"`
}

// viewGroups asks for groups, in order of name.
func viewGroups(ctx context.Context, adm *kadm.Client, names ...string) ([]groupView, error) {
	if len(names) == 0 {
		return nil, nil
	}
	byBroker := consumerGroups(ctx, adm, names)
	views, err := viewConsumerGroups(ctx, adm, byBroker)
	if err != nil {
		return nil, err
	}
	classic := slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return slices.ContainsFunc(byBroker, func(g kadm.DescribedConsumerGroup) bool { return g.Group == name })
	})
	if len(classic) == 0 {
		return views, nil
	}
	all, err := adm.Lag(ctx, classic...)
	if err != nil {
		return nil, explain(err, "")
	}
	for _, g := range all.Sorted() {
		if err := g.Error(); err != nil {
			return nil, fmt.Errorf("group %s: %w", g.Group, explain(err, ""))
		}
		v := groupView{Group: g.Group, State: g.State, Protocol: g.Protocol, Lag: g.Lag.Total(), Members: []memberView{}, Partitions: []lagView{}}
		for i := range g.Members {
			v.Members = append(v.Members, viewMember(&g.Members[i]))
		}
		for _, l := range g.Lag.Sorted() {
			p := lagView{Topic: l.Topic, Partition: l.Partition, Offset: l.Commit.At, End: l.End.Offset, Lag: l.Lag}
			if l.Member != nil {
				p.Member = l.Member.MemberID
			}
			if l.Err != nil {
				p.Error = explain(l.Err, "").Error()
			}
			v.Partitions = append(v.Partitions, p)
		}
		views = append(views, v)
	}
	slices.SortFunc(views, func(a, b groupView) int { return strings.Compare(a.Group, b.Group) })
	return views, nil
}

func viewMember(m *kadm.DescribedGroupMember) memberView {
	v := memberView{Member: m.MemberID, Client: m.ClientID, Host: m.ClientHost, Assigned: map[string][]int32{}}
	if m.InstanceID != nil {
		v.Instance = *m.InstanceID
	}
	if a, ok := m.Assigned.AsConsumer(); ok {
		for _, t := range a.Topics {
			v.Assigned[t.Topic] = t.Partitions
		}
	}
	return v
}

// groupsOf are the groups that are there, or those named; that one is not there is
// a mistake with a suggestion.
func groupsOf(ctx context.Context, adm *kadm.Client, names ...string) ([]string, error) {
	listed, err := adm.ListGroups(ctx)
	if err != nil {
		return nil, explain(err, "")
	}
	known := listed.Groups()
	slices.Sort(known)
	if len(names) == 0 {
		return known, nil
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, mistake{fmt.Errorf("there is no group %q%s; see: weir group list", name, suggestion(name, known))}
		}
	}
	return names, nil
}

// showGroups is a command that shows groups.
func showGroups(use, short, example string, args cobra.PositionalArgs, show func(cmd *cobra.Command, views []groupView) error) *cobra.Command {
	var f kafkaFlags
	cmd := &cobra.Command{
		Use: use, Short: short, Example: example, Args: args,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
				names, err := groupsOf(ctx, adm, args...)
				if err != nil {
					return err
				}
				views, err := viewGroups(ctx, adm, names...)
				if err != nil {
					return err
				}
				if !f.asJSON {
					if len(views) == 0 {
						fmt.Fprintln(cmd.OutOrStdout(), "no groups")
						return nil
					}
					return show(cmd, views)
				}
				for i := range views {
					if err := printJSON(cmd.OutOrStdout(), &views[i]); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	f.add(cmd)
	f.addJSON(cmd)
	return cmd
}

func newGroupList() *cobra.Command {
	return showGroups("list", "List consumer groups", "  weir group list", cobra.NoArgs, func(cmd *cobra.Command, views []groupView) error {
		var rows [][]string
		for i := range views {
			v := &views[i]
			topics := map[string]bool{}
			for _, p := range v.Partitions {
				topics[p.Topic] = true
			}
			rows = append(rows, []string{v.Group, v.State, strconv.Itoa(len(v.Members)), strconv.Itoa(len(topics)), count(v.Lag)})
		}
		return table(cmd.OutOrStdout(), "GROUP STATE MEMBERS TOPICS LAG", rows)
	})
}

func newGroupDescribe() *cobra.Command {
	return showGroups("describe GROUP...", "Show the members, assignment and lag of groups", "  weir group describe audit", cobra.MinimumNArgs(1),
		func(cmd *cobra.Command, views []groupView) error {
			out := cmd.OutOrStdout()
			for i := range views {
				v := &views[i]
				fmt.Fprintf(out, "%s: %s, %s, lag %s\n", printable(v.Group), strings.ToLower(v.State), things(int64(len(v.Members)), "member"), count(v.Lag))
				var rows [][]string
				for _, m := range v.Members {
					rows = append(rows, []string{m.Member, or(m.Instance, "-"), m.Client, m.Host, assignment(m.Assigned)})
				}
				if len(rows) > 0 {
					if err := table(out, "MEMBER INSTANCE CLIENT HOST ASSIGNED", rows); err != nil {
						return err
					}
				}
				if err := printLag(cmd, v); err != nil {
					return err
				}
			}
			return nil
		})
}

func newGroupLag() *cobra.Command {
	return showGroups("lag [GROUP...]", "Show how far groups are behind, by partition", "  weir group lag\n  weir group lag audit --json | jq .lag", cobra.ArbitraryArgs,
		func(cmd *cobra.Command, views []groupView) error {
			for i := range views {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: lag %s\n", printable(views[i].Group), count(views[i].Lag))
				if err := printLag(cmd, &views[i]); err != nil {
					return err
				}
			}
			return nil
		})
}

func printLag(cmd *cobra.Command, v *groupView) error {
	if len(v.Partitions) == 0 {
		fmt.Fprintln(cmd.OutOrStdout(), "no offsets are committed")
		return nil
	}
	var rows [][]string
	for _, p := range v.Partitions {
		offset, lag := "-", "-"
		if p.Offset >= 0 {
			offset = strconv.FormatInt(p.Offset, 10)
		}
		if p.Lag >= 0 {
			lag = count(p.Lag)
		}
		rows = append(rows, []string{p.Topic, fmt.Sprint(p.Partition), offset, fmt.Sprint(p.End), lag, or(p.Member, "-"), p.Error})
	}
	return table(cmd.OutOrStdout(), "TOPIC PARTITION OFFSET END LAG MEMBER ", rows)
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// assignment is "topic[0 1 2] other[3]", in order.
func assignment(of map[string][]int32) string {
	var list []string
	for topic, ps := range of {
		slices.Sort(ps)
		list = append(list, topic+strings.ReplaceAll(fmt.Sprint(ps), " ", ","))
	}
	slices.Sort(list)
	return or(strings.Join(list, " "), "-")
}

func newGroupDelete() *cobra.Command {
	var f kafkaFlags
	var yes bool
	cmd := &cobra.Command{
		Use: "delete GROUP...", Short: "Delete groups with their offsets", Args: cobra.MinimumNArgs(1),
		Long: `Deletes groups without members, with the offsets they have committed. Without --yes
it says what would be lost and deletes nothing.`,
		Example: "  weir group delete audit --yes",
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
				names, err := groupsOf(ctx, adm, args...)
				if err != nil {
					return err
				}
				if !yes {
					views, err := viewGroups(ctx, adm, names...)
					if err != nil {
						return err
					}
					for _, v := range views {
						fmt.Fprintf(cmd.OutOrStdout(), "%s would be deleted: %s, offsets of %s\n", printable(v.Group), strings.ToLower(v.State), things(int64(len(v.Partitions)), "partition"))
					}
					return mistake{errors.New("nothing was deleted; to do it, add --yes")}
				}
				gone, err := adm.DeleteGroups(ctx, names...)
				if err != nil {
					return explain(err, "")
				}
				var failed []error
				for _, g := range gone.Sorted() {
					if g.Err != nil {
						failed = append(failed, fmt.Errorf("group %s: %w", g.Group, explain(g.Err, "")))
						continue
					}
					fmt.Fprintf(cmd.OutOrStdout(), "%s deleted\n", printable(g.Group))
				}
				return errors.Join(failed...)
			})
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&yes, "yes", false, "delete, do not only tell")
	return cmd
}

type resetFlags struct {
	kafkaFlags
	topics     []string
	partitions []int32
	to         string
	shift      int64
	yes        bool
}

func newGroupReset() *cobra.Command {
	var f resetFlags
	cmd := &cobra.Command{
		Use: "reset-offsets GROUP", Short: "Move a group's offsets", Args: cobra.ExactArgs(1),
		Long: `Moves the committed offsets of a group without members: of the topics named, or of
all it has offsets in. Without --yes it says what would change and changes nothing.
A group that does not exist yet is made, so that its consumers begin there. New
offsets are kept within what the partition holds.`,
		Example: `  weir group reset-offsets audit --to earliest
  weir group reset-offsets audit --topic payments --to 2026-01-31T00:00:00Z --yes
  weir group reset-offsets audit --topic payments --partition 0 --to 1200 --yes
  weir group reset-offsets audit --shift -100 --yes`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if (f.to == "") == !cmd.Flags().Changed("shift") {
				return mistake{errors.New("where to? say it with one of --to earliest, latest, an offset or a time, and --shift N")}
			}
			if len(f.partitions) > 0 && len(f.topics) != 1 {
				return mistake{errors.New("--partition needs one --topic")}
			}
			return f.admin(cmd, func(ctx context.Context, adm *kadm.Client) error { return f.run(ctx, cmd, adm, args[0]) })
		},
	}
	f.add(cmd)
	f.addJSON(cmd)
	cmd.Flags().StringSliceVar(&f.topics, "topic", nil, "only these topics: `NAME,...`")
	cmd.Flags().Int32SliceVar(&f.partitions, "partition", nil, "only these partitions of the topic: `N,...`")
	cmd.Flags().StringVar(&f.to, "to", "", "`WHERE`: earliest, latest, an offset, a time such as 2026-01-31T12:00:00Z, or how long ago, such as 15m")
	cmd.Flags().Int64Var(&f.shift, "shift", 0, "`N` records forwards, or backwards where negative")
	cmd.Flags().BoolVar(&f.yes, "yes", false, "move, do not only tell")
	return cmd
}

// move is one partition's change, as --json prints it.
type move struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Now       int64  `json:"now"` // -1: none
	New       int64  `json:"new"`
	Done      bool   `json:"done"`
}

func (f *resetFlags) run(ctx context.Context, cmd *cobra.Command, adm *kadm.Client, group string) error {
	for _, g := range consumerGroups(ctx, adm, []string{group}) {
		if len(g.Members) > 0 {
			return fmt.Errorf("group %s has %s (%s): stop them first", group, things(int64(len(g.Members)), "member"), strings.ToLower(g.State))
		}
	}
	described, err := adm.DescribeGroups(ctx, group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return explain(err, "")
	}
	if g := described[group]; len(g.Members) > 0 {
		return fmt.Errorf("group %s has %s (%s): stop them first", group, things(int64(len(g.Members)), "member"), strings.ToLower(g.State))
	}
	moves, err := f.plan(ctx, adm, group)
	if err != nil {
		return err
	}
	if f.yes {
		offsets := kadm.Offsets{}
		for _, m := range moves {
			offsets.AddOffset(m.Topic, m.Partition, m.New, -1)
		}
		if err := adm.CommitAllOffsets(ctx, group, offsets); err != nil {
			return fmt.Errorf("group %s: %w", group, explain(err, ""))
		}
	}
	var rows [][]string
	for _, m := range moves {
		m.Done = f.yes
		if f.asJSON {
			if err := printJSON(cmd.OutOrStdout(), m); err != nil {
				return err
			}
			continue
		}
		now, by := "-", "-"
		if m.Now >= 0 {
			now, by = strconv.FormatInt(m.Now, 10), fmt.Sprintf("%+d", m.New-m.Now)
		}
		rows = append(rows, []string{m.Topic, fmt.Sprint(m.Partition), now, fmt.Sprint(m.New), by})
	}
	if !f.asJSON {
		if err := table(cmd.OutOrStdout(), "TOPIC PARTITION NOW NEW BY", rows); err != nil {
			return err
		}
	}
	if !f.yes {
		fmt.Fprintln(cmd.ErrOrStderr(), "weir: nothing was changed; to do it, add --yes")
	}
	return nil
}

// plan is where each partition is to go.
func (f *resetFlags) plan(ctx context.Context, adm *kadm.Client, group string) ([]move, error) {
	committed, err := adm.FetchOffsets(ctx, group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, explain(err, "")
	}
	topics := f.topics
	if len(topics) == 0 {
		for topic := range committed {
			topics = append(topics, topic)
		}
		slices.Sort(topics)
	}
	if len(topics) == 0 {
		return nil, mistake{fmt.Errorf("group %s has committed no offsets: name the topics with --topic NAME", group)}
	}
	found, err := topicsOf(ctx, adm, topics...)
	if err != nil {
		return nil, err
	}
	starts, err := adm.ListStartOffsets(ctx, topics...)
	if err != nil {
		return nil, explain(err, "")
	}
	ends, err := adm.ListEndOffsets(ctx, topics...)
	if err != nil {
		return nil, explain(err, "")
	}
	target, err := f.target(ctx, adm, topics, starts, ends)
	if err != nil {
		return nil, err
	}
	var moves []move
	for _, topic := range topics {
		partitions, err := partitionsOf(found[topic], f.partitions)
		if err != nil {
			return nil, err
		}
		for _, p := range partitions {
			now := int64(-1)
			if o, ok := committed.Lookup(topic, p); ok && o.Err == nil {
				now = o.At
			}
			if now < 0 && f.to == "" {
				continue // nothing to shift from
			}
			start, _ := starts.Lookup(topic, p)
			end, _ := ends.Lookup(topic, p)
			to := min(max(target(topic, p, now), start.Offset), end.Offset)
			moves = append(moves, move{Topic: topic, Partition: p, Now: now, New: to})
		}
	}
	if len(moves) == 0 {
		return nil, mistake{fmt.Errorf("group %s has no committed offsets there to shift; use --to", group)}
	}
	return moves, nil
}

// target is the function from a partition and its offset now to the new one.
func (f *resetFlags) target(ctx context.Context, adm *kadm.Client, topics []string, starts, ends kadm.ListedOffsets) (func(string, int32, int64) int64, error) {
	of := func(list kadm.ListedOffsets) func(string, int32, int64) int64 {
		return func(topic string, p int32, _ int64) int64 { o, _ := list.Lookup(topic, p); return o.Offset }
	}
	switch f.to {
	case "":
		return func(_ string, _ int32, now int64) int64 { return now + f.shift }, nil
	case "earliest", "beginning", "start":
		return of(starts), nil
	case "latest", "end":
		return of(ends), nil
	}
	if n, err := strconv.ParseInt(f.to, 10, 64); err == nil {
		if n < 0 {
			return nil, mistake{fmt.Errorf("--to %d: an offset is at least 0; to go back there is --shift", n)}
		}
		return func(string, int32, int64) int64 { return n }, nil
	}
	at, err := parseTime(f.to, time.Now())
	if err != nil {
		return nil, mistake{fmt.Errorf("--to: expected earliest, latest or an offset, or a time: %w", err)}
	}
	since, err := adm.ListOffsetsAfterMilli(ctx, at.UnixMilli(), topics...)
	if err != nil {
		return nil, explain(err, "")
	}
	return of(since), nil
}

package cli

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/cmd/config"
)

func newTopic() *cobra.Command {
	cmd := &cobra.Command{Use: "topic", Short: "List, make, change and delete topics", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(newTopicList(), newTopicDescribe(), newTopicCreate(), newTopicDelete(), newTopicAlter(), newTopicAddPartitions())
	return cmd
}

// topicView is a topic as --json prints it.
type topicView struct {
	Topic      string            `json:"topic"`
	ID         string            `json:"id"`
	Internal   bool              `json:"internal"`
	Records    int64             `json:"records"` // offsets from the first to the end
	Bytes      int64             `json:"bytes"`   // -1: unknown
	Configs    map[string]string `json:"configs"` // those that are set
	Partitions []partitionView   `json:"partitions"`
}

type partitionView struct {
	Partition int32   `json:"partition"`
	Leader    int32   `json:"leader"`
	Epoch     int32   `json:"leader_epoch"`
	Replicas  []int32 `json:"replicas"`
	Start     int64   `json:"start"`
	End       int64   `json:"end"`
	Bytes     int64   `json:"bytes"`
	Error     string  `json:"error,omitempty"`
}

// viewTopics asks for everything about topics, in order of name.
func viewTopics(ctx context.Context, adm *kadm.Client, topics kadm.TopicDetails) ([]topicView, error) {
	names := topics.Names()
	if len(names) == 0 {
		return nil, nil
	}
	starts, err := adm.ListStartOffsets(ctx, names...)
	if err != nil {
		return nil, explain(err, "")
	}
	ends, err := adm.ListEndOffsets(ctx, names...)
	if err != nil {
		return nil, explain(err, "")
	}
	configs, err := adm.DescribeTopicConfigs(ctx, names...)
	if err != nil {
		return nil, explain(err, "")
	}
	sizes, err := topicSizes(ctx, adm)
	if err != nil {
		return nil, err
	}
	var views []topicView
	for _, t := range topics.Sorted() {
		v := topicView{Topic: t.Topic, ID: base64.RawURLEncoding.EncodeToString(t.ID[:]), Internal: t.IsInternal, Configs: map[string]string{}}
		rc, _ := configs.On(t.Topic, nil)
		for _, c := range rc.Configs {
			if c.Value != nil && strings.HasPrefix(c.Source.String(), "DYNAMIC_TOPIC") {
				v.Configs[c.Key] = *c.Value
			}
		}
		for _, p := range t.Partitions.Sorted() {
			start, _ := starts.Lookup(t.Topic, p.Partition)
			end, _ := ends.Lookup(t.Topic, p.Partition)
			pv := partitionView{Partition: p.Partition, Leader: p.Leader, Epoch: p.LeaderEpoch, Replicas: p.Replicas, Start: start.Offset, End: end.Offset, Bytes: -1}
			if n, ok := sizes[t.Topic][p.Partition]; ok {
				pv.Bytes = n
				v.Bytes += n
			}
			if err := errors.Join(p.Err, start.Err, end.Err); err != nil {
				pv.Error = explain(err, "").Error()
			} else {
				v.Records += end.Offset - start.Offset
			}
			v.Partitions = append(v.Partitions, pv)
		}
		views = append(views, v)
	}
	return views, nil
}

// topicSizes are the bytes of all partitions, of one replica each.
func topicSizes(ctx context.Context, adm *kadm.Client) (map[string]map[int32]int64, error) {
	dirs, err := adm.DescribeAllLogDirs(ctx, nil)
	if err != nil {
		return nil, explain(err, "")
	}
	sizes := map[string]map[int32]int64{}
	dirs.Each(func(d kadm.DescribedLogDir) {
		for _, ps := range d.Topics {
			for _, p := range ps {
				if sizes[p.Topic] == nil {
					sizes[p.Topic] = map[int32]int64{}
				}
				sizes[p.Topic][p.Partition] = max(sizes[p.Topic][p.Partition], p.Size)
			}
		}
	})
	return sizes, nil
}

func newTopicList() *cobra.Command {
	var f kafkaFlags
	var all bool
	cmd := &cobra.Command{
		Use: "list", Short: "List topics", Args: cobra.NoArgs,
		Long: `Lists topics with their partitions, records and size. Records are counted by
offset: where compaction or a repair left gaps there are fewer.`,
		Example: `  weir topic list
  weir topic list --json | jq -r .topic`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
				topics, err := topicsOf(ctx, adm)
				if err != nil {
					return err
				}
				if !all {
					topics.FilterInternal()
				}
				views, err := viewTopics(ctx, adm, topics)
				if err != nil {
					return err
				}
				return printTopics(cmd.OutOrStdout(), views, f.asJSON)
			})
		},
	}
	f.add(cmd)
	f.addJSON(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "the topics of the group and transaction coordinators, too")
	return cmd
}

func printTopics(w io.Writer, views []topicView, asJSON bool) error {
	if asJSON {
		for i := range views {
			if err := printJSON(w, &views[i]); err != nil {
				return err
			}
		}
		return nil
	}
	if len(views) == 0 {
		fmt.Fprintln(w, "no topics; make one with: weir topic create NAME")
		return nil
	}
	rows := make([][]string, 0, len(views))
	for i := range views {
		v := &views[i]
		rows = append(rows, []string{v.Topic, strconv.Itoa(len(v.Partitions)), count(v.Records), size(v.Bytes), settings(v.Configs)})
	}
	return table(w, "TOPIC PARTITIONS RECORDS SIZE SETTINGS", rows)
}

// settings are configs in one line, in order of name.
func settings(configs map[string]string) string {
	if len(configs) == 0 {
		return "-"
	}
	list := make([]string, 0, len(configs))
	for k, v := range configs {
		list = append(list, k+"="+v)
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func newTopicDescribe() *cobra.Command {
	var f kafkaFlags
	var all bool
	cmd := &cobra.Command{
		Use: "describe TOPIC...", Short: "Show the partitions and settings of topics", Args: cobra.MinimumNArgs(1),
		Example: `  weir topic describe transactions
  weir topic describe transactions --settings`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.client(cmd, func(ctx context.Context, cl *kgo.Client) error {
				adm := kadm.NewClient(cl)
				topics, err := topicsOf(ctx, adm, args...)
				if err != nil {
					return err
				}
				views, err := viewTopics(ctx, adm, topics)
				if err != nil {
					return err
				}
				if f.asJSON {
					return printTopics(cmd.OutOrStdout(), views, true)
				}
				for i := range views {
					if err := describeTopicView(cmd.OutOrStdout(), &views[i]); err != nil {
						return err
					}
					if all {
						if err := printSettings(ctx, cmd.OutOrStdout(), cl, views[i].Topic); err != nil {
							return err
						}
					}
				}
				return nil
			})
		},
	}
	f.add(cmd)
	f.addJSON(cmd)
	cmd.Flags().BoolVar(&all, "settings", false, "every setting with its default and what it means")
	return cmd
}

func describeTopicView(w io.Writer, v *topicView) error {
	fmt.Fprintf(w, "%s: %s, %s, %s, id %s\nset: %s\n", v.Topic, things(int64(len(v.Partitions)), "partition"), things(v.Records, "record"), size(v.Bytes), v.ID, printable(settings(v.Configs)))
	var rows [][]string
	for _, p := range v.Partitions {
		bytes := "-"
		if p.Bytes >= 0 {
			bytes = size(p.Bytes)
		}
		rows = append(rows, []string{fmt.Sprint(p.Partition), fmt.Sprint(p.Start), fmt.Sprint(p.End), count(p.End - p.Start), bytes, fmt.Sprint(p.Leader), fmt.Sprint(p.Epoch), p.Error})
	}
	return table(w, "PARTITION START END RECORDS SIZE LEADER EPOCH ", rows)
}

// printSettings lists every setting of a topic with what it means, which kadm does
// not ask for.
func printSettings(ctx context.Context, w io.Writer, cl *kgo.Client, topic string) error {
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.IncludeDocumentation = true
	of := kmsg.NewDescribeConfigsRequestResource()
	of.ResourceType, of.ResourceName = kmsg.ConfigResourceTypeTopic, topic
	req.Resources = append(req.Resources, of)
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return explain(err, "")
	}
	var rows [][]string
	for _, r := range resp.Resources {
		if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
			return topicFailure(topic, err, text(r.ErrorMessage))
		}
		for _, c := range r.Configs {
			set := "default"
			if c.Source == kmsg.ConfigSourceDynamicTopicConfig {
				set = "set"
			}
			rows = append(rows, []string{c.Name, text(c.Value), set, text(c.Documentation)})
		}
	}
	fmt.Fprintln(w)
	return table(w, "SETTING VALUE BY MEANING", rows)
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func newTopicCreate() *cobra.Command {
	var f kafkaFlags
	var partitions int32
	var set []string
	var ifAbsent, dryRun bool
	cmd := &cobra.Command{
		Use: "create TOPIC...", Short: "Make topics", Args: cobra.MinimumNArgs(1),
		Long: `Makes topics. Records are kept for ever unless retention is set. A stream's topic
is made by weir run when weir.yaml declares the stream.`,
		Example: `  weir topic create clicks --partitions 6 --set retention.ms=7d
  weir topic create prices --set cleanup.policy=compact`,
		RunE: func(cmd *cobra.Command, args []string) error {
			configs, err := parseSettings(set)
			if err != nil {
				return err
			}
			return f.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
				create := adm.CreateTopics
				verb := "made"
				if dryRun {
					create, verb = adm.ValidateCreateTopics, "can be made"
				}
				made, err := create(ctx, partitions, -1, configs, args...)
				if err != nil {
					return explain(err, "")
				}
				var failed []error
				for _, t := range made.Sorted() {
					switch {
					case errors.Is(t.Err, kerr.TopicAlreadyExists) && ifAbsent:
						fmt.Fprintf(cmd.OutOrStdout(), "%s is there already\n", t.Topic)
					case t.Err != nil:
						failed = append(failed, topicFailure(t.Topic, t.Err, t.ErrMessage))
					default:
						fmt.Fprintf(cmd.OutOrStdout(), "%s %s with %s\n", t.Topic, verb, things(int64(t.NumPartitions), "partition"))
					}
				}
				return errors.Join(failed...)
			})
		},
	}
	f.add(cmd)
	cmd.Flags().Int32Var(&partitions, "partitions", -1, "`N` partitions; -1: the broker's default")
	cmd.Flags().StringArrayVar(&set, "set", nil, "a `NAME=VALUE` setting; may be given again")
	cmd.Flags().BoolVar(&ifAbsent, "if-not-exists", false, "no error for those that are there")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say whether it could be done")
	return cmd
}

// topicFailure says what became of one topic; what the person wrote is a mistake.
func topicFailure(topic string, err error, words string) error {
	words = strings.TrimPrefix(words, "topic "+topic+": ")
	if errors.Is(err, kerr.TopicAlreadyExists) || errors.Is(err, kerr.TopicAuthorizationFailed) || errors.Is(err, kerr.UnknownTopicOrPartition) {
		words = "" // the advice says more
	}
	failure := fmt.Errorf("topic %s: %w", topic, explain(err, words))
	for _, theirs := range []error{kerr.InvalidConfig, kerr.InvalidTopicException, kerr.InvalidPartitions, kerr.UnknownTopicOrPartition, kerr.TopicAuthorizationFailed, kerr.TopicAlreadyExists, kerr.InvalidRequest} {
		if errors.Is(err, theirs) {
			return mistake{failure}
		}
	}
	return failure
}

// parseSettings reads NAME=VALUE.
func parseSettings(list []string) (map[string]*string, error) {
	set := make(map[string]*string, len(list))
	for _, one := range list {
		name, value, ok := strings.Cut(one, "=")
		if !ok || name == "" {
			return nil, mistake{fmt.Errorf("--set %q: expected NAME=VALUE, such as retention.ms=7d", one)}
		}
		value = plainNumber(name, value)
		set[name] = &value
	}
	return set, nil
}

// plainNumber takes 7d for a setting in milliseconds, 1GiB for one in bytes, as
// weir.yaml does; Kafka knows plain numbers only. What is neither stays as it is.
func plainNumber(name, value string) string {
	switch {
	case strings.HasSuffix(name, ".ms"):
		if d, err := config.ParseDuration(value); err == nil && d%time.Millisecond == 0 {
			return strconv.FormatInt(d.Milliseconds(), 10)
		}
	case strings.HasSuffix(name, ".bytes"):
		if n, err := config.ParseSize(value); err == nil {
			return strconv.FormatInt(n, 10)
		}
	}
	return value
}

func newTopicDelete() *cobra.Command {
	var f kafkaFlags
	var yes bool
	cmd := &cobra.Command{
		Use: "delete TOPIC...", Short: "Delete topics with their records", Args: cobra.MinimumNArgs(1),
		Long: `Deletes topics with all their records, at once and for good. Without --yes it says
what would be lost and deletes nothing. Topics of declared streams and Weir's own
cannot be deleted.`,
		Example: `  weir topic delete scratch
  weir topic delete scratch --yes`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
				topics, err := topicsOf(ctx, adm, args...)
				if err != nil {
					return err
				}
				if !yes {
					views, err := viewTopics(ctx, adm, topics)
					if err != nil {
						return err
					}
					for i := range views {
						fmt.Fprintf(cmd.OutOrStdout(), "%s would be deleted: %s, %s\n", views[i].Topic, things(views[i].Records, "record"), size(views[i].Bytes))
					}
					return mistake{errors.New("nothing was deleted; to do it, add --yes")}
				}
				gone, err := adm.DeleteTopics(ctx, args...)
				if err != nil {
					return explain(err, "")
				}
				var failed []error
				for _, t := range gone.Sorted() {
					if t.Err != nil {
						failed = append(failed, topicFailure(t.Topic, t.Err, t.ErrMessage))
						continue
					}
					fmt.Fprintf(cmd.OutOrStdout(), "%s deleted\n", t.Topic)
				}
				return errors.Join(failed...)
			})
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&yes, "yes", false, "delete, do not only tell")
	return cmd
}

func newTopicAlter() *cobra.Command {
	var f kafkaFlags
	var set, unset, appended, subtracted []string
	var dryRun bool
	cmd := &cobra.Command{
		Use: "alter TOPIC...", Short: "Change the settings of topics", Args: cobra.MinimumNArgs(1),
		Long: `Changes single settings of topics; those not named stay. All changes of a topic are
made or none.`,
		Example: `  weir topic alter clicks --set retention.ms=24h --set retention.bytes=10GiB
  weir topic alter clicks --unset retention.ms
  weir topic alter prices --append cleanup.policy=compact --dry-run`,
		RunE: func(cmd *cobra.Command, args []string) error {
			changes, err := parseChanges(set, unset, appended, subtracted)
			if err != nil {
				return err
			}
			return f.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
				alter, verb := adm.AlterTopicConfigs, "changed"
				if dryRun {
					alter, verb = adm.ValidateAlterTopicConfigs, "could be changed"
				}
				done, err := alter(ctx, changes, args...)
				if err != nil {
					return explain(err, "")
				}
				var failed []error
				for _, t := range done {
					if t.Err != nil {
						failed = append(failed, topicFailure(t.Name, t.Err, t.ErrMessage))
						continue
					}
					fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", t.Name, verb)
				}
				return errors.Join(failed...)
			})
		},
	}
	f.add(cmd)
	cmd.Flags().StringArrayVar(&set, "set", nil, "give `NAME=VALUE`; may be given again, as all of these")
	cmd.Flags().StringArrayVar(&unset, "unset", nil, "go back to the default of `NAME`")
	cmd.Flags().StringArrayVar(&appended, "append", nil, "append to a list: `NAME=VALUE`")
	cmd.Flags().StringArrayVar(&subtracted, "subtract", nil, "take out of a list: `NAME=VALUE`")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say whether it could be done")
	return cmd
}

func parseChanges(set, unset, appended, subtracted []string) ([]kadm.AlterConfig, error) {
	var changes []kadm.AlterConfig
	for _, kind := range []struct {
		flag string
		op   kadm.IncrementalOp
		list []string
	}{{"--set", kadm.SetConfig, set}, {"--append", kadm.AppendConfig, appended}, {"--subtract", kadm.SubtractConfig, subtracted}} {
		for _, one := range kind.list {
			name, value, ok := strings.Cut(one, "=")
			if !ok || name == "" {
				return nil, mistake{fmt.Errorf("%s %q: expected NAME=VALUE", kind.flag, one)}
			}
			value = plainNumber(name, value)
			changes = append(changes, kadm.AlterConfig{Op: kind.op, Name: name, Value: &value})
		}
	}
	for _, name := range unset {
		changes = append(changes, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: name})
	}
	if len(changes) == 0 {
		return nil, mistake{errors.New("what is to be changed? say it with --set NAME=VALUE or --unset NAME")}
	}
	return changes, nil
}

func newTopicAddPartitions() *cobra.Command {
	var f kafkaFlags
	var to int
	var dryRun bool
	cmd := &cobra.Command{
		Use: "add-partitions TOPIC --to N", Short: "Grow a topic to a number of partitions", Args: cobra.ExactArgs(1),
		Long: `Grows a topic to N partitions in all. There is no way back. Records that are there
stay where they are, while new ones of the same key may go to another partition: the
order of a key holds within each part of its history. The new partitions of a declared
stream are decided after a restart of weir run.`,
		Example: `  weir topic add-partitions clicks --to 12`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if to < 1 {
				return mistake{errors.New("how many are there to be? say it with --to N")}
			}
			return f.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
				if _, err := topicsOf(ctx, adm, args[0]); err != nil {
					return err
				}
				grow, verb := adm.UpdatePartitions, "has"
				if dryRun {
					grow, verb = adm.ValidateUpdatePartitions, "could have"
				}
				done, err := grow(ctx, to, args[0])
				if err != nil {
					return explain(err, "")
				}
				for _, t := range done {
					if t.Err != nil {
						return topicFailure(t.Topic, t.Err, t.ErrMessage)
					}
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s %s %d partitions\n", args[0], verb, to)
				return nil
			})
		},
	}
	f.add(cmd)
	cmd.Flags().IntVar(&to, "to", 0, "`N` partitions in all")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say whether it could be done")
	return cmd
}

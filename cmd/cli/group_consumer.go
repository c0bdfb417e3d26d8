package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
)

// Groups whose partitions the broker assigns (KIP-848) are described by a request of
// their own; to that for the others they are not there.

// consumerGroups are those of the named groups that are of the consumer protocol; none
// where the broker does not know it.
func consumerGroups(ctx context.Context, adm *kadm.Client, names []string) []kadm.DescribedConsumerGroup {
	described, err := adm.DescribeConsumerGroups(ctx, slices.Clone(names)...)
	if err != nil {
		return nil // what else is wrong the next request tells
	}
	var list []kadm.DescribedConsumerGroup
	for _, name := range names {
		if g, ok := described[name]; ok && g.Err == nil {
			list = append(list, g)
		}
	}
	return list
}

// viewConsumerGroups is viewGroups for groups of the consumer protocol.
func viewConsumerGroups(ctx context.Context, adm *kadm.Client, groups []kadm.DescribedConsumerGroup) ([]groupView, error) {
	if len(groups) == 0 {
		return nil, nil
	}
	var names []string
	all := kadm.TopicsSet{}
	for _, g := range groups {
		names = append(names, g.Group)
		all.Merge(g.AssignedPartitions())
	}
	offsets := adm.FetchManyOffsets(ctx, names...)
	for _, o := range offsets {
		if o.Err != nil {
			return nil, fmt.Errorf("group %s: %w", o.Group, explain(o.Err, ""))
		}
		all.Merge(o.CommittedPartitions())
	}
	starts, ends := kadm.ListedOffsets{}, kadm.ListedOffsets{}
	if topics := all.Topics(); len(topics) > 0 {
		var err error
		if starts, err = adm.ListStartOffsets(ctx, topics...); err == nil {
			ends, err = adm.ListEndOffsets(ctx, topics...)
		}
		if err != nil {
			return nil, explain(err, "")
		}
	}
	var views []groupView
	for i := range groups {
		views = append(views, viewConsumerGroup(&groups[i], offsets[groups[i].Group].Fetched, starts, ends))
	}
	return views, nil
}

func viewConsumerGroup(g *kadm.DescribedConsumerGroup, offsets kadm.OffsetResponses, starts, ends kadm.ListedOffsets) groupView {
	v := groupView{Group: g.Group, State: g.State, Protocol: g.AssignorName, Members: []memberView{}, Partitions: []lagView{}}
	type partition struct {
		topic string
		index int32
	}
	owner := map[partition]string{}
	for _, m := range g.Members {
		view := memberView{Member: m.MemberID, Client: m.ClientID, Host: m.ClientHost, Assigned: map[string][]int32{}}
		if m.InstanceID != nil {
			view.Instance = *m.InstanceID
		}
		for _, t := range m.Assignment.Sorted() {
			view.Assigned[t.Topic] = t.Partitions
			for _, p := range t.Partitions {
				owner[partition{t.Topic, p}] = m.MemberID
			}
		}
		v.Members = append(v.Members, view)
	}
	all := g.AssignedPartitions()
	all.Merge(offsets.Partitions())
	for _, t := range all.Sorted() {
		for _, p := range t.Partitions {
			l := lag(t.Topic, p, offsets, starts, ends)
			l.Member = owner[partition{t.Topic, p}]
			v.Lag += max(0, l.Lag)
			v.Partitions = append(v.Partitions, l)
		}
	}
	return v
}

// lag is how far a group is behind in a partition: from where it has committed, or
// from the start.
func lag(topic string, p int32, offsets kadm.OffsetResponses, starts, ends kadm.ListedOffsets) lagView {
	l := lagView{Topic: topic, Partition: p, Offset: -1, Lag: -1}
	if at, ok := offsets.Lookup(topic, p); ok {
		l.Offset = at.At
	}
	end, ok := ends.Lookup(topic, p)
	switch {
	case !ok:
		l.Error = "the topic is gone"
		return l
	case end.Err != nil:
		l.Error = explain(end.Err, "").Error()
		return l
	}
	from := l.Offset
	if start, ok := starts.Lookup(topic, p); ok && start.Err == nil {
		from = max(from, start.Offset)
	}
	l.End, l.Lag = end.Offset, max(0, end.Offset-max(0, from))
	return l
}

package node

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/weirstream/weir/cep/engine"
	"github.com/weirstream/weir/ingest/schema"
)

// OperatorView is what keeps the windows of rules by one key under one condition:
// what it holds, over all partitions, and what it costs.
type OperatorView struct {
	Stream       string    `json:"stream"`
	Name         string    `json:"name" doc:"What its windows have in common: by(...), and where(...) if there is one."`
	Keyed        string    `json:"keyed,omitempty" doc:"The topic of the keyed stream that it runs on; absent: it runs where the stream's events arrive."`
	Rules        []string  `json:"rules" doc:"Those that read its windows."`
	Partitions   int       `json:"partitions"`
	Keys         int64     `json:"keys" doc:"Of which it holds something."`
	Events       int64     `json:"events" doc:"That it holds."`
	Bytes        int64     `json:"bytes" doc:"Memory, reserved blocks included."`
	DiskBytes    int64     `json:"disk_bytes" doc:"Of the events that it keeps on disk."`
	CappedKeys   int64     `json:"capped_keys" doc:"Keys of which events are left out because of the limit of events per key."`
	Processed    int64     `json:"processed" doc:"Events that went through it since the start."`
	Nanos        int64     `json:"ns" doc:"Time that it took for them, in nanoseconds."`
	NanosEach    float64   `json:"ns_per_event"`
	CappedValues int64     `json:"capped_values" doc:"Values read since the start of windows that lack events because of that limit."`
	Top          []KeyView `json:"top_keys" doc:"The keys with the most events, as of the start or the newest checkpoint, some seconds ago."`
}

// KeyView is what an operator holds of one key.
type KeyView struct {
	Key    string `json:"key"`
	Events int64  `json:"events"`
	Bytes  int64  `json:"bytes"`
}

func (n *Node) operatorViews() []OperatorView {
	all := n.engine.Operators()
	out := make([]OperatorView, 0, len(all))
	for i := range all {
		out = append(out, operatorView(&all[i]))
	}
	return out
}

func operatorView(o *engine.OperatorStatus) OperatorView {
	v := OperatorView{Stream: o.Stream, Keyed: o.Keyed, Name: o.Name, Rules: slices.Clone(o.Rules), Partitions: o.Shards, Keys: o.Keys, Events: o.Events, Bytes: o.Bytes, DiskBytes: o.Disk,
		CappedKeys: o.Capped, Processed: o.Processed, Nanos: o.Time.Nanoseconds(), CappedValues: o.CappedValues, Top: []KeyView{}}
	if o.Processed > 0 {
		v.NanosEach = float64(v.Nanos) / float64(o.Processed)
	}
	for _, k := range o.Top {
		v.Top = append(v.Top, KeyView{k.Key, k.Events, k.Bytes})
	}
	return v
}

func (n *Node) registerOperators(api huma.API) {
	huma.Register(api, huma.Operation{OperationID: "list-operators", Method: "GET", Path: "/v1/operators", Summary: "What keeps the windows of rules, what it holds and what it costs; the largest first"},
		func(_ context.Context, in *struct {
			Rule string `query:"rule" doc:"Only what this rule reads."`
		}) (*answer[[]OperatorView], error) {
			all := n.operatorViews()
			if in.Rule != "" {
				if err := n.hasRule(in.Rule); err != nil {
					return nil, err
				}
				all = slices.DeleteFunc(all, func(v OperatorView) bool { return !slices.Contains(v.Rules, in.Rule) })
			}
			slices.SortStableFunc(all, func(a, b OperatorView) int { return cmp.Compare(b.Bytes, a.Bytes) })
			return &answer[[]OperatorView]{all}, nil
		})
}

func (n *Node) hasRule(id string) error {
	var ids []string
	for _, r := range n.program.Load().Rules() {
		if r.ID == id {
			return nil
		}
		ids = append(ids, r.ID)
	}
	hint := schema.Suggest(id, ids)
	if hint == "" {
		hint = "the rules are " + strings.Join(ids, ", ")
	}
	return huma.Error404NotFound(fmt.Sprintf("there is no rule %q: %s", id, hint))
}

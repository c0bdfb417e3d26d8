package node

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirstream/weir/cep/engine"
	"github.com/weirstream/weir/rules"
)

// What a rule does now.
const (
	stateActive  = "active"
	stateWarming = "warming"
	stateFailing = "failing"
	stateOff     = "off"
)

// failingFor is how long after an error a rule is called failing.
const failingFor = time.Minute

// WarmingView is how far the windows of a rule are made from the log.
type WarmingView struct {
	Percent float64 `json:"percent" doc:"Below 100 until the rule decides."`
	Rows    int64   `json:"rows" doc:"Records that were read for them, over all partitions."`
	Of      int64   `json:"of" doc:"Records that are to be read; it grows with each event that is decided meanwhile."`
}

// ruleState is what a rule does now.
type ruleState struct {
	state   string
	warming *WarmingView
	trouble string
}

// ruleStates tells of each rule of the declared program what it does.
func (n *Node) ruleStates(program *rules.Program, status []rules.RuleStatus) map[string]ruleState {
	shards := map[string][]engine.ShardStatus{} // by stream
	for _, s := range n.engine.Status() {
		shards[s.Stream] = append(shards[s.Stream], s)
	}
	out := map[string]ruleState{}
	for i := range status {
		r := &status[i]
		out[r.ID] = n.ruleState(r, program.ID(), shards[r.Stream])
	}
	return out
}

func (n *Node) ruleState(r *rules.RuleStatus, program string, shards []engine.ShardStatus) ruleState {
	if r.Mode == "off" {
		return ruleState{state: stateOff}
	}
	st := ruleState{state: stateActive}
	var w WarmingView
	for i := range shards {
		sh := &shards[i]
		if sh.Err != "" {
			return ruleState{state: stateFailing, trouble: fmt.Sprintf("partition %d of %s is not decided: %s", sh.Partition, sh.Topic, sh.Err)}
		}
		if n.decides(&r.Rule, program, sh) {
			continue
		}
		st.state = stateWarming
		w.Of += sh.Cursor
		if sh.Warming == program {
			w.Rows += min(sh.Warmed, sh.Cursor)
		}
		if sh.WarmingErr != "" {
			st.trouble = sh.WarmingErr
		}
	}
	if st.state == stateWarming {
		if w.Of > 0 { // the change itself is still to come
			w.Percent = min(99.9, math.Floor(1000*float64(w.Rows)/float64(w.Of))/10)
		}
		st.warming = &w
	} else if n.desk.failing(r.ID) {
		st.state, st.trouble = stateFailing, r.LastError
	}
	return st
}

// decides reports whether a shard decides by a rule as it is declared.
func (n *Node) decides(r *rules.Rule, program string, sh *engine.ShardStatus) bool {
	if sh.Program == program || sh.Program == "" {
		return true
	}
	p := n.programs.running(sh.Program)
	if p == nil {
		return false
	}
	old, had := p.Rule(r.ID)
	return had && old.DecidesAs(r)
}

// KeyedView is a partition of a keyed stream: the events of some streams by another key
// than theirs, which Weir writes and reads for windows by that key.
type KeyedView struct {
	Topic       string     `json:"topic"`
	Partition   int32      `json:"partition"`
	Key         []string   `json:"key" doc:"The field of each source whose values are brought together, as STREAM.FIELD."`
	Sources     []string   `json:"sources" doc:"Streams whose events are in it."`
	Rules       []string   `json:"rules" doc:"Those that read its windows."`
	Lag         int64      `json:"lag" doc:"Blocks of events that its windows have not taken in."`
	Watermark   *time.Time `json:"watermark" doc:"Event time up to which all sources are in; null before the first event."`
	Rows        int64      `json:"rows" doc:"Events that its windows took in since the start."`
	Bytes       int64      `json:"bytes" doc:"On disk."`
	PinnedBytes int64      `json:"pinned_bytes" doc:"Of them, what checkpoints and windows need."`
	Trouble     string     `json:"trouble,omitempty" doc:"Why it does not run."`
	State       string     `json:"state" enum:"active,kept" doc:"kept: no rule that is declared needs it; an earlier program or a checkpoint may."`
	KeptUntil   *time.Time `json:"kept_until,omitempty" doc:"When it is deleted, unless a rule needs it again."`
}

func (n *Node) keyedViews() []KeyedView {
	uses := *n.keyedUses.Load()
	out := []KeyedView{}
	running := map[string]bool{}
	all := n.engine.KeyedStatus()
	for i := range all {
		k := &all[i]
		running[k.Topic] = true
		v := n.keyedView(k.Topic, k.Partition, uses)
		v.Sources, v.Lag, v.Watermark, v.Rows, v.Trouble = slices.Clone(k.Sources), max(0, k.HighWatermark-k.Cursor), timeOrNil(k.Watermark), k.Rows, k.Err
		out = append(out, v)
	}
	for _, t := range n.log.Topics() {
		if strings.HasPrefix(t.Name(), engine.TopicKeyed) && !running[t.Name()] {
			for p := range t.Partitions() {
				out = append(out, n.keyedView(t.Name(), int32(p), uses))
			}
		}
	}
	return out
}

// keyedView is what the program and the log know.
func (n *Node) keyedView(topic string, partition int32, uses map[string]keyedUse) KeyedView {
	v := KeyedView{Topic: topic, Partition: partition, Key: []string{}, Rules: []string{}, Sources: []string{}, State: "kept"}
	if use, needed := uses[topic]; needed {
		v.State, v.Key, v.Rules = stateActive, use.key, use.rules
	} else {
		v.KeptUntil = n.keptUntil(topic)
	}
	if p, err := n.log.Partition(topic, partition); err == nil {
		v.Bytes, v.PinnedBytes = p.Size(), p.PinnedBytes()
	}
	return v
}

// keyedUse is what a program reads of a keyed stream.
type keyedUse struct{ key, rules []string }

// keyedUses are the keyed streams of a program, by topic.
func keyedUses(program *rules.Program) (map[string]keyedUse, error) {
	out := map[string]keyedUse{}
	for i, k := range program.Keyed() {
		use := keyedUse{rules: []string{}}
		for _, src := range k.Sources {
			for _, f := range src.Key {
				use.key = append(use.key, src.Stream.Schema.Stream+"."+src.Stream.Schema.Fields[f].Name)
			}
		}
		in, err := program.KeyedInstance(i)
		if err != nil {
			return nil, err
		}
		for _, op := range in.Operators() {
			use.rules = append(use.rules, op.Rules...)
		}
		slices.Sort(use.rules)
		use.rules = slices.Compact(use.rules)
		out[engine.TopicKeyed+k.Name] = use
	}
	return out, nil
}

func (n *Node) registerKeyed(api huma.API) {
	huma.Register(api, huma.Operation{OperationID: "list-keyed", Method: "GET", Path: "/v1/keyed", Summary: "The partitions of keyed streams, and where their windows stand"},
		func(context.Context, *struct{}) (*answer[[]KeyedView], error) {
			return &answer[[]KeyedView]{n.keyedViews()}, nil
		})
}

// ruleMetrics tell what rules do, as they are asked.
type ruleMetrics struct {
	node                         *Node
	rules, warming, left, unused *prometheus.Desc
}

func newRuleMetrics(n *Node) *ruleMetrics {
	return &ruleMetrics{
		node:    n,
		rules:   prometheus.NewDesc("weir_rules", "Rules by what they do: active, warming (their windows are made from the log), failing (errors in the last minute, or their stream is not decided), off.", []string{"state"}, nil),
		warming: prometheus.NewDesc("weir_rules_warming_rows", "Records of a partition that were read for windows of rules that are warming; absent where none are.", []string{"stream", "partition"}, nil),
		left:    prometheus.NewDesc("weir_rules_warming_lag_records", "Records of a partition that are still to be read for them.", []string{"stream", "partition"}, nil),
		unused:  prometheus.NewDesc("weir_keyed_kept_bytes", "Bytes on disk of keyed streams that no declared rule needs.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (m *ruleMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.rules
	ch <- m.warming
	ch <- m.left
	ch <- m.unused
}

// Collect implements prometheus.Collector.
func (m *ruleMetrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := map[string]int{stateActive: 0, stateWarming: 0, stateFailing: 0, stateOff: 0}
	program := m.node.program.Load()
	for _, s := range m.node.ruleStates(program, program.Rules()) {
		count[s.state]++
	}
	for state, n := range count {
		gauge(m.rules, float64(n), state)
	}
	for _, sh := range m.node.engine.Status() {
		if sh.Warming != "" {
			partition := fmt.Sprint(sh.Partition)
			gauge(m.warming, float64(sh.Warmed), sh.Stream, partition)
			gauge(m.left, float64(max(0, sh.Cursor-sh.Warmed)), sh.Stream, partition)
		}
	}
	kept := int64(0)
	for _, t := range m.node.log.Topics() {
		if m.node.keyedUnused(t.Name()) {
			for _, p := range t.Partitions() {
				kept += p.Size()
			}
		}
	}
	gauge(m.unused, float64(kept))
}

// keyedUnused reports whether a topic is a keyed stream's that no declared rule needs.
func (n *Node) keyedUnused(topic string) bool {
	if !strings.HasPrefix(topic, engine.TopicKeyed) {
		return false
	}
	_, needed := (*n.keyedUses.Load())[topic]
	return !needed
}

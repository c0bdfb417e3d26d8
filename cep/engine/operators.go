package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirstream/weir/cep"
)

// OperatorStatus is what an operator holds and costs, over all shards of its stream.
type OperatorStatus struct {
	Stream string   // whose rules read it
	Keyed  string   // the topic of the keyed stream that it runs on, empty: in the stream's own shards
	Name   string   // as in Operator
	Rules  []string // that read it
	Shards int
	cep.Stats
	// Since the process began: events and the time that the operator took for them,
	// and values that a limit showed in.
	Processed    int64
	Time         time.Duration
	CappedValues int64
	// Top are the keys with the most events, most first, as of each shard's start or
	// newest checkpoint.
	Top []cep.KeyStats
}

// topKeys is how many keys are told of an operator.
const topKeys = 10

// operatorStats is one operator of a shard, for Operators.
type operatorStats struct {
	name      string
	rules     []string
	reader    string // the stream whose rules these are
	stats     cep.Stats
	processed int64
	took      time.Duration
	capped    int64
	top       []cep.KeyStats
}

// holder, topper and looker are operators that tell what they hold, and of which keys:
// a looker looks at some keys in each call, and tells when it has been through all.
type (
	holder interface{ Stats() cep.Stats }
	topper interface{ TopKeys(n int) []cep.KeyStats }
	looker interface {
		LookTop(n, records int) ([]cep.KeyStats, bool)
	}
)

// meter tells what the operators of a shard hold and cost. But for holds, which is told
// to others under holding, it belongs to the shard's goroutine.
type meter struct {
	stream  string          // whose rules read the operators
	readers []string        // of a keyed stream: by operator
	costs   []operatorStats // by operator, since the process began
	before  []operatorStats // of the shard that was here before a Declare
	topsAt  int             // the operator that lookTop is at

	holding sync.Mutex
	holds   []operatorStats // as of the last show
}

// meet makes a place for each operator. What was counted in an earlier life stays, as
// does what the shard before this one counted of an operator of that name.
func (m *meter) meet(ops []Operator) {
	if len(m.costs) == len(ops) {
		return
	}
	m.costs = make([]operatorStats, len(ops))
	for i, op := range ops {
		c := &m.costs[i]
		if old := slices.IndexFunc(m.before, func(c operatorStats) bool { return c.name == op.Name }); old >= 0 {
			c.processed, c.took, c.capped = m.before[old].processed, m.before[old].took, m.before[old].capped
		}
		c.name, c.rules, c.reader = op.Name, op.Rules, m.stream
		if m.readers != nil {
			c.reader = m.readers[i]
		}
	}
}

// charge counts what an operator took for some events.
func (m *meter) charge(i, events, capped int, took time.Duration) {
	c := &m.costs[i]
	c.took += took
	c.processed += int64(events)
	c.capped += int64(capped)
}

// spent is what was counted in this shard and those before it, once it has ended.
func (m *meter) spent() []operatorStats {
	if m.costs == nil {
		return m.before
	}
	return m.costs
}

// succeed begins to count for other operators, in the place of those of before.
func (m *meter) succeed() { m.before, m.costs, m.topsAt = m.spent(), nil, 0 }

// show tells Operators what the operators hold now; top, also of which keys, for
// which each of them is looked at.
func (m *meter) show(ops []Operator, top bool) {
	m.meet(ops)
	for i, op := range ops {
		if h, ok := op.Operator.(holder); ok {
			m.costs[i].stats = h.Stats()
		}
		if t, ok := op.Operator.(topper); ok && top {
			m.costs[i].top = t.TopKeys(topKeys)
		}
	}
	m.holding.Lock()
	m.holds = append(m.holds[:0], m.costs...)
	m.holding.Unlock()
}

// held is a copy of what show told.
func (m *meter) held() []operatorStats {
	m.holding.Lock()
	defer m.holding.Unlock()
	return slices.Clone(m.holds)
}

// lookRecords is how many keys are looked at before the time is.
const lookRecords = 4096

// lookTop looks on, during a checkpoint, for the keys with the most events, for about as
// long as the budget, and reports whether it has been through all operators.
func (m *meter) lookTop(ops []Operator, budget time.Duration) bool {
	m.meet(ops)
	for begun := time.Now(); m.topsAt < len(ops); {
		l, ok := ops[m.topsAt].Operator.(looker)
		if ok {
			top, done := l.LookTop(topKeys, lookRecords)
			if !done && time.Since(begun) > budget {
				return false
			}
			if !done {
				continue
			}
			m.costs[m.topsAt].top = top
		}
		m.topsAt++
	}
	return true
}

// operate runs the operators on the batch and notes what each takes.
func (s *shard) operate(ctx context.Context) error {
	if err := s.load(ctx); err != nil {
		return err
	}
	if p, ok := s.instance.(Preparer); ok {
		p.Prepare(&s.batch, &s.outbox)
	}
	ops := s.instance.Operators()
	s.meet(ops)
	start := time.Now()
	for i, op := range ops {
		if s.only != nil && !s.only[op.Identity] {
			continue
		}
		marks := len(s.outbox.Marks)
		err := op.Process(&s.batch, &s.outbox)
		if err == nil {
			err = op.Advance(s.low, &s.outbox)
		}
		if err != nil {
			return fmt.Errorf("%s[%d]: operator %s: %w", s.origin.Topic, s.partition, op.Identity, err)
		}
		now := time.Now()
		s.charge(i, s.batch.Len(), len(s.outbox.Marks)-marks, now.Sub(start))
		start = now
	}
	return nil
}

func (s *shard) showOperators(top bool) {
	if s.instance != nil {
		s.show(s.instance.Operators(), top)
	}
}

// Operators is what each operator holds and costs, by stream and in program order. It
// may be called at any time from any goroutine.
func (e *Engine) Operators() []OperatorStatus {
	var out []OperatorStatus
	for _, g := range e.running() {
		for _, s := range g.shards {
			for _, c := range s.held() {
				out = c.addTo(out, "")
			}
		}
		for _, k := range g.keyedShards() {
			for _, c := range k.held() {
				out = c.addTo(out, k.status.Topic) // which never changes
			}
		}
	}
	slices.SortStableFunc(out, func(a, b OperatorStatus) int { return cmp.Compare(a.Stream, b.Stream) })
	return out
}

// addTo adds an operator of a shard to what the others hold.
func (c *operatorStats) addTo(all []OperatorStatus, keyed string) []OperatorStatus {
	at := slices.IndexFunc(all, func(o OperatorStatus) bool { return o.Stream == c.reader && o.Name == c.name && o.Keyed == keyed })
	if at < 0 {
		at = len(all)
		all = append(all, OperatorStatus{Stream: c.reader, Keyed: keyed, Name: c.name, Rules: c.rules})
	}
	o := &all[at]
	o.Shards++
	o.Keys, o.Events, o.Capped = o.Keys+c.stats.Keys, o.Events+c.stats.Events, o.Capped+c.stats.Capped
	o.Bytes, o.Disk = o.Bytes+c.stats.Bytes, o.Disk+c.stats.Disk
	o.Processed, o.Time, o.CappedValues = o.Processed+c.processed, o.Time+c.took, o.CappedValues+c.capped
	o.Top = append(o.Top, c.top...)
	slices.SortStableFunc(o.Top, func(a, b cep.KeyStats) int { return cmp.Compare(b.Events, a.Events) })
	o.Top = o.Top[:min(len(o.Top), topKeys)]
	return all
}

// operatorMetrics shows Operators to Prometheus. Its labels are the stream and the
// operator, which the rule files bound; keys are no label.
type operatorMetrics struct {
	engine                                                      *Engine
	keys, events, bytes, disk, capped, processed, seconds, lost *prometheus.Desc
}

func newOperatorMetrics(e *Engine) *operatorMetrics {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("weir_engine_operator_"+name, help, []string{"stream", "operator"}, nil)
	}
	return &operatorMetrics{
		engine:    e,
		keys:      desc("keys", "Keys that the operator holds something of."),
		events:    desc("events", "Events that the operator holds."),
		bytes:     desc("bytes", "Memory of the operator, reserved blocks included."),
		disk:      desc("disk_bytes", "Bytes of events that the operator keeps on disk."),
		capped:    desc("capped_keys", "Keys of which events are left out because of the limit of events per key."),
		processed: desc("processed_events_total", "Events that went through the operator in this process."),
		seconds:   desc("seconds_total", "Time that the operator took for them."),
		lost:      desc("capped_values_total", "Values read of windows that lack events because of the limit of events per key."),
	}
}

// Describe implements prometheus.Collector.
func (m *operatorMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.keys, m.events, m.bytes, m.disk, m.capped, m.processed, m.seconds, m.lost} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *operatorMetrics) Collect(ch chan<- prometheus.Metric) {
	for _, o := range m.engine.Operators() {
		send := func(d *prometheus.Desc, t prometheus.ValueType, v float64) {
			ch <- prometheus.MustNewConstMetric(d, t, v, o.Stream, o.Name)
		}
		send(m.keys, prometheus.GaugeValue, float64(o.Keys))
		send(m.events, prometheus.GaugeValue, float64(o.Events))
		send(m.bytes, prometheus.GaugeValue, float64(o.Bytes))
		send(m.disk, prometheus.GaugeValue, float64(o.Disk))
		send(m.capped, prometheus.GaugeValue, float64(o.Capped))
		send(m.processed, prometheus.CounterValue, float64(o.Processed))
		send(m.seconds, prometheus.CounterValue, o.Time.Seconds())
		send(m.lost, prometheus.CounterValue, float64(o.CappedValues))
	}
}

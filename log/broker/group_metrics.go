package broker

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirstream/weir/log/group"
)

// groupMetrics are the coordinator's.
type groupMetrics struct {
	migrations *prometheus.CounterVec
	rebalances prometheus.Counter
	commits    prometheus.Counter
	upgrades   prometheus.Counter // to the consumer protocol, with members
	downgrades prometheus.Counter
}

func newGroupMetrics() *groupMetrics {
	migrations := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_broker_group_migrations_total",
		Help: "Consumer groups with members that changed to a protocol."}, []string{"to"})
	return &groupMetrics{
		migrations: migrations, upgrades: migrations.WithLabelValues("consumer"), downgrades: migrations.WithLabelValues("classic"),
		rebalances: prometheus.NewCounter(prometheus.CounterOpts{Name: "weir_broker_group_rebalances_total",
			Help: "Rebalances of consumer groups that began."}),
		commits: prometheus.NewCounter(prometheus.CounterOpts{Name: "weir_broker_offset_commits_total",
			Help: "Offsets that groups committed, by partition."}),
	}
}

// groupCounts collects how many groups there are.
type groupCounts struct{ g *groups }

var groupsDesc = prometheus.NewDesc("weir_broker_groups", "Consumer groups, by state and type.", []string{"state", "type"}, nil)

// Describe implements prometheus.Collector.
func (c groupCounts) Describe(to chan<- *prometheus.Desc) { to <- groupsDesc }

// Collect implements prometheus.Collector.
func (c groupCounts) Collect(to chan<- prometheus.Metric) {
	list, err := c.g.all()
	if err != nil {
		return // being loaded
	}
	type kind struct {
		state group.State
		typ   string
	}
	counts := map[kind]int{}
	for _, state := range []group.State{group.Empty, group.PreparingRebalance, group.CompletingRebalance, group.Stable} {
		counts[kind{state, "classic"}] = 0
	}
	for _, state := range []group.State{group.Empty, group.Assigning, group.Reconciling, group.Stable} {
		counts[kind{state, "consumer"}] = 0
	}
	for _, one := range list {
		one.mu.Lock()
		k := kind{one.state(), "classic"}
		if one.consumer != nil {
			k.typ = "consumer"
		}
		one.mu.Unlock()
		counts[k]++
	}
	for k, n := range counts {
		to <- prometheus.MustNewConstMetric(groupsDesc, prometheus.GaugeValue, float64(n), k.state.String(), k.typ)
	}
}

// register registers the coordinator's metrics where r is not nil.
func (g *groups) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	for _, c := range []prometheus.Collector{g.metrics.rebalances, g.metrics.commits, g.metrics.migrations, groupCounts{g}} {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}

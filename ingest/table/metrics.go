package table

import "github.com/prometheus/client_golang/prometheus"

// metrics are of a Store; the sizes are read when they are asked for.
type metrics struct {
	store                *Store
	changes, refused     *prometheus.CounterVec
	entries, bytes, head *prometheus.Desc
}

func newMetrics(r prometheus.Registerer, s *Store) (*metrics, error) {
	m := &metrics{
		store:   s,
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_table_changes_total", Help: "Changes of a table or list that were asked for, those that change nothing included."}, []string{"table", "op"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_table_refused_records_total", Help: "Records of a table's topic that do not fit it, counted again when the topic is read again."}, []string{"table"}),
		entries: prometheus.NewDesc("weir_table_entries", "Entries of a table or list, expired ones included.", []string{"table", "kind"}, nil),
		bytes:   prometheus.NewDesc("weir_table_bytes", "Size of the entries of a table or list.", []string{"table", "kind"}, nil),
		head:    prometheus.NewDesc("weir_table_changes_end", "Offset of weir.tables up to which changes are in force.", nil, nil),
	}
	if r == nil {
		return m, nil
	}
	return m, r.Register(m)
}

func (m *metrics) changed(changes []Change, n int) {
	if n == 0 {
		return
	}
	for i := range changes {
		m.changes.WithLabelValues(changes[i].Table, string(changes[i].Op)).Inc()
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(c chan<- *prometheus.Desc) {
	m.changes.Describe(c)
	m.refused.Describe(c)
	c <- m.entries
	c <- m.bytes
	c <- m.head
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(c chan<- prometheus.Metric) {
	m.changes.Collect(c)
	m.refused.Collect(c)
	v := m.store.Head()
	c <- prometheus.MustNewConstMetric(m.head, prometheus.GaugeValue, float64(v.seq))
	for _, t := range v.tables {
		c <- prometheus.MustNewConstMetric(m.entries, prometheus.GaugeValue, float64(t.count), t.def.Name, t.def.Kind())
		c <- prometheus.MustNewConstMetric(m.bytes, prometheus.GaugeValue, float64(t.bytes), t.def.Name, t.def.Kind())
	}
}

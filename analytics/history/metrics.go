package history

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	rows            *prometheus.CounterVec
	refused         *prometheus.CounterVec
	partitionErrors *prometheus.CounterVec
	errors          prometheus.Counter
	commits         prometheus.Histogram
	checkpoints     prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, h *History) *metrics {
	m := &metrics{
		rows:            prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_history_rows_total", Help: "Rows made visible in SQL, by table."}, []string{"table"}),
		refused:         prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_history_refused_total", Help: "Records that did not decode and have no row, by table."}, []string{"table"}),
		partitionErrors: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_history_read_errors_total", Help: "Times a partition could not be read, by table."}, []string{"table"}),
		errors:          prometheus.NewCounter(prometheus.CounterOpts{Name: "weir_history_write_errors_total", Help: "Times the SQL database could not be written."}),
		commits:         prometheus.NewHistogram(prometheus.HistogramOpts{Name: "weir_history_commit_seconds", Help: "Time of a commit to the SQL database.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 14)}),
		checkpoints:     prometheus.NewHistogram(prometheus.HistogramOpts{Name: "weir_history_checkpoint_seconds", Help: "Time of a checkpoint of the SQL database.", Buckets: prometheus.ExponentialBuckets(0.01, 2, 12)}),
	}
	for _, t := range h.tables {
		m.rows.WithLabelValues(t.name)
		m.refused.WithLabelValues(t.name)
	}
	if reg != nil {
		reg.MustRegister(m.rows, m.refused, m.partitionErrors, m.errors, m.commits, m.checkpoints, &lagCollector{h})
	}
	return m
}

var (
	lagDesc  = prometheus.NewDesc("weir_history_lag_records", "Durable records that are not yet visible in SQL.", []string{"table", "partition"}, nil)
	ageDesc  = prometheus.NewDesc("weir_history_age_seconds", "Age of the newest record visible in SQL, 0 when all are.", []string{"table", "partition"}, nil)
	fileDesc = prometheus.NewDesc("weir_history_database_bytes", "Size of the SQL database, by file.", []string{"file"}, nil)
)

// lagCollector computes the gauges when they are asked for.
type lagCollector struct{ h *History }

func (c *lagCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{lagDesc, ageDesc, fileDesc} {
		out <- d
	}
}

func (c *lagCollector) Collect(out chan<- prometheus.Metric) {
	for _, f := range c.h.Freshness() {
		end, err := c.h.opts.HighWatermark(f.Topic, f.Partition)
		if err != nil {
			continue
		}
		p := strconv.Itoa(int(f.Partition))
		out <- prometheus.MustNewConstMetric(lagDesc, prometheus.GaugeValue, float64(max(0, end-f.Offset)), f.Name, p)
		out <- prometheus.MustNewConstMetric(ageDesc, prometheus.GaugeValue, f.Age.Seconds(), f.Name, p)
	}
	out <- prometheus.MustNewConstMetric(fileDesc, prometheus.GaugeValue, float64(c.h.db.Size()), "database")
	out <- prometheus.MustNewConstMetric(fileDesc, prometheus.GaugeValue, float64(c.h.db.WALSize()), "wal")
}

package analytics

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	queries *prometheus.CounterVec
	seconds prometheus.Histogram
	running prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		queries: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_sql_queries_total", Help: "Statements that ended, by outcome."}, []string{"outcome"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "weir_sql_query_seconds", Help: "Time of a statement, reading of its rows included.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 18)}),
		running: prometheus.NewGauge(prometheus.GaugeOpts{Name: "weir_sql_queries_running", Help: "Statements that run now."}),
	}
	for _, o := range []string{"ok", "cancelled", "error"} {
		m.queries.WithLabelValues(o)
	}
	if reg != nil {
		reg.MustRegister(m.queries, m.seconds, m.running)
	}
	return m
}

func (m *metrics) done(err error, d time.Duration) {
	m.running.Dec()
	m.seconds.Observe(d.Seconds())
	outcome := "ok"
	if err != nil {
		outcome = "error"
		var e *Error
		if errors.As(err, &e) && e.Code == "57014" {
			outcome = "cancelled"
		}
	}
	m.queries.WithLabelValues(outcome).Inc()
}

package alerts

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are counted whether or not someone collects them.
type metrics struct {
	attempts  *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	malformed *prometheus.CounterVec
}

func newMetrics() *metrics {
	return &metrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_alerts_attempts_total",
			Help: "Attempts to notify a receiver, by outcome: delivered, retry or failed."}, []string{"receiver", "outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "weir_alerts_attempt_duration_seconds",
			Help: "How long an attempt to notify a receiver took.", Buckets: prometheus.ExponentialBuckets(0.001, 2.5, 12),
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160}, []string{"receiver"}),
		malformed: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_alerts_malformed_total",
			Help: "Records of weir.alerts that are not alerts."}, []string{"receiver"}),
	}
}

func (m *metrics) attempt(receiver, outcome string, took time.Duration) {
	m.attempts.WithLabelValues(receiver, outcome).Inc()
	m.duration.WithLabelValues(receiver).Observe(took.Seconds())
}

func (m *metrics) register(to prometheus.Registerer, r *Router) error {
	for _, r := range r.receivers { // so that rates begin at zero
		for _, o := range []string{outcomeDelivered, outcomeRetry, outcomeFailed} {
			m.attempts.WithLabelValues(r.Name, o)
		}
	}
	for _, c := range []prometheus.Collector{m.attempts, m.duration, m.malformed, statusCollector{r}} {
		if err := to.Register(c); err != nil {
			return err
		}
	}
	return nil
}

// statusCollector makes gauges of Router.Status.
type statusCollector struct{ r *Router }

var gauges = []struct {
	desc *prometheus.Desc
	of   func(Status) float64
}{
	{gauge("lag_records", "Records of weir.alerts that a receiver is not done with."), func(s Status) float64 { return float64(s.Lag) }},
	{gauge("pending", "Alerts in memory for a receiver."), func(s Status) float64 { return float64(s.Pending) }},
	{gauge("retrying", "Alerts that wait for another attempt."), func(s Status) float64 { return float64(s.Retrying) }},
	{gauge("in_flight", "Attempts under way."), func(s Status) float64 { return float64(s.InFlight) }},
	{gauge("probing", "1 while a receiver fails and is only probed, else 0."), func(s Status) float64 {
		if s.Probing {
			return 1
		}
		return 0
	}},
}

func gauge(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("weir_alerts_"+name, help, []string{"receiver"}, nil)
}

// Describe implements prometheus.Collector.
func (statusCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, g := range gauges {
		ch <- g.desc
	}
}

// Collect implements prometheus.Collector.
func (c statusCollector) Collect(ch chan<- prometheus.Metric) {
	for _, s := range c.r.Status() {
		for _, g := range gauges {
			ch <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, g.of(s), s.Name)
		}
	}
}

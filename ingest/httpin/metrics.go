package httpin

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests   *prometheus.CounterVec
	duration   prometheus.Histogram
	events     *prometheus.CounterVec
	refused    *prometheus.CounterVec
	bytes      prometheus.Counter
	turnedAway prometheus.Counter
}

func newMetrics(h *Handler, r prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_http_ingest_requests_total",
			Help: "Requests that brought events, by the status of the answer."}, []string{"status"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "weir_http_ingest_request_duration_seconds",
			Help: "From the header of a request to its answer.", Buckets: prometheus.ExponentialBuckets(0.0005, 2.5, 12)}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_http_ingest_events_total",
			Help: "Events accepted over HTTP."}, []string{"stream"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_http_ingest_refused_total",
			Help: "Events refused over HTTP, by reason; they are in weir.deadletters."}, []string{"stream", "reason"}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{Name: "weir_http_ingest_body_bytes_total",
			Help: "Bytes of bodies, unpacked."}),
		turnedAway: prometheus.NewCounter(prometheus.CounterOpts{Name: "weir_http_ingest_turned_away_total",
			Help: "Requests answered with 429 because too many bytes were in flight."}),
	}
	if r != nil {
		r.MustRegister(m.requests, m.duration, m.events, m.refused, m.bytes, m.turnedAway,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "weir_http_ingest_in_flight_bytes", Help: "Bytes of bodies in memory."},
				func() float64 { return float64(h.budget.used.Load()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "weir_http_ingest_idempotency_keys", Help: "Idempotency-Keys that are known."},
				func() float64 { return float64(h.ledger.size()) }))
	}
	return m
}

func (m *metrics) answered(status int, took time.Duration) {
	m.requests.WithLabelValues(strconv.Itoa(status)).Inc()
	m.duration.Observe(took.Seconds())
}

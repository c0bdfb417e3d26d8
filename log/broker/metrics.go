package broker

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	connections prometheus.Gauge
	refused     prometheus.Counter
	aborted     *prometheus.CounterVec
	received    prometheus.Counter
	sent        prometheus.Counter
	errors      *prometheus.CounterVec

	sessions, sessionParts prometheus.Gauge
	sessionsEvicted        prometheus.Counter

	byAPI map[int16]apiMetrics
}

type apiMetrics struct {
	requests prometheus.Counter
	seconds  prometheus.Observer
}

// newMetrics makes the metrics, registered where r is not nil.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_broker_requests_total",
		Help: "Requests of Kafka clients, by API."}, []string{"api"})
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "weir_broker_request_seconds",
		Help:    "Time from a request's last byte to its response's, by API; a fetch includes its wait for data.",
		Buckets: prometheus.ExponentialBuckets(0.00025, 4, 9), NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160},
		[]string{"api"})
	m := &metrics{
		connections: prometheus.NewGauge(prometheus.GaugeOpts{Name: "weir_broker_connections",
			Help: "Open connections of Kafka clients."}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "weir_broker_connections_refused_total",
			Help: "Connections closed at once because too many were open."}),
		aborted: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_broker_connections_aborted_total",
			Help: "Connections that the broker closed on an error, by reason: malformed or io."}, []string{"reason"}),
		received: prometheus.NewCounter(prometheus.CounterOpts{Name: "weir_broker_received_bytes_total",
			Help: "Bytes of requests read."}),
		sent: prometheus.NewCounter(prometheus.CounterOpts{Name: "weir_broker_sent_bytes_total",
			Help: "Bytes of responses written."}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_broker_errors_total",
			Help: "Errors told to clients, by Kafka's name."}, []string{"code"}),
		sessions: prometheus.NewGauge(prometheus.GaugeOpts{Name: "weir_broker_fetch_sessions",
			Help: "Fetch sessions that are kept."}),
		sessionParts: prometheus.NewGauge(prometheus.GaugeOpts{Name: "weir_broker_fetch_session_partitions",
			Help: "Partitions in fetch sessions that are kept."}),
		sessionsEvicted: prometheus.NewCounter(prometheus.CounterOpts{Name: "weir_broker_fetch_sessions_evicted_total",
			Help: "Fetch sessions that made room for others."}),
		byAPI: map[int16]apiMetrics{},
	}
	for _, a := range keyTable() {
		m.byAPI[a.key] = apiMetrics{requests.WithLabelValues(a.name), seconds.WithLabelValues(a.name)}
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{requests, seconds, m.connections, m.refused, m.aborted, m.received, m.sent, m.errors,
		m.sessions, m.sessionParts, m.sessionsEvicted} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) requests(a *api) prometheus.Counter { return m.byAPI[a.key].requests }
func (m *metrics) seconds(a *api) prometheus.Observer { return m.byAPI[a.key].seconds }

// closed counts a connection closed because of err.
func (m *metrics) closed(err error) {
	reason := "io"
	if errors.Is(err, errMalformed) {
		reason = "malformed"
	}
	m.aborted.WithLabelValues(reason).Inc()
}

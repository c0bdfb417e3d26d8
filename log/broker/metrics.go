package broker

import (
	"context"
	"errors"
	"os"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	connections prometheus.Gauge
	refused     *prometheus.CounterVec
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
func newMetrics(r prometheus.Registerer, inFlight, fetching *budget) (*metrics, error) {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_broker_requests_total",
		Help: "Requests of Kafka clients, by API."}, []string{"api"})
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "weir_broker_request_seconds",
		Help:    "Time from a request's last byte to its response's, by API; a fetch includes its wait for data.",
		Buckets: prometheus.ExponentialBuckets(0.00025, 4, 9), NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160},
		[]string{"api"})
	m := &metrics{
		connections: prometheus.NewGauge(prometheus.GaugeOpts{Name: "weir_broker_connections",
			Help: "Open connections of Kafka clients."}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_broker_connections_refused_total",
			Help: "Connections closed at once because too many were open, by limit: total or address."}, []string{"limit"}),
		aborted: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_broker_connections_aborted_total",
			Help: "Connections that the broker closed, by reason: malformed, overload, slow_request, slow_reader, idle or io."}, []string{"reason"}),
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
	for _, reason := range []string{closedMalformed, closedOverload, closedSlowRequest, closedSlowReader, closedIdle, closedIO} {
		m.aborted.WithLabelValues(reason)
	}
	for _, limit := range []string{refusedTotal, refusedAddress} {
		m.refused.WithLabelValues(limit)
	}
	if r == nil {
		return m, nil
	}
	held := func(name, help string, b *budget) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(b.held()) })
	}
	requestBytes := held("weir_broker_request_bytes", "Bytes that requests hold which are being read and started.", inFlight)
	fetchBytes := held("weir_broker_fetch_bytes", "Bytes that fetch responses hold which are being written.", fetching)
	for _, c := range []prometheus.Collector{requests, seconds, m.connections, m.refused, m.aborted, m.received, m.sent, m.errors,
		m.sessions, m.sessionParts, m.sessionsEvicted, requestBytes, fetchBytes} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) requests(a *api) prometheus.Counter { return m.byAPI[a.key].requests }
func (m *metrics) seconds(a *api) prometheus.Observer { return m.byAPI[a.key].seconds }

// Reasons to close a connection, the metric's labels.
const (
	closedMalformed   = "malformed"
	closedOverload    = "overload"     // no memory for the rest of a request
	closedSlowRequest = "slow_request" // began and does not end
	closedSlowReader  = "slow_reader"  // does not take its responses
	closedIdle        = "idle"
	closedIO          = "io"
)

// closed counts a connection closed because a request could not be read.
func (m *metrics) closed(err error) {
	reason := closedIO
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		reason = closedOverload
	case errors.Is(err, os.ErrDeadlineExceeded):
		reason = closedSlowRequest
	case errors.Is(err, errMalformed):
		reason = closedMalformed
	}
	m.aborted.WithLabelValues(reason).Inc()
}

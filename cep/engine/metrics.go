package engine

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirstream/weir/ingest/event"
)

// metrics are shared by all shards, with the labels stream and partition.
type metrics struct {
	events, decisions, alerts, late, deadLetters, suppressed, restarts, idle *prometheus.CounterVec
	pieces, written                                                          *prometheus.CounterVec
	lag, watermark, changes, kept                                            *prometheus.GaugeVec
	checkpoint, pause                                                        *prometheus.HistogramVec
	keyed                                                                    keyedMetrics
}

// keyedMetrics are shared by the shards of keyed streams, with the labels topic and
// partition.
type keyedMetrics struct {
	rows              *prometheus.CounterVec
	lag, watermark    *prometheus.GaugeVec
	checkpoint, pause *prometheus.HistogramVec
}

func newKeyedMetrics() keyedMetrics {
	labels := []string{"topic", "partition"}
	histogram := func(name, help string, least float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "weir_engine_keyed_" + name, Help: help, Buckets: prometheus.ExponentialBuckets(least, 4, 8)}, labels)
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "weir_engine_keyed_" + name, Help: help}, labels)
	}
	return keyedMetrics{
		rows:       prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_engine_keyed_rows_total", Help: "Events that this process took from a keyed stream."}, labels),
		lag:        gauge("lag_records", "Blocks of events between the cursor and the high watermark of a keyed stream."),
		watermark:  gauge("watermark_seconds", "Event time up to which all sources of a keyed stream are seen, as Unix time."),
		checkpoint: histogram("checkpoint_seconds", "Time to write a checkpoint of a keyed stream's windows, waiting for its sources' included.", 0.001),
		pause:      histogram("checkpoint_pause_seconds", "The longest time for which a checkpoint held the shard of a keyed stream.", 0.0001),
	}
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	labels := []string{"stream", "partition"}
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_engine_" + name, Help: help}, labels)
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "weir_engine_" + name, Help: help}, labels)
	}
	m := &metrics{
		events:      counter("events_total", "Events decided by this process."),
		decisions:   counter("decisions_total", "Decision records, live and shadow, made by this process."),
		alerts:      counter("alerts_total", "Alert records made by this process."),
		late:        counter("late_events_total", "Events whose time was before the watermark."),
		deadLetters: counter("dead_letters_total", "Records that did not decode."),
		suppressed:  counter("suppressed_total", "Outputs left out after a restart because they were there already."),
		restarts:    counter("shard_restarts_total", "Restarts of a shard from its checkpoint after an error."),
		idle:        counter("idle_marks_total", "Marks that this process journaled because a partition had no records for the stream's idle time."),
		lag:         gauge("lag_records", "Records between the cursor and the high watermark."),
		watermark:   gauge("watermark_seconds", "Event time up to which the shard has seen its stream, as Unix time."),
		changes:     gauge("table_changes", "Offset of weir.tables up to which changes of tables and lists are in force in the shard. An idle shard takes newer ones up with its next event."),
		pieces:      counter("checkpoint_pieces_total", "Pieces of the operators' state written to checkpoints."),
		written:     counter("checkpoint_bytes_total", "Bytes of the operators' state written to checkpoints, compressed."),
		kept:        gauge("checkpoint_kept_bytes", "Bytes of the operators' state that the newest checkpoint needs on the disk."),
		pause: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "weir_engine_checkpoint_pause_seconds", Help: "The longest time for which a checkpoint held its shard.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 8),
		}, labels),
		checkpoint: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "weir_engine_checkpoint_seconds", Help: "Time to write a checkpoint, waiting for outputs included.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
		}, labels),
	}
	m.keyed = newKeyedMetrics()
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.events, m.decisions, m.alerts, m.late, m.deadLetters, m.suppressed, m.restarts, m.idle, m.pieces, m.written, m.lag, m.watermark, m.changes, m.kept, m.checkpoint, m.pause,
		m.keyed.rows, m.keyed.lag, m.keyed.watermark, m.keyed.checkpoint, m.keyed.pause} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// keyedShardMetrics are one shard's, looked up once.
type keyedShardMetrics struct {
	rows              prometheus.Counter
	lag, watermark    prometheus.Gauge
	checkpoint, pause prometheus.Observer
}

func (m *keyedMetrics) of(topic string, partition int32) keyedShardMetrics {
	p := strconv.Itoa(int(partition))
	return keyedShardMetrics{
		rows: m.rows.WithLabelValues(topic, p), lag: m.lag.WithLabelValues(topic, p), watermark: m.watermark.WithLabelValues(topic, p),
		checkpoint: m.checkpoint.WithLabelValues(topic, p), pause: m.pause.WithLabelValues(topic, p),
	}
}

// forget drops what is told of a keyed stream whose shards have ended.
func (m *keyedMetrics) forget(topic string) {
	labels := prometheus.Labels{"topic": topic}
	m.rows.DeletePartialMatch(labels)
	for _, g := range []*prometheus.GaugeVec{m.lag, m.watermark} {
		g.DeletePartialMatch(labels)
	}
	for _, h := range []*prometheus.HistogramVec{m.checkpoint, m.pause} {
		h.DeletePartialMatch(labels)
	}
}

// forget drops what is told of a stream that is no longer there.
func (m *metrics) forget(stream string) {
	labels := prometheus.Labels{"stream": stream}
	for _, c := range []*prometheus.CounterVec{m.events, m.decisions, m.alerts, m.late, m.deadLetters, m.suppressed, m.restarts, m.idle, m.pieces, m.written} {
		c.DeletePartialMatch(labels)
	}
	for _, g := range []*prometheus.GaugeVec{m.lag, m.watermark, m.changes, m.kept} {
		g.DeletePartialMatch(labels)
	}
	m.checkpoint.DeletePartialMatch(labels)
	m.pause.DeletePartialMatch(labels)
}

// shardMetrics are one shard's, looked up once.
type shardMetrics struct {
	events, decisions, alerts, late, deadLetters, suppressed, restarts, idle prometheus.Counter
	pieces, written                                                          prometheus.Counter
	lag, watermark, changes, kept                                            prometheus.Gauge
	checkpoint, pause                                                        prometheus.Observer
}

func (m *metrics) of(stream string, partition int32) shardMetrics {
	p := strconv.Itoa(int(partition))
	return shardMetrics{
		events: m.events.WithLabelValues(stream, p), decisions: m.decisions.WithLabelValues(stream, p),
		alerts: m.alerts.WithLabelValues(stream, p), late: m.late.WithLabelValues(stream, p),
		deadLetters: m.deadLetters.WithLabelValues(stream, p), suppressed: m.suppressed.WithLabelValues(stream, p),
		restarts: m.restarts.WithLabelValues(stream, p), idle: m.idle.WithLabelValues(stream, p), lag: m.lag.WithLabelValues(stream, p),
		watermark: m.watermark.WithLabelValues(stream, p), changes: m.changes.WithLabelValues(stream, p),
		checkpoint: m.checkpoint.WithLabelValues(stream, p), pause: m.pause.WithLabelValues(stream, p),
		pieces: m.pieces.WithLabelValues(stream, p), written: m.written.WithLabelValues(stream, p), kept: m.kept.WithLabelValues(stream, p),
	}
}

// seconds is an event time as Unix time.
func seconds(t event.Time) float64 { return float64(t) / 1e9 }

package commitlog

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of a log; they count whether or not they are registered.
type metrics struct {
	batches     prometheus.Counter
	bytes       prometheus.Counter
	flushes     prometheus.Histogram
	waits       prometheus.Counter
	cutBytes    prometheus.Counter
	scrubBytes  prometheus.Counter
	corruptions *prometheus.GaugeVec
	compaction  compactionMetrics
	early       prometheus.Counter
	registerer  prometheus.Registerer
	registered  []prometheus.Collector
}

// compactionMetrics grow with each partition that was compacted.
type compactionMetrics struct {
	runs, read, written, dropped, seconds prometheus.Counter
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	return &metrics{
		batches:    counter("weir_log_appended_batches_total", "Record batches appended."),
		bytes:      counter("weir_log_appended_bytes_total", "Bytes of record batches appended."),
		waits:      counter("weir_log_backpressure_seconds_total", "Time that appends waited because too much was not yet durable."),
		cutBytes:   counter("weir_log_recovery_cut_bytes_total", "Bytes never acknowledged that recovery cut after the last valid batch."),
		scrubBytes: counter("weir_log_scrubbed_bytes_total", "Stored bytes verified in the background."),
		flushes: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "weir_log_flush_seconds", Help: "Time of one group commit of a partition.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16)}),
		early: counter("weir_log_early_deleted_bytes_total", "Bytes of segments deleted before their retention was over because the disk had little room."),
		compaction: compactionMetrics{
			runs:    counter("weir_log_compactions_total", "Compactions of a partition."),
			read:    counter("weir_log_compaction_read_bytes_total", "Bytes of segments that compaction read."),
			written: counter("weir_log_compaction_written_bytes_total", "Bytes that were left of them."),
			dropped: counter("weir_log_compaction_dropped_records_total", "Records that compaction dropped."),
			seconds: counter("weir_log_compaction_seconds_total", "Time that compactions took."),
		},
		corruptions: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "weir_log_corrupt_batches", Help: "Places with damaged stored batches found since the start; they are never served."},
			[]string{"topic", "partition"}),
	}
}

func (m *metrics) register(l *Log, r prometheus.Registerer) {
	if r == nil {
		return
	}
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
	}
	m.registerer = r
	all := []prometheus.Collector{m.batches, m.bytes, m.waits, m.cutBytes, m.scrubBytes, m.flushes, m.corruptions, m.early,
		m.compaction.runs, m.compaction.read, m.compaction.written, m.compaction.dropped, m.compaction.seconds,
		gauge("weir_log_compactable_bytes", "Bytes of sealed segments of compacted topics that are not compacted yet.", func() float64 {
			return float64(l.sum((*Partition).uncompacted))
		}),
		gauge("weir_log_unflushed_bytes", "Bytes accepted and not yet durable.", func() float64 { return float64(l.flusher.behind.Load()) }),
		gauge("weir_log_size_bytes", "Bytes of all partitions.", func() float64 { return float64(l.sum((*Partition).Size)) }),
		gauge("weir_log_pinned_bytes", "Bytes that retention would have deleted but that are still needed, by the engine's checkpoints and windows.", func() float64 {
			return float64(l.sum((*Partition).PinnedBytes))
		}),
		gauge("weir_log_partitions", "Partitions.", func() float64 { return float64(l.sum(func(*Partition) int64 { return 1 })) }),
		gauge("weir_log_offline_partitions", "Partitions out of service because of damage or a failed sync.", func() float64 {
			return float64(l.sum(func(p *Partition) int64 {
				if p.Err() != nil {
					return 1
				}
				return 0
			}))
		}),
		gauge("weir_log_free_disk_bytes", "Space left on the file system of the data directory.", func() float64 {
			u, err := l.fs.Usage(l.dir)
			if err != nil {
				return -1
			}
			return float64(u.Free)
		}),
	}
	for _, c := range all {
		if err := r.Register(c); err != nil {
			l.logger.Warn("metric not registered", "err", err)
			continue
		}
		m.registered = append(m.registered, c)
	}
}

func (l *Log) sum(of func(*Partition) int64) (n int64) {
	for _, t := range l.Topics() {
		for _, p := range t.now.Load().partitions {
			n += of(p)
		}
	}
	return n
}

func (m *metrics) unregister() {
	for _, c := range m.registered {
		m.registerer.Unregister(c)
	}
}

func (m *metrics) appended(n int)          { m.batches.Inc(); m.bytes.Add(float64(n)) }
func (m *metrics) flushed(d time.Duration) { m.flushes.Observe(d.Seconds()) }
func (m *metrics) waited(d time.Duration)  { m.waits.Add(d.Seconds()) }
func (m *metrics) cut(n int64)             { m.cutBytes.Add(float64(n)) }
func (m *metrics) scrubbed(n int)          { m.scrubBytes.Add(float64(n)) }
func (m *metrics) compacted(s compactStats, d time.Duration) {
	m.compaction.runs.Inc()
	m.compaction.read.Add(float64(s.read))
	m.compaction.written.Add(float64(s.written))
	m.compaction.dropped.Add(float64(s.dropped))
	m.compaction.seconds.Add(d.Seconds())
}
func (m *metrics) corrupt(e *CorruptError) {
	m.corruptions.WithLabelValues(e.Topic, strconv.Itoa(int(e.Partition))).Inc()
}

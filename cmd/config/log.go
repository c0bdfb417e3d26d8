package config

import (
	"cmp"
	"net"
	"time"
)

// Log is how the log keeps records on disk.
type Log struct {
	Fsync           bool // before an acknowledgement
	SegmentBytes    int64
	MaxMessageBytes int64         // of one record batch, where its topic does not say
	Retention       time.Duration // where a topic does not say; 0: for ever
	MinFreeBytes    int64         // 0: none
	CheckpointBytes int64
	CheckpointEvery time.Duration
	CompactEvery    time.Duration
	CompactMemory   int64
	ScrubEvery      time.Duration
	ScrubRate       int64 // bytes per second; 0: no scrubbing
	ProducerExpiry  time.Duration
}

// Kafka is how Kafka clients are served.
type Kafka struct {
	Advertised               string // HOST:PORT; empty: the address that the client came to
	AutoCreateTopics         bool
	Partitions               int64 // of topics that are made without a number
	MaxConnections           int64
	MaxConnectionsPerAddress int64
	IdleTimeout              time.Duration
	MaxRequestBytes          int64
	MaxFetchBytes            int64
	RequestMemory            int64 // of all connections
	FetchMemory              int64 // of all connections

	OffsetsRetention          time.Duration
	InitialRebalanceDelay     time.Duration
	SessionTimeoutMin         time.Duration
	SessionTimeoutMax         time.Duration
	GroupSizeMax              int64
	TransactionTimeoutMax     time.Duration
	TransactionalIDExpiration time.Duration
}

const (
	day     = 24 * time.Hour
	century = 100 * 365 * day
)

var logKeys = []key[draft]{
	{name: "fsync", expects: "`true` or `false`", def: "true", doc: "Acknowledge a record only when it is on disk. `false` loses acknowledged records with the power, not with the process; see [Disk, fsync and retention](../guides/operations.md#disk-fsync-and-retention).",
		read: func(w *walker, v value, d *draft) { d.log.Fsync, _ = w.truth(v) }},
	{name: "segment_bytes", expects: "size from 1MiB to 1GiB", def: "256MiB", doc: "A log segment is closed, and the next begun, at this size. A topic's `segment.bytes` wins.",
		read: func(w *walker, v value, d *draft) { w.size(v, 1<<20, 1<<30, &d.log.SegmentBytes) }},
	{name: "max_message_bytes", expects: "size from 1KiB to 64MiB", def: "16MiB", doc: "The largest record batch, compressed as it is sent. A topic's `max.message.bytes` wins.",
		read: func(w *walker, v value, d *draft) {
			d.maxMessage = v
			w.size(v, 1<<10, 64<<20, &d.log.MaxMessageBytes)
		}},
	{name: "retention", expects: "duration from 1m", defDoc: "none: for ever", doc: "The age at which records of topics go that do not set `retention.ms`. Weir's own topics and those it makes for streams and tables set it.",
		read: func(w *walker, v value, d *draft) { w.duration(v, time.Minute, century, &d.log.Retention) }},
	{name: "min_free_bytes", expects: "size from 1MiB", defDoc: "none", doc: "While the disk has less free space than this, the oldest segments of topics that lose theirs some day (`retention.ms`, `retention.bytes`) go early; each is logged and counted in `weir_log_early_deleted_bytes_total`. Topics that keep theirs for ever are not touched.",
		read: func(w *walker, v value, d *draft) { w.size(v, 1<<20, 1<<50, &d.log.MinFreeBytes) }},
	{name: "checkpoint_bytes", expects: "size from 1MiB to 1GiB", def: "32MiB", doc: "How much of a partition a start after a crash reads again, at most about.",
		read: func(w *walker, v value, d *draft) { w.size(v, 1<<20, 1<<30, &d.log.CheckpointBytes) }},
	{name: "checkpoint_every", expects: "duration from 1s to 1h", def: "1m", doc: "The longest that a partition which was written to has no new checkpoint.",
		read: func(w *walker, v value, d *draft) { w.duration(v, time.Second, time.Hour, &d.log.CheckpointEvery) }},
	{name: "compact_every", expects: "duration from 100ms to 1d", def: "15s", doc: "How often the log looks for what to compact, in topics with `cleanup.policy` compact.",
		read: func(w *walker, v value, d *draft) { w.duration(v, 100*time.Millisecond, day, &d.log.CompactEvery) }},
	{name: "compact_memory", expects: "size from 1MiB", def: "32MiB", doc: "The memory that compaction takes for keys, about; more keys take several passes.",
		read: func(w *walker, v value, d *draft) { w.size(v, 1<<20, 1<<40, &d.log.CompactMemory) }},
	{name: "scrub_every", expects: "duration from 1m", def: "1d", doc: "How often all stored batches are read and checked in the background.",
		read: func(w *walker, v value, d *draft) { w.duration(v, time.Minute, century, &d.log.ScrubEvery) }},
	{name: "scrub_rate", expects: "size", def: "16MiB", doc: "How many bytes per second that reads; 0: it is not done.",
		read: func(w *walker, v value, d *draft) { w.size(v, 0, 1<<40, &d.log.ScrubRate) }},
	{name: "producer_expiry", expects: "duration from 1m", def: "1d", doc: "How long an idempotent producer is remembered after its last batch, to know a repeated one.",
		read: func(w *walker, v value, d *draft) { w.duration(v, time.Minute, century, &d.log.ProducerExpiry) }},
}

var kafkaKeys = []key[draft]{
	{name: "advertised", expects: "HOST:PORT", defDoc: "the address that the client came to", doc: "Where clients are told to connect. Needed where addresses are translated, as before a container.",
		read: func(w *walker, v value, d *draft) {
			addr := w.addr(v)
			d.broker.Advertised = addr.s
			if host, port, err := net.SplitHostPort(addr.s); addr.set && err == nil && (host == "" || port == "0") {
				w.fail(v, "", "found %s, expected a host and a port that clients can connect to", found(v.node))
			}
		}},
	{name: "auto_create_topics", expects: "`true` or `false`", def: "true", doc: "Make a topic that a client names and that does not exist, where the client asks for it.",
		read: func(w *walker, v value, d *draft) { d.broker.AutoCreateTopics, _ = w.truth(v) }},
	{name: "partitions", expects: "number from 1 to 1024", def: "1", doc: "Of topics that clients make without a number.",
		read: func(w *walker, v value, d *draft) { w.number(v, 1, partitionsMax, &d.broker.Partitions) }},
	{name: "max_connections", expects: "number from 1 to 1000000", def: "1000", doc: "Open connections; more are closed at once.",
		read: func(w *walker, v value, d *draft) { w.number(v, 1, 1_000_000, &d.broker.MaxConnections) }},
	{name: "max_connections_per_address", expects: "number from 1 to 1000000", defDoc: "half of `max_connections`", doc: "Open connections from one IP address. Behind address translation, all clients are one address.",
		read: func(w *walker, v value, d *draft) {
			w.number(v, 1, 1_000_000, &d.broker.MaxConnectionsPerAddress)
		}},
	{name: "idle_timeout", expects: "duration from 1s", def: "10m", doc: "A connection without a request for so long is closed.",
		read: func(w *walker, v value, d *draft) { w.duration(v, time.Second, century, &d.broker.IdleTimeout) }},
	{name: "max_request_bytes", expects: "size from 1MiB to 1GiB", def: "100MiB", doc: "The largest Produce request. It must have room for a batch of `log.max_message_bytes`.",
		read: func(w *walker, v value, d *draft) { w.size(v, 1<<20, 1<<30, &d.broker.MaxRequestBytes) }},
	{name: "max_fetch_bytes", expects: "size from 64KiB to 1GiB", def: "55MiB", doc: "The most records in one fetch response, beyond a first batch that is larger.",
		read: func(w *walker, v value, d *draft) { w.size(v, 64<<10, 1<<30, &d.broker.MaxFetchBytes) }},
	{name: "request_memory", expects: "size from 1MiB", def: "256MiB", doc: "What requests of all connections take at once; beyond it, reading waits.",
		read: func(w *walker, v value, d *draft) { w.size(v, 1<<20, 1<<40, &d.broker.RequestMemory) }},
	{name: "fetch_memory", expects: "size from 1MiB", def: "256MiB", doc: "What fetch responses of all connections take at once; beyond it, fetches return less.",
		read: func(w *walker, v value, d *draft) { w.size(v, 1<<20, 1<<40, &d.broker.FetchMemory) }},
	{name: "offsets_retention", expects: "duration from 1m", def: "7d", doc: "How long the offsets of a consumer group without members are kept.",
		read: func(w *walker, v value, d *draft) { w.duration(v, time.Minute, century, &d.broker.OffsetsRetention) }},
	{name: "initial_rebalance_delay", expects: "duration up to 5m", def: "100ms", doc: "How long an empty consumer group waits for more members before its first assignment; 0: not at all. Kafka has 3s.",
		read: func(w *walker, v value, d *draft) { w.duration(v, 0, 5*time.Minute, &d.broker.InitialRebalanceDelay) }},
	{name: "session_timeout_min", expects: "duration from 10ms to 1d", def: "6s", doc: "The shortest session timeout that a group's member may ask for.",
		read: func(w *walker, v value, d *draft) {
			d.sessionMin = v
			w.duration(v, 10*time.Millisecond, day, &d.broker.SessionTimeoutMin)
		}},
	{name: "session_timeout_max", expects: "duration from 10ms to 1d", def: "30m", doc: "The longest.",
		read: func(w *walker, v value, d *draft) {
			w.duration(v, 10*time.Millisecond, day, &d.broker.SessionTimeoutMax)
		}},
	{name: "group_size_max", expects: "number from 1 to 100000", def: "10000", doc: "Members of one consumer group.",
		read: func(w *walker, v value, d *draft) { w.number(v, 1, 100_000, &d.broker.GroupSizeMax) }},
	{name: "transaction_timeout_max", expects: "duration from 1s to 1d", def: "15m", doc: "The longest transaction timeout that a producer may ask for. An open transaction holds back whoever reads committed records only.",
		read: func(w *walker, v value, d *draft) { w.duration(v, time.Second, day, &d.broker.TransactionTimeoutMax) }},
	{name: "transactional_id_expiration", expects: "duration from 1m", def: "7d", doc: "How long a transactional id is remembered that nobody uses.",
		read: func(w *walker, v value, d *draft) {
			w.duration(v, time.Minute, century, &d.broker.TransactionalIDExpiration)
		}},
}

// batchOverhead is what a produce request has beside one batch, at most.
const batchOverhead = 4 << 10

// finishLog checks what spans the keys of log and kafka, and fills in what follows
// from other keys.
func (d *draft) finishLog(w *walker) {
	d.broker.MaxConnectionsPerAddress = cmp.Or(d.broker.MaxConnectionsPerAddress, (d.broker.MaxConnections+1)/2)
	if room := d.broker.MaxRequestBytes - batchOverhead; d.log.MaxMessageBytes > room && d.broker.MaxRequestBytes > 0 {
		w.fail(d.maxMessage, "", "found %s, which does not fit into a request: kafka.max_request_bytes is %s", formatSize(d.log.MaxMessageBytes), formatSize(d.broker.MaxRequestBytes))
	}
	if least, most := d.broker.SessionTimeoutMin, d.broker.SessionTimeoutMax; least > most && most > 0 {
		w.fail(d.sessionMin, "", "found %s, which is more than kafka.session_timeout_max: %s", formatDuration(least), formatDuration(most))
	}
}

func (l Log) view() object {
	return object{
		"fsync": l.Fsync, "segment_bytes": formatSize(l.SegmentBytes), "max_message_bytes": formatSize(l.MaxMessageBytes),
		"retention": orNone(l.Retention > 0, formatDuration(l.Retention)), "min_free_bytes": orNone(l.MinFreeBytes > 0, formatSize(l.MinFreeBytes)),
		"checkpoint_bytes": formatSize(l.CheckpointBytes), "checkpoint_every": formatDuration(l.CheckpointEvery),
		"compact_every": formatDuration(l.CompactEvery), "compact_memory": formatSize(l.CompactMemory),
		"scrub_every": formatDuration(l.ScrubEvery), "scrub_rate": formatSize(l.ScrubRate), "producer_expiry": formatDuration(l.ProducerExpiry),
	}
}

func (k Kafka) view() object {
	return object{
		"advertised": orNone(k.Advertised != "", k.Advertised), "auto_create_topics": k.AutoCreateTopics, "partitions": k.Partitions,
		"max_connections": k.MaxConnections, "max_connections_per_address": k.MaxConnectionsPerAddress, "idle_timeout": formatDuration(k.IdleTimeout),
		"max_request_bytes": formatSize(k.MaxRequestBytes), "max_fetch_bytes": formatSize(k.MaxFetchBytes),
		"request_memory": formatSize(k.RequestMemory), "fetch_memory": formatSize(k.FetchMemory),
		"offsets_retention": formatDuration(k.OffsetsRetention), "initial_rebalance_delay": formatDuration(k.InitialRebalanceDelay),
		"session_timeout_min": formatDuration(k.SessionTimeoutMin), "session_timeout_max": formatDuration(k.SessionTimeoutMax), "group_size_max": k.GroupSizeMax,
		"transaction_timeout_max": formatDuration(k.TransactionTimeoutMax), "transactional_id_expiration": formatDuration(k.TransactionalIDExpiration),
	}
}

func orNone(set bool, text string) any {
	if !set {
		return nil
	}
	return text
}

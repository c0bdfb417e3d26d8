package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/weirstream/weir/alerts"
	"github.com/weirstream/weir/alerts/webhook"
	"github.com/weirstream/weir/analytics"
	"github.com/weirstream/weir/analytics/duck"
	"github.com/weirstream/weir/analytics/history"
	"github.com/weirstream/weir/analytics/pgwire"
	"github.com/weirstream/weir/cep/engine"
	"github.com/weirstream/weir/cmd/config"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/sink"
	"github.com/weirstream/weir/log/broker"
	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/group"
	"github.com/weirstream/weir/log/vfs"
	"github.com/weirstream/weir/rules"
)

// Folders of the data directory.
const (
	logDir        = "log"
	checkpointDir = "checkpoints"
	sqlDir        = "sql"
)

func (n *Node) openLog(ctx context.Context) (err error) {
	c := n.cfg.Log
	scrub := c.ScrubRate
	if scrub == 0 {
		scrub = -1
	}
	n.log, err = commitlog.Open(ctx, filepath.Join(n.cfg.DataDir, logDir), commitlog.Options{
		NoSync: !c.Fsync, SegmentBytes: c.SegmentBytes, MaxBatchBytes: int(c.MaxMessageBytes), Retention: c.Retention, MinFreeBytes: c.MinFreeBytes,
		CheckpointBytes: c.CheckpointBytes, CheckpointEvery: c.CheckpointEvery, CompactEvery: c.CompactEvery, CompactBytes: c.CompactMemory,
		ScrubEvery: c.ScrubEvery, ScrubBytesPerSecond: scrub, ProducerExpiry: c.ProducerExpiry, HoldRetention: true,
		Registerer: n.registry, Logger: n.logger.With("part", "log"),
	})
	return err
}

func (n *Node) openBroker() (err error) {
	c := n.cfg.Kafka
	delay := c.InitialRebalanceDelay
	if delay == 0 {
		delay = -1
	}
	n.broker, err = broker.New(n.log, broker.Options{
		Advertised: c.Advertised, NoAutoCreate: !c.AutoCreateTopics, Partitions: int32(c.Partitions),
		MaxConnections: int(c.MaxConnections), MaxConnectionsPerAddress: int(c.MaxConnectionsPerAddress), IdleTimeout: c.IdleTimeout,
		MaxRequestBytes: int32(c.MaxRequestBytes), MaxFetchBytes: int32(c.MaxFetchBytes), InFlightBytes: c.RequestMemory, FetchBytes: c.FetchMemory,
		TransactionMaxTimeout: c.TransactionTimeoutMax, TransactionalIDExpiration: c.TransactionalIDExpiration,
		Groups: group.Config{MinSession: c.SessionTimeoutMin, MaxSession: c.SessionTimeoutMax, InitialDelay: delay, MaxMembers: int(c.GroupSizeMax), Retention: c.OffsetsRetention},
		LogDir: filepath.Join(n.cfg.DataDir, logDir), MayWrite: n.mayWrite, Transform: n.fromClients(), Registerer: n.registry, Logger: n.logger.With("part", "kafka"),
	})
	return err
}

// mayWrite keeps clients from what only Weir may do: beside the broker's own rule,
// to delete the topics of declared streams, or records of them.
func (n *Node) mayWrite(topic string, op broker.Operation) bool {
	return broker.MayWrite(topic, op) && !(op == broker.OpDelete && n.isStream(topic))
}

// sourcePartitions are the partitions of the streams' topics, which may have been made
// with another number than is declared.
func (n *Node) sourcePartitions(streams []*schema.Stream) (map[string]int32, error) {
	out := make(map[string]int32, len(streams))
	var err error
	for _, s := range streams {
		if out[s.Topic], err = n.partitions(s.Topic); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// openPrograms opens the catalogue of programs, and notes the one that is declared.
func (n *Node) openPrograms() (err error) {
	n.reloads = newReloadMetrics(n.registry)
	compile := func(set rules.Set) (*rules.Program, error) { return rules.Compile(set, n.catalog(n.streams())) }
	if n.programs, err = openPrograms(vfs.OS, n.cfg.DataDir, compile, n.logger.With("part", "programs")); err != nil {
		return err
	}
	uses, err := keyedUses(n.program.Load())
	if err != nil {
		return err
	}
	n.keyedUses.Store(&uses)
	return n.programs.declare(n.program.Load(), time.Now())
}

// earlier is a program that may have decided, for the engine.
func (n *Node) earlier(id string) (engine.Program, error) {
	p, err := n.programs.get(id)
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (n *Node) openEngine() error {
	sources, err := n.sourcePartitions(n.streams())
	if err != nil {
		return err
	}
	n.engine, err = engine.New(n.streams(), n.program.Load(), engine.Options{
		FS: vfs.OS, Dir: filepath.Join(n.cfg.DataDir, checkpointDir), Open: n.openSource, Sink: sink.NewLocal(n.log), TopicID: n.topicID, Tables: n.tables,
		OutputPartitions: map[string]int32{
			event.TopicDecisions: ownTopics[event.TopicDecisions], event.TopicAlerts: ownTopics[event.TopicAlerts], event.TopicDeadLetters: ownTopics[event.TopicDeadLetters],
		},
		SourcePartitions: sources, KeyedTopic: n.keyedTopic, Programs: n.earlier,
		CheckpointEvery: n.cfg.Engine.CheckpointEvery, Pin: n.pin, Registerer: n.registry, Logger: n.logger.With("part", "engine"),
	})
	if err == nil {
		n.log.BeginRetention()
	}
	return err
}

// pin keeps records from retention.
func (n *Node) pin(owner, topic string, partition int32, from int64) {
	t, ok := n.log.Topic(topic)
	if !ok {
		return
	}
	parts := t.Partitions()
	if int(partition) >= len(parts) {
		return
	}
	if from < 0 {
		parts[partition].Unpin(owner)
	} else {
		parts[partition].Pin(owner, from)
	}
}

// sqlOpenWait is how long queries wait for the SQL database before they are told that
// it is being opened. Usually it takes a fraction of a second; after a kill as long as
// DuckDB takes to read its write-ahead log.
const sqlOpenWait = 3 * time.Second

// runSQL opens the SQL database and serves PostgreSQL clients, who wait for it in the
// listener's queue. It takes longer than all the rest, and events do not need it.
func (n *Node) runSQL(ctx context.Context) error {
	began := time.Now()
	opened := make(chan error, 1)
	go func() { opened <- n.openSQL() }()
	err := n.tellUntil(ctx, opened)
	if err != nil {
		return err
	}
	close(n.sqlOpen)
	n.logger.Info("the SQL database is open", "part", "sql", "seconds", time.Since(began).Seconds())
	return n.pg.Serve(ctx, n.sqlListener)
}

// tellUntil is what opened ends with, which it waits for whatever happens: what is
// half open cannot be closed. Where it takes long, clients are told.
func (n *Node) tellUntil(ctx context.Context, opened <-chan error) error {
	select {
	case err := <-opened:
		return err
	case <-ctx.Done():
		return <-opened
	case <-time.After(sqlOpenWait):
	}
	n.logger.Warn("the SQL database takes long to open; queries are refused until then, events are not", "part", "sql")
	telling, enough := context.WithCancel(ctx)
	told := make(chan error, 1)
	go func() { told <- pgwire.TellStarting(telling, n.sqlListener.(*net.TCPListener)) }()
	err := <-opened
	enough()
	return errors.Join(err, <-told)
}

// runHistory fills the SQL database once it is open.
func (n *Node) runHistory(ctx context.Context) error {
	select {
	case <-n.sqlOpen:
		return n.history.Run(ctx)
	case <-ctx.Done():
		return nil
	}
}

func (n *Node) sqlIsOpen() bool {
	select {
	case <-n.sqlOpen:
		return true
	default:
		return false
	}
}

// awaitSQL waits until the SQL database is open; where that takes long, it says so in
// an *analytics.Error.
func (n *Node) awaitSQL(ctx context.Context) error {
	select {
	case <-n.sqlOpen:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(sqlOpenWait):
		return &analytics.Error{Code: "57P03", Message: "the SQL database is being opened", Hint: "try again in a moment; events are taken meanwhile"}
	}
}

// query answers a query, once the SQL database is open.
func (n *Node) query(ctx context.Context, text string, args ...any) (*analytics.Result, error) {
	if err := n.awaitSQL(ctx); err != nil {
		return nil, err
	}
	return n.queries.Query(ctx, text, args...)
}

// freshness is how far SQL has read each partition; nil until it reads.
func (n *Node) freshness() []history.Freshness {
	if !n.sqlIsOpen() {
		return nil
	}
	return n.history.Freshness()
}

func (n *Node) openSQL() (err error) {
	logger := n.logger.With("part", "sql")
	n.db, err = duck.Open(filepath.Join(n.cfg.DataDir, sqlDir, "weir.duckdb"), duck.Options{MemoryMax: n.cfg.SQL.MemoryMax, Logger: logger})
	if err != nil {
		return err
	}
	n.history, err = history.New(n.db, n.streams(), history.Options{
		Open: n.openSource, Partitions: n.partitions, HighWatermark: n.highWatermark, Damaged: n.damaged, Start: n.logStart, Tables: n.definitions(), Registerer: n.registry, Logger: logger,
	})
	if err != nil {
		return err
	}
	n.queries, err = analytics.New(n.db, analytics.Options{
		Timeout: n.cfg.SQL.QueryTimeout, Freshness: n.history.Freshness, Registerer: n.registry, Logger: logger,
	})
	if err != nil {
		return err
	}
	n.pg = pgwire.New(n.queries, pgwire.Options{Registerer: n.registry, Logger: logger})
	return nil
}

func (n *Node) openRouter() error {
	receivers, err := makeReceivers(n.cfg.Receivers)
	if err != nil {
		return err
	}
	n.router, err = alerts.New(receivers, alerts.Options{
		Sources: n.openSource, Partitions: n.partitions, HighWatermark: n.highWatermark, Sink: sink.NewLocal(n.log),
		Registerer: n.registry, Logger: n.logger.With("part", "alerts"),
	})
	return err
}

func makeReceivers(declared []config.Receiver) ([]alerts.Named, error) {
	out := make([]alerts.Named, 0, len(declared))
	for _, r := range declared {
		opts := webhook.Options{Timeout: r.Webhook.Timeout, Allow: r.Webhook.AllowCIDRs, MaxInFlight: r.MaxInFlight}
		for _, s := range r.Webhook.Secrets {
			opts.Secrets = append(opts.Secrets, s.Reveal())
		}
		hook, err := webhook.New(r.Webhook.URL, opts)
		if err != nil {
			return nil, fmt.Errorf("receiver %s: %w", r.Name, err)
		}
		out = append(out, alerts.Named{Name: r.Name, Receiver: hook, Match: r.Match, RetryFor: r.RetryFor, MaxInFlight: r.MaxInFlight})
	}
	return out, nil
}

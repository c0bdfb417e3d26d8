package node

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/weirstream/weir/alerts"
	"github.com/weirstream/weir/analytics"
	"github.com/weirstream/weir/analytics/duck"
	"github.com/weirstream/weir/analytics/history"
	"github.com/weirstream/weir/analytics/pgwire"
	"github.com/weirstream/weir/cep/engine"
	"github.com/weirstream/weir/cmd/config"
	"github.com/weirstream/weir/ingest/deadletter"
	"github.com/weirstream/weir/ingest/decode"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/httpin"
	"github.com/weirstream/weir/ingest/protect"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/source"
	"github.com/weirstream/weir/ingest/table"
	"github.com/weirstream/weir/log/broker"
	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/vfs"
	"github.com/weirstream/weir/rules"
)

// ownTopics are the topics that Weir writes, with their partitions.
var ownTopics = map[string]int32{
	event.TopicDecisions:   4,
	event.TopicAlerts:      4,
	event.TopicDeliveries:  1,
	event.TopicDeadLetters: 1,
	httpin.TopicRequests:   1,

	deadletter.TopicReplays: 1,
	table.TopicTables:       1,
	engine.TopicJournal:     1,
}

// ownRetention is how long the topics keep what they need not keep for ever, ms.
var ownRetention = map[string]string{httpin.TopicRequests: "172800000"} // twice what is looked back

// Options are what a node takes beside its configuration.
type Options struct {
	Version string       // shown by /v1/overview and weir_build_info
	Logger  *slog.Logger // slog.Default where nil
}

// Prepared is a configuration that was found good, rules included.
type Prepared struct {
	Config  *config.Config
	Streams []*schema.Stream // of the configuration, then those that were made over HTTP
	Rules   rules.Set
	Program *rules.Program
	tables  []loaded
	made    *made
}

// Prepare loads and compiles the rules of a configuration and checks what only the
// parts together can tell. Its errors are schema.Problems where a person's mistake
// is the cause.
func Prepare(cfg *config.Config) (*Prepared, error) {
	if info, err := os.Stat(cfg.DataDir); err == nil && !info.IsDir() {
		return nil, &schema.Problem{Field: "data_dir", Message: cfg.DataDir + " is a file: expected a directory, which is made where there is none"}
	}
	var set rules.Set
	var err error
	if cfg.RulesDir != "" {
		if set, err = rules.LoadDir(cfg.RulesDir); err != nil {
			return nil, err
		}
	}
	tables, problems := loadTables(cfg.Tables)
	made, err := loadMade(vfs.OS, cfg.DataDir)
	if err != nil {
		return nil, err
	}
	streams, wrong := made.declared(cfg, cfg.DataDir)
	problems = append(problems, wrong...)
	for _, s := range streams {
		if _, err := decode.New(s, nil, decode.Options{}); err != nil {
			p := s.Place
			p.Field, p.Message = "streams."+s.Schema.Stream, err.Error()
			problems = append(problems, &p)
		}
	}
	known, err := loadVersions(vfs.OS, cfg.DataDir)
	if err != nil {
		return nil, err
	}
	problems = append(problems, known.check(streams)...)
	problems = append(problems, unknownRules(cfg, set)...)
	if err := problems.ErrOrNil(); err != nil {
		return nil, err
	}
	p := &Prepared{Config: cfg, Streams: streams, Rules: set, tables: tables, made: made}
	p.Program, err = rules.Compile(set, p.Catalog())
	if err != nil {
		return nil, err
	}
	return p, nil
}

// unknownRules finds receivers that wait for rules which do not exist.
func unknownRules(cfg *config.Config, set rules.Set) (problems schema.Problems) {
	ids := make([]string, len(set))
	for i := range set {
		ids[i] = set[i].ID
	}
	for _, r := range cfg.Receivers {
		for _, id := range r.Match.Rules {
			if !slices.Contains(ids, id) {
				problems = append(problems, &schema.Problem{
					File: cfg.File, Field: "receivers." + r.Name + ".match.rule",
					Message: fmt.Sprintf("there is no rule %q", id), Hint: schema.Suggest(id, ids),
				})
			}
		}
	}
	return problems
}

// Node is a running appliance.
type Node struct {
	cfg      *config.Config
	opts     Options
	logger   *slog.Logger
	registry *prometheus.Registry
	started  time.Time

	log       *commitlog.Log
	subjects  *protect.Subjects // nil where nothing is encrypted
	protector atomic.Pointer[protect.Protector]
	headers   *protect.ClientHeaders
	broker    *broker.Server
	engine    *engine.Engine
	db        *duck.DB
	history   *history.History
	queries   *analytics.Engine
	pg        *pgwire.Server
	router    *alerts.Router
	tables    *table.Store
	declared  []loaded
	programs  *programs
	reloads   reloadMetrics

	keyedMaking sync.Mutex // held by who makes a keyed stream's topic
	ingest      *httpin.Handler
	replay      *deadletter.Replayer
	desk        *desk

	// What is declared, which requests change under changing.
	changing        sync.Mutex
	rules           rules.Set
	made            *made
	declaredStreams atomic.Pointer[[]*schema.Stream]
	program         atomic.Pointer[rules.Program]
	keyedUses       atomic.Pointer[map[string]keyedUse] // of program
	streamVersions  atomic.Pointer[versions]

	kafkaListener, httpListener, sqlListener net.Listener

	reloaded chan struct{} // has one where a program was declared
	ready    chan struct{}
	sqlOpen  chan struct{} // closed when db, history, queries and pg are there
	draining atomic.Bool
}

// New makes a node of a prepared configuration. It opens nothing yet.
func New(p *Prepared, o Options) *Node {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	n := &Node{cfg: p.Config, rules: p.Rules, made: p.made, declared: p.tables, opts: o, logger: o.Logger, registry: prometheus.NewRegistry(), ready: make(chan struct{}), reloaded: make(chan struct{}, 1), sqlOpen: make(chan struct{})}
	n.declaredStreams.Store(&p.Streams)
	n.program.Store(p.Program)
	return n
}

// Ready is closed when the node takes events and every listener accepts. Queries
// wait for the SQL database where that is still being opened.
func (n *Node) Ready() <-chan struct{} { return n.ready }

// KafkaAddr, HTTPAddr and SQLAddr are where the node listens, known once Ready.
func (n *Node) KafkaAddr() string { return n.kafkaListener.Addr().String() }

// HTTPAddr is where the console, the REST API and the metrics are.
func (n *Node) HTTPAddr() string { return n.httpListener.Addr().String() }

// SQLAddr is where PostgreSQL clients connect.
func (n *Node) SQLAddr() string { return n.sqlListener.Addr().String() }

// Run starts every part, waits until ctx is done or a part fails, then stops
// them in order. It returns nil after an orderly stop.
func (n *Node) Run(ctx context.Context) (err error) {
	n.started = time.Now()
	if err := n.listen(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.closeAll()) }()
	if err := n.open(ctx); err != nil {
		return err
	}
	return n.serve(ctx)
}

// listen binds the three addresses first: a taken port is the likeliest failure
// and the cheapest to find.
func (n *Node) listen() error {
	for _, l := range []struct {
		flag, addr string
		to         *net.Listener
	}{
		{"--kafka-addr", n.cfg.KafkaAddr, &n.kafkaListener},
		{"--http-addr", n.cfg.HTTPAddr, &n.httpListener},
		{"--sql-addr", n.cfg.SQLAddr, &n.sqlListener},
	} {
		lis, err := net.Listen("tcp", l.addr)
		if err != nil {
			return errors.Join(fmt.Errorf("%w (choose another address with %s)", err, l.flag), n.closeListeners())
		}
		*l.to = lis
	}
	return nil
}

func (n *Node) closeListeners() error {
	var errs []error
	for _, l := range []net.Listener{n.kafkaListener, n.httpListener, n.sqlListener} {
		if l == nil {
			continue
		}
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// open brings up what has state on disk, and the parts that read and write it.
func (n *Node) open(ctx context.Context) error {
	n.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo(n.opts.Version))
	if err := os.MkdirAll(n.cfg.DataDir, 0o750); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if err := n.openLog(ctx); err != nil {
		return err
	}
	if err := n.makeTopics(); err != nil {
		return err
	}
	for _, open := range []func() error{n.openVersions, n.openProtect, n.openBroker, n.openTables, n.openPrograms, n.openEngine, n.openRouter, n.openIngest} {
		if err := open(); err != nil {
			return err
		}
	}
	n.desk = newDesk(n)
	n.registry.MustRegister(newRuleMetrics(n))
	return nil
}

func (n *Node) makeTopics() error {
	want := make(map[string]int32, len(ownTopics)+len(n.streams()))
	for name, parts := range ownTopics {
		want[name] = parts
	}
	for _, s := range n.streams() {
		want[s.Topic] = s.Partitions
	}
	for _, t := range n.cfg.Tables {
		if t.Topic != "" {
			want[t.Topic] = 1
		}
	}
	var specs []commitlog.TopicSpec
	for name, parts := range want {
		if _, ok := n.log.Topic(name); ok {
			continue
		}
		spec := commitlog.TopicSpec{Name: name, Partitions: parts, Configs: map[string]string{"retention.ms": cmp.Or(ownRetention[name], "-1")}}
		if slices.ContainsFunc(n.cfg.Tables, func(t config.Table) bool { return t.Topic == name }) {
			spec.Configs["cleanup.policy"] = "compact"
		}
		specs = append(specs, spec)
	}
	if len(specs) == 0 {
		return nil
	}
	_, err := n.log.CreateTopics(specs)
	return err
}

// partitions is how many partitions a topic of the log has.
func (n *Node) partitions(topic string) (int32, error) {
	t, ok := n.log.Topic(topic)
	if !ok {
		return 0, fmt.Errorf("topic %s: %w", topic, commitlog.ErrUnknownTopic)
	}
	return int32(len(t.Partitions())), nil
}

// topicID tells a topic from another that had its name before.
func (n *Node) topicID(topic string) (string, error) {
	t, ok := n.log.Topic(topic)
	if !ok {
		return "", fmt.Errorf("topic %s: %w", topic, commitlog.ErrUnknownTopic)
	}
	id := t.ID()
	return hex.EncodeToString(id[:]), nil
}

// openSource is how every reader inside the node gets at a partition.
func (n *Node) openSource(_ context.Context, topic string, partition int32, from int64) (source.Source, error) {
	p, err := n.log.Partition(topic, partition)
	if err != nil {
		return nil, fmt.Errorf("%s[%d]: %w", topic, partition, err)
	}
	return source.NewPartition(p, source.Options{From: max(from, p.Start())}), nil
}

func (n *Node) highWatermark(topic string, partition int32) (int64, error) {
	p, err := n.log.Partition(topic, partition)
	if err != nil {
		return 0, err
	}
	return p.HighWatermark(), nil
}

// logStart is the first offset that the log has of a partition.
func (n *Node) logStart(topic string, partition int32) (int64, error) {
	p, err := n.log.Partition(topic, partition)
	if err != nil {
		return 0, err
	}
	return p.Start(), nil
}

// damaged tells that damage took a partition out of service.
func (n *Node) damaged(topic string, partition int32) bool {
	p, err := n.log.Partition(topic, partition)
	var damage *commitlog.CorruptError
	return err == nil && errors.As(p.Err(), &damage)
}

// troublesMax bounds the damaged places that are named.
const troublesMax = 20

// troubles are what keeps parts of the node from their work, one line each.
func (n *Node) troubles() []string {
	lines := []string{}
	for _, t := range n.log.Topics() {
		for _, p := range t.Partitions() {
			if err := p.Err(); err != nil && !errors.Is(err, commitlog.ErrClosed) && !errors.Is(err, commitlog.ErrDeleted) {
				lines = append(lines, fmt.Sprintf("%s[%d]: %v", p.Topic(), p.Index(), err))
			}
		}
	}
	for _, d := range n.log.Damage() {
		if len(lines) >= troublesMax {
			break // the log names them all
		}
		if !d.Offline { // the others are their partition's error
			lines = append(lines, d.Error())
		}
	}
	decided := map[string]int32{} // partitions by topic
	for _, sh := range n.engine.Status() {
		decided[sh.Topic] = max(decided[sh.Topic], sh.Partition+1)
		if sh.Err != "" {
			lines = append(lines, fmt.Sprintf("stream %s, partition %d is not decided from offset %d on: %s", sh.Stream, sh.Partition, sh.Cursor, sh.Err))
		}
		if sh.WarmingErr != "" {
			lines = append(lines, fmt.Sprintf("stream %s, partition %d: windows of new rules could not be made, which is tried again: %s", sh.Stream, sh.Partition, sh.WarmingErr))
		}
	}
	for _, s := range n.streams() {
		if have, err := n.partitions(s.Topic); err == nil && have > decided[s.Topic] {
			lines = append(lines, fmt.Sprintf("stream %s: its topic %s has grown to %d partitions; the new ones are decided and in SQL after a restart", s.Schema.Stream, s.Topic, have))
		}
	}
	lines = append(lines, n.programs.troubles()...)
	lines = append(lines, n.heldBack(time.Now())...)
	return lines
}

// part is one long-running piece: run returns when its context is done, after
// having put its affairs in order.
type part struct {
	name string
	run  func(context.Context) error
}

// serve runs the parts, each with its own cancellation so that they can be
// stopped one after the other.
func (n *Node) serve(ctx context.Context) error {
	web := n.webServer()
	parts := []part{ // in the order in which they are stopped
		{"http", func(ctx context.Context) error { return serveHTTP(ctx, web, n.httpListener) }},
		{"kafka", func(ctx context.Context) error { return n.broker.Serve(ctx, n.kafkaListener) }},
		{"tables", n.followTables},
		{"engine", n.engine.Run},
		{"router", n.router.Run},
		{"desk", n.desk.run},
		{"tidy", n.tidy},
		{"sql", n.runSQL},
		{"history", n.runHistory},
	}
	type end struct {
		name string
		err  error
	}
	ends := make(chan end, len(parts))
	cancels := make([]context.CancelFunc, len(parts))
	done := make([]chan struct{}, len(parts))
	for i, p := range parts {
		// Not derived from ctx: the order of stopping is decided below.
		pctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		cancels[i], done[i] = cancel, make(chan struct{})
		go func() {
			defer close(done[i])
			ends <- end{p.name, p.run(pctx)}
		}()
	}
	close(n.ready)
	n.logger.Info("ready", "kafka", n.KafkaAddr(), "http", n.HTTPAddr(), "sql", n.SQLAddr(), "streams", len(n.streams()), "program", n.program.Load().ID())

	var failed error
	select {
	case <-ctx.Done():
		n.logger.Info("stopping: draining and writing checkpoints")
	case e := <-ends:
		failed = partError(e.name, e.err)
	}
	n.draining.Store(true)
	for i := range parts {
		cancels[i]()
		<-done[i]
	}
	close(ends)
	for e := range ends {
		if e.err != nil && !errors.Is(e.err, context.Canceled) {
			failed = errors.Join(failed, partError(e.name, e.err))
		}
	}
	return failed
}

func partError(name string, err error) error {
	if err == nil {
		return fmt.Errorf("%s stopped by itself", name)
	}
	return fmt.Errorf("%s: %w", name, err)
}

// closeAll releases what open took, newest first.
func (n *Node) closeAll() error {
	var errs []error
	errs = append(errs, n.closeListeners())
	if n.db != nil {
		errs = append(errs, n.db.Close())
	}
	errs = append(errs, n.closeSubjects())
	if n.log != nil {
		errs = append(errs, n.log.Close())
	}
	return errors.Join(errs...)
}

// stopTimeout bounds how long open HTTP requests may take at the stop.
const stopTimeout = 10 * time.Second

func serveHTTP(ctx context.Context, srv *http.Server, lis net.Listener) error {
	var wg sync.WaitGroup
	wg.Go(func() {
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if srv.Shutdown(stop) != nil {
			srv.Close() // what is still open after the time-out is cut
		}
	})
	err := srv.Serve(lis)
	if ctx.Err() != nil {
		wg.Wait()
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func buildInfo(version string) prometheus.Collector {
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "weir_build_info", Help: "Always 1; the label tells the version.", ConstLabels: prometheus.Labels{"version": version},
	})
	g.Set(1)
	return g
}

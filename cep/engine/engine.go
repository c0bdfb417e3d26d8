package engine

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/sink"
	"github.com/weirstream/weir/ingest/source"
	"github.com/weirstream/weir/ingest/table"
	"github.com/weirstream/weir/log/vfs"
)

// Outputs is where shards write, and how they find what they wrote.
type Outputs interface {
	sink.Sink
	// End is the offset that the next record of the partition gets.
	End(topic string, partition int32) (int64, error)
}

// Options of an Engine. FS, Dir, Open and Sink are required.
type Options struct {
	// FS and Dir are where checkpoints are kept.
	FS  vfs.FS
	Dir string
	// Open gives a source of a partition from an offset on, or from the first
	// one after it. It is used for inputs, and for outputs after a restart.
	Open func(ctx context.Context, topic string, partition int32, from int64) (source.Source, error)
	// Sink takes the outputs.
	Sink Outputs
	// TopicID tells a topic from another that had its name before. Nil: they cannot
	// be told apart.
	TopicID func(topic string) (string, error)
	// OutputPartitions is how many partitions the output topics have; 1 where
	// a topic is not named.
	OutputPartitions map[string]int32
	// SourcePartitions is how many partitions the streams' topics have; what the
	// stream declares where a topic is not named.
	SourcePartitions map[string]int32
	// KeyedTopic makes the topic of a keyed stream, with so many partitions, where it is
	// not there, and tells how many it has. Programs with keyed streams need it.
	KeyedTopic func(topic string, partitions int32) (int32, error)
	// KeyedWait is how long the next events of a source of a keyed stream are waited for
	// where events come faster than their time, as while a file is loaded: 200 ms where
	// 0, not at all below 0.
	KeyedWait time.Duration
	// CheckpointEvery is the time between checkpoints; 5 s where 0.
	CheckpointEvery time.Duration
	// BatchRows is how many events are processed at once; 1024 where 0.
	BatchRows int
	// Tables are the dimension tables and lists; nil: there are none. Journal says
	// from when on a shard uses a change of them, PinChanges is for JournalPin.
	Tables     *table.Store
	Journal    JournalMode
	PinChanges int64
	// Programs are those that may have decided, by their ID: what was decided by one that
	// is not the declared one, and is done again, as after a crash or in a replay, is done
	// by the one that the journal names. Nil: the declared one does all, and a replay is of
	// one program.
	Programs func(id string) (Program, error)
	// Now is the wall clock by which a partition is idle; time.Now where nil.
	Now func() time.Time
	// Pin keeps records of a partition from an offset on from retention, for an owner
	// who pins one offset of each; -1 takes the pin back. Nil: nobody keeps them. New
	// pins what the checkpoints on the disk need before it returns.
	Pin        func(owner, topic string, partition int32, from int64)
	Registerer prometheus.Registerer // nil: no metrics
	Logger     *slog.Logger          // nil: slog.Default

	replayed func(topic string, partition int32) (from, to int64) // of Replay; nil: it is none
	goesOn   bool                                                 // another engine replays what comes behind that
}

const (
	defaultCheckpointEvery = 5 * time.Second
	defaultBatchRows       = 1024
	rawMax                 = 64 << 10 // bytes of a record in a dead letter
	backoffMin             = 100 * time.Millisecond
	backoffMax             = 10 * time.Second
	stopTimeout            = 30 * time.Second // for the last checkpoint
	never                  = 100 * 365 * 24 * time.Hour
)

// Engine runs a program over the partitions of streams.
type Engine struct {
	opts    Options
	logger  *slog.Logger
	metrics *metrics

	declaring chan struct{}   // holds what is put in by who changes what runs
	ctx       context.Context // of Run; nil before it. Under declaring

	regroupings []*regrouping // under declaring
	declared    declaration   // under declaring

	mu     sync.Mutex
	groups []*group // changed under declaring and mu, read under either
}

// New makes an engine. It opens nothing: Run does. Two streams of one topic are
// an error, as their decisions would have the same identities.
func New(streams []*schema.Stream, prog Program, o Options) (*Engine, error) {
	if o.FS == nil || o.Open == nil || o.Sink == nil {
		return nil, errors.New("engine: Options need FS, Open and Sink")
	}
	if o.CheckpointEvery <= 0 {
		o.CheckpointEvery = defaultCheckpointEvery
	}
	if o.BatchRows <= 0 {
		o.BatchRows = defaultBatchRows
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.KeyedWait == 0 {
		o.KeyedWait = defaultKeyedWait
	}
	o.BatchRows = min(o.BatchRows, parkedRows) // gatherRows hangs on it
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	e := &Engine{opts: o, logger: o.Logger, declaring: make(chan struct{}, 1)}
	var err error
	if e.metrics, err = newMetrics(o.Registerer); err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	if e.groups, err = e.groupsOf(streams, prog, o.SourcePartitions); err != nil {
		return nil, err
	}
	e.declared = declaration{streams, prog, o.SourcePartitions}
	for _, g := range e.groups {
		g.pin()
	}
	if o.Registerer != nil {
		if err := o.Registerer.Register(newOperatorMetrics(e)); err != nil {
			return nil, fmt.Errorf("engine: %w", err)
		}
	}
	return e, nil
}

// Run runs all shards until ctx is done. Each then finishes its batch and writes
// a checkpoint. The error tells which of these last checkpoints failed; what they
// would have saved is computed again at the next start. Without a shard it waits.
func (e *Engine) Run(ctx context.Context) error {
	e.declaring <- struct{}{}
	e.ctx = ctx
	e.begin(ctx)
	<-e.declaring
	<-ctx.Done()
	e.declaring <- struct{}{} // no shard is started behind this
	defer func() { <-e.declaring }()
	e.endRegroupings()
	errs := make([]error, len(e.groups))
	for i, g := range e.groups {
		errs[i] = g.stop()
	}
	return errors.Join(errs...)
}

// Declare makes the engine run prog over streams from now on, with as many
// partitions as partitions says where it names a topic. A shard whose stream and
// program are the ones of before, the same pointer and ID, goes on, and so does one that
// another program is for: it changes to that as soon as its windows are warm, which Status
// tells. Where the stream is another one, or a shard comes or goes among those that share
// keyed streams, they write a checkpoint and end, and what begins in their place starts
// from that, as after a restart of the process. Declare returns when the new shards have
// been started.
func (e *Engine) Declare(streams []*schema.Stream, prog Program, partitions map[string]int32) error {
	e.declaring <- struct{}{}
	defer func() { <-e.declaring }()
	return e.declare(declaration{streams, prog, partitions})
}

// declaration is what Declare was given.
type declaration struct {
	streams    []*schema.Stream
	program    Program
	partitions map[string]int32
}

func (e *Engine) declare(d declaration) error {
	next, err := e.groupsOf(d.streams, d.program, d.partitions)
	if err != nil {
		return err
	}
	e.declared = d
	e.endRegroupings()
	var ending []*group
	for _, old := range e.groups {
		if i := slices.IndexFunc(next, old.same); i >= 0 {
			next[i] = old
		} else if i := slices.IndexFunc(next, old.changes); i >= 0 {
			old.shards[0].change(d.program)
			next[i] = old
		} else {
			ending = append(ending, old)
		}
	}
	left := ending
	ending = nil
	for len(left) > 0 {
		from, to := related(left[0], left, next)
		left = slices.DeleteFunc(left, func(g *group) bool { return slices.Contains(from, g) })
		if e.ctx == nil || !sameShards(from, to) {
			ending = append(ending, from...)
			continue
		}
		next = append(slices.DeleteFunc(next, func(g *group) bool { return slices.Contains(to, g) }), from...)
		e.regroup(&regrouping{engine: e, declaration: d, groups: from})
	}
	for _, g := range ending {
		if g.cancel != nil {
			g.cancel()
		}
	}
	for _, g := range ending {
		if err := g.stop(); err != nil {
			e.logger.Error("the last checkpoint of a shard failed; what it would have saved is computed again", "err", err)
		}
		for _, s := range g.shards {
			e.succeed(s, d.streams, next)
			s.unpin()
		}
		e.unpinKeyed(g.topics...)
	}
	for _, g := range next {
		if g.ended == nil { // else it runs
			g.pin()
		}
	}
	e.mu.Lock()
	e.groups = next
	e.mu.Unlock()
	for _, g := range next {
		if e.ctx != nil && e.ctx.Err() == nil {
			g.start(e.ctx)
		}
	}
	return nil
}

// succeed hands what an ended shard has counted to the one in its place, or forgets
// the stream where it is no longer declared.
func (e *Engine) succeed(s *shard, streams []*schema.Stream, next []*group) {
	if !slices.ContainsFunc(streams, func(n *schema.Stream) bool { return n.Schema.Stream == s.stream.Schema.Stream }) {
		e.metrics.forget(s.stream.Schema.Stream)
	}
	for n := range shardsIn(next) {
		if n.stream.Schema.Stream == s.stream.Schema.Stream && n.partition == s.partition {
			n.before = s.spent()
		}
	}
}

// running are the groups that run now.
func (e *Engine) running() []*group {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.groups
}

// shards are those that run now.
func (e *Engine) shards() []*shard {
	return slices.Collect(shardsIn(e.running()))
}

func shardsIn(groups []*group) iter.Seq[*shard] {
	return func(yield func(*shard) bool) {
		for _, g := range groups {
			for _, s := range g.shards {
				if !yield(s) {
					return
				}
			}
		}
	}
}

// ShardStatus is where a shard stands.
type ShardStatus struct {
	Stream        string
	Topic         string
	Partition     int32
	Cursor        int64      // of the next record to decide
	HighWatermark int64      // of the source partition when it was last read
	Watermark     event.Time // event time; MinTime before the first event
	Events        int64      // since the beginning of the log, as the counts below
	Decisions     int64
	Alerts        int64
	Late          int64
	DeadLetters   int64
	Changes       int64  // of weir.tables that are in force: those before this offset
	Program       string // that decides
	Warming       string // a program that is declared and whose new windows are made from the log; else empty
	Warmed        int64  // how far the log was read for them, on average of those who read it: done at Cursor
	WarmingErr    string // why they could not be made, the last time: it is tried again; else empty
	Restarts      int64  // since the process began
	Err           string // why the shard is not running, empty where it is
}

// WarmingRules are the rules, by their IDs, whose windows are made from the log, of the
// program that Status calls Warming. It may be called at any time from any goroutine.
func (e *Engine) WarmingRules() (out []string) {
	for _, s := range e.shards() {
		s.mu.Lock()
		out = append(out, s.waiting...)
		s.mu.Unlock()
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// KeyedStatus is where the shards of keyed streams stand. It may be called at any time
// from any goroutine.
func (e *Engine) KeyedStatus() (out []KeyedStatus) {
	for _, g := range e.running() {
		for _, k := range g.keyedShards() {
			k.mu.Lock()
			out = append(out, k.status)
			k.mu.Unlock()
		}
	}
	return out
}

// Status is where all shards stand. It may be called at any time from any
// goroutine.
func (e *Engine) Status() []ShardStatus {
	shards := e.shards()
	out := make([]ShardStatus, len(shards))
	for i, s := range shards {
		s.mu.Lock()
		out[i] = s.status
		s.mu.Unlock()
	}
	return out
}

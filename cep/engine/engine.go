package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	// CheckpointEvery is the time between checkpoints; 5 s where 0.
	CheckpointEvery time.Duration
	// BatchRows is how many events are processed at once; 1024 where 0.
	BatchRows int
	// Tables are the dimension tables and lists; nil: there are none. Journal says
	// from when on a shard uses a change of them, PinChanges is for JournalPin.
	Tables     *table.Store
	Journal    JournalMode
	PinChanges int64
	Registerer prometheus.Registerer // nil: no metrics
	Logger     *slog.Logger          // nil: slog.Default
}

const (
	defaultCheckpointEvery = 5 * time.Second
	defaultBatchRows       = 1024
	rawMax                 = 64 << 10 // bytes of a record in a dead letter
	backoffMin             = 100 * time.Millisecond
	backoffMax             = 10 * time.Second
	stopTimeout            = 30 * time.Second // for the last checkpoint
)

// Engine runs a program over the partitions of streams.
type Engine struct {
	program Program
	opts    Options
	logger  *slog.Logger
	shards  []*shard
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
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	e := &Engine{program: prog, opts: o, logger: o.Logger}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	topics := map[string]string{}
	for _, s := range streams {
		if other, taken := topics[s.Topic]; taken {
			return nil, fmt.Errorf("engine: the streams %s and %s read the same topic %s; one stream reads a topic", other, s.Schema.Stream, s.Topic)
		}
		topics[s.Topic] = s.Schema.Stream
		n := s.Partitions
		if p, ok := o.SourcePartitions[s.Topic]; ok {
			n = p
		}
		for p := range n {
			e.shards = append(e.shards, newShard(e, s, p, m))
		}
	}
	return e, nil
}

// Run runs all shards until ctx is done. Each then finishes its batch and writes
// a checkpoint. The error tells which of these last checkpoints failed; what they
// would have saved is computed again at the next start. Without a shard it waits.
func (e *Engine) Run(ctx context.Context) error {
	if len(e.shards) == 0 {
		<-ctx.Done()
		return nil
	}
	var wg sync.WaitGroup
	errs := make([]error, len(e.shards))
	for i, s := range e.shards {
		wg.Go(func() { errs[i] = s.supervise(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
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
	Restarts      int64  // since the process began
	Err           string // why the shard is not running, empty where it is
}

// Status is where all shards stand. It may be called at any time from any
// goroutine.
func (e *Engine) Status() []ShardStatus {
	out := make([]ShardStatus, len(e.shards))
	for i, s := range e.shards {
		s.mu.Lock()
		out[i] = s.status
		s.mu.Unlock()
	}
	return out
}

package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"
	"unicode/utf16"

	"github.com/twmb/franz-go/pkg/kerr"
	"golang.org/x/sync/errgroup"

	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/record"
)

// The topics in which the coordinators keep their state, with Kafka's names and
// formats, so that Kafka's tools can read them.
const (
	offsetsTopic      = "__consumer_offsets"
	transactionsTopic = "__transaction_state"
	// statePartitions is the number of partitions of a state topic that is made
	// now; one that is there keeps its own.
	statePartitions = 16
	// loadWorkers is how many partitions of a state topic are read at once, and
	// loadBytes how much of each at a time.
	loadWorkers = 4
	loadBytes   = 1 << 20
)

// internalTopic reports whether a topic is a coordinator's, which no client may
// write, make, grow or delete, and which Metadata calls internal.
func internalTopic(name string) bool { return name == offsetsTopic || name == transactionsTopic }

// stateTopic is a compacted topic of the commit log that holds a coordinator's
// state: the last value of each key counts, a null value means that there is none.
// It is made when a client first asks for its coordinator, or something is first
// appended; until then it costs nothing.
//
// What was acknowledged is found again: append gives records their place in the
// partition's order, and wait returns when they are durable. Many appends, of many
// groups, share one fsync. Each partition is ready once load has read it; before
// that, ready says COORDINATOR_LOAD_IN_PROGRESS.
type stateTopic struct {
	log      *commitlog.Log
	name     string
	logger   *slog.Logger
	builders sync.Pool // of *record.Builder
	// before are the partitions that there were when the coordinator began: what is
	// to be read. What is made later it has written itself.
	before []*commitlog.Partition

	mu    sync.Mutex
	topic *commitlog.Topic // nil: not made yet
	state []error          // of each partition; nil: ready
	moved chan struct{}    // closed when state changes; nil: nobody waits
}

// replayer takes what load reads. Partitions are read by several goroutines, each
// in order by one.
type replayer interface {
	// replay is given each record with the header of its batch, which says whether
	// it belongs to a transaction and to whose. Key and value are its own only
	// during the call.
	replay(partition int32, h *record.BatchHeader, r *record.Record)
	// replayMarker is given the marker that ends the transaction of h's producer.
	replayMarker(partition int32, h *record.BatchHeader, commit bool)
	// replayed is told that a partition was read to its end, just before it is
	// ready.
	replayed(partition int32)
}

// keyValue is one record of a state topic. A nil value removes the key.
type keyValue struct{ key, value []byte }

// newStateTopic is the state topic of that name, with what the log has of it.
func newStateTopic(l *commitlog.Log, name string, logger *slog.Logger) *stateTopic {
	t := &stateTopic{log: l, name: name, logger: logger}
	t.builders.New = func() any { return new(record.Builder) }
	if topic, ok := l.Topic(name); ok {
		t.topic, t.before = topic, topic.Partitions()
		t.state = make([]error, len(t.before))
		for i := range t.state {
			t.state[i] = kerr.CoordinatorLoadInProgress
		}
	}
	return t
}

// partition is where the state of a group or a transactional id is kept, by the
// rule that Kafka and its tools use.
func (t *stateTopic) partition(id string) int32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := int32(statePartitions)
	if t.topic != nil {
		n = int32(len(t.state))
	}
	return positiveHash(id) % n
}

// positiveHash is the absolute value of Java's String.hashCode.
func positiveHash(s string) int32 {
	var h int32
	for _, unit := range utf16.Encode([]rune(s)) {
		h = 31*h + int32(unit)
	}
	if h < 0 {
		h = max(0, -h) // the least number has no positive
	}
	return h
}

// ready is nil where a partition's state is known: COORDINATOR_LOAD_IN_PROGRESS
// before, COORDINATOR_NOT_AVAILABLE where it cannot be read.
func (t *stateTopic) ready(partition int32) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.topic == nil {
		return nil
	}
	return t.state[partition]
}

// awaitLoad returns when a partition was read, or could not be.
func (t *stateTopic) awaitLoad(ctx context.Context, partition int32) error {
	for {
		t.mu.Lock()
		if t.topic == nil || !errors.Is(t.state[partition], kerr.CoordinatorLoadInProgress) {
			t.mu.Unlock()
			return nil
		}
		if t.moved == nil {
			t.moved = make(chan struct{})
		}
		moved := t.moved
		t.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// allReady is nil where the state of every partition is known, else as ready.
func (t *stateTopic) allReady() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, err := range t.state {
		if err != nil {
			return err
		}
	}
	return nil
}

// made reports whether the topic is there.
func (t *stateTopic) made() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.topic != nil
}

// load reads every partition that there was when the coordinator began, to its high
// watermark, which at this time is its end. A partition that cannot be read is out
// of service, and the log says why.
func (t *stateTopic) load(ctx context.Context, to replayer) {
	if len(t.before) == 0 {
		return
	}
	began := time.Now()
	var group errgroup.Group
	group.SetLimit(loadWorkers)
	for _, p := range t.before {
		group.Go(func() error {
			err := t.loadPartition(ctx, p, to)
			switch {
			case ctx.Err() != nil:
				return nil // stays as it is
			case err != nil:
				t.logger.Error("coordinator's state not readable; what is kept there is out of service", "topic", t.name, "partition", p.Index(), "err", err)
				err = kerr.CoordinatorNotAvailable
			default:
				to.replayed(p.Index())
			}
			t.mu.Lock()
			defer t.mu.Unlock()
			t.state[p.Index()] = err
			if t.moved != nil {
				close(t.moved)
				t.moved = nil
			}
			return nil
		})
	}
	_ = group.Wait() // each partition keeps its own error
	t.logger.Debug("coordinator's state loaded", "topic", t.name, "seconds", time.Since(began).Seconds())
}

func (t *stateTopic) loadPartition(ctx context.Context, p *commitlog.Partition, to replayer) error {
	if err := p.Err(); err != nil {
		return err
	}
	cursor := p.NewCursor(p.Start())
	r := record.NewReader(record.Options{SkipCRC: true})
	var records []record.Record
	for ctx.Err() == nil {
		run, err := p.Read(cursor, loadBytes)
		if len(run) == 0 || err != nil {
			return err
		}
		for len(run) > 0 {
			h, err := record.ParseHeader(run)
			if err != nil {
				return err
			}
			batch := run[:h.Size()]
			run = run[h.Size():]
			if h.Control() {
				if m, err := record.ParseMarker(batch); err == nil {
					to.replayMarker(p.Index(), &h, m.Commit)
				}
				continue
			}
			r.Reset(batch)
			if records, err = r.ReadBatch(records[:0]); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			for i := range records {
				to.replay(p.Index(), &h, &records[i])
			}
		}
	}
	return ctx.Err()
}

// ensure makes the topic where it is not there.
func (t *stateTopic) ensure() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.topic != nil {
		return nil
	}
	topic, err := t.log.CreateTopic(commitlog.TopicSpec{Name: t.name, Partitions: statePartitions, Configs: map[string]string{
		"cleanup.policy": "compact", "segment.bytes": "104857600",
		"max.message.bytes": "16777216", // a large group's state is one batch, however small those of clients must be
	}})
	if err != nil {
		return fmt.Errorf("make topic %s: %w", t.name, err)
	}
	t.topic, t.state = topic, make([]error, statePartitions)
	t.logger.Info("topic made for a coordinator's state", "topic", t.name, "partitions", statePartitions)
	return nil
}

// at is a partition of the topic, which is made where it is not there.
func (t *stateTopic) at(partition int32) (*commitlog.Partition, error) {
	if err := t.ensure(); err != nil {
		return nil, err
	}
	p, ok := t.topic.Partition(partition)
	if !ok {
		return nil, fmt.Errorf("%w: topic %s partition %d", commitlog.ErrUnknownPartition, t.name, partition)
	}
	return p, nil
}

// stored is a place in a state topic: what was appended there and before is
// durable once wait returns. The zero value is durable.
type stored struct {
	p      *commitlog.Partition
	offset int64
}

// wait returns when s is durable. An error other than ctx's means that it will not
// be while this process lives.
func (s stored) wait(ctx context.Context) error {
	if s.durable() {
		return nil
	}
	return s.p.Wait(ctx, s.offset)
}

func (s stored) durable() bool { return s.p == nil || s.p.HighWatermark() > s.offset }

// append accepts records as one batch into a partition and returns without waiting
// for the disk: order appends of the same keys by calling it under the lock that
// guards them, and wait outside of it. After an error nothing was appended. o is
// empty, or says whose transaction the records belong to.
func (t *stateTopic) append(ctx context.Context, partition int32, o record.BatchOptions, now time.Time, records ...keyValue) (stored, error) {
	if len(records) == 0 {
		return stored{}, nil
	}
	p, err := t.at(partition)
	if err != nil {
		return stored{}, err
	}
	b := t.builders.Get().(*record.Builder)
	defer t.builders.Put(b)
	b.Reset(o)
	for _, kv := range records {
		b.Append(now.UnixMilli(), kv.key, kv.value, nil)
	}
	batch, err := b.Build()
	if err != nil {
		return stored{}, err
	}
	base, err := p.AppendUnsequenced(ctx, batch, 0)
	if err != nil {
		return stored{}, err
	}
	return stored{p, base + int64(len(records)) - 1}, nil
}

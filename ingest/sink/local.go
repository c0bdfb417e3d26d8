package sink

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"

	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/record"
)

// MaxBatchBytes is the size above which the records of one Append are split into
// several batches.
const MaxBatchBytes = 1 << 20

// ErrInterleaved is returned where another writer of the partition came between
// the batches of an Append that had to be split. The records are in the log.
var ErrInterleaved = errors.New("another writer came between the batches of one append")

// Local writes to the local log. It implements Sink and is safe for use by
// several goroutines.
type Local struct {
	log      *commitlog.Log
	builders sync.Pool // of *record.Builder
	// An Append that is split holds its partition's lock, so that its offsets are
	// dense. Partitions may share a lock.
	locks [64]sync.Mutex
	seed  maphash.Seed
}

// NewLocal makes a Sink that writes to l.
func NewLocal(l *commitlog.Log) *Local {
	return &Local{log: l, builders: sync.Pool{New: func() any { return new(record.Builder) }}, seed: maphash.MakeSeed()}
}

// Append implements Sink: one uncompressed batch, accepted but not yet durable. It
// is split where it is larger than MaxBatchBytes. Errors: those of
// commitlog.Partition.Append (ErrUnknownTopic, ErrUnknownPartition, ErrDiskFull,
// ...), ErrInterleaved.
func (s *Local) Append(ctx context.Context, topic string, partition int32, recs []Record) (base int64, err error) {
	p, err := s.log.Partition(topic, partition)
	if err != nil {
		return 0, err
	}
	if len(recs) == 0 {
		return p.End(), nil
	}
	b := s.builders.Get().(*record.Builder)
	defer s.builders.Put(b)
	n := build(b, recs)
	lock := s.lock(topic, partition)
	lock.Lock()
	defer lock.Unlock()
	if base, err = s.write(ctx, p, b); err != nil {
		return 0, err
	}
	for next := base + int64(n); n < len(recs); {
		m := build(b, recs[n:])
		at, err := s.write(ctx, p, b)
		if err != nil {
			return 0, fmt.Errorf("after %d of %d records: %w", n, len(recs), err)
		}
		if at != next {
			return 0, fmt.Errorf("%s partition %d: %w: offset %d follows %d", topic, partition, ErrInterleaved, at, next-1)
		}
		n, next = n+m, next+int64(m)
	}
	return base, nil
}

// AppendBatch appends one record batch as it is and returns the offset of its
// first record. It is accepted, not yet durable, and not retained. Errors: those of
// commitlog.Partition.Append.
func (s *Local) AppendBatch(ctx context.Context, topic string, partition int32, batch []byte) (base int64, err error) {
	p, err := s.log.Partition(topic, partition)
	if err != nil {
		return 0, err
	}
	lock := s.lock(topic, partition) // not between the batches of a split Append
	lock.Lock()
	defer lock.Unlock()
	return p.Append(ctx, batch, 0)
}

// build puts as many of recs into b as make one batch, at least one, and returns
// how many.
func build(b *record.Builder, recs []Record) int {
	b.Reset(record.BatchOptions{})
	for i := range recs {
		r := &recs[i]
		if i > 0 && b.Len()+recordSize(r) > MaxBatchBytes {
			return i
		}
		b.Append(r.Timestamp, r.Key, r.Value, r.Headers)
	}
	return len(recs)
}

// recordSize is at least the size of r in a batch, in bytes.
func recordSize(r *Record) int {
	const lengths = 32 // of the record, its key and value, and its deltas
	n := lengths + len(r.Key) + len(r.Value)
	for i := range r.Headers {
		n += 10 + len(r.Headers[i].Key) + len(r.Headers[i].Value)
	}
	return n
}

func (s *Local) write(ctx context.Context, p *commitlog.Partition, b *record.Builder) (int64, error) {
	batch, err := b.Build()
	if err != nil {
		return 0, fmt.Errorf("%s partition %d: %w", p.Topic(), p.Index(), err)
	}
	return p.Append(ctx, batch, 0)
}

func (s *Local) lock(topic string, partition int32) *sync.Mutex {
	h := maphash.String(s.seed, topic) + uint64(partition)
	return &s.locks[h%uint64(len(s.locks))]
}

// Durable implements Sink. Errors: those of commitlog.Partition.Wait.
func (s *Local) Durable(ctx context.Context, topic string, partition int32, offset int64) error {
	p, err := s.log.Partition(topic, partition)
	if err != nil {
		return err
	}
	return p.Wait(ctx, offset)
}

// End is the offset that the partition's next record will get.
func (s *Local) End(topic string, partition int32) (int64, error) {
	p, err := s.log.Partition(topic, partition)
	if err != nil {
		return 0, err
	}
	return p.End(), nil
}

// Partitions is the number of partitions of a topic. Errors:
// commitlog.ErrUnknownTopic.
func (s *Local) Partitions(topic string) (int32, error) {
	t, ok := s.log.Topic(topic)
	if !ok {
		return 0, fmt.Errorf("%w %q", commitlog.ErrUnknownTopic, topic)
	}
	return int32(len(t.Partitions())), nil
}

package loader

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/weirstream/weir/log/record"
)

const (
	// BatchBytes is the size at which a batch is sent, before compression. With
	// many partitions batches are smaller, so that all that are being filled stay
	// within stagedBytes; it depends on nothing else (invariant 3).
	BatchBytes  = 1 << 20
	stagedBytes = 64 << 20
	minBatch    = 16 << 10
)

// batchBytes is the size of the batches of a load into that many partitions.
func batchBytes(partitions int) int {
	return max(minBatch, min(BatchBytes, stagedBytes/partitions))
}

// staged is the rows of a batch to be.
type staged struct {
	data []byte // keys and values, one after the other
	rows []stagedRow
	last int64 // row
	// columns are those of the file, where the rows are dead letters; see
	// HeaderColumns.
	columns []byte
}

type stagedRow struct {
	time       int64
	key, value int32 // lengths; key -1: none
}

func (s *staged) add(time int64, key, value []byte, line int64) {
	row := stagedRow{time: time, key: -1, value: int32(len(value))}
	if key != nil {
		row.key = int32(len(key))
	}
	s.data = append(append(s.data, key...), value...)
	s.rows = append(s.rows, row)
	s.last = line
}

// size is about what the batch will have before compression.
func (s *staged) size() int { return len(s.data) + 12*len(s.rows) }

func (s *staged) reset() { s.data, s.rows, s.last, s.columns = s.data[:0], s.rows[:0], 0, nil }

// sender sends the batches of one partition, one after the other.
type sender struct {
	load      *load
	topic     *topic
	partition int
	marks     *marks
	dead      bool

	// Of the load's goroutine:
	filling *staged
	done    int64 // rows up to this line are there already

	// Of the sender's goroutine, once it runs:
	in       chan *staged
	producer int64
	epoch    int16
	sequence int32
	builder  record.Builder
	headers  []record.Header
}

// run sends what comes in, until in is closed or something fails for good.
func (s *sender) run() {
	for b := range s.in {
		if s.load.ctx.Err() == nil {
			if err := s.send(b); err != nil {
				s.load.fail(err)
			}
		}
		s.load.recycle(b)
	}
}

// send builds a batch and sends it until it is acknowledged. A batch whose
// acknowledgement was lost is sent again with the same sequence, by which the log
// knows it. It does not give up for a cancelled load before the try at hand has
// its answer.
func (s *sender) send(b *staged) error {
	batch, err := s.build(b)
	if err != nil {
		return err
	}
	err = s.load.client.retry(s.load.ctx, fmt.Sprintf("lines up to %d", b.last), func() error {
		err := s.load.client.produce(context.WithoutCancel(s.load.ctx), s.topic, s.partition, batch)
		if err != nil && worthRetrying(err) {
			// Perhaps another broker leads the partition now.
			if t, derr := s.load.client.describe(s.load.ctx, s.topic.name); derr == nil && len(t.leaders) > s.partition {
				s.topic = t
			}
		}
		return err
	})
	if errors.Is(err, kerr.OutOfOrderSequenceNumber) || errors.Is(err, kerr.InvalidProducerEpoch) {
		return fmt.Errorf("another load of this file seems to be at work: %w", err)
	}
	if err != nil {
		return err
	}
	s.sequence = int32((int64(s.sequence) + int64(len(b.rows))) & math.MaxInt32)
	s.load.acknowledged(s.dead, len(b.rows))
	return nil
}

func (s *sender) build(b *staged) ([]byte, error) {
	s.headers = append(s.headers[:0],
		record.Header{Key: HeaderLoad, Value: []byte(s.load.id)},
		record.Header{Key: HeaderLine, Value: strconv.AppendInt(nil, b.last, 10)},
		record.Header{Key: HeaderPartitions, Value: strconv.AppendInt(nil, int64(s.marks.partitions), 10)})
	if s.dead {
		s.headers = append(s.headers, record.Header{Key: HeaderColumns, Value: b.columns})
	}
	s.builder.Reset(record.BatchOptions{Codec: s.load.o.Codec, ProducerID: s.producer, ProducerEpoch: s.epoch, BaseSequence: s.sequence})
	headers, data := s.headers, b.data
	for _, r := range b.rows {
		var key []byte
		if r.key >= 0 {
			key = data[:r.key:r.key]
			data = data[r.key:]
		}
		s.builder.Append(r.time, key, data[:r.value:r.value], headers)
		data = data[r.value:]
		headers = nil
	}
	batch, err := s.builder.Build()
	if err != nil {
		return nil, fmt.Errorf("batch for %s/%d: %w", s.topic.name, s.partition, err)
	}
	return batch, nil
}

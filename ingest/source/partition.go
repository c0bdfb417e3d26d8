package source

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/record"
)

// HeaderUnreadable names the header of the record that stands for a batch whose
// records cannot be read although its CRC is right: a producer wrote it wrongly,
// or it decompresses to more than record.DefaultMaxDecompressed. Its value is the
// cause. The record has the batch's first offset and newest timestamp, and no key
// and no value, so that every decoder refuses it and it ends among the dead
// letters instead of stopping the partition.
const HeaderUnreadable = "weir-unreadable"

// HeaderOriginal names the header of a replayed dead letter whose record is in the
// same topic and fits its declaration now, with that record's place:
// "topic/partition/offset".
const HeaderOriginal = "weir-original"

// Bounds on the batches that make one chunk. Compressed batches make one each.
const (
	maxMergedBatches = 64
	maxMergedRecords = 8192
)

// ErrClosed is returned by Next after Close.
var ErrClosed = errors.New("source is closed")

// Partition reads a partition of the local log. It implements Source.
type Partition struct {
	p        *commitlog.Partition
	cursor   *commitlog.Cursor
	to       int64
	bytesMax int
	dirty    bool // reads what is not committed
	closed   bool

	told    int64  // where the chunk before ended
	next    int64  // where the next chunk begins
	lost    int64  // offsets since told that a repair took out
	rest    []byte // whole batches that were read and are not yet in a chunk
	aborted []commitlog.AbortedTransaction
	known   int64 // aborted is right for batches before it
	recs    []Record
	// The records of a batch live until its reader's next one, so that each batch
	// of a chunk has its own; only the first ever decompresses.
	readers []*record.Reader
}

// NewPartition makes a source of a partition's records from o.From to o.To. A
// range that reaches past the last stable offset waits for its end to be committed.
func NewPartition(p *commitlog.Partition, o Options) *Partition {
	if o.BytesMax <= 0 {
		o.BytesMax = DefaultBytesMax
	}
	return &Partition{p: p, cursor: p.NewCursor(o.From), to: o.To, bytesMax: o.BytesMax, dirty: o.Uncommitted, told: o.From, next: o.From}
}

// Next implements Source. Errors that repeat at every call: of the log
// (*commitlog.CorruptError, commitlog.ErrOffsetOutOfRange, ErrDeleted, ErrClosed),
// ErrClosed, io.EOF.
func (s *Partition) Next(ctx context.Context) (Chunk, error) {
	for {
		switch {
		case s.closed:
			return Chunk{}, ErrClosed
		case ctx.Err() != nil:
			return Chunk{}, ctx.Err()
		case s.to > 0 && s.next >= s.to:
			return Chunk{}, io.EOF
		}
		if len(s.rest) == 0 {
			if err := s.read(); err != nil {
				return Chunk{}, err
			}
			if len(s.rest) == 0 { // nothing more for now
				if s.next > s.told {
					return s.chunk(nil), nil
				}
				if err := s.wait(ctx); err != nil {
					return Chunk{}, err
				}
			}
			continue
		}
		if err := s.fill(); err != nil {
			return Chunk{}, err
		}
		if len(s.recs) > 0 {
			return s.chunk(s.recs), nil
		}
	}
}

// chunk is what was read since the chunk before.
func (s *Partition) chunk(recs []Record) Chunk {
	c := Chunk{Topic: s.p.Topic(), Partition: s.p.Index(), Records: recs, From: s.told, Next: s.next, Lost: s.lost, HighWatermark: s.p.HighWatermark()}
	s.told, s.lost = s.next, 0
	return c
}

// read fills rest with what there is now.
func (s *Partition) read() (err error) {
	if s.dirty {
		s.rest, err = s.p.Read(s.cursor, s.bytesMax)
	} else {
		s.rest, err = s.p.ReadCommitted(s.cursor, s.bytesMax)
	}
	return err
}

// wait returns when there is more to read.
func (s *Partition) wait(ctx context.Context) error {
	if s.dirty {
		return s.p.Wait(ctx, s.next)
	}
	return s.p.WaitStable(ctx, s.next)
}

// fill takes batches from rest into recs, and moves next after them.
func (s *Partition) fill() error {
	from := s.next
	s.recs = s.recs[:0]
	for n := 0; len(s.rest) > 0 && n < maxMergedBatches && len(s.recs) < maxMergedRecords; n++ {
		h, err := record.ParseHeader(s.rest)
		if err == nil && h.Size() > len(s.rest) {
			err = record.ErrShort
		}
		if err != nil { // the log only gives whole batches
			return fmt.Errorf("%s partition %d at offset %d: %w", s.p.Topic(), s.p.Index(), s.next, err)
		}
		compressed := h.Codec() != record.None
		if n > 0 && (compressed || h.BaseOffset >= s.end()) {
			break
		}
		switch {
		case h.Count == 0 && h.ProducerID < 0 && h.MaxTimestamp < 0:
			s.lost += int64(h.LastOffsetDelta) + 1 // a repair's gap
		case !h.Control() && !s.isAborted(&h):
			s.readBatch(n, h, s.rest[:h.Size()])
		}
		s.rest = s.rest[h.Size():]
		s.next = max(s.next, h.LastOffset()+1)
		if compressed {
			break
		}
	}
	s.cut(from)
	return nil
}

// isAborted reports whether the batch is of a transaction that was aborted. All
// that are read are decided.
func (s *Partition) isAborted(h *record.BatchHeader) bool {
	if s.dirty || !h.Transactional() {
		return false
	}
	if h.BaseOffset >= s.known {
		s.known = s.cursor.Offset() // the end of rest
		s.aborted = s.p.AbortedTransactions(h.BaseOffset, s.known)
	}
	for _, a := range s.aborted {
		if a.ProducerID == h.ProducerID && a.FirstOffset <= h.BaseOffset && h.BaseOffset <= a.LastOffset {
			return true
		}
	}
	return false
}

func (s *Partition) end() int64 {
	if s.to > 0 {
		return s.to
	}
	return 1<<63 - 1
}

// readBatch appends the records of one batch with the n-th reader.
func (s *Partition) readBatch(n int, h record.BatchHeader, batch []byte) {
	for n >= len(s.readers) {
		// The log has just checked the CRC.
		s.readers = append(s.readers, record.NewReader(record.Options{SkipCRC: true}))
	}
	s.readers[n].Reset(batch)
	recs, err := s.readers[n].ReadBatch(s.recs)
	switch {
	case err == nil:
		s.recs = recs
	case errors.Is(err, io.EOF): // a control batch, or one that compaction emptied
	default:
		s.recs = append(s.recs, Record{Offset: h.BaseOffset, Timestamp: h.MaxTimestamp,
			Headers: []Header{{Key: HeaderUnreadable, Value: []byte(err.Error())}}})
	}
}

// cut leaves out the records before from, where the first batch began earlier,
// and those past the end of the range.
func (s *Partition) cut(from int64) {
	for len(s.recs) > 0 && s.recs[0].Offset < from {
		s.recs = s.recs[1:]
	}
	for len(s.recs) > 0 && s.recs[len(s.recs)-1].Offset >= s.end() {
		s.recs = s.recs[:len(s.recs)-1]
	}
	s.next = min(s.next, s.end())
}

// End is where what there is to read now ends.
func (s *Partition) End() int64 {
	end := s.p.LastStableOffset()
	if s.dirty {
		end = s.p.HighWatermark()
	}
	return min(end, s.end())
}

// SeekTo implements Source.
func (s *Partition) SeekTo(offset int64) error {
	if s.closed {
		return ErrClosed
	}
	s.cursor = s.p.NewCursor(offset)
	s.told, s.next, s.lost, s.rest, s.known = offset, offset, 0, nil, 0
	return nil
}

// Close implements Source. It is not an error to close twice.
func (s *Partition) Close() error {
	s.closed = true
	s.rest, s.recs, s.readers = nil, nil, nil
	return nil
}

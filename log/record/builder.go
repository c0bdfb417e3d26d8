package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
)

// Header is one header of a record.
type Header struct {
	Key   string
	Value []byte // nil is null
}

// Record is one record.
type Record struct {
	Offset     int64
	Timestamp  int64  // ms since the epoch
	Key, Value []byte // nil is null
	Headers    []Header
}

// Clone is a copy that shares no memory.
func (r *Record) Clone() Record {
	c := *r
	c.Key, c.Value, c.Headers = bytes.Clone(r.Key), bytes.Clone(r.Value), slices.Clone(r.Headers)
	for i := range c.Headers {
		c.Headers[i].Value = bytes.Clone(c.Headers[i].Value)
	}
	return c
}

// ErrEmpty is returned by Build where no record was appended.
var ErrEmpty = errors.New("record batch without a record")

// BatchOptions are what a batch's header says beside its records.
type BatchOptions struct {
	Codec Codec
	// ProducerID is the idempotent producer; 0 and -1 are none. Kafka's ids
	// start at 0, a Weir log never hands that one out.
	ProducerID    int64
	ProducerEpoch int16 // meaningful with a ProducerID
	BaseSequence  int32 // meaningful with a ProducerID
	// LogAppendTime, if not 0, is the timestamp of all records, in ms since the
	// epoch.
	LogAppendTime int64
	Transactional bool
}

// Builder makes one batch at a time. The zero Builder is ready after a Reset.
type Builder struct {
	o         BatchOptions
	buf       []byte // header and plain records
	out       []byte // header and compressed records
	count     int
	firstTime int64
	maxTime   int64
	encoders  encoders
}

// Reset forgets the batch so far and starts one with options o.
func (b *Builder) Reset(o BatchOptions) {
	b.o = o
	b.count = 0
	if cap(b.buf) < HeaderSize {
		b.buf = make([]byte, HeaderSize, 4096)
	}
	b.buf = b.buf[:HeaderSize]
}

// Len is the number of bytes of the batch so far, before compression.
func (b *Builder) Len() int { return len(b.buf) }

// Count is the number of records so far.
func (b *Builder) Count() int { return b.count }

// Append adds one record with a timestamp in ms since the epoch. A nil key or
// value is null. Nothing is retained.
func (b *Builder) Append(timestamp int64, key, value []byte, headers []Header) {
	if b.count == 0 {
		b.firstTime, b.maxTime = timestamp, timestamp
	}
	b.maxTime = max(b.maxTime, timestamp)
	rec := Record{Key: key, Value: value, Headers: headers}
	b.buf = appendRecord(b.buf, &rec, timestamp-b.firstTime, int64(b.count))
	b.count++
}

// Build is the finished batch with base offset 0; it belongs to the Builder and
// is valid until the next Reset. Errors: ErrEmpty, ErrSize (over 2 GiB), ErrCodec.
func (b *Builder) Build() ([]byte, error) {
	if b.count == 0 {
		return nil, ErrEmpty
	}
	out := b.buf
	if b.o.Codec != None {
		if cap(b.out) < HeaderSize {
			b.out = make([]byte, HeaderSize, len(b.buf))
		}
		var err error
		if b.out, err = b.encoders.compress(b.out[:HeaderSize], b.buf[HeaderSize:], b.o.Codec); err != nil {
			return nil, err
		}
		out = b.out
	}
	if len(out) > math.MaxInt32 || b.count > math.MaxInt32 {
		return nil, fmt.Errorf("%w: %d bytes, %d records", ErrSize, len(out), b.count)
	}
	b.putHeader(out)
	return out, nil
}

func (b *Builder) putHeader(out []byte) {
	attributes, maxTime := uint16(b.o.Codec), b.maxTime
	if b.o.LogAppendTime != 0 {
		attributes, maxTime = attributes|logAppendTimeBit, b.o.LogAppendTime
	}
	if b.o.Transactional {
		attributes |= transactionalBit
	}
	id, epoch, sequence := b.o.ProducerID, b.o.ProducerEpoch, b.o.BaseSequence
	if id <= 0 {
		id, epoch, sequence = -1, -1, -1
	}
	binary.BigEndian.PutUint64(out[atBaseOffset:], 0)
	binary.BigEndian.PutUint32(out[atLength:], uint32(len(out)-lengthOverhead))
	binary.BigEndian.PutUint32(out[atLeaderEpoch:], math.MaxUint32) // -1: unknown
	out[atMagic] = 2
	binary.BigEndian.PutUint16(out[atAttributes:], attributes)
	binary.BigEndian.PutUint32(out[atLastDelta:], uint32(b.count-1))
	binary.BigEndian.PutUint64(out[atFirstTime:], uint64(b.firstTime))
	binary.BigEndian.PutUint64(out[atMaxTime:], uint64(maxTime))
	binary.BigEndian.PutUint64(out[atProducerID:], uint64(id))
	binary.BigEndian.PutUint16(out[atProducerEpoch:], uint16(epoch))
	binary.BigEndian.PutUint32(out[atBaseSequence:], uint32(sequence))
	binary.BigEndian.PutUint32(out[atCount:], uint32(b.count))
	binary.BigEndian.PutUint32(out[atCRC:], crc32.Checksum(out[atAttributes:], castagnoli))
}

// varintSize is the number of bytes of v as a zigzag varint.
func varintSize(v int64) int {
	u := uint64(v)<<1 ^ uint64(v>>63)
	n := 1
	for u >= 0x80 {
		u >>= 7
		n++
	}
	return n
}

func bytesSize(b []byte) int {
	if b == nil {
		return 1
	}
	return varintSize(int64(len(b))) + len(b)
}

func appendBytes(dst, b []byte) []byte {
	if b == nil {
		return append(dst, 1) // -1: null
	}
	dst = binary.AppendVarint(dst, int64(len(b)))
	return append(dst, b...)
}

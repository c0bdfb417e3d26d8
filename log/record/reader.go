package record

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

// DefaultMaxDecompressed is the default limit on a batch's decompressed size, in
// bytes.
const DefaultMaxDecompressed = 64 << 20

// DefaultMaxRecords is the default limit on a batch's records.
const DefaultMaxRecords = 2 << 20

// minRecordSize is the size of an empty record: seven one-byte fields.
const minRecordSize = 7

// maxInterned bounds how many distinct header keys a Reader remembers.
const maxInterned = 256

// Options of a Reader. The zero value is the default.
type Options struct {
	MaxDecompressed int  // bytes of one batch after decompression; 0: DefaultMaxDecompressed
	MaxRecords      int  // of one batch, since a few bytes make a Record; 0: DefaultMaxRecords
	SkipCRC         bool // for batches whose CRC was just checked, as commitlog does
}

// BatchError is an error of one batch: its records cannot be read, those of the
// batches around it can.
type BatchError struct {
	BaseOffset, LastOffset int64
	Err                    error
}

func (e *BatchError) Error() string {
	return fmt.Sprintf("record batch at offsets %d to %d: %v", e.BaseOffset, e.LastOffset, e.Err)
}

// Unwrap is the cause.
func (e *BatchError) Unwrap() error { return e.Err }

// Reader decodes the records of a run of batches. The zero Reader is ready after
// a Reset.
type Reader struct {
	o       Options
	rest    []byte // batches not yet entered
	h       BatchHeader
	plain   []byte // decompressed records of the current batch
	recs    []Record
	next    int      // of recs, for Next
	headers []Header // arena of the current batch's records
	names   map[string]string
	dec     decoders
}

// NewReader is a Reader with options o.
func NewReader(o Options) *Reader { return &Reader{o: o} }

// Reset makes the Reader read a run of whole batches. They are not copied and not
// retained past the next Reset.
func (r *Reader) Reset(batches []byte) {
	r.rest = batches
	r.recs = r.recs[:0]
	r.next = 0
}

// Header is the header of the batch that the last record came from.
func (r *Reader) Header() BatchHeader { return r.h }

// Next is the next record, or io.EOF. Control batches are skipped. The record and
// what it points to are valid until a record of the next batch is returned. A
// *BatchError concerns one batch only; any other error ends the run.
func (r *Reader) Next() (*Record, error) {
	for r.next == len(r.recs) {
		r.next = 0
		var err error
		if r.recs, err = r.ReadBatch(r.recs[:0]); err != nil {
			r.recs = r.recs[:0]
			return nil, err
		}
	}
	rec := &r.recs[r.next]
	r.next++
	return rec, nil
}

// ReadBatch appends all records of the next data batch to dst, or returns io.EOF.
// They point into the batch and into the Reader's buffers and are valid until the
// next call. A *BatchError concerns one batch only and leaves dst as it was; any
// other error ends the run.
func (r *Reader) ReadBatch(dst []Record) ([]Record, error) {
	for {
		if len(r.rest) == 0 {
			return dst, io.EOF
		}
		h, err := ParseHeader(r.rest)
		if err == nil && len(r.rest) < h.Size() {
			err = fmt.Errorf("%w: %d bytes of %d", ErrShort, len(r.rest), h.Size())
		}
		if err != nil {
			r.rest = nil
			return dst, err
		}
		batch := r.rest[:h.Size()]
		r.rest = r.rest[h.Size():]
		if h.Control() && h.Magic == 2 {
			continue
		}
		r.h = h
		n := len(dst)
		if dst, err = r.decodeBatch(dst, batch); err != nil {
			return dst[:n], &BatchError{BaseOffset: h.BaseOffset, LastOffset: h.LastOffset(), Err: err}
		}
		if len(dst) > n { // compaction may leave a batch empty
			return dst, nil
		}
	}
}

func (r *Reader) decodeBatch(dst []Record, batch []byte) ([]Record, error) {
	h := r.h
	if h.Magic != 2 {
		return dst, fmt.Errorf("%w: magic %d", ErrMagic, h.Magic)
	}
	if !r.o.SkipCRC {
		if _, err := CheckStored(batch); err != nil {
			return dst, err
		}
	}
	body := batch[HeaderSize:]
	if h.Codec() != None {
		limit := r.o.MaxDecompressed
		if limit <= 0 {
			limit = DefaultMaxDecompressed
		}
		var err error
		if r.plain, err = r.dec.decompress(r.plain, body, h.Codec(), limit); err != nil {
			return dst, err
		}
		body = r.plain
	}
	if h.Count < 0 || int64(h.Count)*minRecordSize > int64(len(body)) {
		return dst, fmt.Errorf("%w: %d records cannot be in %d bytes", ErrCount, h.Count, len(body))
	}
	if limit := r.o.MaxRecords; int(h.Count) > limit && (limit > 0 || h.Count > DefaultMaxRecords) {
		return dst, fmt.Errorf("%w: %d records exceed the limit", ErrCount, h.Count)
	}
	return r.decodeRecords(dst, body)
}

func (r *Reader) decodeRecords(dst []Record, body []byte) ([]Record, error) {
	count := int(r.h.Count)
	dst = slices.Grow(dst, count)
	r.headers = r.headers[:0]
	last := int64(-1)
	for i := range count {
		n, w := varint(body)
		if w <= 0 || n < minRecordSize-1 || n > int64(len(body)-w) {
			return dst, fmt.Errorf("%w %d of %d: its length is not within the batch", ErrRecord, i, count)
		}
		dst = append(dst, Record{})
		delta, ok := r.decodeRecord(&dst[len(dst)-1], body[w:w+int(n)])
		if !ok {
			return dst, fmt.Errorf("%w %d of %d: a field is not within the record", ErrRecord, i, count)
		}
		if delta <= last || delta > int64(r.h.LastOffsetDelta) {
			return dst, fmt.Errorf("%w %d of %d: offset delta %d after %d of at most %d", ErrRecord, i, count, delta, last, r.h.LastOffsetDelta)
		}
		last = delta
		body = body[w+int(n):]
	}
	if len(body) != 0 {
		return dst, fmt.Errorf("%w: %d bytes after the last of %d", ErrRecord, len(body), count)
	}
	return dst, nil
}

// decodeRecord reads the fields of one record, b being exactly its bytes after
// the length.
func (r *Reader) decodeRecord(rec *Record, b []byte) (offsetDelta int64, ok bool) {
	b = b[1:] // attributes: none are defined
	timeDelta, w := varint(b)
	if w <= 0 {
		return 0, false
	}
	b = b[w:]
	if offsetDelta, w = varint(b); w <= 0 {
		return 0, false
	}
	b = b[w:]
	if rec.Key, b, ok = takeBytes(b); !ok {
		return 0, false
	}
	if rec.Value, b, ok = takeBytes(b); !ok {
		return 0, false
	}
	rec.Offset = r.h.BaseOffset + offsetDelta
	rec.Timestamp = r.h.FirstTimestamp + timeDelta
	if r.h.LogAppendTime() {
		rec.Timestamp = r.h.MaxTimestamp
	}
	if len(b) == 1 && b[0] == 0 { // no headers
		return offsetDelta, true
	}
	rec.Headers, ok = r.decodeHeaders(b)
	return offsetDelta, ok
}

func (r *Reader) decodeHeaders(b []byte) ([]Header, bool) {
	count, w := varint(b)
	b = b[max(w, 0):]
	if w <= 0 || count < 0 || count*2 > int64(len(b)) { // a header has two bytes at least
		return nil, false
	}
	start := len(r.headers)
	for range count {
		key, rest, ok := takeBytes(b)
		if !ok || key == nil {
			return nil, false
		}
		value, rest, ok := takeBytes(rest)
		if !ok {
			return nil, false
		}
		r.headers = append(r.headers, Header{Key: r.intern(key), Value: value})
		b = rest
	}
	return r.headers[start:len(r.headers):len(r.headers)], len(b) == 0
}

// intern is b as a string, without allocating for keys that come again.
func (r *Reader) intern(b []byte) string {
	if s, ok := r.names[string(b)]; ok {
		return s
	}
	s := string(b)
	if len(s) <= 128 {
		if r.names == nil {
			r.names = make(map[string]string)
		}
		if len(r.names) < maxInterned {
			r.names[s] = s
		}
	}
	return s
}

// takeBytes reads a length and that many bytes; a length of -1 is nil.
func takeBytes(b []byte) (v, rest []byte, ok bool) {
	n, w := varint(b)
	if w <= 0 {
		return nil, nil, false
	}
	b = b[w:]
	if n == -1 {
		return nil, b, true
	}
	if n < 0 || n > int64(len(b)) {
		return nil, nil, false
	}
	return b[:n:n], b[n:], true
}

// varint reads a zigzag varint; most have one byte.
func varint(b []byte) (v int64, width int) {
	if len(b) > 0 && b[0] < 0x80 {
		u := b[0]
		return int64(u>>1) ^ -int64(u&1), 1
	}
	return binary.Varint(b)
}

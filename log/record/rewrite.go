package record

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
)

// DeleteHorizon is the time, in ms since the epoch, from which compaction may
// drop the batch's tombstones, or its marker; ok is false where none was set yet
// (KIP-534). It stands where the first timestamp else is.
func (h BatchHeader) DeleteHorizon() (ms int64, ok bool) {
	return h.FirstTimestamp, h.Attributes&deleteHorizonBit != 0
}

// Rewriter reads the records of a batch and writes batches with some of them
// left: what compaction does. The zero Rewriter is ready.
type Rewriter struct {
	reader Reader
	recs   []Record
	buf    []byte
	out    []byte
	enc    encoders
}

// Records are the records of the batch at the start of b, whose CRC was checked,
// also of a control batch. They are valid until the next call. Errors: as of a
// Reader.
func (w *Rewriter) Records(b []byte) ([]Record, error) {
	h, err := ParseHeader(b)
	if err != nil {
		return nil, err
	}
	w.reader.o.SkipCRC = true
	w.reader.h = h
	w.recs, err = w.reader.decodeBatch(w.recs[:0], b[:h.Size()])
	return w.recs, err
}

// Rewrite appends to dst the batch b with the records keep, which are some of
// those that Records returned: base offset, last offset, producer, epoch and codec
// stay. horizon, if not negative, is set as its delete horizon.
func (w *Rewriter) Rewrite(dst, b []byte, keep []Record, horizon int64) ([]byte, error) {
	h, err := ParseHeader(b)
	if err != nil {
		return dst, err
	}
	if len(keep) == 0 {
		return AppendEmpty(dst, h), nil
	}
	first, maxTime := keep[0].Timestamp, keep[0].Timestamp
	if was, ok := h.DeleteHorizon(); ok {
		first, horizon = was, was
	} else if horizon >= 0 {
		first = horizon
	}
	w.buf = w.buf[:0]
	for i := range keep {
		w.buf = appendRecord(w.buf, &keep[i], keep[i].Timestamp-first, keep[i].Offset-h.BaseOffset)
		maxTime = max(maxTime, keep[i].Timestamp)
	}
	body := w.buf
	if h.Codec() != None {
		if w.out, err = w.enc.compress(w.out[:0], w.buf, h.Codec()); err != nil {
			return dst, err
		}
		body = w.out
	}
	attributes := uint16(h.Attributes)
	if horizon >= 0 {
		attributes |= deleteHorizonBit
	}
	if h.LogAppendTime() {
		maxTime = h.MaxTimestamp
	}
	at := len(dst)
	dst = append(append(dst, b[:HeaderSize]...), body...)
	n := dst[at:]
	binary.BigEndian.PutUint32(n[atLength:], uint32(len(n)-lengthOverhead))
	binary.BigEndian.PutUint16(n[atAttributes:], attributes)
	binary.BigEndian.PutUint64(n[atFirstTime:], uint64(first))
	binary.BigEndian.PutUint64(n[atMaxTime:], uint64(maxTime))
	binary.BigEndian.PutUint32(n[atCount:], uint32(len(keep)))
	binary.BigEndian.PutUint32(n[atCRC:], crc32.Checksum(n[atAttributes:], castagnoli))
	return dst, nil
}

// Recompress is the batch b, whose CRC was checked, with another codec; it is valid
// until the next call. The records are not decoded.
func (w *Rewriter) Recompress(b []byte, codec Codec) ([]byte, error) {
	h, err := ParseHeader(b)
	if err != nil {
		return nil, err
	}
	body := b[HeaderSize:h.Size()]
	if h.Codec() != None {
		if w.buf, err = w.reader.dec.decompress(w.buf, body, h.Codec(), DefaultMaxDecompressed); err != nil {
			return nil, err
		}
		body = w.buf
	}
	w.out = append(w.out[:0], b[:HeaderSize]...)
	if codec == None {
		w.out = append(w.out, body...)
	} else if w.out, err = w.enc.compress(w.out, body, codec); err != nil {
		return nil, err
	}
	if len(w.out) > math.MaxInt32 {
		return nil, fmt.Errorf("%w: %d bytes", ErrSize, len(w.out))
	}
	binary.BigEndian.PutUint32(w.out[atLength:], uint32(len(w.out)-lengthOverhead))
	binary.BigEndian.PutUint16(w.out[atAttributes:], uint16(h.Attributes)&^codecMask|uint16(codec))
	binary.BigEndian.PutUint32(w.out[atCRC:], crc32.Checksum(w.out[atAttributes:], castagnoli))
	return w.out, nil
}

// AppendEmpty appends a batch without records in the place of h: its offsets, its
// producer and its sequences stay known.
func AppendEmpty(dst []byte, h BatchHeader) []byte {
	at := len(dst)
	dst = AppendGap(dst, h.BaseOffset, 1, h.LeaderEpoch)
	b := dst[at:]
	binary.BigEndian.PutUint16(b[atAttributes:], uint16(h.Attributes)&(logAppendTimeBit|transactionalBit|controlBit))
	binary.BigEndian.PutUint32(b[atLastDelta:], uint32(h.LastOffsetDelta))
	binary.BigEndian.PutUint64(b[atMaxTime:], uint64(h.MaxTimestamp))
	binary.BigEndian.PutUint64(b[atProducerID:], uint64(h.ProducerID))
	binary.BigEndian.PutUint16(b[atProducerEpoch:], uint16(h.ProducerEpoch))
	binary.BigEndian.PutUint32(b[atBaseSequence:], uint32(h.BaseSequence))
	binary.BigEndian.PutUint32(b[atCRC:], crc32.Checksum(b[atAttributes:], castagnoli))
	return dst
}

// IsGap reports whether the batch only stands for offsets: AppendGap made it.
func (h BatchHeader) IsGap() bool {
	return h.Count == 0 && h.ProducerID == -1 && h.Attributes&^codecMask == 0
}

// MaxGap is the most offsets that one gap stands for.
const MaxGap = math.MaxInt32

func appendRecord(buf []byte, rec *Record, timeDelta, offsetDelta int64) []byte {
	n := 1 + varintSize(timeDelta) + varintSize(offsetDelta) + bytesSize(rec.Key) + bytesSize(rec.Value) + varintSize(int64(len(rec.Headers)))
	for i := range rec.Headers {
		n += varintSize(int64(len(rec.Headers[i].Key))) + len(rec.Headers[i].Key) + bytesSize(rec.Headers[i].Value)
	}
	buf = binary.AppendVarint(buf, int64(n))
	buf = append(buf, 0) // attributes: none are defined
	buf = binary.AppendVarint(buf, timeDelta)
	buf = binary.AppendVarint(buf, offsetDelta)
	buf = appendBytes(buf, rec.Key)
	buf = appendBytes(buf, rec.Value)
	buf = binary.AppendVarint(buf, int64(len(rec.Headers)))
	for i := range rec.Headers {
		buf = binary.AppendVarint(buf, int64(len(rec.Headers[i].Key)))
		buf = append(buf, rec.Headers[i].Key...)
		buf = appendBytes(buf, rec.Headers[i].Value)
	}
	return buf
}

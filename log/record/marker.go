package record

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
)

// Marker is a control batch that ends a transaction (KIP-98).
type Marker struct {
	ProducerID       int64
	ProducerEpoch    int16
	CoordinatorEpoch int32
	Commit           bool  // else abort
	Timestamp        int64 // ms since the epoch
}

// The key of a control record is its version and type, the value of a marker
// its version and the coordinator's epoch.
const (
	controlAbort  = 0
	controlCommit = 1

	markerKeySize   = 2 + 2
	markerValueSize = 2 + 4
)

// AppendMarker appends m as a batch of one record with base offset 0.
func AppendMarker(dst []byte, m Marker) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, HeaderSize)...)
	kind := uint16(controlAbort)
	if m.Commit {
		kind = controlCommit
	}
	body := []byte{0, 0, 0} // attributes, time delta, offset delta
	body = binary.AppendVarint(body, markerKeySize)
	body = binary.BigEndian.AppendUint16(body, 0)
	body = binary.BigEndian.AppendUint16(body, kind)
	body = binary.AppendVarint(body, markerValueSize)
	body = binary.BigEndian.AppendUint16(body, 0)
	body = binary.BigEndian.AppendUint32(body, uint32(m.CoordinatorEpoch))
	body = append(body, 0) // headers
	dst = binary.AppendVarint(dst, int64(len(body)))
	dst = append(dst, body...)
	b := dst[at:]
	binary.BigEndian.PutUint32(b[atLength:], uint32(len(b)-lengthOverhead))
	binary.BigEndian.PutUint32(b[atLeaderEpoch:], math.MaxUint32) // -1: unknown
	b[atMagic] = 2
	binary.BigEndian.PutUint16(b[atAttributes:], transactionalBit|controlBit)
	binary.BigEndian.PutUint64(b[atFirstTime:], uint64(m.Timestamp))
	binary.BigEndian.PutUint64(b[atMaxTime:], uint64(m.Timestamp))
	binary.BigEndian.PutUint64(b[atProducerID:], uint64(m.ProducerID))
	binary.BigEndian.PutUint16(b[atProducerEpoch:], uint16(m.ProducerEpoch))
	binary.BigEndian.PutUint32(b[atBaseSequence:], math.MaxUint32) // -1: none
	binary.BigEndian.PutUint32(b[atCount:], 1)
	binary.BigEndian.PutUint32(b[atCRC:], crc32.Checksum(b[atAttributes:], castagnoli))
	return dst
}

// ParseMarker reads the control batch at the start of b, whose CRC was checked.
// A newer version of key or value may have more fields. The error is ErrRecord,
// also for control records that end no transaction.
func ParseMarker(b []byte) (Marker, error) {
	h, err := ParseHeader(b)
	if err != nil {
		return Marker{}, err
	}
	m := Marker{ProducerID: h.ProducerID, ProducerEpoch: h.ProducerEpoch, Timestamp: h.MaxTimestamp}
	bad := func(why string) (Marker, error) { return m, fmt.Errorf("%w: control batch: %s", ErrRecord, why) }
	if !h.Control() || h.Count != 1 || h.Codec() != None || h.Size() > len(b) {
		return bad("expected one plain control record")
	}
	body := b[HeaderSize:h.Size()]
	n, w := varint(body)
	if w <= 0 || n < minRecordSize-1 || n > int64(len(body)-w) {
		return bad("its length is not within the batch")
	}
	r := Reader{h: h}
	var rec Record
	if _, ok := r.decodeRecord(&rec, body[w:w+int(n)]); !ok {
		return bad("a field is not within the record")
	}
	if len(rec.Key) < markerKeySize || len(rec.Value) < markerValueSize {
		return bad("key or value is too short")
	}
	switch kind := binary.BigEndian.Uint16(rec.Key[2:]); kind {
	case controlCommit:
		m.Commit = true
	case controlAbort:
	default:
		return bad(fmt.Sprintf("type %d is no transaction marker", kind))
	}
	m.CoordinatorEpoch = int32(binary.BigEndian.Uint32(rec.Value[2:]))
	return m, nil
}

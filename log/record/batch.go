package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"strconv"
)

// HeaderSize is the number of bytes before a batch's records.
const HeaderSize = 61

// Codec is how a batch's records are compressed, with Kafka's numbers.
type Codec int8

// The codecs of Kafka.
const (
	None Codec = iota
	Gzip
	Snappy
	LZ4
	Zstd
)

var codecNames = [...]string{"none", "gzip", "snappy", "lz4", "zstd"}

// String is the name that Kafka's compression.type uses, "none" included.
func (c Codec) String() string {
	if c >= 0 && int(c) < len(codecNames) {
		return codecNames[c]
	}
	return "codec " + strconv.Itoa(int(c))
}

// ParseCodec is the codec of a name: none, gzip, snappy, lz4 or zstd. The error
// is ErrCodec.
func ParseCodec(name string) (Codec, error) {
	for i, n := range codecNames {
		if n == name {
			return Codec(i), nil
		}
	}
	return None, fmt.Errorf("%w %q", ErrCodec, name)
}

// What can be wrong with a batch. Errors of this package wrap one of these.
var (
	ErrShort        = errors.New("the bytes end before the record batch does")
	ErrMagic        = errors.New("record batch is not of message format version 2")
	ErrSize         = errors.New("record batch has an impossible size")
	ErrCRC          = errors.New("record batch fails its CRC-32C")
	ErrCount        = errors.New("record batch's record count disagrees with its last offset delta")
	ErrCodec        = errors.New("unknown compression codec")
	ErrDecompress   = errors.New("records do not decompress")
	ErrDecompressed = errors.New("decompressed records exceed the limit")
	ErrRecord       = errors.New("malformed record")
)

// Offsets of a batch's fields.
const (
	atBaseOffset    = 0
	atLength        = 8
	atLeaderEpoch   = 12
	atMagic         = 16
	atCRC           = 17
	atAttributes    = 21
	atLastDelta     = 23
	atFirstTime     = 27
	atMaxTime       = 35
	atProducerID    = 43
	atProducerEpoch = 51
	atBaseSequence  = 53
	atCount         = 57

	lengthOverhead = 12 // bytes before what Length counts
)

const (
	codecMask        = 0x07
	logAppendTimeBit = 0x08
	transactionalBit = 0x10
	controlBit       = 0x20
	deleteHorizonBit = 0x40
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// BatchHeader is the header of a record batch, in the order of the wire.
type BatchHeader struct {
	BaseOffset      int64
	Length          int32 // as on the wire: the bytes after the length field
	LeaderEpoch     int32
	Magic           int8
	CRC             uint32
	Attributes      int16
	LastOffsetDelta int32
	FirstTimestamp  int64 // ms since the epoch
	MaxTimestamp    int64 // ms since the epoch
	ProducerID      int64 // -1: none
	ProducerEpoch   int16
	BaseSequence    int32
	Count           int32
}

// Size is the number of bytes of the whole batch.
func (h BatchHeader) Size() int { return lengthOverhead + int(h.Length) }

// LastOffset is the offset of the last record, or of the last that there was
// before compaction.
func (h BatchHeader) LastOffset() int64 { return h.BaseOffset + int64(h.LastOffsetDelta) }

// Codec is the compression of the records; it may be one that does not exist.
func (h BatchHeader) Codec() Codec { return Codec(h.Attributes & codecMask) }

// LogAppendTime reports whether every record's timestamp is MaxTimestamp, the
// time at which the broker appended the batch.
func (h BatchHeader) LogAppendTime() bool { return h.Attributes&logAppendTimeBit != 0 }

// Transactional reports whether the batch is part of a transaction.
func (h BatchHeader) Transactional() bool { return h.Attributes&transactionalBit != 0 }

// Control reports whether the batch holds a transaction marker and no data.
func (h BatchHeader) Control() bool { return h.Attributes&controlBit != 0 }

// ParseHeader reads the header at the start of b. It checks bounds and neither
// CRC, nor magic, nor that b holds the whole batch. ErrShort where b ends before
// the header does, ErrSize where the batch would be smaller than its header.
func ParseHeader(b []byte) (BatchHeader, error) {
	if len(b) < HeaderSize {
		return BatchHeader{}, fmt.Errorf("%w: %d bytes, a header has %d", ErrShort, len(b), HeaderSize)
	}
	h := BatchHeader{
		BaseOffset:      int64(binary.BigEndian.Uint64(b[atBaseOffset:])),
		Length:          int32(binary.BigEndian.Uint32(b[atLength:])),
		LeaderEpoch:     int32(binary.BigEndian.Uint32(b[atLeaderEpoch:])),
		Magic:           int8(b[atMagic]),
		CRC:             binary.BigEndian.Uint32(b[atCRC:]),
		Attributes:      int16(binary.BigEndian.Uint16(b[atAttributes:])),
		LastOffsetDelta: int32(binary.BigEndian.Uint32(b[atLastDelta:])),
		FirstTimestamp:  int64(binary.BigEndian.Uint64(b[atFirstTime:])),
		MaxTimestamp:    int64(binary.BigEndian.Uint64(b[atMaxTime:])),
		ProducerID:      int64(binary.BigEndian.Uint64(b[atProducerID:])),
		ProducerEpoch:   int16(binary.BigEndian.Uint16(b[atProducerEpoch:])),
		BaseSequence:    int32(binary.BigEndian.Uint32(b[atBaseSequence:])),
		Count:           int32(binary.BigEndian.Uint32(b[atCount:])),
	}
	if h.Length < HeaderSize-lengthOverhead {
		return h, fmt.Errorf("%w: length %d, at least %d", ErrSize, h.Length, HeaderSize-lengthOverhead)
	}
	return h, nil
}

// Check verifies the batch at the start of b as a producer may send it: magic,
// size, CRC-32C, codec, and a count of LastOffsetDelta+1 records, at least one.
// Bytes of b after the batch are ignored. Errors: ErrShort, ErrMagic, ErrSize,
// ErrCRC, ErrCodec, ErrCount.
func Check(b []byte) (BatchHeader, error) {
	h, err := CheckStored(b)
	if err != nil {
		return h, err
	}
	if h.Count < 1 || h.Count-1 != h.LastOffsetDelta {
		return h, fmt.Errorf("%w: count %d, last offset delta %d", ErrCount, h.Count, h.LastOffsetDelta)
	}
	return h, nil
}

// CheckStored is Check for batches out of a log, in which compaction may have
// left fewer records than offsets, or none.
func CheckStored(b []byte) (BatchHeader, error) {
	if len(b) > atMagic && b[atMagic] != 2 {
		// Older formats have shorter headers: say what is wrong, not that it
		// is too short.
		return BatchHeader{}, fmt.Errorf("%w: magic %d", ErrMagic, int8(b[atMagic]))
	}
	h, err := ParseHeader(b)
	if err != nil {
		return h, err
	}
	if len(b) < h.Size() {
		return h, fmt.Errorf("%w: %d bytes of %d", ErrShort, len(b), h.Size())
	}
	if crc := crc32.Checksum(b[atAttributes:h.Size()], castagnoli); crc != h.CRC {
		return h, fmt.Errorf("%w: stored %08x, computed %08x", ErrCRC, h.CRC, crc)
	}
	if h.Codec() > Zstd {
		return h, fmt.Errorf("%w %d", ErrCodec, h.Codec())
	}
	if h.Count < 0 || h.LastOffsetDelta < 0 || h.Count-1 > h.LastOffsetDelta {
		return h, fmt.Errorf("%w: count %d, last offset delta %d", ErrCount, h.Count, h.LastOffsetDelta)
	}
	return h, nil
}

// SetBaseOffset stamps the base offset of the batch at the start of b, which
// holds at least its header. The CRC does not cover it.
func SetBaseOffset(b []byte, base int64) {
	binary.BigEndian.PutUint64(b[atBaseOffset:], uint64(base))
}

// SetLeaderEpoch stamps the partition leader epoch of the batch at the start of
// b, which holds at least its header. The CRC does not cover it.
func SetLeaderEpoch(b []byte, epoch int32) {
	binary.BigEndian.PutUint32(b[atLeaderEpoch:], uint32(epoch))
}

// SetLogAppendTime gives every record of the whole batch b the timestamp ms, as
// message.timestamp.type=LogAppendTime asks, and computes the CRC anew.
func SetLogAppendTime(b []byte, ms int64) {
	attributes := binary.BigEndian.Uint16(b[atAttributes:])
	binary.BigEndian.PutUint16(b[atAttributes:], attributes|logAppendTimeBit)
	binary.BigEndian.PutUint64(b[atMaxTime:], uint64(ms))
	binary.BigEndian.PutUint32(b[atCRC:], crc32.Checksum(b[atAttributes:], castagnoli))
}

// AppendGap appends a batch without records that stands for n offsets from base,
// which are lost. Readers pass over it, as over what compaction leaves.
func AppendGap(dst []byte, base int64, n int32, leaderEpoch int32) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, HeaderSize)...)
	b := dst[at:]
	SetBaseOffset(b, base)
	SetLeaderEpoch(b, leaderEpoch)
	binary.BigEndian.PutUint32(b[atLength:], HeaderSize-lengthOverhead)
	b[atMagic] = 2
	binary.BigEndian.PutUint32(b[atLastDelta:], uint32(n-1))
	for _, none := range []int{atFirstTime, atMaxTime, atProducerID} {
		binary.BigEndian.PutUint64(b[none:], math.MaxUint64) // -1
	}
	binary.BigEndian.PutUint16(b[atProducerEpoch:], math.MaxUint16)
	binary.BigEndian.PutUint32(b[atBaseSequence:], math.MaxUint32)
	binary.BigEndian.PutUint32(b[atCRC:], crc32.Checksum(b[atAttributes:], castagnoli))
	return dst
}

package commitlog

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// envelopeSize is the bytes before the payload: magic, version, CRC-32C of the
// payload.
const envelopeSize = 8 + 4 + 4

// A fileKind is one of our file formats: its magic and the version written.
type fileKind struct {
	magic   string // eight bytes
	version uint32
}

var (
	metaKind       = fileKind{"WEIRMETA", 2} // 1: without leader epochs, all were 0
	idsKind        = fileKind{"WEIRPIDS", 1}
	checkpointKind = fileKind{"WEIRCKPT", 2} // 1: without transactions
	cleanKind      = fileKind{"WEIRCLEN", 1}
	syncedKind     = fileKind{"WEIRSYNC", 1}
	indexKind      = fileKind{"WEIRINDX", 1}
	epochsKind     = fileKind{"WEIREPOC", 1}
	txnIndexKind   = fileKind{"WEIRTXNX", 1}
)

func (k fileKind) wrap(payload []byte) []byte {
	b := make([]byte, 0, envelopeSize+len(payload))
	b = append(b, k.magic...)
	b = binary.BigEndian.AppendUint32(b, k.version)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(payload, castagnoli))
	return append(b, payload...)
}

// header verifies magic and version: ErrDamagedFile, ErrNewerFormat.
func (k fileKind) header(name string, b []byte) error {
	if len(b) < envelopeSize || string(b[:8]) != k.magic {
		return fmt.Errorf("%s: %w: it does not begin with %s", name, ErrDamagedFile, k.magic)
	}
	if v := binary.BigEndian.Uint32(b[8:]); v > k.version {
		return fmt.Errorf("%s: %w of weir: format %d, this one reads up to %d", name, ErrNewerFormat, v, k.version)
	}
	return nil
}

// versionOf is the format version of a file whose header is in order.
func versionOf(b []byte) uint32 { return binary.BigEndian.Uint32(b[8:]) }

// unwrap is the payload of a file that was written whole.
func (k fileKind) unwrap(name string, b []byte) ([]byte, error) {
	if err := k.header(name, b); err != nil {
		return nil, err
	}
	if crc32.Checksum(b[envelopeSize:], castagnoli) != binary.BigEndian.Uint32(b[12:]) {
		return nil, fmt.Errorf("%s: %w: its checksum is wrong", name, ErrDamagedFile)
	}
	return b[envelopeSize:], nil
}

// field readers for payloads; ok turns false where the bytes end early.
type fields struct {
	b  []byte
	ok bool
}

func newFields(b []byte) *fields { return &fields{b: b, ok: true} }

func (f *fields) take(n int) []byte {
	if !f.ok || n < 0 || n > len(f.b) {
		f.ok = false
		return make([]byte, max(0, min(n, 16)))
	}
	v := f.b[:n]
	f.b = f.b[n:]
	return v
}

func (f *fields) u32() uint32 { return binary.BigEndian.Uint32(f.take(4)) }
func (f *fields) i64() int64  { return int64(binary.BigEndian.Uint64(f.take(8))) }
func (f *fields) i16() int16  { return int16(binary.BigEndian.Uint16(f.take(2))) }

package cep

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ErrSnapshot is wrapped by every error about a snapshot's contents.
var ErrSnapshot = errors.New("bad snapshot")

// SnapshotWriter writes the parts of a snapshot. The first error stays and is
// what Flush returns; there is no need to look at each call.
type SnapshotWriter struct {
	w   *bufio.Writer
	buf [binary.MaxVarintLen64]byte
	err error
}

// NewSnapshotWriter buffers writes to w until Flush.
func NewSnapshotWriter(w io.Writer) *SnapshotWriter {
	return &SnapshotWriter{w: bufio.NewWriterSize(w, 1<<16)}
}

func (s *SnapshotWriter) write(b []byte) {
	if s.err == nil {
		_, s.err = s.w.Write(b)
	}
}

// Uvarint writes an unsigned number in as few bytes as it needs.
func (s *SnapshotWriter) Uvarint(v uint64) { s.write(s.buf[:binary.PutUvarint(s.buf[:], v)]) }

// Varint writes a signed number in as few bytes as it needs.
func (s *SnapshotWriter) Varint(v int64) { s.write(s.buf[:binary.PutVarint(s.buf[:], v)]) }

// Uint64 writes eight bytes.
func (s *SnapshotWriter) Uint64(v uint64) {
	binary.LittleEndian.PutUint64(s.buf[:], v)
	s.write(s.buf[:8])
}

// Bytes writes b with its length. It does not retain b.
func (s *SnapshotWriter) Bytes(b []byte) {
	s.Uvarint(uint64(len(b)))
	s.write(b)
}

// Flush hands everything to the underlying writer and returns the first error.
func (s *SnapshotWriter) Flush() error {
	if s.err == nil {
		s.err = s.w.Flush()
	}
	return s.err
}

// SnapshotReader reads what a SnapshotWriter wrote. The first error stays, all
// later values are zero, and Err returns it: a loop over a count that was read
// must look at Err.
type SnapshotReader struct {
	r   *bufio.Reader
	buf [8]byte
	err error
}

// NewSnapshotReader reads from r, with a buffer of its own.
func NewSnapshotReader(r io.Reader) *SnapshotReader {
	return &SnapshotReader{r: bufio.NewReaderSize(r, 1<<16)}
}

// Err is the first error met, wrapping ErrSnapshot.
func (s *SnapshotReader) Err() error { return s.err }

func (s *SnapshotReader) fail(err error) {
	if s.err == nil {
		s.err = fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
}

// Uvarint reads what SnapshotWriter.Uvarint wrote.
func (s *SnapshotReader) Uvarint() uint64 {
	if s.err != nil {
		return 0
	}
	v, err := binary.ReadUvarint(s.r)
	if err != nil {
		s.fail(err)
		return 0
	}
	return v
}

// Varint reads what SnapshotWriter.Varint wrote.
func (s *SnapshotReader) Varint() int64 {
	if s.err != nil {
		return 0
	}
	v, err := binary.ReadVarint(s.r)
	if err != nil {
		s.fail(err)
		return 0
	}
	return v
}

// Uint64 reads what SnapshotWriter.Uint64 wrote.
func (s *SnapshotReader) Uint64() uint64 {
	if s.err != nil {
		return 0
	}
	if _, err := io.ReadFull(s.r, s.buf[:]); err != nil {
		s.fail(err)
		return 0
	}
	return binary.LittleEndian.Uint64(s.buf[:])
}

// Bytes reads what SnapshotWriter.Bytes wrote, of at most limit bytes, into
// dst's storage where it fits.
func (s *SnapshotReader) Bytes(dst []byte, limit int) []byte {
	n := s.Uvarint()
	if s.err != nil {
		return dst[:0]
	}
	if n > uint64(limit) {
		s.fail(fmt.Errorf("%d bytes where at most %d were expected", n, limit))
		return dst[:0]
	}
	if uint64(cap(dst)) < n {
		dst = make([]byte, n)
	}
	dst = dst[:n]
	if _, err := io.ReadFull(s.r, dst); err != nil {
		s.fail(err)
		return dst[:0]
	}
	return dst
}

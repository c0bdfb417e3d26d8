package checkpoint

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/s2"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A frame is a header and a piece:
//
//	crc        uint32 of what follows, piece included
//	stored     uint32 bytes of the piece as it stands here
//	raw        uint32 bytes of the piece; other than stored: compressed with S2
//	op         uint32
//	generation uint64
const (
	headerBytes = 24
	pieceMax    = 1 << 30
)

type frame struct {
	op, generation uint64
	piece          []byte
}

func appendFrame(dst []byte, op, generation uint64, piece []byte) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, headerBytes)...)
	room := len(dst) + s2.MaxEncodedLen(len(piece))
	if cap(dst) < room {
		dst = append(make([]byte, 0, room+room/4), dst...)
	}
	stored := s2.Encode(dst[len(dst):room], piece)
	if len(stored) < len(piece) {
		dst = dst[:len(dst)+len(stored)]
	} else {
		stored = piece
		dst = append(dst, piece...)
	}
	h := dst[at:]
	le := binary.LittleEndian
	le.PutUint32(h[4:], uint32(len(stored)))
	le.PutUint32(h[8:], uint32(len(piece)))
	le.PutUint32(h[12:], uint32(op))
	le.PutUint64(h[16:], generation)
	le.PutUint32(h, crc32.Checksum(h[4:], castagnoli))
	return dst
}

// frameReader reads a file of frames.
type frameReader struct {
	r    *bufio.Reader
	left int64
	buf  []byte
	raw  []byte
}

func newFrameReader(r io.ReaderAt, size int64) *frameReader {
	return &frameReader{r: bufio.NewReaderSize(io.NewSectionReader(r, 0, size), 1<<18), left: size}
}

// next is the next frame, nil at the end. Its piece is valid until the next call.
func (f *frameReader) next() (*frame, error) {
	if f.left == 0 {
		return nil, nil
	}
	header, err := f.take(headerBytes, 0)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	sum, stored, raw := le.Uint32(header), le.Uint32(header[4:]), le.Uint32(header[8:])
	if stored > raw || raw > pieceMax {
		return nil, fmt.Errorf("%w: a piece of %d bytes in %d", ErrDamaged, raw, stored)
	}
	all, err := f.take(int64(stored), headerBytes)
	if err != nil {
		return nil, err
	}
	if crc32.Checksum(all[4:], castagnoli) != sum {
		return nil, fmt.Errorf("%w: the checksum of a frame does not match", ErrDamaged)
	}
	one := &frame{op: uint64(le.Uint32(all[12:])), generation: le.Uint64(all[16:]), piece: all[headerBytes:]}
	if stored < raw {
		if n, err := s2.DecodedLen(one.piece); err != nil || n != int(raw) {
			return nil, fmt.Errorf("%w: a piece of another length than its frame says", ErrDamaged)
		}
		if f.raw, err = s2.Decode(f.raw[:cap(f.raw)], one.piece); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		one.piece = f.raw
	}
	return one, nil
}

// take reads n bytes behind those that are kept in the buffer.
func (f *frameReader) take(n int64, kept int) ([]byte, error) {
	if n > f.left {
		return nil, fmt.Errorf("%w: a file ends within a frame", ErrDamaged)
	}
	f.left -= n
	if need := kept + int(n); cap(f.buf) < need {
		f.buf = append(make([]byte, 0, need+need/4), f.buf[:kept]...)
	}
	f.buf = f.buf[:kept+int(n)]
	if _, err := io.ReadFull(f.r, f.buf[kept:]); err != nil {
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			err = fmt.Errorf("%w: a file is shorter than its manifest says", ErrDamaged)
		}
		return nil, err
	}
	return f.buf, nil
}

// A manifest is the magic, the parts below as unsigned varints and bytes with their
// length, and a CRC-32C of all of it.
const (
	manifestMagic   = "WEIRMAN1"
	manifestVersion = 1
)

func (s *Saved) encode() []byte {
	b := []byte(manifestMagic)
	u := func(v uint64) { b = binary.AppendUvarint(b, v) }
	u(manifestVersion)
	u(s.Generation)
	u(uint64(len(s.Meta)))
	b = append(b, s.Meta...)
	u(s.nextOp)
	u(uint64(len(s.ops)))
	for _, op := range s.ops {
		u(op.number)
		u(uint64(len(op.identity)))
		b = append(b, op.identity...)
	}
	u(uint64(len(s.files)))
	for i := range s.files {
		f := &s.files[i]
		u(f.number)
		u(uint64(f.size))
		u(uint64(len(f.turns)))
		for _, t := range f.turns {
			u(t.op)
			u(t.turn)
		}
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeManifest(data []byte) (*Saved, error) {
	if len(data) < len(manifestMagic)+4 || string(data[:len(manifestMagic)]) != manifestMagic {
		return nil, fmt.Errorf("%w: not a manifest", ErrDamaged)
	}
	body := data[:len(data)-4]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(data[len(body):]) {
		return nil, fmt.Errorf("%w: the checksum of the manifest does not match", ErrDamaged)
	}
	r := reader{rest: body[len(manifestMagic):]}
	if v := r.uvarint(); v != manifestVersion {
		return nil, fmt.Errorf("a manifest of version %d, this program reads %d", v, manifestVersion)
	}
	s := &Saved{Generation: r.uvarint(), Meta: r.bytes(), nextOp: r.uvarint()}
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		s.ops = append(s.ops, operator{r.uvarint(), string(r.bytes())})
	}
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		f := frames{number: r.uvarint(), size: int64(r.uvarint())}
		for m := r.uvarint(); m > 0 && !r.bad; m-- {
			f.turns = append(f.turns, turn{r.uvarint(), r.uvarint()})
		}
		r.bad = r.bad || f.size < 0
		s.files = append(s.files, f)
	}
	if r.bad || len(r.rest) > 0 {
		return nil, fmt.Errorf("%w: a manifest that ends too early or too late", ErrDamaged)
	}
	return s, nil
}

// reader reads a manifest; bad once it has ended too early.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) bytes() []byte {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

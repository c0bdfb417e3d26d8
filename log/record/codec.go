package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/snappy/xerial"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// encoders are a Builder's compressors, made when first needed and reused.
type encoders struct {
	sink sliceWriter
	gzip *gzip.Writer
	lz4  *lz4.Writer
	zstd *zstd.Encoder
}

// sliceWriter is an io.Writer that appends to a slice.
type sliceWriter struct{ b []byte }

func (w *sliceWriter) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}

// compress appends src, compressed, to dst.
func (e *encoders) compress(dst, src []byte, c Codec) ([]byte, error) {
	switch c {
	case Gzip:
		if e.gzip == nil {
			e.gzip = gzip.NewWriter(&e.sink)
		}
		e.sink.b = dst
		e.gzip.Reset(&e.sink)
		return e.stream(e.gzip, src)
	case Snappy:
		// The framing of the Java client: every consumer reads it.
		blocks := len(src)/xerialBlockSize + 1
		dst = slices.Grow(dst, xerialHeaderSize+blocks*(4+s2.MaxEncodedLen(xerialBlockSize)))
		body := xerial.Encode(dst[len(dst):], src) // in place: the room is there
		return dst[:len(dst)+len(body)], nil
	case LZ4:
		if e.lz4 == nil {
			e.lz4 = lz4.NewWriter(&e.sink)
			if err := e.lz4.Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.ConcurrencyOption(1)); err != nil {
				return nil, err
			}
		}
		e.sink.b = dst
		e.lz4.Reset(&e.sink)
		return e.stream(e.lz4, src)
	case Zstd:
		if e.zstd == nil {
			var err error
			e.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithZeroFrames(true),
				zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(512<<10))
			if err != nil {
				return nil, err
			}
		}
		return e.zstd.EncodeAll(src, dst), nil
	}
	return nil, fmt.Errorf("%w %d", ErrCodec, c)
}

func (e *encoders) stream(w io.WriteCloser, src []byte) ([]byte, error) {
	if _, err := w.Write(src); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	out := e.sink.b
	e.sink.b = nil
	return out, nil
}

// decoders are a Reader's decompressors, made when first needed and reused.
type decoders struct {
	src  bytes.Reader
	gzip *gzip.Reader
	lz4  *lz4.Reader
	zstd *zstd.Decoder
}

// decompress writes src, decompressed, over dst and returns it. No more than
// limit bytes are written or allocated.
func (d *decoders) decompress(dst, src []byte, c Codec, limit int) ([]byte, error) {
	var err error
	switch c {
	case Gzip:
		d.src.Reset(src)
		if d.gzip == nil {
			d.gzip = new(gzip.Reader)
		}
		if err = d.gzip.Reset(&d.src); err == nil {
			dst, err = readAll(dst[:0], d.gzip, limit)
		}
	case Snappy:
		dst, err = unsnappy(dst[:0], src, limit)
	case LZ4:
		if d.lz4 == nil {
			d.lz4 = lz4.NewReader(nil)
		}
		d.src.Reset(src)
		d.lz4.Reset(&d.src)
		dst, err = readAll(dst[:0], d.lz4, limit)
	case Zstd:
		if d.zstd == nil {
			d.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
				zstd.WithDecoderMaxMemory(uint64(limit)))
			if err != nil {
				return dst, err
			}
		}
		dst, err = d.zstd.DecodeAll(src, dst[:0])
		if errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) {
			err = fmt.Errorf("%w of %d bytes", ErrDecompressed, limit)
		}
	default:
		return dst, fmt.Errorf("%w %d", ErrCodec, c)
	}
	if err != nil && !errors.Is(err, ErrDecompressed) {
		err = fmt.Errorf("%w: %v: %w", ErrDecompress, c, err)
	}
	return dst, err
}

// readAll appends all of r to dst, at most limit bytes.
func readAll(dst []byte, r io.Reader, limit int) ([]byte, error) {
	for {
		if len(dst) == cap(dst) {
			if len(dst) > limit {
				return dst, fmt.Errorf("%w of %d bytes", ErrDecompressed, limit)
			}
			// One byte past the limit tells a bomb from a full house.
			dst = slices.Grow(dst, max(1, min(max(len(dst), 4096), limit+1-len(dst))))
		}
		n, err := r.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if len(dst) > limit {
			return dst, fmt.Errorf("%w of %d bytes", ErrDecompressed, limit)
		}
		if err == io.EOF {
			return dst, nil
		}
		if err != nil {
			return dst, err
		}
	}
}

// xerialMagic begins Java's framing of snappy blocks: then come two versions,
// and each block with its length.
var xerialMagic = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

const (
	xerialHeaderSize = 16
	xerialBlockSize  = 32 << 10 // plain bytes in a block, as Java writes them
)

// unsnappy appends src, decompressed, to dst.
func unsnappy(dst, src []byte, limit int) ([]byte, error) {
	if !bytes.HasPrefix(src, xerialMagic) {
		return unsnappyBlock(dst, src, limit)
	}
	if len(src) < xerialHeaderSize {
		return dst, ErrShort
	}
	src = src[xerialHeaderSize:]
	for len(src) > 0 {
		if len(src) < 4 {
			return dst, ErrShort
		}
		n := binary.BigEndian.Uint32(src)
		src = src[4:]
		if uint64(n) > uint64(len(src)) {
			return dst, ErrShort
		}
		var err error
		if dst, err = unsnappyBlock(dst, src[:n], limit); err != nil {
			return dst, err
		}
		src = src[n:]
	}
	return dst, nil
}

func unsnappyBlock(dst, src []byte, limit int) ([]byte, error) {
	n, err := s2.DecodedLen(src)
	if err != nil {
		return dst, err
	}
	if n > limit-len(dst) {
		return dst, fmt.Errorf("%w of %d bytes", ErrDecompressed, limit)
	}
	// A snappy block of n bytes is never smaller than n/64, so a tiny block
	// cannot make us reserve much.
	if n/64 > len(src) {
		return dst, s2.ErrCorrupt
	}
	dst = slices.Grow(dst, n)
	_, err = s2.Decode(dst[len(dst):len(dst)+n], src)
	return dst[:len(dst)+n], err
}

package loader

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/gzip"
)

const (
	readAheadBytes  = 256 << 10 // of one chunk
	readAheadChunks = 8
)

// input is an open file whose content is unpacked by a goroutine of its own.
type input struct {
	file    *os.File
	name    string // as the caller wrote it
	size    int64
	changed time.Time // as of the start
	gzipped bool
	read    atomic.Int64 // bytes of the file
	chunks  chan []byte  // unpacked; closed at the end
	free    chan []byte
	err     error // valid once chunks is closed; nil at the end of the file
}

// openInput opens a file and tells gzip by its first bytes.
func openInput(path string) (*input, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s: not a regular file, so that a load of it could not be resumed", path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	in := &input{file: f, name: path, size: st.Size(), changed: st.ModTime(), chunks: make(chan []byte, readAheadChunks), free: make(chan []byte, readAheadChunks+2)}
	var magic [2]byte
	if n, _ := f.ReadAt(magic[:], 0); n == 2 {
		in.gzipped = magic == [2]byte{0x1f, 0x8b}
	}
	return in, nil
}

// unchanged is an error where the file was written to since openInput: what was
// loaded has the id of what the file was then.
func (in *input) unchanged() error {
	st, err := in.file.Stat()
	if err != nil {
		return fmt.Errorf("%s: %w", in.name, err)
	}
	if st.Size() == in.size && st.ModTime().Equal(in.changed) {
		return nil
	}
	return fmt.Errorf("%s was written to while it was loaded (it had %d bytes and has %d): the load may have met half a row, and a load of the file as it is now would write its rows once more", in.name, in.size, st.Size())
}

// loadID names the load of this file into a stream. All of the file counts: a file in
// which one digit was mended is another one.
func (in *input) loadID(ctx context.Context, stream string) (string, error) {
	h := sha256.New()
	var size [8]byte
	binary.BigEndian.PutUint64(size[:], uint64(in.size))
	for _, part := range [][]byte{[]byte(stream), []byte(filepath.Base(in.name)), size[:]} {
		h.Write(binary.AppendUvarint(nil, uint64(len(part))))
		h.Write(part)
	}
	part := make([]byte, readAheadBytes)
	for at := int64(0); at < in.size; {
		n, err := in.file.ReadAt(part[:min(int64(len(part)), in.size-at)], at)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil { // io.EOF, too: the file has become shorter
			return "", fmt.Errorf("%s: %w", in.name, err)
		}
		h.Write(part[:n])
		at += int64(n)
	}
	return hex.EncodeToString(h.Sum(nil)[:12]), nil
}

// inputs are the files of a load.
type inputs []*input

func openInputs(paths []string) (inputs, error) {
	if len(paths) == 0 {
		return nil, errors.New("no file to load")
	}
	var ins inputs
	for _, path := range paths {
		in, err := openInput(path)
		if err != nil {
			ins.close()
			return nil, err
		}
		ins = append(ins, in)
	}
	return ins, nil
}

func (ins inputs) close() {
	for _, in := range ins {
		in.file.Close()
	}
}

// String names the files for messages.
func (ins inputs) String() string {
	if len(ins) == 1 {
		return ins[0].name
	}
	return fmt.Sprintf("%s and %d more", ins[0].name, len(ins)-1)
}

func (ins inputs) unchanged() error {
	for _, in := range ins {
		if err := in.unchanged(); err != nil {
			return err
		}
	}
	return nil
}

// loadID names the load of these files, in this order, into a stream.
func (ins inputs) loadID(ctx context.Context, stream string) (string, error) {
	if len(ins) == 1 {
		return ins[0].loadID(ctx, stream)
	}
	h := sha256.New()
	for _, in := range ins {
		id, err := in.loadID(ctx, stream)
		if err != nil {
			return "", err
		}
		h.Write([]byte(id))
	}
	return hex.EncodeToString(h.Sum(nil)[:12]), nil
}

// start begins to read ahead, until the end of the file, an error or ctx is done.
func (in *input) start(ctx context.Context) {
	go func() {
		defer close(in.chunks)
		in.err = in.pump(ctx)
	}()
}

func (in *input) pump(ctx context.Context) error {
	var r io.Reader = bufio.NewReaderSize(&counted{in.file, &in.read}, readAheadBytes)
	if in.gzipped {
		z, err := gzip.NewReader(r)
		if err != nil {
			return fmt.Errorf("gzip: %w", err)
		}
		r = z
	}
	for {
		var chunk []byte
		select {
		case chunk = <-in.free:
		default:
			chunk = make([]byte, readAheadBytes)
		}
		n, err := io.ReadFull(r, chunk[:readAheadBytes])
		if n > 0 {
			select {
			case in.chunks <- chunk[:n]:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, io.ErrUnexpectedEOF) && !in.gzipped:
			return nil // a last chunk that is not full
		case errors.Is(err, io.ErrUnexpectedEOF):
			// From ReadFull, that the last chunk is not full; from gzip, that the
			// file ends too early. Reading on tells.
			var one [1]byte
			if _, again := io.ReadFull(r, one[:]); errors.Is(again, io.EOF) {
				return nil
			}
			return fmt.Errorf("gzip: the file ends in the middle, at byte %d of %d: %w", in.read.Load(), in.size, err)
		default:
			return fmt.Errorf("at byte %d of %d: %w", in.read.Load(), in.size, err)
		}
	}
}

// next is the next chunk, io.EOF at the end of the file. Its buffer belongs to the
// caller until recycle.
func (in *input) next() ([]byte, error) {
	chunk, ok := <-in.chunks
	switch {
	case ok:
		return chunk, nil
	case in.err != nil:
		return nil, in.err
	}
	return nil, io.EOF
}

func (in *input) recycle(chunk []byte) {
	select {
	case in.free <- chunk[:cap(chunk)]:
	default:
	}
}

// counted counts what is read.
type counted struct {
	r io.Reader
	n *atomic.Int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n.Add(int64(n))
	return n, err
}

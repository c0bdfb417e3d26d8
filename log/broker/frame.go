package broker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"github.com/twmb/franz-go/pkg/kbin"
)

// errMalformed is wrapped by every error about bytes that are not a request.
var errMalformed = errors.New("malformed request")

// header is the part that all requests share.
type header struct {
	key         int16
	version     int16
	correlation int32
	clientID    string
}

// readFixed reads the part of a request header that does not depend on the key:
// key, version, correlation id and client id. flexible headers continue with
// tagged fields, which layout.SkipTags takes.
func readFixed(b *kbin.Reader) (header, error) {
	h := header{key: b.Int16(), version: b.Int16(), correlation: b.Int32()}
	if id := b.NullableString(); id != nil {
		h.clientID = *id
	}
	if !b.Ok() {
		return h, fmt.Errorf("%w: a frame that ends inside the request header", errMalformed)
	}
	return h, nil
}

// frame builds one response: encoded bytes, between which records are spliced
// without being copied. It belongs to a connection's writer, which reuses it.
type frame struct {
	buf     []byte
	splices []splice
	spliced int // bytes in splices
	bufs    net.Buffers
}

// splice is a run of bytes that stands before buf[at].
type splice struct {
	at   int
	data []byte
}

// begin starts a response with its size left open and the response header.
// Flexible headers end with an empty set of tagged fields.
func (f *frame) begin(correlation int32, flexible bool) {
	f.buf = append(f.buf[:0], 0, 0, 0, 0)
	f.buf = kbin.AppendInt32(f.buf, correlation)
	if flexible {
		f.buf = append(f.buf, 0)
	}
	f.splices, f.spliced = f.splices[:0], 0
}

// add splices data in at the present place. data stays the caller's and must not
// change until the response is written.
func (f *frame) add(data []byte) {
	if len(data) == 0 {
		return
	}
	f.splices = append(f.splices, splice{at: len(f.buf), data: data})
	f.spliced += len(data)
}

// end fills the size in and returns the pieces to write, valid until the next
// begin.
func (f *frame) end() (*net.Buffers, int) {
	size := len(f.buf) + f.spliced
	binary.BigEndian.PutUint32(f.buf, uint32(size-4))
	f.bufs = f.bufs[:0]
	from := 0
	for _, s := range f.splices {
		if s.at > from {
			f.bufs = append(f.bufs, f.buf[from:s.at])
			from = s.at
		}
		f.bufs = append(f.bufs, s.data)
	}
	if from < len(f.buf) {
		f.bufs = append(f.bufs, f.buf[from:])
	}
	return &f.bufs, size
}

// forget drops references to spliced data, and the buffer where a rare large
// response has grown it.
func (f *frame) forget() {
	clear(f.splices)
	f.splices, f.spliced = f.splices[:0], 0
	clear(f.bufs[:cap(f.bufs)])
	if cap(f.buf) > maxIdleFrame {
		f.buf = nil
	}
}

// maxIdleFrame is how large a response buffer a connection keeps, in bytes.
const maxIdleFrame = 256 << 10

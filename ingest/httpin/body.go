package httpin

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/gzip"
)

// budget bounds the bytes of all bodies in memory.
type budget struct {
	most int64
	used atomic.Int64
}

func (b *budget) take(n int64) bool {
	if b.used.Add(n) <= b.most {
		return true
	}
	b.used.Add(-n)
	return false
}

func (b *budget) give(n int64) { b.used.Add(-n) }

// body is a body in memory, unpacked.
type body struct {
	data []byte
	held int64 // of the budget
	cut  error // why it ends too early, nil where it is whole
}

func (b *body) release(of *budget) {
	of.give(b.held)
	*b = body{}
}

// firstBytes is what a body is given at first; it doubles from there as bytes
// arrive, so that a client that promises much and sends little holds little.
const firstBytes = 4 << 10

// lingerFor is how long more of a body is thrown away after a refusal.
const lingerFor = 500 * time.Millisecond

// read reads the whole body into q. After a problem nothing is held.
func (h *Handler) read(w http.ResponseWriter, r *http.Request, q *request) *problem {
	b := &q.body
	wire := &wireReader{r: http.MaxBytesReader(w, r.Body, h.o.BodyMax), control: http.NewResponseController(w), each: h.o.ReadTimeout,
		until: time.Now().Add(h.o.BodyTimeout)}
	p := h.readInto(b, wire, q.gzip)
	if p == nil {
		_ = wire.control.SetReadDeadline(time.Time{})
	} else {
		// The server reads on for a while, so that the client sees the answer.
		_ = wire.control.SetReadDeadline(time.Now().Add(lingerFor))
		b.release(&h.budget)
		w.Header().Set("Connection", "close") // what is left of the body is not worth reading
	}
	return p
}

func (h *Handler) readInto(b *body, wire *wireReader, zipped bool) *problem {
	var from io.Reader = wire
	if zipped {
		z, err := gzip.NewReader(wire)
		if err != nil {
			return h.unreadable(wire, err, b)
		}
		defer z.Close()
		from = z
	}
	for {
		if len(b.data) == cap(b.data) {
			if int64(len(b.data)) > h.o.BodyMax {
				return h.tooLarge(zipped)
			}
			if p := h.grow(b); p != nil {
				return p
			}
		}
		n, err := from.Read(b.data[len(b.data):cap(b.data)])
		b.data = b.data[:len(b.data)+n]
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			if int64(len(b.data)) > h.o.BodyMax {
				return h.tooLarge(zipped)
			}
			if len(b.data) == 0 {
				return &problem{Status: http.StatusBadRequest, Detail: "the body is empty"}
			}
			return nil
		default:
			return h.unreadable(wire, err, b)
		}
	}
}

// grow doubles the body's room, up to one byte beyond the limit.
func (h *Handler) grow(b *body) *problem {
	size := min(max(firstBytes, 2*int64(cap(b.data))), h.o.BodyMax+1)
	// Both exist while one is copied to the other.
	if !h.budget.take(size) {
		h.metrics.turnedAway.Inc()
		return busy(fmt.Sprintf("%d bytes of events are in flight already", h.o.InFlight))
	}
	data := make([]byte, len(b.data), size)
	copy(data, b.data)
	h.budget.give(b.held)
	b.data, b.held = data, size
	return nil
}

func (h *Handler) tooLarge(zipped bool) *problem {
	what := "the body has"
	if zipped {
		what = "the body unpacks to"
	}
	return &problem{Status: http.StatusRequestEntityTooLarge, Detail: fmt.Sprintf("%s more than %d bytes; send the events in several requests", what, h.o.BodyMax)}
}

// unreadable is what err makes of a request: nothing where the body has arrived
// whole and is a gzip that ends too early.
func (h *Handler) unreadable(wire *wireReader, err error, b *body) *problem {
	var big *http.MaxBytesError
	switch {
	case errors.As(wire.err, &big):
		return h.tooLarge(false)
	case errors.Is(wire.err, os.ErrDeadlineExceeded):
		return &problem{Status: http.StatusRequestTimeout, Detail: "the body did not arrive in time; nothing of it was written"}
	case wire.err != nil && !errors.Is(wire.err, io.EOF):
		return &problem{Status: http.StatusBadRequest, Detail: "the body did not arrive whole; nothing of it was written"}
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		if len(b.data) == 0 {
			return &problem{Status: http.StatusBadRequest, Detail: "the gzip ends before its first byte of content"}
		}
		if int64(len(b.data)) > h.o.BodyMax {
			return h.tooLarge(true)
		}
		b.cut = errors.New("the gzip ends in the middle; what is whole before that was taken")
		return nil
	}
	return &problem{Status: http.StatusBadRequest, Detail: fmt.Sprintf("the body is not the gzip that Content-Encoding says: %v", err)}
}

// wireReader reads a body as it arrives, each read with a deadline, and keeps its
// error apart from those of what unpacks it.
type wireReader struct {
	r       io.Reader
	control *http.ResponseController
	each    time.Duration
	until   time.Time
	err     error
}

func (w *wireReader) Read(p []byte) (int, error) {
	deadline := time.Now().Add(w.each)
	if w.until.Before(deadline) {
		deadline = w.until
	}
	_ = w.control.SetReadDeadline(deadline) // not every transport has one
	n, err := w.r.Read(p)
	if err != nil {
		w.err = err
	}
	return n, err
}

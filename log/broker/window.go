package broker

import (
	"bufio"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
)

// window is a request that is being read: Src has what has arrived and was not
// consumed. A Produce request goes through it one batch after the other, so that a
// large one needs no more memory than its largest batch, which is still in the
// processor's cache when it is written. It belongs to the connection's reader.
type window struct {
	kbin.Reader
	c    *conn
	r    *bufio.Reader
	size int     // of the request
	left int     // of it, not read yet
	buf  *[]byte // Src lies in it, at its end
	held int64   // taken from the budget
	over time.Time
	idle time.Time // since when nothing is waited for
}

const (
	// headroom is what of a request must be in the window for what stands between
	// its batches: names, numbers and tagged fields.
	headroom = 64 << 10
	// maxPooled is the largest buffer that is kept between requests.
	maxPooled = 4 << 20
)

var windowBuffers = sync.Pool{New: func() any { b := make([]byte, 0, headroom); return &b }}

func newWindow(c *conn, r *bufio.Reader, size int) *window {
	w := &window{c: c, r: r, size: size, left: size, buf: windowBuffers.Get().(*[]byte), over: c.srv.slowest(size), idle: time.Now()}
	*w.buf = (*w.buf)[:0]
	return w
}

// close gives back what the window holds.
func (w *window) close() {
	w.c.srv.metrics.received.Add(float64(w.size - w.left + 4))
	w.c.srv.requests.give(w.held)
	if cap(*w.buf) <= maxPooled {
		windowBuffers.Put(w.buf)
	}
}

// take takes n bytes out of the budget.
func (w *window) take(ctx context.Context, n int64) error {
	if err := w.c.srv.requests.take(ctx, n); err != nil {
		return fmt.Errorf("waiting for memory for a request of %d bytes: %w", w.size, err)
	}
	w.held += n
	return nil
}

// fill reads until Src has n bytes, or all that is left of the request. What was
// taken from Src before is no longer valid. The buffer grows as bytes arrive: to
// announce many holds nothing.
func (w *window) fill(n int) error {
	if len(w.Src) >= n || w.left == 0 || !w.Ok() {
		return nil
	}
	w.over = w.over.Add(time.Since(w.idle)) // the client is not to blame for our own work
	err := w.read(min(n, len(w.Src)+w.left))
	w.idle = time.Now()
	if err != nil {
		return fmt.Errorf("read a request of %d bytes: %w", w.size, err)
	}
	return nil
}

func (w *window) read(n int) error {
	buf := (*w.buf)[:cap(*w.buf)]
	buf = buf[:copy(buf, w.Src)]
	for len(buf) < n {
		step := min(n-len(buf), max(firstAlloc, len(buf)))
		if err := w.reserve(len(buf) + step); err != nil {
			return err
		}
		from := len(buf)
		buf = slices.Grow(buf, step)[:from+step]
		*w.buf = buf
		for at := from; at < len(buf); at += piece {
			one := buf[at:min(at+piece, len(buf))]
			if err := w.c.readPiece(w.r, one, w.over); err != nil {
				return err
			}
			w.left -= len(one)
		}
	}
	*w.buf, w.Src = buf, buf
	return nil
}

// reserve takes what a window of n bytes needs out of the budget. The first time it
// waits for as long as it must, which is what slows clients down; later, when others
// may wait for what it holds, for a third of Options.SlowGrace.
func (w *window) reserve(n int) error {
	need := int64(n) - w.held
	if need <= 0 {
		return nil
	}
	if w.held == 0 {
		return w.take(w.c.ctx, max(need, int64(min(w.size, firstAlloc))))
	}
	ctx, cancel := context.WithTimeout(w.c.ctx, w.c.srv.opt.SlowGrace/3)
	defer cancel()
	return w.take(ctx, need)
}

// bytes is a field of bytes, nil where it is null, valid until the next fill. Where
// the request has not as many, the window is not Ok. What follows it is in the window
// as far as headroom goes.
func (w *window) bytes(flexible bool) ([]byte, error) {
	peek := kbin.Reader{Src: w.Src}
	n := 0
	if flexible {
		n = compactLen(&peek)
	} else {
		n = int(peek.Int32())
	}
	if peek.Ok() && n > 0 && n <= len(peek.Src)+w.left {
		if err := w.fill(len(w.Src) - len(peek.Src) + n + headroom); err != nil {
			return nil, err
		}
	}
	return nullableBytes(&w.Reader, flexible), nil
}

// skip passes over what is left of the request.
func (w *window) skip() error {
	for w.Src = nil; w.left > 0; w.Src = nil {
		if err := w.fill(piece); err != nil {
			return err
		}
	}
	return nil
}

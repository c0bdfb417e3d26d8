package broker

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/weirstream/weir/log/layout"
)

const (
	// maxPending is how many requests of one connection may be started and not yet
	// answered.
	maxPending = 64
	// maxControlBytes bounds requests other than Produce.
	maxControlBytes = 1 << 20
	// maxConnMemory bounds what the started requests of one connection take in memory
	// until they are answered: beyond it no more are read.
	maxConnMemory = 8 << 20
	// firstAlloc is what a frame's announced size may allocate before any of its
	// bytes has arrived.
	firstAlloc = 1 << 20
	// slowestClient is the lowest rate at which a request may arrive and a
	// response be taken, in bytes per second, beyond Options.SlowGrace.
	slowestClient = 64 << 10
	// piece is how much of a request must arrive in Options.SlowGrace (and its share
	// of slowestClient): a request that stands still ends early, however large.
	piece = 64 << 10
)

// conn is one client's connection: the reader starts requests in the order they
// arrive, the writer finishes and answers them in the same order.
type conn struct {
	srv    *Server
	nc     net.Conn
	logger *slog.Logger
	ctx    context.Context // of the connection: done when its client is gone or the server stops
	hard   context.Context // done when started requests must be given up
	queue  chan pending    // reader to writer
	share  *budget         // maxConnMemory
	frame  frame           // the writer's
	cur    cursors         // the writer's
	opened []int32         // fetch sessions made here; the writer's
}

// maxOpened is how many of the sessions that a connection made end with it; a sane
// client has one.
const maxOpened = 16

// remember has a session end with this connection.
func (c *conn) remember(s *fetchSession) {
	if s == nil {
		return
	}
	if len(c.opened) == maxOpened {
		c.srv.sessions.remove(c.opened[0])
		c.opened = slices.Delete(c.opened, 0, 1)
	}
	c.opened = append(c.opened, s.id)
}

// forgetSessions ends the sessions made here: their client would start over.
func (c *conn) forgetSessions() {
	for _, id := range c.opened {
		c.srv.sessions.remove(id)
	}
}

// pending is a started request on its way to the writer.
type pending struct {
	api    *api
	head   header
	answer answer
	since  time.Time
	memory int64 // held until it is answered
}

func (s *Server) serveConn(ctx, hard context.Context, nc net.Conn) {
	s.metrics.connections.Inc()
	defer s.metrics.connections.Dec()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	hard, cancelHard := context.WithCancel(hard)
	defer cancelHard()
	c := &conn{srv: s, nc: nc, ctx: ctx, hard: hard, queue: make(chan pending, maxPending), share: newBudget(maxConnMemory),
		cur: cursors{total: &s.idleBytes}, logger: s.opt.Logger.With("remote", nc.RemoteAddr().String())}
	// A reader blocked on the socket learns of the end through its deadline; a
	// writer blocked on the socket when the drain time is over, by the close.
	stop := context.AfterFunc(ctx, func() { nc.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	stopHard := context.AfterFunc(hard, func() { nc.Close() })
	defer stopHard()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.writeLoop()
		// Whatever ended the writer, the reader has no one to read for.
		cancel()
		for p := range c.queue {
			c.done(p)
		}
	}()
	c.readLoop()
	cancel()
	<-done
	nc.Close()
}

// readLoop starts requests until the client is gone, a request is malformed or
// the connection ends.
func (c *conn) readLoop() {
	defer close(c.queue)
	r := bufio.NewReaderSize(c.nc, 32<<10)
	for {
		p, err := c.readOne(r)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !errors.Is(err, syscall.ECONNRESET) && c.ctx.Err() == nil {
				c.logger.Debug("closing connection", "err", err)
				c.srv.metrics.closed(err)
			}
			return
		}
		if p.answer == nil {
			continue // acks 0
		}
		c.queue <- p // the writer takes until the queue is closed, whatever happens
	}
}

// readOne reads one request and starts it. What it holds meanwhile comes out of
// the budget as its bytes arrive: to announce a large request holds nothing. A
// client that does not take its answers is not read any further.
func (c *conn) readOne(r *bufio.Reader) (pending, error) {
	if err := c.share.take(c.ctx, 0); err != nil {
		return pending{}, err
	}
	size, err := c.readSize(r)
	if err != nil {
		return pending{}, err
	}
	peek, err := r.Peek(2)
	if err != nil {
		return pending{}, fmt.Errorf("%w: a frame that ends before its API key: %w", errMalformed, err)
	}
	produce := peek[0] == 0 && peek[1] == 0
	if !produce && size > maxControlBytes {
		return pending{}, fmt.Errorf("%w: a request of %d bytes for key %d; at most %d", errMalformed, size, binary.BigEndian.Uint16(peek), maxControlBytes)
	}
	w := newWindow(c, r, int(size))
	defer w.close()
	first := int(size)
	if produce {
		first = headroom // it takes its batches one after the other
	}
	if err := w.fill(first); err != nil {
		return pending{}, err
	}
	return c.start(w)
}

// readSize waits for the next request and returns its announced size.
func (c *conn) readSize(r *bufio.Reader) (int32, error) {
	c.nc.SetReadDeadline(time.Now().Add(c.srv.opt.IdleTimeout))
	if err := c.ctx.Err(); err != nil { // after the deadline: see serveConn
		return 0, err
	}
	if _, err := r.Peek(1); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) && c.ctx.Err() == nil {
			c.srv.metrics.aborted.WithLabelValues(closedIdle).Inc()
			return 0, io.EOF
		}
		return 0, err
	}
	// From its first byte on a request must arrive.
	c.nc.SetReadDeadline(c.srv.slowest(0))
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	var b [4]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, fmt.Errorf("read the size of a request: %w", err)
	}
	size := int32(binary.BigEndian.Uint32(b[:]))
	if size < 8 || size > c.srv.opt.MaxRequestBytes {
		return 0, fmt.Errorf("%w: a frame of %d bytes; expected 8 to %d", errMalformed, size, c.srv.opt.MaxRequestBytes)
	}
	return size, nil
}

// readPiece fills b, which must not take longer than what a client may need for so
// much, nor last beyond the end of the whole.
func (c *conn) readPiece(r io.Reader, b []byte, over time.Time) error {
	deadline := c.srv.slowest(len(b))
	if over.Before(deadline) {
		deadline = over
	}
	c.nc.SetReadDeadline(deadline)
	if err := c.ctx.Err(); err != nil { // after the deadline: see serveConn
		return err
	}
	_, err := io.ReadFull(r, b)
	return err
}

// hold takes n bytes for p until done, waiting as long as a request that began
// may. The connection's share has room: only the reader takes of it.
func (c *conn) hold(p *pending, n int64) error {
	ctx, cancel := context.WithTimeout(c.ctx, c.srv.opt.SlowGrace/3)
	defer cancel()
	if err := c.srv.requests.take(ctx, n); err != nil {
		return fmt.Errorf("waiting for memory to decode a request: %w", err)
	}
	c.share.overdraw(n)
	p.memory += n
	return nil
}

// done gives back what a started request holds.
func (c *conn) done(p pending) {
	if p.answer != nil {
		p.answer.written()
	}
	c.share.give(p.memory)
	c.srv.requests.give(p.memory)
}

// start reads the header of a request and starts it. It does not keep w.
func (c *conn) start(w *window) (pending, error) {
	since := time.Now()
	b := &w.Reader
	h, err := readFixed(b)
	if err != nil {
		return pending{}, err
	}
	a := c.srv.keys[h.key]
	if a == nil {
		return pending{}, fmt.Errorf("%w: API key %d is not served", errMalformed, h.key)
	}
	if h.version < a.min || h.version > a.max {
		if a.key == 18 {
			return pending{api: a, head: h, answer: unsupportedApiVersions(a), since: since}, nil
		}
		return pending{}, fmt.Errorf("%w: %s version %d is not served, %d to %d are", errMalformed, a.name, h.version, a.min, a.max)
	}
	if h.version >= a.flexible {
		if layout.SkipTags(b); !b.Ok() {
			return pending{}, fmt.Errorf("%w: %s v%d: bad tagged fields in the header", errMalformed, a.name, h.version)
		}
	}
	p := pending{api: a, head: h, since: since}
	if a.stream != nil {
		p.answer, err = a.stream(c, h, w)
	} else {
		p.answer, err = c.decoded(&p, b.Src)
	}
	if err != nil {
		c.done(p)
		return pending{}, fmt.Errorf("%s v%d from client %q: %w", a.name, h.version, h.clientID, err)
	}
	c.srv.metrics.requests(a).Inc()
	switch answer := p.answer.(type) {
	case nil: // acks 0
		c.done(p)
	case *produceAnswer:
		n := answer.memory()
		c.srv.requests.overdraw(n)
		c.share.overdraw(n)
		p.memory += n
	}
	return p, nil
}

// decoded starts a request that is decoded as a whole.
func (c *conn) decoded(p *pending, body []byte) (answer, error) {
	memory, err := p.api.memory(p.head.version, body)
	if err != nil {
		return nil, err
	}
	if err := c.hold(p, memory); err != nil {
		return nil, err
	}
	return p.api.start(c, p.head, body)
}

// writeLoop finishes and answers started requests in order.
func (c *conn) writeLoop() {
	defer c.cur.close()
	defer c.forgetSessions()
	for p := range c.queue {
		err := c.write(p)
		c.done(p)
		c.frame.forget()
		if err != nil {
			if c.hard.Err() == nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
				c.logger.Debug("closing connection", "err", err)
			}
			return
		}
	}
}

func (c *conn) write(p pending) error {
	f := &c.frame
	// The header of an ApiVersions response is never flexible (KIP-511): a client
	// must be able to read it before it knows what the broker speaks.
	f.begin(p.head.correlation, p.head.version >= p.api.flexible && p.api.key != 18)
	if err := p.answer.finish(c.ctx, f); err != nil {
		return fmt.Errorf("%s v%d: %w", p.api.name, p.head.version, err)
	}
	bufs, size := f.end()
	c.nc.SetWriteDeadline(c.srv.slowest(size))
	n, err := bufs.WriteTo(c.nc)
	c.srv.metrics.sent.Add(float64(n))
	c.srv.metrics.seconds(p.api).Observe(time.Since(p.since).Seconds())
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.srv.metrics.aborted.WithLabelValues(closedSlowReader).Inc()
	}
	return err
}

// slowest is when size bytes that begin to move now must have moved.
func (s *Server) slowest(size int) time.Time {
	return time.Now().Add(s.opt.SlowGrace + time.Duration(size)*time.Second/slowestClient)
}

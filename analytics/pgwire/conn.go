package pgwire

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/jeroenrinzema/psql-wire/pkg/types"
)

// listener wraps what it accepts and turns clients away when all places are taken.
type listener struct {
	net.Listener
	server *Server
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := newConn(raw, l.server)
		if l.server.admit(c) {
			return c, nil
		}
		l.server.metrics.refused.Inc()
		_ = raw.SetDeadline(time.Now().Add(stopMax)) // on failure the write fails too
		_, _ = raw.Write(fatal("53300", "too many clients are connected already"))
		raw.Close()
	}
}

// conn is a client's connection. psql-wire reads and writes it from one goroutine.
type conn struct {
	net.Conn
	server *Server
	pid    int32
	secret int32 // under Server.mu; 0 until the handshake is over
	ctx    context.Context
	close  context.CancelFunc

	// Of the session's goroutine:
	tx       types.ServerStatus
	position int           // of the error that is written next, 0: none
	timeout  time.Duration // of the session's statements, 0: the engine's
	peeked   []byte        // read by a watch, not yet by psql-wire
	settings map[string]string

	runMu  sync.Mutex
	cancel context.CancelFunc // of the running statement, nil where none runs

	outMu sync.Mutex
	out   []byte // written, not yet sent
}

// outMax is how much is buffered before it is sent.
const outMax = 32 << 10

func newConn(raw net.Conn, s *Server) *conn {
	c := &conn{Conn: raw, server: s, tx: types.ServerIdle}
	c.ctx, c.close = context.WithCancel(context.Background())
	_ = raw.SetReadDeadline(time.Now().Add(handshakeMax)) // on failure the read fails too
	return c
}

// peer is a remote address that leads back to its connection.
type peer struct {
	net.Addr
	conn *conn
}

func (c *conn) RemoteAddr() net.Addr { return &peer{c.Conn.RemoteAddr(), c} }

// Read sends what is buffered first: whoever reads waits for an answer.
func (c *conn) Read(p []byte) (int, error) {
	if err := c.flush(); err != nil {
		return 0, err
	}
	if len(c.peeked) > 0 {
		n := copy(p, c.peeked)
		c.peeked = c.peeked[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// Write buffers one message, or a batch of rows.
func (c *conn) Write(p []byte) (int, error) {
	n := len(p)
	if n > 0 && p[0] == 'E' && c.position > 0 {
		p = withPosition(p, c.position)
		c.position = 0
	}
	if n > 0 && p[0] == 'S' {
		p = withVersion(p)
	}
	c.outMu.Lock()
	c.out = append(c.out, p...)
	full := len(c.out) >= outMax
	c.outMu.Unlock()
	if full {
		if err := c.flush(); err != nil {
			return 0, err
		}
	}
	return n, nil
}

func (c *conn) flush() error {
	c.outMu.Lock()
	defer c.outMu.Unlock()
	if len(c.out) == 0 {
		return nil
	}
	_, err := c.Conn.Write(c.out)
	if cap(c.out) > 4*outMax {
		c.out = nil // one huge row is not kept
	}
	c.out = c.out[:0]
	return err
}

// Close is called when the session is over, whoever ended it.
func (c *conn) Close() error {
	c.close()
	c.server.forget(c)
	_ = c.SetWriteDeadline(time.Now().Add(stopMax)) // on failure the write fails too
	_ = c.flush()                                   // the client may be gone
	return c.Conn.Close()
}

// shutdown ends a session from outside.
func (c *conn) shutdown() {
	c.close() // the running statement, if any, ends
	_ = c.SetWriteDeadline(time.Now().Add(stopMax))
	c.outMu.Lock()
	_, _ = c.Conn.Write(append(c.out, fatal("57P01", "terminating connection due to administrator command")...)) // the client may be gone
	c.out = c.out[:0]
	c.outMu.Unlock()
	c.Conn.Close()
}

// running makes a context for a statement, which ends with the connection, with
// cancel requests and with done.
func (c *conn) running() (ctx context.Context, done func()) {
	var cancel context.CancelFunc
	if c.timeout > 0 {
		ctx, cancel = context.WithTimeout(c.ctx, c.timeout)
	} else {
		ctx, cancel = context.WithCancel(c.ctx)
	}
	c.runMu.Lock()
	c.cancel = cancel
	c.runMu.Unlock()
	return ctx, func() {
		c.runMu.Lock()
		c.cancel = nil
		c.runMu.Unlock()
		cancel()
	}
}

func (c *conn) cancelRunning() {
	c.runMu.Lock()
	defer c.runMu.Unlock()
	if c.cancel != nil {
		c.cancel()
	}
}

// watch calls gone when the client goes away before stop is called. In between
// nothing else reads.
func (c *conn) watch(gone func()) (stop func()) {
	if len(c.peeked) > 0 {
		return func() {}
	}
	ended := make(chan struct{})
	var got []byte
	go func() {
		defer close(ended)
		var b [1]byte
		n, err := c.Conn.Read(b[:])
		if n == 1 {
			got = b[:]
			return
		}
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			return // stop
		}
		gone()
	}()
	return func() {
		_ = c.SetReadDeadline(time.Unix(1, 0)) // where it fails, the read has failed
		<-ended
		c.peeked = got
		_ = c.SetReadDeadline(time.Time{})
	}
}

// withPosition adds the field P to an ErrorResponse.
func withPosition(msg []byte, position int) []byte {
	if len(msg) < 6 || msg[len(msg)-1] != 0 {
		return msg
	}
	out := append([]byte(nil), msg[:len(msg)-1]...)
	out = append(out, 'P')
	out = strconv.AppendInt(out, int64(position), 10)
	out = append(out, 0, 0)
	binary.BigEndian.PutUint32(out[1:], uint32(len(out)-1))
	return out
}

var wireVersion = []byte("server_version\x00150000\x00")

// withVersion gives the ParameterStatus of server_version the form that clients
// read: psql takes 150000 for PostgreSQL 150,000.
func withVersion(msg []byte) []byte {
	if !bytes.HasSuffix(msg, wireVersion) {
		return msg
	}
	out := append([]byte(nil), msg[:len(msg)-len("150000\x00")]...)
	out = append(out, serverVersion...)
	out = append(out, 0)
	binary.BigEndian.PutUint32(out[1:], uint32(len(out)-1))
	return out
}

// fatal is an ErrorResponse that ends a connection.
func fatal(code, message string) []byte {
	out := []byte{'E', 0, 0, 0, 0}
	for _, f := range []string{"SFATAL", "VFATAL", "C" + code, "M" + message} {
		out = append(append(out, f...), 0)
	}
	out = append(out, 0)
	binary.BigEndian.PutUint32(out[1:], uint32(len(out)-1))
	return out
}

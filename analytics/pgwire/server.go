package pgwire

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	wire "github.com/jeroenrinzema/psql-wire"
	"github.com/jeroenrinzema/psql-wire/pkg/types"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirstream/weir/analytics"
)

// Options of New. The zero value is usable.
type Options struct {
	// ConnectionsMax is how many clients may be connected. 0: 100.
	ConnectionsMax int
	Registerer     prometheus.Registerer // nil: no metrics
	Logger         *slog.Logger          // nil: slog.Default
}

// Server serves the wire protocol.
type Server struct {
	engine  *analytics.Engine
	opts    Options
	logger  *slog.Logger
	metrics *metrics

	mu      sync.Mutex
	conns   map[int32]*conn // by process id
	lastPID int32
}

const (
	// messageMax bounds a message of a client in bytes, and is the read buffer of
	// each connection.
	messageMax = 256 << 10
	// handshakeMax is how long a client may take to say who it is.
	handshakeMax = 10 * time.Second
	// stopMax is how long clients may take to read an answer when the server stops.
	stopMax = 2 * time.Second
)

// serverVersion is the PostgreSQL whose clients find what they look for.
const serverVersion = "15.0"

// New makes a server of an engine's answers.
func New(engine *analytics.Engine, o Options) *Server {
	if o.ConnectionsMax <= 0 {
		o.ConnectionsMax = 100
	}
	s := &Server{engine: engine, opts: o, logger: o.Logger, conns: map[int32]*conn{}}
	if s.logger == nil {
		s.logger = slog.Default()
	}
	s.metrics = newMetrics(o.Registerer, s)
	return s
}

// Serve serves the clients of lis until ctx is done, then cancels what runs, closes
// the connections and returns nil. It closes lis.
func (s *Server) Serve(ctx context.Context, lis net.Listener) error {
	srv, err := wire.NewServer(s.parse,
		wire.Logger(slog.New(quiet{s.logger.Handler()})),
		wire.MessageBufferSize(messageMax),
		wire.BackendKeyData(s.backendKey),
		wire.CancelRequest(s.cancelRequest),
		wire.TxStatus(txStatus),
		wire.Statements(func() wire.StatementCache { return &statements{} }),
		wire.Portals(func() wire.PortalCache { return &portals{} }),
		wire.ExtendTypes(extendTypes),
		wire.GlobalParameters(wire.Parameters{
			"standard_conforming_strings": "on", "integer_datetimes": "on", "DateStyle": "ISO, MDY", "IntervalStyle": "postgres", "TimeZone": "UTC",
			"application_name": "", "default_transaction_read_only": "on", "in_hot_standby": "off",
		}),
	)
	if err != nil {
		return fmt.Errorf("SQL listener: %w", err)
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		lis.Close()
		s.closeAll()
	})
	defer func() {
		if !stop() {
			<-stopped
		}
		s.closeAll()
		_ = srv.Close() // it only waits for its own goroutines and says nil
		srv.Wait()
	}()
	err = srv.Serve(&listener{Listener: lis, server: s})
	if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// closeAll tells every client that the server stops, and closes its connection.
func (s *Server) closeAll() {
	s.mu.Lock()
	conns := make([]*conn, 0, len(s.conns))
	for _, c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns {
		c.shutdown()
	}
}

// admit gives a connection its place, false where all are taken.
func (s *Server) admit(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) >= s.opts.ConnectionsMax {
		return false
	}
	for {
		s.lastPID = max(1, s.lastPID+1)
		if s.conns[s.lastPID] == nil {
			break
		}
	}
	c.pid = s.lastPID
	s.conns[c.pid] = c
	return true
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c.pid)
}

// backendKey is called when a client has said who it is.
func (s *Server) backendKey(ctx context.Context) (pid, secret int32) {
	c := connOf(ctx)
	_ = c.SetReadDeadline(time.Time{}) // a closed connection fails at its next read
	s.mu.Lock()
	defer s.mu.Unlock()
	var b [4]byte
	_, _ = rand.Read(b[:]) // it never fails
	c.secret = int32(binary.BigEndian.Uint32(b[:]))
	return c.pid, c.secret
}

func (s *Server) cancelRequest(_ context.Context, pid, secret int32) error {
	s.mu.Lock()
	c := s.conns[pid]
	ok := c != nil && c.secret != 0 && subtle.ConstantTimeEq(c.secret, secret) == 1
	s.mu.Unlock()
	if ok {
		c.cancelRunning()
	}
	return nil // whether it was right is nobody's business
}

func txStatus(ctx context.Context) types.ServerStatus {
	return connOf(ctx).tx
}

// connOf is the connection that a context of psql-wire belongs to: its only thread
// through the library is the remote address.
func connOf(ctx context.Context) *conn {
	return wire.RemoteAddress(ctx).(*peer).conn
}

// statementsMax and portalsMax bound what a session keeps by name.
const (
	statementsMax = 1000
	portalsMax    = 256
)

// statements is psql-wire's cache with a bound.
type statements struct {
	wire.DefaultStatementCache
	names map[string]struct{}
}

func (c *statements) Set(ctx context.Context, name string, stmt *wire.PreparedStatement) error {
	if c.names == nil {
		c.names = map[string]struct{}{}
	}
	if _, ok := c.names[name]; !ok && len(c.names) >= statementsMax {
		return pgError("53400", fmt.Sprintf("a session keeps at most %d prepared statements", statementsMax), "deallocate those that are no longer used")
	}
	c.names[name] = struct{}{}
	return c.DefaultStatementCache.Set(ctx, name, stmt)
}

func (c *statements) Delete(ctx context.Context, name string) error {
	delete(c.names, name)
	return c.DefaultStatementCache.Delete(ctx, name)
}

func (c *statements) clear(ctx context.Context) {
	for name := range c.names {
		_ = c.Delete(ctx, name) // it never fails
	}
}

// portals is psql-wire's cache with a bound.
type portals struct {
	wire.DefaultPortalCache
	names map[string]struct{}
}

func (c *portals) Bind(ctx context.Context, name string, stmt *wire.Statement, params []wire.Parameter, formats []wire.FormatCode) error {
	if c.names == nil {
		c.names = map[string]struct{}{}
	}
	if _, ok := c.names[name]; !ok && len(c.names) >= portalsMax {
		return pgError("53400", fmt.Sprintf("a session keeps at most %d portals", portalsMax), "")
	}
	c.names[name] = struct{}{}
	return c.DefaultPortalCache.Bind(ctx, name, stmt, params, formats)
}

func (c *portals) Delete(ctx context.Context, name string) error {
	delete(c.names, name)
	return c.DefaultPortalCache.Delete(ctx, name)
}

func (c *portals) Close() {
	clear(c.names)
	c.DefaultPortalCache.Close()
}

// extendTypes makes every type that columns have write itself.
func extendTypes(m *pgtype.Map) {
	for oid, name := range oidNames {
		m.RegisterType(&pgtype.Type{Name: name, OID: oid, Codec: cellCodec{}})
	}
}

// quiet lets psql-wire log what a client did wrong at debug level only: it calls
// every scanned port an unexpected error.
type quiet struct{ h slog.Handler }

func (q quiet) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && q.h.Enabled(ctx, slog.LevelDebug)
}

func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	r.Level = slog.LevelDebug
	return q.h.Handle(ctx, r)
}

func (q quiet) WithAttrs(a []slog.Attr) slog.Handler { return quiet{q.h.WithAttrs(a)} }

func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.h.WithGroup(name)} }

type metrics struct {
	refused prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, s *Server) *metrics {
	m := &metrics{refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "weir_pgwire_refused_connections_total", Help: "Clients turned away because all connections were taken."})}
	open := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "weir_pgwire_connections", Help: "Clients connected to the SQL port."}, func() float64 {
		s.mu.Lock()
		defer s.mu.Unlock()
		return float64(len(s.conns))
	})
	if reg != nil {
		reg.MustRegister(m.refused, open)
	}
	return m
}

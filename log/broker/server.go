package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/group"
)

// nodeID is this broker's id; there is one broker.
const nodeID = 1

// Options are a Server's settings; the zero value of each is usable.
type Options struct {
	// Advertised is the host:port that clients are told to connect to. Empty: the
	// local address of the connection that asks, which is right for every listen
	// address without address translation.
	Advertised string
	// ClusterID is the cluster's id. Empty: the log's own, made once for its
	// directory.
	ClusterID string
	// LogDir is what DescribeLogDirs calls the log's directory. Empty: "log".
	LogDir string
	// NoAutoCreate refuses to make topics that a client asks for and that do not
	// exist. Weir's own topics are never made on demand.
	NoAutoCreate bool
	// Partitions is the number of partitions of topics made on demand or without a
	// number; default 1.
	Partitions int32
	// MaxConnections bounds the open connections; default 1000.
	MaxConnections int
	// MaxConnectionsPerAddress bounds those of clients at one IP address; default: half
	// of MaxConnections, so that no client alone can take them all.
	MaxConnectionsPerAddress int
	// MaxRequestBytes bounds one request; default 100 MiB.
	MaxRequestBytes int32
	// MaxFetchBytes bounds the records of one fetch response (beyond a first batch
	// that is larger); default 55 MiB, as in Kafka.
	MaxFetchBytes int32
	// InFlightBytes bounds what all connections hold in requests being read and
	// started; default 256 MiB.
	InFlightBytes int64
	// FetchBytes bounds what all connections hold in fetch responses being
	// written; where it is used up fetches return less. Default 256 MiB.
	FetchBytes int64
	// IdleTimeout closes a connection without a request for so long; default 10
	// minutes.
	IdleTimeout time.Duration
	// SlowGrace is how long a request that has begun, and a response, may take beyond
	// what 64 KiB a second allow; then the connection is closed. Default 30 s.
	SlowGrace time.Duration
	// DrainTimeout is how long Serve waits for started requests at its end;
	// default 5 s.
	DrainTimeout time.Duration
	// TransactionMaxTimeout is the longest timeout that a transactional producer may
	// ask for; default 15 minutes.
	TransactionMaxTimeout time.Duration
	// TransactionalIDExpiration is how long a transactional id is remembered that
	// nobody uses; default 7 days.
	TransactionalIDExpiration time.Duration
	// MayWrite says whether clients may produce to a topic, create, delete and alter it.
	// Nil: everything but Weir's own topics (weir.*); of those, dead letters may be
	// produced, because loaders write them. The coordinators' topics are never
	// clients' to write, whatever it says.
	MayWrite func(topic string, op Operation) bool
	// Transform, if set, is given each record batch before it is appended, as it was
	// received, and returns what is appended in its place: the same bytes, or a batch
	// of as many records with the same producer id, epoch and sequence. It neither
	// changes nor retains batch, and is called from many goroutines. A batch that it
	// returns an error for is refused.
	Transform func(topic string, batch []byte) ([]byte, error)
	// Groups are the rules of consumer groups.
	Groups group.Config
	// Registerer takes the metrics; nil: none.
	Registerer prometheus.Registerer
	// Logger; nil: slog.Default.
	Logger *slog.Logger
}

// Operation is what a client wants to do to a topic.
type Operation string

// The operations that Options.MayWrite decides on.
const (
	OpProduce Operation = "produce"
	OpCreate  Operation = "create"
	OpDelete  Operation = "delete" // also its records
	OpAlter   Operation = "alter"  // its settings
)

// ownPrefix begins the names of the topics that Weir itself writes.
const ownPrefix = "weir."

// MayWrite is the rule where Options.MayWrite is nil, for others to build upon.
func MayWrite(topic string, op Operation) bool {
	return !internalTopic(topic) && (!strings.HasPrefix(topic, ownPrefix) || op == OpProduce && topic == event.TopicDeadLetters)
}

func (o Options) withDefaults() Options {
	setDefault(&o.LogDir, "log")
	setDefault(&o.Partitions, 1)
	setDefault(&o.MaxConnections, 1000)
	setDefault(&o.MaxConnectionsPerAddress, (o.MaxConnections+1)/2)
	setDefault(&o.SlowGrace, 30*time.Second)
	setDefault(&o.MaxRequestBytes, 100<<20)
	setDefault(&o.MaxFetchBytes, 55<<20)
	setDefault(&o.InFlightBytes, 256<<20)
	setDefault(&o.FetchBytes, 256<<20)
	setDefault(&o.IdleTimeout, 10*time.Minute)
	setDefault(&o.DrainTimeout, 5*time.Second)
	setDefault(&o.TransactionMaxTimeout, 15*time.Minute)
	setDefault(&o.TransactionalIDExpiration, 7*24*time.Hour)
	if mayWrite := o.MayWrite; mayWrite == nil {
		o.MayWrite = MayWrite
	} else {
		o.MayWrite = func(topic string, op Operation) bool { return !internalTopic(topic) && mayWrite(topic, op) }
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Server serves one log. Its methods may be called from any goroutine.
type Server struct {
	log      *commitlog.Log
	opt      Options
	keys     map[int16]*api
	metrics  *metrics
	requests *budget
	fetches  *budget
	sessions *fetchSessions
	txns     *transactions
	configs  sync.Mutex // held over the change of a topic's settings
	groups   *groups

	idleBytes atomic.Int64 // see cursors

	advertisedHost string
	advertisedPort int32
}

// New makes a server of l, which stays the caller's to close, after Serve has
// returned. It fails where Options.Advertised is not host:port or where metrics
// cannot be registered.
func New(l *commitlog.Log, o Options) (*Server, error) {
	o = o.withDefaults()
	setDefault(&o.ClusterID, l.ClusterID())
	s := &Server{
		log: l, opt: o, keys: keyTable(),
		requests: newBudget(o.InFlightBytes),
		fetches:  newBudget(o.FetchBytes),
	}
	if o.Advertised != "" {
		host, port, err := splitAddress(o.Advertised)
		if err != nil {
			return nil, fmt.Errorf("advertised address: %w", err)
		}
		s.advertisedHost, s.advertisedPort = host, port
	}
	var err error
	s.metrics, err = newMetrics(o.Registerer, s.requests, s.fetches)
	if err != nil {
		return nil, fmt.Errorf("broker metrics: %w", err)
	}
	s.groups = newGroups(l, o.Groups, o.Logger)
	if err := s.groups.register(o.Registerer); err != nil {
		return nil, fmt.Errorf("broker metrics: %w", err)
	}
	s.sessions = newFetchSessions(s.metrics)
	m := newTransactionMetrics()
	s.txns = newTransactions(l, o, m)
	s.txns.offsets = s.groups.completeTxnOffsets
	if err := m.register(o.Registerer, s.txns); err != nil {
		return nil, fmt.Errorf("broker metrics: %w", err)
	}
	return s, nil
}

// Serve accepts connections on ln until ctx is done, then answers what was
// started (within Options.DrainTimeout) and returns nil. It closes ln.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	defer ln.Close()
	// started requests outlive ctx by the drain time.
	hard, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	context.AfterFunc(ctx, func() { time.AfterFunc(s.opt.DrainTimeout, cancel) })
	entry := door{total: s.opt.MaxConnections, perAddress: s.opt.MaxConnectionsPerAddress, addresses: map[netip.Addr]int{}}
	// The coordinators outlive the connections, which wait for them.
	coordinate, stopCoordinators := context.WithCancel(context.WithoutCancel(ctx))
	defer s.groups.stop()
	var coordinators sync.WaitGroup
	coordinators.Go(func() { s.groups.run(coordinate) })
	coordinators.Go(func() { s.txns.run(coordinate) })
	defer coordinators.Wait()
	defer stopCoordinators()
	var open sync.WaitGroup
	defer open.Wait()
	for {
		nc, err := accept(ctx, ln, s.opt.Logger)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			cancel()
			return fmt.Errorf("accept on %s: %w", ln.Addr(), err)
		}
		if refused := entry.enter(nc); refused != "" {
			s.metrics.refused.WithLabelValues(refused).Inc()
			s.opt.Logger.Debug("connection refused: too many are open", "remote", nc.RemoteAddr(), "limit", refused)
			nc.Close()
			continue
		}
		open.Go(func() {
			defer entry.leave(nc)
			s.serveConn(ctx, hard, nc)
		})
	}
}

// isResourceLimit reports whether err will pass when something is closed.
func isResourceLimit(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM) || errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ECONNABORTED)
}

// accept is ln.Accept that waits out temporary lack of file descriptors.
func accept(ctx context.Context, ln net.Listener, logger *slog.Logger) (net.Conn, error) {
	wait := 5 * time.Millisecond
	for {
		nc, err := ln.Accept()
		if err == nil || ctx.Err() != nil || errors.Is(err, net.ErrClosed) || !isResourceLimit(err) {
			return nc, err
		}
		logger.Warn("accept failed, trying again", "err", err, "wait", wait)
		select {
		case <-time.After(wait):
			wait = min(2*wait, time.Second)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func splitAddress(addr string) (string, int32, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || host == "" {
		return "", 0, fmt.Errorf("%q: expected HOST:PORT with a port from 1 to 65535", addr)
	}
	return host, int32(n), nil
}

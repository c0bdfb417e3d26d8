package broker_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"github.com/weirstream/weir/log/broker"
	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/vfs"
	"github.com/weirstream/weir/test/loopback"
)

// openLog opens the log in dir.
func openLog(t testing.TB, fs vfs.FS, dir string, logger *slog.Logger) *commitlog.Log {
	t.Helper()
	l, err := commitlog.Open(t.Context(), dir, commitlog.Options{FS: fs, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

var quiet = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))

// node is a broker in this process that can be stopped and started again on the
// same data and address.
type node struct {
	t    testing.TB
	fs   vfs.FS // nil: the operating system's
	dir  string
	opt  broker.Options
	addr string
	log  *commitlog.Log
	stop func()
}

func startNode(t testing.TB, opt broker.Options) *node { return startNodeOn(t, nil, opt) }

// startNodeOn is startNode on a file system.
func startNodeOn(t testing.TB, fs vfs.FS, opt broker.Options) *node {
	n := &node{t: t, fs: fs, dir: t.TempDir(), opt: opt, addr: loopback.Any()}
	if n.opt.Logger == nil {
		n.opt.Logger = quiet
	}
	n.start()
	t.Cleanup(func() { n.stop() })
	return n
}

func (n *node) start() {
	n.t.Helper()
	n.log = openLog(n.t, n.fs, n.dir, n.opt.Logger)
	s, err := broker.New(n.log, n.opt)
	if err != nil {
		n.t.Fatal(err)
	}
	ln, err := net.Listen("tcp", n.addr)
	if err != nil {
		n.t.Fatal(err)
	}
	n.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ln) }()
	n.stop = func() {
		cancel()
		if err := <-served; err != nil {
			n.t.Errorf("Serve: %v", err)
		}
		if err := n.log.Close(); err != nil {
			n.t.Errorf("close log: %v", err)
		}
		n.stop = func() {}
	}
}

func (n *node) restart() {
	n.t.Helper()
	n.stop()
	n.start()
}

func (n *node) topic(name string, partitions int32) {
	n.t.Helper()
	if _, err := n.log.CreateTopic(commitlog.TopicSpec{Name: name, Partitions: partitions}); err != nil && !errors.Is(err, commitlog.ErrTopicExists) {
		n.t.Fatal(err)
	}
}

// patience bounds every wait for what has to happen. It is long because two cores run
// several packages at a time; what has happened is not waited for.
const patience = time.Minute

// within is a context for one test step that must not hang.
func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/pprof"

	"github.com/weirstream/weir/log/broker"
	"github.com/weirstream/weir/log/commitlog"
)

// profiled runs Weir's log and broker in this process and profiles it, the driver
// included: look at it with pprof's -focus.
func (o options) profiled(ctx context.Context, dir string) (*server, error) {
	l, err := commitlog.Open(ctx, filepath.Join(dir, "data"), commitlog.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	b, err := broker.New(l, broker.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	out, err := os.Create(o.profile)
	if err != nil {
		return nil, errors.Join(err, ln.Close(), l.Close())
	}
	if err := pprof.StartCPUProfile(out); err != nil {
		return nil, errors.Join(err, out.Close(), ln.Close(), l.Close())
	}
	ctx, cancel := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- b.Serve(ctx, ln) }()
	return &server{pid: os.Getpid(), addr: ln.Addr().String(), stop: func() error {
		cancel()
		pprof.StopCPUProfile()
		return errors.Join(<-served, out.Close(), l.Close())
	}}, nil
}

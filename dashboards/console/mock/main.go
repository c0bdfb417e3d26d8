package main

import (
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/weirstream/weir/dashboards/console"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "mock:", err)
		os.Exit(1)
	}
}

func run() error {
	addr := flag.String("addr", "127.0.0.1:0", "address to listen on")
	state := flag.String("state", "demo", "none, empty, demo or heavy")
	seed := flag.Uint64("seed", 1, "of the made-up world")
	flag.Parse()
	w, err := newWorld(*state, *seed, time.Now())
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", *addr)
	if err != nil {
		return err
	}
	fmt.Printf("http://%s/\n", ln.Addr())
	go func() {
		for now := range time.Tick(100 * time.Millisecond) {
			w.advance(now)
		}
	}()
	mux := http.NewServeMux()
	w.register(mux)
	mux.Handle("/", console.Handler())
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	return server.Serve(ln)
}

package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/weirstream/weir/cmd/config"
	"github.com/weirstream/weir/ingest/event"
)

// linesPerSecond is how many alerts a second the receiver prints; the others it
// counts.
const linesPerSecond = 8

// Receiver is a webhook receiver on loopback that prints a line for each alert.
type Receiver struct {
	out    io.Writer
	lis    net.Listener
	server *http.Server

	mu      sync.Mutex
	second  int64 // the wall-clock second of the lines below
	printed int
	left    int
}

// NewReceiver listens on a free loopback port.
func NewReceiver(out io.Writer) (*Receiver, error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("the demo's webhook receiver: %w", err)
	}
	r := &Receiver{out: out, lis: lis}
	r.server = &http.Server{Handler: http.HandlerFunc(r.take), ReadHeaderTimeout: 5 * time.Second}
	return r, nil
}

// URL is where the receiver takes notifications.
func (r *Receiver) URL() string { return "http://" + r.lis.Addr().String() + "/alerts" }

// Declaration is the receiver as weir.yaml would declare it. It stands in no file, so that
// the demo's weir.yaml is one that every command takes.
func (r *Receiver) Declaration() (config.Receiver, error) {
	text := fmt.Sprintf("receivers: [{name: weir-demo, webhook: {url: %q, allow_cidrs: [127.0.0.0/8]}}]", r.URL())
	c, err := config.Parse("the demo's receiver", []byte(text), config.ParseOptions{})
	if err != nil {
		return config.Receiver{}, err
	}
	return c.Receivers[0], nil
}

// Run serves until ctx is done.
func (r *Receiver) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { r.server.Close() })
	defer stop()
	if err := r.server.Serve(r.lis); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// bodyMax is far over the longest notification.
const bodyMax = 1 << 20

func (r *Receiver) take(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, bodyMax))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var n struct{ Data event.Alert }
	if err := json.Unmarshal(body, &n); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.print(&n.Data, time.Now().Unix())
}

func (r *Receiver) print(a *event.Alert, second int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if second != r.second {
		if r.left > 0 {
			fmt.Fprintf(r.out, "        … and %d alerts more; all are in the console\n", r.left)
		}
		r.second, r.printed, r.left = second, 0, 0
	}
	if r.printed == linesPerSecond {
		r.left++
		return
	}
	r.printed++
	fmt.Fprintf(r.out, "alert   %s  %-8s  %-16s  %s\n", a.Time.Time().Format("15:04:05"), strings.ToUpper(a.Severity), a.Rule, a.Message)
}

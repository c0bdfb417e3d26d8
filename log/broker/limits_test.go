package broker_test

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/broker"
	"github.com/weirstream/weir/log/record"
)

// counted is the value of a metric, with one label where it has any.
func counted(t *testing.T, reg *prometheus.Registry, name, label string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("there is no %s{%s}", name, label)
	return 0
}

// becomes waits until a metric has a value.
func becomes(t *testing.T, reg *prometheus.Registry, name, label string, want float64) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); counted(t, reg, name, label) != want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s{%s} is %v, expected %v", name, label, counted(t, reg, name, label), want)
		}
	}
}

const aborted = "weir_broker_connections_aborted_total"

// closes fails where a connection is not closed by the broker without an answer.
func closes(t *testing.T, nc net.Conn) {
	t.Helper()
	if got, err := io.ReadAll(nc); len(got) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%x, %v: expected a closed connection", got, err)
	}
}

// TestClosedFor: each way to hold a connection without using it ends, and is
// counted as what it is.
func TestClosedFor(t *testing.T) {
	start := func(o broker.Options) (*node, *prometheus.Registry) {
		reg := prometheus.NewPedanticRegistry()
		o.Registerer = reg
		n := startNode(t, o)
		n.topic("t", 1)
		return n, reg
	}
	t.Run("half a size", func(t *testing.T) {
		n, reg := start(broker.Options{SlowGrace: 20 * time.Millisecond})
		nc := dial(t, n)
		nc.Write([]byte{0, 0})
		closes(t, nc)
		becomes(t, reg, aborted, "slow_request", 1)
	})
	t.Run("half a frame", func(t *testing.T) {
		n, reg := start(broker.Options{SlowGrace: 20 * time.Millisecond})
		whole := encodeRequest(produceRequest("t", 12, -1, batchOf(t, record.BatchOptions{}, strings.Repeat("x", 1000))), 1)
		nc := dial(t, n)
		nc.Write(whole[:len(whole)/2])
		closes(t, nc)
		becomes(t, reg, aborted, "slow_request", 1)
		becomes(t, reg, "weir_broker_request_bytes", "", 0)
	})
	t.Run("drop by drop", func(t *testing.T) {
		n, reg := start(broker.Options{SlowGrace: 50 * time.Millisecond})
		nc := dial(t, n)
		go func() {
			for _, b := range encodeRequest(&kmsg.MetadataRequest{Version: 9, Topics: make([]kmsg.MetadataRequestTopic, 1000)}, 1) {
				if _, err := nc.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(5 * time.Millisecond)
			}
		}()
		closes(t, nc)
		becomes(t, reg, aborted, "slow_request", 1)
	})
	t.Run("idle", func(t *testing.T) {
		n, reg := start(broker.Options{IdleTimeout: 20 * time.Millisecond})
		closes(t, dial(t, n))
		becomes(t, reg, aborted, "idle", 1)
	})
	t.Run("malformed", func(t *testing.T) {
		n, reg := start(broker.Options{})
		nc := dial(t, n)
		nc.Write([]byte{0x7f, 0xff, 0xff, 0xff})
		closes(t, nc)
		becomes(t, reg, aborted, "malformed", 1)
	})
	t.Run("never reads", func(t *testing.T) {
		n, reg := start(broker.Options{SlowGrace: 20 * time.Millisecond})
		rawRequest(t, n, produceRequest("t", 12, -1, batchOf(t, record.BatchOptions{}, strings.Repeat("x", 128<<10))))
		nc := dial(t, n)
		nc.(*net.TCPConn).SetReadBuffer(4096)
		req := fetchRequest(n, "t", 0)
		go func() {
			for i := range 200 { // beyond what the kernel buffers
				if _, err := nc.Write(encodeRequest(req, int32(i))); err != nil {
					return
				}
			}
		}()
		for deadline := time.Now().Add(60 * time.Second); counted(t, reg, aborted, "slow_reader") == 0; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("a client that never reads keeps its connection")
			}
		}
		becomes(t, reg, "weir_broker_fetch_bytes", "", 0)
		becomes(t, reg, "weir_broker_connections", "", 0)
	})
}

// TestInFlight: requests that do not end hold no more than the budget, which is
// free again when they are gone, and who waited for it goes on.
func TestInFlight(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	n := startNode(t, broker.Options{Registerer: reg, InFlightBytes: 2 << 20, SlowGrace: 200 * time.Millisecond})
	n.topic("t", 1)
	big := encodeRequest(produceRequest("t", 12, -1, batchOf(t, record.BatchOptions{}, strings.Repeat("x", 3<<20))), 1)
	for range 4 {
		nc := dial(t, n)
		nc.Write(big[:len(big)/2])
	}
	since := time.Now()
	rawRequest(t, n, produceRequest("t", 12, -1, batchOf(t, record.BatchOptions{}, "a")))
	t.Logf("went on after %v", time.Since(since))
	for deadline := time.Now().Add(60 * time.Second); counted(t, reg, aborted, "slow_request")+counted(t, reg, aborted, "overload") < 4; time.Sleep(10 * time.Millisecond) {
		if held := counted(t, reg, "weir_broker_request_bytes", ""); held > 6<<20 {
			t.Fatalf("%v bytes held of 2 MiB and one overdraft each", held)
		}
		if time.Now().After(deadline) {
			t.Fatal("requests that do not end keep their connections")
		}
	}
	becomes(t, reg, "weir_broker_request_bytes", "", 0)
}

// TestConnectionsPerAddress: one client cannot take all connections.
func TestConnectionsPerAddress(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	n := startNode(t, broker.Options{Registerer: reg, MaxConnections: 3, MaxConnectionsPerAddress: 1})
	first := dial(t, n)
	first.Write(encodeRequest(kmsg.NewPtrMetadataRequest(), 1))
	readResponse(t, first)
	closes(t, dial(t, n))
	becomes(t, reg, "weir_broker_connections_refused_total", "address", 1)
	first.Close()
	becomes(t, reg, "weir_broker_connections", "", 0)
}

// TestConnectionsPerAddressDefault: without a limit of its own, an address has half
// of all connections.
func TestConnectionsPerAddressDefault(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	n := startNode(t, broker.Options{Registerer: reg, MaxConnections: 4})
	for i := range 2 {
		nc := dial(t, n)
		nc.Write(encodeRequest(kmsg.NewPtrMetadataRequest(), int32(i)))
		readResponse(t, nc)
	}
	closes(t, dial(t, n))
	becomes(t, reg, "weir_broker_connections_refused_total", "address", 1)
}

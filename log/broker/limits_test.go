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
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
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
	for deadline := time.Now().Add(patience); counted(t, reg, name, label) != want; time.Sleep(time.Millisecond) {
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
		p, _ := n.log.Partition("t", 0) // a request of this size may be too slow itself, under load
		if _, err := p.Append(t.Context(), batchOf(t, record.BatchOptions{}, strings.Repeat("x", 128<<10)), -1); err != nil {
			t.Fatal(err)
		}
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
		for deadline := time.Now().Add(patience); counted(t, reg, aborted, "slow_reader") == 0; time.Sleep(10 * time.Millisecond) {
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
	for deadline := time.Now().Add(patience); counted(t, reg, aborted, "slow_request")+counted(t, reg, aborted, "overload") < 4; time.Sleep(10 * time.Millisecond) {
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

// TestUnanswered: what a client has the broker begin, before it is answered, is
// bounded: it is not read any further, others are served, and what it is answered is
// free again.
func TestUnanswered(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	n := startNode(t, broker.Options{Registerer: reg})
	n.topic("t", 1)
	// A fetch that waits keeps the answers behind it from being written.
	wait := fetchRequest(n, "t", 0)
	wait.MaxWaitMillis, wait.MinBytes = 60_000, 1
	nc := dial(t, n)
	nc.Write(encodeRequest(wait, 1))
	large := &kmsg.DescribeGroupsRequest{Version: 5}
	for range 100_000 {
		large.Groups = append(large.Groups, "g")
	}
	sent := make(chan error, 1)
	go func() {
		nc.SetDeadline(time.Now().Add(time.Minute))
		for i := range 64 { // 13 MB, 100 and more when decoded
			if _, err := nc.Write(encodeRequest(large, int32(i))); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	held := func() float64 { return counted(t, reg, "weir_broker_request_bytes", "") }
	for deadline := time.Now().Add(patience); held() < 8<<20; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%v bytes held", held())
		}
	}
	for range 50 {
		rawRequest(t, n, kmsg.NewPtrMetadataRequest())
		if held := held(); held > 20<<20 {
			t.Fatalf("%v bytes held for one client", held)
		}
	}
	select {
	case err := <-sent:
		t.Fatalf("all of it was taken: %v", err)
	default:
	}
	// The fetch has something to say, and all goes on.
	rawRequest(t, n, produceRequest("t", 12, -1, batchOf(t, record.BatchOptions{}, "a")))
	for range 1 + 64 {
		readResponse(t, nc)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	becomes(t, reg, "weir_broker_request_bytes", "", 0)
}

// TestRepeated: an answer is as large as what there is to tell, however often a
// request names it.
func TestRepeated(t *testing.T) {
	n := startNode(t, broker.Options{})
	n.topic("t", 1000)
	cl := kgoClient(t, n)
	adm := kadm.NewClient(cl)
	commit := kadm.Offsets{}
	commit.Add(kadm.Offset{Topic: "t", Partition: 0, At: 1, Metadata: strings.Repeat("m", 4000)})
	if _, err := adm.CommitOffsets(within(t, patience), "g", commit); err != nil {
		t.Fatal(err)
	}
	many := 2000
	name, names := "t", make([]string, many)
	partitions := make([]int32, many)
	for i := range names {
		names[i] = "g"
	}
	topics := make([]kmsg.MetadataRequestTopic, many)
	configs := make([]kmsg.DescribeConfigsRequestResource, many)
	groups := make([]kmsg.OffsetFetchRequestGroup, many)
	for i := range many {
		topics[i] = kmsg.MetadataRequestTopic{Topic: &name}
		configs[i] = kmsg.DescribeConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "t"}
		groups[i] = kmsg.OffsetFetchRequestGroup{Group: "g", MemberEpoch: -1, Topics: []kmsg.OffsetFetchRequestGroupTopic{{Topic: "t", Partitions: []int32{0, 0}}}}
	}
	for _, req := range []kmsg.Request{
		&kmsg.MetadataRequest{Version: 9, Topics: topics},
		&kmsg.DescribeConfigsRequest{Version: 4, Resources: configs, IncludeDocumentation: true},
		&kmsg.DescribeGroupsRequest{Version: 5, Groups: names},
		&kmsg.ConsumerGroupDescribeRequest{Version: 0, Groups: names},
		&kmsg.OffsetFetchRequest{Version: 8, Groups: groups},
		&kmsg.OffsetFetchRequest{Version: 6, Group: "g", Topics: []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: partitions}}},
		&kmsg.FindCoordinatorRequest{Version: 4, CoordinatorKeys: names},
		&kmsg.DescribeProducersRequest{Version: 0, Topics: []kmsg.DescribeProducersRequestTopic{{Topic: "t", Partitions: partitions}}},
		&kmsg.DescribeTransactionsRequest{Version: 0, TransactionalIDs: names},
		&kmsg.DescribeLogDirsRequest{Version: 4, Topics: []kmsg.DescribeLogDirsRequestTopic{{Topic: "t", Partitions: partitions}}},
	} {
		raw := rawRequest(t, n, req)
		if err := req.ResponseKind().ReadFrom(raw); err != nil || len(raw) > 100<<10 {
			t.Errorf("%s: %d bytes, %v", kmsg.NameForKey(req.Key()), len(raw), err)
		}
	}
	// Kafka refuses this one.
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version = 7
	req.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: "t"}}
	for _, i := range []int32{0, 1, 0} {
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, kmsg.ListOffsetsRequestTopicPartition{Partition: i, Timestamp: -3, CurrentLeaderEpoch: -1})
	}
	resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
	if err := resp.ReadFrom(rawRequest(t, n, req)); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int16{kerr.InvalidRequest.Code, 0, kerr.InvalidRequest.Code} {
		if got := resp.Topics[0].Partitions[i].ErrorCode; got != want {
			t.Errorf("partition %d: %d, expected %d", i, got, want)
		}
	}
}

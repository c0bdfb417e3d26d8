package broker_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/broker"
	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/group"
	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/log/vfs"
)

// scripted is a connection whose client says in and hears nothing.
type scripted struct {
	in     *bytes.Reader
	out    bytes.Buffer
	closed chan struct{}
	once   sync.Once
}

func (s *scripted) Read(b []byte) (int, error)       { return s.in.Read(b) }
func (s *scripted) Write(b []byte) (int, error)      { return s.out.Write(b) }
func (s *scripted) Close() error                     { s.once.Do(func() { close(s.closed) }); return nil }
func (s *scripted) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9092} }
func (s *scripted) RemoteAddr() net.Addr             { return s.LocalAddr() }
func (s *scripted) SetDeadline(time.Time) error      { return nil }
func (s *scripted) SetReadDeadline(time.Time) error  { return nil }
func (s *scripted) SetWriteDeadline(time.Time) error { return nil }

// scriptedListener hands out connections that a test puts in.
type scriptedListener chan net.Conn

func (l scriptedListener) Accept() (net.Conn, error) {
	if c := <-l; c != nil {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (l scriptedListener) Close() error   { return nil }
func (l scriptedListener) Addr() net.Addr { return &net.TCPAddr{} }

// fuzzServer serves a log in memory and gives a function that plays one client.
func fuzzServer(f *testing.F) func(in []byte) []byte {
	l, err := commitlog.Open(f.Context(), "data", commitlog.Options{FS: vfs.NewMem(1), Logger: quiet, NoSync: true})
	if err != nil {
		f.Fatal(err)
	}
	if _, err := l.CreateTopic(commitlog.TopicSpec{Name: "t", Partitions: 2}); err != nil {
		f.Fatal(err)
	}
	s, err := broker.New(l, broker.Options{Logger: quiet, NoAutoCreate: true, Groups: hasty, MayWrite: func(topic string, op broker.Operation) bool {
		return op == broker.OpProduce || len(l.Topics()) < 5 && len(topic) > 0
	}})
	if err != nil {
		f.Fatal(err)
	}
	ln := make(scriptedListener)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- s.Serve(ctx, ln) }()
	f.Cleanup(func() {
		cancel()
		close(ln)
		<-served
		l.Close()
	})
	return func(in []byte) []byte {
		c := &scripted{in: bytes.NewReader(in), closed: make(chan struct{})}
		ln <- c
		<-c.closed
		return c.out.Bytes()
	}
}

// hasty lets groups be over as soon as a test likes.
var hasty = group.Config{MinSession: time.Millisecond, MaxSession: 50 * time.Millisecond, NewMember: 50 * time.Millisecond, InitialDelay: -1}

// seedRequests are requests of every served key in every version: the default one,
// one with a bit of everything, and sensible ones of the keys that have them here.
// A new key is covered by itself.
func seedRequests(f testing.TB, play func([]byte) []byte) []kmsg.Request {
	batch := batchOf(f, record.BatchOptions{}, "a")
	all := sensibleRequests(f)
	for _, k := range servedKeys(f, play) {
		for v := k.MinVersion; v <= k.MaxVersion; v++ {
			for _, full := range []bool{false, true} {
				req := kmsg.RequestForKey(k.ApiKey)
				req.SetVersion(v)
				if d, ok := req.(interface{ Default() }); ok {
					d.Default()
				}
				if full {
					fillRequest(reflect.ValueOf(req).Elem(), batch)
					req.SetVersion(v)
				}
				if p, ok := req.(*kmsg.ProduceRequest); ok {
					p.Acks = -1 // 0 has no answer
				}
				all = append(all, req)
			}
		}
	}
	return all
}

// servedKeys asks what is served.
func servedKeys(f testing.TB, play func([]byte) []byte) []kmsg.ApiVersionsResponseApiKey {
	f.Helper()
	out := play(encodeRequest(&kmsg.ApiVersionsRequest{}, 7))
	resp := kmsg.NewPtrApiVersionsResponse()
	if err := resp.ReadFrom(out[8:]); err != nil || len(resp.ApiKeys) < 10 {
		f.Fatalf("%v, %d keys", err, len(resp.ApiKeys))
	}
	return resp.ApiKeys
}

// fillRequest gives every field of a request something: one element to lists, the
// name of a topic to strings, a batch to bytes, yes to choices.
func fillRequest(v reflect.Value, batch []byte) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() && v.Type().Field(i).Name != "UnknownTags" {
				fillRequest(v.Field(i), batch)
			}
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillRequest(v.Elem(), batch)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(bytes.Clone(batch))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fillRequest(v.Index(0), batch)
	case reflect.String:
		v.SetString("t")
	case reflect.Bool:
		v.SetBool(true)
	}
}

// sensibleRequests is one request of several keys in its lowest and highest version.
func sensibleRequests(f testing.TB) []kmsg.Request {
	batch := batchOf(f, record.BatchOptions{Codec: record.Zstd, ProducerID: 7}, "a", "b")
	topic, instance := "t", "static"
	var all []kmsg.Request
	for _, r := range []struct {
		req      kmsg.Request
		min, max int16
	}{
		{produceRequest("t", 3, -1, batch, batch), 0, 13},
		{fetchRequest(nil, "t", 0), 4, 18},
		{&kmsg.ListOffsetsRequest{ReplicaID: -1, Topics: []kmsg.ListOffsetsRequestTopic{{Topic: "t", Partitions: []kmsg.ListOffsetsRequestTopicPartition{{Timestamp: -3, CurrentLeaderEpoch: -1}}}}}, 1, 11},
		{&kmsg.FindCoordinatorRequest{CoordinatorKey: "g", CoordinatorKeys: []string{"g"}}, 0, 6},
		{&kmsg.OffsetCommitRequest{Group: "g", Generation: -1, Topics: []kmsg.OffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Offset: 3, LeaderEpoch: -1, Metadata: &topic}}}}}, 2, 10},
		{&kmsg.OffsetFetchRequest{Group: "g", Topics: []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: []int32{0, 1}}}, Groups: []kmsg.OffsetFetchRequestGroup{{Group: "g", MemberEpoch: -1}}, RequireStable: true}, 1, 10},
		{&kmsg.JoinGroupRequest{Group: "g", SessionTimeoutMillis: 20, RebalanceTimeoutMillis: 10, InstanceID: &instance, ProtocolType: "consumer", Protocols: []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte{0, 0, 0, 0, 0, 1, 0, 1, 't', 0, 0, 0, 0}}}}, 0, 9},
		{&kmsg.SyncGroupRequest{Group: "g", Generation: 1, MemberID: "m", GroupAssignment: []kmsg.SyncGroupRequestGroupAssignment{{MemberID: "m", MemberAssignment: []byte{1}}}}, 0, 5},
		{&kmsg.HeartbeatRequest{Group: "g", Generation: 1, MemberID: "m"}, 0, 4},
		{&kmsg.DescribeGroupsRequest{Groups: []string{"g", "none"}}, 0, 6},
		{&kmsg.ListGroupsRequest{StatesFilter: []string{"stable"}, TypesFilter: []string{"classic"}}, 0, 5},
		{&kmsg.OffsetDeleteRequest{Group: "g", Topics: []kmsg.OffsetDeleteRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{}}}}}, 0, 0},
		{&kmsg.LeaveGroupRequest{Group: "g", MemberID: "m", Members: []kmsg.LeaveGroupRequestMember{{InstanceID: &instance}}}, 0, 5},
		{&kmsg.DeleteGroupsRequest{Groups: []string{"g"}}, 0, 3},
		{&kmsg.MetadataRequest{Topics: []kmsg.MetadataRequestTopic{{Topic: &topic}}}, 0, 13},
		{&kmsg.ApiVersionsRequest{ClientSoftwareName: "a", ClientSoftwareVersion: "1"}, 0, 5},
		{&kmsg.CreateTopicsRequest{Topics: []kmsg.CreateTopicsRequestTopic{{Topic: "new", NumPartitions: 1, ReplicationFactor: 1}}}, 2, 7},
		{&kmsg.DeleteTopicsRequest{TopicNames: []string{"new"}, Topics: []kmsg.DeleteTopicsRequestTopic{{Topic: &topic}}}, 1, 6},
		{&kmsg.InitProducerIDRequest{}, 0, 5},
		{&kmsg.InitProducerIDRequest{TransactionalID: &topic, TransactionTimeoutMillis: 60000, ProducerID: -1, ProducerEpoch: -1}, 0, 5},
		{&kmsg.AddPartitionsToTxnRequest{TransactionalID: "t", ProducerID: 1, Topics: []kmsg.AddPartitionsToTxnRequestTopic{{Topic: "t", Partitions: []int32{0, 9}}}}, 0, 3},
		{&kmsg.AddOffsetsToTxnRequest{TransactionalID: "t", ProducerID: 1, Group: "g"}, 0, 4},
		{&kmsg.TxnOffsetCommitRequest{TransactionalID: "t", ProducerID: 1, Group: "g", Generation: -1, Topics: []kmsg.TxnOffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{{Offset: 1}}}}}, 0, 6},
		{&kmsg.EndTxnRequest{TransactionalID: "t", ProducerID: 1, Commit: true}, 0, 5},
		{&kmsg.DescribeProducersRequest{Topics: []kmsg.DescribeProducersRequestTopic{{Topic: "t", Partitions: []int32{0, 9}}}}, 0, 0},
		{&kmsg.DescribeTransactionsRequest{TransactionalIDs: []string{"t", ""}}, 0, 0},
		{&kmsg.ListTransactionsRequest{StateFilters: []string{"Ongoing", "x"}, TransactionalIDPattern: &topic}, 0, 2},
		{&kmsg.OffsetForLeaderEpochRequest{Topics: []kmsg.OffsetForLeaderEpochRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{{}}}}}, 2, 4},
		{&kmsg.DescribeConfigsRequest{Resources: []kmsg.DescribeConfigsRequestResource{{ResourceType: 2, ResourceName: "t"}}, IncludeSynonyms: true, IncludeDocumentation: true}, 1, 4},
		{&kmsg.DescribeLogDirsRequest{}, 1, 5},
		{&kmsg.CreatePartitionsRequest{Topics: []kmsg.CreatePartitionsRequestTopic{{Topic: "t", Count: 3}}}, 0, 3},
		{&kmsg.DescribeClusterRequest{EndpointType: 1}, 0, 2},
	} {
		for _, v := range []int16{r.min, r.max} {
			req := kmsg.RequestForKey(r.req.Key())
			r.req.SetVersion(v)
			req.SetVersion(v)
			if err := req.ReadFrom(r.req.AppendTo(nil)); err != nil {
				f.Fatal(err)
			}
			all = append(all, req)
		}
	}
	return all
}

// FuzzRequest sends one well-framed request with any body. Whatever comes back
// must be whole frames that answer it.
func FuzzRequest(f *testing.F) {
	play := fuzzServer(f)
	for _, req := range seedRequests(f, play) {
		f.Add(req.Key(), req.GetVersion(), req.AppendTo(nil))
	}
	// 2^31 tagged fields, which kmsg alone would count.
	f.Add(int16(2), int16(11), []byte("\xff\xff\xff\xff\x00\x02\x02t\x02\x00\x00\x00\x00\x00\x00\x00\xb9\\,P;\x9eK@\x00\xf3\xf3\xf3\xf3\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00u0\xf3\xf3\xf3\xf3\xf3\x00"))
	f.Fuzz(func(t *testing.T, key, version int16, body []byte) {
		b := head(key, version)
		if r := kmsg.RequestForKey(key); r != nil {
			if r.SetVersion(version); r.IsFlexible() {
				b = append(b, 0)
			}
		}
		out := play(frame(append(b, body...)...))
		if len(out) == 0 {
			return
		}
		if size := binary.BigEndian.Uint32(out); int(size) != len(out)-4 || binary.BigEndian.Uint32(out[4:]) != 7 {
			t.Fatalf("key %d v%d: answered %x", key, version, out)
		}
	})
}

// FuzzStream sends any bytes.
func FuzzStream(f *testing.F) {
	play := fuzzServer(f)
	var all []byte
	for i, req := range seedRequests(f, play) {
		one := encodeRequest(req, int32(i))
		f.Add(one)
		all = append(all, one...)
	}
	f.Add(all)
	f.Add([]byte{0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 9})
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) { play(in) })
}

// TestSeedsAreAnswered: every seed of the fuzz targets is a request that the
// broker answers with what kmsg can read.
func TestSeedsAreAnswered(t *testing.T) {
	n := startNode(t, broker.Options{Groups: hasty})
	n.topic("t", 2)
	play := func(in []byte) []byte {
		nc := dial(t, n)
		nc.Write(in)
		body := readResponse(t, nc)
		return append(make([]byte, 4), body...)
	}
	for _, req := range seedRequests(t, play) {
		resp := req.ResponseKind()
		if err := resp.ReadFrom(rawRequest(t, n, req)); err != nil {
			t.Errorf("key %d v%d: %v", req.Key(), req.GetVersion(), err)
		}
	}
}

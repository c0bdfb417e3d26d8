package broker_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/broker"
	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/test/seeds"
)

// frame is body with its size before it.
func frame(body ...byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// head is a request header.
func head(key, version int16) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(key))
	b = binary.BigEndian.AppendUint16(b, uint16(version))
	return append(b, 0, 0, 0, 7, 0xff, 0xff)
}

// TestMalformed: what is not a request closes its connection, with nothing sent
// and little allocated, and the broker goes on.
func TestMalformed(t *testing.T) {
	n := startNode(t, broker.Options{})
	n.topic("t", 1)
	hugeArray := append(head(3, 1), 0x7f, 0xff, 0xff, 0xff)
	manyTopics := append(head(0, 9), 0)                       // header tags
	manyTopics = append(manyTopics, 0, 0, 1, 0, 0, 0, 0, 255) // transactional id null, acks, timeout, a long array
	for name, bytesIn := range map[string][]byte{
		"negative size":           {0xff, 0xff, 0xff, 0xff},
		"2 GiB":                   {0x7f, 0xff, 0xff, 0xff},
		"zero size":               {0, 0, 0, 0},
		"http":                    []byte("GET / HTTP/1.1\r\n\r\n"),
		"tls":                     {0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03},
		"half a header":           frame(0, 3, 0, 1, 0, 0, 0, 7),
		"unknown key":             frame(head(999, 0)...),
		"unknown version":         frame(head(1, 99)...),
		"negative version":        frame(head(3, -1)...),
		"version below":           frame(head(1, 3)...),
		"array beyond the frame":  frame(hugeArray...),
		"compact array beyond":    frame(manyTopics...),
		"client id beyond":        frame(append(head(3, 1)[:8], 0x7f, 0xff)...),
		"tags beyond":             frame(append(head(3, 9), 1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f)...),
		"control request too big": {0, 0x20, 0, 0, 0, 3, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			nc := dial(t, n)
			nc.Write(bytesIn)
			if got, err := io.ReadAll(nc); len(got) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("answered %x, %v", got, err)
			}
		})
	}
	t.Run("half a frame", func(t *testing.T) {
		for range 20 {
			nc := dial(t, n)
			nc.Write(append([]byte{0x05, 0, 0, 0}, head(0, 3)...)) // 80 MiB announced
			nc.Close()
		}
	})
	if err := kgoClient(t, n).Ping(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := n.log.Partition("t", 0); err != nil {
		t.Fatal(err)
	}
	rawRequest(t, n, kmsg.NewPtrMetadataRequest())
}

// TestKafkasErrors: a length of 2 GiB, a truncated frame, a bad CRC and an unknown
// version get what Kafka answers, which for a request that cannot be read is the end
// of its connection; another client notices nothing.
func TestKafkasErrors(t *testing.T) {
	n := startNode(t, broker.Options{})
	n.topic("t", 1)
	other := dial(t, n)
	good := batchOf(t, record.BatchOptions{}, "a")
	produced := int64(0)
	wellServed := func() {
		t.Helper()
		produced++
		other.SetDeadline(time.Now().Add(patience))
		req := produceRequest("t", 12, -1, good)
		other.Write(encodeRequest(req, 5))
		resp := req.ResponseKind().(*kmsg.ProduceResponse)
		if err := resp.ReadFrom(readResponse(t, other)[5:]); err != nil || resp.Topics[0].Partitions[0].ErrorCode != 0 {
			t.Fatalf("%v %+v", err, resp)
		}
	}
	ends := func(what string, send []byte) {
		t.Helper()
		nc := dial(t, n)
		nc.Write(send)
		nc.(*net.TCPConn).CloseWrite()
		if got, err := io.ReadAll(nc); len(got) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %x, %v", what, got, err)
		}
		wellServed()
	}
	answers := func(what string, batch []byte, version int16, want *kerr.Error) {
		t.Helper()
		req := produceRequest("t", version, -1, batch)
		resp := req.ResponseKind().(*kmsg.ProduceResponse)
		if err := resp.ReadFrom(rawRequest(t, n, req)); err != nil {
			t.Fatal(err)
		}
		if got := kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode); !errors.Is(got, error(want)) {
			t.Errorf("%s: %v, expected %v", what, got, want)
		}
		wellServed()
	}
	huge := []byte{0x7f, 0xff, 0xff, 0xff}
	ends("a frame of 2 GiB", append(bytes.Clone(huge), head(3, 1)...))
	ends("2 GiB of topics", frame(append(head(3, 1), huge...)...))
	ends("a topic's name of 2 GiB", frame(append(append(head(3, 9), 0, 2), 0x80, 0x80, 0x80, 0x80, 0x08)...))
	request := encodeRequest(produceRequest("t", 8, -1, good), 1)
	at := bytes.Index(request, good) - 4
	ends("records of 2 GiB", bytes.Join([][]byte{request[:at], huge, request[at+4:]}, nil))
	long := bytes.Clone(good)
	binary.BigEndian.PutUint32(long[8:], 0x7fffffff)
	answers("a batch of 2 GiB", long, 12, kerr.CorruptMessage)

	for at := range request {
		ends(fmt.Sprintf("a frame that ends after %d of %d bytes", at, len(request)), request[:at])
	}
	corrupt := bytes.Clone(good)
	corrupt[len(corrupt)-1] ^= 1
	for version := int16(3); version <= 12; version++ {
		answers("a bad CRC", corrupt, version, kerr.CorruptMessage)
	}
	answers("Produce 2", good, 2, kerr.UnsupportedVersion)
	play := func(in []byte) []byte {
		nc := dial(t, n)
		nc.Write(in)
		return append(make([]byte, 4), readResponse(t, nc)...)
	}
	for _, k := range servedKeys(t, play) {
		if k.ApiKey != 18 { // TestApiVersionsUnknown
			ends(kmsg.NameForKey(k.ApiKey)+" of an unknown version", frame(append(head(k.ApiKey, k.MaxVersion+1), 0, 0, 0, 0, 0, 0)...))
		}
	}
	ends("an unknown key", frame(head(4, 0)...))
	// What was produced is there, and nothing else.
	p, _ := n.log.Partition("t", 0)
	problems, err := n.log.Verify(t.Context(), nil)
	if err != nil || len(problems) > 0 || p.End() != produced {
		t.Errorf("%v, %v, %d records of %d", problems, err, p.End(), produced)
	}
}

// TestTagCounts: however many tagged fields a request of any key claims to have,
// it costs nothing but its connection.
func TestTagCounts(t *testing.T) {
	n := startNode(t, broker.Options{})
	play := func(in []byte) []byte {
		nc := dial(t, n)
		nc.Write(in)
		return append(make([]byte, 4), readResponse(t, nc)...)
	}
	for _, k := range servedKeys(t, play) {
		req := kmsg.RequestForKey(k.ApiKey)
		req.SetVersion(k.MaxVersion)
		if !req.IsFlexible() {
			continue
		}
		b := append(head(k.ApiKey, k.MaxVersion), 0)
		b = req.AppendTo(b)
		b = append(b[:len(b)-1], 0xff, 0xff, 0xff, 0xff, 0x0f) // in place of none
		nc := dial(t, n)
		nc.SetDeadline(time.Now().Add(10 * time.Second)) // enough for an answer; what was counted takes longer
		nc.Write(frame(b...))
		closes(t, nc)
	}
}

// TestAnnouncedSizeAllocatesNothing: many connections that announce the largest
// request and send nothing more hold no memory for it.
func TestAnnouncedSizeAllocatesNothing(t *testing.T) {
	n := startNode(t, broker.Options{})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 50 {
		nc := dial(t, n)
		nc.Write(append([]byte{0x06, 0, 0, 0}, head(0, 3)...)) // 96 MiB
	}
	rawRequest(t, n, kmsg.NewPtrMetadataRequest())
	runtime.ReadMemStats(&after)
	if grown := int64(after.TotalAlloc - before.TotalAlloc); grown > 120<<20 {
		t.Fatalf("%d MiB allocated for 50 announced requests", grown>>20)
	}
}

func TestApiVersionsUnknown(t *testing.T) {
	n := startNode(t, broker.Options{})
	nc := dial(t, n)
	nc.Write(frame(append(head(18, 99), 0, 1, 2, 3)...))
	resp := kmsg.NewPtrApiVersionsResponse()
	if err := resp.ReadFrom(readResponse(t, nc)[4:]); err != nil {
		t.Fatal(err)
	}
	if resp.ErrorCode != kerr.UnsupportedVersion.Code || len(resp.ApiKeys) != 1 || resp.ApiKeys[0].ApiKey != 18 {
		t.Fatalf("%+v", resp)
	}
	// The connection goes on.
	nc.Write(encodeRequest(&kmsg.ApiVersionsRequest{Version: 3, ClientSoftwareName: "x", ClientSoftwareVersion: "1"}, 8))
	body := readResponse(t, nc)
	resp = &kmsg.ApiVersionsResponse{Version: 3}
	if err := resp.ReadFrom(body[4:]); err != nil || resp.ErrorCode != 0 {
		t.Fatalf("%v %+v", err, resp)
	}
	for _, k := range resp.ApiKeys {
		if k.ApiKey == 0 && k.MinVersion != 0 || k.ApiKey == 1 && k.MinVersion != 4 || k.ApiKey == 2 && k.MinVersion != 1 {
			t.Errorf("key %d starts at version %d", k.ApiKey, k.MinVersion)
		}
	}
}

// TestProduceRefused: what each bad batch gets.
func TestProduceRefused(t *testing.T) {
	n := startNode(t, broker.Options{})
	n.topic("t", 1)
	n.topic("weir.alerts", 1)
	good := batchOf(t, record.BatchOptions{}, "a")
	corrupt := bytes.Clone(good)
	corrupt[len(corrupt)-1] ^= 1
	old := bytes.Clone(good)
	old[16] = 1
	lying := bytes.Clone(good)
	binary.BigEndian.PutUint32(lying[8:], uint32(len(good)))
	big := batchOf(t, record.BatchOptions{}, strings.Repeat("x", 17<<20))
	for _, c := range []struct {
		name    string
		topic   string
		version int16
		acks    int16
		batch   []byte
		want    *kerr.Error
	}{
		{"good", "t", 12, -1, good, nil},
		{"unknown topic", "nosuch", 12, 1, good, kerr.UnknownTopicOrPartition},
		{"own topic", "weir.alerts", 12, 1, good, kerr.TopicAuthorizationFailed},
		{"crc", "t", 12, 1, corrupt, kerr.CorruptMessage},
		{"crc v3", "t", 3, 1, corrupt, kerr.CorruptMessage},
		{"message format 1", "t", 12, 1, old, kerr.UnsupportedForMessageFormat},
		{"length beyond", "t", 12, 1, lying, kerr.CorruptMessage},
		{"two batches", "t", 12, 1, append(bytes.Clone(good), good...), kerr.InvalidRecord},
		{"short", "t", 12, 1, good[:30], kerr.CorruptMessage},
		{"empty", "t", 12, 1, []byte{}, kerr.CorruptMessage},
		{"null", "t", 12, 1, nil, kerr.CorruptMessage},
		{"acks 2", "t", 12, 2, good, kerr.InvalidRequiredAcks},
		{"too large", "t", 12, 1, big, kerr.MessageTooLarge},
		{"version 2", "t", 2, 1, good, kerr.UnsupportedVersion},
		{"zstd before 7", "t", 6, 1, batchOf(t, record.BatchOptions{Codec: record.Zstd}, "a"), kerr.UnsupportedCompressionType},
		{"transactional", "t", 12, 1, batchOf(t, record.BatchOptions{Transactional: true, ProducerID: 1}, "a"), kerr.TransactionalIDAuthorizationFailed},
	} {
		t.Run(c.name, func(t *testing.T) {
			req := produceRequest(c.topic, c.version, c.acks, bytes.Clone(c.batch))
			if c.batch == nil {
				req.Topics[0].Partitions[0].Records = nil
			}
			raw := rawRequest(t, n, req)
			resp := req.ResponseKind().(*kmsg.ProduceResponse)
			if err := resp.ReadFrom(raw); err != nil {
				t.Fatal(err)
			}
			p := resp.Topics[0].Partitions[0]
			if got := kerr.ErrorForCode(p.ErrorCode); !errors.Is(got, error(c.want)) && !(c.want == nil && got == nil) {
				t.Fatalf("%v (%v), expected %v", got, deref(p.ErrorMessage), c.want)
			}
			if again := resp.AppendTo(nil); !bytes.Equal(again, raw) {
				t.Fatalf("kmsg would have encoded\n%x, not\n%x", again, raw)
			}
		})
	}
	p, _ := n.log.Partition("t", 0)
	if end := p.End(); end != 1 {
		t.Fatalf("%d records in the log, expected the good one", end)
	}
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// TestAcksZero: no answer, but in order with what has one; an error closes.
func TestAcksZero(t *testing.T) {
	n := startNode(t, broker.Options{})
	n.topic("t", 1)
	nc := dial(t, n)
	good := batchOf(t, record.BatchOptions{}, "a")
	nc.Write(encodeRequest(produceRequest("t", 12, 0, good), 1))
	nc.Write(encodeRequest(produceRequest("t", 12, -1, good), 2))
	body := readResponse(t, nc)
	if c := binary.BigEndian.Uint32(body); c != 2 {
		t.Fatalf("answer %d came first", c)
	}
	resp := &kmsg.ProduceResponse{Version: 12}
	if err := resp.ReadFrom(body[5:]); err != nil || resp.Topics[0].Partitions[0].BaseOffset != 1 {
		t.Fatalf("%v %+v", err, resp)
	}
	nc.Write(encodeRequest(produceRequest("nosuch", 12, 0, good), 3))
	if got, err := io.ReadAll(nc); err != nil || len(got) > 0 {
		t.Fatalf("%x, %v: expected a closed connection", got, err)
	}
}

// TestPipelined: many requests written before any answer is read come back in
// order, with offsets in order.
func TestPipelined(t *testing.T) {
	n := startNode(t, broker.Options{})
	n.topic("t", 1)
	rnd := seeds.Rand(t)
	nc := dial(t, n)
	good := batchOf(t, record.BatchOptions{}, "a")
	const count = 300
	kinds := make([]int, count)
	var out []byte
	for i := range kinds {
		kinds[i] = rnd.IntN(3)
		switch kinds[i] {
		case 0:
			out = append(out, encodeRequest(produceRequest("t", 12, -1, good), int32(i))...)
		case 1:
			out = append(out, encodeRequest(&kmsg.MetadataRequest{Version: 9}, int32(i))...)
		case 2:
			req := kmsg.NewPtrListOffsetsRequest()
			req.Version = 5
			rt := kmsg.NewListOffsetsRequestTopic()
			rt.Topic = "t"
			rp := kmsg.NewListOffsetsRequestTopicPartition()
			rp.Timestamp, rp.CurrentLeaderEpoch = -1, -1
			rt.Partitions = append(rt.Partitions, rp)
			req.Topics = append(req.Topics, rt)
			out = append(out, encodeRequest(req, int32(i))...)
		}
	}
	go nc.Write(out)
	var produced int64
	for i, kind := range kinds {
		body := readResponse(t, nc)
		if c := binary.BigEndian.Uint32(body); int(c) != i {
			t.Fatalf("answer %d came as number %d", c, i)
		}
		switch kind {
		case 0:
			resp := &kmsg.ProduceResponse{Version: 12}
			if err := resp.ReadFrom(body[5:]); err != nil || resp.Topics[0].Partitions[0].BaseOffset != produced {
				t.Fatalf("produce %d: %v %+v", i, err, resp)
			}
			produced++
		case 2:
			resp := &kmsg.ListOffsetsResponse{Version: 5}
			if err := resp.ReadFrom(body[4:]); err != nil || resp.Topics[0].Partitions[0].Offset < produced {
				t.Fatalf("list offsets %d: %v, offset %d after %d answered produces", i, err, resp.Topics[0].Partitions[0].Offset, produced)
			}
		}
	}
}

// TestSlowReader: a client that sends fetches and takes no answers holds neither
// the others nor the end of the broker up.
func TestSlowReader(t *testing.T) {
	n := startNode(t, broker.Options{FetchBytes: 8 << 20, DrainTimeout: 100 * time.Millisecond})
	n.topic("t", 1)
	rawRequest(t, n, produceRequest("t", 12, -1, batchOf(t, record.BatchOptions{}, strings.Repeat("x", 4<<20))))
	req := fetchRequest(n, "t", 0)
	for range 4 {
		nc := dial(t, n)
		for i := range 50 {
			nc.Write(encodeRequest(req, int32(i)))
		}
	}
	resp := req.ResponseKind().(*kmsg.FetchResponse)
	if err := resp.ReadFrom(rawRequest(t, n, req)); err != nil || len(resp.Topics[0].Partitions[0].RecordBatches) < 4<<20 {
		t.Fatalf("%v", err)
	}
	n.stop()
}

// fetchRequest asks for one partition.
func fetchRequest(n *node, topic string, offset int64) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxBytes, req.MinBytes, req.MaxWaitMillis = 12, 50<<20, 1, 500
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.PartitionMaxBytes, rp.CurrentLeaderEpoch, rp.FetchOffset = 10<<20, -1, offset
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	return req
}

func TestFetchErrors(t *testing.T) {
	n := startNode(t, broker.Options{})
	n.topic("t", 1)
	rawRequest(t, n, produceRequest("t", 12, -1, batchOf(t, record.BatchOptions{}, "a", "b")))
	epoch := func() int32 { p, _ := n.log.Partition("t", 0); return p.LeaderEpoch() }()
	for _, c := range []struct {
		name   string
		change func(*kmsg.FetchRequest)
		want   *kerr.Error
	}{
		{"beyond the end", func(r *kmsg.FetchRequest) { r.Topics[0].Partitions[0].FetchOffset = 3 }, kerr.OffsetOutOfRange},
		{"before the start", func(r *kmsg.FetchRequest) { r.Topics[0].Partitions[0].FetchOffset = -5 }, kerr.OffsetOutOfRange},
		{"unknown topic", func(r *kmsg.FetchRequest) { r.Topics[0].Topic = "nosuch" }, kerr.UnknownTopicOrPartition},
		{"unknown id", func(r *kmsg.FetchRequest) { r.Version = 13 }, kerr.UnknownTopicID},
		{"unknown partition", func(r *kmsg.FetchRequest) { r.Topics[0].Partitions[0].Partition = 1 }, kerr.UnknownTopicOrPartition},
		{"later epoch", func(r *kmsg.FetchRequest) { r.Topics[0].Partitions[0].CurrentLeaderEpoch = epoch + 1 }, kerr.UnknownLeaderEpoch},
		{"inside a batch", func(r *kmsg.FetchRequest) { r.Topics[0].Partitions[0].FetchOffset = 1 }, nil},
		{"one byte", func(r *kmsg.FetchRequest) { r.MaxBytes, r.Topics[0].Partitions[0].PartitionMaxBytes = 1, 1 }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			req := fetchRequest(n, "t", 0)
			req.MaxWaitMillis = 60_000 // an error does not wait
			c.change(req)
			resp := req.ResponseKind().(*kmsg.FetchResponse)
			if err := resp.ReadFrom(rawRequest(t, n, req)); err != nil {
				t.Fatal(err)
			}
			p := resp.Topics[0].Partitions[0]
			if got := kerr.ErrorForCode(p.ErrorCode); !errors.Is(got, error(c.want)) && !(c.want == nil && got == nil) {
				t.Fatalf("%v, expected %v", got, c.want)
			}
			if c.want == nil && len(p.RecordBatches) == 0 {
				t.Fatal("no records")
			}
		})
	}
	t.Run("session", func(t *testing.T) {
		req := fetchRequest(n, "t", 0)
		req.SessionID, req.SessionEpoch = 5, 1
		resp := req.ResponseKind().(*kmsg.FetchResponse)
		if err := resp.ReadFrom(rawRequest(t, n, req)); err != nil || resp.ErrorCode != kerr.FetchSessionIDNotFound.Code {
			t.Fatalf("%v %+v", err, resp)
		}
	})
}

func TestConnectionLimit(t *testing.T) {
	n := startNode(t, broker.Options{MaxConnections: 2, MaxConnectionsPerAddress: 2})
	first, second := dial(t, n), dial(t, n)
	for _, nc := range []net.Conn{first, second} {
		nc.Write(encodeRequest(kmsg.NewPtrMetadataRequest(), 1))
		readResponse(t, nc)
	}
	third := dial(t, n)
	if _, err := io.ReadAll(third); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("third connection stays open")
	}
	first.Close()
	for deadline := time.Now().Add(patience); ; {
		nc, err := net.Dial("tcp", n.addr)
		if err != nil {
			t.Fatal(err)
		}
		nc.SetDeadline(deadline)
		nc.Write(encodeRequest(kmsg.NewPtrMetadataRequest(), 1))
		var size [4]byte
		_, err = io.ReadFull(nc, size[:])
		nc.Close()
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a closed connection's place is not given again")
		}
	}
}

func TestIdle(t *testing.T) {
	n := startNode(t, broker.Options{IdleTimeout: 50 * time.Millisecond})
	if got, err := io.ReadAll(dial(t, n)); err != nil || len(got) > 0 {
		t.Fatalf("%x, %v: expected a closed connection", got, err)
	}
}

func TestAdvertised(t *testing.T) {
	n := startNode(t, broker.Options{Advertised: "weir.example:19092"})
	resp := kmsg.NewPtrMetadataResponse()
	if err := resp.ReadFrom(rawRequest(t, n, kmsg.NewPtrMetadataRequest())); err != nil || resp.Brokers[0].Host != "weir.example" || resp.Brokers[0].Port != 19092 {
		t.Fatalf("%v %+v", err, resp)
	}
	for _, bad := range []string{"x", "x:0", "x:99999", ":1"} {
		if _, err := broker.New(n.log, broker.Options{Advertised: bad}); err == nil {
			t.Errorf("advertised address %q accepted", bad)
		}
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	n := startNode(t, broker.Options{Registerer: reg})
	n.topic("t", 1)
	rawRequest(t, n, produceRequest("t", 12, -1, batchOf(t, record.BatchOptions{}, "a")))
	rawRequest(t, n, produceRequest("nosuch", 12, -1, batchOf(t, record.BatchOptions{}, "a")))
	rawRequest(t, n, kmsg.NewPtrMetadataRequest())
	n.stop()
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Fatalf("%v %v", err, problems)
	}
	want := `# HELP weir_broker_errors_total Errors told to clients, by Kafka's name.
# TYPE weir_broker_errors_total counter
weir_broker_errors_total{code="UNKNOWN_TOPIC_OR_PARTITION"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "weir_broker_errors_total"); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "weir_broker_requests_total" {
			for _, m := range f.GetMetric() {
				if m.GetLabel()[0].GetValue() == "Produce" && m.GetCounter().GetValue() != 2 {
					t.Fatalf("%s", fmt.Sprint(m))
				}
			}
		}
	}
}

package broker_test

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/broker"
	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/log/vfs"
)

// fetcher sends fetches on one connection.
type fetcher struct {
	t  *testing.T
	do func(req kmsg.Request) []byte
}

func newFetcher(t *testing.T, n *node) *fetcher {
	nc := dial(t, n)
	return &fetcher{t, func(req kmsg.Request) []byte {
		t.Helper()
		if _, err := nc.Write(encodeRequest(req, 7)); err != nil {
			t.Fatal(err)
		}
		body := readResponse(t, nc)[4:]
		if req.IsFlexible() {
			body = body[1:]
		}
		return body
	}}
}

// forEver is how many milliseconds a fetch waits that is to be answered before: nearly
// as long as the test waits for the answer, on a slow machine, too.
const forEver = 50_000

func (f *fetcher) fetch(req *kmsg.FetchRequest) *kmsg.FetchResponse {
	f.t.Helper()
	resp := req.ResponseKind().(*kmsg.FetchResponse)
	if err := resp.ReadFrom(f.do(req)); err != nil {
		f.t.Fatal(err)
	}
	return resp
}

// wants is a fetch that does not wait, of partitions of a topic.
func wants(version int16, topic *commitlog.Topic, parts ...kmsg.FetchRequestTopicPartition) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxBytes = version, 1<<20
	if len(parts) > 0 {
		req.Topics = []kmsg.FetchRequestTopic{{Topic: topic.Name(), TopicID: topic.ID(), Partitions: parts}}
	}
	return req
}

func at(partition int32, offset int64) kmsg.FetchRequestTopicPartition {
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes = partition, offset, 1<<20
	return p
}

// told lists what a response tells, as "partition:records or error".
func told(resp *kmsg.FetchResponse) []string {
	list := []string{}
	for _, rt := range resp.Topics {
		for _, p := range rt.Partitions {
			s := fmt.Sprintf("%d:%d", p.Partition, p.HighWatermark)
			if len(p.RecordBatches) > 0 {
				s += "+"
			}
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				s = fmt.Sprintf("%d:%s", p.Partition, err.(*kerr.Error).Message)
			}
			list = append(list, s)
		}
	}
	return list
}

func TestFetchSession(t *testing.T) {
	for _, version := range []int16{7, 12, 13, 18} {
		t.Run(fmt.Sprint("v", version), func(t *testing.T) {
			n := startNode(t, broker.Options{})
			n.topic("t", 4)
			topic, _ := n.log.Topic("t")
			append1 := func(i int32) {
				t.Helper()
				p, _ := topic.Partition(i)
				if _, err := p.Append(t.Context(), batchOf(t, record.BatchOptions{}, "x"), -1); err != nil {
					t.Fatal(err)
				}
			}
			append1(0)
			f := newFetcher(t, n)
			epoch := int32(0)
			var id int32
			expect := func(what string, req *kmsg.FetchRequest, code int16, want ...string) {
				t.Helper()
				req.SessionID, req.SessionEpoch = id, epoch
				resp := f.fetch(req)
				if got := told(resp); !slices.Equal(got, want) || resp.ErrorCode != code {
					t.Fatalf("%s: error %d, %v; expected %d, %v", what, resp.ErrorCode, got, code, want)
				}
				if code == 0 {
					if resp.SessionID == 0 || id != 0 && resp.SessionID != id {
						t.Fatalf("%s: session %d after %d", what, resp.SessionID, id)
					}
					id = resp.SessionID
					epoch++
				}
			}
			expect("full", wants(version, topic, at(0, 0), at(1, 0), at(2, 0)), 0, "0:1+", "1:0", "2:0")
			expect("nothing new", wants(version, topic, at(0, 1)), 0)
			append1(1)
			append1(2)
			expect("two of three", wants(version, topic), 0, "1:1+", "2:1+")
			expect("the same again, as their places did not change", wants(version, topic), 0, "1:1+", "2:1+")
			req := wants(version, topic, at(1, 1))
			req.ForgottenTopics = []kmsg.FetchRequestForgottenTopic{{Topic: "t", TopicID: topic.ID(), Partitions: []int32{2, 3}}}
			expect("one moved, one forgotten", req, 0)
			expect("one added", wants(version, topic, at(3, 0)), 0, "3:0")
			expect("one in error", wants(version, topic, at(3, 9)), 0, "3:OFFSET_OUT_OF_RANGE")
			expect("still in error", wants(version, topic), 0, "3:OFFSET_OUT_OF_RANGE")
			expect("no longer", wants(version, topic, at(3, 0)), 0, "3:0")
			epoch += 5
			expect("wrong epoch", wants(version, topic), kerr.InvalidFetchSessionEpoch.Code)
			epoch -= 5
			if version >= 13 {
				expect("names in a session of ids", wants(12, topic), kerr.FetchSessionTopicIDError.Code)
			}
			old, oldEpoch := id, epoch
			id, epoch = 0, 0
			expect("another", wants(version, topic, at(0, 1)), 0, "0:1")
			fresh := id
			req = wants(version, topic, at(0, 1))
			req.SessionID, req.SessionEpoch = fresh, -1
			if resp := f.fetch(req); resp.SessionID != 0 || len(told(resp)) != 1 {
				t.Fatalf("the end of a session: %+v", resp)
			}
			epoch = 1
			expect("an ended session", wants(version, topic), kerr.FetchSessionIDNotFound.Code)
			id, epoch = old, oldEpoch
			if err := n.log.DeleteTopic("t"); err != nil {
				t.Fatal(err)
			}
			want := "UNKNOWN_TOPIC_OR_PARTITION"
			if version >= 13 {
				want = "UNKNOWN_TOPIC_ID"
			}
			expect("a deleted topic", wants(version, topic), 0, "0:"+want, "1:"+want, "3:"+want)
			n.topic("t", 4)
			if version >= 13 { // another topic: the client has to learn of it
				expect("a topic that is there again", wants(version, topic), 0, "0:"+want, "1:"+want, "3:"+want)
			} else {
				expect("a topic that is there again", wants(version, topic), 0, "0:OFFSET_OUT_OF_RANGE", "1:OFFSET_OUT_OF_RANGE", "3:0")
			}
		})
	}
}

// TestSessionEndsWithConnection: what a client that went away had is not kept.
func TestSessionEndsWithConnection(t *testing.T) {
	n := startNode(t, broker.Options{})
	n.topic("t", 1)
	topic, _ := n.log.Topic("t")
	nc := dial(t, n)
	req := wants(12, topic, at(0, 0))
	req.SessionEpoch = 0
	nc.Write(encodeRequest(req, 7))
	resp := &kmsg.FetchResponse{Version: 12}
	if err := resp.ReadFrom(readResponse(t, nc)[5:]); err != nil || resp.SessionID == 0 {
		t.Fatalf("%v %+v", err, resp)
	}
	nc.Close()
	again := wants(12, topic)
	again.SessionID = resp.SessionID
	for deadline := time.Now().Add(patience); ; again.SessionEpoch++ {
		got := newFetcher(t, n).fetch(again)
		if got.ErrorCode == kerr.FetchSessionIDNotFound.Code {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v", got)
		}
	}
}

// TestFetchFair: what got records is served last next time, so that a full answer
// starves nobody.
func TestFetchFair(t *testing.T) {
	n := startNode(t, broker.Options{})
	n.topic("t", 3)
	topic, _ := n.log.Topic("t")
	for _, p := range topic.Partitions() {
		if _, err := p.Append(t.Context(), batchOf(t, record.BatchOptions{}, "a record larger than the limit"), -1); err != nil {
			t.Fatal(err)
		}
	}
	f := newFetcher(t, n)
	req := wants(12, topic, at(0, 0), at(1, 0), at(2, 0))
	req.SessionEpoch, req.MaxBytes = 0, 10
	seen := map[string]bool{}
	for range 3 {
		resp := f.fetch(req)
		with := 0
		for _, rt := range resp.Topics {
			for _, p := range rt.Partitions {
				if len(p.RecordBatches) > 0 {
					with++
					seen[fmt.Sprint(p.Partition)] = true
				}
			}
		}
		if with != 1 {
			t.Fatalf("%d partitions with records; expected one, whole", with)
		}
		id := resp.SessionID
		epoch := req.SessionEpoch
		req = wants(12, topic)
		req.MaxBytes, req.SessionID, req.SessionEpoch = 10, id, epoch+1
	}
	if len(seen) != 3 {
		t.Fatalf("only partitions %v were served", seen)
	}
}

// TestReadCommitted: an open transaction holds readers of committed records, who
// are told of aborted ones; others read on.
func TestReadCommitted(t *testing.T) {
	n := startNode(t, broker.Options{})
	loaded(t, n)
	n.topic("t", 1)
	p, _ := n.log.Partition("t", 0)
	topic, _ := n.log.Topic("t")
	write := func(o record.BatchOptions) {
		t.Helper()
		if _, err := p.Append(t.Context(), batchOf(t, o, "v"), -1); err != nil {
			t.Fatal(err)
		}
	}
	end := func(id int64, commit bool) {
		t.Helper()
		if _, err := p.AppendMarker(t.Context(), commitlog.Marker{ProducerID: id, Commit: commit}); err != nil {
			t.Fatal(err)
		}
	}
	write(record.BatchOptions{ProducerID: -1})
	write(record.BatchOptions{ProducerID: 5, Transactional: true})
	write(record.BatchOptions{ProducerID: -1})
	f := newFetcher(t, n)
	read := func(version int16, isolation int8, offset int64, wait int32) kmsg.FetchResponseTopicPartition {
		t.Helper()
		req := wants(version, topic, at(0, offset))
		req.IsolationLevel, req.MinBytes, req.MaxWaitMillis = isolation, 1, wait
		return f.fetch(req).Topics[0].Partitions[0]
	}
	for _, version := range []int16{4, 11, 12, 18} {
		if r := read(version, 0, 0, 0); r.HighWatermark != 3 || r.LastStableOffset != 1 || len(r.RecordBatches) < 3*61 || r.AbortedTransactions != nil {
			t.Fatalf("v%d uncommitted: %+v", version, r)
		}
		if r := read(version, 1, 0, 0); r.LastStableOffset != 1 || len(r.RecordBatches) < 61 || len(r.RecordBatches) > 2*61 || r.AbortedTransactions == nil || len(r.AbortedTransactions) > 0 {
			t.Fatalf("v%d committed: %+v", version, r)
		}
	}
	if r := read(12, 1, 1, 0); len(r.RecordBatches) > 0 || r.ErrorCode != 0 {
		t.Fatalf("at the last stable offset: %+v", r)
	}
	// A fetch that waits at the last stable offset is woken by the end of the
	// transaction, not by other records.
	got := make(chan kmsg.FetchResponseTopicPartition)
	go func() { got <- read(12, 1, 1, forEver) }()
	write(record.BatchOptions{ProducerID: -1})
	select {
	case r := <-got:
		t.Fatalf("read past an open transaction: %+v", r)
	case <-time.After(50 * time.Millisecond):
	}
	end(5, false)
	r := <-got
	if len(r.AbortedTransactions) != 1 || r.AbortedTransactions[0].ProducerID != 5 || r.AbortedTransactions[0].FirstOffset != 1 || r.LastStableOffset != 5 {
		t.Fatalf("%+v", r)
	}
	// A client skips what was aborted.
	for level, want := range map[kgo.IsolationLevel]int{kgo.ReadCommitted(): 3, kgo.ReadUncommitted(): 4} {
		if recs := kgoRead(t, n, "t", want, kgo.FetchIsolationLevel(level)); len(recs) != want {
			t.Fatalf("%d records, expected %d", len(recs), want)
		}
	}
	// ListOffsets tells the ends apart.
	write(record.BatchOptions{ProducerID: 6, Transactional: true})
	const lateTime = 1_800_000_000_000
	var b record.Builder
	b.Reset(record.BatchOptions{ProducerID: 6, Transactional: true, BaseSequence: 1})
	b.Append(lateTime, nil, []byte("v"), nil)
	batch, err := b.Build()
	if err == nil {
		_, err = p.Append(t.Context(), batch, -1)
	}
	if err != nil {
		t.Fatal(err)
	}
	for timestamp, want := range map[int64][2]int64{-1: {7, 5}, lateTime: {6, -1}, -3: {6, -1}} {
		for isolation, want := range want {
			req := &kmsg.ListOffsetsRequest{Version: 7, IsolationLevel: int8(isolation), Topics: []kmsg.ListOffsetsRequestTopic{
				{Topic: "t", Partitions: []kmsg.ListOffsetsRequestTopicPartition{{Timestamp: timestamp, CurrentLeaderEpoch: -1}}}}}
			resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
			if err := resp.ReadFrom(rawRequest(t, n, req)); err != nil || resp.Topics[0].Partitions[0].Offset != want {
				t.Fatalf("%d: %v %+v, expected %d", timestamp, err, resp.Topics[0].Partitions[0], want)
			}
		}
	}
}

// TestFetchWaitsOnMany: a fetch that waits on a thousand partitions takes no
// goroutines for them, and is woken by any.
func TestFetchWaitsOnMany(t *testing.T) {
	const parts = 1000
	n := startNode(t, broker.Options{})
	n.topic("t", parts)
	topic, _ := n.log.Topic("t")
	var all []kmsg.FetchRequestTopicPartition
	for i := range int32(parts) {
		all = append(all, at(i, 0))
	}
	before := runtime.NumGoroutine()
	got := make(chan []string)
	for range 3 {
		req := wants(12, topic, all...)
		req.MinBytes, req.MaxWaitMillis = 1, forEver
		f := newFetcher(t, n)
		go func() {
			for _, s := range told(f.fetch(req)) {
				if s[len(s)-1] == '+' {
					got <- []string{s}
					return
				}
			}
			got <- nil
		}()
	}
	time.Sleep(50 * time.Millisecond) // lets them wait; the test holds without, too
	if more := runtime.NumGoroutine() - before; more > 50 {
		t.Errorf("%d more goroutines", more)
	}
	p, _ := topic.Partition(777)
	if _, err := p.Append(t.Context(), batchOf(t, record.BatchOptions{}, "x"), -1); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if s := <-got; !slices.Equal(s, []string{"777:1+"}) {
			t.Errorf("woken with %v", s)
		}
	}
	// The end of a topic wakes, too.
	req := wants(13, topic, at(1, 0))
	req.MinBytes, req.MaxWaitMillis = 1, forEver
	f := newFetcher(t, n)
	done := make(chan []string)
	go func() { done <- told(f.fetch(req)) }()
	if err := n.log.DeleteTopic("t"); err != nil {
		t.Fatal(err)
	}
	if s := <-done; !slices.Equal(s, []string{"1:UNKNOWN_TOPIC_ID"}) {
		t.Errorf("%v", s)
	}
}

// TestFetchEpochs: a client behind or ahead of the leader's epoch learns of it, and
// where its log parted from ours.
func TestFetchEpochs(t *testing.T) {
	n := startNode(t, broker.Options{})
	n.topic("t", 1)
	p, _ := n.log.Partition("t", 0)
	if _, err := p.Append(t.Context(), batchOf(t, record.BatchOptions{}, "x"), -1); err != nil {
		t.Fatal(err)
	}
	n.restart()
	p, _ = n.log.Partition("t", 0)
	topic, _ := n.log.Topic("t")
	now := p.LeaderEpoch()
	f := newFetcher(t, n)
	fetch := func(version int16, offset int64, current, last int32) (*kmsg.FetchResponse, kmsg.FetchResponseTopicPartition) {
		part := at(0, offset)
		part.CurrentLeaderEpoch, part.LastFetchedEpoch = current, last
		resp := f.fetch(wants(version, topic, part))
		return resp, resp.Topics[0].Partitions[0]
	}
	if now == 0 {
		t.Fatal("a restart made no new epoch")
	}
	{
		resp, r := fetch(18, 0, now-1, -1)
		if r.ErrorCode != kerr.FencedLeaderEpoch.Code || r.CurrentLeader.LeaderID != 1 || r.CurrentLeader.LeaderEpoch != now || len(resp.Brokers) != 1 || resp.Brokers[0].Port == 0 {
			t.Errorf("fenced: %+v %+v", resp.Brokers, r)
		}
		if _, r = fetch(9, 0, now-1, -1); r.ErrorCode != kerr.FencedLeaderEpoch.Code {
			t.Errorf("fenced v9: %+v", r)
		}
	}
	if _, r := fetch(12, 0, now+1, -1); r.ErrorCode != kerr.UnknownLeaderEpoch.Code {
		t.Errorf("ahead: %+v", r)
	}
	if _, r := fetch(12, 0, now, -1); r.ErrorCode != 0 || len(r.RecordBatches) == 0 || r.DivergingEpoch.EndOffset != -1 {
		t.Errorf("level: %+v", r)
	}
}

// TestFetchMinBytes: an answer waits for as much as was asked for, at most the limit.
func TestFetchMinBytes(t *testing.T) {
	n := startNode(t, broker.Options{})
	n.topic("t", 2)
	topic, _ := n.log.Topic("t")
	f := newFetcher(t, n)
	req := wants(12, topic, at(0, 0), at(1, 0))
	req.MinBytes, req.MaxWaitMillis = 150, forEver
	got := make(chan *kmsg.FetchResponse)
	go func() { got <- f.fetch(req) }()
	for _, p := range topic.Partitions() {
		select {
		case r := <-got:
			t.Fatalf("answered with %v", told(r))
		case <-time.After(20 * time.Millisecond):
		}
		if _, err := p.Append(t.Context(), batchOf(t, record.BatchOptions{}, "0123456789012345678901234"), -1); err != nil {
			t.Fatal(err)
		}
	}
	if s := told(<-got); !slices.Equal(s, []string{"0:1+", "1:1+"}) {
		t.Fatalf("%v", s)
	}
	req.MinBytes, req.MaxBytes = 1<<30, 50 // no more than the limit can be waited for
	if s := told(f.fetch(req)); !slices.Equal(s, []string{"0:1+", "1:1"}) {
		t.Fatalf("%v", s)
	}
	req = wants(12, topic, at(0, 1))
	req.MinBytes, req.MaxWaitMillis = 1, 30
	since := time.Now()
	if s := told(f.fetch(req)); !slices.Equal(s, []string{"0:1"}) || time.Since(since) < 30*time.Millisecond {
		t.Fatalf("%v after %v", s, time.Since(since))
	}
	if _, err := n.log.Partition("t", 2); !errors.Is(err, commitlog.ErrUnknownPartition) {
		t.Fatal(err)
	}
}

// readCounter counts the bytes that are read from files, and calls after after the
// next read.
type readCounter struct {
	vfs.FS
	read  atomic.Int64
	after atomic.Pointer[func()]
}

type countedFile struct {
	vfs.File
	fs *readCounter
}

func (c *readCounter) file(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return countedFile{f, c}, nil
}
func (c *readCounter) Create(name string) (vfs.File, error)   { return c.file(c.FS.Create(name)) }
func (c *readCounter) Open(name string) (vfs.File, error)     { return c.file(c.FS.Open(name)) }
func (c *readCounter) OpenFile(name string) (vfs.File, error) { return c.file(c.FS.OpenFile(name)) }
func (f countedFile) ReadAt(b []byte, off int64) (int, error) {
	f.fs.read.Add(int64(len(b)))
	n, err := f.File.ReadAt(b, off)
	if after := f.fs.after.Swap(nil); after != nil {
		(*after)()
	}
	return n, err
}

// TestFetchMinBytesDuringRead: what becomes durable while a fetch reads what was
// there before counts: nothing else will wake it.
func TestFetchMinBytesDuringRead(t *testing.T) {
	fs := &readCounter{FS: vfs.NewMem(1)}
	n := startNodeOn(t, fs, broker.Options{})
	n.topic("t", 1)
	topic, _ := n.log.Topic("t")
	p, _ := topic.Partition(0)
	add := func() {
		if _, err := p.Append(t.Context(), batchOf(t, record.BatchOptions{}, "0123456789"), -1); err != nil {
			t.Error(err)
		}
	}
	add()
	req := wants(12, topic, at(0, 0))
	req.MinBytes, req.MaxWaitMillis = 100, forEver
	fs.after.Store(&add)
	began := time.Now()
	if r, took := newFetcher(t, n).fetch(req), time.Since(began); len(r.Topics[0].Partitions[0].RecordBatches) < 100 || took >= forEver*time.Millisecond {
		t.Fatalf("%d bytes after %v", len(r.Topics[0].Partitions[0].RecordBatches), took)
	}
}

// TestFetchMinBytesReads: a fetch that waits for many bytes does not read those that
// are there again with each batch that comes, and is answered when they are there,
// also when the end of a transaction sets them free.
func TestFetchMinBytesReads(t *testing.T) {
	const batches = 2000
	for _, committed := range []bool{false, true} {
		fs := &readCounter{FS: vfs.NewMem(1)}
		n := startNodeOn(t, fs, broker.Options{})
		loaded(t, n)
		n.topic("t", 1)
		topic, _ := n.log.Topic("t")
		p, _ := topic.Partition(0)
		f := newFetcher(t, n)
		part := at(0, 0)
		part.PartitionMaxBytes = 4 << 20
		req := wants(12, topic, part)
		value := string(make([]byte, 1000))
		req.MinBytes, req.MaxBytes, req.MaxWaitMillis = batches*1000, 4<<20, forEver
		o := record.BatchOptions{}
		if committed {
			req.IsolationLevel, o.ProducerID, o.Transactional = 1, 5, true
		}
		got := make(chan *kmsg.FetchResponse)
		before := fs.read.Load()
		began := time.Now()
		go func() { got <- f.fetch(req) }()
		for i := range batches {
			o.BaseSequence = int32(i)
			if _, err := p.Append(t.Context(), batchOf(t, o, value), -1); err != nil {
				t.Fatal(err)
			}
		}
		if committed {
			if _, err := p.AppendMarker(t.Context(), commitlog.Marker{ProducerID: 5, Commit: true}); err != nil {
				t.Fatal(err)
			}
		}
		r := (<-got).Topics[0].Partitions[0]
		if took := time.Since(began); len(r.RecordBatches) < batches*1000 || took >= forEver*time.Millisecond {
			t.Fatalf("%d bytes after %v", len(r.RecordBatches), took)
		}
		if read := fs.read.Load() - before; read > 2*batches*1000 {
			t.Fatalf("committed=%v: %d bytes were read for an answer of %d", committed, read, len(r.RecordBatches))
		}
	}
}

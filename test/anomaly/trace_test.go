package anomaly

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// trace is what passed between clients and the coordinators, and what clients of
// groups say of themselves: with it a finding explains itself. It is written to a
// file where there is a finding.
type trace struct {
	rec   *Recorder
	began time.Time

	mu    sync.Mutex
	lines []traceLine
}

type traceLine struct {
	at   int64 // the Recorder's time
	wall time.Duration
	who  string
	what string
}

func (t *trace) add(who, format string, args ...any) {
	line := traceLine{at: t.rec.now(), wall: time.Since(t.began), who: who, what: fmt.Sprintf(format, args...)}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, line)
}

// save writes the trace and the history, in order of time, to a file in
// WEIR_TRACES, or where temporary files are.
func (t *trace) save(tb testing.TB, seed uint64, h History, found []Anomaly) {
	tb.Helper()
	t.mu.Lock()
	lines := slices.Clone(t.lines)
	t.mu.Unlock()
	for i := range h {
		op := &h[i]
		lines = append(lines, traceLine{at: op.Completed, who: who(op.Process), what: describe(op)})
	}
	slices.SortStableFunc(lines, func(a, b traceLine) int { return int(a.at - b.at) })
	var b strings.Builder
	for _, a := range found {
		fmt.Fprintln(&b, a)
	}
	for _, l := range lines {
		fmt.Fprintf(&b, "%6d %9s %-10s %s\n", l.at, l.wall.Round(100*time.Microsecond), l.who, l.what)
	}
	dir := os.Getenv("WEIR_TRACES")
	if dir == "" {
		dir = os.TempDir()
	}
	name := filepath.Join(dir, fmt.Sprintf("anomaly-%d-%d.trace", seed, time.Now().UnixMilli()))
	if err := os.WriteFile(name, []byte(b.String()), 0o600); err != nil {
		tb.Errorf("seed %d: trace not saved: %v", seed, err)
		return
	}
	tb.Logf("seed %d: trace in %s", seed, name)
}

func who(process int) string { return fmt.Sprint("process-", process) }

// describe is an operation in a line.
func describe(op *Op) string {
	var b strings.Builder
	fmt.Fprintf(&b, "OP %s since %d", op.Outcome, op.Invoked)
	if op.Group != "" {
		fmt.Fprintf(&b, " %s", op.Group)
	}
	if op.Assign != nil {
		fmt.Fprintf(&b, " assign %v", op.Assign)
	}
	for _, s := range op.Steps {
		verb := "poll"
		if s.Send {
			verb = "send"
		}
		first, last := s.Records[0], s.Records[len(s.Records)-1]
		fmt.Fprintf(&b, " %s %v offsets %d..%d values %d..%d", verb, s.Key, first.Offset, last.Offset, first.Value, last.Value)
	}
	if op.Polled != 0 {
		fmt.Fprintf(&b, " polled at %d", op.Polled)
	}
	if op.Committed != nil {
		fmt.Fprintf(&b, " commit %v", op.Committed)
	}
	if op.Down {
		b.WriteString(" the broker is down")
	}
	return b.String()
}

// Level and Log implement kgo.Logger for one process.
type clientLog struct {
	t   *trace
	who string
}

func (clientLog) Level() kgo.LogLevel { return kgo.LogLevelDebug }

// Log drops what is about metadata and, of what is for debugging, all that does not
// move the client's place in a partition.
func (c clientLog) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	switch {
	case level < kgo.LogLevelDebug && !strings.Contains(msg, "metadata"):
	case strings.HasPrefix(msg, "handled "), strings.HasPrefix(msg, "entering OnPartitions"), msg == "updated uncommitted", msg == "offsets to load broker":
	default:
		return
	}
	c.t.add(c.who, "  kgo: %s %v", msg, keyvals)
}

// tracedConn reads along on a client's connection, and makes it wait now and then.
type tracedConn struct {
	net.Conn
	t    *trace
	slow *slowness
	hold func(client string, req kmsg.Request) // nil: nothing is held

	mu     sync.Mutex
	asked  map[int32]askedFor // by correlation id
	unread []byte             // of a response
	skip   int                // bytes of responses that are not looked at
}

type askedFor struct {
	req kmsg.Request
	who string
}

func (c *tracedConn) Write(p []byte) (int, error) {
	c.slow.wait()
	c.request(p)
	return c.Conn.Write(p)
}

func (c *tracedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.responses(p[:n])
	return n, err
}

// traced are the keys of requests that are written down.
var traced = []kmsg.Key{kmsg.OffsetCommit, kmsg.OffsetFetch, kmsg.JoinGroup, kmsg.Heartbeat, kmsg.LeaveGroup, kmsg.SyncGroup,
	kmsg.InitProducerID, kmsg.OffsetForLeaderEpoch, kmsg.ListOffsets, kmsg.EndTxn, kmsg.TxnOffsetCommit, kmsg.AddOffsetsToTxn}

// request looks at what a client sends; kgo writes one request at a time.
func (c *tracedConn) request(p []byte) {
	if len(p) < 14 {
		return
	}
	r := kbin.Reader{Src: p[4:]}
	key, version, id := r.Int16(), r.Int16(), r.Int32()
	client := r.NullableString()
	req := kmsg.RequestForKey(key)
	if req == nil || client == nil || !slices.Contains(traced, kmsg.Key(key)) {
		return
	}
	req.SetVersion(version)
	if req.IsFlexible() {
		kmsg.SkipTags(&r)
	}
	if err := req.ReadFrom(r.Src); err != nil {
		c.t.add(*client, "-> %s: %v", kmsg.NameForKey(key), err)
		return
	}
	c.mu.Lock()
	c.asked[id] = askedFor{req, *client}
	c.mu.Unlock()
	if key != int16(kmsg.Heartbeat) {
		c.t.add(*client, "-> %s", tell(req))
	}
	if c.hold != nil {
		c.hold(*client, req)
	}
}

// responses looks at what a client receives.
func (c *tracedConn) responses(p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(p) > 0 {
		if c.skip > 0 {
			n := min(c.skip, len(p))
			c.skip, p = c.skip-n, p[n:]
			continue
		}
		need := 8
		if len(c.unread) >= 8 {
			need = 4 + int(binary.BigEndian.Uint32(c.unread))
		}
		n := min(need-len(c.unread), len(p))
		c.unread, p = append(c.unread, p[:n]...), p[n:]
		if len(c.unread) < 8 {
			continue
		}
		size := 4 + int(binary.BigEndian.Uint32(c.unread))
		id := int32(binary.BigEndian.Uint32(c.unread[4:]))
		a, ok := c.asked[id]
		if !ok {
			c.skip, c.unread = size-8, c.unread[:0]
			continue
		}
		if len(c.unread) < size {
			continue
		}
		delete(c.asked, id)
		c.response(a, c.unread[8:])
		c.unread = c.unread[:0]
	}
}

func (c *tracedConn) response(a askedFor, body []byte) {
	resp := a.req.ResponseKind()
	r := kbin.Reader{Src: body}
	if resp.IsFlexible() {
		kmsg.SkipTags(&r)
	}
	if err := resp.ReadFrom(slices.Clone(r.Src)); err != nil {
		c.t.add(a.who, "<- %s: %v", kmsg.NameForKey(a.req.Key()), err)
		return
	}
	if s := tell(resp); s != "" {
		c.t.add(a.who, "<- %s", s)
	}
}

func code(c int16) string {
	if err := kerr.ErrorForCode(c); err != nil {
		if k, ok := err.(*kerr.Error); ok {
			return k.Message
		}
	}
	return "ok"
}

// tell is a request or a response in a line; empty where there is nothing to say.
func tell(m any) string {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	switch m := m.(type) {
	case *kmsg.JoinGroupRequest:
		say("JoinGroup %s member %q", m.Group, m.MemberID)
		for _, p := range m.Protocols {
			var meta kmsg.ConsumerMemberMetadata
			if meta.ReadFrom(p.Metadata) == nil {
				say(" %s owns %v of generation %d", p.Name, meta.OwnedPartitions, meta.Generation)
			}
		}
	case *kmsg.JoinGroupResponse:
		say("JoinGroup %s generation %d member %q leader %q", code(m.ErrorCode), m.Generation, m.MemberID, m.LeaderID)
	case *kmsg.SyncGroupRequest:
		say("SyncGroup %s generation %d member %q", m.Group, m.Generation, m.MemberID)
		for _, a := range m.GroupAssignment {
			say(" %q: %s", a.MemberID, assignment(a.MemberAssignment))
		}
	case *kmsg.SyncGroupResponse:
		say("SyncGroup %s %s", code(m.ErrorCode), assignment(m.MemberAssignment))
	case *kmsg.HeartbeatResponse:
		if m.ErrorCode != 0 {
			say("Heartbeat %s", code(m.ErrorCode))
		}
	case *kmsg.LeaveGroupRequest:
		say("LeaveGroup %s %q", m.Group, m.MemberID)
		for _, one := range m.Members {
			say(" %q", one.MemberID)
		}
	case *kmsg.LeaveGroupResponse:
		say("LeaveGroup %s", code(m.ErrorCode))
	case *kmsg.OffsetFetchRequest:
		say("OffsetFetch %s stable %v", m.Group, m.RequireStable)
		for _, g := range m.Groups {
			say(" %s", g.Group)
			for _, t := range g.Topics {
				say(" %v", t.Partitions)
			}
		}
	case *kmsg.OffsetFetchResponse:
		say("OffsetFetch %s", code(m.ErrorCode))
		for _, g := range m.Groups {
			say(" %s %s", g.Group, code(g.ErrorCode))
			for _, t := range g.Topics {
				for _, p := range t.Partitions {
					say(" %d: %d epoch %d %s", p.Partition, p.Offset, p.LeaderEpoch, code(p.ErrorCode))
				}
			}
		}
	default:
		tellMore(m, say)
	}
	return b.String()
}

// tellMore is tell for commits, transactions and offsets of partitions.
func tellMore(m any, say func(string, ...any)) {
	switch m := m.(type) {
	case *kmsg.OffsetCommitRequest:
		say("OffsetCommit %s generation %d member %q", m.Group, m.Generation, m.MemberID)
		for _, t := range m.Topics {
			for _, p := range t.Partitions {
				say(" %d: %d epoch %d", p.Partition, p.Offset, p.LeaderEpoch)
			}
		}
	case *kmsg.OffsetCommitResponse:
		say("OffsetCommit")
		for _, t := range m.Topics {
			for _, p := range t.Partitions {
				say(" %d: %s", p.Partition, code(p.ErrorCode))
			}
		}
	case *kmsg.TxnOffsetCommitRequest:
		say("TxnOffsetCommit %s producer %d epoch %d generation %d member %q", m.Group, m.ProducerID, m.ProducerEpoch, m.Generation, m.MemberID)
		for _, t := range m.Topics {
			for _, p := range t.Partitions {
				say(" %d: %d epoch %d", p.Partition, p.Offset, p.LeaderEpoch)
			}
		}
	case *kmsg.TxnOffsetCommitResponse:
		say("TxnOffsetCommit")
		for _, t := range m.Topics {
			for _, p := range t.Partitions {
				say(" %d: %s", p.Partition, code(p.ErrorCode))
			}
		}
	case *kmsg.EndTxnRequest:
		say("EndTxn %s producer %d epoch %d commit %v", m.TransactionalID, m.ProducerID, m.ProducerEpoch, m.Commit)
	case *kmsg.EndTxnResponse:
		say("EndTxn %s producer %d epoch %d", code(m.ErrorCode), m.ProducerID, m.ProducerEpoch)
	case *kmsg.InitProducerIDResponse:
		say("InitProducerID %s producer %d epoch %d", code(m.ErrorCode), m.ProducerID, m.ProducerEpoch)
	case *kmsg.AddOffsetsToTxnRequest:
		say("AddOffsetsToTxn %s producer %d epoch %d", m.Group, m.ProducerID, m.ProducerEpoch)
	case *kmsg.AddOffsetsToTxnResponse:
		say("AddOffsetsToTxn %s", code(m.ErrorCode))
	case *kmsg.OffsetForLeaderEpochRequest:
		say("OffsetForLeaderEpoch")
		for _, t := range m.Topics {
			for _, p := range t.Partitions {
				say(" %s/%d epoch %d", t.Topic, p.Partition, p.LeaderEpoch)
			}
		}
	case *kmsg.OffsetForLeaderEpochResponse:
		say("OffsetForLeaderEpoch")
		for _, t := range m.Topics {
			for _, p := range t.Partitions {
				say(" %s/%d: epoch %d ends at %d %s", t.Topic, p.Partition, p.LeaderEpoch, p.EndOffset, code(p.ErrorCode))
			}
		}
	case *kmsg.ListOffsetsRequest:
		for _, t := range m.Topics {
			for _, p := range t.Partitions {
				say(" ListOffsets %s/%d time %d", t.Topic, p.Partition, p.Timestamp)
			}
		}
	case *kmsg.ListOffsetsResponse:
		for _, t := range m.Topics {
			for _, p := range t.Partitions {
				say(" ListOffsets %s/%d: %d %s", t.Topic, p.Partition, p.Offset, code(p.ErrorCode))
			}
		}
	}
}

func assignment(b []byte) string {
	var a kmsg.ConsumerMemberAssignment
	if len(b) == 0 || a.ReadFrom(b) != nil {
		return "nothing"
	}
	return fmt.Sprint(a.Topics)
}

// slowness makes clients wait, as a slow network or a busy machine does: some long
// enough for their group to go on without them.
type slowness struct {
	mu  sync.Mutex
	rng *rand.Rand
	one int // of so many waits; 0: none
	max time.Duration
}

func newSlowness(seed uint64) *slowness {
	rng := rand.New(rand.NewPCG(seed, 4))
	s := &slowness{rng: rng, max: 400 * time.Millisecond}
	s.one = []int{0, 0, 400, 100}[rng.IntN(4)]
	return s
}

func (s *slowness) wait() {
	if s.one == 0 {
		return
	}
	s.mu.Lock()
	var d time.Duration
	if s.rng.IntN(s.one) == 0 {
		d = time.Duration(s.rng.Int64N(int64(s.max)))
	}
	s.mu.Unlock()
	time.Sleep(d)
}

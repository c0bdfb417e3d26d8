package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/cep/window"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/sink"
	"github.com/weirstream/weir/ingest/source"
)

// memLog is a log in memory that can be killed: what was accepted and not yet
// durable is then lost, in part.
type memLog struct {
	mu    sync.Mutex
	cond  *sync.Cond
	rng   *rand.Rand
	parts map[string]*memPartition
	fuse  int  // appends until the log is killed; below 0: never
	dead  bool // every operation fails
	ends  map[string]bool
	start map[string]int64 // what retention left, where it took something
}

type memPartition struct {
	recs    []source.Record
	durable int
}

var errDead = errors.New("killed")

func newMemLog(seed uint64) *memLog {
	l := &memLog{rng: rand.New(rand.NewPCG(seed, 9)), parts: map[string]*memPartition{}, fuse: -1, ends: map[string]bool{}}
	l.cond = sync.NewCond(&l.mu)
	return l
}

func partName(topic string, partition int32) string { return fmt.Sprintf("%s/%d", topic, partition) }

func (l *memLog) part(topic string, partition int32) *memPartition {
	name := partName(topic, partition)
	if l.parts[name] == nil {
		l.parts[name] = &memPartition{}
	}
	return l.parts[name]
}

// produce adds durable input.
func (l *memLog) produce(topic string, partition int32, values ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.part(topic, partition)
	for _, v := range values {
		p.recs = append(p.recs, source.Record{Offset: int64(len(p.recs)), Timestamp: 1, Value: []byte(v)})
	}
	p.durable = len(p.recs)
	l.ends = map[string]bool{}
	l.cond.Broadcast()
}

func (l *memLog) Append(_ context.Context, topic string, partition int32, recs []sink.Record) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return 0, errDead
	}
	if l.fuse == 0 && l.rng.IntN(2) == 0 {
		l.dead = true
		l.cond.Broadcast()
		return 0, errDead // killed before it was written
	}
	p := l.part(topic, partition)
	base := int64(len(p.recs))
	for i := range recs {
		r := recs[i].Clone()
		r.Offset = base + int64(i)
		p.recs = append(p.recs, r)
	}
	if l.rng.IntN(3) == 0 {
		p.durable = len(p.recs) // the flusher came by
	}
	l.cond.Broadcast()
	if l.fuse == 0 {
		l.dead = true // killed after it was written
		l.cond.Broadcast()
		return 0, errDead
	}
	if l.fuse > 0 {
		l.fuse--
	}
	return base, nil
}

func (l *memLog) Durable(_ context.Context, topic string, partition int32, offset int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return errDead
	}
	p := l.part(topic, partition)
	p.durable = max(p.durable, int(offset)+1)
	return nil
}

func (l *memLog) End(topic string, partition int32) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return 0, errDead
	}
	return int64(len(l.part(topic, partition).recs)), nil
}

func (l *memLog) isDead() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead
}

// revive is the log after a restart: a random part of what was not durable is
// gone.
func (l *memLog) revive() {
	l.mu.Lock()
	defer l.mu.Unlock()
	names := make([]string, 0, len(l.parts))
	for n := range l.parts {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		p := l.parts[n]
		p.recs = p.recs[:p.durable+l.rng.IntN(len(p.recs)-p.durable+1)]
		p.durable = len(p.recs)
	}
	l.dead, l.fuse, l.ends = false, -1, map[string]bool{}
}

func (l *memLog) open(_ context.Context, topic string, partition int32, from int64) (source.Source, error) {
	return &memSource{l: l, topic: topic, partition: partition, at: max(from, l.start[partName(topic, partition)])}, nil
}

// waitEnds waits until the inputs are read to their ends, or the log is killed.
func (l *memLog) waitEnds(topic string, partitions int) (killed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		if l.dead {
			return true
		}
		n := 0
		for name := range l.ends {
			if strings.HasPrefix(name, topic+"/") {
				n++
			}
		}
		if n == partitions {
			return false
		}
		l.cond.Wait()
	}
}

type memSource struct {
	l         *memLog
	topic     string
	partition int32
	at        int64
}

func (s *memSource) Next(ctx context.Context) (source.Chunk, error) {
	stop := context.AfterFunc(ctx, func() { s.l.mu.Lock(); s.l.cond.Broadcast(); s.l.mu.Unlock() })
	defer stop()
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	for {
		if s.l.dead {
			return source.Chunk{}, errDead
		}
		p := s.l.part(s.topic, s.partition)
		if n := p.durable - int(s.at); n > 0 {
			n = 1 + s.l.rng.IntN(min(n, 200))
			recs := slices.Clone(p.recs[s.at : int(s.at)+n])
			s.at += int64(n)
			return source.Chunk{Topic: s.topic, Partition: s.partition, Records: recs, Next: s.at, HighWatermark: int64(p.durable)}, nil
		}
		if strings.HasPrefix(s.topic, TopicKeyed) && p.durable < len(p.recs) {
			p.durable = len(p.recs) // the flusher comes by in the end
			continue
		}
		if name := partName(s.topic, s.partition); !s.l.ends[name] {
			s.l.ends[name] = true
			s.l.cond.Broadcast()
		}
		if ctx.Err() != nil {
			return source.Chunk{}, ctx.Err()
		}
		s.l.cond.Wait()
	}
}

// End implements ender.
func (s *memSource) End() int64 {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	return int64(s.l.part(s.topic, s.partition).durable)
}

func (s *memSource) SeekTo(offset int64) error { s.at = offset; return nil }
func (s *memSource) Close() error              { return nil }

// outputOf is what a source partition made in a topic, in order: everything but
// the latency.
func (l *memLog) outputOf(topic string, partitions int32, origin string) []string {
	var out []string
	for p := range partitions {
		for i := range l.part(topic, p).recs {
			r := &l.part(topic, p).recs[i]
			if id := originOf(r); strings.HasPrefix(id, origin+"/") {
				out = append(out, fmt.Sprintf("%d %s %q %s", r.Timestamp, id, r.Key, r.Value))
			}
		}
	}
	return out
}

// testProgram fires three rules on a window of each key: often is live, big is
// live and more severe, much is a shadow. It panics on the amount 666.
type testProgram struct {
	id      string
	longest time.Duration
}

func (p testProgram) ID() string { return p.id }

func (p testProgram) Instance(s *schema.Stream) (Instance, error) {
	return newTestInstance(s, p.longest, 0)
}

// cappedProgram holds at most so many events of a key.
type cappedProgram struct {
	testProgram
	events int
}

func (p cappedProgram) Instance(s *schema.Stream) (Instance, error) {
	return newTestInstance(s, p.longest, p.events)
}

func newTestInstance(s *schema.Stream, longest time.Duration, maxEvents int) (Instance, error) {
	amount := func(b *event.Batch, row int) (uint64, bool) { return uint64(b.Cols[2].Int64[row]), true }
	op, err := window.New(window.Config{Keys: []int{1}, MaxEvents: maxEvents, Values: []window.Value{{Type: s.Schema.Fields[2].Type, Read: amount}},
		Outputs: []window.Output{{Slot: 0, Extent: window.Extent{Length: longest}, Aggregate: window.Count, Value: -1}, {Slot: 1, Extent: window.Extent{Length: longest}, Aggregate: window.Sum}}})
	return &testInstance{op: Operator{Identity: fmt.Sprint("w", longest), Name: "by(s.key)", Rules: []string{"often", "big"}, Operator: op}, scale: s.Schema.Fields[2].Type}, err
}

type testInstance struct {
	op    Operator
	scale event.Type
}

func (i *testInstance) Needs() []int           { return []int{2} }
func (i *testInstance) Features() []event.Type { return []event.Type{{Kind: event.Int64}, i.scale} }
func (i *testInstance) Operators() []Operator  { return []Operator{i.op} }

func (i *testInstance) Decide(b *event.Batch, out *cep.Outbox, dst []Finding) ([]Finding, error) {
	for row := range b.Len() {
		amount, count, sum := b.Cols[2].Int64[row], out.Features[0].Int64[row], out.Features[1].Int64[row]
		if amount == 66600 {
			panic("666")
		}
		values := event.Values{{Name: "count", JSON: fmt.Sprint(count)}, {Name: "sum", JSON: fmt.Sprint(sum)}}
		if count >= 3 {
			dst = append(dst, Finding{Row: row, Rule: "often", Action: "alert", Severity: "low", Score: 10, Values: values[:1]})
		}
		if amount > 9000 {
			dst = append(dst, Finding{Row: row, Rule: "big", Action: "decline", Severity: "high", Score: 5, Message: "big", Values: values})
		}
		if sum > 20000 {
			dst = append(dst, Finding{Row: row, Rule: "much", Shadow: true, Action: "review", Score: 1, Values: values})
		}
	}
	return dst, nil
}

func testStream(partitions int32) *schema.Stream {
	fields := []event.Field{
		{Name: "ts", Type: event.Type{Kind: event.Timestamp}},
		{Name: "key", Type: event.Type{Kind: event.String}},
		{Name: "amount", Type: event.Type{Kind: event.Decimal, Scale: 2}},
	}
	return &schema.Stream{Topic: "in", Partitions: partitions, Format: schema.JSON, Lateness: 5 * time.Second,
		Fields: []schema.Field{{Layout: "unix"}, {}, {}},
		Schema: &event.Schema{Stream: "s", Alias: "s", Fields: fields, Time: 0, Key: 1, ID: -1}}
}

// inputs are random records, some late, some bad.
func inputs(r *rand.Rand, n int) []string {
	out := make([]string, n)
	now := 1000
	for i := range out {
		now += r.IntN(3)
		at := now
		if r.IntN(5) == 0 {
			at -= r.IntN(12)
		}
		switch r.IntN(40) {
		case 0:
			out[i] = `{"ts": nonsense`
		case 1:
			out[i] = fmt.Sprintf(`{"ts": %d, "amount": 1}`, at)
		default:
			out[i] = fmt.Sprintf(`{"ts": %d, "key": "k%d", "amount": %d.%02d}`, at, r.IntN(6), r.IntN(100), r.IntN(100))
		}
	}
	return out
}

// failing fails appends as told.
type failing struct {
	*memLog
	fail func() error
}

func (f failing) Append(ctx context.Context, topic string, partition int32, recs []sink.Record) (int64, error) {
	if err := f.fail(); err != nil {
		return 0, err
	}
	return f.memLog.Append(ctx, topic, partition, recs)
}

// sealed is data with a valid checksum.
func sealed(data []byte) []byte {
	return binary.LittleEndian.AppendUint32(slices.Clone(data), crc32.Checksum(data, castagnoli))
}

// renamed is a program whose operators are others, by name.
type renamed struct{ Program }

func (p renamed) Instance(s *schema.Stream) (Instance, error) {
	i, err := p.Program.Instance(s)
	return renamedInstance{i}, err
}

type renamedInstance struct{ Instance }

func (i renamedInstance) Operators() []Operator {
	ops := slices.Clone(i.Instance.Operators())
	for j := range ops {
		ops[j].Identity += " renamed"
	}
	return ops
}

package httpin

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/source"
	"github.com/weirstream/weir/log/record"
)

// TopicRequests holds what is known of requests with an Idempotency-Key: a record
// before the first of a request's events is written, and one after the last. It
// has one partition and may forget after Options.Window.
const TopicRequests = "weir.requests"

// The headers of the first record of each batch of a request with a key.
const (
	HeaderKey   = "weir-idempotency"       // hash of the stream's name and the key
	HeaderEvent = "weir-idempotency-event" // number of the batch's last event in the body / of its records
)

var (
	errRunning   = errors.New("a request with this Idempotency-Key is being written; send it again when that is done")
	errOtherBody = errors.New("this Idempotency-Key came with another body before; a new body needs a new key")
)

// hash identifies a key or a body.
type hash [16]byte

// String has letters only, a to p: digits could pass for a card number, which is
// masked wherever it stands.
func (h hash) String() string {
	text := make([]byte, 0, 2*len(h))
	for _, b := range h {
		text = append(text, 'a'+b>>4, 'a'+b&15)
	}
	return string(text)
}

// parseHash reads what String wrote.
func parseHash(s string) (h hash, ok bool) {
	if len(s) != 2*len(h) {
		return h, false
	}
	for i := range h {
		hi, lo := s[2*i]-'a', s[2*i+1]-'a'
		if hi > 15 || lo > 15 {
			return h, false
		}
		h[i] = hi<<4 | lo
	}
	return h, true
}

// keyHash hides the key, which may be anything.
func keyHash(stream, key string) hash {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s %s", len(stream), stream, key))
	return hash(sum[:16])
}

// bodyHash is salted with the key, so that a short body cannot be guessed from it.
func bodyHash(q *request) (sum hash) {
	h := sha256.New()
	fmt.Fprintf(h, "%d %s %d %t ", len(q.key), q.key, q.format, q.body.cut != nil)
	h.Write(q.body.data)
	return hash(h.Sum(nil)[:16])
}

// deadPartition stands for weir.deadletters among the partitions of runs.
const deadPartition = -1

// written is a batch of a request: where it is, and the body's event that was its
// last.
type written struct {
	Run
	Event int64 `json:"event"`
}

// entry is what is known of a request with a key; the zero entry is a request
// without one. While it runs it belongs to its request.
type entry struct {
	id      hash
	body    hash
	stream  string
	at      int64 // of the first arrival, ms since the epoch
	parts   int32 // partitions of the stream's topic then
	starts  []int64
	dead    int64 // where weir.deadletters began
	written []written

	running  bool // guarded by the ledger
	repeated bool // written before the request at hand
	settled  bool // what was written is durable
	noted    bool // and written is in the log
}

func (e *entry) keyed() bool { return e.stream != "" }

// last is the last event of the body that is in a partition.
func (e *entry) last(partition int32) (event int64) {
	for i := range e.written {
		if e.written[i].Partition == partition {
			event = max(event, e.written[i].Event)
		}
	}
	return event
}

// add notes a batch; neighbours are joined.
func (e *entry) add(w written) {
	e.noted = false
	for i := range e.written {
		if k := &e.written[i]; k.Partition == w.Partition && k.Last+1 == w.First {
			k.Last, k.Event = w.Last, w.Event
			return
		}
	}
	e.written = append(e.written, w)
}

// ledger knows the requests with keys.
type ledger struct {
	h *Handler

	mu      sync.Mutex
	entries map[hash]*entry
	order   []*entry // by time of arrival; those at the front go first
}

func newLedger(h *Handler) *ledger { return &ledger{h: h, entries: map[hash]*entry{}} }

func (l *ledger) size() int { l.mu.Lock(); defer l.mu.Unlock(); return len(l.entries) }

// begin finds or makes the entry of a request; a new one is durable when it
// returns. Errors: errRunning, errOtherBody, those of the log.
func (l *ledger) begin(ctx context.Context, q *request) (*entry, error) {
	id, body := keyHash(q.stream.Schema.Stream, q.key), bodyHash(q)
	e, err := l.claim(id, body, q)
	if err != nil || e.repeated {
		return e, err
	}
	if err := l.announce(ctx, q, e); err != nil {
		l.forget(e)
		return nil, err
	}
	return e, nil
}

func (l *ledger) claim(id, body hash, q *request) (*entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expire(q.at)
	if e := l.entries[id]; e != nil {
		switch {
		case e.body != body:
			return nil, errOtherBody
		case e.running:
			return nil, errRunning
		}
		e.running, e.repeated = true, true
		return e, nil
	}
	e := &entry{id: id, body: body, stream: q.stream.Schema.Stream, at: q.at, running: true}
	l.put(e)
	return e, nil
}

func (l *ledger) put(e *entry) {
	l.entries[e.id] = e
	l.order = append(l.order, e)
}

// expire forgets what is too old or too much.
func (l *ledger) expire(now int64) {
	oldest := now - l.h.o.Window.Milliseconds()
	for len(l.order) > 0 && (l.order[0].at < oldest || len(l.order) > l.h.o.KeysMax) {
		if e := l.order[0]; l.entries[e.id] == e {
			delete(l.entries, e.id)
		}
		l.order[0] = nil
		l.order = l.order[1:]
	}
}

// forget removes an entry of which nothing was written.
func (l *ledger) forget(e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.entries, e.id)
}

// announce writes down, durably, that the request begins and where its events
// would be looked for.
func (l *ledger) announce(ctx context.Context, q *request, e *entry) error {
	var err error
	if e.parts, err = l.h.log.Partitions(q.stream.Topic); err != nil {
		return err
	}
	for i := range e.parts {
		end, err := l.h.log.End(q.stream.Topic, i)
		if err != nil {
			return err
		}
		e.starts = append(e.starts, end)
	}
	if e.dead, err = l.h.log.End(event.TopicDeadLetters, 0); err != nil {
		return err
	}
	at, err := l.append(ctx, e)
	if err != nil {
		return err
	}
	return l.h.log.Durable(ctx, TopicRequests, 0, at)
}

// end writes down what was written. That record may be lost: it is made anew from
// the events themselves then.
func (l *ledger) end(e *entry) {
	if e.settled && !e.noted {
		_, err := l.append(context.Background(), e)
		if e.noted = err == nil; err != nil {
			l.h.o.Logger.Warn("what a request wrote could not be noted; it would be looked for after a restart", "err", err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e.running = false
}

// note is the record of an entry.
type note struct {
	ID      string    `json:"id"`
	Body    string    `json:"body"`
	Stream  string    `json:"stream"`
	At      int64     `json:"at"`
	Parts   int32     `json:"partitions"`
	Starts  []int64   `json:"starts,omitempty"`
	Dead    int64     `json:"dead,omitempty"`
	Settled bool      `json:"settled"`
	Written []written `json:"written,omitempty"`
}

func (l *ledger) append(ctx context.Context, e *entry) (offset int64, err error) {
	n := note{ID: e.id.String(), Body: e.body.String(), Stream: e.stream, At: e.at, Parts: e.parts, Settled: e.settled}
	if e.settled {
		n.Written = e.written
	} else {
		n.Starts, n.Dead = e.starts, e.dead
	}
	value, err := json.Marshal(&n)
	if err != nil {
		return 0, err
	}
	var b record.Builder
	b.Reset(record.BatchOptions{})
	b.Append(l.h.o.Now().UnixMilli(), []byte(n.ID), value, nil)
	batch, err := b.Build()
	if err != nil {
		return 0, err
	}
	return l.h.log.AppendBatch(ctx, TopicRequests, 0, batch)
}

// restore reads the keys of an earlier life back, and looks for the events of
// requests that were under way at its end.
func (l *ledger) restore(ctx context.Context) error {
	if l.h.o.Open == nil {
		return nil
	}
	end, err := l.h.log.End(TopicRequests, 0)
	if err != nil || end == 0 {
		return err
	}
	now, from := l.h.o.Now().UnixMilli(), int64(0)
	if l.h.o.OffsetForTime != nil {
		if from, err = l.h.o.OffsetForTime(TopicRequests, 0, now-l.h.o.Window.Milliseconds()); err != nil {
			return err
		}
		if from < 0 {
			return nil
		}
	}
	if err := l.scan(ctx, TopicRequests, 0, from, end, l.recall); err != nil {
		return err
	}
	slices.SortStableFunc(l.order, func(a, b *entry) int { return cmp.Compare(a.at, b.at) })
	l.expire(now)
	return l.settle(ctx)
}

// scan gives the records of a range to each. What retention has removed is
// passed over.
func (l *ledger) scan(ctx context.Context, topic string, partition int32, from, to int64, each func(r *source.Record)) error {
	if from >= to {
		return nil
	}
	src, err := l.h.o.Open(ctx, topic, partition, from, to)
	if err != nil {
		return err
	}
	defer src.Close()
	for {
		c, err := src.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s[%d]: %w", topic, partition, err)
		}
		for i := range c.Records {
			each(&c.Records[i])
		}
	}
}

// recall takes a note back.
func (l *ledger) recall(r *source.Record) {
	var n note
	if json.Unmarshal(r.Value, &n) != nil {
		return // not ours: anyone may produce to the topic
	}
	id, ok := parseHash(n.ID)
	body, ok2 := parseHash(n.Body)
	if !ok || !ok2 || n.Stream == "" || n.Parts < 1 {
		return
	}
	e := l.entries[id]
	if e == nil {
		e = &entry{id: id}
		l.put(e)
	}
	e.noted = n.Settled
	e.body, e.stream, e.at, e.parts, e.settled, e.written = body, n.Stream, n.At, n.Parts, n.Settled, n.Written
	if !n.Settled {
		e.starts, e.dead = n.Starts, n.Dead
	}
}

// settle finds what the unsettled requests wrote: they were under way when the
// process ended.
func (l *ledger) settle(ctx context.Context) error {
	open := map[string]map[hash]*entry{} // by stream
	streams := l.h.served.Load().streams
	dead, deadFrom := map[hash]*entry{}, int64(-1)
	for _, e := range l.order {
		if e.settled || streams[e.stream] == nil {
			continue
		}
		if open[e.stream] == nil {
			open[e.stream] = map[hash]*entry{}
		}
		open[e.stream][e.id], dead[e.id] = e, e
		if deadFrom < 0 || e.dead < deadFrom {
			deadFrom = e.dead
		}
	}
	for name, entries := range open {
		topic := streams[name].Topic
		parts, err := l.h.log.Partitions(topic)
		if err != nil {
			return err
		}
		for p := range parts {
			from := int64(-1)
			for _, e := range entries {
				if int(p) < len(e.starts) && (from < 0 || e.starts[p] < from) {
					from = e.starts[p]
				}
			}
			if err := l.find(ctx, topic, p, p, from, entries); err != nil {
				return err
			}
		}
	}
	if err := l.find(ctx, event.TopicDeadLetters, 0, deadPartition, deadFrom, dead); err != nil {
		return err
	}
	for _, e := range dead {
		e.settled, e.noted = true, true
		if _, err := l.append(ctx, e); err != nil {
			return err
		}
	}
	if len(dead) > 0 {
		l.h.o.Logger.Info("requests that were under way at the last end were found again", "requests", len(dead))
	}
	return nil
}

// find adds the batches of entries that stand in a partition from an offset on.
func (l *ledger) find(ctx context.Context, topic string, partition, as int32, from int64, entries map[hash]*entry) error {
	end, err := l.h.log.End(topic, partition)
	if err != nil || from < 0 {
		return err
	}
	// A batch is whole or absent, so its first record tells of all of it.
	return l.scan(ctx, topic, partition, from, end, func(r *source.Record) {
		if e, last, count := mark(r, entries); e != nil {
			e.add(written{Run: Run{Partition: as, First: r.Offset, Last: r.Offset + count - 1}, Event: last})
		}
	})
}

// mark reads the headers of a batch's first record; e is nil where it is none of
// theirs.
func mark(r *source.Record, entries map[hash]*entry) (e *entry, last, count int64) {
	ok := false
	for i := range r.Headers {
		switch hd := &r.Headers[i]; hd.Key {
		case HeaderKey:
			if id, ok := parseHash(string(hd.Value)); ok {
				e = entries[id]
			}
		case HeaderEvent:
			a, b, _ := strings.Cut(string(hd.Value), "/")
			var err1, err2 error
			last, err1 = strconv.ParseInt(a, 10, 64)
			count, err2 = strconv.ParseInt(b, 10, 64)
			ok = err1 == nil && err2 == nil && last > 0 && count > 0
		}
	}
	if !ok {
		return nil, 0, 0
	}
	return e, last, count
}

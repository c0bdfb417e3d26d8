package alerts

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/sink"
	"github.com/weirstream/weir/ingest/source"
)

// memLog is a log in memory that tells accepted records from durable ones and
// can crash: crash is a log with what was durable and a part of the rest.
type memLog struct {
	mu     sync.Mutex
	parts  map[string][]*memPartition
	random *rand.Rand
	lazy   bool // weir.deliveries becomes durable only now and then
	broken error
	reads  int // records read from weir.deliveries
}

type memPartition struct {
	records []sink.Record
	durable int
	grown   chan struct{} // closed and replaced when durable grows
}

func newMemLog(random *rand.Rand, alertPartitions, deliveryPartitions int) *memLog {
	l := &memLog{parts: map[string][]*memPartition{}, random: random}
	for topic, n := range map[string]int{event.TopicAlerts: alertPartitions, event.TopicDeliveries: deliveryPartitions} {
		for range n {
			l.parts[topic] = append(l.parts[topic], &memPartition{grown: make(chan struct{})})
		}
	}
	return l
}

func (l *memLog) Append(_ context.Context, topic string, partition int32, recs []sink.Record) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return 0, l.broken
	}
	p := l.parts[topic][partition]
	base := len(p.records)
	for i, r := range recs {
		r.Offset = int64(base + i)
		r.Key, r.Value = clone(r.Key), clone(r.Value)
		p.records = append(p.records, r)
	}
	if topic != event.TopicDeliveries || !l.lazy || l.random.IntN(8) == 0 {
		p.flush(len(p.records))
	}
	return int64(base), nil
}

func clone(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append([]byte{}, b...)
}

func (p *memPartition) flush(n int) {
	p.durable = n
	close(p.grown)
	p.grown = make(chan struct{})
}

func (l *memLog) Durable(_ context.Context, topic string, partition int32, offset int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.parts[topic][partition]
	if int(offset) >= len(p.records) {
		return fmt.Errorf("%s[%d]: no offset %d", topic, partition, offset)
	}
	if int(offset) >= p.durable {
		p.flush(len(p.records))
	}
	return nil
}

func (l *memLog) partitions(topic string) (int32, error) { return int32(len(l.parts[topic])), nil }

func (l *memLog) highWatermark(topic string, partition int32) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(l.parts[topic][partition].durable), nil
}

func (l *memLog) open(_ context.Context, topic string, partition int32, from int64) (source.Source, error) {
	return &memSource{l: l, topic: topic, partition: partition, next: from}, nil
}

// crash is what is there after the power went.
func (l *memLog) crash() *memLog {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &memLog{parts: map[string][]*memPartition{}, random: l.random, lazy: l.lazy}
	for topic, ps := range l.parts {
		for _, p := range ps {
			n := p.durable + l.random.IntN(len(p.records)-p.durable+1)
			c.parts[topic] = append(c.parts[topic], &memPartition{records: append([]sink.Record{}, p.records[:n]...), durable: n, grown: make(chan struct{})})
		}
	}
	return c
}

func (l *memLog) deliveries() []event.Delivery {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []event.Delivery
	for _, p := range l.parts[event.TopicDeliveries] {
		for _, r := range p.records[:p.durable] {
			if r.Value == nil {
				continue
			}
			var d event.Delivery
			if err := d.UnmarshalJSON(r.Value); err != nil {
				panic(err)
			}
			out = append(out, d)
		}
	}
	return out
}

func (l *memLog) options() Options {
	return Options{Sources: l.open, Partitions: l.partitions, HighWatermark: l.highWatermark, Sink: l}
}

// raise writes alert number i, to partition i modulo the number of partitions.
func (l *memLog) raise(i int, change func(*event.Alert)) event.Alert {
	n := len(l.parts[event.TopicAlerts])
	a := event.Alert{Time: event.Time(i), Rule: "r", Stream: "s", Key: fmt.Sprint("card ", i), Severity: "high", Action: "review",
		Topic: "tx", Partition: int32(i % n), Offset: int64(i / n), Values: event.Values{{Name: "tx.amount", JSON: `"1.00"`}}}
	if change != nil {
		change(&a)
	}
	a.ID = event.AlertID(a.Topic, a.Partition, a.Offset, a.Rule)
	if _, err := l.Append(context.Background(), event.TopicAlerts, int32(i%n), []sink.Record{{Key: []byte(a.Key), Value: a.AppendJSON(nil)}}); err != nil {
		panic(err)
	}
	return a
}

type memSource struct {
	l         *memLog
	topic     string
	partition int32
	next      int64
	closed    bool
}

func (s *memSource) Next(ctx context.Context) (source.Chunk, error) {
	for {
		s.l.mu.Lock()
		p := s.l.parts[s.topic][s.partition]
		grown, end := p.grown, int64(p.durable)
		if s.closed || s.next > end {
			s.l.mu.Unlock()
			return source.Chunk{}, errors.New("closed or out of range")
		}
		if s.next < end {
			// Odd chunks, so that nothing relies on their size.
			to := min(end, s.next+1+int64(s.l.random.IntN(300)))
			recs := append([]source.Record{}, p.records[s.next:to]...)
			if s.topic == event.TopicDeliveries {
				s.l.reads += len(recs)
			}
			s.next = to
			s.l.mu.Unlock()
			return source.Chunk{Topic: s.topic, Partition: s.partition, Records: recs, Next: to, HighWatermark: end}, nil
		}
		s.l.mu.Unlock()
		select {
		case <-grown:
		case <-ctx.Done():
			return source.Chunk{}, ctx.Err()
		}
	}
}

func (s *memSource) SeekTo(offset int64) error { s.next = offset; return nil }
func (s *memSource) Close() error              { s.closed = true; return nil }

func memRecord(value string, offset int) sink.Record {
	return sink.Record{Offset: int64(offset), Value: []byte(value)}
}

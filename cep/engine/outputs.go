package engine

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/weirstream/weir/ingest/decode"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/sink"
	"github.com/weirstream/weir/ingest/source"
)

// HeaderLatency names the header with the time from reading to writing, in
// microseconds.
const HeaderLatency = "weir-latency-us"

// roleDeadLetter is the role in a dead letter's identity.
const roleDeadLetter = "deadletter"

// outputs gathers a batch's records for the three output topics.
type outputs struct {
	topics  [3]output
	buf     []byte        // backs keys, values and headers of the batch
	headers []sink.Header // backs the records' headers
}

// The order in which outputs are written.
const (
	toDecisions = iota
	toAlerts
	toDeadLetters
)

// output is one output topic, at the partition that belongs to the shard.
type output struct {
	topic     string
	partition int32
	recs      []sink.Record
	last      int64               // offset of the newest record written in this life, -1: none
	from, end int64               // what was read after the restart: all durable
	written   map[string]struct{} // the shard's identities found there
	reach     int64               // one past the greatest source offset among them
	closed    int64               // events before it were decided, and all that came of it is there
	decided   map[int64][]string  // of decisions: the live rules by source offset
}

func newOutputs(partition int32, partitions map[string]int32) outputs {
	var o outputs
	for i, topic := range []string{event.TopicDecisions, event.TopicAlerts, event.TopicDeadLetters} {
		n := max(1, partitions[topic])
		o.topics[i] = newOutput(topic, partition%n)
	}
	return o
}

func newOutput(topic string, partition int32) output {
	return output{topic: topic, partition: partition, last: -1, written: map[string]struct{}{}, decided: map[int64][]string{}}
}

func (o *outputs) reset() {
	o.buf, o.headers = o.buf[:0], o.headers[:0]
	for i := range o.topics {
		o.topics[i].recs = o.topics[i].recs[:0]
	}
}

func (o *outputs) decision(s *shard, d *event.Decision) {
	s.counts.decisions++
	start := len(o.buf)
	o.buf = d.AppendJSON(o.buf)
	o.add(s, toDecisions, d.Time.Millis(), keyBytes(d.Key), start, d.Identity())
}

func (o *outputs) alert(s *shard, a *event.Alert) {
	s.counts.alerts++
	start := len(o.buf)
	o.buf = a.AppendJSON(o.buf)
	o.add(s, toAlerts, a.Time.Millis(), keyBytes(a.Key), start, event.Identity{Topic: a.Topic, Partition: a.Partition, Offset: a.Offset, Role: a.Rule})
}

// standing is what of the findings on one event may be written where an earlier
// life has decided it, perhaps by another program: that decision stands. Alerts of
// other rules than it names are not raised for it, and it is not made where there
// is none. What the kill cut off, an alert that the decision names or a shadow's
// decision behind the last one, is still written.
func (o *outputs) standing(id event.Identity, found []Finding) (stand []Finding, silent bool) {
	t := &o.topics[toDecisions]
	if id.Offset >= o.decided() {
		return found, false
	}
	rules, decided := t.decided[id.Offset]
	for _, f := range found {
		keep := slices.Contains(rules, f.Rule)
		if f.Shadow {
			id.Role = "shadow:" + f.Rule
			_, keep = t.written[string(id.AppendText(nil))]
			keep = keep || id.Offset == t.reach-1 && id.Offset >= t.closed
		}
		if keep {
			stand = append(stand, f)
		}
	}
	return stand, !decided
}

// decided is the offset before which an earlier life has decided all events.
func (o *outputs) decided() int64 {
	return max(o.topics[toDecisions].reach, o.topics[toDecisions].closed)
}

// keyBytes is a record key, null for an event without one.
func keyBytes(key string) []byte {
	if key == "" {
		return nil
	}
	return []byte(key)
}

// deadLetter writes the dead letter of a record that the decoder refused.
func (s *shard) deadLetter(r *source.Record, f decode.Failure) {
	s.counts.deadLetters++
	s.letter(r, f)
}

func (s *shard) letter(r *source.Record, f decode.Failure) {
	o := &s.outputs
	d := event.DeadLetter{Stream: s.stream.Schema.Stream, Reason: f.Reason, Field: f.Field, Detail: f.Detail,
		Topic: s.origin.Topic, Partition: s.partition, Offset: r.Offset, Column: f.Column, Raw: r.Value[:min(len(r.Value), rawMax)]}
	start := len(o.buf)
	o.buf = d.AppendJSON(o.buf)
	o.add(s, toDeadLetters, r.Timestamp, r.Key, start, event.Identity{Topic: s.origin.Topic, Partition: s.partition, Offset: r.Offset, Role: roleDeadLetter})
}

// add makes a record of the value at buf[start:]. When buf or headers move while
// they grow, what was added before stays where it was.
func (o *outputs) add(s *shard, to int, timestamp int64, key []byte, start int, id event.Identity) {
	value := o.buf[start:len(o.buf):len(o.buf)]
	mark := len(o.buf)
	o.buf = id.AppendText(o.buf)
	origin := o.buf[mark:len(o.buf):len(o.buf)]
	if written := o.topics[to].written; len(written) > 0 {
		if _, there := written[string(origin)]; there {
			delete(written, string(origin)) // it comes once in a life
			s.metrics.suppressed.Inc()
			return
		}
	}
	h := len(o.headers)
	o.headers = append(o.headers, sink.Header{Key: event.HeaderOrigin, Value: origin}, sink.Header{Key: HeaderLatency})
	o.topics[to].recs = append(o.topics[to].recs, sink.Record{Timestamp: timestamp, Key: key, Value: value, Headers: o.headers[h : h+2 : h+2]})
}

// lettersApart copies the batch's dead letters: they are written when it is decided.
func (o *outputs) lettersApart(dst []sink.Record) []sink.Record {
	recs := o.topics[toDeadLetters].recs
	for i := range recs {
		dst = append(dst, recs[i].Clone())
	}
	return dst
}

// write appends the batch's records, those of each topic together.
func (o *outputs) write(ctx context.Context, s *shard, latency time.Duration) error {
	var text []byte
	for i := range o.topics {
		t := &o.topics[i]
		if len(t.recs) == 0 {
			continue
		}
		if text == nil {
			text = strconv.AppendInt(nil, latency.Microseconds(), 10)
		}
		for j := range t.recs {
			t.recs[j].Headers[1].Value = text
		}
		base, err := s.engine.opts.Sink.Append(ctx, t.topic, t.partition, t.recs)
		if err != nil {
			return fmt.Errorf("%s[%d]@%d: write %d records to %s[%d]: %w", s.origin.Topic, s.partition, s.from, len(t.recs), t.topic, t.partition, err)
		}
		t.last = base + int64(len(t.recs)) - 1
	}
	return nil
}

package httpin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/loader"
	"github.com/weirstream/weir/ingest/sink"
	"github.com/weirstream/weir/log/record"
)

const (
	// batchBytes is the size at which a batch is appended; smaller with many
	// partitions, so that those of one request stay within stagedBytes.
	batchBytes  = 1 << 20
	stagedBytes = 16 << 20
	minBatch    = 16 << 10
)

// deadFile is the file that dead letters of HTTP name.
const deadFile = "http"

var builders = sync.Pool{New: func() any { return new(record.Builder) }}

// writing is one request on its way into the log. It belongs to the request's
// goroutine.
type writing struct {
	ctx    context.Context
	h      *Handler
	q      *request
	e      *entry
	rows   *loader.Rows
	answer *Answer
	at     int64 // of the first arrival, ms since the epoch
	parts  int32
	limit  int
	loose  int32 // the partition of events without a key
	open   map[int32]*batch
	value  []byte
}

// batch is one that is being filled.
type batch struct {
	to    int32 // partition, or deadPartition
	b     *record.Builder
	skip  int64 // events up to this one are there already
	event int64 // the last one in it
	// The first record waits until the batch is closed: its headers tell how long
	// the batch is.
	recs []staged
	data []byte
}

type staged struct{ key, value int32 } // lengths; key -1: none

// write appends a request's events and waits until they are durable. The answer
// says how far it came where there is an error.
func (h *Handler) write(ctx context.Context, q *request, e *entry) (*Answer, error) {
	w := &writing{ctx: ctx, h: h, q: q, e: e, answer: &Answer{repeated: e.repeated}, open: map[int32]*batch{}}
	defer w.release()
	if err := w.prepare(); err != nil {
		e.settled = w.durable() == nil
		return nil, err
	}
	err := w.rows.Each(ctx, w.good, w.bad)
	var end *loader.EndError
	if errors.As(err, &end) {
		w.answer.Incomplete, err = end.Error(), nil
	} else if err == nil && q.body.cut != nil {
		w.answer.Incomplete = q.body.cut.Error()
	}
	if err == nil {
		err = w.flush()
	}
	if err == nil {
		err = w.durable()
	}
	e.settled = err == nil || w.durable() == nil
	if err != nil {
		return w.answer, err
	}
	w.tell()
	return w.answer, nil
}

// prepare finds the partitions and begins to read the rows.
func (w *writing) prepare() (err error) {
	w.parts = w.e.parts
	if !w.e.keyed() {
		if w.parts, err = w.h.log.Partitions(w.q.stream.Topic); err != nil {
			return err
		}
	}
	w.limit = max(minBatch, min(batchBytes, stagedBytes/int(w.parts)))
	w.loose = int32(w.q.at % int64(w.parts))
	w.at = w.q.at
	if w.e.keyed() {
		w.at = w.e.at
		w.loose = int32(w.e.id[0]) % w.parts
	}
	text := loader.Text{Name: deadFile, Arrived: w.at, CSV: w.q.format == csvBody}
	if w.q.format == jsonBody {
		text.Values = newElements(w.q.body.data, w.q.body.cut != nil).next
	} else {
		text.Next = pieces(&w.q.body)
	}
	w.rows, err = loader.NewRows(w.q.stream, text)
	var end *loader.EndError
	if errors.As(err, &end) {
		return fmt.Errorf("the header line: %w", errCut)
	}
	return err
}

var errCut = errors.New("the gzip ends in the middle of it")

// pieces gives a body to the splitter bit by bit.
func pieces(b *body) func() ([]byte, error) {
	const size = 64 << 10
	rest := b.data
	return func() ([]byte, error) {
		n := min(len(rest), size)
		if n == 0 {
			if b.cut != nil {
				return nil, b.cut
			}
			return nil, io.EOF
		}
		piece := rest[:n:n]
		rest = rest[n:]
		return piece, nil
	}
}

// good takes an event into its partition's batch.
func (w *writing) good(r *loader.Row) error {
	to := w.loose
	if r.Key != nil {
		to = sink.Partition(r.Key, w.parts)
	}
	w.answer.Accepted++
	return w.stage(to, r.Event, r.Key, r.Value)
}

// bad takes a dead letter.
func (w *writing) bad(n int64, d *event.DeadLetter) error {
	w.answer.Refused++
	if len(w.answer.Errors) < errorsMax {
		w.answer.Errors = append(w.answer.Errors, Refusal{Event: n, Line: d.Line, Column: d.Column, Field: d.Field, Reason: d.Reason, Detail: d.Detail})
	}
	w.h.metrics.refused.WithLabelValues(d.Stream, d.Reason).Inc()
	w.value = d.AppendJSON(w.value[:0])
	return w.stage(deadPartition, n, []byte(d.Stream), w.value)
}

func (w *writing) stage(to int32, n int64, key, value []byte) error {
	b := w.open[to]
	if b == nil {
		b = &batch{to: to, skip: w.e.last(to)}
		w.open[to] = b
	}
	if n <= b.skip {
		return nil
	}
	if len(b.recs) > 0 && len(b.data)+len(key)+len(value) > w.limit {
		if err := w.append(b); err != nil {
			return err
		}
	}
	s := staged{key: -1, value: int32(len(value))}
	if key != nil {
		s.key = int32(len(key))
	}
	b.data = append(append(b.data, key...), value...)
	b.recs = append(b.recs, s)
	b.event = n
	return nil
}

// append gives a batch to the log.
func (w *writing) append(b *batch) error {
	topic, partition := w.q.stream.Topic, b.to
	if b.to == deadPartition {
		topic, partition = event.TopicDeadLetters, 0
	}
	raw, err := w.build(b)
	if err != nil {
		return err
	}
	if t := w.h.o.Transform; t != nil {
		if raw, err = t(topic, raw); err != nil {
			return fmt.Errorf("sensitive fields of topic %s: %w", topic, err)
		}
	}
	base, err := w.h.log.AppendBatch(w.ctx, topic, partition, raw)
	if err != nil {
		return err
	}
	w.e.add(written{Run: Run{Partition: b.to, First: base, Last: base + int64(len(b.recs)) - 1}, Event: b.event})
	b.recs, b.data = b.recs[:0], b.data[:0]
	return nil
}

func (w *writing) build(b *batch) ([]byte, error) {
	if b.b == nil {
		b.b = builders.Get().(*record.Builder)
	}
	b.b.Reset(record.BatchOptions{})
	var headers []record.Header
	if w.e.keyed() {
		headers = append(headers, record.Header{Key: HeaderKey, Value: []byte(w.e.id.String())},
			record.Header{Key: HeaderEvent, Value: fmt.Appendf(nil, "%d/%d", b.event, len(b.recs))})
	}
	if b.to == deadPartition {
		columns, err := json.Marshal(w.rows.Columns())
		if err != nil {
			return nil, err
		}
		headers = append(headers, record.Header{Key: loader.HeaderColumns, Value: columns})
	}
	data := b.data
	for _, s := range b.recs {
		var key []byte
		if s.key >= 0 {
			key = data[:s.key:s.key]
			data = data[s.key:]
		}
		b.b.Append(w.at, key, data[:s.value:s.value], headers)
		data = data[s.value:]
		headers = nil
	}
	return b.b.Build()
}

// flush appends what is left.
func (w *writing) flush() error {
	for _, b := range w.open {
		if len(b.recs) > 0 {
			if err := w.append(b); err != nil {
				return err
			}
		}
	}
	return nil
}

// durable waits until all of the request is.
func (w *writing) durable() error {
	for _, r := range w.e.written {
		topic, partition := w.q.stream.Topic, r.Partition
		if partition == deadPartition {
			topic, partition = event.TopicDeadLetters, 0
		}
		if err := w.h.log.Durable(w.ctx, topic, partition, r.Last); err != nil {
			return err
		}
	}
	return nil
}

// tell completes the answer.
func (w *writing) tell() {
	a := w.answer
	for _, r := range w.e.written {
		if r.Partition != deadPartition {
			a.Offsets = append(a.Offsets, r.Run)
		}
	}
	slices.SortFunc(a.Offsets, func(x, y Run) int {
		return cmp.Or(cmp.Compare(x.Partition, y.Partition), cmp.Compare(x.First, y.First))
	})
	slices.SortStableFunc(a.Errors, func(x, y Refusal) int { return cmp.Compare(x.Event, y.Event) })
	if !w.e.repeated {
		w.h.metrics.events.WithLabelValues(w.q.stream.Schema.Stream).Add(float64(a.Accepted))
	}
}

func (w *writing) release() {
	for _, b := range w.open {
		if b.b != nil && b.b.Len() <= 2*batchBytes {
			builders.Put(b.b)
		}
	}
}

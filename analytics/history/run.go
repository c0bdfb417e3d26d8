package history

import (
	"context"
	"errors"
	"io"

	"github.com/weirstream/weir/analytics/duck"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/source"
)

// run is the rows of one chunk on their way from a reader to the writer, which
// frees it. A partition has two of them, so that it decodes one while the other is
// written, and no more.
type run struct {
	part *partition
	home chan *run // where free puts it

	rows      int
	next      int64      // the position after these rows
	newest    event.Time // timestamp of the last record
	watermark event.Time // greatest event time less lateness, MinTime where none
	refused   int

	batch   event.Batch    // of a stream
	extras  []event.Column // columns beside the batch, or all of an own table
	lists   [][]int32      // by column of an own table, nil but for lists
	cols    []duck.Column  // what is appended, pointing into the above
	scratch scratch
}

func (r *run) free() { r.home <- r }

// reset empties r for the next chunk.
func (r *run) reset() {
	r.rows, r.refused = 0, 0
	r.watermark, r.newest = event.MinTime, event.MinTime
	r.cols = r.cols[:0]
}

// extra makes n empty Int64 columns.
func (r *run) extra(n int) {
	for len(r.extras) < n {
		r.extras = append(r.extras, event.Column{})
	}
	for i := range r.extras {
		r.extras[i].Reset(event.Type{Kind: event.Int64})
	}
}

func (r *run) add(c *event.Column, lists []int32) {
	r.cols = append(r.cols, duck.Column{Column: c, Lists: lists})
}

// begin empties the columns of an own table; they get their type by their first
// value.
func (r *run) begin() {
	for i := range r.extras {
		r.extras[i].Reset(event.Type{})
		if r.lists[i] != nil {
			r.lists[i] = r.lists[i][:1]
		}
	}
}

// col is column i of an own table, of the given kind.
func (r *run) col(i int, k event.Kind) *event.Column {
	for len(r.extras) <= i {
		r.extras = append(r.extras, event.Column{})
		r.lists = append(r.lists, nil)
	}
	c := &r.extras[i]
	if !c.Present() {
		c.Reset(event.Type{Kind: k})
	}
	return c
}

func (r *run) text(i int, s string)    { r.col(i, event.String).AppendBytes([]byte(s)) }
func (r *run) bytes(i int, b []byte)   { r.col(i, event.String).AppendBytes(b) }
func (r *run) double(i int, v float64) { r.col(i, event.Double).AppendDouble(v) }
func (r *run) int(i int, v int64)      { r.col(i, event.Int64).AppendInt64(v) }
func (r *run) bool(i int, v bool)      { r.col(i, event.Bool).AppendBool(v) }

func (r *run) null(i int, k event.Kind) { r.col(i, k).AppendNull() }

func (r *run) bytesOf(i int, k event.Kind, b []byte) { r.col(i, k).AppendBytes(b) }

func (r *run) time(i int, t event.Time) {
	c := r.col(i, event.Timestamp)
	if t == event.MinTime {
		c.AppendNull()
		return
	}
	c.AppendInt64(int64(t))
}

func (r *run) list(i int, values []string) {
	c := r.col(i, event.String)
	if r.lists[i] == nil {
		r.lists[i] = append(make([]int32, 0, 64), 0)
	}
	for _, v := range values {
		c.AppendBytes([]byte(v))
	}
	r.lists[i] = append(r.lists[i], int32(c.Len()))
}

func (r *run) place(i int, topic string, partition int32, offset int64) {
	r.text(i, topic)
	r.int(i+1, int64(partition))
	r.int(i+2, offset)
}

// cut drops what was appended beyond the first n rows.
func (r *run) cut(n int) {
	for i := range r.extras {
		if r.lists[i] != nil {
			r.lists[i] = r.lists[i][:min(n+1, len(r.lists[i]))]
			r.extras[i].Truncate(int(r.lists[i][len(r.lists[i])-1]))
			continue
		}
		r.extras[i].Truncate(n)
	}
}

// seal points cols at an own table's columns.
func (r *run) seal() {
	if len(r.cols) > 0 {
		return // a stream's
	}
	for i := range r.extras {
		r.add(&r.extras[i], r.lists[i])
	}
}

// read feeds the rows of one partition to the writer until ctx is done or a
// bounded source ends. Errors of the partition are logged and tried again.
func (h *History) read(ctx context.Context, p *partition, from int64, slots chan struct{}, runs chan<- *run) {
	backoff := backoffMin
	for {
		next, err := h.readFrom(ctx, p, from, slots, runs)
		if ctx.Err() != nil || errors.Is(err, io.EOF) {
			return
		}
		if next > from {
			from, backoff = next, backoffMin
		}
		h.metrics.partitionErrors.WithLabelValues(p.table.name).Inc()
		h.logger.Error("the SQL side cannot read a partition and tries again", "table", p.table.name, "topic", p.table.topic, "partition", p.index, "offset", from, "error", err, "again_in", backoff)
		if !sleep(ctx, backoff) {
			return
		}
		backoff = min(2*backoff, backoffMax)
	}
}

func (h *History) readFrom(ctx context.Context, p *partition, from int64, slots chan struct{}, runs chan<- *run) (int64, error) {
	src, err := h.opts.Open(ctx, p.table.topic, p.index, from)
	if err != nil {
		return from, err
	}
	defer src.Close()
	decode, err := p.table.decoder(p.index, p.seen)
	if err != nil {
		return from, err
	}
	home := make(chan *run, 2)
	for range cap(home) {
		home <- &run{part: p, home: home}
	}
	for {
		chunk, err := src.Next(ctx)
		if err != nil {
			return from, err
		}
		var r *run
		select {
		case r = <-home:
		case <-ctx.Done():
			return from, ctx.Err()
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return from, ctx.Err()
		}
		r.fill(decode, chunk)
		<-slots
		select {
		case runs <- r:
			from = chunk.Next
		case <-ctx.Done():
			return from, ctx.Err()
		}
	}
}

func (r *run) fill(decode decoder, chunk source.Chunk) {
	r.reset()
	r.refused = decode(r, chunk.Records)
	r.next = chunk.Next
	if n := len(chunk.Records); n > 0 {
		r.newest = event.FromMillis(chunk.Records[n-1].Timestamp)
	}
	if r.rows > 0 {
		r.seal()
	}
}

package engine

import (
	"fmt"
	"slices"
	"testing"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/table"
)

// truth tells what windows hold by looking at all events there were, each time: at those
// of a partition in the order of its log, or of a keyed stream's partition in the order
// of its topic.
type truth struct {
	local map[event.Origin]*pastRows
	keyed map[string]map[event.Origin]map[int64]pastPlace // by topic: where an event is
}

// pastPlace is an event among the others of its partition of a keyed stream.
type pastPlace struct {
	rows *pastRows
	at   int
}

// pastRows are events in the order in which windows get to know them.
type pastRows struct {
	rows []pastRow
}

// pastRow is an event, with what was known when it came.
type pastRow struct {
	stream    string
	offset    int64
	at        event.Time
	late      bool
	watermark event.Time
	fields    [5]string // as text, where they are key fields
	null      [5]bool
	amount    int64
	tables    *table.View
}

func newPastRow(stream string, b *event.Batch, out *cep.Outbox, row int, tables *table.View) pastRow {
	p := pastRow{stream: stream, offset: b.Offset[row], at: b.Time[row], late: out.Late[row], watermark: out.Watermark[row], amount: b.Cols[2].Int64[row], tables: tables}
	for f := range p.fields {
		if c := &b.Cols[f]; c.Present() && c.Len() > row {
			p.null[f] = c.IsNull(row)
			p.fields[f] = string(c.AppendText(nil, row))
		}
	}
	return p
}

// enters reports whether an event is one of those that a window is over.
func (w *shopWindow) enters(e *pastRow) bool {
	if e.stream != w.over || e.late || e.null[w.past] || w.keyed != "" && e.amount == poisonAmount {
		return false
	}
	if !w.listed {
		return true
	}
	_, in := e.tables.Table("watched").Find([]byte(e.fields[w.past]), e.at)
	return in
}

// tells is the count and the sum of what a window holds for the event at an index.
func (w *shopWindow) tells(past []pastRow, at int) (count, sum string) {
	now := &past[at]
	if now.null[w.now] {
		return "null", "null"
	}
	from := now.at.Sub(w.length)
	if now.late {
		from = max(from, now.watermark.Sub(w.length))
	}
	n, total := int64(0), int64(0)
	for i := range past[:at+1] {
		e := &past[i]
		if e.at > from && e.at <= now.at && e.fields[w.past] == now.fields[w.now] && w.enters(e) {
			n++
			total += e.amount
		}
	}
	var c event.Column
	c.Reset(event.Type{Kind: event.Decimal, Scale: 2})
	c.AppendInt64(total)
	return fmt.Sprint(n), string(c.AppendJSON(nil, 0))
}

// arrive notes an event that is decided.
func (tr *truth) arrive(stream string, b *event.Batch, out *cep.Outbox, row int, tables *table.View) (*pastRows, int) {
	past := tr.local[b.OriginOf(row)]
	at, there := slices.BinarySearchFunc(past.rows, b.Offset[row], func(p pastRow, offset int64) int { return int(p.offset - offset) })
	if !there {
		past.rows = append(past.rows, newPastRow(stream, b, out, row, tables))
	}
	return past, at
}

// features are those of an event that is decided by a program, as JSON.
func (tr *truth) features(p *shopProgram, stream string, b *event.Batch, out *cep.Outbox, row int, tables *table.View) (text []string, err error) {
	past, at := tr.arrive(stream, b, out, row, tables)
	for _, w := range p.windowsOf(stream) {
		rows, i := past, at
		if w.keyed != "" {
			place, there := tr.keyed[p.topicOf(&w)][b.OriginOf(row)][b.Offset[row]]
			if !there {
				return nil, fmt.Errorf("%v@%d is not in %s", b.OriginOf(row), b.Offset[row], p.topicOf(&w))
			}
			rows, i = place.rows, place.at
			if in := rows.rows[i].tables; tables != nil && in.Seq() != tables.Seq() {
				return nil, fmt.Errorf("%v@%d is in %s with the tables of %d, and decided with those of %d", b.OriginOf(row), b.Offset[row], p.topicOf(&w), in.Seq(), tables.Seq())
			}
		}
		count, sum := w.tells(rows.rows, i)
		if w.keyed != "" && rows.rows[i].amount == poisonAmount && p.panicsAt(&w, stream) {
			count, sum = "null", "null"
		}
		text = append(text, count, sum)
	}
	return text, nil
}

// panicsAt reports whether the windows on the keyed stream of a window panic at a
// poisoned event of a stream.
func (p *shopProgram) panicsAt(w *shopWindow, stream string) bool {
	return slices.ContainsFunc(p.windows, func(o shopWindow) bool { return o.keyed == w.keyed && o.over == stream })
}

// eachRow is the rows in a block of a keyed stream, in order, each a batch of its own.
func eachRow(t *testing.T, k *Keyed, value []byte, each func(*blockHeader, *event.Batch, *cep.Outbox)) {
	t.Helper()
	r := blockReader{data: value}
	headers := r.headers(nil)
	order := r.order(headers)
	if len(headers) == 1 {
		order = make([]uint8, headers[0].rows)
	}
	batches, outs := make([]event.Batch, len(headers)), make([]cep.Outbox, len(headers))
	for n := range headers {
		h := &headers[n]
		if r.err != nil || k.source(h.stream) < 0 {
			t.Fatalf("%s: %v, of %q", k.topic(), r.err, h.stream)
		}
		src := &k.Sources[k.source(h.stream)]
		batches[n].Reset(src.Stream.Schema, src.Fields)
		outs[n].Reset(nil)
		if h.rows > 0 {
			if err := r.rows(h, event.MinTime, &batches[n], &outs[n], src.Fields); err != nil {
				t.Fatalf("%s: %v", k.topic(), err)
			}
		}
	}
	next := make([]int, len(headers))
	for _, n := range order {
		row := next[n]
		next[n]++
		src := &k.Sources[k.source(headers[n].stream)]
		var one event.Batch
		one.Reset(src.Stream.Schema, src.Fields)
		one.Origin = append(one.Origin, event.Origin{Topic: src.Stream.Topic, Partition: headers[n].partition})
		one.Offset, one.Time = batches[n].Offset[row:row+1], batches[n].Time[row:row+1]
		for _, f := range src.Fields {
			one.Cols[f].AppendFrom(&batches[n].Cols[f], row)
		}
		each(&headers[n], &one, &cep.Outbox{Late: outs[n].Late[row : row+1], Watermark: outs[n].Watermark[row : row+1], Low: outs[n].Low[row : row+1]})
	}
}

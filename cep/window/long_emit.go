package window

import (
	"fmt"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
)

// longQuery is a query with the watermark of its event.
type longQuery struct {
	query
	watermark event.Time
}

// emit appends the values of the windows of a key that are read before the current
// event enters, or the others.
func (l *Long) emit(id uint32, q *longQuery, before bool, out *cep.Outbox) error {
	for i := range l.extents {
		x := &l.extents[i]
		if before && !x.before || !before && !x.with || x.skipped(q.row, before, out) {
			continue
		}
		end := q.t.Sub(x.Delay)
		begin := end.Sub(x.Length)
		if q.late {
			begin = max(begin, q.watermark.Sub(x.Delay).Sub(x.Length))
		}
		w := tally{s: &l.store, id: noRecord}
		l.fixes, l.found = l.fixes[:0], l.found[:0]
		if id != noRecord && begin < end {
			if err := l.fix(id, x, begin, end); err != nil {
				return fmt.Errorf("window: %w", err)
			}
			l.apart(id, x)
			w.id, w.cells = id, l.cellsOf(id)
			w.events = int64(w.cells[x.count])
		}
		for j := range x.out {
			o := &x.out[j]
			switch {
			case beforeIt(&o.Output) != before:
			case out.Skips(o.Slot, q.row):
				out.Features[o.Slot].AppendNull()
			default:
				w.append(o, out, q.row, q.entered && o.Extent.Delay == 0)
			}
		}
		l.together(id, x)
	}
	return nil
}

// skipped appends absent values and returns true where nobody reads anything of an
// extent for a row.
func (x *longExtent) skipped(row int, before bool, out *cep.Outbox) bool {
	if out.Skip == nil {
		return false
	}
	for i := range x.out {
		if o := &x.out[i].Output; beforeIt(o) == before && !out.Skip(o.Slot, row) {
			return false
		}
	}
	for i := range x.out {
		if o := &x.out[i].Output; beforeIt(o) == before {
			out.Features[o.Slot].AppendNull()
		}
	}
	return true
}

// fix finds what a window (begin, end] has otherwise than the parts hold: first the
// rows to put in, then those to take out.
func (l *Long) fix(id uint32, x *longExtent, begin, end event.Time) error {
	first, last := &l.offsets[x.end], &l.offsets[x.begin]
	lasts := l.lasts(id)
	put := func(words []uint64) { l.fixes = append(l.fixes, fix{words, false}) }
	take := func(words []uint64) { l.fixes = append(l.fixes, fix{words, true}) }
	last.zone.later(lasts[x.begin], id, begin, put)
	if l.lagging {
		if err := l.findBehind(id, first, end, put); err != nil {
			return err
		}
	}
	if zone := l.low.Sub(x.Delay); end < zone { // a late event: before all that the zone has
		if err := l.findRows(id, end, zone, 0, take); err != nil {
			return err
		}
		first.zone.later(lasts[x.end], id, zone, take)
	} else {
		first.zone.later(lasts[x.end], id, end, take)
	}
	if l.lagging {
		return l.findBehind(id, last, begin, take)
	}
	return nil
}

// findBehind visits the rows of a key up to t that an offset has not given yet.
func (l *Long) findBehind(id uint32, o *offset, t event.Time, visit func(words []uint64)) error {
	if o.it == nil {
		return nil
	}
	return l.findRows(id, min(l.low, l.upTo).Sub(o.back), t, o.it.Row(), visit)
}

// findRows visits the rows of a key with a time in (after, upTo] from row first on.
func (l *Long) findRows(id uint32, after, upTo event.Time, first int64, visit func(words []uint64)) error {
	if after >= upTo {
		return nil
	}
	return l.rows.Find(id, after, upTo, func(row int64, words []uint64) {
		if row >= first {
			from := len(l.found)
			l.found = append(l.found, words...)
			visit(l.found[from:])
		}
	})
}

// apart applies the fixes to a window, together undoes it.
func (l *Long) apart(id uint32, x *longExtent) {
	cells := l.cellsOf(id)
	for i := range l.fixes {
		l.count(id, cells, x, l.fixes[i].words, l.fixes[i].leave)
	}
}

func (l *Long) together(id uint32, x *longExtent) {
	for i := len(l.fixes) - 1; i >= 0; i-- {
		l.count(id, l.cellsOf(id), x, l.fixes[i].words, !l.fixes[i].leave)
	}
}

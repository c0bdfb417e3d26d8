package window

import (
	"math"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
)

// query is what an event asks of the windows of its key.
type query struct {
	t       event.Time
	late    bool
	entered bool // the event is in the ring: the last of those up to t
	row     int
}

// bounds is the events [lo, hi) of the ring that an extent holds for a query.
func (s *Sliding) bounds(x *extent, r *record, v *ring, m mark, q *query) (lo, hi uint32) {
	end := q.t.Sub(x.Delay)
	if r.newest <= end {
		hi = r.n
	} else {
		hi = v.seek(m.hi, r.n, end)
	}
	switch {
	case x.Length > 0:
		lo = v.seek(m.lo, hi, end.Sub(x.Length))
	case x.Events > 0:
		n := uint32(x.Events)
		if x.WithoutCurrent && q.entered && x.Delay == 0 {
			n++ // the current one is taken off below
		}
		lo = hi - min(hi, n)
	default:
		lo = s.session(x, v, m, end, hi)
	}
	if q.late {
		lo = max(lo, s.held(x, v, r.n, s.watermark))
	}
	lo = min(lo, hi)
	if x.WithoutCurrent && q.entered && x.Delay == 0 {
		hi--
		lo = min(lo, hi)
	}
	return lo, hi
}

// session is the first event of the session that lasts until end and has the
// events before hi.
func (s *Sliding) session(x *extent, v *ring, m mark, end event.Time, hi uint32) uint32 {
	gap := event.Time(x.Gap)
	if hi == 0 || end-v.time(hi-1) > gap {
		return hi
	}
	lo := hi - 1
	// From the mark on all is one session as far as the mark reaches, unless an
	// event came between that joins it to the one before.
	known := m.lo < m.hi && m.lo <= lo
	for lo > 0 && v.time(lo)-v.time(lo-1) <= gap {
		if known && lo < m.hi && lo > m.lo {
			lo = m.lo
			continue
		}
		lo--
	}
	return lo
}

// emit appends the values of all windows of a key for a query.
func (s *Sliding) emit(id uint32, q *query, out *cep.Outbox) {
	r := s.rec(id)
	v := s.ring(r)
	marks, cells := s.marks(id), s.cellsOf(id)
	for i := range s.extents {
		x := &s.extents[i]
		if out.Skip != nil && skipsAll(x, q.row, out) {
			continue
		}
		lo, hi := s.bounds(x, r, &v, marks[i], q)
		s.move(id, cells, x, &v, &marks[i], lo, hi)
		w := view{tally: tally{&s.store, id, cells, int64(hi - lo)}, op: s, x: x, v: &v, lo: lo, hi: hi, q: q}
		for j := range x.out {
			if o := &x.out[j]; !out.Skips(o.Slot, q.row) {
				w.emit(o, out)
			} else {
				out.Features[o.Slot].AppendNull()
			}
		}
		if len(s.capped) > 0 {
			s.markCapped(&w, out)
		}
	}
}

// skipsAll appends absent values and returns true where nobody reads anything of
// an extent for a row.
func skipsAll(x *extent, row int, out *cep.Outbox) bool {
	for i := range x.out {
		if !out.Skips(x.out[i].Slot, row) {
			return false
		}
	}
	for i := range x.out {
		out.Features[x.out[i].Slot].AppendNull()
	}
	return true
}

// markCapped marks the values of a window that events were left out of.
func (s *Sliding) markCapped(w *view, out *cep.Outbox) {
	lost, ok := s.capped[w.id]
	x := w.x
	end := w.q.t.Sub(x.Delay)
	switch {
	case !ok:
	case w.q.late: // how much is still there of what is no longer asked for says nothing
		ok = s.lacks(x, w.v, s.rec(w.id).n, lost, s.watermark)
	case w.lo > 0:
		return // what was lost lies before event 0
	case x.Length > 0:
		ok = lost > end.Sub(x.Length)
	case x.Events > 0:
		ok = w.hi-w.lo < uint32(x.Events)
	default:
		first := end
		if w.hi > 0 {
			first = w.v.time(0)
		}
		ok = first-lost <= event.Time(x.Gap)
	}
	if !ok {
		return
	}
	for i := range x.out {
		out.Mark(x.out[i].Slot, w.q.row, ErrCapped)
	}
}

// emitNothing is for an event without a key: it has no windows.
func emitNothing(outputs []Output, out *cep.Outbox) {
	for i := range outputs {
		out.Features[outputs[i].Slot].AppendNull()
	}
}

// emitEmpty is for a key of which nothing is held.
func (s *Sliding) emitEmpty(row int, out *cep.Outbox) {
	w := view{tally: tally{s: &s.store, id: noRecord}, op: s, q: &query{row: row}}
	for i := range s.extents {
		w.x = &s.extents[i]
		for j := range w.x.out {
			w.emit(&w.x.out[j], out)
		}
	}
}

// view is the events of one window, with the state that its extent's parts have of
// them. Without a record it is empty.
type view struct {
	tally
	op     *Sliding
	x      *extent
	v      *ring
	lo, hi uint32
	q      *query
}

// emit appends the value of one output.
func (w *view) emit(o *read, out *cep.Outbox) {
	f := &out.Features[o.Slot]
	var at uint32
	switch o.Aggregate {
	case Min, Max:
		at = w.least(o)
	case First, Last, Lag:
		at = w.position(o)
	case Speed:
		v, ok := w.speed(o)
		appendDouble(f, v, ok)
		return
	case Rate:
		v, ok := w.rate(o)
		appendDouble(f, v, ok)
		return
	default:
		w.append(o, out, w.q.row, w.q.entered && w.x.Delay == 0 && !w.x.WithoutCurrent)
		return
	}
	if at < w.hi {
		w.s.appendValue(f, o.typ.Kind, w.v.event(at)[1+o.Value])
	} else {
		f.AppendNull()
	}
}

// rate is n or the sum per second: of the length, or of the time from the earliest
// event to now where there is no length.
func (w *view) rate(o *read) (float64, bool) {
	if w.x.Length > 0 {
		return w.per(o, w.x.Length.Seconds()), true
	}
	if w.hi == w.lo {
		return 0, false
	}
	seconds := float64(w.q.t.Sub(w.x.Delay)-w.v.time(w.lo)) / 1e9
	return w.per(o, seconds), seconds > 0
}

// position is the place of the event that First, Last and Lag read, hi where there
// is none.
func (w *view) position(o *read) uint32 {
	if w.id == noRecord {
		return w.hi
	}
	switch o.Aggregate {
	case First:
		for i := w.lo; i < w.hi; i++ {
			if w.s.has(w.v.event(i), o.Value) {
				return i
			}
		}
		return w.hi
	case Last:
		for i := w.hi; i > w.lo; i-- {
			if w.s.has(w.v.event(i-1), o.Value) {
				return i - 1
			}
		}
		return w.hi
	}
	back := uint32(o.N)
	if w.q.entered && w.x.Delay == 0 && !w.x.WithoutCurrent {
		back++ // the last one is the current one
	}
	if w.hi-w.lo < back || !w.s.has(w.v.event(w.hi-back), o.Value) {
		return w.hi
	}
	return w.hi - back
}

// earthKm is the mean radius of the earth (IUGG).
const earthKm = 6371.0088

// speed is km/h between the two latest places: infinite between two places at one
// moment, 0 between equal ones.
func (w *view) speed(o *read) (float64, bool) {
	var places [2]uint32
	found := 0
	for i := w.hi; i > w.lo && found < 2; i-- {
		if e := w.v.event(i - 1); w.s.has(e, o.Value) && w.s.has(e, o.Value2) {
			places[found] = i - 1
			found++
		}
	}
	if found < 2 {
		return 0, false
	}
	a, b := w.v.event(places[1]), w.v.event(places[0])
	return speedBetween(event.Time(a[0]), math.Float64frombits(a[1+o.Value]), math.Float64frombits(a[1+o.Value2]),
		event.Time(b[0]), math.Float64frombits(b[1+o.Value]), math.Float64frombits(b[1+o.Value2]))
}

// speedBetween is km/h from one place to another.
func speedBetween(t1 event.Time, lat1, lon1 float64, t2 event.Time, lat2, lon2 float64) (float64, bool) {
	km := distance(lat1, lon1, lat2, lon2)
	hours := float64(t2-t1) / 3.6e12
	if math.IsNaN(km) {
		return 0, false
	}
	if km == 0 {
		return 0, true
	}
	return km / hours, true
}

// distance is the great-circle distance in km between two places in degrees, by
// the haversine formula (Sinnott, "Virtues of the Haversine", 1984).
func distance(lat1, lon1, lat2, lon2 float64) float64 {
	const radian = math.Pi / 180
	h := func(a float64) float64 { s := math.Sin(a / 2); return s * s }
	a := h((lat2-lat1)*radian) + math.Cos(lat1*radian)*math.Cos(lat2*radian)*h((lon2-lon1)*radian)
	return 2 * earthKm * math.Asin(math.Sqrt(min(1, a)))
}

package window

import (
	"math"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
)

// What the current event's key and values are: the records of some rows at once, and
// what is said of a window to the current event.

// aheadRows is how many rows are looked up before they are processed.
const aheadRows = 64

// ahead is what lookUp found of a row.
type ahead struct {
	hash    uint32
	id      uint32 // noRecord where the key had none
	keyless bool
}

// lookUp finds the records of some rows, into ahead.
func (s *store) lookUp(b *event.Batch, first, end int) {
	for row := first; row < end; row++ {
		k, ok := s.keyOf(b, row)
		a := ahead{id: noRecord, keyless: !ok}
		if ok {
			a.hash = hashOf(k)
			if id, found := s.find(a.hash, k); found {
				a.id = id
			}
		}
		s.ahead[row-first] = a
	}
	s.aheadCame, s.aheadWent = s.came, s.went
}

// idOf is the record of a row's key as of now; noRecord where there is none.
func (s *store) idOf(b *event.Batch, row int, a *ahead) uint32 {
	if a.id == noRecord && s.came == s.aheadCame || a.id != noRecord && s.went == s.aheadWent {
		return a.id
	}
	// A row since lookUp may have brought the key, or let it go, and its record to another.
	k, _ := s.keyOf(b, row)
	if found, ok := s.find(a.hash, k); ok {
		return found
	}
	return noRecord
}

// unknownText is the word of a text that no event held has.
const unknownText = math.MaxUint64

// loadNow reads the current event's values, whether it entered or not.
func (s *store) loadNow(b *event.Batch, row int) {
	for i := range s.values {
		value := &s.values[i]
		if value.isText() {
			var text []byte
			if text, s.nowHas[i] = value.ReadBytes(b, row); s.nowHas[i] {
				s.now[i] = unknownText
				if word, found := s.dict.find(text); found {
					s.now[i] = uint64(word)
				}
			}
		} else if s.now[i], s.nowHas[i] = value.Read(b, row); value.Type.Kind == event.Double {
			s.now[i] = canonical(s.now[i])
		}
	}
}

// append appends the value of an output that follows from the parts. The current event
// is inside where the window has it.
func (w *tally) append(o *read, out *cep.Outbox, row int, inside bool) {
	f := &out.Features[o.Slot]
	switch o.Aggregate {
	case IsNew:
		w.appendNew(o, f, inside)
	case ZScore:
		v, ok := w.zscore(o)
		appendDouble(f, v, ok)
	default:
		if !w.appendTo(o, o.Extent.Length, f) {
			out.Fault(o.Slot, row, ErrOverflow)
		}
	}
}

// zscore is how far the current event's value is from the mean.
func (w *tally) zscore(o *read) (float64, bool) {
	mean, variance, ok := w.spread(o)
	if s := w.s; ok && s.nowHas[o.Value] && variance > 0 {
		return (s.number(o.Value, s.now[o.Value]) - mean) / math.Sqrt(variance), true
	}
	return 0, false
}

// appendNew tells whether the current event's value is in the window otherwise than
// in the event itself, which is in it where inside is set.
func (w *tally) appendNew(o *read, f *event.Column, inside bool) {
	s := w.s
	if !s.nowHas[o.Value] {
		f.AppendNull()
		return
	}
	own := uint64(0)
	if inside {
		own = 1
	}
	f.AppendBool(w.id == noRecord || s.setCount(w.cells[o.set:], s.now[o.Value]) <= own)
}

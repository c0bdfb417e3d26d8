package window

import (
	"math"
	"time"

	"github.com/weirstream/weir/ingest/event"
)

// tally is what follows, for events, from the state that parts hold of them. Without a
// record there are none.
type tally struct {
	s      *store
	id     uint32
	cells  []uint64
	events int64
}

// n is how many events have the value of an output.
func (w *tally) n(o *read) int64 {
	if o.count >= 0 && w.id != noRecord {
		return int64(w.cells[o.count])
	}
	return w.events
}

// appendTo appends the value of an output of a window of some length, as far as it
// follows from the parts alone; false where it does not fit its type.
func (w *tally) appendTo(o *read, length time.Duration, f *event.Column) bool {
	switch o.Aggregate {
	case Count:
		f.AppendInt64(w.n(o))
	case Sum:
		return w.appendSum(o, f)
	case Distinct:
		f.AppendInt64(int64(w.block(o.set).n()))
	case TopK:
		w.appendTop(o, f)
	case Rate:
		f.AppendDouble(w.per(o, length.Seconds()))
	default:
		v, ok := w.double(o)
		appendDouble(f, v, ok)
	}
	return true
}

// appendDouble appends a double, or nothing where there is none.
func appendDouble(f *event.Column, v float64, ok bool) {
	if ok {
		f.AppendDouble(v)
	} else {
		f.AppendNull()
	}
}

// per is n or the sum for each of so many seconds.
func (w *tally) per(o *read, seconds float64) float64 {
	if o.Value < 0 {
		return float64(w.events) / seconds
	}
	return w.sum(o) / o.scale / seconds
}

// appendSum appends a sum, no value where it does not fit its type.
func (w *tally) appendSum(o *read, f *event.Column) (fits bool) {
	switch {
	case o.typ.Kind == event.Double:
		f.AppendDouble(w.sum(o))
	case w.id == noRecord:
		f.AppendInt64(0)
	default:
		v, ok := int64Of(w.cells[o.sum : o.sum+intLimbs])
		if !ok {
			f.AppendNull()
			return false
		}
		f.AppendInt64(v)
	}
	return true
}

// sum is the sum as a double, rounded once (of decimals, of the unscaled ones).
func (w *tally) sum(o *read) float64 {
	if w.id == noRecord {
		return 0
	}
	if o.typ.Kind != event.Double {
		limbs := w.cells[o.sum : o.sum+intLimbs]
		if v, ok := int64Of(limbs); ok {
			return float64(v)
		}
		return round(limbs, 0)
	}
	narrow := w.cells[o.sum : o.sum+narrowLimbs]
	if len(w.s.wide) > 0 {
		if wide := w.s.wide[wideKey(w.id, o.sum)]; wide != nil {
			return wide.total(narrow)
		}
	}
	return round(narrow, narrowExp)
}

// block is the part at a place of a view's cells; empty where there is no record.
func (w *tally) block(at int) block {
	if w.id == noRecord {
		return block{w: nothing[:]}
	}
	return block{w: w.cells[at : at+blockWords]}
}

// double is the value of an aggregate that is a double and follows from the parts;
// false where it has none.
func (w *tally) double(o *read) (float64, bool) {
	switch o.Aggregate {
	case Entropy:
		if w.block(o.set).n() < 2 {
			return 0, true
		}
		if w.cells[o.set+blockWords] > entropyMost {
			return 0, false
		}
		return entropy(w.cells[o.set : o.set+blockWords+frequencyWords]), true
	case Quantile:
		return w.quantile(o)
	}
	mean, variance, ok := w.spread(o)
	switch o.Aggregate {
	case Variance:
		return variance, ok
	case Stddev:
		return math.Sqrt(variance), ok
	}
	return mean, w.n(o) > 0
}

// spread is the mean of an output's value and, where ok, its variance.
func (w *tally) spread(o *read) (mean, variance float64, ok bool) {
	n := w.n(o)
	if n == 0 {
		return 0, 0, false
	}
	// Where the sum and the divisor are below 2^53, as money is, this is the double
	// nearest to the true mean: one rounding.
	mean = w.sum(o) / (o.scale * float64(n))
	if o.Aggregate == Mean || n < 2 {
		return mean, 0, false
	}
	return mean, w.variance(o, n), true
}

package window

import (
	"math"
	"math/bits"

	"github.com/weirstream/weir/ingest/event"
)

// Sums of squares are kept as exactly as sums are: of integers in units of 1, of
// doubles within the narrow range (see sum.go) in units of 2^-192. 2^32 squares
// fit.
const (
	intSquareLimbs    = 3
	narrowSquareLimbs = 6
	narrowSquareExp   = 2 * narrowExp
)

// addSquare adds the square of a value to limbs, or subtracts it. Doubles out of
// the narrow range are left out.
func addSquare(limbs []uint64, word uint64, double, subtract bool) {
	var m uint64
	pos := 0
	if double {
		v := math.Float64frombits(word)
		var e int
		if m, e, _ = split(v); m == 0 || !isNarrow(v) {
			return
		}
		zeros := bits.TrailingZeros64(m)
		m >>= zeros
		pos = 2*(e+zeros) - narrowSquareExp
	} else if m = word; int64(m) < 0 {
		m = -m
	}
	hi, lo := bits.Mul64(m, m)
	i, sh := pos>>6, uint(pos&63)
	parts := [3]uint64{lo << sh, hi<<sh | lo>>(64-sh), hi >> (64 - sh)} // a shift by 64 gives 0
	var c uint64
	for j := 0; i < len(limbs) && (j < len(parts) || c != 0); i, j = i+1, j+1 {
		var p uint64
		if j < len(parts) {
			p = parts[j]
		}
		if subtract {
			limbs[i], c = bits.Sub64(limbs[i], p, c)
		} else {
			limbs[i], c = bits.Add64(limbs[i], p, c)
		}
	}
}

// variance is that of a sample of n above 1: (n*S2 - S1^2) / (n*(n-1)), of which
// the numerator is computed exactly and rounded once.
func (w *view) variance(o *read, n int64) float64 {
	sums, squares, exp := intLimbs, intSquareLimbs, 0
	if o.typ.Kind == event.Double {
		if len(w.s.wide) > 0 && w.s.wide[wideKey(w.id, o.sum)] != nil {
			return w.varianceTwice(o, n)
		}
		sums, squares, exp = narrowLimbs, narrowSquareLimbs, narrowSquareExp
	}
	var diff, s1 [8]uint64
	var c uint64
	for i := range squares {
		hi, lo := bits.Mul64(w.cells[o.square+i], uint64(n))
		var carry uint64
		diff[i], carry = bits.Add64(lo, c, 0)
		c = hi + carry
	}
	diff[squares] = c
	var mag [narrowLimbs]uint64
	copy(mag[:], w.cells[o.sum:o.sum+sums])
	if int64(mag[sums-1]) < 0 {
		c = 1
		for i := range sums {
			mag[i], c = bits.Add64(^mag[i], 0, c)
		}
	}
	for i := range sums {
		c = 0
		for j := range sums {
			hi, lo := bits.Mul64(mag[i], mag[j])
			var carry uint64
			lo, carry = bits.Add64(lo, c, 0)
			hi += carry
			s1[i+j], carry = bits.Add64(s1[i+j], lo, 0)
			c = hi + carry
		}
		s1[i+sums] += c
	}
	c = 0
	for i := range diff {
		diff[i], c = bits.Sub64(diff[i], s1[i], c)
	}
	return round(diff[:], exp) / o.scale / o.scale / (float64(n) * float64(n-1))
}

// varianceTwice goes over the events, for doubles that are huge or tiny.
func (w *view) varianceTwice(o *read, n int64) float64 {
	mean := w.sum(o) / float64(n)
	sum := 0.0
	for i := w.lo; i < w.hi; i++ {
		if e := w.v.event(i); w.s.has(e, o.Value) {
			d := math.Float64frombits(e[1+o.Value]) - mean
			sum += d * d
		}
	}
	return sum / float64(n-1)
}

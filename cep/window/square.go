package window

import (
	"math"
	"math/big"
	"math/bits"
	"slices"

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
func (w *tally) variance(o *read, n int64) float64 {
	sums, squares, exp := intLimbs, intSquareLimbs, 0
	if o.typ.Kind == event.Double {
		if len(w.s.wide) > 0 {
			if wide := w.s.wide[wideKey(w.id, o.sum)]; wide != nil {
				return w.wideVariance(o, n, wide)
			}
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

// wideSquare is the sum of the squares of the doubles that the narrow range lacks, in
// units of 2^(2*wideExp). Infinities and NaN are left out: the wide sum has them.
type wideSquare struct {
	sum big.Int
	n   int
}

func (s *store) addWideSquare(key uint64, v float64, subtract bool) {
	w := s.wideSquares[key]
	if w == nil {
		if s.wideSquares == nil {
			s.wideSquares = map[uint64]*wideSquare{}
		}
		w = &wideSquare{}
		s.wideSquares[key] = w
	}
	d := 1
	if subtract {
		d = -1
	}
	w.n += d
	if !math.IsNaN(v) && !math.IsInf(v, 0) {
		m, e, _ := split(v)
		one := new(big.Int).SetUint64(m)
		one.Mul(one, one).Lsh(one, uint(2*(e-wideExp)))
		if subtract {
			one.Neg(one)
		}
		w.sum.Add(&w.sum, one)
	}
	if w.n == 0 {
		delete(s.wideSquares, key)
	}
}

func (s *store) mergeWideSquares(key uint64, more *wideSquare) {
	if s.wideSquares == nil {
		s.wideSquares = map[uint64]*wideSquare{}
	}
	w := s.wideSquares[key]
	if w == nil {
		w = &wideSquare{}
		s.wideSquares[key] = w
	}
	w.n += more.n
	w.sum.Add(&w.sum, &more.sum)
}

// whole is limbs as one integer, signed if the highest bit is a sign.
func whole(limbs []uint64, signed bool) *big.Int {
	sum := new(big.Int)
	for _, w := range slices.Backward(limbs) {
		sum.Or(sum.Lsh(sum, 64), new(big.Int).SetUint64(w))
	}
	if signed && int64(limbs[len(limbs)-1]) < 0 {
		sum.Sub(sum, new(big.Int).Lsh(big.NewInt(1), uint(64*len(limbs))))
	}
	return sum
}

// variancePrecision holds a sum of squares of any doubles, in bits.
const variancePrecision = 4400

// wideVariance is variance where some of the doubles are huge or tiny: exact, too.
func (w *tally) wideVariance(o *read, n int64, wide *wideSum) float64 {
	if wide.nan+wide.pos+wide.neg > 0 {
		return math.NaN()
	}
	s1 := whole(w.cells[o.sum:o.sum+narrowLimbs], true)
	s1.Lsh(s1, narrowExp-wideExp).Add(s1, whole(wide.limbs[:], true))
	s2 := whole(w.cells[o.square:o.square+narrowSquareLimbs], false)
	s2.Lsh(s2, narrowSquareExp-2*wideExp)
	if squares := w.s.wideSquares[wideKey(w.id, o.square)]; squares != nil {
		s2.Add(s2, &squares.sum)
	}
	s2.Mul(s2, big.NewInt(n)).Sub(s2, s1.Mul(s1, s1))
	f := new(big.Float).SetPrec(variancePrecision).SetInt(s2)
	f.Quo(f, new(big.Float).SetInt64(n)).Quo(f, new(big.Float).SetInt64(n-1))
	v, _ := f.SetMantExp(f, 2*wideExp).Float64()
	return v
}

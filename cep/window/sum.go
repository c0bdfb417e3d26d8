package window

import (
	"math"
	"math/bits"
)

// A sum is kept in limbs of 64 bits, least significant first, in two's
// complement: addition and subtraction of whole numbers are exact and undo each
// other. Integers and unscaled decimals need two limbs: 2^32 values of 64 bits
// fit.
//
// Doubles are whole numbers too, in units of a power of two that is small
// enough: the superaccumulator of Kulisch, "Computer Arithmetic and Validity"
// (de Gruyter 2008), see also Neal, "Fast Exact Summation Using Small and Large
// Superaccumulators" (arXiv:1505.05571). One that holds every double has 34
// limbs. Since nearly all values in practice are neither huge nor tiny, a sum
// has a narrow part of three limbs, in units of 2^-96, for values below 2^63
// whose last bit is not under that, and a wide part that exists only while the
// window holds a value of another kind.
const (
	intLimbs    = 2
	narrowLimbs = 3
	narrowExp   = -96
	narrowTop   = 63 // values are below 2^narrowTop, which leaves 32 bits for 2^32 of them
	wideLimbs   = 34
	wideExp     = -1074
)

// addInt adds v to the two limbs of s, or subtracts it.
func addInt(s []uint64, v int64, subtract bool) {
	lo, hi := uint64(v), uint64(v>>63)
	var c uint64
	if subtract {
		s[0], c = bits.Sub64(s[0], lo, 0)
		s[1], _ = bits.Sub64(s[1], hi, c)
		return
	}
	s[0], c = bits.Add64(s[0], lo, 0)
	s[1], _ = bits.Add64(s[1], hi, c)
}

// addLimbs adds a sum to another.
func addLimbs(s, more []uint64) {
	var c uint64
	for i := range s {
		s[i], c = bits.Add64(s[i], more[i], c)
	}
}

// int64Of is the sum as an int64, false where it does not fit.
func int64Of(s []uint64) (int64, bool) {
	v := int64(s[0])
	return v, s[1] == uint64(v>>63)
}

// split takes a finite double apart: v = ±m * 2^e with m < 2^53.
func split(v float64) (m uint64, e int, negative bool) {
	b := math.Float64bits(v)
	m = b & (1<<52 - 1)
	e = int(b >> 52 & 0x7ff)
	if e == 0 {
		e = 1 // subnormal
	} else {
		m |= 1 << 52
	}
	return m, e - 1075, b>>63 != 0
}

// isNarrow reports whether v belongs in the narrow part of a sum. Infinities and
// NaN, whose exponent is beyond all others, do not.
func isNarrow(v float64) bool {
	m, e, _ := split(v)
	if m == 0 {
		return true
	}
	return e+bits.TrailingZeros64(m) >= narrowExp && e+bits.Len64(m) <= narrowTop
}

// addDouble adds v, which must be a multiple of 2^exp, to limbs in units of
// 2^exp, or subtracts it.
func addDouble(limbs []uint64, exp int, v float64, subtract bool) {
	m, e, negative := split(v)
	if m == 0 {
		return
	}
	pos := e - exp
	if pos < 0 {
		m >>= -pos
		pos = 0
	}
	i, sh := pos>>6, uint(pos&63)
	lo, hi := m<<sh, m>>(64-sh) // a shift by 64 gives 0
	var c uint64
	if negative != subtract {
		limbs[i], c = bits.Sub64(limbs[i], lo, 0)
		for i++; i < len(limbs) && (hi|c) != 0; i++ {
			limbs[i], c = bits.Sub64(limbs[i], hi, c)
			hi = 0
		}
		return
	}
	limbs[i], c = bits.Add64(limbs[i], lo, 0)
	for i++; i < len(limbs) && (hi|c) != 0; i++ {
		limbs[i], c = bits.Add64(limbs[i], hi, c)
		hi = 0
	}
}

// round is the double nearest to limbs in units of 2^exp, ties to even.
func round(limbs []uint64, exp int) float64 {
	var mag [wideLimbs]uint64
	n := copy(mag[:], limbs)
	negative := limbs[n-1]>>63 != 0
	if negative {
		c := uint64(1)
		for i := range mag[:n] {
			mag[i], c = bits.Add64(^mag[i], 0, c)
		}
	}
	top := -1 // index of the highest set bit
	for i := n - 1; i >= 0; i-- {
		if mag[i] != 0 {
			top = i*64 + bits.Len64(mag[i]) - 1
			break
		}
	}
	if top < 0 {
		return 0
	}
	// The last bit that a double keeps: 53 bits, fewer where it is subnormal.
	last := max(top-52, wideExp-exp, 0)
	m := bitsFrom(mag[:n], last)
	if last > 0 {
		half := mag[(last-1)>>6]>>((last-1)&63)&1 != 0
		if half && (m&1 != 0 || anyBelow(mag[:n], last-1)) {
			m++ // may become 2^53, which is exact
		}
	}
	r := math.Ldexp(float64(m), last+exp)
	if negative {
		r = -r
	}
	return r
}

// bitsFrom is the 64 bits of a magnitude from bit i up.
func bitsFrom(mag []uint64, i int) uint64 {
	w, sh := i>>6, uint(i&63)
	v := mag[w] >> sh
	if w+1 < len(mag) {
		v |= mag[w+1] << (64 - sh) // a shift by 64 gives 0
	}
	return v
}

// anyBelow reports whether a bit under bit i is set.
func anyBelow(mag []uint64, i int) bool {
	for _, w := range mag[:i>>6] {
		if w != 0 {
			return true
		}
	}
	return mag[i>>6]&(1<<(i&63)-1) != 0
}

// wideSum is the wide part of a sum of doubles.
type wideSum struct {
	limbs         [wideLimbs]uint64
	n             int // values in it; the wide part ends with the last
	nan, pos, neg int // how many of them are NaN and the infinities
}

func (w *wideSum) add(v float64, subtract bool) {
	d := 1
	if subtract {
		d = -1
	}
	w.n += d
	switch {
	case math.IsNaN(v):
		w.nan += d
	case math.IsInf(v, 1):
		w.pos += d
	case math.IsInf(v, -1):
		w.neg += d
	default:
		addDouble(w.limbs[:], wideExp, v, subtract)
	}
}

// mergeWide adds a wide part to another.
func (s *store) mergeWide(key uint64, more *wideSum) {
	if s.wide == nil {
		s.wide = map[uint64]*wideSum{}
	}
	w := s.wide[key]
	if w == nil {
		w = &wideSum{}
		s.wide[key] = w
	}
	addLimbs(w.limbs[:], more.limbs[:])
	w.n, w.nan, w.pos, w.neg = w.n+more.n, w.nan+more.nan, w.pos+more.pos, w.neg+more.neg
}

// total is the double nearest to the narrow and the wide part together, with
// the infinities and NaN that IEEE 754 arithmetic would give.
func (w *wideSum) total(narrow []uint64) float64 {
	switch {
	case w.nan > 0 || w.pos > 0 && w.neg > 0:
		return math.NaN()
	case w.pos > 0:
		return math.Inf(1)
	case w.neg > 0:
		return math.Inf(-1)
	}
	sum := w.limbs
	// The narrow part, shifted to the wide part's unit.
	const shift = narrowExp - wideExp
	const word, sh = shift >> 6, shift & 63
	sign := uint64(int64(narrow[narrowLimbs-1]) >> 63)
	var c, below uint64
	for i := word; i < wideLimbs; i++ {
		limb := sign
		if i-word < narrowLimbs {
			limb = narrow[i-word]
		}
		sum[i], c = bits.Add64(sum[i], limb<<sh|below>>(64-sh), c)
		below = limb
	}
	return round(sum[:], wideExp)
}

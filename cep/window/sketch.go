package window

import (
	"math"

	"github.com/weirstream/weir/ingest/event"
)

// A sketch counts values by bucket. A bucket is a power of two cut into 64 equal
// parts (the log-linear buckets of HdrHistogram; see also Masson, Rim, Lee,
// "DDSketch", PVLDB 12(12), for subtracting from them): the middle of a bucket is
// within 1/128, that is 0.8 %, of each value in it. Zero has a bucket of its own.
// A block holds the buckets in order, one a word: the bucket in the upper half,
// the count in the lower.
const sketchBits = 6

// bucketOf is the bucket of a number; buckets are in the order of their values.
// The scale of decimals makes no difference to it: it is that of the unscaled ones.
func bucketOf(word uint64, kind event.Kind) int32 {
	v := math.Float64frombits(word)
	if kind != event.Double {
		v = float64(int64(word))
	}
	if v == 0 {
		return 0
	}
	b := int32(math.Float64bits(math.Abs(v))>>(52-sketchBits)) + 1
	if v < 0 {
		return -b
	}
	return b
}

// middleOf is the value that stands for a bucket.
func middleOf(b int32) float64 {
	if b == 0 {
		return 0
	}
	abs := max(b, -b)
	lo := math.Float64frombits(uint64(abs-1) << (52 - sketchBits))
	hi := math.Float64frombits(uint64(abs) << (52 - sketchBits))
	m := lo + (hi-lo)/2
	if math.IsInf(hi, 1) || math.IsNaN(m) {
		m = lo
	}
	return math.Copysign(m, float64(b))
}

// sketchAdd counts values of a bucket, or takes one out.
func (s *store) sketchAdd(c []uint64, bucket int32, times uint32, subtract bool) {
	b := block{c}
	// An order of bits as of the buckets: negative ones first.
	key := uint64(uint32(bucket)^1<<31) << 32
	words := s.words(b)
	n := int(b.n())
	lo, hi := 0, n
	for lo < hi {
		if mid := (lo + hi) / 2; words[mid] < key {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	there := lo < n && words[lo]>>32 == key>>32
	switch {
	case there && !subtract:
		words[lo] += uint64(times)
		b.set(b.n(), b.total()+times)
	case there && uint32(words[lo]) > 1:
		words[lo]--
		b.set(b.n(), b.total()-1)
	case there:
		copy(words[lo:], words[lo+1:n])
		b.set(b.n()-1, b.total()-1)
		if n == 1 {
			s.releaseBlock(c)
			c[0], c[1] = 0, 0
		} else if b.class() > 0 && (n-1)*4 <= len(words) {
			s.resizeSketch(c, int(b.class())-1)
		}
	default:
		if n == len(words) {
			class := 0
			if b.there() {
				class = int(b.class()) + 1
			}
			words = s.resizeSketch(c, class)
		}
		copy(words[lo+1:], words[lo:n])
		words[lo] = key | uint64(times)
		b.set(b.n()+1, b.total()+times)
	}
}

// bucketIn is the bucket of a sketch's word.
func bucketIn(word uint64) int32 { return int32(uint32(word>>32) ^ 1<<31) }

func (s *store) resizeSketch(c []uint64, class int) []uint64 {
	old := block{[]uint64{c[0], c[1]}}
	words := s.give(c, uint8(class))
	copy(words, s.words(old)[:old.n()])
	s.releaseBlock(old.w)
	return words
}

// quantile is the middle of the bucket that holds the value at rank ceil(q*n), from
// 1 (the lowest for q = 0).
func (w *tally) quantile(o *read) (float64, bool) {
	b := w.block(o.sk)
	if b.total() == 0 {
		return 0, false
	}
	rank := uint32(max(1, math.Ceil(o.Q*float64(b.total()))))
	for _, word := range w.s.words(b)[:b.n()] {
		if n := uint32(word); n < rank {
			rank -= n
			continue
		}
		return middleOf(bucketIn(word)) / o.scale, true
	}
	return 0, false
}

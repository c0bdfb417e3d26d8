package window

import (
	"cmp"
	"math"
	"slices"

	"github.com/weirstream/weir/ingest/event"
)

// A block part is two words of a record's cells: a block of the arena, and how much
// of it is in use. Without a block both are 0.
const (
	blockWords = 2
	blockThere = 1 << 63
)

// block is a view of such words.
type block struct{ w []uint64 }

func (b block) class() uint8 { return uint8(b.w[0] >> 32) }
func (b block) ref() uint32  { return uint32(b.w[0]) }
func (b block) there() bool  { return b.w[0]&blockThere != 0 }
func (b block) n() uint32    { return uint32(b.w[1]) }

// total counts something else beside n.
func (b block) total() uint32   { return uint32(b.w[1] >> 32) }
func (b block) set(n, t uint32) { b.w[1] = uint64(t)<<32 | uint64(n) }

var nothing [blockWords]uint64 // is never written to

// words is the block's storage, nil where there is none.
func (s *store) words(b block) []uint64 {
	if !b.there() {
		return nil
	}
	return s.arena.words(b.ref(), b.class())
}

// give gives words a new block of a class, whose storage holds what was in it
// before: it is for the caller to clear. The old block is for the caller to release.
func (s *store) give(w []uint64, class uint8) []uint64 {
	ref := s.arena.alloc(class)
	w[0] = blockThere | uint64(class)<<32 | uint64(ref)
	return s.arena.words(ref, class)
}

// releaseBlock gives the block of a part back; its words stay as they are.
func (s *store) releaseBlock(w []uint64) {
	if b := (block{w}); b.there() {
		s.arena.release(b.ref(), b.class())
	}
}

// A set counts how often each value is there: an open-addressing table (linear
// probing, backward-shift deletion) of pairs (value, count) in a block; a count of
// 0 is an empty place. What is read of it does not depend on the places.

// mix spreads a word over 64 bits (the finaliser of MurmurHash3).
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// setSmallest is the class of the smallest set: four places.
const setSmallest = 1

// setAdd adds a value some times, or takes one out that is there. It returns how often
// the value is there now.
func (s *store) setAdd(c []uint64, value, times uint64, subtract bool) uint64 {
	b := block{c}
	if !subtract && (!b.there() || int(b.n()+1)*4 > len(s.words(b))/2*3) {
		s.resizeSet(c, 1)
	}
	table := s.words(b)
	places := uint64(len(table) / 2)
	i := mix(value) & (places - 1)
	for table[2*i+1] != 0 && table[2*i] != value {
		i = (i + 1) & (places - 1)
	}
	switch {
	case !subtract:
		if table[2*i+1] == 0 {
			table[2*i] = value
			b.set(b.n()+1, 0)
		}
		table[2*i+1] += times
	case table[2*i+1] > 1:
		table[2*i+1]--
	default:
		s.setRemove(c, i)
		return 0
	}
	return table[2*i+1]
}

// setRemove empties place i and closes the gap.
func (s *store) setRemove(c []uint64, i uint64) {
	b := block{c}
	table := s.words(b)
	last := uint64(len(table)/2) - 1
	for j := i; ; {
		j = (j + 1) & last
		if table[2*j+1] == 0 {
			break
		}
		if home := mix(table[2*j]) & last; (j-home)&last >= (j-i)&last {
			table[2*i], table[2*i+1] = table[2*j], table[2*j+1]
			i = j
		}
	}
	table[2*i], table[2*i+1] = 0, 0
	b.set(b.n()-1, 0)
	switch n := int(b.n()); {
	case n == 0:
		s.releaseBlock(c)
		c[0], c[1] = 0, 0
	case b.class() > setSmallest && n*16 <= len(table):
		s.resizeSet(c, -1)
	}
}

// resizeSet makes a set's block one class larger or smaller.
func (s *store) resizeSet(c []uint64, by int) {
	old := block{[]uint64{c[0], c[1]}}
	class := uint8(setSmallest)
	if old.there() {
		class = uint8(int(old.class()) + by)
	}
	table := s.give(c, class)
	clear(table)
	last := uint64(len(table)/2) - 1
	from := s.words(old)
	for k := 0; k < len(from); k += 2 {
		if from[k+1] == 0 {
			continue
		}
		i := mix(from[k]) & last
		for table[2*i+1] != 0 {
			i = (i + 1) & last
		}
		table[2*i], table[2*i+1] = from[k], from[k+1]
	}
	s.releaseBlock(old.w)
}

// setCount is how often a value is there.
func (s *store) setCount(c []uint64, value uint64) uint64 {
	table := s.words(block{c})
	if table == nil {
		return 0
	}
	last := uint64(len(table)/2) - 1
	for i := mix(value) & last; table[2*i+1] != 0; i = (i + 1) & last {
		if table[2*i] == value {
			return table[2*i+1]
		}
	}
	return 0
}

// eachInSet visits every value with its count, in no order.
func (s *store) eachInSet(c []uint64, visit func(value, count uint64)) {
	table := s.words(block{c})
	for i := 0; i < len(table); i += 2 {
		if table[i+1] != 0 {
			visit(table[i], table[i+1])
		}
	}
}

// A set whose entropy is read has two more words: how many values there are, and
// the sum of c log2 c over their counts c as an integer, so that it does not drift.
const frequencyWords = 2

// entropyUnit is that integer's unit. 2^26 events, more than a sliding window may hold,
// make less than 2^31 bits; of more there is no entropy.
const (
	entropyUnit = 1.0 / (1 << 32)
	entropyMost = 1 << 26
)

// frequency is c log2 c.
func frequency(c uint64) uint64 {
	return uint64(math.RoundToEven(float64(c) * math.Log2(float64(max(c, 1))) / entropyUnit))
}

// addFrequency follows the change of one value's count, which it now has: it was
// added some times, or taken out once.
func addFrequency(c []uint64, count, times uint64, subtract bool) {
	if f := c[blockWords : blockWords+frequencyWords]; subtract {
		f[0]--
		f[1] -= frequency(count+1) - frequency(count)
	} else {
		f[0] += times
		f[1] += frequency(count) - frequency(count-times)
	}
}

// entropy is that of the values' frequencies, in bits (Shannon 1948): of n values
// log2 n - (sum of c log2 c)/n. It is off by less than 2^-32.
func entropy(c []uint64) float64 {
	n := float64(c[blockWords])
	return max(0, math.Log2(n)-float64(int64(c[blockWords+1]))*entropyUnit/n)
}

type setEntry struct{ value, count uint64 }

// top finds the k most frequent values into s.tops: most frequent first, equally
// frequent ones by value, text by its bytes.
func (s *store) top(c []uint64, kind event.Kind, k int) []setEntry {
	s.tops = s.tops[:0]
	order := func(a, b setEntry) int {
		if a.count != b.count {
			return cmp.Compare(b.count, a.count)
		}
		return s.compareValues(kind, a.value, b.value)
	}
	s.eachInSet(c, func(value, count uint64) {
		one := setEntry{value, count}
		if len(s.tops) == k && order(s.tops[k-1], one) < 0 {
			return
		}
		at, _ := slices.BinarySearchFunc(s.tops, one, order)
		if len(s.tops) == k {
			s.tops = s.tops[:k-1]
		}
		s.tops = slices.Insert(s.tops, at, one)
	})
	return s.tops
}

// compareValues orders the words of values of a kind: doubles with NaN first.
func (s *store) compareValues(kind event.Kind, a, b uint64) int {
	switch kind {
	case event.String, event.Bytes:
		return s.dict.compare(uint32(a), uint32(b))
	case event.Double:
		return cmp.Compare(sortable(a), sortable(b))
	}
	return cmp.Compare(int64(a), int64(b))
}

// sortable makes the bits of a double an integer of the same order.
func sortable(bits uint64) int64 {
	if int64(bits) < 0 {
		return int64(^bits ^ 1<<63)
	}
	return int64(bits)
}

// appendTop appends the most frequent values as a list.
func (w *tally) appendTop(o *read, f *event.Column) {
	if w.id != noRecord {
		for _, one := range w.s.top(w.cells[o.set:], o.typ.Kind, o.N) {
			w.s.appendValue(&f.Children[0], o.typ.Kind, one.value)
		}
	}
	f.AppendNested()
}

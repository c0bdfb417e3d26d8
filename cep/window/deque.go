package window

// deque keeps, of each key, the candidates for the least value (or the greatest) of
// any window that ends where the deque does: an event is one while no later event
// is as good. Their values grow from the first candidate on, so the least of the
// window is its first candidate (Lemire, "Streaming Maximum-Minimum Filter Using No
// More than Three Comparisons per Element", 2006). All lengths share it.
//
// A candidate is the event's place counted from the key's first event ever, so that
// it stays as older events go. Places and counts are words of a record: its block,
// the first candidate and their number, and the place up to which it has seen
// events.
type deque struct {
	value   int
	max     bool
	delay   int64
	without bool // the current event
	at      int  // first word in a record's cells
}

const dequeWords = blockWords + 1

// lostAt is the word that counts the events a key has lost.
func (s *Sliding) lostAt() int { return s.deques[0].at - 1 }

func (s *Sliding) dequeOf(o Output) int {
	d := deque{value: o.Value, max: o.Aggregate == Max, delay: int64(o.Extent.Delay), without: o.Extent.WithoutCurrent}
	for i := range s.deques {
		if s.deques[i] == d {
			return i
		}
	}
	s.deques = append(s.deques, d)
	return len(s.deques) - 1
}

// beats reports whether value a makes b no candidate where a comes later.
func (d *deque) beats(s *Sliding, a, b uint64) bool {
	c := s.compareValues(s.cfg.Values[d.value].Type.Kind, a, b)
	if d.max {
		return c >= 0
	}
	return c <= 0
}

// candidates is the deque of a key, from its first candidate on.
func (d *deque) candidates(s *Sliding, c []uint64) []uint64 {
	b := block{c[d.at:]}
	if !b.there() {
		return nil
	}
	return s.words(b)[b.total() : b.total()+b.n()]
}

// seen is the place up to which the deque has events.
func (d *deque) seen(c []uint64) *uint64 { return &c[d.at+blockWords] }

// advance takes in the events before hi.
func (d *deque) advance(s *Sliding, cells []uint64, v *ring, hi uint32) {
	lost := cells[s.lostAt()]
	for seen := d.seen(cells); *seen < lost+uint64(hi); *seen++ {
		w := v.event(uint32(*seen - lost))
		if !s.has(w, d.value) {
			continue
		}
		b := block{cells[d.at:]}
		cand := d.candidates(s, cells)
		n := len(cand)
		for n > 0 && d.beats(s, w[1+d.value], v.event(uint32(cand[n-1] - lost))[1+d.value]) {
			n--
		}
		b.set(uint32(n), b.total())
		d.insert(s, cells, n, *seen)
	}
}

// insert makes a place the ith candidate.
func (d *deque) insert(s *Sliding, cells []uint64, i int, place uint64) {
	c := cells[d.at : d.at+blockWords]
	b := block{c}
	n, first := int(b.n()), int(b.total())
	words := s.words(b)
	switch {
	case first+n < len(words):
	case first > n: // half of the block is behind us
		copy(words, words[first:first+n])
		first = 0
	default:
		old := block{[]uint64{c[0], c[1]}}
		class := uint8(0)
		if old.there() {
			class = old.class()
			if first*4 <= len(words) {
				class++
			}
		}
		words = s.give(c, class)
		copy(words, s.words(old)[first:first+n])
		s.releaseBlock(old.w)
		first = 0
	}
	copy(words[first+i+1:first+n+1], words[first+i:first+n])
	words[first+i] = place
	b.set(uint32(n+1), uint32(first))
}

// inserted is told of an event that came between older and younger ones, at place
// at of the ring.
func (d *deque) inserted(s *Sliding, id uint32, v *ring, at uint32) {
	cells := s.cellsOf(id)
	lost := cells[s.lostAt()]
	place := lost + uint64(at)
	seen := d.seen(cells)
	if place >= *seen {
		return
	}
	*seen++
	cand := d.candidates(s, cells)
	i := len(cand)
	for i > 0 && cand[i-1] >= place {
		i--
		cand[i]++
	}
	w := v.event(at)
	if !s.has(w, d.value) || i < len(cand) && d.beats(s, v.event(uint32(cand[i] - lost))[1+d.value], w[1+d.value]) {
		return
	}
	from := i
	for from > 0 && d.beats(s, w[1+d.value], v.event(uint32(cand[from-1] - lost))[1+d.value]) {
		from--
	}
	if from == i {
		d.insert(s, cells, i, place)
		return
	}
	cand[from] = place
	n := copy(cand[from+1:], cand[i:])
	b := block{cells[d.at:]}
	b.set(uint32(from+1+n), b.total())
}

// dropped is told that the n oldest events go.
func (d *deque) dropped(s *Sliding, id uint32, n uint32) {
	cells := s.cellsOf(id)
	first := cells[s.lostAt()] + uint64(n)
	cand := d.candidates(s, cells)
	gone := 0
	for gone < len(cand) && cand[gone] < first {
		gone++
	}
	b := block{cells[d.at:]}
	b.set(b.n()-uint32(gone), b.total()+uint32(gone))
	if seen := d.seen(cells); *seen < first {
		*seen = first
	}
}

// least is the place of the least value (or the greatest) of a view, hi where it
// has none.
func (w *view) least(o *read) uint32 {
	if w.id == noRecord {
		return w.hi
	}
	s := w.op
	d := &s.deques[o.deque]
	d.advance(s, w.cells, w.v, w.hi)
	lost := w.cells[s.lostAt()]
	cand := d.candidates(s, w.cells)
	lo, hi := 0, len(cand)
	for lo < hi {
		if mid := (lo + hi) / 2; cand[mid] < lost+uint64(w.lo) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(cand) && cand[lo] < lost+uint64(w.hi) {
		return uint32(cand[lo] - lost)
	}
	if *d.seen(w.cells) == lost+uint64(w.hi) {
		return w.hi
	}
	// The deque is past this window, and the best since lies behind it.
	best := w.hi
	for i := w.lo; i < w.hi; i++ {
		e := w.v.event(i)
		if s.has(e, o.Value) && (best == w.hi || d.beats(s, e[1+o.Value], w.v.event(best)[1+o.Value])) {
			best = i
		}
	}
	return best
}

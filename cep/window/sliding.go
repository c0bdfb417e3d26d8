package window

import (
	"errors"
	"fmt"
	"slices"
	"time"
	"unsafe"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
)

// Sliding is the operator of one Config.
type Sliding struct {
	store
	cfg     Config
	extents []extent
	deques  []deque
	longest time.Duration // how far back any extent begins, those that count events aside
	reach   time.Duration // how far back the extents with a length begin
	keepsN  bool          // some extent counts events: keys stay

	capped    map[uint32]event.Time // by record: the latest event that MaxEvents left out
	watermark event.Time            // of the current row
	low       event.Time            // watermark: what only events before it could ask for goes
	hand      uint32                // of the sweep for keys to forget
	entries   int64

	room    [classes]uint32 // events that a ring of each class holds
	changes changes         // since the newest generation
	freeze  freeze          // the generation at hand

	walkFrom   uint32 // how many events of a key are written at once
	reserveMax int    // for how many keys at most room is made before they come
}

// mark is where an extent's parts stand: they hold exactly the events [lo, hi) of
// the ring.
type mark struct{ lo, hi uint32 }

// New makes the operator. Its columns are at the positions that the batches'
// schema gives them.
func New(cfg Config) (*Sliding, error) {
	if len(cfg.Outputs) == 0 {
		return nil, errors.New("window: no outputs")
	}
	if cfg.MaxEvents == 0 {
		cfg.MaxEvents = DefaultMaxEvents
	}
	if cfg.MaxEvents < 0 || cfg.MaxEvents > maxEvents {
		return nil, fmt.Errorf("window: at most %d events of a key; expected from 1 to %d", cfg.MaxEvents, maxEvents)
	}
	s := &Sliding{cfg: cfg, watermark: event.MinTime, low: event.MinTime, walkFrom: defaultWalk, reserveMax: defaultReserve}
	var err error
	if s.store, err = newStore(cfg.Keys, cfg.Values); err != nil {
		return nil, err
	}
	for i := range cfg.Outputs {
		o := &cfg.Outputs[i]
		if err := cfg.checkOutput(o); err != nil {
			return nil, err
		}
		s.addOutput(*o)
	}
	if len(s.deques) > 0 {
		s.cells++ // the first word: how many events the key has lost, for the deques' places
		for i := range s.deques {
			s.deques[i].at = s.cells
			s.cells += dequeWords
		}
	}
	s.cellsAt = recordWords + len(s.extents)
	s.recStride = s.cellsAt + s.cells
	for c := range s.room {
		s.room[c] = uint32(unitWords << c / s.stride)
	}
	s.reset()
	return s, nil
}

func (s *Sliding) addOutput(o Output) {
	i := slices.IndexFunc(s.extents, func(x extent) bool { return x.Extent == o.Extent })
	if i < 0 {
		i = len(s.extents)
		s.extents = append(s.extents, extent{Extent: o.Extent})
		s.longest = max(s.longest, o.Extent.Delay+o.Extent.Length+o.Extent.Gap)
		s.keepsN = s.keepsN || o.Extent.Events > 0
		if o.Extent.Length > 0 {
			s.reach = max(s.reach, o.Extent.Delay+o.Extent.Length)
		}
	}
	x := &s.extents[i]
	r := s.read(x, o, s.cfg.reads(Entropy, o.Extent, o.Value))
	if o.Aggregate == Min || o.Aggregate == Max {
		r.deque = s.dequeOf(o)
	}
	s.current = s.current || o.Aggregate.readsCurrent()
	x.out = append(x.out, r)
}

func (s *Sliding) reset() {
	s.clear()
	s.capped = nil
	s.hand, s.entries = 0, 0
	s.changes, s.freeze = changes{epoch: 1}, freeze{}
}

// Stats reports what the operator holds.
func (s *Sliding) Stats() cep.Stats {
	return cep.Stats{
		Keys:   int64(s.table.n),
		Events: s.entries,
		Capped: int64(len(s.capped)),
		Bytes:  s.bytes(),
	}
}

// TopKeys are the n keys with the most events, most first, equal ones in the order
// of their hashes. It looks at every key.
func (s *Sliding) TopKeys(n int) []cep.KeyStats { return s.topKeys(n, s.keyBytes) }

// LookTop looks at some records for the n keys with the most events, and returns true
// with them when it has been at all: each as it was when it was looked at.
func (s *Sliding) LookTop(n, records int) ([]cep.KeyStats, bool) {
	return s.lookTop(n, records, s.keyBytes)
}

// keyBytes is the memory that a key is using: its record and its blocks, texts aside,
// which keys share.
func (s *Sliding) keyBytes(id uint32, r *record) int64 {
	bytes := s.nameBytes(r) + unitWords*8<<r.class
	for i := range s.extents {
		bytes += s.partBytes(id, s.extents[i].parts)
	}
	for i := range s.deques {
		bytes += block{s.cellsOf(id)[s.deques[i].at:]}.bytes()
	}
	return bytes
}

// Process implements cep.Operator.
func (s *Sliding) Process(b *event.Batch, out *cep.Outbox) error { return s.rows(b, out, false) }

// Ask leaves in out what the windows hold for the events of another stream, whose
// fields Config.AskKeys hold the key. They do not enter.
func (s *Sliding) Ask(b *event.Batch, out *cep.Outbox) error { return s.rows(b, out, true) }

func (s *Sliding) rows(b *event.Batch, out *cep.Outbox, asking bool) error {
	if err := s.take(b, &s.cfg, asking); err != nil {
		return err
	}
	for first := 0; first < b.Len(); first += aheadRows {
		end := min(first+aheadRows, b.Len())
		s.lookAhead(b, first, end)
		for row := first; row < end; row++ {
			s.watermark, s.low = out.Watermark[row], out.Low[row]
			if a := &s.ahead[row-first]; a.keyless {
				emitNothing(s.cfg.Outputs, out)
			} else {
				s.event(b, row, a, out)
			}
		}
	}
	s.sweep(b.Len() + 8)
	return nil
}

// lookAhead finds the records of some rows and reads of each what processing it
// will read. Rows do not depend on each other here, so the processor waits for
// many cache misses at once rather than for one after the other.
func (s *Sliding) lookAhead(b *event.Batch, first, end int) {
	s.lookUp(b, first, end)
	var touched uint64
	for row := first; row < end; row++ {
		id := s.ahead[row-first].id
		if id == noRecord {
			continue
		}
		r := s.rec(id)
		v := s.ring(r)
		touched += v.words[v.at(r.n-1)]
		for _, m := range s.marks(id) {
			touched += v.words[v.at(min(m.lo, r.n-1))] // what leaves next
		}
		if s.cells > 0 {
			touched += s.cellsOf(id)[s.cells-1]
		}
	}
	s.touched = touched
}

// Advance implements cep.Operator.
func (s *Sliding) Advance(t event.Time, _ *cep.Outbox) error {
	s.low = max(s.low, t)
	return nil
}

func (s *Sliding) event(b *event.Batch, row int, a *ahead, out *cep.Outbox) {
	q := query{t: b.Time[row], late: out.Late[row], row: row}
	id := s.idOf(b, row, a)
	enters := !q.late && !s.asking && (s.cfg.Filter == nil || s.cfg.Filter(b, row))
	if enters {
		if id == noRecord {
			k, _ := s.keyOf(b, row)
			id = s.newRecord(a.hash, k)
			s.created(id)
		} else {
			s.touch(id)
		}
		s.load(b, row)
		q.entered = s.push(id, q.t)
	}
	if s.current {
		s.loadNow(b, row)
	}
	if id == noRecord {
		s.emitEmpty(row, out)
		return
	}
	s.emit(id, &q, out)
}

// push enters the event in scratch at time t. It returns false where the event is
// the oldest of a key that has all it may.
func (s *Sliding) push(id uint32, t event.Time) bool {
	s.scratch[0] = uint64(t)
	r := s.rec(id)
	if r.n > 0 {
		s.dropOld(id, r)
	}
	if r.n == s.room[r.class] {
		s.resizeRing(r, r.class+1)
	}
	v := s.ring(r)
	at := r.n
	if r.n > 0 && r.newest > t {
		at = v.after(0, r.n, t) // behind the last event whose time is not above t
		if len(s.freeze.walks) > 0 {
			s.displace(id, &v, at)
		}
		v.shift(at, r.n)
	} else {
		r.newest = t
	}
	r.n++
	s.entries++
	r.since = uint16(min(max(uint32(r.since)+1, r.n-at), sinceAll))
	s.changes.events++
	copy(v.event(at), s.scratch)
	marks := s.marks(id)
	for i := range s.extents {
		m := &marks[i]
		if at >= m.hi {
			continue
		}
		m.hi++
		if at <= m.lo { // not in, so that a session's mark stays in one session
			m.lo++
		} else {
			s.apply(s.cellsOf(id), v.event(at), id, s.extents[i].parts, false)
		}
	}
	if at < r.n-1 {
		for i := range s.deques {
			s.deques[i].inserted(s, id, &v, at)
		}
	}
	if int(r.n) <= s.cfg.MaxEvents {
		return true
	}
	s.mark(id, v.time(0))
	s.drop(id, r, 1)
	return at > 0
}

// mark notes that MaxEvents leaves out an event.
func (s *Sliding) mark(id uint32, t event.Time) {
	if s.capped == nil {
		s.capped = map[uint32]event.Time{}
	}
	if last, ok := s.capped[id]; !ok || t > last {
		s.capped[id] = t
	}
}

// dropOld forgets the oldest events that nothing can ask for any more, or some of
// them.
func (s *Sliding) dropOld(id uint32, r *record) {
	v := s.ring(r)
	if v.time(0) > s.low.Sub(s.longest) {
		return
	}
	n := r.n
	if s.reach > 0 {
		n = v.seek(0, r.n, s.low.Sub(s.reach))
	}
	marks := s.marks(id)
	for i := range s.extents {
		if x := &s.extents[i]; x.Length == 0 {
			n = min(n, s.idle(x, &v, r.n, marks[i]))
		}
	}
	if n == 0 {
		return
	}
	s.drop(id, r, n)
	if r.class > s.smallest() && r.n*4 <= s.room[r.class] {
		s.resizeRing(r, r.class-1)
	}
}

// idle is how many of the oldest events an extent without a length cannot hold any
// more, or a smaller number where that takes less time.
func (s *Sliding) idle(x *extent, v *ring, n uint32, m mark) uint32 {
	end := s.low.Sub(x.Delay)
	switch {
	case x.Events > 0:
		if n <= uint32(x.Events) {
			return 0
		}
		k := v.after(0, n, end)
		return k - min(k, uint32(x.Events))
	case v.time(n-1).Add(x.Gap) < end:
		return n
	// The mark is where a session begins, unless an event came between since.
	case m.lo > 0 && m.lo < n && v.time(m.lo-1).Add(x.Gap) < end && v.time(m.lo)-v.time(m.lo-1) > event.Time(x.Gap):
		return m.lo
	}
	return 0
}

// held is the first event that an extent may still be asked for by an event at a
// watermark: of the lowest what idle gives, to the last one.
func (s *Sliding) held(x *extent, v *ring, n uint32, watermark event.Time) uint32 {
	end := watermark.Sub(x.Delay)
	switch {
	case x.Length > 0:
		return v.after(0, n, end.Sub(x.Length))
	case x.Events > 0:
		k := v.after(0, n, end)
		return k - min(k, uint32(x.Events))
	}
	k := uint32(0)
	for i := uint32(0); i < n && v.time(i).Add(x.Gap) < end; i++ {
		if i+1 == n || v.time(i+1)-v.time(i) > event.Time(x.Gap) {
			k = i + 1
		}
	}
	return k
}

// drop forgets the n oldest events of a key, which may be all.
func (s *Sliding) drop(id uint32, r *record, n uint32) {
	v := s.ring(r)
	if len(s.freeze.walks) > 0 {
		s.dropping(id, &v, n)
	}
	marks, cells := s.marks(id), s.cellsOf(id)
	for i := range s.extents {
		m := &marks[i]
		if m.lo < n {
			s.move(id, cells, &s.extents[i], &v, m, n, max(n, m.hi))
		}
		m.lo, m.hi = m.lo-n, m.hi-n
	}
	for i := range s.deques {
		s.deques[i].dropped(s, id, n)
	}
	if len(s.deques) > 0 {
		cells[s.lostAt()] += uint64(n)
	}
	for _, value := range s.texts {
		for i := range n {
			if w := v.event(i); s.has(w, value) {
				s.dict.release(uint32(w[1+value]))
			}
		}
	}
	s.entries -= int64(n)
	if r.first += n; r.first >= v.room {
		r.first -= v.room
	}
	r.n -= n
}

// move makes an extent's parts hold the events [lo, hi).
func (s *Sliding) move(id uint32, cells []uint64, x *extent, v *ring, m *mark, lo, hi uint32) {
	if len(x.parts) > 0 {
		apart := max(lo, m.lo) - min(lo, m.lo) + max(hi, m.hi) - min(hi, m.hi)
		if hi <= m.lo || lo >= m.hi || apart > hi-lo+16 {
			s.clearParts(id, cells, x)
			for i := lo; i < hi; i++ {
				s.apply(cells, v.event(i), id, x.parts, false)
			}
		} else {
			for i := lo; i < m.lo; i++ {
				s.apply(cells, v.event(i), id, x.parts, false)
			}
			for i := m.hi; i < hi; i++ {
				s.apply(cells, v.event(i), id, x.parts, false)
			}
			for i := m.lo; i < lo; i++ {
				s.apply(cells, v.event(i), id, x.parts, true)
			}
			for i := hi; i < m.hi; i++ {
				s.apply(cells, v.event(i), id, x.parts, true)
			}
		}
	}
	m.lo, m.hi = lo, hi
}

// sweep looks at the next n records and forgets the keys of which nothing can be
// asked for. Every key is looked at again and again, so memory follows the live
// keys; values do not depend on it.
func (s *Sliding) sweep(n int) {
	s.table.floor = 0
	if s.keepsN {
		return
	}
	for range min(n, int(s.nextRec)) {
		if s.hand >= s.nextRec {
			s.hand = 0
		}
		id := s.hand
		s.hand++
		if r := s.rec(id); r.n > 0 && s.over(r.newest) {
			s.leaving(id, r)
			s.forget(id, r)
		}
	}
}

// over reports whether nothing can ask for events up to t any more.
func (s *Sliding) over(t event.Time) bool {
	for i := range s.extents {
		if s.extents[i].asksFor(t, s.low) {
			return false
		}
	}
	return true
}

// asksFor reports whether an event at a watermark or later may ask for a last event at
// t.
func (x *extent) asksFor(t, watermark event.Time) bool {
	end := watermark.Sub(x.Delay)
	return x.Events > 0 || x.Length > 0 && t > end.Sub(x.Length) || x.Gap > 0 && t.Add(x.Gap) >= end
}

// lacks reports whether an event at a watermark or later may ask for more than the n
// events that are there of a key of which the last to be left out was at lost. It does not
// look at those of the n that it may not ask for: they may be there still or not.
func (s *Sliding) lacks(x *extent, v *ring, n uint32, lost, watermark event.Time) bool {
	switch {
	case x.Events > 0:
		return v.after(0, n, watermark.Sub(x.Delay)) < uint32(x.Events)
	case x.asksFor(lost, watermark):
		return true
	}
	// A session may go on since.
	return x.Gap > 0 && n > 0 && v.time(0)-lost <= event.Time(x.Gap) && s.held(x, v, n, watermark) == 0
}

// A record and a mark are words by another name: they hold no pointer, and words are
// aligned for them.
var (
	_ [recordWords*8 - unsafe.Sizeof(record{})]struct{}
	_ [unsafe.Sizeof(record{}) - recordWords*8]struct{}
	_ [8 - unsafe.Sizeof(mark{})]struct{}
	_ [unsafe.Sizeof(mark{}) - 8]struct{}
)

func (s *Sliding) marks(id uint32) []mark {
	return unsafe.Slice((*mark)(unsafe.Pointer(&s.recordAt(id)[recordWords])), len(s.extents))
}

// smallest is the class of the smallest ring.
func (s *Sliding) smallest() uint8 { return classFor(s.stride) }

// ring is a view of a record's events, valid until its block changes. Event 0 is
// the oldest.
type ring struct {
	words  []uint64
	stride int
	first  uint32
	room   uint32
}

func (s *Sliding) ring(r *record) ring {
	return ring{words: s.arena.words(r.ring, r.class), stride: s.stride, first: r.first, room: s.room[r.class]}
}

// at is where event i begins.
func (v *ring) at(i uint32) int {
	if i += v.first; i >= v.room {
		i -= v.room
	}
	return int(i) * v.stride
}

func (v *ring) time(i uint32) event.Time { return event.Time(v.words[v.at(i)]) }

func (v *ring) event(i uint32) []uint64 {
	at := v.at(i)
	return v.words[at : at+v.stride]
}

// after is lo and how many of the events in [lo, hi) have a time not above t.
func (v *ring) after(lo, hi uint32, t event.Time) uint32 {
	for lo < hi {
		mid := lo + (hi-lo)/2
		if v.time(mid) <= t {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// near is how far seek goes step by step.
const near = 8

// seek is after(0, n, t), found quickly where it is near to from or just behind.
func (v *ring) seek(from, n uint32, t event.Time) uint32 {
	from = min(from, n)
	if from > 0 && v.time(from-1) > t {
		return v.after(0, from-1, t)
	}
	for range near {
		if from == n || v.time(from) > t {
			return from
		}
		from++
	}
	return v.after(from, n, t)
}

// shift moves the events [lo, n) up by one; there is room.
func (v *ring) shift(lo, n uint32) {
	if lo == n {
		return
	}
	from, end := v.at(lo), v.at(n) // end is the free place behind the last
	if from < end {
		copy(v.words[from+v.stride:end+v.stride], v.words[from:end])
		return
	}
	// The run goes around the end of the block.
	last := (int(v.room) - 1) * v.stride
	copy(v.words[v.stride:end+v.stride], v.words[:end])
	copy(v.words[:v.stride], v.words[last:last+v.stride])
	copy(v.words[from+v.stride:last+v.stride], v.words[from:last])
}

// resizeRing moves a record's events to a block of another class.
func (s *Sliding) resizeRing(r *record, class uint8) {
	ring := s.arena.alloc(class)
	to := s.arena.words(ring, class)
	v := s.ring(r)
	for i := range r.n {
		copy(to[int(i)*s.stride:], v.event(i))
	}
	s.arena.release(r.ring, r.class)
	r.ring, r.class, r.first = ring, class, 0
}

// newRecord makes the record of a key that has none, without events.
func (s *Sliding) newRecord(hash uint32, key []byte) uint32 {
	id := s.addRecord(hash, key)
	r := s.rec(id)
	r.class = s.smallest()
	r.ring = s.arena.alloc(r.class)
	clear(s.marks(id))
	return id
}

// forget gives everything of a key back.
func (s *Sliding) forget(id uint32, r *record) {
	if len(s.texts) > 0 {
		v := s.ring(r)
		for _, value := range s.texts {
			for i := range r.n {
				if w := v.event(i); s.has(w, value) {
					s.dict.release(uint32(w[1+value]))
				}
			}
		}
	}
	cells := s.cellsOf(id)
	for i := range s.extents {
		s.clearParts(id, cells, &s.extents[i])
	}
	for i := range s.deques {
		s.releaseBlock(cells[s.deques[i].at:])
	}
	s.arena.release(r.ring, r.class)
	if len(s.capped) > 0 {
		delete(s.capped, id)
	}
	s.entries -= int64(r.n)
	s.removeRecord(id, r)
}

// Reach is how far back windows of a length reach. Those of a number of events and
// sessions may reach back further.
func (s *Sliding) Reach() time.Duration { return s.reach }

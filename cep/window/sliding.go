package window

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
)

// ErrOverflow is the fault of a sum that does not fit 64 bits.
var ErrOverflow = errors.New("overflow: the window's sum does not fit 64 bits")

// Aggregate is what a window says of its events.
type Aggregate uint8

// The aggregates. Count needs no Value.
const (
	Count Aggregate = iota + 1 // of the events; 0 where there are none
	Sum                        // of a Value; 0 where there are none
	Mean                       // of a Value, a double; no value where there are none
)

// Value is an expression over an event that is summed. Read returns the bits of
// an int64 (an unscaled decimal) or of a float64, and false where the event has
// no such value: it then counts for neither sum nor mean.
type Value struct {
	Type     event.Type // Int64, Decimal or Double
	Nullable bool       // Read may return false
	Read     func(b *event.Batch, row int) (uint64, bool)
}

// Output is one window that somebody reads.
type Output struct {
	Slot      int           // of cep.Outbox.Features; its type is ResultType
	Length    time.Duration // above 0
	Aggregate Aggregate
	Value     int // index of Config.Values; for Count unused
}

// Config is all windows over one stream by one key with one filter.
type Config struct {
	Key     int                                // index of the key field
	Filter  func(b *event.Batch, row int) bool // nil: every event
	Values  []Value                            // what is summed
	Outputs []Output                           // at least one
}

// ResultType is the type of an aggregate's feature column.
func ResultType(a Aggregate, value event.Type) event.Type {
	switch {
	case a == Count:
		return event.Type{Kind: event.Int64}
	case a == Mean:
		return event.Type{Kind: event.Double}
	}
	return value
}

// Sliding is the operator of one Config.
type Sliding struct {
	cfg     Config
	lengths []length
	longest time.Duration
	cells   int // limbs of running sums in a record
	stride  int // words of an event: time, values, and the mask of absent ones
	masked  bool

	table     table
	records   []*recordChunk
	freeRec   uint32
	nextRec   uint32
	arena     arena
	wide      map[uint64]*wideSum // by record<<16 | limb of the narrow part
	watermark event.Time
	hand      uint32 // of the sweep for keys to forget
	entries   int64

	keyBuf  [8]byte
	ahead   [aheadRows]ahead
	known   int             // keys when ahead was filled
	touched uint64          // keeps lookAhead's reads from being optimised away
	room    [classes]uint32 // events that a ring of each class holds
	scratch []uint64        // an event's words
	sums    []uint64        // a query's cells
}

// length is one window length: what is read of it.
type length struct {
	d     time.Duration
	cells []cell
	out   []read
}

// cell is one running sum, in the cells of a record.
type cell struct {
	at     int // first limb; with a nullable value the limb before it counts
	value  int
	double bool
	counts bool
}

// read is one output of a length.
type read struct {
	slot  int
	agg   Aggregate
	cell  int // index of length.cells, -1 for Count
	scale float64
	kind  event.Kind
}

// record is what is held of a key, beside its tails and cells.
type record struct {
	key    uint64 // the key itself up to 8 bytes, else its block
	newest event.Time
	hash   uint32
	keyLen uint32
	ring   uint32 // block of the events
	first  uint32 // place of the oldest event in the block
	n      uint32 // events; 0 in a record on the free list
	class  uint8  // of the ring
}

const (
	recordShift = 10
	recordMask  = 1<<recordShift - 1
	noRecord    = ^uint32(0)
	eventsMax   = 1 << 31
	keyMax      = 16 << 20 // bytes, above any record; a bound for snapshots
)

type recordChunk struct {
	recs  [1 << recordShift]record
	tails []uint32 // by record and length: how many events come before the window
	cells []uint64 // by record: running sums
}

// New makes the operator. Its columns are at the positions that the batches'
// schema gives them.
func New(cfg Config) (*Sliding, error) {
	if len(cfg.Outputs) == 0 {
		return nil, errors.New("window: no outputs")
	}
	s := &Sliding{cfg: cfg, stride: 1 + len(cfg.Values), watermark: event.MinTime}
	for _, v := range cfg.Values {
		switch v.Type.Kind {
		case event.Int64, event.Decimal, event.Double:
		default:
			return nil, fmt.Errorf("window: a value of type %v cannot be summed", v.Type)
		}
		s.masked = s.masked || v.Nullable
	}
	if s.masked {
		s.stride++
	}
	if len(cfg.Values) > 64 {
		return nil, fmt.Errorf("window: %d values where 64 are the most", len(cfg.Values))
	}
	for _, o := range cfg.Outputs {
		if o.Length <= 0 {
			return nil, fmt.Errorf("window: length %v is not above 0", o.Length)
		}
		if o.Aggregate != Count && (o.Value < 0 || o.Value >= len(cfg.Values)) {
			return nil, fmt.Errorf("window: output reads value %d of %d", o.Value, len(cfg.Values))
		}
		s.addOutput(o)
	}
	for c := range s.room {
		s.room[c] = uint32(unitWords << c / s.stride)
	}
	s.scratch = make([]uint64, s.stride)
	s.sums = make([]uint64, s.cells)
	s.reset()
	return s, nil
}

func (s *Sliding) addOutput(o Output) {
	i := slices.IndexFunc(s.lengths, func(l length) bool { return l.d == o.Length })
	if i < 0 {
		i = len(s.lengths)
		s.lengths = append(s.lengths, length{d: o.Length})
		s.longest = max(s.longest, o.Length)
	}
	l := &s.lengths[i]
	r := read{slot: o.Slot, agg: o.Aggregate, cell: -1}
	if o.Aggregate != Count {
		v := s.cfg.Values[o.Value]
		r.kind = v.Type.Kind
		r.scale = float64(event.Pow10(int(v.Type.Scale)))
		r.cell = slices.IndexFunc(l.cells, func(c cell) bool { return c.value == o.Value })
		if r.cell < 0 {
			r.cell = len(l.cells)
			c := cell{at: s.cells, value: o.Value, double: v.Type.Kind == event.Double, counts: v.Nullable}
			if c.counts {
				c.at++
				s.cells++
			}
			s.cells += intLimbs
			if c.double {
				s.cells += narrowLimbs - intLimbs
			}
			l.cells = append(l.cells, c)
		}
	}
	l.out = append(l.out, r)
}

func (s *Sliding) reset() {
	s.table = newTable(s.less)
	s.records, s.freeRec, s.nextRec = nil, noRecord, 0
	s.arena = newArena()
	s.wide = nil
	s.hand, s.entries = 0, 0
}

// Stats is what the operator holds.
type Stats struct {
	Keys, Events int64
	Bytes        int64 // of memory, reserved blocks included
}

// Stats reports what the operator holds.
func (s *Sliding) Stats() Stats {
	perRecord := int64(40 + 4*len(s.lengths) + 8*s.cells)
	return Stats{
		Keys:   int64(s.table.n),
		Events: s.entries,
		Bytes:  int64(len(s.table.slots))*8 + int64(len(s.records))<<recordShift*perRecord + s.arena.held*8,
	}
}

// Process implements cep.Operator.
func (s *Sliding) Process(b *event.Batch, out *cep.Outbox) error {
	key := &b.Cols[s.cfg.Key]
	if !key.Present() {
		return errors.New("window: the key's column was not decoded")
	}
	for first := 0; first < b.Len(); first += aheadRows {
		end := min(first+aheadRows, b.Len())
		s.lookAhead(key, first, end)
		for row := first; row < end; row++ {
			s.watermark = out.Watermark[row]
			if key.IsNull(row) {
				s.emitNothing(out)
				continue
			}
			s.event(b, row, &s.ahead[row-first], key, out)
		}
	}
	s.sweep(b.Len() + 8)
	return nil
}

// aheadRows is how many rows are looked up before they are processed.
const aheadRows = 64

// ahead is what lookAhead found of a row.
type ahead struct {
	hash uint32
	id   uint32 // noRecord where the key had none
}

// lookAhead finds the records of some rows and reads of each what processing it
// will read. Rows do not depend on each other here, so the processor waits for
// many cache misses at once rather than for one after the other.
func (s *Sliding) lookAhead(key *event.Column, first, end int) {
	for row := first; row < end; row++ {
		if key.IsNull(row) {
			continue
		}
		k := s.keyBytes(key, row)
		a := ahead{hash: hashOf(k), id: noRecord}
		if id, found := s.find(a.hash, k); found {
			a.id = id
		}
		s.ahead[row-first] = a
	}
	s.known = s.table.n
	var touched uint64
	for row := first; row < end; row++ {
		if key.IsNull(row) || s.ahead[row-first].id == noRecord {
			continue
		}
		id := s.ahead[row-first].id
		r, tails := s.rec(id), s.tails(id)
		v := s.ring(r)
		touched += v.words[v.at(r.n-1)] + v.words[v.at(min(tails[0], r.n-1))]
		if s.cells > 0 {
			touched += s.cellsOf(id)[0]
		}
	}
	s.touched = touched
}

// Advance implements cep.Operator.
func (s *Sliding) Advance(t event.Time, _ *cep.Outbox) error {
	s.watermark = max(s.watermark, t)
	return nil
}

func (s *Sliding) event(b *event.Batch, row int, a *ahead, key *event.Column, out *cep.Outbox) {
	t, late, id := b.Time[row], out.Late[row], a.id
	enters := !late && (s.cfg.Filter == nil || s.cfg.Filter(b, row))
	if id == noRecord && s.table.n > s.known {
		// A row since lookAhead may have brought the key.
		if found, ok := s.find(a.hash, s.keyBytes(key, row)); ok {
			id = found
		}
	}
	if enters {
		if id == noRecord {
			id = s.newRecord(a.hash, s.keyBytes(key, row))
		}
		s.load(b, row)
		s.push(id, t)
	}
	if id == noRecord {
		s.emitEmpty(out)
		return
	}
	s.emit(id, t, late, row, out)
}

// hashOf is fixed, as the order of a snapshot's keys follows from it.
func hashOf(key []byte) uint32 { return uint32(xxhash.Sum64(key) >> 32) }

// keyBytes is the key of a row as bytes; it may alias the column or keyBuf.
func (s *Sliding) keyBytes(c *event.Column, row int) []byte {
	switch c.Type.Kind {
	case event.String, event.Bytes:
		return c.Bytes(row)
	case event.Bool:
		s.keyBuf[0] = 0
		if c.Bool(row) {
			s.keyBuf[0] = 1
		}
		return s.keyBuf[:1]
	case event.Double:
		binary.LittleEndian.PutUint64(s.keyBuf[:], math.Float64bits(c.Double[row]))
	default:
		binary.LittleEndian.PutUint64(s.keyBuf[:], uint64(c.Int64[row]))
	}
	return s.keyBuf[:]
}

// load reads an event's words but for its time into scratch.
func (s *Sliding) load(b *event.Batch, row int) {
	var absent uint64
	for i := range s.cfg.Values {
		v, ok := s.cfg.Values[i].Read(b, row)
		if !ok {
			v, absent = 0, absent|1<<i
		}
		s.scratch[1+i] = v
	}
	if s.masked {
		s.scratch[s.stride-1] = absent
	}
}

// push enters the event in scratch at time t.
func (s *Sliding) push(id uint32, t event.Time) {
	s.scratch[0] = uint64(t)
	r := s.rec(id)
	inOrder := true
	if r.n > 0 {
		v := s.ring(r)
		if inOrder = r.newest <= t; inOrder {
			s.evict(id, r, &v, t)
		}
		s.dropOld(id, r, &v)
	}
	if r.n == s.room[r.class] {
		s.resizeRing(r, r.class+1)
	}
	v := s.ring(r)
	at := r.n
	if !inOrder {
		at = v.after(0, r.n, t) // behind the last event whose time is not above t
		v.shift(at, r.n)
	}
	r.n++
	if inOrder {
		r.newest = t
	}
	s.entries++
	copy(v.event(at), s.scratch)
	tails := s.tails(id)
	for i := range s.lengths {
		if at < tails[i] {
			tails[i]++ // it falls before this window's tail
		} else if cells := s.lengths[i].cells; len(cells) > 0 {
			s.apply(s.cellsOf(id), s.scratch, id, cells, false)
		}
	}
}

// evict moves the tails to where windows that end at t begin.
func (s *Sliding) evict(id uint32, r *record, v *ring, t event.Time) {
	tails := s.tails(id)
	for i := range s.lengths {
		l := &s.lengths[i]
		start, at := t.Sub(l.d), tails[i]
		for at < r.n && v.time(at) <= start {
			if len(l.cells) > 0 {
				s.apply(s.cellsOf(id), v.event(at), id, l.cells, true)
			}
			at++
		}
		tails[i] = at
	}
}

// dropOld forgets the oldest events that nothing can ask for any more.
func (s *Sliding) dropOld(id uint32, r *record, v *ring) {
	old := s.watermark.Sub(s.longest)
	if v.time(0) > old {
		return
	}
	tails := s.tails(id)
	before := slices.Min(tails)
	n := uint32(0)
	for n < before && v.time(n) <= old {
		n++
	}
	if n == 0 {
		return
	}
	for i := range tails {
		tails[i] -= n
	}
	s.entries -= int64(n)
	if r.first += n; r.first >= v.room {
		r.first -= v.room
	}
	r.n -= n
	if r.class > s.smallest() && r.n*4 <= v.room {
		s.resizeRing(r, r.class-1)
	}
}

// apply adds an event's words to the cells of a length, or subtracts them. id is
// the record they belong to, or noRecord for the cells of a query.
func (s *Sliding) apply(cells, w []uint64, id uint32, of []cell, subtract bool) {
	for i := range of {
		c := &of[i]
		if c.counts {
			if w[s.stride-1]>>c.value&1 != 0 {
				continue
			}
			if subtract {
				cells[c.at-1]--
			} else {
				cells[c.at-1]++
			}
		}
		bits := w[1+c.value]
		if !c.double {
			addInt(cells[c.at:c.at+intLimbs], int64(bits), subtract)
			continue
		}
		if v := math.Float64frombits(bits); isNarrow(v) {
			addDouble(cells[c.at:c.at+narrowLimbs], narrowExp, v, subtract)
		} else {
			s.addWide(wideKey(id, c), v, subtract)
		}
	}
}

func wideKey(id uint32, c *cell) uint64 { return uint64(id)<<16 | uint64(c.at) }

func (s *Sliding) addWide(key uint64, v float64, subtract bool) {
	w := s.wide[key]
	if w == nil {
		if s.wide == nil {
			s.wide = map[uint64]*wideSum{}
		}
		w = &wideSum{}
		s.wide[key] = w
	}
	w.add(v, subtract)
	if w.n == 0 {
		delete(s.wide, key)
	}
}

// emitNothing is for an event without a key: it has no windows.
func (s *Sliding) emitNothing(out *cep.Outbox) {
	for i := range s.cfg.Outputs {
		out.Features[s.cfg.Outputs[i].Slot].AppendNull()
	}
}

// emitEmpty is for a key of which nothing is held.
func (s *Sliding) emitEmpty(out *cep.Outbox) {
	for i := range s.cfg.Outputs {
		o := &s.cfg.Outputs[i]
		f := &out.Features[o.Slot]
		switch {
		case o.Aggregate == Mean:
			f.AppendNull()
		case f.Type.Kind == event.Double:
			f.AppendDouble(0)
		default:
			f.AppendInt64(0)
		}
	}
}

// emit appends the values of all windows of a key that end at t.
func (s *Sliding) emit(id uint32, t event.Time, late bool, row int, out *cep.Outbox) {
	r := s.rec(id)
	v := s.ring(r)
	newest := !late && r.newest <= t
	if newest {
		s.evict(id, r, &v, t)
	}
	tails, cells := s.tails(id), s.cellsOf(id)
	for i := range s.lengths {
		l := &s.lengths[i]
		lo, hi := tails[i], r.n
		sums, wideOf := cells, id
		start := t.Sub(l.d)
		// A tail may stand too far on: an event that did not pass moved it there.
		if !newest || lo > 0 && v.time(lo-1) > start {
			if late {
				start = s.watermark.Sub(l.d) // later than t's own: what is held
			}
			hi = v.after(0, r.n, t)
			lo = v.after(0, hi, start)
			if len(l.cells) > 0 {
				s.query(id, r, &v, l, tails[i], lo, hi)
				sums, wideOf = s.sums, noRecord
			}
		}
		for j := range l.out {
			s.emitOne(l, &l.out[j], int64(hi-lo), sums, wideOf, row, out)
		}
		if wideOf == noRecord && len(s.wide) > 0 {
			for j := range l.cells {
				delete(s.wide, wideKey(noRecord, &l.cells[j]))
			}
		}
	}
}

// query computes into s.sums the sums of a length over the events [lo, hi), from
// the running ones over [tail, n) or from nothing, whichever is shorter.
func (s *Sliding) query(id uint32, r *record, v *ring, l *length, tail, lo, hi uint32) {
	clear(s.sums)
	apart := r.n - hi + max(lo, tail) - min(lo, tail)
	if hi-lo <= apart {
		for i := lo; i < hi; i++ {
			s.apply(s.sums, v.event(i), noRecord, l.cells, false)
		}
		return
	}
	copy(s.sums, s.cellsOf(id))
	if len(s.wide) > 0 {
		for i := range l.cells {
			if w := s.wide[wideKey(id, &l.cells[i])]; w != nil {
				c := *w
				s.wide[wideKey(noRecord, &l.cells[i])] = &c
			}
		}
	}
	for i := lo; i < tail; i++ {
		s.apply(s.sums, v.event(i), noRecord, l.cells, false)
	}
	for i := tail; i < lo; i++ {
		s.apply(s.sums, v.event(i), noRecord, l.cells, true)
	}
	for i := hi; i < r.n; i++ {
		s.apply(s.sums, v.event(i), noRecord, l.cells, true)
	}
}

func (s *Sliding) emitOne(l *length, o *read, n int64, sums []uint64, wideOf uint32, row int, out *cep.Outbox) {
	f := &out.Features[o.slot]
	if o.agg == Count {
		f.AppendInt64(n)
		return
	}
	c := &l.cells[o.cell]
	if c.counts {
		n = int64(sums[c.at-1])
	}
	if o.agg == Mean && n == 0 {
		f.AppendNull()
		return
	}
	if c.double {
		sum := s.doubleSum(sums[c.at:c.at+narrowLimbs], wideOf, c)
		if o.agg == Mean {
			sum /= float64(n)
		}
		f.AppendDouble(sum)
		return
	}
	limbs := sums[c.at : c.at+intLimbs]
	v, ok := int64Of(limbs)
	if o.agg == Mean {
		f.AppendDouble(meanOf(limbs, v, ok, o.scale, n))
		return
	}
	if !ok {
		out.Fault(o.slot, row, ErrOverflow)
		f.AppendNull()
		return
	}
	f.AppendInt64(v)
}

// meanOf is sum / (scale * n). Where the sum and the divisor are below 2^53, as
// money is, that is the double nearest to the true mean: one rounding.
func meanOf(limbs []uint64, v int64, fits bool, scale float64, n int64) float64 {
	sum := float64(v)
	if !fits {
		sum = round(limbs, 0)
	}
	return sum / (scale * float64(n))
}

func (s *Sliding) doubleSum(narrow []uint64, wideOf uint32, c *cell) float64 {
	if len(s.wide) > 0 {
		if w := s.wide[wideKey(wideOf, c)]; w != nil {
			return w.total(narrow)
		}
	}
	return round(narrow, narrowExp)
}

// sweep looks at the next n records and forgets the keys whose newest event
// nothing can ask for. Every key is looked at again and again, so memory follows
// the live keys; values do not depend on it.
func (s *Sliding) sweep(n int) {
	old := s.watermark.Sub(s.longest)
	for range min(n, int(s.nextRec)) {
		if s.hand >= s.nextRec {
			s.hand = 0
		}
		id := s.hand
		s.hand++
		if r := s.rec(id); r.n > 0 && r.newest <= old {
			s.forget(id, r)
		}
	}
}

func (s *Sliding) rec(id uint32) *record { return &s.records[id>>recordShift].recs[id&recordMask] }

func (s *Sliding) tails(id uint32) []uint32 {
	i := int(id&recordMask) * len(s.lengths)
	return s.records[id>>recordShift].tails[i : i+len(s.lengths)]
}

func (s *Sliding) cellsOf(id uint32) []uint64 {
	i := int(id&recordMask) * s.cells
	return s.records[id>>recordShift].cells[i : i+s.cells]
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
	if r.n >= eventsMax {
		panic("window: more than 2^31 events of one key")
	}
	ring := s.arena.alloc(class)
	to := s.arena.words(ring, class)
	v := s.ring(r)
	for i := range r.n {
		copy(to[int(i)*s.stride:], v.event(i))
	}
	s.arena.release(r.ring, r.class)
	r.ring, r.class, r.first = ring, class, 0
}

// find looks a key up.
func (s *Sliding) find(hash uint32, key []byte) (uint32, bool) {
	t := &s.table
	for i := t.home(hash); i < len(t.slots); i++ {
		slot := t.slots[i]
		if slot == 0 || uint32(slot>>32) > hash {
			break
		}
		if uint32(slot>>32) != hash {
			continue
		}
		id := uint32(slot) - 1
		if s.hasKey(s.rec(id), key) {
			return id, true
		}
	}
	return 0, false
}

func (s *Sliding) hasKey(r *record, key []byte) bool {
	if int(r.keyLen) != len(key) {
		return false
	}
	if len(key) <= 8 {
		return r.key == packKey(key)
	}
	w := s.arena.words(uint32(r.key), classFor((len(key)+7)/8))
	for len(key) >= 8 {
		if w[0] != binary.LittleEndian.Uint64(key) {
			return false
		}
		key, w = key[8:], w[1:]
	}
	return len(key) == 0 || w[0] == packKey(key)
}

// packKey is a key of at most 8 bytes in a word.
func packKey(key []byte) uint64 {
	if len(key) == 8 {
		return binary.LittleEndian.Uint64(key)
	}
	var v uint64
	for i, c := range key {
		v |= uint64(c) << (8 * i)
	}
	return v
}

// appendKey appends a record's key.
func (s *Sliding) appendKey(dst []byte, r *record) []byte {
	n := len(dst) + int(r.keyLen)
	if r.keyLen <= 8 {
		return binary.LittleEndian.AppendUint64(dst, r.key)[:n]
	}
	words := (int(r.keyLen) + 7) / 8
	for _, w := range s.arena.words(uint32(r.key), classFor(words))[:words] {
		dst = binary.LittleEndian.AppendUint64(dst, w)
	}
	return dst[:n]
}

// less orders records of equal hash; it is rare.
func (s *Sliding) less(a, b uint32) bool {
	return bytes.Compare(s.appendKey(nil, s.rec(a)), s.appendKey(nil, s.rec(b))) < 0
}

// newRecord makes the record of a key that has none, without events.
func (s *Sliding) newRecord(hash uint32, key []byte) uint32 {
	id := s.freeRec
	if id != noRecord {
		s.freeRec = s.rec(id).ring
	} else {
		id = s.nextRec
		if int(id>>recordShift) == len(s.records) {
			s.records = append(s.records, &recordChunk{
				tails: make([]uint32, len(s.lengths)<<recordShift),
				cells: make([]uint64, s.cells<<recordShift),
			})
		}
		s.nextRec++
	}
	r := s.rec(id)
	*r = record{hash: hash, keyLen: uint32(len(key)), class: s.smallest()}
	r.ring = s.arena.alloc(r.class)
	if len(key) <= 8 {
		r.key = packKey(key)
	} else {
		words := (len(key) + 7) / 8
		block := s.arena.alloc(classFor(words))
		w := s.arena.words(block, classFor(words))
		for i := range words {
			w[i] = packKey(key[:min(8, len(key))])
			key = key[min(8, len(key)):]
		}
		r.key = uint64(block)
	}
	clear(s.tails(id))
	clear(s.cellsOf(id))
	s.table.insert(hash, id)
	return id
}

// forget gives everything of a key back.
func (s *Sliding) forget(id uint32, r *record) {
	s.table.remove(r.hash, id)
	s.arena.release(r.ring, r.class)
	if r.keyLen > 8 {
		s.arena.release(uint32(r.key), classFor((int(r.keyLen)+7)/8))
	}
	if len(s.wide) > 0 {
		for i := range s.lengths {
			for j := range s.lengths[i].cells {
				delete(s.wide, wideKey(id, &s.lengths[i].cells[j]))
			}
		}
	}
	s.entries -= int64(r.n)
	*r = record{ring: s.freeRec}
	s.freeRec = id
}

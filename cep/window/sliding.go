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
	scratch []uint64 // an event's words
	sums    []uint64 // a query's cells
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
	perRecord := int64(32 + 4*len(s.lengths) + 8*s.cells)
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
	for row := range b.Len() {
		s.watermark = out.Watermark[row]
		if key.IsNull(row) {
			s.emitNothing(out)
			continue
		}
		s.event(b, row, s.keyBytes(key, row), out)
	}
	s.sweep(2*b.Len() + 8)
	return nil
}

// Advance implements cep.Operator.
func (s *Sliding) Advance(t event.Time, _ *cep.Outbox) error {
	s.watermark = max(s.watermark, t)
	return nil
}

func (s *Sliding) event(b *event.Batch, row int, key []byte, out *cep.Outbox) {
	t, late := b.Time[row], out.Late[row]
	hash := hashOf(key)
	id, found := s.find(hash, key)
	if !late && (s.cfg.Filter == nil || s.cfg.Filter(b, row)) {
		if !found {
			id, found = s.newRecord(hash, key), true
		}
		s.load(b, row)
		s.push(id, t)
	}
	if !found {
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
	inOrder := r.n == 0 || s.timeOf(r, r.n-1) <= t
	if inOrder {
		s.evict(id, r, t)
	}
	s.dropOld(id, r)
	if int(r.n) == s.capacity(r.class) {
		s.resizeRing(r, r.class+1)
	}
	at := r.n
	r.n++
	s.entries++
	if !inOrder {
		// After the last event whose time is not above t.
		at = s.after(r, 0, r.n-1, t)
		for i := r.n - 1; i > at; i-- {
			copy(s.words(r, i), s.words(r, i-1))
		}
	}
	copy(s.words(r, at), s.scratch)
	tails := s.tails(id)
	for i := range s.lengths {
		if at < tails[i] {
			tails[i]++ // it falls before this window's tail
			continue
		}
		s.apply(s.cellsOf(id), s.scratch, id, s.lengths[i].cells, false)
	}
}

// evict moves the tails to where windows that end at t begin.
func (s *Sliding) evict(id uint32, r *record, t event.Time) {
	tails := s.tails(id)
	for i := range s.lengths {
		l := &s.lengths[i]
		start := t.Sub(l.d)
		for tails[i] < r.n {
			w := s.words(r, tails[i])
			if event.Time(w[0]) > start {
				break
			}
			tails[i]++
			if len(l.cells) > 0 {
				s.apply(s.cellsOf(id), w, id, l.cells, true)
			}
		}
	}
}

// dropOld forgets the oldest events that nothing can ask for any more.
func (s *Sliding) dropOld(id uint32, r *record) {
	if r.n == 0 {
		return
	}
	tails := s.tails(id)
	before := slices.Min(tails)
	old := s.watermark.Sub(s.longest)
	n := uint32(0)
	for n < before && s.timeOf(r, n) <= old {
		n++
	}
	if n == 0 {
		return
	}
	for i := range tails {
		tails[i] -= n
	}
	s.entries -= int64(n)
	r.first += n
	if c := uint32(s.capacity(r.class)); r.first >= c {
		r.first -= c
	}
	r.n -= n
	if r.class > s.smallest() && int(r.n)*4 <= s.capacity(r.class) {
		s.resizeRing(r, r.class-1)
	}
}

// after is how many of the events in [lo, hi) have a time not above t, plus lo.
func (s *Sliding) after(r *record, lo, hi uint32, t event.Time) uint32 {
	for lo < hi {
		mid := lo + (hi-lo)/2
		if s.timeOf(r, mid) <= t {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
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
	newest := !late && s.timeOf(r, r.n-1) <= t
	if newest {
		s.evict(id, r, t)
	}
	tails, cells := s.tails(id), s.cellsOf(id)
	for i := range s.lengths {
		l := &s.lengths[i]
		lo, hi := tails[i], r.n
		sums, wideOf := cells, id
		start := t.Sub(l.d)
		// A tail may stand too far on: an event that did not pass moved it there.
		if !newest || lo > 0 && s.timeOf(r, lo-1) > start {
			if late {
				start = s.watermark.Sub(l.d) // later than t's own: what is held
			}
			lo, hi = s.after(r, 0, r.n, start), s.after(r, 0, r.n, t)
			lo = min(lo, hi)
			if len(l.cells) > 0 {
				s.query(id, r, l, tails[i], lo, hi)
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
func (s *Sliding) query(id uint32, r *record, l *length, tail, lo, hi uint32) {
	clear(s.sums)
	apart := r.n - hi + max(lo, tail) - min(lo, tail)
	if hi-lo <= apart {
		for i := lo; i < hi; i++ {
			s.apply(s.sums, s.words(r, i), noRecord, l.cells, false)
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
		s.apply(s.sums, s.words(r, i), noRecord, l.cells, false)
	}
	for i := tail; i < lo; i++ {
		s.apply(s.sums, s.words(r, i), noRecord, l.cells, true)
	}
	for i := hi; i < r.n; i++ {
		s.apply(s.sums, s.words(r, i), noRecord, l.cells, true)
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
		r := s.rec(id)
		if r.n == 0 {
			continue
		}
		if s.timeOf(r, r.n-1) <= old {
			s.forget(id, r)
		} else if s.timeOf(r, 0) <= old {
			s.dropOld(id, r)
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

// capacity is how many events a ring of that class holds.
func (s *Sliding) capacity(class uint8) int { return unitWords << class / s.stride }

// smallest is the class of the smallest ring.
func (s *Sliding) smallest() uint8 { return classFor(s.stride) }

// words is event i of a record, 0 being the oldest.
func (s *Sliding) words(r *record, i uint32) []uint64 {
	at := s.at(r, i)
	return s.arena.words(r.ring, r.class)[at : at+s.stride]
}

func (s *Sliding) at(r *record, i uint32) int {
	p := int(r.first + i)
	if c := s.capacity(r.class); p >= c {
		p -= c
	}
	return p * s.stride
}

func (s *Sliding) timeOf(r *record, i uint32) event.Time {
	return event.Time(s.arena.words(r.ring, r.class)[s.at(r, i)])
}

// resizeRing moves a record's events to a block of another class.
func (s *Sliding) resizeRing(r *record, class uint8) {
	if r.n >= eventsMax {
		panic("window: more than 2^31 events of one key")
	}
	ring := s.arena.alloc(class)
	to := s.arena.words(ring, class)
	for i := range r.n {
		copy(to[int(i)*s.stride:], s.words(r, i))
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

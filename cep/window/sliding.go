package window

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"
	"unsafe"

	"github.com/cespare/xxhash/v2"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
)

// Sliding is the operator of one Config.
type Sliding struct {
	cfg     Config
	extents []extent
	deques  []deque
	cells   int // words of a record beside its events: the state of all parts
	stride  int // words of an event: time, values, and the mask of absent ones
	masked  bool
	texts   []int         // the values that are text
	current bool          // some output reads the current event's values
	longest time.Duration // how far back any extent begins, those that count events aside
	reach   time.Duration // how far back the extents with a length begin
	keepsN  bool          // some extent counts events: keys stay

	table     table
	records   []recordChunk
	recStride int // words of a record with its marks and cells
	freeRec   uint32
	nextRec   uint32
	arena     arena
	dict      dict
	wide      map[uint64]*wideSum   // by wideKey
	capped    map[uint32]event.Time // by record: the latest event that MaxEvents left out
	watermark event.Time            // of the current row
	low       event.Time            // watermark: what only events before it could ask for goes
	hand      uint32                // of the sweep for keys to forget
	entries   int64

	keyBuf  []byte
	ahead   [aheadRows]ahead
	known   int             // keys when ahead was filled
	touched uint64          // keeps lookAhead's reads from being optimised away
	room    [classes]uint32 // events that a ring of each class holds
	scratch []uint64        // an event's words
	changes changes         // since the newest generation
	freeze  freeze          // the generation at hand

	walkFrom uint32   // how many events of a key are written at once
	now      []uint64 // the current event's values
	nowHas   []bool
	tops     []setEntry
}

// extent is an Extent with what is read of it.
type extent struct {
	Extent
	parts []part
	out   []read
}

// partKind is what a part keeps.
type partKind uint8

const (
	countPart  partKind = iota // of events that have the value
	sumPart                    // exact sums; see sum.go
	squarePart                 // exact sums of squares; see square.go
	setPart                    // how often each value is there; see set.go
	sketchPart                 // how many values are in each bucket; see sketch.go
)

// part is state of an extent that follows its events as they come and go. What it
// holds depends on those alone.
type part struct {
	kind   partKind
	value  int
	double bool
	at     int // first word in a record's cells
	words  int
}

// read is one output of an extent.
type read struct {
	Output
	typ                         event.Type // of the value
	scale                       float64
	count, sum, square, set, sk int // words in the cells; -1: not needed
	deque                       int // -1: none
}

// record is what is held of a key, beside its marks and cells.
type record struct {
	key    uint64 // the key itself up to 8 bytes, else its block
	newest event.Time
	hash   uint32
	keyLen uint32
	ring   uint32 // block of the events
	first  uint32 // place of the oldest event in the block
	n      uint32 // events; 0 in a record on the free list
	class  uint8  // of the ring
	// For the next generation; see incremental.go.
	changed uint8  // the epoch in which it changed or, of a free record, was last listed; 0: as it was written
	since   uint16 // that many of the latest events have to be written; sinceAll: all
}

const (
	recordShift = 10
	recordMask  = 1<<recordShift - 1
	noRecord    = ^uint32(0)
	keyMax      = 16 << 20 // bytes, above any record; a bound for snapshots
)

// recordWords is the size of a record.
const recordWords = 5

// A chunk holds records one after the other, each with its marks and cells behind
// it, so that they share lines of the processor's cache.
type recordChunk []uint64

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
	s := &Sliding{cfg: cfg, stride: 1 + len(cfg.Values), watermark: event.MinTime, low: event.MinTime, walkFrom: defaultWalk}
	if len(cfg.Values) > 64 {
		return nil, fmt.Errorf("window: %d values where 64 are the most", len(cfg.Values))
	}
	for i, v := range cfg.Values {
		s.masked = s.masked || v.Nullable
		switch v.Type.Kind {
		case event.Int64, event.Decimal, event.Double, event.Timestamp, event.Bool:
		case event.String, event.Bytes:
			s.texts = append(s.texts, i)
		default:
			return nil, fmt.Errorf("window: a value of type %v cannot be aggregated", v.Type)
		}
	}
	if s.masked {
		s.stride++
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
	s.recStride = recordWords + len(s.extents) + s.cells
	for c := range s.room {
		s.room[c] = uint32(unitWords << c / s.stride)
	}
	s.scratch = make([]uint64, s.stride)
	s.now = make([]uint64, len(cfg.Values))
	s.nowHas = make([]bool, len(cfg.Values))
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
	r := read{Output: o, count: -1, sum: -1, square: -1, set: -1, sk: -1, deque: -1}
	if o.Value < 0 {
		x.out = append(x.out, r)
		return
	}
	v := &s.cfg.Values[o.Value]
	r.typ, r.scale = v.Type, float64(event.Pow10(int(v.Type.Scale)))
	if v.Nullable && o.Aggregate != Min && o.Aggregate != Max && o.Aggregate != Distinct && o.Aggregate != Quantile {
		r.count = s.part(x, countPart, o.Value)
	}
	switch o.Aggregate {
	case Sum, Mean, Rate:
		r.sum = s.part(x, sumPart, o.Value)
	case Variance, Stddev, ZScore:
		r.sum, r.square = s.part(x, sumPart, o.Value), s.part(x, squarePart, o.Value)
	case Distinct, Entropy, TopK, IsNew:
		r.set = s.part(x, setPart, o.Value)
	case Quantile:
		r.sk = s.part(x, sketchPart, o.Value)
	case Min, Max:
		r.deque = s.dequeOf(o)
	}
	s.current = s.current || o.Aggregate == ZScore || o.Aggregate == IsNew
	x.out = append(x.out, r)
}

// part finds or adds a part of an extent and returns its first word.
func (s *Sliding) part(x *extent, kind partKind, value int) int {
	for _, p := range x.parts {
		if p.kind == kind && p.value == value {
			return p.at
		}
	}
	p := part{kind: kind, value: value, double: s.cfg.Values[value].Type.Kind == event.Double, at: s.cells}
	switch kind {
	case countPart:
		p.words = 1
	case sumPart:
		p.words = intLimbs
		if p.double {
			p.words = narrowLimbs
		}
	case squarePart:
		p.words = intSquareLimbs
		if p.double {
			p.words = narrowSquareLimbs
		}
	default:
		p.words = blockWords
		if kind == setPart && s.cfg.reads(Entropy, x.Extent, value) {
			p.words += frequencyWords
		}
	}
	s.cells += p.words
	x.parts = append(x.parts, p)
	return p.at
}

func (s *Sliding) reset() {
	s.table = newTable(s.less)
	s.records, s.freeRec, s.nextRec = nil, noRecord, 0
	s.arena = newArena()
	s.dict = newDict(&s.arena)
	s.wide, s.capped = nil, nil
	s.hand, s.entries = 0, 0
	s.changes, s.freeze = changes{epoch: 1}, freeze{}
}

// Stats reports what the operator holds.
func (s *Sliding) Stats() cep.Stats {
	return cep.Stats{
		Keys:   int64(s.table.n),
		Events: s.entries,
		Capped: int64(len(s.capped)),
		Bytes:  int64(len(s.table.slots))*8 + int64(len(s.records))<<recordShift*s.recordBytes() + s.arena.held*8 + s.dict.bytes(),
	}
}

// TopKeys are the n keys with the most events, most first, equal ones in the order
// of their hashes. It looks at every key.
func (s *Sliding) TopKeys(n int) []cep.KeyStats {
	var top []cep.KeyStats
	for _, slot := range s.table.slots {
		if slot == 0 || n <= 0 {
			continue
		}
		id := uint32(slot) - 1
		r := s.rec(id)
		if len(top) == n && top[n-1].Events >= int64(r.n) {
			continue
		}
		one := cep.KeyStats{Key: s.keyText(r), Events: int64(r.n), Bytes: s.keyBytes(id, r)}
		at, _ := slices.BinarySearchFunc(top, one, func(a, b cep.KeyStats) int {
			if a.Events >= b.Events {
				return -1
			}
			return 1
		})
		if len(top) == n {
			top = top[:n-1]
		}
		top = slices.Insert(top, at, one)
	}
	return top
}

// keyBytes is the memory that a key is using: its record and its blocks, texts aside,
// which keys share.
func (s *Sliding) keyBytes(id uint32, r *record) int64 {
	bytes := s.recordBytes() + unitWords*8<<r.class
	if r.keyLen > 8 {
		bytes += unitWords * 8 << classFor((int(r.keyLen)+7)/8)
	}
	cells := s.cellsOf(id)
	add := func(at int) {
		if b := (block{cells[at:]}); b.there() {
			bytes += unitWords * 8 << b.class()
		}
	}
	for i := range s.extents {
		for _, p := range s.extents[i].parts {
			if p.kind == setPart || p.kind == sketchPart {
				add(p.at)
			}
		}
	}
	for i := range s.deques {
		add(s.deques[i].at)
	}
	return bytes
}

// recordBytes is what a key costs beside its blocks and its place in the table.
func (s *Sliding) recordBytes() int64 { return int64(8 * s.recStride) }

// keyText is a key for people: text as it is where it is printable, else quoted or
// in hexadecimal digits.
func (s *Sliding) keyText(r *record) string {
	key := s.appendKey(nil, r)
	if utf8.Valid(key) && !bytes.ContainsFunc(key, unicode.IsControl) {
		return string(key)
	}
	if len(key) == 8 {
		return strconv.FormatInt(int64(binary.LittleEndian.Uint64(key)), 10)
	}
	return hex.EncodeToString(key)
}

// Process implements cep.Operator.
func (s *Sliding) Process(b *event.Batch, out *cep.Outbox) error {
	for _, k := range s.cfg.Keys {
		if !b.Cols[k].Present() {
			return errors.New("window: a key's column was not decoded")
		}
	}
	for first := 0; first < b.Len(); first += aheadRows {
		end := min(first+aheadRows, b.Len())
		s.lookAhead(b, first, end)
		for row := first; row < end; row++ {
			s.watermark, s.low = out.Watermark[row], out.Low[row]
			if a := &s.ahead[row-first]; a.keyless {
				s.emitNothing(out)
			} else {
				s.event(b, row, a, out)
			}
		}
	}
	s.sweep(b.Len() + 8)
	return nil
}

// aheadRows is how many rows are looked up before they are processed.
const aheadRows = 64

// ahead is what lookAhead found of a row.
type ahead struct {
	hash    uint32
	id      uint32 // noRecord where the key had none
	keyless bool
}

// lookAhead finds the records of some rows and reads of each what processing it
// will read. Rows do not depend on each other here, so the processor waits for
// many cache misses at once rather than for one after the other.
func (s *Sliding) lookAhead(b *event.Batch, first, end int) {
	for row := first; row < end; row++ {
		k, ok := s.keyOf(b, row)
		a := ahead{id: noRecord, keyless: !ok}
		if ok {
			a.hash = hashOf(k)
			if id, found := s.find(a.hash, k); found {
				a.id = id
			}
		}
		s.ahead[row-first] = a
	}
	s.known = s.table.n
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
	id := a.id
	enters := !q.late && (s.cfg.Filter == nil || s.cfg.Filter(b, row))
	if id == noRecord && s.table.n > s.known {
		// A row since lookAhead may have brought the key.
		k, _ := s.keyOf(b, row)
		if found, ok := s.find(a.hash, k); ok {
			id = found
		}
	}
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

// hashOf is fixed, as the order of a snapshot's keys follows from it.
func hashOf(key []byte) uint32 { return uint32(xxhash.Sum64(key) >> 32) }

// keyOf is the key of a row as bytes, valid until the next call; false where one
// of the fields is absent. Several fields stand one after the other, text with its
// length before it.
func (s *Sliding) keyOf(b *event.Batch, row int) ([]byte, bool) {
	if len(s.cfg.Keys) == 1 {
		c := &b.Cols[s.cfg.Keys[0]]
		if c.IsNull(row) {
			return nil, false
		}
		if c.Type.Kind == event.String || c.Type.Kind == event.Bytes {
			return c.Bytes(row), true
		}
		s.keyBuf = appendFixed(s.keyBuf[:0], c, row)
		return s.keyBuf, true
	}
	s.keyBuf = s.keyBuf[:0]
	for _, k := range s.cfg.Keys {
		c := &b.Cols[k]
		if c.IsNull(row) {
			return nil, false
		}
		if c.Type.Kind == event.String || c.Type.Kind == event.Bytes {
			text := c.Bytes(row)
			s.keyBuf = append(binary.AppendUvarint(s.keyBuf, uint64(len(text))), text...)
		} else {
			s.keyBuf = appendFixed(s.keyBuf, c, row)
		}
	}
	return s.keyBuf, true
}

func appendFixed(dst []byte, c *event.Column, row int) []byte {
	switch c.Type.Kind {
	case event.Bool:
		if c.Bool(row) {
			return append(dst, 1)
		}
		return append(dst, 0)
	case event.Double:
		return binary.LittleEndian.AppendUint64(dst, canonical(math.Float64bits(c.Double[row])))
	}
	return binary.LittleEndian.AppendUint64(dst, uint64(c.Int64[row]))
}

// canonical gives the two zeros, and all NaN, one form.
func canonical(bits uint64) uint64 {
	if bits<<1 == 0 {
		return 0
	}
	if math.IsNaN(math.Float64frombits(bits)) {
		return math.Float64bits(math.NaN())
	}
	return bits
}

// load reads an event's words but for its time into scratch. Texts are given their
// words in the dictionary, which then counts this event.
func (s *Sliding) load(b *event.Batch, row int) {
	var absent uint64
	for i := range s.cfg.Values {
		value := &s.cfg.Values[i]
		var word uint64
		var ok bool
		if value.isText() {
			var text []byte
			if text, ok = value.ReadBytes(b, row); ok {
				word = uint64(s.dict.add(text))
			}
		} else if word, ok = value.Read(b, row); ok && value.Type.Kind == event.Double {
			word = canonical(word)
		}
		if !ok {
			word, absent = 0, absent|1<<i
		}
		s.scratch[1+i] = word
	}
	if s.masked {
		s.scratch[s.stride-1] = absent
	}
}

// unknownText is the word of a text that no event held has.
const unknownText = math.MaxUint64

// loadNow reads the current event's values, whether it entered or not.
func (s *Sliding) loadNow(b *event.Batch, row int) {
	for i := range s.cfg.Values {
		value := &s.cfg.Values[i]
		if value.isText() {
			var text []byte
			if text, s.nowHas[i] = value.ReadBytes(b, row); s.nowHas[i] {
				s.now[i] = unknownText
				if word, found := s.dict.find(text); found {
					s.now[i] = uint64(word)
				}
			}
		} else if s.now[i], s.nowHas[i] = value.Read(b, row); value.Type.Kind == event.Double {
			s.now[i] = canonical(s.now[i])
		}
	}
}

// has reports whether an event has a value.
func (s *Sliding) has(words []uint64, value int) bool {
	return !s.masked || words[s.stride-1]>>value&1 == 0
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

// apply adds an event's words to parts, or takes them out.
func (s *Sliding) apply(cells, w []uint64, id uint32, parts []part, subtract bool) {
	for i := range parts {
		p := &parts[i]
		if s.masked && w[s.stride-1]>>p.value&1 != 0 {
			continue
		}
		bits, c := w[1+p.value], cells[p.at:p.at+p.words]
		switch p.kind {
		case countPart:
			if subtract {
				c[0]--
			} else {
				c[0]++
			}
		case sumPart:
			if !p.double {
				addInt(c, int64(bits), subtract)
			} else if v := math.Float64frombits(bits); isNarrow(v) {
				addDouble(c, narrowExp, v, subtract)
			} else {
				s.addWide(wideKey(id, p.at), v, subtract)
			}
		case squarePart:
			addSquare(c, bits, p.double, subtract)
		case setPart:
			count := s.setAdd(c, bits, subtract)
			if len(c) > blockWords {
				addFrequency(c, count, subtract)
			}
		case sketchPart:
			s.sketchAdd(c, bucketOf(bits, s.cfg.Values[p.value].Type.Kind), subtract)
		}
	}
}

// clearParts empties the parts of an extent.
func (s *Sliding) clearParts(id uint32, cells []uint64, x *extent) {
	for i := range x.parts {
		p := &x.parts[i]
		c := cells[p.at : p.at+p.words]
		switch {
		case p.kind == setPart || p.kind == sketchPart:
			s.releaseBlock(c)
		case p.kind == sumPart && p.double && len(s.wide) > 0:
			delete(s.wide, wideKey(id, p.at))
		}
		clear(c)
	}
}

func wideKey(id uint32, at int) uint64 { return uint64(id)<<16 | uint64(at) }

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

// sweep looks at the next n records and forgets the keys of which nothing can be
// asked for. Every key is looked at again and again, so memory follows the live
// keys; values do not depend on it.
func (s *Sliding) sweep(n int) {
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

// recordAt is a record's words.
func (s *Sliding) recordAt(id uint32) []uint64 {
	i := int(id&recordMask) * s.recStride
	return s.records[id>>recordShift][i : i+s.recStride]
}

// A record and a mark are words by another name: they hold no pointer, and words are
// aligned for them.
var (
	_ [recordWords*8 - unsafe.Sizeof(record{})]struct{}
	_ [unsafe.Sizeof(record{}) - recordWords*8]struct{}
	_ [8 - unsafe.Sizeof(mark{})]struct{}
	_ [unsafe.Sizeof(mark{}) - 8]struct{}
)

func (s *Sliding) rec(id uint32) *record { return (*record)(unsafe.Pointer(&s.recordAt(id)[0])) }

func (s *Sliding) marks(id uint32) []mark {
	return unsafe.Slice((*mark)(unsafe.Pointer(&s.recordAt(id)[recordWords])), len(s.extents))
}

func (s *Sliding) cellsOf(id uint32) []uint64 { return s.recordAt(id)[recordWords+len(s.extents):] }

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
			s.records = append(s.records, make(recordChunk, s.recStride<<recordShift))
		}
		s.nextRec++
	}
	r := s.rec(id)
	*r = record{hash: hash, keyLen: uint32(len(key)), class: s.smallest(), changed: r.changed}
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
	clear(s.marks(id))
	clear(s.cellsOf(id))
	s.table.insert(hash, id)
	return id
}

// forget gives everything of a key back.
func (s *Sliding) forget(id uint32, r *record) {
	s.table.remove(r.hash, id)
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
	if r.keyLen > 8 {
		s.arena.release(uint32(r.key), classFor((int(r.keyLen)+7)/8))
	}
	if len(s.capped) > 0 {
		delete(s.capped, id)
	}
	s.entries -= int64(r.n)
	*r = record{ring: s.freeRec, changed: r.changed}
	s.freeRec = id
}

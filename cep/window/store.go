package window

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode"
	"unicode/utf8"
	"unsafe"

	"github.com/cespare/xxhash/v2"

	"github.com/weirstream/weir/ingest/event"
)

// store holds keys and the state of aggregates that is kept of each, without a
// pointer: what operators of every kind of window share.
type store struct {
	keys    []int // the key fields of the rows at hand
	asking  bool  // the rows at hand do not enter
	current bool  // some output reads the current event's values
	values  []Value
	texts   []int // the values that are text
	stride  int   // words of an event: time, values, and the mask of absent ones
	masked  bool
	cells   int // words of a record beside its events: the state of all parts
	cellsAt int // the first of them

	table     table
	records   []recordChunk
	recStride int // words of a record with its marks and cells
	freeRec   uint32
	nextRec   uint32
	arena     arena
	dict      dict
	// Of doubles that are huge or tiny, by wideKey:
	wide        map[uint64]*wideSum
	wideSquares map[uint64]*wideSquare

	keyBuf []byte
	ahead  [aheadRows]ahead
	// How many records keys were given, and gave back, ever; and by when ahead was filled.
	came, went           uint64
	aheadCame, aheadWent uint64
	touched              uint64   // keeps reads ahead from being optimised away
	scratch              []uint64 // an event's words
	now                  []uint64 // the current event's values
	nowHas               []bool
	tops                 []setEntry
	looking              looking // for lookTop
}

// take makes the rows of a batch those at hand: by the keys of those that enter, or of
// those that ask.
func (s *store) take(b *event.Batch, cfg *Config, asking bool) error {
	s.keys, s.asking = cfg.Keys, asking
	if asking {
		s.keys = cfg.AskKeys
	}
	if asking && s.current {
		return errors.New("window: an aggregate that reads the current event cannot be asked by others")
	}
	for _, k := range s.keys {
		if !b.Cols[k].Present() {
			return errors.New("window: a key's column was not decoded")
		}
	}
	return nil
}

// partKind is what a part keeps.
type partKind uint8

const (
	countPart  partKind = iota // of events that have the value
	sumPart                    // exact sums; see sum.go
	squarePart                 // exact sums of squares; see square.go
	setPart                    // how often each value is there; see set.go
	sketchPart                 // how many values are in each bucket; see sketch.go
	// Where events are not held; see kept.go.
	minPart
	maxPart
	firstPart
	lastPart
	placesPart
)

// part is state of an extent that follows its events as they come and go. What it
// holds depends on those alone.
type part struct {
	kind   partKind
	value  int
	double bool
	at     int // first word in a record's cells
	words  int
	value2 int  // of placesPart
	holds  bool // texts, which no event does
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

// extent is an Extent with what is read of it.
type extent struct {
	Extent
	parts []part
	out   []read
}

// read is one output of an extent.
type read struct {
	Output
	typ                         event.Type // of the value
	scale                       float64
	count, sum, square, set, sk int // words in the cells; -1: not needed
	deque                       int // -1: none
	kept                        int // word in the cells, where events are not held
}

func newStore(keys []int, values []Value) (store, error) {
	s := store{keys: keys, values: values, stride: 1 + len(values)}
	if len(values) > 64 {
		return s, fmt.Errorf("window: %d values where 64 are the most", len(values))
	}
	for i, v := range values {
		s.masked = s.masked || v.Nullable
		switch v.Type.Kind {
		case event.Int64, event.Decimal, event.Double, event.Timestamp, event.Bool:
		case event.String, event.Bytes:
			s.texts = append(s.texts, i)
		default:
			return s, fmt.Errorf("window: a value of type %v cannot be aggregated", v.Type)
		}
	}
	if s.masked {
		s.stride++
	}
	s.scratch = make([]uint64, s.stride)
	s.now, s.nowHas = make([]uint64, len(values)), make([]bool, len(values))
	return s, nil
}

// clear forgets everything.
func (s *store) clear() {
	s.table = newTable(s.less)
	s.records, s.freeRec, s.nextRec = nil, noRecord, 0
	s.arena = newArena()
	s.dict = newDict(&s.arena)
	s.wide, s.wideSquares = nil, nil
	s.looking = looking{}
}

// addRecord makes the record of a key that has none.
func (s *store) addRecord(hash uint32, key []byte) uint32 {
	id := s.freeRec
	if id != noRecord {
		s.freeRec = s.rec(id).ring
	} else {
		id = s.nextRec
		s.addRoom(id)
	}
	s.nameRecord(id, hash, key)
	return id
}

// addRoom makes room for the record of a number. Once the numbers of a snapshot have
// theirs, freeRest makes the others free.
func (s *store) addRoom(id uint32) {
	if int(id>>recordShift) == len(s.records) {
		s.records = append(s.records, make(recordChunk, s.recStride<<recordShift))
	}
	s.nextRec = max(s.nextRec, id+1)
}

func (s *store) freeRest() {
	for id := range s.nextRec {
		if r := s.rec(id); r.n == 0 {
			r.ring, s.freeRec = s.freeRec, id
		}
	}
}

// nameRecord gives a key an unused record.
func (s *store) nameRecord(id uint32, hash uint32, key []byte) {
	r := s.rec(id)
	*r = record{hash: hash, keyLen: uint32(len(key)), changed: r.changed}
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
	clear(s.cellsOf(id))
	s.table.insert(hash, id)
	s.came++
}

// removeRecord gives a record back, of which nothing else is held any more.
func (s *store) removeRecord(id uint32, r *record) {
	s.table.remove(r.hash, id)
	if r.keyLen > 8 {
		s.arena.release(uint32(r.key), classFor((int(r.keyLen)+7)/8))
	}
	*r = record{ring: s.freeRec, changed: r.changed}
	s.freeRec = id
	s.went++
}

// read is how an output of an extent is read, with the parts that it needs. A set's
// entropy may be read by another output.
func (s *store) read(x *extent, o Output, entropy bool) read {
	r := read{Output: o, count: -1, sum: -1, square: -1, set: -1, sk: -1, deque: -1}
	if o.Value < 0 {
		return r
	}
	v := &s.values[o.Value]
	r.typ, r.scale = v.Type, float64(event.Pow10(int(v.Type.Scale)))
	if v.Nullable && o.Aggregate != Min && o.Aggregate != Max && o.Aggregate != Distinct && o.Aggregate != Quantile {
		r.count = s.part(x, countPart, o.Value, false)
	}
	switch o.Aggregate {
	case Sum, Mean, Rate:
		r.sum = s.part(x, sumPart, o.Value, false)
	case Variance, Stddev, ZScore:
		r.sum, r.square = s.part(x, sumPart, o.Value, false), s.part(x, squarePart, o.Value, false)
	case Distinct, Entropy, TopK, IsNew:
		r.set = s.part(x, setPart, o.Value, entropy)
	case Quantile:
		r.sk = s.part(x, sketchPart, o.Value, false)
	}
	return r
}

// part finds or adds a part of an extent and returns its first word. A set may have
// the entropy of its values read.
func (s *store) part(x *extent, kind partKind, value int, entropy bool) int {
	for _, p := range x.parts {
		if p.kind == kind && p.value == value {
			return p.at
		}
	}
	p := part{kind: kind, value: value, double: s.values[value].Type.Kind == event.Double, at: s.cells}
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
		if kind == setPart && entropy {
			p.words += frequencyWords
		}
	}
	s.cells += p.words
	x.parts = append(x.parts, p)
	return p.at
}

// keyText is a key for people: text as it is where it is printable, else quoted or
// in hexadecimal digits.
func (s *store) keyText(r *record) string {
	key := s.appendKey(nil, r)
	if utf8.Valid(key) && !bytes.ContainsFunc(key, unicode.IsControl) {
		return string(key)
	}
	if len(key) == 8 {
		return strconv.FormatInt(int64(binary.LittleEndian.Uint64(key)), 10)
	}
	return hex.EncodeToString(key)
}

// hashOf is fixed, as the order of a snapshot's keys follows from it.
func hashOf(key []byte) uint32 { return uint32(xxhash.Sum64(key) >> 32) }

// keyOf is the key of a row as bytes, valid until the next call; false where one
// of the fields is absent. Several fields stand one after the other, text with its
// length before it.
func (s *store) keyOf(b *event.Batch, row int) ([]byte, bool) {
	if len(s.keys) == 1 {
		c := &b.Cols[s.keys[0]]
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
	for _, k := range s.keys {
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
func (s *store) load(b *event.Batch, row int) {
	var absent uint64
	for i := range s.values {
		value := &s.values[i]
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

// has reports whether an event has a value.
func (s *store) has(words []uint64, value int) bool {
	return !s.masked || words[s.stride-1]>>value&1 == 0
}

// apply adds an event's words to parts, or takes them out.
func (s *store) apply(cells, w []uint64, id uint32, parts []part, subtract bool) {
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
			if v := math.Float64frombits(bits); p.double && !isNarrow(v) {
				s.addWideSquare(wideKey(id, p.at), v, subtract)
			} else {
				addSquare(c, bits, p.double, subtract)
			}
		case setPart:
			count := s.setAdd(c, bits, 1, subtract)
			if len(c) > blockWords {
				addFrequency(c, count, 1, subtract)
			}
			if p.holds && count == 1 {
				s.dict.retain(uint32(bits))
			}
		case sketchPart:
			s.sketchAdd(c, bucketOf(bits, s.values[p.value].Type.Kind), 1, subtract)
		default:
			s.keep(p, c, w)
		}
	}
}

// clearParts empties the parts of an extent.
func (s *store) clearParts(id uint32, cells []uint64, x *extent) {
	for i := range x.parts {
		p := &x.parts[i]
		c := cells[p.at : p.at+p.words]
		switch {
		case p.kind == setPart || p.kind == sketchPart:
			s.releaseBlock(c)
		case p.kind == sumPart && p.double && len(s.wide) > 0:
			delete(s.wide, wideKey(id, p.at))
		case p.kind == squarePart && p.double && len(s.wideSquares) > 0:
			delete(s.wideSquares, wideKey(id, p.at))
		}
		clear(c)
	}
}

func wideKey(id uint32, at int) uint64 { return uint64(id)<<16 | uint64(at) }

func (s *store) addWide(key uint64, v float64, subtract bool) {
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

// recordAt is a record's words.
func (s *store) recordAt(id uint32) []uint64 {
	i := int(id&recordMask) * s.recStride
	return s.records[id>>recordShift][i : i+s.recStride]
}

func (s *store) rec(id uint32) *record { return (*record)(unsafe.Pointer(&s.recordAt(id)[0])) }

func (s *store) cellsOf(id uint32) []uint64 { return s.recordAt(id)[s.cellsAt:] }

// find looks a key up.
func (s *store) find(hash uint32, key []byte) (uint32, bool) {
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

func (s *store) hasKey(r *record, key []byte) bool {
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
func (s *store) appendKey(dst []byte, r *record) []byte {
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
func (s *store) less(a, b uint32) bool {
	return bytes.Compare(s.appendKey(nil, s.rec(a)), s.appendKey(nil, s.rec(b))) < 0
}

// number is the double nearest to a number's word.
func (s *store) number(value int, word uint64) float64 {
	t := &s.values[value].Type
	switch t.Kind {
	case event.Double:
		return math.Float64frombits(word)
	case event.Decimal:
		return event.DecimalDouble(int64(word), int(t.Scale))
	}
	return float64(int64(word))
}

func (s *store) appendValue(f *event.Column, kind event.Kind, word uint64) {
	switch kind {
	case event.String, event.Bytes:
		f.AppendBytes(s.dict.text(uint32(word)))
	case event.Double:
		f.AppendDouble(math.Float64frombits(word))
	case event.Bool:
		f.AppendBool(word != 0)
	default:
		f.AppendInt64(int64(word))
	}
}

package window

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
)

// Generations, as cep.Incremental has them. The shares are ranges of key hashes, in
// the order of which the table stands.
//
// A key that is about to change while a generation is being written, and belongs to
// it, is written first (copy on write): touch and leaving are told before. Of a key
// with many events a first part is; the rest is copied only as far as later events
// displace it (displace, dropping), for the slices to come (walk).
//
// A piece is a sequence of entries:
//
//	head  version, number of values, words of an event, turn, number of keys
//	whole key, what MaxEvents left out, events: what the key holds
//	tail  key, what MaxEvents left out, events: in place of all that are later than
//	      the first of them
//	more  key, events: behind those of the entry before
//
// An event is written as in Snapshot. What only events before the low watermark
// could ask for may be left out, and be there: nothing that is read depends on it.
const (
	entryHead = iota
	entryWhole
	entryTail
	entryMore

	pieceVersion = 1
)

const (
	// sinceAll is record.since of a key of which all events have to be written.
	sinceAll = 1<<16 - 1
	// defaultWalk is how many events of a key are written at once.
	defaultWalk = 1024
	// stepsMax bounds what Write looks at without finding anything to write.
	stepsMax = 1 << 12
	// defaultReserve is for how many keys at most room is made before they come.
	defaultReserve = 1 << 27
	// keyRoom estimates what a key takes beside its events.
	keyRoom = 16
)

// changes is what the next generation will hold.
type changes struct {
	epoch  uint8    // 1 or 2, in turns
	listed []uint32 // records whose changed is, or was when they became free, epoch
	events int64    // that came, for Size
	based  bool     // there is a generation
	turn   uint64
}

// freeze is a generation that is being written.
type freeze struct {
	on       bool
	headed   bool       // the head is written
	low      event.Time // as it was
	pos, end uint64     // the hashes of the share that are still to be written
	listed   []uint32   // what had changed, still to be written
	saved    []byte     // entries written before their turn
	walks    map[uint32]*walk
	order    []uint32 // of walks
}

// walk is a key whose events [next, end) are still to be written.
type walk struct {
	next, end uint32
	// displaced are events behind those, copied before others came between them: the
	// later in the list the earlier in time.
	displaced []displaced
}

type displaced struct {
	n      uint32
	events []uint64
}

// before is the epoch of what had changed at the newest Freeze.
func (c *changes) before() uint8 { return 3 - c.epoch }

// created notes a new key.
func (s *Sliding) created(id uint32) {
	r := s.rec(id)
	if r.changed != s.changes.epoch {
		r.changed = s.changes.epoch
		s.changes.listed = append(s.changes.listed, id)
	}
	r.since = sinceAll
}

// touch is told of a key that is about to change.
func (s *Sliding) touch(id uint32) {
	r := s.rec(id)
	if r.changed == s.changes.epoch {
		return
	}
	if s.freeze.on && s.pending(r) {
		s.freeze.saved = s.appendRecord(s.freeze.saved, id, r)
	}
	r.changed, r.since = s.changes.epoch, 0
	s.changes.listed = append(s.changes.listed, id)
}

// leaving is told of a key that is about to be forgotten. That need not be written:
// a key of which nothing can be asked for may be there or not.
func (s *Sliding) leaving(id uint32, r *record) {
	if !s.freeze.on {
		return
	}
	if r.changed != s.changes.epoch {
		if s.pending(r) {
			s.freeze.saved = s.appendRecord(s.freeze.saved, id, r)
		}
		r.changed = 0
	}
	for s.freeze.walks[id] != nil {
		s.freeze.saved = s.walkOn(s.freeze.saved, id)
	}
}

// pending reports whether a key that has not changed since Freeze is still to be
// written.
func (s *Sliding) pending(r *record) bool { return r.changed == s.changes.before() || s.inShare(r) }

func (s *Sliding) inShare(r *record) bool {
	return uint64(r.hash) >= s.freeze.pos && uint64(r.hash) < s.freeze.end
}

// Size implements cep.Incremental.
func (s *Sliding) Size() (changed, all int64) {
	event := int64(8 * s.stride)
	return s.changes.events*event + int64(len(s.changes.listed))*keyRoom, s.entries*event + int64(s.table.n)*keyRoom
}

// Freeze implements cep.Incremental.
func (s *Sliding) Freeze(share uint64) uint64 {
	c, f := &s.changes, &s.freeze
	if f.on {
		panic("window: Freeze before the generation at hand was written")
	}
	if !c.based {
		share = cep.FullTurn
	}
	pos := c.turn % cep.FullTurn
	end := min(pos+share, cep.FullTurn)
	*f = freeze{on: true, low: s.low, pos: pos, end: end, listed: c.listed, saved: f.saved[:0]}
	*c = changes{epoch: c.before(), based: true, turn: c.turn + end - pos}
	return c.turn
}

// Write implements cep.Incremental.
func (s *Sliding) Write(dst []byte, about int) ([]byte, bool) {
	f := &s.freeze
	if !f.on {
		return dst, true
	}
	about += len(dst)
	if !f.headed {
		f.headed = true
		dst = s.appendHead(dst)
	}
	dst = append(dst, f.saved...)
	f.saved = f.saved[:0]
	if cap(f.saved) > 1<<20 {
		f.saved = nil
	}
	slot := s.table.home(uint32(min(f.pos, cep.FullTurn-1)))
	for steps := 0; len(dst) < about && steps < stepsMax; steps++ {
		switch {
		case len(f.order) > 0:
			dst = s.walkOn(dst, f.order[0])
		case f.pos < f.end:
			dst, slot = s.writeShare(dst, slot)
		case len(f.listed) > 0:
			dst = s.writeListed(dst)
		default:
			f.on, f.listed, f.walks = false, nil, nil
			return dst, true
		}
	}
	return dst, false
}

func (s *Sliding) appendHead(dst []byte) []byte {
	dst = append(dst, entryHead, pieceVersion)
	dst = binary.AppendUvarint(dst, uint64(len(s.cfg.Values)))
	dst = binary.AppendUvarint(dst, uint64(s.stride))
	dst = binary.AppendUvarint(dst, s.changes.turn)
	return binary.AppendUvarint(dst, uint64(s.table.n))
}

// writeShare looks at a slot of the table and writes the keys of the hash that it
// finds there. It returns the slot to go on with, as long as the table stays.
func (s *Sliding) writeShare(dst []byte, slot int) ([]byte, int) {
	f, t := &s.freeze, &s.table
	if slot >= len(t.slots) {
		f.pos = f.end
		return dst, slot
	}
	if t.slots[slot] == 0 { // what stands behind it has a home behind it
		f.pos = max(f.pos, min(f.end, uint64(slot+1)<<t.shift))
		return dst, slot + 1
	}
	hash := t.slots[slot] >> 32
	if hash < f.pos {
		return dst, slot + 1
	}
	if hash >= f.end {
		f.pos = f.end
		return dst, slot
	}
	for ; slot < len(t.slots) && t.slots[slot] != 0 && t.slots[slot]>>32 == hash; slot++ {
		id := uint32(t.slots[slot]) - 1
		if r := s.rec(id); r.changed != s.changes.epoch {
			dst = s.appendRecord(dst, id, r)
			r.changed = 0
		}
	}
	f.pos = hash + 1
	return dst, slot
}

// writeListed writes the next key that had changed.
func (s *Sliding) writeListed(dst []byte) []byte {
	f := &s.freeze
	id := f.listed[len(f.listed)-1]
	f.listed = f.listed[:len(f.listed)-1]
	if r := s.rec(id); r.changed == s.changes.before() {
		if r.n > 0 {
			dst = s.appendRecord(dst, id, r)
		}
		r.changed = 0
	}
	return dst
}

// appendRecord writes a key that has not changed since Freeze, or begins to.
func (s *Sliding) appendRecord(dst []byte, id uint32, r *record) []byte {
	kind, first := byte(entryTail), r.n-min(r.n, uint32(r.since))
	if s.inShare(r) || r.since == sinceAll || first == 0 {
		kind, first = entryWhole, s.live(r, s.freeze.low)
	}
	if first == r.n {
		return dst
	}
	dst = s.appendEntry(dst, kind, r)
	if t, ok := s.capped[id]; ok {
		dst = binary.AppendVarint(append(dst, 1), int64(t))
	} else {
		dst = append(dst, 0)
	}
	end := min(r.n, first+s.walkFrom)
	v := s.ring(r)
	dst = s.appendEvents(dst, &v, first, end)
	if end < r.n {
		f := &s.freeze
		if f.walks == nil {
			f.walks = map[uint32]*walk{}
		}
		f.walks[id] = &walk{next: end, end: r.n}
		f.order = append(f.order, id)
	}
	return dst
}

func (s *Sliding) appendEntry(dst []byte, kind byte, r *record) []byte {
	dst = binary.AppendUvarint(append(dst, kind), uint64(r.keyLen))
	return s.appendKey(dst, r)
}

func (s *Sliding) appendEvents(dst []byte, v *ring, first, end uint32) []byte {
	dst = binary.AppendUvarint(dst, uint64(end-first))
	last := event.Time(0)
	for i := first; i < end; i++ {
		dst = s.appendEvent(dst, v.event(i), last)
		last = v.time(i)
	}
	return dst
}

func (s *Sliding) appendEvent(dst []byte, words []uint64, last event.Time) []byte {
	dst = binary.AppendVarint(dst, int64(event.Time(words[0])-last))
	if s.masked {
		dst = binary.AppendUvarint(dst, words[s.stride-1])
	}
	for i := range s.cfg.Values {
		switch {
		case !s.has(words, i):
		case s.cfg.Values[i].isText():
			text := s.dict.text(uint32(words[1+i]))
			dst = append(binary.AppendUvarint(dst, uint64(len(text))), text...)
		default:
			dst = binary.LittleEndian.AppendUint64(dst, words[1+i])
		}
	}
	return dst
}

// walkOn writes more of a key's events.
func (s *Sliding) walkOn(dst []byte, id uint32) []byte {
	f := &s.freeze
	w, r := f.walks[id], s.rec(id)
	if w.next < w.end {
		end := min(w.end, w.next+s.walkFrom)
		v := s.ring(r)
		dst = s.appendEvents(s.appendEntry(dst, entryMore, r), &v, w.next, end)
		w.next = end
		return dst
	}
	if last := len(w.displaced) - 1; last >= 0 {
		d := &w.displaced[last]
		v := ring{words: d.events, stride: s.stride, room: d.n}
		dst = s.appendEvents(s.appendEntry(dst, entryMore, r), &v, 0, d.n)
		s.releaseTexts(&v, d.n)
		w.displaced = w.displaced[:last]
		return dst
	}
	delete(f.walks, id)
	f.order = slices.Delete(f.order, slices.Index(f.order, id), slices.Index(f.order, id)+1)
	return dst
}

// displace keeps the events from a place on that are still to be written, before an
// event comes between.
func (s *Sliding) displace(id uint32, v *ring, at uint32) {
	w := s.freeze.walks[id]
	switch {
	case w == nil || at >= w.end:
		return
	case at <= w.next: // all of them move up by one
		w.next, w.end = w.next+1, w.end+1
		return
	}
	d := displaced{n: w.end - at, events: make([]uint64, 0, int(w.end-at)*s.stride)}
	for i := at; i < w.end; i++ {
		d.events = append(d.events, v.event(i)...)
		s.holdTexts(v.event(i))
	}
	w.displaced = append(w.displaced, d)
	w.end = at
}

// dropping writes what is still to be written of the oldest events before they go.
func (s *Sliding) dropping(id uint32, v *ring, n uint32) {
	f := &s.freeze
	w := f.walks[id]
	if w == nil {
		return
	}
	if end := min(n, w.end); w.next < end {
		f.saved = s.appendEvents(s.appendEntry(f.saved, entryMore, s.rec(id)), v, w.next, end)
		w.next = end
	}
	w.next, w.end = max(w.next, n)-n, max(w.end, n)-n
}

// holdTexts keeps the texts of an event that is copied; releaseTexts undoes it.
func (s *Sliding) holdTexts(words []uint64) {
	for _, value := range s.texts {
		if s.has(words, value) {
			s.dict.entries[uint32(words[1+value])].refs++
		}
	}
}

func (s *Sliding) releaseTexts(v *ring, n uint32) {
	for _, value := range s.texts {
		for i := range n {
			if w := v.event(i); s.has(w, value) {
				s.dict.release(uint32(w[1+value]))
			}
		}
	}
}

// Apply implements cep.Incremental.
func (s *Sliding) Apply(piece []byte) error {
	r := pieceReader{rest: piece}
	for len(r.rest) > 0 {
		if err := s.applyEntry(&r); err != nil {
			return err
		}
		if r.bad {
			return fmt.Errorf("window: %w: a piece ends within an entry", cep.ErrSnapshot)
		}
	}
	return nil
}

func (s *Sliding) applyEntry(r *pieceReader) error {
	kind := r.byte()
	if kind == entryHead {
		return s.applyHead(r)
	}
	if kind > entryMore {
		return fmt.Errorf("window: %w: an entry of the kind %d", cep.ErrSnapshot, kind)
	}
	key := r.bytes()
	hash := hashOf(key)
	id, found := s.find(hash, key)
	lost, capped := s.capped[id]
	if kind != entryMore {
		if capped = r.byte() == 1; capped {
			lost = event.Time(r.varint())
		}
	}
	n := r.uvarint()
	if r.bad {
		return nil
	}
	if n == 0 || n > uint64(s.cfg.MaxEvents) || kind == entryMore && !found {
		return fmt.Errorf("window: %w: %d events of a key", cep.ErrSnapshot, n)
	}
	if kind == entryWhole && found {
		s.forget(id, s.rec(id))
		found = false
	}
	if !found {
		id = s.newRecord(hash, key)
	}
	err := s.applyEvents(r, id, n, kind == entryTail && found)
	delete(s.capped, id)
	if capped {
		s.mark(id, lost)
	}
	if s.rec(id).n == 0 { // damaged; nothing may be without events
		s.forget(id, s.rec(id))
	}
	return err
}

func (s *Sliding) applyHead(r *pieceReader) error {
	version, values, stride, turn, keys := r.byte(), r.uvarint(), r.uvarint(), r.uvarint(), r.uvarint()
	switch {
	case r.bad:
		return nil
	case version != pieceVersion:
		return fmt.Errorf("window: %w: version %d, this program reads %d", cep.ErrSnapshot, version, pieceVersion)
	case values != uint64(len(s.cfg.Values)) || stride != uint64(s.stride):
		return fmt.Errorf("window: %w: events of %d values in %d words where this program has %d in %d", cep.ErrSnapshot, values, stride, len(s.cfg.Values), s.stride)
	}
	s.changes.based, s.changes.turn = true, turn
	s.table.reserve(int(min(keys, uint64(s.reserveMax))))
	return nil
}

// applyEvents enters events; where instead is set, in place of those that are later
// than the first of them.
func (s *Sliding) applyEvents(r *pieceReader, id uint32, n uint64, instead bool) error {
	last := event.Time(0)
	for first := true; n > 0; n-- {
		t := last + event.Time(r.varint())
		if !first && t < last {
			return fmt.Errorf("window: %w: events out of order", cep.ErrSnapshot)
		}
		if !s.readEvent(r) {
			return nil
		}
		if first && instead {
			s.truncate(id, t)
		}
		first, last = false, t
		s.push(id, t)
	}
	return nil
}

// readEvent reads an event's values into scratch.
func (s *Sliding) readEvent(r *pieceReader) bool {
	mask := uint64(0)
	if s.masked {
		mask = r.uvarint()
		s.scratch[s.stride-1] = mask
	}
	for i := range s.cfg.Values {
		s.scratch[1+i] = 0
		switch {
		case mask>>i&1 != 0:
		case s.cfg.Values[i].isText():
			if text := r.bytes(); !r.bad {
				s.scratch[1+i] = uint64(s.dict.add(text))
			}
		default:
			s.scratch[1+i] = r.uint64()
		}
	}
	return !r.bad
}

// truncate takes the events later than t out of a key that has been restored and not
// been asked since: no extent's parts hold anything yet.
func (s *Sliding) truncate(id uint32, t event.Time) {
	r := s.rec(id)
	v := s.ring(r)
	for r.n > 0 && v.time(r.n-1) > t {
		r.n--
		s.entries--
		for _, value := range s.texts {
			if w := v.event(r.n); s.has(w, value) {
				s.dict.release(uint32(w[1+value]))
			}
		}
	}
	if r.n > 0 {
		r.newest = v.time(r.n - 1)
	}
}

// pieceReader reads what a piece holds; bad once it has ended too early.
type pieceReader struct {
	rest []byte
	bad  bool
}

func (r *pieceReader) take(n uint64) []byte {
	if r.bad = r.bad || n > uint64(len(r.rest)); r.bad {
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *pieceReader) byte() byte {
	if b := r.take(1); !r.bad {
		return b[0]
	}
	return 0
}

func (r *pieceReader) uint64() uint64 {
	if b := r.take(8); !r.bad {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *pieceReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.take(uint64(n))
	return v
}

func (r *pieceReader) varint() int64 {
	v := r.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

// bytes is valid as long as the piece.
func (r *pieceReader) bytes() []byte { return r.take(r.uvarint()) }

package window

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
)

// Generations of a Long, as cep.Incremental has them. The rows of a window come and go
// for far more keys than events come for, so what has changed is not written: a
// generation says how far the offsets were, and has the keys that are new and a share
// of all, as they were then. A key that was written with an older one is brought
// forward from the rows that the offsets have given since, which are on disk.
//
// A key that is to be written and is about to change is written first (touchKey).
//
// A piece is a sequence of entries:
//
//	head  what a snapshot says before the keys, without the reservoir; the reservoir
//	key   number, events, name, and what is kept of its windows
const (
	longHead = 1
	longKey  = 2

	longPieceVersion = 1
)

// savedLong is a snapshot or generation.
type savedLong struct {
	turn   uint64
	whole  bool  // it needs none before it
	needed int64 // its first row
}

// longFreeze is a generation that is being written.
type longFreeze struct {
	on       bool
	head     []byte
	pos, end uint64   // the hashes of the share that are still to be written
	listed   []uint32 // new keys, still to be written
	saved    []byte   // entries written before their turn
	cells    bytes.Buffer
	w        *cep.SnapshotWriter // to cells
}

// What record.changed says of a key while a generation is written; 0: as table and share
// say.
const (
	longListed  = 1 // in listed, to be written
	longWritten = 2 // in the share, and written or too new
)

// keepFor lets go what neither the newest snapshot nor the two before it need: the newest
// may get lost, and the one before it turn out damaged.
func (l *Long) keepFor(s savedLong) error {
	l.saved = append(l.saved, s)
	at := max(0, len(l.saved)-3)
	oldest := l.saved[at]
	for at > 0 && !l.saved[at].whole && oldest.turn-l.saved[at-1].turn < cep.FullTurn {
		at--
	}
	l.saved = slices.Delete(l.saved, 0, at)
	return l.rows.Trim(l.saved[0].needed)
}

// create notes a new key.
func (l *Long) create(id uint32) {
	r := l.rec(id)
	if r.changed = 0; l.inShare(r) {
		r.changed = longWritten
	}
	l.born = append(l.born, id)
}

func (l *Long) inShare(r *record) bool {
	f := &l.freeze
	return f.on && uint64(r.hash) >= f.pos && uint64(r.hash) < f.end
}

// touchKey is told of a key that is about to change.
func (l *Long) touchKey(id uint32) {
	if !l.freeze.on {
		return
	}
	r := l.rec(id)
	share := l.inShare(r)
	if r.changed != longListed && (!share || r.changed == longWritten) {
		return
	}
	l.freeze.saved = l.appendKeyEntry(l.freeze.saved, id, r)
	if r.changed = 0; share {
		r.changed = longWritten
	}
}

// Size implements cep.Incremental. A share of a sixtieth, beside what is new, has every
// key written once in five minutes of checkpoints.
func (l *Long) Size() (changed, all int64) {
	each := int64(8*l.recStride) + keyRoom
	all = int64(l.table.n) * each
	return int64(len(l.born))*each + all/60, all
}

// Freeze implements cep.Incremental.
func (l *Long) Freeze(share uint64) uint64 {
	f := &l.freeze
	if f.on {
		panic("window: Freeze before the generation at hand was written")
	}
	if n := len(l.saved); n == 0 || l.saved[n-1].whole {
		share = cep.FullTurn
	}
	pos := l.turn % cep.FullTurn
	end := min(pos+share, cep.FullTurn)
	l.turn += end - pos
	f.on, f.pos, f.end, f.saved = true, pos, end, f.saved[:0]
	f.listed, l.born = l.born, f.listed[:0]
	for _, id := range f.listed {
		if r := l.rec(id); r.n > 0 {
			r.changed = longListed
		}
	}
	f.head, l.err = l.headEntry()
	if l.err == nil {
		l.err = l.keepFor(savedLong{turn: l.turn, needed: l.needed()})
	}
	return l.turn
}

// headEntry is the generation's head, once the rows it tells of are durable.
func (l *Long) headEntry() ([]byte, error) {
	var head, rows bytes.Buffer
	w := cep.NewSnapshotWriter(&head)
	w.Uvarint(longPieceVersion)
	w.Bytes([]byte(l.events()))
	w.Bytes([]byte(l.windows()))
	w.Varint(int64(l.low))
	w.Varint(int64(l.upTo))
	w.Uvarint(l.turn)
	w.Uvarint(uint64(l.rows.End()))
	w.Uvarint(uint64(l.needed()))
	l.snapshotOffsets(w)
	l.dict.snapshot(w)
	err := w.Flush()
	w = cep.NewSnapshotWriter(&rows)
	if err == nil {
		err = l.rows.Snapshot(w, l.needed())
	}
	if err == nil {
		err = w.Flush()
	}
	out := binary.AppendUvarint([]byte{longHead}, uint64(head.Len()))
	out = append(out, head.Bytes()...)
	out = binary.AppendUvarint(out, uint64(rows.Len()))
	return append(out, rows.Bytes()...), err
}

// Write implements cep.Incremental.
func (l *Long) Write(dst []byte, about int) ([]byte, bool) {
	f := &l.freeze
	if !f.on {
		return dst, true
	}
	about += len(dst)
	dst = append(append(dst, f.head...), f.saved...)
	f.head = nil
	if f.saved = f.saved[:0]; cap(f.saved) > 1<<20 {
		f.saved = nil
	}
	dst = l.writeKeys(dst, about)
	for len(dst) < about && f.pos >= f.end && len(f.listed) > 0 {
		id := f.listed[len(f.listed)-1]
		f.listed = f.listed[:len(f.listed)-1]
		if r := l.rec(id); r.changed == longListed {
			dst = l.appendKeyEntry(dst, id, r)
			r.changed = 0
		}
	}
	if f.on = f.pos < f.end || len(f.listed) > 0; !f.on {
		f.pos, f.end = 0, 0
	}
	return dst, !f.on
}

// writeKeys writes keys of the share, in the order of their hashes.
func (l *Long) writeKeys(dst []byte, about int) []byte {
	f, t := &l.freeze, &l.table
	if f.pos >= f.end {
		return dst
	}
	slot := t.home(uint32(f.pos))
	for steps := 0; slot < len(t.slots); slot++ {
		hash := t.slots[slot] >> 32
		switch {
		case t.slots[slot] == 0 || hash < f.pos:
		case hash >= f.end:
			f.pos = f.end
			return dst
		default:
			// Keys of one hash are written together, so that a hash says how far it is.
			for ; slot < len(t.slots) && t.slots[slot] != 0 && t.slots[slot]>>32 == hash; slot++ {
				id := uint32(t.slots[slot]) - 1
				r := l.rec(id)
				if r.changed != longWritten {
					dst = l.appendKeyEntry(dst, id, r)
				}
				r.changed = 0
			}
			slot--
			f.pos = hash + 1
		}
		if steps++; len(dst) >= about || steps >= stepsMax {
			if t.slots[slot] == 0 { // what stands behind it has a home behind it
				f.pos = max(f.pos, min(f.end, uint64(slot+1)<<t.shift))
			}
			return dst
		}
	}
	f.pos = f.end
	return dst
}

func (l *Long) appendKeyEntry(dst []byte, id uint32, r *record) []byte {
	f := &l.freeze
	dst = binary.AppendUvarint(append(dst, longKey), uint64(id))
	dst = binary.AppendUvarint(dst, uint64(r.n))
	dst = l.appendKey(binary.AppendUvarint(dst, uint64(r.keyLen)), r)
	if f.w == nil {
		f.w = cep.NewSnapshotWriter(&f.cells)
	}
	f.cells.Reset()
	l.snapshotWindows(f.w, id)
	if err := f.w.Flush(); err != nil {
		panic(err) // a buffer takes everything
	}
	dst = binary.AppendUvarint(dst, uint64(f.cells.Len()))
	return append(dst, f.cells.Bytes()...)
}

// taking is what Apply was given.
type taking struct {
	heads  []takenHead
	base   []uint32 // for each record the head that it is as of
	rows   []byte   // of the newest head: the reservoir
	remake bool     // it is of other windows
	buf    []byte
}

// takenHead is a generation's head.
type takenHead struct {
	low, upTo   event.Time
	turn        uint64
	end, needed int64
	spans       []span
}

// Apply implements cep.Incremental.
func (l *Long) Apply(piece []byte) error {
	if l.taking == nil {
		l.reset()
		l.taking = &taking{}
	}
	for in := bytes.NewReader(piece); in.Len() > 0; {
		r := cep.NewSnapshotReader(in)
		for {
			kind := r.Uvarint()
			if r.Err() != nil { // the end
				break
			}
			var err error
			switch kind {
			case longHead:
				err = l.takeHead(r, len(piece))
			case longKey:
				err = l.takeKey(r, len(piece))
			default:
				err = bad("an entry of the kind %d", kind)
			}
			if err == nil {
				err = r.Err()
			}
			if err != nil {
				return l.untaken(err)
			}
		}
	}
	return nil
}

// untaken empties the operator.
func (l *Long) untaken(err error) error {
	l.Keep(l.fs, l.dir)
	return fmt.Errorf("window: %w", err)
}

func (l *Long) takeHead(in *cep.SnapshotReader, size int) error {
	t := l.taking
	data := in.Bytes(nil, size)
	t.rows = in.Bytes(nil, size)
	if in.Err() != nil {
		return in.Err()
	}
	r := cep.NewSnapshotReader(bytes.NewReader(data))
	if v := r.Uvarint(); r.Err() == nil && v != longPieceVersion {
		return bad("version %d, this program reads %d", v, longPieceVersion)
	}
	if events := string(r.Bytes(nil, layoutMax)); r.Err() == nil && events != l.events() {
		return bad("events of %s where this program has %s", events, l.events())
	}
	// The windows are remade where any generation has others: each is for its own keys.
	t.remake = string(r.Bytes(nil, layoutMax)) != l.windows() || t.remake
	h := takenHead{low: event.Time(r.Varint()), upTo: event.Time(r.Varint()), turn: r.Uvarint(), end: int64(r.Uvarint()), needed: int64(r.Uvarint())}
	var err error
	if h.spans, err = readSpans(r, h.needed, h.end); err != nil {
		return err
	}
	if n := len(t.heads); n > 0 && (h.end < t.heads[n-1].end || h.needed < t.heads[n-1].needed) {
		return bad("generations out of order")
	}
	if err := l.dict.restore(r); err != nil {
		return err
	}
	t.heads = append(t.heads, h)
	return r.Err()
}

func (l *Long) takeKey(r *cep.SnapshotReader, size int) error {
	t := l.taking
	id, n := r.Uvarint(), r.Uvarint()
	t.buf = r.Bytes(t.buf, keyMax)
	if r.Err() != nil {
		return r.Err()
	}
	if len(t.heads) == 0 {
		return bad("a key without a head")
	}
	if end := t.heads[len(t.heads)-1].end; id >= uint64(end) || id > uint64(len(t.base)+idsAhead) || n == 0 || n > uint64(end) || n > math.MaxUint32 {
		return bad("key %d with %d events", id, n)
	}
	key, hash := t.buf, hashOf(t.buf)
	if other, found := l.find(hash, key); found { // as it was, or under the number it had before
		l.forget(other, l.rec(other))
	}
	for uint64(l.nextRec) <= id {
		l.addRoom(l.nextRec)
		t.base = append(t.base, 0)
	}
	if old := l.rec(uint32(id)); old.n > 0 { // the number was another's
		l.forget(uint32(id), old)
	}
	l.nameRecord(uint32(id), hash, key)
	clear(l.lasts(uint32(id)))
	l.rec(uint32(id)).n = uint32(n)
	t.base[id] = uint32(len(t.heads) - 1)
	if t.remake {
		r.Bytes(nil, size)
		return nil
	}
	r.Uvarint() // the length, for those who leave it out
	return l.restoreWindows(r, uint32(id))
}

// idsAhead bounds how far a key's number is beyond those seen: keys come in the order of
// their hashes.
const idsAhead = 1 << 26

// Complete implements cep.Completer: it brings all keys to the newest generation.
func (l *Long) Complete() error {
	t := l.taking
	if t == nil || len(t.heads) == 0 {
		return l.untaken(bad("no head"))
	}
	if err := l.complete(t); err != nil {
		return l.untaken(err)
	}
	l.taking = nil
	return nil
}

func (l *Long) complete(t *taking) error {
	oldest, newest := &t.heads[0], &t.heads[len(t.heads)-1]
	l.low, l.upTo, l.turn = newest.low, newest.upTo, newest.turn
	if _, err := l.rows.Restore(cep.NewSnapshotReader(bytes.NewReader(t.rows))); err != nil {
		return err
	}
	if l.rows.End() != newest.end {
		return bad("%d rows where %d are expected", l.rows.End(), newest.end)
	}
	l.saved = nil
	for _, h := range t.heads {
		l.saved = append(l.saved, savedLong{turn: h.turn, needed: h.needed})
	}
	since := func(from, to int64, base func(h *takenHead) int64, visit func(id uint32, words []uint64)) error {
		return l.eachRow(from, to, func(at int64, id uint32, words []uint64) error {
			if id < l.nextRec && l.rec(id).n > 0 && at >= base(&t.heads[t.base[id]]) {
				visit(id, words)
			}
			return nil
		})
	}
	// A key that is over has its last row leave here; until all is counted it has one more.
	for id := range l.nextRec {
		if r := l.rec(id); r.n > 0 {
			r.n++
		}
	}
	err := since(oldest.end, newest.end, func(h *takenHead) int64 { return h.end }, func(id uint32, _ []uint64) { l.rec(id).n++ })
	for i := 0; err == nil && i < len(l.offsets) && !t.remake; i++ {
		err = since(oldest.spans[i].given, newest.spans[i].given, func(h *takenHead) int64 { return h.spans[i].given }, func(id uint32, words []uint64) {
			for _, m := range l.offsets[i].moves {
				l.count(id, l.cellsOf(id), &l.extents[m.extent], words, m.leaves)
			}
		})
	}
	if err == nil {
		err = since(oldest.needed, newest.needed, func(h *takenHead) int64 { return h.needed }, func(id uint32, _ []uint64) { l.rec(id).n-- })
	}
	if err != nil {
		return err
	}
	for id := range l.nextRec {
		r := l.rec(id)
		switch {
		case r.n == 1:
			l.forget(id, r)
		case r.n > 1:
			r.n--
			l.entries += int64(r.n)
		}
	}
	l.freeRec = noRecord
	l.freeRest()
	if t.remake {
		return l.remake(newest.needed)
	}
	return l.restoreOffsets(newest.spans)
}

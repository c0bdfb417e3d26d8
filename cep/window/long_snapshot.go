package window

import (
	"fmt"
	"math"
	"strings"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
)

// longVersion is the first number of a snapshot. Version 1: what the events are (words,
// how far back they are kept); the windows with what they keep; the low watermark and
// the greatest time; where the reservoir stands; for each offset the row that its
// iterator gives next and the first that its zone has; the texts and the keys by their
// numbers, each with that of its events; for each key and window the number of events in
// it and what its parts hold.
const longVersion = 1

// events says what the rows in the reservoir are: with the same, other windows can be
// made of them.
func (l *Long) events() string {
	return fmt.Sprintf("%d values in %d words, kept for %v", len(l.values), l.stride, l.offsets[len(l.offsets)-1].back)
}

// windows says what is kept of the windows.
func (l *Long) windows() string {
	var b strings.Builder
	for i := range l.extents {
		x := &l.extents[i]
		fmt.Fprintf(&b, "%v %v:", x.Length, x.Delay)
		for _, p := range x.parts {
			fmt.Fprintf(&b, " %d of %d in %d", p.kind, p.value, p.words)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Snapshot implements cep.Operator. What it writes is of use together with the files
// that the reservoir has.
func (l *Long) Snapshot(w *cep.SnapshotWriter) error {
	if err := l.snapshot(w); err != nil {
		return fmt.Errorf("window: %w", err)
	}
	return l.keepFor(savedLong{whole: true, needed: l.needed()})
}

func (l *Long) snapshot(w *cep.SnapshotWriter) error {
	w.Uvarint(longVersion)
	w.Bytes([]byte(l.events()))
	w.Bytes([]byte(l.windows()))
	w.Varint(int64(l.low))
	w.Varint(int64(l.upTo))
	if err := l.rows.Snapshot(w, l.needed()); err != nil {
		return err
	}
	l.snapshotOffsets(w)
	l.dict.snapshot(w)
	ids := l.ids()
	w.Uvarint(uint64(ids))
	var key []byte
	for id := range ids {
		r := l.rec(id)
		if w.Uvarint(uint64(r.n)); r.n > 0 {
			key = l.appendKey(key[:0], r)
			w.Bytes(key)
		}
	}
	for id := range ids {
		if l.rec(id).n > 0 {
			l.snapshotWindows(w, id)
		}
	}
	return nil
}

func (l *Long) snapshotOffsets(w *cep.SnapshotWriter) {
	w.Uvarint(uint64(len(l.offsets)))
	for i := range l.offsets {
		o := &l.offsets[i]
		at := l.given(o)
		w.Uvarint(uint64(at))
		if o.zone.n() > 0 {
			at = o.zone.row(o.zone.first).at
		}
		w.Uvarint(uint64(at))
	}
}

// ids is one more than the greatest number of a key.
func (l *Long) ids() uint32 {
	ids := l.nextRec
	for ids > 0 && l.rec(ids-1).n == 0 {
		ids--
	}
	return ids
}

// given is the row that an offset gives next.
func (l *Long) given(o *offset) int64 {
	if o.it == nil {
		return l.rows.End()
	}
	return o.it.Row()
}

func (l *Long) snapshotWindows(w *cep.SnapshotWriter, id uint32) {
	cells := l.cellsOf(id)
	for i := range l.extents {
		x := &l.extents[i]
		w.Uvarint(cells[x.count])
		for j := range x.parts {
			p := &x.parts[j]
			l.snapshotPart(w, p, cells[p.at:p.at+p.words], wideKey(id, p.at))
		}
	}
}

// layoutMax bounds a snapshot's description of what it holds.
const layoutMax = 1 << 20

// Restore implements cep.Operator. Where the windows are others over the same events,
// they are made from the reservoir.
func (l *Long) Restore(r *cep.SnapshotReader) error {
	l.reset()
	err := l.restore(r)
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		l.Keep(l.fs, l.dir)
		return fmt.Errorf("window: %w", err)
	}
	return nil
}

func (l *Long) restore(r *cep.SnapshotReader) error {
	if v := r.Uvarint(); r.Err() == nil && v != longVersion {
		return bad("version %d, this program reads %d", v, longVersion)
	}
	if events := string(r.Bytes(nil, layoutMax)); r.Err() == nil && events != l.events() {
		return bad("events of %s where this program has %s", events, l.events())
	}
	same := string(r.Bytes(nil, layoutMax)) == l.windows()
	l.low, l.upTo = event.Time(r.Varint()), event.Time(r.Varint())
	needed, err := l.rows.Restore(r)
	if err != nil {
		return err
	}
	spans, err := readSpans(r, needed, l.rows.End())
	if err != nil {
		return err
	}
	l.saved = append(l.saved, savedLong{whole: true, needed: needed})
	if err := l.restoreKeys(r); err != nil {
		return err
	}
	if !same {
		return l.remake(needed)
	}
	for id := range l.nextRec {
		if l.rec(id).n == 0 {
			continue
		}
		if err := l.restoreWindows(r, id); err != nil {
			return err
		}
	}
	return l.restoreOffsets(spans)
}

// span is the rows of an offset: the one that it gives next, and the first that its
// zone has.
type span struct{ given, zone int64 }

func readSpans(r *cep.SnapshotReader, needed, end int64) (spans []span, err error) {
	for n := r.Uvarint(); n > 0 && r.Err() == nil; n-- {
		s := span{given: int64(r.Uvarint()), zone: int64(r.Uvarint())}
		if r.Err() == nil && (s.zone < needed || s.given < s.zone || s.given > end) {
			return nil, bad("an offset at row %d with a zone from row %d on", s.given, s.zone)
		}
		spans = append(spans, s)
	}
	return spans, r.Err()
}

// restoreOffsets puts the iterators where they were and fills the zones.
func (l *Long) restoreOffsets(spans []span) error {
	if len(spans) != len(l.offsets) {
		return bad("%d offsets where this program has %d", len(spans), len(l.offsets))
	}
	for i, s := range spans {
		o, last := &l.offsets[i], i == len(spans)-1
		if o.it != nil {
			o.it = l.rows.Iterator(s.given)
		}
		err := l.each(s.zone, s.given, func(at int64, id uint32, words []uint64) {
			if last || event.Time(words[0]) > l.low.Sub(o.back) {
				o.zone.push(at, id, words, &l.lasts(id)[i])
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// remake makes the windows from the rows, from the first that is needed on.
func (l *Long) remake(needed int64) error {
	for i := range l.offsets {
		o := &l.offsets[i]
		if o.it != nil {
			o.it = l.rows.Iterator(needed)
			continue
		}
		err := l.each(needed, l.rows.End(), func(at int64, id uint32, words []uint64) { l.pass(i, id, at, words) })
		if err != nil {
			return err
		}
	}
	return l.bring(l.low)
}

// each visits the rows [from, to), of keys that are there.
func (l *Long) each(from, to int64, visit func(at int64, id uint32, words []uint64)) error {
	return l.eachRow(from, to, func(at int64, id uint32, words []uint64) error {
		if id >= l.nextRec || l.rec(id).n == 0 {
			return bad("row %d is of key %d, which is not there", at, id)
		}
		visit(at, id, words)
		return nil
	})
}

// eachRow visits the rows [from, to).
func (l *Long) eachRow(from, to int64, visit func(at int64, id uint32, words []uint64) error) error {
	it := l.rows.Iterator(from)
	defer it.Close()
	for it.Row() < to {
		rows, _, err := it.Due(event.MaxTime)
		if err != nil {
			return err
		}
		n := int(min(int64(len(rows.Keys)), to-it.Row()))
		for i, id := range rows.Keys[:n] {
			if err := visit(it.Row()+int64(i), id, rows.Words[i*l.stride:(i+1)*l.stride]); err != nil {
				return err
			}
		}
		it.Skip(n)
	}
	return nil
}

// restoreKeys reads the texts and the keys.
func (l *Long) restoreKeys(r *cep.SnapshotReader) error {
	if err := l.dict.restore(r); err != nil {
		return err
	}
	ids := r.Uvarint()
	if ids >= uint64(noRecord) {
		return bad("%d keys", ids)
	}
	var key []byte
	for id := uint32(0); id < uint32(ids) && r.Err() == nil; id++ {
		n := r.Uvarint()
		if n > uint64(l.rows.End()) || n > math.MaxUint32 {
			return bad("%d events of a key", n)
		}
		l.addRoom(id)
		if n == 0 {
			continue
		}
		key = r.Bytes(key, keyMax)
		if r.Err() != nil {
			break
		}
		hash := hashOf(key)
		if _, found := l.find(hash, key); found {
			return bad("a key twice")
		}
		l.nameRecord(id, hash, key)
		clear(l.lasts(id))
		l.rec(id).n = uint32(n)
		l.entries += int64(n)
	}
	l.freeRest()
	return nil
}

func (l *Long) restoreWindows(r *cep.SnapshotReader, id uint32) error {
	cells := l.cellsOf(id)
	for i := range l.extents {
		x := &l.extents[i]
		cells[x.count] = r.Uvarint()
		for j := range x.parts {
			p := &x.parts[j]
			if err := l.restorePart(r, p, cells[p.at:p.at+p.words], wideKey(id, p.at)); err != nil {
				return err
			}
		}
	}
	return r.Err()
}

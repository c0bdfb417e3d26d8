package window

import (
	"bytes"
	"encoding/binary"
	"math"

	"github.com/weirstream/weir/cep"
)

// dict gives each text that events hold a number, for as long as an event, or what is
// kept of events that are not held, holds it. A text is in one place however many
// events have it.
type dict struct {
	arena   *arena
	table   table
	entries []dictEntry
	free    uint32 // the first unused entry, noRecord at the end
	buf     []byte
	other   []byte
}

// dictEntry is one text; of an unused entry refs is 0 and block the next one.
type dictEntry struct {
	block uint32
	len   uint32
	hash  uint32
	refs  uint32
}

func newDict(a *arena) dict {
	d := dict{arena: a, free: noRecord}
	return d
}

func (d *dict) bytes() int64 { return int64(len(d.entries))*16 + int64(len(d.table.slots))*8 }

// less orders texts of equal hash, for the table.
func (d *dict) less(a, b uint32) bool {
	return d.compare(a, b) < 0
}

func (d *dict) compare(a, b uint32) int {
	d.buf, d.other = d.textTo(d.buf[:0], a), d.textTo(d.other[:0], b)
	return bytes.Compare(d.buf, d.other)
}

// find is the number of a text.
func (d *dict) find(text []byte) (uint32, bool) {
	if d.table.slots == nil {
		return 0, false
	}
	hash := hashOf(text)
	t := &d.table
	for i := t.home(hash); i < len(t.slots); i++ {
		slot := t.slots[i]
		if slot == 0 || uint32(slot>>32) > hash {
			break
		}
		if uint32(slot>>32) == hash && d.equal(uint32(slot)-1, text) {
			return uint32(slot) - 1, true
		}
	}
	return 0, false
}

// add is the number of a text, which one more event holds.
func (d *dict) add(text []byte) uint32 {
	if d.table.slots == nil {
		d.table = newTable(d.less)
	}
	if id, ok := d.find(text); ok {
		d.entries[id].refs++
		return id
	}
	id := d.free
	if id != noRecord {
		d.free = d.entries[id].block
	} else {
		id = uint32(len(d.entries))
		d.entries = append(d.entries, dictEntry{})
	}
	d.put(id, text, 1)
	return id
}

// put makes an unused entry a text's.
func (d *dict) put(id uint32, text []byte, refs uint32) {
	e := dictEntry{len: uint32(len(text)), hash: hashOf(text), refs: refs}
	if words := (len(text) + 7) / 8; words > 0 {
		e.block = d.arena.alloc(classFor(words))
		w := d.arena.words(e.block, classFor(words))
		for i := range words {
			w[i] = packKey(text[:min(8, len(text))])
			text = text[min(8, len(text)):]
		}
	}
	d.entries[id] = e
	d.table.insert(e.hash, id)
}

// snapshot writes the texts by their numbers, with how many hold each.
func (d *dict) snapshot(w *cep.SnapshotWriter) {
	w.Uvarint(uint64(len(d.entries)))
	for id := range d.entries {
		refs := d.entries[id].refs
		if w.Uvarint(uint64(refs)); refs > 0 {
			w.Bytes(d.text(uint32(id)))
		}
	}
}

// restore reads what snapshot wrote in place of what is there.
func (d *dict) restore(r *cep.SnapshotReader) error {
	for id := range d.entries {
		if e := &d.entries[id]; e.refs > 0 && e.len > 0 {
			d.arena.release(e.block, classFor((int(e.len)+7)/8))
		}
	}
	d.table, d.entries, d.free = newTable(d.less), d.entries[:0], noRecord
	var text []byte
	for n := r.Uvarint(); n > 0 && r.Err() == nil; n-- {
		id, refs := uint32(len(d.entries)), r.Uvarint()
		if r.Err() != nil {
			break
		}
		if refs > math.MaxUint32 {
			return bad("a text held by %d", refs)
		}
		d.entries = append(d.entries, dictEntry{block: d.free})
		if refs == 0 {
			d.free = id
			continue
		}
		text = r.Bytes(text, keyMax)
		if _, found := d.find(text); found {
			return bad("a text twice")
		}
		d.put(id, text, uint32(refs))
	}
	return nil
}

// there tells whether a number is that of a text.
func (d *dict) there(id uint64) bool { return id < uint64(len(d.entries)) && d.entries[id].refs > 0 }

// retain is for one more holder of a text.
func (d *dict) retain(id uint32) { d.entries[id].refs++ }

// release takes back one event's hold of a text.
func (d *dict) release(id uint32) {
	e := &d.entries[id]
	if e.refs--; e.refs > 0 {
		return
	}
	d.table.remove(e.hash, id)
	if words := int(e.len+7) / 8; words > 0 {
		d.arena.release(e.block, classFor(words))
	}
	*e = dictEntry{block: d.free}
	d.free = id
}

func (d *dict) equal(id uint32, text []byte) bool {
	e := &d.entries[id]
	if int(e.len) != len(text) {
		return false
	}
	if len(text) == 0 {
		return true
	}
	w := d.arena.words(e.block, classFor((len(text)+7)/8))
	for len(text) >= 8 {
		if w[0] != binary.LittleEndian.Uint64(text) {
			return false
		}
		text, w = text[8:], w[1:]
	}
	return len(text) == 0 || w[0] == packKey(text)
}

// text is the text of a number, valid until the next call.
func (d *dict) text(id uint32) []byte {
	d.buf = d.textTo(d.buf[:0], id)
	return d.buf
}

func (d *dict) textTo(dst []byte, id uint32) []byte {
	e := &d.entries[id]
	if e.len == 0 {
		return dst
	}
	words := (int(e.len) + 7) / 8
	n := len(dst) + int(e.len)
	for _, w := range d.arena.words(e.block, classFor(words))[:words] {
		dst = binary.LittleEndian.AppendUint64(dst, w)
	}
	return dst[:n]
}

package window

import (
	"cmp"
	"slices"

	"github.com/weirstream/weir/cep"
)

// What the store holds, for people.

// bytes is the memory in use, reserved blocks included.
func (s *store) bytes() int64 {
	return int64(len(s.table.slots))*8 + int64(len(s.records))<<recordShift*s.recordBytes() + s.arena.held*8 + s.dict.bytes()
}

// recordBytes is what a key costs beside its blocks and its place in the table.
func (s *store) recordBytes() int64 { return int64(8 * s.recStride) }

// nameBytes is the memory of a key but for what its parts and events take.
func (s *store) nameBytes(r *record) int64 {
	bytes := s.recordBytes()
	if r.keyLen > 8 {
		bytes += unitWords * 8 << classFor((int(r.keyLen)+7)/8)
	}
	return bytes
}

// partBytes is the blocks of a key's parts.
func (s *store) partBytes(id uint32, parts []part) (bytes int64) {
	for i := range parts {
		if p := &parts[i]; p.kind == setPart || p.kind == sketchPart {
			bytes += block{s.cellsOf(id)[p.at:]}.bytes()
		}
	}
	return bytes
}

func (b block) bytes() int64 {
	if !b.there() {
		return 0
	}
	return unitWords * 8 << b.class()
}

// looking is a search for the keys with the most events.
type looking struct {
	next uint32 // record
	top  []lookedAt
}

type lookedAt struct {
	cep.KeyStats
	hash uint32
}

// topKeys are the n keys with the most events, with the bytes that each is using.
func (s *store) topKeys(n int, bytes func(id uint32, r *record) int64) []cep.KeyStats {
	l := looking{}
	for id := range s.nextRec {
		l.look(s, id, n, bytes)
	}
	return l.keys()
}

// lookTop is topKeys in steps of some records, which returns true with the last.
func (s *store) lookTop(n, records int, bytes func(id uint32, r *record) int64) ([]cep.KeyStats, bool) {
	l := &s.looking
	for ; records > 0 && l.next < s.nextRec; records-- {
		l.look(s, l.next, n, bytes)
		l.next++
	}
	if l.next < s.nextRec {
		return nil, false
	}
	keys := l.keys()
	*l = looking{}
	return keys, true
}

func (l *looking) look(s *store, id uint32, n int, bytes func(id uint32, r *record) int64) {
	r := s.rec(id)
	if r.n == 0 || n <= 0 {
		return
	}
	order := func(a, b lookedAt) int {
		return cmp.Or(cmp.Compare(b.Events, a.Events), cmp.Compare(a.hash, b.hash), cmp.Compare(a.Key, b.Key))
	}
	one := lookedAt{KeyStats: cep.KeyStats{Events: int64(r.n)}, hash: r.hash}
	if len(l.top) == n {
		if last := &l.top[n-1]; last.Events > one.Events || last.Events == one.Events && last.hash < one.hash {
			return
		}
	}
	one.Key, one.Bytes = s.keyText(r), bytes(id, r)
	at, _ := slices.BinarySearchFunc(l.top, one, order)
	l.top = slices.Insert(l.top, at, one)
	l.top = l.top[:min(len(l.top), n)]
}

func (l *looking) keys() (keys []cep.KeyStats) {
	for _, one := range l.top {
		keys = append(keys, one.KeyStats)
	}
	return keys
}

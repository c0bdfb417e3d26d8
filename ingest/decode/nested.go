package decode

import (
	"fmt"
	"hash/maphash"
	"strconv"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/source"
)

// nested is what the conversion of a list, map or struct needs beside its field.
type nested struct {
	fields []field // a struct's members; the element of a list; the value of a map
	object *object // of a struct
	slots  []slot  // of a struct: where its members lie in the record
	// Of the element at hand; types do not recur, so neither does their use.
	key, value slot
}

func newNested(t event.Type, declared schema.Field) (*nested, error) {
	n := &nested{}
	for i, f := range t.Fields {
		one, err := newField(f, declared.Member(i))
		if err != nil {
			return nil, fmt.Errorf("%s%w", memberPath(t, i), err)
		}
		if t.Kind != event.Struct {
			one.name, one.from = "", "element"
		}
		n.fields = append(n.fields, one)
	}
	if t.Kind != event.Struct {
		return n, nil
	}
	n.object = newObject()
	for i := range n.fields {
		at := n.object.declare(n.fields[i].from)
		if n.object.members[at].slot >= 0 {
			return nil, fmt.Errorf("%s: the member %q is read by two members of the struct", memberPath(t, i), n.fields[i].from)
		}
		n.object.members[at].slot, n.fields[i].slot = int32(i), i
	}
	n.slots = make([]slot, len(n.fields))
	return n, nil
}

// memberPath is what leads from a nested type to its member i.
func memberPath(t event.Type, i int) string {
	switch t.Kind {
	case event.List:
		return "[]"
	case event.Map:
		return "[key]"
	}
	return "." + t.Fields[i].Name
}

// convertNested appends the list, map or struct in a slot, whose syntax was found
// good, element by element. On false the columns are uneven, and the failure names
// the path to what is wrong.
func (d *Decoder) convertNested(f *field, s *slot, r *source.Record, col *event.Column) bool {
	want := anObject
	if f.typ.Kind == event.List {
		want = anArray
	}
	if s.kind != want {
		return d.wrongType(f, s, r.Value)
	}
	ok := false
	switch f.typ.Kind {
	case event.List:
		ok = d.convertList(f, s, r, col)
	case event.Map:
		ok = d.convertMap(f, s, r, col)
	default:
		ok = d.convertStruct(f, s, r, col)
	}
	if !ok {
		return false
	}
	if col != nil {
		col.AppendNested()
	}
	return true
}

// child is a child column, nil where the parent is not wanted.
func child(col *event.Column, i int) *event.Column {
	if col == nil {
		return nil
	}
	return &col.Children[i]
}

// element converts a value within a list, map or struct.
func (d *Decoder) element(f *field, s *slot, r *source.Record, col *event.Column) bool {
	if s.kind <= null {
		if !f.optional {
			return d.missing(f, s)
		}
		if col != nil {
			col.AppendNull()
		}
		return true
	}
	return d.convertValue(f, s, r, col)
}

// within puts the way to a part before the path of the failure at hand.
func (d *Decoder) within(f *field, way string) bool {
	if rest := d.detailed.Field; rest != "" && rest[0] != '[' && rest[0] != '.' {
		way += "."
	}
	d.detailed.Field = f.name + way + d.detailed.Field
	return false
}

func (d *Decoder) tooMany(f *field, s *slot) bool {
	return d.fail(f, s, ReasonSize, "more than "+strconv.Itoa(MaxElements)+" elements")
}

func (d *Decoder) convertList(f *field, s *slot, r *source.Record, col *event.Column) bool {
	b, of, to := r.Value[:s.end], &f.nested.fields[0], child(col, 0)
	i := skipSpace(b, int(s.start)+1)
	for n := 0; b[i] != ']'; n++ {
		if n == MaxElements {
			return d.tooMany(f, s)
		}
		el := &f.nested.value
		i = skipSpace(b, d.value(b, i, 1, el))
		if !d.element(of, el, r, to) {
			return d.within(f, "["+strconv.Itoa(n)+"]")
		}
		if b[i] == ',' {
			i = skipSpace(b, i+1)
		}
	}
	return true
}

func (d *Decoder) convertMap(f *field, s *slot, r *source.Record, col *event.Column) bool {
	b, of := r.Value[:s.end], &f.nested.fields[0]
	keys, values := child(col, 0), child(col, 1)
	// First all keys, then all values: a map within this one uses the set of keys.
	d.keys.reset()
	key, v := &f.nested.key, &f.nested.value
	first := skipSpace(b, int(s.start)+1)
	i, entries := first, 0
	for ; b[i] != '}'; entries++ {
		if entries == MaxElements {
			return d.tooMany(f, s)
		}
		i = d.value(b, i, 1, key)
		if !d.mapKey(f, key, entries, r, keys) {
			return false
		}
		i = skipSpace(b, d.value(b, d.colon(b, i), 1, v))
		if b[i] == ',' {
			i = skipSpace(b, i+1)
		}
	}
	i = first
	for n := range entries {
		i = d.value(b, i, 1, key)
		i = skipSpace(b, d.value(b, d.colon(b, i), 1, v))
		if !d.element(of, v, r, values) {
			return d.within(f, entryPath(of, key, n, r.Value))
		}
		if b[i] == ',' {
			i = skipSpace(b, i+1)
		}
	}
	return true
}

// mapKey appends the key of entry n. A key that stands in the map twice is refused:
// which of the two values was meant cannot be told.
func (d *Decoder) mapKey(f *field, key *slot, n int, r *source.Record, col *event.Column) bool {
	of := &f.nested.fields[0]
	k := field{typ: event.Type{Kind: event.String}, secret: of.secret}
	if !d.convertString(&k, key, r.Value, col) {
		return d.within(f, entryPath(of, key, n, r.Value))
	}
	t, _ := d.unescaped(key, r.Value)
	if !d.keys.add(t) {
		d.fail(&k, key, ReasonType, "the key stands in the map twice")
		return d.within(f, entryPath(of, key, n, r.Value))
	}
	return true
}

// entryPath names an entry of a map: by its key where that may be shown.
func entryPath(of *field, key *slot, n int, value []byte) string {
	t := value[key.start:key.end]
	if of.secret || len(t) > describedBytes || mayBeCard(t) || key.flags != 0 {
		return "[entry " + strconv.Itoa(n) + "]"
	}
	return `["` + string(t) + `"]`
}

func (d *Decoder) convertStruct(f *field, s *slot, r *source.Record, col *event.Column) bool {
	n := f.nested
	clear(n.slots)
	outer := d.slots
	d.slots = n.slots
	d.object(r.Value, int(s.start)+1, n.object, 1)
	d.slots = outer
	for i := range n.fields {
		if !d.element(&n.fields[i], &n.slots[i], r, child(col, i)) {
			return d.within(f, "")
		}
	}
	return true
}

// keySet finds keys that come again. It is an open table of hashes, with the keys
// themselves behind it; keys from outside cannot be chosen to collide, and the seed
// changes the time it takes and nothing else.
type keySet struct {
	seed  maphash.Seed
	ready bool
	table []int32 // 1 + index of ends, 0: free
	data  []byte
	ends  []int32
}

// keySetKept is the longest table that is kept for the next map.
const keySetKept = 4096

func (k *keySet) reset() {
	if !k.ready {
		k.seed, k.ready = maphash.MakeSeed(), true
	}
	if len(k.table) == 0 || len(k.table) > keySetKept {
		k.table = make([]int32, 16)
	} else if len(k.ends) > 0 {
		clear(k.table)
	}
	k.data, k.ends = k.data[:0], k.ends[:0]
}

func (k *keySet) key(i int32) []byte {
	from := int32(0)
	if i > 0 {
		from = k.ends[i-1]
	}
	return k.data[from:k.ends[i]]
}

// add is false where the key is there already.
func (k *keySet) add(key []byte) bool {
	if 2*len(k.ends) >= len(k.table) {
		k.table = make([]int32, 2*len(k.table))
		for i := range k.ends {
			k.table[k.find(k.key(int32(i)))] = int32(i) + 1
		}
	}
	at := k.find(key)
	if k.table[at] != 0 {
		return false
	}
	k.data = append(k.data, key...)
	k.ends = append(k.ends, int32(len(k.data)))
	k.table[at] = int32(len(k.ends))
	return true
}

// find is where a key is in the table, or the free place where it belongs.
func (k *keySet) find(key []byte) int {
	mask := len(k.table) - 1
	for at := int(maphash.Bytes(k.seed, key)) & mask; ; at = (at + 1) & mask {
		i := k.table[at]
		if i == 0 || string(k.key(i-1)) == string(key) {
			return at
		}
	}
}

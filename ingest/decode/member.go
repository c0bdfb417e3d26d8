package decode

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// object is what is declared of one JSON object, and what was learned about the
// order of its members.
type object struct {
	members []member // [0] stands for the start of the object and for names not kept
	table   []int32  // open addressing, by hash of the name; indexes of members
	lo, hi  int      // the slots of the paths that lead through it
	spare   int      // how many more names may be learned
}

// member is one name that an object may have.
type member struct {
	name   string
	raw    string // `"name":`, as writers without superfluous space write it; empty where it cannot be compared
	next   int32  // the member that followed it last; 0 where that is not known
	slot   int32  // of its value, -1 where no field reads it
	object *object
}

// Bounds on what is learned about undeclared names, which come from outside.
const (
	maxLearned     = 256 // names of one object
	maxLearnedName = 64  // bytes of one name
)

// planObject makes the tree of the declared paths and gives each path a slot,
// those below one object side by side.
func planObject(fields []field) (*object, int, error) {
	root := newObject()
	for i := range fields {
		o, parts := root, strings.Split(fields[i].from, ".")
		for k, part := range parts {
			m := &o.members[o.declare(part)]
			if last := k == len(parts)-1; last && m.object != nil || !last && m.slot >= 0 {
				return nil, 0, fmt.Errorf("field %s: the path %q and another field's path lead through one another", fields[i].name, fields[i].from)
			} else if last {
				m.slot = 0
			} else {
				if m.object == nil {
					m.object = newObject()
				}
				o = m.object
			}
		}
	}
	slots := root.layOut(0)
	for i := range fields {
		o, parts := root, strings.Split(fields[i].from, ".")
		for _, part := range parts[:len(parts)-1] {
			o = o.members[o.find([]byte(part))].object
		}
		fields[i].slot = int(o.members[o.find([]byte(parts[len(parts)-1]))].slot)
	}
	return root, slots, nil
}

func newObject() *object {
	return &object{members: []member{{slot: -1}}, table: make([]int32, 8), spare: maxLearned}
}

// layOut gives slots from next onward and returns the one after.
func (o *object) layOut(next int) int {
	o.lo = next
	for i := range o.members[1:] {
		m := &o.members[1+i]
		if m.object != nil {
			next = m.object.layOut(next)
		} else {
			m.slot = int32(next)
			next++
		}
	}
	o.hi = next
	return next
}

// declare is the index of the member of a name, which is added where it is new.
func (o *object) declare(name string) int32 {
	if i := o.find([]byte(name)); i > 0 {
		return i
	}
	i := int32(len(o.members))
	o.members = append(o.members, member{name: name, slot: -1})
	if plain(name) {
		// The name of the member before last time, in the declared order.
		o.members[i].raw = `"` + name + `":`
		o.members[i-1].next = i
	}
	if 2*len(o.members) > len(o.table) {
		o.table = make([]int32, 2*len(o.table))
		for k := range o.members[1:] {
			o.put(int32(k + 1))
		}
		return i
	}
	o.put(i)
	return i
}

func (o *object) put(i int32) {
	h := hash([]byte(o.members[i].name))
	for o.table[h&uint32(len(o.table)-1)] != 0 {
		h++
	}
	o.table[h&uint32(len(o.table)-1)] = i
}

// find is the index of the member of a name, 0 where there is none.
func (o *object) find(name []byte) int32 {
	for h := hash(name); ; h++ {
		i := o.table[h&uint32(len(o.table)-1)]
		if i == 0 || o.members[i].name == string(name) {
			return i
		}
	}
}

// hash mixes the length and the first and last bytes of a name.
func hash(name []byte) uint32 {
	var a, b uint64
	switch n := len(name); {
	case n >= 8:
		a, b = binary.LittleEndian.Uint64(name), binary.LittleEndian.Uint64(name[n-8:])
	case n >= 4:
		a, b = uint64(binary.LittleEndian.Uint32(name)), uint64(binary.LittleEndian.Uint32(name[n-4:]))
	case n > 0:
		a, b = uint64(name[0]), uint64(name[n-1])<<8|uint64(name[n/2])
	}
	x := (a ^ b<<29 ^ b>>35 ^ uint64(len(name))) * 0x9e3779b97f4a7c15
	return uint32(x >> 32)
}

// plain reports whether a name stands in JSON as it is, so that its bytes may be
// compared with the record's.
func plain(name string) bool {
	for i := range len(name) {
		if c := name[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// member reads the name of a member and the colon after it. Names that no field
// declares are kept, as long as there is room, so that they too can be foreseen.
func (d *Decoder) member(b []byte, i int, o *object) (at int32, end int) {
	if i == len(b) || b[i] != '"' {
		return 0, d.stop(i, ReasonSyntax, "expected the name of a member")
	}
	start := i + 1
	i, flags := d.str(b, start)
	if i < 0 {
		return 0, -1
	}
	name := b[start : i-1]
	if flags&escaped != 0 {
		d.scratch, _ = unescape(d.scratch[:0], name)
		name = d.scratch
	}
	at = o.find(name)
	if at == 0 && flags == 0 && o.spare > 0 && len(name) <= maxLearnedName {
		o.spare--
		previous := o.members[len(o.members)-1].next
		at = o.declare(string(name))
		o.members[at-1].next = previous // declare's guess is for declared names
	}
	return at, d.colon(b, i)
}

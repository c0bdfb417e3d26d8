package rules

import (
	"math"

	celast "cel.dev/cel-go/common/ast"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/table"
)

func doubleOf(bits uint64) float64 { return math.Float64frombits(bits) }

// lookupCost makes what reads tables come after what reads only the event.
const lookupCost = 12

// keyPart appends one field of a key to the frame's scratch; exact is false where
// the value has more decimal places than the key, so that no entry can have it.
type keyPart func(f *frame) (exact bool, st status)

// lookupNode is a lookup as Go functions, nil where a part of its key is none.
func (b builder) lookupNode(l *lookup, call celast.CallExpr) *node {
	n := &node{cost: lookupCost, field: -1, sure: l.way != getColumn}
	var parts []keyPart
	var single func(*frame) ([]byte, status) // the key itself, without a copy
	for i, a := range call.Args()[1:] {
		k := b.build(a)
		if k == nil || k.kind != l.def.Key[i].Type.Kind {
			return nil
		}
		n.cost += k.cost
		n.sure = n.sure && k.sure
		part := newKeyPart(k, l.def.Key[i].Type, len(l.def.Key) == 1)
		if part == nil {
			return nil
		}
		if len(l.def.Key) == 1 {
			single = k.str
		}
		parts = append(parts, part)
	}
	key := func(f *frame) (key []byte, exact bool, st status) {
		if single != nil {
			key, st = single(f)
			return key, true, st
		}
		start := len(f.key)
		exact = true
		for _, p := range parts {
			ok, st := p(f)
			if st != good {
				f.key = f.key[:start]
				return nil, false, st
			}
			exact = exact && ok
		}
		key, f.key = f.key[start:], f.key[:start]
		return key, exact, good
	}
	return n.reads(l, key)
}

func newKeyPart(k *node, t event.Type, single bool) keyPart {
	switch t.Kind {
	case event.String:
		x := k.str
		return func(f *frame) (bool, status) {
			v, st := x(f)
			if st == good {
				f.key = table.AppendKeyBytes(f.key, v, single)
			}
			return true, st
		}
	case event.Int64, event.Decimal:
		x, from, to := k.integer, k.scale, t.Scale
		return func(f *frame) (bool, status) {
			v, st := x(f)
			if st != good {
				return false, st
			}
			exact := true
			if t.Kind == event.Decimal && from != to {
				r, err := event.Rescale(v, int(from), int(to))
				v, exact = r, err == nil
			}
			f.key = table.AppendKeyInt(f.key, v)
			return exact, good
		}
	}
	return nil
}

// reads gives a node the function of what a lookup reads at a key.
func (n *node) reads(l *lookup, key func(*frame) ([]byte, bool, status)) *node {
	t := l.result()
	n.kind, n.scale = t.Kind, t.Scale
	column := func(f *frame) (r table.Row, c int, st status) {
		k, exact, st := key(f)
		if st != good {
			return r, 0, st
		}
		r, c, found := l.read(f, k)
		if !found || !exact {
			return r, 0, noData
		}
		return r, c, good
	}
	switch {
	case l.way == inTable:
		n.boolean = func(f *frame) (bool, status) {
			k, exact, st := key(f)
			if st != good {
				return false, st
			}
			_, found := l.find(f, k)
			return found && exact, good
		}
	case l.way == hasColumn:
		n.boolean = func(f *frame) (bool, status) {
			_, _, st := column(f)
			if st == failed {
				return false, failed
			}
			return st == good, good
		}
	case t.Kind == event.Bool:
		n.boolean = func(f *frame) (bool, status) {
			r, c, st := column(f)
			return st == good && r.Bits(c) != 0, st
		}
	case t.Kind == event.Int64, t.Kind == event.Decimal:
		n.integer = func(f *frame) (int64, status) {
			r, c, st := column(f)
			if st != good {
				return 0, st
			}
			return int64(r.Bits(c)), good
		}
	case t.Kind == event.Double:
		n.double = func(f *frame) (float64, status) {
			r, c, st := column(f)
			if st != good {
				return 0, st
			}
			return doubleOf(r.Bits(c)), good
		}
	case t.Kind == event.String:
		n.str = func(f *frame) ([]byte, status) {
			r, c, st := column(f)
			if st != good {
				return nil, st
			}
			return r.Bytes(c), good
		}
	default:
		return nil
	}
	return n
}

package rules

import (
	"bytes"
	"math"
	"unicode/utf8"

	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"github.com/weirstream/weir/ingest/event"
)

// node is a part of an expression as Go functions over columns. Exactly the
// function of its kind is set. The subset: constants, fields, windows, && || !,
// comparison, arithmetic, conditionals, in over constants, startsWith, endsWith,
// contains, size, double and decimal, lookups in tables and lists. The results and errors are those of cel-go,
// which evaluates the rest.
type node struct {
	kind  event.Kind
	scale uint8 // of decimals
	cost  int   // roughly, in operations

	boolean func(*frame) (bool, status)
	integer func(*frame) (int64, status) // Int64, and Decimal unscaled
	double  func(*frame) (float64, status)
	str     func(*frame) ([]byte, status)

	constant bool
	i        int64 // the constant, by kind
	d        float64
	s        string
	field    int  // a plain field, else -1
	sure     bool // always has a value
}

// build compiles a checked expression, or nil where a part is outside the subset.
type builder struct{ x *expression }

func (e *expression) node() *node { return builder{e}.build(e.ast.Expr()) }

func (b builder) build(e celast.Expr) *node {
	switch e.Kind() {
	case celast.LiteralKind:
		return literalNode(e)
	case celast.IdentKind:
		if v, found := b.x.scope.vars[e.AsIdent()]; found {
			return b.variable(v)
		}
	case celast.SelectKind:
		// The checker resolved alias.field to one name.
		if r, found := b.x.ast.ReferenceMap()[e.ID()]; found {
			if v, found := b.x.scope.vars[r.Name]; found {
				return b.variable(v)
			}
		}
	case celast.CallKind:
		return b.call(e.AsCall())
	}
	return nil
}

func literalNode(e celast.Expr) *node {
	switch v := e.AsLiteral().(type) {
	case types.Bool:
		return &node{kind: event.Bool, constant: true, sure: true, field: -1, boolean: func(*frame) (bool, status) { return bool(v), good }}
	case types.Int:
		return intConstant(int64(v), event.Int64, 0)
	case types.Double:
		return &node{kind: event.Double, constant: true, sure: true, field: -1, d: float64(v), double: func(*frame) (float64, status) { return float64(v), good }}
	case types.String:
		text := []byte(v)
		return &node{kind: event.String, constant: true, sure: true, field: -1, s: string(v), str: func(*frame) ([]byte, status) { return text, good }}
	}
	return nil
}

func intConstant(v int64, kind event.Kind, scale uint8) *node {
	return &node{kind: kind, scale: scale, constant: true, sure: true, field: -1, i: v, integer: func(*frame) (int64, status) { return v, good }}
}

func (b builder) variable(v variable) *node {
	switch i := v.index; v.kind {
	case fieldVar:
		return fieldNode(b.x.scope.schema, i)
	case windowVar:
		return b.windowNode(i)
	case constVar:
		d := b.x.scope.consts[i]
		return intConstant(d.v, event.Decimal, d.scale)
	case pathVar:
		return pathNode(b.x.scope.stream.paths[i])
	case hasPathVar:
		p := b.x.scope.stream.paths[i]
		return &node{kind: event.Bool, cost: 2, sure: true, field: -1, boolean: func(f *frame) (bool, status) { return !p.column(f.b).IsNull(f.row), good }}
	case hasFieldVar:
		return &node{kind: event.Bool, cost: 1, sure: true, field: -1, boolean: func(f *frame) (bool, status) { return !f.b.Cols[i].IsNull(f.row), good }}
	case hasWindowVar:
		return &node{kind: event.Bool, cost: 2, sure: true, field: -1, boolean: func(f *frame) (bool, status) {
			return !f.out.Features[i].IsNull(f.row) || f.out.FaultAt(i, f.row) != nil, good
		}}
	}
	return nil
}

func fieldNode(s *event.Schema, i int) *node {
	n := &node{kind: s.Fields[i].Type.Kind, scale: s.Fields[i].Type.Scale, cost: 1, field: i, sure: !s.Fields[i].Optional}
	switch n.kind {
	case event.Bool:
		n.boolean = func(f *frame) (bool, status) {
			c := &f.b.Cols[i]
			if c.IsNull(f.row) {
				return false, noData
			}
			return c.Bool(f.row), good
		}
	case event.Int64, event.Decimal:
		n.integer = func(f *frame) (int64, status) {
			c := &f.b.Cols[i]
			if c.IsNull(f.row) {
				return 0, noData
			}
			return c.Int64[f.row], good
		}
	case event.Double:
		n.double = func(f *frame) (float64, status) {
			c := &f.b.Cols[i]
			if c.IsNull(f.row) {
				return 0, noData
			}
			return c.Double[f.row], good
		}
	case event.String:
		n.str = func(f *frame) ([]byte, status) {
			c := &f.b.Cols[i]
			if c.IsNull(f.row) {
				return nil, noData
			}
			return c.Bytes(f.row), good
		}
	default:
		return nil
	}
	return n
}

// windowCost makes what reads windows come after what reads only the event.
const windowCost = 20

func (b builder) windowNode(i int) *node {
	return columnNode(b.x.scope.features(i), windowCost,
		func(f *frame) *event.Column { return &f.out.Features[i] }, func(f *frame) status { return f.fault(i) })
}

// columnNode reads a column that is found for each row; absent says what it is that
// a value is missing.
func columnNode(t event.Type, cost int, column func(*frame) *event.Column, absent func(*frame) status) *node {
	n := &node{kind: t.Kind, scale: t.Scale, cost: cost, field: -1}
	switch t.Kind {
	case event.Bool:
		n.boolean = func(f *frame) (bool, status) {
			c := column(f)
			if c.IsNull(f.row) {
				return false, absent(f)
			}
			return c.Bool(f.row), good
		}
	case event.Int64, event.Decimal:
		n.integer = func(f *frame) (int64, status) {
			c := column(f)
			if c.IsNull(f.row) {
				return 0, absent(f)
			}
			return c.Int64[f.row], good
		}
	case event.Double:
		n.double = func(f *frame) (float64, status) {
			c := column(f)
			if c.IsNull(f.row) {
				return 0, absent(f)
			}
			return c.Double[f.row], good
		}
	case event.String:
		n.str = func(f *frame) ([]byte, status) {
			c := column(f)
			if c.IsNull(f.row) {
				return nil, absent(f)
			}
			return c.Bytes(f.row), good
		}
	default:
		return nil
	}
	return n
}

func (b builder) call(call celast.CallExpr) *node {
	var args []*node
	if call.IsMemberFunction() {
		args = append(args, b.build(call.Target()))
	}
	name := call.FunctionName()
	if l := b.x.scope.lookupOf(name); l != nil {
		return b.lookupNode(l, call)
	}
	if name == operators.In {
		return b.in(call)
	}
	for _, a := range call.Args() {
		args = append(args, b.build(a))
	}
	cost := 1
	for _, a := range args {
		if a == nil {
			return nil
		}
		cost += a.cost
	}
	n := apply(name, args)
	if n != nil {
		n.cost, n.field = cost, -1
	}
	return n
}

// The outcomes of a comparison that make an operator true.
const (
	below uint8 = 1 << iota
	equal
	above
)

var comparisons = map[string]uint8{
	operators.Less: below, operators.LessEquals: below | equal, operators.Equals: equal,
	operators.NotEquals: below | above, operators.GreaterEquals: equal | above, operators.Greater: above,
}

func apply(name string, args []*node) *node {
	if mask := comparisons[name]; mask != 0 {
		return compare(args[0], args[1], mask)
	}
	switch name {
	case operators.LogicalAnd:
		return and(args[0], args[1])
	case operators.LogicalOr:
		return or(args[0], args[1])
	case operators.LogicalNot:
		a := args[0].boolean
		return &node{kind: event.Bool, sure: args[0].sure, boolean: func(f *frame) (bool, status) {
			v, st := a(f)
			return !v, st
		}}
	case operators.Conditional:
		return conditional(args[0], args[1], args[2])
	case operators.Add, operators.Subtract, operators.Multiply, operators.Divide, operators.Modulo:
		return arithmetic(name, args[0], args[1])
	case operators.Negate:
		return negate(args[0])
	case "double":
		return toDouble(args[0])
	case "decimal":
		if args[0].kind != event.Int64 {
			return nil
		}
		n := *args[0]
		n.kind = event.Decimal
		return &n
	case "startsWith", "endsWith", "contains":
		return affix(name, args)
	case "size":
		return size(args)
	}
	return nil
}

func and(a, b *node) *node {
	x, y := a.boolean, b.boolean
	return &node{kind: event.Bool, sure: a.sure && b.sure, boolean: func(f *frame) (bool, status) {
		v, st := x(f)
		if st == good && !v {
			return false, good
		}
		err := f.err
		w, su := y(f)
		if su == good && !w {
			return false, good
		}
		if st != good { // the left one's error is told
			f.err = err
			return false, st
		}
		return w, su
	}}
}

func or(a, b *node) *node {
	x, y := a.boolean, b.boolean
	return &node{kind: event.Bool, sure: a.sure && b.sure, boolean: func(f *frame) (bool, status) {
		v, st := x(f)
		if st == good && v {
			return true, good
		}
		err := f.err
		w, su := y(f)
		if su == good && w {
			return true, good
		}
		if st != good {
			f.err = err
			return false, st
		}
		return w, su
	}}
}

// sameScale gives a constant decimal the other operand's scale where that is
// exact, and reports whether both have one scale.
func sameScale(a, b *node) (*node, *node, bool) {
	if a.kind != event.Decimal || b.kind != event.Decimal || a.scale == b.scale {
		return a, b, a.kind == b.kind
	}
	if b.constant {
		if v, err := event.Rescale(b.i, int(b.scale), int(a.scale)); err == nil {
			return a, intConstant(v, event.Decimal, a.scale), true
		}
	}
	if a.constant {
		if v, err := event.Rescale(a.i, int(a.scale), int(b.scale)); err == nil {
			return intConstant(v, event.Decimal, b.scale), b, true
		}
	}
	return a, b, false
}

func compare(a, b *node, mask uint8) *node {
	n := &node{kind: event.Bool, sure: a.sure && b.sure}
	if a.kind != b.kind {
		return nil // an int and a double: cel-go compares them
	}
	switch a.kind {
	case event.Bool:
		n.boolean = compareBools(a.boolean, b.boolean, mask)
	case event.Int64, event.Decimal:
		x, y, same := sameScale(a, b)
		switch {
		case !same:
			n.boolean = compareDecimals(a, b, mask)
		case x.field >= 0 && y.constant:
			n.boolean = compareFieldInt(x.field, y.i, mask)
		default:
			n.boolean = compareInts(x.integer, y.integer, mask)
		}
	case event.Double:
		n.boolean = compareDoubles(a.double, b.double, mask)
	case event.String:
		if a.field >= 0 && b.constant && (mask == equal || mask == below|above) {
			n.boolean = equalsFieldString(a.field, b.s, mask == equal)
		} else {
			n.boolean = compareStrings(a.str, b.str, mask)
		}
	default:
		return nil
	}
	return n
}

// holds tells whether a comparison's outcome (-1, 0, 1) is in mask.
func holds(mask uint8, c int) bool { return mask>>(c+1)&1 != 0 }

func compareBools(a, b func(*frame) (bool, status), mask uint8) func(*frame) (bool, status) {
	number := map[bool]int{true: 1}
	return func(f *frame) (bool, status) {
		x, st := a(f)
		if st != good {
			return false, st
		}
		y, st := b(f)
		if st != good {
			return false, st
		}
		return holds(mask, number[x]-number[y]), good
	}
}

func compareFieldInt(field int, k int64, mask uint8) func(*frame) (bool, status) {
	return func(f *frame) (bool, status) {
		c := &f.b.Cols[field]
		if c.IsNull(f.row) {
			return false, noData
		}
		return holds(mask, compareInt(c.Int64[f.row], k)), good
	}
}

func compareInts(a, b func(*frame) (int64, status), mask uint8) func(*frame) (bool, status) {
	return func(f *frame) (bool, status) {
		x, st := a(f)
		if st != good {
			return false, st
		}
		y, st := b(f)
		if st != good {
			return false, st
		}
		return holds(mask, compareInt(x, y)), good
	}
}

func compareDecimals(a, b *node, mask uint8) func(*frame) (bool, status) {
	ai, bi, as, bs := a.integer, b.integer, a.scale, b.scale
	return func(f *frame) (bool, status) {
		x, st := ai(f)
		if st != good {
			return false, st
		}
		y, st := bi(f)
		if st != good {
			return false, st
		}
		return holds(mask, decimal{x, as}.compare(decimal{y, bs})), good
	}
}

func compareDoubles(a, b func(*frame) (float64, status), mask uint8) func(*frame) (bool, status) {
	return func(f *frame) (bool, status) {
		x, st := a(f)
		if st != good {
			return false, st
		}
		y, st := b(f)
		if st != good {
			return false, st
		}
		switch {
		case x < y:
			return holds(mask, -1), good
		case x > y:
			return holds(mask, 1), good
		case x == y:
			return holds(mask, 0), good
		}
		return mask == below|above, good // NaN is only ever unequal
	}
}

func equalsFieldString(field int, s string, want bool) func(*frame) (bool, status) {
	return func(f *frame) (bool, status) {
		c := &f.b.Cols[field]
		if c.IsNull(f.row) {
			return false, noData
		}
		return (string(c.Bytes(f.row)) == s) == want, good
	}
}

func compareStrings(a, b func(*frame) ([]byte, status), mask uint8) func(*frame) (bool, status) {
	return func(f *frame) (bool, status) {
		x, st := a(f)
		if st != good {
			return false, st
		}
		y, st := b(f)
		if st != good {
			return false, st
		}
		return holds(mask, bytes.Compare(x, y)), good
	}
}

func conditional(cond, a, b *node) *node {
	if a.kind != b.kind || a.kind == event.Decimal && a.scale != b.scale {
		return nil // in cel-go the result has the scale of the side that was chosen
	}
	n := &node{kind: a.kind, scale: a.scale, sure: cond.sure && a.sure && b.sure}
	choose := cond.boolean
	switch a.kind {
	case event.Bool:
		n.boolean = choice(choose, a.boolean, b.boolean)
	case event.Int64, event.Decimal:
		n.integer = choice(choose, a.integer, b.integer)
	case event.Double:
		n.double = choice(choose, a.double, b.double)
	case event.String:
		n.str = choice(choose, a.str, b.str)
	default:
		return nil
	}
	return n
}

func choice[T any](cond func(*frame) (bool, status), a, b func(*frame) (T, status)) func(*frame) (T, status) {
	return func(f *frame) (T, status) {
		v, st := cond(f)
		if st != good {
			var zero T
			return zero, st
		}
		if v {
			return a(f)
		}
		return b(f)
	}
}

func arithmetic(name string, a, b *node) *node {
	switch {
	case a.kind == event.Double && b.kind == event.Double:
		return doubleArithmetic(name, a, b)
	case a.kind == event.Int64 && b.kind == event.Int64:
		return intArithmetic(name, a, b)
	case a.kind == event.Decimal && b.kind == event.Decimal:
		return decimalArithmetic(name, a, b)
	}
	return nil
}

func doubleArithmetic(name string, a, b *node) *node {
	x, y := a.double, b.double
	var op func(x, y float64) float64
	switch name {
	case operators.Add:
		op = func(x, y float64) float64 { return x + y }
	case operators.Subtract:
		op = func(x, y float64) float64 { return x - y }
	case operators.Multiply:
		op = func(x, y float64) float64 { return x * y }
	case operators.Divide:
		op = func(x, y float64) float64 { return x / y }
	default:
		return nil
	}
	return &node{kind: event.Double, sure: a.sure && b.sure, double: func(f *frame) (float64, status) {
		v, st := x(f)
		if st != good {
			return 0, st
		}
		w, st := y(f)
		if st != good {
			return 0, st
		}
		return op(v, w), good
	}}
}

func intArithmetic(name string, a, b *node) *node {
	x, y := a.integer, b.integer
	var op func(x, y int64) (int64, error)
	switch name {
	case operators.Divide:
		op = func(x, y int64) (int64, error) { return divide(x, y, errDivision) }
	case operators.Modulo:
		op = func(x, y int64) (int64, error) {
			q, err := divide(x, y, errModulus)
			return x - q*y, err
		}
	default:
		checked := checkedOp(name)
		op = func(x, y int64) (int64, error) {
			v, fits := checked(x, y)
			if !fits {
				return 0, errIntOverflow
			}
			return v, nil
		}
	}
	return &node{kind: event.Int64, integer: func(f *frame) (int64, status) {
		v, st := x(f)
		if st != good {
			return 0, st
		}
		w, st := y(f)
		if st != good {
			return 0, st
		}
		r, err := op(v, w)
		if err != nil {
			return 0, f.fail(err)
		}
		return r, good
	}}
}

func divide(x, y int64, zero error) (int64, error) {
	switch {
	case y == 0:
		return 0, zero
	case x == math.MinInt64 && y == -1:
		return 0, errIntOverflow
	}
	return x / y, nil
}

func checkedOp(name string) func(x, y int64) (int64, bool) {
	switch name {
	case operators.Add:
		return addInt
	case operators.Subtract:
		return subInt
	}
	return mulInt
}

func decimalArithmetic(name string, a, b *node) *node {
	x, y := a.integer, b.integer
	var op func(x, y decimal) (decimal, bool)
	scale := max(a.scale, b.scale)
	switch name {
	case operators.Add:
		op = decimal.add
	case operators.Subtract:
		op = decimal.sub
	case operators.Multiply:
		op, scale = decimal.mul, a.scale+b.scale
	default:
		return nil
	}
	as, bs := a.scale, b.scale
	return &node{kind: event.Decimal, scale: scale, integer: func(f *frame) (int64, status) {
		v, st := x(f)
		if st != good {
			return 0, st
		}
		w, st := y(f)
		if st != good {
			return 0, st
		}
		r, fits := op(decimal{v, as}, decimal{w, bs})
		if !fits {
			return 0, f.fail(errDecimal)
		}
		return r.v, good
	}}
}

func negate(a *node) *node {
	switch a.kind {
	case event.Double:
		x := a.double
		return &node{kind: event.Double, sure: a.sure, double: func(f *frame) (float64, status) {
			v, st := x(f)
			return -v, st
		}}
	case event.Int64, event.Decimal:
		x, err := a.integer, errIntOverflow
		if a.kind == event.Decimal {
			err = errDecimal
		}
		return &node{kind: a.kind, scale: a.scale, integer: func(f *frame) (int64, status) {
			v, st := x(f)
			if st == good && v == math.MinInt64 {
				return 0, f.fail(err)
			}
			return -v, st
		}}
	}
	return nil
}

func toDouble(a *node) *node {
	switch a.kind {
	case event.Double:
		n := *a
		return &n
	case event.Int64, event.Decimal:
		x, scale := a.integer, int(a.scale)
		return &node{kind: event.Double, sure: a.sure, double: func(f *frame) (float64, status) {
			v, st := x(f)
			return event.DecimalDouble(v, scale), st
		}}
	}
	return nil
}

func affix(name string, args []*node) *node {
	if len(args) != 2 || args[0].kind != event.String || args[1].kind != event.String {
		return nil
	}
	test := map[string]func(s, t []byte) bool{"startsWith": bytes.HasPrefix, "endsWith": bytes.HasSuffix, "contains": bytes.Contains}[name]
	x, y := args[0].str, args[1].str
	return &node{kind: event.Bool, sure: args[0].sure && args[1].sure, boolean: func(f *frame) (bool, status) {
		s, st := x(f)
		if st != good {
			return false, st
		}
		t, st := y(f)
		if st != good {
			return false, st
		}
		return test(s, t), good
	}}
}

func size(args []*node) *node {
	if len(args) != 1 || args[0].kind != event.String {
		return nil
	}
	x := args[0].str
	return &node{kind: event.Int64, sure: args[0].sure, integer: func(f *frame) (int64, status) {
		s, st := x(f)
		return int64(utf8.RuneCount(s)), st
	}}
}

// in is membership in a list of constants.
func (b builder) in(call celast.CallExpr) *node {
	of, list := b.build(call.Args()[0]), call.Args()[1]
	if of == nil || list.Kind() != celast.ListKind || len(list.AsList().OptionalIndices()) > 0 {
		return nil
	}
	n := &node{kind: event.Bool, sure: of.sure, cost: of.cost + 3, field: -1}
	if list.AsList().Size() == 0 { // false without looking, as cel-go optimises it
		n.sure, n.boolean = true, func(*frame) (bool, status) { return false, good }
		return n
	}
	ints, strs := map[int64]struct{}{}, map[string]struct{}{}
	for _, el := range list.AsList().Elements() {
		c := b.build(el)
		if c == nil || !c.constant || c.kind != of.kind {
			return nil
		}
		switch c.kind {
		case event.String:
			strs[c.s] = struct{}{}
		case event.Int64:
			ints[c.i] = struct{}{}
		case event.Decimal:
			// A member with more places than the field has equals no value of it.
			if v, err := event.Rescale(c.i, int(c.scale), int(of.scale)); err == nil {
				ints[v] = struct{}{}
			}
		default:
			return nil
		}
	}
	switch of.kind {
	case event.String:
		x := of.str
		n.boolean = func(f *frame) (bool, status) {
			v, st := x(f)
			_, found := strs[string(v)]
			return found && st == good, st
		}
	case event.Int64, event.Decimal:
		x := of.integer
		n.boolean = func(f *frame) (bool, status) {
			v, st := x(f)
			_, found := ints[v]
			return found && st == good, st
		}
	default:
		return nil
	}
	return n
}

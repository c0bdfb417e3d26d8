package rules

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/table"
)

// lookup is one way in which an expression reads a table or list. In the checked
// expression it is a call of a function of its own, whose first argument is the
// row's frame and whose others are the key:
//
//	x in list("L"), x in table("T")    @in3(@tables, x)
//	lookup("T", k...).column           @get3(@tables, k...)
//	has(lookup("T", k...).column)      @has3(@tables, k...)
type lookup struct {
	way    lookupWay
	slot   int // of the table, in the stream's program
	def    *table.Definition
	column int // of get and has
}

type lookupWay string

const (
	inTable   lookupWay = "@in"
	getColumn lookupWay = "@get"
	hasColumn lookupWay = "@has"
)

const (
	tablesName = "@tables"
	lookupName = "lookup"
)

var tablesType = cel.ObjectType("weir.tables")

// result is the type of what a lookup gives.
func (l *lookup) result() event.Type {
	if l.way == getColumn {
		return l.def.Columns[l.column].Type
	}
	return event.Type{Kind: event.Bool}
}

// lookupOf is the lookup that a function of a checked expression is.
func (s *scope) lookupOf(function string) *lookup {
	for _, way := range []lookupWay{inTable, getColumn, hasColumn} {
		if digits, found := strings.CutPrefix(function, string(way)); found {
			if i, err := strconv.Atoi(digits); err == nil && i < len(s.lookups) {
				return s.lookups[i]
			}
		}
	}
	return nil
}

// lookup is the function for a lookup, declared where it is new.
func (x *rewriter) lookup(l lookup) string {
	i := slices.IndexFunc(x.scope.lookups, func(o *lookup) bool { return *o == l })
	if i >= 0 {
		return string(l.way) + strconv.Itoa(i)
	}
	name := string(l.way) + strconv.Itoa(len(x.scope.lookups))
	x.scope.lookups = append(x.scope.lookups, &l)
	x.scope.declare(tablesName, variable{kind: tablesVar}, tablesType)
	args := []*cel.Type{tablesType}
	for _, f := range l.def.Key {
		args = append(args, celType(f.Type))
	}
	opts := []cel.OverloadOpt{cel.FunctionBinding(l.eval)}
	if l.way == hasColumn {
		opts = append(opts, cel.OverloadIsNonStrict())
	}
	x.scope.decls = append(x.scope.decls, cel.Function(name, cel.Overload(name+"_overload", args, celType(l.result()), opts...)))
	return name
}

// tableSlot is the index of a table among those that the stream's rules read.
func (s *streamBuilder) tableSlot(d *table.Definition) int {
	i := slices.Index(s.tables, d)
	if i < 0 {
		i = len(s.tables)
		s.tables = append(s.tables, d)
	}
	return i
}

// tableNamed finds the table or list that a call list("L"), table("T") or
// lookup("T", ...) names; nil after it was reported.
func (x *rewriter) tableNamed(e celast.Expr) *table.Definition {
	call := e.AsCall()
	function := call.FunctionName()
	var name types.String
	if len(call.Args()) > 0 && call.Args()[0].Kind() == celast.LiteralKind {
		name, _ = call.Args()[0].AsLiteral().(types.String)
	}
	if name == "" {
		x.problem(e, fmt.Sprintf(`expected a name in quotes, as %s("NAME")`, function), "")
		return nil
	}
	kind := map[bool]string{true: "list", false: "table"}
	wantList := function == "list"
	var names []string
	for _, d := range x.c.catalog.Tables {
		switch {
		case d.Name == string(name) && d.List == wantList:
			return d
		case d.Name == string(name):
			hint := fmt.Sprintf(`write x in list(%q)`, d.Name)
			if wantList {
				hint = fmt.Sprintf(`write x in table(%q), or lookup(%[1]q, KEY).COLUMN`, d.Name)
			}
			x.problem(call.Args()[0], fmt.Sprintf("%q is a %s, not a %s", d.Name, kind[d.List], kind[wantList]), hint)
			return nil
		case d.List == wantList:
			names = append(names, d.Name)
		}
	}
	hint := schema.Suggest(string(name), names)
	switch {
	case hint == "" && len(names) > 0:
		hint = "there are " + strings.Join(names[:min(len(names), 12)], ", ")
	case hint == "":
		hint = fmt.Sprintf("declare it in weir.yaml, under %ss", kind[wantList])
	}
	x.problem(call.Args()[0], fmt.Sprintf("there is no %s %q", kind[wantList], string(name)), hint)
	return nil
}

// isTable tells that e is list(...) or table(...).
func isTable(e celast.Expr) bool {
	if e.Kind() != celast.CallKind || e.AsCall().IsMemberFunction() {
		return false
	}
	name := e.AsCall().FunctionName()
	return name == "list" || name == "table"
}

// isLookup tells that e is lookup(...).
func isLookup(e celast.Expr) bool {
	return e.Kind() == celast.CallKind && !e.AsCall().IsMemberFunction() && e.AsCall().FunctionName() == lookupName
}

// membership rewrites x in list("L").
func (x *rewriter) membership(e celast.Expr) typ {
	text := x.unparse(e)
	of, in := e.AsCall().Args()[0], e.AsCall().Args()[1]
	t := x.walk(of)
	d := x.tableNamed(in)
	switch {
	case d == nil:
		return unknown
	case len(in.AsCall().Args()) > 1:
		x.problem(in, fmt.Sprintf("%s takes one name", in.AsCall().FunctionName()), "")
		return unknown
	case len(d.Key) > 1:
		x.problem(in, fmt.Sprintf("table %s has a key of %d fields", d.Name, len(d.Key)), fmt.Sprintf(`ask has(lookup(%q, %s).COLUMN)`, d.Name, keyNames(d)))
		return unknown
	}
	x.coerceKey(of, t, d.Key[0].Type)
	x.callLookup(e, lookup{way: inTable, slot: x.c.stream.tableSlot(d), def: d}, []celast.Expr{of}, text)
	return typ{kind: event.Bool}
}

func keyNames(d *table.Definition) string {
	names := make([]string, len(d.Key))
	for i, f := range d.Key {
		names[i] = f.Name
	}
	return strings.Join(names, ", ")
}

func keyTypes(d *table.Definition) string {
	types := make([]string, len(d.Key))
	for i, f := range d.Key {
		types[i] = f.Type.String()
	}
	return strings.Join(types, ", ")
}

// callLookup makes e the call of a lookup; text is how a person wrote it, empty
// where it is not to be told.
func (x *rewriter) callLookup(e celast.Expr, l lookup, keys []celast.Expr, text string) {
	name := x.lookup(l)
	args := append([]celast.Expr{x.factory.NewIdent(x.newID(e), tablesName)}, keys...)
	e.SetKindCase(x.factory.NewCall(e.ID(), name, args...))
	x.info.ClearMacroCall(e.ID())
	if text == "" || x.inWindow {
		return
	}
	if x.scope.texts == nil {
		x.scope.texts = map[int64]string{}
	}
	x.scope.texts[e.ID()] = text
}

// coerceKey makes a number of a key's expression one of the key's type.
func (x *rewriter) coerceKey(e celast.Expr, t typ, want event.Type) {
	if want.Kind != event.Decimal {
		return
	}
	switch {
	case t.literal && numeric(t):
		x.toDecimal(e, want.Scale)
	case t.kind == event.Int64:
		x.wrap(e, "decimal")
	}
}

// lookupColumn rewrites lookup("T", KEY...).column and has of it.
func (x *rewriter) lookupColumn(e celast.Expr) typ {
	text := x.unparse(e)
	sel := e.AsSelect()
	d, column, keys := x.lookupParts(e)
	if d == nil {
		return unknown
	}
	l := lookup{way: getColumn, slot: x.c.stream.tableSlot(d), def: d, column: column}
	if sel.IsTestOnly() {
		l.way = hasColumn
	}
	x.callLookup(e, l, keys, text)
	t := l.result()
	return typ{kind: t.Kind, scale: t.Scale}
}

// lookupParts are the table, column and walked keys of a selection on a lookup.
func (x *rewriter) lookupParts(e celast.Expr) (d *table.Definition, column int, keys []celast.Expr) {
	sel := e.AsSelect()
	operand := sel.Operand()
	if d = x.tableNamed(operand); d == nil {
		return nil, 0, nil
	}
	if column = d.Column(sel.FieldName()); column < 0 {
		var names []string
		for _, f := range d.Columns {
			names = append(names, f.Name)
		}
		hint := schema.Suggest(sel.FieldName(), names)
		if hint == "" && len(names) > 0 {
			hint = "it has " + strings.Join(names, ", ")
		}
		x.problem(e, fmt.Sprintf("table %s has no column %q", d.Name, sel.FieldName()), hint)
		return nil, 0, nil
	}
	keys = operand.AsCall().Args()[1:]
	if len(keys) != len(d.Key) {
		x.problem(operand, fmt.Sprintf("table %s has a key of %d fields, found %d", d.Name, len(d.Key), len(keys)), fmt.Sprintf("write lookup(%q, %s)", d.Name, keyNames(d)))
		return nil, 0, nil
	}
	for i, k := range keys {
		x.coerceKey(k, x.walk(k), d.Key[i].Type)
	}
	return d, column, keys
}

// lookupOr rewrites lookup(...).column.orValue(D) to has ? get : D, and
// .hasValue() to has.
func (x *rewriter) lookupOr(e, target celast.Expr) typ {
	text := x.unparse(target)
	d, column, keys := x.lookupParts(target)
	if d == nil {
		return unknown
	}
	l := lookup{way: hasColumn, slot: x.c.stream.tableSlot(d), def: d, column: column}
	name, args := e.AsCall().FunctionName(), e.AsCall().Args()
	if name == "hasValue" {
		x.callLookup(e, l, keys, text)
		return typ{kind: event.Bool}
	}
	has := x.factory.NewUnspecifiedExpr(x.newID(e))
	copies := make([]celast.Expr, len(keys))
	for i, k := range keys {
		copies[i] = x.copyOf(k)
	}
	x.callLookup(has, l, copies, "")
	l.way = getColumn
	x.callLookup(target, l, keys, text)
	e.SetKindCase(x.factory.NewCall(e.ID(), "_?_:_", has, target, args[0]))
	t := l.result()
	return x.branches(target, args[0], typ{kind: t.Kind, scale: t.Scale}, x.walk(args[0]))
}

// copyOf is a copy of an expression under ids of its own.
func (x *rewriter) copyOf(e celast.Expr) celast.Expr {
	c := x.factory.CopyExpr(e)
	c.RenumberIDs(func(id int64) int64 {
		n := x.nextID
		x.nextID++
		if r, ok := x.info.GetOffsetRange(id); ok {
			x.info.SetOffsetRange(n, r)
		}
		return n
	})
	return c
}

// lookupMentions are the lookups that an expression reads, outside of
// comprehensions, for the values of a decision.
func (c *compiler) lookupMentions(x *expression) error {
	var err error
	seen := func(name string) bool {
		return slices.ContainsFunc(*c.mentions, func(m mention) bool { return m.name == name })
	}
	var walk func(e celast.Expr)
	walk = func(e celast.Expr) {
		if e.Kind() != celast.CallKind {
			return
		}
		if e.AsCall().IsMemberFunction() {
			walk(e.AsCall().Target())
		}
		for _, a := range e.AsCall().Args() {
			walk(a)
		}
		l, text := x.scope.lookupOf(e.AsCall().FunctionName()), x.scope.texts[e.ID()]
		if l == nil || text == "" || seen(text) {
			return
		}
		part := x.part(e)
		m := mention{name: text, v: variable{kind: tablesVar}, typ: l.result(), node: part.node()}
		if m.node == nil {
			var failed error
			if m.cel, failed = newCEL(part); failed != nil && err == nil {
				err = failed
			}
		}
		*c.mentions = append(*c.mentions, m)
	}
	walk(x.ast.Expr())
	return err
}

// part is a part of a checked expression as one of its own.
func (x *expression) part(e celast.Expr) *expression {
	return &expression{env: x.env, scope: x.scope, text: x.text,
		ast: celast.NewCheckedAST(celast.NewAST(e, x.ast.SourceInfo()), x.ast.TypeMap(), x.ast.ReferenceMap())}
}

// value is what a mentioned lookup gives at the frame's row, as JSON.
func (m *mention) value(f *frame) string {
	if m.node == nil {
		v, st := m.cel.eval(f)
		if st != good {
			return "null"
		}
		return string(table.AppendJSON(nil, m.typ, valueOf(v)))
	}
	var v table.Value
	var st status
	switch {
	case m.node.boolean != nil:
		var b bool
		if b, st = m.node.boolean(f); b {
			v.Bits = 1
		}
	case m.node.integer != nil:
		var i int64
		i, st = m.node.integer(f)
		v.Bits = uint64(i)
	case m.node.double != nil:
		var d float64
		d, st = m.node.double(f)
		v.Bits = valueBits(types.Double(d))
	default:
		v.Bytes, st = m.node.str(f)
	}
	if st != good {
		return "null"
	}
	return string(table.AppendJSON(nil, m.typ, v))
}

// tableRef is a table in force, as the program reads it.
type tableRef struct {
	table   *table.Table // nil: empty, or with another key than the program knows
	columns []int        // of the program's columns, -1 where the table has none such
}

// useTables finds the program's tables in a View.
func (p *streamProgram) useTables(v *table.View) []tableRef {
	refs := make([]tableRef, len(p.tables))
	for i, d := range p.tables {
		t := v.Table(d.Name)
		if t == nil || t.Definition().List != d.List || !slices.EqualFunc(t.Definition().Key, d.Key, func(a, b event.Field) bool { return a.Type.Equal(b.Type) }) {
			continue
		}
		refs[i] = tableRef{table: t, columns: make([]int, len(d.Columns))}
		for j, c := range d.Columns {
			at := t.Definition().Column(c.Name)
			if at >= 0 && !t.Definition().Columns[at].Type.Equal(c.Type) {
				at = -1
			}
			refs[i].columns[j] = at
		}
	}
	return refs
}

// find is the entry of a key for the frame's event.
func (l *lookup) find(f *frame, key []byte) (table.Row, bool) {
	if l.slot >= len(f.tables) {
		return table.Row{}, false // none was ever made
	}
	return f.tables[l.slot].table.Find(key, f.b.Time[f.row])
}

// read is the entry of a key and the place of the lookup's column in it; not found
// where it has no value there.
func (l *lookup) read(f *frame, key []byte) (r table.Row, column int, found bool) {
	if r, found = l.find(f, key); !found {
		return r, 0, false
	}
	column = f.tables[l.slot].columns[l.column]
	return r, column, column >= 0 && !r.IsNull(column)
}

// tablesValue hands the frame to the functions of lookups inside cel-go.
type tablesValue struct{ f *frame }

var errOpaque = errors.New("the tables are no value")

// ConvertToNative implements ref.Val.
func (tablesValue) ConvertToNative(reflect.Type) (any, error) { return nil, errOpaque }

// ConvertToType implements ref.Val.
func (tablesValue) ConvertToType(ref.Type) ref.Val { return types.WrapErr(errOpaque) }

// Equal implements ref.Val.
func (tablesValue) Equal(ref.Val) ref.Val { return types.False }

// Type implements ref.Val.
func (tablesValue) Type() ref.Type { return tablesType }

// Value implements ref.Val.
func (v tablesValue) Value() any { return v.f }

// eval is the lookup inside cel-go: the slow twin of closures.
func (l *lookup) eval(args ...ref.Val) ref.Val {
	f := args[0].(tablesValue).f
	key := make([]table.Value, len(l.def.Key))
	exact := true
	for i, a := range args[1:] {
		if err, failed := a.(*types.Err); failed {
			if errors.Is(err, errNoData) { // only has comes here
				return types.False
			}
			return a
		}
		key[i] = valueOf(a)
		if d, is := a.(decimal); is {
			v, err := event.Rescale(d.v, int(d.scale), int(l.def.Key[i].Type.Scale))
			key[i].Bits, exact = uint64(v), exact && err == nil
		}
	}
	bytes := table.AppendKey(nil, l.def.Key, key)
	if l.way == inTable {
		_, found := l.find(f, bytes)
		return types.Bool(found && exact)
	}
	r, column, found := l.read(f, bytes)
	found = found && exact
	switch {
	case l.way == hasColumn:
		return types.Bool(found)
	case !found:
		return types.WrapErr(errNoData)
	}
	return boxValue(l.result(), r, column)
}

// valueOf is a CEL value as one of a table.
func valueOf(v any) table.Value {
	switch v := v.(type) {
	case types.String:
		return table.Value{Bytes: []byte(v)}
	case types.Bytes:
		return table.Value{Bytes: v}
	}
	return table.Value{Bits: valueBits(v)}
}

func boxValue(t event.Type, r table.Row, column int) ref.Val {
	switch t.Kind {
	case event.Bool:
		return types.Bool(r.Bits(column) != 0)
	case event.Int64:
		return types.Int(r.Bits(column))
	case event.Double:
		return types.Double(doubleOf(r.Bits(column)))
	case event.Decimal:
		return decimal{int64(r.Bits(column)), t.Scale}
	case event.String:
		return types.String(r.Bytes(column))
	case event.Timestamp:
		return types.Timestamp{Time: event.Time(r.Bits(column)).Time()}
	}
	return types.Bytes(slices.Clone(r.Bytes(column)))
}

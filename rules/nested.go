package rules

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
)

// fieldPath is a member of a struct field: the field, then the members that lead to
// it.
type fieldPath struct {
	name    string // alias.field.member
	field   int
	members []int
	typ     event.Type
}

// column is the member's column. Where a struct on the way is absent, so is the
// member.
func (p *fieldPath) column(b *event.Batch) *event.Column {
	c := &b.Cols[p.field]
	for _, i := range p.members {
		c = &c.Children[i]
	}
	return c
}

// path resolves alias.FIELD.MEMBER, as far as structs lead. ok tells that e is such
// a selection; its variable is declared. A member that does not exist is reported.
func (x *rewriter) path(e celast.Expr) (v variable, t event.Type, ok bool) {
	var parts []string
	at := e
	for at.Kind() == celast.SelectKind {
		parts = append(parts, at.AsSelect().FieldName())
		at = at.AsSelect().Operand()
	}
	s := x.scope.schema
	if at.Kind() != celast.IdentKind || at.AsIdent() != s.Alias || len(parts) < 2 || slices.Contains(x.bound, s.Alias) {
		return variable{}, t, false
	}
	slices.Reverse(parts)
	p := fieldPath{name: s.Alias + "." + strings.Join(parts, "."), field: s.Index(parts[0])}
	if p.field < 0 || s.Index(strings.Join(parts, ".")) >= 0 {
		return variable{}, t, false
	}
	t = s.Fields[p.field].Type
	for _, part := range parts[1:] {
		if t.Kind != event.Struct {
			return variable{}, t, false // through a list or map, or nothing that has members
		}
		i := t.Member(part)
		if i < 0 {
			return variable{}, t, false // reported by whoever selects it
		}
		p.members = append(p.members, i)
		t = t.Fields[i].Type
	}
	p.typ = t
	x.c.stream.need(p.field)
	return variable{pathVar, x.c.stream.path(p)}, t, true
}

// path is the index of a path, equal ones being one.
func (s *streamBuilder) path(p fieldPath) int {
	i := slices.IndexFunc(s.paths, func(o *fieldPath) bool { return o.name == p.name })
	if i < 0 {
		i = len(s.paths)
		s.paths = append(s.paths, &p)
	}
	return i
}

// member is the type of a selection from a nested value; a member that the struct
// does not have is reported.
func (x *rewriter) member(e celast.Expr, of typ) typ {
	name := e.AsSelect().FieldName()
	if of.nested == nil {
		return unknown
	}
	t := *of.nested
	switch {
	case t.Kind == event.Map:
		t = t.Elem().Type
	case t.Kind == event.List:
		x.problem(e, fmt.Sprintf("a list has no member %q", name), "take an element, as [0], or ask all of them, as .exists(i, ...)")
		return unknown
	case t.Member(name) < 0:
		names := make([]string, len(t.Fields))
		for i := range t.Fields {
			names[i] = t.Fields[i].Name
		}
		hint := schema.Suggest(name, names)
		if hint == "" {
			hint = "it has " + strings.Join(names, ", ")
		}
		x.problem(e, fmt.Sprintf("the struct has no member %q", name), hint)
		return unknown
	default:
		t = t.Fields[t.Member(name)].Type
	}
	if e.AsSelect().IsTestOnly() {
		return typ{kind: event.Bool}
	}
	return typeOf(t)
}

// typeOf is what the rewriter knows of a declared type.
func typeOf(t event.Type) typ {
	out := typ{kind: t.Kind, scale: t.Scale}
	if t.IsNested() {
		out.nested = &t
	}
	return out
}

// elem is the type of an element of a list or of a map's value.
func (t typ) elem() typ {
	if t.nested == nil || t.nested.Kind == event.Struct {
		return unknown
	}
	return typeOf(t.nested.Elem().Type)
}

// structName is a struct's name among CEL's types: its own text, for messages.
func structName(t event.Type) string { return t.String() }

// provider knows the structs of a stream beside the types that cel-go knows.
type provider struct {
	types.Provider
	structs map[string]event.Type
}

// structTypes adds the structs of a schema to an environment.
func structTypes(s *event.Schema) cel.EnvOption {
	p := &provider{structs: map[string]event.Type{}}
	for _, f := range s.Fields {
		p.add(f.Type)
	}
	return func(e *cel.Env) (*cel.Env, error) {
		if len(p.structs) == 0 {
			return e, nil
		}
		p.Provider = e.CELTypeProvider()
		return cel.CustomTypeProvider(p)(e)
	}
}

func (p *provider) add(t event.Type) {
	if t.Kind == event.Struct {
		p.structs[structName(t)] = t
	}
	for _, f := range t.Fields {
		p.add(f.Type)
	}
}

// FindStructType implements types.Provider.
func (p *provider) FindStructType(name string) (*types.Type, bool) {
	if _, ok := p.structs[name]; ok {
		return types.NewTypeTypeWithParam(types.NewObjectType(name)), true
	}
	return p.Provider.FindStructType(name)
}

// FindStructFieldNames implements types.Provider.
func (p *provider) FindStructFieldNames(name string) ([]string, bool) {
	t, ok := p.structs[name]
	if !ok {
		return p.Provider.FindStructFieldNames(name)
	}
	var names []string
	for _, f := range t.Fields {
		names = append(names, f.Name)
	}
	return names, true
}

// FindStructFieldType implements types.Provider.
func (p *provider) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	t, ok := p.structs[name]
	if !ok {
		return p.Provider.FindStructFieldType(name, field)
	}
	i := t.Member(field)
	if i < 0 {
		return nil, false
	}
	return &types.FieldType{
		Type: celType(t.Fields[i].Type),
		IsSet: func(target any) bool {
			s, ok := target.(structValue)
			return ok && !s.c.Children[i].IsNull(s.row)
		},
		GetFrom: func(target any) (any, error) {
			s, ok := target.(structValue)
			if !ok {
				return nil, fmt.Errorf("a %T is no struct", target)
			}
			return s.member(i)
		},
	}, true
}

// structValue is a struct of a column's row.
type structValue struct {
	c   *event.Column
	row int
}

func (s structValue) member(i int) (any, error) {
	if s.c.Children[i].IsNull(s.row) {
		return nil, errNoData
	}
	return box(&s.c.Children[i], s.row), nil
}

// ConvertToNative implements ref.Val.
func (s structValue) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("a struct is no %v", t)
}

// ConvertToType implements ref.Val.
func (s structValue) ConvertToType(t ref.Type) ref.Val {
	if t == types.TypeType {
		return types.NewObjectType(s.Type().TypeName())
	}
	return types.NewErr("a struct does not convert to %s", t.TypeName())
}

// Equal implements ref.Val: equal members are equal or absent in both.
func (s structValue) Equal(other ref.Val) ref.Val {
	o, ok := other.(structValue)
	if !ok || len(o.c.Children) != len(s.c.Children) {
		return types.False
	}
	for i := range s.c.Children {
		a, b := &s.c.Children[i], &o.c.Children[i]
		if a.IsNull(s.row) != b.IsNull(o.row) || !a.IsNull(s.row) && box(a, s.row).Equal(box(b, o.row)) != types.True {
			return types.False
		}
	}
	return types.True
}

// Type implements ref.Val.
func (s structValue) Type() ref.Type { return types.NewObjectType(structName(s.c.Type)) }

// Value implements ref.Val.
func (s structValue) Value() any { return s }

// Get implements traits.Indexer, for selections that are not resolved by type.
func (s structValue) Get(index ref.Val) ref.Val {
	name, _ := index.(types.String)
	i := s.c.Type.Member(string(name))
	if i < 0 {
		return types.NewErr("no such member: %v", index)
	}
	if s.c.Children[i].IsNull(s.row) {
		return types.WrapErr(errNoData)
	}
	return box(&s.c.Children[i], s.row)
}

// IsSet implements traits.FieldTester.
func (s structValue) IsSet(field ref.Val) ref.Val {
	name, _ := field.(types.String)
	i := s.c.Type.Member(string(name))
	return types.Bool(i >= 0 && !s.c.Children[i].IsNull(s.row))
}

// listValue is a list; an element that is absent has no value and equals nothing.
type listValue struct{ traits.Lister }

// Contains implements traits.Container.
func (l listValue) Contains(v ref.Val) ref.Val {
	for it := l.Iterator(); it.HasNext() == types.True; {
		if el := it.Next(); !types.IsError(el) && types.Equal(el, v) == types.True {
			return types.True
		}
	}
	return types.False
}

// boxNested makes CEL's value of a list, map or struct. It allocates: such rules are
// for streams where that is worth it.
func boxNested(c *event.Column, row int) ref.Val {
	if c.Type.Kind == event.Struct {
		return structValue{c, row}
	}
	from, to := c.Span(row)
	values := c.Children[len(c.Children)-1]
	at := func(k int) ref.Val {
		if values.IsNull(k) {
			return types.WrapErr(errNoData)
		}
		return box(&values, k)
	}
	if c.Type.Kind == event.List {
		list := make([]ref.Val, 0, to-from)
		for k := from; k < to; k++ {
			list = append(list, at(k))
		}
		return listValue{types.NewRefValList(types.DefaultTypeAdapter, list)}
	}
	m := make(map[ref.Val]ref.Val, to-from)
	for k := from; k < to; k++ {
		m[types.String(c.Children[0].Bytes(k))] = at(k)
	}
	return types.NewRefValMap(types.DefaultTypeAdapter, m)
}

// containsOption is LIST.contains(ELEMENT).
func containsOption() cel.EnvOption {
	t := cel.TypeParamType("T")
	return cel.Function("contains", cel.MemberOverload("list_contains", []*cel.Type{cel.ListType(t), t}, cel.BoolType,
		cel.BinaryBinding(func(list, el ref.Val) ref.Val {
			c, ok := list.(traits.Container)
			if !ok {
				return types.MaybeNoSuchOverloadErr(list)
			}
			return c.Contains(el)
		})))
}

// isNoData reports whether an error of cel-go means that something read has no
// value: beside what is absent, a key that a map does not have and an element behind
// the end of a list.
func isNoData(err error) bool {
	return errors.Is(err, errNoData) || strings.HasPrefix(err.Error(), "no such key: ") || strings.HasPrefix(err.Error(), "index out of bounds: ")
}

// pathNode reads a member of a struct.
func pathNode(p *fieldPath) *node {
	return columnNode(p.typ, 2, func(f *frame) *event.Column { return p.column(f.b) }, func(*frame) status { return noData })
}

package event

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Type is a kind and what belongs to it: the decimal places of a Decimal, the
// element of a List, the value of a Map (its keys are strings), the members of a
// Struct.
type Type struct {
	Kind   Kind
	Scale  uint8   // of Decimal
	Fields []Field // of Struct its members; of List and Map one without a name
}

// Limits of nested types.
const (
	MaxNesting = 4   // lists, maps and structs within one another
	MaxMembers = 256 // of one struct
)

// ListOf is the type of lists of e.
func ListOf(e Type) Type { return Type{Kind: List, Fields: []Field{{Type: e}}} }

// MapOf is the type of maps from strings to v.
func MapOf(v Type) Type { return Type{Kind: Map, Fields: []Field{{Type: v}}} }

// StructOf is the type of structs with those members.
func StructOf(members ...Field) Type { return Type{Kind: Struct, Fields: members} }

// IsNested reports whether values of the type hold other values.
func (t Type) IsNested() bool { return t.Kind >= List }

// Elem is the element of a List or the value of a Map.
func (t Type) Elem() *Field { return &t.Fields[0] }

// Member is the index of a Struct's member of that name, -1 where there is none.
func (t Type) Member(name string) int {
	return slices.IndexFunc(t.Fields, func(f Field) bool { return f.Name == name })
}

// Equal reports whether two types are the same, names of members and what is
// optional included.
func (t Type) Equal(o Type) bool {
	return t.Kind == o.Kind && t.Scale == o.Scale && slices.EqualFunc(t.Fields, o.Fields, Field.Equal)
}

// Equal reports whether two fields have one name and type and both or neither is
// optional.
func (f Field) Equal(o Field) bool {
	return f.Name == o.Name && f.Optional == o.Optional && f.Type.Equal(o.Type)
}

// Nesting is how many lists, maps and structs lie within one another, 0 for a
// plain value.
func (t Type) Nesting() int {
	if !t.IsNested() {
		return 0
	}
	deepest := 0
	for i := range t.Fields {
		deepest = max(deepest, t.Fields[i].Type.Nesting())
	}
	return 1 + deepest
}

// String is the type as weir.yaml writes it: "string", "decimal(2)",
// "list(struct(sku string, price decimal(2)?))". A question mark says that the
// element or member may be absent.
func (t Type) String() string {
	switch t.Kind {
	case Decimal:
		return fmt.Sprintf("decimal(%d)", t.Scale)
	case List, Map:
		return t.Kind.String() + "(" + t.Elem().typeText() + ")"
	case Struct:
		parts := make([]string, len(t.Fields))
		for i := range t.Fields {
			parts[i] = t.Fields[i].Name + " " + t.Fields[i].typeText()
		}
		return "struct(" + strings.Join(parts, ", ") + ")"
	}
	return t.Kind.String()
}

func (f *Field) typeText() string {
	if f.Optional {
		return f.Type.String() + "?"
	}
	return f.Type.String()
}

// TypeNames lists what ParseType accepts, for messages and completion.
var TypeNames = []string{"bool", "int64", "double", "decimal(N)", "string", "timestamp", "bytes", "list(T)", "map(T)", "struct(name T, ...)"}

// ParseType reads a type as weir.yaml writes it. "map(string, T)" is taken for
// "map(T)".
func ParseType(s string) (Type, error) {
	p := typeParser{text: s}
	t, err := p.parse(0)
	if err != nil {
		return Type{}, err
	}
	if p.at < len(s) {
		return Type{}, fmt.Errorf("type %q: expected its end, found %q", s, s[p.at:])
	}
	return t, nil
}

// typeParser reads types by recursive descent.
type typeParser struct {
	text string
	at   int
}

func (p *typeParser) space() {
	for p.at < len(p.text) && strings.IndexByte(" \t\n\r", p.text[p.at]) >= 0 {
		p.at++
	}
}

// take reads one character of punctuation.
func (p *typeParser) take(c byte) bool {
	p.space()
	if p.at < len(p.text) && p.text[p.at] == c {
		p.at++
		return true
	}
	return false
}

func (p *typeParser) word() string {
	p.space()
	start := p.at
	for p.at < len(p.text) && isWordByte(p.text[p.at]) {
		p.at++
	}
	return p.text[start:p.at]
}

func isWordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func (p *typeParser) parse(depth int) (Type, error) {
	start := p.at
	name := p.word()
	kind := Kind(0)
	for k, n := range kindNames {
		if n == name && k != 0 {
			kind = Kind(k)
		}
	}
	if kind >= List && depth == MaxNesting {
		return Type{}, fmt.Errorf("type %q: nested deeper than %d lists, maps and structs", p.text, MaxNesting)
	}
	switch kind {
	case 0:
		if name == "" {
			name = p.text[start:]
		}
		return Type{}, fmt.Errorf("unknown type %q: expected one of %s", name, strings.Join(TypeNames, ", "))
	case Decimal:
		n, err := -1, error(nil)
		if p.take('(') {
			n, err = strconv.Atoi(p.word())
		}
		if err != nil || n < 0 || n > MaxScale || !p.take(')') {
			return Type{}, fmt.Errorf("type %q: expected decimal(N) with N from 0 to %d decimal places", p.text, MaxScale)
		}
		return Type{Kind: Decimal, Scale: uint8(n)}, nil
	case List, Map, Struct:
		return p.nested(kind, depth+1)
	}
	return Type{Kind: kind}, nil
}

// nested reads what stands in the brackets of a list, map or struct.
func (p *typeParser) nested(kind Kind, depth int) (Type, error) {
	if !p.take('(') {
		return Type{}, fmt.Errorf("type %q: expected %s", p.text, map[Kind]string{List: "list(T), as list(string)", Map: "map(T), as map(string)", Struct: "struct(name T, ...), as struct(lat double, lon double)"}[kind])
	}
	t := Type{Kind: kind}
	if kind == Map {
		before := p.at
		if p.word() != "string" || !p.take(',') {
			p.at = before
		}
	}
	for {
		f := Field{}
		if kind == Struct {
			switch f.Name = p.word(); {
			case f.Name == "" || f.Name[0] >= '0' && f.Name[0] <= '9':
				return Type{}, fmt.Errorf("type %q: expected the name of a struct's member and its type, as struct(lat double, lon double)", p.text)
			case t.Member(f.Name) >= 0:
				return Type{}, fmt.Errorf("type %q: the member %s stands in the struct twice", p.text, f.Name)
			case len(t.Fields) == MaxMembers:
				return Type{}, fmt.Errorf("type %q: a struct has at most %d members", p.text, MaxMembers)
			}
		}
		var err error
		if f.Type, err = p.parse(depth); err != nil {
			return Type{}, err
		}
		f.Optional = p.take('?')
		t.Fields = append(t.Fields, f)
		if kind == Struct && p.take(',') {
			continue
		}
		if !p.take(')') {
			return Type{}, fmt.Errorf("type %q: expected a closing bracket after %s", p.text, f.typeText())
		}
		return t, nil
	}
}

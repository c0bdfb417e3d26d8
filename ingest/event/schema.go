package event

import (
	"fmt"
	"strconv"
	"strings"
)

// Kind is the kind of a field's values. The zero Kind marks an absent column.
type Kind uint8

// The kinds of values, with the Go slice of Column that holds them.
const (
	Bool      Kind = iota + 1 // Column.Bits
	Int64                     // Column.Int64
	Double                    // Column.Double
	Decimal                   // Column.Int64, unscaled
	String                    // Column.Offsets and Column.Data, UTF-8
	Timestamp                 // Column.Int64, nanoseconds since the epoch
	Bytes                     // Column.Offsets and Column.Data
)

var kindNames = [...]string{Bool: "bool", Int64: "int64", Double: "double", Decimal: "decimal", String: "string", Timestamp: "timestamp", Bytes: "bytes"}

func (k Kind) String() string {
	if int(k) < len(kindNames) && k != 0 {
		return kindNames[k]
	}
	return "none"
}

// Type is a kind and, for Decimal, its number of decimal places.
type Type struct {
	Kind  Kind
	Scale uint8
}

// String is the type as weir.yaml writes it: "string", "decimal(2)".
func (t Type) String() string {
	if t.Kind == Decimal {
		return fmt.Sprintf("decimal(%d)", t.Scale)
	}
	return t.Kind.String()
}

// TypeNames lists what ParseType accepts, for messages and completion.
var TypeNames = []string{"bool", "int64", "double", "decimal(N)", "string", "timestamp", "bytes"}

// ParseType reads a type as weir.yaml writes it.
func ParseType(s string) (Type, error) {
	if rest, ok := strings.CutPrefix(s, "decimal("); ok {
		digits, ok := strings.CutSuffix(rest, ")")
		n, err := strconv.Atoi(digits)
		if !ok || err != nil || n < 0 || n > MaxScale {
			return Type{}, fmt.Errorf("type %q: expected decimal(N) with N from 0 to %d decimal places", s, MaxScale)
		}
		return Type{Kind: Decimal, Scale: uint8(n)}, nil
	}
	for k, name := range kindNames {
		if name == s && k != 0 && Kind(k) != Decimal {
			return Type{Kind: Kind(k)}, nil
		}
	}
	return Type{}, fmt.Errorf("unknown type %q: expected one of %s", s, strings.Join(TypeNames, ", "))
}

// Field is one field of a stream.
type Field struct {
	Name     string
	Type     Type
	Optional bool
}

// Schema is the shape of a stream's events. It is immutable once in use.
type Schema struct {
	Stream string // the stream's name, which is also its SQL table
	Alias  string // its name in rules
	Fields []Field
	Time   int // index of the event-time field, a Timestamp
	Key    int // index of the key field, -1 where the stream has none
	ID     int // index of the identifying field, -1 where it has none
}

// Index is the index of the field of that name, -1 where there is none.
func (s *Schema) Index(name string) int {
	for i := range s.Fields {
		if s.Fields[i].Name == name {
			return i
		}
	}
	return -1
}

package event

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
	List                      // Column.Offsets and Column.Children: the elements
	Map                       // Column.Offsets and Column.Children: the keys, strings, and the values
	Struct                    // Column.Children: one for each member
)

var kindNames = [...]string{Bool: "bool", Int64: "int64", Double: "double", Decimal: "decimal", String: "string", Timestamp: "timestamp", Bytes: "bytes",
	List: "list", Map: "map", Struct: "struct"}

func (k Kind) String() string {
	if int(k) < len(kindNames) && k != 0 {
		return kindNames[k]
	}
	return "none"
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

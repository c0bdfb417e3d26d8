package duck

import (
	"fmt"
	"strings"

	"github.com/duckdb/duckdb-go/v2/mapping"

	"github.com/weirstream/weir/ingest/event"
)

// Kind is the kind of a result column's values.
type Kind int

// The kinds of DuckDB's values that queries may return. Others (BIT, UNION,
// VARIANT, GEOMETRY, ...) are Unsupported: a query casts them to VARCHAR.
const (
	Unsupported Kind = iota
	Null
	Boolean
	TinyInt
	SmallInt
	Integer
	BigInt
	UTinyInt
	USmallInt
	UInteger
	UBigInt
	HugeInt
	UHugeInt
	Float
	Double
	Decimal
	Varchar
	JSON
	Blob
	Date
	Time
	Timestamp   // microseconds
	TimestampS  // seconds
	TimestampMS // milliseconds
	TimestampNS // nanoseconds
	TimestampTZ // microseconds, an instant
	Interval
	UUID
	Enum
	List
	Array
	Struct
	Map
)

// Type is the type of a result column or of what it nests.
type Type struct {
	Kind   Kind
	Width  uint8   // of Decimal, in digits
	Scale  uint8   // of Decimal
	Elem   *Type   // of List, Array and Map (a Struct of key and value)
	Size   int     // of Array
	Fields []Field // of Struct
	Enum   []string
	// store is how a Decimal or an Enum is held: SmallInt, Integer, BigInt,
	// HugeInt, UTinyInt, USmallInt, UInteger.
	store Kind
}

// Field is a member of a Struct, or a column of a result.
type Field struct {
	Name string
	Type Type
}

var kinds = map[mapping.Type]Kind{
	mapping.TypeSQLNull: Null, mapping.TypeBoolean: Boolean, mapping.TypeTinyInt: TinyInt, mapping.TypeSmallInt: SmallInt, mapping.TypeInteger: Integer,
	mapping.TypeBigInt: BigInt, mapping.TypeUTinyInt: UTinyInt, mapping.TypeUSmallInt: USmallInt, mapping.TypeUInteger: UInteger, mapping.TypeUBigInt: UBigInt,
	mapping.TypeHugeInt: HugeInt, mapping.TypeUHugeInt: UHugeInt, mapping.TypeFloat: Float, mapping.TypeDouble: Double, mapping.TypeDecimal: Decimal,
	mapping.TypeVarchar: Varchar, mapping.TypeBlob: Blob, mapping.TypeDate: Date, mapping.TypeTime: Time, mapping.TypeTimestamp: Timestamp,
	mapping.TypeTimestampS: TimestampS, mapping.TypeTimestampMS: TimestampMS, mapping.TypeTimestampNS: TimestampNS, mapping.TypeTimestampTZ: TimestampTZ,
	mapping.TypeInterval: Interval, mapping.TypeUUID: UUID, mapping.TypeEnum: Enum, mapping.TypeList: List, mapping.TypeArray: Array,
	mapping.TypeStruct: Struct, mapping.TypeMap: Map,
}

var kindNames = [...]string{
	Unsupported: "UNSUPPORTED", Null: "NULL", Boolean: "BOOLEAN", TinyInt: "TINYINT", SmallInt: "SMALLINT", Integer: "INTEGER", BigInt: "BIGINT",
	UTinyInt: "UTINYINT", USmallInt: "USMALLINT", UInteger: "UINTEGER", UBigInt: "UBIGINT", HugeInt: "HUGEINT", UHugeInt: "UHUGEINT", Float: "FLOAT",
	Double: "DOUBLE", Decimal: "DECIMAL", Varchar: "VARCHAR", JSON: "JSON", Blob: "BLOB", Date: "DATE", Time: "TIME", Timestamp: "TIMESTAMP",
	TimestampS: "TIMESTAMP_S", TimestampMS: "TIMESTAMP_MS", TimestampNS: "TIMESTAMP_NS", TimestampTZ: "TIMESTAMP WITH TIME ZONE", Interval: "INTERVAL",
	UUID: "UUID", Enum: "ENUM", List: "LIST", Array: "ARRAY", Struct: "STRUCT", Map: "MAP",
}

// String is the type as DuckDB's SQL writes it (an ENUM without its values).
func (t Type) String() string {
	switch t.Kind {
	case Decimal:
		return fmt.Sprintf("DECIMAL(%d,%d)", t.Width, t.Scale)
	case List:
		return t.Elem.String() + "[]"
	case Array:
		return fmt.Sprintf("%s[%d]", t.Elem, t.Size)
	case Map:
		return fmt.Sprintf("MAP(%s, %s)", t.Elem.Fields[0].Type, t.Elem.Fields[1].Type)
	case Struct:
		parts := make([]string, len(t.Fields))
		for i, f := range t.Fields {
			parts[i] = Quote(f.Name) + " " + f.Type.String()
		}
		return "STRUCT(" + strings.Join(parts, ", ") + ")"
	}
	return kindNames[t.Kind]
}

// typeDepth bounds how deep types may nest: nobody writes more, and the walk is
// recursive.
const typeDepth = 16

func typeOf(lt mapping.LogicalType, depth int) Type {
	t := Type{Kind: kinds[mapping.GetTypeId(lt)]}
	if depth == typeDepth {
		return Type{Kind: Unsupported}
	}
	switch t.Kind {
	case Varchar:
		if mapping.LogicalTypeGetAlias(lt) == "JSON" {
			t.Kind = JSON
		}
	case Decimal:
		t.Width, t.Scale = mapping.DecimalWidth(lt), mapping.DecimalScale(lt)
		t.store = kinds[mapping.DecimalInternalType(lt)]
	case Enum:
		t.store = kinds[mapping.EnumInternalType(lt)]
		for i := range mapping.EnumDictionarySize(lt) {
			t.Enum = append(t.Enum, mapping.EnumDictionaryValue(lt, mapping.IdxT(i)))
		}
	case List:
		t.Elem = childType(mapping.ListTypeChildType(lt), depth)
	case Array:
		t.Elem = childType(mapping.ArrayTypeChildType(lt), depth)
		t.Size = int(mapping.ArrayTypeArraySize(lt))
	case Map:
		key, value := childType(mapping.MapTypeKeyType(lt), depth), childType(mapping.MapTypeValueType(lt), depth)
		t.Elem = &Type{Kind: Struct, Fields: []Field{{"key", *key}, {"value", *value}}}
	case Struct:
		for i := range mapping.StructTypeChildCount(lt) {
			child := childType(mapping.StructTypeChildType(lt, i), depth)
			t.Fields = append(t.Fields, Field{mapping.StructTypeChildName(lt, i), *child})
		}
	}
	return t
}

// childType reads and destroys lt.
func childType(lt mapping.LogicalType, depth int) *Type {
	defer mapping.DestroyLogicalType(&lt)
	t := typeOf(lt, depth+1)
	return &t
}

// readable reports whether the values of t and of all it nests can be read.
func (t Type) readable() bool {
	if t.Kind == Unsupported || t.Elem != nil && !t.Elem.readable() {
		return false
	}
	for _, f := range t.Fields {
		if !f.Type.readable() {
			return false
		}
	}
	return true
}

// Quote is name as a quoted SQL identifier.
func Quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// Literal is s as a SQL string literal.
func Literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// ColumnType is the SQL type of a column that holds a field of type t.
//
// A timestamp is TIMESTAMP_NS in UTC. It keeps a tick's nanoseconds; date_trunc,
// time_bucket, extract, BETWEEN and comparison with string literals, dates and
// timestamps work on it; PostgreSQL clients see it as `timestamp`. TIMESTAMPTZ has
// microseconds only. A decimal(n) is DECIMAL(18,n), which DuckDB holds in the same
// 64 bits as an event.Column does. Lists, maps and structs are DuckDB's own.
func ColumnType(t event.Type) string {
	switch t.Kind {
	case event.Bool:
		return "BOOLEAN"
	case event.Int64:
		return "BIGINT"
	case event.Double:
		return "DOUBLE"
	case event.Decimal:
		return fmt.Sprintf("DECIMAL(18,%d)", t.Scale)
	case event.Timestamp:
		return "TIMESTAMP_NS"
	case event.Bytes:
		return "BLOB"
	case event.List:
		return ColumnType(t.Elem().Type) + "[]"
	case event.Map:
		return "MAP(VARCHAR, " + ColumnType(t.Elem().Type) + ")"
	case event.Struct:
		parts := make([]string, len(t.Fields))
		for i, f := range t.Fields {
			parts[i] = Quote(f.Name) + " " + ColumnType(f.Type)
		}
		return "STRUCT(" + strings.Join(parts, ", ") + ")"
	}
	return "VARCHAR"
}

package duck

import (
	"math/big"
	"unsafe"

	"github.com/duckdb/duckdb-go/v2/mapping"
)

// Vector is one column of a chunk. Its accessors take a row below Len and do not
// check the kind; what they return aliases DuckDB's memory, see invariant 6.
type Vector struct {
	Type     Type
	n        int
	data     unsafe.Pointer
	validity unsafe.Pointer // of uint64 words, nil where every value is present
	children []Vector       // of List, Array, Map: the elements; of Struct: the fields
}

func newVector(v mapping.Vector, n int) Vector {
	lt := mapping.VectorGetColumnType(v)
	defer mapping.DestroyLogicalType(&lt)
	return makeVector(v, typeOf(lt, 0), n)
}

func makeVector(v mapping.Vector, t Type, n int) Vector {
	out := Vector{Type: t, n: n, data: mapping.VectorGetData(v), validity: mapping.VectorGetValidity(v)}
	switch t.Kind {
	case List, Map:
		out.children = []Vector{makeVector(mapping.ListVectorGetChild(v), *t.Elem, int(mapping.ListVectorGetSize(v)))}
	case Array:
		out.children = []Vector{makeVector(mapping.ArrayVectorGetChild(v), *t.Elem, n*t.Size)}
	case Struct:
		for i := range t.Fields {
			out.children = append(out.children, makeVector(mapping.StructVectorGetChild(v, mapping.IdxT(i)), t.Fields[i].Type, n))
		}
	}
	return out
}

// Len is the number of values.
func (v *Vector) Len() int { return v.n }

// IsNull reports whether value i is NULL.
func (v *Vector) IsNull(i int) bool {
	if v.Type.Kind == Null {
		return true
	}
	if v.validity == nil {
		return false
	}
	return *(*uint64)(unsafe.Add(v.validity, i>>6<<3))&(1<<(i&63)) == 0
}

func at[T any](v *Vector, i int) T {
	var zero T
	return *(*T)(unsafe.Add(v.data, uintptr(i)*unsafe.Sizeof(zero)))
}

// Bool is value i of a Boolean.
func (v *Vector) Bool(i int) bool { return at[uint8](v, i) != 0 }

// Int64 is value i of an integer kind of up to 64 bits (UBigInt: its bits), the
// unscaled value of a Decimal of up to 18 digits, the days of a Date, the
// microseconds of a Time, or the units of a timestamp kind since the epoch.
func (v *Vector) Int64(i int) int64 {
	kind := v.Type.Kind
	if kind == Decimal || kind == Enum {
		kind = v.Type.store
	}
	switch kind {
	case TinyInt:
		return int64(at[int8](v, i))
	case SmallInt:
		return int64(at[int16](v, i))
	case Integer, Date:
		return int64(at[int32](v, i))
	case UTinyInt:
		return int64(at[uint8](v, i))
	case USmallInt:
		return int64(at[uint16](v, i))
	case UInteger:
		return int64(at[uint32](v, i))
	}
	return at[int64](v, i)
}

// Float64 is value i of a Float or Double.
func (v *Vector) Float64(i int) float64 {
	if v.Type.Kind == Float {
		return float64(at[float32](v, i))
	}
	return at[float64](v, i)
}

// Narrow reports whether a Decimal's values fit Int64.
func (v *Vector) Narrow() bool { return v.Type.store != HugeInt }

// Big is value i of a HugeInt, UHugeInt, UBigInt or (unscaled) Decimal.
func (v *Vector) Big(i int) *big.Int {
	switch {
	case v.Type.Kind == UBigInt:
		return new(big.Int).SetUint64(at[uint64](v, i))
	case v.Type.Kind == Decimal && v.Type.store != HugeInt:
		return big.NewInt(v.Int64(i))
	}
	words := at[[2]uint64](v, i) // lower, upper
	out := new(big.Int)
	if v.Type.Kind == UHugeInt {
		out.SetUint64(words[1])
	} else {
		out.SetInt64(int64(words[1]))
	}
	return out.Lsh(out, 64).Add(out, new(big.Int).SetUint64(words[0]))
}

// Interval is value i of an Interval.
func (v *Vector) Interval(i int) (months, days int32, micros int64) {
	x := at[struct {
		months, days int32
		micros       int64
	}](v, i)
	return x.months, x.days, x.micros
}

// UUID is value i of a UUID.
func (v *Vector) UUID(i int) (out [16]byte) {
	words := at[[2]uint64](v, i)
	upper := words[1] ^ 1<<63 // DuckDB flips the sign so that UUIDs sort as integers
	for b := range 8 {
		out[b] = byte(upper >> (56 - 8*b))
		out[8+b] = byte(words[0] >> (56 - 8*b))
	}
	return out
}

// inlined is how many bytes DuckDB keeps inside a string's slot of 16 bytes.
const inlined = 12

// Bytes is value i of a Varchar, JSON or Blob, or the name of an Enum's value.
func (v *Vector) Bytes(i int) []byte {
	if v.Type.Kind == Enum {
		return []byte(v.Type.Enum[v.Int64(i)])
	}
	slot := unsafe.Add(v.data, i*16)
	n := *(*uint32)(slot)
	if n <= inlined {
		return unsafe.Slice((*byte)(unsafe.Add(slot, 4)), n)
	}
	return unsafe.Slice(*(**byte)(unsafe.Add(slot, 8)), n)
}

// List gives the elements of value i of a List, Array or Map: those of elem from
// first on.
func (v *Vector) List(i int) (elem *Vector, first, n int) {
	if v.Type.Kind == Array {
		return &v.children[0], i * v.Type.Size, v.Type.Size
	}
	entry := at[[2]uint64](v, i)
	return &v.children[0], int(entry[0]), int(entry[1])
}

// Field gives the values of field f of a Struct, row by row.
func (v *Vector) Field(f int) *Vector { return &v.children[f] }

// Chunk is a run of a result's rows, column by column.
type Chunk struct {
	Columns []Vector
	n       int
}

// Len is the number of rows.
func (c *Chunk) Len() int { return c.n }

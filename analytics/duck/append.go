package duck

/*
#cgo noescape weir_assign_strings
#cgo nocallback weir_assign_strings
#include <stdint.h>
#include <string.h>

// Of duckdb.h, whose directory cgo cannot name from another module. The library
// is linked by duckdb-go-bindings.
extern void duckdb_unsafe_vector_assign_string_element_len(void *vector, uint64_t index, const char *str, uint64_t len);

typedef struct { uint32_t len; char in[12]; } weir_string;

// weir_assign_strings fills a VARCHAR or BLOB vector from Arrow offsets: one call
// for a whole column, and none into DuckDB for strings that fit their slot.
static void weir_assign_strings(void *vector, void *slots, const int32_t *offsets, const char *bytes, uint64_t n) {
	weir_string *out = (weir_string *)slots;
	for (uint64_t i = 0; i < n; i++) {
		uint32_t len = (uint32_t)(offsets[i + 1] - offsets[i]);
		const char *s = bytes + offsets[i];
		if (len <= 12) {
			weir_string v;
			memset(&v, 0, sizeof v);
			v.len = len;
			memcpy(v.in, s, len);
			out[i] = v;
		} else {
			duckdb_unsafe_vector_assign_string_element_len(vector, i, s, len);
		}
	}
}
*/
import "C"

import (
	"fmt"
	"unsafe"

	"github.com/duckdb/duckdb-go/v2/mapping"

	"github.com/weirstream/weir/ingest/event"
)

// Column is one column to append: an event column, and for a VARCHAR[] (or any
// other list) the offsets of each row's elements in it, one more than there are
// rows, beginning at 0.
type Column struct {
	*event.Column
	Lists []int32
}

// rows is the number of values of the column.
func (c *Column) rows() int {
	if c.Lists != nil {
		return len(c.Lists) - 1
	}
	return c.Len()
}

// fill copies n values of c from row from on into vector v. from is a multiple
// of 8, so that bitmaps are copied by bytes.
func fill(v mapping.Vector, c *Column, from, n int) error {
	if c.Lists != nil {
		return fillLists(v, c, from, n)
	}
	fillValues(v, c.Column, from, n)
	return nil
}

func fillValues(v mapping.Vector, c *event.Column, from, n int) {
	if n == 0 {
		return
	}
	data := mapping.VectorGetData(v)
	switch c.Type.Kind {
	case event.Bool:
		out := unsafe.Slice((*bool)(data), n)
		for i := range out {
			out[i] = c.Bool(from + i)
		}
	case event.Int64, event.Decimal, event.Timestamp:
		copy(unsafe.Slice((*int64)(data), n), c.Int64[from:from+n])
	case event.Double:
		copy(unsafe.Slice((*float64)(data), n), c.Double[from:from+n])
	case event.String, event.Bytes:
		// Offsets count from the start of Data, whatever from is.
		var bytes unsafe.Pointer
		if len(c.Data) > 0 {
			bytes = unsafe.Pointer(&c.Data[0])
		}
		C.weir_assign_strings(v.Ptr, data, (*C.int32_t)(unsafe.Pointer(&c.Offsets[from])), (*C.char)(bytes), C.uint64_t(n))
	}
	if valid := c.Valid(); valid != nil {
		mapping.VectorEnsureValidityWritable(v)
		// Both are bitmaps of 1 for present, least significant bit first.
		out := unsafe.Slice((*byte)(mapping.VectorGetValidity(v)), (n+7)/8)
		copy(out, valid[from/8:])
	}
}

func fillLists(v mapping.Vector, c *Column, from, n int) error {
	first, last := int(c.Lists[from]), int(c.Lists[from+n])
	if mapping.ListVectorReserve(v, mapping.IdxT(last-first)) == mapping.StateError || mapping.ListVectorSetSize(v, mapping.IdxT(last-first)) == mapping.StateError {
		return fmt.Errorf("DuckDB gives no room for %d list elements", last-first)
	}
	child := mapping.ListVectorGetChild(v)
	if first%8 != 0 && c.Nulls() > 0 {
		return fmt.Errorf("a list column with absent elements must be appended from its start")
	}
	fillValues(child, c.Column, first, last-first)
	entries := unsafe.Slice((*[2]uint64)(mapping.VectorGetData(v)), n)
	for i := range entries {
		entries[i] = [2]uint64{uint64(int(c.Lists[from+i]) - first), uint64(c.Lists[from+i+1] - c.Lists[from+i])}
	}
	return nil
}

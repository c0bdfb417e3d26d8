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
	"errors"
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
	return fillAny(v, c.Column, from, n)
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
		copyBits(unsafe.Slice((*byte)(mapping.VectorGetValidity(v)), (n+7)/8), valid, from, n)
	}
}

// copyBits copies n bits of a bitmap from bit from on to the start of another. Both
// are of 1 for present, least significant bit first.
func copyBits(dst, src []byte, from, n int) {
	if from%8 == 0 {
		copy(dst, src[from/8:])
		return
	}
	shift := from % 8
	for i := range (n + 7) / 8 {
		at := from/8 + i
		b := src[at] >> shift
		if at+1 < len(src) {
			b |= src[at+1] << (8 - shift)
		}
		dst[i] = b
	}
}

// fillNested copies lists, maps and structs with all that is in them.
func fillNested(v mapping.Vector, c *event.Column, from, n int) error {
	if c.Type.Kind == event.Struct {
		for i := range c.Children {
			if err := fillAny(mapping.StructVectorGetChild(v, mapping.IdxT(i)), &c.Children[i], from, n); err != nil {
				return err
			}
		}
	} else {
		first, last := int(c.Offsets[from]), int(c.Offsets[from+n])
		elems, err := growList(v, c.Offsets, from, n)
		if err != nil {
			return err
		}
		if c.Type.Kind == event.List {
			err = fillAny(elems, &c.Children[0], first, last-first)
		} else { // DuckDB's map is a list of structs
			for i := range c.Children {
				err = errors.Join(err, fillAny(mapping.StructVectorGetChild(elems, mapping.IdxT(i)), &c.Children[i], first, last-first))
			}
		}
		if err != nil {
			return err
		}
	}
	if valid := c.Valid(); valid != nil {
		mapping.VectorEnsureValidityWritable(v)
		copyBits(unsafe.Slice((*byte)(mapping.VectorGetValidity(v)), (n+7)/8), valid, from, n)
	}
	return nil
}

func fillAny(v mapping.Vector, c *event.Column, from, n int) error {
	if c.Type.IsNested() && n > 0 {
		return fillNested(v, c, from, n)
	}
	fillValues(v, c, from, n)
	return nil
}

// growList writes the entries of n lists and makes room for their elements.
func growList(v mapping.Vector, offsets []int32, from, n int) (elems mapping.Vector, err error) {
	first, last := int(offsets[from]), int(offsets[from+n])
	if mapping.ListVectorReserve(v, mapping.IdxT(last-first)) == mapping.StateError || mapping.ListVectorSetSize(v, mapping.IdxT(last-first)) == mapping.StateError {
		return elems, fmt.Errorf("DuckDB gives no room for %d list elements", last-first)
	}
	entries := unsafe.Slice((*[2]uint64)(mapping.VectorGetData(v)), n)
	for i := range entries {
		entries[i] = [2]uint64{uint64(int(offsets[from+i]) - first), uint64(offsets[from+i+1] - offsets[from+i])}
	}
	return mapping.ListVectorGetChild(v), nil
}

func fillLists(v mapping.Vector, c *Column, from, n int) error {
	elems, err := growList(v, c.Lists, from, n)
	if err == nil {
		fillValues(elems, c.Column, int(c.Lists[from]), int(c.Lists[from+n]-c.Lists[from]))
	}
	return err
}

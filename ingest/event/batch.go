package event

import "slices"

// Origin names the partition that an event came from.
type Origin struct {
	Topic     string
	Partition int32
}

// Batch is a columnar run of one stream's events in log order.
type Batch struct {
	Schema    *Schema
	Origin    []Origin // one for each row, or a single one for all
	Offset    []int64
	Time      []Time
	Cols      []Column // by field index; see invariant 2
	Watermark Time     // of the stream, before this batch's events
}

// Len is the number of rows.
func (b *Batch) Len() int { return len(b.Offset) }

// OriginOf is the origin of row i.
func (b *Batch) OriginOf(i int) Origin {
	if len(b.Origin) == 1 {
		return b.Origin[0]
	}
	return b.Origin[i]
}

// Reset makes b an empty batch of schema s whose columns at the indexes in
// project are present and empty. It keeps the buffers it can reuse.
func (b *Batch) Reset(s *Schema, project []int) {
	b.Schema = s
	b.Origin = b.Origin[:0]
	b.Offset = b.Offset[:0]
	b.Time = b.Time[:0]
	b.Watermark = MinTime
	if len(b.Cols) != len(s.Fields) {
		b.Cols = make([]Column, len(s.Fields))
	}
	for i := range b.Cols {
		b.Cols[i].Reset(Type{})
	}
	for _, i := range project {
		b.Cols[i].Reset(s.Fields[i].Type)
	}
}

// Truncate cuts b to its first n rows: what a decoder does with a row that
// failed half-way through.
func (b *Batch) Truncate(n int) {
	if len(b.Origin) > 1 {
		b.Origin = b.Origin[:min(n, len(b.Origin))]
	}
	b.Offset = b.Offset[:min(n, len(b.Offset))]
	b.Time = b.Time[:min(n, len(b.Time))]
	for i := range b.Cols {
		if b.Cols[i].Present() {
			b.Cols[i].Truncate(n)
		}
	}
}

// Column is one field's values in the Arrow physical layout.
type Column struct {
	Type    Type
	n       int
	valid   []byte    // bitmap; meaningful only where nulls > 0
	nulls   int       // how many values are absent
	Bits    []byte    // Bool, a bitmap
	Int64   []int64   // Int64, Decimal, Timestamp
	Double  []float64 // Double
	Offsets []int32   // String, Bytes, List, Map: Len()+1 entries
	Data    []byte    // String, Bytes

	Children []Column // List: the elements; Map: the keys and the values; Struct: the members
}

// Present reports whether the column was projected.
func (c *Column) Present() bool { return c.Type.Kind != 0 }

// Len is the number of values, absent ones included.
func (c *Column) Len() int { return c.n }

// Nulls is the number of absent values.
func (c *Column) Nulls() int { return c.nulls }

// Valid is the validity bitmap, nil where every value is present.
func (c *Column) Valid() []byte {
	if c.nulls == 0 {
		return nil
	}
	return c.valid
}

// IsNull reports whether value i is absent.
func (c *Column) IsNull(i int) bool {
	return c.nulls > 0 && c.valid[i>>3]&(1<<(i&7)) == 0
}

// Bool is value i of a Bool column.
func (c *Column) Bool(i int) bool { return c.Bits[i>>3]&(1<<(i&7)) != 0 }

// Bytes is value i of a String or Bytes column; it aliases the column and is
// valid until the next Reset or Append.
func (c *Column) Bytes(i int) []byte { return c.Data[c.Offsets[i]:c.Offsets[i+1]] }

// Reset empties the column and gives it a type, keeping its buffers.
func (c *Column) Reset(t Type) {
	c.Type = t
	c.n, c.nulls = 0, 0
	c.valid, c.Bits, c.Data = c.valid[:0], c.Bits[:0], c.Data[:0]
	c.Int64, c.Double = c.Int64[:0], c.Double[:0]
	c.Offsets = c.Offsets[:0]
	switch t.Kind {
	case String, Bytes, List, Map:
		c.Offsets = append(c.Offsets, 0)
	}
	if t.Kind >= List {
		c.resetChildren()
	}
}

// Truncate cuts the column to its first n values; n beyond Len does nothing.
func (c *Column) Truncate(n int) {
	if c.Type.Kind >= List {
		c.truncateChildren(min(n, c.n)) // also what was appended of a value that was then given up
	}
	if n >= c.n {
		return
	}
	if c.nulls > 0 {
		for i := n; i < c.n; i++ {
			if c.IsNull(i) {
				c.nulls--
			}
		}
	}
	c.n = n
	c.valid = c.valid[:min(len(c.valid), (n+7)/8)]
	switch c.Type.Kind {
	case Bool:
		c.Bits = c.Bits[:(n+7)/8]
	case Int64, Decimal, Timestamp:
		c.Int64 = c.Int64[:n]
	case Double:
		c.Double = c.Double[:n]
	case String, Bytes:
		c.Data = c.Data[:c.Offsets[n]]
		c.Offsets = c.Offsets[:n+1]
	case List, Map:
		c.Offsets = c.Offsets[:n+1]
	}
	// A bit beyond n may still be set; appends write the whole bit.
}

// mark sets bit n of the validity bitmap and counts the value.
func (c *Column) mark(present bool) {
	if present && c.nulls == 0 {
		c.n++
		return
	}
	if c.nulls == 0 {
		// The first absent value: all before it are present.
		c.valid = slices.Grow(c.valid[:0], c.n/8+1)[:(c.n+7)/8]
		for i := range c.valid {
			c.valid[i] = 0xff
		}
	}
	c.valid = setBit(c.valid, c.n, present)
	if !present {
		c.nulls++
	}
	c.n++
}

func setBit(bits []byte, i int, v bool) []byte {
	if i>>3 == len(bits) {
		bits = append(bits, 0)
	}
	if v {
		bits[i>>3] |= 1 << (i & 7)
	} else {
		bits[i>>3] &^= 1 << (i & 7)
	}
	return bits
}

// AppendBool appends to a Bool column.
func (c *Column) AppendBool(v bool) {
	c.Bits = setBit(c.Bits, c.n, v)
	c.mark(true)
}

// AppendInt64 appends to an Int64, Decimal (unscaled) or Timestamp column.
func (c *Column) AppendInt64(v int64) {
	c.Int64 = append(c.Int64, v)
	c.mark(true)
}

// AppendDouble appends to a Double column.
func (c *Column) AppendDouble(v float64) {
	c.Double = append(c.Double, v)
	c.mark(true)
}

// AppendBytes appends a copy of v to a String or Bytes column.
func (c *Column) AppendBytes(v []byte) {
	c.Data = append(c.Data, v...)
	c.Offsets = append(c.Offsets, int32(len(c.Data)))
	c.mark(true)
}

// AppendNull appends an absent value; its slot holds the zero value.
func (c *Column) AppendNull() {
	switch c.Type.Kind {
	case Bool:
		c.Bits = setBit(c.Bits, c.n, false)
	case Int64, Decimal, Timestamp:
		c.Int64 = append(c.Int64, 0)
	case Double:
		c.Double = append(c.Double, 0)
	case String, Bytes:
		c.Offsets = append(c.Offsets, int32(len(c.Data)))
	case List, Map:
		c.Offsets = append(c.Offsets, int32(c.Children[0].n))
	case Struct:
		for i := range c.Children {
			c.Children[i].AppendNull()
		}
	}
	c.mark(false)
}

// AppendText appends value i as text for people and JSON alike: numbers in
// full, decimals with all their places, timestamps in RFC 3339, bytes raw, lists,
// maps and structs as JSON. An absent value appends nothing.
func (c *Column) AppendText(dst []byte, i int) []byte {
	if c.IsNull(i) {
		return dst
	}
	switch c.Type.Kind {
	case Bool:
		return appendBool(dst, c.Bool(i))
	case Int64:
		return appendInt(dst, c.Int64[i])
	case Double:
		return appendDouble(dst, c.Double[i])
	case Decimal:
		return AppendDecimal(dst, c.Int64[i], int(c.Type.Scale))
	case Timestamp:
		return Time(c.Int64[i]).AppendText(dst)
	case String, Bytes:
		return append(dst, c.Bytes(i)...)
	case List, Map, Struct:
		return c.AppendJSON(dst, i)
	}
	return dst
}

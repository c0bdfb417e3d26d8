package event

import (
	"encoding/binary"
	"errors"
	"math"
)

// ErrWire is returned where bytes are not what AppendWire writes.
var ErrWire = errors.New("not the values of a column")

// AppendFrom appends value i of another column of the same type.
func (c *Column) AppendFrom(from *Column, i int) {
	if from.IsNull(i) {
		c.AppendNull()
		return
	}
	switch c.Type.Kind {
	case Bool:
		c.AppendBool(from.Bool(i))
	case Int64, Decimal, Timestamp:
		c.AppendInt64(from.Int64[i])
	case Double:
		c.AppendDouble(from.Double[i])
	case String, Bytes:
		c.AppendBytes(from.Bytes(i))
	case List, Map:
		first, end := from.Span(i)
		for k := range c.Children {
			for e := first; e < end; e++ {
				c.Children[k].AppendFrom(&from.Children[k], e)
			}
		}
		c.AppendNested()
	case Struct:
		for k := range c.Children {
			c.Children[k].AppendFrom(&from.Children[k], i)
		}
		c.AppendNested()
	}
}

// AppendWire appends the values at rows in a form that ReadWire reads: whether any
// is absent and then the bitmap of those that are there, and the values as their type
// has them: bools as a bitmap, what has 64 bits in 8 bytes, the lowest first, of
// strings and bytes all lengths and then all bytes, of lists and maps all lengths and
// then the children's values.
func (c *Column) AppendWire(dst []byte, rows []int32) []byte {
	nulls := false
	if c.nulls > 0 {
		for _, r := range rows {
			nulls = nulls || c.IsNull(int(r))
		}
	}
	if !nulls {
		dst = append(dst, 0)
	} else {
		dst = appendBits(append(dst, 1), rows, func(r int) bool { return !c.IsNull(r) })
	}
	switch c.Type.Kind {
	case Bool:
		return appendBits(dst, rows, c.Bool)
	case Int64, Decimal, Timestamp:
		for _, r := range rows {
			dst = binary.LittleEndian.AppendUint64(dst, uint64(c.Int64[r]))
		}
	case Double:
		for _, r := range rows {
			dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(c.Double[r]))
		}
	case String, Bytes:
		for _, r := range rows {
			dst = binary.AppendUvarint(dst, uint64(c.Offsets[r+1]-c.Offsets[r]))
		}
		for _, r := range rows {
			dst = append(dst, c.Bytes(int(r))...)
		}
	case List, Map:
		var elements []int32
		for _, r := range rows {
			dst = binary.AppendUvarint(dst, uint64(c.Offsets[r+1]-c.Offsets[r]))
			for e := c.Offsets[r]; e < c.Offsets[r+1]; e++ {
				elements = append(elements, e)
			}
		}
		for k := range c.Children {
			dst = c.Children[k].AppendWire(dst, elements)
		}
	case Struct:
		for k := range c.Children {
			dst = c.Children[k].AppendWire(dst, rows)
		}
	}
	return dst
}

func appendBits(dst []byte, rows []int32, bit func(int) bool) []byte {
	at := len(dst)
	for i, r := range rows {
		if i&7 == 0 {
			dst = append(dst, 0)
		}
		if bit(int(r)) {
			dst[at+i>>3] |= 1 << (i & 7)
		}
	}
	return dst
}

// ReadWire appends n values that AppendWire wrote of a column of the same type, and
// returns what is behind them. Error: ErrWire; the column is then to be reset.
func (c *Column) ReadWire(data []byte, n int) ([]byte, error) {
	if n < 0 || len(data) < 1 || data[0] > 1 {
		return nil, ErrWire
	}
	valid := []byte(nil)
	nulls := data[0] == 1
	data = data[1:]
	if nulls {
		if len(data) < (n+7)/8 {
			return nil, ErrWire
		}
		valid, data = data[:(n+7)/8], data[(n+7)/8:]
	}
	before := c.n
	rest, err := c.readValues(data, n)
	if err != nil {
		return nil, err
	}
	if !nulls && c.nulls == 0 {
		c.n = before + n
		return rest, nil
	}
	for i := range n {
		c.mark(!nulls || valid[i>>3]&(1<<(i&7)) != 0)
	}
	return rest, nil
}

// readValues appends values without saying which of them are there.
func (c *Column) readValues(data []byte, n int) ([]byte, error) {
	switch c.Type.Kind {
	case Bool:
		if len(data) < (n+7)/8 {
			return nil, ErrWire
		}
		for i := range n {
			c.Bits = setBit(c.Bits, c.n+i, data[i>>3]&(1<<(i&7)) != 0)
		}
		return data[(n+7)/8:], nil
	case Int64, Decimal, Timestamp:
		if n > len(data)/8 {
			return nil, ErrWire
		}
		for i := range n {
			c.Int64 = append(c.Int64, int64(binary.LittleEndian.Uint64(data[8*i:])))
		}
		return data[8*n:], nil
	case Double:
		if n > len(data)/8 {
			return nil, ErrWire
		}
		for i := range n {
			c.Double = append(c.Double, math.Float64frombits(binary.LittleEndian.Uint64(data[8*i:])))
		}
		return data[8*n:], nil
	case String, Bytes:
		data, total, err := c.readLengths(data, n, len(c.Data))
		if err != nil || total > len(data) {
			return nil, ErrWire
		}
		c.Data = append(c.Data, data[:total]...)
		return data[total:], nil
	case List, Map:
		data, total, err := c.readLengths(data, n, c.Children[0].n)
		for k := 0; err == nil && k < len(c.Children); k++ {
			data, err = c.Children[k].ReadWire(data, total)
		}
		return data, err
	case Struct:
		var err error
		for k := 0; err == nil && k < len(c.Children); k++ {
			data, err = c.Children[k].ReadWire(data, n)
		}
		return data, err
	}
	return nil, ErrWire
}

// readLengths appends the ends of n values of which the first begins at from, and
// returns how long they are together, which is no more than the bytes there are.
func (c *Column) readLengths(data []byte, n, from int) (rest []byte, total int, err error) {
	if n > len(data) {
		return nil, 0, ErrWire
	}
	bound := len(data)
	for range n {
		l, size := binary.Uvarint(data)
		if size <= 0 || l > uint64(bound-total) {
			return nil, 0, ErrWire
		}
		total += int(l)
		data = data[size:]
		if from+total > math.MaxInt32 {
			return nil, 0, ErrWire
		}
		c.Offsets = append(c.Offsets, int32(from+total))
	}
	return data, total, nil
}

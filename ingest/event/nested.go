package event

import "encoding/base64"

// children is how many child columns a nested type has.
func (t *Type) children() int {
	switch t.Kind {
	case List:
		return 1
	case Map:
		return 2
	}
	return len(t.Fields)
}

var stringType = Type{Kind: String}

// resetChildren empties the children and gives them their types.
func (c *Column) resetChildren() {
	n := c.Type.children()
	for cap(c.Children) < n {
		c.Children = append(c.Children[:cap(c.Children)], Column{})
	}
	c.Children = c.Children[:n]
	switch c.Type.Kind {
	case List:
		c.Children[0].Reset(c.Type.Fields[0].Type)
	case Map:
		c.Children[0].Reset(stringType)
		c.Children[1].Reset(c.Type.Fields[0].Type)
	case Struct:
		for i := range c.Children {
			c.Children[i].Reset(c.Type.Fields[i].Type)
		}
	}
}

// truncateChildren cuts the children to what the first n values hold.
func (c *Column) truncateChildren(n int) {
	if c.Type.Kind != Struct {
		n = int(c.Offsets[n])
	}
	for i := range c.Children {
		c.Children[i].Truncate(n)
	}
}

// AppendNested appends a List, Map or Struct made of what was appended to the
// children since the value before: of a List its elements, of a Map as many keys as
// values, of a Struct one value to each child. What was appended of a value that is
// then not wanted, Truncate cuts off.
func (c *Column) AppendNested() {
	if c.Type.Kind != Struct {
		c.Offsets = append(c.Offsets, int32(c.Children[0].n))
	}
	c.mark(true)
}

// Span is where the elements of value i of a List or Map are in the children.
func (c *Column) Span(i int) (from, to int) { return int(c.Offsets[i]), int(c.Offsets[i+1]) }

// AppendJSON appends value i as JSON; an absent one is null. Decimals and
// timestamps are quoted, bytes are base64, a map is an object in the order of its
// record.
func (c *Column) AppendJSON(dst []byte, i int) []byte {
	if c.IsNull(i) {
		return append(dst, "null"...)
	}
	switch c.Type.Kind {
	case Bool, Int64:
		return c.AppendText(dst, i)
	case Double:
		return AppendJSONDouble(dst, c.Double[i])
	case Decimal, Timestamp:
		return append(c.AppendText(append(dst, '"'), i), '"')
	case Bytes:
		return append(base64.StdEncoding.AppendEncode(append(dst, '"'), c.Bytes(i)), '"')
	case List:
		from, to := c.Span(i)
		dst = append(dst, '[')
		for k := from; k < to; k++ {
			if k > from {
				dst = append(dst, ',')
			}
			dst = c.Children[0].AppendJSON(dst, k)
		}
		return append(dst, ']')
	case Map:
		from, to := c.Span(i)
		dst = append(dst, '{')
		for k := from; k < to; k++ {
			if k > from {
				dst = append(dst, ',')
			}
			dst = append(c.Children[0].AppendJSON(dst, k), ':')
			dst = c.Children[1].AppendJSON(dst, k)
		}
		return append(dst, '}')
	case Struct:
		dst = append(dst, '{')
		for k := range c.Children {
			if k > 0 {
				dst = append(dst, ',')
			}
			dst = append(AppendJSONString(dst, c.Type.Fields[k].Name), ':')
			dst = c.Children[k].AppendJSON(dst, i)
		}
		return append(dst, '}')
	}
	return AppendJSONString(dst, string(c.Bytes(i)))
}

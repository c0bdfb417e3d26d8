package decode

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/weirstream/weir/ingest/schema"
)

// csvPlan is what the scanner of a CSV line needs.
type csvPlan struct {
	delimiter byte
	columns   []int32 // for each column its slot, -1 where no field reads it
}

func planCSV(fields []field, s *schema.Stream) (csvPlan, int, error) {
	p := csvPlan{delimiter: s.Delimiter, columns: make([]int32, len(s.Columns))}
	if p.delimiter == 0 {
		p.delimiter = ','
	}
	if p.delimiter == '"' || p.delimiter == '\n' || p.delimiter == '\r' || p.delimiter >= 0x80 {
		return p, 0, fmt.Errorf("delimiter %q: expected one ASCII character other than a quote or an end of line", p.delimiter)
	}
	for i := range p.columns {
		p.columns[i] = -1
		if slices.Contains(s.Columns[:i], s.Columns[i]) {
			return p, 0, fmt.Errorf("column %q is declared twice", s.Columns[i])
		}
	}
	slots := int32(0)
	for i := range fields {
		f := &fields[i]
		c := slices.Index(s.Columns, f.from)
		if c < 0 {
			return p, 0, fmt.Errorf("field %s: no column %q: expected one of %s", f.name, f.from, strings.Join(s.Columns, ", "))
		}
		if p.columns[c] < 0 {
			p.columns[c] = slots
			slots++
		}
		f.slot = int(p.columns[c])
	}
	return p, int(slots), nil
}

// scanCSV checks one line of CSV, with or without its end, and fills the slots. A
// cell in quotes may hold ends of lines.
func (d *Decoder) scanCSV(b []byte) bool {
	if len(b) > 0 && b[len(b)-1] == '\n' {
		b = b[:len(b)-1]
	}
	if len(b) > 0 && b[len(b)-1] == '\r' {
		b = b[:len(b)-1]
	}
	if len(b) == 0 {
		return d.stop(0, ReasonSyntax, "expected a line of CSV") >= 0
	}
	i, c := 0, 0
	for {
		s := slot{start: int32(i), kind: cell}
		if i < len(b) && b[i] == '"' {
			if i = d.quotedCell(b, i+1, &s); i < 0 {
				return false
			}
		} else {
			if i = d.cell(b, i); i < 0 {
				return false
			}
			s.end = int32(i)
		}
		if c < len(d.csv.columns) && d.csv.columns[c] >= 0 && s.end > s.start {
			s.flags |= high // checked where it matters
			d.slots[d.csv.columns[c]] = s
		}
		c++
		if i == len(b) {
			break
		}
		i++ // the delimiter
	}
	if c != len(d.csv.columns) {
		d.fault = fault{len(b), ReasonSyntax, fmt.Sprintf("expected %d cells, found %d", len(d.csv.columns), c)}
		return false
	}
	return true
}

// cell finds the end of a cell without quotes, eight bytes at once (see str).
func (d *Decoder) cell(b []byte, i int) int {
	delimiter := d.csv.delimiter
	for len(b)-i >= 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		stops := zeros(w^uint64(delimiter)*ones) | zeros(w^'"'*ones) | zeros(w^'\n'*ones) | zeros(w^'\r'*ones)
		if stops != 0 {
			i += bits.TrailingZeros64(stops) >> 3
			break
		}
		i += 8
	}
	for ; i < len(b) && b[i] != delimiter; i++ {
		switch b[i] {
		case '"':
			return d.stop(i, ReasonSyntax, "a quote stands in a cell that does not begin with one")
		case '\n', '\r':
			return d.stop(i, ReasonSyntax, "an end of line stands in a cell without quotes")
		}
	}
	return i
}

// quotedCell finds the end of a cell whose first quote is before i, and returns
// what follows the last one: a delimiter or the end.
func (d *Decoder) quotedCell(b []byte, i int, s *slot) int {
	s.start = int32(i)
	for ; i < len(b); i++ {
		if b[i] != '"' {
			continue
		}
		if i+1 < len(b) && b[i+1] == '"' {
			s.flags |= escaped
			i++
			continue
		}
		s.end = int32(i)
		i++
		if i < len(b) && b[i] != d.csv.delimiter {
			return d.stop(i, ReasonSyntax, "expected a delimiter after a cell in quotes")
		}
		return i
	}
	return d.stop(len(b), ReasonSyntax, "expected the quote that ends the cell")
}

// undouble appends the text of a cell in quotes, its doubled quotes made single.
func undouble(dst, t []byte) []byte {
	for i := 0; i < len(t); i++ {
		dst = append(dst, t[i])
		if t[i] == '"' {
			i++
		}
	}
	return dst
}

package event

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/weirstream/weir/test/seeds"
)

var everyType = []Type{{Kind: Bool}, {Kind: Int64}, {Kind: Double}, {Kind: Decimal, Scale: 2}, {Kind: String}, {Kind: Timestamp}, {Kind: Bytes}}

// cellOf is a value of a column as the plain oracle keeps it; nil is absent.
type cellOf *string

func text(format string, v any) cellOf { s := fmt.Sprintf(format, v); return &s }

// appendRandom appends the same random value to the column and to the oracle.
func appendRandom(r *rand.Rand, c *Column, oracle []cellOf) []cellOf {
	if r.IntN(4) == 0 {
		c.AppendNull()
		return append(oracle, nil)
	}
	n := r.Int64N(2000) - 1000
	switch c.Type.Kind {
	case Bool:
		c.AppendBool(n > 0)
		return append(oracle, text("%v", n > 0))
	case Double:
		c.AppendDouble(float64(n) / 4)
		return append(oracle, text("%s", strconv.FormatFloat(float64(n)/4, 'f', -1, 64)))
	case Int64:
		c.AppendInt64(n)
		return append(oracle, text("%d", n))
	case Decimal:
		c.AppendInt64(n)
		return append(oracle, text("%s", FormatDecimal(n, 2)))
	case Timestamp:
		c.AppendInt64(n * 1e9)
		return append(oracle, text("%s", time.Unix(n, 0).UTC().Format(time.RFC3339)))
	default:
		v := fmt.Sprint("v", n)[:r.IntN(3)]
		c.AppendBytes([]byte(v))
		return append(oracle, &v)
	}
}

func compareColumn(t *testing.T, c *Column, oracle []cellOf) {
	t.Helper()
	if c.Len() != len(oracle) {
		t.Fatalf("%v: %d values, want %d", c.Type, c.Len(), len(oracle))
	}
	nulls := 0
	for i, want := range oracle {
		if want == nil {
			nulls++
		}
		got := string(c.AppendText(nil, i))
		if c.IsNull(i) != (want == nil) || want != nil && got != *want {
			t.Fatalf("%v: value %d is %q (absent %v), want %v", c.Type, i, got, c.IsNull(i), want)
		}
		if valid := c.Valid(); valid != nil && (valid[i>>3]>>(i&7)&1 == 1) != (want != nil) {
			t.Fatalf("%v: bit %d of the validity bitmap is wrong", c.Type, i)
		}
	}
	if c.Nulls() != nulls || (c.Valid() == nil) != (nulls == 0) {
		t.Fatalf("%v: %d absent values, bitmap %x, want %d", c.Type, c.Nulls(), c.Valid(), nulls)
	}
	if c.Valid() != nil && len(c.Valid()) != (c.Len()+7)/8 {
		t.Fatalf("%v: a bitmap of %d bytes for %d values", c.Type, len(c.Valid()), c.Len())
	}
	arrowLengths(t, c)
}

// arrowLengths checks that the buffers hold exactly Len values.
func arrowLengths(t *testing.T, c *Column) {
	t.Helper()
	n := c.Len()
	var got, want []int
	switch c.Type.Kind {
	case Bool:
		got, want = []int{len(c.Bits)}, []int{(n + 7) / 8}
	case Double:
		got, want = []int{len(c.Double)}, []int{n}
	case String, Bytes:
		got, want = []int{len(c.Offsets), len(c.Data)}, []int{n + 1, int(c.Offsets[n])}
	default:
		got, want = []int{len(c.Int64)}, []int{n}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%v: buffers of %v, want %v", c.Type, got, want)
	}
}

// TestColumnAgainstSlice appends, truncates and resets at random.
func TestColumnAgainstSlice(t *testing.T) {
	r := seeds.Rand(t)
	for _, ty := range everyType {
		var c Column
		for range 60 {
			c.Reset(ty)
			var oracle []cellOf
			for range r.IntN(30) {
				for range r.IntN(20) {
					oracle = appendRandom(r, &c, oracle)
				}
				compareColumn(t, &c, oracle)
				n := r.IntN(len(oracle) + 3)
				c.Truncate(n)
				oracle = oracle[:min(n, len(oracle))]
				compareColumn(t, &c, oracle)
			}
		}
	}
}

func TestColumnDoesNotAllocateAgain(t *testing.T) {
	for _, ty := range everyType {
		var c Column
		fill := func() {
			c.Reset(ty)
			for i := range 100 {
				switch {
				case i%7 == 0:
					c.AppendNull()
				case ty.Kind == Bool:
					c.AppendBool(true)
				case ty.Kind == Double:
					c.AppendDouble(1)
				case ty.Kind == String || ty.Kind == Bytes:
					c.AppendBytes([]byte("abc"))
				default:
					c.AppendInt64(1)
				}
			}
		}
		fill()
		if n := testing.AllocsPerRun(10, fill); n != 0 {
			t.Errorf("%v: %v allocations in a column of the same size", ty, n)
		}
	}
}

func testSchema() *Schema {
	s := &Schema{Stream: "s", Alias: "s", Time: 5, Key: -1, ID: -1}
	for i, ty := range everyType {
		s.Fields = append(s.Fields, Field{Name: fmt.Sprint("f", i), Type: ty, Optional: true})
	}
	return s
}

func TestBatch(t *testing.T) {
	s := testSchema()
	var b Batch
	b.Reset(s, []int{1, 4})
	if b.Len() != 0 || b.Watermark != MinTime || !b.Cols[1].Present() || b.Cols[0].Present() {
		t.Fatalf("after a reset: %+v", b)
	}
	p, q := Origin{"t", 0}, Origin{"t", 1}
	for i := range 5 {
		b.Origin = append(b.Origin, []Origin{p, q}[i%2])
		b.Offset = append(b.Offset, int64(i))
		b.Time = append(b.Time, Time(i))
		b.Cols[1].AppendInt64(int64(i))
		b.Cols[4].AppendBytes([]byte{byte('a' + i)})
	}
	b.Cols[1].AppendInt64(99) // half a row
	b.Truncate(5)
	b.Truncate(3)
	b.Truncate(7)
	if b.Len() != 3 || len(b.Origin) != 3 || len(b.Time) != 3 || b.Cols[1].Len() != 3 || !bytes.Equal(b.Cols[4].Data, []byte("abc")) {
		t.Errorf("after a truncation: %+v", b)
	}
	if b.OriginOf(0) != p || b.OriginOf(1) != q {
		t.Errorf("origins %v", b.Origin)
	}
	b.Origin = b.Origin[:1]
	if b.OriginOf(2) != p {
		t.Error("a single origin is not that of all rows")
	}
	b.Reset(s, []int{0})
	if b.Len() != 0 || len(b.Origin) != 0 || b.Cols[1].Present() || b.Cols[0].Len() != 0 {
		t.Errorf("after a second reset: %+v", b)
	}
}

func TestTypes(t *testing.T) {
	for _, ty := range everyType {
		got, err := ParseType(ty.String())
		if err != nil || !got.Equal(ty) {
			t.Errorf("ParseType(%q) = %v, %v", ty, got, err)
		}
	}
	for _, wrong := range []string{"", "none", "decimal", "decimal()", "decimal(19)", "decimal(-1)", "decimal(2", "decimal(2) ", "String", "int", "decimal(x)"} {
		if ty, err := ParseType(wrong); err == nil {
			t.Errorf("ParseType(%q) = %v, want an error", wrong, ty)
		}
	}
	s := testSchema()
	if s.Index("f3") != 3 || s.Index("f9") != -1 {
		t.Error("Index is wrong")
	}
}

func TestTime(t *testing.T) {
	for _, c := range []struct{ got, want Time }{
		{MaxTime.Add(time.Second), MaxTime}, {MinTime.Sub(time.Second), MinTime}, {MinTime.Add(-1), MinTime}, {MaxTime.Sub(-1), MaxTime},
		{Time(5).Sub(7), -2}, {Time(5).Add(-7), -2}, {FromMillis(-1), -1_000_000}, {FromMillis(1 << 60), MaxTime}, {FromMillis(-1 << 60), MinTime},
	} {
		if c.got != c.want {
			t.Errorf("got %d, want %d", c.got, c.want)
		}
	}
	for ns, ms := range map[Time]int64{0: 0, 1: 0, -1: -1, -1_000_000: -1, -1_000_001: -2, 1_999_999: 1} {
		if got := ns.Millis(); got != ms {
			t.Errorf("Time(%d).Millis() = %d, want %d", ns, got, ms)
		}
	}
	if MinTime.String() != "none" || Time(1e9).String() != "1970-01-01T00:00:01Z" || Time(1).String() != "1970-01-01T00:00:00.000000001Z" {
		t.Error("String is wrong")
	}
	if InRange(time.Date(1677, 12, 31, 0, 0, 0, 0, time.UTC)) || !InRange(time.Date(2261, 12, 31, 0, 0, 0, 0, time.UTC)) {
		t.Error("InRange is wrong")
	}
}

package event

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/weirstream/weir/test/seeds"
)

// nestedTypes are types of every shape, up to the depth that is allowed.
func nestedTypes(t testing.TB) (out []Type) {
	for _, text := range []string{
		"list(string)", "list(int64?)", "map(string)", "map(decimal(2)?)", "struct(lat double, lon double?)",
		"list(struct(sku string, price decimal(2), tags list(string)?))", "struct(a struct(b bool?, c list(list(int64?)?)), d map(bytes)?)",
		"map(list(struct(ok bool, at timestamp)))", "struct(only string)",
	} {
		ty, err := ParseType(text)
		if err != nil || ty.String() != text {
			t.Fatalf("ParseType(%q) = %v, %v", text, ty, err)
		}
		out = append(out, ty)
	}
	return out
}

// grow appends a random value, and the same to the JSON text that the slow twin
// keeps; absent is how often a value that may be absent is.
func grow(r *rand.Rand, c *Column, optional bool) string {
	if optional && r.IntN(4) == 0 {
		c.AppendNull()
		return "null"
	}
	n := r.Int64N(2000) - 1000
	switch c.Type.Kind {
	case Bool:
		c.AppendBool(n > 0)
		return strconv.FormatBool(n > 0)
	case Int64:
		c.AppendInt64(n)
		return strconv.FormatInt(n, 10)
	case Double:
		c.AppendDouble(float64(n) / 4)
		return strconv.FormatFloat(float64(n)/4, 'f', -1, 64)
	case Decimal:
		c.AppendInt64(n)
		return `"` + FormatDecimal(n, int(c.Type.Scale)) + `"`
	case Timestamp:
		c.AppendInt64(n * 1e9)
		return `"` + Time(n*1e9).String() + `"`
	case Bytes:
		c.AppendBytes([]byte("abc"))
		return `"YWJj"`
	case String:
		s := fmt.Sprint("v", n)
		c.AppendBytes([]byte(s))
		return `"` + s + `"`
	}
	var parts []string
	switch c.Type.Kind {
	case List:
		for range r.IntN(4) {
			parts = append(parts, grow(r, &c.Children[0], c.Type.Elem().Optional))
		}
	case Map:
		for i := range r.IntN(4) {
			c.Children[0].AppendBytes([]byte{byte('a' + i)})
			parts = append(parts, fmt.Sprintf(`"%c":%s`, 'a'+i, grow(r, &c.Children[1], c.Type.Elem().Optional)))
		}
	case Struct:
		for i := range c.Children {
			f := &c.Type.Fields[i]
			parts = append(parts, fmt.Sprintf("%q:%s", f.Name, grow(r, &c.Children[i], f.Optional)))
		}
	}
	c.AppendNested()
	if c.Type.Kind == List {
		return "[" + strings.Join(parts, ",") + "]"
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func seedOf(t testing.TB) *rand.Rand {
	return seeds.Rand(t)
}

// TestNestedAgainstText appends, gives up half a value, truncates and resets.
func TestNestedAgainstText(t *testing.T) {
	r := seedOf(t)
	for _, ty := range nestedTypes(t) {
		var c Column
		for range 40 {
			c.Reset(ty)
			var want []string
			for range r.IntN(20) {
				for range r.IntN(12) {
					want = append(want, grow(r, &c, true))
				}
				n := r.IntN(len(want) + 3)
				for i := range c.Children { // a value that is given up half-way
					if r.IntN(2) == 0 {
						grow(r, &c.Children[i], true)
					}
				}
				n = min(n, len(want))
				c.Truncate(n)
				want = want[:n]
				compareNested(t, &c, want)
			}
		}
	}
}

func compareNested(t *testing.T, c *Column, want []string) {
	t.Helper()
	if c.Len() != len(want) {
		t.Fatalf("%v: %d values, want %d", c.Type, c.Len(), len(want))
	}
	for i := range want {
		got := string(c.AppendJSON(nil, i))
		if got != want[i] || !json.Valid([]byte(got)) || c.IsNull(i) != (got == "null") {
			t.Fatalf("%v: value %d is %s, want %s", c.Type, i, got, want[i])
		}
	}
	for i := range c.Children { // Arrow: a struct's are as long, a list's as its last offset
		n := c.Len()
		if c.Type.Kind != Struct {
			n = int(c.Offsets[c.Len()])
		}
		if c.Children[i].Len() != n {
			t.Fatalf("%v: child %d has %d values, want %d", c.Type, i, c.Children[i].Len(), n)
		}
	}
}

func TestNestedDoesNotAllocateAgain(t *testing.T) {
	var b Batch
	s := &Schema{Stream: "s", Fields: []Field{{Name: "a", Type: nestedTypes(t)[5]}}}
	fill := func() {
		b.Reset(s, []int{0})
		c := &b.Cols[0]
		for range 100 {
			for range 3 {
				item := &c.Children[0]
				item.Children[0].AppendBytes([]byte("sku"))
				item.Children[1].AppendInt64(100)
				item.Children[2].AppendNull()
				item.AppendNested()
			}
			c.AppendNested()
		}
	}
	fill()
	if n := testing.AllocsPerRun(10, fill); n != 0 {
		t.Errorf("%v allocations in a column of the same size", n)
	}
}

func TestParseNestedTypes(t *testing.T) {
	for text, want := range map[string]string{
		"map(string, int64)": "map(int64)", "map( string , string? )": "map(string?)", "struct(string string)": "struct(string string)", "map(string)": "map(string)",
		"struct( a   int64 ,b decimal( 2 )? )": "struct(a int64, b decimal(2)?)",
	} {
		ty, err := ParseType(text)
		if err != nil || ty.String() != want {
			t.Errorf("ParseType(%q) = %v, %v; want %s", text, ty, err, want)
		}
	}
	for _, wrong := range []string{"list", "list()", "list(string", "list(string))", "list(string, string)", "map(int64, string)", "struct()", "struct(string)",
		"struct(a string, a int64)", "struct(1a string)", "struct(a string,)", "list(list(list(list(list(string)))))", "list(string)?", "list(nothing)"} {
		if ty, err := ParseType(wrong); err == nil {
			t.Errorf("ParseType(%q) = %v, want an error", wrong, ty)
		}
	}
}

// FuzzParseType reads back what String writes.
func FuzzParseType(f *testing.F) {
	for _, ty := range nestedTypes(f) {
		f.Add(ty.String())
	}
	f.Add("struct(a decimal(2)?, ")
	f.Fuzz(func(t *testing.T, text string) {
		ty, err := ParseType(text)
		if err != nil {
			return
		}
		again, err := ParseType(ty.String())
		if err != nil || !again.Equal(ty) || ty.Nesting() > MaxNesting {
			t.Errorf("%q is %v, read back as %v, %v", text, ty, again, err)
		}
	})
}

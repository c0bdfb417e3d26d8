package event

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/weirstream/weir/test/seeds"
)

// TestWire sends random rows of random columns through AppendWire and ReadWire, and
// copies them one by one with AppendFrom.
func TestWire(t *testing.T) {
	r := seeds.Rand(t)
	for _, ty := range append(nestedTypes(t), everyType...) {
		for range 30 {
			var c, read, copied Column
			c.Reset(ty)
			for range r.IntN(40) {
				grow(r, &c, r.IntN(2) == 0)
			}
			read.Reset(ty)
			copied.Reset(ty)
			var want []string
			for range 1 + r.IntN(3) {
				var rows []int32
				for range r.IntN(20) {
					if c.Len() > 0 {
						rows = append(rows, int32(r.IntN(c.Len())))
					}
				}
				data := append(c.AppendWire(nil, rows), "behind"...)
				rest, err := read.ReadWire(data, len(rows))
				if err != nil || string(rest) != "behind" {
					t.Fatalf("%v: %v, %q is left", ty, err, rest)
				}
				for _, i := range rows {
					want = append(want, string(c.AppendJSON(nil, int(i))))
					copied.AppendFrom(&c, int(i))
				}
			}
			nulls := 0
			for i, w := range want {
				if got := string(read.AppendJSON(nil, i)); got != w {
					t.Fatalf("%v: value %d read is %s, want %s", ty, i, got, w)
				}
				if got := string(copied.AppendJSON(nil, i)); got != w {
					t.Fatalf("%v: value %d copied is %s, want %s", ty, i, got, w)
				}
				if w == "null" {
					nulls++
				}
			}
			if read.Len() != len(want) || copied.Len() != len(want) || read.Nulls() != nulls || copied.Nulls() != nulls {
				t.Fatalf("%v: %d and %d values, %d and %d absent, want %d and %d", ty, read.Len(), copied.Len(), read.Nulls(), copied.Nulls(), len(want), nulls)
			}
		}
	}
}

// FuzzWire reads anything as a column of any type: an error or values, and memory in
// proportion to the bytes.
func FuzzWire(f *testing.F) {
	all := append(nestedTypes(f), everyType...)
	r := rand.New(rand.NewPCG(1, 1))
	for i, ty := range all {
		var c Column
		c.Reset(ty)
		for range 5 {
			grow(r, &c, true)
		}
		f.Add(uint8(i), 5, c.AppendWire(nil, []int32{0, 1, 2, 3, 4}))
	}
	f.Fuzz(func(t *testing.T, which uint8, n int, data []byte) {
		var c Column
		c.Reset(all[int(which)%len(all)])
		_, err := c.ReadWire(data, n)
		if err != nil {
			if !errors.Is(err, ErrWire) {
				t.Fatal(err)
			}
			return
		}
		if c.Len() != n || n > 8*len(data) {
			t.Fatalf("%d values of %d bytes, want %d", c.Len(), len(data), n)
		}
		for i := range n {
			c.AppendJSON(nil, i)
		}
	})
}

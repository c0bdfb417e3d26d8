package window

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/test/seeds"
)

// TestZone compares a zone with a slice, where its numbers begin again, too.
func TestZone(t *testing.T) {
	seeds.Each(t, 300, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 31))
		z := zone{stride: 2}
		z.next = uint64(r.IntN(3)) * (numbers - 50)
		z.first = z.next
		type row struct {
			key uint32
			t   event.Time
		}
		var rows []row
		lasts := make([]uint32, 4)
		for i := range 400 {
			switch {
			case r.IntN(3) == 0 && len(rows) > 0:
				z.pop()
				rows = rows[1:]
			default:
				one := row{uint32(r.IntN(4)), event.Time(i + r.IntN(20))}
				rows = append(rows, one)
				z.push(int64(i), one.key, []uint64{uint64(one.t), 7}, &lasts[one.key])
			}
			key, after := uint32(r.IntN(4)), event.Time(i-r.IntN(40))
			var got, want []event.Time
			z.later(lasts[key], key, after, func(words []uint64) { got = append(got, event.Time(words[0])) })
			for _, one := range slices.Backward(rows) {
				if one.key == key && one.t > after {
					want = append(want, one.t)
				}
			}
			if !slices.Equal(got, want) {
				t.Fatalf("key %d behind %d: %v, want %v", key, after, got, want)
			}
		}
	})
}

package window

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/weirstream/weir/test/seeds"
)

// TestDoubleSums adds and takes away doubles of all magnitudes and compares with
// arbitrary precision, rounded once.
func TestDoubleSums(t *testing.T) {
	seeds.Each(t, 500, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 3))
		var narrow [narrowLimbs]uint64
		var wide wideSum
		exact := new(big.Float).SetPrec(4000)
		var in []float64
		put := func(v float64, subtract bool) {
			if isNarrow(v) {
				addDouble(narrow[:], narrowExp, v, subtract)
			} else {
				wide.add(v, subtract)
			}
			x := new(big.Float).SetPrec(4000).SetFloat64(v)
			if subtract {
				x.Neg(x)
			}
			exact.Add(exact, x)
		}
		for range 100 {
			if len(in) > 0 && r.IntN(3) == 0 {
				i := r.IntN(len(in))
				put(in[i], true)
				in[i] = in[len(in)-1]
				in = in[:len(in)-1]
			} else {
				v := randomDouble(r, true)
				if r.IntN(3) == 0 {
					v = math.Ldexp(float64(r.Uint64()>>11), -1074-r.IntN(3)+r.IntN(60)) // about subnormal
				}
				in = append(in, v)
				put(v, false)
			}
			want, _ := exact.Float64()
			if got := wide.total(narrow[:]); math.Float64bits(got) != math.Float64bits(want) && !(got == 0 && want == 0) {
				t.Errorf("%v, want %v", got, want)
				return
			}
			if wide.n == 0 {
				if got := round(narrow[:], narrowExp); got != want {
					t.Errorf("narrow: %v, want %v", got, want)
				}
			}
		}
	})
}

func TestSpecialDoubles(t *testing.T) {
	var narrow [narrowLimbs]uint64
	var w wideSum
	for _, v := range []float64{math.Inf(1), math.Inf(-1), math.NaN()} {
		if isNarrow(v) {
			t.Errorf("%v is taken for narrow", v)
		}
	}
	w.add(math.Inf(1), false)
	if got := w.total(narrow[:]); !math.IsInf(got, 1) {
		t.Errorf("+Inf gives %v", got)
	}
	w.add(math.Inf(-1), false)
	if got := w.total(narrow[:]); !math.IsNaN(got) {
		t.Errorf("+Inf and -Inf give %v", got)
	}
	w.add(math.Inf(1), true)
	w.add(math.NaN(), false)
	w.add(math.NaN(), true)
	if got := w.total(narrow[:]); !math.IsInf(got, -1) {
		t.Errorf("-Inf gives %v", got)
	}
	w.add(math.Inf(-1), true)
	if w.n != 0 || w.total(narrow[:]) != 0 {
		t.Errorf("an empty sum is %v", w.total(narrow[:]))
	}
}

func TestIntSums(t *testing.T) {
	var s [intLimbs]uint64
	exact := new(big.Int)
	r := rand.New(rand.NewPCG(7, 7))
	for range 10000 {
		v, subtract := int64(r.Uint64()), r.IntN(2) == 0
		addInt(s[:], v, subtract)
		x := big.NewInt(v)
		if subtract {
			x.Neg(x)
		}
		exact.Add(exact, x)
		got, ok := int64Of(s[:])
		if ok != exact.IsInt64() || ok && got != exact.Int64() {
			t.Fatalf("%v %v, want %v", got, ok, exact)
		}
		want, _ := new(big.Float).SetInt(exact).Float64()
		if f := round(s[:], 0); f != want {
			t.Fatalf("as a double %v, want %v", f, want)
		}
	}
}

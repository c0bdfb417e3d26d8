package seeds

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// long is how many times as many worlds WEIR_LONG=1 is.
const long = 50

// One is the seed of a test that has one, which it prints.
func One(t testing.TB) uint64 {
	t.Helper()
	seed, named := named(t)
	if !named {
		seed = first(t)
	}
	t.Logf("WEIR_SEED=%d", seed)
	return seed
}

// Rand is randomness from One.
func Rand(t testing.TB) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(One(t), 0))
}

// Count is how many times to do what is done n times in make test.
func Count(t testing.TB, n int) int {
	t.Helper()
	if k, ok := number(t, "WEIR_SEEDS"); ok {
		return n * int(k)
	}
	switch {
	case Long(t):
		return n * long
	case testing.Short():
		return max(1, n/10)
	}
	return n
}

// Long reports WEIR_LONG=1, for what has more sizes than a count.
func Long(t testing.TB) bool {
	t.Helper()
	v, _ := number(t, "WEIR_LONG")
	return v > 0
}

// List is the seeds of Count(n) worlds, or the one that WEIR_SEED names.
func List(t testing.TB, n int) []uint64 {
	t.Helper()
	if seed, ok := named(t); ok {
		return []uint64{seed}
	}
	seed := first(t)
	all := make([]uint64, Count(t, n))
	for i := range all {
		all[i] = seed + uint64(i)
	}
	return all
}

// Each runs the worlds of List one after the other, up to the first that fails, and
// reports whether n of them passed: what only many worlds together show is to be asked
// of no fewer.
func Each(t *testing.T, n int, world func(t *testing.T, seed uint64)) bool {
	t.Helper()
	all := List(t, n)
	for i, seed := range all {
		if !t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { world(t, seed) }) {
			t.Logf("after %d worlds that passed: WEIR_SEED=%d", i, seed)
			return false
		}
	}
	return len(all) >= n
}

// first is the first seed of a test: from WEIR_SEED_BASE and its name, or random.
func first(t testing.TB) uint64 {
	base := os.Getenv("WEIR_SEED_BASE")
	if base == "" {
		return uint64(rand.Uint32())
	}
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %s", base, t.Name())
	return h.Sum64() >> 32 // short enough to be read to somebody
}

func named(t testing.TB) (uint64, bool) {
	t.Helper()
	return number(t, "WEIR_SEED")
}

func number(t testing.TB, name string) (uint64, bool) {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n, true
}

package seeds

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// One is the seed of a test that has one: WEIR_SEED, or any.
func One(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("WEIR_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("WEIR_SEED: %v", err)
		}
	}
	t.Logf("WEIR_SEED=%d", seed)
	return seed
}

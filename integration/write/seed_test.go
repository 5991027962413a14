package write_test

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// newSeed returns the seed of a test's random choices, which is the one that
// MESHMOUNT_SEED names, and logs it.
func newSeed(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("MESHMOUNT_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("MESHMOUNT_SEED: %v", err)
		}
		seed = n
	}
	t.Logf("MESHMOUNT_SEED=%d", seed)
	return seed
}

// newRandom returns one of a test's sequences of random numbers.
func newRandom(seed, sequence uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, sequence)) }

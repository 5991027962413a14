package writeback

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// extents against a bitmap: whatever the order of adds and cuts, the set is the
// same and its list stays sorted, disjoint and without neighbours that touch.
func TestExtentsAgainstBitmap(t *testing.T) {
	const size = 200
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		var x extents
		var bits [size]bool
		for range 30 {
			off := r.Int64N(size)
			end := off + r.Int64N(size-off+1)
			if r.IntN(5) == 0 {
				x.cut(off)
				clear(bits[off:])
			} else {
				x.add(off, end)
				for i := off; i < end; i++ {
					bits[i] = true
				}
			}
			checkExtents(t, seed, x, bits[:])
		}
		off, end := int64(20), int64(150)
		want := bits
		for _, m := range x.missing(off, end) {
			for i := m.Off; i < m.End; i++ {
				if want[i] {
					t.Fatalf("seed %d: byte %d is in the set and missing", seed, i)
				}
				want[i] = true
			}
		}
		if slices.Contains(want[off:end], false) {
			t.Fatalf("seed %d: missing() leaves out bytes that are not there", seed)
		}
	}
}

func checkExtents(t *testing.T, seed uint64, x extents, bits []bool) {
	t.Helper()
	got := make([]bool, len(bits))
	last := int64(-1)
	for _, e := range x.list {
		if e.Off <= last || e.End <= e.Off {
			t.Fatalf("seed %d: list is not canonical: %v", seed, x.list)
		}
		last = e.End
		for i := e.Off; i < e.End; i++ {
			got[i] = true
		}
	}
	if !slices.Equal(got, bits) {
		t.Fatalf("seed %d: set differs: %v", seed, x.list)
	}
}

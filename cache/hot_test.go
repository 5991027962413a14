package cache

import (
	"fmt"
	"path/filepath"
	"testing"
)

// TestHotBlocks reads blocks again and again while others take their slots: what is
// remembered of a place never outlives the block that was there.
func TestHotBlocks(t *testing.T) {
	s := openStore(t, filepath.Join(t.TempDir(), "c"), testOptions())
	defer closeStore(t, s)
	slots := s.Stats().MaxSlots
	for round := range 4 {
		for n := range slots {
			k := key(fmt.Sprintf("/f%d", round), n)
			put(t, s, k)
			for range 2 {
				checkGet(t, s, k, 100, 50)
			}
			if n%7 == 0 {
				s.Drop(k.Branch, k.Object)
				if checkGet(t, s, k, 0, 10) || s.want(k) {
					t.Fatalf("block %d is here after it was dropped", n)
				}
			}
		}
	}
	if n := len(s.hot.byKey); n == 0 || n > maxHot || n != len(s.hot.bySlot) {
		t.Errorf("%d and %d places are remembered", n, len(s.hot.bySlot))
	}
	for k, hot := range s.hot.byKey {
		loc, err := s.index.get(k.ident(s.session).id)
		if err != nil || loc.slot != hot.slot || loc.generation != hot.h.generation {
			t.Errorf("%+v: slot %d is remembered, the index says %+v, %v", k, hot.slot, loc, err)
		}
	}
}

package cache

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// TestConcurrent has many goroutines put, read and drop more than fits, over flushes of
// the index: no byte is wrong, and all slots are accounted for in the end.
func TestConcurrent(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c")
	s := openStore(t, dir, testOptions())
	var users sync.WaitGroup
	for user := range 6 {
		users.Go(func() {
			dice := rand.New(rand.NewPCG(uint64(user), 5))
			for range 500 {
				k := key(fmt.Sprint("/o", dice.IntN(4)), dice.IntN(60))
				switch dice.IntN(10) {
				case 0, 1, 2, 3:
					put(t, s, k)
				case 4:
					if dice.IntN(8) == 0 {
						s.Drop("b", k.Object)
					}
				default:
					checkGet(t, s, k, dice.IntN(testBlock), 5000)
				}
			}
		})
	}
	users.Wait()
	if st := s.Stats(); st.State != StateReady {
		t.Errorf("%+v", st)
	}
	checkQueue(t, s.queue)
	s.DropBranch("b")
	for n := range 60 {
		if k := key("/o0", n); s.Has(k) {
			t.Errorf("block %d is there after its branch was dropped", n)
		}
	}
	closeStore(t, s)
	openStore(t, dir, testOptions())
}

// checkQueue wants every slot in exactly one place and none pinned.
func checkQueue(t *testing.T, q *queue) {
	t.Helper()
	seen := make([]int, len(q.slots))
	for _, i := range q.free {
		seen[i]++
		if q.slots[i].lane != inFree {
			t.Errorf("slot %d is free and in lane %d", i, q.slots[i].lane)
		}
	}
	for _, l := range []lane{inSmall, inMain} {
		n := 0
		for i := q.lists[l].head; i != none; i = q.slots[i].next {
			seen[i]++
			n++
		}
		if n != q.lists[l].n {
			t.Errorf("lane %d has %d slots and says %d", l, n, q.lists[l].n)
		}
	}
	for i, n := range seen {
		if n != 1 || q.slots[i].pins != 0 {
			t.Errorf("slot %d is in %d places, pinned %d times", i, n, q.slots[i].pins)
		}
	}
}

// TestQueue drives the queue alone.
func TestQueue(t *testing.T) {
	q := newQueue(40)
	q.grow(40, 0)
	dice := rand.New(rand.NewPCG(1, 9))
	for n := range 20_000 {
		switch i := int32(dice.IntN(len(q.slots))); dice.IntN(8) {
		case 0, 1, 2:
			slot, fromSmall, ok := q.take()
			if !ok {
				t.Fatal("no slot is left")
			}
			if fromSmall {
				q.remember(uint64(slot) * 77)
			}
			q.filled(slot, uint64(n))
		case 3:
			q.empty(i)
		case 4:
			if len(q.slots) > 20 {
				q.shrink(10)
			} else {
				q.grow(10, dice.IntN(11))
			}
		default:
			q.touch(i, dice.IntN(1000), dice.IntN(100), 1000)
		}
	}
	checkQueue(t, q)
}

// TestTouch tells the pieces of one pass from reading again.
func TestTouch(t *testing.T) {
	const size, request = 1 << 20, 128 << 10
	q := newQueue(1)
	q.grow(1, 1)
	for _, n := range []int{0, 2, 1, 3, 4, 6, 5, 7} { // two requests may swap
		q.touch(0, n*request, request, size)
	}
	if got := q.slots[0].count; got != 0 {
		t.Errorf("one pass counts as %d reads", got)
	}
	for n := range 8 {
		q.touch(0, n*request, request, size)
	}
	if got := q.slots[0].count; got != 1 {
		t.Errorf("a second pass counts as %d reads", got)
	}
	q.slots[0].count = 0
	for range 2 * apart {
		q.touch(0, size-4096, 4096, size)
	}
	if got := q.slots[0].count; got == 0 {
		t.Error("reading one place for ever does not count")
	}
}

// TestConcurrentReaders reads files that change, over a store that is too small, with
// Invalidate and Warm between: each read gives the bytes of its version, or Changed.
func TestConcurrentReaders(t *testing.T) {
	w := wrap(t, memory.Options{}, Policy{MaxRequest: 3 * testBlock})
	const size = 3*testBlock + 1000
	old := w.file(t, "/f", remotetest.Pattern(size, 1))
	var users sync.WaitGroup
	var once sync.Once
	for user := range 6 {
		users.Go(func() {
			dice := rand.New(rand.NewPCG(uint64(user), 6))
			for n := range 150 {
				off, length := dice.IntN(size), dice.IntN(size)
				p := make([]byte, length)
				got, err := w.ReadAt(t.Context(), old, p, int64(off))
				want := remotetest.Pattern(size, 1)[off:min(off+length, size)]
				if err == nil || got > 0 {
					if got != len(want) || string(p[:got]) != string(want) {
						t.Errorf("%d bytes at %d: other bytes, %v", length, off, err)
					}
				} else if remote.KindOf(err) != remote.Changed && length > 0 {
					t.Errorf("%d bytes at %d: %v", length, off, err)
				}
				switch {
				case dice.IntN(20) == 0:
					w.Invalidate("/f")
				case dice.IntN(10) == 0:
					_ = w.Warm(t.Context(), old, 0, size) // may have changed
				case n == 100:
					once.Do(func() { w.file(t, "/f", remotetest.Pattern(size, 2)) })
				}
			}
		})
	}
	users.Wait()
	w.fetched(t)
}

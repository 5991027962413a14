package mount

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshmount/meshmount/fs"
	"github.com/meshmount/meshmount/remote"
)

// waiters returns how many wait for a hold.
func (t *tree) waiters() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.holds.waiting
}

// untilWaiting returns when n wait for a hold.
func untilWaiting(t *testing.T, tr *tree, n int) {
	t.Helper()
	for deadline := time.Now().Add(4 * time.Minute); tr.waiters() != n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d wait, want %d", tr.waiters(), n)
		}
	}
}

// must returns the hold or fails.
func must(t *testing.T) func(*hold, error) *hold {
	return func(h *hold, err error) *hold {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
}

func TestHoldShared(t *testing.T) {
	tr := newTree(fs.RootIno)
	a := tr.enter(tr.root, "a", dir(10))
	h1 := must(t)(tr.hold(claim{a, "x"}))
	h2 := must(t)(tr.hold(claim{a, "x"}))
	other := must(t)(tr.holdAlone(claim{a, "y"}, claim{tr.root, "b"}))
	if h1.paths[0] != "/a/x" || other.paths[0] != "/a/y" || other.paths[1] != "/b" {
		t.Errorf("paths %v %v", h1.paths, other.paths)
	}
	for _, h := range []*hold{h1, h2, other} {
		h.release()
	}
}

// A lookup that began before a rename ends before it; one that comes during the
// rename sees the new names.
func TestHoldRename(t *testing.T) {
	tr := newTree(fs.RootIno)
	a := tr.enter(tr.root, "a", dir(10))
	x := tr.enter(a, "x", file(11))
	early := must(t)(tr.hold(claim{x, ""}))

	var order []string
	var mu sync.Mutex
	log := func(s string) { mu.Lock(); order = append(order, s); mu.Unlock() }
	var all sync.WaitGroup
	all.Go(func() {
		h := must(t)(tr.holdAlone(claim{tr.root, "a"}, claim{tr.root, "b"}))
		log("rename")
		tr.rename(place{tr.root, "a"}, place{tr.root, "b"})
		h.release()
	})
	untilWaiting(t, tr, 1)
	all.Go(func() {
		h := must(t)(tr.hold(claim{x, ""}))
		log("late " + h.paths[0])
		h.release()
	})
	untilWaiting(t, tr, 2)
	// What has nothing to do with it does not wait.
	must(t)(tr.hold(claim{tr.root, "c"})).release()
	must(t)(tr.hold(claim{tr.root, ""})).release()
	log("early " + early.paths[0])
	early.release()
	all.Wait()
	if got := fmt.Sprint(order); got != "[early /a/x rename late /b/x]" {
		t.Errorf("order %s", got)
	}
}

func TestHoldStale(t *testing.T) {
	tr := newTree(fs.RootIno)
	x := tr.enter(tr.root, "x", dir(10))
	alone := must(t)(tr.holdAlone(claim{tr.root, "x"}))
	var all sync.WaitGroup
	for _, take := range []func() (*hold, error){
		func() (*hold, error) { return tr.hold(claim{x, "y"}) },
		func() (*hold, error) { return tr.holdAlone(claim{x, "y"}, claim{tr.root, "z"}) },
	} {
		all.Go(func() {
			if _, err := take(); !errors.Is(err, errStale) {
				t.Errorf("hold in a directory that was removed: %v", err)
			}
		})
	}
	untilWaiting(t, tr, 2)
	tr.remove(tr.root, "x")
	alone.release()
	all.Wait()
	// A failed hold leaves nothing behind.
	must(t)(tr.holdAlone(claim{tr.root, "z"})).release()
}

// Many renames and uses at once: nobody is in the way of an exclusive hold, the
// paths of a hold do not change, and all come to an end.
func TestHoldMany(t *testing.T) {
	tr := newTree(fs.RootIno)
	names := []string{"a", "b", "c"}
	var files []*node
	for i, n := range names {
		d := tr.enter(tr.root, n, dir(uint64(10+i)))
		files = append(files, tr.enter(d, "f", file(uint64(20+i))))
	}
	var using [256]atomic.Int32 // by first letter of the path; negative: exclusive
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 1))
			for range 500 {
				if rnd.IntN(4) > 0 {
					useShared(t, tr, files[rnd.IntN(len(files))], &using)
				} else {
					useAlone(t, tr, names[rnd.IntN(3)], names[rnd.IntN(3)], &using)
				}
			}
		})
	}
	all.Wait()
	if len(tr.holds.shared)+len(tr.holds.exclusive)+tr.holds.waiting != 0 {
		t.Errorf("left: %d shared, %d exclusive, %d waiting", len(tr.holds.shared), len(tr.holds.exclusive), tr.holds.waiting)
	}
}

func useShared(t *testing.T, tr *tree, n *node, using *[256]atomic.Int32) {
	h, err := tr.hold(claim{n, ""})
	if err != nil {
		return // renamed away
	}
	defer h.release()
	at := &using[h.paths[0][1]]
	if at.Add(1) <= 0 {
		t.Errorf("%s is used while it is held exclusively", h.paths[0])
	}
	if now, _ := tr.where(n); now != h.paths[0] {
		t.Errorf("%s became %q", h.paths[0], now)
	}
	at.Add(-1)
}

func useAlone(t *testing.T, tr *tree, from, to string, using *[256]atomic.Int32) {
	h, err := tr.holdAlone(claim{tr.root, from}, claim{tr.root, to}, claim{tr.root, "t"})
	if err != nil {
		t.Error(err)
		return
	}
	defer h.release()
	const many = 1 << 20
	for _, p := range h.paths {
		if using[p[1]].Add(-many) > -many {
			t.Errorf("%s is held exclusively while it is used", p)
		}
	}
	if from != to && !remote.Within(h.paths[0], h.paths[1]) {
		swap(tr, from, to)
	}
	for _, p := range h.paths {
		using[p[1]].Add(many)
	}
}

// swap exchanges two names by three renames.
func swap(tr *tree, a, b string) {
	tr.rename(place{tr.root, a}, place{tr.root, "t"})
	tr.rename(place{tr.root, b}, place{tr.root, a})
	tr.rename(place{tr.root, "t"}, place{tr.root, b})
}

package fs

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

func TestLockerExcludes(t *testing.T) {
	var l locker
	held := l.lock(tree("/a"))
	l.lock(one("/ab"))() // no relation to /a; behind tree("/") it would wait
	entered := make(chan string, 3)
	var wg sync.WaitGroup
	for _, s := range []lockSpec{one("/a/b/c"), tree("/"), one("/a")} {
		wg.Go(func() {
			unlock := l.lock(s)
			entered <- s.path
			unlock()
		})
	}
	select {
	case p := <-entered:
		t.Fatalf("lock on %s was granted while /a is held", p)
	case <-time.After(20 * time.Millisecond):
	}
	held()
	wg.Wait()
	if len(entered) != 3 {
		t.Fatal("a waiter was lost")
	}
	if len(l.queue) != 0 {
		t.Fatal("locks are left over")
	}
}

// Many goroutines take random sets of locks; each set guards its paths.
func TestLockerRandom(t *testing.T) {
	var l locker
	paths := []string{"/a", "/a/b", "/a/b/c", "/d", "/d/e"}
	counts := map[string]*int{}
	for _, p := range paths {
		counts[p] = new(int)
	}
	var wg sync.WaitGroup
	for g := range uint64(8) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(g, 2))
			for range 200 {
				p, q := paths[r.IntN(len(paths))], paths[r.IntN(len(paths))]
				unlock := l.lock(one(p), tree(q))
				*counts[p]++ // the race detector watches
				if q != p {
					*counts[q]++
				}
				unlock()
			}
		})
	}
	wg.Wait()
}

func TestInodesFollowRenames(t *testing.T) {
	n := newInodes()
	a, ax := n.of("/a"), n.of("/a/x")
	if again := newInodes().of("/a/x"); again != ax {
		t.Error("number differs after a remount")
	}
	n.rename("/a", "/b")
	if n.of("/b") != a || n.of("/b/x") != ax {
		t.Error("a renamed directory or its child lost its number")
	}
	if got := n.of("/a"); got == a {
		t.Error("the old name still has the number")
	}
	if got := n.of("/a/x"); got == ax {
		t.Error("a new file has the number of one that lives elsewhere")
	}
	n.rename("/b", "/a")
	if n.of("/a") != a || n.of("/a/x") != ax {
		t.Error("numbers are lost on the way back")
	}
	n.gone("/a/x")
	if n.of("/a/x") == ax {
		t.Error("a number was used again")
	}
}

// Every object that lives at the same time has its own number.
func TestInodesNeverShared(t *testing.T) {
	n := newInodes()
	r := rand.New(rand.NewPCG(3, 4))
	names := []string{"/a", "/b", "/c", "/d"}
	live := map[string]uint64{}
	for range 5000 {
		p, q := names[r.IntN(4)], names[r.IntN(4)]
		switch _, ok := live[p]; {
		case !ok:
			live[p] = n.of(p)
		case r.IntN(2) == 0:
			n.gone(p)
			delete(live, p)
		case p != q:
			n.rename(p, q)
			live[q] = live[p]
			delete(live, p)
		}
		seen := map[uint64]string{}
		for p, ino := range live {
			if n.of(p) != ino {
				t.Fatalf("%s changed its number", p)
			}
			if other, dup := seen[ino]; dup {
				t.Fatalf("%s and %s share a number", p, other)
			}
			seen[ino] = p
		}
	}
}

func TestGenerationsAreBounded(t *testing.T) {
	g := newGenerations[int, int](100)
	for i := range 10_000 {
		g.put(i, i)
		g.put(-1, i)
		if v, ok := g.get(-1); !ok || v != i {
			t.Fatal("what is used all the time was forgotten")
		}
	}
	if n := len(g.young) + len(g.old); n > 101 {
		t.Fatalf("holds %d", n)
	}
}

package irods

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// knownTree makes a tree and returns what is below its top.
func knownTree(t *testing.T, b *Backend, top string) (known []remote.Known) {
	t.Helper()
	for _, dir := range []string{top, top + "/a_b", top + "/a_b/it's", top + "/c"} {
		mkdir(t, b, dir)
		if dir != top {
			known = append(known, remote.Known{Path: dir, Type: remote.Dir})
		}
		for i := range 3 {
			e := put(t, b, fmt.Sprintf("%s/f%d", dir, i), dir, fresh)
			known = append(known, remote.Known{Path: e.Path, Type: remote.File, Version: e.Version})
		}
	}
	return known
}

// TestPrune wants the tree alone to go, to the trash in one call.
func TestPrune(t *testing.T) {
	for _, use := range []bool{false, true} {
		z := startZone(t, zone.Options{})
		opts := options(z, z.Addr())
		opts.Trash = use
		b := dial(t, opts)
		known := knownTree(t, b, "/t_x")
		knownTree(t, b, "/tyx") // fits the pattern as well
		knownTree(t, b, "/t_x2")
		got := counted(z, func() {
			if err := b.Prune(t.Context(), "/t_x", known); err != nil {
				t.Error(err)
			}
		})
		if use && (got["remove collection"] != 1 || got["unlink"] != 0) || !use && (got["remove collection"] != 4 || got["unlink"] != 12) {
			t.Errorf("trash %v: it took %v", use, got)
		}
		if all := names(t, b, "/"); len(all) != 2 {
			t.Errorf("trash %v: left are %v", use, all)
		}
		for _, dir := range []string{"/tyx", "/t_x2", "/tyx/a_b/it's"} {
			if all := names(t, b, dir); len(all) < 3 {
				t.Errorf("trash %v: in %s are %v", use, dir, all)
			}
		}
		if all := inTrash(connect(t, z, "alice"), z); use != (len(all) == 12) {
			t.Errorf("trash %v: in it are %q", use, all)
		}
	}
}

// TestPruneMeetsChanges has somebody else put an object into the tree when the removal has
// begun: it stays, and the error says that a part is gone.
func TestPruneMeetsChanges(t *testing.T) {
	z := startZone(t, zone.Options{})
	b, other := dial(t, options(z, z.Addr())), dial(t, options(z, z.Addr()))
	known := knownTree(t, b, "/t")
	mkdir(t, other, "/outside") // its connection is there
	var once sync.Once
	z.SetFaults(func(c zone.Call) *zone.Fault {
		if c.API == wire.APIDataObjUnlink {
			once.Do(func() { put(t, other, "/t/c/theirs", "theirs", fresh) })
		}
		return nil
	})
	err := b.Prune(t.Context(), "/t", known)
	z.SetFaults(nil)
	if !errors.Is(err, remote.NotEmpty) || !unsure(err) {
		t.Errorf("an object came into the tree: %v", err)
	}
	if all := names(t, b, "/t/c"); len(all) != 1 {
		t.Errorf("left are %v", all)
	}
	if err := b.Prune(t.Context(), "/t", known); !errors.Is(err, remote.Conflict) {
		t.Errorf("again: %v", err)
	}
}

// TestPruneSparesWhatWasOverwritten has somebody else write an object anew after the proof of
// the tree, just before the question about the objects of a lot: it stays.
func TestPruneSparesWhatWasOverwritten(t *testing.T) {
	z := startZone(t, zone.Options{})
	b, other := dial(t, options(z, z.Addr())), dial(t, options(z, z.Addr()))
	mkdir(t, other, "/outside") // its connection is there
	last := 0                   // questions that a removal asks; the last is the one that matters
	var mu sync.Mutex
	asks := func(then func(n int)) func(zone.Call) *zone.Fault {
		n := 0
		return func(c zone.Call) *zone.Fault {
			mu.Lock()
			defer mu.Unlock()
			if c.API == wire.APIGenQuery {
				n++
				then(n)
			}
			return nil
		}
	}
	known := knownTree(t, b, "/t")
	z.SetFaults(asks(func(n int) { last = n }))
	err := b.Prune(t.Context(), "/t", known)
	z.SetFaults(nil)
	if err != nil {
		t.Fatal(err)
	}
	known = knownTree(t, b, "/t")
	theirs := make(chan struct{})
	z.SetFaults(asks(func(n int) {
		if n != last {
			return
		}
		go func() { // its own questions come here as well
			defer close(theirs)
			put(t, other, "/t/c/f1", "theirs", remote.PutOptions{})
		}()
		mu.Unlock()
		<-theirs
		mu.Lock()
	}))
	err = b.Prune(t.Context(), "/t", known)
	z.SetFaults(nil)
	if !errors.Is(err, remote.Conflict) || !unsure(err) {
		t.Errorf("an object was written anew: %v", err)
	}
	if all := names(t, b, "/t/c"); len(all) != 1 || contentOf(t, b, "/t/c/f1") != "theirs" {
		t.Errorf("left are %v", all)
	}
}

// TestPruneLocked prunes a tree with an object that somebody writes: nothing goes before that
// is over.
func TestPruneLocked(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	known := knownTree(t, b, "/t")
	alice := connect(t, z, "alice")
	desc := alice.open(b.full("/t/c/f1"), wire.OpenWriteOnly)
	if err := b.Prune(t.Context(), "/t", known); !errors.Is(err, remote.Conflict) || unsure(err) {
		t.Errorf("with a locked object: %v", err)
	}
	if all := names(t, b, "/t/a_b"); len(all) != 4 {
		t.Errorf("left are %v", all)
	}
	alice.close(desc)
}

// TestPruneFaults has each kind of call fail once: the next attempt ends it.
func TestPruneFaults(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	for what, api := range map[string]int{"query": wire.APIGenQuery, "unlink": wire.APIDataObjUnlink, "rmcoll": wire.APIRmColl} {
		for how, fault := range map[string]zone.Fault{"killed": {Kill: true}, "refused": {Code: wire.CodeResourceDown}} {
			known := knownTree(t, b, "/t")
			var once sync.Once
			z.SetFaults(func(c zone.Call) (f *zone.Fault) {
				if c.API == api {
					once.Do(func() { f = &fault })
				}
				return f
			})
			err := b.Prune(t.Context(), "/t", known)
			z.SetFaults(nil)
			if !remote.Retryable(err) || unsure(err) != (what != "query") {
				t.Errorf("%s %s: %v", what, how, err)
			}
			if err := b.Prune(t.Context(), "/t", known); err != nil && !errors.Is(err, remote.NotExist) {
				t.Errorf("%s %s, again: %v", what, how, err)
			}
			if left := names(t, b, "/"); len(left) != 0 {
				t.Fatalf("%s %s: left are %v", what, how, left)
			}
		}
	}
}

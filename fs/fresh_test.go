package fs

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/meshmount/meshmount/cache"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
)

// counted is a world with a Tree that can be mounted again, whose calls are counted.
type counted struct {
	*strange
	dir    string // of the Store
	store  *cache.Store
	branch func(*Branch)

	countMu sync.Mutex
	calls   map[remote.Op]int // guarded by countMu
}

// kinds are the ways to prove listings.
var kinds = map[string]memory.Options{"version": {Propagate: true}, "tracker": {}, "ttl": {}}

// newCounted makes a world of a kind with a Tree.
func newCounted(t *testing.T, kind string, change ...func(*Branch)) *counted {
	t.Helper()
	c := &counted{dir: filepath.Join(t.TempDir(), "cache"), calls: map[remote.Op]int{}}
	c.branch = func(b *Branch) {
		if kind != "tracker" {
			b.Backend = untracked{b.Backend}
		}
		b.Backend = remote.Intercept(b.Backend, c.count)
		b.Tree = c.store.Tree("a")
		for _, f := range change {
			f(b)
		}
	}
	c.openStore(t)
	opts := kinds[kind]
	if kind == "weak" {
		opts = memory.Options{Propagate: true, WeakVersions: true, Granularity: time.Second}
	}
	c.strange = newStrange(t, opts, c.branch)
	t.Cleanup(func() { _ = c.store.Close() })
	return c
}

// untracked hides the ability of a Tracker.
type untracked struct{ remote.Backend }

func (c *counted) openStore(t *testing.T) {
	t.Helper()
	var err error
	if c.store, err = cache.Open(c.dir, cache.Options{Size: cache.MinSize, BlockSize: cache.MinBlockSize}); err != nil {
		t.Fatal(err)
	}
}

func (c *counted) count(ctx context.Context, call *remote.Call, next remote.Next) error {
	c.countMu.Lock()
	c.calls[call.Op]++
	c.countMu.Unlock()
	return next(ctx)
}

// during returns the number of calls that do makes, and what they were.
func (c *counted) during(do func()) (n int, what string) {
	c.t.Helper()
	c.countMu.Lock()
	clear(c.calls)
	c.countMu.Unlock()
	do()
	c.countMu.Lock()
	defer c.countMu.Unlock()
	for _, m := range c.calls {
		n += m
	}
	return n, fmt.Sprint(c.calls)
}

// most fails if do makes more than n calls.
func (c *counted) most(n int, what string, do func()) {
	c.t.Helper()
	if got, calls := c.during(do); got > n {
		c.t.Errorf("%s: %d calls, want %d at most: %s", what, got, n, calls)
	}
}

// remount closes everything and begins anew; killed leaves the Store as kill -9 does.
func (c *counted) remount(killed bool) {
	c.t.Helper()
	c.finish()
	if killed {
		c.kill()
	} else if err := c.store.Close(); err != nil {
		c.t.Fatal(err)
	}
	c.openStore(c.t)
	b := Branch{Prefix: "/a", Backend: remote.Intercept(c.a, c.around), AttrTTL: time.Minute, DirTTL: time.Minute, NegTTL: time.Minute}
	c.branch(&b)
	c.finished = false
	c.start(b)
}

// kill has the Store closed without the file that says so.
func (c *counted) kill() {
	c.t.Helper()
	if err := c.store.Close(); err != nil {
		c.t.Fatal(err)
	}
	if err := syscall.Unlink(filepath.Join(c.dir, "meta", "clean")); err != nil {
		c.t.Fatal(err)
	}
}

// find walks the tree at path as find -ls does, and returns all names with their sizes.
func (c *counted) find(path string) (all []string) {
	c.t.Helper()
	a, err := c.Stat(c.t.Context(), path)
	c.must(err)
	all = append(all, fmt.Sprint(path, " ", a.Size))
	if a.Type != remote.Dir {
		return all
	}
	d, err := c.OpenDir(c.t.Context(), path)
	c.must(err)
	var names []string
	for {
		e, err := d.Next(c.t.Context())
		if err == io.EOF {
			break
		}
		c.must(err)
		names = append(names, e.Name)
	}
	d.Close()
	slices.Sort(names)
	for _, name := range names {
		all = append(all, c.find(remote.Join(path, name))...)
	}
	return all
}

// plant makes a tree of dirs directories with files files each, in two levels.
func (c *counted) plant(dirs, files int) {
	c.t.Helper()
	for i := range dirs {
		up := fmt.Sprintf("/p%d", i%10)
		if i < 10 {
			c.mkdir(up)
		}
		dir := fmt.Sprint(up, "/d", i)
		c.mkdir(dir)
		for j := range files {
			c.elsewhere(fmt.Sprint(dir, "/f", j), "x")
		}
	}
}

func (c *counted) mkdir(path string) {
	c.t.Helper()
	_, err := c.a.Mkdir(c.t.Context(), path)
	c.must(err)
}

// truth is what find must show.
func (c *counted) truth() (all []string) {
	c.t.Helper()
	var walk func(path string)
	walk = func(path string) {
		e, err := c.a.Stat(c.t.Context(), path)
		c.must(err)
		size := e.Size
		if e.Type == remote.Dir {
			size = 4096
		}
		all = append(all, fmt.Sprint(remote.Join("/a", strings.TrimPrefix(path, "/")), " ", size))
		if path == "/" {
			all[len(all)-1] = fmt.Sprint("/a ", size)
		}
		if e.Type != remote.Dir {
			return
		}
		var names []string
		c.must(c.a.List(c.t.Context(), path, func(e remote.Entry) error {
			_, name := remote.Split(e.Path)
			names = append(names, name)
			return nil
		}))
		slices.Sort(names)
		for _, name := range names {
			walk(remote.Join(path, name))
		}
	}
	walk("/")
	return all
}

// wantFind compares find with the truth.
func (c *counted) wantFind(what string) {
	c.t.Helper()
	got, want := c.find("/a"), c.truth()
	c.idle()
	if !slices.Equal(got, want) {
		for i := range min(len(got), len(want)) {
			if got[i] != want[i] {
				c.t.Fatalf("%s: find shows %q where %q is (%d and %d names)", what, got[i], want[i], len(got), len(want))
			}
		}
		c.t.Fatalf("%s: find shows %d names, there are %d", what, len(got), len(want))
	}
}

// idle waits until no directory is being listed, and no tracker asked: those ahead of a walk
// end after it.
func (c *counted) idle() {
	c.t.Helper()
	b, _ := c.ns.resolve("/a")
	c.eventually("an end of what is asked for behind", func() bool {
		b.fetchMu.Lock()
		listing := len(b.fetches) > 0
		b.fetchMu.Unlock()
		b.meta.mu.Lock()
		defer b.meta.mu.Unlock()
		return !listing && len(b.meta.asked) == 0 && b.meta.tracked.under == nil
	})
}

// TestFindIsProven walks thousands of entries (10,000 in a long run) again when their time is over, with changes made
// elsewhere, after a remount and after a kill: a handful of requests, and nothing stale.
func TestFindIsProven(t *testing.T) {
	for _, kind := range []string{"version", "tracker"} {
		t.Run(kind, func(t *testing.T) {
			c := newCounted(t, kind)
			files := 22
			if os.Getenv("MESHMOUNT_LONG") != "" {
				files = 110
			}
			c.plant(90, files)
			c.wantFind("cold")
			c.most(0, "warm", func() { c.wantFind("warm") })
			for round, again := range []func(){func() {}, func() { c.remount(false) }, func() { c.remount(true) }} {
				again()
				c.pass(2 * time.Minute)
				c.most(5, "too old", func() { c.wantFind("too old") })
				c.elsewhere(fmt.Sprint("/p3/d13/new", round), "changed")
				c.elsewhere("/p3/d13/f5", strings.Repeat("y", round+2))
				c.pass(2 * time.Minute)
				c.most(6, "changed", func() { c.wantFind("changed") })
				c.must(c.a.Remove(t.Context(), "/p3/d13/f7", remote.RemoveOptions{Type: remote.File}))
				c.elsewhere("/p3/d13/f7", "again")
				c.must(c.a.Remove(t.Context(), fmt.Sprint("/p7/d17/f", round), remote.RemoveOptions{Type: remote.File}))
				c.pass(2 * time.Minute)
				c.most(9, "two changed", func() { c.wantFind("two changed") })
			}
		})
	}
}

// TestRemountIsWarm wants what is young enough to be known after a remount, and nothing
// else.
func TestRemountIsWarm(t *testing.T) {
	for kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			c := newCounted(t, kind)
			c.plant(10, 5)
			c.wantFind("cold")
			c.pass(20 * time.Second)
			c.remount(false)
			c.most(2, "warm", func() { c.wantFind("warm") }) // the root itself, and a mark
			c.pass(61 * time.Second)
			c.elsewhere("/p1/d1/f1", "other")
			c.wantFind("old")
			c.remount(true)
			c.elsewhere("/p1/d1/f2", "another")
			c.pass(2 * time.Second)
			c.wantFind("unclean")
		})
	}
}

// TestOwnChangesStayForgotten makes changes here, and dies: what was before does not
// come back.
func TestOwnChangesStayForgotten(t *testing.T) {
	for kind := range kinds {
		for _, killed := range []bool{false, true} {
			t.Run(fmt.Sprint(kind, killed), func(t *testing.T) {
				c := newCounted(t, kind)
				c.plant(10, 3)
				c.mkdir("/p1/d1/deep")
				c.elsewhere("/p1/d1/deep/f", "deep")
				c.wantFind("cold")
				c.write("/a/p1/d1/f1", "mine")
				c.write("/a/p2/d2/new", "new")
				c.must(c.Unlink(t.Context(), "/a/p3/d3/f0"))
				c.must(c.Rename(t.Context(), "/a/p4/d4", "/a/p4/moved", 0))
				c.must(c.Rename(t.Context(), "/a/p1/d1/deep", "/a/p5/deep", 0))
				_, err := c.Mkdir(t.Context(), "/a/p1/d1/deep", 0o755)
				c.must(err)
				c.must(c.Unlink(t.Context(), "/a/p6/d6/f0"))
				c.must(c.Unlink(t.Context(), "/a/p6/d6/f1"))
				c.must(c.Unlink(t.Context(), "/a/p6/d6/f2"))
				c.must(c.Rmdir(t.Context(), "/a/p6/d6"))
				c.remount(killed)
				c.wantFind("after own changes")
			})
		}
	}
}

// TestReplacedDirectories has others put something else in the place of a directory.
func TestReplacedDirectories(t *testing.T) {
	for kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			c := newCounted(t, kind)
			c.plant(20, 3)
			c.mkdir("/p0/d0/deep")
			c.elsewhere("/p0/d0/deep/f", "deep")
			c.wantFind("cold")
			trees, _ := remote.As[remote.TreeRemover](c.a)
			c.must(trees.RemoveTree(t.Context(), "/p1"))
			c.must(c.a.Rename(t.Context(), "/p0", "/p1", remote.RenameOptions{}))
			c.must(trees.RemoveTree(t.Context(), "/p2"))
			c.elsewhere("/p2", "a file")
			c.pass(2 * time.Minute)
			if a, err := c.Stat(t.Context(), "/a/p1/d0/deep/f"); err != nil || a.Size != 4 {
				t.Errorf("below a directory that took another's place: %+v, %v", a, err)
			}
			_, err := c.Stat(t.Context(), "/a/p2/d2/f0")
			if k := remote.KindOf(err); err == nil || k != remote.NotExist && k != remote.NotDir {
				t.Errorf("below a file that was a directory: %v", err)
			}
			c.wantFind("replaced")
			c.remount(false)
			c.pass(2 * time.Minute)
			c.wantFind("replaced and mounted again")
		})
	}
}

// TestListingsAreNotProvenByLaterTokens has a change cross a listing: what the directory
// showed before decides.
func TestListingsAreNotProvenByLaterTokens(t *testing.T) {
	for _, kind := range []string{"version", "tracker"} {
		t.Run(kind, func(t *testing.T) {
			c := newCounted(t, kind)
			c.plant(10, 3)
			c.wantFind("cold")
			c.pass(2 * time.Minute)
			c.elsewhere("/p1/d1/f0", "first")
			var once sync.Once
			c.on(func(ctx context.Context, call *remote.Call, next remote.Next) error {
				err := next(ctx)
				if call.Op == remote.OpList && call.Path == "/p1/d1" {
					once.Do(func() { c.elsewhere("/p1/d1/late", "second") })
				}
				return err
			})
			c.find("/a")
			c.on(nil)
			c.remount(false)
			c.pass(2 * time.Minute)
			c.wantFind("after a change that crossed the listing")
		})
	}
}

// TestClockGoesBack wants no age to be believed that cannot be.
func TestClockGoesBack(t *testing.T) {
	c := newCounted(t, "ttl")
	c.plant(10, 3)
	c.wantFind("cold")
	c.elsewhere("/p1/d1/f0", "other")
	c.finish()
	c.pass(-time.Hour)
	c.remount(false)
	c.wantFind("an hour before")
}

// TestProofsEnd: after some time directories are listed again whatever proves them, and
// are proven anew from then on.
func TestProofsEnd(t *testing.T) {
	for _, kind := range []string{"version", "tracker"} {
		t.Run(kind, func(t *testing.T) {
			c := newCounted(t, kind)
			c.plant(20, 3)
			c.wantFind("cold")
			c.pass(provenMost - time.Minute)
			c.most(5, "proven", func() { c.wantFind("proven") })
			c.pass(2 * time.Minute)
			if n, what := c.during(func() { c.wantFind("too long ago") }); n < 20 {
				t.Errorf("%d calls: %s", n, what)
			}
			c.pass(2 * time.Minute)
			c.most(5, "proven again", func() { c.wantFind("proven again") })
		})
	}
}

// TestTwoBranches have the same paths and nothing else in common.
func TestTwoBranches(t *testing.T) {
	store, err := cache.Open(filepath.Join(t.TempDir(), "c"), cache.Options{Size: cache.MinSize, BlockSize: cache.MinBlockSize})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for range 2 {
		w := newWorld(t, memory.Options{}, func(b *[]Branch) {
			(*b)[0].Tree, (*b)[1].Tree = store.Tree("one"), store.Tree("two")
			(*b)[1].AttrTTL, (*b)[1].DirTTL = time.Minute, time.Minute
		})
		for n, b := range []*memory.Backend{w.a, w.b} {
			if _, err := b.Put(t.Context(), fmt.Sprint("/f", n), text("x"), remote.PutOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		w.must(w.Refresh(t.Context(), "/"))
		if a, b := w.names("/a"), w.names("/deep/b"); !slices.Equal(a, []string{"f0"}) || !slices.Equal(b, []string{"f1"}) {
			t.Errorf("%q and %q", a, b)
		}
		w.finish()
	}
}

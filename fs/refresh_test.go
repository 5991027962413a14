package fs

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshmount/meshmount/cache"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// told collects what the kernel is told.
func (w *world) told() (all func() []Invalidation) {
	var mu sync.Mutex
	var list []Invalidation
	w.OnInvalidate(func(i Invalidation) {
		mu.Lock()
		defer mu.Unlock()
		list = append(list, i)
	})
	return func() []Invalidation { mu.Lock(); defer mu.Unlock(); return slices.Clone(list) }
}

// TestChangesAreTold wants the kernel to hear of what a new listing shows.
func TestChangesAreTold(t *testing.T) {
	for kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			c := newCounted(t, kind)
			c.plant(10, 3)
			c.mkdir("/p1/d1/sub")
			c.wantFind("cold")
			inos := map[string]uint64{}
			for _, name := range []string{"f0", "f1", "sub"} {
				inos[name] = c.inos.of("/a/p1/d1/" + name)
			}
			h := c.open("/a/p1/d1/f2", 0)
			defer h.Release()
			all := c.told() // a listing ahead may come at any time
			c.elsewhere("/p1/d1/f0", "longer")
			c.elsewhere("/p1/d1/f2", "open, and longer")
			c.elsewhere("/p1/d1/new", "")
			c.must(c.a.Remove(t.Context(), "/p1/d1/f1", remote.RemoveOptions{Type: remote.File}))
			c.must(c.a.Remove(t.Context(), "/p1/d1/sub", remote.RemoveOptions{Type: remote.Dir}))
			c.pass(2 * time.Minute)
			c.find("/a/p1")
			for _, want := range []Invalidation{
				{Path: "/a/p1/d1/f0", Ino: inos["f0"], Content: true},
				{Path: "/a/p1/d1/f1", Ino: inos["f1"], Content: true, Entry: true},
				{Path: "/a/p1/d1/sub", Ino: inos["sub"], Content: true, Entry: true},
				{Path: "/a/p1/d1/new", Ino: c.inos.of("/a/p1/d1/new"), Entry: true},
			} {
				// What is gone is told behind those who have waited for the listing.
				c.eventually(want.Path+" told", func() bool { return slices.Contains(all(), want) })
			}
			got := all()
			for _, i := range got {
				if i.Ino == h.x.ino && i.Content {
					t.Errorf("the pages of an open file are dropped: %+v", i)
				}
			}
		})
	}
}

// TestRefresh wants everything at and below a path to be asked for again, and nothing
// else.
func TestRefresh(t *testing.T) {
	for kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			c := newCounted(t, kind)
			c.plant(20, 3)
			c.wantFind("cold")
			c.elsewhere("/p1/d1/f0", "other")
			c.elsewhere("/p2/d2/f0", "other")
			all := c.told()
			c.must(c.Refresh(t.Context(), "/a/p1"))
			if a, b := c.size("/a/p1/d1/f0"), c.size("/a/p2/d2/f0"); a != 5 || b != 1 {
				t.Errorf("after a refresh of p1: sizes %d and %d, want 5 and 1", a, b)
			}
			got := all()
			for _, path := range []string{"/a/p1", "/a/p1/d1", "/a/p1/d1/f0"} {
				if !slices.ContainsFunc(got, func(i Invalidation) bool { return i.Path == path && i.Content && i.Entry }) {
					t.Errorf("the kernel is not told of %s: %+v", path, got)
				}
			}
			c.must(c.Refresh(t.Context(), "/a/p2/d2/f0"))
			if n := c.size("/a/p2/d2/f0"); n != 5 {
				t.Errorf("a refreshed file has %d bytes", n)
			}
			c.elsewhere("/p3/d3/new", "new")
			c.must(c.Refresh(t.Context(), "/"))
			c.wantFind("all")
			c.elsewhere("/p4/d4/new", "new")
			c.must(c.Refresh(t.Context(), "/a"))
			c.remount(false)
			c.wantFind("all, after a remount")
			c.kind(c.Refresh(t.Context(), "a/"), remote.Invalid)
		})
	}
}

// TestRefreshCrossesAnswers has a refresh while an answer is on its way: it is not kept.
func TestRefreshCrossesAnswers(t *testing.T) {
	c := newCounted(t, "ttl")
	c.plant(10, 1)
	c.after(remote.OpList, func() {
		c.elsewhere("/p1/d1/f0", "other")
		c.must(c.Refresh(t.Context(), "/a"))
	})
	c.names("/a/p1/d1")
	c.on(nil)
	if n := c.size("/a/p1/d1/f0"); n != 5 {
		t.Errorf("an answer from before the refresh was kept: %d bytes", n)
	}
}

// TestOldListingIsShown wants it at once, and a new one behind it.
func TestOldListingIsShown(t *testing.T) {
	for kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			c := newCounted(t, kind, func(b *Branch) { b.DirStale = 10 * time.Minute })
			c.plant(10, 2)
			c.wantFind("cold")
			c.elsewhere("/p1/d1/new", "new")
			c.pass(5 * time.Minute)
			release := make(chan struct{})
			c.on(func(ctx context.Context, call *remote.Call, next remote.Next) error {
				<-release
				return next(ctx)
			})
			c.soon("an old listing", func() {
				if got := c.names("/a/p1/d1"); len(got) != 2 {
					t.Errorf("the old listing is %q", got)
				}
			})
			close(release)
			c.on(nil)
			c.eventually("the new name", func() bool { return len(c.names("/a/p1/d1")) == 3 })
			c.elsewhere("/p1/d1/newer", "new")
			c.pass(12 * time.Minute)
			if got := c.names("/a/p1/d1"); len(got) != 4 {
				t.Errorf("older than promised: %q", got)
			}
			c.remount(false)
			c.elsewhere("/p1/d1/newest", "new")
			c.pass(2 * time.Minute)
			if got := c.names("/a/p1/d1"); len(got) < 4 {
				t.Errorf("after a remount: %q", got)
			}
			c.eventually("the newest name", func() bool { return len(c.names("/a/p1/d1")) == 5 })
		})
	}
}

// TestOutageShowsNothingOld wants errors, and not what is older than promised.
func TestOutageShowsNothingOld(t *testing.T) {
	for kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			c := newCounted(t, kind, func(b *Branch) { b.DirStale = time.Minute })
			c.plant(10, 2)
			c.wantFind("cold")
			c.remount(false)
			c.on(func(_ context.Context, call *remote.Call, _ remote.Next) error {
				return call.Fail(remote.Unavailable, nil)
			})
			c.pass(10 * time.Second)
			if got := c.names("/a/p1/d1"); len(got) != 2 {
				t.Errorf("what is young enough is not shown: %q", got)
			}
			c.pass(3 * time.Minute)
			_, err := c.Stat(t.Context(), "/a/p1/d1/f0")
			c.kind(err, remote.Unavailable)
			_, err = c.OpenDir(t.Context(), "/a/p1/d1")
			c.kind(err, remote.Unavailable)
		})
	}
}

// TestOldDirectoryIsListedOnce wants one request for all names of a directory where
// nothing proves them, and one for a single name that is asked for alone.
func TestOldDirectoryIsListedOnce(t *testing.T) {
	c := newCounted(t, "ttl")
	c.plant(10, 50)
	c.wantFind("cold")
	c.pass(2 * time.Minute)
	c.most(2, "50 names", func() {
		for i := range 50 {
			c.size(fmt.Sprint("/a/p1/d1/f", i))
		}
	})
	for range 5 {
		c.pass(2 * time.Minute)
		c.most(1, "one name", func() { c.size("/a/p2/d2/f7") })
		if n := c.calls[remote.OpList]; n > 0 {
			t.Error("a directory was listed for one name")
		}
	}
}

// TestTimesOfZero wants no answer to be used twice, whatever could be proven.
func TestTimesOfZero(t *testing.T) {
	for kind := range kinds {
		c := newCounted(t, kind, uncached)
		c.plant(10, 2)
		for n := range 3 {
			c.elsewhere("/p1/d1/f0", fmt.Sprint("version ", n))
			c.elsewhere(fmt.Sprint("/p1/d1/n", n), "")
			c.wantFind(kind)
		}
		c.finish()
	}
}

// TestOddNamesSurvive has names of every byte, in a deep tree, mounted again.
func TestOddNamesSurvive(t *testing.T) {
	for kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			c := newCounted(t, kind)
			dir := ""
			for i := range 40 {
				dir += fmt.Sprint("/deep", i)
				c.mkdir(dir)
			}
			for b := 1; b < 256; b++ {
				if name := string([]byte{byte(b)}); name != "/" && name != "." {
					c.elsewhere(dir+"/"+name, name)
				}
			}
			c.wantFind("cold")
			for _, killed := range []bool{false, true} {
				c.remount(killed)
				c.wantFind("warm")
				c.pass(2 * time.Minute)
				if kind != "ttl" {
					c.most(4, "too old", func() { c.wantFind("too old") })
				}
			}
		})
	}
}

// TestWalkListsAhead wants the listings of a walked tree to overlap, and each directory
// to be listed once.
func TestWalkListsAhead(t *testing.T) {
	const most = 8
	c := newCounted(t, "ttl", func(b *Branch) { b.Listings = most })
	c.plant(100, 3)
	var now, peak, lists atomic.Int64
	overlap := make(chan struct{}) // closed when enough are on the way at once
	enough := sync.OnceFunc(func() { close(overlap) })
	c.on(func(ctx context.Context, call *remote.Call, next remote.Next) error {
		if call.Op != remote.OpList {
			return next(ctx)
		}
		lists.Add(1)
		n := now.Add(1)
		defer now.Add(-1)
		for old := peak.Load(); n > old && !peak.CompareAndSwap(old, n); old = peak.Load() {
		}
		if n >= most/2 {
			enough()
		}
		if strings.Count(call.Path, "/") > 1 { // those above come one by one
			select {
			case <-overlap:
			case <-ctx.Done():
			}
		}
		return next(ctx)
	})
	c.soon("walk", func() { c.wantFind("walk") })
	if p := peak.Load(); p < most/2 || p > most+1 {
		t.Errorf("%d listings at once, want about %d", p, most)
	}
	if n := lists.Load(); n < 111 || n > 115 { // two may begin to list one at the same moment
		t.Errorf("%d listings of 111 directories", n)
	}
}

// TestWalkSurvivesFaults has a third of the listings fail: a listing ahead that fails is
// nobody's error.
func TestWalkSurvivesFaults(t *testing.T) {
	c := newCounted(t, "ttl")
	c.plant(60, 3)
	faulty := remotetest.Faulty(c.a, remotetest.Plan{Seed: 7, Rules: []remotetest.Rule{
		{Ops: []remote.Op{remote.OpList}, P: 0.3, Fault: remotetest.FaultTruncate}}})
	c.on(func(ctx context.Context, call *remote.Call, next remote.Next) error {
		if call.Op != remote.OpList {
			return next(ctx)
		}
		return faulty.List(ctx, call.Path, call.Yield)
	})
	for range 5 {
		for i := range 60 {
			d, err := c.OpenDir(t.Context(), fmt.Sprintf("/a/p%d/d%d", i%10, i))
			c.must(err)
			n := 0
			for err == nil {
				if _, err = d.Next(t.Context()); err == nil {
					n++
				}
			}
			if d.Close(); err.Error() == "EOF" && n != 3 {
				t.Errorf("a listing of %d names for 3", n)
			}
		}
		c.pass(2 * time.Minute)
	}
	c.on(nil)
	c.wantFind("in the end")
}

// TestOneNameBelowLargeDirectories wants no large directory to be listed for the sake of
// one name far below it, in a tree that changes all the time.
func TestOneNameBelowLargeDirectories(t *testing.T) {
	c := newCounted(t, "version")
	for i := range 2 * relistFew {
		c.mkdir(fmt.Sprint("/p", i))
	}
	c.mkdir("/p7/d")
	c.elsewhere("/p7/d/f", "x")
	c.wantFind("cold")
	for n := range 4 {
		c.pass(2 * time.Minute)
		c.elsewhere(fmt.Sprint("/p9/new", n), "new")
		c.most(2, "elsewhere", func() { c.size("/a/p7/d/f") }) // the root, and /p7, which is as before
		if c.calls[remote.OpList] > 0 {
			t.Error("a large directory was listed")
		}
	}
	c.elsewhere("/p7/d/f", "changed")
	c.pass(2 * time.Minute)
	if n := c.size("/a/p7/d/f"); n != 7 {
		t.Errorf("the change is not seen: %d bytes", n)
	}
}

// TestTrackerThatFails wants it to be asked no more than once in a while, and all else to
// work as without one.
func TestTrackerThatFails(t *testing.T) {
	c := newCounted(t, "tracker")
	c.plant(30, 3)
	c.on(func(ctx context.Context, call *remote.Call, next remote.Next) error {
		if call.Op == remote.OpChanged {
			return call.Fail(remote.Unsupported, nil)
		}
		return next(ctx)
	})
	for n := range 3 {
		c.elsewhere(fmt.Sprint("/p1/d1/new", n), "new")
		c.pass(2 * time.Minute)
		c.during(func() { c.wantFind("without marks") })
		if c.calls[remote.OpChanged] > 1 {
			t.Errorf("%d calls in one walk", c.calls[remote.OpChanged])
		}
	}
	c.on(nil)
	c.pass(2 * time.Minute)
	c.wantFind("with marks") // the first one only takes one
	c.pass(2 * time.Minute)
	c.wantFind("listed under the mark")
	c.pass(2 * time.Minute)
	c.most(3, "proven", func() { c.wantFind("proven") })
}

// TestMemoryOfListings lists far more than is kept in memory.
func TestMemoryOfListings(t *testing.T) {
	b := Branch{Backend: memory.New(memory.Options{}), AttrTTL: time.Hour, DirTTL: time.Hour}
	const bound = 4 << 20
	m := newMetaCache(b, time.Now, nil, bound, remote.ModesOf(0o022))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range 400 {
		dir := fmt.Sprintf("/some/project/data/run%05d", i)
		o := m.asking(dir)
		entries := make([]remote.Entry, 100)
		for j := range entries {
			entries[j] = remote.Entry{Path: fmt.Sprintf("%s/file%05d", dir, j), Type: remote.File, Size: 1 << 20, MTime: time.Now(),
				Version: fmt.Sprintf("%032x", i*1000+j), ID: fmt.Sprintf("%020d", i*1000+j),
				Checksum: remote.Checksum{Algorithm: "sha1", Hex: fmt.Sprintf("%040x", i)}}
			m.seen(entries[j], o)
		}
		m.setListing(dir, entries, o)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	grown := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	kept := 0
	m.eachListing(func(_ map[string]*listing, _ string, l *listing) { kept += len(l.names) })
	t.Logf("%d of 40,000 names in %d KiB", kept, grown>>10)
	if grown > bound*3/2 || kept < bound/2000 {
		t.Errorf("%d names are kept in %d bytes, meant are %d", kept, grown, bound)
	}
	runtime.KeepAlive(m)
}

// TestLargeDirectoryIsNotKept wants neither memory nor disk to be filled by one.
func TestLargeDirectoryIsNotKept(t *testing.T) {
	c := newCounted(t, "ttl")
	c.mkdir("/big")
	for i := range maxKeepDir + 10 {
		_, err := c.a.Mkdir(t.Context(), fmt.Sprint("/big/", i))
		c.must(err)
	}
	for range 2 {
		if n := len(c.names("/a/big")); n != maxKeepDir+10 {
			t.Errorf("%d names", n)
		}
		c.remount(false)
		if l, ok := c.store.Tree("a").Load("/big"); ok {
			t.Errorf("a listing of %d names was kept", len(l.Entries))
		}
	}
}

// TestProvisionalVersionsStayKnown wants the blocks of what was listed too early to be
// kept apart after a remount, too.
func TestProvisionalVersionsStayKnown(t *testing.T) {
	c := newCounted(t, "weak")
	c.branch = func(inner func(*Branch)) func(*Branch) {
		return func(b *Branch) {
			inner(b)
			b.Blocks = c.store.Wrap(b.Backend, cache.Policy{Branch: "a"})
			b.Backend = b.Blocks
		}
	}(c.branch)
	c.remount(false)
	c.elsewhere("/f", "one")
	c.wantFind("cold")
	c.remount(false)
	c.names("/a")
	if got := c.read("/a/f"); got != "one" {
		t.Errorf("read %q", got)
	}
	c.elsewhere("/f", "two") // the same version
	c.remount(false)
	c.pass(10 * time.Second)
	if got := c.read("/a/f"); got != "two" {
		t.Errorf("bytes of before under a version that was no proof: %q", got)
	}
}

package fs

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// TestManyMissesAreListed asks for many names of a directory that nobody has listed and that
// are not there, as a program does that creates or imports them: after a few the directory is
// listed, and the rest costs nothing, for as long as absences hold. Then it is listed again.
func TestManyMissesAreListed(t *testing.T) {
	for kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			c := newCounted(t, kind, func(b *Branch) { b.NegTTL = 3 * time.Second })
			c.plant(1, 50)
			ask := func(from int) func() {
				return func() {
					for i := range 200 {
						_, err := c.Stat(t.Context(), fmt.Sprint("/a/p0/d0/f", from+i))
						c.kind(err, remote.NotExist)
					}
				}
			}
			c.most(missesAlone+3, "200 names that are not there", ask(50))
			for round := range 5 {
				c.pass(4 * time.Second)
				c.most(2, "200 others later", ask(250+200*round))
			}
			c.elsewhere("/p0/d0/f100", "new")
			c.pass(4 * time.Second)
			if got := c.size("/a/p0/d0/f100"); got != 3 {
				t.Errorf("what has come since has %d bytes", got)
			}
		})
	}
}

// TestNamesThatAreThereListNothing opens files by their names: others that come later are
// found at once.
func TestNamesThatAreThereListNothing(t *testing.T) {
	c := newCounted(t, "ttl")
	c.plant(1, 50)
	lists := c.strange.count(remote.OpList)
	for i := range 50 {
		c.size(fmt.Sprint("/a/p0/d0/f", i))
	}
	c.elsewhere("/p0/d0/next", "new")
	if got := c.size("/a/p0/d0/next"); got != 3 || lists() != 0 {
		t.Errorf("a file that has just come has %d bytes; %d listings", got, lists())
	}
}

// TestManyCreatesAreListed creates them.
func TestManyCreatesAreListed(t *testing.T) {
	c := newCounted(t, "ttl")
	c.plant(1, 50)
	var lists, stats atomic.Int32
	c.on(func(ctx context.Context, call *remote.Call, next remote.Next) error {
		switch call.Op {
		case remote.OpList:
			lists.Add(1)
		case remote.OpStat:
			stats.Add(1)
		}
		return next(ctx)
	})
	for i := range 100 {
		c.write(fmt.Sprint("/a/p0/d0/new", i), "new")
	}
	if l, s := lists.Load(), stats.Load(); l > 2 || s > 4*missesAlone {
		t.Errorf("100 new files: %d listings, %d questions", l, s)
	}
	if n := len(c.names("/a/p0/d0")); n != 150 {
		t.Errorf("%d names", n)
	}
}

// TestFewMissesListNoLargeDirectory has a directory with more names than are worth it for
// those who ask; who reads it as a whole meanwhile gets it.
func TestFewMissesListNoLargeDirectory(t *testing.T) {
	const names = (missesAlone+1)*listedPerMiss + 500
	c := newCounted(t, "ttl")
	c.plant(1, names)
	listed := 0
	c.on(func(ctx context.Context, call *remote.Call, next remote.Next) error {
		if call.Op == remote.OpList {
			listed++
		}
		return next(ctx)
	})
	ask := func(from, to int) {
		for i := from; i < to; i++ {
			_, err := c.Stat(t.Context(), fmt.Sprint("/a/p0/d0/none", i))
			c.kind(err, remote.NotExist)
		}
	}
	b, _ := c.ns.resolve("/a")
	ask(0, missesAlone*missesMore)
	if listed != 1 || b.meta.knows("/p0/d0") {
		t.Errorf("listed %d times, want once in vain", listed)
	}
	ask(missesAlone*missesMore, missesAlone*missesMore+100)
	if listed != 2 || !b.meta.knows("/p0/d0") {
		t.Errorf("listed %d times, want twice", listed)
	}
	c.on(nil)

	c.must(c.Refresh(t.Context(), "/"))
	var once sync.Once
	var all []string
	var wg sync.WaitGroup
	c.on(func(ctx context.Context, call *remote.Call, next remote.Next) error {
		if call.Op == remote.OpList {
			once.Do(func() {
				wg.Go(func() { all = c.names("/a/p0/d0") })
				c.eventually("a second reader", func() bool {
					b.fetchMu.Lock()
					defer b.fetchMu.Unlock()
					d := b.fetches["/p0/d0"]
					d.mu.Lock()
					defer d.mu.Unlock()
					return d.readers == 2
				})
			})
		}
		return next(ctx)
	})
	ask(0, missesAlone+1)
	wg.Wait()
	if len(all) != names {
		t.Errorf("%d names, want %d", len(all), names)
	}
}

// TestBackListingsCrossChanges changes names before and after the server answers a listing: what
// is known then is what has been done.
func TestBackListingsCrossChanges(t *testing.T) {
	c := newCounted(t, "ttl")
	c.plant(1, 50)
	c.size("/a/p0/d0/f0") // what is kept here belongs to what is known
	change := func(n string) {
		c.write("/a/p0/d0/new"+n, "new")
		c.must(c.Unlink(t.Context(), "/a/p0/d0/f1"+n))
		c.write("/a/p0/d0/f2"+n, "longer")
		c.must(c.Rename(t.Context(), "/a/p0/d0/f3"+n, "/a/p0/d0/other"+n, 0))
	}
	lists := 0
	c.on(func(ctx context.Context, call *remote.Call, next remote.Next) error {
		if call.Op != remote.OpList || call.Path != "/p0/d0" {
			return next(ctx)
		}
		lists++
		if lists > 1 {
			return next(ctx)
		}
		change("1")
		err := next(ctx)
		change("2")
		return err
	})
	c.names("/a/p0/d0")
	c.idle()
	b, _ := c.ns.resolve("/a")
	if !b.meta.knows("/p0/d0") {
		t.Fatal("the listing is not kept")
	}
	c.settle()
	c.most(0, "a look at it", func() {
		got := c.names("/a/p0/d0")
		for _, n := range []string{"1", "2"} {
			for name, want := range map[string]bool{"new": true, "f1": false, "f2": true, "f3": false, "other": true} {
				if slices.Contains(got, name+n) != want {
					t.Errorf("%s%s: there is %v", name, n, !want)
				}
			}
			if got := c.size("/a/p0/d0/f2" + n); got != 6 {
				t.Errorf("f2%s has %d bytes", n, got)
			}
		}
	})
}

// TestListingsKeepTimesOfDirectories has a name change in a directory while the one above is
// listed: its time is not the one of before.
func TestListingsKeepTimesOfDirectories(t *testing.T) {
	c := newCounted(t, "ttl")
	c.plant(1, 5)
	c.pass(time.Hour)
	c.after(remote.OpList, func() { c.write("/a/p0/d0/new", "new") })
	b, _ := c.ns.resolve("/a")
	c.must(c.list(t.Context(), b, "/p0", 0))
	c.settle()
	e, err := c.a.Stat(t.Context(), "/p0/d0")
	c.must(err)
	c.most(0, "a look at it", func() {
		if a, err := c.Stat(t.Context(), "/a/p0/d0"); err != nil || a.MTime.Before(e.MTime) {
			t.Errorf("it is of %v (%v), on the server of %v", a.MTime, err, e.MTime)
		}
	})
}

// TestListingsCrossWhatIsNotKnown has changes of which it is not known what has become of
// them, and of a directory above: the listing is not kept.
func TestListingsCrossWhatIsNotKnown(t *testing.T) {
	for what, change := range map[string]func(c *counted){
		"a lost answer": func(c *counted) {
			b, _ := c.ns.resolve("/a")
			b.meta.changing("/p0/d0/f1")
			b.meta.forget("/p0/d0/f1", remote.File)
			b.meta.changing("/p0/d0/f1")
		},
		"a change under way": func(c *counted) {
			b, _ := c.ns.resolve("/a")
			b.meta.changing("/p0/d0/none")
		},
		"a renamed directory": func(c *counted) { c.must(c.Rename(c.t.Context(), "/a/p0", "/a/q", 0)) },
		"itself":              func(c *counted) { c.must(c.Rename(c.t.Context(), "/a/p0/d0", "/a/q", 0)) },
		"a refresh":           func(c *counted) { c.must(c.Refresh(c.t.Context(), "/a/p0")) },
	} {
		t.Run(what, func(t *testing.T) {
			c := newCounted(t, "ttl")
			c.plant(1, 5)
			c.after(remote.OpList, func() { change(c) })
			b, _ := c.ns.resolve("/a")
			c.must(c.list(t.Context(), b, "/p0/d0", 0))
			if b.meta.knows("/p0/d0") {
				t.Error("the listing is kept")
			}
			c.eventually("nothing is watched any more", func() bool {
				b.meta.mu.Lock()
				defer b.meta.mu.Unlock()
				return len(b.meta.crossings) == 0
			})
		})
	}
}

// TestGivenUpListingIsNotJoined has a program read a directory at the moment when a listing of
// it is given up for its size: it sees all names.
func TestGivenUpListingIsNotJoined(t *testing.T) {
	const names = (missesAlone+1)*listedPerMiss + 500
	c := newCounted(t, "ttl")
	c.plant(1, names)
	var once sync.Once
	var err2 error
	got := 0
	c.on(func(ctx context.Context, call *remote.Call, next remote.Next) error {
		if call.Op != remote.OpList {
			return next(ctx)
		}
		err := next(ctx)
		if call.Halt != nil { // it has been given up; its end is under way
			once.Do(func() {
				d, err := c.OpenDir(t.Context(), "/a/p0/d0")
				c.must(err)
				c.t.Cleanup(func() {
					defer d.Close()
					for {
						_, err2 = d.Next(context.Background())
						if err2 != nil {
							break
						}
						got++
					}
					if got != names {
						c.t.Errorf("ls shows %d of %d names and fails with: %v", got, names, err2)
					}
				})
			})
		}
		return err
	})
	for i := range missesAlone + 1 {
		_, err := c.Stat(t.Context(), fmt.Sprint("/a/p0/d0/none", i))
		c.kind(err, remote.NotExist)
	}
}

// TestLateAnswersAreNotProven has the answer of our put come late, when somebody else has written
// over the file and a listing knows: what was put is not shown for longer than attributes hold.
func TestLateAnswersAreNotProven(t *testing.T) {
	for _, kind := range []string{"version", "tracker", "ttl"} {
		t.Run(kind, func(t *testing.T) {
			c := newCounted(t, kind)
			c.plant(1, 5)
			ctx := context.Background()
			b, _ := c.ns.resolve("/a")
			c.names("/a")
			c.names("/a/p0")
			stored, answered := make(chan struct{}), make(chan struct{})
			listing, listed := make(chan struct{}), make(chan struct{})
			c.on(func(ctx context.Context, call *remote.Call, next remote.Next) error {
				err := next(ctx)
				switch {
				case call.Op == remote.OpPut && call.Path == "/p0/d0/new":
					close(stored)
					<-answered
				case call.Op == remote.OpList && call.Path == "/p0/d0":
					close(listing) // the server has answered
					<-listed
				}
				return err
			})
			var wg sync.WaitGroup
			wg.Go(func() { c.write("/a/p0/d0/new", "ours") })
			<-stored
			_, err := c.a.Put(ctx, "/p0/d0/new", text("theirs, and longer"), remote.PutOptions{})
			c.must(err)
			c.pass(61 * time.Second)
			c.must(c.list(ctx, b, "/", 0)) // what is above knows of it
			c.must(c.list(ctx, b, "/p0", 0))
			wg.Go(func() {
				if err := c.list(ctx, b, "/p0/d0", 0); err != nil {
					t.Error(err)
				}
			})
			<-listing
			c.pass(time.Second)
			close(answered)
			c.eventually("the put is known", func() bool {
				k, ok := b.meta.recall("/p0/d0/new")
				return ok && !k.absent && k.e.Size == 4
			})
			close(listed)
			wg.Wait()
			c.on(nil)
			for i := range 5 {
				c.pass(61 * time.Second)
				if got := c.size("/a/p0/d0/new"); got != 18 {
					t.Errorf("%d minutes later the file has %d bytes, on the server 18", i+1, got)
				}
			}
		})
	}
}

// TestAbsencesAreForeseen asks for many absent names for longer than absences hold: a listing in
// the background comes in time, so that nobody waits for one; what has come elsewhere is seen no
// later than before.
func TestAbsencesAreForeseen(t *testing.T) {
	c := newCounted(t, "ttl", func(b *Branch) { b.NegTTL = 4 * time.Second })
	c.plant(1, 50)
	var lists atomic.Int32
	listed := make(chan struct{}, 100)
	c.on(func(ctx context.Context, call *remote.Call, next remote.Next) error {
		err := next(ctx)
		if call.Op == remote.OpList {
			lists.Add(1)
			listed <- struct{}{}
		}
		return err
	})
	n := 0
	ask := func(names int) {
		for range names {
			_, err := c.Stat(t.Context(), fmt.Sprint("/a/p0/d0/new", n))
			c.kind(err, remote.NotExist)
			n++
		}
	}
	ask(100)
	<-listed
	if l := lists.Load(); l != 1 {
		t.Fatalf("%d listings for 100 names", l)
	}
	c.pass(3 * time.Second) // they hold still
	before := lists.Load()
	ask(100)
	<-listed
	c.idle()
	c.pass(1500 * time.Millisecond) // those of the first listing do not, by now
	ask(10)
	if l := lists.Load() - before; l != 1 {
		t.Errorf("%d listings", l)
	}
	c.elsewhere("/p0/d0/other", "new")
	c.pass(5 * time.Second)
	if got := c.size("/a/p0/d0/other"); got != 3 {
		t.Errorf("what has come since has %d bytes", got)
	}
}

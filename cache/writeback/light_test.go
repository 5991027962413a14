package writeback

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
)

// watched is a site whose server's calls are counted and may be held.
type watched struct {
	*site
	mu    sync.Mutex
	calls map[remote.Op]int // guarded by mu
	under map[remote.Op]int // guarded by mu
	hold  chan struct{}     // calls that change something wait until it is closed; nil: they do not
}

func newWatched(t *testing.T, p Policy) *watched {
	t.Helper()
	x := &watched{site: newSite(t, memory.Options{}, p), calls: map[remote.Op]int{}, under: map[remote.Op]int{}}
	x.b.below = remote.Intercept(x.server, x.around)
	x.b.dresser, x.b.queue.dressing = nil, nil // attributes go one by one: they are counted
	return x
}

func (x *watched) around(ctx context.Context, c *remote.Call, next remote.Next) error {
	x.add(c.Op, 1)
	defer x.add(c.Op, -1)
	if x.hold != nil && c.Op != remote.OpStat && c.Op != remote.OpList {
		<-x.hold
	}
	return next(ctx)
}

func (x *watched) add(op remote.Op, n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.calls[op] += max(n, 0)
	x.under[op] += n
}

func (x *watched) count(m map[remote.Op]int, op remote.Op) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return m[op]
}

func (x *watched) dir(path string, mode uint32) remote.Entry {
	x.t.Helper()
	e, err := x.b.MakeDir(x.t.Context(), path, remote.Attrs{Mode: &mode})
	if err != nil {
		x.t.Fatal(err)
	}
	return e
}

func (x *watched) set(e remote.Entry, a remote.Attrs) remote.Entry {
	x.t.Helper()
	e, err := x.b.SetAttrs(x.t.Context(), e, a)
	if err != nil {
		x.t.Fatal(err)
	}
	return e
}

// want compares what the server has with what is to be: of the usual mode, nothing.
func (x *watched) want(path string, mode uint32, mtime time.Time) {
	x.t.Helper()
	e, err := x.server.Stat(x.t.Context(), path)
	usual, _ := x.b.policy.Usual.Of(e.Type)
	if err != nil || e.ModeKnown != (mode != usual) || e.ModeKnown && e.Mode != mode || !mtime.IsZero() && !e.MTime.Equal(mtime) {
		x.t.Errorf("%s: %+v, %v; want mode %o and time %v", path, e, err, mode, mtime)
	}
}

// TestLightRoom: changes without content have room of their own, which uploads do not take.
func TestLightRoom(t *testing.T) {
	x := newWatched(t, Policy{Workers: 4, Calls: 16})
	x.hold = make(chan struct{})
	for n := range 16 {
		if _, err := x.b.MakeDir(t.Context(), fmt.Sprint("/d", n), remote.Attrs{}); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 6 {
		x.put(fmt.Sprint("/f", n), "x")
	}
	x.s.Start()
	eventually(t, "16 directories and 4 files under way", func() bool {
		return x.count(x.under, remote.OpMkdir) == 16 && x.count(x.under, remote.OpPut) == 4
	})
	x.s.mu.Lock()
	active, light := x.b.active, x.b.light
	x.s.mu.Unlock()
	if active != 20 || light != 16 {
		t.Errorf("%d under way, %d of them light; want 20 and 16", active, light)
	}
	close(x.hold)
	x.flush()
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	if x.b.active != 0 || x.b.light != 0 {
		t.Errorf("at the end %d are under way, %d of them light", x.b.active, x.b.light)
	}
}

// TestDirAttrsJoin makes directories as tar does: for itself alone, then with files, then with
// their time and mode. Each takes one call for its attributes; the usual mode is not stored.
func TestDirAttrsJoin(t *testing.T) {
	x := newWatched(t, Policy{Delay: time.Hour})
	x.s.Start()
	when := time.Unix(1_500_000_000, 0)
	for n := range 10 {
		path := fmt.Sprint("/d", n)
		e := x.dir(path, 0o700)
		eventually(t, "the directory is made", func() bool {
			_, err := x.server.Stat(t.Context(), path)
			x.s.mu.Lock()
			defer x.s.mu.Unlock()
			return err == nil && x.b.active == 0
		})
		if now, err := x.b.Stat(t.Context(), path); err != nil || now.Mode != 0o700 || !now.ModeKnown {
			t.Errorf("before it is set: %+v, %v", now, err)
		}
		x.put(path+"/f", "x")
		e = x.set(e, remote.Attrs{MTime: &when})
		mode := uint32(0o755 - n%2*5)
		if e = x.set(e, remote.Attrs{Mode: &mode}); e.Mode != mode || !e.MTime.Equal(when) {
			t.Errorf("what is shown: %+v", e)
		}
	}
	x.flush()
	for n := range 10 {
		x.want(fmt.Sprint("/d", n), 0o755-uint32(n%2*5), when)
	}
	if n := x.count(x.calls, remote.OpSetAttr); n != 10 {
		t.Errorf("%d calls for attributes of 10 directories", n)
	}
}

// TestDirAttrsKept wants the mode of a directory to be set that nothing more is said about, also
// when the process ends before.
func TestDirAttrsKept(t *testing.T) {
	x := newWatched(t, Policy{Delay: time.Hour})
	x.s.Start()
	x.dir("/d", 0o700)
	eventually(t, "the directory is made", func() bool {
		_, err := x.server.Stat(t.Context(), "/d")
		x.s.mu.Lock()
		defer x.s.mu.Unlock()
		return err == nil && x.b.active == 0
	})
	if n := x.count(x.calls, remote.OpSetAttr); n != 0 {
		t.Errorf("%d calls for attributes before their time", n)
	}
	x.reopen()
	x.s.Start()
	x.flush()
	x.want("/d", 0o700, time.Time{})
}

// TestDirAttrsBefore wants the time of a directory to be set before something is made in it
// after that, which changes its time.
func TestDirAttrsBefore(t *testing.T) {
	x := newWatched(t, Policy{Delay: time.Hour})
	x.s.Start()
	e := x.dir("/d", 0o700)
	eventually(t, "the directory is made", func() bool { return x.count(x.calls, remote.OpMkdir) == 1 && x.idle() })
	when := time.Unix(1_500_000_000, 0)
	x.set(e, remote.Attrs{MTime: &when})
	x.dir("/d/sub", 0o755)
	eventually(t, "the time is set", func() bool { return x.count(x.calls, remote.OpSetAttr) == 1 })
	x.flush()
}

func (x *watched) idle() bool {
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	return x.b.active == 0
}

// TestDirAttrsAtOnce renames a directory while it is made: its mode goes along.
func TestDirAttrsAtOnce(t *testing.T) {
	x := newWatched(t, Policy{Delay: time.Hour})
	x.hold = make(chan struct{})
	x.s.Start()
	e := x.dir("/d", 0o700)
	eventually(t, "it is under way", func() bool { return x.count(x.under, remote.OpMkdir) == 1 })
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := x.b.Move(t.Context(), e, "/other", nil, false); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "the rename waits", func() bool {
		x.s.mu.Lock()
		defer x.s.mu.Unlock()
		return len(x.b.queue.lines["/d"]) == 2
	})
	close(x.hold)
	wg.Wait()
	x.flush()
	x.want("/other", 0o700, time.Time{})
}

// TestLightRoomIsLookedAtInTime: a change without content whose time comes while all places of
// uploads are taken does not wait for the end of one.
func TestLightRoomIsLookedAtInTime(t *testing.T) {
	x := newWatched(t, Policy{Workers: 1, Calls: 4})
	hold := make(chan struct{})
	defer close(hold)
	x.b.below = remote.Intercept(x.server, func(ctx context.Context, c *remote.Call, next remote.Next) error {
		x.add(c.Op, 1)
		defer x.add(c.Op, -1)
		if c.Op == remote.OpPut {
			<-hold
		}
		return next(ctx)
	})
	x.put("/f", "x")
	x.s.Start()
	eventually(t, "the upload is under way", func() bool { return x.count(x.under, remote.OpPut) == 1 })
	x.s.mu.Lock()
	x.b.policy.Delay = idleLook / 2 // of the mode of the directory
	x.s.mu.Unlock()
	x.dir("/d", 0o700)
	eventually(t, "the directory is made and its mode waits", func() bool {
		x.s.mu.Lock()
		defer x.s.mu.Unlock()
		c := x.b.queue.last("/d")
		return c != nil && c.kind == opSetAttr && c.slot >= 0
	})
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	if d := x.s.startSome(); d > idleLook/2 {
		t.Errorf("the scheduler sleeps for %v before the mode of the directory", d)
	}
}

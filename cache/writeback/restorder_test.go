package writeback

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// inBatch calls f once, when the first batch of contents is under way during a flush.
func (x *rested) inBatch(f func()) {
	var once sync.Once
	x.hold = func(c *remote.Call) error {
		if c.Op == remote.OpPutBatch {
			once.Do(func() {
				eventually(x.t, "a flush has begun", func() bool {
					x.s.mu.Lock()
					defer x.s.mu.Unlock()
					return x.s.draining > 0
				})
				f()
			})
		}
		return nil
	}
}

// awaits waits until a call waits for what is pending at path.
func (x *rested) awaits(path string) {
	eventually(x.t, "a call waits for "+path, func() bool {
		x.s.mu.Lock()
		defer x.s.mu.Unlock()
		last := x.b.queue.last(path)
		return last != nil && last.kind == opForeign
	})
}

// TestRestBeforeWhatWaits wants the attributes that a batch leaves during a flush to be set before a
// call goes on that waits for what is below a directory, and neither to wait for the other for ever.
func TestRestBeforeWhatWaits(t *testing.T) {
	const n = 30
	rename := func(x *rested, ctx context.Context) (string, error) {
		return "/e", x.b.Rename(ctx, "/d", "/e", remote.RenameOptions{})
	}
	reach := func(x *rested, ctx context.Context) (string, error) { return "/d", x.b.Reach(ctx, "/d") }
	for what, test := range map[string]struct {
		call  func(x *rested, ctx context.Context) (string, error)
		timed bool
	}{
		"rename of a directory":            {rename, false},
		"rename of a directory and a time": {rename, true},
		"wait for a directory's time":      {reach, true},
	} {
		t.Run(what, func(t *testing.T) {
			x := newRested(t, Policy{})
			x.mkdir("/d")
			x.write("/d", n)
			if test.timed {
				if _, err := x.b.SetAttr(t.Context(), "/d", remote.Attrs{MTime: &x.when}); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			var works sync.WaitGroup
			dir := ""
			x.inBatch(func() {
				works.Go(func() {
					var err error
					if dir, err = test.call(x, ctx); err != nil {
						t.Errorf("the call: %v", err)
					}
				})
				x.awaits("/d")
			})
			x.s.Start()
			if err := x.s.Flush(ctx, "", "/"); err != nil {
				t.Fatalf("flush: %v", err)
			}
			works.Wait()
			x.dressed(dir, n)
			if c := x.s.Status().Branches[0].Conflicts; len(c) > 0 {
				t.Errorf("conflicts: %+v", c)
			}
			if e, err := x.server.Stat(t.Context(), dir); err != nil || test.timed && !e.MTime.Equal(x.when) {
				t.Errorf("the directory: %+v, %v", e, err)
			}
		})
	}
}

// TestSyncWithRest wants a file to have its attributes when who waits for it alone goes on, also
// during a flush.
func TestSyncWithRest(t *testing.T) {
	x := newRested(t, Policy{})
	x.mkdir("/d")
	x.write("/d", 10)
	var works sync.WaitGroup
	x.inBatch(func() {
		works.Go(func() {
			if err := x.b.Sync(t.Context(), "/d/f3"); err != nil {
				t.Error(err)
			}
			if e, err := x.server.Stat(t.Context(), "/d/f3"); err != nil || e.Mode != 0o600 || !e.MTime.Equal(x.when) {
				t.Errorf("after a sync there is %+v, %v", e, err)
			}
		})
		eventually(t, "the sync waits", func() bool {
			x.s.mu.Lock()
			defer x.s.mu.Unlock()
			return x.b.queue.last("/d/f3").lone
		})
	})
	inner := x.hold
	x.hold = func(c *remote.Call) error {
		if c.Op == remote.OpSetAttrBatch { // the others
			time.Sleep(50 * time.Millisecond)
		}
		return inner(c)
	}
	x.s.Start()
	x.flush()
	works.Wait()
	x.dressed("/d", 10)
}

// TestHurriedBehindFlush wants what a change waits for to be hurried with it, also if the change came
// during a flush of something else.
func TestHurriedBehindFlush(t *testing.T) {
	x := newSite(t, memory.Options{}, Policy{Delay: time.Hour})
	if _, err := x.b.Mkdir(t.Context(), "/d"); err != nil {
		t.Fatal(err)
	}
	x.put("/d/a", "content")
	x.s.mu.Lock()
	x.s.draining++ // of something else
	x.s.mu.Unlock()
	at := time.Date(2011, 2, 3, 4, 5, 6, 0, time.UTC)
	if _, err := x.b.SetAttr(t.Context(), "/d", remote.Attrs{MTime: &at}); err != nil {
		t.Fatal(err)
	}
	x.s.mu.Lock()
	x.s.draining--
	x.s.mu.Unlock()
	x.s.Start()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := x.b.Reach(ctx, "/d"); err != nil {
		t.Error(err)
	}
}

// TestRestGivesNoWayToWhoWaits wants attributes that a batch has left to be set while contents are
// under way if something else waits for them, also during a flush.
func TestRestGivesNoWayToWhoWaits(t *testing.T) {
	x := newRested(t, Policy{})
	x.mkdir("/d")
	x.mkdir("/e")
	x.write("/d", 40)
	x.write("/e", 10)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	under, done := make(chan struct{}), make(chan struct{})
	x.hold = func(c *remote.Call) error {
		switch {
		case c.Op == remote.OpPutBatch && c.Path[:2] == "/d":
			<-under
		case c.Op == remote.OpPutBatch:
			close(under)
			<-done
		}
		return nil
	}
	var works sync.WaitGroup
	x.s.Pause()
	x.s.Start()
	works.Go(x.flush)
	eventually(t, "a flush has begun", func() bool {
		x.s.mu.Lock()
		defer x.s.mu.Unlock()
		return x.s.draining > 0
	})
	x.s.Resume()
	eventually(t, "attributes wait", func() bool {
		x.s.mu.Lock()
		defer x.s.mu.Unlock()
		return len(x.b.queue.rest.list) == 40
	})
	if err := x.b.Rename(ctx, "/d/f39", "/d/g", remote.RenameOptions{}); err != nil {
		t.Error(err)
	}
	close(done)
	works.Wait()
	x.dressed("/d", 39)
	x.dressed("/e", 10)
	if e, err := x.server.Stat(t.Context(), "/d/g"); err != nil || e.Mode != 0o600 || !e.MTime.Equal(x.when) {
		t.Errorf("what was renamed: %+v, %v", e, err)
	}
}

// TestRestOfWhatBecameTheirs wants what somebody else has put in the place of a file whose attributes
// are still to be set not to be taken for ours: what is written or removed here next builds on ours.
func TestRestOfWhatBecameTheirs(t *testing.T) {
	x := newRested(t, Policy{})
	x.mkdir("/d")
	x.write("/d", 10)
	var once sync.Once
	x.hold = func(c *remote.Call) error {
		if c.Op != remote.OpSetAttrBatch {
			return nil
		}
		once.Do(func() {
			for _, path := range []string{"/d/f3", "/d/f4", "/d/f5"} {
				if _, err := x.server.Put(context.Background(), path, remotetest.Bytes([]byte("of theirs")), remote.PutOptions{}); err != nil {
					t.Error(err)
				}
			}
			x.put("/d/f3", "next")
			if err := x.b.Remove(context.Background(), "/d/f4", remote.RemoveOptions{Type: remote.File}); err != nil {
				t.Error(err)
			}
		})
		return nil
	}
	before, err := x.b.Stat(t.Context(), "/d/f5")
	if err != nil {
		t.Fatal(err)
	}
	x.s.Start()
	x.flush()
	for _, path := range []string{"/d/f3", "/d/f4", "/d/f5"} {
		has(t, x.server, path, "of theirs")
	}
	ours, ok := x.b.Became(before.Version)
	if !ok {
		t.Fatal("of the third nothing is known")
	}
	if now, ok := x.b.Reattributed("/d/f5", ours.Version); ok {
		t.Errorf("theirs is taken for ours: %+v", now)
	}
	conflicts := x.s.Status().Branches[0].Conflicts
	for _, c := range conflicts {
		if c.Copy != "" {
			has(t, x.server, c.Copy, "next")
		}
	}
	if len(conflicts) != 2 {
		t.Errorf("conflicts: %+v", conflicts)
	}
}

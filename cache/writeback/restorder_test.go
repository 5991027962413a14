package writeback

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
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

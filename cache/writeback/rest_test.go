package writeback

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// rested is a site whose batches leave attributes to be set later, and which notes in what
// order calls come.
type rested struct {
	*batched
	mu    sync.Mutex
	calls []string                 // guarded by mu
	hold  func(*remote.Call) error // guarded by mu; called with each
	when  time.Time
}

func newRested(t *testing.T, p Policy) *rested {
	t.Helper()
	x := &rested{batched: newBatched(t, memory.Options{}, p), when: time.Date(2011, 2, 3, 4, 5, 6, 0, time.UTC)}
	if err := x.s.Close(); err != nil {
		t.Fatal(err)
	}
	x.faulty = remotetest.Faulty(remote.Intercept(remote.Intercept(x.server, x.batched.around), x.around), remotetest.Plan{})
	x.open()
	return x
}

func (x *rested) around(ctx context.Context, c *remote.Call, next remote.Next) error {
	x.mu.Lock()
	x.calls = append(x.calls, string(c.Op))
	hold := x.hold
	x.mu.Unlock()
	if hold != nil {
		if err := hold(c); err != nil {
			return err
		}
	}
	return next(ctx)
}

// write puts n files with a mode and a time of long ago.
func (x *rested) write(dir string, n int) {
	x.t.Helper()
	mode := uint32(0o600)
	for i := range n {
		path := fmt.Sprintf("%s/f%d", dir, i)
		x.put(path, "new")
		if _, err := x.b.SetAttr(x.t.Context(), path, remote.Attrs{Mode: &mode, MTime: &x.when}); err != nil {
			x.t.Fatal(err)
		}
	}
}

// dressed wants the server to have them so.
func (x *rested) dressed(dir string, n int) {
	x.t.Helper()
	for i := range n {
		path := fmt.Sprintf("%s/f%d", dir, i)
		e, err := x.server.Stat(x.t.Context(), path)
		if err != nil || !e.ModeKnown || e.Mode != 0o600 || !e.MTime.Equal(x.when) {
			x.t.Errorf("%s: %+v, %v", path, e, err)
		}
	}
	if items := x.s.Status().Items; len(items) > 0 {
		x.t.Errorf("%d are pending, the first is %+v", len(items), items[0])
	}
}

// since returns how often an operation was called, and after how many others for the first time.
func (x *rested) since(op remote.Op) (n, first int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	first = -1
	for i, c := range x.calls {
		if c != string(op) {
			continue
		}
		if n++; first < 0 {
			first = i
		}
	}
	return n, first
}

// TestContentFirst wants the contents of all files to be on the server before the attributes
// that cost calls of their own, and these to leave together; what is shown does not change.
func TestContentFirst(t *testing.T) {
	const n = 200
	x := newRested(t, Policy{})
	x.mkdir("/d")
	x.write("/d", n)
	if _, err := x.b.SetAttr(t.Context(), "/d", remote.Attrs{MTime: &x.when}); err != nil {
		t.Fatal(err)
	}
	var early string
	x.hold = func(c *remote.Call) error {
		if c.Op != remote.OpPutBatch && c.Op != remote.OpSetAttrBatch {
			return nil
		}
		if e, err := x.b.Stat(t.Context(), "/d/f3"); err != nil || e.Mode != 0o600 || !e.MTime.Equal(x.when) {
			t.Errorf("shown is %+v, %v", e, err)
		}
		if c.Op == remote.OpSetAttrBatch {
			if _, files, _ := x.counts(); files < n {
				early = fmt.Sprintf("attributes are set after %d files", files)
			}
		}
		return nil
	}
	x.s.Start()
	x.flush()
	x.dressed("/d", n)
	if e, err := x.server.Stat(t.Context(), "/d"); err != nil || !e.MTime.Equal(x.when) {
		t.Errorf("the directory: %+v, %v", e, err)
	}
	if batches, _ := x.since(remote.OpSetAttrBatch); early != "" || batches == 0 || batches > 3 {
		t.Errorf("%s; %d batches", early, batches)
	}
	if alone, _ := x.since(remote.OpSetAttr); alone > 3 {
		t.Errorf("%d attributes were set alone", alone)
	}
}

// TestRestSurvives wants attributes that a batch has left to be set by the next process.
func TestRestSurvives(t *testing.T) {
	const n = 50
	x := newRested(t, Policy{})
	x.mkdir("/d")
	x.write("/d", n)
	reached := make(chan struct{}, 100)
	x.hold = func(c *remote.Call) error {
		if c.Op != remote.OpSetAttrBatch && c.Op != remote.OpSetAttr {
			return nil
		}
		reached <- struct{}{}
		return &remote.Error{Op: "setattr", Path: c.Path, Kind: remote.Unavailable}
	}
	x.s.Start()
	<-reached
	if e, err := x.server.Stat(t.Context(), "/d/f7"); err != nil || e.Size != 3 || e.Mode == 0o600 {
		t.Fatalf("%+v, %v", e, err)
	}
	x.mu.Lock()
	x.hold = nil
	x.mu.Unlock()
	x.reopen()
	x.s.Start()
	x.flush()
	x.dressed("/d", n)
	if puts, _, _ := x.counts(); puts != 2 {
		t.Errorf("the contents went in %d batches", puts)
	}
}

// TestRestOfWhatIsRenamed wants files that are renamed while their batch is under way to have
// their attributes, under their new names, and those that are removed to be gone.
func TestRestOfWhatIsRenamed(t *testing.T) {
	const n = 30
	x := newRested(t, Policy{})
	x.mkdir("/d")
	x.mkdir("/e")
	x.write("/d", n)
	var once sync.Once
	x.hold = func(c *remote.Call) error {
		if c.Op != remote.OpPutBatch {
			return nil
		}
		once.Do(func() {
			for i := range n {
				path := fmt.Sprintf("/d/f%d", i)
				var err error
				switch {
				case i < 10:
					err = x.b.Rename(t.Context(), path, fmt.Sprintf("/e/f%d", i), remote.RenameOptions{})
				case i < 20:
					err = x.b.Remove(t.Context(), path, remote.RemoveOptions{Type: remote.File})
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
		return nil
	}
	x.s.Start()
	x.flush()
	x.dressed("/e", 10)
	for i := range n {
		path := fmt.Sprintf("/d/f%d", i)
		e, err := x.server.Stat(t.Context(), path)
		if there := err == nil; there != (i >= 20) || there && (e.Mode != 0o600 || !e.MTime.Equal(x.when)) {
			t.Errorf("%s: %+v, %v", path, e, err)
		}
	}
}

package writeback

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// foreseeing is a server that looks ahead.
type foreseeing struct {
	*memory.Backend
	mu   sync.Mutex
	dirs []string                        // guarded by mu
	look func(ctx context.Context) error // guarded by mu
}

func (f *foreseeing) Foresees() bool { return true }

func (f *foreseeing) Foresee(ctx context.Context, path string) error {
	f.mu.Lock()
	f.dirs = append(f.dirs, path)
	look := f.look
	f.mu.Unlock()
	if look != nil {
		return look(ctx)
	}
	return nil
}

func (f *foreseeing) seen() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(slices.Values(f.dirs))
}

// newForeseen is newPruned on a server that looks ahead, with nothing removed before a flush.
func newForeseen(t *testing.T, calls int) (*pruned, *foreseeing) {
	t.Helper()
	x := newPruned(t, memory.Options{}, Policy{Calls: calls, Prune: Pruning{Most: 1000, Lull: time.Hour, Longest: time.Hour}})
	f := &foreseeing{Backend: x.server}
	x.faulty = remotetest.Faulty(remote.Intercept(f, x.around), remotetest.Plan{})
	x.reopen()
	return x, f
}

// rmSeen removes a tree as rm -r does by way of the file system.
func (x *pruned) rmSeen(dir string) {
	x.t.Helper()
	var all []remote.Entry
	err := x.b.List(x.t.Context(), dir, func(e remote.Entry) error {
		all = append(all, e)
		return nil
	})
	if err != nil {
		x.t.Fatal(err)
	}
	for _, e := range all {
		if e.Type == remote.Dir {
			x.rmSeen(e.Path)
		} else if err := x.b.Unlink(x.t.Context(), e); err != nil {
			x.t.Fatal(err)
		}
	}
	if err := x.b.RemoveDirSeen(x.t.Context(), dir); err != nil {
		x.t.Fatal(err)
	}
}

// TestForesee wants directories that go with what is in them to be looked at meanwhile, and
// no others.
func TestForesee(t *testing.T) {
	x, f := newForeseen(t, 4)
	x.plant("/t")
	x.s.Start()
	if _, err := x.b.Mkdir(t.Context(), "/t/c/made"); err != nil { // here, or perhaps there
		t.Fatal(err)
	}
	x.flush()
	x.rmSeen("/t")
	eventually(t, "all were looked at", func() bool { return len(f.seen()) == 4 })
	if got, want := f.seen(), []string{"/t", "/t/a", "/t/a/b", "/t/c"}; !slices.Equal(got, want) {
		t.Errorf("looked at %v, want %v", got, want) // nothing was removed in the others
	}
	if p, r := x.counts(); p+r > 0 {
		t.Errorf("%d trees and %d entries were removed", p, r)
	}
	x.flush()
	hasNot(t, x.server, "/t")
	if p, r := x.counts(); p != 1 || r != 0 {
		t.Errorf("%d trees and %d entries were removed", p, r)
	}
	x.settled()
}

// TestForeseeBounds wants no more looks at once than there is room for, none in a pause, and
// no more after one that fails; all goes all the same.
func TestForeseeBounds(t *testing.T) {
	x, f := newForeseen(t, 2)
	x.plant("/t")
	x.plant("/u")
	x.s.Start()
	x.s.Pause()
	x.rmSeen("/u")
	x.s.Resume()
	x.flush()
	if got := f.seen(); len(got) > 0 {
		t.Errorf("looked at %v in a pause", got)
	}
	leave := make(chan struct{})
	f.look = func(context.Context) error {
		<-leave
		return &remote.Error{Op: "foresee", Kind: remote.Unavailable}
	}
	x.rmSeen("/t")
	eventually(t, "two look", func() bool { return len(f.seen()) == 2 })
	x.s.mu.Lock()
	if under, wait := x.b.foresight.under, len(x.b.foresight.queue); under != 2 || wait != 2 {
		t.Errorf("%d looks are under way and %d wait", under, wait)
	}
	x.s.mu.Unlock()
	close(leave)
	eventually(t, "they have ended", func() bool {
		x.s.mu.Lock()
		defer x.s.mu.Unlock()
		return x.b.foresight.under == 0 && len(x.b.foresight.queue) == 0
	})
	if got := f.seen(); len(got) > 3 { // the second may begin the next before it ends
		t.Errorf("looked at %v", got)
	}
	x.flush()
	hasNot(t, x.server, "/t")
	hasNot(t, x.server, "/u")
	x.settled()
}

// TestForeseeClose closes the journal while a look hangs.
func TestForeseeClose(t *testing.T) {
	x, f := newForeseen(t, 2)
	x.plant("/t")
	x.s.Start()
	f.look = func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	x.rmSeen("/t")
	eventually(t, "two look", func() bool { return len(f.seen()) == 2 })
	f.mu.Lock()
	f.look = nil
	f.mu.Unlock()
	x.reopen()
	x.s.Start()
	x.flush()
	hasNot(t, x.server, "/t")
}

// TestRemovalLull wants the wait for more removals to be short only where a directory has gone
// in which the oldest of them was, after many in quick succession.
func TestRemovalLull(t *testing.T) {
	const usual = 250 * time.Millisecond
	now := time.Unix(1000, 0)
	var r removals
	gone := func(path string, typ remote.Type, pause time.Duration) *change {
		now = now.Add(pause)
		c := &change{path: path, typ: typ, since: now}
		r.add(c, usual)
		return c
	}
	first := gone("/t/a/f", remote.File, time.Hour)
	check := func(what string, want time.Duration) {
		t.Helper()
		if got := r.lull(first, usual); got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	gone("/t/a", remote.Dir, time.Millisecond)
	check("after two", usual)
	for range 1000 {
		gone("/t/b/f", remote.File, 100*time.Microsecond)
	}
	check("after many files", usual)
	gone("/t/b", remote.Dir, time.Millisecond)
	check("another directory", usual)
	gone("/t", remote.Dir, time.Millisecond)
	check("the whole tree", usual/10)
	gone("/t/c/f", remote.File, 50*time.Millisecond)
	gone("/t", remote.Dir, time.Millisecond)
	if got := r.lull(first, usual); got < 190*time.Millisecond || got > usual {
		t.Errorf("after a pause: %v", got)
	}
}

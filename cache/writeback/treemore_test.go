package writeback

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
)

// TestPruneDropped gives one removal of a tree up: what it was to remove stays, with its
// directories.
func TestPruneDropped(t *testing.T) {
	x := newPruned(t, memory.Options{}, Policy{})
	x.plant("/t")
	x.rm("/t")
	x.s.mu.Lock()
	id := x.b.queue.last("/t/a/f").id
	x.s.mu.Unlock()
	if err := x.s.Drop(id); err != nil {
		t.Fatal(err)
	}
	x.s.Start()
	x.flush()
	has(t, x.server, "/t/a/f", "a")
	hasNot(t, x.server, "/t/c")
	hasNot(t, x.server, "/t/f0")
}

// TestPrunePaused wants nothing to be removed in a pause, and no removal under way to be
// dropped.
func TestPrunePaused(t *testing.T) {
	x := newPruned(t, memory.Options{}, Policy{})
	x.plant("/t")
	x.s.Pause()
	x.s.Start()
	x.rm("/t")
	x.s.mu.Lock()
	group, _ := x.b.whole(x.b.queue.last("/t"))
	x.s.mu.Unlock()
	if p, r := x.counts(); p+r > 0 || len(group) != planted {
		t.Errorf("%d trees and %d entries were removed in a pause, %d wait", p, r, len(group))
	}
	entered, leave := make(chan struct{}), make(chan struct{})
	x.when(func(_ context.Context, c *remote.Call) {
		if c.Op == remote.OpPrune {
			close(entered)
			<-leave
		}
	})
	x.s.Resume()
	<-entered
	for _, i := range x.s.Status().Items {
		if i.State != Uploading {
			t.Errorf("%s is %s", i.Path, i.State)
		}
		if err := x.s.Drop(i.ID); remote.KindOf(err) != remote.Locked || err == nil {
			t.Errorf("%s was dropped: %v", i.Path, err)
		}
	}
	close(leave)
	x.flush()
	hasNot(t, x.server, "/t")
}

// TestPruneBound wants a tree that is too large to go in parts.
func TestPruneBound(t *testing.T) {
	x := newPruned(t, memory.Options{}, Policy{Prune: Pruning{Most: 5, Lull: time.Millisecond, Longest: time.Minute}})
	x.plant("/t")
	x.rm("/t")
	x.s.Start()
	x.flush()
	hasNot(t, x.server, "/t")
	x.settled()
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.prunes) != 2 { // a with b, c
		t.Errorf("trees removed: %q", x.prunes)
	}
}

// TestPruneMakesRoom wants removals to go while the server has no space for anything.
func TestPruneMakesRoom(t *testing.T) {
	x := newPruned(t, memory.Options{Quota: 100 << 10}, Policy{})
	x.opts.RetryWait = time.Hour
	x.reopen()
	x.plant("/t")
	x.give("/t/large", string(make([]byte, 90<<10)))
	x.s.Start()
	x.put("/f", string(make([]byte, 20<<10)))
	eventually(t, "it is full", func() bool { return x.b.Full() != nil })
	x.rm("/t")
	eventually(t, "all is over but the file", func() bool { return len(x.s.Status().Items) <= 1 })
	hasNot(t, x.server, "/t")
}

// TestRemoveDirSeen wants a directory of which all was removed here to be removed without a
// look at the server, and any other with one.
func TestRemoveDirSeen(t *testing.T) {
	x := newPruned(t, memory.Options{}, Policy{})
	x.plant("/t")
	var lists int // guarded by x.mu
	x.when(func(_ context.Context, c *remote.Call) {
		if c.Op == remote.OpList {
			x.mu.Lock()
			lists++
			x.mu.Unlock()
		}
	})
	e, err := x.b.Stat(t.Context(), "/t/c/f")
	if err != nil {
		t.Fatal(err)
	}
	if err := x.b.RemoveDirSeen(t.Context(), "/t/c"); remote.KindOf(err) != remote.NotEmpty || err == nil {
		t.Errorf("a directory with something in it: %v", err)
	}
	if err := x.b.Unlink(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	x.mu.Lock()
	before := lists
	x.mu.Unlock()
	x.put("/t/c/new", "new")
	if err := x.b.RemoveDirSeen(t.Context(), "/t/c"); remote.KindOf(err) != remote.NotEmpty || err == nil {
		t.Errorf("a directory with something new in it: %v", err)
	}
	e, err = x.b.Stat(t.Context(), "/t/c/new")
	if err != nil {
		t.Fatal(err)
	}
	if err := x.b.Unlink(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if err := x.b.RemoveDirSeen(t.Context(), "/t/c"); err != nil {
		t.Error(err)
	}
	x.mu.Lock()
	after := lists
	x.mu.Unlock()
	if after != before {
		t.Errorf("%d listings of the server", after-before)
	}
	x.s.Start()
	x.flush()
	hasNot(t, x.server, "/t/c")
}

// TestPruneLong removes a directory with many files, which takes so long that the first files
// are removed by themselves: the others go with the directory.
func TestPruneLong(t *testing.T) {
	const files = 300
	x := newPruned(t, memory.Options{}, Policy{Prune: Pruning{Most: 1000, Lull: time.Millisecond, Longest: time.Minute}})
	if _, err := x.server.Mkdir(t.Context(), "/t"); err != nil {
		t.Fatal(err)
	}
	for i := range files {
		x.give(fmt.Sprintf("/t/f%d", i), "content")
	}
	leave := make(chan struct{})
	x.when(func(_ context.Context, c *remote.Call) {
		if c.Op == remote.OpRemove {
			<-leave
		}
	})
	x.s.Start()
	err := x.b.List(t.Context(), "/t", func(e remote.Entry) error { return x.b.Unlink(t.Context(), e) })
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "none waits for its directory any more", func() bool {
		x.s.mu.Lock()
		defer x.s.mu.Unlock()
		for first := x.b.queue.gone.top(); first != nil; first = x.b.queue.gone.top() {
			x.b.queue.alone(first) // as after Longest
		}
		return x.b.active > 0
	})
	_, begun := x.counts()
	if err := x.b.RemoveDirSeen(t.Context(), "/t"); err != nil {
		t.Fatal(err)
	}
	close(leave)
	eventually(t, "all is gone", func() bool { return len(x.s.Status().Items) == 0 })
	hasNot(t, x.server, "/t")
	if p, r := x.counts(); p != 1 || r > begun+8 {
		t.Errorf("%d trees and %d entries were removed; %d before", p, r, begun)
	}
	x.settled()
}

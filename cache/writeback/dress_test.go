package writeback

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// dressed is a site whose calls about attributes are counted.
type dressed struct {
	*site
	mu      sync.Mutex
	batches [][]string // paths
	alone   []string
	before  func(*remote.Call) error // called before a batch
}

func newDressed(t *testing.T) *dressed {
	t.Helper()
	x := &dressed{site: &site{t: t, server: memory.New(memory.Options{}), dir: t.TempDir(), policy: Policy{Name: "b", Tree: "memory:b"},
		opts: Options{RetryWait: time.Millisecond, Hostname: "here"}}}
	x.faulty = remotetest.Faulty(remote.Intercept(x.server, x.around), remotetest.Plan{})
	x.open()
	t.Cleanup(func() { _ = x.s.Close() })
	return x
}

func (x *dressed) around(ctx context.Context, c *remote.Call, next remote.Next) error {
	switch c.Op {
	case remote.OpSetAttr:
		x.mu.Lock()
		x.alone = append(x.alone, c.Path)
		x.mu.Unlock()
	case remote.OpSetAttrBatch:
		var paths []string
		for _, it := range c.AttrItems {
			paths = append(paths, it.Path)
		}
		x.mu.Lock()
		x.batches = append(x.batches, paths)
		before := x.before
		x.mu.Unlock()
		if before != nil {
			if err := before(c); err != nil {
				return err
			}
		}
	}
	return next(ctx)
}

// plant makes n files on the server.
func (x *dressed) plant(n int) {
	x.t.Helper()
	for i := range n {
		if _, err := x.server.Put(x.t.Context(), fmt.Sprintf("/f%d", i), remotetest.Bytes([]byte("old")), remote.PutOptions{}); err != nil {
			x.t.Fatal(err)
		}
	}
}

// chmod sets the mode of what plant has made.
func (x *dressed) chmod(n int, mode uint32) {
	x.t.Helper()
	for i := range n {
		if _, err := x.b.SetAttr(x.t.Context(), fmt.Sprintf("/f%d", i), remote.Attrs{Mode: &mode}); err != nil {
			x.t.Fatal(err)
		}
	}
}

// wantMode wants the server to have set the mode of all but some.
func (x *dressed) wantMode(n int, mode uint32, but ...string) {
	x.t.Helper()
	for i := range n {
		path := fmt.Sprintf("/f%d", i)
		e, err := x.server.Stat(x.t.Context(), path)
		if len(but) > 0 && path == but[0] {
			if err == nil {
				x.t.Errorf("%s is there", path)
			}
			continue
		}
		if err != nil || !e.ModeKnown || e.Mode != mode {
			x.t.Errorf("%s has mode %o (%v), %v", path, e.Mode, e.ModeKnown, err)
		}
	}
	if items := x.s.Status().Items; len(items) > 0 {
		x.t.Errorf("%d are pending, the first is %+v", len(items), items[0])
	}
}

// TestAttrsLeaveTogether wants attributes of many entries to take few calls, and what is set
// twice to be set once, at last as it was set last.
func TestAttrsLeaveTogether(t *testing.T) {
	const n = 250
	x := newDressed(t)
	x.plant(n)
	x.chmod(n, 0o700)
	x.chmod(n, 0o640)
	when := time.Date(2011, 2, 3, 4, 5, 6, 0, time.UTC)
	for i := range n {
		if _, err := x.b.SetAttr(t.Context(), fmt.Sprintf("/f%d", i), remote.Attrs{MTime: &when}); err != nil {
			t.Fatal(err)
		}
	}
	x.s.Start()
	x.flush()
	x.wantMode(n, 0o640)
	for i := range n {
		if e, err := x.server.Stat(t.Context(), fmt.Sprintf("/f%d", i)); err != nil || !e.MTime.Equal(when) {
			t.Errorf("%+v, %v", e, err)
		}
	}
	all := 0
	for _, b := range x.batches {
		all += len(b)
	}
	if len(x.batches) != 3 || all != n || len(x.alone) > 0 {
		t.Errorf("%d entries in %d calls, %d alone", all, len(x.batches), len(x.alone))
	}
}

// TestAttrsOfNewFiles wants attributes of what is pending to go with its content.
func TestAttrsOfNewFiles(t *testing.T) {
	const n = 30
	x := newDressed(t)
	for i := range n {
		x.put(fmt.Sprintf("/f%d", i), "new")
	}
	x.chmod(n, 0o600)
	x.s.Start()
	x.flush()
	x.wantMode(n, 0o600)
	if len(x.batches)+len(x.alone) > 0 {
		t.Errorf("%d batches, %d alone", len(x.batches), len(x.alone))
	}
}

// TestAttrsFailTogether wants a batch that fails to be tried again, and one entry that has been
// removed elsewhere to be no harm to the others.
func TestAttrsFailTogether(t *testing.T) {
	const n = 40
	x := newDressed(t)
	x.plant(n)
	x.chmod(n, 0o600)
	if err := x.server.Remove(t.Context(), "/f7", remote.RemoveOptions{Type: remote.File}); err != nil {
		t.Fatal(err)
	}
	failures := 2
	x.before = func(c *remote.Call) error {
		if failures--; failures >= 0 {
			return &remote.Error{Op: "setattr", Path: c.Path, Kind: remote.Unavailable}
		}
		return nil
	}
	x.s.Start()
	x.flush()
	x.wantMode(n, 0o600, "/f7")
	// How many are back for the next batch when its time has come is a matter of chance.
	if len(x.batches) < 3 || len(x.batches[0]) != n || len(x.batches)+len(x.alone) >= n || !slices.Contains(x.alone, "/f7") {
		t.Errorf("%d batches, alone: %v", len(x.batches), x.alone)
	}
}

// TestAttrsThatCannotGoTogether wants them to go alone.
func TestAttrsThatCannotGoTogether(t *testing.T) {
	const n = 12
	x := newDressed(t)
	x.plant(n)
	x.chmod(n, 0o600)
	x.before = func(c *remote.Call) error {
		return &remote.Error{Op: "setattr", Path: c.Path, Kind: remote.Unsupported}
	}
	x.s.Start()
	x.flush()
	x.wantMode(n, 0o600)
	if len(x.batches) != 1 || len(x.alone) != n {
		t.Errorf("%d batches, %d alone", len(x.batches), len(x.alone))
	}
}

// TestAttrsSurvive wants attributes that were set before the end of the process to be set by
// the next one, also if a batch of them was under way.
func TestAttrsSurvive(t *testing.T) {
	const n = 20
	x := newDressed(t)
	x.plant(n)
	x.chmod(n, 0o600)
	under := make(chan struct{}, 10)
	x.before = func(c *remote.Call) error {
		under <- struct{}{}
		return &remote.Error{Op: "setattr", Path: c.Path, Kind: remote.Unavailable}
	}
	x.s.Start()
	<-under
	x.reopen()
	x.mu.Lock()
	x.before = nil
	x.mu.Unlock()
	if got := len(x.s.Status().Items); got != n {
		t.Fatalf("%d changes are back", got)
	}
	x.s.Start()
	x.flush()
	x.wantMode(n, 0o600)
}

// TestRequestsDoNotGrow wants what a file costs not to depend on how many there are: to create
// and to change its attributes.
func TestRequestsDoNotGrow(t *testing.T) {
	per := func(n int) (created, set, there float64) {
		x := newBatched(t, memory.Options{}, Policy{})
		all, mu := 0, sync.Mutex{}
		x.faulty = remotetest.Faulty(remote.Intercept(x.server, func(ctx context.Context, c *remote.Call, next remote.Next) error {
			mu.Lock()
			all++
			mu.Unlock()
			return next(ctx)
		}), remotetest.Plan{})
		x.reopen()
		x.mkdir("/d")
		at := func() float64 {
			x.s.Start()
			x.flush()
			mu.Lock()
			defer mu.Unlock()
			made := all
			all = 0
			return float64(made) / float64(n)
		}
		for i := range n {
			st, err := x.b.NewStage(0, remote.Entry{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := x.b.Commit(t.Context(), fmt.Sprintf("/d/f%d", i), st, Commit{Cond: remote.Cond{NotExist: true}}); err != nil {
				t.Fatal(err)
			}
			st.Release()
		}
		created = at()
		entries := list(t, x.server, "/d")
		for _, e := range entries {
			mode := uint32(0o600)
			if _, err := x.b.SetAttrs(t.Context(), e, remote.Attrs{Mode: &mode}); err != nil {
				t.Fatal(err)
			}
		}
		return created, at(), float64(len(entries)) / float64(n)
	}
	create1, set1, all1 := per(500)
	create2, set2, all2 := per(4000)
	if all1 != 1 || all2 != 1 {
		t.Fatalf("%g and %g of the files are there", all1, all2)
	}
	if create2 > create1*1.1 || set2 > set1*1.5 || create2 > 0.1 || set2 > 0.1 {
		t.Errorf("requests for each of 500 and of 4,000 files: created %g and %g, set %g and %g", create1, create2, set1, set2)
	}
}

// list returns what is in a directory of a backend.
func list(t *testing.T, b remote.Backend, dir string) (all []remote.Entry) {
	t.Helper()
	err := b.List(t.Context(), dir, func(e remote.Entry) error {
		all = append(all, e)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

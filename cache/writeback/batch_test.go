package writeback

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// batched is a site whose server takes batches, which are recorded.
type batched struct {
	*site
	mu     sync.Mutex
	groups [][]string                                // guarded by mu; the paths of each batch
	alone  int                                       // guarded by mu; puts of one file
	before func(ctx context.Context, c *remote.Call) // guarded by mu; called with each batch
}

var someBatches = remote.Batches{Files: 40, Bytes: 1 << 20, Size: 64 << 10, Parallel: 2}

func newBatched(t *testing.T, o memory.Options, p Policy) *batched {
	t.Helper()
	o.Batches = someBatches
	x := &batched{site: &site{t: t, server: memory.New(o), dir: t.TempDir(), policy: p, opts: Options{RetryWait: time.Millisecond, Hostname: "here"}}}
	x.policy.Name, x.policy.Tree = "b", "memory:b"
	x.policy.Batch = Batching{Size: 64 << 10, Files: 40, Bytes: 1 << 20, Delay: time.Millisecond}
	x.faulty = remotetest.Faulty(remote.Intercept(x.server, x.around), remotetest.Plan{})
	x.open()
	t.Cleanup(func() { _ = x.s.Close() })
	return x
}

func (x *batched) around(ctx context.Context, c *remote.Call, next remote.Next) error {
	x.mu.Lock()
	before := x.before
	switch c.Op {
	case remote.OpPutBatch:
		var paths []string
		for _, it := range c.Batch {
			paths = append(paths, it.Path)
		}
		x.groups = append(x.groups, paths)
	case remote.OpPut:
		x.alone++
	}
	x.mu.Unlock()
	if before != nil && c.Op == remote.OpPutBatch {
		before(ctx, c)
	}
	return next(ctx)
}

// fill puts n files that wait together.
func (x *batched) fill(dir string, n int) {
	x.t.Helper()
	for i := range n {
		x.put(fmt.Sprintf("%s/f%d", dir, i), fmt.Sprintf("content %d of %s", i, dir))
	}
}

// full wants the server to have what fill has put.
func (x *batched) full(dir string, n int) {
	x.t.Helper()
	for i := range n {
		has(x.t, x.server, fmt.Sprintf("%s/f%d", dir, i), fmt.Sprintf("content %d of %s", i, dir))
	}
	if c := x.s.Status().Branches[0].Conflicts; len(c) > 0 {
		x.t.Errorf("conflicts: %+v", c)
	}
	if i := x.s.Status().Items; len(i) > 0 {
		x.t.Errorf("still there: %+v", i)
	}
}

func (x *batched) mkdir(path string) {
	x.t.Helper()
	if _, err := x.b.Mkdir(x.t.Context(), path); err != nil {
		x.t.Fatal(err)
	}
}

// counts returns how many batches there were, with how many files, and how many went alone.
func (x *batched) counts() (batches, files, alone int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, g := range x.groups {
		files += len(g)
	}
	return len(x.groups), files, x.alone
}

// TestBatch wants many small new files to leave together, and others alone: those that
// replace something, large ones, and very few.
func TestBatch(t *testing.T) {
	x := newBatched(t, memory.Options{}, Policy{})
	if _, err := x.server.Put(t.Context(), "/old", remotetest.Bytes([]byte("old")), remote.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	x.mkdir("/d")
	x.fill("/d", 100)
	x.put("/old", "new")
	large := string(make([]byte, 70<<10))
	x.put("/large", large)
	x.s.Start()
	x.flush()
	x.full("/d", 100)
	has(t, x.server, "/old", "new")
	has(t, x.server, "/large", large)
	if n, files, alone := x.counts(); n != 3 || files != 100 || alone != 2 {
		t.Errorf("%d batches of %d files, %d alone", n, files, alone)
	}
	x.put("/one", "1")
	x.put("/two", "2")
	x.flush()
	if _, files, alone := x.counts(); files != 100 || alone != 4 {
		t.Errorf("%d files in batches, %d alone", files, alone)
	}
}

// TestBatchBounds wants bounds of the server and of the policy to hold, and files that come
// one after the other to wait for each other.
func TestBatchBounds(t *testing.T) {
	x := newBatched(t, memory.Options{}, Policy{})
	x.policy.Batch.Bytes, x.policy.Batch.Files, x.policy.Batch.Delay = 256<<10, 30, time.Hour
	x.reopen()
	block := string(make([]byte, 40<<10))
	for i := range 6 {
		x.put(fmt.Sprint("/big", i), block)
	}
	x.fill("", 20)
	x.s.Start()
	time.Sleep(20 * time.Millisecond)
	if n, _, alone := x.counts(); n+alone > 0 {
		t.Errorf("%d batches and %d alone before their time", n, alone)
	}
	for i := 6; i < 20; i++ {
		x.put(fmt.Sprint("/big", i), block)
	}
	for i := 20; i < 70; i++ {
		x.put(fmt.Sprintf("/f%d", i), fmt.Sprintf("content %d of ", i))
	}
	x.flush()
	x.full("", 70)
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, g := range x.groups {
		size := 0
		for _, p := range g {
			if p[1] == 'b' {
				size += len(block)
			}
		}
		if len(g) > 30 || size > 256<<10 {
			t.Errorf("a batch of %d files and %d bytes", len(g), size)
		}
	}
	if len(x.groups) < 4 || x.alone > 2 {
		t.Errorf("%d batches, %d alone", len(x.groups), x.alone)
	}
}

// TestBatchFaults has batches fail in all ways: what was sent and what not, all is stored
// once, and nothing is taken for somebody else's.
func TestBatchFaults(t *testing.T) {
	for what, rule := range map[string]remotetest.Rule{
		"refused":     {Fault: remotetest.FaultError, Kind: remote.Unavailable, Count: 2},
		"lost answer": {Fault: remotetest.FaultLost, Count: 2},
		"unsupported": {Fault: remotetest.FaultError, Kind: remote.Unsupported},
		"for long":    {Fault: remotetest.FaultError, Kind: remote.Unavailable, Count: 8},
	} {
		t.Run(what, func(t *testing.T) {
			x := newBatched(t, memory.Options{}, Policy{})
			rule.Ops = []remote.Op{remote.OpPutBatch}
			x.faulty.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{rule}})
			x.mkdir("/d")
			x.fill("/d", 100)
			x.s.Start()
			x.flush()
			x.full("/d", 100)
		})
	}
}

// TestBatchMembers has single files of a batch meet what is there, parents that are gone,
// and what cannot go in a batch.
func TestBatchMembers(t *testing.T) {
	ctx := t.Context()
	x := newBatched(t, memory.Options{}, Policy{})
	for _, dir := range []string{"/d", "/gone"} {
		if _, err := x.server.Mkdir(ctx, dir); err != nil {
			t.Fatal(err)
		}
	}
	x.fill("/d", 10)
	x.fill("/gone", 5)
	if err := x.server.Remove(ctx, "/gone", remote.RemoveOptions{Type: remote.Dir}); err != nil {
		t.Fatal(err)
	}
	for path, content := range map[string]string{"/d/f3": "theirs", "/d/f4": "content 4 of /d"} {
		if _, err := x.server.Put(ctx, path, remotetest.Bytes([]byte(content)), remote.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	x.s.Start()
	x.flush()
	for i := range 5 {
		has(t, x.server, fmt.Sprint("/gone/f", i), fmt.Sprintf("content %d of /gone", i))
	}
	has(t, x.server, "/d/f3", "theirs")
	has(t, x.server, "/d/f4", "content 4 of /d")
	has(t, x.server, "/d/f9", "content 9 of /d")
	c := x.s.Status().Branches[0].Conflicts
	if len(c) != 1 {
		t.Fatalf("conflicts: %+v", c)
	}
	has(t, x.server, c[0].Copy, "content 3 of /d")
}

// TestBatchChanges removes, renames and writes over files while the batch that they are in
// is under way.
func TestBatchChanges(t *testing.T) {
	ctx := t.Context()
	x := newBatched(t, memory.Options{}, Policy{})
	x.mkdir("/d")
	x.fill("/d", 20)
	entered, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	x.before = func(context.Context, *remote.Call) {
		once.Do(func() { close(entered); <-leave })
	}
	x.s.Start()
	<-entered
	if err := x.b.Remove(ctx, "/d/f1", remote.RemoveOptions{Type: remote.File}); err != nil {
		t.Fatal(err)
	}
	if err := x.b.Rename(ctx, "/d/f2", "/d/moved", remote.RenameOptions{}); err != nil {
		t.Fatal(err)
	}
	x.put("/d/f3", "other content")
	close(leave)
	x.flush()
	hasNot(t, x.server, "/d/f1")
	hasNot(t, x.server, "/d/f2")
	has(t, x.server, "/d/moved", "content 2 of /d")
	has(t, x.server, "/d/f3", "other content")
	has(t, x.server, "/d/f19", "content 19 of /d")
	if c := x.s.Status().Branches[0].Conflicts; len(c) > 0 {
		t.Errorf("conflicts: %+v", c)
	}
}

// TestBatchEnds closes the store while a batch is under way: what has not been stored is
// there for the next one, which sends it in batches again.
func TestBatchEnds(t *testing.T) {
	x := newBatched(t, memory.Options{}, Policy{})
	x.fill("", 100)
	entered := make(chan struct{}, 10)
	x.before = func(ctx context.Context, _ *remote.Call) {
		entered <- struct{}{}
		<-ctx.Done()
	}
	x.s.Start()
	<-entered
	if err := x.s.Close(); err != nil {
		t.Fatal(err)
	}
	x.mu.Lock()
	x.before, x.groups = nil, nil
	x.mu.Unlock()
	x.open()
	x.s.Start()
	x.flush()
	x.full("", 100)
	if n, files, alone := x.counts(); n == 0 || files+alone < 100 || alone > 2 {
		t.Errorf("%d batches of %d files, %d alone", n, files, alone)
	}
}

// TestBatchTorn has a program write over a file while its batch reads it: the others are
// stored all the same, and this one with its last content.
func TestBatchTorn(t *testing.T) {
	ctx := t.Context()
	x := newBatched(t, memory.Options{}, Policy{})
	st, err := x.b.NewStage(0, remote.Entry{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Release()
	if _, err := st.WriteAt([]byte("first content"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := x.b.Commit(ctx, "/open", st, Commit{Cond: remote.Cond{NotExist: true}}); err != nil {
		t.Fatal(err)
	}
	x.fill("", 10)
	var once sync.Once
	x.before = func(_ context.Context, c *remote.Call) {
		once.Do(func() {
			i := slices.IndexFunc(c.Batch, func(it remote.BatchItem) bool { return it.Path == "/open" })
			r, err := c.Batch[i].Source.Open()
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Close()
			if _, err := st.WriteAt([]byte("other"), 0); err != nil {
				t.Error(err)
			}
			if _, err := io.ReadAll(r); err == nil {
				t.Error("a torn content was read to its end")
			}
		})
	}
	x.s.Start()
	eventually(t, "the batch is over", func() bool { n, _, _ := x.counts(); return n > 0 })
	if _, err := x.b.Commit(ctx, "/open", st, Commit{Cond: remote.Cond{NotExist: true}}); err != nil && !errors.Is(err, remote.Conflict) && remote.KindOf(err) != remote.Exist {
		t.Fatal(err)
	}
	x.flush()
	x.full("", 10)
	has(t, x.server, "/open", "other content")
}

// TestLoose wants a time that is only that of writing to be no request of its own, and one
// that was set to be kept, also over a restart.
func TestLoose(t *testing.T) {
	ctx := t.Context()
	x := newSite(t, memory.Options{}, Policy{})
	when := time.Unix(1_500_000_000, 0)
	commit := func(path string, loose bool) {
		t.Helper()
		st, err := x.b.NewStage(0, remote.Entry{})
		if err != nil {
			t.Fatal(err)
		}
		defer st.Release()
		if _, err := st.WriteAt([]byte("content"), 0); err != nil {
			t.Fatal(err)
		}
		if _, err := x.b.Commit(ctx, path, st, Commit{Cond: remote.Cond{NotExist: true}, Attrs: remote.Attrs{MTime: &when}, Loose: loose}); err != nil {
			t.Fatal(err)
		}
	}
	commit("/loose", true)
	commit("/strict", false)
	commit("/set", true)
	if _, err := x.b.SetAttr(ctx, "/set", remote.Attrs{MTime: &when}); err != nil {
		t.Fatal(err)
	}
	x.reopen()
	loose := map[string]bool{}
	x.s.mu.Lock()
	for _, c := range x.b.all {
		loose[c.path] = c.loose
	}
	x.s.mu.Unlock()
	for path, want := range map[string]bool{"/loose": true, "/strict": false, "/set": false} {
		if got, ok := loose[path]; !ok || got != want {
			t.Errorf("%s: loose is %v (%v), want %v", path, got, ok, want)
		}
	}
}

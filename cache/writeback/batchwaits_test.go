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

// TestBatchesHoldUpNoFsync wants a small file for which somebody waits to go at once, while as
// many batches are under way as there may be.
func TestBatchesHoldUpNoFsync(t *testing.T) {
	x := newBatched(t, memory.Options{}, Policy{Workers: 16})
	x.mkdir("/d")
	x.fill("/d", 80) // two batches of 40: Parallel 2
	entered, leave := make(chan struct{}, 10), make(chan struct{})
	x.before = func(context.Context, *remote.Call) { entered <- struct{}{}; <-leave }
	defer close(leave)
	x.s.Start()
	<-entered
	<-entered
	x.put("/urgent", "u")
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	if err := x.b.Sync(ctx, "/urgent"); err != nil {
		t.Error(err)
	}
}

// TestBatchesHoldUpNoLargerFile is the same with a file that is too large for the server's
// batches but within the policy.
func TestBatchesHoldUpNoLargerFile(t *testing.T) {
	x := newBatched(t, memory.Options{}, Policy{Workers: 16})
	x.policy.Batch.Size = 1 << 20
	x.reopen()
	x.mkdir("/d")
	x.fill("/d", 80)
	entered, leave := make(chan struct{}, 10), make(chan struct{})
	x.before = func(context.Context, *remote.Call) { entered <- struct{}{}; <-leave }
	defer close(leave)
	x.s.Start()
	<-entered
	<-entered
	x.put("/middle", string(make([]byte, 200<<10)))
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	if err := x.b.Sync(ctx, "/middle"); err != nil {
		t.Error(err)
	}
}

// TestBatchesStarveNobody wants a large file for which somebody waits to go before batches for
// which nobody does, where there is room for one upload only.
func TestBatchesStarveNobody(t *testing.T) {
	x := newBatched(t, memory.Options{}, Policy{Workers: 1})
	x.policy.Workers = 1
	x.reopen()
	x.mkdir("/d")
	entered, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	x.before = func(context.Context, *remote.Call) { once.Do(func() { close(entered); <-leave }) }
	x.fill("/d", 400)
	x.s.Start()
	<-entered
	x.put("/large", string(make([]byte, 70<<10)))
	done := make(chan int)
	go func() {
		if err := x.b.Sync(t.Context(), "/large"); err != nil {
			t.Error(err)
		}
		n, _, _ := x.counts()
		done <- n
	}()
	eventually(t, "urgent", func() bool {
		x.s.mu.Lock()
		defer x.s.mu.Unlock()
		return x.b.queue.last("/large").urgent
	})
	close(leave)
	if n := <-done; n > 2 {
		t.Errorf("an urgent large file went after %d batches of files for which nobody waits", n)
	}
	x.flush()
}

// TestLooseRename wants the time of writing to stay loose in a rename before the upload.
func TestLooseRename(t *testing.T) {
	x := newSite(t, memory.Options{}, Policy{})
	when := time.Unix(1_500_000_000, 0)
	st, err := x.b.NewStage(0, remote.Entry{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Release()
	if _, err := st.WriteAt([]byte("content"), 0); err != nil {
		t.Fatal(err)
	}
	e, err := x.b.Commit(t.Context(), "/tmp1", st, Commit{Cond: remote.Cond{NotExist: true}, Attrs: remote.Attrs{MTime: &when}, Loose: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := x.b.Move(t.Context(), e, "/final", nil, false); err != nil {
		t.Fatal(err)
	}
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	for _, c := range x.b.all {
		if c.path == "/final" && !c.loose {
			t.Error("the time of writing is strict after a rename")
		}
	}
}

// TestBatchRefusedForGood has batches refused for good: their files go alone.
func TestBatchRefusedForGood(t *testing.T) {
	for _, k := range []remote.Kind{remote.TooLarge, remote.Permission, remote.Invalid} {
		t.Run(k.String(), func(t *testing.T) {
			x := newBatched(t, memory.Options{}, Policy{})
			x.faulty.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{{Ops: []remote.Op{remote.OpPutBatch}, Fault: remotetest.FaultError, Kind: k}}})
			x.mkdir("/d")
			x.fill("/d", 40)
			x.s.Start()
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
			defer cancel()
			err := x.s.Flush(ctx, "", "/")
			if st := x.s.Status().Branches[0]; st.Parked > 0 {
				t.Errorf("%d files are parked that the server takes alone: %v", st.Parked, err)
			}
		})
	}
}

// lateBatches is a backend that finds out later that it takes batches.
type lateBatches struct {
	remote.Backend
	remote.Batcher
	remote.AttrSetter
	mu sync.Mutex
	on bool // guarded by mu
}

func (l *lateBatches) Batches() remote.Batches {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.on {
		return remote.Batches{}
	}
	return someBatches
}

// TestLateBatches wants files whose time has not come to wait for what the server turns out to
// take.
func TestLateBatches(t *testing.T) {
	m := memory.New(memory.Options{Batches: someBatches})
	l := &lateBatches{Backend: m, Batcher: m, AttrSetter: m}
	dir := t.TempDir()
	pol := Policy{Name: "b", Tree: "memory:b", Batch: Batching{Size: 64 << 10, Files: 40, Bytes: 1 << 20, Delay: time.Millisecond}, Delay: 300 * time.Millisecond}
	s, err := Open(dir, Options{RetryWait: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	batches, alone := 0, 0
	below := remote.Intercept(l, func(ctx context.Context, c *remote.Call, next remote.Next) error {
		mu.Lock()
		switch c.Op {
		case remote.OpPutBatch:
			batches++
		case remote.OpPut:
			alone++
		}
		mu.Unlock()
		return next(ctx)
	})
	b, err := s.Wrap(below, pol)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range 100 {
		if _, err := b.Put(t.Context(), fmt.Sprint("/f", i), remotetest.Bytes([]byte("x")), remote.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	s.Start()
	eventually(t, "the scheduler has looked", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return b.queue.small.top() == nil || s.turn > 0
	})
	l.mu.Lock()
	l.on = true // the first answer of the server tells
	l.mu.Unlock()
	eventually(t, "all is over", func() bool { return len(s.Status().Items) == 0 })
	mu.Lock()
	defer mu.Unlock()
	if alone > 50 { // very few that are due together go alone
		t.Errorf("%d batches, %d alone", batches, alone)
	}
}

// TestBatchIsOneSuccess wants a batch to count once for the pace.
func TestBatchIsOneSuccess(t *testing.T) {
	x := newBatched(t, memory.Options{}, Policy{Workers: 16})
	x.policy.Workers = 16
	x.reopen()
	x.s.mu.Lock()
	x.b.pace.limit, x.b.pace.halved = 1, time.Now()
	x.s.mu.Unlock()
	x.mkdir("/d")
	x.fill("/d", 40)
	x.s.Start()
	x.flush()
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	n, _, _ := x.counts()
	if x.b.pace.limit > 4 {
		t.Errorf("after %d batches and a directory the pace is %v, from 1", n, x.b.pace.limit)
	}
}

// TestBatchTellsTheWorst wants the pace to hear of the failure of a batch that matters, whatever
// else came with it.
func TestBatchTellsTheWorst(t *testing.T) {
	x := newBatched(t, memory.Options{}, Policy{})
	x.opts.RetryWait = time.Minute
	x.reopen()
	x.faulty.SetPlan(remotetest.Plan{})
	b := x.b
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	g := b.newBatch([]*change{{kind: opPut}, {kind: opPut}})
	now := time.Now()
	g.left = 1
	b.judge(g, trouble{err: &remote.Error{Kind: remote.Locked}}, now, now)
	b.judge(g, trouble{none: true}, now, now)
	g.left = 0
	b.judge(g, trouble{err: &remote.Error{Kind: remote.NoSpace}}, now, now)
	if b.pace.why == nil {
		t.Error("the branch is not held, although the server has no space")
	}
}

// TestBatchComesBack wants what has failed together to come back together.
func TestBatchComesBack(t *testing.T) {
	x := newBatched(t, memory.Options{}, Policy{Workers: 16})
	x.policy.Batch.Delay = 250 * time.Millisecond
	x.opts.RetryWait = 500 * time.Millisecond
	x.reopen()
	x.faulty.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{{Ops: []remote.Op{remote.OpPutBatch}, Fault: remotetest.FaultError, Kind: remote.Unavailable, Count: 2}}})
	x.mkdir("/d")
	x.fill("/d", 80)
	x.s.Start()
	eventually(t, "all is over", func() bool { return len(x.s.Status().Items) == 0 })
	n, files, alone := x.counts()
	t.Logf("%d batches of %d files reached the server, %d alone", n, files, alone)
	if alone > 8 {
		t.Errorf("after two failed batches %d of 80 files go alone", alone)
	}
}

// TestHeldBranchSendsNoBatch wants one file to find out whether a refused secret is good again,
// not a batch.
func TestHeldBranchSendsNoBatch(t *testing.T) {
	var mu sync.Mutex
	refused := map[remote.Op]int{}
	most := 0
	m := memory.New(memory.Options{Batches: someBatches})
	below := remote.Intercept(m, func(ctx context.Context, c *remote.Call, next remote.Next) error {
		mu.Lock()
		defer mu.Unlock()
		refused[c.Op]++
		if c.Op == remote.OpPutBatch {
			most = max(most, len(c.Batch))
		}
		if c.Op.Mutates() || c.Op == remote.OpSweep {
			return c.Fail(remote.Auth, nil)
		}
		return next(ctx)
	})
	dir := t.TempDir()
	pol := Policy{Name: "b", Tree: "memory:b", Batch: Batching{Size: 64 << 10, Files: 40, Bytes: 1 << 20, Delay: time.Millisecond}}
	open := func() (*Store, *Branch) {
		s, err := Open(dir, Options{RetryWait: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		b, err := s.Wrap(below, pol)
		if err != nil {
			t.Fatal(err)
		}
		return s, b
	}
	s, b := open()
	for i := range 40 {
		if _, err := b.Put(t.Context(), fmt.Sprint("/f", i), remotetest.Bytes([]byte("x")), remote.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	_ = s.Close()
	s, b = open()
	defer s.Close()
	s.mu.Lock()
	b.pace.why = &remote.Error{Kind: remote.Auth} // held: room for one that finds out
	s.mu.Unlock()
	mu.Lock()
	clear(refused)
	mu.Unlock()
	s.Start()
	eventually(t, "it is held", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return b.pace.holds > 0 && b.active == 0
	})
	mu.Lock()
	defer mu.Unlock()
	t.Log(refused)
	if refused[remote.OpSweep]+refused[remote.OpPut]+most > 3 {
		t.Errorf("the one attempt of a held branch: %v, the batch of %d files", refused, most)
	}
}

// TestRemovalGoesFirstWhenFull has a server without space, and many files that wait for some:
// what makes room does not wait for each of them to be refused.
func TestRemovalGoesFirstWhenFull(t *testing.T) {
	x := newBatched(t, memory.Options{Quota: 100 << 10}, Policy{})
	if _, err := x.server.Put(t.Context(), "/old", remotetest.Bytes(make([]byte, 90<<10)), remote.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	x.opts.RetryWait = time.Hour
	x.reopen()
	for i := range 8 {
		x.put(fmt.Sprint("/f", i), string(make([]byte, 11<<10)))
	}
	x.s.Start()
	eventually(t, "it is full", func() bool { return x.b.Full() != nil })
	if err := x.b.Remove(t.Context(), "/old", remote.RemoveOptions{Type: remote.File}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is removed", func() bool {
		_, err := x.server.Stat(t.Context(), "/old")
		return err != nil && remote.KindOf(err) == remote.NotExist
	})
}

package writeback

import (
	"context"
	"fmt"
	"path"
	"sync"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// pruned is a site whose server removes directories as a whole, and counts.
type pruned struct {
	*site
	mu      sync.Mutex
	prunes  []string // guarded by mu; what was to be removed as a whole
	removes int      // guarded by mu
	before  func(ctx context.Context, c *remote.Call)
}

var somePruning = Pruning{Most: 1000, Lull: time.Millisecond, Longest: time.Minute}

func newPruned(t *testing.T, o memory.Options, p Policy) *pruned {
	t.Helper()
	x := &pruned{site: &site{t: t, server: memory.New(o), dir: t.TempDir(), policy: p, opts: Options{RetryWait: time.Millisecond, Hostname: "here"}}}
	x.policy.Name, x.policy.Tree = "b", "memory:b"
	if p.Prune == (Pruning{}) {
		x.policy.Prune = somePruning
	}
	x.faulty = remotetest.Faulty(remote.Intercept(x.server, x.around), remotetest.Plan{})
	x.open()
	t.Cleanup(func() { _ = x.s.Close() })
	return x
}

func (x *pruned) around(ctx context.Context, c *remote.Call, next remote.Next) error {
	x.mu.Lock()
	before := x.before
	switch c.Op {
	case remote.OpPrune:
		x.prunes = append(x.prunes, c.Path)
	case remote.OpRemove:
		x.removes++
	}
	x.mu.Unlock()
	if before != nil {
		before(ctx, c)
	}
	return next(ctx)
}

// when sets what is called before each call to the server.
func (x *pruned) when(f func(ctx context.Context, c *remote.Call)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.before = f
}

// plant makes a tree on the server: a file in each of four directories, and ten in one.
func (x *pruned) plant(top string) {
	x.t.Helper()
	for _, dir := range []string{top, top + "/a", top + "/a/b", top + "/c", top + "/empty"} {
		if _, err := x.server.Mkdir(x.t.Context(), dir); err != nil {
			x.t.Fatal(err)
		}
	}
	for i := range 10 {
		x.give(fmt.Sprintf("%s/f%d", top, i), "content")
	}
	for _, dir := range []string{"a", "a/b", "c"} {
		x.give(path.Join(top, dir, "f"), dir)
	}
	if _, err := x.server.Symlink(x.t.Context(), top+"/link", "f0"); err != nil {
		x.t.Fatal(err)
	}
}

// planted is how many entries plant makes.
const planted = 5 + 10 + 3 + 1

// give puts a file on the server.
func (x *pruned) give(path, content string) {
	x.t.Helper()
	if _, err := x.server.Put(context.Background(), path, remotetest.Bytes([]byte(content)), remote.PutOptions{}); err != nil {
		x.t.Fatal(err)
	}
}

// rm removes a tree as rm -r does.
func (x *pruned) rm(dir string) {
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
			x.rm(e.Path)
		} else if err := x.b.Unlink(x.t.Context(), e); err != nil {
			x.t.Fatal(err)
		}
	}
	if err := x.b.RemoveDir(x.t.Context(), dir); err != nil {
		x.t.Fatal(err)
	}
}

func (x *pruned) counts() (prunes, removes int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.prunes), x.removes
}

// settled wants nothing to be left to do, and no conflicts.
func (x *pruned) settled() {
	x.t.Helper()
	if c := x.s.Status().Branches[0].Conflicts; len(c) > 0 {
		x.t.Errorf("conflicts: %+v", c)
	}
	if i := x.s.Status().Items; len(i) > 0 {
		x.t.Errorf("still there: %+v", i)
	}
}

// TestPrune wants a tree that was removed here to go in one call, and all to be told.
func TestPrune(t *testing.T) {
	x := newPruned(t, memory.Options{}, Policy{})
	told := map[string]bool{}
	x.b.OnSettled(func(s Settled) { told[s.Path] = s.Entry.Type == 0 })
	x.plant("/t")
	x.plant("/kept")
	x.rm("/t")
	x.s.Start()
	x.flush()
	hasNot(t, x.server, "/t")
	has(t, x.server, "/kept/a/b/f", "a/b")
	if p, r := x.counts(); p != 1 || r != 0 {
		t.Errorf("%d trees and %d entries were removed", p, r)
	}
	x.settled()
	x.b.Told()
	if len(told) != planted || !told["/t"] || !told["/t/a/b/f"] || !told["/t/link"] {
		t.Errorf("told of %d: %v", len(told), told)
	}
	x.reopen()
	x.settled()
}

// TestPruneSingle wants what is not a tree to go by itself.
func TestPruneSingle(t *testing.T) {
	x := newPruned(t, memory.Options{}, Policy{})
	x.plant("/t")
	e, err := x.b.Stat(t.Context(), "/t/f1")
	if err != nil {
		t.Fatal(err)
	}
	if err := x.b.Unlink(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if err := x.b.RemoveDir(t.Context(), "/t/empty"); err != nil {
		t.Fatal(err)
	}
	x.s.Start()
	eventually(t, "both are gone", func() bool { return len(x.s.Status().Items) == 0 })
	hasNot(t, x.server, "/t/f1")
	hasNot(t, x.server, "/t/empty")
	if p, r := x.counts(); p != 0 || r != 2 {
		t.Errorf("%d trees and %d entries were removed", p, r)
	}
}

// TestPruneForeign has somebody else add or change something in a tree that was removed here:
// it stays, with the directories above it, and nothing else.
func TestPruneForeign(t *testing.T) {
	for _, theirs := range []string{"/t/theirs", "/t/a/b/theirs", "/t/empty/theirs", "/t/a/f"} {
		t.Run(theirs, func(t *testing.T) {
			x := newPruned(t, memory.Options{}, Policy{})
			x.plant("/t")
			x.rm("/t")
			x.give(theirs, "another content")
			x.s.Start()
			x.flush()
			has(t, x.server, theirs, "another content")
			left := dump(t, x.server)
			for p := range left {
				if !remote.Within(theirs, p) {
					t.Errorf("%s is left", p)
				}
			}
			compareDumps(t, left, dump(t, x.b), "the branch")
			if p, _ := x.counts(); p < 2 || p > 4 { // the whole, and what is beside the way to theirs
				t.Errorf("%d attempts at a tree", p)
			}
		})
	}
}

// TestPruneFaults has removals of trees fail in all ways: in the end all is gone.
func TestPruneFaults(t *testing.T) {
	for what, rule := range map[string]remotetest.Rule{
		"refused":     {Fault: remotetest.FaultError, Kind: remote.Unavailable, Count: 2},
		"locked":      {Fault: remotetest.FaultError, Kind: remote.Locked, Count: 1},
		"lost answer": {Fault: remotetest.FaultLost, Count: 2},
		"in part":     {Fault: remotetest.FaultTruncate, Count: 2},
		"unsupported": {Fault: remotetest.FaultError, Kind: remote.Unsupported},
		"permission":  {Fault: remotetest.FaultError, Kind: remote.Permission},
		"for long":    {Fault: remotetest.FaultError, Kind: remote.Unavailable},
		"full":        {Fault: remotetest.FaultError, Kind: remote.NoSpace, Count: 1},
	} {
		t.Run(what, func(t *testing.T) {
			x := newPruned(t, memory.Options{}, Policy{})
			rule.Ops = []remote.Op{remote.OpPrune}
			x.faulty.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{rule}})
			x.plant("/t")
			x.rm("/t")
			x.s.Start()
			x.flush()
			hasNot(t, x.server, "/t")
			x.settled()
			_, removes := x.counts()
			alone := removes >= planted
			if passing := rule.Count > 0; alone == passing {
				t.Errorf("%d entries were removed by themselves", removes)
			}
		})
	}
}

// TestPruneMadeAgain makes a tree anew while the removal of the one before is under way, and
// before it begins.
func TestPruneMadeAgain(t *testing.T) {
	for _, early := range []bool{true, false} {
		t.Run(fmt.Sprint("early=", early), func(t *testing.T) {
			x := newPruned(t, memory.Options{}, Policy{})
			x.plant("/t")
			x.give("/moved", "moved")
			entered, leave := make(chan struct{}), make(chan struct{})
			var once sync.Once
			x.when(func(_ context.Context, c *remote.Call) {
				if c.Op == remote.OpPrune {
					once.Do(func() { close(entered); <-leave })
				}
			})
			x.rm("/t")
			if !early {
				x.s.Start()
				<-entered
			}
			for _, dir := range []string{"/t", "/t/a"} {
				if _, err := x.b.Mkdir(t.Context(), dir); err != nil {
					t.Fatal(err)
				}
			}
			x.put("/t/a/f", "new")
			x.put("/t/f0", "new")
			moved := make(chan error, 1)
			go func() { moved <- x.b.Rename(t.Context(), "/moved", "/t/a/moved", remote.RenameOptions{}) }()
			if early {
				x.s.Start()
				eventually(t, "the removal or what comes instead has begun", func() bool {
					select {
					case <-entered:
						return true
					default:
						_, r := x.counts()
						return r > 0
					}
				})
			}
			close(leave)
			if err := <-moved; err != nil {
				t.Error(err)
			}
			x.flush()
			x.settled()
			want := map[string]string{"/t": "directory ", "/t/a": "directory ", "/t/a/f": "new", "/t/f0": "new", "/t/a/moved": "moved"}
			compareDumps(t, want, dump(t, x.server), "the server")
			compareDumps(t, want, dump(t, x.b), "the branch")
		})
	}
}

// TestPruneMadeAgainLate makes a directory anew after a removal whose answer was lost: the
// server hears of it when that request cannot come any more.
func TestPruneMadeAgainLate(t *testing.T) {
	x := newPruned(t, memory.Options{}, Policy{})
	x.opts.Late = time.Hour
	x.reopen()
	x.faulty.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{{Ops: []remote.Op{remote.OpPrune}, Fault: remotetest.FaultLost, Count: 1}}})
	x.plant("/t")
	x.rm("/t")
	if _, err := x.b.Mkdir(t.Context(), "/t"); err != nil {
		t.Fatal(err)
	}
	x.s.Start()
	eventually(t, "the tree is gone", func() bool { return len(x.s.Status().Items) == 1 })
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	if c := x.b.queue.last("/t"); c.kind != opMkdir || time.Until(c.retry) < time.Minute {
		t.Errorf("what follows is a %v at %v", c.kind, c.retry)
	}
	hasNot(t, x.server, "/t")
}

// TestPruneReopen ends the process at each step of the removal of a tree: the next one
// completes it, and leaves what somebody else has put there meanwhile.
func TestPruneReopen(t *testing.T) {
	for what, rule := range map[string]*remotetest.Rule{
		"before it begins":          nil,
		"before it is carried out":  {Fault: remotetest.FaultStall},
		"in the middle":             {Fault: remotetest.FaultTruncate},
		"before its end is written": {Fault: remotetest.FaultLost},
	} {
		for _, foreign := range []bool{false, true} {
			t.Run(fmt.Sprint(what, ", foreign=", foreign), func(t *testing.T) {
				x := newPruned(t, memory.Options{}, Policy{})
				x.opts.RetryWait = time.Hour
				x.reopen()
				x.plant("/t")
				x.rm("/t")
				if rule != nil {
					r := *rule
					r.Ops = []remote.Op{remote.OpPrune}
					x.faulty.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{r}})
					x.s.Start()
					eventually(t, "it has met the fault", func() bool { return x.faulty.Injected() > 0 })
				}
				x.opts.RetryWait = time.Millisecond
				x.reopen()
				x.faulty.SetPlan(remotetest.Plan{})
				if foreign && what != "before its end is written" {
					x.give("/t/a/theirs", "theirs")
				}
				if n := len(x.s.Status().Items); n != planted {
					t.Errorf("%d changes are left of %d", n, planted)
				}
				x.s.Start()
				x.flush()
				if foreign && what != "before its end is written" {
					has(t, x.server, "/t/a/theirs", "theirs")
					hasNot(t, x.server, "/t/a/f")
					hasNot(t, x.server, "/t/c")
					return
				}
				hasNot(t, x.server, "/t")
				x.settled()
			})
		}
	}
}

// TestPruneLull wants removals to wait for the last of a tree, but not at a flush or if
// somebody waits, and not for ever.
func TestPruneLull(t *testing.T) {
	x := newPruned(t, memory.Options{}, Policy{Prune: Pruning{Most: 1000, Lull: time.Hour, Longest: time.Hour}})
	x.plant("/t")
	x.give("/awaited", "x")
	x.rm("/t")
	e, err := x.b.Stat(t.Context(), "/awaited")
	if err != nil {
		t.Fatal(err)
	}
	if err := x.b.Unlink(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	x.s.Start()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	if err := x.b.Sync(ctx, "/awaited"); err != nil {
		t.Error(err)
	}
	hasNot(t, x.server, "/awaited")
	if p, r := x.counts(); p != 0 || r != 1 {
		t.Errorf("%d trees and %d entries were removed before their time", p, r)
	}
	x.flush()
	hasNot(t, x.server, "/t")
	if p, r := x.counts(); p != 1 || r != 1 {
		t.Errorf("%d trees and %d entries were removed", p, r)
	}
	x.policy.Prune = Pruning{Most: 1000, Lull: time.Hour, Longest: time.Millisecond}
	x.reopen()
	x.plant("/t")
	x.rm("/t")
	x.s.Start()
	eventually(t, "all is over", func() bool { return len(x.s.Status().Items) == 0 })
	hasNot(t, x.server, "/t")
}

// TestPruneWaitsForUploads removes a tree in which a file is being uploaded: the tree goes
// after that, with the file.
func TestPruneWaitsForUploads(t *testing.T) {
	x := newPruned(t, memory.Options{}, Policy{})
	x.plant("/t")
	entered, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	x.when(func(_ context.Context, c *remote.Call) {
		if c.Op == remote.OpPut {
			once.Do(func() { close(entered); <-leave })
		}
	})
	x.s.Start()
	x.put("/t/a/new", "new")
	<-entered
	x.rm("/t")
	eventually(t, "the scheduler has seen the tree", func() bool {
		x.s.mu.Lock()
		defer x.s.mu.Unlock()
		return len(x.b.queue.gone.list) > 0 && x.b.queue.gone.list[0].retry.After(time.Time{})
	})
	close(leave)
	x.flush()
	hasNot(t, x.server, "/t")
	x.settled()
	if p, _ := x.counts(); p != 1 {
		t.Errorf("%d trees were removed", p)
	}
}

// TestPruneWhileServerGoesOn has the attempt after a doubtful one find that something has
// changed, as the server is still at work on the first request: the tree stays together.
func TestPruneWhileServerGoesOn(t *testing.T) {
	x := newPruned(t, memory.Options{}, Policy{})
	rule := func(kind remote.Kind) remotetest.Rule {
		return remotetest.Rule{Ops: []remote.Op{remote.OpPrune}, Fault: remotetest.FaultError, Kind: kind, Count: 1}
	}
	x.faulty.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{rule(remote.Unavailable), rule(remote.Conflict)}})
	x.plant("/t")
	x.rm("/t")
	x.s.Start()
	x.flush()
	hasNot(t, x.server, "/t")
	x.settled()
	if p, r := x.counts(); r != 0 {
		t.Errorf("%d trees and %d entries were removed", p, r)
	}
}

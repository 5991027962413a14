package writeback

import (
	"context"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// TestLateRequest has a request of the process before arrive when this one has already made
// its change again, and the next one waits: what it stores is not somebody else's.
func TestLateRequest(t *testing.T) {
	w := newSite(t, memory.Options{}, Policy{})
	w.put("/f", "first")
	w.put("/g", "first")
	w.reopen()
	w.faulty.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{
		{Ops: []remote.Op{remote.OpPut}, Latency: 200 * time.Millisecond, Count: 2},
		{Ops: []remote.Op{remote.OpPut, remote.OpRemove}, Fault: remotetest.FaultError}}})
	w.s.Start()
	eventually(t, "uploads run", func() bool { return w.s.Status().Branches[0].Uploading == 2 })
	w.put("/f", "second, and longer")
	if err := w.b.Remove(context.Background(), "/g", remote.RemoveOptions{Type: remote.File}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the second changes have failed", func() bool {
		items := w.s.Status().Items
		return len(items) == 2 && items[0].Tries > 0 && items[1].Tries > 0
	})
	for _, path := range []string{"/f", "/g"} {
		has(t, w.server, path, "first")
		if _, err := w.server.Put(context.Background(), path, remotetest.Bytes([]byte("first")), remote.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	w.faulty.SetPlan(remotetest.Plan{})
	w.flush()
	has(t, w.server, "/f", "second, and longer")
	hasNot(t, w.server, "/g")
	if c := w.s.Status().Branches[0].Conflicts; len(c) > 0 {
		t.Errorf("conflicts with ourselves: %+v", c)
	}
}

// TestGrace wants the changes of an earlier mount to wait, and new ones not to.
func TestGrace(t *testing.T) {
	w := newSite(t, memory.Options{}, Policy{})
	w.put("/old", "content")
	w.opts.Grace = time.Hour
	w.reopen()
	w.s.Start()
	w.put("/new", "content")
	eventually(t, "the new one is stored", func() bool { return len(w.s.Status().Items) == 1 })
	hasNot(t, w.server, "/old")
	w.opts.Grace = time.Millisecond
	w.reopen()
	w.s.Start()
	w.flush()
	has(t, w.server, "/old", "content")
}

// modeOf wants the mode of a file, on the branch and, once stored, on the server.
func (w *site) modeOf(path string, want uint32) {
	w.t.Helper()
	for range 2 {
		e, err := w.b.Stat(context.Background(), path)
		if err != nil {
			w.t.Fatal(err)
		}
		if e.ModeKnown && e.Mode != want || !e.ModeKnown && want != 0o644 {
			w.t.Errorf("%s has the mode %o (%v), want %o", path, e.Mode, e.ModeKnown, want)
		}
		w.s.Start()
		w.flush()
	}
}

// TestModes wants new files that take the place of others to have their own modes, and those
// that are written over to keep theirs, also if that is told by the journal alone.
func TestModes(t *testing.T) {
	ctx := context.Background()
	strict := uint32(0o700)
	for what, do := range map[string]struct {
		run  func(w *site) error
		mode uint32
	}{
		"renamed": {func(w *site) error {
			w.put("/new", "new")
			return w.b.Rename(ctx, "/new", "/f", remote.RenameOptions{})
		}, 0o644},
		"made again": {func(w *site) error {
			if err := w.b.Remove(ctx, "/f", remote.RemoveOptions{Type: remote.File}); err != nil {
				return err
			}
			w.put("/f", "new")
			return nil
		}, 0o644},
		"made again behind a chmod": {func(w *site) error {
			mode := uint32(0o750)
			if _, err := w.b.SetAttr(ctx, "/f", remote.Attrs{Mode: &mode}); err != nil {
				return err
			}
			if err := w.b.Remove(ctx, "/f", remote.RemoveOptions{Type: remote.File}); err != nil {
				return err
			}
			w.put("/f", "new")
			return nil
		}, 0o644},
		"written over": {func(w *site) error {
			w.put("/f", "new")
			return nil
		}, 0o700},
		"renamed onto what is pending": {func(w *site) error {
			w.put("/f", "other")
			w.put("/new", "new")
			return w.b.Rename(ctx, "/new", "/f", remote.RenameOptions{})
		}, 0o644},
		"written over after an earlier mount": {func(w *site) error {
			mode := uint32(0o750)
			if _, err := w.b.SetAttr(ctx, "/f", remote.Attrs{Mode: &mode}); err != nil {
				return err
			}
			w.reopen()
			w.put("/f", "new")
			return nil
		}, 0o750},
	} {
		t.Run(what, func(t *testing.T) {
			for _, again := range []bool{false, true} {
				w := newSite(t, memory.Options{}, Policy{})
				if _, err := w.server.Put(ctx, "/f", remotetest.Bytes([]byte("old")), remote.PutOptions{Attrs: remote.Attrs{Mode: &strict}}); err != nil {
					t.Fatal(err)
				}
				if err := do.run(w); err != nil {
					t.Fatal(err)
				}
				if again {
					w.reopen()
				}
				w.modeOf("/f", do.mode)
				has(t, w.server, "/f", "new")
			}
		})
	}
}

// TestCutRenamed cuts a file whose rename the server is yet to hear of, and does not commit
// that: whoever looks later sees what the server gets.
func TestCutRenamed(t *testing.T) {
	ctx := context.Background()
	for _, restart := range []bool{false, true} {
		w := newSite(t, memory.Options{}, Policy{})
		w.put("/f", "content")
		w.fails(remote.OpPut)
		if err := w.b.Rename(ctx, "/f", "/g", remote.RenameOptions{}); err != nil {
			t.Fatal(err)
		}
		e, st := w.restage("/g")
		if err := st.Truncate(3); err != nil {
			t.Fatal(err)
		}
		has(t, w.b, "/g", "con")
		if !restart {
			if _, err := st.WriteAt([]byte("crete"), 3); err != nil {
				t.Fatal(err)
			}
			if _, err := w.b.Commit(ctx, "/g", st, Commit{Cond: remote.Cond{Version: e.Version}, Base: e}); err != nil {
				t.Fatal(err)
			}
		}
		st.Release()
		want := "concrete"
		if restart {
			want = "con"
			w.reopen()
			w.s.Start()
		}
		has(t, w.b, "/g", want)
		w.faulty.SetPlan(remotetest.Plan{})
		w.flush()
		has(t, w.b, "/g", want)
		has(t, w.server, "/g", want)
		hasNot(t, w.server, "/f")
	}
}

// TestHalfLink removes a symbolic link of which the process before has stored half.
func TestHalfLink(t *testing.T) {
	ctx := context.Background()
	for _, half := range []string{"", "some/where", "something else"} {
		w := newSite(t, memory.Options{}, Policy{})
		if _, err := w.b.Symlink(ctx, "/link", "some/where"); err != nil {
			t.Fatal(err)
		}
		w.reopen()
		if _, err := w.server.Put(ctx, "/link", remotetest.Bytes([]byte(half)), remote.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := w.b.Remove(ctx, "/link", remote.RemoveOptions{Type: remote.Symlink}); err != nil {
			t.Fatal(err)
		}
		w.s.Start()
		w.flush()
		if half == "something else" {
			has(t, w.server, "/link", half)
		} else {
			hasNot(t, w.server, "/link")
		}
	}
}

// TestAttrsInTurn sets attributes while others are being set: all are seen at any time, also in
// what is told of the first.
func TestAttrsInTurn(t *testing.T) {
	ctx := context.Background()
	w := newSite(t, memory.Options{}, Policy{})
	if _, err := w.server.Put(ctx, "/f", remotetest.Bytes([]byte("content")), remote.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	told := make(chan Settled, 10)
	w.b.OnSettled(func(s Settled) { told <- s })
	w.faulty.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{{Ops: []remote.Op{remote.OpSetAttr}, Latency: 100 * time.Millisecond, Count: 1}}})
	w.s.Start()
	mode, at := uint32(0o751), time.Unix(1e9, 0)
	if _, err := w.b.SetAttr(ctx, "/f", remote.Attrs{Mode: &mode}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is being set", func() bool { return w.s.Status().Branches[0].Uploading == 1 })
	if _, err := w.b.SetAttr(ctx, "/f", remote.Attrs{MTime: &at}); err != nil {
		t.Fatal(err)
	}
	check := func(what string, e remote.Entry) {
		t.Helper()
		if e.Mode != mode || !e.MTime.Equal(at) {
			t.Errorf("%s: mode %o, %v", what, e.Mode, e.MTime)
		}
	}
	for range 2 {
		e, err := w.b.Stat(ctx, "/f")
		if err != nil {
			t.Fatal(err)
		}
		check("stat", e)
		w.flush()
	}
	w.b.Told()
	if len(told) != 2 {
		t.Fatalf("%d changes were told", len(told))
	}
	check("the first", (<-told).Entry)
	check("the second", (<-told).Entry)
}

// TestTornIsNotSeen has the process before end amid an early upload of what was never
// committed: nobody sees what that has left, whoever looks first.
func TestTornIsNotSeen(t *testing.T) {
	ctx := context.Background()
	for what, look := range map[string]func(w *site) (there bool, err error){
		"stat": func(w *site) (bool, error) {
			_, err := w.b.Stat(ctx, "/torn")
			return err == nil, nil
		},
		"list": func(w *site) (there bool, err error) {
			err = w.b.List(ctx, "/", func(e remote.Entry) error {
				there = there || e.Path == "/torn"
				return nil
			})
			return there, err
		},
	} {
		t.Run(what, func(t *testing.T) {
			w := newSite(t, memory.Options{InPlacePut: true}, Policy{})
			for _, path := range []string{"/torn", "/whole"} {
				if _, err := w.server.Put(ctx, path, remotetest.Bytes([]byte("content")), remote.PutOptions{}); err != nil {
					t.Fatal(err)
				}
				w.s.mu.Lock()
				err := w.s.write(record{Kind: recOp, ID: w.s.nextID(), Branch: w.policy.Tree, Op: opClean, Path: path})
				w.s.mu.Unlock()
				if err != nil {
					t.Fatal(err)
				}
			}
			if err := w.server.Tear("/torn"); err != nil {
				t.Fatal(err)
			}
			w.opts.Grace = time.Hour
			w.reopen()
			w.faulty.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{{Ops: []remote.Op{remote.OpRead}, Latency: 50 * time.Millisecond}}})
			w.s.Start()
			if there, err := look(w); there || err != nil {
				t.Errorf("it is seen (%v)", err)
			}
			w.faulty.SetPlan(remotetest.Plan{})
			has(t, w.b, "/whole", "content")
			w.flush()
		})
	}
}

// TestMovedAway makes a file where another one was until a rename that is under way: it builds
// on nothing, and has nothing of the other one.
func TestMovedAway(t *testing.T) {
	ctx := context.Background()
	w := newSite(t, memory.Options{}, Policy{})
	w.put("/f", "content")
	strict := uint32(0o600)
	if _, err := w.b.SetAttr(ctx, "/f", remote.Attrs{Mode: &strict}); err != nil {
		t.Fatal(err)
	}
	w.fails(remote.OpPut)
	if err := w.b.Rename(ctx, "/f", "/g", remote.RenameOptions{}); err != nil {
		t.Fatal(err)
	}
	w.put("/f", "another")
	w.faulty.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{{Ops: []remote.Op{remote.OpPut}, Fault: remotetest.FaultError, Skip: 1}}})
	eventually(t, "the rename is made", func() bool { i := w.s.Status().Items; return len(i) == 1 && i[0].Op == "put" })
	check := func() {
		t.Helper()
		for path, mode := range map[string]uint32{"/f": 0o644, "/g": strict} {
			if e, err := w.b.Stat(ctx, path); err != nil || e.ModeKnown && e.Mode != mode {
				t.Errorf("%s: mode %o (%v)", path, e.Mode, err)
			}
		}
	}
	check()
	w.faulty.SetPlan(remotetest.Plan{})
	w.flush()
	check()
	has(t, w.server, "/f", "another")
	has(t, w.server, "/g", "content")
}

// TestRenameTime has the answer to a rename lost, by which the server has given the file
// another time: it gets its own back.
func TestRenameTime(t *testing.T) {
	ctx := context.Background()
	w := newSite(t, memory.Options{}, Policy{})
	at := time.Unix(1e9, 0)
	if _, err := w.b.Put(ctx, "/f", remotetest.Bytes([]byte("content")), remote.PutOptions{Attrs: remote.Attrs{MTime: &at}}); err != nil {
		t.Fatal(err)
	}
	w.fails(remote.OpPut)
	if err := w.b.Rename(ctx, "/f", "/g", remote.RenameOptions{}); err != nil {
		t.Fatal(err)
	}
	w.faulty.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{{Ops: []remote.Op{remote.OpRename}, Fault: remotetest.FaultLost},
		{Ops: []remote.Op{remote.OpStat}, Skip: 2, Fault: remotetest.FaultError}}}) // those of the first attempt go well
	eventually(t, "the rename is made", func() bool { _, err := w.server.Stat(ctx, "/g"); return err == nil })
	now := time.Unix(2e9, 0)
	if _, err := w.server.SetAttr(ctx, "/g", remote.Attrs{MTime: &now}); err != nil {
		t.Fatal(err)
	}
	w.faulty.SetPlan(remotetest.Plan{})
	w.flush()
	if e, err := w.server.Stat(ctx, "/g"); err != nil || !e.MTime.Equal(at) {
		t.Errorf("time %v (%v), want %v", e.MTime, err, at)
	}
}

// TestWrittenAfterRename writes into a file that the server is yet to rename, commits nothing,
// and the process ends: what the next one shows is what the server gets.
func TestWrittenAfterRename(t *testing.T) {
	ctx := context.Background()
	for what, write := range map[string]func(st *Stage) error{
		"nothing":   func(*Stage) error { return nil },
		"over":      func(st *Stage) error { _, err := st.WriteAt([]byte("C"), 0); return err },
		"at end":    func(st *Stage) error { _, err := st.WriteAt([]byte("!"), 7); return err },
		"cut":       func(st *Stage) error { return st.Truncate(3) },
		"chmod cut": func(st *Stage) error { return st.Truncate(3) },
	} {
		t.Run(what, func(t *testing.T) {
			w := newSite(t, memory.Options{}, Policy{})
			w.put("/f", "content")
			w.fails(remote.OpPut)
			if err := w.b.Rename(ctx, "/f", "/g", remote.RenameOptions{}); err != nil {
				t.Fatal(err)
			}
			_, st := w.restage("/g")
			defer st.Release()
			w.onlyRename()
			if what == "chmod cut" {
				mode := uint32(0o700)
				if _, err := w.b.SetAttr(ctx, "/g", remote.Attrs{Mode: &mode}); err != nil {
					t.Fatal(err)
				}
			}
			if err := write(st); err != nil {
				t.Fatal(err)
			}
			w.reopen()
			now, err := w.b.Stat(ctx, "/g")
			if err != nil {
				t.Fatal(err)
			}
			p := make([]byte, now.Size)
			if n, err := w.b.ReadAt(ctx, remote.Ref{Path: "/g", Version: now.Version, Size: now.Size}, p, 0); n < len(p) {
				t.Fatal(err)
			}
			w.faulty.SetPlan(remotetest.Plan{})
			w.s.Start()
			w.flush()
			has(t, w.server, "/g", string(p))
			has(t, w.b, "/g", string(p))
			hasNot(t, w.server, "/f")
			if what == "chmod cut" && string(p) != "con" {
				t.Errorf("%q is seen", p)
			}
		})
	}
}

// TestSentBeforeRename has a put send what was written since its commit, and the process ends
// before the rename behind it: the server has what is seen, and nothing is sent again.
func TestSentBeforeRename(t *testing.T) {
	ctx := context.Background()
	w := newSite(t, memory.Options{}, Policy{})
	at := time.Unix(1e9, 0)
	if _, err := w.b.Put(ctx, "/f", remotetest.Bytes([]byte("content")), remote.PutOptions{Attrs: remote.Attrs{MTime: &at}}); err != nil {
		t.Fatal(err)
	}
	w.fails(remote.OpPut)
	if err := w.b.Rename(ctx, "/f", "/g", remote.RenameOptions{}); err != nil {
		t.Fatal(err)
	}
	_, st := w.restage("/g")
	defer st.Release()
	if _, err := st.WriteAt([]byte("C"), 0); err != nil {
		t.Fatal(err)
	}
	w.onlyRename()
	has(t, w.server, "/f", "Content")
	w.reopen()
	if n := len(w.s.Status().Items); n != 1 {
		t.Errorf("there are %d changes", n)
	}
	if e, err := w.b.Stat(ctx, "/g"); err != nil || !e.MTime.Equal(at) {
		t.Errorf("time %v (%v)", e.MTime, err)
	}
	w.faulty.SetPlan(remotetest.Plan{})
	w.s.Start()
	w.flush()
	has(t, w.server, "/g", "Content")
}

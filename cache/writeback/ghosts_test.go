package writeback

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// others stores something as somebody else.
func (w *site) others(path, content string) remote.Entry {
	w.t.Helper()
	e, err := w.server.Put(context.Background(), path, remotetest.Bytes([]byte(content)), remote.PutOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

// survives wants the server to have the content under some name.
func (w *site) survives(path, content string) {
	w.t.Helper()
	found := false
	_ = w.server.List(context.Background(), "/", func(e remote.Entry) error {
		p := make([]byte, e.Size)
		_, _ = w.server.ReadAt(context.Background(), remote.Ref{Path: e.Path, Size: e.Size}, p, 0)
		found = found || string(p) == content
		return nil
	})
	if !found {
		w.t.Errorf("%q is lost", content)
	}
}

// fault has calls fail.
func fault(op ...remote.Op) remotetest.Plan {
	return remotetest.Plan{Rules: []remotetest.Rule{{Ops: op, Fault: remotetest.FaultError}}}
}

// TestGhostOfParts has somebody else store a file that agrees with ours in the few bytes that were written
// here, and never sent alone: it is not ours.
func TestGhostOfParts(t *testing.T) {
	for _, restart := range []bool{false, true} {
		ctx := context.Background()
		w := newSite(t, memory.Options{}, Policy{})
		e := w.others("/f", "HEAD base record 1")
		st, err := w.b.NewStage(e.Size, e)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = st.WriteAt([]byte("HEAD"), 0) // rewrites the head as it was
		now, err := w.b.Commit(ctx, "/f", st, Commit{Cond: remote.Cond{Version: e.Version}, Base: e})
		if err != nil {
			t.Fatal(err)
		}
		if restart {
			st.Release()
			w.faulty.SetPlan(fault(remote.OpPut))
			w.reopen()
			now, _ = w.b.Stat(ctx, "/f")
			st, _ = w.b.Restage(now.Version)
		} else {
			w.faulty.SetPlan(fault(remote.OpRead))
		}
		w.s.Start()
		eventually(t, "failed", func() bool { return w.s.Status().Items[0].Tries > 0 })
		_, _ = st.WriteAt([]byte("mine"), 5)
		if now, err = w.b.Commit(ctx, "/f", st, Commit{Cond: remote.Cond{Version: now.Version}, Base: now}); err != nil {
			t.Fatal(err)
		}
		w.faulty.SetPlan(fault(remote.OpPut))
		n := 0
		eventually(t, "failed again", func() bool {
			n = max(n, w.s.Status().Items[0].Tries)
			return len(st.Missing(0, st.Size())) == 0 && n > 1
		})
		st.Release()
		w.others("/f", "HEAD yours, precio")
		w.faulty.SetPlan(remotetest.Plan{})
		w.flush()
		w.survives("/f", "HEAD yours, precio")
	}
}

// TestAnnouncedThenRetried has a stored content written over after its answer was lost, and a retry by hand:
// what the server has is ours still.
func TestAnnouncedThenRetried(t *testing.T) {
	ctx := context.Background()
	w := newSite(t, memory.Options{}, Policy{})
	st, _ := w.b.NewStage(0, remote.Entry{})
	_, _ = st.WriteAt([]byte("content one"), 0)
	if _, err := w.b.Commit(ctx, "/f", st, Commit{Cond: remote.Cond{NotExist: true}}); err != nil {
		t.Fatal(err)
	}
	w.faulty.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{{Ops: []remote.Op{remote.OpPut}, Fault: remotetest.FaultLost, Count: 1},
		{Ops: []remote.Op{remote.OpPut, remote.OpStat}, Fault: remotetest.FaultError}}})
	w.s.Start()
	eventually(t, "failed", func() bool { return w.s.Status().Items[0].Tries > 0 })
	w.s.Pause()
	eventually(t, "rests", func() bool { return w.s.Status().Branches[0].Uploading == 0 })
	_, _ = st.WriteAt([]byte("CONTENT"), 0)
	_ = w.s.Retry(0)
	w.faulty.SetPlan(remotetest.Plan{})
	w.s.Resume()
	w.flush()
	st.Release()
	w.survives("/f", "CONTENT one")
	if c := w.s.Status().Branches[0].Conflicts; len(c) > 0 {
		t.Errorf("conflicts with ourselves: %+v", c)
	}
}

// TestAnnouncedThenTorn is the same with an attempt that the program tore when all was sent.
func TestAnnouncedThenTorn(t *testing.T) {
	ctx := context.Background()
	w := newSite(t, memory.Options{}, Policy{Delay: 50 * time.Millisecond})
	st, _ := w.b.NewStage(0, remote.Entry{})
	_, _ = st.WriteAt([]byte("content one"), 0)
	if _, err := w.b.Commit(ctx, "/f", st, Commit{Cond: remote.Cond{NotExist: true}}); err != nil {
		t.Fatal(err)
	}
	hung := &lateAnswer{Backend: w.server, stored: make(chan struct{}), answer: make(chan struct{})}
	w.faulty.SetPlan(remotetest.Plan{})
	w.b.below = hung
	w.s.Start()
	<-hung.stored
	_, _ = st.WriteAt([]byte("CONTENT"), 0) // after all was sent, before the answer, which is lost
	close(hung.answer)
	w.flush()
	st.Release()
	w.survives("/f", "CONTENT one")
	if c := w.s.Status().Branches[0].Conflicts; len(c) > 0 {
		t.Errorf("conflicts with ourselves: %+v", c)
	}
}

type lateAnswer struct {
	remote.Backend
	n              int
	stored, answer chan struct{}
}

func (l *lateAnswer) Put(ctx context.Context, path string, src remote.Source, o remote.PutOptions) (remote.Entry, error) {
	e, err := l.Backend.Put(ctx, path, src, o)
	if l.n++; l.n == 1 {
		close(l.stored)
		<-l.answer
		return remote.Entry{}, &remote.Error{Op: "put", Path: path, Kind: remote.Unavailable, Unsure: true}
	}
	return e, err
}

// TestRenameKeepsTime ends the process between a put and the rename behind it: a file that nobody has
// written since is not sent again, and keeps its time.
func TestRenameKeepsTime(t *testing.T) {
	ctx := context.Background()
	for what, sparse := range map[string]bool{"sparse": true, "unordered": false} {
		t.Run(what, func(t *testing.T) {
			w := newSite(t, memory.Options{}, Policy{})
			at := time.Unix(1e9, 0)
			e := w.others("/f", "some base content")
			var st *Stage
			if sparse {
				st, _ = w.b.NewStage(e.Size, e)
				_, _ = st.WriteAt([]byte("more"), e.Size)
			} else {
				st, _ = w.b.NewStage(0, remote.Entry{})
				p := bytes.Repeat([]byte("x"), 3<<20)
				_, _ = st.WriteAt(p, 3<<20)
				_, _ = st.WriteAt(p, 0)
			}
			if _, err := w.b.Commit(ctx, "/f", st, Commit{Cond: remote.Cond{Version: e.Version}, Base: e, Attrs: remote.Attrs{MTime: &at}}); err != nil {
				t.Fatal(err)
			}
			st.Release()
			if err := w.b.Rename(ctx, "/f", "/g", remote.RenameOptions{}); err != nil {
				t.Fatal(err)
			}
			w.faulty.SetPlan(fault(remote.OpRename))
			w.s.Start()
			w.oneFailed()
			w.reopen()
			for _, i := range w.s.Status().Items {
				t.Logf("pending after the restart: %s %s %s", i.Op, i.Path, i.To)
			}
			if now, _ := w.b.Stat(ctx, "/g"); !now.MTime.Equal(at) {
				t.Errorf("shown time %v, want %v", now.MTime, at)
			}
			w.faulty.SetPlan(remotetest.Plan{})
			w.s.Start()
			w.flush()
			if now, _ := w.server.Stat(ctx, "/g"); !now.MTime.Equal(at) {
				t.Errorf("time on the server %v, want %v", now.MTime, at)
			}
		})
	}
}

// TestKeptRemoval has somebody else change a file that was removed here and made again: theirs is not
// overwritten by what follows the removal that was not made.
func TestKeptRemoval(t *testing.T) {
	ctx := context.Background()
	for what, do := range map[string]func(w *site) error{
		"put": func(w *site) error { w.put("/f", "ours, new"); return nil },
		"rename": func(w *site) error {
			w.put("/tmp", "ours, new")
			return w.b.Rename(ctx, "/tmp", "/f", remote.RenameOptions{})
		},
	} {
		t.Run(what, func(t *testing.T) {
			w := newSite(t, memory.Options{}, Policy{})
			w.others("/f", "base")
			if err := w.b.Remove(ctx, "/f", remote.RemoveOptions{Type: remote.File}); err != nil {
				t.Fatal(err)
			}
			if err := do(w); err != nil {
				t.Fatal(err)
			}
			for _, i := range w.s.Status().Items {
				t.Logf("pending: %s %s %s", i.Op, i.Path, i.To)
			}
			w.others("/f", "theirs, precious")
			w.s.Start()
			w.flush()
			w.survives("/f", "theirs, precious")
		})
	}
}

// TestGhostAge wants an old file of somebody else to survive a removal of which only the size is known.
func TestGhostAge(t *testing.T) {
	ctx := context.Background()
	for _, restarts := range []int{1, 2} {
		w := newSite(t, memory.Options{}, Policy{})
		if _, err := w.b.Symlink(ctx, "/link", "some/where"); err != nil {
			t.Fatal(err)
		}
		w.reopen()
		old := time.Now().Add(-24 * time.Hour)
		if _, err := w.server.Put(ctx, "/link", remotetest.Bytes(nil), remote.PutOptions{Attrs: remote.Attrs{MTime: &old}}); err != nil {
			t.Fatal(err)
		}
		if err := w.b.Remove(ctx, "/link", remote.RemoveOptions{Type: remote.Symlink}); err != nil {
			t.Fatal(err)
		}
		if restarts == 2 {
			w.reopen()
		}
		w.s.Start()
		w.flush()
		if _, err := w.server.Stat(ctx, "/link"); err != nil {
			t.Errorf("restarts %d: somebody else's empty file of yesterday is removed", restarts)
		}
	}
}

// TestReplayedTimes commits a replayed change again while it is sent, for the race detector.
func TestReplayedTimes(t *testing.T) {
	ctx := context.Background()
	w := newSite(t, memory.Options{}, Policy{})
	at := time.Unix(1e9, 0)
	if _, err := w.b.Put(ctx, "/f", remotetest.Bytes([]byte("x")), remote.PutOptions{Attrs: remote.Attrs{MTime: &at}}); err != nil {
		t.Fatal(err)
	}
	w.reopen()
	w.faulty.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{{Ops: []remote.Op{remote.OpPut}, Latency: 100 * time.Millisecond, Count: 1}}})
	e, _ := w.b.Stat(ctx, "/f")
	st, _ := w.b.Restage(e.Version)
	w.s.Start()
	eventually(t, "runs", func() bool { return w.s.Status().Branches[0].Uploading == 1 })
	now := time.Unix(15e8, 0)
	if _, err := w.b.Commit(ctx, "/f", st, Commit{Cond: remote.Cond{Version: e.Version}, Base: e, Attrs: remote.Attrs{MTime: &now}}); err != nil {
		t.Fatal(err)
	}
	st.Release()
	w.flush()
}

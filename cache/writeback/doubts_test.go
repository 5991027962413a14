package writeback

import (
	"context"
	"fmt"
	"testing"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// TestGhostsThatWereSent commits many contents while one was sent and its answer lost: that one is
// remembered.
func TestGhostsThatWereSent(t *testing.T) {
	ctx := context.Background()
	w := newSite(t, memory.Options{}, Policy{})
	st, _ := w.b.NewStage(0, remote.Entry{})
	defer st.Release()
	save := func(i int) {
		p := fmt.Appendf(nil, "content %02d", i)
		_, _ = st.WriteAt(p, 0)
		e, err := w.b.Stat(ctx, "/f")
		cond := remote.Cond{NotExist: true}
		if err == nil {
			cond = remote.Cond{Version: e.Version}
		}
		if _, err := w.b.Commit(ctx, "/f", st, Commit{Cond: cond, Base: e}); err != nil {
			t.Fatal(err)
		}
	}
	save(0)
	w.faulty.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{{Ops: []remote.Op{remote.OpPut}, Fault: remotetest.FaultLost, Count: 1},
		{Ops: []remote.Op{remote.OpPut, remote.OpStat}, Fault: remotetest.FaultError}}})
	w.s.Start()
	eventually(t, "failed", func() bool { return w.s.Status().Items[0].Tries > 0 })
	w.s.Pause() // as in the back-off of a minute
	eventually(t, "rests", func() bool { return w.s.Status().Branches[0].Uploading == 0 })
	w.faulty.SetPlan(fault(remote.OpStat))
	for i := 1; i <= 17; i++ {
		save(i)
	}
	w.faulty.SetPlan(remotetest.Plan{})
	w.s.Resume()
	w.flush()
	w.survives("/f", "content 17")
	if c := w.s.Status().Branches[0].Conflicts; len(c) > 0 {
		t.Errorf("conflicts with ourselves: %+v", c)
	}
}

// TestDropRename drops a rename behind which the file was cut.
func TestDropRename(t *testing.T) {
	ctx := context.Background()
	w := newSite(t, memory.Options{}, Policy{})
	w.others("/f", "base of f")
	w.put("/f", "content")
	w.fails(remote.OpPut)
	if err := w.b.Rename(ctx, "/f", "/g", remote.RenameOptions{}); err != nil {
		t.Fatal(err)
	}
	w.onlyRename()
	e, _ := w.b.Stat(ctx, "/g")
	st, ok := w.b.Restage(e.Version)
	if !ok {
		t.Fatal("no stage")
	}
	if err := st.Truncate(3); err != nil {
		t.Fatal(err)
	}
	st.Release()
	w.s.Pause()
	eventually(t, "rests", func() bool { return w.s.Status().Branches[0].Uploading == 0 })
	if err := w.s.Drop(w.s.Status().Items[0].ID); err != nil {
		t.Fatal(err)
	}
	for _, i := range w.s.Status().Items {
		t.Logf("%s %s %s", i.Op, i.Path, i.State)
	}
	w.others("/g", "theirs")
	w.faulty.SetPlan(remotetest.Plan{})
	w.s.Resume()
	w.flush()
	w.survives("/g", "theirs")
	w.survives("/f", "con")
}

// TestRemovalMeetsLink wants a removal that is in doubt to leave the symbolic link of somebody else alone.
func TestRemovalMeetsLink(t *testing.T) {
	ctx := context.Background()
	w := newSite(t, memory.Options{}, Policy{})
	if _, err := w.b.Symlink(ctx, "/link", "ours"); err != nil {
		t.Fatal(err)
	}
	w.fails(remote.OpSymlink)
	w.s.Pause()
	eventually(t, "rests", func() bool { return w.s.Status().Branches[0].Uploading == 0 })
	if _, err := w.server.Symlink(ctx, "/link", "theirs"); err != nil {
		t.Fatal(err)
	}
	if err := w.b.Remove(ctx, "/link", remote.RemoveOptions{Type: remote.Symlink}); err != nil {
		t.Fatal(err)
	}
	w.faulty.SetPlan(remotetest.Plan{})
	w.s.Resume()
	w.flush()
	if e, err := w.server.Stat(ctx, "/link"); err != nil || e.Target != "theirs" {
		t.Errorf("somebody else's link is removed: %v", err)
	}
}

// TestChangedWhileCompared has somebody replace the file that a put compares itself with.
func TestChangedWhileCompared(t *testing.T) {
	w := newSite(t, memory.Options{}, Policy{})
	w.put("/f", "mine")
	w.others("/f", "your")
	w.faulty.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{{Ops: []remote.Op{remote.OpRead}, Count: 1, Fault: remotetest.FaultError, Kind: remote.Changed}}})
	w.s.Start()
	eventually(t, "something", func() bool { i := w.s.Status().Items; return len(i) == 0 || i[0].State == Parked })
	for _, i := range w.s.Status().Items {
		t.Errorf("parked: %s", i.Cause)
	}
}

// TestRemoveMovedLink removes a symbolic link that the server has stored and renamed, which was
// seen before.
func TestRemoveMovedLink(t *testing.T) {
	ctx := context.Background()
	w := newSite(t, memory.Options{}, Policy{})
	w.s.Start()
	e, err := w.b.Symlink(ctx, "/from", "some/where")
	if err != nil {
		t.Fatal(err)
	}
	w.flush()
	if err := w.server.Rename(ctx, "/from", "/to", remote.RenameOptions{}); err != nil {
		t.Fatal(err)
	}
	e.Path = "/to"
	if err := w.b.Unlink(ctx, e); err != nil {
		t.Fatal(err)
	}
	w.flush()
	hasNot(t, w.server, "/to")
}

package writeback

import (
	"context"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// TestRenameOntoConflict renames onto a name whose content went aside: theirs stays.
func TestRenameOntoConflict(t *testing.T) {
	ctx := context.Background()
	w := newSite(t, memory.Options{}, Policy{})
	w.put("/t", "ours at t")
	w.put("/x", "ours at x")
	w.faulty.SetPlan(fault(remote.OpPut))
	w.s.Start()
	eventually(t, "failed", func() bool { i := w.s.Status().Items; return i[0].Tries > 0 && i[1].Tries > 0 })
	if err := w.b.Rename(ctx, "/x", "/t", remote.RenameOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, i := range w.s.Status().Items {
		t.Logf("%s %s %s %s", i.Op, i.Path, i.To, i.State)
	}
	w.others("/t", "theirs, precious")
	w.faulty.SetPlan(remotetest.Plan{})
	w.flush()
	w.survives("/t", "theirs, precious")
}

// TestRemoveOntoConflict removes a file whose content went aside on the way.
func TestRemoveOntoConflict(t *testing.T) {
	ctx := context.Background()
	w := newSite(t, memory.Options{}, Policy{})
	w.put("/t", "ours at t")
	w.others("/t", "theirs, precious")
	w.faulty.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{{Ops: []remote.Op{remote.OpPut}, Latency: 100 * time.Millisecond, Count: 1}}})
	w.s.Start()
	eventually(t, "runs", func() bool { return w.s.Status().Branches[0].Uploading == 1 })
	if err := w.b.Remove(ctx, "/t", remote.RemoveOptions{Type: remote.File}); err != nil {
		t.Fatal(err)
	}
	w.flush()
	w.survives("/t", "theirs, precious")
}

// TestAttrsOntoConflict sets attributes of a file whose content went aside: theirs keeps its own.
func TestAttrsOntoConflict(t *testing.T) {
	ctx := context.Background()
	w := newSite(t, memory.Options{}, Policy{})
	w.put("/t", "ours at t")
	w.others("/t", "theirs, precious")
	before, _ := w.server.Stat(ctx, "/t")
	w.faulty.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{{Ops: []remote.Op{remote.OpPut}, Latency: 100 * time.Millisecond, Count: 1}}})
	w.s.Start()
	eventually(t, "runs", func() bool { return w.s.Status().Branches[0].Uploading == 1 })
	mode := uint32(0o600)
	if _, err := w.b.SetAttr(ctx, "/t", remote.Attrs{Mode: &mode}); err != nil {
		t.Fatal(err)
	}
	w.flush()
	if e, _ := w.server.Stat(ctx, "/t"); e.Mode != before.Mode {
		t.Errorf("theirs has our mode %o now", e.Mode)
	}
}

// TestRenameAttrsRefused has a server refuse attributes after a rename: that is made all the same.
func TestRenameAttrsRefused(t *testing.T) {
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
	mode := uint32(0o640)
	_ = mode
	w.onlyRename()
	now := time.Unix(2e9, 0)
	if _, err := w.server.SetAttr(ctx, "/f", remote.Attrs{MTime: &now}); err != nil { // as a server that gives another time by renaming
		t.Fatal(err)
	}
	w.faulty.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{{Ops: []remote.Op{remote.OpSetAttr}, Fault: remotetest.FaultError, Kind: remote.Permission}}})
	eventually(t, "over", func() bool { i := w.s.Status().Items; return len(i) == 0 || i[0].State == Parked })
	for _, i := range w.s.Status().Items {
		t.Errorf("%s %s %s %s %s", i.Op, i.Path, i.To, i.State, i.Cause)
	}
}

// TestWhatComesAndGoes puts a file at whose name others' files come and go: each is gone when it
// is looked for, and the next one is there when the file is sent again. It gets there in the end.
func TestWhatComesAndGoes(t *testing.T) {
	w := newSite(t, memory.Options{}, Policy{})
	refusals := 0
	w.faulty = remotetest.Faulty(remote.Intercept(w.server, func(ctx context.Context, c *remote.Call, next remote.Next) error {
		if c.Op == remote.OpPut && refusals < 3*mostClashes {
			refusals++
			return c.Fail(remote.Exist, nil)
		}
		return next(ctx)
	}), remotetest.Plan{})
	w.reopen()
	w.put("/f", "ours")
	w.s.Start()
	w.flush()
	has(t, w.server, "/f", "ours")
	if s := w.s.Status(); refusals != 3*mostClashes || len(s.Branches[0].Conflicts) > 0 || s.Branches[0].Parked > 0 {
		t.Errorf("%d refusals, %+v", refusals, s.Branches[0])
	}
}

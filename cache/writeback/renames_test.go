package writeback

import (
	"context"
	"testing"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
)

// TestRenamedSize finds the source of a rename gone, and at its target a file of somebody else with the
// same size.
func TestRenamedSize(t *testing.T) {
	ctx := context.Background()
	w := newSite(t, memory.Options{}, Policy{})
	w.put("/f", "content")
	w.fails(remote.OpPut)
	if err := w.b.Rename(ctx, "/f", "/g", remote.RenameOptions{}); err != nil {
		t.Fatal(err)
	}
	w.onlyRename()
	w.s.Pause()
	eventually(t, "rests", func() bool { return w.s.Status().Branches[0].Uploading == 0 })
	_ = w.server.Remove(ctx, "/f", remote.RemoveOptions{Type: remote.File})
	w.others("/g", "theirs!")
	w.faulty.SetPlan(fault())
	w.faulty.SetPlan(fault(remote.OpXattrs))
	w.s.Resume()
	w.flush()
	w.survives("/g", "content")
}

// TestWrittenAfterTwoRenames writes into a file that was renamed twice, and the process ends: what is seen is
// what the server gets.
func TestWrittenAfterTwoRenames(t *testing.T) {
	ctx := context.Background()
	w := newSite(t, memory.Options{}, Policy{})
	w.put("/f", "content")
	w.fails(remote.OpPut)
	if err := w.b.Rename(ctx, "/f", "/g", remote.RenameOptions{}); err != nil {
		t.Fatal(err)
	}
	w.onlyRename()
	if err := w.b.Rename(ctx, "/g", "/h", remote.RenameOptions{}); err != nil {
		t.Fatal(err)
	}
	_, st := w.restage("/h")
	_, _ = st.WriteAt([]byte("C"), 0)
	st.Release()
	w.reopen()
	now, err := w.b.Stat(ctx, "/h")
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, now.Size)
	_, _ = w.b.ReadAt(ctx, remote.Ref{Path: "/h", Version: now.Version, Size: now.Size}, p, 0)
	w.faulty.SetPlan(fault(remote.OpXattrs))
	w.s.Start()
	w.flush()
	has(t, w.server, "/h", string(p))
}

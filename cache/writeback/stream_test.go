package writeback

import (
	"context"
	"testing"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// TestNothingMissingWithoutRanges wants the upload of what is all here to ask for nothing of
// the version that it was written over, where a server gives files only as a whole.
func TestNothingMissingWithoutRanges(t *testing.T) {
	w := newSite(t, memory.Options{NoRanges: true}, Policy{})
	w.s.Start()
	w.put("/new", "new")
	w.put("/f", "old")
	w.flush()
	w.faulty.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{
		{Ops: []remote.Op{remote.OpRead, remote.OpStream}, Fault: remotetest.FaultError, Kind: remote.Changed}}})
	e, err := w.b.Stat(context.Background(), "/f")
	if err != nil {
		t.Fatal(err)
	}
	st, err := w.b.NewStage(e.Size, e)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Release()
	if _, err := st.WriteAt([]byte("younger"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := w.b.Commit(context.Background(), "/f", st, Commit{Cond: remote.Cond{Version: e.Version}, Base: e}); err != nil {
		t.Fatal(err)
	}
	w.flush()
	has(t, w.server, "/f", "younger")
}

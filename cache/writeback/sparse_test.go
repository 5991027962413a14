package writeback

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// TestSparse changes a few bytes of a large file: the rest is neither read nor sent.
func TestSparse(t *testing.T) {
	w := newSite(t, memory.Options{}, Policy{Prime: func(ref remote.Ref, _ io.ReaderAt, _ int64) error {
		t.Errorf("%s, of which most is not here, is given to the cache", ref.Path)
		return nil
	}})
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<19)
	ctx := context.Background()
	e, err := w.server.Put(ctx, "/f", remotetest.Bytes(content), remote.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// Neither is there to be had: only Patch is.
	w.faulty.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{{Ops: []remote.Op{remote.OpRead, remote.OpPut}, Fault: remotetest.FaultError}}})
	st, err := w.b.NewStage(e.Size, e)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Release()
	if _, err := st.WriteAt([]byte("CHANGED"), 1<<20); err != nil {
		t.Fatal(err)
	}
	copy(content[1<<20:], "CHANGED")
	if _, err := w.b.Commit(ctx, "/f", st, Commit{Cond: remote.Cond{Version: e.Version}, Base: e}); err != nil {
		t.Fatal(err)
	}
	w.s.Start()
	w.flush()
	w.faulty.SetPlan(remotetest.Plan{})
	has(t, w.server, "/f", string(content))
	has(t, w.b, "/f", string(content))
	if _, err := st.WriteAt([]byte("AGAIN"), 5); err != nil {
		t.Fatal(err)
	}
	copy(content[5:], "AGAIN")
	if e, err = w.b.Stat(ctx, "/f"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.b.Commit(ctx, "/f", st, Commit{Cond: remote.Cond{Version: e.Version}, Base: e}); err != nil {
		t.Fatal(err)
	}
	has(t, w.b, "/f", string(content))
	w.flush()
	has(t, w.server, "/f", string(content))
}

// TestSparseLost has the answer to a patch lost, also over a restart.
func TestSparseLost(t *testing.T) {
	w := newSite(t, memory.Options{}, Policy{})
	ctx := context.Background()
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<19)
	for i, restart := range []bool{false, true} {
		path := fmt.Sprintf("/f%d", i)
		e, err := w.server.Put(ctx, path, remotetest.Bytes(content), remote.PutOptions{})
		if err != nil {
			t.Fatal(err)
		}
		p := remote.Patch{Size: e.Size, Ranges: []remote.ByteRange{{Offset: 100, Length: 3}}, Bytes: bytes.NewReader(content[1:])}
		if _, err := w.b.Patch(ctx, path, p, remote.PutOptions{Cond: remote.Cond{Version: e.Version}}); err != nil {
			t.Fatal(err)
		}
		w.faulty.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{{Ops: []remote.Op{remote.OpPatch}, Fault: remotetest.FaultLost, Count: 1},
			{Ops: []remote.Op{remote.OpPatch, remote.OpStat}, Fault: remotetest.FaultError}}})
		w.s.Start()
		w.oneFailed()
		if restart {
			w.reopen()
			w.s.Start()
		}
		w.faulty.SetPlan(remotetest.Plan{})
		w.flush()
		want := bytes.Clone(content)
		copy(want[100:], content[101:104])
		has(t, w.server, path, string(want))
		if c := w.s.Status().Branches[0].Conflicts; len(c) > 0 {
			t.Errorf("conflicts: %+v", c)
		}
		w.reopen() // so that nothing is sent before the next plan
	}
}

// TestFilledLost has the answer to a whole upload of a partial overwrite lost, and the
// process ends: what had to be fetched of the version before is gone on the server, and
// must be known to be here.
func TestFilledLost(t *testing.T) {
	w := newSite(t, memory.Options{}, Policy{})
	ctx := context.Background()
	noPatch := remotetest.Rule{Ops: []remote.Op{remote.OpPatch}, Kind: remote.Unsupported, Fault: remotetest.FaultError}
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<10)
	e, err := w.server.Put(ctx, "/f", remotetest.Bytes(content), remote.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	st, err := w.b.NewStage(e.Size, e)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.WriteAt([]byte("CHANGED"), 100); err != nil {
		t.Fatal(err)
	}
	if _, err := w.b.Commit(ctx, "/f", st, Commit{Cond: remote.Cond{Version: e.Version}, Base: e}); err != nil {
		t.Fatal(err)
	}
	w.faulty.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{noPatch,
		{Ops: []remote.Op{remote.OpPut}, Fault: remotetest.FaultLost, Count: 1},
		{Ops: []remote.Op{remote.OpPut, remote.OpStat}, Fault: remotetest.FaultError}}})
	w.s.Start()
	w.oneFailed()
	if _, err := st.WriteAt([]byte("AND MORE"), e.Size); err != nil { // so that it is not the same any more
		t.Fatal(err)
	}
	if now, err := w.b.Stat(ctx, "/f"); err != nil {
		t.Fatal(err)
	} else if _, err := w.b.Commit(ctx, "/f", st, Commit{Cond: remote.Cond{Version: now.Version}, Base: now}); err != nil {
		t.Fatal(err)
	}
	st.Release()
	w.reopen()
	w.faulty.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{noPatch}})
	w.s.Start()
	w.flush()
	copy(content[100:], "CHANGED")
	has(t, w.server, "/f", string(content)+"AND MORE")
	if c := w.s.Status().Branches[0].Conflicts; len(c) > 0 {
		t.Errorf("conflicts with ourselves: %+v", c)
	}
}

// TestFilledLostRenamed has the file renamed before the missing bytes were fetched: the next
// mount must know of them, too.
func TestFilledLostRenamed(t *testing.T) {
	w := newSite(t, memory.Options{}, Policy{})
	ctx := context.Background()
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<10)
	e, err := w.server.Put(ctx, "/f", remotetest.Bytes(content), remote.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := remote.Patch{Size: e.Size, Ranges: []remote.ByteRange{{Offset: 100, Length: 3}}, Bytes: bytes.NewReader(content[1:])}
	if _, err := w.b.Patch(ctx, "/f", p, remote.PutOptions{Cond: remote.Cond{Version: e.Version}}); err != nil {
		t.Fatal(err)
	}
	tried := func(n int) func() bool {
		return func() bool { i := w.s.Status().Items; return len(i) > 0 && i[0].Tries >= n }
	}
	w.faulty.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{{Ops: []remote.Op{remote.OpRead}, Fault: remotetest.FaultError}}})
	w.s.Start()
	eventually(t, "an attempt has failed", tried(1))
	if err := w.b.Rename(ctx, "/f", "/g", remote.RenameOptions{}); err != nil {
		t.Fatal(err)
	}
	w.faulty.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{
		{Ops: []remote.Op{remote.OpPut}, Fault: remotetest.FaultLost, Count: 1},
		{Ops: []remote.Op{remote.OpPut, remote.OpStat}, Fault: remotetest.FaultError}}})
	has := func(b remote.Backend, path string) { t.Helper(); has(t, b, path, string(content)) }
	copy(content[100:], content[101:104])
	eventually(t, "the server has it", func() bool {
		now, err := w.server.Stat(ctx, "/f")
		return err == nil && now.Version != e.Version
	})
	eventually(t, "its answer is lost", func() bool { return w.s.Status().Branches[0].Uploading == 0 })
	w.reopen()
	w.faulty.SetPlan(remotetest.Plan{})
	has(w.b, "/g")
	w.s.Start()
	w.flush()
	has(w.server, "/g")
	hasNot(t, w.server, "/f")
	if c := w.s.Status().Branches[0].Conflicts; len(c) > 0 {
		t.Errorf("conflicts with ourselves: %+v", c)
	}
}

// TestCutReopened cuts a sparse file to nothing, and the next process makes it longer: there
// are zeros, not bytes of the base.
func TestCutReopened(t *testing.T) {
	w := newSite(t, memory.Options{}, Policy{})
	ctx := context.Background()
	e, err := w.server.Put(ctx, "/f", remotetest.Bytes([]byte("content")), remote.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	st, err := w.b.NewStage(e.Size, e)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.WriteAt([]byte("more"), e.Size); err != nil {
		t.Fatal(err)
	}
	if _, err := w.b.Commit(ctx, "/f", st, Commit{Cond: remote.Cond{Version: e.Version}, Base: e}); err != nil {
		t.Fatal(err)
	}
	if err := st.Truncate(0); err != nil {
		t.Fatal(err)
	}
	st.Release()
	w.reopen()
	now, err := w.b.Stat(ctx, "/f")
	if err != nil || now.Size != 0 {
		t.Fatalf("%+v %v", now, err)
	}
	st, ok := w.b.Restage(now.Version)
	if !ok {
		t.Fatal("its content is not here")
	}
	defer st.Release()
	if err := st.Truncate(5); err != nil {
		t.Fatal(err)
	}
	if _, err := w.b.Commit(ctx, "/f", st, Commit{Cond: remote.Cond{Version: now.Version}, Base: now}); err != nil {
		t.Fatal(err)
	}
	has(t, w.b, "/f", "\x00\x00\x00\x00\x00")
	w.s.Start()
	w.flush()
	has(t, w.server, "/f", "\x00\x00\x00\x00\x00")
}

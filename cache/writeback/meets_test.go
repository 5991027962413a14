package writeback

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// TestRenameMeetsWhatWasJustMade has somebody else make a file where one of ours is about to
// get its name, after it was seen that nothing is there: both stay.
func TestRenameMeetsWhatWasJustMade(t *testing.T) {
	ctx := t.Context()
	server := memory.New(memory.Options{})
	var once sync.Once
	below := remote.Intercept(server, func(ctx context.Context, c *remote.Call, next remote.Next) error {
		if c.Op == remote.OpRename {
			once.Do(func() {
				if _, err := server.Put(ctx, "/f", remotetest.Bytes([]byte("theirs")), remote.PutOptions{}); err != nil {
					t.Error(err)
				}
			})
		}
		return next(ctx)
	})
	s, err := Open(t.TempDir(), Options{RetryWait: time.Millisecond, Hostname: "here"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b, err := s.Wrap(below, Policy{Name: "b", Tree: "b"})
	if err != nil {
		t.Fatal(err)
	}
	e, err := b.Put(ctx, "/new", remotetest.Bytes([]byte("ours")), remote.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	b.queue.last("/new").tried = true // so that it is renamed there
	s.mu.Unlock()
	if err := b.Move(ctx, e, "/f", nil, false); err != nil {
		t.Fatal(err)
	}
	s.Start()
	if err := s.Flush(ctx, "", "/"); err != nil {
		t.Fatal(err)
	}
	has(t, server, "/f", "theirs")
	hasNot(t, server, "/new")
	copies := s.Status().Branches[0].Conflicts
	if len(copies) != 1 || !strings.HasPrefix(copies[0].Copy, "/f.conflict-here-") {
		t.Fatalf("conflicts: %+v", copies)
	}
	has(t, server, copies[0].Copy, "ours")
}

// TestWrittenOverAfterLostAnswer has a program write over what was stored by an attempt whose
// answer was lost, and the next attempt begin before it has committed that: what is on the
// server is ours.
func TestWrittenOverAfterLostAnswer(t *testing.T) {
	w := newSite(t, memory.Options{}, Policy{})
	ctx := t.Context()
	w.opts.RetryWait = 200 * time.Millisecond
	w.reopen()
	st, err := w.b.NewStage(0, remote.Entry{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Release()
	write := func(content string) {
		t.Helper()
		if _, err := st.WriteAt([]byte(content), 0); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	if _, err := w.b.Commit(ctx, "/f", st, Commit{Cond: remote.Cond{NotExist: true}}); err != nil {
		t.Fatal(err)
	}
	w.faulty.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{{Ops: []remote.Op{remote.OpPut}, Fault: remotetest.FaultLost, Count: 1}}})
	w.s.Start()
	eventually(t, "its answer is lost", func() bool { i := w.s.Status().Items; return len(i) == 1 && i[0].Tries == 1 })
	write("other content")
	eventually(t, "it was sent", func() bool { return len(w.s.Status().Items) == 0 })
	e, err := w.b.Stat(ctx, "/f")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.b.Commit(ctx, "/f", st, Commit{Cond: remote.Cond{Version: e.Version}, Base: e}); err != nil {
		t.Fatal(err)
	}
	w.flush()
	has(t, w.server, "/f", "other content")
	if c := w.s.Status().Branches[0].Conflicts; len(c) > 0 {
		t.Errorf("conflicts with ourselves: %+v", c)
	}
}

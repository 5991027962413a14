package writeback

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
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

// TestRefusedAndUnchanged has a server that refuses a put because the file was changed, and
// shows the version that it had. If that is sure, no other content is there, and the put is
// tried again; a provisional one may be that of somebody else's content by now.
func TestRefusedAndUnchanged(t *testing.T) {
	for what, o := range map[string]memory.Options{
		"sure": {}, "provisional": {WeakVersions: true, Granularity: time.Hour},
	} {
		t.Run(what, func(t *testing.T) {
			ctx := t.Context()
			server := memory.New(o)
			var refuses atomic.Bool
			refuses.Store(true)
			below := remote.Intercept(server, func(ctx context.Context, c *remote.Call, next remote.Next) error {
				if c.Op == remote.OpPut && c.Path == "/f" && refuses.Load() {
					return c.Fail(remote.Conflict, nil)
				}
				return next(ctx)
			})
			base, err := server.Put(ctx, "/f", remotetest.Bytes([]byte("theirs")), remote.PutOptions{})
			if err != nil || base.Provisional != o.WeakVersions {
				t.Fatal(base, err)
			}
			s, err := Open(t.TempDir(), Options{RetryWait: time.Millisecond, Hostname: "here"})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			b, err := s.Wrap(below, Policy{Name: "b", Tree: "b"})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := b.Put(ctx, "/f", remotetest.Bytes([]byte("ours, longer")), remote.PutOptions{Cond: remote.Cond{Version: base.Version, Provisional: base.Provisional}}); err != nil {
				t.Fatal(err)
			}
			s.Start()
			conflicts := func() []Conflict { return s.Status().Branches[0].Conflicts }
			if o.WeakVersions {
				eventually(t, "ours is beside it", func() bool { return len(conflicts()) == 1 })
				has(t, server, "/f", "theirs")
				has(t, server, conflicts()[0].Copy, "ours, longer")
				return
			}
			eventually(t, "it is tried again", func() bool { i := s.Status().Items; return len(i) == 1 && i[0].Tries > 2 })
			refuses.Store(false)
			if err := s.Flush(ctx, "", "/"); err != nil {
				t.Fatal(err)
			}
			has(t, server, "/f", "ours, longer")
			if c := conflicts(); len(c) > 0 {
				t.Errorf("conflicts: %+v", c)
			}
		})
	}
}

// TestRemoveDirWhileChangesEnd has files of a directory stored, and one of them removed again,
// while it is looked up whether the directory is empty: what is there at the end counts.
func TestRemoveDirWhileChangesEnd(t *testing.T) {
	for what, stays := range map[string]bool{"removed": false, "there": true} {
		t.Run(what, func(t *testing.T) {
			ctx := t.Context()
			server := memory.New(memory.Options{})
			if _, err := server.Mkdir(ctx, "/d"); err != nil {
				t.Fatal(err)
			}
			var b *Branch
			var once sync.Once
			meanwhile := func() {
				s := b.store
				_, err := b.Put(ctx, "/d/f", remotetest.Bytes([]byte("x")), remote.PutOptions{})
				if err == nil {
					err = s.Flush(ctx, "", "/")
				}
				if err == nil && !stays {
					var e remote.Entry
					if e, err = b.Stat(ctx, "/d/f"); err == nil {
						err = b.Unlink(ctx, e)
					}
				}
				if err == nil {
					err = s.Flush(ctx, "", "/")
				}
				if err != nil {
					t.Error(err)
				}
			}
			below := remote.Intercept(server, func(ctx context.Context, c *remote.Call, next remote.Next) error {
				err := next(ctx)
				if c.Op == remote.OpList && c.Path == "/d" {
					once.Do(meanwhile) // the answer is from before
				}
				return err
			})
			s, err := Open(t.TempDir(), Options{RetryWait: time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if b, err = s.Wrap(below, Policy{Name: "b", Tree: "b"}); err != nil {
				t.Fatal(err)
			}
			s.Start()
			err = b.RemoveDir(ctx, "/d")
			if stays != (remote.KindOf(err) == remote.NotEmpty && err != nil) || !stays && err != nil {
				t.Errorf("%v", err)
			}
		})
	}
}

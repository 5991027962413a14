package writeback

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// openGrow is a server that shows a file from the beginning of its early upload on, as zones
// do, and takes its time to remove what was given up.
type openGrow struct {
	*memory.Backend
	shown   chan struct{} // told when there is something at the path
	givesUp chan struct{} // closed when it is to be removed
	goOn    chan struct{}
	leaves  bool // does not remove it
	mu      sync.Mutex
	torn    string // guarded by mu; the version of what it leaves
}

// ReadAt fails for what was left.
func (o *openGrow) ReadAt(ctx context.Context, ref remote.Ref, p []byte, off int64) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if e, err := o.Stat(ctx, ref.Path); err == nil && e.Version == o.torn {
		return 0, &remote.Error{Op: "read", Path: ref.Path, Kind: remote.Corrupt}
	}
	return o.Backend.ReadAt(ctx, ref, p, off)
}

// giveUp removes what was stored of an upload, or leaves it.
func (o *openGrow) giveUp(ctx context.Context, half remote.Entry) error {
	close(o.givesUp)
	<-o.goOn
	if !o.leaves {
		return o.Remove(context.WithoutCancel(ctx), half.Path, remote.RemoveOptions{Type: remote.File, Version: half.Version})
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.torn = half.Version
	return nil
}

func (o *openGrow) PutGrowing(ctx context.Context, path string, src remote.Growing, opts remote.PutOptions) (remote.Entry, error) {
	half, err := o.Put(ctx, path, remotetest.Bytes([]byte("half")), remote.PutOptions{Cond: opts.Cond})
	if err != nil {
		return remote.Entry{}, err
	}
	o.shown <- struct{}{}
	for off := int64(0); ; {
		size, whole, err := src.Wait(ctx, off)
		if err != nil {
			return remote.Entry{}, errors.Join(err, o.giveUp(ctx, half))
		}
		if off = size; whole {
			p := make([]byte, size)
			_, _ = src.ReadAt(p, 0)
			return o.Put(ctx, path, remotetest.Bytes(p), remote.PutOptions{Attrs: src.Attrs()})
		}
	}
}

// names returns the paths in a directory of the branch.
func (w *site) names(dir string) (paths []string) {
	w.t.Helper()
	err := w.b.List(w.t.Context(), dir, func(e remote.Entry) error {
		paths = append(paths, e.Path)
		return nil
	})
	if err != nil {
		w.t.Errorf("list %s: %v", dir, err)
	}
	return paths
}

// grown is a branch in which the early upload of /d/f is under way.
func grown(t *testing.T) (*site, *openGrow, *Stage) {
	t.Helper()
	w := newSite(t, memory.Options{InPlacePut: true}, Policy{Early: 10})
	o := &openGrow{Backend: w.server, shown: make(chan struct{}, 1), givesUp: make(chan struct{}), goOn: make(chan struct{})}
	w.b.below = o
	if _, err := w.server.Mkdir(t.Context(), "/d"); err != nil {
		t.Fatal(err)
	}
	w.s.Start()
	st, err := w.b.NewStage(0, remote.Entry{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.WriteAt([]byte("0123456789abcdef"), 0); err != nil {
		t.Fatal(err)
	}
	w.b.Early("/d/f", st, remote.Cond{NotExist: true})
	<-o.shown
	return w, o, st
}

// TestReplacedWhileItGrows gives the name of a file that is being sent, which nobody has
// committed, to another one. The server does not take the one for the other.
func TestReplacedWhileItGrows(t *testing.T) {
	w, o, st := grown(t)
	if _, err := w.b.Stat(t.Context(), "/d/f"); remote.KindOf(err) != remote.NotExist {
		t.Errorf("what is being sent can be seen: %v", err)
	}
	if names := w.names("/d"); len(names) > 0 {
		t.Errorf("what is being sent is listed: %q", names)
	}
	e := w.put("/g", "small")
	moved := make(chan error, 1) // at once, or, if the upload of /g has begun, after what is given up
	go func() { moved <- w.b.Move(t.Context(), e, "/d/f", nil, false) }()
	<-o.givesUp
	close(o.goOn)
	if err := <-moved; err != nil {
		t.Fatal(err)
	}
	w.flush()
	st.Release()
	has(t, w.server, "/d/f", "small")
	if names := w.names("/d"); !slices.Equal(names, []string{"/d/f"}) {
		t.Errorf("there are %q", names)
	}
}

// TestLeftoverGoesFirst has the server leave what was given up of an early upload.
func TestLeftoverGoesFirst(t *testing.T) {
	w, o, st := grown(t)
	o.leaves = true
	w.put("/d/f", "other")
	<-o.givesUp
	close(o.goOn)
	w.flush()
	st.Release()
	has(t, w.server, "/d/f", "other")
	if names := w.names("/d"); !slices.Equal(names, []string{"/d/f"}) {
		t.Errorf("there are %q", names)
	}
}

// TestParentRenamedWhileItGrows renames the directory of a file that is being sent.
func TestParentRenamedWhileItGrows(t *testing.T) {
	w, o, st := grown(t)
	close(o.goOn)
	if err := w.b.Move(t.Context(), remote.Entry{Path: "/d", Type: remote.Dir}, "/e", nil, false); err != nil {
		t.Fatal(err)
	}
	if _, err := w.b.Commit(t.Context(), "/e/f", st, Commit{Cond: remote.Cond{NotExist: true}}); err != nil {
		t.Fatal(err)
	}
	st.Release()
	w.flush()
	has(t, w.server, "/e/f", "0123456789abcdef")
	if names := w.names("/"); !slices.Equal(names, []string{"/e"}) {
		t.Errorf("there are %q", names)
	}
}

// TestChmodWhileItGrows sets the mode of a file between its commit and the end of its upload.
func TestChmodWhileItGrows(t *testing.T) {
	w := newSite(t, memory.Options{InPlacePut: true}, Policy{Early: 10})
	slow := &slowGrow{Backend: w.server, whole: make(chan struct{}), answer: make(chan struct{})}
	w.b.below = slow
	w.s.Start()
	st, err := w.b.NewStage(0, remote.Entry{})
	if err != nil {
		t.Fatal(err)
	}
	content := bytes.Repeat([]byte("x"), 100)
	if _, err := st.WriteAt(content, 0); err != nil {
		t.Fatal(err)
	}
	w.b.Early("/f", st, remote.Cond{NotExist: true})
	e, err := w.b.Commit(t.Context(), "/f", st, Commit{Cond: remote.Cond{NotExist: true}})
	if err != nil {
		t.Fatal(err)
	}
	<-slow.whole
	mode := uint32(0o600)
	if _, err := w.b.SetAttrs(t.Context(), e, remote.Attrs{Mode: &mode}); err != nil {
		t.Fatal(err)
	}
	close(slow.answer)
	w.flush()
	st.Release()
	has(t, w.server, "/f", string(content))
	if e, err := w.server.Stat(t.Context(), "/f"); err != nil || e.Mode != mode {
		t.Errorf("%+v, %v", e, err)
	}
}

// hasty is a server on which somebody else replaces a file before each of the first removals.
type hasty struct {
	remote.Backend
	left atomic.Int32
}

func (h *hasty) Remove(ctx context.Context, path string, o remote.RemoveOptions) error {
	if h.left.Add(-1) >= 0 {
		if _, err := h.Put(ctx, path, remotetest.Bytes([]byte("theirs")), remote.PutOptions{}); err != nil {
			return err
		}
	}
	return h.Backend.Remove(ctx, path, o)
}

// TestReplacedWhileRemoved removes a file whose upload was heard of no more, while somebody
// else replaces it. Theirs stays, and nothing waits for the user.
func TestReplacedWhileRemoved(t *testing.T) {
	w := newSite(t, memory.Options{}, Policy{})
	w.opts.RetryWait = time.Hour
	w.reopen()
	h := &hasty{Backend: w.server}
	lost := []remotetest.Rule{{Ops: []remote.Op{remote.OpPut}, Fault: remotetest.FaultLost}}
	w.b.below = remotetest.Faulty(h, remotetest.Plan{Rules: lost})
	w.put("/f", "ours")
	w.s.Start()
	eventually(t, "the attempt has failed", func() bool { return w.s.Status().Items[0].State == Waiting })
	h.left.Store(1)
	e, err := w.b.Stat(t.Context(), "/f")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.b.Unlink(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the removal was tried", func() bool { return h.left.Load() <= 0 })
	eventually(t, "it is over, or has failed", func() bool {
		return len(w.s.Status().Items) == 0 || w.s.Status().Items[0].State != Uploading
	})
	for _, i := range w.s.Status().Items {
		if i.State == Parked {
			t.Fatalf("%s %s waits for the user: %s", i.Op, i.Path, i.Cause)
		}
	}
	if err := w.s.Retry(0); err != nil { // it need not wait so long
		t.Fatal(err)
	}
	w.flush()
	has(t, w.server, "/f", "theirs")
}

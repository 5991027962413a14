package writeback

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

type slowGrow struct {
	*memory.Backend
	whole, answer chan struct{}
}

func (l *slowGrow) PutGrowing(ctx context.Context, path string, src remote.Growing, o remote.PutOptions) (remote.Entry, error) {
	for off := int64(0); ; {
		size, whole, err := src.Wait(ctx, off)
		if err != nil {
			return remote.Entry{}, err
		}
		if off = size; whole {
			p := make([]byte, size)
			_, _ = src.ReadAt(p, 0)
			close(l.whole)
			<-l.answer // the server puts the chunks together
			return l.Backend.Put(context.Background(), path, remotetest.Bytes(p), o)
		}
	}
}

// TestGrownThenRemoved removes a new large file while the server puts its early upload together.
func TestGrownThenRemoved(t *testing.T) {
	ctx := context.Background()
	w := newSite(t, memory.Options{}, Policy{Early: 10})
	slow := &slowGrow{Backend: w.server, whole: make(chan struct{}), answer: make(chan struct{})}
	w.b.below = slow
	w.s.Start()
	st, _ := w.b.NewStage(0, remote.Entry{})
	_, _ = st.WriteAt([]byte("0123456789abcdef"), 0)
	w.b.Early("/f", st, remote.Cond{NotExist: true})
	w.s.mu.Lock()
	w.b.pace.limit, w.b.pace.most = 1, 1 // no free place for the put itself
	w.s.mu.Unlock()
	e, err := w.b.Commit(ctx, "/f", st, Commit{Cond: remote.Cond{NotExist: true}})
	if err != nil {
		t.Fatal(err)
	}
	<-slow.whole
	time.Sleep(20 * time.Millisecond)
	for _, i := range w.s.Status().Items {
		t.Logf("%s %s %s", i.Op, i.Path, i.State)
	}
	e.Path = "/f"
	if err := w.b.Unlink(ctx, e); err != nil {
		t.Fatal(err)
	}
	st.Release()
	w.s.mu.Lock()
	w.b.pace.limit, w.b.pace.most = 8, 8 // another upload has ended
	w.s.mu.Unlock()
	w.s.poke()
	time.Sleep(100 * time.Millisecond)
	for _, i := range w.s.Status().Items {
		t.Logf("after the removal: %s %s %s", i.Op, i.Path, i.State)
	}
	close(slow.answer)
	w.flush()
	time.Sleep(50 * time.Millisecond)
	hasNot(t, w.server, "/f")
}

// tornAndHeld begins with so many torn files that are to be removed, while the server asks for
// an hour of patience.
func (w *site) tornAndHeld(n int) {
	w.t.Helper()
	for i := range n {
		w.s.mu.Lock()
		err := w.s.write(record{Kind: recOp, ID: w.s.nextID(), Branch: w.policy.Tree, Op: opClean, Path: fmt.Sprintf("/torn%d", i)})
		w.s.mu.Unlock()
		if err != nil {
			w.t.Fatal(err)
		}
	}
	w.reopen()
	w.faulty.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{{Count: 1, Fault: remotetest.FaultError, RetryAfter: time.Hour}}})
	w.s.Start()
	eventually(w.t, "one has failed", func() bool { return w.s.Status().Items[0].Tries > 0 })
}

// TestTornWaitsNotForLong looks at a directory in which something torn is to be removed, while the server has
// asked for patience.
func TestTornWaitsNotForLong(t *testing.T) {
	w := newSite(t, memory.Options{InPlacePut: true}, Policy{Workers: 1})
	w.tornAndHeld(3)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	at := time.Now()
	err := w.b.List(ctx, "/", func(remote.Entry) error { return nil })
	t.Logf("List: %v after %v", err, time.Since(at))
	if time.Since(at) > time.Second {
		t.Error("a listing waits as long as the server asked other requests to wait")
	}
}

// TestTornPaused is the same with uploads that are paused meanwhile.
func TestTornPaused(t *testing.T) {
	w := newSite(t, memory.Options{InPlacePut: true}, Policy{Workers: 1})
	w.tornAndHeld(2)
	done := make(chan struct{})
	go func() { _, _ = w.b.Stat(context.Background(), "/torn1"); close(done) }()
	time.Sleep(20 * time.Millisecond)
	w.s.Pause()
	select {
	case <-done:
	case <-time.After(2 * time.Second):
		t.Error("a stat goes on waiting when the uploads are paused")
		w.s.broadcast()
		<-done
	}
}

// TestProvenByItsParts takes the machine down when the changes of one content speak of other parts of it.
func TestProvenByItsParts(t *testing.T) {
	ctx := context.Background()
	w := newSite(t, memory.Options{}, Policy{})
	w.opts.BootID = "one"
	w.reopen()
	e := w.others("/f", "some base content")
	st, _ := w.b.NewStage(e.Size, e)
	_, _ = st.WriteAt([]byte("more"), e.Size)
	now, err := w.b.Commit(ctx, "/f", st, Commit{Cond: remote.Cond{Version: e.Version}, Base: e})
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Fill([]byte("some base content"), 0); err != nil { // somebody reads it
		t.Fatal(err)
	}
	if err := w.b.Move(ctx, now, "/g", nil, false); err != nil {
		t.Fatal(err)
	}
	st.Release()
	// As if nothing had been synced: no recSynced records, another boot.
	w.s.mu.Lock()
	clear(w.s.unsynced)
	w.s.mu.Unlock()
	w.opts.BootID = "two"
	w.reopen()
	for _, i := range w.s.Status().Items {
		t.Logf("%s %s %s: %s", i.Op, i.Path, i.State, i.Cause)
		if i.State == Parked {
			t.Error("what is proven by its own bytes is parked")
		}
	}
}

package remotetest

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"time"

	"github.com/meshmount/meshmount/remote"
)

var lifeChecks = []check{
	{"EndedContext", checkEndedContext},
	{"Cancel", checkCancel},
	{"Concurrent", checkConcurrent},
	{"Close", checkClose},
	{"CloseInFlight", checkCloseInFlight},
}

func hexSum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// calls returns one call of every method, in the tree that plant makes.
func (e *env) calls() map[string]func(ctx context.Context) error {
	all := map[string]func(ctx context.Context) error{
		"stat": func(ctx context.Context) error { _, err := e.b.Stat(ctx, "/f"); return err },
		"list": func(ctx context.Context) error {
			return e.b.List(ctx, "/", func(remote.Entry) error { return nil })
		},
		"read": func(ctx context.Context) error {
			_, err := e.b.ReadAt(ctx, remote.Ref{Path: "/f", Size: -1}, make([]byte, 4), 0)
			return err
		},
		"put": func(ctx context.Context) error {
			_, err := e.b.Put(ctx, "/new", Bytes([]byte("new")), remote.PutOptions{})
			return err
		},
		"mkdir": func(ctx context.Context) error { _, err := e.b.Mkdir(ctx, "/newdir"); return err },
		"remove": func(ctx context.Context) error {
			return e.b.Remove(ctx, "/f", remote.RemoveOptions{Type: remote.File})
		},
		"rename": func(ctx context.Context) error {
			return e.b.Rename(ctx, "/f", "/g", remote.RenameOptions{})
		},
	}
	e.optionalCalls(all)
	return all
}

func (e *env) optionalCalls(all map[string]func(ctx context.Context) error) {
	if s, ok := remote.As[remote.AttrSetter](e.b); ok {
		when := time.Unix(1e9, 0)
		all["setattr"] = func(ctx context.Context) error {
			_, err := s.SetAttr(ctx, "/f", remote.Attrs{MTime: &when})
			return err
		}
	}
	if s := e.symlinker(); s != nil {
		all["symlink"] = func(ctx context.Context) error { _, err := s.Symlink(ctx, "/newlink", "f"); return err }
	}
	e.moreCalls(all)
	if u, ok := remote.As[remote.Usager](e.b); ok {
		all["usage"] = func(ctx context.Context) error { _, err := u.Usage(ctx); return err }
	}
	if o, ok := remote.As[remote.Opener](e.b); ok {
		all["open"] = func(ctx context.Context) error {
			_, err := readStream(ctx, o, remote.Ref{Path: "/f", Size: -1})
			return err
		}
	}
}

func (e *env) moreCalls(all map[string]func(ctx context.Context) error) {
	if x, ok := remote.As[remote.Xattrer](e.b); ok {
		name := x.XattrPrefix() + "name"
		all["xattrs"] = func(ctx context.Context) error { _, err := x.Xattrs(ctx, "/f"); return err }
		all["setxattr"] = func(ctx context.Context) error {
			return x.SetXattr(ctx, "/f", name, []byte("value"), remote.XattrAny)
		}
		all["removexattr"] = func(ctx context.Context) error { return x.RemoveXattr(ctx, "/f", name) }
	}
	if r, ok := remote.As[remote.Replicator](e.b); ok {
		all["replicas"] = func(ctx context.Context) error { _, err := r.Replicas(ctx, "/f"); return err }
	}
	if r, ok := remote.As[remote.TreeRemover](e.b); ok {
		all["removetree"] = func(ctx context.Context) error { return r.RemoveTree(ctx, "/newdir") }
	}
	e.writeCalls(all)
}

var errEndless = errors.New("remotetest: the call should have ended long ago")

// writeCalls adds growing content, whole and still waiting for more, and a patch of /f.
func (e *env) writeCalls(all map[string]func(ctx context.Context) error) {
	if b, ok := remote.As[remote.Batcher](e.b); ok && b.Batches().Files > 1 {
		all["putbatch"] = func(ctx context.Context) error {
			got, err := b.PutBatch(ctx, []remote.BatchItem{{Path: "/new1", Source: Bytes([]byte("1"))}, {Path: "/new2", Source: Bytes([]byte("2"))}})
			for _, r := range got {
				err = cmp.Or(err, r.Err)
			}
			return err
		}
	}
	if b, ok := remote.As[remote.Bundler](e.b); ok && b.Bundles().Files > 1 {
		files := e.bundleOf("/")
		all["readbundle"] = func(ctx context.Context) error {
			return b.ReadBundle(ctx, "/", files, func(int, []byte) error { return nil })
		}
	}
	if p, ok := remote.As[remote.Pruner](e.b); ok && p.Prunes() {
		all["prune"] = func(ctx context.Context) error { return p.Prune(ctx, "/newdir", nil) }
	}
	if s, ok := remote.As[remote.AttrBatcher](e.b); ok && s.AttrBatches() > 1 {
		mode := uint32(0o640)
		all["setattrbatch"] = func(ctx context.Context) error {
			got, err := s.SetAttrBatch(ctx, []remote.AttrItem{{Path: "/f", Attrs: remote.Attrs{Mode: &mode}}, {Path: "/d", Attrs: remote.Attrs{Mode: &mode}}})
			for _, r := range got {
				err = cmp.Or(err, r.Err)
			}
			return err
		}
	}
	if g, ok := remote.As[remote.GrowingPutter](e.b); ok {
		fresh := remote.PutOptions{Cond: remote.Cond{NotExist: true}}
		all["putgrowing"] = func(ctx context.Context) error {
			_, err := g.PutGrowing(ctx, "/newgrown", Grown([]byte("grown"), remote.Attrs{}), fresh)
			return err
		}
		all["putgrowing that waits"] = func(ctx context.Context) error {
			src := &Growth{}
			defer time.AfterFunc(2*e.Soon, func() { src.Fail(errEndless) }).Stop()
			_, err := g.PutGrowing(ctx, "/newgrowing", src, fresh)
			return err
		}
	}
	if p, ok := remote.As[remote.Patcher](e.b); ok {
		base := e.versioned(e.stat("/f"))
		all["patch"] = func(ctx context.Context) error {
			_, err := p.Patch(ctx, "/f", changeOf(nil, int(base.Size), 1, 0, 1).Patch, versionCond(base))
			return err
		}
	}
}

// checkEndedContext makes every call with a context that is over already.
func checkEndedContext(e *env) {
	e.put("/f", []byte("kept"))
	cancelled, cancel := context.WithCancel(e.ctx)
	cancel()
	late, cancel := context.WithDeadline(e.ctx, time.Now().Add(-time.Second))
	defer cancel()
	for name, call := range e.calls() {
		if err := call(cancelled); !errors.Is(err, context.Canceled) {
			e.Errorf("%s with a cancelled context: %v", name, err)
		}
		if err := call(late); !errors.Is(err, context.DeadlineExceeded) {
			e.Errorf("%s after its deadline: %v", name, err)
		}
	}
	e.wantNames("/", "f")
	e.wantContent("/f", []byte("kept"))
}

// checkCancel cancels every call while the server does not answer.
func checkCancel(e *env) {
	if e.Stall == nil {
		e.Log("the server cannot be stalled")
		return
	}
	e.put("/f", []byte("content"))
	calls := e.calls()
	resume := e.Stall()
	for name, call := range calls {
		ctx, cancel := context.WithCancel(e.ctx)
		timer := time.AfterFunc(50*time.Millisecond, cancel)
		start := time.Now()
		err := call(ctx)
		if d := time.Since(start); d > e.Soon {
			e.Errorf("%s came back %v after it was cancelled", name, d)
		}
		if !errors.Is(err, context.Canceled) {
			e.Errorf("%s was cancelled and returned %v", name, err)
		}
		timer.Stop()
		cancel()
	}
	resume()
	// What was cancelled may have happened; the backend must be in order.
	e.put("/after", []byte("after"))
	e.wantContent("/after", []byte("after"))
}

// checkConcurrent uses all methods from many goroutines at once.
func checkConcurrent(e *env) {
	e.put("/shared", Pattern(50_000, 1))
	var all sync.WaitGroup
	for i := range 6 {
		all.Go(func() {
			if err := e.work(fmt.Sprintf("/w%d", i), byte(i)); err != nil {
				e.Errorf("worker %d: %v", i, err)
			}
		})
	}
	all.Wait()
	e.wantNames("/", "shared")
	e.wantContent("/shared", Pattern(50_000, 1))
}

// work is what one worker of checkConcurrent does in a directory of its own.
func (e *env) work(dir string, seed byte) error {
	if _, err := e.b.Mkdir(e.ctx, dir); err != nil {
		return err
	}
	for round := range 4 {
		data := Pattern(10_000+round, seed)
		if err := e.workRound(dir, data); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
	}
	return e.b.Remove(e.ctx, dir, remote.RemoveOptions{Type: remote.Dir})
}

func (e *env) workRound(dir string, data []byte) error {
	a, b := dir+"/a", dir+"/b"
	if _, err := e.b.Put(e.ctx, a, Bytes(data), remote.PutOptions{}); err != nil {
		return err
	}
	if err := e.b.Rename(e.ctx, a, b, remote.RenameOptions{}); err != nil {
		return err
	}
	got := make([]byte, len(data))
	if _, err := e.b.ReadAt(e.ctx, remote.Ref{Path: b, Size: -1}, got, 0); err != nil {
		return err
	}
	if string(got) != string(data) {
		return errors.New("the worker's file holds other bytes")
	}
	if _, err := e.b.ReadAt(e.ctx, remote.Ref{Path: "/shared", Size: -1}, got, 100); err != nil {
		return err
	}
	n := 0
	err := e.b.List(e.ctx, dir, func(remote.Entry) error { n++; return nil })
	if err != nil || n != 1 {
		return fmt.Errorf("%d entries, %w", n, err)
	}
	if _, err := e.b.Stat(e.ctx, a); !errors.Is(err, remote.NotExist) {
		return fmt.Errorf("stat of what was renamed: %w", err)
	}
	return e.b.Remove(e.ctx, b, remote.RemoveOptions{Type: remote.File})
}

func checkClose(e *env) {
	e.put("/f", []byte("f"))
	calls := e.calls()
	if err := e.b.Close(); err != nil {
		e.Errorf("close: %v", err)
	}
	for name, call := range calls {
		e.wantKind(call(e.ctx), name+" after close", remote.BadHandle)
	}
	if err := e.b.Close(); err != nil && !errors.Is(err, remote.BadHandle) {
		e.Errorf("second close: %v", err)
	}
	if e.b.Caps().Dialect != e.caps.Dialect {
		e.Error("Caps changed by close")
	}
}

// checkCloseInFlight closes while calls hang; they fail, soon.
func checkCloseInFlight(e *env) {
	if e.Stall == nil {
		e.Log("the server cannot be stalled")
		return
	}
	e.put("/f", []byte("content"))
	calls := e.calls()
	resume := e.Stall()
	defer resume()
	var all sync.WaitGroup
	for name, call := range calls {
		all.Go(func() {
			if err := call(e.ctx); err == nil || errors.Is(err, io.EOF) {
				e.Errorf("%s succeeded on a closed backend", name)
			}
		})
	}
	time.Sleep(50 * time.Millisecond)
	start := time.Now()
	if err := e.b.Close(); err != nil {
		e.Errorf("close: %v", err)
	}
	all.Wait()
	if d := time.Since(start); d > e.Soon {
		e.Errorf("close and the calls in flight took %v", d)
	}
}

package remote_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

const patience = 30 * time.Second

// wantStall checks the error of a call that the watchdog has ended.
func wantStall(t *testing.T, err error, op remote.Op) {
	t.Helper()
	e := wantKind(t, err, remote.Unavailable)
	var stall *remote.StallError
	if !errors.As(err, &stall) || stall.Timeout != patience || errors.Is(err, context.Canceled) {
		t.Errorf("%s: the cause is %v", op, e.Err)
	}
	if e.Op != string(op) || e.Unsure != op.Mutates() {
		t.Errorf("%s: the error is %+v", op, e)
	}
}

// hanging returns a watched memory backend with a file /f that does not answer.
func hanging(t *testing.T) (remote.Backend, *remotetest.FaultyBackend) {
	t.Helper()
	faulty := remotetest.Faulty(memory.New(memory.Options{}), remotetest.Plan{})
	put(t, faulty, "/f", "content")
	faulty.Stall()
	return remote.Watchdog(faulty, patience), faulty
}

func TestWatchdogEndsStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := hanging(t)
		ctx := t.Context()
		for op, call := range map[remote.Op]func() error{
			remote.OpStat: func() error { _, err := b.Stat(ctx, "/f"); return err },
			remote.OpList: func() error { return b.List(ctx, "/", func(remote.Entry) error { return nil }) },
			remote.OpRead: func() error { _, err := b.ReadAt(ctx, remote.Ref{Path: "/f"}, make([]byte, 1), 0); return err },
			remote.OpPut: func() error {
				_, err := b.Put(ctx, "/g", remotetest.Bytes(nil), remote.PutOptions{})
				return err
			},
			remote.OpMkdir:  func() error { _, err := b.Mkdir(ctx, "/d"); return err },
			remote.OpRemove: func() error { return b.Remove(ctx, "/f", remote.RemoveOptions{Type: remote.File}) },
			remote.OpRename: func() error { return b.Rename(ctx, "/f", "/g", remote.RenameOptions{}) },
			remote.OpOpen:   func() error { _, err := b.(remote.Opener).Open(ctx, remote.Ref{Path: "/f"}); return err },
			remote.OpUsage:  func() error { _, err := b.(remote.Usager).Usage(ctx); return err },
			remote.OpXattrs: func() error { _, err := b.(attributed).Xattrs(ctx, "/f"); return err },
			remote.OpSetXattr: func() error {
				return b.(attributed).SetXattr(ctx, "/f", memory.XattrPrefix+"a", nil, remote.XattrAny)
			},
			remote.OpRemoveXattr: func() error { return b.(attributed).RemoveXattr(ctx, "/f", memory.XattrPrefix+"a") },
			remote.OpReplicas:    func() error { _, err := b.(attributed).Replicas(ctx, "/f"); return err },
			remote.OpRemoveTree:  func() error { return b.(attributed).RemoveTree(ctx, "/d") },
			remote.OpPrune:       func() error { return b.(attributed).Prune(ctx, "/d", nil) },
			remote.OpForesee:     func() error { return b.(attributed).Foresee(ctx, "/d") },
			remote.OpChanged:     func() error { _, err := b.(attributed).Changed(ctx, "/", ""); return err },
			remote.OpSweep:       func() error { return b.(attributed).Sweep(ctx, "/f", 1, nil) },
			remote.OpPutGrowing: func() error {
				_, err := b.(attributed).PutGrowing(ctx, "/g", remotetest.Grown(nil, remote.Attrs{}), remote.PutOptions{})
				return err
			},
			remote.OpSetAttrBatch: func() error {
				_, err := b.(attributed).SetAttrBatch(ctx, []remote.AttrItem{{Path: "/f"}})
				return err
			},
			remote.OpPutBatch: func() error {
				_, err := b.(attributed).PutBatch(ctx, []remote.BatchItem{{Path: "/g", Source: remotetest.Bytes(nil)}})
				return err
			},
			remote.OpReadBundle: func() error {
				return b.(attributed).ReadBundle(ctx, "/", []remote.BundleFile{{Ref: remote.Ref{Path: "/f", Size: 7}, Want: true}}, nil)
			},
			remote.OpPatch: func() error {
				_, err := b.(attributed).Patch(ctx, "/f", remote.Patch{}, remote.PutOptions{Cond: remote.Cond{Version: "v"}})
				return err
			},
		} {
			start := time.Now()
			err := call()
			if took := time.Since(start); took != patience {
				t.Errorf("%s took %v", op, took)
			}
			wantStall(t, err, op)
		}
	})
}

func TestWatchdogKeepsCallersContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := hanging(t)
		ctx, cancel := context.WithTimeout(t.Context(), patience/2)
		defer cancel()
		start := time.Now()
		if _, err := b.Stat(ctx, "/f"); err != context.DeadlineExceeded || time.Since(start) != patience/2 {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := b.Stat(ctx, "/f"); err != context.Canceled {
			t.Errorf("cancelled: %v", err)
		}
		mine := &remote.Error{Op: "mine", Kind: remote.BadHandle}
		ctx, cancelCause := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancelCause(mine) })
		if _, err := b.Stat(ctx, "/f"); err != mine {
			t.Errorf("cancelled with a cause: %v", err)
		}
	})
}

// ticking makes calls that take an hour and tell of progress every interval.
func ticking(b remote.Backend, interval time.Duration) remote.Backend {
	return remote.Intercept(b, func(ctx context.Context, c *remote.Call, next remote.Next) error {
		for passed := time.Duration(0); passed < time.Hour; passed += interval {
			select {
			case <-time.After(interval):
				remote.Progress(ctx)
			case <-ctx.Done():
				return remote.ContextErr(ctx)
			}
		}
		return next(ctx)
	})
}

func TestWatchdogSparesProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := remote.Watchdog(ticking(memory.New(memory.Options{}), patience-time.Second), patience)
		ticks := 0
		ctx := remote.WithProgress(t.Context(), func() { ticks++ })
		if _, err := b.Stat(ctx, "/"); err != nil {
			t.Errorf("a slow call that moves: %v", err)
		}
		if ticks < 100 {
			t.Errorf("%d ticks came through to the caller", ticks)
		}
		b = remote.Watchdog(ticking(memory.New(memory.Options{}), patience+time.Second), patience)
		_, err := b.Stat(t.Context(), "/")
		wantStall(t, err, remote.OpStat)
	})
}

// slowSource takes an hour for each step.
type slowSource struct{ remote.Source }

func (s slowSource) Open() (io.ReadCloser, error) {
	time.Sleep(time.Hour)
	r, err := s.Source.Open()
	return slowReader{r}, err
}

type slowReader struct{ io.ReadCloser }

func (r slowReader) Read(p []byte) (int, error) {
	time.Sleep(time.Hour)
	return r.ReadCloser.Read(p)
}

// TestWatchdogSparesCaller has the caller's own code take its time.
func TestWatchdogSparesCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := remote.Watchdog(memory.New(memory.Options{}), patience)
		src := slowSource{remotetest.Bytes([]byte("hello"))}
		if _, err := b.Put(t.Context(), "/f", src, remote.PutOptions{}); err != nil {
			t.Errorf("a slow source: %v", err)
		}
		put(t, b, "/g", "")
		err := b.List(t.Context(), "/", func(remote.Entry) error { time.Sleep(time.Hour); return nil })
		if err != nil {
			t.Errorf("a slow yield: %v", err)
		}
	})
}

func TestWatchdogStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		faulty := remotetest.Faulty(memory.New(memory.Options{}), remotetest.Plan{})
		b := remote.Watchdog(faulty, patience)
		put(t, b, "/f", "content")
		r, err := b.(remote.Opener).Open(t.Context(), remote.Ref{Path: "/f"})
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 3)
		time.Sleep(time.Hour) // nobody reads: nothing stands still
		if n, err := r.Read(p); err != nil || !bytes.Equal(p[:n], []byte("con")) {
			t.Errorf("%q, %v", p[:n], err)
		}
		faulty.Stall()
		start := time.Now()
		_, err = r.Read(p)
		if took := time.Since(start); took != patience {
			t.Errorf("the stalled read took %v", took)
		}
		wantStall(t, err, remote.OpStream)
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestWatchdogOff wants no watching without a timeout.
func TestWatchdogOff(t *testing.T) {
	b := memory.New(memory.Options{})
	if remote.Watchdog(b, 0) != remote.Backend(b) {
		t.Error("a backend was wrapped for nothing")
	}
}

// TestWatchdogLateAnswer wants an answer that comes with the end of patience.
func TestWatchdogLateAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := remote.Watchdog(remote.Intercept(memory.New(memory.Options{}), func(ctx context.Context, c *remote.Call, _ remote.Next) error {
			<-ctx.Done()
			if c.Op == remote.OpStat {
				return nil
			}
			return c.Fail(remote.NotExist, nil)
		}), patience)
		if _, err := b.Stat(t.Context(), "/"); err != nil {
			t.Errorf("the late success became %v", err)
		}
		wantKind(t, b.Remove(t.Context(), "/f", remote.RemoveOptions{Type: remote.File}), remote.NotExist)
	})
}

// TestWatchdogBothEnd has the caller give up while the backend still winds up what
// the watchdog has ended.
func TestWatchdogBothEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := remote.Watchdog(remote.Intercept(memory.New(memory.Options{}), func(ctx context.Context, _ *remote.Call, _ remote.Next) error {
			<-ctx.Done()
			time.Sleep(time.Minute)
			return remote.ContextErr(ctx)
		}), patience)
		ctx, cancel := context.WithTimeout(t.Context(), patience+time.Second)
		defer cancel()
		if _, err := b.Stat(ctx, "/"); err != context.DeadlineExceeded {
			t.Errorf("the caller's context became %v", err)
		}
	})
}

package remote_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// putGrowing calls the ability of b.
func putGrowing(ctx context.Context, b remote.Backend, path string, src remote.Growing) (remote.Entry, error) {
	g, _ := remote.As[remote.GrowingPutter](b)
	return g.PutGrowing(ctx, path, src, remote.PutOptions{})
}

// patch replaces the bytes of base at an offset.
func patch(ctx context.Context, b remote.Backend, base remote.Entry, off int64, text string, opts remote.PutOptions) (remote.Entry, error) {
	p, _ := remote.As[remote.Patcher](b)
	opts.Cond.Version = base.Version
	return p.Patch(ctx, base.Path, remote.Patch{
		Size:   max(base.Size, off+int64(len(text))),
		Ranges: []remote.ByteRange{{Offset: off, Length: int64(len(text))}},
		Bytes:  at{off, text},
	}, opts)
}

// at is text at an offset.
type at struct {
	off  int64
	text string
}

// ReadAt implements io.ReaderAt.
func (a at) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader([]byte(a.text)).ReadAt(p, off-a.off)
}

// callGrowing is the part of callAll about growing content and patches.
func callGrowing(t *testing.T, b remote.Backend) {
	t.Helper()
	e, err := putGrowing(t.Context(), b, "/growing", remotetest.Grown([]byte("hello"), remote.Attrs{}))
	if err != nil || e.Size != 5 || e.Path != "/growing" {
		t.Errorf("growing: %+v, %v", e, err)
	}
	e, err = patch(t.Context(), b, e, 4, "p!", remote.PutOptions{})
	if err != nil || e.Size != 6 || e.Path != "/growing" {
		t.Errorf("patch: %+v, %v", e, err)
	}
}

// TestGrowingOpsMutate wants the new operations to be taken for changes.
func TestGrowingOpsMutate(t *testing.T) {
	if !remote.OpPutGrowing.Mutates() || !remote.OpPatch.Mutates() {
		t.Error("a put of growing content or a patch counts as a look")
	}
}

// TestWatchdogSparesGrowing has the program write a piece an hour, and then the server
// hang with bytes at hand.
func TestWatchdogSparesGrowing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		below := memory.New(memory.Options{})
		stall := false
		b := remote.Watchdog(remote.Intercept(below, func(ctx context.Context, c *remote.Call, next remote.Next) error {
			if c.Op == remote.OpPutGrowing {
				c.Growing = hangingGrowing{c.Growing, ctx, &stall}
			}
			return next(ctx)
		}), patience)
		g := &remotetest.Growth{}
		var program sync.WaitGroup
		program.Go(func() {
			for range 5 {
				time.Sleep(time.Hour)
				g.Grow([]byte("piece"))
			}
			time.Sleep(time.Hour)
			g.End(remote.Attrs{})
		})
		if e, err := putGrowing(t.Context(), b, "/f", g); err != nil || e.Size != 25 {
			t.Errorf("a slow program: %+v, %v", e, err)
		}
		program.Wait()

		stall = true
		g = &remotetest.Growth{}
		program.Go(func() { time.Sleep(time.Hour); g.Grow([]byte("piece")) })
		start := time.Now()
		_, err := putGrowing(t.Context(), b, "/g", g)
		wantStall(t, err, remote.OpPutGrowing)
		if took := time.Since(start); took != time.Hour+patience {
			t.Errorf("the stall was found after %v", took)
		}
		program.Wait()
	})
}

// hangingGrowing is a server that hangs when it has bytes.
type hangingGrowing struct {
	remote.Growing
	ctx   context.Context
	stall *bool
}

// ReadAt implements io.ReaderAt.
func (g hangingGrowing) ReadAt(p []byte, off int64) (int, error) {
	n, err := g.Growing.ReadAt(p, off)
	if *g.stall {
		<-g.ctx.Done()
		return 0, remote.ContextErr(g.ctx)
	}
	return n, err
}

// TestWatchdogParallelSteps has one goroutine of the adapter wait for more while another
// reads: the clock must stand still until the last is back.
func TestWatchdogParallelSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := remote.Watchdog(adapter{memory.New(memory.Options{}), func(ctx context.Context, src remote.Growing) error {
			var all sync.WaitGroup
			defer all.Wait()
			all.Go(func() {
				for range 10 {
					time.Sleep(patience / 3)
					_, _ = src.ReadAt(make([]byte, 1), 0) // the step counts, not the byte
				}
			})
			_, _, err := src.Wait(ctx, 1)
			return err
		}}, patience)
		g := &remotetest.Growth{}
		g.Grow([]byte("x"))
		time.AfterFunc(20*patience, func() { g.End(remote.Attrs{}) })
		if _, err := putGrowing(t.Context(), b, "/f", g); err != nil {
			t.Error(err)
		}
	})
}

// adapter is memory with a PutGrowing of its own.
type adapter struct {
	*memory.Backend
	take func(ctx context.Context, src remote.Growing) error
}

// PutGrowing implements remote.GrowingPutter.
func (a adapter) PutGrowing(ctx context.Context, _ string, src remote.Growing, _ remote.PutOptions) (remote.Entry, error) {
	return remote.Entry{}, a.take(ctx, src)
}

// TestLimitLendsGrowing has every slot taken by a growing file whose program reads.
func TestLimitLendsGrowing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := remote.Limit(memory.New(memory.Options{}), 2)
		put(t, b, "/in", "input")
		var all sync.WaitGroup
		for _, path := range []string{"/a", "/b", "/c"} {
			g := &remotetest.Growth{}
			all.Go(func() {
				if _, err := putGrowing(t.Context(), b, path, g); err != nil {
					t.Error(err)
				}
			})
			all.Go(func() {
				time.Sleep(time.Second)
				stats(t, b, 2)
				g.Grow([]byte("output"))
				g.End(remote.Attrs{})
			})
		}
		all.Wait()
	})
}

// TestRetryGrowing wants one attempt.
func TestRetryGrowing(t *testing.T) {
	s := newServer(t)
	s.fail(remote.Unavailable)
	b := remote.Retry(s, remote.RetryOptions{})
	_, err := putGrowing(t.Context(), b, "/g", remotetest.Grown([]byte("x"), remote.Attrs{}))
	wantKind(t, err, remote.Unavailable)
	if n := s.calls.Load(); n != 1 {
		t.Errorf("%d attempts", n)
	}
}

// TestWithoutRetry wants one attempt of every operation, with its error as it is.
func TestWithoutRetry(t *testing.T) {
	s := newServer(t)
	s.rules(remotetest.Rule{Fault: remotetest.FaultError, Kind: remote.Locked, RetryAfter: time.Hour})
	b := remote.Retry(s, remote.RetryOptions{})
	ctx := remote.WithoutRetry(t.Context())
	_, err := b.Put(ctx, "/g", remotetest.Bytes(nil), remote.PutOptions{})
	if e := wantKind(t, err, remote.Locked); e.RetryAfter != time.Hour {
		t.Errorf("the error is %+v", e)
	}
	if err := b.List(ctx, "/", func(remote.Entry) error { return nil }); !errors.Is(err, remote.Locked) {
		t.Errorf("list: %v", err)
	}
	if n := s.calls.Load(); n != 2 {
		t.Errorf("%d attempts of 2 calls", n)
	}
}

// TestRetryRedo wants Redo from the attempt on that follows one which may have left a
// torn file, and not before.
func TestRetryRedo(t *testing.T) {
	for name, c := range map[string]struct {
		kind   remote.Kind
		unsure bool
		read   bool // the attempt has read of what it should send
		patch  bool
		want   []bool
	}{
		"refused":             {kind: remote.Unavailable, want: []bool{false, false}},
		"begun":               {kind: remote.Unavailable, read: true, want: []bool{false, true}},
		"unsure":              {kind: remote.Unavailable, unsure: true, want: []bool{false, true}},
		"locked":              {kind: remote.Locked, read: true, want: []bool{false, false}},
		"patch":               {kind: remote.Unavailable, patch: true, want: []bool{false, true}},
		"patch, locked out":   {kind: remote.Locked, patch: true, want: []bool{false, false}},
		"patch, locked later": {kind: remote.Locked, unsure: true, patch: true, want: []bool{false, true}},
	} {
		synctest.Test(t, func(t *testing.T) {
			below, got := memory.New(memory.Options{}), []bool(nil)
			base := put(t, below, "/f", "base")
			b := remote.Retry(remote.Intercept(below, func(ctx context.Context, call *remote.Call, next remote.Next) error {
				if !call.Op.Mutates() {
					return next(ctx)
				}
				if got = append(got, call.Put.Redo); len(got) > 1 {
					return next(ctx)
				}
				if c.read {
					readSome(t, call.Source)
				}
				e := call.Fail(c.kind, nil)
				e.Unsure = c.unsure
				return e
			}), remote.RetryOptions{})
			var err error
			if c.patch {
				_, err = patch(t.Context(), b, base, 1, "xx", remote.PutOptions{})
			} else {
				_, err = b.Put(t.Context(), "/f", remotetest.Bytes([]byte("new")), remote.PutOptions{})
			}
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%s: Redo was %v, want %v (%v)", name, got, c.want, err)
			}
		})
	}
}

func readSome(t *testing.T, src remote.Source) {
	r, err := src.Open()
	if err != nil {
		t.Error(err)
		return
	}
	defer r.Close()
	if _, err := io.ReadFull(r, make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

// TestSettlePatch loses the first answer to a patch, done or not, and has others change
// the file meanwhile or not.
func TestSettlePatch(t *testing.T) {
	when := time.Unix(1000, 0)
	timed := remote.PutOptions{Attrs: remote.Attrs{MTime: &when}}
	theirs := func(text string) func(remote.Backend) {
		return func(b remote.Backend) { put(t, b, "/f", text) }
	}
	for name, c := range map[string]struct {
		done    bool
		between func(remote.Backend)
		opts    remote.PutOptions
		want    remote.Kind
		content string
	}{
		"done":                        {done: true, content: "fixx"},
		"done, with a time":           {done: true, opts: timed, content: "fixx"},
		"not done":                    {content: "fixx"},
		"others' bytes":               {done: true, between: theirs("else"), want: remote.Conflict, content: "else"},
		"others' size":                {done: true, between: theirs("fixxed"), want: remote.Conflict, content: "fixxed"},
		"others' time":                {between: theirs("foxx"), opts: timed, want: remote.Conflict, content: "foxx"},
		"others' file with our bytes": {between: theirs("foxx"), content: "foxx"}, // cannot be told
	} {
		synctest.Test(t, func(t *testing.T) {
			u := newUnlucky(t, memory.Options{}, c.done, c.between)
			base := put(t, u.below, "/f", "file")
			e, err := patch(t.Context(), u.Backend, base, 2, "xx", c.opts)
			if c.want != remote.Other {
				wantKind(t, err, c.want)
			} else if err != nil || e.Path != "/f" || e.Version == base.Version {
				t.Errorf("%s: %+v, %v", name, e, err)
			}
			if got := content(t, u.below, "/f"); got != c.content {
				t.Errorf("%s: the file holds %q, want %q", name, got, c.content)
			}
		})
	}
}

// TestSettleDeniedPut has a server that stores the file and says that it failed.
func TestSettleDeniedPut(t *testing.T) {
	for _, theirs := range []string{"", "else"} {
		synctest.Test(t, func(t *testing.T) {
			below, puts := memory.New(memory.Options{}), 0
			b := remote.Retry(remote.Intercept(below, func(ctx context.Context, c *remote.Call, next remote.Next) error {
				err := next(ctx)
				if c.Op != remote.OpPut {
					return err
				}
				if puts++; puts > 1 {
					return err
				}
				if theirs != "" {
					put(t, below, "/f", theirs)
				}
				return c.Fail(remote.Unavailable, errors.New("500"))
			}), remote.RetryOptions{})
			e, err := b.Put(t.Context(), "/f", remotetest.Bytes([]byte("mine")), exclusive)
			if theirs != "" {
				wantKind(t, err, remote.Exist)
			} else if err != nil || e.Size != 4 || puts != 2 {
				t.Errorf("%+v, %v after %d puts", e, err, puts)
			}
		})
	}
}

// TestRetryPatchTorn cuts a patch off in the middle; Retry makes the file whole.
func TestRetryPatchTorn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		below, first := memory.New(memory.Options{}), true
		base := put(t, below, "/f", "0123456789")
		b := remote.Retry(remote.Intercept(below, func(ctx context.Context, c *remote.Call, next remote.Next) error {
			if c.Op == remote.OpPatch && first {
				first = false
				c.Patch.Ranges = append(c.Patch.Ranges, remote.ByteRange{Offset: 9, Length: 1})
				c.Patch.Bytes = brokenAt{c.Patch.Bytes, c.Fail(remote.Unavailable, nil)}
				defer func() { c.Patch.Ranges = c.Patch.Ranges[:1] }()
			}
			return next(ctx)
		}), remote.RetryOptions{})
		if _, err := patch(t.Context(), b, base, 2, "xx", remote.PutOptions{}); err != nil || first {
			t.Errorf("%v (tried %v)", err, !first)
		}
		if got := content(t, below, "/f"); got != "01xx456789" {
			t.Errorf("the file holds %q", got)
		}
	})
}

// brokenAt fails from offset 9 on.
type brokenAt struct {
	io.ReaderAt
	err error
}

// ReadAt implements io.ReaderAt.
func (b brokenAt) ReadAt(p []byte, off int64) (int, error) {
	if off >= 9 {
		return 0, b.err
	}
	return b.ReaderAt.ReadAt(p, off)
}

// TestSourceErrorsOfGrowing wants no verdict on the server, and no second attempt, when
// the caller's own content fails.
func TestSourceErrorsOfGrowing(t *testing.T) {
	mine := &remote.Error{Op: "mine", Kind: remote.Unavailable}
	below := memory.New(memory.Options{})
	base := put(t, below, "/f", "file")
	breaker := remote.Breaker(below, remote.BreakerOptions{Failures: 1})
	b := remote.Retry(breaker, remote.RetryOptions{})
	defer b.Close()
	g := &remotetest.Growth{}
	g.Fail(mine)
	if _, err := putGrowing(t.Context(), b, "/g", g); err != mine {
		t.Errorf("the error of Wait came back as %v", err)
	}
	p, _ := remote.As[remote.Patcher](b)
	_, err := p.Patch(t.Context(), "/f", remote.Patch{
		Size: 20, Ranges: []remote.ByteRange{{Offset: 9, Length: 2}}, Bytes: brokenAt{nil, mine},
	}, remote.PutOptions{Cond: remote.Cond{Version: base.Version}})
	if !errors.Is(err, mine) {
		t.Errorf("the error of the patch's bytes came back as %v", err)
	}
	if _, dead := breaker.Outage(); dead {
		t.Error("the breaker took the caller's error for the server's")
	}
}

// TestObserveSent counts the bytes of growing content and of patches.
func TestObserveSent(t *testing.T) {
	b := remote.Observe(memory.New(memory.Options{}), nil)
	e, err := putGrowing(t.Context(), b, "/f", remotetest.Grown(make([]byte, 100_000), remote.Attrs{}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := patch(t.Context(), b, e, 10, "four", remote.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	all := b.Stats()
	if n := all[remote.OpPutGrowing].Sent; n != 100_000 {
		t.Errorf("%d bytes of growing content were sent", n)
	}
	if n := all[remote.OpPatch].Sent; n != 4 {
		t.Errorf("%d bytes of the patch were sent", n)
	}
}

package remote_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// slow returns a memory backend each of whose calls takes d, and the most calls
// that were on the way at once.
func slow(d time.Duration) (b remote.Backend, most *atomic.Int64) {
	var now atomic.Int64
	most = new(atomic.Int64)
	faulty := remotetest.Faulty(memory.New(memory.Options{}), remotetest.Plan{Rules: []remotetest.Rule{{Latency: d}}})
	return remote.Intercept(faulty, func(ctx context.Context, c *remote.Call, next remote.Next) error {
		if c.Op != remote.OpStream {
			most.Store(max(most.Load(), now.Add(1)))
			c.Defer(func() { now.Add(-1) })
		}
		return next(ctx)
	}), most
}

// stats makes n calls at once and waits for them.
func stats(t *testing.T, b remote.Backend, n int) {
	t.Helper()
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			if _, err := b.Stat(t.Context(), "/"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func TestLimitBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner, most := slow(time.Second)
		b := remote.Limit(inner, 3)
		start := time.Now()
		stats(t, b, 10)
		if took := time.Since(start); took != 4*time.Second || most.Load() != 3 {
			t.Errorf("10 calls of 1 s with 3 slots took %v, %d at once", took, most.Load())
		}
	})
}

func TestLimitWaitsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner, _ := slow(10 * time.Second)
		b := remote.Limit(inner, 1)
		var all sync.WaitGroup
		all.Go(func() { stats(t, b, 1) })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if _, err := b.Stat(ctx, "/"); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("a call without a slot returned %v after %v", err, time.Since(start))
		}
		all.Wait()
		stats(t, b, 1)
	})
}

func TestLimitHoldsStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := remote.Limit(memory.New(memory.Options{}), 1)
		put(t, b, "/f", "x")
		r, err := b.(remote.Opener).Open(t.Context(), remote.Ref{Path: "/f"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(r); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := b.Stat(ctx, "/"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a call went past an open stream: %v", err)
		}
		for range 2 { // a second Close must not give a slot back again
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
		stats(t, b, 1)
	})
}

// TestLimitFailedOpen wants the slot back from an Open that fails.
func TestLimitFailedOpen(t *testing.T) {
	b := remote.Limit(memory.New(memory.Options{}), 1)
	_, err := b.(remote.Opener).Open(t.Context(), remote.Ref{Path: "/none"})
	wantKind(t, err, remote.NotExist)
	stats(t, b, 1)
}

// TestLimitLendsInYield nests calls in the callback of a listing that has the only
// slot.
func TestLimitLendsInYield(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner, most := slow(time.Millisecond)
		b := remote.Limit(inner, 1)
		put(t, b, "/a", "")
		put(t, b, "/b", "")
		start, n := time.Now(), 0
		err := b.List(t.Context(), "/", func(e remote.Entry) error {
			n++
			_, err := b.Stat(t.Context(), e.Path)
			return err
		})
		if took := time.Since(start); err != nil || n != 2 || took > 200*time.Millisecond {
			t.Errorf("%d entries after %v, %v", n, took, err)
		}
		if most.Load() != 2 { // the listing and the call in it
			t.Errorf("%d calls at once", most.Load())
		}
		stats(t, b, 5) // none of them may find a second slot
		most.Store(0)
		stats(t, b, 5)
		if most.Load() != 1 {
			t.Errorf("%d calls at once after the listing", most.Load())
		}
	})
}

// relay is a Source whose bytes are read from a backend when they are wanted.
type relay struct {
	t    *testing.T
	from remote.Backend
	path string
	size int64
}

func (s relay) Size() int64                  { return s.size }
func (s relay) Open() (io.ReadCloser, error) { return io.NopCloser(&relayReader{relay: s}), nil }

type relayReader struct {
	relay
	off int64
}

func (r *relayReader) Read(p []byte) (int, error) {
	n, err := r.from.ReadAt(r.t.Context(), remote.Ref{Path: r.path, Size: -1}, p[:min(len(p), 7)], r.off)
	r.off += int64(n)
	return n, err
}

// TestLimitLendsInSource puts a source that reads from the same backend.
func TestLimitLendsInSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := remote.Limit(memory.New(memory.Options{}), 1)
		put(t, b, "/f", "hello, world")
		_, err := b.Put(t.Context(), "/g", relay{t, b, "/f", 12}, remote.PutOptions{})
		if err != nil {
			t.Error(err)
		}
		got := make([]byte, 12)
		if _, err := b.ReadAt(t.Context(), remote.Ref{Path: "/g", Size: -1}, got, 0); err != nil || string(got) != "hello, world" {
			t.Errorf("%q, %v", got, err)
		}
	})
}

// TestLimitLentSlotNotRegained cancels a listing whose slot others have taken.
func TestLimitLentSlotNotRegained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := remote.Limit(memory.New(memory.Options{}), 1)
		put(t, b, "/f", "")
		ctx, cancel := context.WithCancel(t.Context())
		var r io.ReadCloser
		err := b.List(ctx, "/", func(e remote.Entry) (err error) {
			r, err = b.(remote.Opener).Open(t.Context(), remote.Ref{Path: "/f"})
			time.AfterFunc(time.Second, cancel)
			return err
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the listing returned %v", err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		stats(t, b, 3)
	})
}

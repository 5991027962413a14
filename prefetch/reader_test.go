package prefetch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// TestSingleFlight: many who want the same bytes cause one request.
func TestSingleFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &simFile{link: wan(), size: 64 << 20}
		r := open(t, f, 64<<20, Options{})
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { readAll(t, r, 32<<20, 32<<20+128<<10, 128<<10) })
		}
		wg.Wait()
		if f.requests.Load() != 1 || f.bytes.Load() != 128<<10 {
			t.Errorf("%d requests for %d bytes", f.requests.Load(), f.bytes.Load())
		}
	})
}

// TestCancelledWait: a context that ends ends one wait; the fetch goes on for others.
func TestCancelledWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &simFile{link: wan(), size: 64 << 20}
		r := open(t, f, 64<<20, Options{})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		begin := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := r.ReadAt(ctx, make([]byte, 4096), 1<<20); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v", err)
			}
			if d := time.Since(begin); d != 10*time.Millisecond {
				t.Errorf("the wait ended after %v", d)
			}
		})
		synctest.Wait()
		wg.Go(func() { readAll(t, r, 1<<20, 1<<20+4096, 4096) })
		wg.Wait()
		if f.requests.Load() != 1 {
			t.Errorf("%d requests", f.requests.Load())
		}
	})
}

// TestCloseEndsAll: Close ends fetches and waits, also while reads are under way, and
// leaves no goroutine (synctest fails on one that stays).
func TestCloseEndsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &simFile{link: wan(), size: 1 << 30}
		r := open(t, f, 64<<20, Options{})
		readAll(t, r, 0, 8<<20, 128<<10)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := r.ReadAt(t.Context(), make([]byte, 4096), 900<<20); !errors.Is(err, remote.BadHandle) {
				t.Errorf("read during Close: %v", err)
			}
		})
		synctest.Wait()
		begin := time.Now()
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if d := time.Since(begin); d != 0 || f.now.Load() != 0 {
			t.Errorf("Close took %v, %d requests are still on the way", d, f.now.Load())
		}
		if _, err := r.ReadAt(t.Context(), make([]byte, 1), 0); !errors.Is(err, remote.BadHandle) {
			t.Errorf("read after Close: %v", err)
		}
		if _, _, err := r.View(t.Context(), 0, 1); !errors.Is(err, remote.BadHandle) {
			t.Errorf("view after Close: %v", err)
		}
	})
}

// TestClosedPrefetcher opens readers that are closed.
func TestClosedPrefetcher(t *testing.T) {
	p := newPrefetcher(t, 8<<20, Options{})
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	r := p.Open(&simFile{size: 10}, remote.Ref{Path: "/f"}, 10)
	if _, err := r.ReadAt(t.Context(), make([]byte, 1), 0); !errors.Is(err, remote.BadHandle) {
		t.Errorf("read: %v", err)
	}
	_ = r.Close()
}

// TestFailedAhead: a fetch ahead that fails is nobody's error; the read tries itself.
func TestFailedAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &simFile{link: wan(), size: 16 << 20}
		var failed atomic.Int64
		f.fail = func(number, off, n int64) error {
			if number%3 == 2 && n >= minPiece && failed.Add(1) < 40 {
				return &remote.Error{Op: "read", Kind: remote.Unavailable}
			}
			return nil
		}
		r := open(t, f, 64<<20, Options{})
		readAll(t, r, 0, f.size, 64<<10)
		if failed.Load() == 0 {
			t.Error("nothing failed")
		}
	})
}

// TestOwnError: a read whose own fetch fails gets that error, and the next one succeeds.
func TestOwnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &simFile{link: wan(), size: 1 << 20}
		f.fail = func(number, _, _ int64) error {
			if number == 1 {
				return &remote.Error{Op: "read", Kind: remote.Unavailable}
			}
			return nil
		}
		r := open(t, f, 64<<20, Options{})
		if n, err := r.ReadAt(t.Context(), make([]byte, 4096), 4096); n != 0 || !errors.Is(err, remote.Unavailable) {
			t.Errorf("%d, %v", n, err)
		}
		readAll(t, r, 4096, 8192, 4096)
	})
}

// TestChanged: when the version is gone, what was fetched is still there, everything
// else fails for good and costs no request.
func TestChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &simFile{link: wan(), size: 64 << 20}
		var gone atomic.Bool
		f.fail = func(int64, int64, int64) error {
			if gone.Load() {
				return &remote.Error{Op: "read", Kind: remote.Changed}
			}
			return nil
		}
		r := open(t, f, 64<<20, Options{})
		readAll(t, r, 0, 256<<10, 128<<10)
		time.Sleep(time.Second)
		gone.Store(true)
		readAll(t, r, 256<<10, 384<<10, 128<<10)
		if _, err := r.ReadAt(t.Context(), make([]byte, 4096), 32<<20); !errors.Is(err, remote.Changed) {
			t.Errorf("read of a version that is gone: %v", err)
		}
		gone.Store(false)
		time.Sleep(time.Second)
		before := f.requests.Load()
		if _, err := r.ReadAt(t.Context(), make([]byte, 4096), 40<<20); !errors.Is(err, remote.Changed) {
			t.Errorf("the error was forgotten: %v", err)
		}
		if _, _, err := r.View(t.Context(), 48<<20, 4096); !errors.Is(err, remote.Changed) {
			t.Errorf("view of a version that is gone: %v", err)
		}
		readAll(t, r, 384<<10, 448<<10, 64<<10)
		if f.requests.Load() != before {
			t.Error("a request was made for a version that is gone")
		}
	})
}

// TestEndOfFile: reads at and across the end, with the size known or not.
func TestEndOfFile(t *testing.T) {
	const size = 300*1024 + 7
	for name, known := range map[string]int64{"known": size, "unknown": -1} {
		t.Run(name, func(t *testing.T) {
			f := &simFile{size: size}
			p := newPrefetcher(t, 8<<20, Options{})
			r := p.Open(f, remote.Ref{Path: "/f", Size: known}, known)
			defer func() { _ = r.Close() }()
			for _, test := range []struct {
				off  int64
				want int
				err  error
			}{{0, 65536, nil}, {65536, 65536, nil}, {size - 10, 10, io.EOF}, {size, 0, io.EOF}, {size + 1<<20, 0, io.EOF}, {size - 65536, 65536, nil}, {131072, 65536, nil}} {
				buf := make([]byte, 65536)
				n, err := r.ReadAt(t.Context(), buf, test.off)
				if n != test.want || err != test.err {
					t.Errorf("at %d: %d, %v; want %d, %v", test.off, n, err, test.want, test.err)
				}
				check(t, buf[:n], test.off)
			}
			if _, err := r.ReadAt(t.Context(), make([]byte, 1), -1); !errors.Is(err, remote.Invalid) {
				t.Errorf("negative offset: %v", err)
			}
			if data, _, err := r.View(t.Context(), size, 10); len(data) != 0 || err != io.EOF {
				t.Errorf("view at the end: %d, %v", len(data), err)
			}
		})
	}
}

// TestShortFile: a source that ends before the size that was promised is an error.
func TestShortFile(t *testing.T) {
	p := newPrefetcher(t, 8<<20, Options{})
	r := p.Open(&simFile{size: 1000}, remote.Ref{Path: "/f"}, 2000)
	if _, err := r.ReadAt(t.Context(), make([]byte, 2000), 0); !errors.Is(err, remote.Corrupt) {
		t.Errorf("error %v", err)
	}
}

// TestView: slices stay as they are until released, also over Close.
func TestView(t *testing.T) {
	f := &simFile{size: 8 << 20}
	p := newPrefetcher(t, 8<<20, Options{})
	r := p.Open(f, remote.Ref{Path: "/f"}, f.size)
	var held []func()
	for off := int64(0); off < 2<<20; {
		data, release, err := r.View(t.Context(), off, 128<<10)
		if err != nil || len(data) == 0 {
			t.Fatal(len(data), err)
		}
		check(t, data, off)
		at := off
		held = append(held, func() { check(t, data, at); release(); release() })
		off += int64(len(data))
	}
	readAll(t, r, 2<<20, 8<<20, 128<<10)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if p.opts.Budget.Stats().Used == 0 {
		t.Error("nothing is held")
	}
	for _, release := range held {
		release()
	}
}

// TestNoMemory: with the budget used up, ReadAt works and View says so.
func TestNoMemory(t *testing.T) {
	f := &simFile{size: 8 << 20}
	p := newPrefetcher(t, MinBudget, Options{})
	hog := p.opts.Budget.join(func() {})
	buf := hog.get(MinBudget, false)
	r := p.Open(f, remote.Ref{Path: "/f"}, f.size)
	readAll(t, r, 0, f.size, 100_000)
	if _, release, err := r.View(t.Context(), 0, 4096); !errors.Is(err, ErrNoMemory) {
		t.Errorf("view: %v", err)
		release()
	}
	hog.put(buf)
	hog.leave()
	data, release, err := r.View(t.Context(), 0, 4096)
	if err != nil || len(data) != 4096 {
		t.Errorf("view with memory: %d, %v", len(data), err)
	}
	release()
}

// TestAgainstFile: many goroutines read at random, in runs and by views from a file of
// random bytes, under a budget that is too small, and get the right bytes.
func TestAgainstFile(t *testing.T) {
	content := make([]byte, 5<<20+123)
	_, _ = rand.NewChaCha8([32]byte{}).Read(content)
	src := sourceFunc(func(_ context.Context, _ remote.Ref, p []byte, off int64) (int, error) {
		runtime.Gosched()
		return bytes.NewReader(content).ReadAt(p, off)
	})
	p := newPrefetcher(t, 2<<20, Options{Streams: 3, MaxRequest: 256 << 10, StartWindow: 128 << 10})
	for range 3 {
		r := p.Open(src, remote.Ref{Path: "/f"}, int64(len(content)))
		var wg sync.WaitGroup
		for g := range 6 {
			wg.Go(func() { wander(t, r, content, uint64(g)) })
		}
		wg.Wait()
		_ = r.Close()
	}
}

// sourceFunc makes a Source of a function.
type sourceFunc func(ctx context.Context, ref remote.Ref, p []byte, off int64) (int, error)

func (f sourceFunc) ReadAt(ctx context.Context, ref remote.Ref, p []byte, off int64) (int, error) {
	return f(ctx, ref, p, off)
}

// wander reads here and there, and compares.
func wander(t *testing.T, r *Reader, content []byte, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 9))
	off := 0
	for range 300 {
		if rnd.IntN(8) == 0 {
			off = rnd.IntN(len(content))
		}
		n := min(1+rnd.IntN(200_000), len(content)-off)
		var got []byte
		var err error
		release := func() {}
		if seed%2 == 0 {
			got, release, err = r.View(t.Context(), int64(off), int64(n))
			n = len(got)
		} else {
			got = make([]byte, n)
			_, err = r.ReadAt(t.Context(), got, int64(off))
		}
		switch {
		case errors.Is(err, ErrNoMemory) && seed%2 == 0:
		case err != nil && err != io.EOF:
			t.Errorf("at %d: %v", off, err)
		case !bytes.Equal(got, content[off:off+n]):
			t.Errorf("wrong bytes at %d", off)
		}
		release()
		off = (off + n) % len(content)
	}
}

// TestOptions: all faults are reported at once.
func TestOptions(t *testing.T) {
	_, err := New(Options{Streams: -1, MaxRequest: 1, StartWindow: 2, MaxWindow: 1})
	var all interface{ Unwrap() []error }
	if !errors.As(err, &all) || len(all.Unwrap()) != 4 {
		t.Errorf("%v", err)
	}
	if err := (&Options{Budget: NewBudget(0), MaxWindow: 4096}).Validate(); err != nil {
		t.Error(err)
	}
}

// TestLentAfterClose: what was lent is given back after the reader was closed.
func TestLentAfterClose(t *testing.T) {
	p := newPrefetcher(t, 8<<20, Options{}) // looks at its end that nothing is missing
	f := &simFile{size: 64 << 20}
	for range 20 {
		r := p.Open(f, remote.Ref{Path: "/f", Version: "1"}, f.size)
		data, release, err := r.View(t.Context(), 0, 128<<10)
		if err != nil || len(data) == 0 {
			t.Fatal(len(data), err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		check(t, data, 0)
		release()
	}
}

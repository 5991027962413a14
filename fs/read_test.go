package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/meshmount/meshmount/cache"
	"github.com/meshmount/meshmount/prefetch"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
)

// fastWorld is a world whose clock stands still and whose first branch has a block cache and
// read-ahead before a server that answers after a while.
type fastWorld struct {
	*world
	*stopwatch
	seen   *remote.Observed
	store  *cache.Store
	blocks *cache.Cached
	views  int // reads without a copy
}

func newFastWorld(t *testing.T, latency time.Duration, change ...func(*Branch)) *fastWorld {
	t.Helper()
	w := &fastWorld{stopwatch: newStopwatch()}
	var err error
	w.store, err = cache.Open(filepath.Join(t.TempDir(), "blocks"), cache.Options{Size: 256 << 20, BlockSize: cache.MinBlockSize})
	if err != nil {
		t.Fatal(err)
	}
	ahead, err := prefetch.New(prefetch.Options{Budget: prefetch.NewBudget(16 << 20)})
	if err != nil {
		t.Fatal(err)
	}
	w.world = newWorld(t, memory.Options{Clock: w.clock, Bundles: remote.Bundles{Files: 1000, Bytes: 64 << 20, Size: 1 << 20}}, func(list *[]Branch) {
		slow := remote.Intercept((*list)[0].Backend, func(ctx context.Context, c *remote.Call, next remote.Next) error {
			time.Sleep(latency)
			return next(ctx)
		})
		w.seen = remote.Observe(slow, slog.New(slog.DiscardHandler))
		w.blocks = w.store.Wrap(w.seen, cache.Policy{Branch: "a"})
		b := &(*list)[0]
		b.Backend, b.Blocks, b.Ahead, b.SmallAhead = w.blocks, w.blocks, ahead, 32
		for _, c := range change {
			c(b)
		}
	})
	t.Cleanup(func() {
		if !w.finished {
			w.finish()
		}
		if err := ahead.Close(); err != nil {
			t.Error(err)
		}
		if err := w.blocks.Close(); err != nil {
			t.Error(err)
		}
		if err := w.store.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *fastWorld) reads() int64 { return w.seen.Stats()[remote.OpRead].Calls }

// random returns n bytes that no compression and no shift reproduces.
func random(n int) []byte {
	data := make([]byte, n)
	r := rand.New(rand.NewPCG(uint64(n), 1))
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	return data
}

// readRange reads n bytes as the kernel does, in pieces of 128 KiB.
func (w *fastWorld) readRange(h *Handle, off, n int64) []byte {
	w.t.Helper()
	p := make([]byte, n)
	for at := int64(0); at < n; {
		want := p[at:min(at+128<<10, n)]
		m := 0
		data, release, err := h.View(w.t.Context(), off+at, len(want))
		if errors.Is(err, ErrNoView) {
			m, err = h.ReadAt(w.t.Context(), want, off+at)
			w.must(err)
		} else {
			w.must(err)
			m = copy(want, data)
			release()
			w.views++
		}
		if m == 0 {
			return p[:at]
		}
		at += int64(m)
	}
	return p
}

// TestReadsAreServedOnce reads a large file in order and at random, with several
// handles: all bytes are right, the server is asked ahead and for nothing twice, and a
// second reading asks it for nothing.
func TestReadsAreServedOnce(t *testing.T) {
	w := newFastWorld(t, 5*time.Millisecond)
	data := random(9<<20 + 12345)
	w.elsewhere("/f", string(data))
	h := w.open("/a/f", syscall.O_RDONLY)
	if got := w.readRange(h, 0, 10<<20); !bytes.Equal(got, data) {
		t.Fatalf("read %d bytes of %d, or others", len(got), len(data))
	}
	stats := w.seen.Stats()[remote.OpRead]
	if stats.Received > int64(len(data))*11/10 {
		t.Errorf("%d bytes came for a file of %d", stats.Received, len(data))
	}
	if one := h.base.reader.Stats(); one.Ahead < int64(len(data))/2 {
		t.Errorf("hardly anything was read ahead: %+v", one)
	}
	if w.views == 0 {
		t.Error("every read was copied")
	}
	h.Release()
	// What a program has may still be on its way to the disk.
	ref := remote.Ref{Path: "/f", Version: h.Attr().Version, Size: int64(len(data))}
	w.eventually("all of the file in the cache", func() bool { return w.blocks.HasLocal(ref, 0, ref.Size) == ref.Size })
	before := w.reads()
	var readers sync.WaitGroup
	for i := range 8 {
		readers.Go(func() {
			h := w.open("/a/f", syscall.O_RDONLY)
			defer h.Release()
			r := rand.New(rand.NewPCG(uint64(i), 2))
			for range 100 {
				off, n := r.Int64N(int64(len(data))), r.Int64N(300<<10)
				p := make([]byte, n)
				m, err := h.ReadAt(t.Context(), p, off)
				if want := data[off:min(off+n, int64(len(data)))]; err != nil || !bytes.Equal(p[:m], want) {
					t.Errorf("read of %d at %d: %d, %v, or other bytes", n, off, m, err)
				}
			}
		})
	}
	readers.Wait()
	if after := w.reads(); after != before {
		t.Errorf("%d requests for what is cached", after-before)
	}
}

// TestVersionIsPinned overwrites a file while handles read it: each gets bytes of the
// version that it opened or Changed, never a mixture, and a new open the new content.
func TestVersionIsPinned(t *testing.T) {
	w := newFastWorld(t, time.Millisecond, func(b *Branch) { b.AttrTTL = 0 })
	const size, versions = 3 << 20, 12
	contents := make([][]byte, versions)
	for i := range contents {
		contents[i] = bytes.Repeat([]byte(fmt.Sprintf("version %7d ", i)), size/16)
	}
	w.elsewhere("/f", string(contents[0]))
	done := make(chan struct{})
	var all sync.WaitGroup
	var wholes, gone atomic.Int64
	for range 8 {
		all.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				h, err := w.Open(t.Context(), "/a/f", syscall.O_RDONLY)
				if err != nil {
					t.Error(err)
					return
				}
				got, err := w.readTo(h, size)
				h.Release()
				switch {
				case remote.KindOf(err) == remote.Changed && err != nil:
					gone.Add(1)
				case err != nil:
					t.Errorf("read: %v", err)
				default:
					wholes.Add(1)
				}
				if len(got) > 0 && !prefixOfOne(contents, got) {
					t.Errorf("a mixture: begins with %q", got[:16])
				}
			}
		})
	}
	for round := 0; round == 0 || gone.Load() == 0 && round < 50 && !t.Failed(); round++ {
		for _, c := range contents[1:] {
			time.Sleep(30 * time.Millisecond)
			w.elsewhere("/f", string(c))
		}
	}
	for n := wholes.Load(); wholes.Load() == n && !t.Failed(); { // it is quiet now
		time.Sleep(10 * time.Millisecond)
	}
	close(done)
	all.Wait()
	if got := w.read("/a/f"); got[:16] != string(contents[versions-1][:16]) {
		t.Errorf("a new open reads %q", got[:16])
	}
	if gone.Load() == 0 {
		t.Errorf("%d whole readings, none ended with Changed: the test saw nothing", wholes.Load())
	}
}

// readTo reads a file from its beginning up to an error.
func (w *fastWorld) readTo(h *Handle, size int) ([]byte, error) {
	p := make([]byte, size)
	for at := 0; at < size; {
		n, err := h.ReadAt(w.t.Context(), p[at:min(at+64<<10, size)], int64(at))
		if err != nil {
			return p[:at], err
		}
		at += n
	}
	return p, nil
}

func prefixOfOne(contents [][]byte, p []byte) bool {
	for _, c := range contents {
		if bytes.HasPrefix(c, p) {
			return true
		}
	}
	return false
}

// inOrder is how many files of a directory are surely enough to see that it is read in order.
const inOrder = 20

// TestSmallFilesComeAhead reads the files of a directory in order: soon, each comes before it
// is opened, and each is fetched once.
func TestSmallFilesComeAhead(t *testing.T) {
	w := newFastWorld(t, 20*time.Millisecond)
	const files = 150
	w.must(errOf(w.a.Mkdir(t.Context(), "/d")))
	for i := range files {
		w.elsewhere(fmt.Sprintf("/d/f%03d", i), fmt.Sprintf("content %d", i))
	}
	w.list("/a/d")
	for i := range files {
		path := fmt.Sprintf("/d/f%03d", i)
		if i >= inOrder {
			w.eventually(path+" before it is opened", func() bool { return w.here(path) })
		}
		if got := w.read("/a" + path); got != fmt.Sprintf("content %d", i) {
			t.Fatalf("%s holds %q", path, got)
		}
	}
	if n := w.reads(); n < files || n > files+files/10 { // two may begin to fetch one file at the same moment
		t.Errorf("%d requests for %d files", n, files)
	}
}

// TestTreeOfSmallFiles reads tree after tree of small files as tar does: after the first
// directory, the first file of the next one is there already when it is opened.
func TestTreeOfSmallFiles(t *testing.T) {
	w := newFastWorld(t, 20*time.Millisecond)
	const dirs, files = 12, 10
	for d := range dirs {
		w.must(errOf(w.a.Mkdir(t.Context(), fmt.Sprintf("/d%02d", d))))
		for i := range files {
			w.elsewhere(fmt.Sprintf("/d%02d/f%d", d, i), fmt.Sprintf("content %d of %d", i, d))
		}
	}
	w.list("/a")
	for d := range dirs {
		dir := fmt.Sprintf("/a/d%02d", d)
		w.list(dir)
		if d > 0 {
			w.wantAhead(dir, files)
		}
		for i := range files {
			if got := w.read(fmt.Sprintf("%s/f%d", dir, i)); got != fmt.Sprintf("content %d of %d", i, d) {
				t.Fatalf("file %d of %s holds %q", i, dir, got)
			}
		}
	}
	if n := w.reads(); n < dirs*files || n > dirs*files+dirs { // two may begin to fetch one file at the same moment
		t.Errorf("%d requests for %d files", n, dirs*files)
	}
}

// wantAhead waits until at least half of the files f0, f1, ... of a directory are there,
// although nobody has opened them.
func (w *fastWorld) wantAhead(dir string, files int) {
	w.t.Helper()
	_, rel := remote.Split(dir)
	w.eventually(dir+": files are there before they are opened", func() bool {
		here := 0
		for i := range files {
			if w.here(fmt.Sprintf("/%s/f%d", rel, i)) {
				here++
			}
		}
		return here >= files/2
	})
}

// here tells whether a file of the server is in the block cache.
func (w *fastWorld) here(path string) bool {
	w.t.Helper()
	e, err := w.a.Stat(w.t.Context(), path)
	w.must(err)
	return w.blocks.HasLocal(remote.Ref{Path: path, Version: e.Version, Size: e.Size}, 0, e.Size) > 0
}

func errOf(_ remote.Entry, err error) error { return err }

func (w *fastWorld) list(dir string) {
	w.t.Helper()
	d, err := w.OpenDir(w.t.Context(), dir)
	w.must(err)
	defer d.Close()
	for {
		if _, err := d.Next(w.t.Context()); err == io.EOF {
			return
		} else {
			w.must(err)
		}
	}
}

// TestEqualVersionsOfTwoFiles moves a file over another one that has the same version
// but other bytes, as happens where versions are made of size and time.
func TestEqualVersionsOfTwoFiles(t *testing.T) {
	w := newFastWorld(t, 0, func(b *Branch) {
		same := remote.Intercept(b.Blocks.Unwrap(), func(ctx context.Context, c *remote.Call, next remote.Next) error {
			c.Ref.Version = ""
			err := next(ctx)
			if c.Op == remote.OpStat || c.Op == remote.OpPut {
				c.Entry.Version = "same"
			}
			return err
		})
		b.Blocks = newStore(t).Wrap(same, cache.Policy{Branch: "a"})
		b.Backend = b.Blocks
	})
	w.elsewhere("/old", "old bytes")
	w.elsewhere("/new", "new bytes")
	if got := w.read("/a/old"); got != "old bytes" {
		t.Fatal(got)
	}
	w.must(w.Rename(t.Context(), "/a/new", "/a/old", 0))
	if got := w.read("/a/old"); got != "new bytes" {
		t.Errorf("after the rename it holds %q", got)
	}
	w.must(w.Unlink(t.Context(), "/a/old"))
	w.elsewhere("/old", "3rd bytes")
	b, _ := w.ns.resolve("/a/old")
	b.meta.forget("/old", remote.File)
	if got := w.read("/a/old"); got != "3rd bytes" {
		t.Errorf("after the removal it holds %q", got)
	}
}

// newStore opens a store that is closed at the end of the test.
func newStore(t *testing.T) *cache.Store {
	t.Helper()
	s, err := cache.Open(filepath.Join(t.TempDir(), "blocks"), cache.Options{Size: 64 << 20, BlockSize: cache.MinBlockSize})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

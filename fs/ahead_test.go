package fs

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/meshmount/meshmount/cache"
	"github.com/meshmount/meshmount/remote"
)

// TestOneFileInEachDirectory: after one directory was read in order, a program that opens
// one file in each of many does not have the others fetched for ever.
func TestOneFileInEachDirectory(t *testing.T) {
	var bytes atomic.Int64
	w := newFastWorld(t, 2*time.Millisecond, func(b *Branch) {
		counted := remote.Intercept(b.Blocks.Unwrap(), func(ctx context.Context, c *remote.Call, next remote.Next) error {
			err := next(ctx)
			if c.Op == remote.OpRead {
				bytes.Add(int64(c.N))
			}
			return err
		})
		b.Blocks = newStore(t).Wrap(counted, cache.Policy{Branch: "a"})
		b.Backend = b.Blocks
		b.SmallAhead = 64
	})
	const dirs, files, size = 30, 100, 4 << 10
	content := string(random(size))
	for d := range dirs {
		w.must(errOf(w.a.Mkdir(t.Context(), fmt.Sprintf("/d%02d", d))))
		for i := range files {
			w.elsewhere(fmt.Sprintf("/d%02d/f%03d", d, i), content)
		}
	}
	w.list("/a")
	w.list("/a/d00")
	for i := range 20 {
		w.read(fmt.Sprintf("/a/d00/f%03d", i))
	}
	time.Sleep(300 * time.Millisecond)
	before := bytes.Load()
	for d := 1; d < dirs; d++ {
		w.list(fmt.Sprintf("/a/d%02d", d))
		w.read(fmt.Sprintf("/a/d%02d/f%03d", d, 37))
		time.Sleep(60 * time.Millisecond)
	}
	time.Sleep(300 * time.Millisecond)
	if got, want := bytes.Load()-before, int64((dirs-1)*size); got > 10*want {
		t.Errorf("%d bytes were fetched for %d that were read", got, want)
	}
}

// TestListingsAreNoReads: after one directory was read in order, a walk that opens nothing
// does not have the files fetched for ever.
func TestListingsAreNoReads(t *testing.T) {
	w := newFastWorld(t, 2*time.Millisecond)
	const dirs, files, size = 30, 20, 4 << 10
	content := string(random(size))
	for d := range dirs {
		w.must(errOf(w.a.Mkdir(t.Context(), fmt.Sprintf("/d%02d", d))))
		for i := range files {
			w.elsewhere(fmt.Sprintf("/d%02d/f%03d", d, i), content)
		}
	}
	w.list("/a")
	w.list("/a/d00")
	for i := range files {
		w.read(fmt.Sprintf("/a/d00/f%03d", i))
	}
	time.Sleep(200 * time.Millisecond)
	before := w.reads()
	for d := 1; d < dirs; d++ {
		w.list(fmt.Sprintf("/a/d%02d", d))
	}
	time.Sleep(300 * time.Millisecond)
	if n := w.reads() - before; n > 4*files {
		t.Errorf("%d files were fetched for listings of %d directories", n, dirs-1)
	}
}

// TestAheadAfterTTL reads a large directory for longer than its listing holds.
func TestAheadAfterTTL(t *testing.T) {
	w := newFastWorld(t, 2*time.Millisecond, func(b *Branch) { b.AttrTTL, b.DirTTL = time.Minute, time.Minute })
	const files = 300
	w.must(errOf(w.a.Mkdir(t.Context(), "/d")))
	for i := range files {
		w.elsewhere(fmt.Sprintf("/d/f%04d", i), fmt.Sprintf("content %d", i))
	}
	w.list("/a/d")
	for i := range files {
		path := fmt.Sprintf("/d/f%04d", i)
		if i%100 == 99 {
			w.pass(2 * time.Minute)
		}
		if i > 100 {
			w.eventually(path+", after the listing had become old", func() bool { return w.here(path) })
		}
		w.read("/a" + path)
	}
}

// TestEqualVersionsInRenamedDirectories is TestEqualVersionsOfTwoFiles with directories.
func TestEqualVersionsInRenamedDirectories(t *testing.T) {
	w := newFastWorld(t, 0, func(b *Branch) {
		same := remote.Intercept(b.Blocks.Unwrap(), func(ctx context.Context, c *remote.Call, next remote.Next) error {
			c.Ref.Version = ""
			err := next(ctx)
			if (c.Op == remote.OpStat || c.Op == remote.OpPut) && c.Entry.Type == remote.File {
				c.Entry.Version = "same"
			}
			return err
		})
		b.Blocks = newStore(t).Wrap(same, cache.Policy{Branch: "a"})
		b.Backend = b.Blocks
	})
	w.must(errOf(w.a.Mkdir(t.Context(), "/d")))
	w.must(errOf(w.a.Mkdir(t.Context(), "/new")))
	w.elsewhere("/d/f", "old bytes")
	w.elsewhere("/new/f", "new bytes")
	if got := w.read("/a/d/f"); got != "old bytes" {
		t.Fatal(got)
	}
	w.must(w.Rename(t.Context(), "/a/d", "/a/was", 0))
	w.must(w.Rename(t.Context(), "/a/new", "/a/d", 0))
	if got := w.read("/a/d/f"); got != "new bytes" {
		t.Errorf("after the renames it holds %q", got)
	}
}

func counting(b remote.Backend, bytes, calls *atomic.Int64) remote.Backend {
	return remote.Intercept(b, func(ctx context.Context, c *remote.Call, next remote.Next) error {
		err := next(ctx)
		if c.Op == remote.OpRead {
			bytes.Add(int64(len(c.Buf)))
			calls.Add(1)
		}
		return err
	})
}

// TestStoreThatDoesNotAdmit: what cannot be kept is fetched as it is asked for.
func TestStoreThatDoesNotAdmit(t *testing.T) {
	for _, size := range []int{1 << 20, 900 << 10, 20 << 20} {
		var bytes, calls atomic.Int64
		w := newFastWorld(t, time.Millisecond, func(b *Branch) {
			s, err := cache.Open(filepath.Join(t.TempDir(), "c"), cache.Options{Size: 256 << 20, BlockSize: 1 << 20, Reserve: 1 << 60})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Close() })
			b.Blocks = s.Wrap(counting(b.Blocks.Unwrap(), &bytes, &calls), cache.Policy{Branch: "a", Hint: func(remote.Ref) cache.Hint { return cache.Stream }})
			b.Backend = b.Blocks
		})
		w.elsewhere("/f", string(random(size)))
		h := w.open("/a/f", syscall.O_RDONLY)
		w.readRange(h, 0, int64(size))
		h.Release()
		if bytes.Load() > int64(size) {
			t.Errorf("file of %d KiB read once in order: %d requests for %d KiB", size>>10, calls.Load(), bytes.Load()>>10)
		}
	}
}

// TestReaderOfTheNameBefore: a read that began before a rename here and goes on after it
// does not end those of the new name.
func TestReaderOfTheNameBefore(t *testing.T) {
	gate := make(chan struct{})
	var hold atomic.Bool
	w := newFastWorld(t, 0, func(b *Branch) {
		s := newStore(t)
		held := remote.Intercept(b.Blocks.Unwrap(), func(ctx context.Context, c *remote.Call, next remote.Next) error {
			if c.Op == remote.OpRead && hold.Load() {
				select {
				case <-gate:
				case <-ctx.Done():
					return remote.ContextErr(ctx)
				}
			}
			return next(ctx)
		})
		b.Blocks = s.Wrap(held, cache.Policy{Branch: "a"})
		b.Backend = b.Blocks
	})
	w.elsewhere("/f", string(random(8<<20)))
	h := w.open("/a/f", syscall.O_RDONLY)
	w.readRange(h, 0, 128<<10)
	h.x.mu.Lock()
	old := h.x.ref() // reader A has come so far
	h.x.mu.Unlock()
	w.must(w.Rename(t.Context(), "/a/f", "/a/g", 0))
	hold.Store(true)
	result := make(chan error)
	go func() { // reader B
		_, err := h.ReadAt(context.Background(), make([]byte, 128<<10), 6<<20)
		result <- err
	}()
	time.Sleep(100 * time.Millisecond)
	late := make(chan error)
	go func() { // A goes on
		_, err := h.base.readAt(context.Background(), h.x, old, make([]byte, 4096), 7<<20)
		late <- err
	}()
	time.Sleep(100 * time.Millisecond)
	close(gate)
	if err := <-result; err != nil {
		t.Errorf("a read of a file that is there and unchanged: %v", err)
	}
	if err := <-late; !errors.Is(err, errMoved) {
		t.Errorf("the read of the name before: %v", err)
	}
	h.Release()
}

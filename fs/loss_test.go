package fs

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
)

func TestCloseKeepsContentThatCanNeitherBePutNorParked(t *testing.T) {
	s := newStrange(t, memory.Options{})
	h, _, err := s.Create(t.Context(), "/a/f", syscall.O_RDWR, 0o644)
	s.must(err)
	s.put(h, "precious", 0)
	s.failing(remote.OpPut, remote.Unavailable)
	s.must(os.RemoveAll(s.park))
	s.finished = true
	if err := s.Close(t.Context()); err == nil {
		t.Error("close of the file system reports nothing")
	}
	h.Release()
	kept, _ := filepath.Glob(filepath.Join(s.stage, "lost-*"))
	if len(kept) != 1 {
		t.Fatalf("kept %v", kept)
	}
	if data, err := os.ReadFile(kept[0]); err != nil || string(data) != "precious" {
		t.Errorf("kept %q %v", data, err)
	}
}

func TestReleaseKeepsContentThatCanNeitherBePutNorParked(t *testing.T) {
	s := newStrange(t, memory.Options{})
	h, _, err := s.Create(t.Context(), "/a/f", syscall.O_RDWR, 0o644)
	s.must(err)
	s.put(h, "precious", 0)
	s.failing(remote.OpPut, remote.Unavailable)
	s.must(os.RemoveAll(s.park))
	h.Release()
	kept, _ := filepath.Glob(filepath.Join(s.stage, "lost-*"))
	if len(kept) != 1 {
		t.Fatalf("kept %v", kept)
	}
	s.must(os.Remove(kept[0]))
}

func TestCloseOfTheFileSystemHonoursItsDeadline(t *testing.T) {
	s := newStrange(t, memory.Options{})
	h, _, err := s.Create(t.Context(), "/a/f", syscall.O_RDWR, 0o644)
	s.must(err)
	s.put(h, "precious", 0)
	s.on(func(ctx context.Context, c *remote.Call, next remote.Next) error {
		if c.Op != remote.OpPut {
			return next(ctx)
		}
		<-ctx.Done()
		return remote.ContextErr(ctx)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	s.finished = true
	s.soon("close", func() { err = s.Close(ctx) })
	if err == nil || !strings.Contains(err.Error(), s.park) {
		t.Errorf("close says %v", err)
	}
	h.Release()
}

func TestParkThatFailsLeavesNoStumps(t *testing.T) {
	s := newStrange(t, memory.Options{})
	h, _, err := s.Create(t.Context(), "/a/f", syscall.O_RDWR, 0o644)
	s.must(err)
	s.put(h, strings.Repeat("precious", 1000), 0)
	s.failing(remote.OpPut, remote.Unavailable)
	// The rename into the park directory must fail although files can be made in it.
	h.x.mu.Lock()
	staged, _ := h.x.stage.Place()
	s.must(os.Rename(staged, staged+".away"))
	h.x.mu.Unlock()
	h.Release()
	if left, _ := os.ReadDir(s.park); len(left) != 0 {
		t.Errorf("the park directory holds %v", left)
	}
	for _, pattern := range []string{"lost-*", "*.away"} {
		kept, _ := filepath.Glob(filepath.Join(s.stage, pattern))
		for _, p := range kept {
			s.must(os.Remove(p))
		}
	}
}

func TestTruncateByPathIsNotLostWhenTheWriterCloses(t *testing.T) {
	for range 300 {
		w := newWorld(t, memory.Options{})
		w.elsewhere("/f", "0123456789")
		h := w.open("/a/f", syscall.O_RDWR)
		w.put(h, "ab", 0)
		done := make(chan struct{})
		go func() { defer close(done); h.Release() }()
		size := int64(3)
		_, err := w.Setattr(t.Context(), "/a/f", nil, h.x.ino, SetAttr{Size: &size})
		w.must(err)
		<-done
		if got := w.server("/f"); got != "ab2" {
			t.Fatalf("server has %q", got)
		}
		w.finish()
	}
}

func TestFailedWriteDoesNotChangeTheFile(t *testing.T) {
	s := newStrange(t, memory.Options{})
	s.elsewhere("/f", "base")
	h := s.open("/a/f", syscall.O_RDWR)
	limited(t, sizeLimit, func() {
		if _, err := h.WriteAt(t.Context(), []byte("x"), 4*sizeLimit); remote.KindOf(err) != remote.TooLarge {
			t.Errorf("write beyond the limit: %v", err)
		}
		if err := h.Truncate(t.Context(), 4*sizeLimit); remote.KindOf(err) != remote.TooLarge {
			t.Errorf("truncate beyond the limit: %v", err)
		}
	})
	puts := s.count(remote.OpPut)
	if got := s.readH(h); got != "base" {
		t.Errorf("reads %q", got)
	}
	s.must(h.Flush(t.Context()))
	h.Release()
	if puts() != 0 {
		t.Error("a file that nobody changed was put")
	}
}

func TestShortWriteKeepsTheRestOfTheFile(t *testing.T) {
	s := newStrange(t, memory.Options{})
	const at = sizeLimit - 1<<16
	base := strings.Repeat("b", at+100)
	s.elsewhere("/f", base)
	h := s.open("/a/f", syscall.O_RDWR)
	limited(t, sizeLimit, func() {
		_, err := h.WriteAt(t.Context(), []byte(strings.Repeat("x", 1<<17)), at)
		s.kind(err, remote.TooLarge)
	})
	s.must(h.Flush(t.Context()))
	h.Release()
	if got := s.server("/f"); len(got) != len(base) || got[:at] != base[:at] {
		t.Errorf("server has %d bytes, beginning changed: %v", len(got), !strings.HasPrefix(got, base[:1<<16]))
	}
}

// sizeLimit is more than any other file of the tests' process has, such as the one in
// which package testing notes what was opened: it may grow at that moment.
const sizeLimit = 4 << 20

// limited runs do with a limit on the size of files, which is what a full disk
// looks like to the code.
func limited(t *testing.T, size uint64, do func()) {
	t.Helper()
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	lim := old
	lim.Cur = size
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &lim); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
			t.Error(err)
		}
	}()
	do()
}

func TestOthersChangeIsNotOverwrittenAfterChmod(t *testing.T) {
	// The answer to a change of attributes shows somebody else's new version. It
	// must not become ours.
	s := newStrange(t, memory.Options{})
	s.elsewhere("/f", "base")
	h := s.open("/a/f", syscall.O_RDWR)
	s.elsewhere("/f", "theirs, longer")
	mode := uint32(0o600)
	_, err := s.Setattr(t.Context(), "/a/f", h, h.x.ino, SetAttr{Mode: &mode})
	s.must(err)
	s.put(h, "OURS", 0)
	s.kind(h.Flush(t.Context()), remote.Conflict)
	h.Release()
	if got := s.server("/f"); got != "theirs, longer" {
		t.Errorf("server has %q", got)
	}
}

func TestDirectoryIsNotReplacedWithNewFilesInIt(t *testing.T) {
	s := newStrange(t, memory.Options{})
	for _, d := range []string{"/a/from", "/a/to"} {
		_, err := s.Mkdir(t.Context(), d, 0o755)
		s.must(err)
	}
	h, _, err := s.Create(t.Context(), "/a/to/new", syscall.O_RDWR, 0o644)
	s.must(err)
	s.put(h, "x", 0)
	s.kind(s.Rename(t.Context(), "/a/from", "/a/to", 0), remote.NotEmpty)
	s.must(h.Flush(t.Context()))
	h.Release()
	if got := s.server("/to/new"); got != "x" {
		t.Errorf("server has %q", got)
	}
}

func TestAllocateNeverShrinks(t *testing.T) {
	w := newWorld(t, memory.Options{})
	h, _, err := w.Create(t.Context(), "/a/f", syscall.O_RDWR, 0o644)
	w.must(err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range int64(20000) {
			w.put(h, "x", i)
		}
	})
	for i := range int64(20000) {
		if err := h.Allocate(t.Context(), 0, i, 0); err != nil && i > 0 {
			t.Error(err)
		}
	}
	wg.Wait()
	p := make([]byte, 20000)
	if n, err := h.ReadAt(t.Context(), p, 0); err != nil || strings.Count(string(p[:n]), "x") != 20000 {
		t.Errorf("%d of 20000 bytes are left (%v)", strings.Count(string(p[:n]), "x"), err)
	}
	w.must(h.Flush(t.Context()))
	h.Release()
}

func TestUnlinkOfChangedFileThatWasRemovedElsewhere(t *testing.T) {
	s := newStrange(t, memory.Options{}, uncached)
	s.elsewhere("/f", "base")
	h := s.open("/a/f", syscall.O_RDWR)
	s.put(h, "ours", 0)
	s.must(s.a.Remove(t.Context(), "/f", remote.RemoveOptions{Type: remote.File}))
	s.must(s.Unlink(t.Context(), "/a/f"))
	s.must(h.Flush(t.Context()))
	h.Release()
	if got := s.server("/f"); got != "<does not exist>" {
		t.Errorf("the removed file came back: %q", got)
	}
}

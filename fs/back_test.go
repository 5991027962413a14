package fs

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/meshmount/meshmount/cache/writeback"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
)

// offline makes the server answer nothing.
func (s *strange) offline() {
	s.on(func(_ context.Context, c *remote.Call, _ remote.Next) error { return c.Fail(remote.Unavailable, nil) })
}

// online ends that.
func (s *strange) online() {
	s.on(nil)
	s.must(s.journal.store.Retry(0))
}

func (s *strange) state(path string) string {
	s.t.Helper()
	v, err := s.GetXattr(s.t.Context(), path, "user.meshmount.state")
	s.must(err)
	return string(v)
}

// TestBackOffline changes a tree while its server is out of reach.
func TestBackOffline(t *testing.T) {
	s := newStrange(t, memory.Options{})
	for _, name := range []string{"/old", "/gone", "/over", "/cut", "/mode"} {
		s.elsewhere(name, "before")
	}
	s.names("/a")
	s.offline()
	s.journal.store.Pause()
	ctx := t.Context()
	s.write("/a/new", "new")
	_, err := s.Mkdir(ctx, "/a/d", 0o700)
	s.must(err)
	s.write("/a/d/f", "deep")
	s.write("/a/tmp", "put over it")
	s.must(s.Rename(ctx, "/a/tmp", "/a/over", 0))
	s.must(s.Unlink(ctx, "/a/gone"))
	s.must(s.Rename(ctx, "/a/d", "/a/e", 0))
	s.write("/a/cut", "cut")
	mode := uint32(0o600)
	b, _ := s.ns.resolve("/a/mode")
	e, ok := b.meta.recall("/mode")
	if !ok {
		t.Fatal("the file is not known")
	}
	_, err = s.setAttrs(ctx, b, e.e, remote.Attrs{Mode: &mode})
	s.must(err)
	_, err = s.Symlink(ctx, "/a/link", "e/f")
	s.must(err)
	s.journal.store.Resume()
	s.eventually("an attempt to upload", func() bool { return s.state("/a/new") == writeback.Waiting })
	want := map[string]string{"/new": "new", "/e/f": "deep", "/over": "put over it", "/cut": "cut"}
	for path, content := range want {
		if got := s.read("/a" + path); got != content {
			t.Errorf("%s is %q here, want %q", path, got, content)
		}
	}
	if got := s.names("/a"); !slices.Equal(got, []string{"cut", "e", "link", "mode", "new", "old", "over"}) {
		t.Errorf("lists %v", got)
	}
	s.online()
	for path, content := range want {
		if got := s.server(path); got != content {
			t.Errorf("the server has %q in %s, want %q", got, path, content)
		}
	}
	if got := s.server("/gone"); got != "<does not exist>" {
		t.Errorf("the removed file is %q", got)
	}
	if e, err := s.a.Stat(ctx, "/mode"); err != nil || e.Mode != mode {
		t.Errorf("%+v %v", e, err)
	}
	if got := s.state("/a/new"); got != "clean" {
		t.Errorf("the state of a stored file is %q", got)
	}
}

// TestBackConflict has somebody else change a file before what was written here is there.
func TestBackConflict(t *testing.T) {
	s := newStrange(t, memory.Options{})
	s.elsewhere("/f", "base")
	h := s.open("/a/f", syscall.O_RDWR|syscall.O_TRUNC)
	s.put(h, "ours", 0)
	_, err := s.a.Put(t.Context(), "/f", text("theirs, longer"), remote.PutOptions{})
	s.must(err)
	_, answer := s.stalled(remote.OpPut) // or the first close may tell of it
	s.must(h.Flush(t.Context()))
	answer()
	s.settle()
	if got := s.read("/a/f"); got != "theirs, longer" {
		t.Errorf("the name has %q", got)
	}
	if got := s.readH(h); got != "ours" {
		t.Errorf("the open file has become %q", got)
	}
	s.kind(h.Flush(t.Context()), remote.Conflict)
	s.must(h.Flush(t.Context()))
	path, _ := h.x.where()
	s.put(h, "OURS", 0)
	s.must(h.Flush(t.Context()))
	h.Release()
	if got := s.server(path[len("/a"):]); got != "OURS" || !strings.HasPrefix(path, "/a/f.conflict-node1-") {
		t.Errorf("our content is %q in %s", got, path)
	}
	if got := s.server("/f"); got != "theirs, longer" {
		t.Errorf("the server has %q", got)
	}
}

// TestBackSettlesOpenFiles has content reach the server while its file is open.
func TestBackSettlesOpenFiles(t *testing.T) {
	s := newStrange(t, memory.Options{})
	s.journal.store.Pause()
	s.write("/a/f", "content")
	h := s.open("/a/f", syscall.O_RDWR)
	before := h.Attr()
	if !h.KeepCache() || !writeback.IsLocal(before.Version) {
		t.Errorf("keeps %v, %+v", h.KeepCache(), before)
	}
	s.journal.store.Resume()
	s.settle()
	after, err := s.Stat(t.Context(), "/a/f")
	if err != nil || after.Ino != before.Ino || writeback.IsLocal(after.Version) || !after.MTime.Equal(before.MTime) {
		t.Errorf("%+v has become %+v, %v", before, after, err)
	}
	second := s.open("/a/f", syscall.O_RDONLY)
	if !second.KeepCache() || second.x != h.x || s.readH(second) != "content" {
		t.Error("the file was replaced by itself")
	}
	second.Release()
	s.put(h, "C", 0)
	s.must(h.Flush(t.Context()))
	h.Release()
	if got := s.server("/f"); got != "Content" {
		t.Errorf("the server has %q", got)
	}
}

// TestBackUnlinkWhileOpen removes a file that is pending.
func TestBackUnlinkWhileOpen(t *testing.T) {
	s := newStrange(t, memory.Options{})
	s.offline()
	b, _ := s.ns.resolve("/a")
	b.meta.setEmpty("/")
	b.meta.set(remote.Entry{Path: "/", Type: remote.Dir})
	s.write("/a/f", "content")
	h := s.open("/a/f", syscall.O_RDWR)
	s.must(s.Unlink(t.Context(), "/a/f"))
	if got := s.readH(h); got != "content" {
		t.Errorf("reads %q", got)
	}
	s.put(h, "more", 7)
	s.must(h.Flush(t.Context()))
	s.write("/a/f", "another")
	h.Release()
	s.online()
	if got := s.server("/f"); got != "another" {
		t.Errorf("the server has %q", got)
	}
}

// TestBackSparse changes a few bytes of a large file: no others are read.
func TestBackSparse(t *testing.T) {
	s := newStrange(t, memory.Options{})
	const size = 20 << 20
	_, err := s.a.Put(t.Context(), "/big", repeated{'b', size}, remote.PutOptions{})
	s.must(err)
	h := s.open("/a/big", syscall.O_RDWR)
	s.journal.store.Pause()
	reads := s.count(remote.OpRead)
	s.put(h, "first", 10)
	s.must(h.Flush(t.Context()))
	s.put(h, "second", size-100)
	s.must(h.Fsync(t.Context()))
	if n := reads(); n != 0 {
		t.Errorf("%d reads of the server", n)
	}
	p := make([]byte, 20)
	if n, err := h.ReadAt(t.Context(), p, 5); err != nil || string(p[:n]) != "bbbbbfirstbbbbbbbbbb" {
		t.Errorf("%q %v", p[:n], err)
	}
	h.Release()
	s.journal.store.Resume()
	s.drain()
	_, err = s.a.ReadAt(t.Context(), remote.Ref{Path: "/big", Size: size}, p, size-105)
	if s.must(err); string(p) != "bbbbbsecondbbbbbbbbb" {
		t.Errorf("the server has %q", p)
	}
}

// TestBackFsync waits for the server where that is wanted, and can be interrupted.
func TestBackFsync(t *testing.T) {
	s := newStrange(t, memory.Options{})
	s.opts.FsyncRemote = true
	s.names("/a")
	h, _, err := s.Create(t.Context(), "/a/f", syscall.O_RDWR, 0o644)
	s.must(err)
	s.offline()
	s.put(h, "content", 0)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := h.Fsync(ctx); err == nil {
		t.Error("fsync returns although the server has nothing")
	}
	s.online()
	s.must(h.Fsync(t.Context()))
	if got, err := s.a.Stat(t.Context(), "/f"); err != nil || got.Size != 7 {
		t.Errorf("after fsync the server has %+v, %v", got, err)
	}
	h.Release()
	s.must(s.SyncDir("/a"))
}

// TestBackQuota fills the server: who writes is told, and what was taken stays.
func TestBackQuota(t *testing.T) {
	s := newStrange(t, memory.Options{Quota: 10})
	h, _, err := s.Create(t.Context(), "/a/big", syscall.O_RDWR, 0o644)
	s.must(err)
	s.put(h, "more than ten bytes", 0)
	s.eventually("an error of close", func() bool { return remote.KindOf(h.Flush(t.Context())) == remote.NoSpace })
	_, err = h.WriteAt(t.Context(), []byte("more"), 0)
	s.kind(err, remote.NoSpace)
	s.kind(h.Fsync(t.Context()), remote.NoSpace)
	if got := s.readH(h); got != "more than ten bytes" {
		t.Errorf("reads %q", got)
	}
	h.Release()
	if got := s.read("/a/big"); got != "more than ten bytes" {
		t.Errorf("holds %q", got)
	}
	s.must(s.Unlink(t.Context(), "/a/big"))
}

// TestBackBrokenJournal has the journal fail: the close says so, and the content is kept.
func TestBackBrokenJournal(t *testing.T) {
	s := newStrange(t, memory.Options{})
	h, _, err := s.Create(t.Context(), "/a/f", syscall.O_RDWR, 0o644)
	s.must(err)
	s.put(h, "precious", 0)
	s.must(s.journal.store.Close())
	if err := h.Flush(t.Context()); err == nil {
		t.Error("close returns nothing")
	}
	h.Release()
	kept, err := filepath.Glob(filepath.Join(s.park, "f.*"))
	if s.must(err); len(kept) != 2 {
		t.Fatalf("kept %v", kept)
	}
	slices.SortFunc(kept, func(a, b string) int { return len(a) - len(b) })
	if data, err := os.ReadFile(kept[0]); err != nil || string(data) != "precious" {
		t.Errorf("kept %q, %v", data, err)
	}
}

// TestBackRemount finds what an earlier mount has left to do.
func TestBackRemount(t *testing.T) {
	s := newStrange(t, memory.Options{})
	s.elsewhere("/f", "before")
	s.journal.store.Pause()
	s.write("/a/f", "after")
	s.write("/a/g", "new")
	s.must(s.Close(context.Background()))
	s.must(s.journal.store.Close())
	s.start(Branch{Prefix: "/a", Backend: remote.Intercept(s.a, s.around), AttrTTL: time.Minute, DirTTL: time.Minute, NegTTL: time.Minute})
	for path, want := range map[string]string{"/f": "after", "/g": "new"} {
		if got := s.read("/a" + path); got != want {
			t.Errorf("%s is %q", path, got)
		}
		if got := s.server(path); got != want {
			t.Errorf("the server has %q in %s", got, path)
		}
	}
}

// TestBackTruncateIsCommitted cuts a file by its name while a writer has it open, whose close
// the kernel may have been told of and we not yet: the journal knows at once.
func TestBackTruncateIsCommitted(t *testing.T) {
	s := newStrange(t, memory.Options{})
	s.journal.store.Pause()
	h, _, err := s.Create(t.Context(), "/a/f", syscall.O_RDWR, 0o644)
	s.must(err)
	s.put(h, "content", 0)
	s.must(h.Flush(t.Context()))
	for _, size := range []int64{3, 5} {
		_, err = s.Setattr(t.Context(), "/a/f", nil, 0, SetAttr{Size: &size})
		s.must(err)
		b, rel := s.ns.resolve("/a/f")
		if e, err := b.Back.Stat(t.Context(), rel); err != nil || e.Size != size {
			t.Errorf("the journal has %d bytes, want %d (%v)", e.Size, size, err)
		}
	}
	h.Release()
	s.journal.store.Resume()
}

// TestBackStatRacesWithSettling looks at a file all the time while its versions reach the
// server: it stays the same object with the content that was written last.
func TestBackStatRacesWithSettling(t *testing.T) {
	s := newStrange(t, memory.Options{}, uncached)
	h, a, err := s.Create(t.Context(), "/a/f", syscall.O_RDWR, 0o644)
	s.must(err)
	s.must(h.Flush(t.Context()))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if now, err := s.Stat(context.Background(), "/a/f"); err != nil || now.Ino != a.Ino {
				t.Errorf("%+v %v", now, err)
				return
			}
		}
	})
	for i := range 200 {
		s.put(h, strings.Repeat("x", 1+i%7), int64(i))
		s.must(h.Flush(t.Context()))
		if i%20 == 0 {
			s.settle()
		}
		if got, err := s.Stat(t.Context(), "/a/f"); err != nil || got.Size != h.Attr().Size {
			t.Fatalf("%+v %v", got, err)
		}
	}
	close(stop)
	wg.Wait()
	want := s.readH(h)
	h.Release()
	if got := s.server("/f"); got != want {
		t.Errorf("the server has %d bytes, want %d", len(got), len(want))
	}
}

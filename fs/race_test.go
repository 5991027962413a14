package fs

import (
	"context"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
)

func TestReadWaitsForRenameOfItsFile(t *testing.T) {
	for name, opts := range map[string]memory.Options{"ranges": {}, "no ranges": {NoRanges: true}} {
		t.Run(name, func(t *testing.T) {
			s := newStrange(t, opts)
			_, err := s.Mkdir(t.Context(), "/a/d", 0o755)
			s.must(err)
			s.pass(time.Hour)
			s.elsewhere("/d/f", "content")
			h := s.open("/a/d/f", syscall.O_RDONLY)
			defer h.Release()
			moved, answer := make(chan struct{}), make(chan struct{})
			s.after(remote.OpRename, func() { close(moved); <-answer })
			var wg sync.WaitGroup
			wg.Go(func() { s.must(s.Rename(context.Background(), "/a/d", "/a/e", 0)) })
			<-moved // on the server, and we do not know yet
			wg.Go(func() {
				p := make([]byte, 100)
				if n, err := h.ReadAt(context.Background(), p, 0); err != nil || string(p[:n]) != "content" {
					t.Errorf("%q %v", p[:n], err)
				}
			})
			time.Sleep(20 * time.Millisecond)
			close(answer)
			s.soon("read", wg.Wait)
		})
	}
}

func TestNameOfOpenFileIsFreeWhenItWasRemovedElsewhere(t *testing.T) {
	s := newStrange(t, memory.Options{}, uncached)
	s.elsewhere("/f", "old")
	h := s.open("/a/f", syscall.O_RDONLY)
	defer h.Release()
	s.must(s.a.Remove(t.Context(), "/f", remote.RemoveOptions{Type: remote.File}))
	n, a, err := s.Create(t.Context(), "/a/f", syscall.O_WRONLY|syscall.O_EXCL, 0o644)
	s.must(err)
	if a.Ino == h.x.ino {
		t.Error("the new file has the number of the old")
	}
	s.put(n, "new", 0)
	s.must(n.Flush(t.Context()))
	n.Release()
	if got := s.server("/f"); got != "new" {
		t.Errorf("server has %q", got)
	}
}

func TestDirectoryTakesNameOfOpenFileThatWasRemovedElsewhere(t *testing.T) {
	s := newStrange(t, memory.Options{}, uncached)
	s.elsewhere("/f", "old")
	h := s.open("/a/f", syscall.O_RDONLY)
	defer h.Release()
	s.must(s.a.Remove(t.Context(), "/f", remote.RemoveOptions{Type: remote.File}))
	if _, err := s.Mkdir(t.Context(), "/a/f", 0o755); err != nil {
		t.Error(err)
	}
	if a, err := s.Stat(t.Context(), "/a/f"); err != nil || a.Type != remote.Dir {
		t.Errorf("%+v %v", a, err)
	}
}

func TestOldAnswerDoesNotReplaceFileThatWasJustPut(t *testing.T) {
	// The server's answer to a stat crosses the close of a writer again and again.
	s := newStrange(t, memory.Options{}, uncached)
	s.elsewhere("/f", "0")
	h := s.open("/a/f", syscall.O_RDWR)
	defer h.Release()
	busy := false
	s.on(func(ctx context.Context, c *remote.Call, next remote.Next) error {
		err := next(ctx)
		if c.Op == remote.OpStat && c.Path == "/f" && !busy {
			busy = true
			s.put(h, "x", 0)
			s.must(h.Flush(context.Background()))
			busy = false
		}
		return err
	})
	for range 3 {
		a, err := s.Stat(t.Context(), "/a/f")
		if err != nil || a.Ino != h.x.ino {
			t.Fatalf("the file that is open and was changed by nobody else lost its name: %+v %v", a, err)
		}
	}
	s.on(nil)
}

func TestBusyNeighboursDoNotMakeAnswersUseless(t *testing.T) {
	s := newStrange(t, memory.Options{})
	s.elsewhere("/f", "x")
	asked := 0
	s.on(func(ctx context.Context, c *remote.Call, next remote.Next) error {
		err := next(ctx)
		if c.Op == remote.OpStat && c.Path == "/f" {
			asked++
			s.neighbour()
		}
		return err
	})
	for range 2 {
		if s.size("/a/f") != 1 {
			t.Error("wrong size")
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times, because of changes to other names", asked)
	}
}

// neighbour changes another name in the root of the branch.
func (s *strange) neighbour() {
	h, _, err := s.Create(context.Background(), "/a/neighbour", syscall.O_WRONLY|syscall.O_TRUNC, 0o644)
	s.must(err)
	s.must(h.Flush(context.Background()))
	h.Release()
}

func TestListingThatCrossesDirectoryRenameIsNotKept(t *testing.T) {
	s := newStrange(t, memory.Options{})
	for _, d := range []string{"/a/d", "/a/d/e", "/a/new", "/a/new/e"} {
		_, err := s.Mkdir(t.Context(), d, 0o755)
		s.must(err)
	}
	s.elsewhere("/d/e/old", "x")
	s.elsewhere("/new/e/new", "x")
	s.pass(time.Hour)
	asked, answer := make(chan struct{}), make(chan struct{})
	s.after(remote.OpList, func() { close(asked); <-answer })
	d, err := s.OpenDir(t.Context(), "/a/d/e")
	s.must(err)
	<-asked
	s.must(s.Rename(t.Context(), "/a/d", "/a/gone", 0))
	s.must(s.Rename(t.Context(), "/a/new", "/a/d", 0))
	close(answer)
	for err == nil {
		_, err = d.Next(t.Context())
	}
	d.Close()
	if got := s.names("/a/d/e"); len(got) != 1 || got[0] != "new" {
		t.Errorf("lists %v", got)
	}
	if _, err := s.Stat(t.Context(), "/a/d/e/new"); err != nil {
		t.Error(err)
	}
}

func TestInterruptedQuestionsEndWithTheFileSystem(t *testing.T) {
	s := newStrange(t, memory.Options{})
	asked, over := make(chan struct{}), make(chan struct{})
	s.on(func(ctx context.Context, c *remote.Call, next remote.Next) error {
		if c.Op != remote.OpStat {
			return next(ctx)
		}
		close(asked)
		<-ctx.Done()
		close(over)
		return remote.ContextErr(ctx)
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if _, err := s.Stat(ctx, "/a/f"); err == nil {
		t.Error("was not interrupted")
	}
	s.finished = true
	s.soon("close", func() { s.must(s.Close(context.Background())) })
	select {
	case <-over:
	default:
		t.Error("a request outlives the file system")
	}
}

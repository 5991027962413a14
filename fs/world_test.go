package fs

import (
	"context"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
)

// world is an FS over memory branches.
type world struct {
	*FS
	t        *testing.T
	a, b     *memory.Backend
	park     string
	stage    string
	finished bool
	journal  journal
}

type text string

func (s text) Size() int64                  { return int64(len(s)) }
func (s text) Open() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(string(s))), nil }

func newWorld(t *testing.T, opts memory.Options, change ...func(*[]Branch)) *world {
	t.Helper()
	w := &world{t: t, a: memory.New(opts), b: memory.New(memory.Options{}), park: t.TempDir(), stage: t.TempDir()}
	branches := []Branch{
		{Prefix: "/a", Backend: w.a, AttrTTL: time.Minute, DirTTL: time.Minute, NegTTL: time.Minute},
		{Prefix: "/deep/b", Backend: w.b},
	}
	for _, c := range change {
		c(&branches)
	}
	if withJournal(t) {
		w.keepJournal(&branches[0])
	}
	var err error
	w.FS, err = New(Options{UID: 7, GID: 8, Umask: 0o022, StageDir: w.stage, ParkDir: w.park, Hostname: "node1", Now: opts.Clock}, branches)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !w.finished {
			w.finish()
		}
	})
	return w
}

// finish closes the FS; nothing may be left in the staging directory.
func (w *world) finish() {
	w.t.Helper()
	w.finished = true
	if err := w.Close(context.Background()); err != nil {
		w.t.Error(err)
	}
	w.endJournal()
	left, err := os.ReadDir(w.stage)
	if err != nil || len(left) > 0 {
		w.t.Errorf("staging directory: %v %v", left, err)
	}
}

func (w *world) write(path, content string) {
	w.t.Helper()
	h, _, err := w.Create(w.t.Context(), path, syscall.O_RDWR, 0o644)
	if err != nil {
		w.t.Fatal(err)
	}
	w.must(h.Truncate(w.t.Context(), 0))
	w.put(h, content, 0)
	w.must(h.Flush(w.t.Context()))
	h.Release()
}

func (w *world) put(h *Handle, s string, off int64) {
	w.t.Helper()
	if n, err := h.WriteAt(w.t.Context(), []byte(s), off); err != nil || n != len(s) {
		w.t.Fatalf("write: %d %v", n, err)
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) kind(err error, k remote.Kind) {
	w.t.Helper()
	if err == nil || remote.KindOf(err) != k {
		w.t.Fatalf("error is %v, want %v", err, k)
	}
}

func (w *world) readH(h *Handle) string {
	w.t.Helper()
	p := make([]byte, 1<<16)
	n, err := h.ReadAt(w.t.Context(), p, 0)
	w.must(err)
	return string(p[:n])
}

func (w *world) read(path string) string {
	w.t.Helper()
	h := w.open(path, syscall.O_RDONLY)
	defer h.Release()
	return w.readH(h)
}

func (w *world) open(path string, flags int) *Handle {
	w.t.Helper()
	h, err := w.Open(w.t.Context(), path, flags)
	w.must(err)
	return h
}

// server returns what is on the server, when it has everything.
func (w *world) server(path string) string {
	w.t.Helper()
	w.drain()
	e, err := w.a.Stat(w.t.Context(), path)
	if err != nil {
		return "<" + remote.KindOf(err).String() + ">"
	}
	p := make([]byte, e.Size)
	if _, err := w.a.ReadAt(w.t.Context(), remote.Ref{Path: path, Size: e.Size}, p, 0); err != nil && err != io.EOF {
		w.t.Fatal(err)
	}
	return string(p)
}

// elsewhere has somebody else put a file, when the server has everything of ours, and we
// know.
func (w *world) elsewhere(path, content string) {
	w.t.Helper()
	w.settle()
	_, err := w.a.Put(w.t.Context(), path, text(content), remote.PutOptions{})
	w.must(err)
}

func (w *world) names(path string) []string {
	w.t.Helper()
	d, err := w.OpenDir(w.t.Context(), path)
	w.must(err)
	defer d.Close()
	var names []string
	for {
		e, err := d.Next(w.t.Context())
		if err == io.EOF {
			slices.Sort(names)
			return names
		}
		w.must(err)
		names = append(names, e.Name)
	}
}

func (w *world) size(path string) int64 {
	w.t.Helper()
	a, err := w.Stat(w.t.Context(), path)
	w.must(err)
	return a.Size
}

// eventually waits for something that happens behind.
func (w *world) eventually(what string, is func() bool) {
	w.t.Helper()
	for end := time.Now().Add(4 * time.Minute); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("%s: never", what)
		}
	}
}

// stopwatch is a clock that stands still: what it times does not get old because the machine
// does. It must be made by newStopwatch.
type stopwatch struct {
	mu sync.Mutex
	at time.Time // guarded by mu
}

func newStopwatch() *stopwatch { return &stopwatch{at: time.Unix(1_700_000_000, 0)} }

func (s *stopwatch) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at
}

func (s *stopwatch) pass(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = s.at.Add(d)
}

// strange is a world whose clock stands still and whose branch /a can be made to
// misbehave: a hook sees every call to it.
type strange struct {
	*world
	*stopwatch
	hookMu sync.Mutex
	hook   remote.Interceptor // guarded by hookMu
}

func newStrange(t *testing.T, opts memory.Options, change ...func(*Branch)) *strange {
	t.Helper()
	s := &strange{stopwatch: newStopwatch()}
	opts.Clock = s.clock
	s.world = &world{t: t, a: memory.New(opts), park: t.TempDir(), stage: t.TempDir()}
	b := Branch{Prefix: "/a", Backend: remote.Intercept(s.a, s.around), AttrTTL: time.Minute, DirTTL: time.Minute, NegTTL: time.Minute}
	for _, c := range change {
		c(&b)
	}
	s.start(b)
	return s
}

func (s *strange) start(b Branch) {
	s.t.Helper()
	if withJournal(s.t) {
		s.keepJournal(&b)
	}
	var err error
	s.FS, err = New(Options{Umask: 0o022, StageDir: s.stage, ParkDir: s.park, Hostname: "node1", Now: s.clock}, []Branch{b})
	s.must(err)
	s.t.Cleanup(func() {
		s.on(nil)
		if !s.finished {
			s.finish()
		}
	})
}

// uncached asks the server for everything.
func uncached(b *Branch) { b.AttrTTL, b.DirTTL, b.NegTTL = 0, 0, 0 }

// on sets the hook, nil for none.
func (s *strange) on(f remote.Interceptor) {
	s.hookMu.Lock()
	defer s.hookMu.Unlock()
	s.hook = f
}

func (s *strange) around(ctx context.Context, c *remote.Call, next remote.Next) error {
	s.hookMu.Lock()
	f := s.hook
	s.hookMu.Unlock()
	if f == nil {
		return next(ctx)
	}
	return f(ctx, c, next)
}

// failing makes all calls of op fail.
func (s *strange) failing(op remote.Op, k remote.Kind) {
	s.on(func(ctx context.Context, c *remote.Call, next remote.Next) error {
		if c.Op == op {
			return c.Fail(k, nil)
		}
		return next(ctx)
	})
}

// after runs do once, when the first call of op has been carried out and before its
// caller knows.
func (s *strange) after(op remote.Op, do func()) {
	var done atomic.Bool
	s.on(func(ctx context.Context, c *remote.Call, next remote.Next) error {
		err := next(ctx)
		if c.Op == op && !done.Swap(true) {
			do()
		}
		return err
	})
}

// count counts the calls of op.
func (s *strange) count(op remote.Op) (got func() int) {
	var mu sync.Mutex
	n := 0
	s.on(func(ctx context.Context, c *remote.Call, next remote.Next) error {
		if c.Op == op {
			mu.Lock()
			n++
			mu.Unlock()
		}
		return next(ctx)
	})
	return func() int { mu.Lock(); defer mu.Unlock(); return n }
}

// soon fails the test if do does not end.
func (s *strange) soon(what string, do func()) {
	s.t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); do() }()
	select {
	case <-done:
	case <-time.After(4 * time.Minute):
		s.t.Fatal(what + " hangs")
	}
}

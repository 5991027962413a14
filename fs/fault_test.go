package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

func TestOpenAfterForeignChangeWasNoticed(t *testing.T) {
	s := newStrange(t, memory.Options{})
	s.elsewhere("/f", "old")
	s.names("/a")
	h := s.open("/a/f", syscall.O_RDONLY)
	s.elsewhere("/f", "newer")
	_, err := h.ReadAt(t.Context(), make([]byte, 3), 0)
	s.kind(err, remote.Changed)
	h.Release()
	if got := s.read("/a/f"); got != "newer" {
		t.Errorf("reads %q", got)
	}
}

func TestPutWithLostAnswerIsSeenAtOnce(t *testing.T) {
	s := newStrange(t, memory.Options{})
	s.elsewhere("/f", "old")
	s.names("/a")
	h := s.open("/a/f", syscall.O_RDWR|syscall.O_TRUNC)
	s.put(h, "newer", 0)
	s.on(func(ctx context.Context, c *remote.Call, next remote.Next) error {
		err := next(ctx)
		if c.Op == remote.OpPut && err == nil {
			e := c.Fail(remote.Unavailable, nil)
			e.Unsure = true
			return e
		}
		return err
	})
	s.kind(h.Flush(t.Context()), remote.Unavailable)
	h.Release()
	s.on(nil)
	if got := s.read("/a/f"); got != "newer" || s.size("/a/f") != 5 {
		t.Errorf("reads %q, size %d", got, s.size("/a/f"))
	}
}

// stalled makes calls of op wait, once they are carried out; the returned channel
// tells of the first.
func (s *strange) stalled(op remote.Op) (reached chan struct{}, resume func()) {
	reached, over := make(chan struct{}, 100), make(chan struct{})
	s.on(func(ctx context.Context, c *remote.Call, next remote.Next) error {
		err := next(ctx)
		if c.Op == op {
			reached <- struct{}{}
			<-over
		}
		return err
	})
	return reached, sync.OnceFunc(func() { close(over) })
}

func TestSlowUploadHoldsUpNoReader(t *testing.T) {
	s := newStrange(t, memory.Options{})
	s.elsewhere("/other", "x")
	h, _, err := s.Create(t.Context(), "/a/f", syscall.O_RDWR, 0o644)
	s.must(err)
	s.put(h, "first", 0)
	reached, resume := s.stalled(remote.OpPut)
	defer resume()
	var wg sync.WaitGroup
	wg.Go(func() { s.must(h.Flush(context.Background())) })
	<-reached
	wg.Go(func() { s.put(h, "second", 0) }) // waits: the upload is of one moment
	time.Sleep(20 * time.Millisecond)
	s.soon("another program", func() {
		if a, ok := s.StatOpen(h.x.ino); !ok || a.Size != 5 {
			t.Errorf("%+v", a)
		}
		if s.size("/a/f") != 5 || s.size("/a/other") != 1 {
			t.Error("wrong sizes")
		}
		if got := s.read("/a/f"); got != "first" {
			t.Errorf("reads %q", got)
		}
		if got := s.names("/a"); len(got) != 2 {
			t.Errorf("lists %v", got)
		}
		_, err := s.Mkdir(context.Background(), "/a/third", 0o755)
		s.must(err)
	})
	resume()
	s.soon("the rest", wg.Wait)
	s.must(h.Flush(t.Context()))
	h.Release()
	if got := s.server("/f"); got != "second" {
		t.Errorf("server has %q", got)
	}
}

func TestNamesChangeAfterTheUploadUnderWay(t *testing.T) {
	changes := map[string]struct {
		do   func(s *strange) error
		want map[string]string
	}{
		"unlink": {func(s *strange) error { return s.Unlink(context.Background(), "/a/d/f") },
			map[string]string{"/d/f": "<does not exist>"}},
		"rename": {func(s *strange) error { return s.Rename(context.Background(), "/a/d/f", "/a/g", 0) },
			map[string]string{"/d/f": "<does not exist>", "/g": "content"}},
		"rename of the directory": {func(s *strange) error { return s.Rename(context.Background(), "/a/d", "/a/e", 0) },
			map[string]string{"/d/f": "<does not exist>", "/e/f": "content"}},
		"replacement": {func(s *strange) error { return s.Rename(context.Background(), "/a/other", "/a/d/f", 0) },
			map[string]string{"/d/f": "other", "/other": "<does not exist>"}},
	}
	for name, c := range changes {
		t.Run(name, func(t *testing.T) {
			s := newStrange(t, memory.Options{})
			s.elsewhere("/other", "other")
			_, err := s.Mkdir(t.Context(), "/a/d", 0o755)
			s.must(err)
			h, _, err := s.Create(t.Context(), "/a/d/f", syscall.O_RDWR, 0o644)
			s.must(err)
			s.put(h, "content", 0)
			reached, resume := s.stalled(remote.OpPut)
			defer resume()
			var wg sync.WaitGroup
			wg.Go(func() { s.must(h.Flush(context.Background())); h.Release() })
			<-reached
			wg.Go(func() { s.must(c.do(s)) })
			time.Sleep(10 * time.Millisecond)
			resume()
			s.soon("change", wg.Wait)
			for path, want := range c.want {
				if got := s.server(path); got != want {
					t.Errorf("%s is %q, want %q", path, got, want)
				}
			}
		})
	}
}

func TestOpenDuringFailingReleaseTakesOver(t *testing.T) {
	s := newStrange(t, memory.Options{})
	h, _, err := s.Create(t.Context(), "/a/f", syscall.O_RDWR, 0o644)
	s.must(err)
	s.put(h, "precious", 0)
	reached, over := make(chan struct{}, 1), make(chan struct{})
	s.on(func(ctx context.Context, c *remote.Call, next remote.Next) error {
		if c.Op == remote.OpPut {
			reached <- struct{}{}
			<-over
			return c.Fail(remote.Unavailable, nil)
		}
		return next(ctx)
	})
	released := make(chan struct{})
	go func() { defer close(released); h.Release() }()
	<-reached
	second := s.open("/a/f", syscall.O_RDWR)
	close(over)
	<-released
	s.on(nil)
	if left, _ := os.ReadDir(s.park); len(left) != 0 {
		t.Errorf("content is parked although somebody has it open: %v", left)
	}
	s.must(second.Flush(t.Context()))
	second.Release()
	if got := s.server("/f"); got != "precious" {
		t.Errorf("server has %q", got)
	}
}

func TestAnswerDuringSetAttrDoesNotReplaceTheFile(t *testing.T) {
	// A server that makes a new version when a time is set shows it to others
	// before we know of it.
	s := newStrange(t, memory.Options{AttrVersions: true}, uncached)
	s.elsewhere("/f", "x")
	h := s.open("/a/f", syscall.O_RDWR)
	defer h.Release()
	reached, resume := s.stalled(remote.OpSetAttr)
	defer resume()
	when := time.Unix(1_500_000_000, 0)
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := s.Setattr(context.Background(), "/a/f", h, h.x.ino, SetAttr{MTime: &when})
		s.must(err)
	})
	<-reached
	if a, err := s.Stat(t.Context(), "/a/f"); err != nil || a.Ino != h.x.ino {
		t.Errorf("the file lost its name: %+v %v", a, err)
	}
	resume()
	wg.Wait()
	s.put(h, "y", 0)
	s.must(h.Flush(t.Context()))
	if got := s.server("/f"); got != "y" {
		t.Errorf("server has %q", got)
	}
}

func TestTimesDoNotJump(t *testing.T) {
	for _, g := range []time.Duration{0, time.Second} {
		s := newStrange(t, memory.Options{Granularity: g})
		s.pass(123456789 * time.Nanosecond)
		h, created, err := s.Create(t.Context(), "/a/f", syscall.O_RDWR, 0o644)
		s.must(err)
		s.pass(3 * time.Second)
		s.put(h, "x", 0)
		written := h.Attr().MTime
		if !written.After(created.MTime) {
			t.Errorf("a write left the time at %v", written)
		}
		s.pass(5 * time.Second)
		s.must(h.Flush(t.Context()))
		h.Release()
		for range 2 {
			if a, _ := s.Stat(t.Context(), "/a/f"); !a.MTime.Equal(written) {
				t.Errorf("granularity %v: the time was %v before the close and is %v", g, written, a.MTime)
			}
			s.pass(time.Hour)
		}
		precise := time.Unix(1_600_000_000, 987654321)
		a, err := s.Setattr(t.Context(), "/a/f", nil, 0, SetAttr{MTime: &precise})
		s.must(err)
		s.pass(time.Hour)
		if b, _ := s.Stat(t.Context(), "/a/f"); !b.MTime.Equal(a.MTime) || b.MTime.Unix() != precise.Unix() {
			t.Errorf("granularity %v: set %v, shown %v and later %v", g, precise, a.MTime, b.MTime)
		}
	}
}

func TestFsyncThatIsInterruptedGoesOn(t *testing.T) {
	s := newStrange(t, memory.Options{})
	h, _, err := s.Create(t.Context(), "/a/f", syscall.O_RDWR, 0o644)
	s.must(err)
	s.put(h, "x", 0)
	reached, resume := s.stalled(remote.OpPut)
	defer resume()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-reached; cancel() }()
	if err := h.Fsync(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("fsync: %v", err)
	}
	released := make(chan struct{})
	go func() { defer close(released); h.Release() }()
	time.Sleep(10 * time.Millisecond)
	resume()
	<-released
	if got := s.server("/f"); got != "x" {
		t.Errorf("server has %q", got)
	}
}

// TestFaultsLoseNothing lets programs write whole files while the server fails in
// every way. What a close acknowledged is on the server; what it did not is in the
// park directory, on the server, or beside it; nothing is ever a mixture.
func TestFaultsLoseNothing(t *testing.T) {
	rounds := uint64(40)
	switch long := os.Getenv("MESHMOUNT_LONG") != ""; {
	case long && withJournal(t):
		rounds = 300
	case long:
		rounds = 1500
	}
	kinds := []memory.Options{{}, {NoRanges: true}, {AttrVersions: true}, {NoMTime: true, NoMode: true}}
	for seed := range rounds {
		opts := kinds[seed%uint64(len(kinds))]
		t.Run(fmt.Sprint(seed), func(t *testing.T) { faulty(t, opts, seed) })
		if t.Failed() {
			return
		}
	}
}

func faulty(t *testing.T, opts memory.Options, seed uint64) {
	var flaky *remotetest.FaultyBackend
	s := newStrange(t, opts, func(b *Branch) {
		flaky = remotetest.Faulty(b.Backend, remotetest.Plan{})
		b.Backend = flaky
		if seed%2 == 0 {
			uncached(b)
		}
	})
	flaky.SetPlan(remotetest.Plan{Seed: seed, Rules: []remotetest.Rule{
		{P: 0.08, Fault: remotetest.FaultError}, {P: 0.05, Fault: remotetest.FaultLost},
		{P: 0.05, Fault: remotetest.FaultTruncate},
		{P: 0.05, Fault: remotetest.FaultReset, Ops: []remote.Op{remote.OpPut}},
		{P: 0.03, Fault: remotetest.FaultError, Kind: remote.NoSpace, Ops: []remote.Op{remote.OpPut}},
	}})
	r := rand.New(rand.NewPCG(seed, 3))
	acked := map[string]string{} // name to content that must be there
	offered := map[string]bool{} // contents that were written
	refused := map[string]bool{} // contents whose close failed
	for i := range 120 {
		name := [...]string{"/x", "/y", "/z"}[r.IntN(3)]
		s.faultyStep(r, name, fmt.Sprintf("content %d of %d ", i, seed), acked, offered, refused)
		s.pass(time.Duration(r.IntN(3)) * 30 * time.Second)
	}
	flaky.SetPlan(remotetest.Plan{})
	for name, want := range acked {
		if got := s.server(name); got != want {
			t.Errorf("%s is %.40q, acknowledged was %.40q", name, got, want)
		}
		if got := s.read("/a" + name); got != want {
			t.Errorf("%s reads %.40q, acknowledged was %.40q", name, got, want)
		}
	}
	s.account(offered, refused)
	s.allClosed(t)
}

// allClosed checks that nothing is open any more.
func (s *strange) allClosed(t *testing.T) {
	t.Helper()
	s.FS.mu.Lock()
	defer s.FS.mu.Unlock()
	if len(s.files) != 0 || len(s.byIno) != 0 {
		t.Errorf("%d names and %d numbers are still open", len(s.files), len(s.byIno))
	}
}

// faultyStep changes one name. A failed change leaves it unknown what is there.
func (s *strange) faultyStep(r *rand.Rand, name, text string, acked map[string]string, offered, refused map[string]bool) {
	ctx := context.Background()
	content := strings.Repeat(text, 1+r.IntN(300))
	switch r.IntN(6) {
	case 0:
		if s.Unlink(ctx, "/a"+name) == nil {
			acked[name] = "<does not exist>"
		}
		delete(acked, name)
	case 1:
		if want, ok := acked[name]; ok && s.Rename(ctx, "/a"+name, "/a/moved", 0) == nil {
			acked["/moved"] = want
		} else {
			delete(acked, "/moved")
		}
		delete(acked, name)
	case 2:
		if h, err := s.Open(ctx, "/a"+name, syscall.O_RDONLY); err == nil {
			p := make([]byte, 1<<16)
			n, err := h.ReadAt(ctx, p, 0)
			if want, ok := acked[name]; ok && err == nil && string(p[:n]) != want {
				s.t.Errorf("%s reads %.40q, acknowledged was %.40q", name, p[:n], want)
			}
			h.Release()
		}
	default:
		h, _, err := s.Create(ctx, "/a"+name, syscall.O_RDWR|syscall.O_TRUNC, 0o644)
		if err != nil {
			return
		}
		if _, err := h.WriteAt(ctx, []byte(content), 0); err != nil { // the server is full, as the journal knows
			s.kind(err, remote.NoSpace)
			h.Release()
			delete(acked, name)
			offered[""] = true
			return
		}
		offered[content] = true
		if err = h.Flush(ctx); err != nil && r.IntN(2) == 0 {
			err = h.Flush(ctx)
		}
		h.Release()
		if delete(acked, name); err == nil {
			acked[name] = content
		} else if s.journal.store == nil { // which has it all the same, until it is written over
			refused[content] = true
		}
	}
}

// account finds all refused contents in the park directory or on the server, and
// nothing there that nobody wrote.
func (s *strange) account(offered, refused map[string]bool) {
	s.t.Helper()
	s.drain()
	found := map[string]bool{}
	parkedFiles, err := filepath.Glob(filepath.Join(s.park, "*"))
	s.must(err)
	parkedFiles = slices.DeleteFunc(parkedFiles, func(p string) bool { return strings.HasSuffix(p, ".json") })
	for _, p := range parkedFiles {
		data, err := os.ReadFile(p)
		s.must(err)
		found[string(data)] = true
	}
	s.must(s.a.List(context.Background(), "/", func(e remote.Entry) error {
		found[s.server(e.Path)] = true
		return nil
	}))
	for content := range refused {
		if !found[content] {
			s.t.Errorf("lost: %.40q", content)
		}
	}
	for content := range found {
		if !offered[content] {
			s.t.Errorf("nobody wrote %.40q (%d bytes)", content, len(content))
		}
	}
}

func TestStatOfOpenFilesNeedsNoServer(t *testing.T) {
	s := newStrange(t, memory.Options{}, uncached)
	s.elsewhere("/clean", "x")
	clean := s.open("/a/clean", syscall.O_RDONLY)
	defer clean.Release()
	dirty, _, err := s.Create(t.Context(), "/a/dirty", syscall.O_RDWR, 0o644)
	s.must(err)
	defer dirty.Release()
	over := make(chan struct{})
	s.on(func(context.Context, *remote.Call, remote.Next) error { <-over; return io.EOF })
	s.soon("attributes", func() {
		for _, h := range []*Handle{clean, dirty} {
			if _, ok := s.StatOpen(h.x.ino); !ok {
				t.Error("not found")
			}
		}
		if _, err := s.Stat(t.Context(), "/a/dirty"); err != nil {
			t.Error(err)
		}
		s.put(dirty, "x", 0)
		size := int64(7)
		if _, err := s.Setattr(t.Context(), "/a/dirty", dirty, dirty.x.ino, SetAttr{Size: &size}); err != nil {
			t.Error(err)
		}
		s.Statfs("/a")
	})
	s.on(nil)
	close(over)
}

package fs

import (
	"context"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
)

func TestPagesOfParkedContentAreNotKept(t *testing.T) {
	s := newStrange(t, memory.Options{})
	s.elsewhere("/f", "server")
	h := s.open("/a/f", syscall.O_RDWR)
	var told []Invalidation
	s.OnInvalidate(func(i Invalidation) { told = append(told, i) })
	s.put(h, "unsaved", 0)
	s.failing(remote.OpPut, remote.NoSpace)
	s.kind(h.Flush(t.Context()), remote.NoSpace)
	h.Release()
	s.on(nil)
	if !slices.ContainsFunc(told, func(i Invalidation) bool { return i.Ino == h.x.ino && i.Content }) {
		t.Error("the kernel was not told that the file is another")
	}
	h = s.open("/a/f", syscall.O_RDONLY)
	defer h.Release()
	if h.KeepCache() {
		t.Error("the kernel keeps pages with content that never reached the server")
	}
}

func TestPagesAreKeptWhileTheVersionStands(t *testing.T) {
	s := newStrange(t, memory.Options{})
	s.write("/a/f", "x")
	for range 2 {
		h := s.open("/a/f", syscall.O_RDONLY)
		if !h.KeepCache() {
			t.Error("pages of the same version are dropped")
		}
		h.Release()
	}
}

func TestPagesOfProvisionalVersionAreNotKept(t *testing.T) {
	s := newStrange(t, memory.Options{WeakVersions: true, Granularity: time.Second}, uncached)
	s.elsewhere("/f", "one")
	h := s.open("/a/f", syscall.O_RDONLY)
	if s.readH(h) != "one" {
		t.Error("wrong bytes")
	}
	h.Release()
	s.elsewhere("/f", "two") // in the same second: same version
	s.pass(10 * time.Second)
	h = s.open("/a/f", syscall.O_RDONLY)
	if h.KeepCache() {
		t.Error("the kernel keeps pages of a version that proves nothing")
	}
	h.Release()
	h = s.open("/a/f", syscall.O_RDONLY)
	if !h.KeepCache() {
		t.Error("the version is proof now")
	}
	h.Release()
}

func TestSecondOpenDoesNotKeepPagesThatTheFirstDrops(t *testing.T) {
	s := newStrange(t, memory.Options{}, uncached)
	s.elsewhere("/f", "one")
	s.read("/a/f")
	s.elsewhere("/f", "two")
	first := s.open("/a/f", syscall.O_RDONLY)
	defer first.Release()
	second := s.open("/a/f", syscall.O_RDONLY)
	defer second.Release()
	if first.KeepCache() || second.KeepCache() {
		t.Error("the answer to the second open may arrive first, and pages of the old version are kept")
	}
	s.readH(first)
	third := s.open("/a/f", syscall.O_RDONLY)
	defer third.Release()
	if !third.KeepCache() {
		t.Error("the pages are of this version")
	}
}

func TestAbsenceIsNotRememberedTwice(t *testing.T) {
	s := newStrange(t, memory.Options{})
	_, err := s.Stat(t.Context(), "/a/f")
	s.kind(err, remote.NotExist)
	s.pass(50 * time.Second)
	_, err = s.Stat(t.Context(), "/a/f")
	s.kind(err, remote.NotExist)
	if ttl := s.NegativeTTL("/a/f"); ttl > 10*time.Second {
		t.Errorf("the kernel may remember for %v an absence that is 50 s old", ttl)
	}
}

func TestAttributesOfOpenFilesGrowOld(t *testing.T) {
	s := newStrange(t, memory.Options{})
	s.elsewhere("/f", "x")
	h := s.open("/a/f", syscall.O_RDONLY)
	defer h.Release()
	s.pass(50 * time.Second)
	if a, err := s.Stat(t.Context(), "/a/f"); err != nil || a.TTL > 10*time.Second {
		t.Errorf("stat: %v, %v", a.TTL, err)
	}
	if a, _ := s.StatOpen(h.x.ino); a.TTL > 10*time.Second {
		t.Errorf("from memory: %v", a.TTL)
	}
	s.pass(20 * time.Second)
	if a, _ := s.StatOpen(h.x.ino); a.TTL > 0 {
		t.Errorf("from memory, too old: %v", a.TTL)
	}
	if a, err := s.Stat(t.Context(), "/a/f"); err != nil || a.TTL != time.Minute {
		t.Errorf("asked again: %v, %v", a.TTL, err)
	}
	if a, _ := s.StatOpen(h.x.ino); a.TTL != time.Minute {
		t.Errorf("from memory, asked again: %v", a.TTL)
	}
}

func TestListedAttributesGrowOld(t *testing.T) {
	s := newStrange(t, memory.Options{})
	s.elsewhere("/f", "x")
	s.elsewhere("/g", "x")
	first, err := s.OpenDir(t.Context(), "/a")
	s.must(err)
	defer first.Close()
	_, err = first.Next(t.Context())
	s.must(err)
	s.names("/a")
	s.pass(50 * time.Second)
	second, err := s.OpenDir(t.Context(), "/a")
	s.must(err)
	defer second.Close()
	for _, d := range []*DirStream{first, second} {
		if e, err := d.Next(t.Context()); err != nil || e.Attr.TTL > 10*time.Second {
			t.Errorf("%+v %v", e.Attr.TTL, err)
		}
	}
}

func TestListingShowsReplacedOpenFile(t *testing.T) {
	s := newStrange(t, memory.Options{}, uncached)
	s.elsewhere("/f", "old")
	h := s.open("/a/f", syscall.O_RDONLY)
	defer h.Release()
	s.elsewhere("/f", "newer content")
	d, err := s.OpenDir(t.Context(), "/a")
	s.must(err)
	defer d.Close()
	e, err := d.Next(t.Context())
	if err != nil || e.Attr.Size != 13 || e.Attr.Ino == h.x.ino {
		t.Errorf("the listing shows the old file's number for the new file: %+v %v", e, err)
	}
}

func TestCloseToOpenDoesNotJoinOlderQuestions(t *testing.T) {
	s := newStrange(t, memory.Options{}, uncached)
	s.elsewhere("/f", "old")
	asked, answer := make(chan struct{}), make(chan struct{})
	s.after(remote.OpStat, func() { close(asked); <-answer })
	go func() { _, _ = s.Stat(context.Background(), "/a/f") }()
	<-asked
	s.elsewhere("/f", "newer")
	s.soon("open", func() {
		if got := s.read("/a/f"); got != "newer" {
			t.Errorf("reads %q, which was replaced before the open", got)
		}
	})
	close(answer)
}

func TestListingDoesNotJoinOlderListing(t *testing.T) {
	s := newStrange(t, memory.Options{}, uncached)
	asked, answer := make(chan struct{}), make(chan struct{})
	s.after(remote.OpList, func() { close(asked); <-answer })
	d, err := s.OpenDir(t.Context(), "/a")
	s.must(err)
	<-asked
	s.elsewhere("/f", "x")
	s.soon("listing", func() {
		if got := s.names("/a"); len(got) != 1 {
			t.Errorf("lists %v", got)
		}
	})
	close(answer)
	d.Close()
}

func TestAbsenceIsRememberedBesideAnOldListing(t *testing.T) {
	s := newStrange(t, memory.Options{}, func(b *Branch) { b.DirTTL = time.Second })
	s.names("/a")
	s.pass(10 * time.Second)
	asked := s.count(remote.OpStat)
	for range 5 {
		_, err := s.Stat(t.Context(), "/a/f")
		s.kind(err, remote.NotExist)
	}
	if asked() > 1 {
		t.Errorf("%d requests for one absent name", asked())
	}
	s.elsewhere("/f", "x")
	s.pass(2 * time.Minute)
	if s.size("/a/f") != 1 {
		t.Error("never seen")
	}
}

func TestSecondChmodShowsWhereModesAreNotKept(t *testing.T) {
	s := newStrange(t, memory.Options{}, func(b *Branch) {
		b.Backend = struct{ remote.Backend }{memory.New(memory.Options{NoMode: true, NoMTime: true})}
	})
	s.write("/a/f", "x")
	for i, mode := range []uint32{0o755, 0o600, 0o640} {
		when := time.Unix(int64(1e9+i), 0)
		_, err := s.Setattr(t.Context(), "/a/f", nil, 0, SetAttr{Mode: &mode, MTime: &when})
		s.must(err)
		for range 2 {
			if a, err := s.Stat(t.Context(), "/a/f"); err != nil || a.Mode != mode || !a.MTime.Equal(when) {
				t.Errorf("mode %o, time %v, %v; want %o %v", a.Mode, a.MTime, err, mode, when)
			}
			s.names("/a")
			s.pass(2 * time.Minute)
			s.names("/a")
		}
	}
	h := s.open("/a/f", syscall.O_RDWR)
	defer h.Release()
	s.put(h, "y", 0)
	s.must(h.Flush(t.Context()))
	if a := h.Attr(); a.Mode != 0o640 {
		t.Errorf("mode %o after a write", a.Mode)
	}
}

func TestKeptTimeOfDirectoryEndsWithItsChange(t *testing.T) {
	s := newStrange(t, memory.Options{NoMTime: true})
	_, err := s.Mkdir(t.Context(), "/a/d", 0o755)
	s.must(err)
	old := time.Unix(1_500_000_000, 0)
	_, err = s.Setattr(t.Context(), "/a/d", nil, 0, SetAttr{MTime: &old})
	s.must(err)
	s.write("/a/d/f", "x")
	if a, _ := s.Stat(t.Context(), "/a/d"); !a.MTime.After(old) {
		t.Errorf("the directory still has %v", a.MTime)
	}
}

func TestKeptTimeEndsWithItsContentWithoutVersions(t *testing.T) {
	s := newStrange(t, memory.Options{}, func(b *Branch) {
		b.Backend = versionless{memory.New(memory.Options{NoMTime: true})}
	})
	s.write("/a/f", "one")
	old := time.Unix(1_500_000_000, 0)
	_, err := s.Setattr(t.Context(), "/a/f", nil, 0, SetAttr{MTime: &old})
	s.must(err)
	s.write("/a/f", "two")
	if a, _ := s.Stat(t.Context(), "/a/f"); !a.MTime.After(old) {
		t.Errorf("new content has the time %v of the old", a.MTime)
	}
}

// versionless is a server without validators.
type versionless struct{ remote.Backend }

func (v versionless) Stat(ctx context.Context, path string) (remote.Entry, error) {
	e, err := v.Backend.Stat(ctx, path)
	e.Version = ""
	return e, err
}

func (v versionless) Put(ctx context.Context, path string, src remote.Source, o remote.PutOptions) (remote.Entry, error) {
	e, err := v.Backend.Put(ctx, path, src, o)
	e.Version = ""
	return e, err
}

func TestShakyContentIsNeverMixed(t *testing.T) {
	// The first attempt to read a file with a version that is no proof breaks off;
	// before the next one somebody replaces the content within the same second.
	s := newStrange(t, memory.Options{WeakVersions: true, Granularity: time.Second}, uncached)
	const size = 3 << 20
	s.elsewhere("/f", strings.Repeat("a", size))
	streams := 0
	s.on(func(ctx context.Context, c *remote.Call, next remote.Next) error {
		if c.Op == remote.OpStream {
			if streams++; streams == 3 {
				s.elsewhere("/f", strings.Repeat("b", size))
				return c.Fail(remote.Unavailable, nil)
			}
		}
		return next(ctx)
	})
	h := s.open("/a/f", syscall.O_RDONLY)
	defer h.Release()
	p := make([]byte, size)
	n, err := h.ReadAt(t.Context(), p, 0)
	if err != nil || n != size || !uniform(string(p)) {
		t.Errorf("%d bytes, %v, mixed: %v", n, err, !uniform(string(p[:n])))
	}
}

func TestShakyContentIsNotMixedWhenWrittenInPart(t *testing.T) {
	s := newStrange(t, memory.Options{WeakVersions: true, Granularity: time.Second}, uncached)
	s.elsewhere("/f", strings.Repeat("a", 1000))
	h := s.open("/a/f", syscall.O_RDWR)
	defer h.Release()
	s.put(h, "a", 500)
	p := make([]byte, 100)
	_, err := h.ReadAt(t.Context(), p, 0)
	s.must(err)
	s.elsewhere("/f", strings.Repeat("b", 1000))
	if got := s.readH(h); !uniform(got) {
		t.Errorf("reads a mixture")
	}
	_ = h.Flush(t.Context()) // whether a conflict shows depends on the server
}

func TestDirectoryTimeFollowsItsNames(t *testing.T) {
	w := newWorld(t, memory.Options{})
	_, err := w.Mkdir(t.Context(), "/a/d", 0o755)
	w.must(err)
	old := time.Unix(1_500_000_000, 0)
	_, err = w.Setattr(t.Context(), "/a/d", nil, 0, SetAttr{MTime: &old})
	w.must(err)
	for _, change := range []func(){
		func() { w.write("/a/d/f", "x") },
		func() { w.must(w.Rename(t.Context(), "/a/d/f", "/a/d/g", 0)) },
		func() { w.must(w.Unlink(t.Context(), "/a/d/g")) },
	} {
		_, err = w.Setattr(t.Context(), "/a/d", nil, 0, SetAttr{MTime: &old})
		w.must(err)
		if a, _ := w.Stat(t.Context(), "/a/d"); !a.MTime.Equal(old) {
			t.Fatalf("time was not set: %v", a.MTime)
		}
		change()
		if a, err := w.Stat(t.Context(), "/a/d"); err != nil || !a.MTime.After(old) {
			t.Errorf("directory still has %v (%v)", a.MTime, err)
		}
	}
}

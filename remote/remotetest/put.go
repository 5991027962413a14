package remotetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshmount/meshmount/remote"
)

var putChecks = []check{
	{"Overwrite", checkOverwrite},
	{"PutErrors", checkPutErrors},
	{"PutAttrs", checkPutAttrs},
	{"BadSources", checkBadSources},
	{"SourceUse", checkSourceUse},
	{"AtomicPut", checkAtomicPut},
}

func checkOverwrite(e *env) {
	first := e.put("/f", []byte("first"))
	for i, data := range [][]byte{[]byte("a longer second"), []byte("3"), {}, []byte("again"), []byte("AGAIN")} {
		got := e.put("/f", data)
		e.wantContent("/f", data)
		e.distinct(first, got)
		e.sameEntry(fmt.Sprintf("overwrite %d and stat", i), got, e.stat("/f"))
	}
	if got := e.stat("/f"); got.Type != remote.File {
		e.Errorf("the overwritten file is a %v", got.Type)
	}
	e.wantNames("/", "f")
}

func checkPutErrors(e *env) {
	e.mkdir("/d")
	e.put("/d/kept", []byte("kept"))
	e.put("/f", []byte("file"))
	src := Bytes([]byte("new"))
	_, err := e.b.Put(e.ctx, "/d", src, remote.PutOptions{})
	e.wantKind(err, "put onto a directory", remote.IsDir)
	_, err = e.b.Put(e.ctx, "/none/f", src, remote.PutOptions{})
	e.wantKind(err, "put without a parent", remote.NotExist)
	e.wantNothing("/none")
	_, err = e.b.Put(e.ctx, "/none/deep/f", src, remote.PutOptions{})
	e.wantKind(err, "put without parents", remote.NotExist)
	_, err = e.b.Put(e.ctx, "/f/below", src, remote.PutOptions{})
	e.wantKind(err, "put below a file", remote.NotDir, remote.NotExist)
	e.wantContent("/f", []byte("file"))
	e.wantContent("/d/kept", []byte("kept"))
	e.wantNames("/", "d", "f")
	e.wantNames("/d", "kept")
}

func checkPutAttrs(e *env) {
	when := time.Date(2001, 2, 3, 4, 5, 6, 789_000_000, time.UTC)
	mode := uint32(0o640)
	opts := remote.PutOptions{Attrs: remote.Attrs{MTime: &when, Mode: &mode}}
	made := e.putWith("/f", []byte("1"), opts)
	e.wantAttrs("put and its entry", made, when, mode)
	e.wantAttrs("put and stat", e.stat("/f"), when, mode)
	e.wantAttrs("put and list", e.list("/")["f"], when, mode)
	later := when.Add(1000 * time.Hour)
	opts.Attrs.MTime = &later
	e.wantAttrs("overwrite", e.putWith("/f", []byte("22"), opts), later, mode)
	fresh := e.put("/f", []byte("333"))
	if e.caps.StoresMTime && !fresh.MTime.IsZero() && fresh.MTime.Before(later.Add(time.Hour)) {
		e.Errorf("an overwrite without a time keeps the old time %v", fresh.MTime)
	}
}

// wantAttrs checks time and mode as far as the backend keeps them.
func (e *env) wantAttrs(what string, got remote.Entry, when time.Time, mode uint32) {
	e.Helper()
	if off := got.MTime.Sub(when).Abs(); e.caps.StoresMTime && off > 0 && off >= e.caps.TimeGranularity {
		e.Errorf("%s: time %v, want %v within %v", what, got.MTime, when, e.caps.TimeGranularity)
	}
	if e.caps.StoresMode && (!got.ModeKnown || got.Mode != mode) {
		e.Errorf("%s: mode %o (known %v), want %o", what, got.Mode, got.ModeKnown, mode)
	}
}

// checkBadSources puts sources that fail or end early, small and large, over
// nothing and over an old content.
func checkBadSources(e *env) {
	e.put("/old", []byte("old"))
	large := int64(e.LargeFile)
	for _, s := range []struct{ size, good int64 }{{100, 0}, {100, 50}, {large, 0}, {large, large / 2}, {large, large - 1}} {
		for _, path := range []string{"/old", "/new"} {
			what := fmt.Sprintf("%s: %d of %d bytes", path, s.good, s.size)
			_, err := e.b.Put(e.ctx, path, FailingSource(s.size, s.good), remote.PutOptions{})
			if !errors.Is(err, ErrSource) {
				e.Errorf("%s: the source's error came back as %v", what, err)
			}
			e.wantUntouched(what + ", failing")
			_, err = e.b.Put(e.ctx, path, ShortSource(s.size, s.good), remote.PutOptions{})
			if err == nil {
				e.Errorf("%s: a source that ends early is no error", what)
			}
			e.wantUntouched(what + ", short")
		}
	}
	e.put("/new", []byte("fine"))
	e.wantContent("/new", []byte("fine"))
}

// wantUntouched checks that a failed Put of checkBadSources left nothing, if that
// is promised. Without the promise it makes the old state again.
func (e *env) wantUntouched(what string) {
	e.Helper()
	if !e.caps.AtomicPut {
		e.put("/old", []byte("old"))
		_ = e.b.Remove(e.ctx, "/new", remote.RemoveOptions{Type: remote.File}) // may not be there
		return
	}
	if got := e.read("/old"); string(got) != "old" {
		e.Errorf("%s: the old content is now %d bytes", what, len(got))
	}
	e.wantNothing("/new")
	e.wantNames("/", "old")
}

// countedSource counts what a backend does with a source.
type countedSource struct {
	remote.Source
	open, opened, maxOpen atomic.Int64
}

// Open implements remote.Source.
func (s *countedSource) Open() (io.ReadCloser, error) {
	r, err := s.Source.Open()
	if err != nil {
		return nil, err
	}
	s.opened.Add(1)
	s.maxOpen.Store(max(s.maxOpen.Load(), s.open.Add(1)))
	var once sync.Once
	return struct {
		io.Reader
		io.Closer
	}{r, closer(func() error { once.Do(func() { s.open.Add(-1) }); return r.Close() })}, nil
}

type closer func() error

// Close implements io.Closer.
func (f closer) Close() error { return f() }

// checkSourceUse wants readers closed when Put returns, and one at a time.
func checkSourceUse(e *env) {
	for _, src := range []remote.Source{
		Bytes(nil), Bytes([]byte("x")), Bytes(Pattern(e.LargeFile, 3)),
		FailingSource(1000, 500), FailingSource(int64(e.LargeFile), 1<<20), ShortSource(1000, 10),
	} {
		counted := &countedSource{Source: src}
		_, err := e.b.Put(e.ctx, "/f", counted, remote.PutOptions{})
		if n := counted.open.Load(); n != 0 {
			e.Errorf("%d readers are open after the put (error %v)", n, err)
		}
		if n := counted.maxOpen.Load(); n > 1 {
			e.Errorf("%d readers were open at once", n)
		}
	}
}

// checkAtomicPut reads a file while it is overwritten: each read of the whole must
// be of one version.
func checkAtomicPut(e *env) {
	if !e.caps.AtomicPut {
		e.Log("the backend does not promise it")
		return
	}
	const size, rounds = 200_000, 12
	version := func(i int) []byte { return bytes.Repeat([]byte{byte('a' + i)}, size) }
	e.put("/f", version(0))
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					e.wantUniform(size)
				}
			}
		})
	}
	for i := range rounds {
		if _, err := e.b.Put(e.ctx, "/f", Bytes(version(i)), remote.PutOptions{}); err != nil && !errors.Is(err, remote.Locked) {
			e.Errorf("put %d: %v", i, err)
		}
	}
	close(done)
	readers.Wait()
	e.put("/f", version(rounds))
	e.wantContent("/f", version(rounds))
}

// wantUniform reads /f in one call and checks that all of its bytes are the same.
func (e *env) wantUniform(size int) {
	p := make([]byte, size)
	n, err := e.b.ReadAt(e.ctx, remote.Ref{Path: "/f", Size: -1}, p, 0)
	switch {
	case errors.Is(err, remote.Locked), errors.Is(err, remote.Changed), errors.Is(err, remote.Unavailable):
		return // busy is not wrong
	case err != nil:
		e.Errorf("read during overwrites: %d bytes, %v", n, err)
	case !bytes.Equal(p, bytes.Repeat(p[:1], size)):
		e.Errorf("a reader saw a mixture that begins with %q and ends with %q", p[0], p[size-1])
	}
}

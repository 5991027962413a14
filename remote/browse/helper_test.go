package browse_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/browse"
	"github.com/meshmount/meshmount/remote/memory"
)

// counted counts the calls that reach a backend.
type counted struct {
	remote.Backend
	mu    sync.Mutex
	calls map[remote.Op]int
	bytes int64 // read
}

func count(b remote.Backend) *counted {
	c := &counted{calls: map[remote.Op]int{}}
	c.Backend = remote.Intercept(b, func(ctx context.Context, call *remote.Call, next remote.Next) error {
		err := next(ctx)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.calls[call.Op]++
		c.bytes += int64(call.N)
		return err
	})
	return c
}

// Unwrap implements remote.Unwrapper.
func (c *counted) Unwrap() remote.Backend { return c.Backend }

// took returns what was called since the last time, and the bytes read.
func (c *counted) took() (map[remote.Op]int, int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	calls, n := c.calls, c.bytes
	c.calls, c.bytes = map[remote.Op]int{}, 0
	return calls, n
}

// expect fails the test if something else was called since the last time.
func (c *counted) expect(t *testing.T, what string, want map[remote.Op]int) {
	t.Helper()
	if got, _ := c.took(); !maps.Equal(got, want) {
		t.Errorf("%s: calls %v, want %v", what, got, want)
	}
}

// world is a tree in memory with views over it.
type world struct {
	*testing.T
	below *memory.Backend
	calls *counted
	b     *browse.Backend
}

func newWorld(t *testing.T, below memory.Options, opts browse.Options) *world {
	t.Helper()
	w := &world{T: t, below: memory.New(below)}
	w.calls = count(w.below)
	w.b = browse.Wrap(w.calls, opts)
	t.Cleanup(func() { _ = w.b.Close() })
	return w
}

// source is content for Put.
type source []byte

func (s source) Size() int64                  { return int64(len(s)) }
func (s source) Open() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(s)), nil }

// put stores a file below the views.
func (w *world) put(path string, data []byte) remote.Entry {
	w.Helper()
	e, err := w.below.Put(w.Context(), path, source(data), remote.PutOptions{})
	if err != nil {
		w.Fatal(err)
	}
	return e
}

func (w *world) list(dir string) map[string]remote.Entry {
	w.Helper()
	all := map[string]remote.Entry{}
	err := w.b.List(w.Context(), dir, func(e remote.Entry) error {
		if _, ok := all[e.Path]; ok {
			w.Errorf("%s came twice", e.Path)
		}
		all[e.Path] = e
		return nil
	})
	if err != nil {
		w.Fatalf("list %s: %v", dir, err)
	}
	return all
}

// wantNames checks the paths in a directory.
func (w *world) wantNames(dir string, want ...string) map[string]remote.Entry {
	w.Helper()
	all := w.list(dir)
	got := slices.Sorted(maps.Keys(all))
	slices.Sort(want)
	if !slices.Equal(got, want) {
		w.Errorf("list %s: %q, want %q", dir, got, want)
	}
	return all
}

func (w *world) stat(path string) remote.Entry {
	w.Helper()
	e, err := w.b.Stat(w.Context(), path)
	if err != nil {
		w.Fatalf("stat %s: %v", path, err)
	}
	return e
}

func (w *world) wantKind(what string, err error, kind remote.Kind) {
	w.Helper()
	var re *remote.Error
	if !errors.As(err, &re) || re.Kind != kind {
		w.Errorf("%s: error %v, want kind %v", what, err, kind)
	}
}

// read reads the whole file of an entry.
func (w *world) read(e remote.Entry) ([]byte, error) {
	p := make([]byte, e.Size)
	n, err := w.b.ReadAt(w.Context(), remote.Ref{Path: e.Path, Version: e.Version, Size: e.Size}, p, 0)
	return p[:n], err
}

// tree returns all files below dir with their contents, read in every way.
func (w *world) tree(dir string) map[string]string {
	w.Helper()
	all := map[string]string{}
	for path, e := range w.list(dir) {
		if same := w.stat(path); same != e {
			w.Errorf("stat of %s: %+v, listed as %+v", path, same, e)
		}
		switch e.Type {
		case remote.Dir:
			maps.Copy(all, w.tree(path))
		case remote.Symlink:
			all[path] = "-> " + e.Target
		case remote.File:
			all[path] = w.content(e)
		}
	}
	return all
}

func (w *world) content(e remote.Entry) string {
	w.Helper()
	got, err := w.read(e)
	if err != nil {
		w.Errorf("read %s: %v", e.Path, err)
	}
	opener, ok := remote.As[remote.Opener](w.b)
	if !ok {
		w.Fatal("no Opener")
	}
	r, err := opener.Open(w.Context(), remote.Ref{Path: e.Path, Size: -1})
	if err != nil {
		w.Fatalf("open %s: %v", e.Path, err)
	}
	streamed, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil || !bytes.Equal(got, streamed) {
		w.Errorf("stream of %s: %d bytes for %d, %v", e.Path, len(streamed), len(got), err)
	}
	return string(got)
}

var stamp = time.Date(2025, 6, 7, 8, 9, 10, 0, time.UTC)

// files are members by name; a name that ends in "/" is a directory, one with "->" a
// symbolic link.
type files map[string]string

func (f files) tar(t testing.TB) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, name := range slices.Sorted(maps.Keys(f)) {
		h := &tar.Header{Name: name, Size: int64(len(f[name])), Mode: 0o750, ModTime: stamp, Typeflag: tar.TypeReg}
		if link, target, ok := strings.Cut(name, "->"); ok {
			h = &tar.Header{Name: link, Linkname: target, Typeflag: tar.TypeSymlink}
		} else if strings.HasSuffix(name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f[name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func (f files) zip(t testing.TB, method uint16) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for _, name := range slices.Sorted(maps.Keys(f)) {
		h := &zip.FileHeader{Name: name, Modified: stamp, Method: method, CreatorVersion: 3 << 8, ExternalAttrs: 0o100750 << 16}
		text := f[name]
		if link, target, ok := strings.Cut(name, "->"); ok {
			h.Name, h.ExternalAttrs, text = link, 0o120777<<16, target
		}
		m, err := w.CreateHeader(h)
		if err == nil && !strings.HasSuffix(name, "/") {
			_, err = io.WriteString(m, text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// text returns bytes that can be packed, but not to nothing.
func text(seed uint64, size int) string {
	random := rand.New(rand.NewPCG(seed, seed))
	var b strings.Builder
	for b.Len() < size {
		fmt.Fprintf(&b, "%x ", random.Uint64())
	}
	return b.String()[:size]
}

// eventually waits until ok is true.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it has not come true in two minutes")
		}
	}
}

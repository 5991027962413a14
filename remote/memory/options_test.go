package memory_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
)

// text is a Source over a string.
type text string

func (s text) Size() int64                  { return int64(len(s)) }
func (s text) Open() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(string(s))), nil }

func put(t *testing.T, b remote.Backend, path, content string) remote.Entry {
	t.Helper()
	e, err := b.Put(t.Context(), path, text(content), remote.PutOptions{})
	if err != nil {
		t.Fatalf("put %s: %v", path, err)
	}
	return e
}

func read(t *testing.T, b remote.Backend, path string) string {
	t.Helper()
	r, err := b.(remote.Opener).Open(t.Context(), remote.Ref{Path: path})
	if err != nil {
		t.Fatalf("open %s: %v", path, err)
	}
	defer r.Close()
	var got bytes.Buffer
	if _, err := got.ReadFrom(r); err != nil {
		t.Fatalf("read %s: %v", path, err)
	}
	return got.String()
}

func wantKind(t *testing.T, err error, kind remote.Kind) {
	t.Helper()
	var e *remote.Error
	if !errors.As(err, &e) || e.Kind != kind {
		t.Errorf("got error %v, want one of kind %v", err, kind)
	}
}

func TestQuota(t *testing.T) {
	b := memory.New(memory.Options{Quota: 10, MaxFile: 8})
	put(t, b, "/a", "12345")
	_, err := b.Put(t.Context(), "/b", text("123456"), remote.PutOptions{})
	wantKind(t, err, remote.NoSpace)
	_, err = b.Put(t.Context(), "/b", text("123456789"), remote.PutOptions{})
	wantKind(t, err, remote.TooLarge)
	put(t, b, "/a", "12345678")
	put(t, b, "/b", "12")
	if u, err := b.Usage(t.Context()); err != nil || u != (remote.Usage{Used: 10, Available: 0}) {
		t.Errorf("usage %+v, %v", u, err)
	}
	if err := b.Rename(t.Context(), "/b", "/a", remote.RenameOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := b.Remove(t.Context(), "/a", remote.RemoveOptions{Type: remote.File}); err != nil {
		t.Fatal(err)
	}
	if u, err := b.Usage(t.Context()); err != nil || u != (remote.Usage{Used: 0, Available: 10}) {
		t.Errorf("usage when empty %+v, %v", u, err)
	}
}

func TestReadOnly(t *testing.T) {
	b := memory.New(memory.Options{})
	put(t, b, "/a", "kept")
	b.SetReadOnly(true)
	if !b.Caps().ReadOnly {
		t.Error("Caps do not tell")
	}
	ctx := t.Context()
	_, err := b.Put(ctx, "/a", text("lost"), remote.PutOptions{})
	wantKind(t, err, remote.ReadOnly)
	_, err = b.Mkdir(ctx, "/d")
	wantKind(t, err, remote.ReadOnly)
	_, err = b.Symlink(ctx, "/l", "a")
	wantKind(t, err, remote.ReadOnly)
	_, err = b.SetAttr(ctx, "/a", remote.Attrs{})
	wantKind(t, err, remote.ReadOnly)
	wantKind(t, b.Rename(ctx, "/a", "/b", remote.RenameOptions{}), remote.ReadOnly)
	wantKind(t, b.Remove(ctx, "/a", remote.RemoveOptions{Type: remote.File}), remote.ReadOnly)
	if got := read(t, b, "/a"); got != "kept" {
		t.Errorf("content is %q", got)
	}
}

func TestNames(t *testing.T) {
	b := memory.New(memory.Options{MaxName: 5, RefuseName: func(n string) bool { return n == "con" }})
	_, err := b.Put(t.Context(), "/123456", text(""), remote.PutOptions{})
	wantKind(t, err, remote.NameTooLong)
	_, err = b.Mkdir(t.Context(), "/con")
	wantKind(t, err, remote.Invalid)
	put(t, b, "/12345", "")
	wantKind(t, b.Rename(t.Context(), "/12345", "/con", remote.RenameOptions{}), remote.Invalid)
}

func TestInPlacePut(t *testing.T) {
	b := memory.New(memory.Options{InPlacePut: true})
	put(t, b, "/a", "the old content")
	broken := brokenSource{size: 100, good: "new"}
	_, err := b.Put(t.Context(), "/a", broken, remote.PutOptions{})
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error is %v, not the source's", err)
	}
	if got := read(t, b, "/a"); got != "new" {
		t.Errorf("content is %q, want the torn %q", got, "new")
	}
}

// brokenSource promises size bytes and fails after good.
type brokenSource struct {
	size int64
	good string
}

func (s brokenSource) Size() int64 { return s.size }
func (s brokenSource) Open() (io.ReadCloser, error) {
	r, w := io.Pipe()
	go func() {
		_, _ = io.WriteString(w, s.good)
		w.CloseWithError(io.ErrUnexpectedEOF)
	}()
	return r, nil
}

func TestWeakVersions(t *testing.T) {
	now := time.Unix(1000, 0)
	b := memory.New(memory.Options{
		WeakVersions: true, Granularity: time.Second, Clock: func() time.Time { return now },
	})
	first := put(t, b, "/a", "one")
	second := put(t, b, "/a", "two")
	if first.Version != second.Version || !first.Provisional || !second.Provisional {
		t.Errorf("versions are not weak and provisional: %+v, %+v", first, second)
	}
	now = now.Add(time.Second)
	settled, err := b.Stat(t.Context(), "/a")
	if err != nil || settled.Provisional || settled.Version != second.Version {
		t.Errorf("version has not settled: %+v, %v", settled, err)
	}
	if third := put(t, b, "/a", "six"); third.Version == settled.Version {
		t.Error("a later change has the version of a settled one")
	}
}

func TestPropagation(t *testing.T) {
	for _, on := range []bool{false, true} {
		b := memory.New(memory.Options{Propagate: on})
		for _, dir := range []string{"/d", "/d/e"} {
			if _, err := b.Mkdir(t.Context(), dir); err != nil {
				t.Fatal(err)
			}
		}
		put(t, b, "/d/e/f", "1")
		before := version(t, b, "/d")
		put(t, b, "/d/e/f", "2")
		if changed := version(t, b, "/d") != before; changed != on {
			t.Errorf("propagate %v: version of /d changed: %v", on, changed)
		}
	}
}

func version(t *testing.T, b remote.Backend, path string) string {
	t.Helper()
	e, err := b.Stat(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return e.Version
}

func TestAttrOptions(t *testing.T) {
	when, mode := time.Unix(5, 0), uint32(0o640)
	attrs := remote.Attrs{MTime: &when, Mode: &mode}
	b := memory.New(memory.Options{NoMTime: true, NoMode: true, AttrVersions: true, Checksums: true,
		Access: remote.AccessKnown | remote.AccessRead})
	made := put(t, b, "/a", "x")
	e, err := b.SetAttr(t.Context(), "/a", attrs)
	if err != nil || e.MTime.Equal(when) || e.ModeKnown {
		t.Errorf("attributes were not dropped: %+v, %v", e, err)
	}
	if e.Version == made.Version {
		t.Error("version did not change")
	}
	if e.Access.Can(remote.AccessWrite) || !e.Access.Can(remote.AccessRead) {
		t.Errorf("access is %b", e.Access)
	}
	const sum = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881" // of "x"
	if e.Checksum != (remote.Checksum{Algorithm: "sha256", Hex: sum}) {
		t.Errorf("checksum is %+v", e.Checksum)
	}
}

// TestJournal makes more changes than are remembered; a new directory counts twice.
func TestJournal(t *testing.T) {
	b := memory.New(memory.Options{Journal: 4})
	first, err := b.Changed(t.Context(), "/", "")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if _, err := b.Mkdir(t.Context(), fmt.Sprint("/", i)); err != nil {
			t.Fatal(err)
		}
		c, err := b.Changed(t.Context(), "/", first.Mark)
		if err != nil || i < 2 && (c.All || len(c.Dirs) == 0) || i > 12 && !c.All {
			t.Errorf("after %d changes: %+v, %v", i+1, c, err)
		}
	}
}

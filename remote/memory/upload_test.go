package memory_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
)

// growing is a remote.Growing that has grown.
type growing struct {
	io.ReaderAt
	size int64
}

func (g growing) Wait(context.Context, int64) (int64, bool, error) { return g.size, true, nil }
func (growing) Attrs() remote.Attrs                                { return remote.Attrs{} }

func patchOf(size, off int64, text string) remote.Patch {
	return remote.Patch{
		Size: size, Ranges: []remote.ByteRange{{Offset: off, Length: int64(len(text))}},
		Bytes: io.NewSectionReader(strings.NewReader(strings.Repeat(" ", int(off))+text), 0, size),
	}
}

func of(e remote.Entry, redo bool) remote.PutOptions {
	return remote.PutOptions{Cond: remote.Cond{Version: e.Version}, Redo: redo}
}

func wantTorn(t *testing.T, b remote.Backend, path string) {
	t.Helper()
	_, err := b.ReadAt(t.Context(), remote.Ref{Path: path, Size: -1}, make([]byte, 1), 0)
	wantKind(t, err, remote.Corrupt)
}

// TestTear tears a file: only what repeats the change of its version makes it whole.
func TestTear(t *testing.T) {
	b := memory.New(memory.Options{})
	base := put(t, b, "/f", "base")
	if err := b.Tear("/f"); err != nil {
		t.Fatal(err)
	}
	wantTorn(t, b, "/f")
	torn, err := b.Stat(t.Context(), "/f")
	if err != nil || torn.Version == base.Version || torn.Size != 4 {
		t.Errorf("the torn file is %+v, %v", torn, err)
	}
	_, err = b.Put(t.Context(), "/f", text("new"), of(base, false))
	wantKind(t, err, remote.Conflict)
	_, err = b.Patch(t.Context(), "/f", patchOf(4, 1, "u"), of(base, false))
	wantKind(t, err, remote.Conflict)
	_, err = b.Patch(t.Context(), "/f", patchOf(4, 1, "u"), of(remote.Entry{Version: "other"}, true))
	wantKind(t, err, remote.Conflict)
	_, err = b.Put(t.Context(), "/f", text("new"), remote.PutOptions{Cond: remote.Cond{NotExist: true}, Redo: true})
	wantKind(t, err, remote.Exist)
	wantTorn(t, b, "/f")
	if _, err := b.Patch(t.Context(), "/f", patchOf(4, 1, "u"), of(base, true)); err != nil {
		t.Error(err)
	}
	if got := read(t, b, "/f"); got != "buse" {
		t.Errorf("the content is %q", got)
	}
	_, err = b.Patch(t.Context(), "/f", patchOf(4, 1, "u"), of(base, true))
	wantKind(t, err, remote.Conflict) // it is whole
	if err := b.Tear("/f"); err != nil {
		t.Fatal(err)
	}
	put(t, b, "/f", "whole")
	if got := read(t, b, "/f"); got != "whole" {
		t.Errorf("the content is %q", got)
	}
	wantKind(t, b.Tear("/none"), remote.NotExist)
	wantKind(t, b.Tear("/"), remote.Invalid)
}

// TestPatchCut cuts a patch off in the middle.
func TestPatchCut(t *testing.T) {
	b := memory.New(memory.Options{Quota: 20})
	base := put(t, b, "/f", "0123456789")
	p := patchOf(12, 2, "ab")
	p.Ranges = append(p.Ranges, remote.ByteRange{Offset: 11, Length: 1})
	p.Bytes = io.NewSectionReader(p.Bytes, 0, 4) // the second range is not there
	_, err := b.Patch(t.Context(), "/f", p, of(base, false))
	wantKind(t, err, remote.Invalid)
	var e *remote.Error
	if !errors.As(err, &e) || !e.Unsure {
		t.Errorf("the error is %+v", e)
	}
	wantTorn(t, b, "/f")
	p.Bytes = strings.NewReader("  ab       c")
	if e, err := b.Patch(t.Context(), "/f", p, of(base, true)); err != nil || e.Size != 12 {
		t.Errorf("%+v, %v", e, err)
	}
	if got := read(t, b, "/f"); got != "01ab456789\x00c" {
		t.Errorf("the content is %q", got)
	}
	if u, err := b.Usage(t.Context()); err != nil || u.Used != 12 {
		t.Errorf("usage %+v, %v", u, err)
	}
	_, err = b.Patch(t.Context(), "/f", patchOf(21, 2, "x"), of(base, true))
	wantKind(t, err, remote.Conflict)
	now, err := b.Stat(t.Context(), "/f")
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Patch(t.Context(), "/f", patchOf(21, 2, "x"), of(now, false))
	wantKind(t, err, remote.NoSpace)
	if got := read(t, b, "/f"); got != "01ab456789\x00c" {
		t.Errorf("the content after a patch that has no space is %q", got)
	}
}

// TestPatchForm refuses what is not well formed.
func TestPatchForm(t *testing.T) {
	b := memory.New(memory.Options{})
	base := put(t, b, "/f", "0123456789")
	r := func(all ...int64) (ranges []remote.ByteRange) {
		for i := 0; i < len(all); i += 2 {
			ranges = append(ranges, remote.ByteRange{Offset: all[i], Length: all[i+1]})
		}
		return ranges
	}
	for _, p := range []remote.Patch{
		{Size: -1},
		{Size: 10, Ranges: r(5, 1, 2, 1)},
		{Size: 10, Ranges: r(2, 3, 4, 1)},
		{Size: 10, Ranges: r(2, 3, 5, 1)},
		{Size: 10, Ranges: r(2, 0)},
		{Size: 10, Ranges: r(9, 2)},
		{Size: 10, Ranges: r(-1, 2)},
	} {
		_, err := b.Patch(t.Context(), "/f", p, of(base, false))
		wantKind(t, err, remote.Invalid)
	}
	_, err := b.Patch(t.Context(), "/f", remote.Patch{Size: 10}, remote.PutOptions{})
	wantKind(t, err, remote.Invalid)
	if got := read(t, b, "/f"); got != "0123456789" {
		t.Errorf("the content is %q", got)
	}
}

// overtaking changes the file while it is patched.
type overtaking struct {
	io.ReaderAt
	change func()
}

func (o overtaking) ReadAt(p []byte, off int64) (int, error) {
	o.change()
	return o.ReaderAt.ReadAt(p, off)
}

// TestPatchBusy reads and changes a file while it is patched.
func TestPatchBusy(t *testing.T) {
	b := memory.New(memory.Options{})
	base := put(t, b, "/f", "0123456789")
	p := patchOf(10, 2, "ab")
	p.Bytes = overtaking{p.Bytes, func() {
		_, err := b.ReadAt(t.Context(), remote.Ref{Path: "/f", Size: -1}, make([]byte, 1), 0)
		wantKind(t, err, remote.Locked)
		put(t, b, "/f", "theirs")
	}}
	_, err := b.Patch(t.Context(), "/f", p, of(base, false))
	wantKind(t, err, remote.Conflict)
	if got := read(t, b, "/f"); got != "theirs" {
		t.Errorf("the content is %q", got)
	}
}

// TestRedoInPlace cuts an upload off that is made in place, and repeats it.
func TestRedoInPlace(t *testing.T) {
	for name, exists := range map[string]bool{"over a file": true, "new": false} {
		b := memory.New(memory.Options{InPlacePut: true})
		opts := remote.PutOptions{Cond: remote.Cond{NotExist: true}}
		if exists {
			opts = of(put(t, b, "/f", "base"), false)
		}
		broken := brokenSource{size: 100, good: "torn"}
		for range 2 {
			if _, err := b.Put(t.Context(), "/f", broken, opts); err == nil {
				t.Errorf("%s: the source's error is lost", name)
			}
			if _, err := b.Put(t.Context(), "/f", text("new"), opts); err == nil {
				t.Errorf("%s: a torn file passes for one of the old version", name)
			}
			opts.Redo = true
			if _, err := b.Put(t.Context(), "/f", broken, opts); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s: a repeat that breaks as well: %v", name, err)
			}
			opts.Redo = false
		}
		opts.Redo = true
		if _, err := b.Put(t.Context(), "/f", text("new"), opts); err != nil {
			t.Errorf("%s: the repeat: %v", name, err)
		}
		if _, err := b.Put(t.Context(), "/f", text("more"), opts); err == nil {
			t.Errorf("%s: a whole file passes for a torn one", name)
		}
		if got := read(t, b, "/f"); got != "new" {
			t.Errorf("%s: the content is %q", name, got)
		}
	}
}

// TestResume sends an upload in two parts.
func TestResume(t *testing.T) {
	b := memory.New(memory.Options{})
	opts := remote.PutOptions{Resume: "one"}
	if _, err := b.Put(t.Context(), "/f", brokenSource{size: 11, good: "hello "}, opts); err == nil {
		t.Error("the source's error is lost")
	}
	other := remote.PutOptions{Resume: "two"}
	if _, err := b.Put(t.Context(), "/f", text("other bytes"), other); err != nil {
		t.Error(err)
	}
	if got := read(t, b, "/f"); got != "other bytes" || b.Resumed() != 0 {
		t.Errorf("the content is %q after %d resumed bytes", got, b.Resumed())
	}
	for range 2 {
		if _, err := b.Put(t.Context(), "/f", text("hello world"), opts); err != nil {
			t.Error(err)
		}
		if got := read(t, b, "/f"); got != "hello world" || b.Resumed() != 6 {
			t.Errorf("the content is %q after %d resumed bytes", got, b.Resumed())
		}
	}
}

// TestGrowingQuota ends a growing upload when the quota does.
func TestGrowingQuota(t *testing.T) {
	b := memory.New(memory.Options{Quota: 10})
	g := growing{strings.NewReader(strings.Repeat("x", 11)), 11}
	_, err := b.PutGrowing(t.Context(), "/f", g, remote.PutOptions{})
	wantKind(t, err, remote.NoSpace)
	g.size = 10
	if _, err := b.PutGrowing(t.Context(), "/f", g, remote.PutOptions{}); err != nil {
		t.Error(err)
	}
	g.size = 12
	if _, err := b.PutGrowing(t.Context(), "/f", g, remote.PutOptions{}); err == nil {
		t.Error("content that is shorter than told was stored")
	}
	if got := read(t, b, "/f"); got != strings.Repeat("x", 10) {
		t.Errorf("the content is %q", got)
	}
}

// TestGrowingInPlace shows a growing file over an old one, and not a new one.
func TestGrowingInPlace(t *testing.T) {
	b := memory.New(memory.Options{InPlacePut: true})
	put(t, b, "/old", "the old content")
	for path, cond := range map[string]remote.Cond{"/old": {}, "/new": {NotExist: true}} {
		seen := ""
		g := growing{overtaking{strings.NewReader(strings.Repeat("x", 100_000)), func() {
			if e, err := b.Stat(t.Context(), path); err == nil {
				seen = read(t, b, e.Path)
			}
		}}, 100_000}
		if _, err := b.PutGrowing(t.Context(), path, g, remote.PutOptions{Cond: cond}); err != nil {
			t.Error(err)
		}
		if half := len(seen) == 64<<10; half == cond.NotExist {
			t.Errorf("%s: a reader saw %d bytes by the way", path, len(seen))
		}
	}
}

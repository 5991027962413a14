package fs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
)

func TestTreeOfBranches(t *testing.T) {
	w := newWorld(t, memory.Options{})
	if got := w.names("/"); !slices.Equal(got, []string{"a", "deep"}) {
		t.Errorf("root holds %v", got)
	}
	if got := w.names("/deep"); !slices.Equal(got, []string{"b"}) {
		t.Errorf("synthetic directory holds %v", got)
	}
	a, err := w.Stat(t.Context(), "/deep")
	if err != nil || a.Type != remote.Dir || a.Mode != 0o555 || a.UID != 7 || a.GID != 8 {
		t.Errorf("synthetic directory: %+v %v", a, err)
	}
	_, err = w.Mkdir(t.Context(), "/deep/new", 0o755)
	w.kind(err, remote.ReadOnly)
	w.kind(w.Rmdir(t.Context(), "/a"), remote.Locked)
	w.write("/a/f", "x")
	w.kind(w.Rename(t.Context(), "/a/f", "/deep/b/f", 0), remote.CrossDevice)
	_, err = w.Stat(t.Context(), "/none/at/all")
	w.kind(err, remote.NotExist)
}

func TestNestedBranchShowsWithoutParentOnServer(t *testing.T) {
	inner := memory.New(memory.Options{})
	w := newWorld(t, memory.Options{}, func(b *[]Branch) {
		*b = append(*b, Branch{Prefix: "/a/not/there", Backend: inner})
	})
	if got := w.names("/a"); !slices.Equal(got, []string{"not"}) {
		t.Errorf("outer branch shows %v", got)
	}
	if got := w.names("/a/not"); !slices.Equal(got, []string{"there"}) {
		t.Errorf("way to the inner branch shows %v", got)
	}
	w.write("/a/not/there/f", "inner")
	if e, err := inner.Stat(t.Context(), "/f"); err != nil || e.Size != 5 {
		t.Errorf("%+v %v", e, err)
	}
}

func TestNewFileIsPutAtCloseOnly(t *testing.T) {
	w := newWorld(t, memory.Options{})
	h, a, err := w.Create(t.Context(), "/a/f", syscall.O_WRONLY|syscall.O_EXCL, 0o644)
	w.must(err)
	w.put(h, "hello", 0)
	if got := w.server("/f"); got != "<does not exist>" {
		t.Errorf("before close the server has %q", got)
	}
	if got := w.names("/a"); !slices.Equal(got, []string{"f"}) || w.size("/a/f") != 5 || w.read("/a/f") != "hello" {
		t.Error("the new file does not show here")
	}
	_, _, err = w.Create(t.Context(), "/a/f", syscall.O_EXCL|syscall.O_WRONLY, 0o644)
	w.kind(err, remote.Exist)
	w.must(h.Flush(t.Context()))
	if got := w.server("/f"); got != "hello" {
		t.Errorf("after close the server has %q", got)
	}
	h.Release()
	if b, err := w.Stat(t.Context(), "/a/f"); err != nil || b.Ino != a.Ino || !b.MTime.Equal(a.MTime) && b.MTime.Before(a.MTime) {
		t.Errorf("%+v %v", b, err)
	}
}

func TestPartialOverwriteKeepsTheRest(t *testing.T) {
	w := newWorld(t, memory.Options{})
	w.elsewhere("/f", "0123456789")
	h := w.open("/a/f", syscall.O_RDWR)
	defer h.Release()
	w.put(h, "ab", 4)
	w.put(h, "zz", 12)
	if got, want := w.readH(h), "0123ab6789\x00\x00zz"; got != want {
		t.Errorf("reads %q, want %q", got, want)
	}
	w.must(h.Truncate(t.Context(), 7))
	w.must(h.Truncate(t.Context(), 9))
	w.must(h.Flush(t.Context()))
	if got, want := w.server("/f"), "0123ab6\x00\x00"; got != want {
		t.Errorf("server has %q, want %q", got, want)
	}
}

func TestAppendIgnoresOffset(t *testing.T) {
	w := newWorld(t, memory.Options{})
	w.elsewhere("/f", "one")
	h := w.open("/a/f", syscall.O_WRONLY|syscall.O_APPEND)
	w.put(h, "two", 0)
	w.must(h.Flush(t.Context()))
	h.Release()
	if got := w.server("/f"); got != "onetwo" {
		t.Errorf("server has %q", got)
	}
}

func TestHandleKeepsItsVersion(t *testing.T) {
	w := newWorld(t, memory.Options{}, func(b *[]Branch) { (*b)[0].AttrTTL = 0 })
	w.elsewhere("/f", "old content")
	h := w.open("/a/f", syscall.O_RDONLY)
	defer h.Release()
	before, _ := w.Stat(t.Context(), "/a/f")
	w.elsewhere("/f", "new content, longer")
	h2 := w.open("/a/f", syscall.O_RDONLY)
	defer h2.Release()
	if got := w.readH(h2); got != "new content, longer" {
		t.Errorf("a new open reads %q", got)
	}
	_, err := h.ReadAt(t.Context(), make([]byte, 5), 0)
	w.kind(err, remote.Changed)
	after, _ := w.Stat(t.Context(), "/a/f")
	if after.Ino == before.Ino || after.Size != 19 {
		t.Errorf("the name still has the old object: %+v", after)
	}
	if a, ok := w.StatOpen(before.Ino); !ok || a.Size != 11 {
		t.Errorf("the open handle lost its attributes: %+v %v", a, ok)
	}
}

func TestConflictKeepsBothContents(t *testing.T) {
	w := newWorld(t, memory.Options{})
	w.elsewhere("/f", "base")
	h := w.open("/a/f", syscall.O_RDWR)
	w.put(h, "ours", 0)
	w.elsewhere("/f", "theirs")
	w.kind(h.Flush(t.Context()), remote.Conflict)
	if got := w.server("/f"); got != "theirs" {
		t.Errorf("server has %q", got)
	}
	var copies []string
	for _, n := range w.names("/a") {
		if strings.HasPrefix(n, "f.conflict-node1-") {
			copies = append(copies, n)
		}
	}
	if len(copies) != 1 || w.server("/"+copies[0]) != "ours" {
		t.Errorf("conflict copies: %v", copies)
	}
	h.Release()
	if got := w.read("/a/f"); got != "theirs" {
		t.Errorf("the name reads %q", got)
	}
}

func TestEditWinsOverRemoval(t *testing.T) {
	w := newWorld(t, memory.Options{})
	w.elsewhere("/f", "base")
	h := w.open("/a/f", syscall.O_RDWR)
	w.put(h, "ours", 0)
	w.must(w.a.Remove(t.Context(), "/f", remote.RemoveOptions{Type: remote.File}))
	w.must(h.Flush(t.Context()))
	h.Release()
	if got := w.server("/f"); got != "ours" {
		t.Errorf("server has %q", got)
	}
}

func TestUnlinkWhileOpen(t *testing.T) {
	w := newWorld(t, memory.Options{})
	w.elsewhere("/f", "still here")
	h := w.open("/a/f", syscall.O_RDWR)
	ino := h.Attr().Ino
	w.must(w.Unlink(t.Context(), "/a/f"))
	if got := w.server("/f"); got != "<does not exist>" {
		t.Errorf("server has %q", got)
	}
	_, err := w.Stat(t.Context(), "/a/f")
	w.kind(err, remote.NotExist)
	if got := w.readH(h); got != "still here" {
		t.Errorf("handle reads %q", got)
	}
	w.put(h, "STILL", 0)
	if a, ok := w.StatOpen(ino); !ok || a.Nlink != 0 || a.Size != 10 {
		t.Errorf("%+v %v", a, ok)
	}
	w.write("/a/f", "another")
	if a, _ := w.Stat(t.Context(), "/a/f"); a.Ino == ino {
		t.Error("a new file has the number of one that is still open")
	}
	size := int64(3)
	if _, err := w.Setattr(t.Context(), "/a/f", nil, ino, SetAttr{Size: &size}); err != nil || w.readH(h) != "STI" {
		t.Errorf("truncate of the removed file: %v", err)
	}
	w.must(h.Flush(t.Context()))
	h.Release()
	if got := w.server("/f"); got != "another" {
		t.Errorf("the removed file came back: %q", got)
	}
}

func TestRenameWhileOpen(t *testing.T) {
	w := newWorld(t, memory.Options{})
	w.elsewhere("/target", "old")
	old := w.open("/a/target", syscall.O_RDONLY)
	defer old.Release()
	h, _, err := w.Create(t.Context(), "/a/tmp", syscall.O_RDWR, 0o644)
	w.must(err)
	w.put(h, "new", 0)
	ino := h.Attr().Ino
	w.must(w.Rename(t.Context(), "/a/tmp", "/a/target", 0))
	if got := w.server("/target"); got != "new" {
		t.Errorf("server has %q", got)
	}
	if got := w.readH(old); got != "old" {
		t.Errorf("the replaced file reads %q", got)
	}
	w.put(h, "newer", 0)
	w.must(h.Flush(t.Context()))
	h.Release()
	if got := w.server("/target"); got != "newer" || w.server("/tmp") != "<does not exist>" {
		t.Errorf("server has %q", got)
	}
	if a, _ := w.Stat(t.Context(), "/a/target"); a.Ino != ino {
		t.Error("the inode number did not move with the file")
	}
}

func TestRenameDirectoryWithOpenFiles(t *testing.T) {
	w := newWorld(t, memory.Options{})
	_, err := w.Mkdir(t.Context(), "/a/d", 0o755)
	w.must(err)
	h, _, err := w.Create(t.Context(), "/a/d/f", syscall.O_RDWR, 0o600)
	w.must(err)
	w.put(h, "data", 0)
	w.kind(w.Rmdir(t.Context(), "/a/d"), remote.NotEmpty)
	w.must(w.Rename(t.Context(), "/a/d", "/a/e", 0))
	if got := w.read("/a/e/f"); got != "data" {
		t.Errorf("reads %q", got)
	}
	w.must(h.Flush(t.Context()))
	h.Release()
	if got := w.server("/e/f"); got != "data" {
		t.Errorf("server has %q", got)
	}
	if a, err := w.Stat(t.Context(), "/a/e/f"); err != nil || a.Mode != 0o600 {
		t.Errorf("%+v %v", a, err)
	}
	_, err = w.Stat(t.Context(), "/a/d/f")
	w.kind(err, remote.NotExist)
}

func TestTruncateByPathIsPutAtOnce(t *testing.T) {
	w := newWorld(t, memory.Options{})
	w.elsewhere("/f", "0123456789")
	size := int64(4)
	a, err := w.Setattr(t.Context(), "/a/f", nil, 0, SetAttr{Size: &size})
	if err != nil || a.Size != 4 || w.server("/f") != "0123" {
		t.Errorf("%+v %v %q", a, err, w.server("/f"))
	}
}

func TestTimesAndModesReachTheServer(t *testing.T) {
	w := newWorld(t, memory.Options{})
	when := time.Unix(1_500_000_000, 0)
	mode := uint32(0o755)
	h, _, err := w.Create(t.Context(), "/a/f", syscall.O_WRONLY, 0o640)
	w.must(err)
	w.put(h, "x", 0)
	_, err = w.Setattr(t.Context(), "/a/f", h, 0, SetAttr{MTime: &when, Mode: &mode})
	w.must(err)
	w.must(h.Flush(t.Context()))
	h.Release()
	w.drain()
	e, err := w.a.Stat(t.Context(), "/f")
	if err != nil || !e.MTime.Equal(when) || e.Mode != 0o755 {
		t.Errorf("%+v %v", e, err)
	}
	mode = 0o400
	later := when.Add(time.Hour)
	a, err := w.Setattr(t.Context(), "/a/f", nil, 0, SetAttr{MTime: &later, Mode: &mode})
	w.drain()
	if e, _ := w.a.Stat(t.Context(), "/f"); err != nil || a.Mode != 0o400 || e.Mode != 0o400 || !e.MTime.Equal(later) {
		t.Errorf("%+v %+v %v", a, e, err)
	}
	uid := uint32(99)
	_, err = w.Setattr(t.Context(), "/a/f", nil, 0, SetAttr{UID: &uid})
	if w.kind(err, remote.Permission); !errors.Is(err, syscall.EPERM) {
		t.Errorf("chown: %v", err)
	}
}

func TestAttributesTheServerCannotKeep(t *testing.T) {
	w := newWorld(t, memory.Options{NoMode: true, NoMTime: true})
	w.write("/a/f", "x")
	when, mode := time.Unix(1_500_000_000, 0), uint32(0o755)
	_, err := w.Setattr(t.Context(), "/a/f", nil, 0, SetAttr{MTime: &when, Mode: &mode})
	w.must(err)
	w.must(w.Rename(t.Context(), "/a/f", "/a/g", 0))
	if a, err := w.Stat(t.Context(), "/a/g"); err != nil || !a.MTime.Equal(when) || a.Mode != 0o755 {
		t.Errorf("the mount does not remember: %+v %v", a, err)
	}
	w.write("/a/g", "changed")
	if a, _ := w.Stat(t.Context(), "/a/g"); a.MTime.Equal(when) || a.Mode != 0o755 {
		t.Errorf("after a change: %+v", a)
	}
}

func TestServerErrorComesFromCloseAndContentIsParked(t *testing.T) {
	w := newWorld(t, memory.Options{Quota: 10})
	h, _, err := w.Create(t.Context(), "/a/big", syscall.O_RDWR, 0o644)
	w.must(err)
	w.put(h, "more than ten bytes", 0)
	w.kind(h.Flush(t.Context()), remote.NoSpace)
	h.Release()
	if got := w.server("/big"); got != "<does not exist>" {
		t.Errorf("server has %q", got)
	}
	files, err := filepath.Glob(filepath.Join(w.park, "big.*"))
	if err != nil || len(files) != 2 {
		t.Fatalf("parked: %v %v", files, err)
	}
	slices.SortFunc(files, func(a, b string) int { return len(a) - len(b) })
	data, _ := os.ReadFile(files[0])
	var p parked
	note, _ := os.ReadFile(files[1])
	w.must(json.Unmarshal(note, &p))
	if string(data) != "more than ten bytes" || p.Path != "/a/big" || !p.Complete || p.Size != 19 || p.Cause == "" {
		t.Errorf("parked %q as %+v", data, p)
	}
	_, err = w.Stat(t.Context(), "/a/big")
	w.kind(err, remote.NotExist)
}

func TestReadOnlyBranch(t *testing.T) {
	w := newWorld(t, memory.Options{}, func(b *[]Branch) { (*b)[0].ReadOnly = true })
	w.elsewhere("/f", "x")
	_, err := w.Open(t.Context(), "/a/f", syscall.O_WRONLY)
	w.kind(err, remote.ReadOnly)
	w.kind(w.Unlink(t.Context(), "/a/f"), remote.ReadOnly)
	if a, _ := w.Stat(t.Context(), "/a/f"); a.Mode != 0o444 {
		t.Errorf("mode %#o", a.Mode)
	}
	if w.read("/a/f") != "x" {
		t.Error("cannot read")
	}
}

func TestServerPermissionsShowInMode(t *testing.T) {
	w := newWorld(t, memory.Options{Access: remote.AccessKnown | remote.AccessRead})
	w.elsewhere("/f", "x")
	if a, _ := w.Stat(t.Context(), "/a/f"); a.Mode != 0o444 {
		t.Errorf("mode %#o", a.Mode)
	}
	_, err := w.Open(t.Context(), "/a/f", syscall.O_WRONLY)
	w.kind(err, remote.Permission)
	_, _, err = w.Create(t.Context(), "/a/g", syscall.O_WRONLY, 0o644)
	w.kind(err, remote.Permission)
}

func TestServerWithoutRangesIsReadOnce(t *testing.T) {
	w := newWorld(t, memory.Options{NoRanges: true})
	w.elsewhere("/f", strings.Repeat("0123456789", 1000))
	h := w.open("/a/f", syscall.O_RDONLY)
	defer h.Release()
	p := make([]byte, 10)
	for off := int64(0); off < 10000; off += 10 {
		if n, err := h.ReadAt(t.Context(), p, off); err != nil || n != 10 || string(p) != "0123456789" {
			t.Fatalf("at %d: %d %v %q", off, n, err, p)
		}
	}
	h.x.mu.Lock()
	defer h.x.mu.Unlock()
	if h.x.stage == nil || h.x.dirty {
		t.Error("the file was not brought here in one piece")
	}
}

func TestSymlinks(t *testing.T) {
	w := newWorld(t, memory.Options{})
	_, err := w.Symlink(t.Context(), "/a/l", "some/where")
	w.must(err)
	if s, err := w.Readlink(t.Context(), "/a/l"); err != nil || s != "some/where" {
		t.Errorf("%q %v", s, err)
	}
	a, err := w.Stat(t.Context(), "/a/l")
	if err != nil || a.Type != remote.Symlink || a.Size != 10 || a.Mode != 0o777 {
		t.Errorf("%+v %v", a, err)
	}
	w.must(w.Unlink(t.Context(), "/a/l"))
	_, err = w.Readlink(t.Context(), "/a/l")
	w.kind(err, remote.NotExist)
}

func TestXattrs(t *testing.T) {
	w := newWorld(t, memory.Options{Checksums: true})
	w.elsewhere("/f", "x")
	for name, want := range map[string]string{"state": "clean", "branch": "/a", "checksum": "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"} {
		if v, err := w.GetXattr(t.Context(), "/a/f", "user.meshmount."+name); err != nil || string(v) != want {
			t.Errorf("%s: %q %v", name, v, err)
		}
	}
	if _, err := w.GetXattr(t.Context(), "/a/f", "user.other"); !errors.Is(err, remote.NoXattr) {
		t.Error(err)
	}
	if v, err := w.GetXattr(t.Context(), "/", "user.meshmount.pid"); err != nil || string(v) != fmt.Sprint(os.Getpid()) {
		t.Errorf("%q %v", v, err)
	}
	names, err := w.ListXattr(t.Context(), "/a/f")
	if err != nil || !slices.Contains(names, "user.meshmount.version") {
		t.Errorf("%v %v", names, err)
	}
	w.kind(w.SetXattr(t.Context(), "/a/f", "user.meshmount.state", nil, 0), remote.Unsupported)
	w.kind(w.SetXattr(t.Context(), "/a/f", "user.x", nil, 0), remote.Unsupported)
}

func TestStatfsNeverWaits(t *testing.T) {
	w := newWorld(t, memory.Options{Quota: 1000})
	w.elsewhere("/f", strings.Repeat("x", 100))
	if s := w.Statfs("/a"); s.Total != unlimited {
		t.Errorf("the first answer waited: %+v", s)
	}
	for range 50_000 {
		if s := w.Statfs("/a"); s.Total == 1000 && s.Avail == 900 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("never updated: %+v", w.Statfs("/a"))
}

func TestHugeDirectoryGoesThroughTheSpool(t *testing.T) {
	w := newWorld(t, memory.Options{})
	const n = maxKeepDir + 1000
	for i := range n {
		w.elsewhere(fmt.Sprintf("/f\xff%06d", i), "")
	}
	w.write("/a/mine", "x")
	d, err := w.OpenDir(t.Context(), "/a")
	w.must(err)
	defer d.Close()
	for round := range 2 {
		seen := map[string]bool{}
		for {
			e, err := d.Next(t.Context())
			if err == io.EOF {
				break
			}
			w.must(err)
			if seen[e.Name] {
				t.Fatalf("%q twice", e.Name)
			}
			seen[e.Name] = true
		}
		if len(seen) != n+1 || !seen["f\xff000000"] || !seen["mine"] {
			t.Fatalf("round %d: %d entries", round, len(seen))
		}
		d.Rewind()
	}
}

func TestListingSeesOwnChangesAtOnce(t *testing.T) {
	w := newWorld(t, memory.Options{})
	w.names("/a") // cached for a minute
	w.write("/a/f", "1")
	w.write("/a/g", "1")
	w.must(w.Unlink(t.Context(), "/a/f"))
	w.must(w.Rename(t.Context(), "/a/g", "/a/h", 0))
	_, err := w.Mkdir(t.Context(), "/a/d", 0o755)
	w.must(err)
	if got := w.names("/a"); !slices.Equal(got, []string{"d", "h"}) {
		t.Errorf("lists %v", got)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := New(Options{StageDir: "/nonexistent", ParkDir: t.TempDir(), Hostname: "a/b", Umask: 0o7777}, nil)
	for _, want := range []string{"StageDir", "host name", "umask"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error does not name %s: %v", want, err)
		}
	}
	dir := t.TempDir()
	good := Options{StageDir: dir, ParkDir: dir}
	for _, branches := range [][]Branch{nil, {{Prefix: "a", Backend: memory.New(memory.Options{})}},
		{{Prefix: "/a", Backend: memory.New(memory.Options{})}, {Prefix: "/a", Backend: memory.New(memory.Options{})}}} {
		if _, err := New(good, branches); err == nil {
			t.Errorf("accepted %v", branches)
		}
	}
}

package integration_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/harness"
)

// packed is a tree in a local directory and in archives.
type packed struct {
	local string
	names []string // of files
	files map[string][]byte
}

// pack makes a tree, and archives of it.
func pack(t *testing.T, dir string, files map[string][]byte) *packed {
	t.Helper()
	p := &packed{local: dir, files: files}
	for name, content := range files {
		p.names = append(p.names, name)
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(p.names)
	if err := os.Symlink("../small/f001", filepath.Join(dir, "large", "link")); err != nil {
		t.Fatal(err)
	}
	return p
}

var packTime = time.Date(2025, 1, 2, 3, 4, 6, 0, time.UTC)

func (p *packed) tar(t *testing.T) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	err := w.WriteHeader(&tar.Header{Name: "large/link", Linkname: "../small/f001", Typeflag: tar.TypeSymlink})
	for _, name := range p.names {
		err = errors.Join(err, w.WriteHeader(&tar.Header{Name: "./" + name, Size: int64(len(p.files[name])), Mode: 0o640, ModTime: packTime}))
		_, werr := w.Write(p.files[name])
		err = errors.Join(err, werr)
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func (p *packed) zip(t *testing.T, method uint16) []byte {
	t.Helper()
	link := zip.FileHeader{Name: "large/link", CreatorVersion: 3 << 8, ExternalAttrs: 0o120777 << 16}
	return p.zipWith(t, method, link)
}

// zipWith packs symbolic links besides the files.
func (p *packed) zipWith(t *testing.T, method uint16, links ...zip.FileHeader) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	add := func(h *zip.FileHeader, content []byte) error {
		m, err := w.CreateHeader(h)
		if err == nil {
			_, err = m.Write(content)
		}
		return err
	}
	var err error
	for _, link := range links {
		err = errors.Join(err, add(&link, []byte("../small/f001")))
	}
	for _, name := range p.names {
		err = errors.Join(err, add(&zip.FileHeader{Name: name, Method: method, Modified: packTime}, p.files[name]))
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// smallFiles are a thousand, and some that are larger than what one request reads.
func smallFiles() map[string][]byte {
	files := map[string][]byte{"large/one": book(1, 5<<20+1), "large/two": book(2, 1<<20), "large/empty": nil}
	for i := range 1000 {
		files[fmt.Sprintf("small/f%03d", i)] = book(uint64(i), 100+i)
	}
	return files
}

// TestBrowse reads archives as directories on a mount, and again after a remount.
func TestBrowse(t *testing.T) {
	t.Parallel()
	for _, dialect := range []efss.Dialect{efss.Nextcloud, efss.ModDAV} {
		t.Run(dialect.String(), func(t *testing.T) {
			t.Parallel()
			s, p := startShelf(t, dialect), pack(t, t.TempDir(), smallFiles())
			s.plant(t, map[string][]byte{
				"d/stored.zip": p.zip(t, zip.Store), "d/deflated.zip": p.zip(t, zip.Deflate), "d/all.tar": p.tar(t), "d/plain": []byte("x"),
				"count.zip": p.zipWith(t, zip.Store),
			})
			cache := cacheDir(t)
			args := append(lasting, "--browse-archives")
			m := s.mount(t, harness.StaticProgram(t), cache, args...)
			dir := filepath.Join(m.Dir, "a", "d")
			if got := listNames(t, dir); !slices.Equal(got, []string{"all.tar", "all.tar.d", "deflated.zip", "deflated.zip.d", "plain", "stored.zip", "stored.zip.d"}) {
				t.Errorf("the directory holds %q", got)
			}
			proofs := 0 // Nextcloud's versions do not prove parts of files: one more question for each
			if dialect == efss.Nextcloud {
				proofs = 1
			}
			countView(t, s, p, filepath.Join(m.Dir, "a", "count.zip.d"), proofs)
			for _, view := range []string{"stored.zip.d", "deflated.zip.d", "all.tar.d"} {
				compareView(t, p, filepath.Join(dir, view))
			}
			refuseChanges(t, filepath.Join(dir, "all.tar.d"))
			m.MustUnmount(t)
			s.forget()
			m = s.mount(t, harness.StaticProgram(t), cache, args...)
			for _, view := range []string{"stored.zip.d", "deflated.zip.d", "all.tar.d"} {
				listView(t, p, filepath.Join(m.Dir, "a", "d", view))
			}
			for _, r := range s.fetches() {
				if strings.Contains(r.Path, "/d/") {
					t.Errorf("after a remount there is a request for an index:%s", story([]efss.Request{r}))
				}
			}
			m.MustUnmount(t)
			m = s.mount(t, harness.StaticProgram(t), cache, lasting...)
			if got := listNames(t, filepath.Join(m.Dir, "a", "d")); slices.Contains(got, "all.tar.d") {
				t.Errorf("without --browse-archives the directory holds %q", got)
			}
			m.MustUnmount(t)
		})
	}
}

// countView counts the requests for a look into a zip, and for one of its members.
func countView(t *testing.T, s *shelf, p *packed, view string, proofs int) {
	t.Helper()
	if _, err := os.Lstat(view); err != nil {
		t.Fatal(err)
	}
	s.forget()
	if got := listNames(t, view); !slices.Equal(got, []string{"large", "small"}) {
		t.Errorf("the view holds %q", got)
	}
	s.expect(t, "the index of a zip of 1,000 members", "", 1, 3+proofs)
	small := filepath.Join(view, "small", "f500")
	if _, err := os.Lstat(small); err != nil {
		t.Fatal(err)
	}
	s.forget()
	if err := readWhole(small, p.files["small/f500"]); err != nil {
		t.Error(err)
	}
	s.expect(t, "a small member", "", 1, 1+proofs)
}

// compareView compares a view with what was packed.
func compareView(t *testing.T, p *packed, view string) {
	t.Helper()
	listView(t, p, view)
	harness.Run(t, "/", "diff", "-r", "--no-dereference", p.local, view)
}

// listView lists all of a view.
func listView(t *testing.T, p *packed, view string) {
	t.Helper()
	if out := harness.Run(t, view, "ls", "-lR"); strings.Count(out, "Jan  2  2025") != len(p.names) {
		t.Errorf("ls -lR shows %d files of that time, want %d:\n%.2000s", strings.Count(out, "Jan  2  2025"), len(p.names), out)
	}
}

// refuseChanges tries to change what is in a view.
func refuseChanges(t *testing.T, view string) {
	t.Helper()
	file := filepath.Join(view, "small", "f001")
	_, open := os.OpenFile(file, os.O_WRONLY, 0)
	for what, err := range map[string]error{
		"create": os.WriteFile(filepath.Join(view, "new"), []byte("x"), 0o644), "open": open,
		"mkdir": os.Mkdir(filepath.Join(view, "dir"), 0o755), "unlink": os.Remove(file), "chmod": os.Chmod(file, 0o777),
		"utimes": os.Chtimes(file, packTime, packTime), "truncate": os.Truncate(file, 1), "symlink": os.Symlink("x", filepath.Join(view, "s")),
		"rename": os.Rename(file, filepath.Join(view, "other")), "rename away": os.Rename(file, filepath.Join(filepath.Dir(view), "other")),
		"rename into": os.Rename(filepath.Join(filepath.Dir(view), "plain"), file), "rename the view": os.Rename(view, view+"x"),
		"rmdir": syscall.Rmdir(filepath.Join(view, "small")),
	} {
		if !errors.Is(err, syscall.EROFS) && !errors.Is(err, syscall.EACCES) && !errors.Is(err, syscall.EPERM) {
			t.Errorf("%s in a view: %v", what, err)
		}
	}
	wantErrno(t, "mkdir of a view", os.Mkdir(view, 0o755), syscall.EEXIST)
}

// TestBrowseWriteBack changes what is beside views and in them where nobody can be told of
// a failure later: nothing may be left that no server takes.
func TestBrowseWriteBack(t *testing.T) {
	t.Parallel()
	s, p := startShelf(t, efss.Nextcloud), pack(t, t.TempDir(), map[string][]byte{"small/f001": []byte("one"), "large/x": []byte("x")})
	s.plant(t, map[string][]byte{"d/all.tar": p.tar(t), "d/plain": []byte("x")})
	m := s.mount(t, harness.StaticProgram(t), "", "--browse-archives", "--write=back", "--attr-ttl=50ms", "--dir-ttl=50ms")
	dir := filepath.Join(m.Dir, "a", "d")
	refuseChanges(t, filepath.Join(dir, "all.tar.d"))
	if err := os.WriteFile(filepath.Join(dir, "new.zip"), p.zip(t, zip.Deflate), 0o644); err != nil {
		t.Fatal(err)
	}
	view := filepath.Join(dir, "new.zip.d")
	waitFor(t, func() error {
		got, err := os.ReadFile(filepath.Join(view, "small", "f001"))
		if err == nil && string(got) != "one" {
			err = fmt.Errorf("read %q", got)
		}
		return err
	})
	if err := errors.Join(os.Rename(filepath.Join(dir, "new.zip"), filepath.Join(dir, "moved.zip")), os.Remove(filepath.Join(dir, "all.tar"))); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() error {
		if got := listNames(t, dir); !slices.Equal(got, []string{"moved.zip", "moved.zip.d", "plain"}) {
			return fmt.Errorf("the directory holds %q", got)
		}
		return nil
	})
	m.MustUnmount(t)
}

// TestBrowseChange replaces an archive while its members are open.
func TestBrowseChange(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T) *shelf{
		"Share": func(t *testing.T) *shelf { return startShelf(t, efss.Nextcloud) }, "Plain": func(t *testing.T) *shelf { return startShelf(t, efss.ModDAV) },
		"Zone": startZoneShelf,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			browseChange(t, start(t))
		})
	}
}

func browseChange(t *testing.T, s *shelf) {
	old := pack(t, t.TempDir(), map[string][]byte{"large/f": book(1, 8<<20), "small/f": []byte("old")})
	s.plant(t, map[string][]byte{"a.zip": old.zip(t, zip.Store)})
	m := s.mount(t, harness.StaticProgram(t), "", "--browse-archives", "--attr-ttl=50ms", "--dir-ttl=50ms", "--read-ahead=0")
	view := filepath.Join(m.Dir, "a", "a.zip.d")
	file, err := os.Open(filepath.Join(view, "large", "f"))
	if err != nil {
		t.Fatal(err)
	}
	if err := readPart(file, old.files["large/f"], 0, page); err != nil {
		t.Fatal(err)
	}
	fresh := pack(t, t.TempDir(), map[string][]byte{"large/f": book(2, 8<<20), "small/f": []byte("new, and longer"), "large/more": []byte("x")})
	s.plant(t, map[string][]byte{"a.zip": fresh.zip(t, zip.Store)})
	_, err = file.ReadAt(make([]byte, page), 7<<20)
	wantErrno(t, "a read of the old version", err, syscall.ESTALE)
	if err := file.Close(); err != nil {
		t.Error(err)
	}
	waitFor(t, func() error { return readWhole(filepath.Join(view, "small", "f"), fresh.files["small/f"]) })
	waitFor(t, func() error { return readWhole(filepath.Join(view, "large", "f"), fresh.files["large/f"]) })
	waitFor(t, func() error {
		if got := listNames(t, filepath.Join(view, "large")); !slices.Equal(got, []string{"f", "link", "more"}) {
			return fmt.Errorf("the view holds %q", got)
		}
		return nil
	})
	m.MustUnmount(t)
}

// TestBrowseLarge reads one small member of an archive of 200 MB.
func TestBrowseLarge(t *testing.T) {
	t.Parallel()
	s := startShelf(t, efss.Nextcloud)
	files := map[string][]byte{}
	for i := range 24 {
		files[fmt.Sprintf("large/f%02d", i)] = book(uint64(i), 8<<20+i)
		files[fmt.Sprintf("small/f%02d", i)] = book(uint64(i), 5000+i)
	}
	p := &packed{files: files}
	for name := range files {
		p.names = append(p.names, name)
	}
	slices.Sort(p.names)
	s.plant(t, map[string][]byte{"a.zip": p.zip(t, zip.Store), "b.tar": p.tar(t)})
	m := s.mount(t, harness.StaticProgram(t), "", append(lasting, "--browse-archives")...)
	for _, view := range []string{"a.zip.d", "b.tar.d"} {
		s.forget()
		if err := readWhole(filepath.Join(m.Dir, "a", view, "small", "f07"), files["small/f07"]); err != nil {
			t.Error(err)
		}
		if n := s.sent(); n >= 4<<20 {
			t.Errorf("%s: a small member of 200 MB moved %d bytes:%s", view, n, story(s.requests(http.MethodGet)))
		}
	}
	file, err := os.Open(filepath.Join(m.Dir, "a", "b.tar.d", "large", "f03"))
	if err != nil {
		t.Fatal(err)
	}
	if err := readPart(file, files["large/f03"], 5<<20, page); err != nil {
		t.Error(err)
	}
	got, err := io.ReadAll(file)
	if err := errors.Join(err, file.Close()); err != nil || differ(got, files["large/f03"], 0) != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	m.MustUnmount(t)
}

// TestBrowseZone reads archives of a zone.
func TestBrowseZone(t *testing.T) {
	t.Parallel()
	s := startZoneShelf(t)
	files := smallFiles()
	for i := 50; i < 1000; i++ {
		delete(files, fmt.Sprintf("small/f%03d", i))
	}
	p := pack(t, t.TempDir(), files)
	s.plant(t, map[string][]byte{"a.zip": p.zip(t, zip.Deflate), "b.tar": p.tar(t)})
	m := s.mount(t, harness.StaticProgram(t), "", "--browse-archives", "--write=back")
	for _, view := range []string{"a.zip.d", "b.tar.d"} {
		compareView(t, p, filepath.Join(m.Dir, "a", view))
	}
	m.MustUnmount(t)
}

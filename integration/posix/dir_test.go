package posix_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
)

const manyEntries = 12_345

// text is content to store behind the mount's back.
type text string

func (s text) Size() int64                  { return int64(len(s)) }
func (s text) Open() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(string(s))), nil }

// largeDirectory returns a backend with one directory of n files.
func largeDirectory(t *testing.T, n int) *memory.Backend {
	t.Helper()
	b := memory.New(memory.Options{})
	if _, err := b.Mkdir(t.Context(), "/d"); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if _, err := b.Put(context.Background(), fmt.Sprintf("/d/file-%06d", i), text("x"), remote.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// getdents reads one buffer of the open directory fd.
func getdents(t *testing.T, fd int, buf []byte) (list []fuse.DirEntry) {
	t.Helper()
	n, err := unix.ReadDirent(fd, buf)
	if err != nil {
		t.Fatal(err)
	}
	for rest := buf[:n]; len(rest) > 0; {
		var e fuse.DirEntry
		rest = rest[e.Parse(rest):]
		list = append(list, e)
	}
	return list
}

// readAll reads the rest of an open directory.
func readAll(t *testing.T, fd, size int) (list []fuse.DirEntry) {
	t.Helper()
	for buf := make([]byte, size); ; {
		part := getdents(t, fd, buf)
		if len(part) == 0 {
			return list
		}
		list = append(list, part...)
	}
}

func openDirectory(t *testing.T, path string) int {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// wantEntries checks that list has . and .. and n files, each once.
func wantEntries(t *testing.T, list []fuse.DirEntry, n int) {
	t.Helper()
	seen := map[string]bool{}
	for _, e := range list {
		if seen[e.Name] {
			t.Errorf("%s comes twice", e.Name)
		}
		seen[e.Name] = true
	}
	if len(seen) != n+2 || !seen["."] || !seen[".."] {
		t.Errorf("%d entries, want %d", len(seen), n+2)
	}
}

func TestLargeDirectory(t *testing.T) {
	for _, ttl := range []time.Duration{0, time.Minute} {
		t.Run(ttl.String(), func(t *testing.T) {
			dir := filepath.Join(serve(t, rootBranch(largeDirectory(t, manyEntries), ttl)).dir, "d")
			fd := openDirectory(t, dir)
			list := readAll(t, fd, 32<<10)
			wantEntries(t, list, manyEntries)
			if again := getdents(t, fd, make([]byte, 4096)); len(again) != 0 {
				t.Errorf("%d entries after the last", len(again))
			}
			// seekdir: what follows the offset of an entry is what followed it before
			for _, i := range []int{5000, 4999, 12000, 0, manyEntries, 17} {
				if _, err := unix.Seek(fd, int64(list[i].Off), unix.SEEK_SET); err != nil {
					t.Fatal(err)
				}
				if got := getdents(t, fd, make([]byte, 512)); len(got) == 0 || got[0] != list[i+1] {
					t.Fatalf("after entry %d: %v, want %v", i, got, list[i+1])
				}
			}
			// rewinddir: all of it, with what has come since
			write(t, filepath.Join(dir, "new"), "x")
			if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
				t.Fatal(err)
			}
			wantEntries(t, readAll(t, fd, 5000), manyEntries+1)
		})
	}
}

// Inode numbers and types of a listing are those of stat, in every listing.
func TestDirectoryInodes(t *testing.T) {
	dir := filepath.Join(serve(t, rootBranch(largeDirectory(t, 300), time.Minute)).dir, "d")
	for _, size := range []int{4096, 1 << 16} {
		list := readAll(t, openDirectory(t, dir), size)
		wantEntries(t, list, 300)
		for _, e := range list {
			var st unix.Stat_t
			if err := unix.Lstat(filepath.Join(dir, e.Name), &st); err != nil || st.Ino != e.Ino || st.Mode&unix.S_IFMT != e.Mode {
				t.Errorf("%v listed; inode %d, mode %o by stat, %v", e, st.Ino, st.Mode, err)
			}
		}
	}
}

// rm -r removes what it has read while it reads on.
func TestRemoveWhileReading(t *testing.T) {
	dir := filepath.Join(serve(t, rootBranch(largeDirectory(t, 1500), time.Minute)).dir, "d")
	fd := openDirectory(t, dir)
	removed := 0
	for buf := make([]byte, 4096); ; {
		part := getdents(t, fd, buf)
		if len(part) == 0 {
			break
		}
		for _, e := range part {
			if e.Name == "." || e.Name == ".." {
				continue
			}
			if err := unix.Unlinkat(fd, e.Name, 0); err != nil {
				t.Fatalf("%s: %v", e.Name, err)
			}
			removed++
		}
	}
	if removed != 1500 {
		t.Errorf("removed %d of 1500", removed)
	}
	if err := os.Remove(dir); err != nil {
		t.Error(err)
	}
}

// While a listing is read, its files are written: their size must be what was
// written and not what the listing had.
func TestWriteWhileListing(t *testing.T) {
	dir := filepath.Join(serve(t, rootBranch(largeDirectory(t, 2000), time.Minute)).dir, "d")
	fd := openDirectory(t, dir)
	const content = "longer than before"
	for buf := make([]byte, 8192); ; {
		part := getdents(t, fd, buf)
		if len(part) == 0 {
			break
		}
		// The last of them is among what comes next, too.
		for _, name := range []string{part[len(part)-1].Name, "file-001999", "file-000000"} {
			if name == "." || name == ".." {
				continue
			}
			path := filepath.Join(dir, name)
			write(t, path, content)
			if st, err := os.Stat(path); err != nil || st.Size() != int64(len(content)) {
				t.Fatalf("%s: %v, %v", name, st, err)
			}
		}
	}
	for _, name := range []string{"file-001999", "file-000000"} {
		wantFile(t, filepath.Join(dir, name), content)
	}
}

// TestFsyncOfRemoved syncs directories, one of which was removed meanwhile.
func TestFsyncOfRemoved(t *testing.T) {
	m := serve(t, memoryBranch(time.Minute))
	dir, gone := filepath.Join(m.dir, "dir"), filepath.Join(m.dir, "gone")
	for _, path := range []string{dir, gone} {
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{m.dir, dir, gone} {
		open, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if path == gone {
			err = os.Remove(gone)
		}
		if err = errors.Join(err, open.Sync(), open.Close()); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

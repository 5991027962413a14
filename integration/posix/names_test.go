package posix_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/fs"
	"github.com/meshmount/meshmount/integration/harness"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
)

// write makes a file.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// wantFile checks a file's content.
func wantFile(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s holds %q (%v), want %q", path, clip(string(got)), err, clip(want))
	}
}

func clip(s string) string { return s[:min(len(s), 100)] }

func TestHardLink(t *testing.T) {
	dir := serve(t, memoryBranch(time.Minute)).dir
	write(t, dir+"/a", "text")
	harness.WantErrno(t, "link", os.Link(dir+"/a", dir+"/b"), syscall.EPERM)
	if _, err := os.Lstat(dir + "/b"); !os.IsNotExist(err) {
		t.Error(err)
	}
}

func TestTmpfile(t *testing.T) {
	dir := serve(t, memoryBranch(time.Minute)).dir
	for range 2 { // the kernel remembers the first answer
		_, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR, 0o600)
		harness.WantErrno(t, "O_TMPFILE", err, syscall.EOPNOTSUPP)
	}
	f, err := os.CreateTemp(dir, "named") // what programs do instead
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
		t.Error(err)
	}
}

func TestSpecialFiles(t *testing.T) {
	dir := serve(t, memoryBranch(time.Minute)).dir
	harness.WantErrno(t, "mkfifo", unix.Mkfifo(dir+"/fifo", 0o600), syscall.EPERM)
	harness.WantErrno(t, "device", unix.Mknod(dir+"/dev", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))), syscall.EPERM)
	if err := unix.Mknod(dir+"/file", unix.S_IFREG|0o600, 0); err != nil {
		t.Error(err)
	}
	wantFile(t, dir+"/file", "")
}

func TestForeignXattr(t *testing.T) {
	dir := serve(t, memoryBranch(time.Minute)).dir
	write(t, dir+"/a", "text")
	harness.WantErrno(t, "set", unix.Setxattr(dir+"/a", "user.mine", []byte("x"), 0), syscall.EOPNOTSUPP)
	harness.WantErrno(t, "set ours", unix.Setxattr(dir+"/a", "user.meshmount.state", []byte("x"), 0), syscall.EOPNOTSUPP)
	_, err := unix.Getxattr(dir+"/a", "user.mine", make([]byte, 10))
	harness.WantErrno(t, "get", err, syscall.ENODATA)
	buf := make([]byte, 1000)
	n, err := unix.Getxattr(dir+"/a", "user.meshmount.state", buf)
	if err != nil || string(buf[:n]) != "clean" {
		t.Errorf("state %q, %v", buf[:max(n, 0)], err)
	}
	n, err = unix.Listxattr(dir+"/a", buf)
	if err != nil || !bytes.Contains(buf[:n], []byte("user.meshmount.state\x00")) {
		t.Errorf("list %q, %v", buf[:max(n, 0)], err)
	}
}

// Many create one name with O_EXCL: one of them makes it.
func TestExclusiveCreate(t *testing.T) {
	dir := serve(t, memoryBranch(0)).dir
	for round := range 20 {
		path := filepath.Join(dir, fmt.Sprint("lock", round))
		var made atomic.Int32
		var all sync.WaitGroup
		for range 16 {
			all.Go(func() {
				f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
				if err == nil {
					made.Add(1)
					err = f.Close()
				} else if os.IsExist(err) {
					err = nil
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if made.Load() != 1 {
			t.Fatalf("%d made %s", made.Load(), path)
		}
	}
}

// A file is replaced again and again while others open and read it. They see one
// content or the other, whole, and never that there is none. In so tight a loop the
// name may pass on twice between the kernel's lookup and its open, which is ESTALE,
// as on NFS; that must stay an exception.
func TestReplaceRace(t *testing.T) {
	for _, ttl := range []time.Duration{0, time.Minute} {
		dir := serve(t, memoryBranch(ttl)).dir
		path := filepath.Join(dir, "config")
		content := func(i int) string { return strings.Repeat(fmt.Sprintf("%07d\n", i), 1+i%1000) }
		write(t, path, content(0))
		var over atomic.Bool
		var opened, stale atomic.Int32
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				for !over.Load() {
					text, err := os.ReadFile(path)
					if errors.Is(err, syscall.ESTALE) {
						stale.Add(1)
						continue
					}
					opened.Add(1)
					if err != nil || len(text) < 8 || !whole(text) {
						t.Errorf("%v: %d bytes beginning with %q", err, len(text), clip(string(text)))
						return
					}
				}
			})
		}
		for i := range 150 {
			tmp := filepath.Join(dir, fmt.Sprint("tmp", i%3))
			write(t, tmp, content(i))
			if err := os.Rename(tmp, path); err != nil {
				t.Error(err)
			}
		}
		over.Store(true)
		all.Wait()
		t.Logf("TTL %v: %d reads, %d times ESTALE", ttl, opened.Load(), stale.Load())
		if opened.Load() < 50 || stale.Load()*10 > opened.Load() {
			t.Errorf("TTL %v: %d reads, %d times ESTALE", ttl, opened.Load(), stale.Load())
		}
	}
}

// whole tells whether text is one of the contents of TestReplaceRace.
func whole(text []byte) bool {
	return bytes.Count(text, text[:8]) == len(text)/8 && len(text)%8 == 0
}

// Directories move while what is below them is looked up: it is found under exactly
// one of the names.
func TestRenameDirectoryRace(t *testing.T) {
	dir := serve(t, memoryBranch(time.Minute)).dir
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	if err := os.MkdirAll(a+"/x/y", 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, a+"/x/y/f", "text")
	held, err := os.Open(a + "/x/y")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	var over atomic.Bool
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			for i := 0; !over.Load(); i++ {
				// By the open directory the way does not matter.
				fd, err := unix.Openat(int(held.Fd()), "f", unix.O_RDONLY|unix.O_CLOEXEC, 0)
				if err != nil {
					t.Errorf("openat: %v", err)
					return
				}
				_ = unix.Close(fd)
				var st unix.Stat_t
				if err := unix.Fstatat(int(held.Fd()), "f", &st, 0); err != nil || st.Size != 4 {
					t.Errorf("fstatat: %v, size %d", err, st.Size)
					return
				}
			}
		})
	}
	for range 300 {
		if err := errors.Join(os.Rename(a, b), os.Rename(b, a)); err != nil {
			t.Error(err)
			break
		}
	}
	over.Store(true)
	all.Wait()
}

func TestUnlinkWhileOpen(t *testing.T) {
	m := serve(t, memoryBranch(time.Minute))
	path := filepath.Join(m.dir, "f")
	write(t, path, "old content")
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	write(t, path, "another file")
	if _, err := f.WriteAt([]byte("OLD"), 0); err != nil {
		t.Error(err)
	}
	if err := f.Truncate(5); err != nil {
		t.Error(err)
	}
	if err := errors.Join(f.Chmod(0o600), f.Sync()); err != nil {
		t.Error(err)
	}
	got, err := io.ReadAll(f)
	if st, serr := f.Stat(); err != nil || serr != nil || string(got) != "OLD c" || st.Size() != 5 || st.Mode() != 0o600 {
		t.Errorf("read %q, %v; %v", got, err, serr)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	wantFile(t, path, "another file")
}

func TestRenameWhileOpen(t *testing.T) {
	back := memory.New(memory.Options{})
	dir := serve(t, rootBranch(back, time.Minute)).dir
	if err := os.MkdirAll(dir+"/from/sub", 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(dir + "/from/sub/f")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("before "); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir+"/from/sub/f", dir+"/from/sub/g"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir+"/from", dir+"/to"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("after"); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	wantFile(t, dir+"/to/sub/g", "before after")
	if e, err := back.Stat(t.Context(), "/to/sub/g"); err != nil || e.Size != 12 {
		t.Errorf("on the server: %+v, %v", e, err)
	}
	if _, err := back.Stat(t.Context(), "/from"); !errors.Is(err, remote.NotExist) {
		t.Errorf("the old directory: %v", err)
	}
}

// The working directory of a process may be removed under it.
func TestRemovedWorkingDirectory(t *testing.T) {
	dir := serve(t, memoryBranch(time.Minute)).dir
	if err := os.Mkdir(dir+"/d", 0o755); err != nil {
		t.Fatal(err)
	}
	d, err := os.Open(dir + "/d")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := os.Remove(dir + "/d"); err != nil {
		t.Fatal(err)
	}
	if st, err := d.Stat(); err != nil || !st.IsDir() {
		t.Errorf("stat of the removed directory: %v", err)
	}
	_, err = unix.Openat(int(d.Fd()), "f", unix.O_CREAT|unix.O_WRONLY, 0o600)
	harness.WantErrno(t, "create in a removed directory", err, syscall.ENOENT)
}

func TestBranches(t *testing.T) {
	one, two := memory.New(memory.Options{}), memory.New(memory.Options{})
	dir := serve(t,
		fs.Branch{Prefix: "/site/one", Backend: one, AttrTTL: time.Minute, DirTTL: time.Minute, NegTTL: time.Minute},
		fs.Branch{Prefix: "/site/two", Backend: two, AttrTTL: time.Minute, DirTTL: time.Minute, NegTTL: time.Minute},
		fs.Branch{Prefix: "/shut", Backend: memory.New(memory.Options{}), ReadOnly: true}).dir
	a, b := filepath.Join(dir, "site/one/f"), filepath.Join(dir, "site/two/f")
	write(t, a, "text")
	harness.WantErrno(t, "rename across branches", os.Rename(a, b), syscall.EXDEV)
	harness.WantErrno(t, "link across branches", os.Link(a, b), syscall.EPERM)
	harness.WantErrno(t, "create above the branches", os.Mkdir(dir+"/site/three", 0o755), syscall.EROFS)
	harness.WantErrno(t, "create at the root", os.Mkdir(dir+"/three", 0o755), syscall.EROFS)
	harness.WantErrno(t, "create in a read-only branch", os.Mkdir(dir+"/shut/d", 0o755), syscall.EROFS)
	harness.WantErrno(t, "remove a branch", unix.Rmdir(dir+"/site/one"), syscall.EBUSY)
	if err := os.Rename(dir+"/site/one", dir+"/site/uno"); err == nil {
		t.Error("a branch was renamed")
	}
	entries, err := os.ReadDir(dir + "/site")
	if err != nil || len(entries) != 2 || entries[0].Name() != "one" || entries[1].Name() != "two" {
		t.Errorf("%v, %v", entries, err)
	}
	var st [3]unix.Stat_t
	for i, p := range []string{dir, dir + "/site/one", dir + "/site/two"} {
		if err := unix.Stat(p, &st[i]); err != nil {
			t.Error(err)
		}
	}
	if st[1].Ino == st[2].Ino || st[0].Ino == st[1].Ino {
		t.Errorf("inode numbers %d %d %d", st[0].Ino, st[1].Ino, st[2].Ino)
	}
}

func TestTimes(t *testing.T) {
	dir := serve(t, memoryBranch(time.Minute)).dir
	path := filepath.Join(dir, "f")
	write(t, path, "text")
	at := time.Date(2001, 2, 3, 4, 5, 6, 789_000_000, time.UTC)
	if err := os.Chtimes(path, time.Time{}, at); err != nil {
		t.Fatal(err)
	}
	mtime := func() time.Time {
		t.Helper()
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return st.ModTime()
	}
	if got := mtime(); !got.Equal(at) {
		t.Errorf("time %v, want %v", got, at)
	}
	// On an open file that was written, the time that is set last counts.
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("TEXT"); err != nil {
		t.Error(err)
	}
	if got := mtime(); time.Since(got) > time.Minute {
		t.Errorf("time of a file that was just written: %v", got)
	}
	early := time.Date(1965, 1, 1, 0, 0, 0, 0, time.UTC)
	ts := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: early.Unix()}}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, ts, 0); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if got := mtime(); !got.Equal(early) {
		t.Errorf("time %v, want %v", got, early)
	}
	ts = []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_NOW}}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, ts, 0); err != nil {
		t.Error(err)
	}
	if got := mtime(); time.Since(got) > time.Minute {
		t.Errorf("time after UTIME_NOW: %v", got)
	}
}

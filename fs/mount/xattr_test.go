package mount

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/fs"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
)

// xattrX is an attribute that memory keeps.
const xattrX = memory.XattrPrefix + "x"

// getX reads an attribute in the way of most programs: its size, then its value.
func getX(path, name string) (string, error) {
	size, err := unix.Lgetxattr(path, name, nil)
	if err != nil {
		return "", err
	}
	value := make([]byte, size)
	if size == 0 {
		return "", nil
	}
	n, err := unix.Lgetxattr(path, name, value)
	return string(value[:max(n, 0)]), err
}

func wantX(t *testing.T, path, name, want string) {
	t.Helper()
	if got, err := getX(path, name); err != nil || got != want {
		t.Errorf("%s of %s is %q, %v, want %q", name, path, clip(got), err, clip(want))
	}
}

func clip(s string) string { return s[:min(len(s), 100)] }

// wantErr checks an errno.
func wantErr(t *testing.T, what string, err error, want syscall.Errno) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func create(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestXattrCalls(t *testing.T) {
	_, dir, b := mountAt(t, Options{})
	file := dir + "/f"
	create(t, file, "hello")
	wantErr(t, "replace nothing", unix.Setxattr(file, xattrX, []byte("1"), unix.XATTR_REPLACE), syscall.ENODATA)
	if err := unix.Setxattr(file, xattrX, []byte("12345"), unix.XATTR_CREATE); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "create again", unix.Setxattr(file, xattrX, []byte("2"), unix.XATTR_CREATE), syscall.EEXIST)
	wantErr(t, "both flags", unix.Setxattr(file, xattrX, []byte("2"), unix.XATTR_CREATE|unix.XATTR_REPLACE), syscall.EINVAL)
	wantX(t, file, xattrX, "12345")
	if all, err := b.Xattrs(t.Context(), "/f"); err != nil || string(all[xattrX]) != "12345" {
		t.Errorf("on the server: %q, %v", all, err)
	}
	_, err := unix.Getxattr(file, xattrX, make([]byte, 4))
	wantErr(t, "short buffer", err, syscall.ERANGE)
	_, err = unix.Listxattr(file, make([]byte, 4))
	wantErr(t, "short buffer of a list", err, syscall.ERANGE)
	if err := unix.Setxattr(file, xattrX, nil, unix.XATTR_REPLACE); err != nil {
		t.Error(err)
	}
	wantX(t, file, xattrX, "")
	if err := unix.Removexattr(file, xattrX); err != nil {
		t.Error(err)
	}
	_, err = getX(file, xattrX)
	wantErr(t, "get what is removed", err, syscall.ENODATA)
	wantErr(t, "remove again", unix.Removexattr(file, xattrX), syscall.ENODATA)
	wantErr(t, "nothing after the prefix", unix.Setxattr(file, memory.XattrPrefix, nil, 0), syscall.EINVAL)
	wantErr(t, "another's name", unix.Setxattr(file, "user.mine", []byte("1"), 0), syscall.EOPNOTSUPP)
	wantErr(t, "our name", unix.Setxattr(file, "user.meshmount.state", []byte("1"), 0), syscall.EOPNOTSUPP)
	wantErr(t, "missing file", unix.Setxattr(dir+"/none", xattrX, nil, 0), syscall.ENOENT)
	wantX(t, file, "user.meshmount.locations", "0 memory good")
	wantX(t, file, "user.meshmount.state", "clean")
}

// Values and lists of any length that the server has lead to what the manual says.
func TestXattrSizes(t *testing.T) {
	for _, maxWrite := range []int{0, 4096} {
		_, dir, b := mountAt(t, Options{MaxWrite: maxWrite})
		file := dir + "/f"
		create(t, file, "hello")
		largest := strings.Repeat("v", 64<<10)
		err := unix.Setxattr(file, xattrX, []byte(largest), 0)
		if maxWrite == 0 {
			if err != nil {
				t.Fatal(err)
			}
			wantX(t, file, xattrX, largest)
		} else if err != nil { // it may not fit into a request
			wantErr(t, "64 KiB in small requests", err, syscall.E2BIG)
		}
		wantErr(t, "set too much", unix.Setxattr(file, xattrX, []byte(largest+"v"), 0), syscall.E2BIG)
		wantErr(t, "set a long name", unix.Setxattr(file, memory.XattrPrefix+strings.Repeat("n", 250), nil, 0), syscall.ERANGE)
		create(t, dir+"/large", "")
		if err := b.SetXattr(t.Context(), "/large", xattrX, make([]byte, 70_000), remote.XattrAny); err != nil {
			t.Fatal(err)
		}
		_, err = getX(dir+"/large", xattrX)
		wantErr(t, "get too much", err, syscall.E2BIG)
		create(t, dir+"/many", "")
		for i := range 300 {
			name := memory.XattrPrefix + strings.Repeat(string(rune('a'+i%26)), 230) + string(rune('a'+i/26))
			if err := b.SetXattr(t.Context(), "/many", name, nil, remote.XattrAny); err != nil {
				t.Fatal(err)
			}
		}
		_, err = unix.Listxattr(dir+"/many", make([]byte, 64<<10))
		wantErr(t, "list too much", err, syscall.E2BIG)
	}
}

// Attributes through descriptors, of files in every state.
func TestXattrOfOpenFile(t *testing.T) {
	_, dir, b := mountAt(t, Options{})
	f, err := os.OpenFile(dir+"/new", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd := int(f.Fd())
	if _, err := f.WriteString("hello"); err != nil {
		t.Fatal(err)
	}
	_, err = unix.Fgetxattr(fd, xattrX, make([]byte, 10))
	wantErr(t, "get from a new file", err, syscall.ENODATA)
	if err := unix.Fsetxattr(fd, xattrX, []byte("early"), 0); err != nil {
		t.Fatal(err)
	}
	if e, err := b.Stat(t.Context(), "/new"); err != nil || e.Size != 5 {
		t.Errorf("on the server: %+v, %v", e, err)
	}
	if _, err := f.WriteString(" world"); err != nil {
		t.Error(err)
	}
	if err := os.Rename(dir+"/new", dir+"/old"); err != nil {
		t.Fatal(err)
	}
	value := make([]byte, 10)
	if n, err := unix.Fgetxattr(fd, xattrX, value); err != nil || string(value[:n]) != "early" {
		t.Errorf("after the rename: %q, %v", value[:max(n, 0)], err)
	}
	if err := errors.Join(unix.Fsetxattr(fd, xattrX, []byte("late"), 0), f.Sync()); err != nil {
		t.Error(err)
	}
	wantX(t, dir+"/old", xattrX, "late")
	if got, err := os.ReadFile(dir + "/old"); err != nil || string(got) != "hello world" {
		t.Errorf("content %q, %v", got, err)
	}
	if err := os.Remove(dir + "/old"); err != nil {
		t.Fatal(err)
	}
	_, err = unix.Fgetxattr(fd, xattrX, value)
	wantErr(t, "get without a name", err, syscall.ESTALE)
	wantErr(t, "set without a name", unix.Fsetxattr(fd, xattrX, nil, 0), syscall.ESTALE)
	wantErr(t, "get by the lost name", unix.Setxattr(dir+"/old", xattrX, nil, 0), syscall.ENOENT)
}

func TestXattrReadOnlyMount(t *testing.T) {
	b := memory.New(memory.Options{})
	branch := fs.Branch{Prefix: "/", Backend: b, AttrTTL: time.Minute, DirTTL: time.Minute}
	branch.ReadOnly = true
	_, dir := mountCore(t, newTreeCore(t, branch), Options{})
	if _, err := b.Mkdir(t.Context(), "/d"); err != nil {
		t.Fatal(err)
	}
	if err := b.SetXattr(t.Context(), "/d", xattrX, []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "set", unix.Setxattr(dir+"/d", xattrX, nil, 0), syscall.EROFS)
	wantErr(t, "remove", unix.Removexattr(dir+"/d", xattrX), syscall.EROFS)
	wantX(t, dir+"/d", xattrX, "1")
}

// threeBranches mounts two memories that keep attributes, at a and b, and one that
// does not, at bare.
func threeBranches(t *testing.T) string {
	t.Helper()
	branch := func(prefix string, b remote.Backend) fs.Branch {
		return fs.Branch{Prefix: prefix, Backend: b, AttrTTL: time.Minute, DirTTL: time.Minute, NegTTL: time.Minute}
	}
	_, dir := mountCore(t, newTreeCore(t,
		branch("/a", memory.New(memory.Options{})), branch("/b", memory.New(memory.Options{})),
		branch("/bare", struct{ remote.Backend }{memory.New(memory.Options{})})), Options{})
	return dir
}

// run runs a program, which must succeed, and returns what it printed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// plantXattrs makes a tree with attributes.
func plantXattrs(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir+"/sub", 0o755); err != nil {
		t.Fatal(err)
	}
	create(t, dir+"/f", "file")
	create(t, dir+"/sub/g", "deeper")
	create(t, dir+"/none", "without attributes")
	for path, value := range map[string]string{"": "the top", "/f": "of f", "/sub": "of sub", "/sub/g": "of g"} {
		run(t, "setfattr", "-n", xattrX, "-v", value, dir+path)
	}
	run(t, "setfattr", "-n", memory.XattrPrefix+"binary", "-v", "0x00ff0a", dir+"/f")
}

// wantPlanted checks a copy of that tree.
func wantPlanted(t *testing.T, dir string) {
	t.Helper()
	for path, value := range map[string]string{"": "the top", "/f": "of f", "/sub": "of sub", "/sub/g": "of g"} {
		wantX(t, dir+path, xattrX, value)
	}
	wantX(t, dir+"/f", memory.XattrPrefix+"binary", "\x00\xff\n")
	_, err := getX(dir+"/none", xattrX)
	wantErr(t, "attribute of a file without", err, syscall.ENODATA)
	wantContents(t, dir)
}

func wantContents(t *testing.T, dir string) {
	t.Helper()
	for path, want := range map[string]string{"/f": "file", "/sub/g": "deeper", "/none": "without attributes"} {
		if got, err := os.ReadFile(dir + path); err != nil || string(got) != want {
			t.Errorf("%s holds %q, %v", dir+path, got, err)
		}
	}
}

func TestXattrPrograms(t *testing.T) {
	dir := threeBranches(t)
	plantXattrs(t, dir+"/a/src")
	out := run(t, "getfattr", "-d", "-m", `^user\.memory\.`, "--absolute-names", dir+"/a/src/f")
	if !strings.Contains(out, `user.memory.x="of f"`) || !strings.Contains(out, "user.memory.binary=0sAP8K") {
		t.Errorf("getfattr: %s", out)
	}
	if out := run(t, "getfattr", "-d", "-m", "-", "--absolute-names", dir+"/a/src/f"); !strings.Contains(out, `user.meshmount.locations="0 memory good"`) {
		t.Errorf("getfattr of all: %s", out)
	}
	t.Run("cp", func(t *testing.T) {
		run(t, "cp", "-a", dir+"/a/src", dir+"/b/cp")
		wantPlanted(t, dir+"/b/cp")
	})
	t.Run("cp onto a bare branch", func(t *testing.T) {
		if out := run(t, "cp", "-a", dir+"/a/src", dir+"/bare/cp"); out != "" {
			t.Errorf("cp says %q", out)
		}
		wantContents(t, dir+"/bare/cp")
	})
	t.Run("cp from a bare branch", func(t *testing.T) {
		if out := run(t, "cp", "-a", dir+"/bare/cp", dir+"/b/back"); out != "" {
			t.Errorf("cp says %q", out)
		}
		wantContents(t, dir+"/b/back")
	})
	t.Run("rsync", func(t *testing.T) {
		// What meshmount makes up cannot be copied.
		args := []string{"-aX", "--filter=-xr user.meshmount.*", dir + "/a/src/", dir + "/b/rsync/"}
		run(t, "rsync", args...)
		wantPlanted(t, dir+"/b/rsync")
		run(t, "setfattr", "-n", xattrX, "-v", "changed", dir+"/a/src/f")
		run(t, "setfattr", "-x", memory.XattrPrefix+"binary", dir+"/a/src/f")
		run(t, "rsync", args...)
		wantX(t, dir+"/b/rsync/f", xattrX, "changed")
		_, err := getX(dir+"/b/rsync/f", memory.XattrPrefix+"binary")
		wantErr(t, "an attribute that the source lost", err, syscall.ENODATA)
	})
	t.Run("mv", func(t *testing.T) {
		plantXattrs(t, dir+"/a/moving")
		if out := run(t, "mv", dir+"/a/moving", dir+"/b/moved"); out != "" {
			t.Errorf("mv says %q", out)
		}
		wantPlanted(t, dir+"/b/moved")
		if _, err := os.Lstat(dir + "/a/moving"); !os.IsNotExist(err) {
			t.Errorf("the source: %v", err)
		}
		run(t, "mv", dir+"/b/moved", dir+"/bare/moved")
		wantContents(t, dir+"/bare/moved")
	})
	t.Run("tar", func(t *testing.T) {
		archive := filepath.Join(t.TempDir(), "x.tar")
		run(t, "tar", "-C", dir+"/b/cp", "--xattrs", "--xattrs-include=user.memory.*", "-cf", archive, ".")
		if err := os.Mkdir(dir+"/a/tar", 0o755); err != nil {
			t.Fatal(err)
		}
		run(t, "tar", "-C", dir+"/a/tar", "--xattrs", "--xattrs-include=user.memory.*", "-xf", archive)
		wantPlanted(t, dir+"/a/tar")
	})
}

// A listing shows what the server has beside what meshmount makes up.
func TestXattrList(t *testing.T) {
	dir := threeBranches(t)
	create(t, dir+"/a/f", "x")
	run(t, "setfattr", "-n", xattrX, "-v", "1", dir+"/a/f")
	list := make([]byte, 4096)
	n, err := unix.Listxattr(dir+"/a/f", list)
	if err != nil {
		t.Fatal(err)
	}
	names := bytes.Split(bytes.TrimSuffix(list[:n], []byte{0}), []byte{0})
	for _, want := range []string{xattrX, "user.meshmount.locations", "user.meshmount.branch"} {
		if !slices.ContainsFunc(names, func(name []byte) bool { return string(name) == want }) {
			t.Errorf("%s is not in %q", want, names)
		}
	}
}

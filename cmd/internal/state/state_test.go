package state

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/meshmount/meshmount/cmd/internal/exit"
)

func TestMountTable(t *testing.T) {
	table := `22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
90 22 0:50 / /mnt/a\040b\011\134x rw,nosuid shared:2 master:3 - fuse.meshmount davs://h/\040p rw,user_id=0
91 22 0:51 / /none rw - tmpfs  rw
`
	got, err := Mounts(strings.NewReader(table))
	if err != nil {
		t.Fatal(err)
	}
	want := Mount{ID: 90, Device: "0:50", Root: "/", User: 0, Point: "/mnt/a b\t\\x", Type: FSType, Source: "davs://h/ p"}
	if len(got) != 3 || got[1] != want || got[0].Point != "/" || got[2].Type != "tmpfs" || got[2].User != -1 {
		t.Errorf("%+v", got)
	}
	for _, bad := range []string{"1 2 3", "x 1 8:1 / / rw - ext4 a rw", "1 2 8:1 / / rw ext4 a rw"} {
		if _, err := Mounts(strings.NewReader(bad)); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

func TestFindMountInTheRealTable(t *testing.T) {
	if m, found, err := FindMount("/proc"); err != nil || !found || m.Type != "proc" {
		t.Errorf("%+v, %v, %v", m, found, err)
	}
	if _, found, err := FindMount(t.TempDir()); err != nil || found {
		t.Errorf("found %v, %v", found, err)
	}
}

func FuzzMountTable(f *testing.F) {
	f.Add("22 1 8:1 / /a\\040b rw shared:1 - ext4 /dev/sda1 rw")
	f.Fuzz(func(_ *testing.T, text string) { _, _ = Mounts(strings.NewReader(text)) })
}

func TestMountPoints(t *testing.T) {
	dir := t.TempDir()
	empty, full, file, link := filepath.Join(dir, "empty"), filepath.Join(dir, "full"), filepath.Join(dir, "file"), filepath.Join(dir, "link")
	for _, d := range []string{empty, filepath.Join(full, "child")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Symlink("empty", link)); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		point    string
		nonEmpty bool
		code     exit.Code
		want     string
	}{
		{empty, false, exit.OK, empty},
		{link, false, exit.OK, empty},
		{link + "/", false, exit.OK, empty},
		{full, true, exit.OK, full},
		{"/dev/fd/9", false, exit.OK, "/dev/fd/9"},
		{full, false, exit.MountPointNotEmpty, "mount point " + full + " is not empty; choose an empty directory"},
		{filepath.Join(dir, "none"), false, exit.MountPointMissing, "does not exist; run: mkdir -p " + dir + "/none"},
		{filepath.Join(dir, "none/deeper"), false, exit.MountPointMissing, "does not exist"},
		{file, false, exit.MountPointNotDir, "is not a directory"},
		{filepath.Join(file, "x"), false, exit.MountPointNotDir, "is not a directory"},
	}
	for _, c := range cases {
		got, err := CheckPoint(c.point, c.nonEmpty)
		if err != nil {
			got = err.Error()
		}
		if exit.CodeOf(err) != c.code || !strings.Contains(got, c.want) {
			t.Errorf("%s: code %d, %s; want %d, %s", c.point, exit.CodeOf(err), got, c.code, c.want)
		}
	}
}

func TestErrorsOfMountPoints(t *testing.T) {
	if err := pointError("/x", syscall.ENOTCONN); exit.CodeOf(err) != exit.DeadMount || !strings.Contains(err.Error(), "meshmount unmount /x") {
		t.Error(err)
	}
	if err := pointError("/x", &os.PathError{Op: "open", Path: "/x", Err: syscall.EACCES}); exit.CodeOf(err) != exit.MountPointNotDir || !errors.Is(err, syscall.EACCES) {
		t.Error(err)
	}
}

func TestPrivateDirectories(t *testing.T) {
	dir := t.TempDir()
	fresh := filepath.Join(dir, "a/b/c")
	if err := Private(fresh); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(fresh); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", st, err)
	}
	open, foreign, file, link := filepath.Join(dir, "open"), filepath.Join(dir, "foreign"), filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := errors.Join(os.Mkdir(open, 0o700), os.Chmod(open, 0o770), os.Mkdir(foreign, 0o700),
		os.WriteFile(file, nil, 0o600), os.Symlink("a", link)); err != nil {
		t.Fatal(err)
	}
	bad := map[string]string{open: "can be changed by others (mode 0770); run: chmod 700 " + open, file: "not a directory",
		link: "not a directory", filepath.Join(file, "x"): "not a directory"}
	if os.Geteuid() == 0 {
		if err := os.Chown(foreign, 4242, 4242); err != nil {
			t.Fatal(err)
		}
		bad[foreign] = "belongs to another user (uid 4242)"
	}
	for d, want := range bad {
		if err := Private(d); exit.CodeOf(err) != exit.CacheBad || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", d, err, want)
		}
	}
}

func TestDefaultCacheDirDependsOnEverything(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", "/cache")
	seen := map[string]bool{}
	for _, args := range [][]string{{"/a"}, {"/a", "x"}, {"/a", "x", "y"}, {"/a", "xy"}, {"/b", "x"}} {
		dir, err := DefaultCacheDir(args[0], args[1:])
		if err != nil || filepath.Dir(dir) != "/cache/meshmount" || seen[dir] {
			t.Errorf("%q gave %s, %v", args, dir, err)
		}
		seen[dir] = true
	}
}

// TestLockHelper is no test: TestSecondLock runs it in another process.
func TestLockHelper(t *testing.T) {
	dir := os.Getenv("TEST_LOCK_DIR")
	if dir == "" {
		return
	}
	h, err := Self("/mnt/first", dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Acquire(h); err != nil {
		t.Fatal(err)
	}
	_, _ = os.Stdout.WriteString("locked\n")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
}

func TestSecondLock(t *testing.T) {
	dir := t.TempDir()
	other := exec.Command(os.Args[0], "-test.run=^TestLockHelper$")
	other.Env = append(os.Environ(), "TEST_LOCK_DIR="+dir)
	in, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "locked\n" {
		t.Fatalf("%q, %v", line, err)
	}
	h, err := Self("/mnt/second", dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Acquire(h)
	want := "is in use by process " + strconv.Itoa(other.Process.Pid) + ", mounted on /mnt/first; run: meshmount unmount /mnt/first"
	if exit.CodeOf(err) != exit.CacheBusy || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	if got, err := HolderOf(other.Process.Pid); err != nil || got.Point != "/mnt/first" || got.CacheDir != dir || !got.Alive() {
		t.Errorf("the holder by its number: %+v, %v", got, err)
	}
	if got, err := HolderOf(os.Getpid()); err != nil || got.CacheDir != "" || !got.Alive() {
		t.Errorf("a process without a lock: %+v, %v", got, err)
	}
	if err := errors.Join(in.Close(), other.Wait()); err != nil {
		t.Fatal(err)
	}
	lock, err := Acquire(h)
	if err != nil {
		t.Fatalf("the lock outlived its process: %v", err)
	}
	if err := lock.Release(); err != nil {
		t.Error(err)
	}
}

func TestRegister(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	if _, err := Registered("/mnt/x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("before: %v", err)
	}
	h, err := Self("/mnt/x", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	remove, err := Register(h)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Registered("/mnt/x"); err != nil || got != h || !got.Alive() {
		t.Errorf("%+v, %v", got, err)
	}
	later := h
	later.Started += "0"
	if later.Alive() {
		t.Error("another process with the same number passes")
	}
	if _, err := Register(later); err != nil {
		t.Fatal(err)
	}
	if err := remove(); err != nil {
		t.Fatal(err)
	}
	if got, err := Registered("/mnt/x"); err != nil || got != later {
		t.Errorf("removed the successor's entry: %+v, %v", got, err)
	}
}

func TestEndings(t *testing.T) {
	h, err := Self("/mnt/x", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := ReadEnding(h); exit.CodeOf(err) != exit.Failed || !strings.Contains(err.Error(), "without a word") {
		t.Errorf("no ending: %v", err)
	}
	if err := WriteEnding(h, nil); err != nil {
		t.Fatal(err)
	}
	if err := ReadEnding(h); err != nil {
		t.Errorf("good ending: %v", err)
	}
	other := h
	other.PID++
	if err := ReadEnding(other); err == nil {
		t.Error("the ending of another process was taken")
	}
	if err := WriteEnding(h, exit.New(exit.DataLeft, "look", "two files left")); err != nil {
		t.Fatal(err)
	}
	if err := ReadEnding(h); exit.CodeOf(err) != exit.DataLeft || err.Error() != "two files left; look" {
		t.Errorf("bad ending: %v", err)
	}
}

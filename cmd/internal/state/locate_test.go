package state

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/cmd/internal/exit"
)

// fuse mounts a file system of our type whose process does not answer, and is root's.
func fuseMount(t *testing.T, point string) {
	t.Helper()
	dev, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	options := "fd=" + strconv.Itoa(dev) + ",rootmode=40000,user_id=12345,group_id=0"
	if err := unix.Mount("test", point, FSType, 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(unix.Close(dev), unix.Unmount(point, unix.MNT_DETACH)); err != nil {
			t.Error(err)
		}
	})
}

func TestLocate(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	point, bound := filepath.Join(dir, "a b"), filepath.Join(dir, "bound")
	for _, err := range []error{
		os.Mkdir(point, 0o755), os.Mkdir(bound, 0o755), os.Mkdir(filepath.Join(dir, "sub"), 0o755),
		os.Symlink("../a b/in", filepath.Join(dir, "sub/relative")), os.Symlink(point, filepath.Join(dir, "absolute")),
		os.Symlink("loop", filepath.Join(dir, "loop")), os.Symlink("nowhere", filepath.Join(dir, "broken")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	fuseMount(t, point)
	if err := unix.Mount(point, bound, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(bound, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	for path, want := range map[string]string{
		"a b": "/", "a b/": "/", "a b/x/y": "/x/y", "sub/relative/y": "/in/y", "absolute": "/", "absolute/x": "/x",
		"sub/../a b/x": "/x", "bound/x": "/x",
	} {
		m, inside, err := Locate(filepath.Join(dir, path))
		if err != nil || inside != want || m.User != 12345 {
			t.Errorf("%s: %+v, %q, %v; want %q", path, m, inside, err, want)
		}
	}
	for _, path := range []string{".", "sub", "sub/none/deep", "loop/x", "broken/x", "a bc"} {
		if _, inside, err := Locate(filepath.Join(dir, path)); exit.CodeOf(err) != exit.NotMounted {
			t.Errorf("%s: %q, %v", path, inside, err)
		}
	}
}

func TestBindMountOfAPart(t *testing.T) {
	whole := Mount{ID: 1, Device: "0:50", Root: "/", Point: "/mesh", Type: FSType}
	part := Mount{ID: 2, Device: "0:50", Root: "/a", Point: "/b", Type: FSType}
	other := Mount{ID: 3, Device: "0:51", Root: "/", Point: "/c", Type: FSType}
	table := map[string]Mount{"/mesh": whole, "/b": part, "/c": other}
	if got := original(table, part); got != whole {
		t.Errorf("%+v", got)
	}
	delete(table, "/mesh")
	if got := original(table, part); got != part {
		t.Errorf("%+v", got)
	}
}

func TestMountOfAnother(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	point := t.TempDir()
	fuseMount(t, point)
	m, _, err := Locate(point)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // it does not answer
	_, err = HolderOfMount(ctx, m)
	if exit.CodeOf(err) != exit.NotYours || !strings.Contains(err.Error(), "belongs to another user (uid 12345)") {
		t.Errorf("%v", err)
	}
	m.User = os.Geteuid()
	if _, err = HolderOfMount(ctx, m); exit.CodeOf(err) != exit.NoAnswer {
		t.Errorf("%v", err)
	}
}

func TestCacheDirs(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	root, err := CacheRoot()
	if err != nil {
		t.Fatal(err)
	}
	if list, err := CacheDirs(root); err != nil || len(list) > 0 {
		t.Errorf("%v, %v", list, err)
	}
	mine, gone, elsewhere := filepath.Join(root, "mine"), filepath.Join(root, "gone"), t.TempDir()
	held := Holder{}
	for dir, point := range map[string]string{mine: "/mnt/a", gone: "/mnt/b", elsewhere: "/mnt/a"} {
		if err := Private(dir); err != nil && dir != elsewhere {
			t.Fatal(err)
		}
		h, err := Self(point, dir)
		if err != nil {
			t.Fatal(err)
		}
		if dir == gone {
			h.Started = "before"
		}
		lock, err := Acquire(h)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = lock.Release() }()
		if dir == elsewhere {
			held = h
		}
	}
	if _, err := Register(held); err != nil {
		t.Fatal(err)
	}
	list, err := CacheDirs(root)
	if err != nil || len(list) != 2 || list[0] != (CacheDir{Dir: gone, Point: "/mnt/b"}) || list[1] != (CacheDir{Dir: mine, Point: "/mnt/a", PID: os.Getpid(), Control: controlSocket("/mnt/a", mine)}) {
		t.Errorf("%+v, %v", list, err)
	}
	list, err = CacheDirsOf(root, "/mnt/a")
	if err != nil || len(list) != 2 || list[0].Dir != mine || list[1] != (CacheDir{Dir: elsewhere, Point: "/mnt/a", PID: os.Getpid(), Control: controlSocket("/mnt/a", elsewhere)}) {
		t.Errorf("%+v, %v", list, err)
	}
	list, err = AllCacheDirs(root)
	if err != nil || len(list) != 3 || list[2].Dir != elsewhere {
		t.Errorf("%+v, %v", list, err)
	}
	if list, err := CacheDirsOf(root, "/mnt/none"); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestCanReserve(t *testing.T) {
	dir := t.TempDir()
	if err := CanReserve(dir); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if err := CanReserve(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if err := CanReserve("/proc"); err == nil {
		t.Error("/proc can reserve space")
	}
}

func TestControlSocket(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	if got := controlSocket("/mnt", "/d"); !strings.HasPrefix(got, cache+"/meshmount/mounts/") || !strings.HasSuffix(got, ".sock") {
		t.Error(got)
	}
	if got := controlSocket("/dev/fd/3", "/d"); got != "/d/control.sock" {
		t.Error(got)
	}
	t.Setenv("XDG_CACHE_HOME", "/proc/none")
	if got := controlSocket("/mnt", "/d"); got != "/d/control.sock" {
		t.Error(got)
	}
}

func TestTemporary(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	first, err := Temporary("/home/me/.cache/meshmount/abc")
	if err != nil || !strings.HasPrefix(first, temp) || filepath.Base(first) != "abc" {
		t.Fatalf("%s, %v", first, err)
	}
	if again, err := Temporary("/home/me/.cache/meshmount/abc"); again != first || err != nil {
		t.Errorf("%s, %v", again, err)
	}
	// Whoever made the directory above could replace ours.
	if err := os.Chmod(filepath.Dir(first), 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Temporary("/home/me/.cache/meshmount/abc"); exit.CodeOf(err) != exit.CacheBad {
		t.Errorf("%v", err)
	}
}

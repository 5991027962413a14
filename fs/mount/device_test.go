package mount

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
)

func TestOptionsValidate(t *testing.T) {
	bad := Options{MaxWrite: 100, ReadAheadKB: -1, MaxBackground: 70000, DirectIO: 9, Options: []string{"a,b", "", "auto_unmount"}}
	err := bad.Validate()
	if err == nil || strings.Count(err.Error(), "\n") != 6 {
		t.Errorf("not all faults are told: %v", err)
	}
	good := Options{}.withDefaults()
	if err := good.Validate(); err != nil || good.FSName == "" || good.MaxWrite != 1<<20 {
		t.Errorf("defaults: %+v, %v", good, err)
	}
	if _, err := Mount(t.Context(), nil, t.TempDir(), bad); err == nil {
		t.Error("mounted with bad options")
	}
}

func TestOptionsSettings(t *testing.T) {
	for _, tc := range []struct {
		opts Options
		want string
	}{
		{Options{MaxWrite: 4096}, "max_read=4096 default_permissions"},
		{Options{MaxWrite: 4096, NoPermissionCheck: true, AllowOther: true, ReadOnly: true, Options: []string{"noatime"}},
			"max_read=4096 allow_other ro noatime"},
	} {
		if got := strings.Join(tc.opts.settings(), " "); got != tc.want {
			t.Errorf("%q, want %q", got, tc.want)
		}
	}
}

func TestInherited(t *testing.T) {
	for point, want := range map[string]int{
		"/dev/fd/7": 7, "/dev/fd/12/": 12, "/dev/fd/0": 0, "/dev/fd/x": 0, "/dev/fd/-3": 0, "/dev/fdx/3": 0, "/mnt": 0,
	} {
		fd, ok := inherited(point)
		if ok != (want > 0) || ok && fd != want {
			t.Errorf("%s: %d, %v", point, fd, ok)
		}
	}
}

// Errors are one line that names the mount point and the reason.
func TestMountErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(t.TempDir(), "missing")
	core := newCore(t, memory.New(memory.Options{}), time.Minute)
	for _, tc := range []struct {
		name, point string
		opts        Options
		reason      string
	}{
		{"missing", missing, Options{}, "No such file or directory"},
		{"missing, direct", missing, Options{DirectMount: true}, "No such file or directory"},
		{"unknown option", t.TempDir(), Options{Options: []string{"nonsense"}}, "nonsense"},
		{"a closed descriptor", "/dev/fd/999", Options{}, "bad file descriptor"},
	} {
		_, err := Mount(t.Context(), core, tc.point, tc.opts)
		if err == nil {
			t.Errorf("%s: mounted", tc.name)
			continue
		}
		text := err.Error()
		if !strings.Contains(text, tc.point) || !strings.Contains(text, tc.reason) || strings.Contains(text, "\n") {
			t.Errorf("%s: %q", tc.name, text)
		}
	}
}

// Without the helper the error says so, and a program can tell.
func TestNoHelper(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	cmd, err := helperCommand("-V")
	if _, there := os.Stat("/bin/" + helper); there == nil {
		if err != nil || cmd.Path != "/bin/"+helper {
			t.Errorf("%s is not found in /bin: %v", helper, err)
		}
		return
	}
	if !errors.Is(err, ErrNoFUSE) {
		t.Error(err)
	}
}

func TestHelperMessages(t *testing.T) {
	script := filepath.Join(t.TempDir(), helper)
	t.Setenv("PATH", filepath.Dir(script)+":"+os.Getenv("PATH"))
	for _, tc := range []struct {
		says string
		want error
	}{
		{"echo 'fusermount3: failed to unmount /x: Device or resource busy' >&2; exit 1", unix.EBUSY},
		{"echo 'fusermount3: fuse device not found, try modprobe /dev/fuse first' >&2; exit 1", ErrNoFUSE},
		{"printf 'two\\nlines\\n' >&2; exit 1", nil},
		{"exit 3", nil},
	} {
		if err := os.WriteFile(script, []byte("#!/bin/sh\n"+tc.says+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		cmd, err := helperCommand("-u")
		if err != nil {
			t.Fatal(err)
		}
		err = runHelper(cmd)
		if err == nil || tc.want != nil && !errors.Is(err, tc.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", tc.says, err)
		}
	}
	if err := os.WriteFile(script, []byte("#!/bin/sh\nexit 0\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := mountByHelper(t.TempDir(), &Options{}); err == nil {
		t.Error("a helper that sends nothing is believed")
	}
}

// A container runtime makes the mount and hands its channel to us.
func TestInheritedMount(t *testing.T) {
	point := t.TempDir()
	opts := Options{}.withDefaults()
	fd, err := mountDirect(point, &opts)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Mount(t.Context(), newCore(t, memory.New(memory.Options{}), time.Minute), "/dev/fd/"+strconv.Itoa(fd), opts)
	if err != nil {
		_ = unix.Unmount(point, unix.MNT_DETACH)
		t.Fatal(err)
	}
	// Not by package os: it polls each file that it opens, in a way that stops the
	// whole process until the kernel has its answer, and the answer is ours to give.
	// Mount rules that out where it knows the mount point; here it does not.
	f, err := unix.Open(filepath.Join(point, "f"), unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		t.Error(err)
	} else if _, err := unix.Write(f, []byte("x")); err != nil {
		t.Error(err)
	} else if err := unix.Close(f); err != nil {
		t.Error(err)
	}
	if err := s.Unmount(); err == nil {
		t.Error("unmounted without knowing where")
	}
	if err := unix.Unmount(point, 0); err != nil {
		t.Error(err)
	}
	s.Wait()
}

func TestDetach(t *testing.T) {
	s, dir, b := mountAt(t, Options{DirectMount: true})
	f, err := os.Create(filepath.Join(dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Detach(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "f")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("still in sight: %v", err)
	}
	if _, err := f.WriteString("late"); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	s.Wait()
	if e, err := b.Stat(t.Context(), "/f"); err != nil || e.Size != 4 {
		t.Errorf("on the server: %+v, %v", e, err)
	}
}

func TestReadOnly(t *testing.T) {
	for _, direct := range []bool{false, true} {
		_, dir, _ := mountAt(t, Options{ReadOnly: true, DirectMount: direct})
		if err := os.Mkdir(filepath.Join(dir, "d"), 0o755); !errors.Is(err, syscall.EROFS) {
			t.Errorf("direct %v: mkdir: %v", direct, err)
		}
	}
}

// A panic is the error of one call, with a record of where it was.
func TestPanic(t *testing.T) {
	var log logBuffer
	dir := t.TempDir()
	back := memory.New(memory.Options{})
	core := newCore(t, panicky{back}, time.Minute)
	s, err := Mount(t.Context(), core, dir, Options{DirectMount: true, Logger: log.logger()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Unmount(); err != nil {
			t.Error(err)
		}
	}()
	file := filepath.Join(dir, "f")
	if err := os.WriteFile(file, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Read(make([]byte, 4096)); !errors.Is(err, syscall.EIO) {
		t.Errorf("read: %v", err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("after the panic: %v", err)
	}
	if text := log.String(); !strings.Contains(text, "a bug") || !strings.Contains(text, "panicky") {
		t.Errorf("log: %s", text)
	}
}

// panicky is a backend with a bug.
type panicky struct{ remote.Backend }

func (panicky) ReadAt(context.Context, remote.Ref, []byte, int64) (int, error) { panic("a bug") }

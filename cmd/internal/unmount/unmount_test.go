package unmount

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/state"
)

// sleeper starts a process that lives until the test ends it.
func sleeper(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	cmd.Dir = dir
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

func TestUsersAreNamed(t *testing.T) {
	dir := t.TempDir()
	if got := users(dir); got != "" {
		t.Errorf("nobody uses it, but: %s", got)
	}
	first := sleeper(t, dir)
	if got, want := users(dir), " by "+strconv.Itoa(first.Process.Pid)+" (sleep, working directory)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	file, err := os.Create(filepath.Join(dir, "open"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if got := users(dir); !strings.Contains(got, ", open "+file.Name()+")") {
		t.Errorf("%q", got)
	}
	for range most {
		sleeper(t, dir)
	}
	if got := users(dir); strings.Count(got, ",") > 2*most || !strings.HasSuffix(got, ", and others") {
		t.Errorf("%q", got)
	}
}

// holder describes a process and opens it.
func holder(t *testing.T, pid int) (state.Holder, int) {
	t.Helper()
	h, err := state.HolderOf(pid)
	if err != nil {
		t.Fatal(err)
	}
	fd, ok := open(h)
	if !ok {
		t.Fatalf("cannot open %+v", h)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return h, fd
}

func TestWait(t *testing.T) {
	cmd := sleeper(t, "/")
	h, fd := holder(t, cmd.Process.Pid)
	if err := wait(t.Context(), fd, h, Options{Timeout: 50 * time.Millisecond}); exit.CodeOf(err) != exit.UnmountTimeout {
		t.Errorf("time-out: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := wait(ctx, fd, h, Options{}); exit.CodeOf(err) != exit.Interrupted {
		t.Errorf("interrupted: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := wait(t.Context(), fd, h, Options{Timeout: 20 * time.Second}); err != nil {
		t.Errorf("ended: %v", err)
	}
	_ = cmd.Wait()
	if _, ok := open(h); ok {
		t.Error("a process that has ended was opened")
	}
}

func TestProcessThatDrains(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	point := filepath.Join(t.TempDir(), "gone")
	cmd := sleeper(t, "/")
	h, _ := holder(t, cmd.Process.Pid)
	h.Point, h.CacheDir = point, t.TempDir()
	if _, err := state.Register(h); err != nil {
		t.Fatal(err)
	}
	if err := Unmount(t.Context(), point, Options{Timeout: 50 * time.Millisecond}); exit.CodeOf(err) != exit.UnmountTimeout {
		t.Errorf("still at work: %v", err)
	}
	if err := state.WriteEnding(h, exit.New(exit.DataLeft, "", "one file")); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { _ = cmd.Process.Kill() })
	if err := Unmount(t.Context(), point, Options{Timeout: 20 * time.Second}); exit.CodeOf(err) != exit.DataLeft || err.Error() != "one file" {
		t.Errorf("its ending: %v", err)
	}
	_ = cmd.Wait()
	if err := Unmount(t.Context(), point, Options{}); exit.CodeOf(err) != exit.NotMounted {
		t.Errorf("afterwards: %v", err)
	}
}

func TestOtherMountsAreLeftAlone(t *testing.T) {
	if err := Unmount(t.Context(), "/proc", Options{Lazy: true}); exit.CodeOf(err) != exit.NotMounted {
		t.Errorf("/proc: %v", err)
	}
	if _, mounted, err := state.FindMount("/proc"); err != nil || !mounted {
		t.Fatalf("/proc is gone: %v", err)
	}
}

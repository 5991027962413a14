package cli

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/state"
	"github.com/meshmount/meshmount/integration/efss"
)

// holder returns the process behind the world's mount.
func (w *world) holder() state.Holder {
	w.t.Helper()
	w.t.Setenv("XDG_CACHE_HOME", filepath.Join(w.dir, "cache"))
	h, err := state.Registered(w.point)
	if err != nil || !h.Alive() {
		w.t.Fatalf("%+v, %v", h, err)
	}
	return h
}

// checkClean looks for secrets in what everybody can see of a process.
func checkClean(t *testing.T, pid int) {
	t.Helper()
	for _, name := range []string{"environ", "cmdline"} {
		text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), name))
		if err != nil || bytes.Contains(text, []byte(password)) || len(text) == 0 {
			t.Errorf("%s of the process: %q, %v", name, text, err)
		}
	}
}

func readBack(t *testing.T, name, want string) {
	t.Helper()
	if got, err := os.ReadFile(name); err != nil || string(got) != want {
		t.Errorf("%s: %q, %v", name, got, err)
	}
}

func TestBackgroundMount(t *testing.T) {
	a, b := site(t, efss.StartOptions{TLS: true}), site(t, efss.StartOptions{})
	w := newWorld(t, "MESHMOUNT_PASSWORD_LEXIS_P1=hunter2", "MESHMOUNT_TOKEN_SCIEBO=app-hunter2")
	w.succeeds(w.run("mount", "--ca-file", "sciebo="+a.CAFile, w.point, "sciebo="+address(a), "lexis/p1="+address(b)))
	// It answers at once, with both branches.
	file := filepath.Join(w.point, "lexis/p1/file")
	if err := os.WriteFile(file, []byte("text"), 0o644); err != nil {
		t.Fatalf("%v\n%s", err, w.logs())
	}
	readBack(t, file, "text")
	w.succeeds(w.run("flush", file))
	readBack(t, filepath.Join(b.Disk("me"), "file"), "text")
	if _, err := os.ReadDir(filepath.Join(w.point, "sciebo")); err != nil {
		t.Error(err)
	}
	h := w.holder()
	checkClean(t, h.PID)
	if session, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.PID)); err != nil || !strings.Contains(string(session), fmt.Sprintf(" %d %d 0 ", h.PID, h.PID)) {
		t.Errorf("not in a session of its own, or with a terminal: %s, %v", session, err)
	}
	if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", h.PID)); err != nil || cwd != "/" {
		t.Errorf("working directory %s, %v", cwd, err)
	}
	// A second mount there, and one on its cache directory.
	w.fails(w.run("mount", w.point, "a=dav://127.0.0.1:1/"), exit.AlreadyMounted, w.point+" is mounted already (meshmount); run: meshmount unmount "+w.point)
	other := newWorld(t)
	other.fails(other.run("mount", "--cache-dir", h.CacheDir, other.point, "a=dav://127.0.0.1:1/"), exit.CacheBusy,
		fmt.Sprintf("is in use by process %d, mounted on %s; run: meshmount unmount %s", h.PID, w.point, w.point))
	w.succeeds(w.run("unmount", w.point))
	if h.Alive() {
		t.Error("the process lives on")
	}
	w.clean()
	if log := w.logs(); strings.Contains(log, password) || !strings.Contains(log, "msg=unmounted") {
		t.Errorf("log:\n%s", log)
	}
	w.fails(w.run("unmount", w.point), exit.NotMounted, "no meshmount mount")
}

func TestForegroundMount(t *testing.T) {
	s := site(t, efss.StartOptions{})
	w := newWorld(t, "MESHMOUNT_PASSWORD=hunter2", "MESHMOUNT_LOG_FORMAT=json", "MESHMOUNT_LOG_LEVEL=debug")
	b := w.start("mount", "-f", w.point, "="+address(s))
	b.says(t, `"msg":"mounted"`)
	checkClean(t, b.cmd.Process.Pid)
	if err := os.Mkdir(filepath.Join(w.point, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	if m, _, err := state.FindMount(w.point); err != nil || m.Source != strings.Replace(strings.TrimSuffix(address(s), "/"), "me@", "", 1) {
		t.Errorf("%+v, %v", m, err)
	}
	b.signal(t, syscall.SIGTERM)
	if code := b.ends(t); code != exit.OK {
		t.Errorf("code %d\n%s", code, b.log())
	}
	if strings.Contains(b.log(), password) {
		t.Errorf("the log shows the password:\n%s", b.log())
	}
	w.clean()
}

func TestBusyMount(t *testing.T) {
	s := site(t, efss.StartOptions{})
	w := newWorld(t, "MESHMOUNT_PASSWORD=hunter2")
	b := w.start("mount", "-f", w.point, "="+address(s))
	b.says(t, "msg=mounted")
	file, err := os.Create(filepath.Join(w.point, "open"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	r := w.run("unmount", w.point)
	w.fails(r, exit.UnmountBusy, fmt.Sprintf("is in use by %d (", os.Getpid()))
	if want := "open " + file.Name() + "); end these programs, or use --lazy"; !strings.Contains(r.errors, want) {
		t.Errorf("%s\nwant %s", r.errors, want)
	}
	b.signal(t, syscall.SIGTERM)
	b.says(t, "cannot unmount, serving on")
	if _, err := os.Stat(filepath.Join(w.point, "open")); err != nil {
		t.Errorf("it does not serve on: %v", err)
	}
	b.signal(t, syscall.SIGTERM)
	b.says(t, "detaching the mount")
	await(t, func() error {
		if _, mounted, err := state.FindMount(w.point); err != nil || mounted {
			return fmt.Errorf("still mounted: %v", err)
		}
		return nil
	})
	if _, err := file.WriteString("late"); err != nil {
		t.Errorf("the open file is lost: %v", err)
	}
	if err := file.Close(); err != nil {
		t.Errorf("closing after the detach: %v", err)
	}
	if code := b.ends(t); code != exit.OK {
		t.Errorf("code %d\n%s", code, b.log())
	}
	readBack(t, filepath.Join(s.Disk("me"), "open"), "late")
	w.clean()
}

func TestLazyUnmount(t *testing.T) {
	s := site(t, efss.StartOptions{})
	w := newWorld(t, "MESHMOUNT_PASSWORD=hunter2")
	w.succeeds(w.run("mount", w.point, "="+address(s)))
	h := w.holder()
	file, err := os.Create(filepath.Join(w.point, "open"))
	if err != nil {
		t.Fatal(err)
	}
	w.fails(w.run("unmount", "--lazy", "--timeout", "300ms", w.point), exit.UnmountTimeout, fmt.Sprintf("is unmounted, but process %d is still at work", h.PID))
	if err := file.Close(); err != nil {
		t.Error(err)
	}
	// Now it waits for the process, or finds that it has just ended.
	if r := w.run("unmount", w.point); r.code != exit.OK && r.code != exit.NotMounted {
		t.Errorf("%+v", r)
	}
	await(t, func() error {
		if h.Alive() {
			return errors.New("the process lives on")
		}
		return nil
	})
	w.clean()
}

func TestDeadMount(t *testing.T) {
	s := site(t, efss.StartOptions{})
	w := newWorld(t, "MESHMOUNT_PASSWORD=hunter2")
	w.succeeds(w.run("mount", w.point, "="+address(s)))
	h := w.holder()
	if err := syscall.Kill(h.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, func() error {
		if err := state.Probe(w.point, probePatience); !errors.Is(err, syscall.ENOTCONN) {
			return fmt.Errorf("not dead: %v", err)
		}
		return nil
	})
	w.fails(w.run("mount", w.point, "="+address(s)), exit.DeadMount, "the process behind the mount on "+w.point+" has died; run: meshmount unmount "+w.point)
	w.succeeds(w.run("unmount", w.point))
	w.clean()
	// The cache directory is free again.
	w.succeeds(w.run("mount", w.point, "="+address(s)))
	w.succeeds(w.run("unmount", w.point))
	w.clean()
}

func TestUnmountByAnother(t *testing.T) {
	s := site(t, efss.StartOptions{})
	w := newWorld(t, "MESHMOUNT_PASSWORD=hunter2")
	b := w.start("mount", "-f", w.point, "="+address(s))
	b.says(t, "msg=mounted")
	if out, err := exec.Command("fusermount3", "-u", w.point).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if code := b.ends(t); code != exit.OK {
		t.Errorf("code %d\n%s", code, b.log())
	}
	w.clean()
}

// TestUnmountFromAnotherEnvironment finds the process by the mount itself.
func TestUnmountFromAnotherEnvironment(t *testing.T) {
	s := site(t, efss.StartOptions{})
	w := newWorld(t, "MESHMOUNT_PASSWORD=hunter2")
	w.succeeds(w.run("mount", w.point, "="+address(s)))
	h := w.holder()
	other := newWorld(t)
	other.succeeds(other.run("unmount", w.point))
	if h.Alive() {
		t.Error("it did not wait for the process")
	}
	w.clean()
}

func TestInterruptedStart(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for _, mode := range [][]string{{"mount"}, {"mount", "-f"}} {
		w := newWorld(t)
		b := w.start(append(mode, w.point, "a=dav://"+l.Addr().String()+"/")...)
		conn, err := l.Accept() // it is connecting now
		if err != nil {
			t.Fatal(err)
		}
		b.signal(t, syscall.SIGINT)
		if code := b.ends(t); code != exit.Interrupted || !strings.Contains(b.log(), "interrupted") {
			t.Errorf("%q: code %d\n%s", mode, code, b.log())
		}
		_ = conn.Close()
		w.clean()
	}
}

func TestDataLeft(t *testing.T) {
	s := site(t, efss.StartOptions{})
	w := newWorld(t, "MESHMOUNT_PASSWORD=hunter2")
	w.succeeds(w.run("mount", "--write=through", "--retry-time=0", "--drain-timeout=2s", "--io-timeout=1s", w.point, "="+address(s)))
	h := w.holder()
	file, err := os.Create(filepath.Join(w.point, "precious"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if _, err := file.WriteString("data"); err != nil {
		t.Fatal(err)
	}
	s.SetMaintenance(true)
	abort(t, w.point)
	r := w.run("unmount", w.point)
	if r.code != exit.DataLeft && r.code != exit.NotMounted {
		t.Errorf("%+v\n%s", r, w.logs())
	}
	await(t, func() error {
		if h.Alive() {
			return errors.New("the process lives on")
		}
		return nil
	})
	if err := state.ReadEnding(h); exit.CodeOf(err) != exit.DataLeft || !strings.Contains(err.Error(), "precious") {
		t.Errorf("ending %v\n%s", err, w.logs())
	}
	parked, err := filepath.Glob(filepath.Join(h.CacheDir, "parked", "*"))
	if err != nil || !holds(parked, "data") {
		t.Errorf("parked: %q, %v", parked, err)
	}
	w.clean()
}

// holds tells whether one of the files has this content.
func holds(files []string, text string) bool {
	for _, name := range files {
		if got, err := os.ReadFile(name); err == nil && string(got) == text {
			return true
		}
	}
	return false
}

// abort cuts a mount off from its process, as an admin would. The control file belongs
// to whoever mounted; only the file system it is in may need root to be there.
func abort(t *testing.T, point string) {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(point, &st); err != nil {
		t.Fatal(err)
	}
	const control = "/sys/fs/fuse/connections"
	name := fmt.Sprintf("%s/%d/abort", control, st.Dev)
	if _, err := os.Stat(name); err != nil {
		if err := syscall.Mount("fusectl", control, "fusectl", 0, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(name, []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
}

func TestMountHelper(t *testing.T) {
	s := site(t, efss.StartOptions{})
	w := newWorld(t)
	secret := w.write("pw", 0o600, "hunter2\n")
	helper := func(args ...string) result { return w.finish(w.command("mount.meshmount", args...)) }
	options := "rw,noexec,_netdev,user=root,x-systemd.automount,password_file=" + secret + ",attr-ttl=1s,uid=0"
	w.succeeds(helper(address(s), w.point, "-f", "-o", options))
	w.clean()
	w.succeeds(helper(address(s), w.point, "-n", "-v", "-o", options))
	m, mounted, err := state.FindMount(w.point)
	if err != nil || !mounted || m.Source != address(s) {
		t.Errorf("%+v, %v: mount(8) would not recognise it", m, err)
	}
	table, err := os.ReadFile("/proc/self/mounts")
	if err != nil || !strings.Contains(string(table), w.point+" fuse.meshmount rw,nosuid,nodev,noexec,") {
		t.Errorf("options are lost: %s, %v", table, err)
	}
	if err := os.Mkdir(filepath.Join(w.point, "dir"), 0o755); err != nil {
		t.Error(err)
	}
	w.succeeds(w.run("unmount", w.point))
	config := w.write("mesh.toml", 0o600, "[branch.a]\nurl='"+address(s)+"'\npassword='hunter2'\n")
	w.succeeds(helper(config, w.point, "-o", "ro"))
	if err := os.Mkdir(filepath.Join(w.point, "a/x"), 0o755); !errors.Is(err, syscall.EROFS) {
		t.Errorf("mkdir on a read-only mount: %v", err)
	}
	w.succeeds(w.run("unmount", w.point))
	w.fails(helper(config, w.point, "-o", "nonsense"), exit.Usage, `unknown mount option "nonsense"`)
	w.succeeds(helper(config, w.point, "-s", "-f", "-o", "nonsense"))
	w.fails(helper(config), exit.Usage, "SOURCE or DIRECTORY is missing")
	w.clean()
}

func TestTokenIsRenewed(t *testing.T) {
	s := site(t, efss.StartOptions{})
	w := newWorld(t)
	token := w.write("token", 0o600, "app-hunter2")
	w.succeeds(w.run("mount", "--token-file", token, "--attr-ttl=0", "--dir-ttl=0", w.point, "="+strings.Replace(address(s), "me@", "", 1)))
	if err := os.WriteFile(filepath.Join(w.point, "x"), nil, 0o644); err != nil {
		t.Errorf("%v\n%s", err, w.logs())
	}
	w.succeeds(w.run("unmount", w.point))
	w.clean()
}

const probePatience = 5e9

package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/harness"
)

// TestUserSetuid mounts as an unprivileged user through fusermount3.
func TestUserSetuid(t *testing.T) {
	testUser(t, "setuid.sh")
}

// TestUserNamespace mounts as an unprivileged user in a user namespace, where no
// set-uid helper is to be had.
func TestUserNamespace(t *testing.T) {
	testUser(t, "namespace.sh")
}

// testUser lets an unprivileged user work on a mount and looks at what came out on
// the server's disk.
func testUser(t *testing.T, script string) {
	s := startEFSS(t, efss.Nextcloud)
	u := newPlainUser(t)
	work := append([]string{"bash", filepath.Join(u.dir, "work.sh"), harness.Program(t), filepath.Join(u.home, "mnt")}, s.args...)
	u.run(t, script, append(s.env, "WHO="+script), work...)

	facts := scan(t, s.disk("a"))
	content, err := os.ReadFile(filepath.Join(s.disk("a"), "dir", "renamed"))
	if err != nil || string(content) != "written by "+script+"\n" {
		t.Errorf("the server has %q, %v", content, err)
	}
	if copied := scan(t, s.disk("b"))["copy"]; copied.size != 300000 || copied.sum != facts["dir/random"].sum {
		t.Errorf("copy is %v, the original %v", copied, facts["dir/random"])
	}
}

// plainUser is an ordinary user made for a test.
type plainUser struct {
	uid, gid  int
	dir, home string // readable by the user, owned by the user
}

func newPlainUser(t *testing.T) plainUser {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("this test needs root, to become an ordinary user")
	}
	u := plainUser{dir: publicDir(t)}
	u.uid, u.gid = createUser(t)
	u.home = filepath.Join(u.dir, "home")
	for _, d := range []string{filepath.Join(u.dir, "nodes"), u.home} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(u.home, u.uid, u.gid); err != nil {
		t.Fatal(err)
	}
	copyScripts(t, u.dir)
	return u
}

// run runs a command as the user in a private mount namespace prepared by one of
// the scripts in testdata/user.
func (u plainUser) run(t *testing.T, script string, env []string, command ...string) string {
	t.Helper()
	return harness.Run(t, "/", "unshare", slices.Concat(
		[]string{"-m", "--propagation", "private", "env", "-u", "XDG_CACHE_HOME", "HOME=" + u.home, "TMPDIR=" + u.home}, env,
		[]string{"bash", filepath.Join(u.dir, script), strconv.Itoa(u.uid), strconv.Itoa(u.gid), filepath.Join(u.dir, "nodes")},
		command)...)
}

// createUser makes a user that is removed when the test ends.
func createUser(t *testing.T) (uid, gid int) {
	t.Helper()
	name := fmt.Sprintf("mesh%d", time.Now().UnixNano()%1e9)
	harness.Run(t, "/", "useradd", "--no-create-home", "--user-group", "--shell", "/bin/sh", name)
	t.Cleanup(func() {
		endProcesses(t, uid)
		if out, err := exec.Command("userdel", name).CombinedOutput(); err != nil {
			t.Errorf("userdel %s: %v: %s", name, err, out)
		}
	})
	id := func(flag string) int {
		n, err := strconv.Atoi(strings.TrimSpace(harness.Run(t, "/", "id", flag, name)))
		if err != nil || n == 0 {
			t.Fatalf("user %s has id %d, %v", name, n, err)
		}
		return n
	}
	uid, gid = id("-u"), id("-g")
	return uid, gid
}

// endProcesses kills what is left of the user's processes after a failure.
func endProcesses(t *testing.T, uid int) {
	t.Helper()
	entries, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range entries {
		info, err := os.Stat(dir)
		if err != nil || uid == 0 || info.Sys().(*syscall.Stat_t).Uid != uint32(uid) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		line, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err == nil && len(line) > 0 { // a zombie has none
			t.Errorf("process %d of the user was left: %q", pid, line)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// publicDir makes a temporary directory that every user may enter.
func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "meshmount-user-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// copyScripts copies the user scripts to where every user can read them.
func copyScripts(t *testing.T, dir string) {
	t.Helper()
	scripts, err := filepath.Glob("testdata/user/*.sh")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, path := range scripts {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

package integration_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/harness"
)

// The tests here show what differs from a local file system, on mounts of the built
// program; the README's table names them.

// TestDeviationNames makes names that the server would change or hide.
func TestDeviationNames(t *testing.T) {
	s := startEFSS(t, efss.Nextcloud)
	dir := filepath.Join(harness.Mounting(t, s.env, s.args...).Dir, "a")
	for name, want := range map[string]syscall.Errno{
		`back\slash`: syscall.EINVAL, ".htaccess": syscall.EINVAL, "upload.part": syscall.EINVAL,
		strings.Repeat("n", 251): syscall.ENAMETOOLONG, "decomposed-e\u0301": syscall.EINVAL,
	} {
		wantErrno(t, "mkdir "+name, os.Mkdir(filepath.Join(dir, name), 0o755), want)
		wantErrno(t, "make "+name, os.WriteFile(filepath.Join(dir, name), nil, 0o644), want)
	}
	waitFor(t, func() error {
		if got := listNames(t, dir); len(got) != 0 {
			return fmt.Errorf("the directory holds %q", got)
		}
		return nil
	})
}

// TestDeviationPlainServer works on a server that keeps neither modes nor times nor
// links, as rclone serve webdav.
func TestDeviationPlainServer(t *testing.T) {
	s := startRclone(t)
	m := harness.Mounting(t, s.env, s.args...)
	file := filepath.Join(m.Dir, "a", "file")
	if err := os.WriteFile(file, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantErrno(t, "symlink", os.Symlink("file", filepath.Join(m.Dir, "a", "link")), syscall.EPERM)
	old := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	if err := errors.Join(os.Chmod(file, 0o755), os.Chtimes(file, old, old)); err != nil {
		t.Errorf("chmod and utimes are not just ignored: %v", err)
	}
	m.MustUnmount(t)
	m = harness.Mounting(t, s.env, s.args...)
	info, err := os.Stat(filepath.Join(m.Dir, "a", "file"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o644 || info.ModTime().Before(time.Now().Add(-time.Hour)) {
		t.Errorf("mode %v and time %v after a fresh mount", info.Mode(), info.ModTime())
	}
	m.MustUnmount(t)
}

// TestDeviationConflict changes one file through two mounts at once: the second to
// close is told, and its content lies beside the first's.
func TestDeviationConflict(t *testing.T) {
	s := startEFSS(t, efss.Nextcloud)
	first := filepath.Join(harness.Mounting(t, s.env, s.args...).Dir, "a")
	second := filepath.Join(harness.Mounting(t, s.env, s.args...).Dir, "a")
	if err := os.WriteFile(filepath.Join(first, "file"), []byte("base"), 0o644); err != nil {
		t.Fatal(err)
	}
	one, err := os.OpenFile(filepath.Join(first, "file"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	two, err := os.OpenFile(filepath.Join(second, "file"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []*os.File{one, two} {
		if _, err := f.WriteString("by " + map[bool]string{true: "one", false: "two, longer"}[f == one]); err != nil {
			t.Fatal(err)
		}
	}
	if err := one.Close(); err != nil {
		t.Errorf("first to close: %v", err)
	}
	wantErrno(t, "second to close", two.Close(), syscall.ESTALE)
	content := map[string]string{}
	disk := s.disk("a")
	for _, name := range listNames(t, disk) {
		text, err := os.ReadFile(filepath.Join(disk, name))
		if err != nil {
			t.Fatal(err)
		}
		if base, _, ok := strings.Cut(name, ".conflict-"); ok {
			name = base + ".conflict"
		}
		content[name] = string(text)
	}
	if len(content) != 2 || content["file"] != "by one" || content["file.conflict"] != "by two, longer" {
		t.Errorf("the server has %q", content)
	}
}

// TestDeviationFreshness looks for a change made elsewhere: at once with a time to
// live of nothing, after some seconds by default.
func TestDeviationFreshness(t *testing.T) {
	s := startEFSS(t, efss.Nextcloud)
	writer := filepath.Join(harness.Mounting(t, s.env, s.args...).Dir, "a", "file")
	strict := filepath.Join(harness.Mounting(t, s.env, append(s.args, "--attr-ttl=0", "--dir-ttl=0", "--negative-ttl=0")...).Dir, "a", "file")
	lazy := filepath.Join(harness.Mounting(t, s.env, s.args...).Dir, "a", "file")
	for _, content := range []string{"one", "two", "three, longer", "four"} {
		if err := os.WriteFile(writer, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(strict); err != nil || string(text) != content {
			t.Errorf("without time to live: %q, %v; want %q", text, err, content)
		}
	}
	waitFor(t, func() error {
		text, err := os.ReadFile(lazy)
		if err == nil && string(text) != "four" {
			err = errors.New("still the old content")
		}
		return err
	})
}

// TestDeviationQuota fills a share: write succeeds, close and fsync tell.
func TestDeviationQuota(t *testing.T) {
	server, err := efss.Start(efss.Options{Dir: t.TempDir(),
		Users: []efss.User{{Name: "alice", AppPassword: "app-alice", Quota: 1 << 20}}}, efss.StartOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	m := harness.Mounting(t, []string{"MESHMOUNT_PASSWORD_A=app-alice"}, "a="+branchURL(server.DAVURL("alice"), "alice"))
	dir := filepath.Join(m.Dir, "a")
	if err := os.WriteFile(filepath.Join(dir, "fits"), make([]byte, 100_000), 0o644); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(dir, "large"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.Write(make([]byte, 2<<20)); err != nil {
		t.Errorf("write: %v", err)
	}
	wantErrno(t, "fsync", file.Sync(), syscall.EDQUOT)
	wantErrno(t, "close", file.Close(), syscall.EDQUOT)
	if text, err := os.ReadFile(filepath.Join(dir, "fits")); err != nil || len(text) != 100_000 {
		t.Errorf("the other file: %d bytes, %v", len(text), err)
	}
}

// TestDeviationStat looks at attributes that no server keeps.
func TestDeviationStat(t *testing.T) {
	s := startEFSS(t, efss.Nextcloud)
	m := harness.Mounting(t, s.env, s.args...)
	file := filepath.Join(m.Dir, "a", "file")
	if err := os.WriteFile(file, []byte("text"), 0o640); err != nil {
		t.Fatal(err)
	}
	var before, after unix.Stat_t
	if err := unix.Stat(file, &before); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1100 * time.Millisecond)
	if _, err := os.ReadFile(file); err != nil {
		t.Fatal(err)
	}
	if err := unix.Stat(file, &after); err != nil {
		t.Fatal(err)
	}
	if before.Atim != after.Atim {
		t.Errorf("reading changed the time of access from %v to %v", before.Atim, after.Atim)
	}
	if before.Ino != after.Ino || after.Nlink != 1 || int(after.Uid) != os.Getuid() || int(after.Gid) != os.Getgid() {
		t.Errorf("inode %d then %d, links %d, owner %d:%d", before.Ino, after.Ino, after.Nlink, after.Uid, after.Gid)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(m.Dir, &st); err != nil {
		t.Fatal(err)
	}
	if st.Flags&unix.MS_NOSUID == 0 || st.Flags&unix.MS_NODEV == 0 {
		t.Errorf("mount flags %#x: set-uid bits or devices count", st.Flags)
	}
}

package efss

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// runTool runs a program and returns what it printed. The test fails if the program
// does.
func runTool(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	out, err := tryTool(t, dir, env, name, args...)
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return out
}

func tryTool(t *testing.T, dir string, env []string, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, tool(t, name), args...)
	cmd.Dir = dir
	cmd.Env = append(cmd.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// samples are file names and contents for the clients.
func samples() map[string][]byte {
	big := make([]byte, 3<<20)
	_, _ = rand.Read(big)
	return map[string][]byte{
		"plain.txt": []byte("hello\n"), "empty": {}, "big.bin": big, "with space & ä.txt": []byte("x"),
		"sub/one": []byte("1"), "sub/deeper/two": []byte("22"), "100%.txt": []byte("percent"), "a+b#c?.txt": []byte("odd"),
	}
}

func writeSamples(t *testing.T, dir string) {
	t.Helper()
	for name, content := range samples() {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

// sameTree compares two directories by names and contents.
func sameTree(t *testing.T, a, b string) {
	t.Helper()
	list := func(dir string) map[string]string {
		out := map[string]string{}
		err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			content, err := os.ReadFile(path)
			out[strings.TrimPrefix(path, dir)] = string(content)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	x, y := list(a), list(b)
	for name := range x {
		if content, ok := y[name]; !ok || content != x[name] {
			t.Errorf("%s: %d bytes here, there %d (%v)", name, len(x[name]), len(content), ok)
		}
	}
	if len(x) != len(y) {
		t.Errorf("%d files here, there %d", len(x), len(y))
	}
}

// TestRclone copies a tree there and back with rclone and lets it compare.
func TestRclone(t *testing.T) {
	for _, c := range []struct {
		d      Dialect
		vendor string
	}{{Nextcloud, "nextcloud"}, {OpenCloud, "owncloud"}, {ModDAV, "other"}, {Rclone, "other"}, {Generic, "other"}} {
		t.Run(c.d.String(), func(t *testing.T) {
			t.Parallel()
			w := start(t, c.d)
			src, back := t.TempDir(), t.TempDir()
			writeSamples(t, src)
			env := []string{
				"RCLONE_CONFIG=/dev/null", "RCLONE_CONFIG_X_TYPE=webdav", "RCLONE_CONFIG_X_URL=" + w.DAVURL(w.user),
				"RCLONE_CONFIG_X_VENDOR=" + c.vendor, "RCLONE_CONFIG_X_USER=" + w.user,
				"RCLONE_CONFIG_X_PASS=" + strings.TrimSpace(runTool(t, src, nil, "rclone", "obscure", w.app)),
				"RCLONE_WEBDAV_PACER_MIN_SLEEP=0s",
			}
			do := func(args ...string) string { return runTool(t, src, env, "rclone", args...) }
			do("copy", src, "X:tree")
			sameTree(t, src, filepath.Join(w.Disk(w.user), "tree"))
			do("check", "--download", src, "X:tree")
			do("check", src, "X:tree")
			do("moveto", "X:tree/plain.txt", "X:tree/sub/moved.txt")
			do("copyto", "X:tree/sub/moved.txt", "X:tree/plain.txt")
			do("deletefile", "X:tree/sub/moved.txt")
			do("sync", src, "X:tree")
			do("copy", "X:tree", back)
			sameTree(t, src, back)
			if c.vendor != "other" {
				if out := do("copy", "--dry-run", "-v", src, "X:tree"); strings.Contains(out, "NOTICE: plain.txt: Skipped copy") {
					t.Errorf("modification times did not arrive:\n%s", out)
				}
			}
			do("purge", "X:tree")
			if out := do("lsf", "X:"); strings.TrimSpace(out) != "" {
				t.Errorf("left after purge: %q", out)
			}
		})
	}
}

// TestCadaver drives the interactive client with a script.
func TestCadaver(t *testing.T) {
	for _, d := range []Dialect{Nextcloud, OpenCloud, ModDAV, Generic} {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			w := start(t, d)
			dir := t.TempDir()
			writeSamples(t, dir)
			netrc := fmt.Sprintf("machine 127.0.0.1\nlogin %s\npassword %s\n", w.user, w.app)
			script := strings.Join([]string{
				"mkcol box", "cd box", "put plain.txt", "put big.bin", "ls", "propset plain.txt color blue", "propget plain.txt color",
				"copy plain.txt copied.txt", "move copied.txt moved.txt", "lock moved.txt", "unlock moved.txt", "get big.bin fetched.bin",
				"delete moved.txt", "cd ..", "mkcol gone", "rmcol gone", "quit", "",
			}, "\n")
			if err := errors.Join(os.WriteFile(filepath.Join(dir, ".netrc"), []byte(netrc), 0o600), os.WriteFile(filepath.Join(dir, ".cadaverrc"), []byte(script), 0o600)); err != nil {
				t.Fatal(err)
			}
			out := runTool(t, dir, []string{"HOME=" + dir, "TERM=dumb"}, "cadaver", w.DAVURL(w.user))
			if n := strings.Count(out, "succeeded"); n < 11 || strings.Contains(out, "failed") {
				t.Errorf("%d steps succeeded:\n%s", n, out)
			}
			if !strings.Contains(out, "Value of color is: blue") {
				t.Errorf("the property is not there:\n%s", out)
			}
			sent, _ := os.ReadFile(filepath.Join(dir, "big.bin"))
			got, err := os.ReadFile(filepath.Join(dir, "fetched.bin"))
			if err != nil || !bytes.Equal(sent, got) {
				t.Errorf("fetched %d of %d bytes: %v", len(got), len(sent), err)
			}
			sameTreeNames(t, w, "box/plain.txt", "box/big.bin")
		})
	}
}

// sameTreeNames checks which files the user has on the server's disk.
func sameTreeNames(t *testing.T, w *world, want ...string) {
	t.Helper()
	found := map[string]bool{}
	err := filepath.WalkDir(w.Disk(w.user), func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			found[strings.TrimPrefix(path, w.Disk(w.user)+"/")] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range want {
		if !found[name] {
			t.Errorf("%s is missing", name)
		}
	}
	if len(found) != len(want) {
		t.Errorf("there are %v, want %v", found, want)
	}
}

// TestCurl uploads, resumes a download and logs in by digest.
func TestCurl(t *testing.T) {
	dir := t.TempDir()
	writeSamples(t, dir)
	t.Run("resume", func(t *testing.T) {
		w := start(t, Nextcloud)
		login := w.user + ":" + w.app
		runTool(t, dir, nil, "curl", "-sSf", "-u", login, "-T", "big.bin", w.dest("/big.bin"))
		if err := os.WriteFile(filepath.Join(dir, "part"), samples()["big.bin"][:0], 0o644); err != nil {
			t.Fatal(err)
		}
		sent, _ := os.ReadFile(filepath.Join(dir, "big.bin"))
		if err := os.WriteFile(filepath.Join(dir, "part"), sent[:1<<20], 0o644); err != nil {
			t.Fatal(err)
		}
		runTool(t, dir, nil, "curl", "-sSf", "-u", login, "-C", "-", "-o", "part", w.dest("/big.bin"))
		if got, err := os.ReadFile(filepath.Join(dir, "part")); err != nil || !bytes.Equal(got, sent) {
			t.Errorf("resumed to %d of %d bytes: %v", len(got), len(sent), err)
		}
	})
	t.Run("digest", func(t *testing.T) {
		w := start(t, ModDAV, func(o *Options) { o.Digest = true })
		runTool(t, dir, nil, "curl", "-sSf", "--digest", "-u", w.user+":alice-login", "-T", "plain.txt", w.dest("/plain.txt"))
		if out, err := tryTool(t, dir, nil, "curl", "-sSf", "--digest", "-u", w.user+":wrong", w.dest("/plain.txt")); err == nil {
			t.Errorf("a wrong password was taken: %s", out)
		}
		if out, err := tryTool(t, dir, nil, "curl", "-sSf", "-u", w.user+":alice-login", w.dest("/plain.txt")); err == nil {
			t.Errorf("basic was taken: %s", out)
		}
	})
	t.Run("tls", func(t *testing.T) {
		r, err := Start(Options{Dir: t.TempDir(), Users: []User{{Name: "bob", Password: "pw"}}}, StartOptions{TLS: true})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Close() }()
		out := runTool(t, dir, nil, "curl", "-sSf", "--http2", "--cacert", r.CAFile, "-w", "%{http_version}", "-u", "bob:pw", "-T", "plain.txt", r.DAVURL("bob")+"x")
		if !strings.HasSuffix(out, "2") {
			t.Errorf("HTTP version %q", out)
		}
		if _, err := tryTool(t, dir, nil, "curl", "-sSf", r.BaseURL); err == nil {
			t.Error("the certificate is trusted without the authority")
		}
	})
}

// TestDavfs2 mounts the server in the kernel and works on it like on a disk.
func TestDavfs2(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mount.davfs needs root")
	}
	for _, d := range []Dialect{Nextcloud, ModDAV, Generic} {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			w := start(t, d)
			mnt := w.mountDavfs(t)
			writeSamples(t, mnt)
			if err := os.Rename(filepath.Join(mnt, "plain.txt"), filepath.Join(mnt, "sub/renamed.txt")); err != nil {
				t.Error(err)
			}
			if err := os.Remove(filepath.Join(mnt, "empty")); err != nil {
				t.Error(err)
			}
			f, err := os.OpenFile(filepath.Join(mnt, "sub/one"), os.O_APPEND|os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteString("+appended")
				err = errors.Join(err, f.Close())
			}
			if err != nil {
				t.Error(err)
			}
			runTool(t, w.opts.Dir, nil, "umount", mnt)
			names := []string{"sub/renamed.txt", "sub/one", "sub/deeper/two", "big.bin", "with space & ä.txt", "100%.txt", "a+b#c?.txt"}
			sameTreeNames(t, w, names...)
			if got, _ := os.ReadFile(filepath.Join(w.Disk(w.user), "sub/one")); string(got) != "1+appended" {
				t.Errorf("after append: %q", got)
			}
			if n := w.Locks(); n != 0 {
				t.Errorf("%d locks were left", n)
			}
		})
	}
}

// mountDavfs mounts the user's tree and returns where. It is unmounted at the end.
func (w *world) mountDavfs(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "davfs2-") // t.TempDir is closed to davfs2's own account
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	mnt, cache, conf, secrets := filepath.Join(dir, "mnt"), filepath.Join(dir, "cache"), filepath.Join(dir, "conf"), filepath.Join(dir, "secrets")
	text := fmt.Sprintf("secrets %s\ncache_dir %s\nask_auth 0\ndelay_upload 0\nbuf_size 256\ndrop_weak_etags 1\n", secrets, cache)
	err = errors.Join(os.Chmod(dir, 0o755), os.Mkdir(mnt, 0o755), os.Mkdir(cache, 0o755), os.Chmod(cache, 0o777), os.WriteFile(conf, []byte(text), 0o600),
		os.WriteFile(secrets, []byte(fmt.Sprintf("%s %s %s\n", w.DAVURL(w.user), w.user, w.app)), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	runTool(t, dir, nil, "mount.davfs", w.DAVURL(w.user), mnt, "-o", "conf="+conf)
	t.Cleanup(func() {
		if data, _ := os.ReadFile("/proc/self/mounts"); strings.Contains(string(data), " "+mnt+" ") {
			_ = exec.Command("umount", "-l", mnt).Run()
		}
	})
	return mnt
}

package integration_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/harness"
)

func mustTime(text string) time.Time {
	at, err := http.ParseTime(text)
	if err != nil {
		panic(err)
	}
	return at
}

// fakeArgs are the branch and secret for a fake server.
func fakeArgs(f *fakeDAV) (env, args []string) {
	return []string{"MESHMOUNT_PASSWORD_A=secret"}, []string{"a=" + branchURL(f.URL, "user") + "/", "--retry-time=1s", "--io-timeout=1h"}
}

// listNames lists a directory, sorted.
func listNames(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// TestHostileNames lists a directory of a server that tries to lead outside.
func TestHostileNames(t *testing.T) {
	good := map[string]string{"good": "good bytes", "sp ace": "2", "&amp": "3"}
	hostile := []string{
		"/..", "/../", "/%2e%2e", "/%2e%2e%2fetc%2fpasswd", "/../../etc/passwd", "/.", "/./",
		"/a%2fb", "/deep/below/this", "//double", "/nul%00byte", "/%ff%", "/%zz",
		"/" + strings.Repeat("n", 10_000), "/" + strings.Repeat("%20", 300),
		"http://elsewhere.example/good2", "//elsewhere.example/good3", "file:///etc/passwd",
		"javascript:alert(1)", "", "?query", "#fragment",
	}
	f := startFake(t, good, func(w io.Writer) {
		for _, href := range hostile {
			response(w, href, 5)
		}
		for name, content := range good {
			href := strings.ReplaceAll((&url.URL{Path: "/" + name}).EscapedPath(), "&", "&amp;")
			response(w, href, len(content))
		}
		response(w, "/good", 7777) // once more, and different
	}, nil)
	env, args := fakeArgs(f)
	m := harness.Mounting(t, env, args...)
	got := listNames(t, filepath.Join(m.Dir, "a"))
	for _, name := range got {
		if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") || len(name) > 255 {
			t.Errorf("the listing shows %q", name)
		}
	}
	for name, content := range good {
		if !slices.Contains(got, name) {
			t.Errorf("%q is missing in %q", name, got)
			continue
		}
		if text, err := os.ReadFile(filepath.Join(m.Dir, "a", name)); err != nil || string(text) != content {
			t.Errorf("%q holds %q, %v", name, text, err)
		}
	}
	for _, name := range []string{"passwd", "good2", "good3", "b", "deep", "this"} {
		if slices.Contains(got, name) {
			t.Errorf("%q was made up from a hostile name", name)
		}
	}
	if len(got) != len(slices.Compact(slices.Clone(got))) {
		t.Errorf("a name is there twice: %q", got)
	}
	m.MustUnmount(t)
}

// TestTruncatedListing makes sure that half a listing is an error, and the whole
// one is believed again.
func TestTruncatedListing(t *testing.T) {
	good := map[string]string{}
	for i := range 500 {
		good[fmt.Sprintf("file-%03d", i)] = "x"
	}
	f := startFake(t, good, func(w io.Writer) {
		for name := range good {
			response(w, "/"+name, 1)
		}
	}, nil)
	env, args := fakeArgs(f)
	m := harness.Mounting(t, env, append(args, "--dir-ttl=0", "--attr-ttl=0", "--negative-ttl=0")...)
	f.cut.Store(true)
	entries, err := os.ReadDir(filepath.Join(m.Dir, "a"))
	if err == nil {
		t.Errorf("a cut listing came out as %d entries without an error", len(entries))
	} else if !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("a cut listing gave %v", err)
	}
	f.cut.Store(false)
	waitFor(t, func() error {
		entries, err := os.ReadDir(filepath.Join(m.Dir, "a"))
		if err == nil && len(entries) != len(good) {
			t.Fatalf("%d entries without an error", len(entries))
		}
		return err
	})
	m.MustUnmount(t)
}

// TestWrongBodies reads files whose answers lie about their length, or lead to
// another host: never wrong bytes, never the credentials elsewhere.
func TestWrongBodies(t *testing.T) {
	var leaked atomic.Bool
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			leaked.Store(true)
		}
		_, _ = io.WriteString(w, "0123456789")
	}))
	defer elsewhere.Close()
	good := map[string]string{"short": "0123456789", "long": "0123456789", "moved": "0123456789", "cut": "0123456789"}
	f := startFake(t, good, func(w io.Writer) {
		for name := range good {
			response(w, "/"+name, 10)
		}
	}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		switch strings.Trim(r.URL.Path, "/") {
		case "short":
			_, _ = io.WriteString(w, "01234")
		case "long":
			_, _ = io.WriteString(w, "0123456789-and-more-than-there-should-be")
		case "cut":
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "0123")
		case "moved":
			// A different host name for the same machine.
			http.Redirect(w, r, strings.Replace(elsewhere.URL, "127.0.0.1", "localhost", 1), http.StatusFound)
		}
	})
	env, args := fakeArgs(f)
	m := harness.Mounting(t, env, args...)
	for name, content := range good {
		text, err := os.ReadFile(filepath.Join(m.Dir, "a", name))
		switch {
		case err == nil && string(text) != content:
			t.Errorf("%s: read %q without an error", name, text)
		case err == nil && name != "moved":
			t.Errorf("%s: read without an error", name)
		case err != nil && !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.ETIMEDOUT) && !errors.Is(err, syscall.ESTALE):
			t.Errorf("%s: %v", name, err)
		}
	}
	if leaked.Load() {
		t.Error("the credentials went to another host")
	}
	m.MustUnmount(t)
}

// hugeEntries is the size of the directory that must be listed in hugeMemory bytes.
const (
	hugeEntries = 1_000_000
	hugeMemory  = 512 << 20
)

// TestHugeDirectory lists a million entries. The program is built without the race
// detector here, which would use several times the memory.
func TestHugeDirectory(t *testing.T) {
	f := startFake(t, nil, func(w io.Writer) {
		out := bufio.NewWriterSize(w, 1<<20)
		for i := range hugeEntries {
			number := strconv.Itoa(i)
			for _, part := range []string{"<D:response><D:href>/file-", number, "</D:href><D:propstat><D:prop><D:resourcetype/><D:getcontentlength>", number,
				`</D:getcontentlength><D:getetag>"`, number, `"</D:getetag><D:getlastmodified>` + longAgoText + "</D:getlastmodified>" +
					"</D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>\n"} {
				_, _ = out.WriteString(part)
			}
		}
		_ = out.Flush()
	}, nil)
	env, args := fakeArgs(f)
	m := harness.MountingProgram(t, harness.StaticProgram(t), env, args...)
	started := time.Now()
	out := harness.Run(t, m.Dir, "bash", "-c", "ls -f a | wc -l")
	if got := strings.TrimSpace(out); got != fmt.Sprint(hugeEntries) && got != fmt.Sprint(hugeEntries+2) { // with . and ..
		t.Errorf("ls shows %s entries", got)
	}
	peak, err := harness.PeakMemory(m.PID())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d entries in %v, peak memory %d MiB", hugeEntries, time.Since(started).Round(time.Millisecond), peak>>20)
	if peak > hugeMemory {
		t.Errorf("the listing took %d MiB, more than %d", peak>>20, hugeMemory>>20)
	}
	m.MustUnmount(t)
}

// TestDeadServer freezes a server: programs get ETIMEDOUT within the time-outs,
// statfs answers at once, the other branch is not touched, and all works again when
// the server is back.
func TestDeadServer(t *testing.T) {
	s, other := startEFSS(t, efss.Nextcloud), startEFSS(t, efss.Nextcloud)
	_, address, _ := strings.Cut(s.args[0], "@")
	host, _, _ := strings.Cut(address, "/")
	r := startRelay(t, host)
	_, alive, _ := strings.Cut(other.args[0], "=")
	const ioTimeout, retryTime = 2 * time.Second, 1 * time.Second
	m := harness.Mounting(t, append(s.env, "MESHMOUNT_PASSWORD_LIVE=app-alice"),
		strings.Replace(s.args[0], host, r.addr(), 1), "live="+alive,
		"--io-timeout="+ioTimeout.String(), "--io-timeout", "live=1h", "--retry-time="+retryTime.String(), "--connect-timeout=2s",
		"--attr-ttl=0", "--dir-ttl=0", "--negative-ttl=0")
	dir := filepath.Join(m.Dir, "a")
	list := func() error { _, err := os.ReadDir(dir); return err }
	waitFor(t, func() error { return os.WriteFile(filepath.Join(dir, "file"), []byte("before"), 0o644) })
	var open *os.File
	waitFor(t, func() (err error) { open, err = os.Open(filepath.Join(dir, "file")); return err })
	inTime(t, "listing a dead server", syscall.ETIMEDOUT, 2*(ioTimeout+retryTime)+3*time.Second, func() (time.Duration, error) {
		r.thaw()
		waitFor(t, list)
		r.freeze()
		return timed(list)
	})
	quick := func(what string, do func() error) {
		t.Helper()
		inTime(t, what+" while the server is dead", nil, time.Second, func() (time.Duration, error) { return timed(do) })
	}
	quick("statfs", func() error { return syscall.Fstatfs(int(open.Fd()), &syscall.Statfs_t{}) })
	quick("fstat of an open file", func() error { _, err := open.Stat(); return err })
	quick("the root", func() error { _, err := os.ReadDir(m.Dir); return err })
	quick("the other branch", func() error { return os.WriteFile(filepath.Join(m.Dir, "live", "f"), nil, 0o644) })

	r.thaw()
	waitFor(t, list)
	waitFor(t, func() error {
		text, err := os.ReadFile(filepath.Join(dir, "file"))
		if err == nil && string(text) != "before" {
			t.Errorf("after the thaw: %q", text)
		}
		return err
	})
	if err := open.Close(); err != nil {
		t.Error(err)
	}
	m.MustUnmount(t)
}

func timed(do func() error) (time.Duration, error) {
	started := time.Now()
	err := do()
	return time.Since(started), err
}

// inTime checks what something returns, and that it does so in time: at one of some tries,
// as a machine that stands still is no fault, and the same delay every time is one.
func inTime(t *testing.T, what string, want error, most time.Duration, try func() (took time.Duration, err error)) {
	t.Helper()
	for left := 9; ; left-- {
		took, err := try()
		if !errors.Is(err, want) {
			t.Fatalf("%s: %v after %v", what, err, took)
		}
		if took <= most {
			return
		}
		if left == 0 {
			t.Fatalf("%s took %v, more than %v", what, took, most)
		}
	}
}

// TestWrongPassword makes sure that a wrong password is tried exactly once, that the
// exit code is the documented one, and that nothing is mounted.
func TestWrongPassword(t *testing.T) {
	f := startFake(t, nil, func(io.Writer) {}, nil)
	f.refuse.Store(true)
	env, args := fakeArgs(f)
	for _, mode := range [][]string{{"-f"}, nil} {
		f.refused.Store(0)
		dir := t.TempDir()
		cmd := exec.Command(harness.Program(t), slices.Concat([]string{"mount"}, mode, []string{dir}, args)...)
		cmd.Env = append(harness.Environ(os.TempDir()), env...)
		out, err := cmd.CombinedOutput()
		const authFailed = 12
		if cmd.ProcessState.ExitCode() != authFailed {
			t.Errorf("%v: exit code %d (%v), not %d: %s", mode, cmd.ProcessState.ExitCode(), err, authFailed, out)
		}
		if n := f.refused.Load(); n != 1 {
			t.Errorf("%v: the password was sent %d times", mode, n)
		}
		if lines := strings.Count(strings.TrimSpace(string(out)), "\n") + 1; lines != 1 || len(out) == 0 {
			t.Errorf("%v: not one line: %q", mode, out)
		}
		if strings.Contains(string(out), "secret") {
			t.Errorf("%v: the password is shown: %q", mode, out)
		}
		if ok, err := harness.Mounted(dir); ok || err != nil {
			t.Errorf("%v: half mounted: %v %v", mode, ok, err)
			_ = harness.Detach(dir)
		}
	}
}

package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/cache"
	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/fs/control"
	"github.com/meshmount/meshmount/integration/efss"
)

// agedSite is a server on which an hour passes after each file that put makes, so that
// the versions of all are proven.
type agedSite struct {
	*efss.Running
	passed atomic.Int64 // nanoseconds
}

// plainSite starts an Apache mod_dav with the user me.
func plainSite(t *testing.T) *agedSite {
	t.Helper()
	s := &agedSite{}
	opts := efss.Options{Dialect: efss.ModDAV, Dir: t.TempDir(), Users: []efss.User{{Name: "me", Password: password}},
		Now: func() time.Time { return time.Now().Add(time.Duration(s.passed.Load())) }}
	running, err := efss.Start(opts, efss.StartOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.Running = running
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// put makes a file and returns its content.
func (s *agedSite) put(t *testing.T, name string, size int) []byte {
	t.Helper()
	content := bytes.Repeat([]byte("0123456789abcde\n"), size/16)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.DAVURL("me")+name, bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	request.SetBasicAuth("me", password)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusCreated {
		t.Fatal(response.Status)
	}
	s.passed.Add(int64(time.Hour))
	return content
}

// gets counts the requests for content that a server had.
func gets(s *agedSite) (n int) {
	for _, r := range s.Requests() {
		if r.Method == http.MethodGet && r.Header.Get("Range") != "" {
			n++
		}
	}
	return n
}

// cacheReports runs a subcommand of cache and returns what it prints as JSON.
func (w *world) cacheReports(args ...string) []cacheReport {
	w.t.Helper()
	r := w.run(append([]string{"cache"}, append(args, "--json")...)...)
	var reports []cacheReport
	if err := json.Unmarshal([]byte(r.out), &reports); err != nil {
		w.t.Fatalf("%v: %+v", err, r)
	}
	return reports
}

func TestCacheServesTheNextMount(t *testing.T) {
	s := plainSite(t)
	w := newWorld(t, "MESHMOUNT_PASSWORD=hunter2")
	content := s.put(t, "input", 3<<20)
	mount := []string{"mount", "--cache-size=64MiB", "--cache-reserve=0", w.point, "=" + address(s.Running)}
	read := func() {
		t.Helper()
		if got, err := os.ReadFile(filepath.Join(w.point, "input")); err != nil || !bytes.Equal(got, content) {
			t.Fatalf("%d bytes, %v\n%s", len(got), err, w.logs())
		}
	}
	w.succeeds(w.run(mount...))
	read()
	h := w.holder()
	await(t, func() error { // what was read is being written
		var stats control.Stats
		if err := json.Unmarshal([]byte(w.run("stats", "--json", w.point).out), &stats); err != nil || stats.Cache.Puts != 3 {
			return fmt.Errorf("%+v, %v", stats.Cache, err)
		}
		if r := w.cacheReports("inspect", "--files=1", w.point)[0]; r.Full != 3 || r.PID != h.PID || len(r.Trees) != 1 ||
			!strings.HasSuffix(r.Trees[0].Tree, " as me") || len(r.Trees[0].Most) != 1 || r.Trees[0].Most[0].Path != "/input" {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	for _, what := range []string{"verify", "clear"} {
		r := w.run("cache", what, w.point)
		w.fails(r, exit.CacheBusy, fmt.Sprintf("is in use by process %d; run: meshmount unmount %s", h.PID, w.point))
	}
	// Killed and mounted again, it has the content.
	if err := syscall.Kill(h.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, func() error {
		if h.Alive() {
			return errors.New("it lives")
		}
		return nil
	})
	w.succeeds(w.run("unmount", w.point))
	before := gets(s)
	w.succeeds(w.run(mount...))
	read()
	if n := gets(s) - before; n > 0 {
		t.Errorf("%d requests for content that is here", n)
	}
	w.succeeds(w.run("unmount", w.point))
	w.clean()
	if r := w.cacheReports("verify", w.point)[0]; r.Full != 3 || r.Broken != 0 || r.PID != 0 || r.Bytes != 3<<20 {
		t.Errorf("%+v", r)
	}
	w.succeeds(w.run("cache", "clear", w.point))
	if r := w.cacheReports("inspect")[0]; r.Full != 0 || r.Mountpoint != w.point {
		t.Errorf("%+v", r)
	}
}

func TestCacheCommandsOnDamage(t *testing.T) {
	s := plainSite(t)
	w := newWorld(t, "MESHMOUNT_PASSWORD=hunter2")
	s.put(t, "input", 2<<20)
	dir := filepath.Join(w.dir, "mine")
	mount := []string{"mount", "--cache-dir", dir, "--cache-size=64MiB", "--cache-reserve=0", w.point, "=" + address(s.Running)}
	w.succeeds(w.run(mount...))
	if _, err := os.ReadFile(filepath.Join(w.point, "input")); err != nil {
		t.Fatal(err)
	}
	w.succeeds(w.run("unmount", w.point))
	slabs, err := filepath.Glob(filepath.Join(dir, "blocks/*.slab"))
	if err != nil || len(slabs) == 0 {
		t.Fatalf("%v, %v", slabs, err)
	}
	text, err := os.ReadFile(slabs[0])
	if err != nil {
		t.Fatal(err)
	}
	text[bytes.Index(text, []byte("0123456789abcde\n"))+5000] ^= 1
	if err := os.WriteFile(slabs[0], text, 0o600); err != nil {
		t.Fatal(err)
	}
	r := w.run("cache", "verify", "--cache-dir", dir)
	w.fails(r, exit.CacheBroken, "1 blocks and 0 records of directories in "+dir+" fail their checks; run: meshmount cache verify --repair")
	if !strings.Contains(r.out, "1 broken") {
		t.Errorf("%s", r.out)
	}
	w.succeeds(w.run("cache", "verify", "--repair", "--cache-dir", dir))
	r = w.run("cache", "verify", "--cache-dir", dir)
	w.succeeds(r)
	if !strings.Contains(r.out, "1 blocks of up to 1.0 MiB") || !strings.Contains(r.out, " 0 broken, 0 of directories") {
		t.Errorf("%s", r.out)
	}
	// What is there is another program's.
	if err := os.WriteFile(filepath.Join(dir, "blocks/format"), []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"inspect", "verify", "clear"} {
		w.fails(w.run("cache", what, "--cache-dir", dir), exit.CacheBad, "no block cache of this version")
	}
	r = w.run(mount...)
	w.succeeds(r)
	if !strings.HasPrefix(r.errors, "meshmount: warning: reads are not cached on disk: ") || !strings.Contains(r.errors, "remove it or choose another --cache-dir") {
		t.Errorf("the terminal shows %q", r.errors)
	}
	if log, err := os.ReadFile(filepath.Join(dir, "meshmount.log")); err != nil || !strings.Contains(string(log), "level=WARN msg=\"reads are not cached on disk: ") {
		t.Errorf("%s, %v", log, err)
	}
	if got, err := os.ReadFile(filepath.Join(w.point, "input")); err != nil || len(got) != 2<<20 {
		t.Errorf("without a cache: %d bytes, %v", len(got), err)
	}
	w.succeeds(w.run("unmount", w.point))
	w.clean()
}

func TestCacheCommandLines(t *testing.T) {
	w := newWorld(t)
	if r := w.run("cache", "inspect"); r.code != exit.OK || r.out != "there are no caches\n" {
		t.Errorf("%+v", r)
	}
	if r := w.run("cache"); r.code != exit.OK || !strings.Contains(r.out, "verify") {
		t.Errorf("%+v", r)
	}
	w.fails(w.run("cache", "clear"), exit.Usage, "name a mount point or a --cache-dir, or use --all; run: meshmount help cache clear")
	w.fails(w.run("cache", "clear", "--all", w.point), exit.Usage, "name a mount point")
	w.fails(w.run("cache", "inspect", "--cache-dir=x", w.point), exit.Usage, "there are both a mount point and --cache-dir")
	w.fails(w.run("cache", "inspect", w.point), exit.NotMounted, "there is no cache of a mount on "+w.point)
	w.fails(w.run("cache", "verify", "--cache-dir=none"), exit.CacheBad, "no such file or directory")
	w.fails(w.run("cache", "inspect", "a", "b"), exit.Usage, "surplus argument \"b\"; run: meshmount help cache inspect")
	w.fails(w.run("cache", "inspect", "--odd"), exit.Usage, "run: meshmount help cache inspect")
	if r := w.cacheReports("inspect", "--cache-dir", w.dir); len(r) != 1 || r[0].Slots != 0 || r[0].Error != "" {
		t.Errorf("a directory without a cache: %+v", r)
	}
}

// TestFullCacheDirectory mounts with a cache directory on a small file system.
func TestFullCacheDirectory(t *testing.T) {
	s := plainSite(t)
	w := newWorld(t, "MESHMOUNT_PASSWORD=hunter2")
	content := s.put(t, "input", 2<<20)
	dir := filepath.Join(w.dir, "small")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m,mode=700"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	for _, c := range []struct {
		arg, want string
		fill      bool
	}{
		{arg: "--cache=on", want: "only 7MiB is free on its file system"}, {arg: "--cache=off"},
		{arg: "--cache-size=1GiB", want: "make room or choose another --cache-dir"},
		{arg: "--cache-size=1GiB", want: "make room or choose another --cache-dir", fill: true},
	} {
		arg, want := c.arg, c.want
		if c.fill {
			if err := os.WriteFile(filepath.Join(dir, "fill"), make([]byte, 8<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
		}
		r := w.run("mount", "--write=through", "--cache-dir", dir, arg, w.point, "="+address(s.Running))
		w.succeeds(r)
		if !strings.Contains(r.errors, want) || (want == "") != (r.errors == "") {
			t.Errorf("%s: the terminal shows %q, want %q", arg, r.errors, want)
		}
		if got, err := os.ReadFile(filepath.Join(w.point, "input")); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %d bytes, %v", arg, len(got), err)
		}
		if r := w.run("unmount", w.point); r.code != exit.OK {
			log, _ := os.ReadFile(filepath.Join(dir, "meshmount.log"))
			t.Errorf("%s: %+v\n%s", arg, r, log)
		}
	}
	w.clean()
}

// TestReadOnlyHome mounts where the usual place for caches cannot be written to.
func TestReadOnlyHome(t *testing.T) {
	s := plainSite(t)
	content := s.put(t, "input", 1<<20)
	temp := t.TempDir()
	w := newWorld(t, "MESHMOUNT_PASSWORD=hunter2", "TMPDIR="+temp)
	home := filepath.Join(w.dir, "cache")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", home, "tmpfs", unix.MS_RDONLY, "size=64k"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(home, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	w.fails(w.run("mount", w.point, "="+address(s.Running)), exit.CacheBad, "read-only file system; choose another --cache-dir or make room")
	r := w.run("mount", "--read-only", "--cache-size=64MiB", "--cache-reserve=0", w.point, "="+address(s.Running))
	w.succeeds(r)
	if !strings.HasPrefix(r.errors, "meshmount: warning: cache directory "+home) || !strings.Contains(r.errors, "; using "+temp) {
		t.Errorf("the terminal shows %q", r.errors)
	}
	if got, err := os.ReadFile(filepath.Join(w.point, "input")); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	w.succeeds(w.run("stats", w.point))
	w.succeeds(w.run("unmount", w.point))
	w.clean()
}

func TestBrokenParts(t *testing.T) {
	for _, c := range []struct {
		blocks, listings int
		repaired         bool
		want             string
	}{
		{0, 0, false, ""}, {2, 0, true, ""},
		{2, 1, false, "2 blocks and 1 records of directories in /c fail their checks; run: meshmount cache verify --repair"},
		{2, 1, true, "1 records of directories in /c fail their checks; they are not used; run: meshmount cache clear"},
		{0, 1, false, "run: meshmount cache clear"},
	} {
		err := broken("/c", &cache.Report{Broken: c.blocks, BrokenListings: c.listings}, c.repaired)
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || exit.CodeOf(err) != exit.CacheBroken) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

package integration_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/harness"
	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// page is how much of a file has a stamp of its own.
const page = 4096

// noise is what all pages hold behind their stamps.
var noise = func() []byte {
	b := make([]byte, page)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(b) // it never fails
	return b
}()

// book returns the content of a file: size bytes that follow from seed, no two pages
// alike, so that a byte of another place, file or version is known as such.
func book(seed uint64, size int) []byte {
	content := bytes.Repeat(noise, size/page+1)
	for i := 0; i+16 <= len(content); i += page {
		binary.LittleEndian.PutUint64(content[i:], seed)
		binary.LittleEndian.PutUint64(content[i+8:], uint64(i/page))
	}
	return content[:size]
}

// differ tells where got is not what the file holds from off on.
func differ(got, content []byte, off int64) error {
	want := content[min(off, int64(len(content))):]
	if len(got) > len(want) {
		return fmt.Errorf("%d bytes at %d, %d more than there are", len(got), off, len(got)-len(want))
	}
	if bytes.Equal(got, want[:len(got)]) {
		return nil
	}
	for i := range got {
		if got[i] != want[i] {
			at := (off + int64(i)) / page * page
			stamp := got[max(0, at-off):]
			return fmt.Errorf("wrong byte at %d of %d bytes at %d; the page begins %x", off+int64(i), len(got), off, stamp[:min(16, len(stamp))])
		}
	}
	return nil
}

// TestBook makes sure that the tests of reading would see a wrong byte.
func TestBook(t *testing.T) {
	content := book(1, 5*page+100)
	for name, wrong := range map[string][]byte{
		"another seed": book(2, len(content))[page : 2*page], "another page": content[:page],
		"shifted": content[page+1 : 2*page+1], "zeros": make([]byte, page), "too long": content,
		"a flipped bit": append([]byte{content[page] ^ 1}, content[page+1:2*page]...),
	} {
		if differ(wrong, content, page) == nil {
			t.Errorf("%s passes", name)
		}
	}
	if err := differ(content[page:], content, page); err != nil {
		t.Error(err)
	}
}

// shelf is a server with one share or collection, branch a, whose files the tests of
// reading know.
type shelf struct {
	args, env []string
	address   string        // host:port
	share     *efss.Running // nil for a zone
	zone      *zone.Zone    // nil for a share
	behind    *atomic.Int64 // how far the server's clock is behind, in ns
	age       time.Duration // how old the next planted file is
}

// readEnv spares programs that were built with the race detector its second at the end.
func readEnv() []string { return []string{"GORACE=halt_on_error=1 exitcode=66 atexit_sleep_ms=0"} }

// startShelf starts a share.
func startShelf(t testing.TB, dialect efss.Dialect) *shelf {
	t.Helper()
	behind := &atomic.Int64{}
	server, err := efss.Start(efss.Options{Dir: t.TempDir(), Dialect: dialect, Now: clockBehind(behind), Users: []efss.User{
		{Name: "alice", Password: "wonderland", AppPassword: "app-alice"}}}, efss.StartOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return &shelf{args: []string{"a=" + branchURL(server.DAVURL("alice"), "alice")}, env: append(readEnv(), "MESHMOUNT_PASSWORD_A=app-alice"),
		address: strings.TrimPrefix(server.BaseURL, "http://"), share: server, behind: behind, age: 100 * time.Hour}
}

// clockBehind is a server's clock.
func clockBehind(behind *atomic.Int64) func() time.Time {
	return func() time.Time { return time.Now().Add(-time.Duration(behind.Load())) }
}

// startZoneShelf starts a zone.
func startZoneShelf(t *testing.T) *shelf {
	t.Helper()
	behind := &atomic.Int64{}
	z := startZone(t, zone.Options{Now: clockBehind(behind)})
	return &shelf{args: []string{"a=" + zoneURL(z, z.Addr(), "alice")}, env: append(readEnv(), "MESHMOUNT_PASSWORD_A="+zoneSecret),
		address: z.Addr(), zone: z, behind: behind, age: 100 * time.Hour}
}

// via returns the shelf as it is seen through a proxy.
func (s *shelf) via(proxy string) *shelf {
	c := *s
	c.args = []string{strings.Replace(s.args[0], s.address, proxy, 1)}
	return &c
}

// plant puts files on the server that are old enough for their versions to be proof,
// and newer than those planted before.
func (s *shelf) plant(t *testing.T, files map[string][]byte) {
	t.Helper()
	s.age -= time.Hour
	s.behind.Store(int64(s.age))
	defer s.behind.Store(0)
	if s.zone != nil {
		b := dialZone(t, strings.TrimPrefix(s.args[0], "a="), zoneSecret)
		defer func() { _ = b.Close() }()
		for name, content := range files {
			plantObject(t, b, "/"+name, content)
		}
		return
	}
	s.plantShare(t, files)
}

// plantShare is plant for a share, whose clock is behind.
func (s *shelf) plantShare(t testing.TB, files map[string][]byte) {
	t.Helper()
	root, at := s.share.Disk("alice"), time.Now().Add(-s.age)
	for name, content := range files {
		path := filepath.Join(root, name)
		err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o644), os.Chtimes(path, at, at))
		if err != nil {
			t.Fatal(err)
		}
	}
	if n, err := s.share.Scan("alice"); err != nil || n == 0 {
		t.Fatalf("%d changes, %v", n, err)
	}
}

// plantObject puts one object and its collections on a zone.
func plantObject(t *testing.T, b *irods.Backend, path string, content []byte) {
	t.Helper()
	dir, _ := remote.Split(path)
	if _, err := b.Mkdir(t.Context(), dir); dir != "/" && err != nil && !errors.Is(err, remote.Exist) {
		t.Fatal(err)
	}
	if _, err := b.Put(t.Context(), path, remotetest.Bytes(content), remote.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

// put overwrites a file of a share by a request, as another client does, as soon as
// nobody reads it. A zero time leaves the choice to the server.
func (s *shelf) put(t *testing.T, name string, content []byte, mtime time.Time) {
	t.Helper()
	if s.zone != nil {
		b := dialZone(t, strings.TrimPrefix(s.args[0], "a="), zoneSecret)
		defer func() { _ = b.Close() }()
		plantObject(t, b, "/"+name, content)
		return
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.share.DAVURL("alice")+name, bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("alice", "app-alice")
	if !mtime.IsZero() {
		r.Header.Set("X-OC-Mtime", fmt.Sprint(mtime.Unix()))
	}
	if answer := harness.Send(t, r); answer.StatusCode/100 != 2 {
		t.Fatalf("PUT %s: %s", name, answer.Status)
	}
}

// mount mounts the shelf with a cache directory, a new one if it is empty.
func (s *shelf) mount(t testing.TB, program, cache string, args ...string) *harness.Mount {
	t.Helper()
	if cache == "" {
		cache = cacheDir(t)
	}
	return harness.MountingProgram(t, program, s.env, slices.Concat(s.args, []string{"--cache-dir=" + cache, "--cache-size=256MiB"}, args)...)
}

// cacheDir names a directory that the program can make.
func cacheDir(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "cache")
}

// forget forgets what was asked of the server so far.
func (s *shelf) forget() {
	if s.zone != nil {
		s.zone.ResetCalls()
		return
	}
	s.share.ResetRequests()
}

// requests lists what was asked of a share, of all methods if method is empty.
func (s *shelf) requests(method string) (list []efss.Request) {
	for _, r := range s.share.Requests() {
		if method == "" || r.Method == method {
			list = append(list, r)
		}
	}
	return list
}

// fetches lists the requests for the content of files.
func (s *shelf) fetches() []efss.Request {
	return slices.DeleteFunc(s.requests(http.MethodGet), func(r efss.Request) bool {
		return !strings.HasPrefix(r.Path, s.share.DAVPath("alice"))
	})
}

// sent counts the bytes of the bodies of a share's answers to GET.
func (s *shelf) sent() (n int64) {
	for _, r := range s.fetches() {
		n += r.Sent
	}
	return n
}

// story tells requests to people.
func story(list []efss.Request) string {
	var b strings.Builder
	for _, r := range list[:min(len(list), 30)] {
		_, _ = fmt.Fprintf(&b, "\n%s %s %s %s -> %d, %d bytes", r.Method, r.Path, r.Header.Get("Depth"), r.Header.Get("Range"), r.Status, r.Sent)
	}
	return b.String()
}

// readWhole reads a file and compares it.
func readWhole(path string, content []byte) error {
	got, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if len(got) != len(content) {
		return fmt.Errorf("%s: %d bytes, want %d", path, len(got), len(content))
	}
	if err := differ(got, content, 0); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// readPart reads a part of an open file and compares it.
func readPart(file io.ReaderAt, content []byte, off int64, n int) error {
	p := make([]byte, n)
	got, err := file.ReadAt(p, off)
	if err == io.EOF && off+int64(got) == int64(len(content)) {
		err = nil
	}
	if err != nil {
		return err
	}
	return differ(p[:got], content, off)
}

// dropPages has the kernel forget the pages of a file that it has read.
func dropPages(t *testing.T, path string) {
	t.Helper()
	file, err := os.Open(path)
	if err == nil {
		err = errors.Join(unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED), file.Close())
	}
	if err != nil {
		t.Error(err)
	}
}

// longest is how long tests wait for what must happen, on a machine that may stand still
// for a minute. A process that is being started may have to wait for what other tests
// write: it has their files open for a moment, and closes them.
const longest = 4 * time.Minute

// await waits for something that another process does.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), longest)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			t.Fatalf("%s did not happen", what)
		case <-tick.C:
		}
	}
}

// waitFor repeats try until it gives no error.
func waitFor(t *testing.T, try func() error) {
	t.Helper()
	for end := time.Now().Add(longest); ; time.Sleep(100 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("after %v still: %v", longest, err)
		}
	}
}

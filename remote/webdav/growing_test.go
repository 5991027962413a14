package webdav_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/httpd"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// growingPut is a PutGrowing on its way.
type growingPut struct {
	remotetest.Growth
	done  chan struct{} // closed when it has returned
	entry remote.Entry
	err   error
}

func beginGrowing(ctx context.Context, b remote.GrowingPutter, path string, opts remote.PutOptions) *growingPut {
	g := &growingPut{done: make(chan struct{})}
	go func() {
		defer close(g.done)
		g.entry, g.err = b.PutGrowing(ctx, path, g, opts)
	}()
	return g
}

// result waits for the end.
func (g *growingPut) result(t *testing.T) error {
	t.Helper()
	select {
	case <-g.done:
		return g.err
	case <-time.After(4 * time.Minute):
		t.Fatal("the put does not come to an end")
		return nil
	}
}

// eventually waits until f is true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end, wait := time.Now().Add(4*time.Minute), time.Millisecond; !f(); wait = min(2*wait, 100*time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: never", what)
		}
		time.Sleep(wait)
	}
}

// onDisk is what the server keeps of a file, nil if nothing.
func (s *site) onDisk(t *testing.T, path string) []byte {
	t.Helper()
	p, err := os.ReadFile(filepath.Join(s.Disk(user), path))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return p
}

// chunks returns the chunks that lie on a Nextcloud.
func (s *site) chunks(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(s.dir, "uploads", user, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestGrowingChunks: chunks leave as soon as they are complete, and what remains at the
// end is the last one.
func TestGrowingChunks(t *testing.T) {
	const size = 1 << 20
	s := newSite(t, efss.Nextcloud)
	s.b.SetChunk(size)
	old := s.put(t, "/f", "old", remote.PutOptions{})
	s.clock.pass(10 * time.Second)
	s.did()
	data, when := remotetest.Pattern(5*size+100, 7), time.Unix(1_500_000_000, 0)
	g := beginGrowing(t.Context(), s.b, "/f", remote.PutOptions{Cond: remote.Cond{Version: old.Version}})
	for n := range 5 {
		g.Grow(data[n*size : (n+1)*size])
		eventually(t, "a complete chunk is on the server", func() bool { return len(s.chunks(t)) == n+1 })
	}
	g.Grow(data[5*size:])
	if got := s.onDisk(t, "f"); string(got) != "old" {
		t.Errorf("by the way the file is %d bytes", len(got))
	}
	g.End(remote.Attrs{MTime: &when})
	if err := g.result(t); err != nil {
		t.Fatal(err)
	}
	if got := s.onDisk(t, "f"); !bytes.Equal(got, data) || g.entry.MTime.Unix() != when.Unix() {
		t.Errorf("the disk holds %d bytes, the entry is %+v", len(got), g.entry)
	}
	if got, want := s.did(), "MKCOL PUT PUT PUT PUT PUT PUT MOVE PROPFIND"; got != want {
		t.Errorf("requests %q, want %q", got, want)
	}
	s.noLeftovers(t)
}

// nothing is content of zeros that grows by itself.
type nothing struct{ size int64 }

func (n nothing) ReadAt(p []byte, _ int64) (int, error) { clear(p); return len(p), nil }
func (n nothing) Attrs() remote.Attrs                   { return remote.Attrs{} }
func (n nothing) Wait(_ context.Context, off int64) (int64, bool, error) {
	end := min(n.size, off+100_000)
	return end, end == n.size, nil
}

// TestGrowingMemory: no chunk is held in memory, however large.
func TestGrowingMemory(t *testing.T) {
	const size = 96 << 20
	s := newSite(t, efss.Nextcloud)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := s.b.PutGrowing(t.Context(), "/f", nothing{size: size}, remote.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > size/4 {
		t.Errorf("%d bytes allocated for %d, server included", got, size)
	}
	if got := strings.Count(s.did(), "PUT"); got != 10 {
		t.Errorf("%d chunks", got)
	}
}

// TestGrowingUnsupported: where a file cannot be sent before its size is known, that is
// said without a request.
func TestGrowingUnsupported(t *testing.T) {
	for _, d := range efss.Dialects() {
		s := newSite(t, d)
		wants := d == efss.OpenCloud || d == efss.Reva || d == efss.XRootD
		if s.b.Grows() == wants {
			t.Errorf("%v: grows: %v", d, !wants)
		}
		if !wants {
			continue
		}
		_, err := s.b.PutGrowing(t.Context(), "/f", &remotetest.Growth{}, remote.PutOptions{})
		wantKind(t, err, remote.Unsupported)
		if got := s.did(); got != "" {
			t.Errorf("%v: requests %q", d, got)
		}
	}
}

// TestGrowingRefused: a server that turns out not to take bodies without a length is not
// asked again.
func TestGrowingRefused(t *testing.T) {
	for _, status := range []int{http.StatusBadRequest, http.StatusLengthRequired, http.StatusNotImplemented} {
		s := newSite(t, efss.Generic)
		s.SetFaults(func(r *http.Request) *efss.Fault {
			if r.Method == "PUT" && r.ContentLength < 0 {
				return &efss.Fault{Status: status}
			}
			return nil
		})
		for try := range 2 {
			g := beginGrowing(t.Context(), s.b, "/f", remote.PutOptions{})
			g.Grow(make([]byte, 1<<20)) // net/http's server reads some of it before it answers
			wantKind(t, g.result(t), remote.Unsupported)
			if got := s.did(); try > 0 && got != "" {
				t.Errorf("%d, once more: requests %q", status, got)
			}
		}
		s.put(t, "/f", "whole", remote.PutOptions{})
		s.cleanSoon(t)
	}
}

// TestGrowingTus: the length comes with the last part where the server lets it.
func TestGrowingTus(t *testing.T) {
	s := newSiteWith(t, efss.Options{Dialect: efss.OpenCloud, DeferLength: true})
	s.b.SetChunk(100_000)
	data, when := remotetest.Pattern(250_000, 3), time.Unix(1_500_000_000, 0)
	for _, cond := range []remote.Cond{{NotExist: true}, {}} {
		s.did()
		g := beginGrowing(t.Context(), s.b, "/f", remote.PutOptions{Cond: cond})
		g.Grow(data[:200_001])
		eventually(t, "two parts are sent", func() bool { return s.Count("PATCH") == 2 })
		g.Grow(data[200_001:])
		g.End(remote.Attrs{MTime: &when})
		if err := g.result(t); err != nil {
			t.Fatal(err)
		}
		if got := s.onDisk(t, "f"); !bytes.Equal(got, data) || g.entry.MTime.Unix() != when.Unix() {
			t.Errorf("%+v: the disk holds %d bytes, the entry is %+v", cond, len(got), g.entry)
		}
		data = append(data, 1)
	}
	now, err := s.b.Stat(t.Context(), "/f")
	if err != nil {
		t.Fatal(err)
	}
	s.did()
	g := beginGrowing(t.Context(), s.b, "/f", remote.PutOptions{Cond: remote.Cond{Version: now.Version}})
	g.Grow(data[:200_001])
	eventually(t, "two parts are sent", func() bool { return s.Count("PATCH") == 2 })
	s.foreign(t, "PUT", "/f", "theirs", nil)
	g.End(remote.Attrs{})
	wantKind(t, g.result(t), remote.Conflict)
	if got := s.onDisk(t, "f"); string(got) != "theirs" {
		t.Errorf("the disk holds %d bytes", len(got))
	}
}

// TestGrowingServerGone: a put that waits for the program hears at once that the server
// has gone, and nothing of it is there.
func TestGrowingServerGone(t *testing.T) {
	for _, o := range []httpd.Options{{User: user, Password: password}, {User: user, Password: password, TLS: true}} {
		t.Run(fmt.Sprintf("TLS %v", o.TLS), func(t *testing.T) {
			server := httpd.Run(t, httpd.Start, o)
			proxy, through := behind(t, server.URL)
			opts := options(t, through)
			opts.CAFile = server.CAFile
			b := dial(t, opts)
			defer b.Close()
			if err := os.WriteFile(filepath.Join(server.Dir, "f"), []byte("old"), 0o666); err != nil {
				t.Fatal(err)
			}
			g := beginGrowing(t.Context(), b, "/f", remote.PutOptions{})
			up := proxy.Stats().Up
			g.Grow(remotetest.Pattern(3<<20, 1))
			eventually(t, "the body is on its way", func() bool { return proxy.Stats().Up-up > 2<<20 && g.Wanted() == 3<<20 })
			proxy.Reset()
			wantKind(t, g.result(t), remote.Unavailable)
			eventually(t, "Apache drops what it got", func() bool { return apacheHas(t, server.Dir, "old") })
		})
	}
}

// TestGrowingRanges: a new file goes to Apache in ranges while it grows, also over
// connections that break.
func TestGrowingRanges(t *testing.T) {
	server := httpd.Run(t, httpd.Start, httpd.Options{User: user, Password: password})
	proxy, through := behind(t, server.URL)
	b := dial(t, options(t, through))
	defer b.Close()
	b.SetChunk(1 << 20)
	data := remotetest.Pattern(5<<20+17, 6)
	g := beginGrowing(t.Context(), b, "/f", remote.PutOptions{Cond: remote.Cond{NotExist: true}})
	up := proxy.Stats().Up
	g.Grow(data[:3<<20])
	eventually(t, "pieces are on their way", func() bool { return proxy.Stats().Up-up > 2<<20 })
	proxy.Reset()
	g.Grow(data[3<<20:])
	eventually(t, "the last piece is waited for", func() bool { return g.Wanted() >= 5<<20 })
	if _, err := os.Stat(filepath.Join(server.Dir, "f")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is there before it is whole: %v", err)
	}
	g.End(remote.Attrs{})
	if err := g.result(t); err != nil {
		t.Fatal(err)
	}
	if !apacheHas(t, server.Dir, string(data)) {
		t.Error("the file is not there, or something else is")
	}
}

// TestRangesRefused: a server in front that refuses ranges, or does not know them and
// replaces the file with each, is found out, and the file gets there all the same.
func TestRangesRefused(t *testing.T) {
	for _, status := range []int{0, http.StatusBadRequest, http.StatusNotImplemented} {
		s := newSite(t, efss.ModDAV)
		var ranges atomic.Int64
		front, _ := guard(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Content-Range") != "" {
				ranges.Add(1)
				if r.Header.Del("Content-Range"); status != 0 {
					w.WriteHeader(status)
					return
				}
			}
			s.ServeHTTP(w, r)
		}))
		b := dial(t, options(t, front.URL+"/"))
		defer b.Close()
		b.SetChunk(100_000)
		data := remotetest.Pattern(350_000, 2)
		for i := range 2 {
			ranges.Store(0)
			name := fmt.Sprintf("f%d", i)
			if _, err := b.Put(t.Context(), "/"+name, remotetest.Bytes(data), remote.PutOptions{Cond: remote.Cond{NotExist: true}}); err != nil {
				t.Fatalf("%d: %v", status, err)
			}
			if got := s.onDisk(t, name); !bytes.Equal(got, data) || ranges.Load() > 0 != (i == 0) {
				t.Errorf("%d: %d bytes there, %d ranges", status, len(got), ranges.Load())
			}
		}
		s.noLeftovers(t)
	}
}

// apacheHas tells whether the directory holds the file /f with that content, and nothing
// else.
func apacheHas(t *testing.T, dir, content string) bool {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != ".DAV" && e.Name() != "f" {
			return false
		}
	}
	got, err := os.ReadFile(filepath.Join(dir, "f"))
	return err == nil && string(got) == content
}

// TestGrowingRefusedMidway: an answer that comes before the end of the body ends the put,
// although the program has not written the rest.
func TestGrowingRefusedMidway(t *testing.T) {
	s := newSite(t, efss.ModDAV)
	s.put(t, "/f", "old", remote.PutOptions{})
	var got atomic.Int64
	s.SetFaults(func(r *http.Request) *efss.Fault {
		if r.Method == "PUT" {
			got.Add(1)
			return &efss.Fault{Status: http.StatusInsufficientStorage}
		}
		return nil
	})
	for range 3 {
		g := beginGrowing(t.Context(), s.b, "/f", remote.PutOptions{})
		g.Grow(remotetest.Pattern(100_000, 1))
		wantKind(t, g.result(t), remote.NoSpace)
	}
	if got.Load() != 3 {
		t.Errorf("%d PUTs", got.Load())
	}
}

// TestGrowingMany: files that wait for their programs do not take all connections. Those
// that find none are sent at their end.
func TestGrowingMany(t *testing.T) {
	s := newSite(t, efss.ModDAV)
	var all []*growingPut
	for i := range 20 {
		g := beginGrowing(t.Context(), s.b, fmt.Sprintf("/f%d", i), remote.PutOptions{Cond: remote.Cond{NotExist: true}})
		g.Grow([]byte("beginning"))
		all = append(all, g)
	}
	for range 20 {
		if _, err := s.b.Stat(t.Context(), "/"); err != nil {
			t.Fatal(err)
		}
	}
	for i, g := range all {
		g.Grow([]byte(" and end"))
		g.End(remote.Attrs{})
		if err := g.result(t); err != nil {
			t.Errorf("file %d: %v", i, err)
		}
		if got := s.onDisk(t, fmt.Sprintf("f%d", i)); string(got) != "beginning and end" {
			t.Errorf("file %d: %q", i, got)
		}
	}
}

// TestGrowingWithoutChunks: a Nextcloud that has no place for chunks cannot tell a cut
// body from a whole one: the file goes to a temporary name.
func TestGrowingWithoutChunks(t *testing.T) {
	s := newSite(t, efss.Nextcloud)
	front, _ := guard(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/ocs/") {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		s.ServeHTTP(w, r)
	}))
	b := dial(t, options(t, front.URL+s.DAVPath(user)))
	defer b.Close()
	s.did()
	g := beginGrowing(t.Context(), b, "/f", remote.PutOptions{Cond: remote.Cond{NotExist: true}})
	g.Grow([]byte("beginning"))
	eventually(t, "all of it is sent", func() bool { return g.Wanted() == 9 })
	g.Grow([]byte(" and end"))
	g.End(remote.Attrs{})
	if err := g.result(t); err != nil || string(s.onDisk(t, "f")) != "beginning and end" {
		t.Errorf("%q, %v", s.onDisk(t, "f"), err)
	}
	if got := s.did(); got != "PUT PROPFIND MOVE PROPFIND" {
		t.Errorf("requests %q", got)
	}
}

package webdav_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/remotetest"
	"github.com/meshmount/meshmount/remote/webdav"
)

// clock is the time of a server that the test moves on.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time       { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) pass(d time.Duration) { c.ahead.Add(int64(d)) }
func (c *clock) date(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", c.now().UTC().Format(http.TimeFormat))
		next.ServeHTTP(w, r)
	})
}

// site is an embedded server with a clock, and a backend on it.
type site struct {
	*efss.Server
	clock *clock
	dir   string
	url   string
	b     *webdav.Backend
}

func newSite(t *testing.T, d efss.Dialect) *site {
	t.Helper()
	return newSiteWith(t, efss.Options{Dialect: d})
}

// newSiteWith is newSite of a server with options.
func newSiteWith(t *testing.T, o efss.Options) *site {
	t.Helper()
	s := &site{clock: &clock{}, dir: t.TempDir()}
	o.Dir, o.Users, o.Now = s.dir, []efss.User{{Name: user, AppPassword: password}}, s.clock.now
	var err error
	s.Server, err = efss.New(o)
	if err != nil {
		t.Fatal(err)
	}
	front, _ := guard(t, s.clock.date(s.Server))
	s.url = front.URL + s.DAVPath(user)
	s.b = dial(t, options(t, s.url))
	t.Cleanup(func() { _, _ = s.b.Close(), s.Close() })
	s.ResetRequests()
	return s
}

// did returns the methods of the requests since the last call.
func (s *site) did() string {
	var methods []string
	for _, r := range s.Requests() {
		methods = append(methods, r.Method)
	}
	s.ResetRequests()
	return strings.Join(methods, " ")
}

func (s *site) put(t *testing.T, path, data string, opts remote.PutOptions) remote.Entry {
	t.Helper()
	e, err := s.b.Put(t.Context(), path, remotetest.Bytes([]byte(data)), opts)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// foreign sends a request past the adapter, as another client would.
func (s *site) foreign(t *testing.T, method, path, body string, header map[string]string) {
	t.Helper()
	s.foreignTo(t, method, strings.TrimSuffix(s.url, "/")+path, body, header)
}

// foreignTo is foreign to any address.
func (s *site) foreignTo(t *testing.T, method, address, body string, header map[string]string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(user, password)
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 {
		t.Fatalf("%s %s: %s", method, address, resp.Status)
	}
}

// TestPutRequests: each way of storing costs what it must and no more.
func TestPutRequests(t *testing.T) {
	now := time.Now()
	isNew := remote.PutOptions{Cond: remote.Cond{NotExist: true}}
	timed := remote.PutOptions{Cond: isNew.Cond, Attrs: remote.Attrs{MTime: &now}}
	for _, c := range []struct {
		dialect                   efss.Dialect
		fresh, timed, over, again string
	}{
		{efss.Nextcloud, "PUT PROPFIND", "PUT", "MKCOL PUT MOVE PROPFIND", "PROPFIND MKCOL PUT MOVE PROPFIND"},
		{efss.OpenCloud, "POST PATCH PROPFIND MOVE PROPFIND", "POST PATCH PROPFIND MOVE PROPFIND", "PROPFIND POST PATCH PROPFIND", "PROPFIND POST PATCH PROPFIND"},
		{efss.ModDAV, "PUT PROPFIND", "PUT PROPFIND PROPPATCH", "PROPFIND PUT PROPFIND", "PROPFIND PUT PROPFIND"},
		{efss.Rclone, "PUT PROPFIND MOVE", "PUT PROPFIND MOVE", "PROPFIND PUT PROPFIND MOVE", "PROPFIND PUT PROPFIND MOVE"},
		{efss.XRootD, "PROPFIND PROPFIND PUT PROPFIND HEAD MOVE", "PROPFIND PROPFIND PUT PROPFIND HEAD MOVE", "PROPFIND PUT PROPFIND HEAD MOVE", "PROPFIND PUT PROPFIND HEAD MOVE"},
		{efss.Generic, "PUT PROPFIND MOVE PROPFIND", "PUT PROPFIND MOVE PROPFIND PROPPATCH", "PROPFIND PUT PROPFIND MOVE PROPFIND", "PROPFIND PUT PROPFIND MOVE PROPFIND"},
	} {
		t.Run(c.dialect.String(), func(t *testing.T) {
			s := newSite(t, c.dialect)
			check := func(what, want string) {
				t.Helper()
				if got := s.did(); got != want {
					t.Errorf("%s: %q, want %q", what, got, want)
				}
			}
			made := s.put(t, "/f", "one", isNew)
			check("a new file", c.fresh)
			s.put(t, "/timed", "one", timed)
			check("a new file with its time", c.timed)
			s.put(t, "/f", "two", remote.PutOptions{Cond: remote.Cond{Version: made.Version, Provisional: made.Provisional}})
			check("an overwrite of a known version", c.over)
			s.put(t, "/f", "three", remote.PutOptions{})
			check("an overwrite of whatever is there", c.again)
		})
	}
}

// TestKnownEntry: the entry that Nextcloud's headers make is the one that a look shows.
func TestKnownEntry(t *testing.T) {
	s := newSite(t, efss.Nextcloud)
	now := time.Now()
	made := s.put(t, "/f", "one", remote.PutOptions{Cond: remote.Cond{NotExist: true}, Attrs: remote.Attrs{MTime: &now}})
	if s.did() != "PUT" {
		t.Fatal("not made of headers")
	}
	seen, err := s.b.Stat(t.Context(), "/f")
	if err != nil || !made.MTime.Equal(seen.MTime) {
		t.Errorf("%v", err)
	}
	made.MTime = seen.MTime
	if made != seen {
		t.Errorf("put says  %+v\nstat says %+v", made, seen)
	}
}

// TestLargeFiles goes in chunks or pieces, some at once.
func TestLargeFiles(t *testing.T) {
	data := remotetest.Pattern(25<<20+7, 3)
	for d, want := range map[efss.Dialect][2]string{
		efss.Nextcloud: {"MKCOL PUT PUT PUT MOVE PROPFIND", "MKCOL PUT PUT PUT MOVE PROPFIND"},
		efss.OpenCloud: {"POST PATCH PATCH PATCH PROPFIND MOVE PROPFIND", "PROPFIND POST PATCH PATCH PATCH PROPFIND"},
	} {
		t.Run(d.String(), func(t *testing.T) {
			s := newSite(t, d)
			e, err := s.b.Put(t.Context(), "/f", remotetest.Bytes(data), remote.PutOptions{Cond: remote.Cond{NotExist: true}})
			if err != nil {
				t.Fatal(err)
			}
			if got := s.did(); got != want[0] {
				t.Errorf("made by %q, want %q", got, want[0])
			}
			data[0]++
			s.clock.pass(10 * time.Second) // or the tags may be the same
			if _, err = s.b.Put(t.Context(), "/f", remotetest.Bytes(data), remote.PutOptions{Cond: remote.Cond{Version: e.Version}}); err != nil {
				t.Fatal(err)
			}
			if got := s.did(); got != want[1] {
				t.Errorf("overwritten by %q, want %q", got, want[1])
			}
			if got, err := os.ReadFile(filepath.Join(s.Disk(user), "f")); err != nil || !bytes.Equal(got, data) {
				t.Errorf("the disk holds %d bytes, %v", len(got), err)
			}
			_, err = s.b.Put(t.Context(), "/f", remotetest.Bytes(data), remote.PutOptions{Cond: remote.Cond{NotExist: true}})
			wantKind(t, err, remote.Exist)
			_, err = s.b.Put(t.Context(), "/f", remotetest.Bytes(data), remote.PutOptions{Cond: remote.Cond{Version: e.Version}})
			wantKind(t, err, remote.Conflict)
			s.noLeftovers(t)
		})
	}
}

// leftovers returns the unfinished uploads on the server's disk.
func (s *site) leftovers(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"uploads/*/*", "files/*/.meshmount-*", "files/*/*/.meshmount-*"} {
		left, err := filepath.Glob(filepath.Join(s.dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, left...)
	}
	return all
}

// noLeftovers checks the server's disk for unfinished uploads.
func (s *site) noLeftovers(t *testing.T) {
	t.Helper()
	if left := s.leftovers(t); left != nil {
		t.Errorf("left behind: %q", left)
	}
}

// cleanSoon is noLeftovers after a failure: a request that was broken off may still be on
// its way through the server.
func (s *site) cleanSoon(t *testing.T) {
	t.Helper()
	eventually(t, "nothing is left behind", func() bool {
		_, err := s.b.Stat(t.Context(), "/")
		return err == nil && s.leftovers(t) == nil
	})
}

// TestFailedUploads leave nothing behind and the old content in place.
func TestFailedUploads(t *testing.T) {
	for _, d := range efss.Dialects() {
		for _, method := range []string{"PUT", "MOVE", "PATCH", "POST"} {
			t.Run(d.String()+"/"+method, func(t *testing.T) {
				s := newSite(t, d)
				s.put(t, "/f", "old", remote.PutOptions{})
				var hit atomic.Int64
				s.SetFaults(func(r *http.Request) *efss.Fault {
					if r.Method != method {
						return nil
					}
					hit.Add(1)
					return &efss.Fault{Status: http.StatusInsufficientStorage}
				})
				_, err := s.b.Put(t.Context(), "/f", remotetest.Bytes([]byte("new content")), remote.PutOptions{})
				s.SetFaults(nil)
				if hit.Load() == 0 {
					return // this dialect does not use the method
				}
				wantKind(t, err, remote.NoSpace)
				if e, err := s.b.Stat(t.Context(), "/f"); err != nil || e.Size != 3 {
					t.Errorf("the old file is %+v, %v", e, err)
				}
				s.cleanSoon(t)
			})
		}
	}
}

// endless is a Source that never comes to its end.
type endless struct{ started chan struct{} }

func (endless) Size() int64 { return 1 << 33 }
func (e endless) Open() (io.ReadCloser, error) {
	return io.NopCloser(readerFunc(func(p []byte) (int, error) {
		select {
		case e.started <- struct{}{}:
		default:
		}
		time.Sleep(time.Millisecond)
		return min(len(p), 1000), nil
	})), nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestCancelledUploads clean up although their context has ended.
func TestCancelledUploads(t *testing.T) {
	for _, d := range []efss.Dialect{efss.Nextcloud, efss.Generic, efss.XRootD, efss.ModDAV} {
		t.Run(d.String(), func(t *testing.T) {
			s := newSite(t, d)
			s.put(t, "/f", "old", remote.PutOptions{})
			ctx, cancel := context.WithCancel(t.Context())
			src := endless{make(chan struct{})}
			go func() {
				<-src.started
				time.Sleep(20 * time.Millisecond)
				cancel()
			}()
			_, err := s.b.Put(ctx, "/f", src, remote.PutOptions{})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("the error is %v", err)
			}
			s.cleanSoon(t)
			if e, err := s.b.Stat(t.Context(), "/f"); err != nil || e.Size != 3 {
				t.Errorf("the old file is %+v, %v", e, err)
			}
		})
	}
}

// flip stands in front of a server and damages the bodies of uploads.
func flip(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body := r.Body; r.Method == "PUT" || r.Method == "PATCH" {
			r.Body = struct {
				io.Reader
				io.Closer
			}{readerFunc(func(p []byte) (int, error) {
				n, err := body.Read(p)
				for i := range p[:n] {
					p[i] ^= 1
				}
				return n, err
			}), body}
		}
		next.ServeHTTP(w, r)
	})
}

// TestDamage: bytes that change on the way are found where the server tells checksums,
// and never replace anything where the upload is checked before the MOVE.
func TestDamage(t *testing.T) {
	for _, d := range []efss.Dialect{efss.Nextcloud, efss.OpenCloud, efss.Rclone, efss.XRootD} {
		t.Run(d.String(), func(t *testing.T) {
			s := newEFSS(t, efss.Options{Dialect: d})
			clean, _ := guard(t, s)
			torn, _ := guard(t, flip(s))
			b := dial(t, options(t, clean.URL+s.DAVPath(user)))
			defer b.Close()
			if _, err := b.Put(t.Context(), "/seen", remotetest.Bytes([]byte("x")), remote.PutOptions{}); err != nil {
				t.Fatal(err)
			}
			bad := dial(t, options(t, torn.URL+s.DAVPath(user)))
			defer bad.Close()
			if _, err := names(t, bad, "/"); err != nil { // it learns the form of the tags
				t.Fatal(err)
			}
			_, err := bad.Put(t.Context(), "/f", remotetest.Bytes([]byte("precious")), remote.PutOptions{Cond: remote.Cond{NotExist: true}})
			wantKind(t, err, remote.Corrupt)
			if _, err := b.Stat(t.Context(), "/f"); d != efss.Nextcloud {
				wantKind(t, err, remote.NotExist)
			}
		})
	}
}

// TestResume: a broken PATCH goes on where the server is.
func TestResume(t *testing.T) {
	s := newSite(t, efss.OpenCloud)
	data := remotetest.Pattern(12<<20, 5)
	var cuts atomic.Int64
	s.SetFaults(func(r *http.Request) *efss.Fault {
		if r.Method == "PATCH" && cuts.Add(1) == 1 {
			return &efss.Fault{CutRequest: true, RequestAt: 3 << 20}
		}
		if r.Method == "PATCH" && cuts.Load() == 4 {
			return &efss.Fault{LoseReply: true}
		}
		return nil
	})
	e, err := s.b.Put(t.Context(), "/f", remotetest.Bytes(data), remote.PutOptions{})
	if err != nil || e.Size != int64(len(data)) {
		t.Fatalf("%+v, %v", e, err)
	}
	if got, err := os.ReadFile(filepath.Join(s.Disk(user), "f")); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the disk holds %d bytes, %v", len(got), err)
	}
	if got := s.did(); !strings.Contains(got, "HEAD") {
		t.Errorf("requests %q", got)
	}
}

// TestSameTimeThrice: oCIS fails the third upload with one mtime. It must not show.
func TestSameTimeThrice(t *testing.T) {
	s := newSite(t, efss.OpenCloud)
	when := time.Unix(1_500_000_000, 0)
	for i := range 5 {
		e := s.put(t, "/f", fmt.Sprint("content ", i), remote.PutOptions{Attrs: remote.Attrs{MTime: &when}})
		if !e.MTime.Equal(when) {
			t.Errorf("upload %d: time %v", i, e.MTime)
		}
	}
	for range 5 { // no bytes go another way
		s.put(t, "/empty", "", remote.PutOptions{Attrs: remote.Attrs{MTime: &when}})
	}
}

// TestGatewayElsewhere: the place for a tus upload may be on another host, which gets
// the data but no credentials.
func TestGatewayElsewhere(t *testing.T) {
	s := newEFSS(t, efss.Options{Dialect: efss.OpenCloud})
	var leaked, seen atomic.Int64
	gateway, _ := guard(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Add(1)
		if r.Header.Get("Authorization") != "" {
			leaked.Add(1)
		}
		s.ServeHTTP(w, r)
	}))
	var front string
	main, _ := guard(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.ServeHTTP(&rewriter{ResponseWriter: w, from: front, to: gateway.URL}, r)
	}))
	front = main.URL
	b := dial(t, options(t, front+s.DAVPath(user)))
	defer b.Close()
	data := remotetest.Pattern(100_000, 1)
	if e, err := b.Put(t.Context(), "/f", remotetest.Bytes(data), remote.PutOptions{}); err != nil || e.Size != int64(len(data)) {
		t.Errorf("%+v, %v", e, err)
	}
	if seen.Load() == 0 || leaked.Load() != 0 {
		t.Errorf("%d requests at the gateway, %d with credentials", seen.Load(), leaked.Load())
	}
}

// rewriter replaces the host of Location headers.
type rewriter struct {
	http.ResponseWriter
	from, to string
}

func (w *rewriter) WriteHeader(status int) {
	if l := w.Header().Get("Location"); l != "" {
		w.Header().Set("Location", strings.Replace(l, w.from, w.to, 1))
	}
	w.ResponseWriter.WriteHeader(status)
}

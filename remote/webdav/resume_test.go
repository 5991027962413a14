package webdav_test

import (
	"bytes"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/remotetest"
	"github.com/meshmount/meshmount/remote/webdav"
)

const resumeChunk = 100_000

// breakAt has the PUT of chunk n fail.
func (s *site) breakAt(n int, status int) {
	s.SetFaults(func(r *http.Request) *efss.Fault {
		if r.Method == "PUT" && path.Base(r.URL.Path) == fmt.Sprintf("%05d", n) {
			return &efss.Fault{Status: status}
		}
		return nil
	})
}

// again is another process: a backend that knows nothing of the one before.
func (s *site) again(t *testing.T) *webdav.Backend {
	t.Helper()
	b := dial(t, options(t, s.url))
	t.Cleanup(func() { _ = b.Close() })
	b.SetChunk(resumeChunk)
	s.did()
	return b
}

// sentChunks returns the names of the chunks that were put since the last call.
func (s *site) sentChunks() string {
	var names []string
	for _, r := range s.Requests() {
		if r.Method == "PUT" && strings.Contains(r.Path, "/uploads/") {
			names = append(names, path.Base(r.Path))
		}
	}
	s.ResetRequests()
	slices.Sort(names)
	return strings.Join(names, " ")
}

// broken is a site on which an upload of 5 chunks and a bit broke off at chunk 5, with the
// four before it on the server.
func broken(t *testing.T, opts remote.PutOptions, data []byte) *site {
	t.Helper()
	s := newSite(t, efss.Nextcloud)
	b := s.again(t)
	s.breakAt(5, http.StatusServiceUnavailable)
	g := beginGrowing(t.Context(), b, "/f", opts)
	g.Grow(data[:4*resumeChunk])
	eventually(t, "four chunks are there", func() bool { return len(s.chunks(t)) == 4 && s.Count("PUT") == 4 })
	g.Grow(data[4*resumeChunk:])
	wantKind(t, g.result(t), remote.Unavailable)
	s.SetFaults(nil)
	return s
}

func resumable() (remote.PutOptions, []byte) {
	return remote.PutOptions{Cond: remote.Cond{NotExist: true}, Resume: "0123456789-abcdef"}, remotetest.Pattern(5*resumeChunk+50, 4)
}

// TestResumeChunks: another process goes on where an upload broke off, whether the
// content can be read anywhere or from its beginning only.
func TestResumeChunks(t *testing.T) {
	opts, data := resumable()
	for name, put := range map[string]func(b *webdav.Backend) error{
		"put": func(b *webdav.Backend) error {
			_, err := b.Put(t.Context(), "/f", remotetest.Bytes(data), opts)
			return err
		},
		"growing": func(b *webdav.Backend) error {
			_, err := b.PutGrowing(t.Context(), "/f", remotetest.Grown(data, remote.Attrs{}), opts)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := broken(t, opts, data)
			if err := put(s.again(t)); err != nil {
				t.Fatal(err)
			}
			if got, want := s.sentChunks(), "00005 00006"; got != want {
				t.Errorf("sent %q, want %q", got, want)
			}
			if got := s.onDisk(t, "f"); !bytes.Equal(got, data) {
				t.Errorf("the disk holds %d bytes", len(got))
			}
			s.noLeftovers(t)
		})
	}
}

// TestResumeLast: the last chunk is sent again, also if it has its size; nothing else is.
func TestResumeLast(t *testing.T) {
	opts, data := resumable()
	s := newSite(t, efss.Nextcloud)
	s.SetFaults(func(r *http.Request) *efss.Fault {
		if r.Method == "MOVE" {
			return &efss.Fault{Status: http.StatusServiceUnavailable}
		}
		return nil
	})
	_, err := s.again(t).Put(t.Context(), "/f", remotetest.Bytes(data), opts)
	wantKind(t, err, remote.Unavailable)
	s.SetFaults(nil)
	if _, err := s.again(t).Put(t.Context(), "/f", remotetest.Bytes(data), opts); err != nil {
		t.Fatal(err)
	}
	if got := s.sentChunks(); got != "00006" {
		t.Errorf("sent %q", got)
	}
	if got := s.onDisk(t, "f"); !bytes.Equal(got, data) {
		t.Errorf("the disk holds %d bytes", len(got))
	}
}

// TestResumeOdd: chunks of another size are sent again, surplus ones deleted, and other
// uploads left alone.
func TestResumeOdd(t *testing.T) {
	opts, data := resumable()
	s := broken(t, opts, data)
	folder := path.Dir(s.chunks(t)[0])
	at := strings.TrimSuffix(s.url, s.DAVPath(user)) + "/remote.php/dav/uploads/" + user + "/" + path.Base(folder)
	for name, body := range map[string]string{"00002": "too short", "00007": "nobody's", "9999": "nobody's"} {
		s.foreignTo(t, "PUT", at+"/"+name, body, nil)
	}
	if _, err := s.again(t).Put(t.Context(), "/f", remotetest.Bytes(data), opts); err != nil {
		t.Fatal(err)
	}
	if got := s.sentChunks(); got != "00002 00005 00006" {
		t.Errorf("sent %q", got)
	}
	if got := s.onDisk(t, "f"); !bytes.Equal(got, data) {
		t.Errorf("the disk holds %d bytes", len(got))
	}
	s.noLeftovers(t)
}

// TestResumeApart: another name, path or way of cutting begins anew.
func TestResumeApart(t *testing.T) {
	opts, data := resumable()
	other := opts
	other.Resume = "another"
	for name, put := range map[string]func(b *webdav.Backend) error{
		"name": func(b *webdav.Backend) error {
			_, err := b.Put(t.Context(), "/f", remotetest.Bytes(data), other)
			return err
		},
		"path": func(b *webdav.Backend) error {
			_, err := b.Put(t.Context(), "/g", remotetest.Bytes(data), opts)
			return err
		},
		"size": func(b *webdav.Backend) error {
			b.SetChunk(resumeChunk - 1)
			_, err := b.Put(t.Context(), "/f", remotetest.Bytes(data), opts)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := broken(t, opts, data)
			if err := put(s.again(t)); err != nil {
				t.Fatal(err)
			}
			if got := s.sentChunks(); got != "00001 00002 00003 00004 00005 00006" {
				t.Errorf("sent %q", got)
			}
			if left := s.chunks(t); len(left) != 4 {
				t.Errorf("of the first upload there is %q", left)
			}
		})
	}
}

// TestResumeEnds: what will not be gone on with is not kept.
func TestResumeEnds(t *testing.T) {
	opts, data := resumable()
	for name, fail := range map[string]func(s *site, b *webdav.Backend) error{
		"refused": func(s *site, b *webdav.Backend) error {
			s.breakAt(3, http.StatusForbidden)
			_, err := b.Put(t.Context(), "/f", remotetest.Bytes(data), opts)
			return err
		},
		"no space": func(s *site, b *webdav.Backend) error {
			s.breakAt(3, http.StatusInsufficientStorage)
			_, err := b.Put(t.Context(), "/f", remotetest.Bytes(data), opts)
			return err
		},
		"exists": func(s *site, b *webdav.Backend) error {
			g := beginGrowing(t.Context(), b, "/f", opts)
			g.Grow(data)
			eventually(t, "chunks are there", func() bool { return len(s.chunks(t)) == 5 })
			s.foreign(t, "PUT", "/f", "theirs", nil)
			g.End(remote.Attrs{})
			return g.result(t)
		},
		"another content": func(s *site, b *webdav.Backend) error {
			g := beginGrowing(t.Context(), b, "/f", opts)
			g.Grow(data)
			eventually(t, "chunks are there", func() bool { return len(s.chunks(t)) == 5 })
			g.Fail(remotetest.ErrSource)
			return g.result(t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, efss.Nextcloud)
			_ = s.b.Close()
			s.b = s.again(t) // it looks after what it could not delete
			if err := fail(s, s.b); err == nil {
				t.Error("no error")
			}
			s.cleanSoon(t)
		})
	}
}

// TestResumeAssembly: a server that was still at work on the chunks is neither disturbed
// nor sent everything again.
func TestResumeAssembly(t *testing.T) {
	opts, data := resumable()
	s := newSite(t, efss.Nextcloud)
	var moves atomic.Int64
	s.SetFaults(func(r *http.Request) *efss.Fault {
		if r.Method == "MOVE" && moves.Add(1) == 1 {
			return &efss.Fault{GiveUp: http.StatusGatewayTimeout, Behind: 300 * time.Millisecond}
		}
		return nil
	})
	b := s.again(t)
	e, err := b.Put(t.Context(), "/f", remotetest.Bytes(data), opts)
	if err != nil || e.Size != int64(len(data)) {
		t.Fatalf("%+v, %v", e, err)
	}
	if moves.Load() != 1 {
		t.Errorf("%d MOVEs", moves.Load())
	}
	if got := s.onDisk(t, "f"); !bytes.Equal(got, data) {
		t.Errorf("the disk holds %d bytes", len(got))
	}
	s.noLeftovers(t)
}

// TestLeftoversLater: what cannot be deleted while the server is away is deleted when it
// answers again.
func TestLeftoversLater(t *testing.T) {
	for _, d := range []efss.Dialect{efss.Nextcloud, efss.Generic} {
		s := newSite(t, d)
		s.b.SetChunk(1000)
		var away atomic.Bool
		s.SetFaults(func(r *http.Request) *efss.Fault {
			if r.Method == "PUT" {
				away.Store(true)
				return &efss.Fault{CutRequest: true, RequestAt: 100}
			}
			if away.Load() {
				return &efss.Fault{Status: http.StatusServiceUnavailable}
			}
			return nil
		})
		_, err := s.b.Put(t.Context(), "/f", remotetest.Bytes(remotetest.Pattern(5000, 1)), remote.PutOptions{})
		wantKind(t, err, remote.Corrupt)
		if s.leftovers(t) == nil {
			t.Fatalf("%v: nothing is left behind, so nothing is tested", d)
		}
		s.SetFaults(nil)
		s.cleanSoon(t)
	}
}

// TestTempAgain: where an upload cannot go on, what a killed process left of its ranges is
// gone in the end.
func TestTempAgain(t *testing.T) {
	opts, data := resumable()
	for _, d := range []efss.Dialect{efss.ModDAV} {
		s := newSite(t, d)
		b := s.again(t)
		temp := ".meshmount-" + opts.Resume + ".tmp"
		s.foreign(t, "PUT", "/"+temp, strings.Repeat("left by a process that was killed", 30_000), nil)
		if _, err := b.Put(t.Context(), "/f", remotetest.Bytes(data), opts); err != nil {
			t.Fatalf("%v: %v", d, err)
		}
		if got := s.onDisk(t, "f"); !bytes.Equal(got, data) || s.onDisk(t, temp) != nil {
			t.Errorf("%v: %d bytes there, %q", d, len(got), s.leftovers(t))
		}
		if puts := strings.Count(s.did(), "PUT"); puts != 7 {
			t.Errorf("%d PUTs, want that of the test and 6 ranges", puts)
		}
	}
}

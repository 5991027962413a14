package webdav_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/remotetest"
	"github.com/meshmount/meshmount/remote/webdav"
)

// TestModeSurvives: an overwrite keeps the mode, and makes no old mtime its own.
func TestModeSurvives(t *testing.T) {
	for _, d := range []efss.Dialect{efss.Nextcloud, efss.OpenCloud, efss.Reva, efss.ModDAV, efss.Generic} {
		t.Run(d.String(), func(t *testing.T) {
			s := newSite(t, d)
			when, mode := time.Unix(1_500_000_000, 250), uint32(0o4750)
			e := s.put(t, "/f", "one", remote.PutOptions{Attrs: remote.Attrs{MTime: &when, Mode: &mode}})
			if !e.ModeKnown || e.Mode != mode || e.MTime.Unix() != when.Unix() {
				t.Errorf("made as %+v", e)
			}
			s.clock.pass(10 * time.Second)
			for _, conditional := range []bool{false, true} {
				var opts remote.PutOptions
				if conditional {
					opts.Cond.Version, opts.Cond.Provisional = e.Version, e.Provisional
				}
				e = s.put(t, "/f", "two", opts)
				if !e.ModeKnown || e.Mode != mode || e.MTime.Unix() == when.Unix() {
					t.Errorf("overwritten as %+v", e)
				}
				s.clock.pass(10 * time.Second)
			}
			s.foreign(t, "PUT", "/f", "three", nil)
			e, err := s.b.Stat(t.Context(), "/f")
			if err != nil || !e.ModeKnown || e.Mode != mode || e.MTime.Unix() == when.Unix() || e.Size != 5 {
				t.Errorf("after somebody else's change: %+v, %v", e, err)
			}
		})
	}
}

// TestSameTag is the weakness of Nextcloud's tags: same size, same client-set time.
func TestSameTag(t *testing.T) {
	s := newSite(t, efss.Nextcloud)
	stamp := map[string]string{"X-OC-Mtime": "1500000000"}
	s.foreign(t, "PUT", "/f", "one", stamp)
	fresh, err := s.b.Stat(t.Context(), "/f")
	if err != nil || !fresh.Provisional {
		t.Errorf("a fresh upload is proof: %+v, %v", fresh, err)
	}
	s.clock.pass(10 * time.Second)
	before, err := s.b.Stat(t.Context(), "/f")
	if err != nil || before.Provisional {
		t.Fatalf("an old upload is no proof: %+v, %v", before, err)
	}
	s.foreign(t, "PUT", "/f", "two", stamp)
	s.clock.pass(10 * time.Second)
	after, err := s.b.Stat(t.Context(), "/f")
	tag := func(v string) string { t, _, _ := strings.Cut(v, " "); return t }
	if err != nil || tag(after.Version) != tag(before.Version) {
		t.Fatalf("the server is not as weak as it should be: %+v", after)
	}
	if after.Version == before.Version {
		t.Error("other bytes, same version, both settled")
	}
	ref := remote.Ref{Path: "/f", Version: before.Version, Size: 3}
	_, err = s.b.ReadAt(t.Context(), ref, make([]byte, 1), 1)
	wantKind(t, err, remote.Changed)
	_, err = s.b.Put(t.Context(), "/f", remotetest.Bytes([]byte("mine")), remote.PutOptions{Cond: remote.Cond{Version: before.Version}})
	wantKind(t, err, remote.Conflict)
	e := s.put(t, "/f", "mine", remote.PutOptions{Cond: remote.Cond{Version: after.Version}})
	if e.Size != 4 {
		t.Errorf("%+v", e)
	}
}

// TestLinkReplaced: a file put over a symbolic link is a file, also one of its size.
func TestLinkReplaced(t *testing.T) {
	for _, d := range []efss.Dialect{efss.Nextcloud, efss.OpenCloud, efss.ModDAV, efss.Generic} {
		s := newSite(t, d)
		if e, err := s.b.Symlink(t.Context(), "/l", "target"); err != nil || e.Type != remote.Symlink {
			t.Fatalf("%v: %+v, %v", d, e, err)
		}
		s.clock.pass(10 * time.Second)
		e := s.put(t, "/l", "sixsix", remote.PutOptions{})
		now, err := s.b.Stat(t.Context(), "/l")
		if err != nil || e.Type != remote.File || now.Type != remote.File || now.Target != "" {
			t.Errorf("%v: put %+v, stat %+v, %v", d, e, now, err)
		}
	}
}

// TestUnsure: whoever loses the answer to a change says so, and nobody else.
func TestUnsure(t *testing.T) {
	for _, d := range []efss.Dialect{efss.Nextcloud, efss.ModDAV, efss.Generic, efss.OpenCloud} {
		for what, f := range map[string]func(b *webdav.Backend) error{
			"mkdir": func(b *webdav.Backend) error { _, err := b.Mkdir(t.Context(), "/new"); return err },
			"remove": func(b *webdav.Backend) error {
				return b.Remove(t.Context(), "/f", remote.RemoveOptions{Type: remote.File})
			},
			"rename": func(b *webdav.Backend) error {
				return b.Rename(t.Context(), "/f", "/g", remote.RenameOptions{})
			},
			"setattr": func(b *webdav.Backend) error {
				mode := uint32(0o600)
				_, err := b.SetAttr(t.Context(), "/f", remote.Attrs{Mode: &mode})
				return err
			},
			"stat": func(b *webdav.Backend) error { _, err := b.Stat(t.Context(), "/f"); return err },
			"read": func(b *webdav.Backend) error {
				_, err := b.ReadAt(t.Context(), remote.Ref{Path: "/f", Size: 1}, make([]byte, 1), 0)
				return err
			},
		} {
			t.Run(d.String()+"/"+what, func(t *testing.T) {
				s := newSite(t, d)
				s.put(t, "/f", "x", remote.PutOptions{})
				changes := what != "stat" && what != "read"
				s.SetFaults(func(r *http.Request) *efss.Fault {
					if changes && (r.Method == "PROPFIND" || r.Method == "GET") {
						return nil
					}
					return &efss.Fault{LoseReply: true}
				})
				err := f(s.b)
				var e *remote.Error
				if !errors.As(err, &e) || e.Unsure != changes || e.Kind != remote.Unavailable {
					t.Errorf("the error is %v, unsure %v", err, e != nil && e.Unsure)
				}
			})
		}
	}
}

// TestProgress ticks while bytes move in either direction.
func TestProgress(t *testing.T) {
	data := remotetest.Pattern(3<<20, 1)
	for _, d := range efss.Dialects() {
		s := newSite(t, d)
		var ticks atomic.Int64
		ctx := remote.WithProgress(t.Context(), func() { ticks.Add(1) })
		if _, err := s.b.Put(ctx, "/f", remotetest.Bytes(data), remote.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		if n := ticks.Swap(0); n < 5 {
			t.Errorf("%v: %d ticks in a put", d, n)
		}
		if _, err := s.b.ReadAt(ctx, remote.Ref{Path: "/f", Size: int64(len(data))}, make([]byte, len(data)), 0); err != nil {
			t.Fatal(err)
		}
		if n := ticks.Load(); n < 3 {
			t.Errorf("%v: %d ticks in a read", d, n)
		}
	}
}

// TestRemoveWithLeftovers: an unfinished upload keeps its directory, an abandoned one
// does not.
func TestRemoveWithLeftovers(t *testing.T) {
	for _, d := range []efss.Dialect{efss.Generic, efss.XRootD} {
		s := newSite(t, d)
		if _, err := s.b.Mkdir(t.Context(), "/d"); err != nil {
			t.Fatal(err)
		}
		s.foreign(t, "PUT", "/d/.meshmount-XYZ.tmp", "half", nil)
		if all, err := names(t, s.b, "/d"); err != nil || len(all) != 0 {
			t.Errorf("listed %q, %v", all, err)
		}
		_, err := s.b.Stat(t.Context(), "/d/.meshmount-XYZ.tmp")
		wantKind(t, err, remote.NotExist)
		err = s.b.Remove(t.Context(), "/d", remote.RemoveOptions{Type: remote.Dir})
		wantKind(t, err, remote.NotEmpty)
		s.clock.pass(25 * time.Hour)
		if err := s.b.Remove(t.Context(), "/d", remote.RemoveOptions{Type: remote.Dir}); err != nil {
			t.Errorf("%v: %v", d, err)
		}
	}
}

// TestPublicFallback: without a place for chunks, MOVE replaces the file.
func TestPublicFallback(t *testing.T) {
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
	if b.Caps().AtomicPut || !strings.Contains(b.Info().Uploads, "MOVE") {
		t.Errorf("caps %+v, uploads %q", b.Caps(), b.Info().Uploads)
	}
	s.put(t, "/f", "old", remote.PutOptions{})
	s.did()
	if _, err := b.Put(t.Context(), "/f", remotetest.Bytes([]byte("new")), remote.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := s.did(); got != "PROPFIND PUT PROPFIND MOVE PROPFIND" {
		t.Errorf("requests %q", got)
	}
}

// TestMkdirAlone: where the server cannot tell who was first, one of us is.
func TestMkdirAlone(t *testing.T) {
	s := newSite(t, efss.Rclone)
	var all sync.WaitGroup
	errs := make([]error, 10)
	for i := range errs {
		all.Go(func() { _, errs[i] = s.b.Mkdir(t.Context(), "/lock") })
	}
	all.Wait()
	if n := len(slices.DeleteFunc(errs, func(err error) bool { return err != nil })); n != 1 {
		t.Errorf("%d made the directory", n)
	}
}

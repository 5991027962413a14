package webdav_test

import (
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// TestNoProperties: an unknown server is taken to keep properties until it refuses one.
// What it cannot keep is dropped, and the capabilities say so from then on.
func TestNoProperties(t *testing.T) {
	s := newEFSS(t, efss.Options{Dialect: efss.Generic})
	var asked atomic.Int64
	front, _ := guard(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "PROPPATCH" && r.Header.Get("Authorization") != "" {
			asked.Add(1)
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		s.ServeHTTP(w, r)
	}))
	b := dial(t, options(t, front.URL+s.DAVPath(user)))
	defer b.Close()
	if c := b.Caps(); !c.StoresMode || !c.StoresMTime || !c.StoresSymlinks {
		t.Fatalf("caps %+v", b.Caps())
	}
	mode := uint32(0o600)
	for _, path := range []string{"/a", "/b"} {
		e, err := b.Put(t.Context(), path, remotetest.Bytes([]byte("x")), remote.PutOptions{Attrs: remote.Attrs{Mode: &mode}})
		if err != nil || e.ModeKnown {
			t.Errorf("put: %+v, %v", e, err)
		}
		if e, err = b.SetAttr(t.Context(), path, remote.Attrs{Mode: &mode}); err != nil || e.ModeKnown {
			t.Errorf("setattr: %+v, %v", e, err)
		}
	}
	if c := b.Caps(); asked.Load() != 1 || c.StoresMode || c.StoresMTime || c.StoresSymlinks {
		t.Errorf("asked %d times, caps %+v", asked.Load(), b.Caps())
	}
	_, err := b.Symlink(t.Context(), "/l", "a")
	wantKind(t, err, remote.Unsupported)
	if _, err := b.Stat(t.Context(), "/l"); !errors.Is(err, remote.NotExist) {
		t.Errorf("a link that cannot be is there: %v", err)
	}
}

// TestLostAssembly: while the server may be putting chunks together, nobody deletes
// them, and the caller hears that it cannot be known.
func TestLostAssembly(t *testing.T) {
	s := newSite(t, efss.Nextcloud)
	s.b.SetPatience(100*time.Millisecond, time.Hour)
	s.put(t, "/f", "old", remote.PutOptions{})
	s.did()
	s.SetFaults(func(r *http.Request) *efss.Fault {
		if r.Method == "MOVE" {
			return &efss.Fault{Abort: true}
		}
		return nil
	})
	_, err := s.b.Put(t.Context(), "/f", remotetest.Bytes([]byte("new")), remote.PutOptions{})
	var e *remote.Error
	if !errors.As(err, &e) || !e.Unsure || e.Kind != remote.Unavailable {
		t.Errorf("%v", err)
	}
	if left, err := filepath.Glob(filepath.Join(s.dir, "uploads", user, "*")); err != nil || len(left) != 1 {
		t.Errorf("folders of chunks: %q, %v", left, err)
	}
	if got := s.did(); strings.Contains(got, "DELETE") {
		t.Errorf("requests %q", got)
	}
}

// TestDirectoryTimes: a directory keeps a time that was set until its children change.
func TestDirectoryTimes(t *testing.T) {
	for _, d := range []efss.Dialect{efss.Nextcloud, efss.ModDAV} {
		s := newSite(t, d)
		if _, err := s.b.Mkdir(t.Context(), "/d"); err != nil {
			t.Fatal(err)
		}
		when, mode := remoteTime(), uint32(0o700)
		e, err := s.b.SetAttr(t.Context(), "/d", remote.Attrs{MTime: &when, Mode: &mode})
		if err != nil || e.MTime.Unix() != when.Unix() || e.Mode != mode {
			t.Errorf("%v: set %+v, %v", d, e, err)
		}
		if e, err = s.b.Stat(t.Context(), "/d"); err != nil || e.MTime.Unix() != when.Unix() || e.Mode != mode {
			t.Errorf("%v: stat %+v, %v", d, e, err)
		}
		s.clock.pass(time.Second) // beyond a tick of the file system's clock
		s.put(t, "/d/f", "x", remote.PutOptions{})
		if e, err = s.b.Stat(t.Context(), "/d"); err != nil || e.MTime.Unix() == when.Unix() || e.Mode != mode {
			t.Errorf("%v: with a child %+v, %v", d, e, err)
		}
	}
}

// TestOldTimes are before what Nextcloud takes, and go into the property.
func TestOldTimes(t *testing.T) {
	for _, d := range []efss.Dialect{efss.Nextcloud, efss.OpenCloud, efss.ModDAV} {
		s := newSite(t, d)
		when := epoch()
		e := s.put(t, "/f", "x", remote.PutOptions{Attrs: remote.Attrs{MTime: &when}})
		if !e.MTime.Equal(when) {
			t.Errorf("%v: put %v", d, e.MTime)
		}
		later := remoteTime()
		e, err := s.b.SetAttr(t.Context(), "/f", remote.Attrs{MTime: &later})
		if err != nil || e.MTime.Unix() != later.Unix() {
			t.Errorf("%v: set %v, %v", d, e.MTime, err)
		}
		if e, err = s.b.SetAttr(t.Context(), "/f", remote.Attrs{MTime: &when}); err != nil || !e.MTime.Equal(when) {
			t.Errorf("%v: set back %v, %v", d, e.MTime, err)
		}
	}
}

func remoteTime() time.Time { return time.Unix(1_400_000_000, 0) }
func epoch() time.Time      { return time.Unix(0, 0) }

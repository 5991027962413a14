package webdav_test

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// strand puts unfinished uploads on a server's disk, for /d/f.
func (s *site) strand(t *testing.T, names ...string) {
	t.Helper()
	if _, err := s.b.Mkdir(t.Context(), "/d"); err != nil && remote.KindOf(err) != remote.Exist {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, ".") {
			s.foreign(t, "PUT", "/d/"+name, "half", nil)
		} else if err := os.MkdirAll(filepath.Join(s.dir, "uploads", user, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSweep removes what dead processes have left, and nothing else.
func TestSweep(t *testing.T) {
	const size = 64 << 20
	beside := []string{".meshmount-LIVE.X.tmp", ".meshmount-DEAD.X.tmp", ".meshmount-DEAD.Y.tmp", ".meshmount-GOESON.tmp", ".meshmount-STALE.tmp", ".meshmount-OTHER.tmp"}
	folders := []string{"meshmount-LIVE.X", "meshmount-DEAD.X", "meshmount-3e8-a-b-c-GOESON", "meshmount-3e8-a-b-c-STALE", "meshmount-OTHER", "web-file-upload-DEAD.X"}
	dead := func(tag string) bool { return tag == "DEAD" || tag == "STALE" }
	for d, names := range map[efss.Dialect][]string{efss.Nextcloud: folders, efss.ModDAV: beside, efss.Rclone: beside, efss.Generic: beside} {
		s := newSite(t, d)
		s.strand(t, names...)
		s.put(t, "/d/f", "all of it", remote.PutOptions{})
		if err := s.b.Sweep(t.Context(), "/d/f", size, dead); err != nil {
			t.Fatalf("%v: %v", d, err)
		}
		var left []string
		for _, name := range s.leftovers(t) {
			left = append(left, filepath.Base(name))
		}
		want := slices.DeleteFunc(slices.Clone(names), func(name string) bool {
			return strings.HasPrefix(name, ".meshmount-DEAD") || strings.HasPrefix(name, "meshmount-DEAD") || strings.Contains(name, "STALE")
		})
		if slices.Sort(left); !slices.Equal(left, slices.Sorted(slices.Values(want))) {
			t.Errorf("%v: left are %q, want %q", d, left, want)
		}
		if got := s.onDisk(t, "d/f"); string(got) != "all of it" {
			t.Errorf("%v: the file has %q", d, got)
		}
		s.did()
		if err := s.b.Sweep(t.Context(), "/d/g", size, dead); err != nil || s.did() != "" {
			t.Errorf("%v: a place is swept twice (%v)", d, err)
		}
	}
}

// TestSweepSparingly: nothing is asked where uploads of a size leave nothing, a place that is not
// there is clean, and one that could not be looked at is looked at again.
func TestSweepSparingly(t *testing.T) {
	s := newSite(t, efss.ModDAV)
	dead := func(string) bool { return true }
	if err := s.b.Sweep(t.Context(), "/d/f", 1000, dead); err != nil || s.did() != "" {
		t.Errorf("small files go by one PUT there: %v", err)
	}
	s.SetFaults(func(*http.Request) *efss.Fault { return &efss.Fault{Status: http.StatusServiceUnavailable} })
	wantKind(t, s.b.Sweep(t.Context(), "/d/f", -1, dead), remote.Unavailable)
	s.SetFaults(nil)
	if err := s.b.Sweep(t.Context(), "/d/f", -1, dead); err != nil {
		t.Errorf("no directory: %v", err)
	}
}

// TestTags: the names of what is not complete bear the tag.
func TestTags(t *testing.T) {
	for d, want := range map[efss.Dialect]string{efss.Nextcloud: "/meshmount-TAG.", efss.Rclone: "/.meshmount-TAG."} {
		s := newSite(t, d)
		e := s.put(t, "/f", "before", remote.PutOptions{})
		s.SetFaults(func(r *http.Request) *efss.Fault {
			if r.Method == "MOVE" || r.Method == http.MethodDelete {
				return &efss.Fault{Status: http.StatusServiceUnavailable}
			}
			return nil
		})
		_, err := s.b.Put(t.Context(), "/f", remotetest.Bytes([]byte("after")), remote.PutOptions{Cond: remote.Cond{Version: e.Version}, Tag: "TAG"})
		wantKind(t, err, remote.Unavailable)
		if left := s.leftovers(t); len(left) != 1 || !strings.Contains(left[0], want) {
			t.Errorf("%v: %q", d, left)
		}
		s.SetFaults(nil)
		s.cleanSoon(t)
	}
}

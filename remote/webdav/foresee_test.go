package webdav_test

import (
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/remotetest"
	"github.com/meshmount/meshmount/remote/webdav"
)

// counting counts the requests to a site by method.
func (s *site) counting() func() map[string]int {
	var mu sync.Mutex
	n := map[string]int{}
	s.SetFaults(func(r *http.Request) *efss.Fault {
		mu.Lock()
		defer mu.Unlock()
		n[r.Method]++
		return nil
	})
	return func() map[string]int {
		s.SetFaults(nil)
		return n
	}
}

// other is another client of the site.
func (s *site) other(t *testing.T) *webdav.Backend {
	t.Helper()
	b := dial(t, options(t, s.url))
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// write makes a file.
func write(t *testing.T, b remote.Backend, path, content string) remote.Known {
	t.Helper()
	e, err := b.Put(t.Context(), path, remotetest.Bytes([]byte(content)), remote.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return remote.Known{Path: e.Path, Type: remote.File, Version: e.Version}
}

// knownDirs are the directories of knownTree, in the order in which they are removed.
func knownDirs(top string) []string { return []string{top + "/a/b", top + "/a", top} }

// foresee looks at directories ahead.
func (s *site) foresee(t *testing.T, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		if err := s.b.Foresee(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
	}
}

// spared wants a tree not to be pruned, and a file in it to stay.
func (s *site) spared(t *testing.T, top string, known []remote.Known, file string) {
	t.Helper()
	if err := s.b.Prune(t.Context(), top, known); !errors.Is(err, remote.Conflict) {
		t.Errorf("pruning: %v, want a conflict", err)
	}
	for _, path := range []string{file, top + "/f", top + "/a/b/f"} {
		if _, err := s.b.Stat(t.Context(), path); err != nil {
			t.Error(err)
		}
	}
}

// TestForesee: what was looked at ahead is not listed again.
func TestForesee(t *testing.T) {
	s := newSite(t, efss.ModDAV)
	if !s.b.Foresees() {
		t.Fatal("it does not look ahead")
	}
	known := s.knownTree(t, "/t")
	s.foresee(t, knownDirs("/t")...)
	counted := s.counting()
	if err := s.b.Prune(t.Context(), "/t", known); err != nil {
		t.Fatal(err)
	}
	if n := counted(); n["PROPFIND"] != 0 || n["DELETE"] != 1 {
		t.Errorf("%v requests", n)
	}
	if _, err := s.b.Stat(t.Context(), "/t"); !errors.Is(err, remote.NotExist) {
		t.Errorf("it is left: %v", err)
	}
	known = s.knownTree(t, "/t") // what was seen of the one before is of no use
	counted = s.counting()
	if err := s.b.Prune(t.Context(), "/t", known); err != nil {
		t.Fatal(err)
	}
	if n := counted(); n["PROPFIND"] != 3 || n["DELETE"] != 1 {
		t.Errorf("%v requests for the second", n)
	}
}

// TestForeseeForeign has somebody else make or change a file in a tree that is removed, before
// its directory is looked at ahead, and between that and the look at the one around it.
func TestForeseeForeign(t *testing.T) {
	for _, path := range []string{"/t/a/b/theirs", "/t/a/b/f", "/t/a/theirs", "/t/theirs"} {
		t.Run("before "+path, func(t *testing.T) {
			s := newSite(t, efss.ModDAV)
			known := s.knownTree(t, "/t")
			write(t, s.other(t), path, "another content, longer than it was")
			s.foresee(t, knownDirs("/t")...)
			s.spared(t, "/t", known, path)
		})
	}
	for _, path := range []string{"/t/a/b/theirs", "/t/a/theirs"} {
		t.Run("after "+path, func(t *testing.T) {
			s := newSite(t, efss.ModDAV)
			known := s.knownTree(t, "/t")
			up, _ := remote.Split(path)
			for _, dir := range knownDirs("/t") {
				s.foresee(t, dir)
				if dir == up {
					s.clock.pass(time.Second)
					write(t, s.other(t), path, "theirs")
				}
			}
			s.spared(t, "/t", known, path)
		})
	}
	t.Run("after all", func(t *testing.T) { // the tag of the top goes with the DELETE
		s := newSite(t, efss.ModDAV)
		known := s.knownTree(t, "/t")
		s.foresee(t, knownDirs("/t")...)
		s.clock.pass(time.Minute)
		s.foresee(t, knownDirs("/t")...)
		write(t, s.other(t), "/t/theirs", "theirs")
		s.spared(t, "/t", known, "/t/theirs")
	})
}

// TestForeseeLate: what was looked at too long ago is listed again.
func TestForeseeLate(t *testing.T) {
	for _, path := range []string{"/t/a/b/theirs", "/t/a/b/f", "/t/theirs"} {
		t.Run(path, func(t *testing.T) {
			s := newSite(t, efss.ModDAV)
			s.b.SetProofAge(0)
			known := s.knownTree(t, "/t")
			s.foresee(t, knownDirs("/t")...)
			write(t, s.other(t), path, "another content, longer than it was")
			s.spared(t, "/t", known, path)
		})
	}
}

// TestForeseeOwn changes a tree from here after it was looked at: a listing has the last word,
// and all goes.
func TestForeseeOwn(t *testing.T) {
	for what, change := range map[string]func(t *testing.T, s *site, known []remote.Known) []remote.Known{
		"less": func(t *testing.T, s *site, known []remote.Known) []remote.Known {
			if err := s.b.Remove(t.Context(), "/t/f", remote.RemoveOptions{Type: remote.File}); err != nil {
				t.Fatal(err)
			}
			return known[1:]
		},
		"more": func(t *testing.T, s *site, known []remote.Known) []remote.Known {
			return append(known, write(t, s.b, "/t/more", "more"), write(t, s.b, "/t/a/more", "more"))
		},
		"another": func(t *testing.T, s *site, known []remote.Known) []remote.Known {
			return append(known[1:], write(t, s.b, "/t/f", "another content"))
		},
		"no directory": func(t *testing.T, s *site, known []remote.Known) []remote.Known {
			if err := s.b.Prune(t.Context(), "/t/a/b", known[len(known)-1:]); err != nil {
				t.Fatal(err)
			}
			return known
		},
	} {
		t.Run(what, func(t *testing.T) {
			s := newSite(t, efss.ModDAV)
			known := s.knownTree(t, "/t")
			s.clock.pass(time.Minute) // no weak tags
			s.foresee(t, knownDirs("/t")...)
			if err := s.b.Prune(t.Context(), "/t", change(t, s, known)); err != nil {
				t.Error(err)
			}
			if _, err := s.b.Stat(t.Context(), "/t"); !errors.Is(err, remote.NotExist) {
				t.Errorf("it is left: %v", err)
			}
		})
	}
}

// showAll lists a tree, as programs do that remove one.
func showAll(t *testing.T, b remote.Backend, dir string) {
	t.Helper()
	var dirs []string
	err := b.List(t.Context(), dir, func(e remote.Entry) error {
		if e.Type == remote.Dir {
			dirs = append(dirs, e.Path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		showAll(t, b, d)
	}
}

// TestPruneWitnessed: where the tags of directories tell of what is below them, one listing
// proves a tree that was shown before.
func TestPruneWitnessed(t *testing.T) {
	s := newSite(t, efss.Nextcloud)
	known := s.knownTree(t, "/t")
	showAll(t, s.b, "/t")
	counted := s.counting()
	if err := s.b.Prune(t.Context(), "/t", known); err != nil {
		t.Fatal(err)
	}
	if n := counted(); n["PROPFIND"] != 1 || n["DELETE"] != 1 {
		t.Errorf("%v requests", n)
	}
	if _, err := s.b.Stat(t.Context(), "/t"); !errors.Is(err, remote.NotExist) {
		t.Errorf("it is left: %v", err)
	}
	known = s.knownTree(t, "/t")
	showAll(t, s.b, "/t")
	known = append(known, write(t, s.b, "/t/a/b/ours", "ours")) // other tags
	if err := s.b.Prune(t.Context(), "/t", known); err != nil {
		t.Errorf("after a change of our own: %v", err)
	}
}

// TestPruneWitnessedForeign has somebody else change a tree after it was shown: what is known
// is what was shown, or even more.
func TestPruneWitnessedForeign(t *testing.T) {
	s := newSite(t, efss.Nextcloud)
	other := s.other(t)
	for _, path := range []string{"/t/theirs", "/t/a/theirs", "/t/a/b/theirs", "/t/a/b/f", "/t/f"} {
		known := s.knownTree(t, "/t")
		showAll(t, s.b, "/t/a/b")
		showAll(t, s.b, "/t/a")
		showAll(t, s.b, "/t")
		write(t, other, path, "another content, longer than it was")
		s.spared(t, "/t", known, path)
		s.spared(t, "/t", append(known, remote.Known{Path: "/t/a/none", Type: remote.Dir}), path)
		showAll(t, s.b, "/t") // it is shown now, but still not known
		s.spared(t, "/t", known, path)
		if path != "/t/f" && path != "/t/a/b/f" {
			known = append(known, remote.Known{Path: path, Type: remote.File, Version: versionOf(t, other, path)})
		} else {
			for i := range known {
				if known[i].Path == path {
					known[i].Version = versionOf(t, other, path)
				}
			}
		}
		if err := s.b.Prune(t.Context(), "/t", known); err != nil {
			t.Fatal(err)
		}
	}
}

func versionOf(t *testing.T, b remote.Backend, path string) string {
	t.Helper()
	e, err := b.Stat(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return e.Version
}

// TestPruneWitnessedBetween has somebody else change a directory between its listing and that
// of the one around it.
func TestPruneWitnessedBetween(t *testing.T) {
	s := newSite(t, efss.Nextcloud)
	known := s.knownTree(t, "/t")
	for _, dir := range []string{"/t/a/b", "/t/a"} {
		if err := s.b.List(t.Context(), dir, func(remote.Entry) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if dir == "/t/a/b" {
			write(t, s.other(t), "/t/a/b/theirs", "theirs")
		}
	}
	s.spared(t, "/t", known, "/t/a/b/theirs")
}

package integration_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/harness"
)

// pinned reads a file that was opened as old to its end: all bytes are old's, or the
// rest is refused with ESTALE.
func pinned(t *testing.T, file *os.File, old []byte, off int64) (stale bool) {
	t.Helper()
	p := make([]byte, 128<<10)
	for {
		n, err := file.ReadAt(p, off)
		if wrong := differ(p[:n], old, off); wrong != nil {
			t.Fatalf("%s: not the opened version: %v", file.Name(), wrong)
		}
		off += int64(n)
		switch {
		case err == io.EOF && off == int64(len(old)):
			return false
		case errors.Is(err, syscall.ESTALE):
			return true
		case err != nil:
			t.Fatalf("%s at %d of %d: %v", file.Name(), off, len(old), err)
		}
	}
}

// fresh reads a file until it has the new content, at the latest when attributes that
// are believed have expired: with a time to live of 0, at once.
func fresh(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := readWhole(path, content); err != nil {
		t.Errorf("a new open: %v", err)
	}
}

// everyTime lets every open ask.
var everyTime = []string{"--attr-ttl=0", "--dir-ttl=0", "--negative-ttl=0"}

const pinnedSize = 4<<20 + 77

// overwrites are what happens to an open file on the server.
func overwrites(t *testing.T, s *shelf) map[string]func(name string) []byte {
	size := map[string]int{"same size": pinnedSize, "shorter": pinnedSize / 3, "longer": pinnedSize + 3<<20}
	all := map[string]func(name string) []byte{}
	for what, n := range size {
		all[what] = func(name string) []byte {
			content := book(uint64(len(what))+9000, n)
			s.put(t, name, content, time.Time{})
			return content
		}
	}
	if s.share != nil {
		all["same size and time"] = func(name string) []byte {
			info, err := os.Stat(filepath.Join(s.share.Disk("alice"), name))
			if err != nil {
				t.Fatal(err)
			}
			content := book(9100, pinnedSize)
			s.put(t, name, content, info.ModTime())
			return content
		}
	}
	return all
}

// testPinned overwrites files while they are read, with and without old blocks in the
// cache, and reads them again, after a remount, too.
func testPinned(t *testing.T, s *shelf) {
	t.Helper()
	cache := cacheDir(t)
	m := s.mount(t, harness.Program(t), cache, everyTime...)
	var list []string
	last := map[string][]byte{}
	for what, overwrite := range overwrites(t, s) {
		for _, warm := range []bool{false, true} {
			name := "f" + time.Now().Format("150405.000000000")
			old := book(uint64(len(what)), pinnedSize)
			s.plant(t, map[string][]byte{name: old})
			path := filepath.Join(m.Dir, "a", name)
			if warm {
				fresh(t, path, old)
			}
			file, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := readPart(file, old, 0, 300_000); err != nil {
				t.Fatal(err)
			}
			content := overwrite(name)
			stale := pinned(t, file, old, 300_000)
			dropPages(t, path)
			pinned(t, file, old, 0)
			t.Logf("%s, cached %v: stale %v", what, warm, stale)
			fresh(t, path, content)
			pinned(t, file, old, 0)
			if err := file.Close(); err != nil {
				t.Error(err)
			}
			fresh(t, path, content)
			list, last[name] = append(list, name), content
		}
	}
	m.MustUnmount(t)
	m = s.mount(t, harness.Program(t), cache, everyTime...)
	for _, name := range list {
		fresh(t, filepath.Join(m.Dir, "a", name), last[name])
	}
	m.MustUnmount(t)
}

// TestReadPinned overwrites files of servers in the middle of a read.
func TestReadPinned(t *testing.T) {
	t.Parallel()
	for _, dialect := range []efss.Dialect{efss.Nextcloud, efss.ModDAV} {
		t.Run(dialect.String(), func(t *testing.T) {
			t.Parallel()
			testPinned(t, startShelf(t, dialect))
		})
	}
	t.Run("zone", func(t *testing.T) {
		t.Parallel()
		testPinned(t, startZoneShelf(t))
	})
}

// TestReadPinnedTwins overwrites a small file again and again within the second, with
// one size and one time: on Nextcloud all have one entity tag. Every open sees the
// newest content, after a remount with the same cache, too.
func TestReadPinnedTwins(t *testing.T) {
	t.Parallel()
	s := startShelf(t, efss.Nextcloud)
	at := time.Now().Add(-time.Hour)
	cache := cacheDir(t)
	for round := range 2 {
		m := s.mount(t, harness.Program(t), cache, everyTime...)
		path := filepath.Join(m.Dir, "a", "twin")
		for i := range 6 {
			content := book(uint64(round*100+i), 3*page)
			s.put(t, "twin", content, at)
			if err := readWhole(path, content); err != nil {
				t.Errorf("round %d, overwrite %d: %v", round, i, err)
			}
		}
		s.put(t, "twin", book(uint64(5000+round), 3*page), at) // while nothing is mounted, as far as the program knows
		m.Kill()
		m = s.mount(t, harness.Program(t), cache, everyTime...)
		if err := readWhole(filepath.Join(m.Dir, "a", "twin"), book(uint64(5000+round), 3*page)); err != nil {
			t.Errorf("round %d, after a remount: %v", round, err)
		}
		m.MustUnmount(t)
	}
}

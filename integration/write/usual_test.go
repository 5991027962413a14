package write_test

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// TestUsualModes unpacks trees as tar does for root: each file and directory is private until
// it is complete, and then has the mode that it would show anyway, and its time. That takes few
// requests, shows at once and after kills and new mounts, and a mode of its own is kept.
func TestUsualModes(t *testing.T) {
	if through() {
		t.Skip("for mounts that write back")
	}
	each(t, testUsualModes)
}

const (
	usualDirs  = 10
	usualFiles = 12 // in each
)

// unpacked is a tree as it should look.
type unpacked struct {
	m     *mount
	modes map[string]os.FileMode
	when  time.Time
}

func testUsualModes(t *testing.T, s *server) {
	cache := cacheDir(t)
	m := s.mounted(t, cache)
	x := &unpacked{m: m, modes: map[string]os.FileMode{}, when: time.Unix(1_600_000_000, 0)}
	must(t, "pause", m.Dir)
	x.make(t, "a")
	seen := s.counting()
	must(t, "resume", m.Dir)
	m.flush(t)
	seen.checkUsual(t, s)
	x.check(t)
	must(t, "pause", m.Dir)
	x.make(t, "b")
	m.Kill()
	x.m = s.mounted(t, cache)
	x.check(t)
	x.m.flush(t)
	x.check(t)
	x.set(t, "a02/f01", 0o600)
	x.set(t, "a03", 0o700)
	x.m.flush(t)
	x.set(t, "a02/f01", 0o644)
	x.set(t, "a03", 0o755)
	x.set(t, "a04/f01", 0o644) // it shows that anyway
	must(t, "pause", x.m.Dir)
	x.set(t, "a05/f01", 0o600)
	x.set(t, "a05/f01", 0o644)
	x.check(t)
	x.m.Kill()
	x.m = s.mounted(t, cache)
	x.m.flush(t)
	x.check(t)
	x.m.MustUnmount(t)
	if s.zone != nil {
		return // objects have a mode from the beginning
	}
	x.m = s.mounted(t, cacheDir(t), "--umask=077")
	x.modes = map[string]os.FileMode{"a01": 0o750, "a00/f00": 0o640, "a02/f01": 0o644, "a03": 0o755, // their own
		"a02": 0o700, "a02/f02": 0o600, "b05/f01": 0o600} // those of the mount
	x.check(t)
	x.m.MustUnmount(t)
}

// make makes a tree.
func (x *unpacked) make(t *testing.T, top string) {
	t.Helper()
	for d := range usualDirs {
		dir := fmt.Sprintf("%s%02d", top, d)
		if err := os.Mkdir(x.m.path(dir), 0o700); err != nil {
			t.Fatal(err)
		}
		for f := range usualFiles {
			name := fmt.Sprintf("%s/f%02d", dir, f)
			x.m.write(t, name, []byte(name))
			x.set(t, name, 0o600)
			x.date(t, name)
			x.set(t, name, 0o644)
		}
		x.date(t, dir)
		x.set(t, dir, 0o755)
	}
	x.set(t, top+"00/f00", 0o640)
	x.set(t, top+"01", 0o750)
}

func (x *unpacked) set(t *testing.T, name string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(x.m.path(name), mode); err != nil {
		t.Fatal(err)
	}
	x.modes[name] = mode
}

func (x *unpacked) date(t *testing.T, name string) {
	t.Helper()
	if err := os.Chtimes(x.m.path(name), x.when, x.when); err != nil {
		t.Fatal(err)
	}
}

// check wants the tree to look so.
func (x *unpacked) check(t *testing.T) {
	t.Helper()
	for name, mode := range x.modes {
		info, err := os.Stat(x.m.path(name))
		if err != nil {
			t.Error(err)
		} else if info.Mode().Perm() != mode || !info.ModTime().Equal(x.when) {
			t.Errorf("%s has mode %o and time %v; want %o and %v", name, info.Mode().Perm(), info.ModTime(), mode, x.when)
		}
	}
}

// checkUsual wants no more requests for modes and times than there is to set.
func (x *tally) checkUsual(t *testing.T, s *server) {
	t.Helper()
	x.mu.Lock()
	defer x.mu.Unlock()
	t.Logf("%s: %v", s.kind, x.counts)
	most := map[string]map[string]int{
		// The time of each directory, and one mode of a file; each directory is listed before
		// and behind the files that are put into it.
		"nextcloud": {"PROPPATCH": usualDirs + 1, "PROPFIND": 3 * usualDirs, "MKCOL": usualDirs},
		// The time of each file; that of a directory twice, with a look in between.
		"moddav": {"PROPPATCH": usualDirs*usualFiles + 2*usualDirs, "PROPFIND": 3 * usualDirs, "MKCOL": usualDirs},
	}
	for what, n := range most[s.kind] {
		if x.counts[what] > n {
			t.Errorf("%d %s, want no more than %d", x.counts[what], what, n)
		}
	}
}

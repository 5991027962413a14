package write_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/harness"
	"github.com/meshmount/meshmount/integration/zone"
)

// Bounds of TestMany: for the process's memory, and for the time from the start of a program
// to its first listing, on a machine that does much else.
const (
	mostMemory  = 256 << 20
	longestWait = 3 * time.Second
)

// away makes the server refuse to store anything, while the gate is on.
func (s *server) away() *gate {
	g := newGate()
	if s.zone != nil {
		s.zone.SetFaults(func(c zone.Call) *zone.Fault {
			if uploadCalls(c.API) && g.pass() {
				return &zone.Fault{Kill: true}
			}
			return nil
		})
		return g
	}
	s.share.SetFaults(func(r *http.Request) *efss.Fault {
		if uploads(r) && g.pass() {
			return &efss.Fault{Status: http.StatusServiceUnavailable}
		}
		return nil
	})
	return g
}

// TestMany writes a great many small files while the server stores none, kills the process
// and mounts again: memory is bounded, the mount answers at once, and all files arrive.
func TestMany(t *testing.T) {
	count := 2000
	if long() {
		count = 100_000
	}
	s := startServer(t, "nextcloud")
	cache := cacheDir(t)
	m := s.mounted(t, cache)
	g := s.away()
	g.on.Store(true)
	want := expect{}
	for i := range count {
		dir := fmt.Sprintf("d%03d", i/100)
		if i%100 == 0 {
			m.mkdir(t, dir)
			want[dir] = nil
		}
		name := fmt.Sprintf("%s/f%05d", dir, i)
		want[name] = book(uint64(i), 100+i%1000)
		m.write(t, name, want[name])
	}
	checkMemory(t, "after writing", m)
	m = killed(t, s, m)
	want.inMount(t, m)
	if now := m.status(t); now.Pending < count {
		t.Errorf("%d changes are pending", now.Pending)
	}
	g.end()
	m.flush(t)
	checkMemory(t, "after uploading", m)
	m.MustUnmount(t)
	want.onServer(t, s)
}

// killed kills a mount's process and mounts again. The first listing comes soon, at one of
// some tries: a machine that stands still is no fault.
func killed(t *testing.T, s *server, m *mount) *mount {
	t.Helper()
	for left := 9; ; left-- {
		m.Kill()
		s.settle(t)
		began := time.Now()
		m = s.mounted(t, m.cache)
		entries, err := os.ReadDir(m.path("d000"))
		took := time.Since(began)
		if err != nil || len(entries) != 100 {
			t.Fatalf("the first listing: %d names, %v", len(entries), err)
		}
		t.Logf("the first listing after %v", took.Round(time.Millisecond))
		if took <= longestWait {
			return m
		}
		if left == 0 {
			t.Fatalf("the first listing came %v after the start", took)
		}
	}
}

func checkMemory(t *testing.T, when string, m *mount) {
	t.Helper()
	used, err := harness.PeakMemory(m.PID())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %d MiB", when, used>>20)
	if used > mostMemory {
		t.Errorf("%s: the process had %d bytes in memory", when, used)
	}
}

// appChecks are the application checks that write.
func appChecks() []string {
	return []string{"tar", "git", "sqlite", "netcdf", "mmap", "shell"}
}

// TestApps works with unmodified programs on two branches, drains, and compares what they have
// left with the servers' own trees and with a fresh mount.
func TestApps(t *testing.T) {
	for _, kind := range kinds() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			testApps(t, startServer(t, kind), startServer(t, "moddav"))
		})
	}
}

func testApps(t *testing.T, s, other *server) {
	scripts, err := filepath.Abs(filepath.Join("..", "testdata", "apps"))
	if err != nil {
		t.Fatal(err)
	}
	source, tmp := t.TempDir(), t.TempDir()
	root := goRoot(t)
	dirs := []string{"archive", "encoding/csv", "encoding/hex", "html"}
	if long() {
		dirs = []string{"archive", "encoding", "html"}
	}
	harness.Run(t, filepath.Join(root, "src"), "cp", slices.Concat([]string{"-r", "--parents"}, dirs, []string{source})...)
	place := "mount"
	if s.kind == "nextcloud" {
		place = "propagating"
	}
	start := func() *harness.Mount {
		return harness.MountingProgram(t, harness.StaticProgram(t), []string{password("b"), password("o")}, writeMode(), "--written-times=exact",
			s.branch("b", s.address()), other.branch("o", other.address()))
	}
	phase := func(m *harness.Mount, phase string) {
		for _, check := range appChecks() {
			dirs := []string{filepath.Join(m.Dir, "b", check), filepath.Join(m.Dir, "o", check), filepath.Join(tmp, check)}
			for _, dir := range dirs {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			harness.Run(t, dirs[0], "env", "OTHER="+dirs[1], "TMP="+dirs[2], "SOURCE="+source, "PLACE="+place,
				"bash", filepath.Join(scripts, "lib.sh"), check, phase)
		}
	}
	m := start()
	phase(m, "work")
	phase(m, "verify")
	before := treeOf(t, filepath.Join(m.Dir, "b"))
	m.MustUnmount(t)
	compareStored(t, before, s.stored(t))
	m = start()
	compareFresh(t, before, treeOf(t, filepath.Join(m.Dir, "b")))
	phase(m, "verify")
	m.MustUnmount(t)
}

func treeOf(t *testing.T, root string) tree {
	t.Helper()
	found, err := readTree(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) < 100 {
		t.Errorf("hardly anything to compare: %d entries", len(found))
	}
	return found
}

// compareStored compares a tree of a mount with that of the server.
func compareStored(t *testing.T, want, got tree) {
	t.Helper()
	all := expect{}
	for name, e := range want {
		switch {
		case e.Type == os.ModeSymlink:
			delete(got, name) // how a link is kept is the adapter's affair
		case e.Type.IsDir():
			all[name] = nil
		default:
			all[name] = append([]byte{}, e.Data...)
		}
	}
	if err := all.differs(got); err != nil {
		t.Error(err)
	}
}

// compareFresh compares a tree with what a fresh mount shows, attributes included.
func compareFresh(t *testing.T, want, got tree) {
	t.Helper()
	for _, name := range paths(want, got) {
		a, b := want[name], got[name]
		if a.String() != b.String() || string(a.Data) != string(b.Data) {
			t.Errorf("%s: %v, and through a fresh mount %v", name, a, b)
		}
	}
}

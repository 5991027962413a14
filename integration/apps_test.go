package integration_test

import (
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/harness"
)

// TestAppsLocal runs the application checks on a local disk, which must pass them:
// a check that fails here is wrong itself.
func TestAppsLocal(t *testing.T) {
	t.Parallel()
	apps := newApps(t, "local", full(hundred, thousands))
	root := t.TempDir()
	apps.each(t, root, elsewhere(t, root), "work", "verify")
}

// elsewhere makes a directory of another file system than that of dir.
func elsewhere(t *testing.T, dir string) string {
	t.Helper()
	device := func(path string) uint64 {
		var st syscall.Stat_t
		if err := syscall.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		return st.Dev
	}
	for _, top := range []string{"/dev/shm", "/var/tmp"} {
		if device(top) == device(dir) {
			continue
		}
		other, err := os.MkdirTemp(top, "meshmount-test-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(other) })
		return other
	}
	t.Fatalf("no other file system than that of %s", dir)
	return ""
}

// Sources of the trees: parts of Go's own source, some hundred files or some two thousand
// of all sizes.
var (
	hundred   = []string{"archive", "encoding/csv", "encoding/hex", "html"}
	thousands = []string{"archive", "crypto", "encoding", "go", "html"}
)

// TestAppsNextcloud runs them on a mount of an embedded server with the Nextcloud
// dialect, by the program with the race detector.
func TestAppsNextcloud(t *testing.T) {
	t.Parallel()
	testApps(t, startEFSS(t, efss.Nextcloud), harness.Program(t))
}

// TestAppsOpenCloud runs them on a mount of an embedded server with the OpenCloud
// dialect, by the program as delivered.
func TestAppsOpenCloud(t *testing.T) {
	t.Parallel()
	testApps(t, startEFSS(t, efss.OpenCloud), harness.StaticProgram(t))
}

// TestAppsApache runs them on a mount of Apache's mod_dav, by the program as delivered.
func TestAppsApache(t *testing.T) {
	t.Parallel()
	testApps(t, startApache(t), harness.StaticProgram(t))
}

// testApps works on a mount, compares with the server's disk, mounts afresh and
// compares and verifies again. The long variant has large trees, and always the program
// with the race detector.
func testApps(t *testing.T, s site, program string) {
	if long() {
		program = harness.Program(t)
	}
	place := "mount"
	if s.caps(t, "a").PropagatesVersion {
		place = "propagating"
	}
	apps := newApps(t, place, full(hundred, thousands))
	m := harness.MountingProgram(t, program, s.env, s.args...)
	a, b := filepath.Join(m.Dir, "a"), filepath.Join(m.Dir, "b")
	apps.each(t, a, b, "work", "verify")
	if t.Failed() {
		return
	}
	before := map[string]map[string]fact{"a": scan(t, a), "b": scan(t, b)}
	m.MustUnmount(t)

	m = harness.MountingProgram(t, program, s.env, s.args...)
	a, b = filepath.Join(m.Dir, "a"), filepath.Join(m.Dir, "b")
	for name, root := range map[string]string{"a": a, "b": b} {
		after := scan(t, root)
		compareFacts(t, "branch "+name+" after a fresh mount", before[name], after)
		compareDisk(t, name, after, s.disk(name))
	}
	apps.each(t, a, b, "verify")
	m.MustUnmount(t)
}

// apps are the scripts in testdata/apps and the local directories they use.
type apps struct {
	place   string
	scripts string
	tmp     string
	source  string
}

// checks are the application checks, one script each.
func checks() []string {
	return []string{"tar", "git", "rsync", "sqlite", "netcdf", "build", "shell", "branches", "mmap"}
}

func newApps(t *testing.T, place string, source []string) apps {
	t.Helper()
	scripts, err := filepath.Abs("testdata/apps")
	if err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(scripts, "*.sh"))
	if err != nil || len(found) != len(checks())+1 {
		t.Fatalf("%d scripts for %d checks (%v)", len(found), len(checks()), err)
	}
	a := apps{place: place, scripts: scripts, tmp: t.TempDir(), source: t.TempDir()}
	harness.Run(t, filepath.Join(goroot(t), "src"), "cp", slices.Concat([]string{"-r", "--parents"}, source, []string{a.source})...)
	return a
}

// goroot returns the root of the Go installation that runs the tests.
func goroot(t *testing.T) string {
	t.Helper()
	root := strings.TrimSpace(harness.Run(t, ".", "go", "env", "GOROOT"))
	if _, err := os.Stat(filepath.Join(root, "src", "net")); err != nil {
		t.Fatalf("%v (%s)", err, runtime.Version())
	}
	return root
}

// each runs the phases of every check in its own directory of two trees.
func (a apps) each(t *testing.T, root, other string, phases ...string) {
	a.some(t, root, other, checks(), phases...)
}

// some runs the phases of some checks.
func (a apps) some(t *testing.T, root, other string, checks []string, phases ...string) {
	for _, check := range checks {
		t.Run(check+"-"+strings.Join(phases, "-"), func(t *testing.T) {
			dirs := []string{filepath.Join(root, check), filepath.Join(other, check), filepath.Join(a.tmp, check)}
			for _, dir := range dirs {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			for _, phase := range phases {
				harness.Run(t, dirs[0], "env", "OTHER="+dirs[1], "TMP="+dirs[2], "SOURCE="+a.source,
					"PLACE="+a.place, "bash", filepath.Join(a.scripts, "lib.sh"), check, phase)
			}
		})
	}
}

// compareFacts reports the entries that differ.
func compareFacts(t *testing.T, what string, want, got map[string]fact) {
	t.Helper()
	if len(want) < 10 && len(got) < 10 {
		t.Errorf("%s: hardly anything to compare: %d and %d entries", what, len(want), len(got))
	}
	bad := 0
	for _, path := range slices.Sorted(maps.Keys(want)) {
		if got[path] != want[path] {
			if bad++; bad <= 20 {
				t.Errorf("%s: %s: got %v, want %v", what, path, got[path], want[path])
			}
		}
	}
	for _, path := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[path]; !ok {
			if bad++; bad <= 20 {
				t.Errorf("%s: %s: there was no such entry", what, path)
			}
		}
	}
	if bad > 0 {
		t.Errorf("%s: %d of %d entries differ", what, bad, len(want))
	}
}

// compareDisk checks that each file of the mount is on the server's disk with the
// same bytes, and that nothing else is. What stands for a symbolic link on the
// server is the adapter's affair, mod_dav keeps properties in directories .DAV.
func compareDisk(t *testing.T, name string, mount map[string]fact, disk string) {
	t.Helper()
	server := scan(t, disk)
	maps.DeleteFunc(server, func(path string, _ fact) bool {
		return mount[path].link != "" || slices.Contains(strings.Split(path, "/"), ".DAV")
	})
	want := map[string]fact{}
	for path, f := range mount {
		if f.link == "" {
			want[path] = fact{kind: f.kind, size: f.size, sum: f.sum}
		}
	}
	for path, f := range server {
		server[path] = fact{kind: f.kind, size: f.size, sum: f.sum}
	}
	compareFacts(t, "branch "+name+" on the server's disk", want, server)
}

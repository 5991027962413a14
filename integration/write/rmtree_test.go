package write_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// tally counts what a server is asked to do.
type tally struct {
	mu     sync.Mutex
	all    int            // guarded by mu
	counts map[string]int // guarded by mu; by method or kind of call
}

// counting counts what the server is asked from now on.
func (s *server) counting() *tally {
	x := &tally{counts: map[string]int{}}
	count := func(what string) {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.all++
		x.counts[what]++
	}
	if s.zone != nil {
		s.zone.SetFaults(func(c zone.Call) *zone.Fault {
			switch c.API {
			case wire.APIDataObjUnlink:
				count("unlink")
			case wire.APIRmColl:
				count("rmcoll")
			default:
				count("other")
			}
			return nil
		})
		return x
	}
	s.share.SetFaults(func(r *http.Request) *efss.Fault {
		count(r.Method)
		return nil
	})
	return x
}

// TestRemoveTree removes a tree with rm -r while its files are on the server: it is gone
// there with few requests, and what somebody else has put into another one stays.
func TestRemoveTree(t *testing.T) {
	if through() {
		t.Skip("for mounts that write back")
	}
	for _, kind := range kinds() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			testRemoveTree(t, startServer(t, kind))
		})
	}
}

const (
	treeDirs  = 20
	treeFiles = 15 // in each
)

func testRemoveTree(t *testing.T, s *server) {
	m := s.mounted(t, cacheDir(t))
	want := expect{}
	for _, top := range []string{"kept", "gone", "shared"} {
		m.mkdir(t, top)
		for d := range treeDirs {
			dir := fmt.Sprintf("%s/d%02d", top, d)
			m.mkdir(t, dir)
			for f := range treeFiles {
				name, data := fmt.Sprintf("%s/f%02d", dir, f), fmt.Appendf(nil, "%s %d %d", top, d, f)
				m.write(t, name, data)
				if top == "kept" {
					want["kept"], want[dir], want[name] = nil, nil, data
				}
			}
		}
	}
	m.flush(t)
	m.removeAll(t, "gone") // what the program takes for that is not the server's business
	x := s.counting()
	must(t, "resume", m.Dir)
	m.flush(t)
	x.check(t, s)
	m.removeAll(t, "shared")
	s.addTheirs(t)
	must(t, "resume", m.Dir)
	m.flush(t)
	want["shared"], want["shared/d07"], want["shared/d07/theirs"] = nil, nil, []byte("theirs")
	found := s.stored(t)
	for name := range found {
		if _, ok := want[name]; !ok {
			t.Errorf("%s is left", name)
		}
	}
	for name, data := range want {
		if e, ok := found[name]; !ok || data != nil && string(e.Data) != string(data) {
			t.Errorf("%s is gone or another (%v)", name, e)
		}
	}
	m.MustUnmount(t)
}

// removeAll removes a tree in a pause.
func (m *mount) removeAll(t *testing.T, name string) {
	t.Helper()
	must(t, "pause", m.Dir)
	if err := os.RemoveAll(m.path(name)); err != nil {
		t.Fatal(err)
	}
}

// addTheirs has somebody else put a file into the tree: another mount.
func (s *server) addTheirs(t *testing.T) {
	t.Helper()
	other := s.mounted(t, cacheDir(t))
	other.write(t, filepath.Join("shared", "d07", "theirs"), []byte("theirs"))
	other.flush(t)
	other.MustUnmount(t)
}

// check wants few requests to have removed one tree.
func (x *tally) check(t *testing.T, s *server) {
	t.Helper()
	x.mu.Lock()
	defer x.mu.Unlock()
	t.Logf("%d files in %d directories: %v", treeDirs*treeFiles, treeDirs, x.counts)
	if s.zone != nil {
		// Each object and collection once, and a handful of questions.
		if x.counts["unlink"] != treeDirs*treeFiles || x.counts["rmcoll"] > treeDirs+3 || x.counts["other"] > 120 {
			t.Errorf("too many calls: %v", x.counts)
		}
		return
	}
	// A listing of each directory, or two, and one request that takes all.
	if x.all > 3*treeDirs || x.counts["DELETE"] > 4 {
		t.Errorf("too many requests: %v", x.counts)
	}
}

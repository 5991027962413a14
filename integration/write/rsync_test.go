package write_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/harness"
)

// oldTree makes a tree of files and directories, all of them years old, and returns it.
func oldTree(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for i, dir := range []string{"", "a", "a/b", "a/b/c", "d", "empty"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		for j := range 4 {
			if dir == "empty" {
				continue
			}
			name := filepath.Join(root, dir, fmt.Sprint("f", j))
			if err := os.WriteFile(name, book(uint64(10*i+j), 1000*j+i), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	setTimes(t, root)
	return root
}

// setTimes gives all entries times of their own, directories after what is in them.
func setTimes(t *testing.T, root string) {
	t.Helper()
	found, err := readTree(root)
	if err != nil {
		t.Fatal(err)
	}
	names := append(paths(found), ".")
	slices.Reverse(names[:len(names)-1])
	for i, name := range names {
		at := time.Date(2015, 3, 1+i, 10, 20, 30, 0, time.UTC)
		if err := os.Chtimes(filepath.Join(root, name), at, at); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRsync has rsync copy a tree twice, at once, after all is stored, and by a mount that
// has not seen the first: there must be nothing to do for it, also about times of
// directories. Some files change in between, which alters the times of their directories.
func TestRsync(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		from := oldTree(t)
		m := s.mounted(t, cacheDir(t), "--upload-delay=50ms")
		to := filepath.Join(m.root, "copy")
		rsync := func(when, to string) {
			t.Helper()
			if out := harness.Run(t, "/", "rsync", "-a", "--itemize-changes", from+"/", to+"/"); out != "" {
				t.Errorf("%s, rsync has to do once more:\n%s", when, out)
			}
		}
		harness.Run(t, "/", "rsync", "-a", from+"/", to+"/")
		rsync("at once", to)
		m.flush(t)
		rsync("when all is stored", to)
		must(t, "refresh", m.Dir)
		rsync("after a refresh", to)
		for _, name := range []string{"a/f0", "a/b/c/new", "d/f1"} {
			if err := os.WriteFile(filepath.Join(from, name), book(99, 5000), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		setTimes(t, from)
		harness.Run(t, "/", "rsync", "-a", from+"/", to+"/")
		rsync("at once after changes", to)
		must(t, "pause", m.Dir)
		m.Kill()
		s.settle(t)
		m = s.mounted(t, m.cache, "--upload-delay=50ms")
		to = filepath.Join(m.root, "copy")
		rsync("after a kill", to)
		m.flush(t)
		rsync("after a kill, when all is stored", to)
		m.MustUnmount(t)
		fresh := s.mounted(t, cacheDir(t))
		rsync("from another mount", filepath.Join(fresh.root, "copy"))
		fresh.MustUnmount(t)
	})
}

package integration_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/harness"
)

// startProbes is how many PROPFIND a program may make at its start, before anybody asks.
const startProbes = 5

// warmSize is room for the tree: a file takes a block at least.
const warmSize = "--cache-size=1GiB"

// warmTree is a tree of n files and some large ones in 10 directories.
func warmTree(n int) map[string][]byte {
	sizes := []int{0, 1, 100, page, 10_000, 65_536, 100_001}
	files := map[string][]byte{}
	for i := range n {
		files[fmt.Sprintf("dir%d/sub/f%03d", i%10, i)] = book(uint64(i), sizes[i%len(sizes)])
	}
	for i, size := range []int{2 << 20, 3 << 20, 5 << 20} {
		files[fmt.Sprintf("dir%d/big", i)] = book(uint64(1000+i), size)
	}
	return files
}

// again reads a tree from the cache, so that all of it is there: what a read has fetched
// is stored behind it, and a kill at once may come before.
func again(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	for name := range files {
		dropPages(t, filepath.Join(dir, name))
	}
	if err := readTree(dir, files); err != nil {
		t.Fatal(err)
	}
}

// TestReadWarmRemount reads a tree, ends the process, by force, too, and reads all again
// through a new one with the same cache directory: nothing is fetched.
func TestReadWarmRemount(t *testing.T) {
	t.Parallel()
	s := startShelf(t, efss.Nextcloud)
	files := warmTree(300)
	s.plant(t, files)
	for name, end := range map[string]func(*harness.Mount){
		"killed":    func(m *harness.Mount) { m.Kill() },
		"unmounted": func(m *harness.Mount) { m.MustUnmount(t) },
	} {
		cache := cacheDir(t)
		m := s.mount(t, harness.Program(t), cache, append(lasting, warmSize)...)
		listing := harness.Run(t, filepath.Join(m.Dir, "a"), "ls", "-lR")
		if err := readTree(filepath.Join(m.Dir, "a"), files); err != nil {
			t.Fatal(err)
		}
		again(t, filepath.Join(m.Dir, "a"), files)
		end(m)
		s.forget()
		m = s.mount(t, harness.Program(t), cache, append(lasting, warmSize)...)
		if again := harness.Run(t, filepath.Join(m.Dir, "a"), "ls", "-lR"); again != listing {
			t.Errorf("%s: another listing:\n%s\nbefore:\n%s", name, again, listing)
		}
		if err := readTree(filepath.Join(m.Dir, "a"), files); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if all := s.fetches(); len(all) > 0 {
			t.Errorf("%s: %d files were fetched again:%s", name, len(all), story(all))
		}
		if all := s.requests("PROPFIND"); len(all) > startProbes {
			t.Errorf("%s: %d PROPFIND:%s", name, len(all), story(all))
		}
		m.MustUnmount(t)
	}
}

// TestReadWarmChanged changes a tree between two mounts with the same cache: the new
// content is seen, and only that is fetched.
func TestReadWarmChanged(t *testing.T) {
	t.Parallel()
	s := startShelf(t, efss.Nextcloud)
	files := warmTree(full(70, 300))
	s.plant(t, files)
	cache := cacheDir(t)
	m := s.mount(t, harness.Program(t), cache, warmSize, "--attr-ttl=0", "--dir-ttl=0")
	if err := readTree(filepath.Join(m.Dir, "a"), files); err != nil {
		t.Fatal(err)
	}
	again(t, filepath.Join(m.Dir, "a"), files)
	m.Kill()
	changed := map[string][]byte{
		"dir1/big":      book(7000, len(files["dir1/big"])),      // the same size
		"dir2/big":      book(7001, len(files["dir2/big"])+1000), // another one
		"dir3/sub/f003": book(7002, len(files["dir3/sub/f003"])), // small
		"dir4/sub/new":  book(7003, 5000),
	}
	s.plant(t, changed)
	for name, content := range changed {
		files[name] = content
	}
	s.forget()
	m = s.mount(t, harness.Program(t), cache, warmSize, "--attr-ttl=0", "--dir-ttl=0")
	if err := readTree(filepath.Join(m.Dir, "a"), files); err != nil {
		t.Error(err)
	}
	for _, r := range s.fetches() {
		if name := r.Path[len(s.share.DAVPath("alice")):]; changed[name] == nil {
			t.Errorf("%s has not changed and was fetched", name)
		}
	}
	m.MustUnmount(t)
}

package integration_test

import (
	"fmt"
	iofs "io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/harness"
)

// damage flips bits at random places of the files below dir whose names are wanted, a
// number in each, and returns how many.
func damage(t *testing.T, random *rand.Rand, dir string, each int, want func(path string) bool) (flips int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d iofs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !want(path) {
			return err
		}
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }()
		info, err := file.Stat()
		if err != nil || info.Size() == 0 {
			return err
		}
		for range each {
			at, b := random.Int64N(info.Size()), make([]byte, 1)
			if _, err := file.ReadAt(b, at); err != nil {
				return err
			}
			b[0] ^= 1 << random.IntN(8)
			if _, err := file.WriteAt(b, at); err != nil {
				return err
			}
			flips++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return flips
}

// TestCacheDirDamaged flips bits in the files of a cache between two mounts: every byte
// that is read is right, and the next mount is well, too.
func TestCacheDirDamaged(t *testing.T) {
	t.Parallel()
	s := startShelf(t, efss.Nextcloud)
	files := volumes()
	s.plant(t, files)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 3))
	pristine := cacheDir(t)
	m := s.mount(t, harness.Program(t), pristine, lasting...)
	if err := readTree(filepath.Join(m.Dir, "a"), files); err != nil {
		t.Fatal(err)
	}
	m.Kill() // what a crash leaves is there, too
	slab := func(path string) bool { return strings.HasSuffix(path, ".slab") }
	for name, c := range map[string]struct {
		each int
		want func(string) bool
	}{
		"slabs":        {3000, slab},
		"index":        {3000, func(path string) bool { return strings.Contains(path, "/index/") }},
		"all the rest": {100, func(path string) bool { return !slab(path) && !strings.Contains(path, "/index/") }},
		"a bit each":   {1, func(string) bool { return true }},
		"all":          {300, func(string) bool { return true }},
	} {
		cache := cacheDir(t)
		harness.Run(t, "/", "cp", "-a", "--sparse=always", pristine, cache)
		flips := damage(t, random, cache, c.each, c.want)
		if flips == 0 {
			t.Errorf("%s: nothing was damaged", name)
		}
		s.forget()
		for mount := range 2 {
			m := s.mount(t, harness.Program(t), cache, lasting...)
			if err := readTree(filepath.Join(m.Dir, "a"), files); err != nil {
				t.Errorf("%s, mount %d: %v", name, mount, err)
			}
			m.MustUnmount(t)
		}
		t.Logf("%s: %d flips, %d GETs", name, flips, len(s.fetches()))
	}
}

// reader is a program that reads files of a mount until it is killed.
type reader struct {
	mu   sync.Mutex
	done []string // files that were read to their ends
	errs []error  // wrong bytes
}

// read reads files until one cannot be read.
func (r *reader) read(dir string, list []string, files map[string][]byte) {
	for _, name := range list {
		file, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return
		}
		content := files[name]
		for off := 0; off < len(content); {
			p := make([]byte, 256<<10)
			n, err := file.ReadAt(p, int64(off))
			if wrong := differ(p[:n], content, int64(off)); wrong != nil {
				r.mu.Lock()
				r.errs = append(r.errs, fmt.Errorf("%s: %w", name, wrong))
				r.mu.Unlock()
			}
			off += n
			if err != nil && off < len(content) {
				_ = file.Close()
				return
			}
		}
		_ = file.Close()
		r.mu.Lock()
		r.done = append(r.done, name)
		r.mu.Unlock()
	}
}

func (r *reader) finished() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.done)
}

// Kills of the test, and how many reads may come after one whose bytes are sure to be in
// the cache.
const (
	readKills     = 12
	readKillsLong = 200
	settledAfter  = 3
)

// TestReadKill kills the process at random moments of cold reads, again and again with
// the same cache directory: every byte is right, and what was cached is not fetched
// again.
func TestReadKill(t *testing.T) {
	s := startShelf(t, efss.Nextcloud)
	files := map[string][]byte{}
	for i := range 40 {
		files[fmt.Sprintf("f%02d", i)] = book(uint64(i), (12+i%4)<<17)
	}
	s.plant(t, files)
	kills := full(readKills, readKillsLong)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 5))
	cache, cached := cacheDir(t), map[string]bool{}
	for range kills {
		s.forget()
		m := s.mount(t, harness.Program(t), cache, append(lasting, "--small-ahead=0")...)
		list := nameList(files)
		random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		r, over := &reader{}, make(chan struct{})
		go func() {
			defer close(over)
			r.read(filepath.Join(m.Dir, "a"), list, files)
		}()
		least := 1 + random.IntN(6)
		await(t, "a read", func() bool { return len(r.finished()) >= least })
		time.Sleep(time.Duration(random.IntN(30_000)) * time.Microsecond)
		m.Kill()
		<-over
		s.fetchedAgain(t, cached)
		done := r.finished()
		for _, name := range done[:max(0, len(done)-settledAfter)] {
			cached[name] = true
		}
		for _, err := range r.errs {
			t.Error(err)
		}
	}
	if len(cached) < 2 {
		t.Errorf("the kills left only %d files in the cache", len(cached))
	}
	for mount := range 2 {
		s.forget()
		m := s.mount(t, harness.Program(t), cache, lasting...)
		if err := readTree(filepath.Join(m.Dir, "a"), files); err != nil {
			t.Error(err)
		}
		s.fetchedAgain(t, cached)
		if all := s.fetches(); mount == 1 && len(all) > 0 {
			t.Errorf("the second reading of all made %d requests:%s", len(all), story(all))
		}
		m.MustUnmount(t)
	}
	t.Logf("%d kills, %d of %d files came from the cache", kills, len(cached), len(files))
}

// fetchedAgain checks that no file that is in the cache was fetched.
func (s *shelf) fetchedAgain(t *testing.T, cached map[string]bool) {
	t.Helper()
	for _, r := range s.fetches() {
		if cached[filepath.Base(r.Path)] {
			t.Errorf("%s is in the cache and was fetched again: %s", filepath.Base(r.Path), r.Header.Get("Range"))
		}
	}
}

package prefetch

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/meshmount/meshmount/remote"
)

// simLocal is a simFile of which blocks of 1 MiB come to stay at hand, unless lost.
type simLocal struct {
	*simFile
	mu   sync.Mutex
	have map[int64]bool // guarded by mu; by number
	lies bool           // HasLocal tells of all, ReadLocal has nothing
}

const localBlock = 1 << 20

func (f *simLocal) HasLocal(_ remote.Ref, off, n int64) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lies {
		return n
	}
	end := off
	for end < off+n && f.have[end/localBlock] {
		end = (end/localBlock + 1) * localBlock
	}
	return min(end-off, n)
}

func (f *simLocal) ReadLocal(ref remote.Ref, p []byte, off int64) (int, bool) {
	n := max(min(int64(len(p)), f.size-off), 0)
	if f.lies || f.HasLocal(ref, off, n) < n {
		return 0, false
	}
	stamp(p[:n], off)
	return int(n), true
}

func openLocal(t *testing.T, f *simLocal) *Reader {
	t.Helper()
	return newPrefetcher(t, 64<<20, Options{}).Open(f, remote.Ref{Path: "/f", Version: "1", Size: f.size}, f.size)
}

// TestLocalIsNotFetched reads a file of which every block, or some, or none is at hand,
// in order: only what is not is asked for, and that ahead.
func TestLocalIsNotFetched(t *testing.T) {
	for name, has := range map[string]func(block int64) bool{
		"all":       func(int64) bool { return true },
		"none":      func(int64) bool { return false },
		"the begin": func(b int64) bool { return b < 20 },
		"the end":   func(b int64) bool { return b >= 20 },
		"every 2nd": func(b int64) bool { return b%2 == 0 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &simLocal{simFile: &simFile{link: wan(), size: 40<<20 + 5}, have: map[int64]bool{}}
				missing := int64(0)
				for b := int64(0); b*localBlock < f.size; b++ {
					if f.have[b] = has(b); !f.have[b] {
						missing += min(localBlock, f.size-b*localBlock)
					}
				}
				r := openLocal(t, f)
				readAll(t, r, 0, f.size, 128<<10)
				if got := f.bytes.Load(); got != missing {
					t.Errorf("%d bytes were asked for, %d were missing", got, missing)
				}
				s := r.Stats()
				if missing > 8<<20 && s.Ahead < missing/2 {
					t.Errorf("hardly anything was fetched ahead: %+v", s)
				}
				if s.Reads < f.size/(128<<10) || missing == 0 && (s.Local != s.Reads || s.Waits != 0) {
					t.Errorf("stats are %+v", s)
				}
			})
		})
	}
}

// TestLocalThatLies reads through a Local that loses what it said it has: all bytes come.
func TestLocalThatLies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &simLocal{simFile: &simFile{link: wan(), size: 20 << 20}, lies: true}
		readAll(t, openLocal(t, f), 0, f.size, 128<<10)
		if f.bytes.Load() != f.size {
			t.Errorf("%d bytes were asked for", f.bytes.Load())
		}
	})
}

// TestLocalAtRandom reads at random, backward and forward, by several readers at once
// while blocks come and go: all bytes are right.
func TestLocalAtRandom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &simLocal{simFile: &simFile{link: wan(), size: 30<<20 + 777}, have: map[int64]bool{}}
		r := openLocal(t, f)
		var all sync.WaitGroup
		for i := range 6 {
			all.Go(func() {
				dice := rand.New(rand.NewPCG(uint64(i), 3))
				for range 60 {
					f.mu.Lock()
					f.have[dice.Int64N(31)] = dice.IntN(2) == 0
					f.mu.Unlock()
					from := dice.Int64N(f.size)
					to := min(from+dice.Int64N(3<<20)+1, f.size)
					if i%3 != 2 {
						readAll(t, r, from, to, 1+dice.IntN(200<<10))
						continue
					}
					for end := to; end > from; end -= 64 << 10 {
						readAll(t, r, max(from, end-64<<10), end, 64<<10)
					}
				}
			})
		}
		all.Wait()
		if s := r.Stats(); s.Local == 0 || s.Ahead == 0 {
			t.Errorf("the test saw nothing: %+v", s)
		}
	})
}

// TestDirBegin: what is fetched before the first open is bounded by bytes and is not
// fetched again; Expect makes the first open a proof.
func TestDirBegin(t *testing.T) {
	files := listing(200)
	for i := range files {
		files[i].Size = 100 << 10
	}
	d := NewDirAhead(files, 1<<20, 64)
	got := d.Begin(64)
	if want := files[:10]; !slices.Equal(got, want) {
		t.Fatalf("begins with %v", got)
	}
	got = d.Open(files[0].Name, true)
	if len(got) == 0 || got[0] != files[10] {
		t.Errorf("goes on with %v", got)
	}
	large := listing(200)
	for i := range large {
		large[i].Size = 1 << 20
	}
	d = NewDirAhead(large, 1<<20, 64)
	d.Expect(64)
	if got := d.Open(large[0].Name, true); len(got) != dirBytes>>20 {
		t.Errorf("%d files of 1 MiB are ahead", len(got))
	}
}

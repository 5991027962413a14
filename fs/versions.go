package fs

import (
	"sync"

	"github.com/meshmount/meshmount/remote"
)

// generations is a bounded map: when the young half is full, the old half is
// forgotten. It is not safe for concurrent use.
type generations[K comparable, V any] struct {
	young, old map[K]V
	used, max  int         // cost in the young half, and its bound
	cost       func(V) int // nil: 1 each
}

func newGenerations[K comparable, V any](total int) generations[K, V] {
	return generations[K, V]{young: map[K]V{}, old: map[K]V{}, max: max(1, total/2)}
}

func (g *generations[K, V]) get(k K) (V, bool) {
	if v, ok := g.young[k]; ok {
		return v, true
	}
	v, ok := g.old[k]
	if ok {
		delete(g.old, k)
		g.put(k, v)
	}
	return v, ok
}

func (g *generations[K, V]) put(k K, v V) {
	if g.used >= g.max {
		g.young, g.old, g.used = map[K]V{}, g.young, 0
	}
	g.young[k] = v
	delete(g.old, k)
	if g.cost == nil {
		g.used = len(g.young)
	} else {
		g.used += g.cost(v)
	}
}

func (g *generations[K, V]) remove(k K) {
	delete(g.young, k)
	delete(g.old, k)
}

// removeIf forgets all keys for which drop is true.
func (g *generations[K, V]) removeIf(drop func(K) bool) {
	for _, m := range []map[K]V{g.young, g.old} {
		for k := range m {
			if drop(k) {
				delete(m, k)
			}
		}
	}
}

// versions remembers which version's pages the kernel may hold for an inode. What
// it forgets costs a page cache, nothing else.
type versions struct {
	mu  sync.Mutex
	gen generations[uint64, string] // guarded by mu
}

func newVersions() *versions {
	return &versions{gen: newGenerations[uint64, string](1 << 16)}
}

// opened records that e is opened now and tells whether the kernel may keep the
// pages that it has. A version that is no proof is recorded as none: the pages read
// under it may be of a content that the same version does not stand for later.
func (v *versions) opened(ino uint64, e remote.Entry) (same bool) {
	if e.Provisional {
		e.Version = ""
	}
	return v.swap(ino, e.Version)
}

// become records that the version was has become e on the server: its pages stay.
func (v *versions) become(ino uint64, was string, e remote.Entry) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if last, ok := v.gen.get(ino); ok && last != "" && last == was {
		if e.Provisional {
			e.Version = ""
		}
		v.gen.put(ino, e.Version)
	}
}

// swap records the version of which pages may be kept from now on and tells whether
// those from before are of the same one.
func (v *versions) swap(ino uint64, version string) (same bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	last, ok := v.gen.get(ino)
	v.gen.put(ino, version)
	return ok && version != "" && last == version
}

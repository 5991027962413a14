package fs

import (
	"sync"
	"time"
)

// inoCache keeps what servers said of objects, by inode number, for who asks again
// soon: programs read an attribute in two calls, its size and then its value. An
// object keeps its number when it is renamed, and its number is never given to
// another, so only changes of the object itself concern it. Safe for concurrent use.
type inoCache[V any] struct {
	now func() time.Time

	mu      sync.Mutex
	known   generations[uint64, saying[V]] // guarded by mu
	changes uint64                         // guarded by mu; counts changes of any object
}

// saying is what a server said, and when it was asked.
type saying[V any] struct {
	v  V
	at time.Time
}

// newInoCache bounds the sum of cost over what is kept.
func newInoCache[V any](now func() time.Time, bound int, cost func(V) int) *inoCache[V] {
	c := &inoCache[V]{now: now, known: newGenerations[uint64, saying[V]](bound)}
	c.known.cost = func(s saying[V]) int { return cost(s.v) }
	return c
}

// get returns what was said of ino within ttl, or what ask says now, which is not
// kept if a change may have crossed it. The value is shared.
func (c *inoCache[V]) get(ino uint64, ttl time.Duration, ask func() (V, error)) (V, error) {
	c.mu.Lock()
	now, mark := c.now(), c.changes
	s, ok := c.known.get(ino)
	c.mu.Unlock()
	if ok && now.Sub(s.at) < ttl {
		return s.v, nil
	}
	v, err := ask()
	if err == nil && ttl > 0 {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.changes == mark {
			c.known.put(ino, saying[V]{v, now})
		}
	}
	return v, err
}

// changed must be called after each change of the object that was made here, or may
// have been, and before its maker is told.
func (c *inoCache[V]) changed(ino uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	c.known.remove(ino)
}

// clear forgets everything. What is being asked for will not be kept.
func (c *inoCache[V]) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	c.known.removeIf(func(uint64) bool { return true })
}

// Bounds in bytes of what is kept of extended attributes and of replicas.
const (
	maxXattrBytes   = 8 << 20
	maxReplicaBytes = 1 << 20
	overhead        = 128 // of an entry, about
)

func xattrCost(all map[string][]byte) int {
	n := overhead
	for name, value := range all {
		n += overhead + len(name) + len(value)
	}
	return n
}

func textCost(s string) int { return overhead + len(s) }

package fs

import (
	"slices"
	"sync"

	"github.com/meshmount/meshmount/remote"
)

// lockSpec names what to lock: one path, or a path with everything below it.
type lockSpec struct {
	path string
	tree bool
}

func one(path string) lockSpec  { return lockSpec{path: path} }
func tree(path string) lockSpec { return lockSpec{path: path, tree: true} }

func (a lockSpec) conflicts(b lockSpec) bool {
	return a.path == b.path || a.tree && remote.Within(b.path, a.path) || b.tree && remote.Within(a.path, b.path)
}

// locker hands out exclusive locks on paths and subtrees. All locks of an operation
// are taken at once, in the order of arrival of conflicting requests, so that there
// is neither deadlock nor starvation.
type locker struct {
	mu    sync.Mutex
	queue []*pathLock // holders and waiters, oldest first
}

type pathLock struct {
	specs []lockSpec
	ready chan struct{} // closed when held
	held  bool
}

// lock waits until nothing that conflicts with specs is held or was asked for
// earlier, and returns the function that releases it.
func (l *locker) lock(specs ...lockSpec) (unlock func()) {
	p := &pathLock{specs: specs, ready: make(chan struct{})}
	l.mu.Lock()
	l.queue = append(l.queue, p)
	l.grant()
	l.mu.Unlock()
	<-p.ready
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.queue = slices.DeleteFunc(l.queue, func(q *pathLock) bool { return q == p })
		l.grant()
	}
}

// grant wakes every waiter that no earlier request conflicts with. Guarded by mu.
func (l *locker) grant() {
	for i, p := range l.queue {
		if p.held || slices.ContainsFunc(l.queue[:i], p.conflicts) {
			continue
		}
		p.held = true
		close(p.ready)
	}
}

func (p *pathLock) conflicts(q *pathLock) bool {
	for _, a := range p.specs {
		if slices.ContainsFunc(q.specs, a.conflicts) {
			return true
		}
	}
	return false
}

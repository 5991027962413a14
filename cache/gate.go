package cache

import (
	"context"
	"sync"
)

// gate bounds the memory of the fetches on their way: each passes with the bytes that it
// needs and gives them back when nobody looks at them any more. Who waits passes in the
// order of entering. If all that passed are only waiting to be looked at, the next one
// passes whatever the bound: those who look may be waiting for it. Safe for concurrent
// use.
type gate struct {
	limit int64 // bytes

	mu     sync.Mutex
	used   int64     // guarded by mu; bytes that have passed
	active int       // guarded by mu; fetches that have passed and are not done
	queue  []*ticket // guarded by mu
}

// ticket is one fetch at the gate.
type ticket struct {
	n      int64
	passed chan struct{} // closed when it may go on
}

// enter takes a place in the queue.
func (g *gate) enter(n int64) *ticket {
	t := &ticket{n: n, passed: make(chan struct{})}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.queue = append(g.queue, t)
	g.let()
	return t
}

// let lets pass who can. Guarded by mu.
func (g *gate) let() {
	for len(g.queue) > 0 {
		t := g.queue[0]
		if g.used+t.n > g.limit && g.active > 0 {
			return
		}
		g.queue[0] = nil
		g.queue = g.queue[1:]
		g.used += t.n
		g.active++
		close(t.passed)
	}
}

// wait waits until the ticket has passed. If ctx ends first, it has left, and neither
// fetched nor release are to be called.
func (g *gate) wait(ctx context.Context, t *ticket) error {
	select {
	case <-t.passed:
		return nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-t.passed:
		g.used -= t.n
		g.active--
	default:
		for i, other := range g.queue {
			if other == t {
				g.queue = append(g.queue[:i], g.queue[i+1:]...)
				break
			}
		}
	}
	g.let()
	return context.Cause(ctx)
}

// fetched says that a fetch that has passed is done.
func (g *gate) fetched() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.active--
	g.let()
}

// release gives bytes back.
func (g *gate) release(n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.used -= n
	g.let()
}

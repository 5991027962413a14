package writeback

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"sync"

	"github.com/meshmount/meshmount/remote"
)

// growth is the content of a Stage that is sent while it is written in order. It has the
// file open for itself: a write holds the Stage's lock for as long as the disk takes, which may
// be most of a second while the kernel writes back, and the upload is not to stand still for
// that. What it reads meanwhile is behind no write, or the write tells that it is torn.
type growth struct {
	st   *Stage
	file *os.File

	mu    sync.Mutex
	front int64         // guarded by mu; bytes that are there
	whole bool          // guarded by mu; front is the final size
	err   error         // guarded by mu; why there will be no more
	attrs remote.Attrs  // guarded by mu
	more  chan struct{} // guarded by mu; closed at the next change
}

var _ remote.Growing = (*growth)(nil)

// follow starts a growth of a Stage, nil if its content is not written in order, so small that
// it lies with others, or followed already.
func (st *Stage) follow() *growth {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.grow != nil || st.limit > 0 || st.front != st.size || st.slot != nil {
		return nil
	}
	f, err := os.Open(filepath.Join(st.home.dir, st.own))
	if err != nil {
		return nil
	}
	st.grow = &growth{st: st, file: f, front: st.front, more: make(chan struct{})}
	return st.grow
}

// end ends the growth for those who read it.
func (g *growth) end() {
	g.st.unfollow()
	_ = g.file.Close() // it was only read
}

// advance tells the growth of a new front. Guarded by st.mu.
func (st *Stage) advance() {
	if st.grow != nil {
		st.grow.tell(func(g *growth) {
			if !g.whole {
				g.front = st.front
			}
		})
	}
}

// spoil ends the growth: bytes behind its front have changed. Guarded by st.mu.
func (st *Stage) spoil() {
	if st.grow != nil {
		st.grow.tell(func(g *growth) { g.err = errTorn })
		st.grow = nil
	}
}

// complete tells the growth that this is all. It returns it, or nil if there is none
// that has the whole content.
func (st *Stage) complete(attrs remote.Attrs) *growth {
	st.mu.Lock()
	defer st.mu.Unlock()
	g := st.grow
	if g == nil {
		return nil
	}
	if st.front != st.size {
		st.spoil()
		return nil
	}
	g.tell(func(g *growth) { g.whole, g.front, g.attrs = true, st.size, attrs })
	return g
}

// unfollow ends the growth, whether it was complete or not.
func (st *Stage) unfollow() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.spoil()
}

func (g *growth) tell(change func(*growth)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change(g)
	close(g.more)
	g.more = make(chan struct{})
}

// Wait implements remote.Growing.
func (g *growth) Wait(ctx context.Context, off int64) (int64, bool, error) {
	for {
		g.mu.Lock()
		front, whole, err, more := g.front, g.whole, g.err, g.more
		g.mu.Unlock()
		switch {
		case err != nil:
			return 0, false, err
		case whole || front > off:
			return front, whole, nil
		}
		select {
		case <-ctx.Done():
			return 0, false, ctx.Err()
		case <-more:
		}
	}
}

// ReadAt implements remote.Growing.
func (g *growth) ReadAt(p []byte, off int64) (int, error) {
	g.st.home.space.tick()
	n, err := g.file.ReadAt(p, off)
	if err != nil { // perhaps it was just cut
		return n, cmp.Or(g.failed(), err)
	}
	if err := g.ended(); err != nil { // the file may be another one's by now
		return 0, err
	}
	return n, nil
}

// ended returns why there will be no more, nil if nothing is known of that yet. A Stage tells its
// growth before it gives its file away.
func (g *growth) ended() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// failed returns why the content is not what was sent, nil if it is.
func (g *growth) failed() error {
	g.st.mu.RLock() // what a write has changed that is under way is told before it ends
	defer g.st.mu.RUnlock()
	return g.ended()
}

// Attrs implements remote.Growing.
func (g *growth) Attrs() remote.Attrs {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.attrs
}

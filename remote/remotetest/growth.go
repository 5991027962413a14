package remotetest

import (
	"context"
	"io"
	"sync"

	"github.com/meshmount/meshmount/remote"
)

// Growth is a remote.Growing that grows as a test wants. The zero value is empty and goes
// on. It is safe for concurrent use.
type Growth struct {
	mu     sync.Mutex // guards what follows
	data   []byte
	whole  bool
	err    error
	attrs  remote.Attrs
	wanted int64
	news   chan struct{} // closed when something changes; nil if nobody waits
}

// Grown returns a Growth that is whole from the beginning on.
func Grown(data []byte, a remote.Attrs) *Growth { return &Growth{data: data, whole: true, attrs: a} }

// Grow appends.
func (g *Growth) Grow(p []byte) {
	g.change(func() { g.data = append(g.data, p...) })
}

// End makes the content whole.
func (g *Growth) End(a remote.Attrs) {
	g.change(func() { g.whole, g.attrs = true, a })
}

// Fail makes every Wait return err.
func (g *Growth) Fail(err error) {
	g.change(func() { g.err = err })
}

func (g *Growth) change(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
	if g.news != nil {
		close(g.news)
		g.news = nil
	}
}

// Wanted returns the largest offset that was waited for: when it is the length of what
// there is, whoever puts this has nothing left to read.
func (g *Growth) Wanted() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.wanted
}

// Wait implements remote.Growing.
func (g *Growth) Wait(ctx context.Context, off int64) (size int64, whole bool, err error) {
	for {
		news, size, whole, err := g.look(off)
		if news == nil {
			return size, whole, err
		}
		select {
		case <-ctx.Done():
			return 0, false, remote.ContextErr(ctx)
		case <-news:
		}
	}
}

// look is what Wait returns; with news there is nothing to return yet.
func (g *Growth) look(off int64) (news chan struct{}, size int64, whole bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.wanted = max(g.wanted, off)
	size = int64(len(g.data))
	if g.err != nil {
		return nil, 0, false, g.err
	}
	if g.whole || size > off {
		return nil, size, g.whole, nil
	}
	if g.news == nil {
		g.news = make(chan struct{})
	}
	return g.news, 0, false, nil
}

// ReadAt implements io.ReaderAt.
func (g *Growth) ReadAt(p []byte, off int64) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if off >= int64(len(g.data)) {
		return 0, io.EOF
	}
	n := copy(p, g.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Attrs implements remote.Growing.
func (g *Growth) Attrs() remote.Attrs {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.attrs
}

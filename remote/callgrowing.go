package remote

import (
	"context"
	"io"
)

// awayGrowing tells its call of each step into the caller's Growing.
type awayGrowing struct {
	inner Growing
	call  *Call
}

// ReadAt implements io.ReaderAt.
func (g *awayGrowing) ReadAt(p []byte, off int64) (int, error) { return g.call.readAt(g.inner, p, off) }

// Wait implements Growing. An error that comes with the end of the context is not the
// content's.
func (g *awayGrowing) Wait(ctx context.Context, off int64) (size int64, whole bool, err error) {
	back := g.call.leave()
	size, whole, err = g.inner.Wait(ctx, off)
	if ctx.Err() == nil {
		g.call.noteSource(err)
	}
	if berr := back(); err == nil {
		err = berr
	}
	return size, whole, err
}

// Attrs implements Growing.
func (g *awayGrowing) Attrs() Attrs {
	back := g.call.leave()
	a := g.inner.Attrs()
	_ = back() // it fails with the context of the call, which the adapter will see
	return a
}

// awayBytes tells its call of each step into the caller's Patch.
type awayBytes struct {
	inner io.ReaderAt
	call  *Call
}

// ReadAt implements io.ReaderAt.
func (b *awayBytes) ReadAt(p []byte, off int64) (int, error) { return b.call.readAt(b.inner, p, off) }

// readAt reads bytes that are to be sent.
func (c *Call) readAt(r io.ReaderAt, p []byte, off int64) (int, error) {
	back := c.leave()
	n, err := r.ReadAt(p, off)
	c.noteSource(err)
	if c.Sent != nil {
		c.Sent(n)
	}
	if berr := back(); err == nil {
		err = berr
	}
	return n, err
}

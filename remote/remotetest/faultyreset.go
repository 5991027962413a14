package remotetest

import (
	"context"
	"io"
	"sync"

	"github.com/meshmount/meshmount/remote"
)

// reset makes a call with what it sends broken in the middle.
func (r Rule) reset(ctx context.Context, c *remote.Call, next remote.Next) error {
	fault := r.fail(c, remote.Unavailable)
	src, growing, patch := c.Source, c.Growing, c.Patch
	defer func() { c.Source, c.Growing, c.Patch = src, growing, patch }()
	switch c.Op {
	case remote.OpPut:
		c.Source = &resetSource{src, fault}
	case remote.OpPutGrowing:
		c.Growing = &resetGrowing{Growing: growing, fault: fault}
	case remote.OpPatch:
		c.Patch.Bytes = &resetBytes{patch.Bytes, middle(patch.Ranges), fault}
	default:
		return fault
	}
	if err := next(ctx); err != nil {
		return err
	}
	fault.Unsure = true // the backend had no need to read an empty source
	return fault
}

// resetSource breaks off half way with fault.
type resetSource struct {
	remote.Source
	fault error
}

// Open implements remote.Source.
func (s *resetSource) Open() (io.ReadCloser, error) {
	r, err := s.Source.Open()
	if err != nil {
		return nil, err
	}
	cut := &cutReader{r, s.Size() / 2, s.fault}
	return struct {
		io.Reader
		io.Closer
	}{cut, r}, nil
}

// resetBytes break off at an offset with fault.
type resetBytes struct {
	io.ReaderAt
	good  int64
	fault error
}

// ReadAt implements io.ReaderAt.
func (b *resetBytes) ReadAt(p []byte, off int64) (int, error) {
	return readUpTo(b.ReaderAt, p, off, b.good, b.fault)
}

// readUpTo reads from r what is before an end, and gives fault for the rest.
func readUpTo(r io.ReaderAt, p []byte, off, end int64, fault error) (int, error) {
	if off+int64(len(p)) <= end {
		return r.ReadAt(p, off)
	}
	if off >= end {
		return 0, fault
	}
	n, err := r.ReadAt(p[:end-off], off)
	if err == nil {
		err = fault
	}
	return n, err
}

// middle is the offset before which half of the bytes of the ranges are.
func middle(ranges []remote.ByteRange) int64 {
	var total int64
	for _, r := range ranges {
		total += r.Length
	}
	left := total / 2
	for _, r := range ranges {
		if left <= r.Length {
			return r.Offset + left
		}
		left -= r.Length
	}
	return 0
}

// resetGrowing breaks off behind half of what was there at first.
type resetGrowing struct {
	remote.Growing
	fault error

	mu   sync.Mutex // guards half
	half int64      // 1 more than where it breaks off; 0 before the first Wait
}

// Wait implements remote.Growing.
func (g *resetGrowing) Wait(ctx context.Context, off int64) (size int64, whole bool, err error) {
	size, whole, err = g.Growing.Wait(ctx, off)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.half == 0 && err == nil {
		g.half = size/2 + 1
	}
	return size, whole, err
}

// ReadAt implements io.ReaderAt.
func (g *resetGrowing) ReadAt(p []byte, off int64) (int, error) {
	g.mu.Lock()
	half := g.half - 1
	g.mu.Unlock()
	return readUpTo(g.Growing, p, off, half, g.fault)
}

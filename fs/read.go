package fs

import (
	"context"
	"errors"
	"sync"

	"github.com/meshmount/meshmount/prefetch"
	"github.com/meshmount/meshmount/remote"
)

// baseReader is a handle's way to the bytes on the server: it reads ahead for as long as
// they are of one version under one name. The zero value is ready for use. Safe for
// concurrent use.
type baseReader struct {
	mu     sync.Mutex
	closed bool             // guarded by mu
	ref    remote.Ref       // guarded by mu; what reader reads
	reader *prefetch.Reader // guarded by mu; nil before the first read
}

// readAt reads as remote.Backend.ReadAt does.
func (r *baseReader) readAt(ctx context.Context, b *branch, ref remote.Ref, p []byte, off int64) (int, error) {
	if reader := r.of(b, ref); reader != nil {
		return reader.ReadAt(ctx, p, off)
	}
	return b.Backend.ReadAt(ctx, ref, p, off)
}

// lend returns bytes of the version where they are in memory; ok is false if they are not
// in one place there.
func (r *baseReader) lend(ctx context.Context, ref remote.Ref, off, n int64) (data []byte, release func(), ok bool) {
	r.mu.Lock()
	reader := r.reader
	ok = reader != nil && r.ref == ref && !r.closed
	r.mu.Unlock()
	if !ok {
		return nil, nil, false
	}
	return reader.Lend(ctx, off, n)
}

// of returns the reader of a version, or nil if it is read without: where nothing can
// tell that two requests were of one content, and where one request fetches all.
func (r *baseReader) of(b *branch, ref remote.Ref) *prefetch.Reader {
	if b.Ahead == nil || ref.Version == "" || b.small(ref.Size) {
		return nil
	}
	r.mu.Lock()
	if r.reader != nil && r.ref == ref || r.closed {
		defer r.mu.Unlock()
		return r.reader
	}
	old := r.reader
	r.ref, r.reader = ref, b.Ahead.Open(b.source(), ref, ref.Size)
	reader := r.reader
	r.mu.Unlock()
	if old != nil {
		_ = old.Close() // never fails
	}
	return reader
}

// close ends the reading ahead.
func (r *baseReader) close() {
	r.mu.Lock()
	r.closed = true
	reader := r.reader
	r.mu.Unlock()
	if reader != nil {
		_ = reader.Close() // never fails
	}
}

// ErrNoView is the error of View if the bytes are not in memory in one place.
var ErrNoView = errors.New("fs: the bytes are not in memory in one place")

// View is ReadAt without a copy, where the bytes are in memory or on their way there: n
// of them, or fewer at the end of the file. They stay as they are until release is
// called, once. Else the error is ErrNoView, and ReadAt is to be used.
func (h *Handle) View(ctx context.Context, off int64, n int) (data []byte, release func(), err error) {
	x := h.x
	x.mu.Lock()
	staged, size, ref := x.stage != nil || x.base.Provisional, x.size, x.ref()
	x.mu.Unlock()
	if staged || off < 0 || off >= size {
		return nil, nil, ErrNoView
	}
	data, release, ok := h.base.lend(ctx, ref, off, int64(n))
	if !ok {
		return nil, nil, ErrNoView
	}
	x.used.Store(true)
	return data, release, nil
}

// source returns where readers get bytes from.
func (b *branch) source() prefetch.Source {
	if b.Blocks != nil {
		return b.Blocks
	}
	return b.Backend
}

// small tells whether a file of that size comes with one request, and stays.
func (b *branch) small(size int64) bool {
	return b.Blocks != nil && size >= 0 && size <= b.Blocks.BlockSize()
}

// forgetBlocks drops what is cached of a file that has left its name: the next one under
// that name may have the same version, where versions are made of size and time.
func (b *branch) forgetBlocks(rel string, t remote.Type) {
	if b.Blocks != nil && t == remote.File {
		b.Blocks.Invalidate(rel)
	}
}

package fs

import (
	"context"
	"errors"
	"sync"

	"github.com/meshmount/meshmount/cache/writeback"
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

// errMoved is the error of a read of what the file was called before, or had in it.
var errMoved = errors.New("fs: the file has got another name or version here")

// readAt reads ref, the base of x, as remote.Backend.ReadAt does. The error is errMoved
// if x has got another base meanwhile.
func (r *baseReader) readAt(ctx context.Context, x *file, ref remote.Ref, p []byte, off int64) (int, error) {
	// Without read-ahead go those of which nothing can tell that two requests were of
	// one content, and those that one request fetches.
	if x.b.Ahead == nil || ref.Version == "" || x.b.small(ref.Size) || writeback.IsLocal(ref.Version) {
		return x.b.readSmall(ctx, ref, p, off)
	}
	reader, err := r.of(x, ref)
	if err != nil {
		return 0, err
	}
	n, err := reader.ReadAt(ctx, p, off)
	if err != nil && remote.KindOf(err) == remote.BadHandle && x.present() != ref {
		err = errMoved
	}
	return n, err
}

// readSmall reads without read-ahead.
func (b *branch) readSmall(ctx context.Context, ref remote.Ref, p []byte, off int64) (int, error) {
	if ref.Version == "" || !b.small(ref.Size) || writeback.IsLocal(ref.Version) {
		return b.Backend.ReadAt(ctx, ref, p, off)
	}
	return b.ahead.readAt(ctx, b.Backend, ref, p, off)
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

// of returns the reader of ref, which replaces that of an older base.
func (r *baseReader) of(x *file, ref remote.Ref) (*prefetch.Reader, error) {
	r.mu.Lock()
	if r.reader != nil && (r.ref == ref || r.closed) {
		defer r.mu.Unlock()
		return r.reader, nil
	}
	if r.closed {
		r.mu.Unlock()
		return nil, fail("read", x.b.abs(ref.Path), remote.BadHandle, nil)
	}
	if x.present() != ref {
		r.mu.Unlock()
		return nil, errMoved // the reader of the new one may be there already
	}
	old := r.reader
	r.ref, r.reader = ref, x.b.Ahead.Open(x.b.source(), ref, ref.Size)
	reader := r.reader
	r.mu.Unlock()
	if old != nil {
		_ = old.Close() // never fails
	}
	return reader, nil
}

// present returns what is the base of x now.
func (x *file) present() remote.Ref {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.ref()
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
	return b.server()
}

// small tells whether a file of that size comes with one request, and stays.
func (b *branch) small(size int64) bool {
	return b.Blocks != nil && size >= 0 && size <= b.Blocks.BlockSize() && b.Blocks.Admits()
}

// forgetBlocks drops what is cached of a file that has left its name: the next one under
// that name may have the same version, where versions are made of size and time. Of a
// directory it drops all files that are known to be below it.
func (b *branch) forgetBlocks(rel string, t remote.Type) {
	if b.Blocks == nil {
		return
	}
	if t == remote.File {
		b.Blocks.Invalidate(rel)
		return
	}
	for _, name := range b.meta.filesBelow(rel) {
		b.Blocks.Invalidate(name)
	}
}

package fs

import (
	"context"
	"syscall"

	"github.com/meshmount/meshmount/remote"
)

// Handle is an open file. Its methods are safe for concurrent use.
type Handle struct {
	x                *file
	read, write, end bool // access mode; end: O_APPEND
	keep, direct     bool
	base             baseReader
}

func newHandle(x *file, flags int) *Handle {
	acc := flags & syscall.O_ACCMODE
	return &Handle{x: x, read: acc != syscall.O_WRONLY, write: acc != syscall.O_RDONLY, end: flags&syscall.O_APPEND != 0}
}

// KeepCache tells whether pages that the kernel kept are of the opened version.
func (h *Handle) KeepCache() bool { return h.keep }

// DirectIO tells whether the kernel must not cache pages for this handle.
func (h *Handle) DirectIO() bool { return h.direct }

// Attr returns the attributes of the open file from memory.
func (h *Handle) Attr() Attr { return h.x.attr() }

func (h *Handle) path() string {
	p, _ := h.x.where()
	return p
}

// ReadAt fills p from off; fewer bytes only at the end of the file, where the error
// is nil. The bytes are of the version that was opened, or of what was written
// since through this mount: Changed if they can no longer be had. Ends early with
// the context's error.
func (h *Handle) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	// The kernel reads through write-only handles too, to fill pages that are
	// written in part: the mode is its business.
	if off < 0 {
		return 0, fail("read", h.path(), remote.Invalid, nil)
	}
	h.x.used.Store(true)
	return h.x.readAt(ctx, &h.base, p, off)
}

// WriteAt writes all of p into the staging file, at off or at the end for handles
// opened with O_APPEND.
func (h *Handle) WriteAt(_ context.Context, p []byte, off int64) (int, error) {
	if !h.write {
		return 0, fail("write", h.path(), remote.BadHandle, nil)
	}
	if off < 0 {
		return 0, fail("write", h.path(), remote.Invalid, nil)
	}
	h.x.used.Store(true)
	return h.x.writeAt(p, off, h.end)
}

// Truncate sets the size.
func (h *Handle) Truncate(_ context.Context, size int64) error {
	if !h.write {
		return fail("truncate", h.path(), remote.BadHandle, nil)
	}
	if size < 0 {
		return fail("truncate", h.path(), remote.Invalid, nil)
	}
	return h.x.truncate(size)
}

// Flush is called at each close(2): it puts what was written to the server and
// returns the server's answer, or puts it into the journal. It is not interruptible.
func (h *Handle) Flush(ctx context.Context) error {
	if !h.write {
		return nil
	}
	if err := h.x.upload(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	if err := h.x.full(true); err != nil {
		return err
	}
	return h.x.toTell()
}

// Fsync puts what was written to the server or, where there is a journal, on stable
// storage of this node and, with Options.FsyncRemote, then waits for the server. If ctx
// ends first, its error is returned and the work goes on.
func (h *Handle) Fsync(ctx context.Context) error {
	if !h.x.mustPut() && !h.x.isPending() {
		return h.x.toTell()
	}
	put := h.x.upload
	if h.x.b.Back != nil {
		put = h.x.syncBack
	}
	if err := h.inBackground(ctx, put); err != nil || h.x.b.Back == nil {
		return err
	}
	if h.x.fs.opts.FsyncRemote && h.x.isPending() {
		_, rel := h.x.where()
		return h.x.b.Back.Sync(ctx, rel)
	}
	if err := h.x.full(true); err != nil {
		return err
	}
	return h.x.toTell()
}

// inBackground calls put, which goes on when ctx ends.
func (h *Handle) inBackground(ctx context.Context, put func(context.Context) error) error {
	done := make(chan error, 1)
	// The upload may outlive the handle.
	x, release := h.x.fs.hold(h, 0, "")
	x.fs.background.Go(func() {
		err := put(context.WithoutCancel(ctx))
		release()
		done <- err
	})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Release ends the handle. What could not be put by then is put now, or parked.
func (h *Handle) Release() {
	h.base.close()
	x, f := h.x, h.x.fs
	f.mu.Lock()
	if h.write {
		x.writers--
	}
	for {
		if x.refs > 1 || !x.mustPut() {
			break
		}
		f.mu.Unlock()
		// The reference is kept meanwhile, so that the file stays in the table.
		err := x.lastPut(context.Background())
		f.mu.Lock()
		if err == nil || x.refs > 1 {
			continue // somebody has opened it meanwhile, and will be the last
		}
		f.mu.Unlock()
		_ = x.rescue(err) // logged there; nobody is left to tell
		f.mu.Lock()
	}
	x.refs--
	last := x.refs == 0
	if last {
		f.drop(x)
	}
	f.mu.Unlock()
	if last {
		x.closeStage()
	}
}

// Allocate makes the file at least off+size bytes long (mode 0), or only checks its
// arguments (FALLOC_FL_KEEP_SIZE). Other modes are Unsupported.
func (h *Handle) Allocate(_ context.Context, off, size int64, mode uint32) error {
	const keepSize = 1
	switch {
	case !h.write:
		return fail("allocate", h.path(), remote.BadHandle, nil)
	case off < 0 || size <= 0:
		return fail("allocate", h.path(), remote.Invalid, nil)
	case mode == keepSize:
		return nil
	case mode != 0:
		return fail("allocate", h.path(), remote.Unsupported, nil)
	}
	return h.x.extend(off + size)
}

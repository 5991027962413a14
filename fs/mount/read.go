package mount

import (
	"context"
	"errors"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/meshmount/meshmount/fs"
)

// Read reads. go-fuse lends a buffer of the size that is asked for, from a pool of
// its own; it is filled only if the core has no bytes in memory to show.
func (r *raw) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	f := r.files.file(in.Fh)
	if f == nil {
		return nil, r.status("read", "", syscall.EBADF, false)
	}
	ctx := r.patient(cancel, &in.InHeader)
	ctx.patience = readPatience
	defer ctx.end()
	res, err := r.read(ctx, f, buf, int64(in.Offset))
	if err != nil {
		return nil, r.status("read", r.name(f.node), err, ctx.interrupted.Load())
	}
	return res, fuse.OK
}

func (r *raw) read(ctx context.Context, f *openFile, buf []byte, off int64) (fuse.ReadResult, error) {
	data, release, err := r.view(ctx, f.Handle, off, len(buf))
	switch {
	case err == nil && f.reaches(off, data, len(buf)):
		return r.replies.of(data, release), nil
	case err == nil:
		release()
	case !errors.Is(err, fs.ErrNoView):
		return nil, err
	}
	n, err := f.ReadAt(ctx, buf, off)
	if err != nil {
		return nil, err
	}
	return r.replies.of(buf[:n], nil), nil
}

// viewer is Handle.View, or a test's.
type viewer func(ctx context.Context, h *fs.Handle, off int64, n int) (data []byte, release func(), err error)

func view(ctx context.Context, h *fs.Handle, off int64, n int) (data []byte, release func(), err error) {
	return h.View(ctx, off, n)
}

// reaches tells whether data, which is at off, is all of the want bytes or ends with
// the file. The kernel takes a short answer for the end of the file.
func (f *openFile) reaches(off int64, data []byte, want int) bool {
	return len(data) == want || off+int64(len(data)) >= f.Attr().Size
}

// replies makes the answers to reads. go-fuse writes an answer that has Slices with
// writev(2), straight from where the bytes are, and calls Done after that.
type replies struct{ pool sync.Pool }

// reply is the bytes of one answer. It implements fuse.ReadResult.
type reply struct {
	home    *sync.Pool
	bytes   [1][]byte
	release func()
}

// of returns an answer with data. Release, which may be nil, is called when the
// kernel has the bytes.
func (r *replies) of(data []byte, release func()) fuse.ReadResult {
	if len(data) == 0 { // go-fuse does not call Done for these
		if release != nil {
			release()
		}
		return fuse.ReadResultData(nil)
	}
	a, _ := r.pool.Get().(*reply)
	if a == nil {
		a = &reply{home: &r.pool}
	}
	a.bytes[0], a.release = data, release
	return a
}

// Slices returns where the bytes are.
func (a *reply) Slices() ([][]byte, fuse.Status) { return a.bytes[:], fuse.OK }

// Size returns how many bytes there are.
func (a *reply) Size() int { return len(a.bytes[0]) }

// Bytes returns the bytes.
func (a *reply) Bytes([]byte) ([]byte, fuse.Status) { return a.bytes[0], fuse.OK }

// Done gives the bytes back to their owner. Nothing of a may be used after that.
func (a *reply) Done() {
	release := a.release
	a.bytes[0], a.release = nil, nil
	a.home.Put(a)
	if release != nil {
		release()
	}
}

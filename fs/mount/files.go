package mount

import (
	"context"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/meshmount/meshmount/fs"
)

// openFile is a file that the kernel has open.
type openFile struct {
	*fs.Handle
	node    *node
	append  bool // O_APPEND
	written atomic.Bool
}

func (f *openFile) close() { f.Release() }

// coreFlags are the flags of open(2) that the core is to see. O_APPEND is not among
// them; see Write.
const coreFlags = os.O_RDONLY | os.O_WRONLY | os.O_RDWR | os.O_CREATE | os.O_EXCL | os.O_TRUNC

// Open opens a file. The kernel has looked at the permission bits already.
func (r *raw) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if in.Flags&syscall.O_TRUNC != 0 {
		return r.change(&in.InHeader, "open", "", func(n *node, path string) error {
			r.tree.touch(n)
			return r.open(r.ctx, n, path, in, out)
		})
	}
	return r.look(cancel, &in.InHeader, "open", "", func(ctx context.Context, n *node, path string) error {
		return r.open(ctx, n, path, in, out)
	})
}

func (r *raw) open(ctx context.Context, n *node, path string, in *fuse.OpenIn, out *fuse.OpenOut) error {
	if in.Flags&(syscall.O_TRUNC|syscall.O_ACCMODE) == syscall.O_TRUNC|syscall.O_RDONLY {
		// A handle for reading cannot truncate, and yet this is what open(2) does.
		empty := fs.SetAttr{Size: new(int64)}
		if _, err := r.fs.Setattr(ctx, path, nil, n.key.ino, empty); err != nil {
			return err
		}
	}
	h, err := r.fs.Open(ctx, path, int(in.Flags)&coreFlags)
	if err != nil {
		return err
	}
	f := &openFile{Handle: h, node: n, append: in.Flags&syscall.O_APPEND != 0}
	if a := h.Attr(); !n.same(&a) {
		err = errStale
	} else if in.Mode&fuse.OPEN_KILL_SUIDGID != 0 {
		err = r.dropSetID(f)
	}
	if err != nil {
		h.Release()
		return err
	}
	r.opened(f, in.Flags, out)
	return nil
}

// Create makes and opens a file.
func (r *raw) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	return r.change(&in.InHeader, "create", name, func(parent *node, path string) error {
		h, a, err := r.fs.Create(r.ctx, path, int(in.Flags)&coreFlags, in.Mode&0o7777)
		if err != nil {
			return err
		}
		n := r.born(parent, name, &a, &out.EntryOut)
		r.opened(&openFile{Handle: h, node: n, append: in.Flags&syscall.O_APPEND != 0}, in.Flags, &out.OpenOut)
		return nil
	})
}

// opened gives the handle to the kernel, with what it may cache.
func (r *raw) opened(f *openFile, flags uint32, out *fuse.OpenOut) {
	out.Fh = r.files.add(f)
	readOnly := flags&syscall.O_ACCMODE == syscall.O_RDONLY
	switch {
	case f.DirectIO():
		out.OpenFlags |= fuse.FOPEN_DIRECT_IO
	case f.KeepCache():
		out.OpenFlags |= fuse.FOPEN_KEEP_CACHE
	}
	if r.direct.wants(f.Handle, readOnly) {
		out.OpenFlags |= fuse.FOPEN_DIRECT_IO // the pages that others have read may stay
	}
	if readOnly {
		out.OpenFlags |= fuse.FOPEN_NOFLUSH // a close has nothing to report
	}
	if !f.KeepCache() {
		// It is another version than last time: size and times must be, too.
		r.tell.attributesNow(f.node.id)
	}
}

// Write writes. For O_APPEND the end of the file counts and not what the kernel
// thinks it is, except when the kernel writes back pages of a mapping.
func (r *raw) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	f := r.files.file(in.Fh)
	if f == nil {
		return 0, r.status("write", "", syscall.EBADF, false)
	}
	off := int64(in.Offset)
	if f.append && in.WriteFlags&fuse.WRITE_CACHE == 0 {
		// The kernel lets one write at a time come to a file.
		if off = f.Attr().Size; off != int64(in.Offset) {
			r.tell.note(fs.Invalidation{Ino: f.node.key.ino, Content: true})
		}
	}
	f.written.Store(true)
	n, err := f.WriteAt(r.ctx, data, off)
	if err == nil && in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0 {
		err = r.dropSetID(f)
	}
	if err != nil {
		return 0, r.status("write", r.name(f.node), err, false)
	}
	return uint32(n), fuse.OK
}

// dropSetID takes the set-uid and set-gid bits from a file that another user writes.
func (r *raw) dropSetID(f *openFile) error {
	mode, less := f.Attr().Mode, uint32(0)
	if less = withoutSetID(mode); less == mode {
		return nil
	}
	_, err := r.fs.Setattr(r.ctx, r.name(f.node), f.Handle, f.node.key.ino, fs.SetAttr{Mode: &less})
	return err
}

// withoutSetID returns mode without the bits that give rights of the owner or group.
// A set-gid bit without the group's execute bit means something else.
func withoutSetID(mode uint32) uint32 {
	if mode&0o010 != 0 {
		mode &^= syscall.S_ISGID
	}
	return mode &^ syscall.S_ISUID
}

// Writev is for transports that split the data of a write; this one does not.
func (r *raw) Writev(<-chan struct{}, *fuse.WriteIn, [][]byte) (uint32, fuse.Status) {
	return 0, fuse.ENOSYS
}

// Flush is sent at each close(2); its result is that of the close.
func (r *raw) Flush(_ <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	f := r.files.file(in.Fh)
	if f == nil {
		return r.status("close", "", syscall.EBADF, false)
	}
	r.settled(f)
	return r.status("close", r.name(f.node), f.Handle.Flush(r.ctx), false)
}

// Fsync puts what was written where it is safe. The work goes on if its caller dies.
func (r *raw) Fsync(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	f := r.files.file(in.Fh)
	if f == nil {
		return r.status("fsync", "", syscall.EBADF, false)
	}
	ctx := r.patient(cancel, &in.InHeader)
	defer ctx.end()
	err := f.Handle.Fsync(ctx)
	return r.status("fsync", r.name(f.node), err, ctx.interrupted.Load())
}

// Fallocate reserves space or lengthens the file.
func (r *raw) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	f := r.files.file(in.Fh)
	if f == nil {
		return r.status("fallocate", "", syscall.EBADF, false)
	}
	f.written.Store(true)
	err := f.Allocate(r.ctx, int64(in.Offset), int64(in.Length), in.Mode)
	return r.status("fallocate", r.name(f.node), err, false)
}

// Release is sent when nothing refers to the open file any more: no descriptor of
// any process, and no mapping.
func (r *raw) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	if f, ok := r.files.remove(in.Fh).(*openFile); ok {
		r.settled(f)
		f.close()
	}
}

// settled tells listings under way that a file's size and times have changed.
func (r *raw) settled(f *openFile) {
	if f.written.Load() {
		r.tree.touch(f.node)
	}
}

// name returns a node's path for the log, "" if it has lost its name.
func (r *raw) name(n *node) string {
	path, _ := r.tree.where(n)
	return path
}

package mount

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// What the kernel may ask for, on one page. A change of a signature in go-fuse
// breaks the build here, and does not silently make an operation unsupported.
var _ fuse.RawFileSystem = (*raw)(nil)

// Implemented, by file:
//
//	names.go  Lookup Forget Mkdir Mknod(files) Symlink Readlink Unlink Rmdir Rename
//	attrs.go  GetAttr SetAttr StatFs GetXAttr ListXAttr SetXAttr RemoveXAttr
//	files.go  Open Create Read Write Flush Fsync Fallocate Release
//	dirs.go   OpenDir ReadDir ReadDirPlus ReleaseDir FsyncDir
//
// Refused: Link (EPERM, names.go), Access (attrs.go: left to the kernel), and what
// follows. ENOSYS makes the kernel do the work itself and not ask again.

// Tmpfile is refused: a file without a name could never get one, as there are no
// hard links. Programs fall back to a named file.
func (r *raw) Tmpfile(<-chan struct{}, *fuse.CreateIn, *fuse.CreateOut) fuse.Status {
	return fuse.ENOSYS
}

// GetLk, SetLk and SetLkw are never asked for: locks are the kernel's and hold among
// the processes of the node.
func (r *raw) GetLk(<-chan struct{}, *fuse.LkIn, *fuse.LkOut) fuse.Status { return fuse.ENOSYS }

// SetLk: see GetLk.
func (r *raw) SetLk(<-chan struct{}, *fuse.LkIn) fuse.Status { return fuse.ENOSYS }

// SetLkw: see GetLk.
func (r *raw) SetLkw(<-chan struct{}, *fuse.LkIn) fuse.Status { return fuse.ENOSYS }

// Lseek: the kernel's own answer treats a file as one piece of data with a hole at
// its end, which is true of what a server keeps.
func (r *raw) Lseek(<-chan struct{}, *fuse.LseekIn, *fuse.LseekOut) fuse.Status { return fuse.ENOSYS }

// CopyFileRange: the kernel reads and writes.
func (r *raw) CopyFileRange(<-chan struct{}, *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	return 0, fuse.ENOSYS
}

// Statx: the kernel uses GetAttr.
func (r *raw) Statx(<-chan struct{}, *fuse.StatxIn, *fuse.StatxOut) fuse.Status { return fuse.ENOSYS }

// Ioctl knows no command: ENOTTY.
func (r *raw) Ioctl(<-chan struct{}, *fuse.IoctlIn, []byte, *fuse.IoctlOut, []byte) fuse.Status {
	return fuse.Status(syscall.ENOTTY)
}

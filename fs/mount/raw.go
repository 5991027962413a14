package mount

import (
	"context"
	"log/slog"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/meshmount/meshmount/fs"
	"github.com/meshmount/meshmount/remote"
)

// raw answers the kernel's requests. Its methods are those of fuse.RawFileSystem.
type raw struct {
	fs    *fs.FS
	log   *slog.Logger
	ctx   context.Context // of changes: never ended
	tree  *tree
	files handles
	tell  *notifier

	replies replies
	view    viewer
	direct  *directRule

	plusLimit int
}

func newRaw(ctx context.Context, core *fs.FS, log *slog.Logger) *raw {
	r := &raw{fs: core, log: log, ctx: context.WithoutCancel(ctx), tree: newTree(fs.RootIno),
		view: view, direct: newDirectRule(DirectNever), plusLimit: plusLimit}
	r.files.open = map[uint64]closer{}
	r.tell = newNotifier(r.tree)
	return r
}

// patient returns the context of an operation that changes nothing; see waiting.
// The caller must call its end.
func (r *raw) patient(cancel <-chan struct{}, in *fuse.InHeader) *waiting {
	return &waiting{Context: r.ctx, cancel: cancel, pid: in.Pid}
}

// look runs an operation that changes nothing on the path of a node, or of a name in
// it. Renames of the path wait until it is over.
func (r *raw) look(cancel <-chan struct{}, in *fuse.InHeader, op, name string,
	do func(ctx context.Context, n *node, path string) error) fuse.Status {
	n := r.tree.node(in.NodeId)
	if n == nil {
		return r.status(op, name, errStale, false)
	}
	h, err := r.tree.hold(claim{n, name})
	if err != nil {
		return r.status(op, name, err, false)
	}
	defer h.release()
	ctx := r.patient(cancel, in)
	defer ctx.end()
	err = do(ctx, n, h.paths[0])
	return r.status(op, h.paths[0], err, ctx.interrupted.Load())
}

// change runs a change of a node or of a name in it. It is not interrupted.
func (r *raw) change(in *fuse.InHeader, op, name string, do func(n *node, path string) error) fuse.Status {
	n := r.tree.node(in.NodeId)
	if n == nil {
		return r.status(op, name, errStale, false)
	}
	h, err := r.tree.hold(claim{n, name})
	if err != nil {
		return r.status(op, name, err, false)
	}
	defer h.release()
	return r.status(op, h.paths[0], do(n, h.paths[0]), false)
}

// born enters what a change has made into the tree and the answer.
func (r *raw) born(parent *node, name string, a *fs.Attr, out *fuse.EntryOut) *node {
	parent.changes.Add(1)
	return r.show(parent, name, a, out)
}

// show tells the kernel what name in parent is.
func (r *raw) show(parent *node, name string, a *fs.Attr, out *fuse.EntryOut) *node {
	n := r.tree.enter(parent, name, a)
	n.remember(a)
	out.NodeId = n.id
	out.SetEntryTimeout(max(0, a.TTL))
	out.SetAttrTimeout(max(0, a.TTL))
	pack(a, &out.Attr)
	return n
}

// remember keeps the attributes of a directory for when it has lost its name.
func (n *node) remember(a *fs.Attr) {
	if a.Type == remote.Dir {
		n.shown.Store(a)
	}
}

// same tells whether a describes the object that the kernel knows as n.
func (n *node) same(a *fs.Attr) bool { return n.key == identity{a.Ino, a.Type} }

// showAttr answers a request for the attributes of n.
func (n *node) showAttr(a *fs.Attr, out *fuse.AttrOut) {
	n.remember(a)
	out.SetTimeout(max(0, a.TTL))
	pack(a, &out.Attr)
}

// typeBits are the file types of the kernel.
var typeBits = map[remote.Type]uint32{
	remote.File: syscall.S_IFREG, remote.Dir: syscall.S_IFDIR, remote.Symlink: syscall.S_IFLNK,
}

// blockSize is the preferred size of a program's reads and writes; stat shows it.
const blockSize = 128 << 10

// pack writes attributes in the kernel's form.
func pack(a *fs.Attr, out *fuse.Attr) {
	*out = fuse.Attr{
		Ino: a.Ino, Size: uint64(max(0, a.Size)), Blocks: uint64(max(0, a.Size)+511) / 512, Blksize: blockSize,
		Mode: typeBits[a.Type] | a.Mode&0o7777, Nlink: a.Nlink, Owner: fuse.Owner{Uid: a.UID, Gid: a.GID},
	}
	out.Atime, out.Atimensec = kernelTime(a.ATime)
	out.Mtime, out.Mtimensec = kernelTime(a.MTime)
	out.Ctime, out.Ctimensec = kernelTime(a.CTime)
}

// kernelTime splits t; times before 1970 are negative seconds, as the kernel reads
// them.
func kernelTime(t time.Time) (sec uint64, nsec uint32) {
	return uint64(t.Unix()), uint32(t.Nanosecond())
}

// Init is called when the kernel's first message has come.
func (r *raw) Init(s *fuse.Server) { r.tell.start(s) }

// OnUnmount is called when the kernel sends no more requests. After an abort or a
// lazy unmount with a dead connection the kernel does not release what was open.
func (r *raw) OnUnmount() {
	for _, h := range r.files.drain() {
		h.close()
	}
	r.tell.stop()
}

// String names the file system in go-fuse's messages.
func (r *raw) String() string { return fsType }

// SetDebug is obsolete; Options.Debug serves.
func (r *raw) SetDebug(bool) {}

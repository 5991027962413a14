package mount

import (
	"context"
	"errors"
	"os"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/meshmount/meshmount/remote"
)

// Lookup finds a name in a directory. That there is none is an answer which the
// kernel may keep for a while.
func (r *raw) Lookup(cancel <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	var absent bool
	st := r.look(cancel, in, "lookup", name, func(ctx context.Context, parent *node, path string) error {
		a, err := r.fs.Stat(ctx, path)
		if err == nil {
			r.show(parent, name, &a, out)
		} else if ttl := r.fs.NegativeTTL(path); ttl > 0 && errors.Is(err, remote.NotExist) {
			out.SetEntryTimeout(ttl)
			absent = true
		}
		return err
	})
	if absent && st == fuse.ENOENT {
		return fuse.OK // with node 0: there is no such name, and that may be remembered
	}
	return st
}

// Forget takes back what was told by answers that carry an entry.
func (r *raw) Forget(id, count uint64) { r.tree.forget(id, count) }

// Mkdir makes a directory.
func (r *raw) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	return r.change(&in.InHeader, "mkdir", name, func(parent *node, path string) error {
		a, err := r.fs.Mkdir(r.ctx, path, in.Mode&0o7777)
		if err == nil {
			r.born(parent, name, &a, out)
		}
		return err
	})
}

// Symlink makes a symbolic link. Where links cannot be stored the answer is EPERM,
// as symlink(2) says.
func (r *raw) Symlink(_ <-chan struct{}, in *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	return r.change(in, "symlink", name, func(parent *node, path string) error {
		a, err := r.fs.Symlink(r.ctx, path, target)
		if errors.Is(err, remote.Unsupported) {
			return syscall.EPERM
		}
		if err == nil {
			r.born(parent, name, &a, out)
		}
		return err
	})
}

// Readlink reads a symbolic link.
func (r *raw) Readlink(cancel <-chan struct{}, in *fuse.InHeader) (target []byte, st fuse.Status) {
	st = r.look(cancel, in, "readlink", "", func(ctx context.Context, _ *node, path string) error {
		text, err := r.fs.Readlink(ctx, path)
		target = []byte(text)
		return err
	})
	return target, st
}

// Mknod makes an ordinary file. Pipes, sockets and devices cannot be stored: EPERM,
// as mknod(2) says.
func (r *raw) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	return r.change(&in.InHeader, "mknod", name, func(parent *node, path string) error {
		if t := in.Mode & syscall.S_IFMT; t != 0 && t != syscall.S_IFREG {
			return syscall.EPERM
		}
		h, a, err := r.fs.Create(r.ctx, path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, in.Mode&0o7777)
		if err != nil {
			return err
		}
		defer h.Release()
		if err := h.Flush(r.ctx); err != nil {
			return err
		}
		r.born(parent, name, &a, out)
		return nil
	})
}

// Link refuses: no store of ours has hard links. EPERM is what link(2) says of such
// file systems, and what makes programs copy or rename instead.
func (r *raw) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, _ *fuse.EntryOut) fuse.Status {
	return r.status("link", name, syscall.EPERM, false)
}

// Unlink removes a file or symbolic link.
func (r *raw) Unlink(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return r.takeAway(in, "unlink", name, r.fs.Unlink)
}

// Rmdir removes an empty directory.
func (r *raw) Rmdir(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return r.takeAway(in, "rmdir", name, r.fs.Rmdir)
}

// takeAway removes a name when nobody uses it any more.
func (r *raw) takeAway(in *fuse.InHeader, op, name string, do func(context.Context, string) error) fuse.Status {
	parent := r.tree.node(in.NodeId)
	if parent == nil {
		return r.status(op, name, errStale, false)
	}
	h, err := r.tree.holdAlone(claim{parent, name})
	if err != nil {
		return r.status(op, name, err, false)
	}
	defer h.release()
	if err = do(r.ctx, h.paths[0]); err == nil {
		parent.changes.Add(1)
		r.tree.remove(parent, name)
	}
	return r.status(op, h.paths[0], err, false)
}

// Rename moves a name when nobody uses the old or the new one any more.
func (r *raw) Rename(_ <-chan struct{}, in *fuse.RenameIn, name, newName string) fuse.Status {
	from, to := r.tree.node(in.NodeId), r.tree.node(in.Newdir)
	if from == nil || to == nil {
		return r.status("rename", name, errStale, false)
	}
	h, err := r.tree.holdAlone(claim{from, name}, claim{to, newName})
	if err != nil {
		return r.status("rename", name, err, false)
	}
	defer h.release()
	if err = r.fs.Rename(r.ctx, h.paths[0], h.paths[1], in.Flags); err == nil {
		from.changes.Add(1)
		to.changes.Add(1)
		r.tree.rename(place{from, name}, place{to, newName})
	}
	return r.status("rename", h.paths[0], err, false)
}

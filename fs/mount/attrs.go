package mount

import (
	"context"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/fs"
	"github.com/meshmount/meshmount/remote"
)

// GetAttr returns attributes: of an open file from memory, whatever has become of
// its name.
func (r *raw) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	n := r.tree.node(in.NodeId)
	if n != nil {
		if a, ok := r.fromMemory(n); ok {
			n.showAttr(&a, out)
			return fuse.OK
		}
	}
	return r.look(cancel, &in.InHeader, "getattr", "", func(ctx context.Context, n *node, path string) error {
		a, err := r.fs.Stat(ctx, path)
		if err == nil && !n.same(&a) {
			err = errStale
		}
		if err == nil {
			n.showAttr(&a, out)
		}
		return err
	})
}

// fromMemory returns the attributes of what is open, or of a directory that has lost
// its name.
func (r *raw) fromMemory(n *node) (a fs.Attr, ok bool) {
	if a, ok = r.fs.StatOpen(n.key.ino); ok {
		return a, n.same(&a)
	}
	if shown := n.shown.Load(); shown != nil {
		if _, named := r.tree.where(n); !named {
			a, ok = *shown, true
			a.Nlink, a.TTL = 0, 0
		}
	}
	return a, ok
}

// SetAttr changes attributes; of an open file also when it has lost its name.
func (r *raw) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	n := r.tree.node(in.NodeId)
	if n == nil {
		return r.status("setattr", "", errStale, false)
	}
	path := ""
	h, err := r.tree.hold(claim{n, ""})
	if err == nil {
		defer h.release()
		path = h.paths[0]
	}
	var handle *fs.Handle
	if fh, ok := in.GetFh(); ok {
		if f := r.files.file(fh); f != nil {
			handle = f.Handle
		}
	}
	var a fs.Attr
	set, err := r.wanted(in, n, path)
	if err == nil {
		a, err = r.fs.Setattr(r.ctx, path, handle, n.key.ino, set)
	}
	if err == nil && !n.same(&a) {
		err = errStale
	}
	if err == nil {
		r.tree.touch(n)
		n.showAttr(&a, out)
	}
	return r.status("setattr", path, err, false)
}

// wanted unpacks the attributes to set. A change of owner takes the set-uid and
// set-gid bits, and so does a truncation by others, of which the kernel tells.
func (r *raw) wanted(in *fuse.SetAttrIn, n *node, path string) (fs.SetAttr, error) {
	set := unpack(in)
	now, ok := r.fromMemory(n)
	if !ok && path == "" {
		return set, errStale
	}
	kills := in.Valid&(fuse.FATTR_KILL_SUIDGID|fuse.FATTR_UID|fuse.FATTR_GID) != 0
	if !kills || set.Mode != nil || n.key.typ != remote.File {
		return set, nil
	}
	if !ok {
		var err error
		if now, err = r.fs.Stat(r.ctx, path); err != nil {
			return set, err
		}
	}
	if less := withoutSetID(now.Mode); less != now.Mode {
		set.Mode = &less
	}
	return set, nil
}

func unpack(in *fuse.SetAttrIn) (set fs.SetAttr) {
	if mode, ok := in.GetMode(); ok {
		set.Mode = &mode
	}
	if uid, ok := in.GetUID(); ok {
		set.UID = &uid
	}
	if gid, ok := in.GetGID(); ok {
		set.GID = &gid
	}
	if size, ok := in.GetSize(); ok {
		signed := int64(size)
		set.Size = &signed
	}
	if t, ok := in.GetMTime(); ok {
		set.MTime = &t
	}
	if t, ok := in.GetATime(); ok {
		set.ATime = &t
	}
	return set
}

// StatFs tells the space of the branch at a node, from memory: it must answer when
// no server does.
func (r *raw) StatFs(_ <-chan struct{}, in *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	path := "/"
	if n := r.tree.node(in.NodeId); n != nil {
		if p, named := r.tree.where(n); named {
			path = p
		}
	}
	s := r.fs.Statfs(path)
	const unit = 4096
	*out = fuse.StatfsOut{
		Bsize: unit, Frsize: unit, NameLen: s.NameMax, Files: s.Files, Ffree: s.FreeFiles,
		Blocks: s.Total / unit, Bfree: s.Free / unit, Bavail: s.Avail / unit,
	}
	return fuse.OK
}

// Access is the kernel's business: it checks the permission bits, unless it was told
// not to, and then nobody does but the server.
func (r *raw) Access(<-chan struct{}, *fuse.AccessIn) fuse.Status { return fuse.ENOSYS }

// still returns errStale if path has passed to another object than n. The attributes
// of a file go with its name: one that is open without it has none to read or set.
func (r *raw) still(n *node, path string) error {
	if !r.fs.Is(path, n.key.ino) {
		return errStale
	}
	return nil
}

// foreign tells whether an attribute is of a kind that nobody stores: security labels,
// capabilities and access lists. That they are not supported is what programs
// remember of a file system; that one file has none they ask of each file. For ls -l
// (coreutils 9.1) of 10,000 files that makes 20,000 requests or none.
func foreign(attr string) bool {
	return strings.HasPrefix(attr, "security.") || strings.HasPrefix(attr, "system.")
}

// GetXAttr reads an extended attribute.
func (r *raw) GetXAttr(cancel <-chan struct{}, in *fuse.InHeader, attr string, dest []byte) (size uint32, st fuse.Status) {
	if foreign(attr) {
		return 0, fuse.Status(syscall.ENOTSUP)
	}
	st = r.look(cancel, in, "getxattr", "", func(ctx context.Context, n *node, path string) error {
		if err := r.still(n, path); err != nil {
			return err
		}
		value, err := r.fs.GetXattr(ctx, path, attr)
		if err == nil {
			size, err = deliver(value, dest)
		}
		return err
	})
	return size, st
}

// ListXAttr lists the names of the extended attributes.
func (r *raw) ListXAttr(cancel <-chan struct{}, in *fuse.InHeader, dest []byte) (size uint32, st fuse.Status) {
	st = r.look(cancel, in, "listxattr", "", func(ctx context.Context, n *node, path string) error {
		if err := r.still(n, path); err != nil {
			return err
		}
		names, err := r.fs.ListXattr(ctx, path)
		if err != nil || len(names) == 0 {
			return err
		}
		size, err = deliver([]byte(strings.Join(names, "\x00")+"\x00"), dest)
		return err
	})
	return size, st
}

// deliver copies an attribute into the caller's buffer. An empty buffer asks for the
// size only.
func deliver(value, dest []byte) (uint32, error) {
	if len(dest) < len(value) && len(dest) > 0 {
		return uint32(len(value)), syscall.ERANGE
	}
	copy(dest, value)
	return uint32(len(value)), nil
}

// SetXAttr sets an extended attribute.
func (r *raw) SetXAttr(_ <-chan struct{}, in *fuse.SetXAttrIn, attr string, data []byte) fuse.Status {
	return r.change(&in.InHeader, "setxattr", "", func(n *node, path string) error {
		mode, err := xattrMode(in.Flags)
		if err == nil {
			err = r.still(n, path)
		}
		if err != nil {
			return err
		}
		return r.fs.SetXattr(r.ctx, path, attr, data, mode)
	})
}

// xattrMode unpacks the flags of setxattr(2).
func xattrMode(flags uint32) (remote.XattrMode, error) {
	switch flags {
	case 0:
		return remote.XattrAny, nil
	case unix.XATTR_CREATE:
		return remote.XattrCreate, nil
	case unix.XATTR_REPLACE:
		return remote.XattrReplace, nil
	}
	return 0, syscall.EINVAL
}

// RemoveXAttr removes an extended attribute.
func (r *raw) RemoveXAttr(_ <-chan struct{}, in *fuse.InHeader, attr string) fuse.Status {
	return r.change(in, "removexattr", "", func(n *node, path string) error {
		if err := r.still(n, path); err != nil {
			return err
		}
		return r.fs.RemoveXattr(r.ctx, path, attr)
	})
}

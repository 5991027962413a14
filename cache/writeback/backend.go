package writeback

import (
	"cmp"
	"context"
	"errors"
	"io"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/remote"
)

// Put implements remote.Backend: the content is taken into staging and journal.
func (b *Branch) Put(ctx context.Context, path string, src remote.Source, opts remote.PutOptions) (remote.Entry, error) {
	var st *Stage
	at := b.beginning()
	defer b.ended(at)
	for {
		e, err := b.look(ctx, path, opts.Cond)
		if err != nil {
			return remote.Entry{}, err
		}
		if st == nil {
			if st, err = b.copyIn(path, src); err != nil {
				return remote.Entry{}, err
			}
			defer st.Release()
		}
		if err := remote.ContextErr(ctx); err != nil {
			return remote.Entry{}, err
		}
		cond := remote.Cond{NotExist: e.Type == 0, Version: e.Version, Provisional: e.Provisional}
		e, err = b.Commit(ctx, path, st, Commit{Cond: cond, Base: e, Attrs: opts.Attrs, seen: &e, at: at})
		if !errors.Is(err, errSeen) {
			return e, err
		}
	}
}

// look returns what is at path, zero for nothing, if a file may be put there.
func (b *Branch) look(ctx context.Context, path string, cond remote.Cond) (remote.Entry, error) {
	e, err := b.Stat(ctx, path)
	there := err == nil
	kind := remote.Other
	switch {
	case err != nil && remote.KindOf(err) != remote.NotExist:
		return remote.Entry{}, err
	case there && e.Type == remote.Dir:
		kind = remote.IsDir
	case there && cond.NotExist:
		kind = remote.Exist
	case cond.Version != "" && (!there || !b.isVersion(e, cond.Version)):
		kind = remote.Conflict
	case !there:
		return remote.Entry{}, b.parent(ctx, "put", path)
	default:
		return e, nil
	}
	return remote.Entry{}, &remote.Error{Op: "put", Path: path, Kind: kind}
}

// errSeen is the error of a commit whose caller has seen something else at the path.
var errSeen = errors.New("writeback: it was changed meanwhile")

// stillSeen tells whether what is at path is what was seen as e, after at, and its parent
// still a directory, as far as changes made here could have changed that. Guarded by
// store.mu.
func (b *Branch) stillSeen(path string, e remote.Entry, at uint64) bool {
	dir, _ := remote.Split(path)
	if up := b.sees(dir); up.known && up.entry.Type != remote.Dir {
		return false
	} else if now, late := b.since(dir, at); !up.known && late && now.Type != remote.Dir {
		return false
	}
	if s := b.sees(path); s.known {
		return s.entry.Type == e.Type && s.entry.Version == e.Version
	}
	now, late := b.since(path, at)
	return !IsLocal(e.Version) && (!late || now.Type == e.Type && now.Version == e.Version)
}

// parent tells whether the parent of path is a directory.
func (b *Branch) parent(ctx context.Context, op, path string) error {
	dir, _ := remote.Split(path)
	e, err := b.Stat(ctx, dir)
	if err == nil && e.Type != remote.Dir {
		return &remote.Error{Op: op, Path: path, Kind: remote.NotDir}
	}
	return err
}

// copyIn makes a stage of src.
func (b *Branch) copyIn(path string, src remote.Source) (*Stage, error) {
	st, err := b.NewStage(0, remote.Entry{})
	if err != nil {
		return nil, remote.E("put", path, kindOfDisk(err), err)
	}
	if err := st.takeIn(src); err != nil {
		st.Release()
		return nil, remote.E("put", path, kindOfDisk(err), err)
	}
	return st, nil
}

// takeIn writes the content of src.
func (st *Stage) takeIn(src remote.Source) error {
	r, err := src.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	n, err := io.Copy(io.NewOffsetWriter(st, 0), r)
	if err == nil && n != src.Size() {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// kindOfDisk returns the kind of an error of the local disk.
func kindOfDisk(err error) remote.Kind {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return remote.NoSpace
	case errors.Is(err, unix.EFBIG):
		return remote.TooLarge
	}
	return remote.Other
}

// vacant returns Exist if there is something at path, and what is wrong with its parent.
func (b *Branch) vacant(ctx context.Context, op, path string) error {
	_, err := b.Stat(ctx, path)
	switch {
	case err == nil:
		return &remote.Error{Op: op, Path: path, Kind: remote.Exist}
	case remote.KindOf(err) != remote.NotExist:
		return err
	}
	return b.parent(ctx, op, path)
}

// Mkdir implements remote.Backend.
func (b *Branch) Mkdir(ctx context.Context, path string) (remote.Entry, error) {
	at := b.beginning()
	defer b.ended(at)
	if err := cmp.Or(remote.ContextErr(ctx), b.vacant(ctx, "mkdir", path)); err != nil {
		return remote.Entry{}, err
	}
	return b.make(&change{kind: opMkdir, path: path}, at)
}

// Symlink implements remote.Symlinker.
func (b *Branch) Symlink(ctx context.Context, path, target string) (remote.Entry, error) {
	at := b.beginning()
	defer b.ended(at)
	if err := b.vacant(ctx, "symlink", path); err != nil {
		return remote.Entry{}, err
	}
	return b.makeLink(path, target, at)
}

// Remove implements remote.Backend.
func (b *Branch) Remove(ctx context.Context, path string, opts remote.RemoveOptions) error {
	e, err := b.Stat(ctx, path)
	dir := opts.Type == remote.Dir
	switch {
	case err != nil:
		return err
	case path == "/":
		return &remote.Error{Op: "remove", Path: path, Kind: remote.Invalid}
	case dir && e.Type != remote.Dir:
		return &remote.Error{Op: "remove", Path: path, Kind: remote.NotDir}
	case !dir && e.Type == remote.Dir:
		return &remote.Error{Op: "remove", Path: path, Kind: remote.IsDir}
	case opts.Version != "" && !b.isVersion(e, opts.Version):
		return &remote.Error{Op: "remove", Path: path, Kind: remote.Conflict}
	case dir:
		return b.RemoveDir(ctx, path)
	}
	return b.Unlink(ctx, e)
}

// Rename implements remote.Backend.
func (b *Branch) Rename(ctx context.Context, from, to string, opts remote.RenameOptions) error {
	if err := remote.ContextErr(ctx); err != nil {
		return err
	}
	e, err := b.Stat(ctx, from)
	if err != nil {
		return err
	}
	t, err := b.Stat(ctx, to)
	target := &t
	switch {
	case remote.KindOf(err) == remote.NotExist && err != nil:
		target = nil
	case err != nil:
		return err
	}
	if err := renamable(e, to, target, opts.NoReplace); err != nil {
		return err
	}
	if err := b.parent(ctx, "rename", to); err != nil {
		return err
	}
	return b.Move(ctx, e, to, target, opts.NoReplace)
}

// renamable tells whether the types allow it, as rename(2) does.
func renamable(from remote.Entry, to string, target *remote.Entry, noReplace bool) error {
	kind := remote.Other
	switch {
	case from.Path == "/" || to == "/" || from.Type == remote.Dir && from.Path != to && remote.Within(to, from.Path):
		kind = remote.Invalid
	case target == nil:
		return nil
	case noReplace:
		kind = remote.Exist
	case from.Type == remote.Dir && target.Type != remote.Dir:
		kind = remote.NotDir
	case from.Type != remote.Dir && target.Type == remote.Dir:
		kind = remote.IsDir
	default:
		return nil
	}
	return &remote.Error{Op: "rename", Path: from.Path, Kind: kind}
}

// SetAttr implements remote.AttrSetter.
func (b *Branch) SetAttr(ctx context.Context, path string, a remote.Attrs) (remote.Entry, error) {
	e, err := b.Stat(ctx, path)
	if err != nil {
		return e, err
	}
	return b.SetAttrs(ctx, e, a)
}

// RemoveTree implements remote.TreeRemover, when the server has all that is pending
// there.
func (b *Branch) RemoveTree(ctx context.Context, path string) error {
	below, ok := remote.As[remote.TreeRemover](b.below)
	if !ok {
		return &remote.Error{Op: "removetree", Path: path, Kind: remote.Unsupported}
	}
	return b.alone(ctx, []string{path}, true, func() error { return below.RemoveTree(ctx, path) })
}

// Prunes implements remote.Pruner: who removes through a branch does so entry by entry, and
// the branch removes directories as a whole by itself.
func (b *Branch) Prunes() bool { return false }

// Prune implements remote.Pruner.
func (b *Branch) Prune(_ context.Context, path string, _ []remote.Known) error {
	return &remote.Error{Op: "prune", Path: path, Kind: remote.Unsupported}
}

// XattrPrefix implements remote.Xattrer.
func (b *Branch) XattrPrefix() string {
	if below, ok := remote.As[remote.Xattrer](b.below); ok {
		return below.XattrPrefix()
	}
	return ""
}

// xattrs calls do with what keeps the extended attributes, when the server has what is
// pending at path.
func (b *Branch) xattrs(ctx context.Context, op, path string, do func(remote.Xattrer) error) error {
	below, ok := remote.As[remote.Xattrer](b.below)
	if !ok {
		return &remote.Error{Op: op, Path: path, Kind: remote.Unsupported}
	}
	return b.alone(ctx, []string{path}, false, func() error { return do(below) })
}

// Xattrs implements remote.Xattrer. Of what the server does not have yet there are none.
func (b *Branch) Xattrs(ctx context.Context, path string) (m map[string][]byte, err error) {
	b.store.mu.Lock()
	s := b.sees(path)
	line := b.queue.lines[path]
	last := b.queue.last(path)
	fresh := last != nil && last.kind != opRename && last.base.Type == 0 && (last.after == nil || last.after.kind == opRemove)
	closed := b.store.closed
	b.store.mu.Unlock()
	switch {
	case closed:
		return nil, &remote.Error{Op: "xattrs", Path: path, Kind: remote.BadHandle}
	case s.known && s.entry.Type == 0:
		return nil, absent("xattrs", path)
	case s.known && fresh:
		return map[string][]byte{}, nil
	case len(line) == 0:
		below, ok := remote.As[remote.Xattrer](b.below)
		if !ok {
			return nil, &remote.Error{Op: "xattrs", Path: path, Kind: remote.Unsupported}
		}
		return below.Xattrs(ctx, path)
	}
	err = b.xattrs(ctx, "xattrs", path, func(x remote.Xattrer) error {
		m, err = x.Xattrs(ctx, path)
		return err
	})
	return m, err
}

// Replicas implements remote.Replicator, when the server has what is pending at path.
func (b *Branch) Replicas(ctx context.Context, path string) (list []remote.Replica, err error) {
	below, ok := remote.As[remote.Replicator](b.below)
	if !ok {
		return nil, &remote.Error{Op: "replicas", Path: path, Kind: remote.Unsupported}
	}
	err = b.alone(ctx, []string{path}, false, func() error {
		list, err = below.Replicas(ctx, path)
		return err
	})
	return list, err
}

// SetXattr implements remote.Xattrer.
func (b *Branch) SetXattr(ctx context.Context, path, name string, value []byte, mode remote.XattrMode) error {
	return b.xattrs(ctx, "setxattr", path, func(x remote.Xattrer) error {
		settle, err := b.oweFor(ctx, path, -1)
		if err != nil {
			return err
		}
		err = x.SetXattr(ctx, path, name, value, mode)
		settle(err)
		return err
	})
}

// RemoveXattr implements remote.Xattrer.
func (b *Branch) RemoveXattr(ctx context.Context, path, name string) error {
	return b.xattrs(ctx, "removexattr", path, func(x remote.Xattrer) error { return x.RemoveXattr(ctx, path, name) })
}

// PutGrowing implements remote.GrowingPutter: the content is taken in, and put when it is
// whole.
func (b *Branch) PutGrowing(ctx context.Context, path string, src remote.Growing, opts remote.PutOptions) (remote.Entry, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(b.store.life, cancel)()
	if _, err := b.look(ctx, path, opts.Cond); err != nil {
		return remote.Entry{}, err
	}
	st, err := b.NewStage(0, remote.Entry{})
	if err != nil {
		return remote.Entry{}, remote.E("put", path, kindOfDisk(err), err)
	}
	defer st.Release()
	for off, whole := int64(0), false; !whole; {
		var size int64
		if size, whole, err = src.Wait(ctx, off); err != nil {
			if b.store.life.Err() != nil {
				err = &remote.Error{Op: "put", Path: path, Kind: remote.BadHandle}
			}
			return remote.Entry{}, err
		}
		n, err := io.Copy(io.NewOffsetWriter(st, off), io.NewSectionReader(src, off, size-off))
		if err == nil && n < size-off {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return remote.Entry{}, remote.E("put", path, kindOfDisk(err), err)
		}
		off = size
	}
	opts.Attrs = src.Attrs()
	return b.Put(ctx, path, st.Source(), opts)
}

// Patch implements remote.Patcher: the ranges are staged over the version on the server.
func (b *Branch) Patch(ctx context.Context, path string, p remote.Patch, opts remote.PutOptions) (remote.Entry, error) {
	e, err := b.Stat(ctx, path)
	switch {
	case err != nil && remote.KindOf(err) == remote.NotExist:
		return remote.Entry{}, &remote.Error{Op: "patch", Path: path, Kind: remote.Conflict}
	case err != nil:
		return e, err
	case e.Type != remote.File:
		return remote.Entry{}, &remote.Error{Op: "patch", Path: path, Kind: remote.IsDir}
	case opts.Cond.Version == "":
		return remote.Entry{}, &remote.Error{Op: "patch", Path: path, Kind: remote.Invalid}
	case !b.isVersion(e, opts.Cond.Version):
		return remote.Entry{}, &remote.Error{Op: "patch", Path: path, Kind: remote.Conflict}
	}
	st, pending := b.Restage(e.Version)
	if !pending {
		if st, err = b.NewStage(e.Size, e); err != nil {
			return remote.Entry{}, remote.E("patch", path, kindOfDisk(err), err)
		}
	}
	defer st.Release()
	if err := remote.ContextErr(ctx); err != nil {
		return remote.Entry{}, err
	}
	if err := st.patch(p); err != nil {
		return remote.Entry{}, remote.E("patch", path, kindOfDisk(err), err)
	}
	return b.Commit(ctx, path, st, Commit{Cond: remote.Cond{Version: e.Version, Provisional: e.Provisional}, Base: e, Attrs: opts.Attrs})
}

// patch writes the ranges and sets the size.
func (st *Stage) patch(p remote.Patch) error {
	if err := st.Truncate(p.Size); err != nil {
		return err
	}
	for _, r := range p.Ranges {
		n, err := io.Copy(io.NewOffsetWriter(st, r.Offset), io.NewSectionReader(p.Bytes, r.Offset, r.Length))
		if err == nil && n < r.Length {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// isVersion tells whether e is of that version, which may be a local one from before the
// server had it.
func (b *Branch) isVersion(e remote.Entry, version string) bool {
	if e.Version == version {
		return true
	}
	now, ok := b.Became(version)
	return ok && now.Version == e.Version && now.Path == e.Path
}

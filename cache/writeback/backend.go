package writeback

import (
	"context"
	"errors"
	"io"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/remote"
)

// Put implements remote.Backend: the content is taken into staging and journal.
func (b *Branch) Put(ctx context.Context, path string, src remote.Source, opts remote.PutOptions) (remote.Entry, error) {
	e, err := b.Stat(ctx, path)
	there := err == nil
	switch {
	case err != nil && remote.KindOf(err) != remote.NotExist:
		return remote.Entry{}, err
	case there && e.Type == remote.Dir:
		return remote.Entry{}, &remote.Error{Op: "put", Path: path, Kind: remote.IsDir}
	case there && opts.Cond.NotExist:
		return remote.Entry{}, &remote.Error{Op: "put", Path: path, Kind: remote.Exist}
	case opts.Cond.Version != "" && (!there || e.Version != opts.Cond.Version):
		return remote.Entry{}, &remote.Error{Op: "put", Path: path, Kind: remote.Conflict}
	}
	if err := b.parent(ctx, "put", path); err != nil {
		return remote.Entry{}, err
	}
	st, err := b.copyIn(path, src)
	if err != nil {
		return remote.Entry{}, err
	}
	defer st.Release()
	cond := opts.Cond
	if cond == (remote.Cond{}) {
		cond = remote.Cond{NotExist: !there, Version: e.Version, Provisional: e.Provisional}
	}
	if !there {
		e = remote.Entry{}
	}
	return b.Commit(ctx, path, st, Commit{Cond: cond, Base: e, Attrs: opts.Attrs})
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
	if err := b.vacant(ctx, "mkdir", path); err != nil {
		return remote.Entry{}, err
	}
	return b.MakeDir(ctx, path, remote.Attrs{})
}

// Symlink implements remote.Symlinker.
func (b *Branch) Symlink(ctx context.Context, path, target string) (remote.Entry, error) {
	if err := b.vacant(ctx, "symlink", path); err != nil {
		return remote.Entry{}, err
	}
	return b.MakeLink(ctx, path, target)
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
	case opts.Version != "" && e.Version != opts.Version:
		return &remote.Error{Op: "remove", Path: path, Kind: remote.Conflict}
	case dir:
		return b.RemoveDir(ctx, path)
	}
	return b.Unlink(ctx, e)
}

// Rename implements remote.Backend.
func (b *Branch) Rename(ctx context.Context, from, to string, opts remote.RenameOptions) error {
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
	if err := renamable(e, to, target); err != nil {
		return err
	}
	if err := b.parent(ctx, "rename", to); err != nil {
		return err
	}
	return b.Move(ctx, e, to, target, opts.NoReplace)
}

// renamable tells whether the types allow it, as rename(2) does.
func renamable(from remote.Entry, to string, target *remote.Entry) error {
	kind := remote.Other
	switch {
	case from.Path == "/" || to == "/" || from.Path != to && remote.Within(to, from.Path):
		kind = remote.Invalid
	case target == nil:
		return nil
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
	fresh := s.known && s.entry.Type != 0 && b.queue.lines[path][0].fresh()
	b.store.mu.Unlock()
	switch {
	case s.known && s.entry.Type == 0:
		return nil, absent("xattrs", path)
	case fresh:
		return map[string][]byte{}, nil
	}
	below, ok := remote.As[remote.Xattrer](b.below)
	if !ok {
		return nil, &remote.Error{Op: "xattrs", Path: path, Kind: remote.Unsupported}
	}
	return below.Xattrs(ctx, path)
}

// SetXattr implements remote.Xattrer.
func (b *Branch) SetXattr(ctx context.Context, path, name string, value []byte, mode remote.XattrMode) error {
	return b.xattrs(ctx, "setxattr", path, func(x remote.Xattrer) error { return x.SetXattr(ctx, path, name, value, mode) })
}

// RemoveXattr implements remote.Xattrer.
func (b *Branch) RemoveXattr(ctx context.Context, path, name string) error {
	return b.xattrs(ctx, "removexattr", path, func(x remote.Xattrer) error { return x.RemoveXattr(ctx, path, name) })
}

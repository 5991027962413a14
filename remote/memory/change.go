package memory

import (
	"context"

	"github.com/meshmount/meshmount/remote"
)

// Put implements remote.Backend. A symbolic link at path is replaced by the file.
func (b *Backend) Put(ctx context.Context, path string, src remote.Source, opts remote.PutOptions) (remote.Entry, error) {
	if err := b.beginChange(ctx, "put", path); err != nil {
		return remote.Entry{}, err
	}
	// Looked at first, so that a lost cause reads nothing of the source.
	if err := b.canPut(ctx, "put", path, src.Size(), opts); err != nil {
		return remote.Entry{}, err
	}
	u := &upload{b: b, op: "put", path: path, opts: opts, shown: b.opts.InPlacePut}
	u.resume(src.Size())
	if err := u.slurp(ctx, src); err != nil {
		u.keep()
		return remote.Entry{}, err
	}
	return u.finish(ctx, opts.Attrs)
}

// canPut tells what forbids to put so much at path.
func (b *Backend) canPut(ctx context.Context, op, path string, size int64, opts remote.PutOptions) error {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if err := b.alive(ctx, op, path); err != nil {
		return err
	}
	_, err := b.placePut(op, path, size, opts)
	return err
}

// placePut returns where the file goes if everything allows it.
func (b *Backend) placePut(op, path string, size int64, opts remote.PutOptions) (place, error) {
	at, err := b.placeNew(op, path, opts)
	if err != nil {
		return at, err
	}
	var old int64
	if at.node != nil {
		old = int64(len(at.node.data))
	}
	switch {
	case b.opts.MaxFile > 0 && size > b.opts.MaxFile:
		return at, fail(op, path, remote.TooLarge)
	case b.opts.Quota > 0 && b.used-old+size > b.opts.Quota && size > old:
		return at, fail(op, path, remote.NoSpace)
	}
	return at, nil
}

// placeNew finds where a file can be put and checks the condition.
func (b *Backend) placeNew(op, path string, opts remote.PutOptions) (place, error) {
	if path == "/" {
		return place{}, fail(op, path, remote.IsDir)
	}
	at, err := b.place(op, path)
	if err != nil {
		return at, err
	}
	if !b.opts.Unguarded && !at.redo(opts) {
		if err := b.checkCond(op, at, opts.Cond); err != nil {
			return at, err
		}
	}
	if at.node != nil && at.node.kind == remote.Dir {
		return at, fail(op, path, remote.IsDir)
	}
	return at, nil
}

func (b *Backend) checkCond(op string, at place, cond remote.Cond) error {
	switch {
	case cond.NotExist && at.node != nil:
		return fail(op, at.path, remote.Exist)
	case cond.Version != "" && (at.node == nil || at.node.kind == remote.Symlink):
		return fail(op, at.path, remote.Conflict)
	case cond.Version != "" && at.node.kind == remote.File:
		return b.checkVersion(op, at.path, at.node, cond.Version, remote.Conflict)
	}
	return nil
}

// fileAt returns the file at the place, made if there is none. An existing file
// keeps its identity and its mode.
func (b *Backend) fileAt(at place) *node {
	if at.node != nil && at.node.kind == remote.File {
		b.touch(at.dir, false)
		return at.node
	}
	n := b.newNode(remote.File)
	b.put(at, n)
	return n
}

// Symlink implements remote.Symlinker. An empty target is Invalid.
func (b *Backend) Symlink(ctx context.Context, path, target string) (remote.Entry, error) {
	if err := b.beginChange(ctx, "symlink", path); err != nil {
		return remote.Entry{}, err
	}
	switch {
	case b.opts.NoSymlinks:
		return remote.Entry{}, fail("symlink", path, remote.Unsupported)
	case target == "":
		return remote.Entry{}, fail("symlink", path, remote.Invalid)
	}
	return b.create(ctx, "symlink", path, remote.Symlink, target)
}

// Mkdir implements remote.Backend.
func (b *Backend) Mkdir(ctx context.Context, path string) (remote.Entry, error) {
	if err := b.beginChange(ctx, "mkdir", path); err != nil {
		return remote.Entry{}, err
	}
	return b.create(ctx, "mkdir", path, remote.Dir, "")
}

// create hangs a new object at path, where nothing may be.
func (b *Backend) create(ctx context.Context, op, path string, kind remote.Type, target string) (remote.Entry, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.alive(ctx, op, path); err != nil {
		return remote.Entry{}, err
	}
	if path == "/" {
		return remote.Entry{}, fail(op, path, remote.Exist)
	}
	at, err := b.place(op, path)
	switch {
	case err != nil:
		return remote.Entry{}, err
	case at.node != nil:
		return remote.Entry{}, fail(op, path, remote.Exist)
	}
	n := b.newNode(kind)
	n.target = target
	b.put(at, n)
	return b.entry(path, n), nil
}

// Remove implements remote.Backend. The root cannot be removed (Invalid). Links
// and files may be removed under each other's type.
func (b *Backend) Remove(ctx context.Context, path string, opts remote.RemoveOptions) error {
	if err := b.beginChange(ctx, "remove", path); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.alive(ctx, "remove", path); err != nil {
		return err
	}
	if path == "/" || opts.Type < remote.File || opts.Type > remote.Symlink {
		return fail("remove", path, remote.Invalid)
	}
	at, err := b.place("remove", path)
	if err != nil {
		return err
	}
	if kind := removeKind(at.node, opts.Type); kind != remote.Other {
		return fail("remove", path, kind)
	}
	if !b.opts.Unguarded {
		if err := b.checkVersion("remove", path, at.node, opts.Version, remote.Conflict); err != nil {
			return err
		}
	}
	b.drop(at)
	return nil
}

// removeKind tells what forbids to remove n as something of type want; Other if
// nothing does.
func removeKind(n *node, want remote.Type) remote.Kind {
	switch {
	case n == nil:
		return remote.NotExist
	case want == remote.Dir && n.kind != remote.Dir:
		return remote.NotDir
	case want != remote.Dir && n.kind == remote.Dir:
		return remote.IsDir
	case len(n.children) > 0:
		return remote.NotEmpty
	}
	return remote.Other
}

// RemoveTree implements remote.TreeRemover. The tree goes as a whole.
func (b *Backend) RemoveTree(ctx context.Context, path string) error {
	if err := b.beginChange(ctx, "removetree", path); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.alive(ctx, "removetree", path); err != nil {
		return err
	}
	if path == "/" {
		return fail("removetree", path, remote.Invalid)
	}
	at, err := b.place("removetree", path)
	switch {
	case err != nil:
		return err
	case at.node == nil:
		return fail("removetree", path, remote.NotExist)
	case at.node.kind != remote.Dir:
		return fail("removetree", path, remote.NotDir)
	}
	remote.Progress(ctx)
	b.drop(at)
	return nil
}

// SetAttr implements remote.AttrSetter.
func (b *Backend) SetAttr(ctx context.Context, path string, a remote.Attrs) (remote.Entry, error) {
	if err := b.beginChange(ctx, "setattr", path); err != nil {
		return remote.Entry{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.alive(ctx, "setattr", path); err != nil {
		return remote.Entry{}, err
	}
	n, err := b.find("setattr", path)
	if err != nil {
		return remote.Entry{}, err
	}
	if b.opts.AttrVersions && n.kind == remote.File {
		mtime := n.mtime
		b.renew(n)
		n.mtime = mtime
	}
	b.setAttrs(n, a)
	b.touch(n.parent, false)
	return b.entry(path, n), nil
}

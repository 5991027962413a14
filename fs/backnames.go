package fs

import (
	"context"
	"errors"

	"github.com/meshmount/meshmount/remote"
)

// The changes of names where there is a journal: what the server would refuse is found
// out here, as far as it is known, because nobody can be told later.

// makeBack makes what is not there yet, by calling do. Called with the path locked.
func (f *FS) makeBack(ctx context.Context, op, path string, want remote.Access, do func(b *branch, rel string) (remote.Entry, error)) (remote.Entry, error) {
	b, rel := f.ns.resolve(path)
	err := f.vacant(ctx, b, rel, path)
	if errors.Is(err, errThere) {
		return remote.Entry{}, fail(op, path, remote.Exist, nil)
	}
	if err == nil {
		err = f.checkParent(ctx, path, want)
	}
	if err != nil {
		return remote.Entry{}, err
	}
	b.meta.changing(rel)
	e, err := do(b, rel)
	b.meta.changing(rel)
	if err != nil {
		return e, local(op, path, err)
	}
	b.show(e)
	b.touchParent(rel)
	return e, nil
}

// mkdirBack makes a directory.
func (f *FS) mkdirBack(ctx context.Context, path string, mode uint32) (remote.Entry, error) {
	var a remote.Attrs
	if mode &= 0o7777; mode != f.usual.Dir {
		a.Mode = &mode
	}
	return f.makeBack(ctx, "mkdir", path, remote.AccessMkdir, func(b *branch, rel string) (remote.Entry, error) {
		e, err := b.Back.MakeDir(ctx, rel, a)
		if err == nil {
			b.meta.setEmpty(rel)
		}
		return e, err
	})
}

// symlinkBack makes a symbolic link.
func (f *FS) symlinkBack(ctx context.Context, path, target string) (remote.Entry, error) {
	return f.makeBack(ctx, "symlink", path, remote.AccessCreate, func(b *branch, rel string) (remote.Entry, error) {
		return b.Back.MakeLink(ctx, rel, target)
	})
}

// unlink removes the file or symbolic link that was just seen as e.
func (b *branch) unlink(ctx context.Context, e remote.Entry) error {
	switch {
	case b.Back == nil:
		return b.Backend.Remove(ctx, e.Path, remote.RemoveOptions{Type: e.Type})
	case !e.Access.Can(remote.AccessDelete):
		return fail("unlink", b.abs(e.Path), remote.Permission, errNotAllowed)
	}
	return local("unlink", b.abs(e.Path), b.Back.Unlink(ctx, b.present(e)))
}

var errNotAllowed = errors.New("the server does not allow it")

// mayRmdir tells why a directory cannot be removed, as far as that is known before it is
// tried. It comes before metaCache.changing, which forgets what is known of the directory.
func (b *branch) mayRmdir(ctx context.Context, rel string) error {
	if b.Back == nil {
		return nil
	}
	e, _, err := b.meta.stat(ctx, rel, false)
	switch {
	case err != nil:
		return err
	case e.Type != remote.Dir:
		return fail("rmdir", b.abs(rel), remote.NotDir, nil)
	case !e.Access.Can(remote.AccessDelete):
		return fail("rmdir", b.abs(rel), remote.Permission, errNotAllowed)
	}
	return nil
}

// rmdir removes an empty directory.
func (b *branch) rmdir(ctx context.Context, rel string) error {
	if b.Back == nil {
		return b.Backend.Remove(ctx, rel, remote.RemoveOptions{Type: remote.Dir})
	}
	if names, _, ok := b.meta.listed(rel); ok && len(names) == 0 {
		return local("rmdir", b.abs(rel), b.Back.RemoveDirSeen(ctx, rel))
	}
	return local("rmdir", b.abs(rel), b.Back.RemoveDir(ctx, rel))
}

// rename moves e, which is at from.
func (f *FS) rename(ctx context.Context, b *branch, e remote.Entry, m renameOf, noReplace bool) error {
	if b.Back == nil {
		return b.Backend.Rename(ctx, b.rel(m.from), b.rel(m.to), remote.RenameOptions{NoReplace: noReplace})
	}
	var target *remote.Entry
	switch t, _, err := b.meta.stat(ctx, b.rel(m.to), false); {
	case err == nil:
		t = b.present(t)
		target = &t
	case remote.KindOf(err) != remote.NotExist:
		return err
	}
	if err := f.mayMove(ctx, e, m, target, noReplace); err != nil {
		return err
	}
	err := b.Back.Move(ctx, b.present(e), b.rel(m.to), target, noReplace)
	b.Back.Told() // of what has settled under the old name
	return local("rename", m.from, err)
}

// mayMove tells whether e can take the place of target, nil for nothing, as rename(2)
// wants it.
func (f *FS) mayMove(ctx context.Context, e remote.Entry, m renameOf, target *remote.Entry, noReplace bool) error {
	switch {
	case !e.Access.Can(remote.AccessRename):
		return fail("rename", m.from, remote.Permission, errNotAllowed)
	case target == nil:
	case noReplace:
		return fail("rename", m.to, remote.Exist, nil)
	case e.Type == remote.Dir && target.Type != remote.Dir:
		return fail("rename", m.to, remote.NotDir, nil)
	case e.Type != remote.Dir && target.Type == remote.Dir:
		return fail("rename", m.to, remote.IsDir, nil)
	}
	want := remote.AccessCreate
	from, _ := remote.Split(m.from)
	switch to, _ := remote.Split(m.to); {
	case from == to:
		want = 0
	case e.Type == remote.Dir:
		want = remote.AccessMkdir
	}
	return f.checkParent(ctx, m.to, want)
}

// setAttr sets attributes of what was just seen as e, as far as they can be kept.
func (b *branch) setAttr(ctx context.Context, e remote.Entry, a remote.Attrs) (remote.Entry, error) {
	if b.Back != nil {
		if unchangeable(e.Access) {
			return e, fail("setattr", b.abs(e.Path), remote.Permission, errNotAllowed)
		}
		now, err := b.Back.SetAttrs(ctx, e, a)
		b.Back.Told() // of attributes that were not kept before: these come after them
		return now, local("setattr", b.abs(e.Path), err)
	}
	if s, ok := remote.As[remote.AttrSetter](b.Backend); ok {
		a.Usual = b.meta.usual
		return s.SetAttr(ctx, e.Path, a)
	}
	return e, nil
}

// unchangeable tells whether the server is known to let this user change nothing of an
// entry.
func unchangeable(a remote.Access) bool {
	return a&remote.AccessKnown != 0 && a&^(remote.AccessKnown|remote.AccessRead) == 0
}

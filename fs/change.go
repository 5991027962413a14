package fs

import (
	"context"
	"errors"
	"slices"

	"github.com/meshmount/meshmount/remote"
)

// Mkdir makes a directory.
func (f *FS) Mkdir(ctx context.Context, path string, mode uint32) (Attr, error) {
	b, rel, err := f.writable("mkdir", path)
	if err != nil {
		return Attr{}, err
	}
	ctx = context.WithoutCancel(ctx)
	defer f.paths.lock(one(path))()
	if b.Back != nil {
		e, err := f.mkdirBack(ctx, path, mode)
		if err != nil {
			return Attr{}, err
		}
		return f.attr(b, e, b.AttrTTL), nil
	}
	seen := f.sight(path)
	if seen.x != nil && seen.x.local() || f.ns.fixed(path) {
		return Attr{}, fail("mkdir", path, remote.Exist, nil)
	}
	b.meta.changing(rel)
	e, err := b.Backend.Mkdir(ctx, rel)
	b.meta.changing(rel)
	if err != nil {
		b.meta.forget(rel, 0)
		return Attr{}, err
	}
	f.answered(path, seen, nil, 0) // what was open here had been removed elsewhere
	b.meta.set(e)
	b.meta.setEmpty(rel)
	b.touchParent(rel)
	if mode &= 0o7777; mode != f.mode(b, e) {
		if changed, err := f.setAttrs(ctx, b, e, remote.Attrs{Mode: &mode}); err == nil {
			e = changed
		} else {
			f.log.Warn("mode of a new directory was not stored", "path", path, "error", err)
		}
	}
	return f.attr(b, e, b.AttrTTL), nil
}

// Symlink makes a symbolic link. Unsupported where the branch cannot keep one.
func (f *FS) Symlink(ctx context.Context, path, target string) (Attr, error) {
	b, rel, err := f.writable("symlink", path)
	if err != nil {
		return Attr{}, err
	}
	s, ok := remote.As[remote.Symlinker](b.Backend)
	if !ok {
		return Attr{}, fail("symlink", path, remote.Unsupported, errors.New("the server cannot keep symbolic links"))
	}
	defer f.paths.lock(one(path))()
	if b.Back != nil {
		e, err := f.symlinkBack(context.WithoutCancel(ctx), path, target)
		if err != nil {
			return Attr{}, err
		}
		return f.attr(b, e, b.AttrTTL), nil
	}
	seen := f.sight(path)
	if seen.x != nil && seen.x.local() || f.ns.fixed(path) {
		return Attr{}, fail("symlink", path, remote.Exist, nil)
	}
	b.meta.changing(rel)
	e, err := s.Symlink(context.WithoutCancel(ctx), rel, target)
	b.meta.changing(rel)
	if err != nil {
		b.meta.forget(rel, remote.File)
		return Attr{}, err
	}
	f.answered(path, seen, nil, 0)
	b.meta.set(e)
	b.touchParent(rel)
	return f.attr(b, e, b.AttrTTL), nil
}

// touchParent is called for every name that comes or goes.
func (b *branch) touchParent(rel string) {
	dir, _ := remote.Split(rel)
	b.meta.touch(dir)
}

// Readlink returns the text of a symbolic link.
func (f *FS) Readlink(ctx context.Context, path string) (string, error) {
	if err := remote.CheckPath("readlink", path); err != nil {
		return "", err
	}
	b, rel := f.ns.resolve(path)
	if b == nil {
		return "", fail("readlink", path, remote.Invalid, nil)
	}
	e, _, err := b.meta.stat(ctx, rel, false)
	if err == nil && e.Type != remote.Symlink {
		err = fail("readlink", path, remote.Invalid, errors.New("not a symbolic link"))
	}
	return e.Target, err
}

// Unlink removes a file or symbolic link. Handles that are open on it go on as if
// nothing had happened.
func (f *FS) Unlink(ctx context.Context, path string) error {
	b, rel, err := f.writable("unlink", path)
	if err != nil {
		return err
	}
	if f.ns.fixed(path) {
		return fail("unlink", path, remote.IsDir, nil)
	}
	ctx = context.WithoutCancel(ctx)
	unlock := f.paths.lock(one(path))
	x, release := f.grab(path)
	// The last reference may have something to put, which needs the lock.
	defer func() { unlock(); release() }()
	if x == nil || x.onServer() {
		err := f.remove(ctx, b, path, rel, x)
		// A changed file that somebody else has removed is still there for us.
		if err != nil && !(remote.KindOf(err) == remote.NotExist && x != nil && x.local()) {
			return err
		}
	}
	f.vanished(b, path, remote.File)
	return nil
}

// remove removes the file at path, on which x is open if not nil, from the server.
func (f *FS) remove(ctx context.Context, b *branch, path, rel string, x *file) error {
	e, _, err := b.meta.stat(ctx, rel, false)
	if err != nil {
		return err
	}
	if e.Type == remote.Dir {
		return fail("unlink", path, remote.IsDir, nil)
	}
	if err := f.preserve(ctx, x); err != nil {
		return err
	}
	b.meta.changing(rel)
	err = b.unlink(ctx, e)
	b.meta.changing(rel)
	if err != nil {
		b.meta.forget(rel, e.Type)
	}
	return err
}

func (x *file) isGone() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.gone
}

func (x *file) onServer() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.exists
}

// preserve brings the content of an open file here before it goes on the server.
// The caller's own reference does not count as a reader.
func (f *FS) preserve(ctx context.Context, x *file) error {
	if x == nil || !x.onServer() || f.refs(x) < 2 {
		return nil
	}
	ok, err := x.bring(ctx)
	if err == nil && !ok {
		err = fail("read", x.pathNow(), remote.NoSpace, nil)
	}
	if k := remote.KindOf(err); err != nil && (k == remote.Unavailable || k == remote.NoSpace || k == remote.Auth) {
		return err
	}
	if err != nil {
		path, _ := x.where()
		f.log.Warn("a file that is open is removed, and its old content could not be kept for the programs that read it",
			"path", path, "error", err)
	}
	return nil
}

func (f *FS) refs(x *file) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return x.refs
}

// vanished records that nothing is at path any more.
func (f *FS) vanished(b *branch, path string, t remote.Type) {
	if x := f.opened(path); x != nil {
		f.mu.Lock()
		f.dropName(x, path)
		f.mu.Unlock()
		x.mu.Lock()
		x.gone = true
		x.mu.Unlock()
	}
	b.forgetBlocks(b.rel(path), t)
	b.meta.gone(b.rel(path), t)
	b.touchParent(b.rel(path))
	f.inos.gone(path)
}

// Rmdir removes an empty directory.
func (f *FS) Rmdir(ctx context.Context, path string) error {
	b, rel, err := f.writable("rmdir", path)
	if err != nil {
		return err
	}
	if f.ns.fixed(path) {
		return fail("rmdir", path, remote.Locked, errors.New("a branch is mounted there"))
	}
	ctx = context.WithoutCancel(ctx)
	defer f.paths.lock(tree(path))()
	if f.opened(path) != nil {
		return fail("rmdir", path, remote.NotDir, nil)
	}
	if len(f.openBelow(path, (*file).local)) > 0 {
		return fail("rmdir", path, remote.NotEmpty, nil)
	}
	if err := b.mayRmdir(ctx, rel); err != nil {
		return err
	}
	b.meta.changing(rel)
	err = b.rmdir(ctx, rel)
	b.meta.changing(rel)
	if err != nil {
		b.meta.forget(rel, remote.Dir)
		return err
	}
	f.vanished(b, path, remote.Dir)
	return nil
}

// openBelow returns the open files at or below path for which want is true.
func (f *FS) openBelow(path string, want func(*file) bool) []*file {
	f.mu.Lock()
	var list []*file
	for p, x := range f.files {
		if remote.Within(p, path) {
			list = append(list, x)
		}
	}
	f.mu.Unlock()
	return slices.DeleteFunc(list, func(x *file) bool { return !want(x) })
}

// NoReplace is the flag of Rename that refuses to replace (RENAME_NOREPLACE).
const NoReplace = 1

// Rename moves from to to, as renameat2(2) without RENAME_EXCHANGE.
func (f *FS) Rename(ctx context.Context, from, to string, flags uint32) error {
	if flags&^NoReplace != 0 {
		return fail("rename", from, remote.Invalid, nil)
	}
	b, relFrom, err := f.writable("rename", from)
	if err != nil {
		return err
	}
	b2, relTo, err := f.writable("rename", to)
	switch {
	case err != nil:
		return err
	case f.ns.fixed(from) || f.ns.fixed(to):
		return fail("rename", from, remote.Locked, errors.New("a branch is mounted there"))
	case b != b2:
		return fail("rename", from, remote.CrossDevice, nil)
	case from != to && remote.Within(to, from):
		return fail("rename", from, remote.Invalid, errors.New("a directory cannot go below itself"))
	}
	ctx = context.WithoutCancel(ctx)
	unlock := f.paths.lock(tree(from), tree(to))
	x, releaseX := f.grab(from)
	y, releaseY := f.grab(to)
	// The last reference may have something to put, which needs the lock.
	defer func() { unlock(); releaseX(); releaseY() }()
	m := renameOf{from: from, to: to, x: x, y: y}
	e, err := f.readyToMove(ctx, b, m, flags)
	if err != nil || from == to {
		return err
	}
	defer f.moving(from)()
	before := b.meta.keptOf(relTo)
	b.meta.renaming(relFrom, relTo, e.Type)
	err = f.rename(ctx, b, e, m, flags&NoReplace != 0)
	b.meta.renaming(relFrom, relTo, e.Type)
	if err != nil {
		b.meta.forget(relFrom, e.Type)
		b.meta.forget(relTo, 0)
		return err
	}
	f.moved(b, e, renameOf{from: from, to: to, kept: before})
	return nil
}

// moving makes reads of the files at and below path that fail wait until the
// returned function is called: the server may know of a rename before us.
func (f *FS) moving(path string) (over func()) {
	done := make(chan struct{})
	files := f.openBelow(path, func(x *file) bool {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.moving = done
		return true
	})
	return func() {
		for _, x := range files {
			x.mu.Lock()
			x.moving = nil
			x.mu.Unlock()
		}
		close(done)
	}
}

// renameOf is a rename with the files that are open at its ends, if any.
type renameOf struct {
	from, to string
	x, y     *file
	kept     keptAttrs // what only this mount knew of what was at to
}

// readyToMove brings what is open at both ends to a state in which the server can
// do the rename, and returns the entry to move.
func (f *FS) readyToMove(ctx context.Context, b *branch, m renameOf, flags uint32) (remote.Entry, error) {
	if m.x != nil {
		if m.from == m.to {
			return remote.Entry{}, nil
		}
		if err := m.x.put(ctx); err != nil {
			return remote.Entry{}, err
		}
	}
	e, _, err := b.meta.stat(ctx, b.rel(m.from), false)
	if err != nil || m.from == m.to {
		return e, err
	}
	if e.Type == remote.Dir && m.y == nil && len(f.openBelow(m.to, (*file).local)) > 0 {
		return e, fail("rename", m.to, remote.NotEmpty, nil)
	}
	if m.y == nil {
		return e, nil
	}
	switch {
	case flags&NoReplace != 0:
		return e, fail("rename", m.to, remote.Exist, nil)
	case e.Type == remote.Dir:
		return e, fail("rename", m.to, remote.NotDir, nil)
	}
	return e, f.preserve(ctx, m.y)
}

// moved records that e has gone as m says.
func (f *FS) moved(b *branch, e remote.Entry, m renameOf) {
	from, to := m.from, m.to
	if y := f.opened(to); y != nil {
		f.mu.Lock()
		f.dropName(y, to)
		f.mu.Unlock()
		y.mu.Lock()
		y.gone = true
		y.mu.Unlock()
	}
	for _, x := range f.openBelow(from, (*file).onServer) {
		x.catchUp() // what became of versions is known by the path
	}
	e = b.present(e)
	var followers []*file
	f.mu.Lock()
	for p, x := range f.files {
		if remote.Within(p, from) {
			followers = append(followers, x)
			delete(f.files, p)
			x.mu.Lock()
			x.path = move(p, from, to)
			f.files[x.path] = x
			x.mu.Unlock()
		}
	}
	f.inos.rename(from, to)
	f.mu.Unlock()
	for _, x := range followers {
		x.follow()
	}
	b.forgetBlocks(b.rel(from), e.Type)
	b.forgetBlocks(b.rel(to), e.Type)
	b.meta.renamed(b.rel(from), b.rel(to), m.kept)
	b.meta.gone(b.rel(from), e.Type)
	e.Path = b.rel(to)
	if e.Type == remote.Dir {
		e.Version = ""
	}
	b.meta.came(e)
	b.touchParent(b.rel(from))
	b.touchParent(b.rel(to))
}

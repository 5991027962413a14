package fs

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"time"

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
	if f.opened(path) != nil || f.ns.fixed(path) {
		return Attr{}, fail("mkdir", path, remote.Exist, nil)
	}
	b.meta.changing(rel)
	e, err := b.Backend.Mkdir(ctx, rel)
	b.meta.changing(rel)
	if err != nil {
		b.meta.forget(rel, 0)
		return Attr{}, err
	}
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
	if f.opened(path) != nil || f.ns.fixed(path) {
		return Attr{}, fail("symlink", path, remote.Exist, nil)
	}
	b.meta.changing(rel)
	e, err := s.Symlink(context.WithoutCancel(ctx), rel, target)
	b.meta.changing(rel)
	if err != nil {
		b.meta.forget(rel, remote.File)
		return Attr{}, err
	}
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
		err = b.Backend.Remove(ctx, rel, remote.RemoveOptions{Type: e.Type})
		b.meta.changing(rel)
		if err != nil {
			b.meta.forget(rel, e.Type)
			return err
		}
	}
	f.vanished(b, path, remote.File)
	return nil
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
	err := x.fill(ctx)
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
	b.meta.changing(rel)
	err = b.Backend.Remove(ctx, rel, remote.RemoveOptions{Type: remote.Dir})
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
	e, err := f.readyToMove(ctx, b, moving{from, to, x, y}, flags)
	if err != nil || from == to {
		return err
	}
	b.meta.changing(relFrom)
	b.meta.changing(relTo)
	err = b.Backend.Rename(ctx, relFrom, relTo, remote.RenameOptions{NoReplace: flags&NoReplace != 0})
	b.meta.changing(relFrom)
	b.meta.changing(relTo)
	if err != nil {
		b.meta.forget(relFrom, e.Type)
		b.meta.forget(relTo, 0)
		return err
	}
	f.moved(b, e, from, to)
	return nil
}

// moving is a rename with the files that are open at its ends, if any.
type moving struct {
	from, to string
	x, y     *file
}

// readyToMove brings what is open at both ends to a state in which the server can
// do the rename, and returns the entry to move.
func (f *FS) readyToMove(ctx context.Context, b *branch, m moving, flags uint32) (remote.Entry, error) {
	if m.x != nil {
		if m.from == m.to {
			return remote.Entry{}, nil
		}
		if err := m.x.put(ctx); err != nil {
			return remote.Entry{}, err
		}
	}
	e, _, err := b.meta.stat(ctx, b.rel(m.from), false)
	if err != nil || m.from == m.to || m.y == nil {
		return e, err
	}
	switch {
	case flags&NoReplace != 0:
		return e, fail("rename", m.to, remote.Exist, nil)
	case e.Type == remote.Dir:
		return e, fail("rename", m.to, remote.NotDir, nil)
	}
	return e, f.preserve(ctx, m.y)
}

// moved records that e went from from to to.
func (f *FS) moved(b *branch, e remote.Entry, from, to string) {
	if y := f.opened(to); y != nil {
		f.mu.Lock()
		f.dropName(y, to)
		f.mu.Unlock()
		y.mu.Lock()
		y.gone = true
		y.mu.Unlock()
	}
	f.mu.Lock()
	for p, x := range f.files {
		if remote.Within(p, from) {
			delete(f.files, p)
			x.mu.Lock()
			x.path = move(p, from, to)
			f.files[x.path] = x
			x.mu.Unlock()
		}
	}
	f.mu.Unlock()
	f.inos.rename(from, to)
	b.meta.renamed(b.rel(from), b.rel(to))
	b.meta.gone(b.rel(from), e.Type)
	b.meta.forget(b.rel(to), e.Type)
	e.Path = b.rel(to)
	if e.Type == remote.Dir {
		e.Version = ""
	}
	b.meta.set(e)
	b.touchParent(b.rel(from))
	b.touchParent(b.rel(to))
}

// SetAttr says what Setattr shall change; nil fields stay.
type SetAttr struct {
	Mode         *uint32
	UID, GID     *uint32
	Size         *int64
	MTime, ATime *time.Time
}

// Setattr changes attributes of the file h is open on, or of the open file with
// inode number ino, or of what is at path. Access times are not kept.
func (f *FS) Setattr(ctx context.Context, path string, h *Handle, ino uint64, set SetAttr) (Attr, error) {
	if set.UID != nil && *set.UID != f.opts.UID || set.GID != nil && *set.GID != f.opts.GID {
		return Attr{}, fail("setattr", path, remote.Permission, syscall.EPERM)
	}
	ctx = context.WithoutCancel(ctx)
	x := f.openedIno(ino)
	switch {
	case h != nil:
		x = h.x
	case x == nil:
		x = f.opened(path)
	}
	if set.Size != nil {
		if err := f.resize(ctx, path, x, *set.Size); err != nil {
			return Attr{}, err
		}
	}
	if set.Mode != nil || set.MTime != nil {
		a := remote.Attrs{Mode: set.Mode, MTime: set.MTime}
		if err := f.change(ctx, path, x, a); err != nil {
			return Attr{}, err
		}
	}
	if x != nil {
		return x.attr(), nil
	}
	return f.Stat(ctx, path)
}

// resize truncates an open file, or opens, truncates and puts a closed one.
func (f *FS) resize(ctx context.Context, path string, x *file, size int64) error {
	if size < 0 {
		return fail("truncate", path, remote.Invalid, nil)
	}
	if x != nil {
		f.mu.Lock()
		writers := x.writers
		f.mu.Unlock()
		if writers > 0 || x.isGone() {
			// The close of the writer brings it to the server, or nothing has to.
			return x.truncate(size)
		}
	}
	h, err := f.Open(ctx, path, syscall.O_WRONLY)
	if err != nil {
		return err
	}
	defer h.Release()
	if err := h.Truncate(ctx, size); err != nil {
		return err
	}
	return h.Flush(ctx)
}

// change sets mode and modification time: with the next upload if there will be
// one, else at once.
func (f *FS) change(ctx context.Context, path string, x *file, a remote.Attrs) error {
	if a.Mode != nil {
		m := *a.Mode & 0o7777
		a.Mode = &m
	}
	if x != nil {
		path, _ = x.where()
	}
	b, rel, err := f.writable("setattr", path)
	if err != nil {
		return err
	}
	if a.MTime != nil {
		t := b.truncateTime(*a.MTime)
		a.MTime = &t
	}
	defer f.paths.lock(one(path))()
	if x != nil && x.setLater(a) {
		return nil
	}
	e, _, err := b.meta.stat(ctx, rel, false)
	if err != nil {
		return err
	}
	_, err = f.setAttrs(ctx, b, e, a)
	return err
}

// setLater notes attributes on a file that is still to be put, or that is on no
// server any more.
func (x *file) setLater(a remote.Attrs) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.dirty && x.exists && !x.gone {
		return false
	}
	if a.Mode != nil {
		x.mode = a.Mode
	}
	if a.MTime != nil {
		x.mtime, x.setTime = *a.MTime, true
	}
	return true
}

// setAttrs sets attributes on the server and keeps here what the server does not.
func (f *FS) setAttrs(ctx context.Context, b *branch, e remote.Entry, a remote.Attrs) (remote.Entry, error) {
	now := e
	if s, ok := remote.As[remote.AttrSetter](b.Backend); ok {
		b.meta.changing(e.Path)
		var err error
		now, err = s.SetAttr(ctx, e.Path, a)
		b.meta.changing(e.Path)
		if err != nil {
			b.meta.forget(e.Path, e.Type)
			return e, err
		}
	}
	var keep remote.Attrs
	if a.Mode != nil && !(now.ModeKnown && now.Mode == *a.Mode) {
		keep.Mode = a.Mode
	}
	if a.MTime != nil && !now.MTime.Equal(*a.MTime) {
		keep.MTime = a.MTime
	}
	if keep.Mode != nil || keep.MTime != nil {
		b.meta.keep(now, keep)
	}
	b.meta.set(now)
	if x := f.opened(b.abs(e.Path)); x != nil {
		x.attrsSet(e, now, a)
	}
	return now, nil
}

// attrsSet follows a change of attributes that was made on the server.
func (x *file) attrsSet(was, now remote.Entry, a remote.Attrs) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.base.Version == was.Version {
		x.base = now
	}
	if a.MTime != nil {
		x.mtime = *a.MTime
	}
	if a.Mode != nil {
		x.mode = a.Mode
	}
}

package fs

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// Stat returns the attributes of what is at path.
func (f *FS) Stat(ctx context.Context, path string) (Attr, error) {
	if err := remote.CheckPath("stat", path); err != nil {
		return Attr{}, err
	}
	if x := f.opened(path); x != nil && x.local() {
		return x.attr(), nil
	}
	b, rel := f.ns.resolve(path)
	above := len(f.ns.above[path]) > 0
	if b == nil {
		if above || path == "/" {
			return f.synthetic(path), nil
		}
		return Attr{}, fail("stat", path, remote.NotExist, nil)
	}
	e, left, err := b.meta.stat(ctx, rel, false)
	if remote.KindOf(err) == remote.NotExist && err != nil && above {
		return f.synthetic(path), nil
	}
	if err != nil {
		return Attr{}, err
	}
	if x := f.opened(path); x != nil {
		if x.local() || x.sameVersion(e) {
			return x.attr(), nil
		}
		f.replaced(x, path)
	}
	return f.attr(b, e, left), nil
}

// NegativeTTL is how long the kernel may remember that nothing is at path.
func (f *FS) NegativeTTL(path string) time.Duration {
	if b, _ := f.ns.resolve(path); b != nil {
		return b.NegTTL
	}
	return 0
}

// StatOpen returns the attributes of an open file by its inode number, also if it
// was renamed or removed meanwhile. It sends no request.
func (f *FS) StatOpen(ino uint64) (Attr, bool) {
	if x := f.openedIno(ino); x != nil {
		return x.attr(), true
	}
	return Attr{}, false
}

func (f *FS) openedIno(ino uint64) *file {
	f.mu.Lock()
	defer f.mu.Unlock()
	if list := f.byIno[ino]; len(list) > 0 {
		return list[len(list)-1]
	}
	return nil
}

// Open opens the file at path. Of flags, the access mode, O_APPEND and O_TRUNC
// count.
func (f *FS) Open(ctx context.Context, path string, flags int) (*Handle, error) {
	h := newHandle(nil, flags)
	b, rel := f.ns.resolve(path)
	if h.write {
		var err error
		if b, rel, err = f.writable("open", path); err != nil {
			return nil, err
		}
	} else if err := remote.CheckPath("open", path); err != nil {
		return nil, err
	}
	if b == nil {
		if _, err := f.Stat(ctx, path); err != nil {
			return nil, err
		}
		return nil, fail("open", path, remote.IsDir, nil)
	}
	if err := f.attach(ctx, h, b, rel, path); err != nil {
		return nil, err
	}
	if h.write && flags&syscall.O_TRUNC != 0 {
		if err := h.x.truncate(0); err != nil {
			h.Release()
			return nil, err
		}
	}
	return h, nil
}

// attach gives the handle the file object of path, which is made if needed.
func (f *FS) attach(ctx context.Context, h *Handle, b *branch, rel, path string) error {
	if f.join(h, path, nil) {
		return nil
	}
	e, err := f.current(ctx, b, rel)
	if err != nil {
		return err
	}
	want := remote.AccessRead
	if h.write {
		want = remote.AccessWrite
	}
	switch {
	case e.Type == remote.Dir:
		return fail("open", path, remote.IsDir, nil)
	case e.Type != remote.File:
		return fail("open", path, remote.Invalid, errors.New("not a regular file"))
	case !e.Access.Can(want):
		return fail("open", path, remote.Permission, errors.New("the server does not allow it"))
	}
	if f.join(h, path, &e) {
		return nil
	}
	if x := f.opened(path); x != nil {
		f.replaced(x, path)
	}
	x := &file{fs: f, b: b, path: path, base: e, exists: true, size: e.Size, mtime: e.MTime}
	x.ino = f.inos.of(path)
	f.mu.Lock()
	if y := f.files[path]; y != nil {
		// Another open was faster.
		f.mu.Unlock()
		return f.attach(ctx, h, b, rel, path)
	}
	h.direct = len(f.byIno[x.ino]) > 0
	f.insert(x, path)
	f.take(h, x)
	f.mu.Unlock()
	h.keep = f.pages.swap(x.ino, e.Version) && !e.Provisional
	return nil
}

// current returns the entry at rel, from the server if what is known is too old or
// no proof.
func (f *FS) current(ctx context.Context, b *branch, rel string) (remote.Entry, error) {
	e, _, err := b.meta.stat(ctx, rel, false)
	if err == nil && e.Provisional {
		e, _, err = b.meta.stat(ctx, rel, true)
	}
	return e, err
}

// join attaches h to the file object that is open at path, if that is the version e
// (nil: only if this mount knows more than the server).
func (f *FS) join(h *Handle, path string, e *remote.Entry) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	x := f.files[path]
	if x == nil || !x.local() && (e == nil || !x.sameVersion(*e)) {
		return false
	}
	f.take(h, x)
	h.keep = true
	return true
}

// take counts h among the handles of x. Called with FS.mu held.
func (f *FS) take(h *Handle, x *file) {
	h.x = x
	x.refs++
	if h.write {
		x.writers++
	}
}

// Create makes the file at path and opens it, or opens what is there unless flags
// has O_EXCL. The server sees the file when it is closed or synced.
func (f *FS) Create(ctx context.Context, path string, flags int, mode uint32) (*Handle, Attr, error) {
	b, rel, err := f.writable("create", path)
	if err != nil {
		return nil, Attr{}, err
	}
	unlock := f.paths.lock(one(path))
	h, err := f.create(ctx, b, rel, path, flags, mode)
	unlock()
	if errors.Is(err, errThere) {
		if flags&syscall.O_EXCL != 0 {
			return nil, Attr{}, fail("create", path, remote.Exist, nil)
		}
		h, err = f.Open(ctx, path, flags)
	}
	if err != nil {
		return nil, Attr{}, err
	}
	return h, h.Attr(), nil
}

// errThere means that there is something at the path already.
var errThere = errors.New("there already")

func (f *FS) create(ctx context.Context, b *branch, rel, path string, flags int, mode uint32) (*Handle, error) {
	if f.opened(path) != nil || f.ns.fixed(path) {
		return nil, errThere
	}
	if _, _, err := b.meta.stat(ctx, rel, false); err == nil {
		return nil, errThere
	} else if remote.KindOf(err) != remote.NotExist {
		return nil, err
	}
	if err := f.checkParent(ctx, path, remote.AccessCreate); err != nil {
		return nil, err
	}
	x := &file{fs: f, b: b, path: path, dirty: true, mtime: b.truncateTime(f.now()), ino: f.inos.of(path)}
	if def := 0o666 &^ f.opts.Umask; mode&0o7777 != def {
		mode &= 0o7777
		x.mode = &mode
	}
	if _, err := x.ensureStage(); err != nil {
		return nil, err
	}
	b.touchParent(rel)
	h := newHandle(nil, flags)
	h.write, h.keep = true, true
	f.mu.Lock()
	defer f.mu.Unlock()
	f.insert(x, path)
	f.take(h, x)
	return h, nil
}

// checkParent tells whether an entry may be made at path.
func (f *FS) checkParent(ctx context.Context, path string, want remote.Access) error {
	dir, _ := remote.Split(path)
	b, rel := f.ns.resolve(dir)
	if b == nil {
		return fail("create", path, remote.ReadOnly, nil)
	}
	e, _, err := b.meta.stat(ctx, rel, false)
	switch {
	case err != nil:
		return err
	case e.Type != remote.Dir:
		return fail("create", path, remote.NotDir, nil)
	case !e.Access.Can(want):
		return fail("create", path, remote.Permission, errors.New("the server does not allow it"))
	}
	return nil
}

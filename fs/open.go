package fs

import (
	"context"
	"errors"
	"io"
	"syscall"
	"time"

	"github.com/meshmount/meshmount/cache/writeback"
	"github.com/meshmount/meshmount/remote"
)

// Stat returns the attributes of what is at path.
func (f *FS) Stat(ctx context.Context, path string) (Attr, error) {
	if err := remote.CheckPath("stat", path); err != nil {
		return Attr{}, err
	}
	if _, name := remote.Split(path); len(name) > nameMax {
		return Attr{}, fail("stat", path, remote.NameTooLong, nil)
	}
	seen := f.sight(path)
	if seen.x != nil && seen.x.local() {
		return seen.x.attr(), nil
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
	absent := err != nil && remote.KindOf(err) == remote.NotExist
	if err != nil && !absent {
		return f.rootInOutage(b, rel, err)
	}
	answer := &e
	if absent {
		answer = nil
	}
	if x := f.answered(path, seen, answer, left); x != nil {
		return x.attr(), nil
	}
	switch {
	case absent && above:
		return f.synthetic(path), nil
	case absent:
		return Attr{}, err
	}
	return f.attr(b, e, left), nil
}

// rootInOutage gives the attributes of a branch's root while its server is out of
// reach, so that the directory above can be listed and df works: that the root is
// there is the mount table's word. Everything else gets the error.
func (f *FS) rootInOutage(b *branch, rel string, err error) (Attr, error) {
	if rel != "/" || remote.KindOf(err) != remote.Unavailable {
		return Attr{}, err
	}
	e := remote.Entry{Path: rel, Type: remote.Dir}
	if k, _, _ := b.meta.lookup(rel); k.e.Type == remote.Dir {
		e = k.e
	}
	return f.attr(b, e, 0), nil
}

// NegativeTTL is how long the kernel may remember that nothing is at path.
func (f *FS) NegativeTTL(path string) time.Duration {
	if b, rel := f.ns.resolve(path); b != nil {
		if k, left, ok := b.meta.lookup(rel); ok && k.absent {
			return min(left, b.NegTTL)
		}
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
	if err := f.attach(ctx, h, b, rel, path, flags&syscall.O_TRUNC == 0); err != nil {
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

// attach gives the handle the file object of path, which is made if needed. content
// tells that what the file holds matters.
func (f *FS) attach(ctx context.Context, h *Handle, b *branch, rel, path string, content bool) error {
	seen := f.sight(path)
	if f.join(h, path) {
		return nil
	}
	e, st, left, err := f.content(ctx, b, rel)
	defer func() {
		if st != nil { // nobody has taken it
			st.Release()
		}
	}()
	if err != nil {
		if remote.KindOf(err) == remote.NotExist {
			f.answered(path, seen, nil, 0)
		}
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
	case content && e.Size == 0 && e.Provisional && e.Version != "":
		if err := b.empty(ctx, e); err != nil {
			return err
		}
	case e.Provisional && b.Blocks != nil:
		// What was read under this version before can be of another content.
		b.Blocks.Invalidate(rel)
	}
	f.mu.Lock()
	x, lost := f.answeredLocked(path, seen, &e, left)
	if x == nil {
		x = f.newFile(b, path)
		x.stage, st = st, nil
		x.base, x.exists, x.size, x.mtime, x.fresh = e, true, e.Size, e.MTime, f.now().Add(left)
		h.direct = len(f.byIno[x.ino]) > 0
		x.keep = f.pages.opened(x.ino, e)
		f.insert(x, path)
	}
	f.take(h, x)
	f.mu.Unlock()
	f.tellLost(path, lost)
	if content && h.read {
		b.ahead.opened(ctx, e)
	}
	return nil
}

// content is current, with the staging file of what is pending.
func (f *FS) content(ctx context.Context, b *branch, rel string) (e remote.Entry, st *writeback.Stage, left time.Duration, err error) {
	for range 3 {
		if e, left, err = f.current(ctx, b, rel); err != nil {
			return e, nil, left, err
		}
		was := e.Version
		if st, err = b.stageOf(&e); err == nil {
			if e.Version != was {
				f.pages.become(f.inos.of(b.abs(rel)), was, e)
			}
			break
		}
		b.meta.forget(rel, remote.File) // that was replaced or given up a moment ago
	}
	return e, st, left, err
}

// empty makes sure that a file whose version is no proof is an empty one. Nobody asks a
// server for the bytes of a file that has none, and it could be one that somebody else is
// still writing (Locked) or has died in (Corrupt).
func (b *branch) empty(ctx context.Context, e remote.Entry) error {
	below := b.Backend
	if b.Blocks != nil {
		below = b.Blocks.Unwrap() // it believes the size and asks nobody
	}
	_, err := below.ReadAt(ctx, remote.Ref{Path: e.Path, Version: e.Version, Size: e.Size}, make([]byte, 1), 0)
	if err == io.EOF {
		return nil
	}
	return err
}

// current returns the entry at rel and how long it holds, from the server if what is
// known is too old or no proof.
func (f *FS) current(ctx context.Context, b *branch, rel string) (remote.Entry, time.Duration, error) {
	e, left, err := b.meta.stat(ctx, rel, false)
	if err == nil && e.Provisional {
		e, left, err = b.meta.stat(ctx, rel, true)
	}
	return e, left, err
}

// join attaches h to the file object that is open at path, if this mount knows more
// of it than the server.
func (f *FS) join(h *Handle, path string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	x := f.files[path]
	if x == nil || !x.local() {
		return false
	}
	f.take(h, x)
	return true
}

// take counts h among the handles of x. Called with FS.mu held.
func (f *FS) take(h *Handle, x *file) {
	h.x = x
	// If the kernel has to drop pages at the first open, it may see the answers in
	// another order; only an access proves that it has dropped them.
	h.keep = x.keep || x.used.Load()
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
	if err := f.vacant(ctx, b, rel, path); err != nil {
		return nil, err
	}
	if err := f.checkParent(ctx, path, remote.AccessCreate); err != nil {
		return nil, err
	}
	x := f.newFile(b, path)
	x.dirty, x.keep, x.mtime = true, true, b.truncateTime(f.now())
	if mode &= 0o7777; mode != f.usual.File {
		x.mode = &mode
	}
	if _, err := x.ensureStage(); err != nil {
		return nil, err
	}
	h := newHandle(nil, flags)
	h.write = true
	f.mu.Lock()
	there := f.files[path] != nil
	if !there {
		f.insert(x, path)
		f.take(h, x)
	}
	f.mu.Unlock()
	if there {
		x.closeStage()
		return nil, errThere
	}
	b.touchParent(rel)
	return h, nil
}

// vacant returns errThere unless nothing is at path. Called with the path locked.
func (f *FS) vacant(ctx context.Context, b *branch, rel, path string) error {
	seen := f.sight(path)
	if seen.x != nil && seen.x.local() || f.ns.fixed(path) {
		return errThere
	}
	_, _, err := b.meta.stat(ctx, rel, false)
	switch {
	case err == nil:
		return errThere
	case remote.KindOf(err) != remote.NotExist:
		return err
	case f.answered(path, seen, nil, 0) != nil:
		return errThere
	}
	return nil
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

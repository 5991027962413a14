package fs

import (
	"context"
	"syscall"
	"time"

	"github.com/meshmount/meshmount/remote"
)

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
	x, release := f.hold(h, ino, path)
	defer release()
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
		if f.writers(x) > 0 || x.isGone() {
			// The close of the writer brings it to the server, or nothing has to. A journal
			// knows of it at once: the writer may be one that has long been closed, and the
			// kernel has not told.
			err := x.truncate(size)
			if err == nil && (f.writers(x) == 0 || x.b.Back != nil && !x.isGone()) {
				err = x.upload(ctx) // that was closed meanwhile
			}
			return err
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

func (f *FS) writers(x *file) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return x.writers
}

// change sets mode and modification time: with the next upload if there will be
// one, else at once.
func (f *FS) change(ctx context.Context, path string, x *file, a remote.Attrs) error {
	if a.Mode != nil {
		m := *a.Mode & 0o7777
		a.Mode = &m
	}
	var unlock func()
	if x != nil {
		path, unlock = x.lockName()
	} else {
		unlock = f.paths.lock(one(path))
	}
	defer unlock()
	b, rel, err := f.writable("setattr", path)
	if err != nil {
		return err
	}
	if a.MTime != nil {
		t := b.truncateTime(*a.MTime)
		a.MTime = &t
	}
	named := f.opened(path) == x
	if x != nil && x.setLater(a, named) {
		return nil
	}
	// Of an open file, the version must not be mistaken: it may be written next.
	e, _, err := b.meta.stat(ctx, rel, x != nil)
	if err != nil {
		return err
	}
	_, err = f.setAttrs(ctx, b, e, a)
	return err
}

// setLater notes attributes on a file that is still to be put, or that has lost its
// name.
func (x *file) setLater(a remote.Attrs, named bool) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if named && !x.dirty && x.exists && !x.gone {
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
	x := f.opened(b.abs(e.Path))
	defer x.settingAttrs()()
	if x != nil {
		x.catchUp()
	}
	e = b.present(e)
	before := b.meta.keptOf(e.Path)
	b.meta.changing(e.Path)
	now, err := b.setAttr(ctx, e, a)
	b.meta.changing(e.Path)
	if err != nil {
		b.meta.forget(e.Path, e.Type)
		return e, err
	}
	var keep remote.Attrs
	if a.Mode != nil && !(now.ModeKnown && now.Mode == *a.Mode) {
		keep.Mode = a.Mode
	}
	if a.MTime != nil && !now.MTime.Equal(*a.MTime) {
		keep.MTime = a.MTime
	}
	b.show(now) // first: it may show a mode that is no longer to be kept
	if b.Back != nil && keep == (remote.Attrs{}) {
		b.meta.unkeep(e.Path, before, a)
	} else {
		b.meta.keep(now, keep, a.MTime != nil)
	}
	now = b.meta.dress(now)
	if x != nil {
		x.attrsSet(e, now, a)
	}
	return now, nil
}

// settingAttrs marks x, which may be nil, until the returned function is called: the
// server may show others a new version, made by us, before we know of it.
func (x *file) settingAttrs() (over func()) {
	if x == nil {
		return func() {}
	}
	add := func(n int) {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.setting += n
		x.puts++
	}
	add(1)
	return func() { add(-1) }
}

// attrsSet follows a change of attributes that was made on the server.
func (x *file) attrsSet(was, now remote.Entry, a remote.Attrs) {
	defer x.follow()
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.base.Version == was.Version && x.base.Size == now.Size {
		x.rebase(now)
	}
	if a.MTime != nil {
		x.mtime = *a.MTime
	}
	if a.Mode != nil {
		x.mode = a.Mode
	}
}

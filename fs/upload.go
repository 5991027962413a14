package fs

import (
	"context"
	"fmt"

	"github.com/meshmount/meshmount/cache/writeback"
	"github.com/meshmount/meshmount/remote"
)

// upload puts the file to the server if it differs. It waits for whoever changes
// the name at the same time.
func (x *file) upload(ctx context.Context) error {
	_, unlock := x.lockName()
	defer unlock()
	return x.put(ctx)
}

// lockName locks the present path of x.
func (x *file) lockName() (path string, unlock func()) {
	for {
		path, _ = x.where()
		unlock = x.fs.paths.lock(one(path))
		if now, _ := x.where(); now == path {
			return path, unlock
		}
		unlock()
	}
}

// upShot is what is put: the state at the moment of the upload.
type upShot struct {
	path, rel string
	src       remote.Source
	opts      remote.PutOptions
	gen       uint64
	setTime   bool
}

// put does the work of upload. Where there is a journal, it puts the file there. The
// caller holds the lock on the path.
func (x *file) put(ctx context.Context) error {
	if x.b.Back != nil {
		return x.commit(ctx, false)
	}
	if !x.mustPut() {
		return nil
	}
	err := x.fill(ctx)
	if err == nil {
		thaw := x.freeze()
		defer thaw()
		s, must := x.shoot()
		if !must {
			return nil
		}
		err = x.send(ctx, s)
	}
	x.mu.Lock()
	x.failed = err
	x.mu.Unlock()
	return err
}

// tellLater keeps the error of a put that no close or fsync has asked for, if there
// will be no other put to report it: what is found by the way must not pass unheard.
func (x *file) tellLater(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.dirty {
		x.untold = err
	}
}

// toTell returns what tellLater has kept, once.
func (x *file) toTell() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	err := x.untold
	x.untold = nil
	return err
}

// freeze keeps writers off until thaw is called.
func (x *file) freeze() (thaw func()) {
	frozen := make(chan struct{})
	x.lockContent()
	x.frozen = frozen
	x.content.Unlock()
	return func() {
		x.content.Lock()
		x.frozen = nil
		x.content.Unlock()
		close(frozen)
	}
}

func (x *file) mustPut() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.dirty && !x.gone
}

// shoot notes what to put. Called with content frozen.
func (x *file) shoot() (s upShot, must bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	s = upShot{path: x.path, rel: x.b.rel(x.path), src: x.stage.Source(), gen: x.gen, setTime: x.setTime}
	s.opts.Cond = x.cond()
	s.opts.Attrs.Mode, s.opts.Attrs.Usual = x.mode, x.fs.usual
	if mtime := x.mtime; x.setTime || x.b.caps().StoresMTime {
		s.opts.Attrs.MTime = &mtime
	}
	return s, x.dirty && !x.gone
}

// send puts s and settles what the server's answer means.
func (x *file) send(ctx context.Context, s upShot) error {
	e, err := x.putOnce(ctx, s)
	switch remote.KindOf(err) {
	case remote.Conflict:
		if _, serr := x.b.Backend.Stat(ctx, s.rel); remote.KindOf(serr) == remote.NotExist {
			// Removed elsewhere: nobody's content is overwritten by ours.
			s.opts.Cond = remote.Cond{NotExist: true}
			e, err = x.putOnce(ctx, s)
		}
	}
	if k := remote.KindOf(err); err != nil && (k == remote.Conflict || k == remote.Exist) {
		return x.conflict(ctx, s, err)
	}
	if err != nil {
		return err
	}
	x.stored(s, e)
	return nil
}

func (x *file) putOnce(ctx context.Context, s upShot) (remote.Entry, error) {
	x.b.meta.changing(s.rel)
	e, err := x.b.Backend.Put(ctx, s.rel, s.src, s.opts)
	x.b.meta.changing(s.rel)
	x.fs.xattrs.changed(x.ino) // a file that had to be made anew has lost them
	x.fs.replicas.changed(x.ino)
	if err != nil {
		x.b.meta.forget(s.rel, remote.File) // it may have happened all the same
	}
	return e, err
}

// stored records that the server has s.
func (x *file) stored(s upShot, e remote.Entry) {
	// The content before may have had the same version.
	x.b.forgetBlocks(s.rel, remote.File)
	var keep remote.Attrs
	if s.opts.Attrs.Mode != nil && !(e.ModeKnown && e.Mode == *s.opts.Attrs.Mode) {
		keep.Mode = s.opts.Attrs.Mode
	}
	if s.setTime && !e.MTime.Equal(x.b.truncateTime(*s.opts.Attrs.MTime)) {
		keep.MTime = s.opts.Attrs.MTime
	}
	x.b.meta.keep(e, keep, true)
	x.b.meta.set(e)
	e = x.b.meta.dress(e)
	defer x.follow()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.rebase(e)
	if x.gen == s.gen {
		x.dirty, x.setTime = false, false
		if keep.MTime == nil {
			x.mtime = e.MTime
		}
		if keep.Mode == nil {
			x.mode = nil
		}
	}
	x.fs.pages.opened(x.ino, e)
}

// rebase records what the server has now, by our doing. Guarded by mu.
func (x *file) rebase(e remote.Entry) {
	x.base, x.exists, x.fresh = e, true, x.fs.now().Add(x.b.AttrTTL)
	x.puts++
}

// follow tells the staging file, after x has got another base or path, where the bytes
// that it has not are now.
func (x *file) follow() {
	x.mu.Lock()
	st, ref := x.stage, x.ref()
	x.mu.Unlock()
	// That of pending content is the business of the journal.
	if st != nil && !writeback.IsLocal(ref.Version) {
		st.Rebase(ref)
	}
}

// conflict stores ours beside what somebody else put there, and reports it.
func (x *file) conflict(ctx context.Context, s upShot, cause error) error {
	beside := s
	beside.rel = writeback.ConflictPath(s.rel, x.fs.opts.Hostname, x.fs.now(), x.b.caps().MaxName)
	beside.opts.Cond = remote.Cond{NotExist: true}
	e, err := x.putOnce(ctx, beside)
	if err != nil {
		return fmt.Errorf("%w (and the conflict copy failed: %w)", cause, err)
	}
	x.b.meta.set(e)
	x.b.meta.forget(s.rel, remote.File)
	copyPath := x.b.abs(beside.rel)
	x.fs.log.Warn("conflict: the file was changed on the server since it was opened; our content is stored beside it",
		"path", s.path, "copy", copyPath)
	x.fs.replaced(x, s.path)
	defer x.follow()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.rebase(e)
	x.path = copyPath
	if x.gen == s.gen {
		x.dirty = false
	}
	return conflictError(s.path, copyPath)
}

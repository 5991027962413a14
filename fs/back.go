package fs

import (
	"context"
	"errors"

	"github.com/meshmount/meshmount/cache/writeback"
	"github.com/meshmount/meshmount/remote"
)

// server returns where the bytes of versions are that the server has.
func (b *branch) server() remote.Backend {
	if b.Back != nil {
		return b.Back.Unwrap()
	}
	return b.Backend
}

// present returns e, or what the server has of it if that has another version meanwhile by
// our own doing: content that was pending has reached it, or attributes have.
func (b *branch) present(e remote.Entry) remote.Entry {
	if b.Back == nil || e.Version == "" {
		return e
	}
	now, ok := b.Back.Reattributed(e.Path, e.Version)
	if !ok {
		return e
	}
	return b.meta.dress(now)
}

// show records the entry as it is after a change made here that is pending.
func (b *branch) show(e remote.Entry) {
	b.meta.set(e)
	// The change may be over, and have been told, before this was recorded.
	if b.hasAside(e) {
		b.meta.forget(e.Path, e.Type)
	} else if now := b.present(e); now.Version != e.Version {
		// With the attributes that were just set: what the server did not keep is told.
		now.MTime, now.Mode, now.ModeKnown = e.MTime, e.Mode, e.ModeKnown
		b.meta.settle(e.Path, e.Version, now)
	}
}

// hasAside tells whether the server has the content of the pending version e under another
// name.
func (b *branch) hasAside(e remote.Entry) bool {
	if b.Back == nil {
		return false
	}
	now, ok := b.Back.Became(e.Version)
	return ok && now.Path != e.Path
}

// sameContent tells whether two versions of the file at rel are of one content, as far as
// one of them is what the other has become.
func (b *branch) sameContent(rel, v, w string) bool {
	if v == w {
		return true
	}
	now := func(v string) string { return b.present(remote.Entry{Path: rel, Version: v}).Version }
	return b.Back != nil && v != "" && w != "" && now(v) == now(w)
}

// changing tells whether the server may show e, or nothing, instead of the base of x by
// our own doing: it has made, or is about to make, a change that x does not know of.
// Guarded by mu.
func (x *file) changing(e *remote.Entry) bool {
	if x.b.Back == nil {
		return false
	}
	rel := x.b.rel(x.path)
	if x.b.Back.State(rel) != "" {
		return true
	}
	now, ok := x.b.Back.Reattributed(rel, x.base.Version)
	return ok && e != nil && now.Version == e.Version
}

// reach waits until the server has what is pending at rel, on which x is open if it is not
// nil. The error is Conflict if the name has been lost to somebody else by that.
func (b *branch) reach(ctx context.Context, rel string, x *file, path string) error {
	if b.Back == nil {
		return nil
	}
	if b.Back.State(rel) != "" {
		if err := b.Back.Reach(ctx, rel); err != nil {
			return err
		}
	}
	b.Back.Told()
	if x == nil {
		return nil
	}
	if now, _ := x.where(); now != path {
		return conflictError(path, now)
	}
	return nil
}

// stageOf returns the staging file of an entry that is pending, nil if the server has its
// content: then e is made what that shows. The error is Changed if the content is no more.
func (b *branch) stageOf(e *remote.Entry) (*writeback.Stage, error) {
	if b.Back == nil || e.Type != remote.File || !writeback.IsLocal(e.Version) {
		return nil, nil
	}
	if st, ok := b.Back.Restage(e.Version); ok {
		return st, nil
	}
	b.meta.hear() // with the attributes that it has not kept
	if *e = b.present(*e); writeback.IsLocal(e.Version) {
		return nil, fail("open", b.abs(e.Path), remote.Changed, errors.New("the content that was to be uploaded is no more"))
	}
	return nil, nil
}

// newStage makes a staging file of that size over base.
func (f *FS) newStage(b *branch, size int64, base remote.Entry) (*writeback.Stage, error) {
	if b.Back == nil {
		return f.stages.New(b.Backend, size, base)
	}
	st, err := b.stageOf(&base)
	if st != nil || err != nil {
		return st, err
	}
	return b.Back.NewStage(size, base)
}

// catchUp makes the base of x what the server has, if what was committed has reached it.
func (x *file) catchUp() {
	x.mu.Lock()
	base := x.base
	base.Path = x.b.rel(x.path)
	x.mu.Unlock()
	if now := x.b.present(base); now.Version != base.Version {
		x.reached(base.Version, now)
	}
}

// reached records that the server has the content of the version was as now, and tells
// whether that is the base of x.
func (x *file) reached(was string, now remote.Entry) bool {
	defer x.follow()
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.exists || x.base.Version != was && x.base.Version != now.Version {
		return false
	}
	now.Path = x.b.rel(x.path)
	x.rebase(x.likeBefore(now))
	return true
}

// overtaken waits, when reading a version on the server has failed, for what is pending
// at the path: it can have made another version of it.
func (x *file) overtaken(ctx context.Context, err error) {
	if k := remote.KindOf(err); x.b.Back == nil || k != remote.Changed && k != remote.NotExist {
		return
	}
	if _, rel := x.where(); x.b.Back.State(rel) != "" {
		_ = x.b.Back.Reach(ctx, rel) // the reader has an error of its own
	}
	x.catchUp()
}

// likeBefore returns e with the mode of the base of x, if it shows none: it may be one that
// the server has not kept, and that is yet to be told. Guarded by mu.
func (x *file) likeBefore(e remote.Entry) remote.Entry {
	if !e.ModeKnown && x.base.ModeKnown {
		e.Mode, e.ModeKnown = x.base.Mode, true
	}
	return e
}

// commit puts the content into the journal, if it differs from what is there. With sync,
// it is on stable storage then. The caller holds the lock on the path.
func (x *file) commit(ctx context.Context, sync bool) error {
	if !x.mustPut() {
		if sync && x.isPending() {
			return x.b.Back.Stable()
		}
		return nil
	}
	err := x.completed(ctx)
	if err == nil {
		err = x.commitStaged(ctx, sync)
	}
	x.mu.Lock()
	x.failed = err
	x.mu.Unlock()
	return err
}

// isPending tells whether the server has yet to see what was committed.
func (x *file) isPending() bool {
	if x.b.Back == nil {
		return false
	}
	x.catchUp()
	x.mu.Lock()
	defer x.mu.Unlock()
	return writeback.IsLocal(x.base.Version) && !x.gone
}

// completed brings here what has to be here before the content can be committed: a
// version that is no proof may be another when it is asked for later.
func (x *file) completed(ctx context.Context) error {
	x.mu.Lock()
	shaky := x.base.Provisional
	x.mu.Unlock()
	if !shaky && x.b.caps().Ranges {
		return nil
	}
	err := x.fill(ctx)
	if !shaky && remote.KindOf(err) == remote.Unavailable {
		return nil // the upload will try again
	}
	return err
}

// commitStaged commits the content as it is now.
func (x *file) commitStaged(ctx context.Context, sync bool) error {
	x.lockContent()
	defer x.content.Unlock()
	st, err := x.ensureStage()
	if err != nil {
		return err
	}
	x.catchUp()
	rel, c, must := x.commitment()
	if !must {
		return nil
	}
	c.Sync = sync
	x.telling.Lock() // what becomes of it is told when it is known here
	defer x.telling.Unlock()
	x.b.meta.changing(rel)
	e, err := x.b.Back.Commit(ctx, rel, st, c)
	x.b.meta.changing(rel)
	if e.Version != "" { // also if it could not be brought to stable storage
		x.committed(e)
	}
	return local("write", x.pathNow(), err)
}

// commitment notes what to commit. Called with content held.
func (x *file) commitment() (rel string, c writeback.Commit, must bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	rel = x.b.rel(x.path)
	mtime := x.mtime
	c.Cond, c.Attrs = x.cond(), remote.Attrs{Mode: x.mode, MTime: &mtime}
	c.Loose = !x.setTime
	if x.exists {
		c.Base = x.base
		c.Base.Path = rel
	}
	return rel, c, x.dirty && !x.gone
}

// cond is the condition under which the content may be stored. Guarded by mu.
func (x *file) cond() remote.Cond {
	return remote.Cond{NotExist: !x.exists, Version: x.base.Version, Provisional: x.base.Provisional}
}

// committed records that the journal has the content as e. Called with content held.
func (x *file) committed(e remote.Entry) {
	x.mu.Lock()
	e = x.likeBefore(e)
	x.mu.Unlock()
	x.b.show(e)
	e = x.b.meta.dress(e)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.rebase(e)
	x.dirty, x.setTime, x.mode, x.mtime = false, false, nil, e.MTime
	x.fs.pages.opened(x.ino, e)
}

// full returns NoSpace if the server is known to take no more, and there is something
// that it is to take.
func (x *file) full(pending bool) error {
	if x.b.Back == nil || pending && !x.isPending() {
		return nil
	}
	if err := x.b.Back.Full(); err != nil {
		return fail("write", x.pathNow(), remote.NoSpace, err)
	}
	return nil
}

// sendEarly lets a large new file go to the server while it is written.
func (x *file) sendEarly(st *writeback.Stage) {
	if x.b.Back == nil {
		return
	}
	x.mu.Lock()
	rel, cond, gone := x.b.rel(x.path), x.cond(), x.gone
	x.mu.Unlock()
	if !gone {
		x.b.Back.Early(rel, st, cond)
	}
}

// syncBack is Fsync where there is a journal.
func (x *file) syncBack(ctx context.Context) error {
	_, unlock := x.lockName()
	defer unlock()
	return x.commit(ctx, true)
}

// SyncDir makes the changes of names in a directory survive a power failure.
func (f *FS) SyncDir(path string) error {
	if b, _ := f.ns.resolve(path); b != nil && b.Back != nil {
		return b.Back.Stable()
	}
	return nil
}

package writeback

import (
	"context"
	"errors"
	"io"

	"github.com/meshmount/meshmount/remote"
)

// Some backends replace things in several steps (remote.Replacer), and may be cut off between
// them. What was under way is in the journal then, and is ended by who makes it again; until
// that is done, what is left of the former content does not show.
//
// What programs wait for, and would not be in the journal, is a debt there while it is under
// way: a change of attributes that sets none, of which the base is the version that is to be
// replaced and the size that of what takes its place.

// owes tells whether the change is a debt.
func (c *change) owes() bool { return c.kind == opSetAttr && c.attrs == (remote.Attrs{}) && !c.deep }

// steps tells whether something else is put in the place of a file in steps. Guarded by
// nothing: it never changes.
func (b *Branch) steps(e remote.Entry) bool {
	return b.replacer != nil && e.Type == remote.File && b.replacer.InSteps(e.Version)
}

// carried returns the attributes that a file loses if who gives it others is cut off between the
// steps.
func (b *Branch) carried(e remote.Entry) (a remote.Attrs) {
	if !b.steps(e) {
		return a
	}
	a.MTime = &e.MTime
	if e.ModeKnown {
		a.Mode = &e.Mode
	}
	return b.keepable(a)
}

// setting returns the attributes that the change sets.
func (c *change) setting() remote.Attrs {
	if c.kind != opSetAttr || c.owes() || !c.tried && !c.replayed {
		return c.attrs
	}
	return andThen(c.b.carried(c.base), c.attrs)
}

// replaces returns the version of the server that the change puts something else in the place
// of at path; "" if none is known.
func (c *change) replaces(path string) string {
	switch {
	case c.kind == opRename && c.to == path && c.toBase != nil:
		return c.toBase.Version
	case c.kind == opRename && c.to == path:
		return ""
	}
	return c.base.Version
}

// former tells whether an entry is only what is left of a content that a change replaces, or
// has replaced after at. Guarded by store.mu.
func (b *Branch) former(e remote.Entry, at uint64) bool {
	if b.replacer == nil {
		return false
	}
	path, ok := b.replacer.Former(e)
	if !ok {
		return false
	}
	for _, c := range b.queue.lines[path] {
		if c.replaces(path) == e.Version {
			return true
		}
	}
	for c := range b.debts {
		if c.path == path && c.base.Version == e.Version {
			return true
		}
	}
	for _, r := range b.recent {
		if r.path == path && r.was == e.Version && r.at > at {
			return true
		}
	}
	return false
}

// replaced notes with the last end at path what version was replaced there. Guarded by store.mu.
func (b *Branch) replaced(path, version string) {
	if n := len(b.recent); n > 0 && b.replacer != nil && b.recent[n-1].path == path && b.recent[n-1].at == b.clock {
		b.recent[n-1].was = version
	}
}

// completed ends what an attempt before may have begun, where this one went well: was is the
// version that was to be replaced.
func (j *job) completed(ctx context.Context, r outcome, was string) outcome {
	if j.b.replacer == nil || !j.redo && !j.doubt || r.err != nil || r.copy.Type != 0 || r.kept != "" || r.entry.Type == 0 {
		return r
	}
	if err := j.b.replacer.Replaced(ctx, r.entry, was); err != nil {
		return outcome{err: err}
	}
	return r
}

// learn makes what was seen of a file what is there now, if that is the same by other means:
// somebody else may have taken such steps since.
func (j *job) learn(ctx context.Context, seen *remote.Entry, now remote.Entry) error {
	if j.b.replacer == nil || seen.Type != remote.File || seen.Version == now.Version || !j.b.replacer.InSteps(seen.Version) {
		return nil
	}
	same, err := j.b.replacer.Became(ctx, now, seen.Version)
	if same {
		*seen = now
	}
	return err
}

// buildOn has a put replace what is there, which is ours. If that takes steps, the journal knows
// before.
func (j *job) buildOn(ctx context.Context, theirs remote.Entry) error {
	was := j.base
	j.base = theirs
	return j.knows(ctx, was, theirs, func(c *change) { c.base = theirs })
}

// takePlace is buildOn for the target of a rename.
func (j *job) takePlace(ctx context.Context, theirs remote.Entry) error {
	was := j.toBase
	j.toBase = theirs
	return j.knows(ctx, was, theirs, func(c *change) { c.toBase = &theirs })
}

// knows has the journal know what a change replaces in steps. What it was to replace before goes
// first: an attempt may have put in its place what is there now.
func (j *job) knows(ctx context.Context, was, theirs remote.Entry, note func(*change)) error {
	if !j.b.steps(was) && !j.b.steps(theirs) {
		return nil
	}
	if was.Version != theirs.Version {
		if err := j.b.replacer.Replaced(ctx, theirs, was.Version); err != nil {
			return err
		}
	}
	s := j.b.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if j.c.state == over || j.c.after != nil || j.c.toAfter != nil {
		return nil
	}
	note(j.c)
	s.note(j.c.record())
	return nil
}

// isOwn tells whether a file of the server is what an attempt of this change, or of one before
// it, has stored.
func (j *job) isOwn(ctx context.Context, e remote.Entry) (bool, error) {
	if ours, err := j.isGhost(ctx, e); ours || err != nil || !j.redo || j.stage == nil {
		return ours, err
	}
	return j.isOneOf(ctx, e, []ghost{{size: j.size, digest: j.digest}})
}

// pay settles a debt.
func (j *job) pay(ctx context.Context) outcome {
	e, err := j.b.below.Stat(ctx, j.path)
	if remote.KindOf(err) == remote.NotExist && err != nil {
		return outcome{}
	}
	if err != nil || e.Type == remote.File && e.Size != j.size || j.b.replacer == nil {
		return outcome{entry: e, err: err} // it has not come so far, or is over
	}
	if err := j.b.replacer.Replaced(ctx, e, j.base.Version); err != nil {
		return outcome{err: err}
	}
	return outcome{entry: e}
}

// owe writes a debt into the journal before something of that size takes the place of was at
// path, if that takes several steps. settle is to be called with the end of it.
func (b *Branch) owe(path string, was remote.Entry, size int64) (settle func(error), err error) {
	if !b.replacer.InSteps(was.Version) {
		return func(error) {}, nil
	}
	s := b.store
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &change{b: b, id: s.nextID(), kind: opSetAttr, path: path, base: was, size: size, since: s.opts.Now(), version: s.nextVersion(), replayed: true}
	r := c.record()
	if err := s.write(r); err != nil {
		return nil, err
	}
	s.cleans[c.id] = r
	b.debts[c] = struct{}{}
	return func(err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.cleans, c.id)
		delete(b.debts, c)
		switch {
		case err == nil:
			s.note(doneRecord(c))
		case !s.closed:
			b.enqueue(c)
		}
	}, nil
}

// oweFor is owe of what is at path now. A size below 0 is that of what is there.
func (b *Branch) oweFor(ctx context.Context, path string, size int64) (settle func(error), err error) {
	if b.replacer == nil {
		return func(error) {}, nil
	}
	e, err := b.below.Stat(ctx, path)
	if err != nil { // so will be what is about to be done
		return func(error) {}, nil
	}
	if size < 0 {
		size = e.Size
	}
	return b.owe(path, e, size)
}

// moveStaged renames what a server can only rename in steps: its content is taken here, so that
// the rename is a change like that of what was written here. false if that cannot be done.
func (b *Branch) moveStaged(ctx context.Context, from remote.Entry, to string, target *remote.Entry) (bool, error) {
	if b.replacer == nil || from.Type != remote.File {
		return false, nil
	}
	from, target, err := b.known(ctx, from, to, target)
	if err != nil || !b.replacer.InSteps(from.Version) {
		return false, err
	}
	st, err := b.NewStage(0, remote.Entry{})
	if err != nil {
		return false, nil
	}
	defer st.Release()
	if err := b.fetch(ctx, from, st); err != nil {
		return false, remote.ContextErr(ctx) // it is found again by who renames it there
	}
	s := b.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.queue.last(from.Path) != nil {
		return false, nil
	}
	there, ok := b.placeFor(to, target)
	if !ok {
		return false, nil
	}
	c := &change{kind: opRename, path: from.Path, to: to, stage: st, size: from.Size, mtime: from.MTime, base: from,
		version: s.nextVersion(), toAfter: there.after, digest: st.digest(from.Size, maxSum)}
	c.attrs.MTime = &from.MTime
	if c.attrs.Mode = b.ownMode(there.shows()); from.ModeKnown {
		c.attrs.Mode = &from.Mode
	}
	c.attrs = b.keepable(c.attrs)
	if there.base.Type != 0 {
		c.toBase = &there.base
	}
	return true, b.submit(c, there.instead...)
}

// known returns what is to be renamed, and what is in its place, when the server has what is
// pending there.
func (b *Branch) known(ctx context.Context, from remote.Entry, to string, target *remote.Entry) (remote.Entry, *remote.Entry, error) {
	b.store.mu.Lock()
	pending := b.queue.last(from.Path) != nil || IsLocal(from.Version)
	b.store.mu.Unlock()
	if !pending {
		return from, target, nil
	}
	if err := b.alone(ctx, []string{from.Path, to}, false, func() error { return nil }); err != nil {
		return from, target, err
	}
	e, err := b.Stat(ctx, from.Path)
	if err != nil {
		return from, target, err
	}
	if target != nil {
		t, err := b.Stat(ctx, to)
		if err != nil {
			return from, target, err
		}
		target = &t
	}
	return e, target, nil
}

// fetch takes the content of a file of the server into a stage, on stable storage.
func (b *Branch) fetch(ctx context.Context, e remote.Entry, st *Stage) error {
	buf := make([]byte, min(e.Size, 1<<20))
	ref := remote.Ref{Path: e.Path, Version: e.Version, Size: e.Size}
	for off := int64(0); off < e.Size; {
		n := int(min(int64(len(buf)), e.Size-off))
		got, err := b.below.ReadAt(ctx, ref, buf[:n], off)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if got < n {
			return io.ErrUnexpectedEOF
		}
		if _, err := st.WriteAt(buf[:n], off); err != nil {
			return err
		}
		off += int64(n)
	}
	return st.Sync()
}

// stagedAs returns the stage, with a reference, of a file that is renamed in steps to path and
// had that version before; nil if there is none. Guarded by store.mu.
func (b *Branch) stagedAs(path, version string) *Stage {
	if b.replacer == nil {
		return nil
	}
	for _, c := range b.queue.lines[path] {
		if c.kind == opRename && c.to == path && c.stage != nil && c.base.Version == version && version != "" {
			return c.stage.retain()
		}
	}
	return nil
}

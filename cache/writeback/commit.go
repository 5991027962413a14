package writeback

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// Commit says what was written.
type Commit struct {
	// Cond is what must be so on the server: nothing at the path, or the version that the
	// content is based on; a local version stands for what the server will have then.
	Cond remote.Cond
	// Base is the server's entry below, for what it shows besides the content.
	Base remote.Entry
	// Attrs are to be stored with the content. Without MTime, the file shows the time of
	// the commit.
	Attrs remote.Attrs
	// Loose: Attrs.MTime is only when the content was written. The server need not have it
	// if that costs a request of its own.
	Loose bool
	// Sync: content and record are on stable storage when Commit returns.
	Sync bool

	seen *remote.Entry // if not nil, what must be at the path still, since at (errSeen)
	at   uint64
}

// NewStage makes the staging file of something that is to be written: size bytes, over
// base where nothing is written, which is the server's entry, or zero for a new file. The
// caller has a reference.
func (b *Branch) NewStage(size int64, base remote.Entry) (*Stage, error) {
	return b.store.stages.New(b.below, size, base)
}

// Restage returns the staging file of a local version, with a reference for the caller;
// false if the server has it already (see Became) or it is no more.
func (b *Branch) Restage(version string) (*Stage, bool) {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	c, ok := b.contents[version]
	if !ok || c.stage == nil {
		return nil, false
	}
	return c.stage.retain(), true
}

// Became returns what the server has of a local version, if it has it.
func (b *Branch) Became(version string) (remote.Entry, bool) {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	c, ok := b.contents[version]
	if !ok || c.stage != nil {
		return remote.Entry{}, false
	}
	return *c.entry, true
}

// Commit puts the content of st at path. The entry shows it with a local version. The
// Stage may be written on; the next Commit of it replaces this one.
func (b *Branch) Commit(_ context.Context, path string, st *Stage, c Commit) (remote.Entry, error) {
	if err := remote.CheckPath("put", path); err != nil {
		return remote.Entry{}, err
	}
	if c.Sync {
		if err := errors.Join(st.Sync(), b.store.stages.sync()); err != nil {
			return remote.Entry{}, remote.E("put", path, kindOfDisk(err), err)
		}
	}
	e, err := b.commit(path, st, c, st.digest(st.Size(), maxSum))
	if err != nil {
		return e, err
	}
	if c.Sync {
		if err := b.store.journal.sync(); err != nil {
			return e, remote.E("put", path, kindOfDisk(err), err)
		}
	}
	b.store.poke()
	return e, nil
}

func (b *Branch) commit(path string, st *Stage, o Commit, d digest) (remote.Entry, error) {
	s := b.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return remote.Entry{}, &remote.Error{Op: "put", Path: path, Kind: remote.BadHandle}
	}
	o.Base = b.resolved(o.Base)
	if o.seen != nil && !b.stillSeen(path, *o.seen, o.at) {
		return remote.Entry{}, errSeen
	}
	c := &change{b: b, id: s.lastID + 1, kind: opPut, path: path, stage: st, base: o.Base, since: s.opts.Now()}
	if o.Cond.NotExist {
		c.base = remote.Entry{}
	}
	var drop *change
	if last, free := b.queue.tail(path); last != nil {
		switch {
		case last.kind == opPut && last.stage == st:
			return b.recommit(last, o, d)
		case free && last.simple() && last.base.Type != remote.Symlink && last.base.Type != remote.Dir &&
			(last.kind == opPut || last.kind == opSymlink && last.untouched() || last.revocable()):
			// What it was to do need not be done: this takes its place.
			drop = last
			c.base, c.after, c.ghosts = last.base, last.after, last.ghosts
			c.tried, c.replayed = last.tried || last.grow != nil, last.replayed // the server may have heard of that
			if last.kind == opPut && !last.untouched() {
				c.ghosts = haunted(last.ghosts, last.traces()...)
			}
			if mode, known := c.mode(); last.kind != opPut && o.Attrs.Mode == nil {
				o.Attrs.Mode = b.ownMode(remote.Entry{Type: remote.File, Mode: mode, ModeKnown: known})
			}
			if last.after == nil && last.base.Type == remote.File && o.Base.Version == last.base.Version {
				c.base = o.Base
			}
		default:
			c.base, c.after = remote.Entry{}, last
		}
	}
	c.describe(o, st, d, s)
	group := []record{c.record()}
	if drop != nil {
		group = append(group, doneRecord(drop))
	}
	if err := s.write(group...); err != nil {
		return remote.Entry{}, err
	}
	s.lastID++
	if drop != nil {
		b.withdraw(drop)
	}
	b.enqueue(c)
	s.tidy()
	return c.entry(path), nil
}

// describe gives a put its content and attributes. Guarded by store.mu.
func (c *change) describe(o Commit, st *Stage, d digest, s *Store) {
	now := s.opts.Now()
	c.size, c.attrs, c.mtime, c.loose = st.Size(), o.Attrs, now, o.Loose
	c.digest = d
	if d.size != c.size { // it is being written
		c.digest = digest{}
	}
	if o.Attrs.MTime != nil {
		c.mtime = *o.Attrs.MTime
	}
	c.version, c.synced = s.nextVersion(), o.Sync
	c.delay = now.Add(c.b.policy.Delay)
	if g := st.grown(c.path, o.Cond, c.b.sent(c.attrs)); g != nil && c.after == nil && c.gen == 0 {
		c.grow, c.announced, c.delay = g, true, time.Time{}
	} else if g != nil {
		g.cancel() // it builds on something else
	}
}

// recommit takes new content of a put that is in the queue. Guarded by store.mu.
func (b *Branch) recommit(c *change, o Commit, d digest) (remote.Entry, error) {
	s := b.store
	next := change{b: c.b, id: c.id, gen: c.gen + 1, kind: c.kind, path: c.path, stage: c.stage, base: c.base, after: c.after, since: c.since}
	next.describe(o, c.stage, d, s)
	if o.Attrs.Mode == nil {
		next.attrs.Mode = c.attrs.Mode
	}
	if t := o.Attrs.MTime; t != nil && c.attrs.MTime != nil && !c.loose && t.Equal(*c.attrs.MTime) {
		next.loose = false // it was set
	}
	next.ghosts = c.ghosts
	if c.grow != nil { // what was sent is not this
		c.tried, c.grow = true, nil
		c.stage.unfollow()
	}
	if c.tried || c.replayed {
		next.ghosts = haunted(c.ghosts, c.traces()...)
	}
	if err := s.write(next.record()); err != nil {
		return remote.Entry{}, err
	}
	if c.tried || c.replayed {
		c.ghosts = next.ghosts
	}
	b.unshow(c)
	c.gen, c.size, c.attrs, c.mtime, c.loose, c.version = next.gen, next.size, next.attrs, next.mtime, next.loose, next.version
	c.unsafe = false
	c.digest, c.announced, c.synced, c.delay, c.token = next.digest, next.announced, next.synced, next.delay, ""
	b.contents[c.version] = &content{stage: c.stage}
	if !c.synced {
		s.unsynced[c] = struct{}{}
	}
	switch c.state {
	case running:
		c.again = true
	case parked:
		c.state, c.cause, c.retry = idle, nil, time.Time{}
		delete(b.parked, c)
		b.queue.release(c)
	default:
		b.queue.fix(c)
	}
	s.tidy()
	return c.entry(c.path), nil
}

// enqueue makes a change, which is in the journal, one of the branch's. Guarded by
// store.mu.
func (b *Branch) enqueue(c *change) {
	b.all[c.id] = c
	if c.state == parked {
		b.parked[c] = struct{}{}
	}
	if c.stage != nil {
		c.stage.hold()
		b.uses(c)
		b.contents[c.version] = &content{stage: c.stage}
	}
	if !c.synced && !c.unsafe {
		b.store.unsynced[c] = struct{}{}
	}
	b.linger(c)
	if c.kind != opSetAttr && c.kind != opClean {
		for _, p := range c.paths() {
			b.unwait(p)
		}
	}
	b.queue.add(c)
	if b.store.draining > 0 {
		b.queue.hurry(c)
	}
	b.overrule(c)
	b.store.poke()
}

// uses notes that c needs its staging file. Guarded by store.mu.
func (b *Branch) uses(c *change) {
	st := c.stage
	st.users = append(st.users, c)
	st.refMu.Lock()
	defer st.refMu.Unlock()
	if st.onCut == nil {
		st.onCut = func(size int64) { b.cut(st, size) }
		st.onMove = func(move func() bool) bool { return b.store.moved(st, move) }
	}
}

// moved has a content get another place, and notes that.
func (s *Store) moved(st *Stage, move func() bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !move() {
		return false
	}
	st.note(s)
	return true
}

// cut notes that a staging file was cut, which a program may do long before it commits
// again: the journal must not speak of bytes that are no more.
func (b *Branch) cut(st *Stage, size int64) {
	s := b.store
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.opts.Now()
	var renamed []*change
	for _, c := range st.users {
		switch {
		case c.size <= size:
			continue
		case c.kind == opRename && b.shown(c.to) == c:
			renamed = append(renamed, c)
			continue
		case c.kind == opRename: // what is renamed on the server is as it was
			continue
		}
		if c.kind == opPut && (c.tried || c.replayed || c.grow != nil) {
			c.ghosts = haunted(c.ghosts, c.traces()...)
		}
		c.size, c.digest, c.announced, c.synced = size, digest{}, false, false
		if !c.unsafe {
			s.unsynced[c] = struct{}{}
		}
		c.delay = now.Add(b.policy.Delay)
		b.queue.fix(c)
	}
	st.note(s)
	for _, c := range renamed {
		b.putCut(c, size)
	}
}

// shown returns the change that makes the content that is seen at path, nil if none does.
// Guarded by store.mu.
func (b *Branch) shown(path string) *change {
	for _, c := range slices.Backward(b.queue.lines[path]) {
		if c.kind != opSetAttr && c.kind != opForeign && c.kind != opClean {
			return c
		}
	}
	return nil
}

// putCut has the server learn that what it was to rename is another content by now. It shows
// the same version as the rename: it is the same file. Guarded by store.mu.
func (b *Branch) putCut(renamed *change, size int64) {
	s := b.store
	now := s.opts.Now()
	last, _ := b.queue.tail(renamed.to)
	c := &change{b: b, id: s.lastID + 1, kind: opPut, path: renamed.to, stage: renamed.stage, size: size, after: last, since: now,
		mtime: now, attrs: remote.Attrs{MTime: &now}, loose: true, version: renamed.version, delay: now.Add(b.policy.Delay)}
	if err := s.write(c.record()); err != nil {
		s.log.Warn("that a file was cut is not in the journal yet", "branch", b.policy.Name, "path", c.path, "err", err)
		return
	}
	s.lastID++
	b.enqueue(c)
}

// note has the journal know what is here of a content, in the records of all changes that
// need it: the next mount believes the last of them. Guarded by store.mu.
func (st *Stage) note(s *Store) {
	group := make([]record, len(st.users))
	for i, c := range st.users {
		group[i] = c.record()
	}
	if len(group) > 0 {
		s.note(group...)
	}
}

// withdraw takes a change that has not begun out of the queue, with its content. Guarded
// by store.mu.
func (b *Branch) withdraw(c *change) {
	if c.grow != nil {
		c.grow.cancel() // harmless at its end
	}
	b.unshow(c)
	b.leave(c)
}

// unshow forgets the content of a version that c shows, unless another one does. Guarded by
// store.mu.
func (b *Branch) unshow(c *change) {
	if c.stage == nil || !slices.ContainsFunc(c.stage.users, func(d *change) bool { return d != c && d.version == c.version }) {
		delete(b.contents, c.version)
	}
}

// leave takes a change out of all tables. Guarded by store.mu.
func (b *Branch) leave(c *change) {
	b.queue.remove(c)
	delete(b.all, c.id)
	delete(b.torn, c)
	delete(b.parked, c)
	delete(b.store.unsynced, c)
	if c.pin != nil {
		c.pin.release()
		c.pin = nil
	}
	if c.stage != nil {
		c.stage.users = slices.DeleteFunc(c.stage.users, func(d *change) bool { return d == c })
		c.stage.drop()
	}
	b.store.wake.Broadcast()
}

// Sync waits until the server has what was committed at path. The error is that of the
// upload, or the context's.
func (b *Branch) Sync(ctx context.Context, path string) error {
	s := b.store
	defer context.AfterFunc(ctx, s.broadcast)()
	s.mu.Lock()
	defer s.mu.Unlock()
	c, _ := b.queue.tail(path)
	for c != nil {
		if err := b.awaitOver(ctx, c); err != nil || c.stored {
			return err
		}
		// It was replaced by another one, or given up.
		next, _ := b.queue.tail(path)
		if next == nil {
			return c.cause
		}
		c = next
	}
	return nil
}

// awaitOver waits until c is over; the error is what keeps it from that. Guarded by
// store.mu.
func (b *Branch) awaitOver(ctx context.Context, c *change) error {
	s := b.store
	tries := c.tries
	b.queue.awaited(c)
	s.poke()
	for c.state != over {
		switch err := c.trouble(true, map[*change]bool{}); {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && (c.state == parked || len(c.prev) > 0 || c.tries > tries):
			return err
		case s.closed:
			return &remote.Error{Op: "put", Path: c.path, Kind: remote.BadHandle}
		}
		s.wake.Wait()
	}
	return nil
}

func (s *Store) broadcast() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wake.Broadcast()
}

// Full returns why the server takes no more bytes, nil if it does as far as is known.
func (b *Branch) Full() error {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	if b.pace.why != nil && remote.KindOf(b.pace.why) == remote.NoSpace {
		return b.pace.why
	}
	return nil
}

package writeback

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// submit writes a new change into the journal, together with the end of those that it
// replaces, and queues it. Guarded by store.mu.
func (b *Branch) submit(c *change, instead ...*change) error {
	s := b.store
	if s.closed {
		return &remote.Error{Op: c.kind.String(), Path: c.path, Kind: remote.BadHandle}
	}
	c.b, c.id, c.since = b, s.lastID+1, s.opts.Now()
	group := []record{c.record()}
	for _, d := range instead {
		group = append(group, doneRecord(d))
	}
	if err := s.write(group...); err != nil {
		return err
	}
	s.lastID++
	if c.stage != nil { // it may be that of one that goes
		c.stage.hold()
		defer c.stage.drop()
	}
	for _, d := range instead {
		b.withdraw(d)
		if d.path != c.path {
			b.ends(d.path, remote.Entry{}) // it has another name now, or its place is taken
		}
	}
	b.enqueue(c)
	return nil
}

// MakeDir makes a directory. The caller knows that its parent is there and nothing at
// path.
func (b *Branch) MakeDir(_ context.Context, path string, a remote.Attrs) (remote.Entry, error) {
	return b.make(&change{kind: opMkdir, path: path, attrs: a}, noTime)
}

// MakeLink makes a symbolic link. The caller knows that its parent is there and nothing
// at path.
func (b *Branch) MakeLink(_ context.Context, path, target string) (remote.Entry, error) {
	return b.makeLink(path, target, noTime)
}

func (b *Branch) makeLink(path, target string, at uint64) (remote.Entry, error) {
	if _, ok := remote.As[remote.Symlinker](b.below); !ok || !b.below.Caps().StoresSymlinks {
		return remote.Entry{}, &remote.Error{Op: "symlink", Path: path, Kind: remote.Unsupported}
	}
	return b.make(&change{kind: opSymlink, path: path, target: target}, at)
}

// noTime is later than the ends of all changes.
const noTime = ^uint64(0)

// make queues c, which makes something where there was nothing at the time at.
func (b *Branch) make(c *change, at uint64) (remote.Entry, error) {
	if err := remote.CheckPath(c.kind.String(), c.path); err != nil {
		return remote.Entry{}, err
	}
	s := b.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if seen := b.sees(c.path); seen.known && seen.entry.Type != 0 {
		return remote.Entry{}, &remote.Error{Op: c.kind.String(), Path: c.path, Kind: remote.Exist}
	}
	if now, late := b.since(c.path, at); late && now.Type != 0 && !b.sees(c.path).known {
		return remote.Entry{}, &remote.Error{Op: c.kind.String(), Path: c.path, Kind: remote.Exist}
	}
	c.mtime, c.version = s.opts.Now(), s.nextVersion()
	c.after, _ = b.queue.tail(c.path)
	if c.attrs.MTime != nil {
		c.mtime = *c.attrs.MTime
	}
	if err := b.submit(c); err != nil {
		return remote.Entry{}, err
	}
	return c.entry(c.path), nil
}

// Unlink removes a file or symbolic link. The caller has just seen it as e.
func (b *Branch) Unlink(_ context.Context, e remote.Entry) error {
	s := b.store
	s.mu.Lock()
	defer s.mu.Unlock()
	e = b.resolved(e)
	c := &change{kind: opRemove, path: e.Path, typ: e.Type, base: e}
	if IsLocal(e.Version) { // of a change of which nothing is known any more
		c.base, c.doubt, c.ghosts = remote.Entry{}, true, []ghost{{size: e.Size, mtime: e.MTime, since: s.opts.Now()}}
		if e.Type == remote.Symlink {
			c.ghosts = halves(e.Target, s.opts.Now())
		}
	}
	last, free := b.queue.tail(e.Path)
	switch {
	case last == nil:
		return b.submit(c)
	case b.sees(e.Path) == sight{known: true}:
		return absent("remove", e.Path)
	case free && last.kind == opPut && last.growing(): // its upload may be at its end
		c.ghosts = haunted(last.ghosts, last.traces()...)
		last.dropped = true
		last.grow.cancel()
	case free && last.simple() && (last.kind == opPut || last.kind == opSymlink):
		if last.fresh() && last.untouched() {
			return b.cancelOut(last)
		}
		c.base, c.after, c.doubt = last.base, last.after, !last.untouched()
		c.ghosts = haunted(last.ghosts, last.traces()...)
		return b.submit(c, last)
	case free && last.kind == opPut && last.state == running:
		c.ghosts = haunted(last.ghosts, last.traces()...)
		last.dropped = true
		if last.size-last.sent.Load() > worthCutting && last.cancel != nil {
			last.cancel()
		}
	}
	c.base, c.after = remote.Entry{}, last
	return b.submit(c)
}

// worthCutting is how much an upload of what is not wanted any more must have to send yet
// to be cut off. A request that was cut off may be carried out later than the removal that
// follows it: it is looked after again then.
const worthCutting = 32 << 20

// cancelOut ends a change of which the server will never hear. Guarded by store.mu.
func (b *Branch) cancelOut(list ...*change) error {
	group := make([]record, 0, len(list))
	for _, c := range list {
		group = append(group, doneRecord(c))
	}
	if err := b.store.write(group...); err != nil {
		return err
	}
	for _, c := range list {
		b.withdraw(c)
		b.ends(c.path, remote.Entry{})
	}
	b.store.poke()
	return nil
}

// Move renames what the caller has just seen as from to to, where it has seen target, or
// nothing if that is nil. What is there is replaced, unless noReplace.
func (b *Branch) Move(ctx context.Context, from remote.Entry, to string, target *remote.Entry, noReplace bool) error {
	if err := remote.CheckPath("rename", to); err != nil {
		return err
	}
	s := b.store
	s.mu.Lock()
	if target != nil && noReplace {
		s.mu.Unlock()
		return &remote.Error{Op: "rename", Path: to, Kind: remote.Exist}
	}
	done, err := b.moveHere(from, to, target)
	s.mu.Unlock()
	if done || err != nil {
		s.poke()
		return err
	}
	if done, err := b.moveStaged(ctx, from, to, target); done || err != nil {
		return err
	}
	return b.alone(ctx, []string{from.Path, to}, true, func() error {
		settle, err := b.oweFor(ctx, to, from.Size)
		if err != nil {
			return err
		}
		err = b.below.Rename(ctx, from.Path, to, remote.RenameOptions{NoReplace: noReplace})
		settle(err)
		s.mu.Lock()
		defer s.mu.Unlock()
		b.becameOther(to)
		return err
	})
}

// moveHere renames without the server, if that can be. Guarded by store.mu.
func (b *Branch) moveHere(from remote.Entry, to string, target *remote.Entry) (bool, error) {
	last, free := b.queue.tail(from.Path)
	if last == nil || !free || from.Path == to {
		return from.Path == to, nil
	}
	if from.Type == remote.Dir {
		return b.moveTree(from.Path, to, target)
	}
	if last.kind != opPut && !(last.kind == opRename && last.to == from.Path && last.stage != nil) {
		return false, nil
	}
	there, ok := b.placeFor(to, target)
	if !ok {
		return false, nil
	}
	if last.kind == opPut && last.untouched() && last.fresh() && last.grow == nil {
		c := last.relabelled(to)
		c.base, c.after, c.ghosts = there.base, there.after, there.ghosts
		if c.attrs.Mode == nil {
			c.attrs.Mode = b.ownMode(there.shows())
		}
		return true, b.submit(c, append(there.instead, last)...)
	}
	c := &change{kind: opRename, path: from.Path, to: to, stage: last.stage, size: last.size, mtime: last.mtime, attrs: last.attrs,
		version: last.version, after: last, toAfter: there.after, synced: last.synced, digest: last.digest}
	if there.base.Type != 0 {
		c.toBase = &there.base
	}
	return true, b.submit(c, there.instead...)
}

// place is where a file is to go.
type place struct {
	base    remote.Entry // what the server has there
	after   *change      // or what this one leaves there
	instead []*change    // what need not be done any more
	ghosts  []ghost      // what may be there of it all the same
}

// shows returns the file that will be there.
func (p *place) shows() remote.Entry {
	if p.after != nil {
		return p.after.entry(p.after.path)
	}
	return p.base
}

// placeFor returns how a file can take the place of what is at path, where the caller has
// seen target; false if only the server can tell. Guarded by store.mu.
func (b *Branch) placeFor(path string, target *remote.Entry) (p place, ok bool) {
	there, free := b.queue.tail(path)
	switch {
	case !free:
		return p, false
	case there == nil && target != nil:
		p.base = b.resolved(*target)
	case there == nil:
	case there.kind == opRemove && there.typ == remote.Dir:
		return p, false
	case there.untouched() && (there.kind == opPut || there.revocable()):
		p = place{there.base, there.after, []*change{there}, there.ghosts}
	case there.kind == opPut || there.kind == opRemove || there.kind == opRename && (there.stage != nil || there.path == path):
		p.after = there
	default:
		return p, false
	}
	if made := p.after.makes(); made == remote.Dir || made == remote.Symlink {
		return p, false
	}
	return p, p.base.Type != remote.Dir && p.base.Type != remote.Symlink
}

// makes returns the type of what c leaves at its path, as far as that is known before: zero for
// nothing, or if it is not. c may be nil.
func (c *change) makes() remote.Type {
	for ; c != nil; c = c.after {
		switch c.kind {
		case opMkdir:
			return remote.Dir
		case opSymlink:
			return remote.Symlink
		case opSetAttr:
			if c.after == nil {
				return c.base.Type
			}
		default:
			return 0
		}
	}
	return 0
}

// relabelled returns a copy of a change that has not begun, with another path.
func (c *change) relabelled(path string) *change {
	return &change{b: c.b, gen: c.gen, kind: c.kind, path: path, target: c.target, typ: c.typ, stage: c.stage, size: c.size,
		mtime: c.mtime, attrs: c.attrs, loose: c.loose, version: c.version, synced: c.synced, digest: c.digest, delay: c.delay}
}

// moveTree renames a directory of which the server has nothing yet. Guarded by store.mu.
func (b *Branch) moveTree(from, to string, target *remote.Entry) (bool, error) {
	if target != nil || b.queue.last(to) != nil {
		return false, nil
	}
	all := slices.Clone(b.queue.lines[from])
	b.queue.below(from, func(l []*change) { all = append(all, l...) })
	for _, c := range all {
		if !c.untouched() || c.base.Type != 0 || c.after != nil || c.grow != nil ||
			c.kind != opMkdir && c.kind != opPut && c.kind != opSymlink {
			return false, nil
		}
	}
	slices.SortFunc(all, func(x, y *change) int { return strings.Compare(x.path, y.path) })
	return true, b.relabelTree(all, from, to)
}

// relabelTree gives the changes, parents before children, paths below another directory,
// in one step. Guarded by store.mu.
func (b *Branch) relabelTree(all []*change, from, to string) error {
	s := b.store
	var group []record
	moved := make([]*change, 0, len(all))
	for i, c := range all {
		n := c.relabelled(to + c.path[len(from):])
		n.id, n.since = s.lastID+1+uint64(i), c.since
		moved = append(moved, n)
		group = append(group, n.record(), doneRecord(c))
	}
	if err := s.write(group...); err != nil {
		return err
	}
	s.lastID += uint64(len(all))
	for i, n := range moved {
		if n.stage != nil {
			n.stage.hold() // for as long as the old one is taken out
		}
		b.withdraw(all[i])
		b.ends(all[i].path, remote.Entry{})
		b.enqueue(n)
		if n.stage != nil {
			n.stage.drop()
		}
	}
	return nil
}

// SetAttrs changes attributes of what the caller has just seen as e. The entry shows
// those that will be kept.
func (b *Branch) SetAttrs(ctx context.Context, e remote.Entry, a remote.Attrs) (remote.Entry, error) {
	s := b.store
	s.mu.Lock()
	defer s.mu.Unlock()
	e = b.resolved(e)
	last, _ := b.queue.tail(e.Path)
	if last == nil && !IsLocal(e.Version) { // what is pending shows all, and says what was not kept
		a = b.keepable(a)
	}
	if a.MTime == nil && a.Mode == nil {
		return e, nil
	}
	dirTime := e.Type == remote.Dir && a.MTime != nil // what is done below it would change it again
	if last != nil && last.simple() && last.grow == nil && !last.owes() && (last.kind == opPut || last.kind == opMkdir && !dirTime || last.kind == opSetAttr && !dirTime) {
		return b.fold(last, e, a)
	}
	c := &change{kind: opSetAttr, path: e.Path, attrs: a, base: e, after: last, deep: dirTime}
	if dirTime {
		c.typ = remote.Dir
	}
	if a.MTime != nil {
		c.mtime = *a.MTime
	}
	if b.dresser != nil {
		c.delay = s.opts.Now().Add(attrLull)
	}
	if last != nil {
		c.base = remote.Entry{}
	}
	joined, err := b.join(last, c)
	if !joined && err == nil {
		err = b.submit(c)
	}
	if err != nil {
		return e, err
	}
	dress(&e, c.attrs)
	return b.clad(e), nil
}

// keepable returns what of a the server may keep.
func (b *Branch) keepable(a remote.Attrs) remote.Attrs {
	caps := b.Caps()
	_, ok := remote.As[remote.AttrSetter](b.below)
	if !ok || !caps.StoresMTime {
		a.MTime = nil
	}
	if !ok || !caps.StoresMode {
		a.Mode = nil
	}
	return a
}

// fold adds attributes to a change that has not begun. Guarded by store.mu.
func (b *Branch) fold(c *change, e remote.Entry, a remote.Attrs) (remote.Entry, error) {
	was, mtime, loose := c.attrs, c.mtime, c.loose
	if a.MTime != nil {
		c.attrs.MTime, c.mtime, c.loose = a.MTime, *a.MTime, false
	}
	if a.Mode != nil {
		c.attrs.Mode = a.Mode
	}
	if err := b.store.write(c.record()); err != nil {
		c.attrs, c.mtime, c.loose = was, mtime, loose
		return e, err
	}
	dress(&e, c.attrs)
	return b.clad(e), nil
}

// alone runs do when all changes that concern the paths are on the server, and keeps
// later ones back meanwhile. It fails with what keeps one of them from going there.
func (b *Branch) alone(ctx context.Context, paths []string, deep bool, do func() error) error {
	s := b.store
	if err := remote.ContextErr(ctx); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, s.broadcast)()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return &remote.Error{Op: "wait", Path: paths[0], Kind: remote.BadHandle}
	}
	c := &change{b: b, kind: opForeign, path: paths[0], deep: deep, ready: make(chan struct{}), since: s.opts.Now()}
	if len(paths) > 1 {
		c.to = paths[1]
	}
	b.queue.add(c)
	b.overrule(c)
	for _, d := range c.prev {
		b.queue.hurry(d)
	}
	s.poke()
	err := b.await(ctx, c)
	s.mu.Unlock()
	if err == nil {
		err = do()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b.clock++
	b.queue.remove(c)
	s.poke()
	return err
}

// await waits until it is the turn of a foreign call. Guarded by store.mu.
func (b *Branch) await(ctx context.Context, c *change) error {
	late := time.AfterFunc(b.store.opts.Patience, b.store.broadcast)
	defer late.Stop()
	for c.state != running {
		patient := b.store.opts.Now().Sub(c.since) < b.store.opts.Patience
		if b.store.paused || !b.store.started && !patient { // it is started when all branches are there
			return &remote.Error{Op: "wait", Path: c.path, Kind: remote.Unavailable, Err: errors.New("uploads are paused, and this has to wait for one")}
		}
		if b.pace.why != nil && !patient {
			return b.pace.why
		}
		if err := c.trouble(patient, map[*change]bool{}); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if b.store.closed {
			return &remote.Error{Op: "wait", Path: c.path, Kind: remote.BadHandle}
		}
		b.store.wake.Wait()
	}
	return nil
}

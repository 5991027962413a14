package writeback

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// schedule starts changes as their time comes. It is the only one that does.
func (s *Store) schedule() {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		s.mu.Lock()
		wait := s.startSome()
		s.mu.Unlock()
		t.Reset(wait)
		select {
		case <-s.life.Done():
			return
		case <-s.kick:
		case <-t.C:
		}
	}
}

// idleLook is how often the scheduler looks when nothing tells it to.
const idleLook = time.Minute

// startSome starts what can be, one of each branch in turn, and returns when to look
// again. Guarded by mu.
func (s *Store) startSome() time.Duration {
	wait := idleLook
	if s.paused || s.closed || len(s.branches) == 0 {
		return wait
	}
	now := s.opts.Now()
	for idleTurns := 0; idleTurns < len(s.branches); {
		b := s.branches[s.turn%len(s.branches)]
		s.turn++
		group, next := b.pick(now)
		if len(group) == 0 {
			wait = min(wait, next)
			idleTurns++
			continue
		}
		idleTurns = 0
		b.start(group, now)
	}
	return max(wait, time.Millisecond)
}

// pick takes the next change that may begin, or small files or removals that leave together,
// or tells when to look again. Guarded by store.mu.
func (b *Branch) pick(now time.Time) ([]*change, time.Duration) {
	if why := b.pace.why; why != nil && remote.KindOf(why) == remote.NoSpace && b.active == 0 {
		removal := func(c *change) bool { return c.kind == opRemove && !c.due().After(now) }
		if c := cmp.Or(b.queue.heap.first(removal), b.queue.gone.first(removal)); c != nil {
			b.queue.drop(c) // it may make room
			return []*change{c}, 0
		}
	}
	soonLight := idleLook
	if c := b.queue.heap.top(); c != nil && c.isLight() && b.hasLightRoom(now) {
		if soonLight = c.due().Sub(now); soonLight <= 0 {
			b.queue.heap.drop(c)
			c.slight = true
			b.light++
			return []*change{c}, 0
		}
	}
	if !b.pace.room(b.active-b.light, now) {
		if d := b.pace.until.Sub(now); d > 0 {
			return nil, min(d, b.roomSoon(now))
		}
		return nil, min(soonLight, idleLook) // of the others, the end of another one tells
	}
	wait := idleLook
	if one, gone := b.queue.heap.top(), b.queue.gone.top(); gone != nil && (one == nil || !one.before(gone)) {
		var group []*change
		if group, wait = b.gatherTree(now); len(group) > 0 {
			return group, 0
		}
	}
	if one, some := b.queue.heap.top(), b.queue.small.top(); one == nil || some != nil && some.before(one) {
		var group []*change
		var d time.Duration
		if group, d = b.gather(now); len(group) > 0 {
			return group, 0
		}
		wait = min(wait, d)
	}
	attrs, d := b.gatherAttrs(now)
	if len(attrs) > 0 {
		return attrs, 0
	}
	wait = min(wait, d)
	rest, d := b.gatherRest(now)
	if len(rest) > 0 {
		return rest, 0
	}
	wait = min(wait, d)
	c := b.queue.heap.top()
	if c == nil {
		return nil, wait
	}
	if d := c.due().Sub(now); d > 0 {
		return nil, min(d, wait)
	}
	b.queue.heap.drop(c)
	return []*change{c}, 0
}

// start carries out what pick has taken. Guarded by store.mu.
func (b *Branch) start(group []*change, now time.Time) {
	b.active++
	switch {
	case len(group) == 1:
		b.launch(group[0], now, nil)
		return
	case group[0].kind == opRemove:
		b.launchTree(group, now)
		return
	}
	x := b.newBatch(group)
	for _, c := range group {
		b.launch(c, now, x)
	}
}

// launch carries a change out in a goroutine, with others if x is not nil. Guarded by
// store.mu.
func (b *Branch) launch(c *change, now time.Time, x *batch) {
	s := b.store
	ctx, cancel := context.WithCancel(s.life)
	c.state, c.cancel = running, cancel
	c.cause, c.again = nil, false
	b.rebase(c)
	redo := c.tried || c.replayed
	c.tried = true
	j := job{b: b, c: c, start: now, since: c.since, kind: c.kind, path: c.path, to: c.to, target: c.target, typ: c.typ, stage: c.stage,
		base: c.base, attrs: c.setting(), size: c.size, redo: redo, hold: c.tears >= maxTears,
		grow: c.grow, batch: x, loose: c.loose, gen: c.gen, source: c.source, digest: c.digest, doubt: c.doubt,
		made: c.made && !redo, ghosts: slices.Clone(c.ghosts)}
	if c.toBase != nil {
		j.toBase = *c.toBase
	}
	if c.stage != nil {
		c.stage.retain()
	}
	s.log.Debug("a change is carried out", "branch", b.policy.Name, "op", j.kind.String(), "path", j.path, "to", j.to, "id", c.id, "gen", j.gen,
		"size", j.size, "base", j.base.Version, "redo", j.redo)
	s.working.Go(func() {
		defer cancel()
		over := func() {}
		if j.stage != nil {
			over = j.stage.send()
		}
		r := j.run(remote.WithoutRetry(ctx))
		if j.batch != nil {
			j.batch.come() // it has ended before
		}
		if j.stage != nil {
			if r.err != nil && x == nil && final(r.err) {
				_, _ = j.stage.Own() // it is parked, where people find it
			}
			j.stage.Release() // before the change lets go of it: who waits for space looks then
		}
		b.finish(c, &j, x, r)
		over()
	})
}

// maxTears is after how many uploads that the program has torn it is kept from writing
// until one is through.
const maxTears = 3

// outcome is what has become of a change.
type outcome struct {
	err   error
	entry remote.Entry // on the server now; zero Type: nothing is there
	// copy is where our content went, as somebody else's is at the path: entry is theirs.
	copy remote.Entry
	// kept: somebody else's change made ours void; entry is what is there.
	kept string
	wish remote.Attrs // attributes that the server did not keep
	rest remote.Attrs // of a directory that was made: still to be set, by a change of its own
	made bool         // the attempt has made the directory, and set none of its attributes
	// theirs: what has the attributes now is somebody else's content.
	theirs bool
}

// finish takes the result of a change that was begun with x.
func (b *Branch) finish(c *change, j *job, x *batch, r outcome) {
	s := b.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.leaveBatch(x) {
		b.active--
	}
	if c.slight {
		c.slight = false
		b.light--
	}
	c.cancel = nil
	now := s.opts.Now()
	s.log.Debug("an attempt at a change has ended", "branch", b.policy.Name, "op", j.kind.String(), "path", j.path, "id", c.id,
		"version", r.entry.Version, "err", r.err)
	if j.pin != nil {
		j.pin.release()
	}
	if c.pin != nil && c.pin.hold {
		b.unhold(c)
	}
	switch {
	case s.closed && r.err != nil:
		c.state = idle // it stays in the journal
	case c.dropped && r.err != nil:
		b.withdrawn(c, j)
		b.judge(x, trouble{}, j.start, now)
	case r.err != nil:
		b.judge(x, b.failed(c, x, r.err, now), j.start, now)
	default:
		b.judge(x, trouble{none: true}, j.start, now)
		b.rate.add(j.size, now)
		b.succeeded(c, j, r)
	}
	s.wake.Broadcast()
	s.poke()
}

// unhold lets writers go on who were held up, at the end of an attempt. Guarded by
// store.mu.
func (b *Branch) unhold(c *change) {
	c.token = "" // what the server has of it may not be what is here
	b.store.note(c.record())
	c.pin.release()
	c.pin = nil
}

// failed decides how a change goes on after an error, and returns what that tells of the
// server. Guarded by store.mu.
func (b *Branch) failed(c *change, x *batch, err error, now time.Time) (t trouble) {
	if errors.Is(err, errTorn) {
		c.tears++
		c.delay = now.Add(b.policy.Delay)
		b.queue.again(c)
		return t
	}
	if errors.Is(err, errAlone) || x != nil && final(err) { // what is wrong with many need not be wrong with each
		c.lone, c.again = true, false
		b.queue.again(c)
		return t
	}
	c.tries++
	c.cause = err
	if c.again {
		c.again, c.tries = false, 0 // with new content it may be another matter
	} else if final(err) && !(remote.KindOf(err) == remote.Invalid && c.kind == opPut && c.tries < 3) {
		// A request that was cut on its way is a bad one, too.
		b.park(c)
		return t
	}
	t.asked = askedFor(err)
	c.retry = now.Add(b.pace.backOff(c.tries, t.asked))
	if x != nil { // they go together again
		if x.retry.Before(now.Add(t.asked)) {
			x.retry = c.retry
		}
		c.retry = x.retry
	}
	if kindOfDisk(err) != remote.NoSpace { // a full disk of this node says nothing of the server
		t.err = err
	}
	if c.tries == 1 || c.tries&(c.tries-1) == 0 {
		b.store.log.Warn("a change could not be brought to the server yet; it will be tried again",
			"branch", b.policy.Name, "op", c.kind.String(), "path", c.path, "tries", c.tries, "err", err)
	}
	b.queue.again(c)
	return t
}

// park keeps a change for the user. Guarded by store.mu.
func (b *Branch) park(c *change) {
	c.state = parked
	b.parked[c] = struct{}{}
	b.queue.excuse(c)
	b.store.note(c.parkedRecord())
	b.store.log.Error("a change cannot be brought to the server; it is kept on this node: see meshmount status",
		"branch", b.policy.Name, "op", c.kind.String(), "path", c.path, "id", c.id, "err", c.cause)
}

// withdrawn ends a change that was withdrawn while it was carried out, and did not come
// to its end. Guarded by store.mu.
func (b *Branch) withdrawn(c *change, j *job) {
	var changed []*change
	for _, d := range c.next {
		if d.toAfter == c || d.after == c {
			changed = append(changed, d)
		}
		if d.toAfter == c {
			d.toAfter, d.toBase = nil, c.below()
		}
		if d.after == c {
			d.after, d.base, d.doubt = nil, c.base, true
			d.retry = b.store.opts.Now().Add(b.store.opts.Late)
			b.queue.fix(d)
			d.ghosts = haunted(haunted(d.ghosts, c.ghosts...), c.traces()...)
		}
	}
	b.store.note(rebased(changed, doneRecord(c))...)
	b.withdraw(c)
}

// rebased adds the records of changes that build on something else now.
func rebased(list []*change, group ...record) []record {
	for _, d := range list {
		group = append(group, d.record())
	}
	return group
}

// succeeded ends a change that the server has, or goes on with what it became meanwhile.
// Guarded by store.mu.
func (b *Branch) succeeded(c *change, j *job, r outcome) {
	s := b.store
	c.tries, c.tears, c.cause = 0, 0, nil
	if r.copy.Type != 0 || r.kept != "" {
		b.conflicted(c, r)
	}
	if c.stage != nil {
		c.layOver(r)
	}
	if c.again && !c.dropped {
		c.again, c.base, c.after, c.token = false, r.entry, nil, ""
		if r.copy.Type != 0 {
			c.base = remote.Entry{} // what came since then is in no copy yet
		}
		c.delay = s.opts.Now().Add(b.policy.Delay)
		s.note(c.record())
		b.queue.again(c)
		return
	}
	if r.rest != (remote.Attrs{}) && !b.setRest(c, r) {
		b.queue.again(c)
		return
	}
	was := c.version
	if c.kind == opSetAttr && !c.owes() && !r.theirs {
		was = j.base.Version
		b.reattributed(c, was, r.entry)
	} else {
		b.became(r.entry)
	}
	changed := b.handOn(c, r)
	moved := b.movedOn(c)
	c.stored = true
	s.note(rebased(changed, doneRecord(c))...)
	path := c.path
	if c.to != "" {
		b.ends(c.path, remote.Entry{})
		path = c.to
	}
	b.ends(path, r.entry)
	b.replaced(path, c.replaces(path))
	if r.copy.Type != 0 {
		b.ends(r.copy.Path, r.copy)
	}
	if c.stage != nil {
		b.stored(c, r, moved)
	}
	b.leave(c)
	s.tidy()
	if moved && r.copy.Type == 0 {
		return
	}
	x := Settled{Path: path, Was: was, Entry: r.entry, Attrs: r.wish, Loose: c.loose, Copy: r.copy}
	if x.Entry.Type != 0 { // others may still be to be set
		dress(&x.Entry, b.sees(path).attrs)
	}
	if f := b.onSettled; f != nil {
		b.teller.tell(func() { f(x) })
	}
}

// handOn has the changes that build on c build on what it has left on the server, and returns
// them. Guarded by store.mu.
func (b *Branch) handOn(c *change, r outcome) []*change {
	var changed []*change
	for _, d := range c.next {
		if d.toAfter == c || d.after == c {
			changed = append(changed, d)
		}
		if d.toAfter == c {
			d.toAfter, d.toBase = nil, c.leaves(d.to, r)
			d.inherit(c)
		}
		if d.after != c {
			continue
		}
		d.after, d.base = nil, remote.Entry{}
		if left := c.leaves(d.path, r); left != nil {
			d.base = *left
		}
		d.made = r.made && d.kind == opSetAttr
		d.inherit(c)
		if d.kind == opRename {
			// The program may have cut the file before it was sent, and not committed that.
			d.base, d.size, d.digest = r.entry, r.entry.Size, c.digest
			if r.copy.Type != 0 {
				d.source, d.size = r.copy.Path, r.copy.Size
			}
		} else if d.kind == opSetAttr && r.copy.Type != 0 {
			d.source = r.copy.Path // theirs stays as it is
		}
	}
	return changed
}

// inherit takes over what attempts before the one that went well may still store: requests
// of which we heard no more, and those of the process before. Guarded by store.mu.
func (c *change) inherit(before *change) {
	if !before.replayed && len(before.ghosts) == 0 {
		return
	}
	c.ghosts = haunted(append(slices.Clone(before.ghosts), c.ghosts...), before.traces()...)
	if c.kind == opRemove && c.typ != remote.Dir && len(c.ghosts) > 0 {
		c.doubt = true
	}
}

// movedOn tells whether a later change shows the content of c: a rename elsewhere, or what
// was cut of it. Guarded by store.mu.
func (b *Branch) movedOn(c *change) bool {
	return c.stage != nil && slices.ContainsFunc(c.stage.users, func(d *change) bool { return d.id > c.id && d.version == c.version })
}

// layOver has the bytes that the stage of c has not come from what the server has of it
// now. Guarded by store.mu.
func (c *change) layOver(r outcome) {
	e := r.entry
	if r.copy.Type != 0 {
		e = r.copy
	}
	if e.Type == remote.File && len(c.stage.Missing(0, c.stage.Size())) > 0 {
		c.stage.Rebase(remote.Ref{Path: e.Path, Version: e.Version, Size: e.Size})
	}
}

// maxSettled is for how many contents is remembered what they became.
const maxSettled = 16384

// stored notes that the server has the content of c. Guarded by store.mu.
func (b *Branch) stored(c *change, r outcome, moved bool) {
	if moved {
		return
	}
	e := r.entry
	if r.copy.Type != 0 {
		e = r.copy
	}
	b.remember(c.version, e)
	b.contents[c.version].aside = r.copy.Type != 0
}

// remember notes what the server has of a version. Guarded by store.mu.
func (b *Branch) remember(version string, e remote.Entry) {
	b.contents[version] = &content{entry: &e}
	b.settled = append(b.settled, version)
	if len(b.settled) > maxSettled {
		delete(b.contents, b.settled[0])
		b.settled = b.settled[1:]
	}
}

// letGo gives up what the branch holds, at the end. The files stay. Guarded by store.mu.
func (b *Branch) letGo() {
	for _, c := range b.all {
		if c.stage != nil {
			c.stage.Release()
		}
	}
}

package writeback

import (
	"slices"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// isLight tells whether a change sends no content, but for what goes wrong.
func (c *change) isLight() bool {
	switch c.kind {
	case opMkdir, opSetAttr, opRemove, opSymlink, opRename:
		return true
	}
	return false
}

// hasLightRoom tells whether a change without content may begin in the room that they have for
// themselves. Guarded by store.mu.
func (b *Branch) hasLightRoom(now time.Time) bool {
	p := &b.policy
	if p.Calls <= 0 || b.pace.why != nil {
		return false
	}
	return b.pace.room(b.light*p.Workers/p.Calls, now)
}

// mayWait tells whether the mode of a directory that is made may be set by a change of its own,
// later: programs make directories that nobody else may read, and give them another mode and
// time when all is in them (tar, rsync). What sets another one already is not waited for.
func (j *job) mayWait() bool {
	_, ok := remote.As[remote.AttrSetter](j.b.below)
	j.b.store.mu.Lock()
	defer j.b.store.mu.Unlock()
	if !ok || j.c.atOnce || j.b.crossed(j.c) {
		return false
	}
	d := j.b.follower(j.c)
	return d != nil && d.attrs.Mode != nil || j.b.policy.Delay > 0 && !j.c.urgent
}

// follower returns the change that sets attributes of the directory that c makes, if nothing
// else is to be done there. Guarded by store.mu.
func (b *Branch) follower(c *change) *change {
	line := b.queue.lines[c.path]
	if last := line[len(line)-1]; len(line) == 2 && last.kind == opSetAttr && last.after == c && last.untouched() {
		return last
	}
	return nil
}

// mayFollow tells whether a change of attributes may follow the one of the job: nothing else
// does already, or waits for it above, and nobody waits for this file alone.
func (j *job) mayFollow() bool {
	b := j.b
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	last := b.queue.last(j.path)
	return b.dresser != nil && !j.c.atOnce && !j.c.again && (!j.c.urgent || b.store.draining > 0) && !b.crossed(j.c) &&
		(last == j.c || last.kind == opSetAttr && last.after == j.c && last.untouched())
}

// crossed tells whether a change that follows c, which is under way, would come too late: somebody
// waits for this one alone, or something else waits that concerns a directory above it, as that
// came after c. What follows c now would come after that as well, for which its path may be
// another one, and which may wait for it. Guarded by store.mu.
func (b *Branch) crossed(c *change) bool {
	for dir := c.path; dir != "/"; {
		if dir, _ = remote.Split(dir); b.queue.barrier(dir, false) != nil {
			return true
		}
	}
	return c.lone
}

// setRest has a change follow c, which has made a directory or stored a file, that sets what is
// still to be set; or the one that follows anyway sets it. It is false if c has to do that itself, as something
// else follows. Guarded by store.mu.
func (b *Branch) setRest(c *change, r outcome) bool {
	line := b.queue.lines[c.path]
	moved := slices.ContainsFunc(line, func(d *change) bool { return d.kind == opRename })
	if last := line[len(line)-1]; c.dropped || last.kind == opRemove && !moved {
		return true // nobody will see it
	} else if last != c || b.crossed(c) {
		if last = b.follower(c); last != nil && !b.crossed(c) {
			last.attrs = andThen(r.rest, last.attrs) // its record is written with the end of c
			last.timed()
			return true
		}
		c.atOnce = true
		return false
	}
	s := b.store
	now := s.opts.Now()
	d := &change{b: b, id: s.nextID(), kind: opSetAttr, path: c.path, attrs: r.rest, base: r.entry, after: c, since: now,
		delay: now.Add(b.policy.Delay), later: c.kind == opPut}
	d.timed()
	b.enqueue(d)
	if c.urgent { // as somebody waits, though not for this one alone
		b.queue.hurry(d)
	}
	for _, e := range c.next { // the times of the directories around it
		if e.kind == opSetAttr && e.deep && e != d {
			e.follow(d)
		}
	}
	return true
}

// timed has the time that is to be set be the one that is shown.
func (c *change) timed() {
	if c.attrs.MTime != nil {
		c.mtime = *c.attrs.MTime
	}
}

// join has the attributes of a directory that wait to be set go with its time, which is set
// after all that is below it. It is false if there are none. Guarded by store.mu.
func (b *Branch) join(last, c *change) (bool, error) {
	if last == nil || last.kind != opSetAttr || !last.untouched() || len(last.next) > 0 || !c.deep {
		return false, nil
	}
	c.attrs, c.base, c.made, c.after, c.delay = andThen(last.attrs, c.attrs), last.base, last.made, last.after, last.delay
	return true, b.submit(c, last)
}

// unwait has attributes of the directory around path that wait to be set be set now: what is
// about to be done in it changes its time. Guarded by store.mu.
func (b *Branch) unwait(path string) {
	dir, _ := remote.Split(path)
	if d := b.queue.last(dir); d != nil && d.kind == opSetAttr && d.deep && d.state == idle {
		d.delay = time.Time{}
		b.queue.fix(d)
	}
}

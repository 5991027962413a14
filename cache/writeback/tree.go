package writeback

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// Pruning says how a directory is removed with all that is in it in one step, where the
// server can do that (remote.Pruner).
type Pruning struct {
	// Most is how many entries go at once at most, the directory among them; less than 2:
	// each entry goes by itself.
	Most int
	// Lull is how long no other removal must have come until a removal begins, as who
	// removes a tree removes the directory last; Longest bounds that wait. At a flush there
	// is none, nor if somebody waits. It is shorter, down to a tenth, once a directory went
	// with all that is pending and removals came in quick succession before.
	Lull, Longest time.Duration
}

const (
	// maxPruneTries is after how many failures a removal goes by itself.
	maxPruneTries = 3
	// pruneRecheck is how long removals wait for something else to end that is under way in
	// the same tree.
	pruneRecheck = 50 * time.Millisecond
)

// prunable tells whether a change is a removal that can go together with others: it is known
// what the server has there, and nothing that came before it is in doubt. Guarded by
// store.mu.
func (b *Branch) prunable(c *change) bool {
	if c.kind != opRemove || c.lone || c.doubt || c.after != nil || len(c.ghosts) > 0 || c.tries >= maxPruneTries {
		return false
	}
	return c.typ == remote.Dir || c.base.Type == 0 || c.base.Type != remote.Dir && c.base.Version != "" && !IsLocal(c.base.Version)
}

// prunes tells whether directories can go as a whole at present.
func (b *Branch) prunes() bool { return b.pruner != nil && b.pruner.Prunes() }

// linger has a removal wait for others. Guarded by store.mu.
func (b *Branch) linger(c *change) {
	if c.kind == opRemove && !c.replayed && b.prunes() {
		p := b.policy.Prune
		b.removals.add(c, p.Lull)
		c.delay = c.since.Add(min(p.Lull, p.Longest))
	}
}

// regather has removals of what is in a directory go with it, as that goes now, which were to
// go by themselves after they had waited for long. Guarded by store.mu.
func (b *Branch) regather(dir string) {
	if !b.prunes() {
		return
	}
	q := &b.queue
	for name := range q.kids[dir] {
		line := q.lines[remote.Join(dir, name)]
		if len(line) == 0 {
			continue
		}
		if c := line[0]; c.slot >= 0 && c.heap == &q.heap && !c.urgent && b.prunable(c) {
			q.drop(c)
			c.heap = &q.gone
			q.gone.put(c)
		}
	}
}

// removals tells how the removals of a branch follow each other.
type removals struct {
	last  time.Time // when the last one was made
	dir   string    // that was of this directory; "" if it was of something else
	pause time.Duration
}

// add takes up one more. A pause counts for less with each removal after it, to a third after
// 64: programs pause at each directory that is far away.
func (r *removals) add(c *change, lull time.Duration) {
	r.pause = max(min(c.since.Sub(r.last), lull), r.pause-r.pause/64)
	r.last, r.dir = c.since, ""
	if c.typ == remote.Dir {
		r.dir = c.path
	}
}

// lull returns how long none must have come until the tree of first goes, the oldest that is
// pending: as long as it is usual, unless first is in the directory that has just gone. Then
// that is most likely the last of a tree, and after several of the pauses that there were it is.
func (r *removals) lull(first *change, usual time.Duration) time.Duration {
	if r.dir == "" || !remote.Within(first.path, r.dir) {
		return usual
	}
	return min(usual, max(usual/10, 4*r.pause))
}

// RemoveDirSeen is RemoveDir of a directory that the caller has just seen to be empty, as far
// as it knows. That is believed if something in it was removed here and the server has yet to
// hear of that: it is looked at before the directory goes in any case, and what others have
// put there meanwhile stays, with the directory.
func (b *Branch) RemoveDirSeen(ctx context.Context, path string) error {
	if err := remote.CheckPath("remove", path); err != nil {
		return err
	}
	s := b.store
	s.mu.Lock()
	if b.prunes() && b.removedIn(path) {
		defer s.mu.Unlock()
		err := b.removeDir(path)
		if err == nil {
			b.foresee(path)
		}
		return err
	}
	s.mu.Unlock()
	return b.RemoveDir(ctx, path)
}

// removedIn tells whether a removal of something in a directory is pending. Guarded by
// store.mu.
func (b *Branch) removedIn(dir string) bool {
	for name := range b.queue.kids[dir] {
		if c := b.queue.last(remote.Join(dir, name)); c != nil && c.kind == opRemove {
			return true
		}
	}
	return false
}

// gatherTree takes the removals that leave together now: of a directory and all below it.
// None if it is not their time, and then how long that may take. What goes by itself is put
// among the others. Guarded by store.mu.
func (b *Branch) gatherTree(now time.Time) ([]*change, time.Duration) {
	q := &b.queue
	for {
		first := q.gone.top()
		if first == nil {
			return nil, idleLook
		}
		if d := first.due().Sub(now); d > 0 {
			return nil, d
		}
		if b.pace.why != nil { // one finds out whether a branch that is held can go on
			q.alone(first)
			return nil, 0
		}
		if d := b.lull(first, now); d > 0 {
			return nil, d
		}
		if group := b.treeOf(first, now); len(group) > 0 {
			for _, c := range group {
				q.drop(c)
			}
			return group, 0
		}
		if !first.due().After(now) {
			q.alone(first)
		}
	}
}

// roomSoon returns how long it takes until a removal that may make room on a full server can
// begin. Guarded by store.mu.
func (b *Branch) roomSoon(now time.Time) time.Duration {
	c := b.queue.gone.top()
	if c == nil || b.active > 0 || remote.KindOf(b.pace.why) != remote.NoSpace {
		return idleLook
	}
	return c.due().Sub(now)
}

// lull returns how long a removal waits for others yet. Guarded by store.mu.
func (b *Branch) lull(c *change, now time.Time) time.Duration {
	if c.urgent || c.tries > 0 || !b.prunes() {
		return 0
	}
	p := b.policy.Prune
	return min(b.removals.last.Add(b.removals.lull(c, p.Lull)).Sub(now), c.since.Add(p.Longest).Sub(now))
}

// treeOf returns the removals of the topmost directory that can go as a whole with first; none
// if there is no such directory, or if it is worth waiting for: then first is due later.
// Guarded by store.mu.
func (b *Branch) treeOf(first *change, now time.Time) []*change {
	q := &b.queue
	if !b.prunable(first) || !b.prunes() {
		return nil
	}
	var above []*change
	for dir, _ := remote.Split(first.path); dir != "/"; dir, _ = remote.Split(dir) {
		line := q.lines[dir]
		if len(line) == 0 || line[0].typ != remote.Dir || line[0].state != idle || !b.prunable(line[0]) {
			break
		}
		above = append(above, line[0])
	}
	for _, top := range slices.Backward(above) {
		group, rest := b.whole(top)
		switch {
		case rest == 0 && len(group) <= b.policy.Prune.Most:
			return group
		case rest == soon && now.Before(top.since.Add(b.policy.Prune.Longest)):
			b.postpone(group, now)
			return nil
		}
		top.lone = true // for good: who asks again would look at all of it again
	}
	return nil
}

// soon and never tell when what is in the way of a tree is over.
const (
	soon = iota + 1
	never
)

// whole returns the removals of a directory, which comes first, and of what is below it, and
// whether something else is pending there that is in the way: zero if not. Guarded by
// store.mu.
func (b *Branch) whole(top *change) (group []*change, rest int) {
	q := &b.queue
	take := func(line []*change) {
		for i, c := range line {
			switch {
			case i == 0 && c.id <= top.id && c.state == idle && b.prunable(c):
				group = append(group, c)
			case c.waitsFor(top, map[*change]bool{}): // of what is made anew
			case c.state == parked, c.cause != nil:
				rest = never
			default:
				rest = max(rest, soon)
			}
		}
	}
	take(q.lines[top.path])
	q.below(top.path, take)
	in := make(map[*change]struct{}, len(group))
	for _, c := range group {
		in[c] = struct{}{}
	}
	for _, c := range group {
		for _, d := range c.prev {
			if _, ok := in[d]; !ok {
				rest = max(rest, soon) // it waits for something elsewhere
			}
		}
	}
	return group, rest
}

// waitsFor tells whether c comes after d, by way of others too. Guarded by store.mu.
func (c *change) waitsFor(d *change, seen map[*change]bool) bool {
	for _, p := range c.prev {
		if p == d {
			return true
		}
		if !seen[p] {
			seen[p] = true
			if p.waitsFor(d, seen) {
				return true
			}
		}
	}
	return false
}

// postpone has those of a tree wait that could go by themselves. Guarded by store.mu.
func (b *Branch) postpone(group []*change, now time.Time) {
	for _, c := range group {
		if c.slot >= 0 && !c.retry.After(now) {
			c.retry = now.Add(pruneRecheck)
			b.queue.fix(c)
		}
	}
}

// launchTree removes a directory with what is below it, in a goroutine. The directory comes
// first in the group. Guarded by store.mu.
func (b *Branch) launchTree(group []*change, now time.Time) {
	s := b.store
	top := group[0]
	known := make([]remote.Known, 0, len(group)-1)
	for _, c := range group {
		c.state, c.cause, c.tried = running, nil, true
		if c != top && (c.typ == remote.Dir || c.base.Type != 0) { // else the server has never had it
			known = append(known, remote.Known{Path: c.path, Type: c.typ, Version: c.base.Version})
		}
	}
	s.log.Debug("a directory is removed with all that was removed in it", "branch", b.policy.Name, "path", top.path, "entries", len(group))
	s.working.Go(func() {
		ctx, cancel := context.WithCancel(remote.WithoutRetry(s.life))
		defer cancel()
		err := b.pruner.Prune(ctx, top.path, known)
		if remote.KindOf(err) == remote.NotExist && err != nil {
			err = nil // an attempt before, or somebody else
		}
		b.finishTree(group, err, now)
	})
}

// finishTree takes the result of launchTree.
func (b *Branch) finishTree(group []*change, err error, start time.Time) {
	s := b.store
	s.mu.Lock()
	defer s.mu.Unlock()
	b.active--
	now := s.opts.Now()
	s.log.Debug("an attempt at the removal of a directory with all in it has ended", "branch", b.policy.Name, "path", group[0].path, "err", err)
	switch {
	case err == nil:
		b.pace.wentWell()
		b.endTree(group)
	case s.closed: // they stay in the journal
		for _, c := range group {
			c.state = idle
		}
	case remote.KindOf(err) == remote.Conflict && group[0].tries > 0:
		b.delayTree(group, err, start, now) // the request before may still be at work, and change what is there
	case final(err):
		s.log.Info("a directory is not removed as a whole, as not all in it is as it was seen here or can go at once",
			"branch", b.policy.Name, "path", group[0].path, "err", err)
		b.splitTree(group, err)
	default:
		b.delayTree(group, err, start, now)
	}
	s.wake.Broadcast()
	s.poke()
}

// splitTree has a tree go in parts, for good: the directories down to that in which something
// else was found by themselves; or all by itself, if that is not known. Guarded by store.mu.
func (b *Branch) splitTree(group []*change, err error) {
	at := group[0].path
	var e *remote.Error
	known := errors.As(err, &e) && e.Kind == remote.Conflict && !e.Unsure && remote.Within(e.Path, at)
	for _, c := range group {
		c.lone = !known || remote.Within(e.Path, c.path)
		b.queue.again(c)
	}
}

// delayTree has removals that have failed together wait for the next attempt, together.
// Guarded by store.mu.
func (b *Branch) delayTree(group []*change, err error, start, now time.Time) {
	asked := askedFor(err)
	top := group[0]
	retry := now.Add(b.pace.backOff(top.tries+1, asked))
	b.pace.failed(err, start, now, asked)
	for _, c := range group {
		c.tries++
		c.cause, c.retry = err, retry
		b.queue.again(c)
	}
	b.store.log.Warn("a directory could not be removed from the server yet; it will be tried again",
		"branch", b.policy.Name, "path", top.path, "tries", top.tries, "err", err)
}

// keepBack has what follows a removal that was tried more than once wait a little: the first
// request may still be under way, and would take what is made anew. Guarded by store.mu.
func (b *Branch) keepBack(c *change) {
	until := b.store.opts.Now().Add(b.store.opts.Late)
	for _, d := range c.next {
		if d.retry.Before(until) {
			d.retry = until
			b.queue.fix(d)
		}
	}
}

// endTree ends removals that the server has carried out, in one group of the journal. Guarded
// by store.mu.
func (b *Branch) endTree(group []*change) {
	s := b.store
	// Who goes first frees who is below it from a list of all.
	slices.SortFunc(group, func(x, y *change) int { return strings.Compare(x.path, y.path) })
	var records []record
	late := group[0].tries > 0
	for _, c := range group {
		if late {
			b.keepBack(c)
		}
		c.tries, c.cause, c.stored = 0, nil, true
		records = rebased(b.handOn(c, outcome{}), append(records, doneRecord(c))...)
	}
	s.note(records...)
	f := b.onSettled
	for _, c := range group {
		b.ends(c.path, remote.Entry{})
		b.leave(c)
		if f != nil {
			x := Settled{Path: c.path, Was: c.version}
			b.teller.tell(func() { f(x) })
		}
	}
	s.tidy()
}

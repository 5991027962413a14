package writeback

import (
	"cmp"
	"slices"
	"time"
)

// Of Policy.Delay, what a file of a full batch waits of it, and how often is looked for one: less
// often where files are left alone for long, and where many have to be looked at.
const (
	restOf     = 10
	ebbRests   = 3 // so many times that, what is left when no more come
	burstLook  = 20 * time.Millisecond
	burstLooks = 20 // while a file is left alone for long enough
	burstEach  = 10 * time.Microsecond
)

// burst decides when so many new files wait that their batch need not be waited for: a program
// that makes hundreds of files in a row has more to send than fits into one request, and what the
// delays are for (that a file is written again or removed, that others come) is hardly to be
// expected of the oldest of them. When no more come after such batches, the program is through,
// and what is left need not be waited for either. It is pure.
type burst struct {
	look time.Time // not before, as looking costs something for each file
	last time.Time // when a full batch left
}

// waiting is what burst has to know of a file.
type waiting struct {
	c      *change
	size   int64
	since, // when it was closed last
	due time.Time
	// quiet: nobody has it open, and nothing was tried yet. An empty file may have been made just
	// now, for a content that is still to be written.
	quiet bool
}

// full returns the files of a batch that is full without waiting for the others' time, oldest
// first: each has been left alone for rest. It is what there is if full ones have left and no
// other has come since. None: how long it may take until there is one, at least; nothing tells of
// files that come.
func (u *burst) full(now time.Time, rest time.Duration, bounds Batching, list []waiting) (group []*change, wait time.Duration) {
	var bytes int64
	var newest time.Time
	for _, w := range list {
		if w.since.After(newest) {
			newest = w.since
		}
	}
	over := u.lately(now, rest) && now.Sub(newest) >= ebbRests*rest
	some := slices.DeleteFunc(list, func(w waiting) bool {
		return !w.quiet || w.size > bounds.Size || now.Sub(w.since) < rest
	})
	slices.SortFunc(some, func(a, b waiting) int {
		return cmp.Or(a.due.Compare(b.due), cmp.Compare(a.c.id, b.c.id))
	})
	for _, w := range some {
		if bytes+w.size > bounds.Bytes {
			u.last = now
			return group, 0 // the next one is too much
		}
		bytes += w.size
		if group = append(group, w.c); len(group) == bounds.Files {
			u.last = now
			return group, 0
		}
	}
	if over && len(group) > 0 {
		return group, 0
	}
	wait = max(burstLook, rest/burstLooks, time.Duration(len(list))*burstEach)
	u.look = now.Add(wait)
	return nil, wait
}

// lately tells whether a full batch has left within the delay of which rest is a part.
func (u *burst) lately(now time.Time, rest time.Duration) bool {
	return now.Sub(u.last) < restOf*rest
}

// may tells whether it is worth looking at n files of a given size in all.
func (u *burst) may(now time.Time, n int, rest time.Duration, bounds Batching) bool {
	return !now.Before(u.look) && (n >= bounds.Files || int64(n)*bounds.Size > bounds.Bytes || n > 0 && u.lately(now, rest))
}

// gatherFull takes the files of a full batch out of the queue before their time. Without one it
// returns when to look again. Guarded by store.mu.
func (b *Branch) gatherFull(now time.Time, bounds Batching, parallel int) ([]*change, time.Duration) {
	list := b.queue.small.list
	if bounds.Files == 0 || b.pace.why != nil || b.batching >= parallel {
		return nil, idleLook
	}
	rest := b.policy.Delay / restOf
	if !b.burst.may(now, len(list), rest, bounds) {
		if d := b.burst.look.Sub(now); d > 0 {
			return nil, d
		}
		return nil, idleLook // one that comes tells
	}
	some := make([]waiting, 0, len(list))
	for _, c := range list {
		some = append(some, waiting{c: c, size: c.size, since: c.delay.Add(-b.policy.Delay), due: c.due(),
			quiet: c.size > 0 && c.untouched() && !c.urgent && b.small(c) && c.retry.IsZero() && !c.stage.inUse()})
	}
	group, wait := b.burst.full(now, rest, bounds, some)
	for _, c := range group {
		b.queue.small.drop(c)
	}
	return group, wait
}

// inUse tells whether somebody besides the journal holds the file: a program has it open.
func (st *Stage) inUse() bool {
	st.refMu.Lock()
	defer st.refMu.Unlock()
	return st.refs > st.holders
}

package fs

import (
	"context"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// crossing is what was changed here in a directory while a listing of it is under way: the
// answer may be from before that or from after it. Guarded by metaCache.mu.
type crossing struct {
	names map[string]struct{}
	all   bool // of no name is it known that it was left alone
	// times are of directories in which a name has changed: not before these.
	times map[string]time.Time
}

// maxCrossing bounds the names of a crossing.
const maxCrossing = 10_000

// meet begins to take note of what is changed in a directory. Guarded by mu.
func (m *metaCache) meet(dir string) *crossing {
	c := &crossing{names: map[string]struct{}{}, times: map[string]time.Time{}}
	m.crossings[dir] = append(m.crossings[dir], c)
	return c
}

// part ends what meet has begun. Guarded by mu.
func (m *metaCache) part(dir string, c *crossing) {
	left := m.crossings[dir]
	for i := range left {
		if left[i] == c {
			left[i] = left[len(left)-1]
			left = left[:len(left)-1]
			break
		}
	}
	if len(left) == 0 {
		delete(m.crossings, dir)
	} else {
		m.crossings[dir] = left
	}
}

// crosses takes note of a change at rel. Guarded by mu.
func (m *metaCache) crosses(rel string) {
	dir, name := remote.Split(rel)
	for _, c := range m.crossings[dir] {
		if len(c.names) >= maxCrossing {
			c.all = true
		} else {
			c.names[name] = struct{}{}
		}
	}
	for _, c := range m.crossings[rel] {
		c.all = true
	}
}

// crossesTime takes note that a name has changed in a directory, which has the time at now.
// Guarded by mu.
func (m *metaCache) crossesTime(rel string, at time.Time) {
	dir, name := remote.Split(rel)
	for _, c := range m.crossings[dir] {
		c.times[name] = at
	}
}

// timed returns what a listing says of a directory with the time that it has now.
// Guarded by metaCache.mu.
func (c *crossing) timed(name string, e remote.Entry) remote.Entry {
	if at, ok := c.times[name]; ok && e.Type == remote.Dir && e.MTime.Before(at) {
		e.MTime = at
	}
	return e
}

// crossesAll takes note of a change of whole trees. Guarded by mu.
func (m *metaCache) crossesAll() {
	for _, cs := range m.crossings {
		for _, c := range cs {
			c.all = true
		}
	}
}

// touches tells whether what a listing says of a name may be from before a change made here.
// Guarded by metaCache.mu.
func (c *crossing) touches(name string) bool {
	_, ok := c.names[name]
	return c.all || ok
}

// settleCrossed puts what is known here of the names that were changed meanwhile in the
// place of what the listing says, and returns false if that is not known of all. What is
// known from before the listing may be what the changes have made untrue. Guarded by mu.
func (m *metaCache) settleCrossed(dir string, l *listing, o origin) bool {
	if o.crossing.all {
		return false
	}
	if len(o.crossing.names) > 0 {
		// What the directory showed may be of what others have made of these names since;
		// what is known here is not proven by that.
		l.self = ""
	}
	for name := range o.crossing.names {
		k, _, ok := m.lookupLocked(remote.Join(dir, name))
		switch {
		case !ok || k.at.Before(o.at):
			return false
		case k.absent:
			delete(l.names, name)
		default:
			k.e = m.bare(k.e)
			l.names[name] = k
		}
	}
	return true
}

// How a directory that nobody has listed is listed for the sake of names that are not there,
// which are asked for one after the other: each costs a round trip alone. That is how
// programs create many files, or look for them along a path.
const (
	missesAlone   = 3    // names that are asked for alone
	missesMore    = 8    // how many times as many after a listing that was of no use
	maxMissed     = 1000 // directories of which they are counted
	listedPerMiss = 1000 // names that a listing may have for each
)

// listPatience is how long somebody who asks for a name waits for a listing.
const listPatience = 2 * time.Second

// misses counts the names of a directory that were asked for in vain without a listing of it.
type misses struct {
	last string
	n    int
	next int // for the next listing
}

// missed takes note of a name that is not there.
func (m *metaCache) missed(rel string) {
	dir, name := remote.Split(rel)
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.dirs.get(dir); ok || rel == "/" {
		return
	}
	a, ok := m.misses.get(dir)
	if !ok {
		a.next = missesAlone
	}
	if a.last != name {
		a.last = name
		a.n++
	}
	m.misses.put(dir, a)
}

// listFor lists the directory of rel, of which nothing is known as a whole, if many names
// were asked for in it in vain. It tells whether that was of use. What such a listing does not
// show is believed for NegTTL only: nobody has asked for all names.
func (m *metaCache) listFor(ctx context.Context, rel string) bool {
	if rel == "/" || m.holds() <= 0 || m.b.NegTTL <= 0 {
		return false
	}
	dir, _ := remote.Split(rel)
	most := m.worthListing(dir)
	if most == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, listPatience)
	defer cancel()
	if m.list(ctx, dir, most) != nil || !m.knows(dir) {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.misses.remove(dir)
	return true
}

// foreseen is for how many names that are not there, besides a tenth of those that are, a
// listing that will soon be too old is renewed ahead.
const foreseen = 20

// foresee renews the listing that tells that rel is not there, in the background, if it is soon
// too old and many such names are asked for: a program that makes files in a directory, each
// after a look for its name, never waits for a listing then. It takes one at a time.
func (m *metaCache) foresee(ctx context.Context, rel string) {
	dir, _ := remote.Split(rel)
	m.mu.Lock()
	defer m.mu.Unlock()
	l, ok := m.dirs.get(dir)
	if !ok || rel == "/" || m.holds() <= 0 || !l.implied && m.proof() != proofNone {
		return
	}
	l.absences++
	if l.absences < foreseen+len(l.names)/10 || l.renewing || m.now().Sub(l.at) < m.absentFor(l)/2 {
		return
	}
	l.renewing = true
	m.detach(ctx, func(ctx context.Context) {
		_ = m.list(ctx, dir, 0) // or else the next one who asks does
		m.mu.Lock()
		defer m.mu.Unlock()
		l.absences, l.renewing = 0, false
	})
}

// worthListing returns how many names a listing of a directory may have, 0 if there is to be
// none.
func (m *metaCache) worthListing(dir string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, ok := m.misses.get(dir)
	if _, known := m.dirs.get(dir); !ok || known || a.n < a.next {
		return 0
	}
	a.next = a.n * missesMore
	m.misses.put(dir, a)
	return min((a.n+1)*listedPerMiss, maxKeepDir)
}

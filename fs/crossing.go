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
}

// maxCrossing bounds the names of a crossing.
const maxCrossing = 10_000

// meet begins to take note of what is changed in a directory. Guarded by mu.
func (m *metaCache) meet(dir string) *crossing {
	c := &crossing{names: map[string]struct{}{}}
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

// How a directory that nobody has listed is listed for the sake of the names in it that are
// asked for, one after the other: each costs a round trip alone.
const (
	asksAlone    = 4    // names that are asked for alone
	asksMore     = 8    // how many times as many must be asked for after a listing that was of no use
	maxAlone     = 1000 // directories of which the names are counted
	listedPerAsk = 1000 // names that a listing may have for each name that was asked for
)

// listPatience is how long somebody who asks for a name waits for a listing.
const listPatience = 2 * time.Second

// alone counts the names of a directory that were asked for without a listing of it.
type alone struct {
	last string
	asks int
	next int // asks for the next listing
}

// listFor lists the directory of rel, of which nothing is known as a whole, if it is one
// more of many names that are asked for in it. It tells whether that was of use.
func (m *metaCache) listFor(ctx context.Context, rel string) bool {
	if rel == "/" || m.holds() <= 0 || m.b.NegTTL <= 0 { // an absence is not to be believed
		return false
	}
	dir, name := remote.Split(rel)
	most := m.askedAlone(dir, name)
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
	m.alone.remove(dir)
	return true
}

// askedAlone counts one more name, and returns how many names a listing may have, 0 if
// there is to be none.
func (m *metaCache) askedAlone(dir, name string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.dirs.get(dir); ok {
		return 0
	}
	a, ok := m.alone.get(dir)
	if !ok {
		a.next = asksAlone
	}
	if a.last != name {
		a.last = name
		a.asks++
	}
	most := 0
	if a.asks >= a.next {
		most = min(a.asks*listedPerAsk, maxKeepDir)
		a.next = a.asks * asksMore
	}
	m.alone.put(dir, a)
	return most
}

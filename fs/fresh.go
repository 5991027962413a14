package fs

import (
	"context"
	"time"

	"github.com/meshmount/meshmount/cache/writeback"
	"github.com/meshmount/meshmount/remote"
)

// How listings that are too old are renewed. Where a directory shows something that
// changes with anything below it (proofVersion), or the server tells what has changed
// (proofTracker), a listing is proven by what its directory shows in a listing above
// that is itself proven: one question about the root is enough for a whole tree, and
// only the directories that have changed are listed again, on the way to what was
// asked for.

// proof is how the listings of a branch are proven.
type proof int

const (
	proofNone    proof = iota
	proofVersion       // the version of a directory changes with all below: Caps.PropagatesVersion
	proofTracker       // remote.Tracker
)

// relistFew is the number of names up to which a directory is listed again for the sake of
// a single one below it.
const relistFew = 100

// relistMax is the number of names up to which a directory is listed again for the sake
// of one below it, or of the second of its names that is asked for; for each time as many
// names, one more must be asked for: a listing of 1,000 names takes a server about as long
// as a question over a wide area takes.
const relistMax = 1000

// provenMost is for how long proofs are enough: there are changes that servers tell in no
// other way than by a listing (permissions, dead properties of others).
const provenMost = 10 * time.Minute

// proof returns how listings are proven at present; it may become weaker.
func (m *metaCache) proof() proof {
	switch {
	case m.holds() <= 0:
		return proofNone
	case m.b.Backend.Caps().PropagatesVersion:
		return proofVersion
	case m.tracker != nil:
		return proofTracker
	}
	return proofNone
}

// token returns what a directory shows of itself for the sake of proofs, "" if nothing.
// With a version, its listing is right as long as the token is the same; with a
// Tracker, it is right if moreover no change was told.
func (p proof) token(e remote.Entry) string {
	switch {
	case e.Type != remote.Dir || p == proofNone:
		return ""
	case p == proofVersion && !e.Provisional && !writeback.IsLocal(e.Version):
		return e.Version
	case p == proofTracker && e.Path == "/":
		return "/" // there is no other in its place
	case p == proofTracker:
		return e.ID
	}
	return ""
}

// proves tells since when a listing is known to be right, if its directory showed token
// at the time at and the last changes were told at told.
func (p proof) proves(l *listing, token string, at, told time.Time) time.Time {
	if l.self == "" || l.self != token {
		return l.at
	}
	if p == proofTracker && told.Before(at) {
		at = told
	}
	return later(l.at, at)
}

// origin is what is known of a listing before it is asked for.
type origin struct {
	mark     uint64
	at       time.Time
	self     string
	calls    uint64 // tracked.ended
	crossing *crossing
	implied  bool // for the sake of single names
}

// asking returns the origin of a listing that is asked for now. It is over with answered.
func (m *metaCache) asking(dir string) origin {
	p := m.proof()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.loadMark()
	o := origin{mark: m.markLocked(dir), at: m.now(), calls: m.tracked.ended, crossing: m.meet(dir)}
	if k, _, ok := m.lookupLocked(dir); ok && !k.absent {
		o.self = p.token(k.e)
	} else if dir == "/" {
		o.self = p.token(remote.Entry{Path: dir, Type: remote.Dir})
	}
	return o
}

// answered ends what asking has begun.
func (m *metaCache) answered(dir string, o origin) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.part(dir, o.crossing)
}

// change is a name of which a new listing tells something else than the one before.
type change struct {
	rel           string
	content, name bool // the content or attributes, the name itself
}

// maxChanges bounds what is told of one listing.
const maxChanges = 1000

// setListing records a complete directory, and returns the names that are gone since the
// last time. Of what was changed in it here since it was asked for, that is taken which is
// known here; if that is not enough, nothing is recorded.
func (m *metaCache) setListing(dir string, entries []remote.Entry, o origin) []change {
	p := m.proof()
	l := &listing{names: make(map[string]known, len(entries)), at: o.at, since: o.at, self: o.self, calls: o.calls, implied: o.implied}
	if p == proofTracker && !m.isTracked(o) {
		l.self = ""
	}
	kept := m.b.Tree.Prepare(cacheListing(dir, l, entries))
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range entries {
		if _, name := remote.Split(entries[i].Path); !o.crossing.touches(name) {
			l.names[name] = known{e: o.crossing.timed(name, m.bare(entries[i])), at: l.at}
		}
	}
	if !m.settleCrossed(dir, l, o) || len(l.names) > maxKeepDir {
		return nil
	}
	old, ok := m.dirs.get(dir)
	l.implied = l.implied && (!ok || old.implied)
	if p == proofTracker && !m.isTrackedLocked(o) && l.self != "" {
		l.self = "" // changes were told just now
		m.b.Tree.Forget(dir)
	} else if !l.implied && m.markLocked(dir) == o.mark && (m.holds() > 0 || m.b.DirStale > 0) && m.quiet(dir) { // or else it would never be looked at
		m.b.Tree.Save(kept)
	}
	for name := range l.names {
		m.single.remove(remote.Join(dir, name))
	}
	m.dirs.put(dir, l)
	if !ok {
		return nil
	}
	var gone []change
	for name, k := range old.names { // the rest was compared as it came
		if _, ok := l.names[name]; !ok && len(gone) < maxChanges {
			c, _ := m.compare(k.e, true, nil)
			gone = append(gone, c)
		}
	}
	return gone
}

// quiet tells whether the server shows a directory as it is here. What is pending is
// remembered by the journal alone.
func (m *metaCache) quiet(dir string) bool { return m.b.Back == nil || m.b.Back.Quiet(dir) }

// compare tells what a listing shows to be other, and forgets what was below a directory
// that is gone: e is nil if the name is. Guarded by mu.
func (m *metaCache) compare(old remote.Entry, known bool, e *remote.Entry) (c change, differs bool) {
	if !known {
		return change{rel: e.Path, name: true}, true
	}
	same := e != nil && e.Type == old.Type && (e.ID == old.ID || e.ID == "" || old.ID == "")
	if old.Type == remote.Dir && !same {
		m.forgetBelow(old.Path)
	}
	if !same {
		return change{rel: old.Path, name: true, content: true}, true
	}
	other := old.Type != remote.Dir && (e.Version != old.Version || e.Size != old.Size || e.Target != old.Target)
	return change{rel: old.Path, content: true}, other
}

// renew tries to make fresh what is known of the directory of rel, and tells whether it
// did something for that.
func (m *metaCache) renew(ctx context.Context, rel string) bool {
	dir, name := remote.Split(rel)
	m.mu.Lock()
	l, ok := m.dirs.get(dir)
	if !ok || rel == "/" || m.holds() <= 0 {
		m.mu.Unlock()
		return false
	}
	if l.asked != name {
		l.asked = name
		l.asks++
	}
	again := l.asks >= 2+len(l.names)/(relistMax+1)
	_, shown := l.names[name]
	m.mu.Unlock()
	// No proof has what an implied listing does not show believed for longer than NegTTL.
	if m.proof() == proofNone || l.implied && !shown {
		return again && m.list(ctx, dir, 0) == nil
	}
	return m.prove(ctx, dir, again)
}

// prove brings the listing of dir up to date as far as its directory, or those above,
// can tell, and tells whether it is. With again, dir itself is listed if it has changed.
func (m *metaCache) prove(ctx context.Context, dir string, again bool) bool {
	p := m.proof()
	if p == proofNone || !again && !m.provable(dir) || p == proofTracker && !m.track(ctx) {
		return false
	}
	chain := m.chain(dir)
	if len(chain) == 0 {
		return false
	}
	most := relistFew
	if again {
		most = relistMax
	}
	e, at, ok := m.top(ctx, p, chain[0])
	for i, d := range chain {
		if !ok || e.Type != remote.Dir {
			return false
		}
		last := i == len(chain)-1
		right, size := m.confirm(p, d, e, at)
		if !right {
			switch {
			case last && !again:
				return false
			case !last && size > most:
				e, at, ok = m.shown(ctx, chain[i+1])
				continue
			case m.list(ctx, d, 0) != nil:
				return false
			}
		}
		if !last {
			e, at, ok = m.shown(ctx, chain[i+1])
		}
	}
	return true
}

// provable tells whether anything can prove the listing of dir.
func (m *metaCache) provable(dir string) bool {
	m.bring(dir)
	m.mu.Lock()
	defer m.mu.Unlock()
	l, ok := m.dirs.get(dir)
	return ok && l.self != ""
}

// chain returns the directories above dir, topmost first, and dir, as far as their
// listings are known without a gap.
func (m *metaCache) chain(dir string) []string {
	n := 0
	for d := dir; m.knows(d); d, _ = remote.Split(d) {
		if n++; d == "/" {
			break
		}
	}
	chain := make([]string, n)
	for i := n - 1; i >= 0; i-- {
		chain[i] = dir
		dir, _ = remote.Split(dir)
	}
	return chain
}

func (m *metaCache) knows(dir string) bool {
	m.bring(dir)
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.dirs.get(dir)
	return ok
}

// top returns the entry of the topmost directory of a chain, and since when it is so.
func (m *metaCache) top(ctx context.Context, p proof, dir string) (remote.Entry, time.Time, bool) {
	if p == proofTracker && dir == "/" {
		m.mu.Lock()
		defer m.mu.Unlock()
		return remote.Entry{Path: dir, Type: remote.Dir}, m.tracked.at, true
	}
	return m.shown(ctx, dir)
}

// shown returns the entry of a directory, from the server if it is not fresh.
func (m *metaCache) shown(ctx context.Context, dir string) (remote.Entry, time.Time, bool) {
	for range 2 {
		m.mu.Lock()
		k, _, ok := m.lookupLocked(dir)
		fresh := ok && m.now().Sub(k.at) < m.holds()
		m.mu.Unlock()
		if fresh {
			return k.e, k.at, !k.absent
		}
		if _, _, err := m.stat(ctx, dir, true); err != nil {
			return remote.Entry{}, time.Time{}, false
		}
	}
	return remote.Entry{}, time.Time{}, false // changes keep coming
}

// confirm takes note that a directory showed e at the time at, and tells whether its
// listing is right now, and how many names are in it.
func (m *metaCache) confirm(p proof, dir string, e remote.Entry, at time.Time) (right bool, size int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, ok := m.dirs.get(dir)
	if !ok {
		return false, 0
	}
	if m.now().Sub(l.since) < provenMost {
		l.at = p.proves(l, p.token(e), at, m.tracked.at)
	}
	if right = m.now().Sub(l.at) < m.holds(); right {
		l.asked, l.asks = "", 0
	}
	return right, len(l.names)
}

// confirmHere is prove without any request.
func (m *metaCache) confirmHere(dir string) bool {
	p := m.proof()
	if !m.knows(dir) || p == proofNone {
		return false
	}
	m.mu.Lock()
	k, _, ok := m.lookupLocked(dir)
	m.mu.Unlock()
	if !ok || k.absent {
		return false
	}
	right, _ := m.confirm(p, dir, k.e, k.at)
	return right
}

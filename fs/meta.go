package fs

import (
	"context"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// Bounds of the metadata in memory.
const (
	maxKeepDir   = 50_000 // a larger directory's listing is not kept
	changeShards = 1024
	knownCost    = 320 // bytes of a known without its texts, in a map

	defaultMetaMemory = 64 << 20
)

// metaCache holds attributes, absences and complete listings of one branch for as
// long as its TTLs allow. Changes made through this mount are applied to it at
// once; an answer that was asked for before such a change and came after it is
// never kept. Safe for concurrent use.
type metaCache struct {
	b      Branch
	now    func() time.Time
	seed   maphash.Seed
	detach detacher
	usual  *remote.Modes // of entries without stored ones
	// list asks the server for a directory and waits until the answer is in dirs, unless
	// it has more than most names; 0 is any number.
	list    func(ctx context.Context, dir string, most int) error
	tracker remote.Tracker // nil if the backend is none

	mu      sync.Mutex
	single  generations[string, known]    // guarded by mu
	dirs    generations[string, *listing] // guarded by mu
	changes [changeShards]uint64          // guarded by mu; counts changes of names and of what is in them
	trees   uint64                        // guarded by mu; counts changes of whole trees
	kept    map[string]keptAttrs          // guarded by mu
	asked   map[string]*question          // guarded by mu; under way
	misses  generations[string, misses]   // guarded by mu; by directory
	// crossings are by directory; guarded by mu.
	crossings map[string][]*crossing
	tracked   tracked // guarded by mu
}

// detacher runs do in a goroutine of the FS, with a context that has the values of
// ctx and ends when the returned function is called or the FS is closed.
type detacher func(ctx context.Context, do func(context.Context)) context.CancelFunc

// known is what was seen of a name, and when.
type known struct {
	e      remote.Entry
	absent bool
	at     time.Time
}

// listing is a complete directory.
type listing struct {
	names map[string]known
	at    time.Time // of the request, or of a later proof that nothing has changed since
	since time.Time // of the request, or of the loading from the disk
	// self is what the directory itself showed before the request: as long as it shows
	// that, the listing is right. Empty if nothing can prove it.
	self  string
	calls uint64 // tracked.ended at the request
	// implied: no program has asked for all names, and absences hold for NegTTL only.
	implied bool
	asked   string // the last name that was asked for alone since it became too old
	asks    int    // how often that was another one
	// absences counts the names that were asked for and are not there; see foresee.
	absences int
	renewing bool // in the background
}

// keptAttrs are attributes that the server cannot keep; they live as long as the
// mount.
type keptAttrs struct {
	remote.Attrs
	version string // the content to which the time belongs
}

// newMetaCache makes one that takes about so many bytes of memory.
func newMetaCache(b Branch, now func() time.Time, detach detacher, memory int, usual *remote.Modes) *metaCache {
	m := &metaCache{b: b, now: now, usual: usual, seed: maphash.MakeSeed(), detach: detach,
		kept: map[string]keptAttrs{}, asked: map[string]*question{},
		misses: newGenerations[string, misses](maxMissed), crossings: map[string][]*crossing{},
		single: newGenerations[string, known](memory / 5),
		dirs:   newGenerations[string, *listing](memory / 5 * 4)}
	m.single.cost, m.dirs.cost = known.cost, (*listing).cost
	m.tracker, _ = remote.As[remote.Tracker](b.Backend)
	return m
}

func (k known) cost() int {
	e := &k.e
	return knownCost + len(e.Path) + len(e.Version) + len(e.ID) + len(e.Target) + len(e.Checksum.Hex)
}

func (l *listing) cost() int {
	n := knownCost
	for _, k := range l.names {
		n += k.cost()
	}
	return n
}

func (m *metaCache) shard(dir string) *uint64 {
	return &m.changes[maphash.String(m.seed, dir)%changeShards]
}

// mark returns a token for a question about rel or the names in it: it differs after
// a change there.
func (m *metaCache) mark(rel string) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.markLocked(rel)
}

// markLocked adds two numbers that only grow. Guarded by mu.
func (m *metaCache) markLocked(rel string) uint64 { return *m.shard(rel) + m.trees }

// changingTree must be called before and after a directory changes its name: no
// answer about anything that was asked for before may be kept.
func (m *metaCache) changingTree() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trees++
	m.crossesAll()
}

// changing must be called before and after a change of the name at rel.
func (m *metaCache) changing(rel string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changingLocked(rel)
}

// changingLocked is guarded by mu.
func (m *metaCache) changingLocked(rel string) {
	dir, _ := remote.Split(rel)
	*m.shard(dir)++
	*m.shard(rel)++
	m.crosses(rel)
	m.b.Tree.Forget(dir)
	m.b.Tree.Forget(rel)
	// A listing may hold the name now; what was known before must not come back
	// when the listing goes.
	m.single.remove(rel)
}

// renaming must be called before and after something of type t changes its name.
func (m *metaCache) renaming(from, to string, t remote.Type) {
	m.changing(from)
	m.changing(to)
	if t == remote.Dir {
		m.changingTree()
		m.b.Tree.ForgetTree(from)
		m.b.Tree.ForgetTree(to)
	}
}

// lookup returns what is known of rel and how much longer it holds. It asks nobody.
func (m *metaCache) lookup(rel string) (k known, left time.Duration, ok bool) {
	dir, _ := remote.Split(rel)
	m.bring(dir)
	m.mu.Lock()
	defer m.mu.Unlock()
	k, left, ok = m.lookupLocked(rel)
	return k, left, ok && left > 0
}

// filesBelow returns the files that are known at and below a directory, in memory.
func (m *metaCache) filesBelow(rel string) (names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.eachListing(func(_ map[string]*listing, dir string, l *listing) {
		if !remote.Within(dir, rel) {
			return
		}
		for _, k := range l.names {
			if k.e.Type == remote.File {
				names = append(names, k.e.Path)
			}
		}
	})
	for _, half := range []map[string]known{m.single.young, m.single.old} {
		for p, k := range half {
			if remote.Within(p, rel) && k.e.Type == remote.File {
				names = append(names, p)
			}
		}
	}
	return names
}

// recall returns what was last known of rel, whatever its age. It asks nobody.
func (m *metaCache) recall(rel string) (known, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, _, ok := m.lookupLocked(rel)
	return k, ok
}

// lookupLocked returns what is known of rel, whatever its age. Guarded by mu.
func (m *metaCache) lookupLocked(rel string) (k known, left time.Duration, ok bool) {
	dir, name := remote.Split(rel)
	now := m.now()
	if l, found := m.dirs.get(dir); found && rel != "/" {
		if k, ok = l.names[name]; ok {
			k.at = later(k.at, l.at)
			left = m.b.AttrTTL - now.Sub(k.at)
		} else {
			k, ok = known{absent: true, at: l.at}, true
			left = m.absentFor(l) - now.Sub(l.at)
			if later, found := m.single.get(rel); found && later.absent {
				left = max(left, m.b.NegTTL-now.Sub(later.at))
			}
		}
	} else if k, ok = m.single.get(rel); ok {
		left = m.b.AttrTTL - now.Sub(k.at)
		if k.absent {
			left = m.b.NegTTL - now.Sub(k.at)
		}
	}
	k.e = m.applyKept(k.e)
	return k, left, ok
}

// absentFor is how long it is believed that what a listing does not show is not there.
func (m *metaCache) absentFor(l *listing) time.Duration {
	if l.implied {
		return min(m.b.NegTTL, m.b.DirTTL)
	}
	return m.b.DirTTL
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// applyKept puts attributes that only this mount knows into e. Guarded by mu.
func (m *metaCache) applyKept(e remote.Entry) remote.Entry {
	a, ok := m.kept[e.Path]
	if !ok {
		return e
	}
	if a.Mode != nil && !e.ModeKnown {
		e.Mode, e.ModeKnown = *a.Mode, true
	}
	if a.MTime != nil && a.version == e.Version {
		e.MTime = *a.MTime
	}
	return e
}

// bare takes the mode that applyKept has put into e out again: what is stored must
// not hide the mode of tomorrow. Guarded by mu.
func (m *metaCache) bare(e remote.Entry) remote.Entry {
	if a, ok := m.kept[e.Path]; ok && a.Mode != nil && e.Mode == *a.Mode {
		e.ModeKnown = false
	}
	return e
}

// dress returns e with the attributes that only this mount knows.
func (m *metaCache) dress(e remote.Entry) remote.Entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.applyKept(e)
}

// set records the entry as it is after a change made here.
func (m *metaCache) set(e remote.Entry) { m.store(e.Path, known{e: e, at: m.now()}) }

// touch gives a directory in which a name changed the time of now, as its server
// does, so that programs need not wait for the next answer to see it.
func (m *metaCache) touch(dir string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if a := m.kept[dir]; a.MTime != nil {
		a.MTime = nil
		m.keepLocked(dir, a)
	}
	now := m.now()
	m.crossesTime(dir, now)
	bump := func(k known) known {
		if k.e.MTime.Before(now) {
			k.e.MTime = now
		}
		return k
	}
	up, name := remote.Split(dir)
	if l, ok := m.dirs.get(up); ok && dir != "/" {
		if k, ok := l.names[name]; ok {
			l.names[name] = bump(k)
		}
	} else if k, ok := m.single.get(dir); ok && !k.absent {
		m.single.put(dir, bump(k))
	}
}

// gone records that nothing is at rel, and forgets what was below it.
func (m *metaCache) gone(rel string, t remote.Type) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leaveLocked(rel, t)
	m.storeLocked(rel, known{absent: true, at: m.now()})
	delete(m.kept, rel)
}

// came records that e has come from elsewhere, and forgets what was below what it has
// replaced.
func (m *metaCache) came(e remote.Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leaveLocked(e.Path, e.Type)
	m.storeLocked(e.Path, known{e: e, at: m.now()})
}

// leaveLocked forgets what was at rel and below it. Where there is a journal, what else is
// known of its directory stays: the server may be out of reach, and learns of the change
// later. Guarded by mu.
func (m *metaCache) leaveLocked(rel string, t remote.Type) {
	if m.b.Back == nil {
		m.forgetLocked(rel, t)
		return
	}
	m.single.remove(rel)
	if t == remote.Dir {
		m.forgetBelow(rel)
	}
}

func (m *metaCache) store(rel string, k known) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.storeLocked(rel, k)
}

func (m *metaCache) storeLocked(rel string, k known) {
	dir, name := remote.Split(rel)
	k.e = m.bare(k.e)
	l, ok := m.dirs.get(dir)
	switch {
	case !ok || rel == "/":
		m.single.put(rel, k)
	case !k.absent && len(l.names) >= maxKeepDir: // it has grown here
		m.dirs.remove(dir)
		m.single.put(rel, k)
	case !k.absent:
		l.names[name] = k
		m.single.remove(rel)
	default:
		delete(l.names, name)
		if k.at.Sub(l.at) >= m.absentFor(l) {
			m.single.put(rel, k) // the listing is too old to speak of absence
		}
	}
}

// setEmpty records a directory that was just made: nothing is in it.
func (m *metaCache) setEmpty(rel string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dirs.put(rel, &listing{names: map[string]known{}, at: m.now(), since: m.now()})
}

// forget drops everything known at rel and, unless it is known to be no directory,
// below it.
func (m *metaCache) forget(rel string, t remote.Type) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgetLocked(rel, t)
}

// forgetLocked is guarded by mu.
func (m *metaCache) forgetLocked(rel string, t remote.Type) {
	dir, name := remote.Split(rel)
	if l, ok := m.dirs.get(dir); ok && rel != "/" {
		// Without this name the listing would claim that there is nothing.
		if _, ok := l.names[name]; ok {
			m.dirs.remove(dir)
			m.b.Tree.Forget(dir)
		}
	}
	if t == remote.File || t == remote.Symlink {
		m.single.remove(rel)
		return
	}
	m.forgetBelow(rel)
}

// forgetBelow drops what is known at rel and below it, but not what its directory
// knows of it. Guarded by mu.
func (m *metaCache) forgetBelow(rel string) {
	below := func(p string) bool { return remote.Within(p, rel) }
	m.single.removeIf(below)
	m.dirs.removeIf(below)
	m.b.Tree.ForgetTree(rel)
}

// listed returns the entries of a directory that is known completely, with names and
// attributes that are fresh enough, and since when it is known: one more listing is
// cheaper than asking for each attribute.
func (m *metaCache) listed(dir string) ([]remote.Entry, time.Time, bool) {
	return m.listedWithin(dir, m.holds())
}

// holds is how long a listing with all its attributes holds.
func (m *metaCache) holds() time.Duration { return min(m.b.DirTTL, m.b.AttrTTL) }

// listedWithin is listed with another age.
func (m *metaCache) listedWithin(dir string, age time.Duration) ([]remote.Entry, time.Time, bool) {
	m.bring(dir)
	m.mu.Lock()
	defer m.mu.Unlock()
	l, ok := m.dirs.get(dir)
	if !ok || l.implied || m.now().Sub(l.at) >= age { // who reads all wants them as they are
		return nil, time.Time{}, false
	}
	out := make([]remote.Entry, 0, len(l.names))
	for _, k := range l.names {
		out = append(out, m.applyKept(k.e))
	}
	slices.SortFunc(out, func(a, b remote.Entry) int { return strings.Compare(a.Path, b.Path) })
	return out, l.at, true
}

// seen records an entry of a listing that is under way, and tells whether it is another
// than in the listing before.
func (m *metaCache) seen(e remote.Entry, o origin) (c change, differs bool) {
	dir, name := remote.Split(e.Path)
	m.mu.Lock()
	defer m.mu.Unlock()
	if o.crossing.touches(name) {
		return change{}, false
	}
	if l, ok := m.dirs.get(dir); ok {
		k, known := l.names[name]
		c, differs = m.compare(k.e, known, &e)
	}
	m.storeLocked(e.Path, known{e: o.crossing.timed(name, e), at: o.at})
	return c, differs
}

// renamed carries what only this mount knows along; before is what it knew of what was at
// to. What it has been told since is of what is there now.
func (m *metaCache) renamed(from, to string, before keptAttrs) {
	m.mu.Lock()
	defer m.mu.Unlock()
	told := m.kept[to] != before
	if !told {
		delete(m.kept, to)
	}
	for p, a := range m.kept {
		if remote.Within(p, from) && !(told && p == from) {
			delete(m.kept, p)
			m.kept[move(p, from, to)] = a
		}
	}
}

// keep remembers attributes that the server does not keep. What is nil stays as it
// was remembered, except the time of a content that is no more.
func (m *metaCache) keep(e remote.Entry, a remote.Attrs, newContent bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.kept[e.Path]
	if a.Mode == nil {
		a.Mode = old.Mode
	} else if a.Usual = m.usual; a.Spares(e.Type) {
		a.Mode = nil // it shows that by itself
	}
	a.Usual = nil
	if a.MTime == nil && old.version == e.Version && !newContent {
		a.MTime = old.MTime
	}
	m.keepLocked(e.Path, keptAttrs{a, e.Version})
}

func (m *metaCache) keepLocked(rel string, a keptAttrs) {
	if a.Mode == nil && a.MTime == nil {
		delete(m.kept, rel)
	} else {
		m.kept[rel] = a
	}
}

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

// Bounds of a branch's metadata in memory.
const (
	maxEntries   = 100_000 // attributes of single names
	maxListed    = 200_000 // names in complete listings
	maxKeepDir   = 50_000  // a larger directory's listing is not kept
	changeShards = 1024
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

	mu      sync.Mutex
	single  generations[string, known]    // guarded by mu
	dirs    generations[string, *listing] // guarded by mu
	changes [changeShards]uint64          // guarded by mu; counts changes of names and of what is in them
	trees   uint64                        // guarded by mu; counts changes of whole trees
	kept    map[string]keptAttrs          // guarded by mu
	asked   map[string]*question          // guarded by mu; under way
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
	at    time.Time
}

// keptAttrs are attributes that the server cannot keep; they live as long as the
// mount.
type keptAttrs struct {
	remote.Attrs
	version string // the content to which the time belongs
}

func newMetaCache(b Branch, now func() time.Time, detach detacher) *metaCache {
	m := &metaCache{b: b, now: now, seed: maphash.MakeSeed(), detach: detach,
		kept: map[string]keptAttrs{}, asked: map[string]*question{},
		single: newGenerations[string, known](maxEntries),
		dirs:   newGenerations[string, *listing](maxListed)}
	m.dirs.cost = func(l *listing) int { return len(l.names) + 1 }
	return m
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
}

// changing must be called before and after a change of the name at rel.
func (m *metaCache) changing(rel string) {
	dir, _ := remote.Split(rel)
	m.mu.Lock()
	defer m.mu.Unlock()
	*m.shard(dir)++
	*m.shard(rel)++
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
	}
}

// lookup returns what is known of rel and how much longer it holds.
func (m *metaCache) lookup(rel string) (k known, left time.Duration, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, name := remote.Split(rel)
	now := m.now()
	if l, found := m.dirs.get(dir); found && rel != "/" {
		if k, ok = l.names[name]; ok {
			left = m.b.AttrTTL - now.Sub(k.at)
		} else {
			k, ok = known{absent: true}, true
			left = m.b.DirTTL - now.Sub(l.at)
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
	return k, left, ok && left > 0
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
	m.forget(rel, t)
	m.store(rel, known{absent: true, at: m.now()})
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.kept, rel)
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
	case !k.absent:
		l.names[name] = k
		m.single.remove(rel)
	default:
		delete(l.names, name)
		if k.at.Sub(l.at) >= m.b.DirTTL {
			m.single.put(rel, k) // the listing is too old to speak of absence
		}
	}
}

// setEmpty records a directory that was just made: nothing is in it.
func (m *metaCache) setEmpty(rel string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dirs.put(rel, &listing{names: map[string]known{}, at: m.now()})
}

// forget drops everything known at rel and, unless it is known to be no directory,
// below it.
func (m *metaCache) forget(rel string, t remote.Type) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, name := remote.Split(rel)
	if l, ok := m.dirs.get(dir); ok && rel != "/" {
		// Without this name the listing would claim that there is nothing.
		if _, ok := l.names[name]; ok {
			m.dirs.remove(dir)
		}
	}
	if t == remote.File || t == remote.Symlink {
		m.single.remove(rel)
		return
	}
	below := func(p string) bool { return remote.Within(p, rel) }
	m.single.removeIf(below)
	m.dirs.removeIf(below)
}

// setListing records a complete directory that was asked for at the time at, unless
// something changed in it since mark was taken.
func (m *metaCache) setListing(dir string, entries []remote.Entry, mark uint64, at time.Time) {
	l := &listing{names: make(map[string]known, len(entries)), at: at}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range entries {
		_, name := remote.Split(e.Path)
		l.names[name] = known{e: m.bare(e), at: l.at}
	}
	if m.markLocked(dir) == mark {
		m.dirs.put(dir, l)
	}
}

// listed returns the entries of a directory that is known completely, with names and
// attributes that are fresh enough, and since when it is known: one more listing is
// cheaper than asking for each attribute.
func (m *metaCache) listed(dir string) ([]remote.Entry, time.Time, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, ok := m.dirs.get(dir)
	if !ok || m.now().Sub(l.at) >= min(m.b.DirTTL, m.b.AttrTTL) {
		return nil, time.Time{}, false
	}
	out := make([]remote.Entry, 0, len(l.names))
	for _, k := range l.names {
		out = append(out, m.applyKept(k.e))
	}
	slices.SortFunc(out, func(a, b remote.Entry) int { return strings.Compare(a.Path, b.Path) })
	return out, l.at, true
}

// seen records an entry of a listing that is under way.
func (m *metaCache) seen(e remote.Entry, mark uint64) remote.Entry {
	dir, _ := remote.Split(e.Path)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.markLocked(dir) == mark {
		m.storeLocked(e.Path, known{e: e, at: m.now()})
	}
	return m.applyKept(e)
}

// renamed carries what only this mount knows along.
func (m *metaCache) renamed(from, to string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.kept, to)
	for p, a := range m.kept {
		if remote.Within(p, from) {
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
	}
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

// stat returns the entry at rel, from memory if that is fresh enough and force is
// not set, and how long it holds.
func (m *metaCache) stat(ctx context.Context, rel string, force bool) (remote.Entry, time.Duration, error) {
	for range 3 {
		if !force {
			if k, left, ok := m.lookup(rel); ok {
				if k.absent {
					return remote.Entry{}, left, fail("stat", rel, remote.NotExist, nil)
				}
				return k.e, left, nil
			}
		}
		e, current, err := m.ask(ctx, rel)
		if current || err != nil && remote.KindOf(err) != remote.NotExist {
			return e, m.b.AttrTTL, err
		}
	}
	// Changes keep coming; what the server says now is as good as any answer.
	e, _, err := m.ask(ctx, rel)
	m.forget(rel, remote.File)
	return e, 0, err
}

// question is one request for an entry, for all who ask while it is under way.
type question struct {
	done    chan struct{} // closed when the rest is set
	e       remote.Entry
	current bool // no change made here can have crossed the answer
	err     error
}

// ask gets the entry from the server. current is false if a change made here may
// have crossed the answer.
func (m *metaCache) ask(ctx context.Context, rel string) (e remote.Entry, current bool, err error) {
	mark := m.mark(rel)
	q := m.question(ctx, rel)
	select {
	case <-ctx.Done():
		return remote.Entry{}, false, ctx.Err()
	case <-q.done:
		// A shared answer may have been asked for before a change that we know of.
		return q.e, q.current && m.mark(rel) == mark, q.err
	}
}

// question joins the request for rel that is under way, or begins one. Who wants no
// old answer does not join: what was asked before may have been answered before.
func (m *metaCache) question(ctx context.Context, rel string) *question {
	m.mu.Lock()
	defer m.mu.Unlock()
	if q := m.asked[rel]; q != nil && m.b.AttrTTL > 0 {
		return q
	}
	q := &question{done: make(chan struct{})}
	m.asked[rel] = q
	mark, at := m.markLocked(rel), m.now()
	// The answer serves all who wait: one of them giving up must not end it.
	m.detach(ctx, func(ctx context.Context) {
		e, err := m.b.Backend.Stat(ctx, rel)
		m.answer(q, rel, known{e: e, absent: remote.KindOf(err) == remote.NotExist, at: at}, err, mark)
	})
	return q
}

// answer stores what the server said and wakes those who wait for it.
func (m *metaCache) answer(q *question, rel string, k known, err error, mark uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.asked[rel] == q {
		delete(m.asked, rel)
	}
	if q.err = err; err == nil || k.absent {
		if q.current = m.markLocked(rel) == mark; q.current {
			m.storeLocked(rel, k)
		}
		q.e = m.applyKept(k.e)
	}
	close(q.done)
}

package fs

import (
	"context"
	"hash/maphash"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

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
	b    Branch
	now  func() time.Time
	seed maphash.Seed
	call singleflight.Group

	mu      sync.Mutex
	single  generations[string, known]    // guarded by mu
	dirs    generations[string, *listing] // guarded by mu
	changes [changeShards]uint64          // guarded by mu; counts changes by directory
	kept    map[string]keptAttrs          // guarded by mu
}

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

func newMetaCache(b Branch, now func() time.Time) *metaCache {
	m := &metaCache{b: b, now: now, seed: maphash.MakeSeed(), kept: map[string]keptAttrs{},
		single: newGenerations[string, known](maxEntries),
		dirs:   newGenerations[string, *listing](maxListed)}
	m.dirs.cost = func(l *listing) int { return len(l.names) + 1 }
	return m
}

func (m *metaCache) shard(dir string) *uint64 {
	return &m.changes[maphash.String(m.seed, dir)%changeShards]
}

// mark returns a token for a question about names in dir.
func (m *metaCache) mark(dir string) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return *m.shard(dir)
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

// lookup returns what is known of rel and how much longer it holds.
func (m *metaCache) lookup(rel string) (k known, left time.Duration, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, name := remote.Split(rel)
	now := m.now()
	if l, found := m.dirs.get(dir); found && rel != "/" {
		k, ok = l.names[name]
		if !ok {
			k, ok = known{absent: true, at: l.at}, true
			left = m.b.DirTTL - now.Sub(l.at)
		} else {
			left = m.b.AttrTTL - now.Sub(k.at)
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

// set records the entry as it is after a change made here.
func (m *metaCache) set(e remote.Entry) { m.store(e.Path, known{e: e, at: m.now()}) }

// touch gives a directory in which a name changed the time of now, as its server
// does, so that programs need not wait for the next answer to see it.
func (m *metaCache) touch(dir string) {
	m.mu.Lock()
	defer m.mu.Unlock()
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
	if l, ok := m.dirs.get(dir); ok && rel != "/" {
		if k.absent {
			delete(l.names, name)
		} else {
			l.names[name] = k
		}
		return
	}
	m.single.put(rel, k)
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

// setListing records a complete directory, unless something changed in it since
// mark was taken.
func (m *metaCache) setListing(dir string, entries []remote.Entry, mark uint64) {
	l := &listing{names: make(map[string]known, len(entries)), at: m.now()}
	for _, e := range entries {
		_, name := remote.Split(e.Path)
		l.names[name] = known{e: e, at: l.at}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if *m.shard(dir) == mark {
		m.dirs.put(dir, l)
	}
}

// listed returns the entries of a directory that is known completely, with names and
// attributes that are fresh enough: one more listing is cheaper than asking for each
// attribute.
func (m *metaCache) listed(dir string) ([]remote.Entry, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, ok := m.dirs.get(dir)
	if !ok || m.now().Sub(l.at) >= min(m.b.DirTTL, m.b.AttrTTL) {
		return nil, false
	}
	out := make([]remote.Entry, 0, len(l.names))
	for _, k := range l.names {
		out = append(out, m.applyKept(k.e))
	}
	return out, true
}

// seen records an entry of a listing that is under way.
func (m *metaCache) seen(e remote.Entry, mark uint64) remote.Entry {
	dir, _ := remote.Split(e.Path)
	m.mu.Lock()
	defer m.mu.Unlock()
	if *m.shard(dir) == mark {
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

// keep remembers attributes that the server does not keep.
func (m *metaCache) keep(e remote.Entry, a remote.Attrs) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.kept[e.Path]
	if a.Mode == nil {
		a.Mode = old.Mode
	}
	if a.MTime == nil && old.version == e.Version {
		a.MTime = old.MTime
	}
	m.kept[e.Path] = keptAttrs{a, e.Version}
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
	return e, 0, err
}

// ask sends one request for all who ask at the same time. current is false if a
// change made here may have crossed it.
func (m *metaCache) ask(ctx context.Context, rel string) (e remote.Entry, current bool, err error) {
	type answer struct {
		e       remote.Entry
		current bool
	}
	dir, _ := remote.Split(rel)
	mark := m.mark(dir)
	ch := m.call.DoChan(rel, func() (any, error) {
		// The answer serves all who wait: one of them giving up must not end it.
		mark := m.mark(dir)
		e, err := m.b.Backend.Stat(context.WithoutCancel(ctx), rel)
		absent := remote.KindOf(err) == remote.NotExist
		if err != nil && !absent {
			return answer{}, err
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		current := *m.shard(dir) == mark
		if current {
			m.storeLocked(rel, known{e: e, absent: absent, at: m.now()})
		}
		return answer{m.applyKept(e), current}, err
	})
	select {
	case <-ctx.Done():
		return remote.Entry{}, false, ctx.Err()
	case r := <-ch:
		a, _ := r.Val.(answer)
		// A shared answer may have been asked for before a change that we know of.
		return a.e, a.current && m.mark(dir) == mark, r.Err
	}
}

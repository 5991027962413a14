package fs

import (
	"context"
	"time"

	"github.com/meshmount/meshmount/cache"
	"github.com/meshmount/meshmount/remote"
)

// trackMark is the name under which the mark of the Tracker is remembered.
const trackMark = "changed"

// tracked is what the Tracker of a branch has told. A listing is told about by the
// next call if it was asked for after the call that gave the mark was over: whatever
// changes afterwards is after the mark. What changes while the call is under way may be
// before the mark and after a listing that was asked for meanwhile.
type tracked struct {
	mark   string
	loaded bool          // mark was looked for in the Tree
	begun  uint64        // counts calls
	ended  uint64        // the last call that is over
	done   uint64        // the call that gave mark, 0 if it is from before this mount
	at     time.Time     // when that had begun, zero if there was none in this mount
	tried  time.Time     // when the last call was begun
	under  chan struct{} // closed when the call under way is over; nil if there is none
}

// isTracked tells whether the next changes will tell of all that changes in a listing.
func (m *metaCache) isTracked(o origin) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.isTrackedLocked(o)
}

func (m *metaCache) isTrackedLocked(o origin) bool {
	t := &m.tracked
	return t.mark != "" && o.calls >= t.done
}

// loadMark looks for the mark of the last mount. Guarded by mu.
func (m *metaCache) loadMark() {
	if t := &m.tracked; !t.loaded && m.tracker != nil {
		t.loaded, t.mark = true, m.b.Tree.Mark(trackMark)
	}
}

// track asks for what has changed, at most once in the time for which attributes hold,
// and tells whether that is known.
func (m *metaCache) track(ctx context.Context) bool {
	for range 2 {
		m.mu.Lock()
		if told := m.toldLocked(); told || m.failedLocked() {
			m.mu.Unlock()
			return told
		}
		under := m.startTracking(ctx)
		m.mu.Unlock()
		select {
		case <-ctx.Done():
			return false
		case <-under:
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.toldLocked()
}

// failedLocked tells whether the last call has failed a moment ago: a server that cannot
// tell is not asked all the time. Guarded by mu.
func (m *metaCache) failedLocked() bool {
	t := &m.tracked
	return t.under == nil && !t.tried.IsZero() && m.now().Sub(t.tried) < m.holds()
}

// toldLocked tells whether the last answer is fresh. Guarded by mu.
func (m *metaCache) toldLocked() bool {
	return !m.tracked.at.IsZero() && m.now().Sub(m.tracked.at) < m.holds()
}

// awaitMark takes a mark, if there is none yet and there was no attempt for a while: the
// listings that follow are tracked.
func (m *metaCache) awaitMark(ctx context.Context) {
	if m.proof() != proofTracker {
		return
	}
	m.mu.Lock()
	m.loadMark()
	t := &m.tracked
	if t.mark != "" || m.failedLocked() {
		m.mu.Unlock()
		return
	}
	under := m.startTracking(ctx)
	m.mu.Unlock()
	select {
	case <-ctx.Done():
	case <-under:
	}
}

// firstMark takes a mark in the background, if there is none yet: the listings that
// follow are tracked from then on.
func (m *metaCache) firstMark(ctx context.Context) {
	if m.proof() != proofTracker {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tracked.begun == 0 {
		m.startTracking(ctx)
	}
}

// startTracking begins a call or joins the one under way. Guarded by mu.
func (m *metaCache) startTracking(ctx context.Context) (under chan struct{}) {
	t := &m.tracked
	if t.under != nil {
		return t.under
	}
	m.loadMark()
	under = make(chan struct{})
	t.under = under
	t.begun++
	if t.mark == "" {
		m.unprove()
	}
	n, mark, at := t.begun, t.mark, m.now()
	t.tried = at
	m.detach(ctx, func(ctx context.Context) {
		c, err := m.tracker.Changed(ctx, "/", mark)
		m.mu.Lock()
		defer m.mu.Unlock()
		defer close(under)
		t.under, t.ended = nil, n
		if err == nil {
			m.told(c, n)
			t.at, t.done, t.mark = at, n, c.Mark
			m.b.Tree.SetMark(trackMark, c.Mark)
		}
	})
	return under
}

// told forgets what has changed; call is the number of the call that said so. What was
// asked for since that began need not be forgotten. Guarded by mu.
func (m *metaCache) told(c remote.Changes, call uint64) {
	if c.All {
		m.eachListing(func(dirs map[string]*listing, dir string, l *listing) {
			if l.calls < call {
				delete(dirs, dir)
			}
		})
		m.single.removeIf(func(string) bool { return true })
		m.b.Tree.ForgetTree("/")
		return
	}
	dirs := map[string]bool{}
	for _, dir := range c.Dirs {
		dirs[dir] = true
		if l, ok := m.dirs.get(dir); ok && l.calls >= call {
			continue
		} else if ok {
			l.self, l.at = "", time.Time{}
		}
		m.b.Tree.Forget(dir)
	}
	if len(dirs) == 0 {
		return
	}
	m.single.removeIf(func(rel string) bool {
		dir, _ := remote.Split(rel)
		return dirs[dir] || dirs[rel]
	})
}

// unprove takes from all listings what could prove them: there is no mark from before
// them. Guarded by mu.
func (m *metaCache) unprove() {
	m.eachListing(func(_ map[string]*listing, _ string, l *listing) { l.self = "" })
	m.b.Tree.ForgetTree("/")
}

// eachListing is guarded by mu.
func (m *metaCache) eachListing(f func(dirs map[string]*listing, dir string, l *listing)) {
	for _, half := range []map[string]*listing{m.dirs.young, m.dirs.old} {
		for dir, l := range half {
			f(half, dir, l)
		}
	}
}

// bring loads what is remembered of a directory, unless it is in memory.
func (m *metaCache) bring(dir string) {
	if m.b.Tree == nil {
		return
	}
	m.mu.Lock()
	_, here := m.dirs.get(dir)
	mark, told := m.markLocked(dir), m.tracked.done
	m.mu.Unlock()
	if here || !m.quiet(dir) {
		return
	}
	kept, ok := m.b.Tree.Load(dir)
	if !ok {
		return
	}
	l := m.thaw(kept)
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, here := m.dirs.get(dir); !here && m.markLocked(dir) == mark && m.tracked.done == told {
		m.dirs.put(dir, l)
	}
}

// thaw makes a listing of what was remembered. An age that cannot be, because the clock
// was set back, counts as none.
func (m *metaCache) thaw(kept cache.Listing) *listing {
	l := &listing{names: make(map[string]known, len(kept.Entries)), since: m.now(), self: kept.Self}
	if age := m.now().Sub(kept.At); !kept.At.IsZero() && age >= 0 {
		l.at = m.now().Add(-age) // by the clock that is never set
	}
	for _, e := range kept.Entries {
		_, name := remote.Split(e.Path)
		l.names[name] = known{e: e, at: l.at}
		if e.Provisional && m.b.Blocks != nil {
			m.b.Blocks.Note(e)
		}
	}
	return l
}

// cacheListing is l as it is remembered.
func cacheListing(dir string, l *listing, entries []remote.Entry) cache.Listing {
	return cache.Listing{Dir: dir, Self: l.self, At: l.at, Entries: entries}
}

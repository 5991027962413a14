package fs

import (
	"fmt"

	"github.com/meshmount/meshmount/cache/writeback"
	"github.com/meshmount/meshmount/remote"
)

// settled takes note of what has become of a change that was pending.
func (f *FS) settled(b *branch, s writeback.Settled) {
	path := b.abs(s.Path)
	ino := f.inos.of(path)
	x := f.opened(path)
	if x != nil {
		x.telling.Lock()
		defer x.telling.Unlock()
	}
	f.xattrs.changed(ino) // a file that had to be made anew has lost them
	f.replicas.changed(ino)
	if s.Entry.Provisional && s.Entry.Type == remote.File {
		b.forgetBlocks(s.Path, remote.File) // the content before may have had the same version
	}
	if s.Copy.Type != 0 {
		f.aside(b, path, x, s)
		return
	}
	switch s.Entry.Type {
	case remote.File:
		b.meta.keepSettled(s)
		f.pages.become(ino, s.Was, s.Entry)
	case remote.Dir:
		b.meta.keepSettled(s)
	}
	b.meta.settle(s.Path, s.Was, s.Entry)
	if x == nil || !x.isOf(s.Was) {
		return
	}
	if _, stored := b.Back.Became(s.Was); !stored && writeback.IsLocal(s.Was) {
		f.droppedBehind(x, path)
		return
	}
	x.reached(s.Was, b.meta.dress(s.Entry))
}

// isOf tells whether the base of x is that version.
func (x *file) isOf(version string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.exists && x.b.sameContent(x.b.rel(x.path), x.base.Version, version)
}

// droppedBehind separates an open file, whose pending content was given up by the user,
// from its name. What its programs write from now on is a new file.
func (f *FS) droppedBehind(x *file, path string) {
	f.replaced(x, path)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.base, x.exists = remote.Entry{}, false
	x.puts++
}

// aside takes note of a conflict: the name, at which x is open if it is not nil, is theirs,
// our content has another one.
func (f *FS) aside(b *branch, path string, x *file, s writeback.Settled) {
	b.meta.settle(s.Path, s.Was, s.Entry)
	b.meta.changing(s.Copy.Path)
	b.meta.keep(s.Copy, s.Attrs, true)
	b.meta.set(s.Copy)
	b.touchParent(s.Path)
	if x == nil || !x.isOf(s.Was) {
		if x == nil {
			ino := f.inos.of(path)
			f.inos.gone(path)
			f.tell(Invalidation{Path: path, Ino: ino, Content: true, Entry: true})
		}
		return
	}
	f.replaced(x, path)
	defer x.follow()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.path = b.abs(s.Copy.Path)
	x.rebase(b.meta.dress(s.Copy))
	x.untold = conflictError(path, x.path)
}

// conflictError is what the programs are told whose content went aside.
func conflictError(path, beside string) error {
	return fail("put", path, remote.Conflict, fmt.Errorf("somebody else changed it; our content is in %s", beside))
}

// maxLooseKept is from how many remembered attributes on times are forgotten that are only
// those of writing: the server's are shown then.
const maxLooseKept = 100_000

// keepSettled remembers attributes that the server has not kept of what has reached it,
// unless others are pending by now. A change of attributes alone leaves those from before.
func (m *metaCache) keepSettled(s writeback.Settled) {
	pending := m.b.Back.Clad(remote.Entry{Path: s.Path})
	if !pending.MTime.IsZero() {
		s.Attrs.MTime = nil
	}
	if pending.ModeKnown {
		s.Attrs.Mode = nil
	}
	m.mu.Lock()
	if old, ok := m.kept[s.Path]; ok && old.version == s.Was {
		m.kept[s.Path] = keptAttrs{old.Attrs, s.Entry.Version}
	}
	k, _, ok := m.lookupLocked(s.Path)
	if t := s.Attrs.MTime; ok && t != nil && s.Entry.Type == remote.Dir && k.e.MTime.After(*t) {
		s.Attrs.MTime = nil // names have come or gone since
	}
	if s.Loose && len(m.kept) >= maxLooseKept {
		s.Attrs.MTime = nil
	}
	m.mu.Unlock()
	m.keep(s.Entry, s.Attrs, writeback.IsLocal(s.Was))
}

// keptOf returns the attributes of rel that only this mount knows.
func (m *metaCache) keptOf(rel string) keptAttrs {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept[rel]
}

// unkeep forgets those that the journal has taken over from: it has taken a. What was kept
// since before is what the server did not keep of that.
func (m *metaCache) unkeep(rel string, before keptAttrs, a remote.Attrs) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now, ok := m.kept[rel]; ok && now == before && a.MTime != nil {
		now.MTime = nil
		m.keepLocked(rel, now)
	}
}

// settle records what the server has at rel instead of the pending version was. What is
// pending since then stays.
func (m *metaCache) settle(rel, was string, now remote.Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, _, ok := m.lookupLocked(rel)
	m.changingLocked(rel)
	gone := now.Type == 0
	if !gone {
		now = m.b.Back.Clad(now)
	}
	switch {
	case !ok:
	case !gone && !k.absent && now.Type == remote.Dir && k.e.Type == remote.Dir:
		now.MTime = later(now.MTime, k.e.MTime) // of names that have come or gone since
		m.storeLocked(rel, known{e: now, at: m.now()})
	case !gone && !k.absent && k.e.Version == was && k.e.Type == now.Type:
		m.storeLocked(rel, known{e: now, at: m.now()})
	case gone && k.absent, !k.absent && writeback.IsLocal(k.e.Version), !gone && !k.absent && k.e.Version == now.Version:
		k.at = m.now()
		m.storeLocked(rel, k)
	default:
		m.forgetLocked(rel, now.Type)
	}
}

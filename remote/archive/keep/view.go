package keep

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive"
)

// view is what a directory held of ours, when it was listed, with the members that we have
// declared dead and the plain files that we have made since.
type view struct {
	dir     string
	at      time.Time
	version string // of the directory, from before the listing; "" if it is no proof
	raw     listing
	count   []*held                 // the archives' generations that count
	byUID   map[archive.UID]*member // of those
	names   map[string][]*member    // the same by their own names, in the order of their claims

	mu    sync.Mutex
	dead  map[archive.UID]bool // guarded by mu
	over  map[string]mark      // guarded by mu; what plain entries there are of members' names
	alias map[string]*member   // guarded by mu; names that members have while others have theirs
	swept bool                 // guarded by mu
}

// held is the generation of an archive that counts.
type held struct {
	entry     remote.Entry
	index     *archive.Index
	born      time.Time
	all, lost int64 // bytes of all members and of dead ones; guarded by view.mu
	alive     int   // members; guarded by view.mu
	tried     bool  // a compaction was; guarded by view.mu
}

// member is a file in an archive.
type member struct {
	*archive.Member
	in *held
}

// uid names the member for good.
func (m *member) uid() archive.UID { return archive.UID{Archive: m.in.index.ID, Number: m.Number} }

// same tells whether two members are one file, whose upload was repeated.
func (m *member) same(o *member) bool {
	return m.Name == o.Name && m.Size == o.Size && m.MTime.Equal(o.MTime) && m.Sum.SHA256 == o.Sum.SHA256
}

// compare orders the claims to a name.
func (m *member) compare(o *member) int {
	return cmp.Or(m.in.born.Compare(o.in.born), cmp.Compare(m.in.index.ID, o.in.index.ID), cmp.Compare(m.Number, o.Number))
}

// claim is a file that shows: a member, and those that are the same. nil is none.
type claim []*member

// has tells whether a member is one of them.
func (c claim) has(uid archive.UID) bool {
	return slices.ContainsFunc(c, func(m *member) bool { return m.uid() == uid })
}

// isOf tells whether the file is of that version: its own, or that of the plain file that it
// was made from.
func (c claim) isOf(version string) bool {
	return version == c[0].Version() || slices.ContainsFunc(c, func(m *member) bool { return m.From != "" && m.From == version })
}

// entry shows the member as the file at path.
func (m *member) entry(path string) remote.Entry {
	return remote.Entry{
		Path: path, Type: remote.File, Size: m.Size, MTime: m.MTime, Version: m.Version(),
		Mode: m.Mode, ModeKnown: m.ModeKnown, Access: m.in.entry.Access,
		Checksum: remote.Checksum{Algorithm: "sha256", Hex: m.Sum.SHA256},
	}
}

// newView orders what was listed.
func newView(dir string, at time.Time, raw listing, count []*held, marks *marks) *view {
	v := &view{dir: dir, at: at, raw: raw, count: count, byUID: map[archive.UID]*member{}, names: map[string][]*member{},
		dead: map[archive.UID]bool{}, over: map[string]mark{}, alias: map[string]*member{}}
	for _, h := range count {
		h.alive = len(h.index.Members)
		for i := range h.index.Members {
			m := &member{&h.index.Members[i], h}
			h.all += m.Size
			v.byUID[m.uid()] = m
			v.names[m.Name] = append(v.names[m.Name], m)
		}
	}
	for uid := range raw.tombs {
		v.entomb(uid)
	}
	var contested []string
	for name, all := range v.names {
		slices.SortFunc(all, (*member).compare)
		if k, ok := marks.of(name); ok {
			v.over[name] = k
		}
		if _, ok := v.over[name]; ok || len(all) > 1 {
			contested = append(contested, name)
		}
	}
	slices.Sort(contested)
	for _, name := range contested {
		v.assign(name, marks)
	}
	return v
}

// entomb notes that a member is dead. v.mu is held, or v is new.
func (v *view) entomb(uid archive.UID) {
	m := v.byUID[uid]
	if m == nil || v.dead[uid] {
		return
	}
	v.dead[uid] = true
	m.in.alive--
	m.in.lost += m.Size
}

// bury notes that a member is dead.
func (v *view) bury(uid archive.UID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.entomb(uid)
}

// inherit takes over who is dead: none rises.
func (v *view) inherit(old *view) {
	old.mu.Lock()
	dead := make([]archive.UID, 0, len(old.dead))
	for uid := range old.dead {
		dead = append(dead, uid)
	}
	old.mu.Unlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, uid := range dead {
		v.entomb(uid)
	}
}

// cover notes that there is a plain file of that name now.
func (v *view) cover(name string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.names[name]) > 0 {
		v.over[name] = mark{kind: remote.File}
		v.assign(name, nil)
	}
}

// uncover notes that there is no plain file of that name any more.
func (v *view) uncover(name string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.over, name)
}

// packed tells whether a member is not shown because the plain file that it was made from is
// there. v.mu is held.
func (v *view) packed(m *member) bool {
	k, ok := v.over[m.Name]
	return ok && m.From != "" && k.is(m.From)
}

// claims returns the files that claim a name, the first one first. v.mu is held.
func (v *view) claims(name string) (all []claim) {
next:
	for _, m := range v.names[name] {
		if v.dead[m.uid()] || v.packed(m) {
			continue
		}
		for i := range all {
			if all[i][0].same(m) {
				all[i] = append(all[i], m)
				continue next
			}
		}
		all = append(all, claim{m})
	}
	return all
}

// find returns the file in an archive that shows under that name, nil if there is none.
func (v *view) find(name string) claim {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.found(name)
}

// found is find. v.mu is held.
func (v *view) found(name string) claim {
	_, covered := v.over[name]
	if all := v.claims(name); !covered && len(all) > 0 {
		return all[0]
	}
	m := v.alias[name]
	if m == nil {
		return nil
	}
	_, covered = v.over[m.Name]
	for i, c := range v.claims(m.Name) {
		if c.has(m.uid()) && (i > 0 || covered) {
			return c
		}
	}
	return nil
}

// living returns all files that claim a name, whether they show under it or another, and those
// that are not shown because of the plain file that they were made from.
func (v *view) living(name string) (all []claim, hidden claim) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, m := range v.names[name] {
		if !v.dead[m.uid()] && v.packed(m) {
			hidden = append(hidden, m)
		}
	}
	return v.claims(name), hidden
}

// showing is a file in an archive, under the name that it shows.
type showing struct {
	name string
	claim
}

// shown returns all files that show.
func (v *view) shown() (all []showing) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for name := range v.names {
		if c := v.found(name); c != nil {
			all = append(all, showing{name, c})
		}
	}
	for name := range v.alias {
		if len(v.names[name]) > 0 {
			continue // told already
		}
		if c := v.found(name); c != nil {
			all = append(all, showing{name, c})
		}
	}
	return all
}

// assign gives names to the members that cannot have their own. v.mu is held, or v is new.
func (v *view) assign(name string, taken *marks) {
	all := v.claims(name)
	if _, covered := v.over[name]; !covered && len(all) > 0 {
		all = all[1:]
	}
	for _, c := range all {
		m := c[0]
		for n := 0; ; n++ {
			try := conflictName(m, n)
			if old := v.alias[try]; old != nil && old.uid() == m.uid() {
				break
			}
			_, plain := taken.of(try)
			if plain || v.alias[try] != nil || len(v.names[try]) > 0 {
				continue
			}
			v.alias[try] = m
			break
		}
	}
}

// maxName is the longest name that is shown, in bytes.
const maxName = 255

// conflictMark is between the name that a member cannot have and what makes it another.
const conflictMark = ".conflict-"

// conflictName returns the nth name that a member may have whose own is taken.
func conflictName(m *member, n int) string {
	id := m.in.index.ID
	at, _, _ := strings.Cut(string(id), ".")
	suffix := conflictMark + id.Luck() + "-" + at
	if n > 0 {
		suffix += "-" + strconv.Itoa(n)
	}
	name := m.Name
	for len(name)+len(suffix) > maxName {
		_, last := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-last]
	}
	return name + suffix
}

// hintAge is how old a view may be that is only to say what is probably there.
const hintAge = 2 * time.Second

// Bounds of what is remembered: directories, and the members in their views and in the
// indexes of archives. What one directory has is kept while it is used, however much.
const (
	maxViews = 4096
	maxHeld  = 100_000
	maxBytes = 32 << 20 // of names and versions in indexes
)

// remembered returns the last view of a directory, nil if there is none.
func (k *Backend) remembered(dir string) *view {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.views[dir]
}

// remember keeps a view, unless a younger one is there. What has died by us while it was
// made is dead in it.
func (k *Backend) remember(v *view) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if old := k.views[v.dir]; old != nil && old != v {
		v.inherit(old)
		if old.at.After(v.at) {
			return
		}
	}
	k.lose(v.dir)
	for dir := range k.views {
		if len(k.views) < maxViews && k.viewed+v.size() <= maxHeld {
			break
		}
		k.lose(dir)
	}
	k.views[v.dir] = v
	k.viewed += v.size()
}

// lose drops what is known of one directory. k.mu is held.
func (k *Backend) lose(dir string) {
	if v := k.views[dir]; v != nil {
		k.viewed -= v.size()
		delete(k.views, dir)
	}
}

// size is about how many members the view keeps in memory.
func (v *view) size() int { return len(v.byUID) + len(v.raw.tombs) + len(v.raw.files) }

// forget drops what is known of a directory and of those below it.
func (k *Backend) forget(dir string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for d := range k.views {
		if remote.Within(d, dir) {
			k.lose(d)
		}
	}
}

// forgetOnly drops what is known of one directory.
func (k *Backend) forgetOnly(dir string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lose(dir)
}

// noted tells the view of a directory what we have done in it.
func (k *Backend) noted(path string, f func(v *view, name string)) {
	dir, name := remote.Split(path)
	if v := k.remembered(dir); v != nil {
		f(v, name)
	}
}

// hint returns what was there a moment ago, for what is looked at again afterwards.
func (k *Backend) hint(ctx context.Context, dir string) (*view, error) {
	if v := k.remembered(dir); v != nil && time.Since(v.at) < hintAge {
		return v, remote.ContextErr(ctx)
	}
	return k.look(ctx, dir)
}

// look returns what is there now: what is remembered, if the directory's version proves
// that nothing has changed, or else what a listing shows.
func (k *Backend) look(ctx context.Context, dir string) (*view, error) {
	version, err := k.proof(ctx, dir)
	if err != nil {
		return nil, err
	}
	if v := k.remembered(dir); v != nil && version != "" && v.version == version {
		return v, nil
	}
	return k.listed(ctx, dir, version, nil)
}

// proof returns the version of a directory, "" if there is none that proves anything.
func (k *Backend) proof(ctx context.Context, dir string) (string, error) {
	k.mu.Lock()
	blind := k.blind
	k.mu.Unlock()
	if blind {
		return "", nil
	}
	e, err := k.inner.Stat(ctx, dir)
	switch {
	case err != nil:
		return "", err
	case e.Type != remote.Dir:
		return "", fail("list", dir, remote.NotDir)
	case e.Version == "":
		k.mu.Lock()
		defer k.mu.Unlock()
		k.blind = true
	case e.Provisional:
		return "", nil
	}
	return e.Version, nil
}

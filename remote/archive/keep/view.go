package keep

import (
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive"
)

// view is what a directory held of ours, when it was listed. What was read never changes;
// what is known to have died since is added.
type view struct {
	dir     string
	at      time.Time
	version string // of the directory, from before the listing; "" if it is no proof
	listed
	names map[string][]*member // all members that count, of a name the oldest first
	older map[string]bool      // archives' ids that are superseded or hold nothing new

	mu   sync.Mutex
	dead map[archive.UID]bool // guarded by mu
}

// listed is what one listing has shown of ours.
type listed struct {
	archives []*held
	tombs    []tomb
	plain    map[string]bool // names like ours of what is not ours: damaged, or no files
	pending  bool            // there are archives that cannot be read yet
}

// held is an archive in a directory.
type held struct {
	entry remote.Entry
	index *archive.Index
}

// tomb is a tombstone in a directory.
type tomb struct {
	uid   archive.UID
	entry remote.Entry
}

// member is a file in an archive.
type member struct {
	*archive.Member
	in *held
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
func newView(dir string, at time.Time, l listed) *view {
	v := &view{dir: dir, at: at, listed: l, names: map[string][]*member{}, older: map[string]bool{}, dead: map[archive.UID]bool{}}
	slices.SortFunc(v.archives, func(a, b *held) int { return cmp.Compare(a.index.ID, b.index.ID) })
	for _, h := range v.archives {
		for _, id := range h.index.Supersedes {
			v.older[string(id)] = true
		}
	}
	for _, t := range v.tombs {
		v.dead[t.uid] = true
	}
	seen := map[archive.UID]bool{} // of two compactions the first counts
	for _, h := range v.archives {
		if v.older[string(h.index.ID)] {
			continue
		}
		fresh := false
		for i := range h.index.Members {
			m := &member{&h.index.Members[i], h}
			if !seen[m.Origin] {
				seen[m.Origin], fresh = true, true
				v.names[m.Name] = append(v.names[m.Name], m)
			}
		}
		if !fresh {
			v.older[string(h.index.ID)] = true
		}
	}
	for _, all := range v.names {
		slices.SortFunc(all, func(a, b *member) int { return a.Origin.Compare(b.Origin) })
	}
	return v
}

// named returns the living members of that name; the first is the one that shows, if no
// plain file hides it.
func (v *view) named(name string) (alive []*member) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, m := range v.names[name] {
		if !v.dead[m.Origin] {
			alive = append(alive, m)
		}
	}
	return alive
}

// shown returns what shows of a name if no plain file does, nil if nothing does.
func (v *view) shown(name string) *member {
	if all := v.named(name); len(all) > 0 {
		return all[0]
	}
	return nil
}

// bury notes that a member is dead.
func (v *view) bury(uid archive.UID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.dead[uid] = true
}

// inherit takes over who is dead. Tombstones stay while their members are there.
func (v *view) inherit(old *view) {
	old.mu.Lock()
	dead := slices.Collect(maps.Keys(old.dead))
	old.mu.Unlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, uid := range dead {
		v.dead[uid] = true
	}
}

// spent tells whether nothing of an archive is alive.
func (v *view) spent(h *held) bool {
	if v.older[string(h.index.ID)] {
		return true
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return !slices.ContainsFunc(h.index.Members, func(m archive.Member) bool { return !v.dead[m.Origin] })
}

// newest returns the youngest id that is there, "" if there is none.
func (v *view) newest() archive.ID {
	if n := len(v.archives); n > 0 {
		return v.archives[n-1].index.ID
	}
	return ""
}

// hintAge is how old a view may be that is only to say what is probably there.
const hintAge = 2 * time.Second

// Bounds of what is remembered: directories, and the members in their views and in the
// indexes of archives. What one directory has is kept while it is used, however much.
const (
	maxViews = 4096
	maxHeld  = 100_000
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
		if old.at.After(v.at) {
			return
		}
		v.inherit(old)
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
func (v *view) size() int { return len(v.names) + len(v.tombs) }

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

// hint returns what was there a moment ago, for what is looked at again afterwards.
func (k *Backend) hint(ctx context.Context, dir string) (*view, error) {
	if v := k.remembered(dir); v != nil && k.opts.Now().Sub(v.at) < hintAge {
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
	v, err := k.list(ctx, dir, nil)
	if err != nil {
		return nil, err
	}
	v.version = version
	k.remember(v)
	return v, nil
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

// lists is how often a directory is listed in which archives come and go.
const lists = 5

// list lists a directory and reads the archives in it. What is not ours is told to each,
// some of it more than once; its error ends the listing.
func (k *Backend) list(ctx context.Context, dir string, each func(remote.Entry) error) (*view, error) {
	if each == nil {
		each = func(remote.Entry) error { return nil }
	}
	for range lists {
		at := k.opts.Now()
		raw, err := k.raw(ctx, dir, each)
		if err != nil {
			return nil, err
		}
		l, whole, err := k.readIndexes(ctx, raw, each)
		if err != nil {
			return nil, err
		}
		if whole {
			return newView(dir, at, l), nil
		}
	}
	return nil, &remote.Error{Op: "list", Path: dir, Kind: remote.Unavailable, Err: errors.New("its archives change all the time")}
}

// raw is one listing: archives and tombstones by their names, others told to each.
func (k *Backend) raw(ctx context.Context, dir string, each func(remote.Entry) error) (l listing, err error) {
	err = k.inner.List(ctx, dir, func(e remote.Entry) error {
		_, name := remote.Split(e.Path)
		if e.Type == remote.File {
			if uid, ok := archive.ParseTombstone(name); ok {
				l.tombs = append(l.tombs, tomb{uid, e})
				return nil
			}
			if id, ok := archive.ParseFileName(name); ok {
				l.archives = append(l.archives, unread{id, e})
				return nil
			}
		}
		if archive.Hidden(name) {
			l.odd = append(l.odd, name)
		}
		return each(e)
	})
	return l, err
}

// listing is what a listing shows of ours.
type listing struct {
	archives []unread
	tombs    []tomb
	odd      []string
}

// unread is an archive whose index is not known.
type unread struct {
	id    archive.ID
	entry remote.Entry
}

// readIndexes makes archives known. It is false if one of them is gone.
func (k *Backend) readIndexes(ctx context.Context, raw listing, each func(remote.Entry) error) (listed, bool, error) {
	l := listed{tombs: raw.tombs, plain: map[string]bool{}}
	for _, name := range raw.odd {
		l.plain[name] = true
	}
	found, errs := make([]*archive.Index, len(raw.archives)), make([]error, len(raw.archives))
	parallel(len(raw.archives), func(i int) { found[i], errs[i] = k.index(ctx, raw.archives[i]) })
	for i, a := range raw.archives {
		err := errs[i]
		switch {
		case err == nil:
			l.archives = append(l.archives, &held{a.entry, found[i]})
		case isKind(err, remote.NotExist, remote.Changed):
			return l, false, nil
		case isKind(err, remote.Locked):
			l.pending = true
		case errors.Is(err, archive.ErrDamaged), isKind(err, remote.Corrupt):
			k.tell(a.entry, err)
			_, name := remote.Split(a.entry.Path)
			l.plain[name] = true
			if err := each(a.entry); err != nil {
				return l, false, err
			}
		default:
			return l, false, err
		}
	}
	return l, true, nil
}

// tell logs once that a file is no archive.
func (k *Backend) tell(e remote.Entry, err error) {
	k.mu.Lock()
	first := !k.told[e.Path]
	k.told[e.Path] = true
	k.mu.Unlock()
	if first {
		k.opts.Logger.Warn("an archive of small files is damaged: it is shown as the file that it is, and its members are not", "file", e.Path, "err", err)
	}
}

// workers is how many requests of one call are under way at a time.
const workers = 8

// parallel calls f for 0 to n-1, some at a time, and waits for all.
func parallel(n int, f func(i int)) {
	if n == 1 {
		f(0)
		return
	}
	next := make(chan int)
	var all sync.WaitGroup
	for range min(n, workers) {
		all.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	all.Wait()
}

// known is the index of an archive.
type known struct{ index *archive.Index }

// key names the content of an archive's file.
func key(e remote.Entry) string { return e.Path + "\x00" + e.Version }

// index returns what an archive holds.
func (k *Backend) index(ctx context.Context, a unread) (*archive.Index, error) {
	k.mu.Lock()
	got := k.indexes[key(a.entry)]
	k.mu.Unlock()
	if got != nil {
		return got.index, nil
	}
	x, err := k.readIndex(ctx, a)
	if err == nil {
		k.know(a.entry, x)
	}
	return x, err
}

// know remembers what an archive holds.
func (k *Backend) know(e remote.Entry, x *archive.Index) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.indexes[key(e)] != nil || e.Version == "" {
		return
	}
	for other, x := range k.indexes {
		if k.held+len(x.index.Members) <= maxHeld {
			break
		}
		k.held -= len(x.index.Members)
		delete(k.indexes, other)
	}
	k.indexes[key(e)] = &known{x}
	k.held += len(x.Members)
}

// tails is how many requests an index may take.
const tails = 3

// readIndex reads the end of an archive.
func (k *Backend) readIndex(ctx context.Context, a unread) (*archive.Index, error) {
	size := a.entry.Size
	if size > archive.MaxSize {
		return nil, archive.ErrDamaged
	}
	from := max(size-archive.FirstTail, 0)
	for range tails {
		tail := make([]byte, size-from)
		n, err := k.readEnd(ctx, a.entry, tail, from)
		if err != nil && err != io.EOF {
			return nil, err
		}
		if n < len(tail) {
			return nil, archive.ErrDamaged
		}
		x, err := archive.Parse(a.id, tail, size)
		var short *archive.ShortError
		if !errors.As(err, &short) {
			return x, err
		}
		from = short.From
	}
	return nil, archive.ErrDamaged
}

// readEnd reads a part of an archive's file. One that is being written is not waited for.
func (k *Backend) readEnd(ctx context.Context, e remote.Entry, p []byte, off int64) (int, error) {
	ref := remote.Ref{Path: e.Path, Version: e.Version, Size: e.Size}
	n, err := k.inner.ReadAt(remote.WithoutRetry(ctx), ref, p, off)
	if err != nil && err != io.EOF && remote.Retryable(err) && !isKind(err, remote.Locked) {
		n, err = k.inner.ReadAt(ctx, ref, p, off)
	}
	return n, err
}

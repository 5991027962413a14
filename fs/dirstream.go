package fs

import (
	"context"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// DirEntry is a name in a directory with its attributes.
type DirEntry struct {
	Name string
	Attr Attr
}

// DirStream reads one directory. It is used by one caller at a time.
type DirStream struct {
	fs      *FS
	b       *branch
	fetched []remote.Entry // a listing from memory, not nil
	cursor  *dirCursor     // or one from the server
	local   []DirEntry     // what only this mount knows: mount points, files not yet put
	hidden  map[string]bool
	maybe   bool      // the directory may be there for the sake of mount points only
	at      time.Time // when the server was asked
	i, j    int       // next of fetched, next of local
}

// OpenDir begins to read the directory at path. Entries come as the server sends
// them; "." and ".." are not among them.
func (f *FS) OpenDir(ctx context.Context, path string) (*DirStream, error) {
	b, rel := f.ns.resolve(path)
	d := &DirStream{fs: f, b: b, hidden: map[string]bool{}, maybe: len(f.ns.above[path]) > 0}
	if !d.old(ctx, rel) {
		a, err := f.Stat(ctx, path)
		if err != nil {
			return nil, err
		}
		if a.Type != remote.Dir {
			return nil, fail("list", path, remote.NotDir, nil)
		}
	}
	f.overlay(ctx, path, d)
	if d.b != nil && d.fetched == nil {
		d.open(ctx, rel)
	}
	return d, nil
}

// open takes the listing from memory if it is right, or else from the server.
func (d *DirStream) open(ctx context.Context, rel string) {
	m := d.b.meta
	entries, at, ok := m.listed(rel)
	if !ok && m.prove(ctx, rel, false) {
		entries, at, ok = m.listed(rel)
	}
	d.fs.walking(d.b, rel, !ok)
	if !ok {
		d.cursor = &dirCursor{d: d.fs.fetchDir(ctx, d.b, rel)}
		d.at = d.cursor.d.at
		return
	}
	d.fetched, d.at = entries, at
	d.b.ahead.listed(ctx, rel, entries)
	d.fs.walked(d.b, rel, entries)
}

// old takes a listing that is too old, but may be shown while a new one is fetched.
func (d *DirStream) old(ctx context.Context, rel string) bool {
	if d.b == nil || d.b.DirStale <= 0 {
		return false
	}
	m := d.b.meta
	if _, _, ok := m.listed(rel); ok {
		return false
	}
	entries, at, ok := m.listedWithin(rel, d.b.DirTTL+d.b.DirStale)
	if !ok {
		return false
	}
	d.fetched, d.at = entries, at
	d.fs.detach(ctx, func(ctx context.Context) {
		if !m.prove(ctx, rel, true) {
			_ = d.fs.list(ctx, d.b, rel, 0) // who asks when it is too old hears of an error
		}
	})
	return true
}

// overlay collects what is in the directory at path but not on the server.
func (f *FS) overlay(ctx context.Context, path string, d *DirStream) {
	for _, name := range f.ns.above[path] {
		if a, err := f.Stat(ctx, remote.Join(path, name)); err == nil {
			d.local = append(d.local, DirEntry{name, a})
		} else {
			// The branch is there even if its server does not answer now.
			d.local = append(d.local, DirEntry{name, f.synthetic(remote.Join(path, name))})
		}
		d.hidden[name] = true
	}
	f.mu.Lock()
	var changed []*file
	for p, x := range f.files {
		if dir, _ := remote.Split(p); dir == path && p != "/" {
			changed = append(changed, x)
		}
	}
	f.mu.Unlock()
	for _, x := range changed {
		if a, p, mine := x.overlay(); mine {
			_, name := remote.Split(p)
			d.local = append(d.local, DirEntry{name, a})
			d.hidden[name] = true
		}
	}
	slices.SortFunc(d.local, func(a, b DirEntry) int { return strings.Compare(a.Name, b.Name) })
}

// Next returns the next entry, or io.EOF after the last. A listing that failed on
// the way ends with its error.
func (d *DirStream) Next(ctx context.Context) (DirEntry, error) {
	for {
		if d.j < len(d.local) {
			d.j++
			return d.local[d.j-1], nil
		}
		e, err := d.nextRemote(ctx)
		if err != nil && d.maybe && remote.KindOf(err) == remote.NotExist {
			err = io.EOF
		}
		if err != nil {
			return DirEntry{}, err
		}
		_, name := remote.Split(e.Path)
		if d.hidden[name] {
			continue
		}
		if a, ok := d.attr(ctx, e); ok {
			return DirEntry{name, a}, nil
		}
	}
}

// attr returns the attributes of a listed entry. An open file has its own; if the
// server seems to have another version of it, that must be found out first, because
// the listing may be older than a change made here. It returns false if nothing is
// there any more.
func (d *DirStream) attr(ctx context.Context, e remote.Entry) (Attr, bool) {
	path := d.b.abs(e.Path)
	if x := d.fs.opened(path); x != nil {
		if x.local() || x.sameVersion(e) {
			return x.attr(), true
		}
		a, err := d.fs.Stat(ctx, path)
		if err == nil || remote.KindOf(err) == remote.NotExist {
			return a, err == nil
		}
	}
	return d.fs.attr(d.b, e, max(0, d.b.AttrTTL-d.fs.now().Sub(d.at))), true
}

func (d *DirStream) nextRemote(ctx context.Context) (remote.Entry, error) {
	if d.cursor != nil {
		e, err := d.cursor.Next(ctx)
		return d.b.meta.dress(e), err
	}
	if d.i >= len(d.fetched) {
		return remote.Entry{}, io.EOF
	}
	d.i++
	return d.fetched[d.i-1], nil
}

// Rewind goes back to the first entry of the same listing. For the present state of
// the directory open it again.
func (d *DirStream) Rewind() {
	d.i, d.j = 0, 0
	if d.cursor != nil {
		d.cursor.rewind()
	}
}

// Close ends the reading.
func (d *DirStream) Close() {
	if d.cursor != nil {
		d.cursor.d.leave()
		d.cursor = nil
	}
}

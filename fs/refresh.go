package fs

import (
	"context"

	"github.com/meshmount/meshmount/remote"
)

// maxRefreshed bounds the names below a path that the kernel is told of by Refresh. What
// it knows of others it forgets in the time that it was given.
const maxRefreshed = 10_000

// Refresh forgets what is known at and below path, in memory and on the disk, so that
// the next look at it asks the server. Files that are open stay what they are. It sends
// no request.
func (f *FS) Refresh(ctx context.Context, path string) error {
	if err := remote.CheckPath("refresh", path); err != nil {
		return err
	}
	if err := remote.ContextErr(ctx); err != nil {
		return err
	}
	names := []string{path}
	for _, b := range f.ns.branches {
		switch {
		case remote.Within(b.prefix, path):
			names = append(names, b.refresh("/")...)
		case remote.Within(path, b.prefix):
			names = append(names, b.refresh(b.rel(path))...)
		}
	}
	f.xattrs.clear()
	f.replicas.clear()
	for _, name := range names[:min(len(names), maxRefreshed)] {
		if f.opened(name) == nil {
			f.tell(Invalidation{Path: name, Ino: f.inos.of(name), Content: true, Entry: true})
		}
	}
	return nil
}

// refresh forgets what is known at and below rel, and returns the names that were.
func (b *branch) refresh(rel string) []string {
	names := b.meta.refresh(rel)
	for i, name := range names {
		names[i] = b.abs(name)
	}
	return names
}

// refresh forgets what is known at and below rel. No answer that is on its way is kept.
func (m *metaCache) refresh(rel string) (names []string) {
	m.mu.Lock()
	m.trees++
	m.crossesAll()
	m.eachListing(func(_ map[string]*listing, dir string, l *listing) {
		if remote.Within(dir, rel) {
			for _, k := range l.names {
				names = append(names, k.e.Path)
			}
		}
	})
	m.single.removeIf(func(p string) bool { return p == "/" || remote.Within(p, rel) })
	m.mu.Unlock()
	dir, _ := remote.Split(rel)
	m.b.Tree.Forget(dir)
	m.forget(rel, remote.Dir)
	return names
}

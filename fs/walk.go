package fs

import (
	"context"
	"sync"

	"github.com/meshmount/meshmount/prefetch"
	"github.com/meshmount/meshmount/remote"
)

// defaultListings is Branch.Listings if that is 0.
const defaultListings = 16

// walk lists the directories of a tree that is being walked before they are asked for.
type walk struct {
	mu    sync.Mutex
	walks *prefetch.Walk // guarded by mu; nil if listings are not kept long enough to be of use
}

func (w *walk) init(b Branch) {
	if min(b.AttrTTL, b.DirTTL) <= 0 {
		return
	}
	most := b.Listings
	if most == 0 {
		most = defaultListings
	}
	w.walks = prefetch.NewWalk(most)
}

// asked takes note of a program that lists dir, and returns what to list now.
func (w *walk) asked(dir string, stalled bool) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.walks == nil {
		return nil
	}
	w.walks.Asked(dir, stalled)
	return w.walks.Next()
}

// listed takes note of what is in dir, and returns what to list now.
func (w *walk) listed(dir string, entries []remote.Entry) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.walks == nil {
		return nil
	}
	var children []string
	for i := range entries {
		if entries[i].Type == remote.Dir {
			children = append(children, entries[i].Path)
		}
	}
	w.walks.Listed(dir, children)
	return w.walks.Next()
}

// failed takes note of a listing that failed. Only those that are ahead matter.
func (w *walk) failed(dir string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.walks != nil {
		w.walks.Failed(dir)
	}
}

// walking is called when a program lists dir; stalled tells that it has to wait.
func (f *FS) walking(b *branch, dir string, stalled bool) {
	f.listAhead(b, b.walk.asked(dir, stalled))
}

// walked is called when it is known what is in dir.
func (f *FS) walked(b *branch, dir string, entries []remote.Entry) {
	f.listAhead(b, b.walk.listed(dir, entries))
}

// listAhead has directories listed that are not known. Nobody waits for that.
func (f *FS) listAhead(b *branch, dirs []string) {
	for len(dirs) > 0 {
		dir := dirs[0]
		dirs = dirs[1:]
		b.meta.confirmHere(dir)
		if entries, _, ok := b.meta.listed(dir); ok {
			dirs = append(dirs, b.walk.listed(dir, entries)...)
			continue
		}
		f.fetch(context.Background(), b, dir, 0, true)
	}
}

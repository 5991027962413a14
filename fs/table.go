package fs

import (
	"slices"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// insert puts x into the tables and takes a reference. Called with FS.mu held.
func (f *FS) insert(x *file, path string) {
	f.files[path] = x
	f.byIno[x.ino] = append(f.byIno[x.ino], x)
}

// dropName takes x out of the table of names: the name is now something else.
// Called with FS.mu held.
func (f *FS) dropName(x *file, path string) {
	if f.files[path] == x {
		delete(f.files, path)
	}
}

// drop takes x out of both tables. Called with FS.mu held.
func (f *FS) drop(x *file) {
	path, _ := x.where()
	f.dropName(x, path)
	left := slices.DeleteFunc(f.byIno[x.ino], func(y *file) bool { return y == x })
	if len(left) == 0 {
		delete(f.byIno, x.ino)
	} else {
		f.byIno[x.ino] = left
	}
}

// opened returns the file that is open at path, if any.
func (f *FS) opened(path string) *file {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.files[path]
}

// grab is opened with a reference: the file stays open until release is called.
func (f *FS) grab(path string) (x *file, release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	x = f.files[path]
	if x == nil {
		return nil, func() {}
	}
	x.refs++
	return x, (&Handle{x: x}).Release
}

// hold is grab for the file that h is open on, or that has the inode number ino, or
// that is open at path.
func (f *FS) hold(h *Handle, ino uint64, path string) (x *file, release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := f.byIno[ino]
	switch {
	case h != nil:
		x = h.x
	case len(list) > 0:
		x = list[len(list)-1]
	default:
		x = f.files[path]
	}
	if x == nil {
		return nil, func() {}
	}
	x.refs++
	return x, (&Handle{x: x}).Release
}

// replaced separates the open file x from its name, because the server now has
// another version there: the name gets a new inode number.
func (f *FS) replaced(x *file, path string) {
	f.mu.Lock()
	was := f.files[path] == x
	if was {
		f.separate(x, path)
	}
	f.mu.Unlock()
	if was {
		f.tell(Invalidation{Path: path, Ino: x.ino, Entry: true})
	}
}

// separate takes the name and its inode number from x. Called with FS.mu held.
func (f *FS) separate(x *file, path string) {
	f.dropName(x, path)
	f.inos.gone(path)
}

// sighting is the file that is open at a path before the server is asked about it.
type sighting struct {
	x    *file
	puts uint64
}

func (f *FS) sight(path string) (s sighting) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.x = f.files[path]; s.x != nil {
		s.x.mu.Lock()
		s.puts = s.x.puts
		s.x.mu.Unlock()
	}
	return s
}

// answered compares the file that is open at path with the server's answer to a
// question that was asked after s: e, or nil for nothing there, which holds for
// left. It returns the open file if the name still stands for it, and otherwise
// separates it from its name.
func (f *FS) answered(path string, s sighting, e *remote.Entry, left time.Duration) *file {
	f.mu.Lock()
	x, lost := f.answeredLocked(path, s, e, left)
	f.mu.Unlock()
	f.tellLost(path, lost)
	return x
}

func (f *FS) answeredLocked(path string, s sighting, e *remote.Entry, left time.Duration) (x, lost *file) {
	x = f.files[path]
	if x == nil || x.stands(s, e, left) {
		return x, nil
	}
	f.separate(x, path)
	return nil, x
}

func (f *FS) tellLost(path string, lost *file) {
	if lost != nil {
		f.tell(Invalidation{Path: path, Ino: lost.ino, Entry: true})
	}
}

// stands tells whether the answer e leaves x its name. What this mount knows better
// than the server, or has learnt since the question, is stronger than the answer.
func (x *file) stands(s sighting, e *remote.Entry, left time.Duration) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.dirty || !x.exists || x.setting > 0 || x != s.x || x.puts != s.puts:
		return true
	case e == nil || !x.isBase(*e):
		return x.changing(e)
	}
	x.fresh = x.fs.now().Add(left)
	return true
}

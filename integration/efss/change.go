package efss

import (
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// change is why a directory gets a new version.
type change uint8

const (
	changeContent change = iota // a file was written
	changeAdded                 // a file was made
	changeMkcol                 // a directory was made
	changeRemoved               // an entry was deleted
	changeRenamed               // an entry got another name in the same directory
	changeMoved                 // an entry came from or went to another directory
	changeTimes                 // a modification time was set
)

// content is what a finished upload brought.
type content struct {
	tmp   string // the file to put in place; "" if the bytes are there already
	size  int64
	mtime time.Time // as the client asked, or zero
	sum   string    // oc:checksums to keep
	md5   string    // of the bytes, for dialects whose ETag it is
	// unseen: it did not come by an upload of WebDAV, and no time of upload is noted.
	unseen bool
}

// touch gives dir, and as the dialect does what is above it, new versions.
// It returns the records to write. Call with mu held.
func (s *store) touch(user string, dir *node, t time.Time, why change) []record {
	var out []record
	for n := dir; n != nil; n = n.parent {
		if !s.b.touches(n == dir, why) {
			break
		}
		if t.After(n.MTime) {
			n.MTime = t
		}
		s.b.stampDirFor(s, n, why)
		out = append(out, n.record(user))
	}
	return out
}

// place returns the parent and the present entry at path, for making something
// there: errNoParent or errNotDir. Call with mu held.
func (s *store) place(user, path string) (parent, old *node, name string, err error) {
	dir, name := splitPath(path)
	parent = s.roots[user].find(dir)
	switch {
	case parent == nil:
		err = errNoParent
	case !parent.Dir:
		err = errNotDir
	}
	return parent, parent.child(name), name, err
}

// commit makes c the content of the file at path, which may be new. It returns the
// new entry and whether there was none before.
func (s *store) commit(user, path string, c content) (info, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	parent, n, name, err := s.place(user, path)
	if err != nil {
		return info{}, false, err
	}
	if n != nil && n.Dir {
		return info{}, false, errIsDir
	}
	disk := s.disk(user, path)
	if c.tmp != "" {
		if err := os.Rename(c.tmp, disk); err != nil {
			return info{}, false, err
		}
	}
	fresh, why := n == nil, changeContent
	if fresh {
		n, why = s.newNode(false), changeAdded
		n.attach(parent, name)
	}
	s.setContent(n, c)
	if err := os.Chtimes(disk, n.MTime, n.MTime); err != nil {
		return info{}, false, err
	}
	at := n.MTime
	if s.b.touchNow {
		at = s.stampTime()
	}
	s.write(append([]record{n.record(user)}, s.touch(user, parent, at, why)...)...)
	return n.info(path), fresh, nil
}

func (s *store) setContent(n *node, c content) {
	n.grow(c.size - n.Size)
	switch {
	case c.mtime.IsZero():
		n.MTime, n.Puts = s.stampTime(), 0
	case n.Puts > 0 && c.mtime.Equal(n.MTime):
		n.Puts++
	default:
		n.MTime, n.Puts = c.mtime, 1
	}
	n.Sum = c.sum
	if !c.unseen {
		n.Uploaded = s.now().Unix()
	}
	s.b.stampFile(s, n, c.md5)
}

// create makes an empty file at path if there is none, for dialects whose uploads
// are visible from their first byte.
func (s *store) create(user, path string) error {
	f, err := os.OpenFile(s.disk(user, path), os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	_, _, err = s.commit(user, path, content{md5: hashed("")})
	return err
}

// mkdir makes a directory: errNoParent, errNotDir, errExists.
func (s *store) mkdir(user, path string) (info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	parent, n, name, err := s.place(user, path)
	if err != nil {
		return info{}, err
	}
	if n != nil || path == "/" {
		return info{}, errExists
	}
	if err := os.Mkdir(s.disk(user, path), 0o755); err != nil {
		return info{}, err
	}
	n = s.newNode(true)
	n.attach(parent, name)
	s.write(append([]record{n.record(user)}, s.touch(user, parent, s.stampTime(), changeMkcol)...)...)
	return n.info(path), nil
}

// mkdirAll makes a directory and what is missing above it.
func (s *store) mkdirAll(user, path string) error {
	if e, err := s.lookup(user, path); err == nil {
		if e.Dir {
			return nil
		}
		return errNotDir
	}
	dir, _ := splitPath(path)
	if err := s.mkdirAll(user, dir); err != nil {
		return err
	}
	_, err := s.mkdir(user, path)
	if errors.Is(err, errExists) {
		return nil
	}
	return err
}

// remove deletes the entry at path with all below it.
func (s *store) remove(user, path string) error {
	s.mu.Lock()
	n := s.roots[user].find(path)
	if n == nil || n.parent == nil {
		s.mu.Unlock()
		return errNotFound
	}
	parent := n.parent
	trash, err := s.discard(user, n)
	if err == nil {
		s.write(s.touch(user, parent, s.stampTime(), changeRemoved)...)
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return os.RemoveAll(trash)
}

// discard takes n out of the tree and out of sight on disk, and returns where it now
// is. Call with mu held; delete the returned place without it.
func (s *store) discard(user string, n *node) (string, error) {
	trash := filepath.Join(s.tmpDir(), "trash-"+rand.Text())
	if err := os.Rename(s.disk(user, n.path()), trash); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	n.detach()
	s.write(record{Op: opRemove, ID: n.ID})
	return trash, nil
}

// move renames src to dst and tells whether something was replaced. Dead properties,
// id and times move along.
// Errors: errNotFound, errNoParent, errNotDir, errExists (only without overwrite),
// errInside, errSame.
func (s *store) move(user, src, dst string, overwrite bool) (info, bool, error) {
	s.mu.Lock()
	moved, trash, err := s.moveLocked(user, src, dst, overwrite)
	s.mu.Unlock()
	if err != nil || trash == "" {
		return moved, false, err
	}
	return moved, true, os.RemoveAll(trash)
}

func (s *store) moveLocked(user, src, dst string, overwrite bool) (info, string, error) {
	n := s.roots[user].find(src)
	if n == nil || n.parent == nil {
		return info{}, "", errNotFound
	}
	to, trash, name, err := s.makeRoom(user, n, dst, overwrite, false)
	if err != nil {
		return info{}, "", err
	}
	if err := os.Rename(s.disk(user, src), s.disk(user, dst)); err != nil {
		return info{}, "", err
	}
	from := n.parent
	n.detach()
	n.attach(to, name)
	why := changeMoved
	if from == to {
		why = changeRenamed
	}
	records := append([]record{n.record(user)}, s.touch(user, from, s.stampTime(), why)...)
	if from != to {
		records = append(records, s.touch(user, to, s.stampTime(), why)...)
	}
	s.write(records...)
	return n.info(dst), trash, nil
}

// makeRoom checks that n may go to dst, with shallow without what is in it, and takes
// away what is there. It returns the new parent and where the old entry now lies on disk, "" if there was none.
func (s *store) makeRoom(user string, n *node, dst string, overwrite, shallow bool) (parent *node, trash, name string, err error) {
	parent, old, name, err := s.place(user, dst)
	switch {
	case err != nil:
	case old == n:
		err = errSame
	case parent.within(n) && !shallow, dst == "/", old != nil && n.within(old):
		err = errInside
	case old != nil && !overwrite:
		err = errExists
	case old != nil:
		trash, err = s.discard(user, old)
	}
	return parent, trash, name, err
}

// copy makes dst a copy of src, with everything below it unless shallow.
// Errors as move.
func (s *store) copy(user, src, dst string, overwrite, shallow bool) (info, bool, error) {
	s.mu.Lock()
	made, trash, err := s.copyLocked(user, src, dst, overwrite, shallow)
	s.mu.Unlock()
	if err != nil || trash == "" {
		return made, false, err
	}
	return made, true, os.RemoveAll(trash)
}

func (s *store) copyLocked(user, src, dst string, overwrite, shallow bool) (info, string, error) {
	n := s.roots[user].find(src)
	if n == nil {
		return info{}, "", errNotFound
	}
	tmp := filepath.Join(s.tmpDir(), "copy-"+rand.Text())
	defer func() { _ = os.RemoveAll(tmp) }()
	if err := copyDisk(s.disk(user, src), tmp, shallow); err != nil {
		return info{}, "", err
	}
	to, trash, name, err := s.makeRoom(user, n, dst, overwrite, shallow)
	if err != nil {
		return info{}, "", err
	}
	if err := os.Rename(tmp, s.disk(user, dst)); err != nil {
		return info{}, "", err
	}
	made := s.clone(user, n, to, name, shallow)
	s.write(s.touch(user, to, s.stampTime(), changeAdded)...)
	return made.info(dst), trash, nil
}

// clone repeats n and what is below it under parent. Call with mu held.
func (s *store) clone(user string, n, parent *node, name string, shallow bool) *node {
	c := s.newNode(n.Dir)
	c.Sum, c.Props, c.Uploaded = n.Sum, n.Props, s.now().Unix()
	if s.b.copyKeeps {
		c.MTime, c.ETag, c.Uploaded = n.MTime, n.ETag, n.Uploaded
	}
	c.attach(parent, name)
	if !n.Dir {
		c.grow(n.Size)
		if !s.b.copyKeeps {
			s.b.stampFile(s, c, n.ETag)
		}
		_ = os.Chtimes(s.disk(user, c.path()), c.MTime, c.MTime)
	}
	s.write(c.record(user))
	if shallow {
		return c
	}
	for name, child := range n.children {
		s.clone(user, child, c, name, false)
	}
	return c
}

// copyDisk copies a file or directory.
func copyDisk(from, to string, shallow bool) error {
	fi, err := os.Lstat(from)
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		return copyFile(from, to)
	}
	if err := os.Mkdir(to, 0o755); err != nil || shallow {
		return err
	}
	entries, err := os.ReadDir(from)
	for _, e := range entries {
		err = errors.Join(err, copyDisk(filepath.Join(from, e.Name()), filepath.Join(to, e.Name()), false))
	}
	return err
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// edit changes the attributes of the entry at path. With propagate the directories
// above get new versions.
func (s *store) edit(user, path string, propagate bool, f func(*node)) (info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.roots[user].find(path)
	if n == nil {
		return info{}, errNotFound
	}
	f(n)
	records := []record{n.record(user)}
	if propagate && n.parent != nil {
		records = append(records, s.touch(user, n.parent, n.MTime, changeTimes)...)
	}
	s.write(records...)
	return n.info(path), nil
}

// setMTime sets the modification time of what is at path, and with it its version.
func (s *store) setMTime(user, path string, t time.Time) (info, error) {
	return s.edit(user, path, true, func(n *node) {
		n.MTime = t.Truncate(s.b.tick)
		if n.Dir {
			s.b.stampDir(s, n)
			return
		}
		s.b.stampFile(s, n, n.ETag)
		_ = os.Chtimes(s.disk(user, path), n.MTime, n.MTime)
	})
}

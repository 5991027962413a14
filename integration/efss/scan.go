package efss

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// scan settles the catalog of one user against the disk: what is not on disk is
// forgotten, what is new or has another size or time gets new versions. It returns
// the number of differences. Links and special files are passed over. Call with mu
// held, or before the store is in use.
func (s *store) scan(user string) (int, error) {
	return s.scanDir(user, s.roots[user], s.userDir(user))
}

func (s *store) scanDir(user string, dir *node, disk string) (int, error) {
	entries, err := os.ReadDir(disk)
	if err != nil {
		return 0, err
	}
	found, changes := map[string]bool{}, 0
	for _, e := range entries {
		found[e.Name()] = true
		n, err := s.scanEntry(user, dir, e, filepath.Join(disk, e.Name()))
		if err != nil {
			return changes, err
		}
		changes += n
	}
	for name, n := range dir.children {
		if !found[name] {
			n.detach()
			s.write(record{Op: opRemove, ID: n.ID})
			changes++
		}
	}
	if changes > 0 {
		s.b.stampDir(s, dir)
		s.write(dir.record(user))
	}
	return changes, nil
}

// scanEntry compares one entry on disk with the catalog.
func (s *store) scanEntry(user string, dir *node, e fs.DirEntry, disk string) (int, error) {
	fi, err := e.Info()
	if errors.Is(err, fs.ErrNotExist) || err == nil && !e.IsDir() && !fi.Mode().IsRegular() {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	changes, n := 0, dir.child(e.Name())
	if n != nil && n.Dir != e.IsDir() {
		n.detach()
		n = nil
	}
	if n == nil {
		n = s.newNode(e.IsDir())
		n.attach(dir, e.Name())
		changes++
	}
	if n.Dir {
		if changes > 0 {
			s.write(n.record(user))
		}
		below, err := s.scanDir(user, n, disk)
		return changes + below, err
	}
	if changes == 0 && n.Size == fi.Size() && n.MTime.Unix() == fi.ModTime().Unix() {
		return 0, nil
	}
	sum, err := s.b.contentETag(disk)
	if err != nil {
		return changes, err
	}
	n.grow(fi.Size() - n.Size)
	n.MTime, n.Uploaded, n.Sum = fi.ModTime().Truncate(s.b.tick), s.now().Unix(), ""
	s.b.stampFile(s, n, sum)
	s.write(n.record(user))
	return 1, nil
}

// write adds to the log, once there is one.
func (s *store) write(records ...record) {
	if s.journal != nil {
		s.journal.add(records...)
	}
}

// rescan is scan with the lock.
func (s *store) rescan(user string) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.scan(user)
}

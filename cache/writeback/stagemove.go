package writeback

import (
	"errors"
	"os"
	"path/filepath"
)

// home is a place for a content: a slot, or a file of its own.
type home struct {
	slot *slot  // nil for a file
	own  string // name of the file
	file *os.File
}

// place makes a place that holds size bytes and more.
func (s *Stages) place(size int64) (*home, error) {
	if p := s.slots.take(min(max(size, maxSlot), 2*size)); p != nil {
		f, err := p.open()
		if err != nil {
			p.free()
			return nil, err
		}
		return &home{slot: p, file: f}, nil
	}
	f, err := s.create()
	if err != nil {
		return nil, err
	}
	return &home{own: filepath.Base(f.Name()), file: f}, nil
}

// giveBack undoes place.
func (h *home) giveBack() {
	if h.slot != nil {
		h.slot.close()
		h.slot.free()
		return
	}
	_, _ = h.file.Close(), os.Remove(h.file.Name()) // what stays is removed at the next start
}

// at is where in the file the content begins.
func (h *home) at() int64 {
	if h.slot != nil {
		return h.slot.off
	}
	return 0
}

// makeRoom gives the content a place that holds end bytes, where it is or elsewhere. What the
// journal knows is on stable storage there before the journal says so. It stays where it was, too,
// as long as the journal may speak of that.
func (st *Stage) makeRoom(end int64) error {
	if st.holds(end) {
		return nil
	}
	st.refMu.Lock()
	noted := st.onMove
	st.refMu.Unlock()
	for {
		to, edits, err := st.copyOut(end)
		if to == nil || err != nil {
			return err
		}
		moved := false
		if noted == nil {
			moved = st.swap(to, edits)
		} else if err = errors.Join(to.file.Sync(), st.home.sync()); err == nil {
			moved = noted(func() bool { return st.swap(to, edits) })
		}
		if moved {
			return nil
		}
		to.giveBack()
		if err != nil {
			return err
		}
	}
}

// holds tells whether the content's place holds end bytes, or can be made to.
func (st *Stage) holds(end int64) bool {
	st.mu.RLock()
	enough := st.slot == nil || end <= st.slot.room
	st.mu.RUnlock()
	if enough {
		return true
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.slot == nil || end <= st.slot.room || st.slot.extend(end)
}

// copyOut copies the content to a new place that holds end bytes, and returns how often it was
// changed until then; nil if it has a file of its own.
func (st *Stage) copyOut(end int64) (*home, uint64, error) {
	f, err := st.opened()
	if err != nil {
		return nil, 0, err
	}
	defer st.mu.RUnlock()
	if st.slot == nil {
		return nil, 0, nil
	}
	p := make([]byte, st.size)
	if n, err := st.readFile(f, p, 0); n < len(p) {
		return nil, 0, err
	}
	to, err := st.home.place(end)
	if err != nil {
		return nil, 0, err
	}
	if _, err := to.file.WriteAt(p, to.at()); err != nil {
		to.giveBack()
		return nil, 0, err
	}
	return to, st.edits, nil
}

// swap has the content lie at another place, false if it was changed since it was copied there.
func (st *Stage) swap(to *home, edits uint64) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.slot == nil || st.edits != edits {
		return false
	}
	if st.file != nil {
		st.slot.close()
	}
	st.left = append(st.left, st.slot)
	st.slot, st.own, st.file = to.slot, to.own, to.file
	st.edits++
	return true
}

// Own gives the content a file of its own, if it has none, and returns its name with its
// directory.
func (st *Stage) Own() (string, error) {
	if err := st.makeRoom(segmentSize); err != nil { // nothing that is shared holds that
		return "", err
	}
	name, _ := st.Place()
	return name, nil
}

// maxOwned is how many contents that are left at the end get a file of their own, which people can
// copy.
const maxOwned = 100

// unshare gives some of what is left files of their own.
func (s *Store) unshare() {
	var left []*Stage
	s.mu.Lock()
	for _, b := range s.branches {
		for _, c := range b.all {
			if c.stage != nil && len(left) < maxOwned {
				left = append(left, c.stage.retain())
			}
		}
	}
	s.mu.Unlock()
	for _, st := range left {
		_, _ = st.Own() // where that fails, it lies with others
		st.Release()
	}
}

package writeback

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/remote"
)

// Bounds of base versions that are in memory because the disk has no room for them.
const (
	maxHeld = 8 << 20  // bytes of one file
	allHeld = 32 << 20 // bytes of all files of a directory
)

// held are the bytes of the base version of a Stage, in memory.
type held struct{ bytes []byte }

// Hold has fetch read the whole base version into memory, for when the disk has no room
// for it: ReadStaged then gives its bytes as if they were in the file. It returns false if
// the memory for such files is in use, or the file too large for it.
func (st *Stage) Hold(fetch func(ref remote.Ref, p []byte) error) (bool, error) {
	ref := st.Base()
	if ref.Size > maxHeld {
		return false, nil
	}
	if st.home.held.Add(ref.Size) > allHeld {
		st.home.held.Add(-ref.Size)
		return false, nil
	}
	p := make([]byte, ref.Size)
	err := fetch(ref, p)
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case err != nil:
	case st.base != ref:
		err = errMoved
	case st.held == nil:
		st.held = &held{p}
		return true, nil
	}
	st.home.held.Add(-ref.Size)
	return err == nil, err
}

// errMoved is the error of bytes that were fetched of what is not the base any more.
var errMoved = errors.New("writeback: the base is another version now")

// Draft puts bytes of the base version where nothing was written, as Fill does, but they do
// not count before Adopt. If there is no room for all, the disk gets back what they took.
func (st *Stage) Draft(p []byte, off int64) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	err := st.lay(p, off, func(Extent) {})
	if kindOfDisk(err) == remote.NoSpace && st.file != nil {
		for _, m := range st.have.missing(0, st.limit) { // where that cannot be done, they stay until the file goes
			_ = unix.Fallocate(int(st.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, m.Off, m.End-m.Off)
		}
	}
	return err
}

// Adopt says that all of ref was drafted: what was not written is here now. It returns
// false if ref is not the base any more.
func (st *Stage) Adopt(ref remote.Ref) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.base != ref {
		return false
	}
	st.home.space.force(st.have.add(0, st.limit))
	return true
}

// lay writes bytes of the base version where nothing was written. Guarded by mu.
func (st *Stage) lay(p []byte, off int64, done func(Extent)) error {
	f, err := st.open()
	if err != nil {
		return err
	}
	for _, m := range st.have.missing(off, min(off+int64(len(p)), st.limit)) {
		if _, err := f.WriteAt(p[m.Off-off:m.End-off], m.Off); err != nil {
			return err
		}
		done(m)
	}
	return nil
}

// Held tells whether the base version is in memory.
func (st *Stage) Held() bool {
	st.mu.RLock()
	defer st.mu.RUnlock()
	return st.held != nil
}

// Unhold brings a base version that is in memory to the disk, where there is one.
func (st *Stage) Unhold() error {
	st.mu.RLock()
	h := st.held
	st.mu.RUnlock()
	if h == nil {
		return nil
	}
	if err := st.Fill(h.bytes, 0); err != nil {
		return err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.letHeldGo()
	return nil
}

// letHeldGo gives the memory back. Guarded by mu.
func (st *Stage) letHeldGo() {
	if st.held != nil {
		st.home.held.Add(-int64(len(st.held.bytes)))
		st.held = nil
	}
}

// overlay puts the bytes of the base that are in memory into p, which was read from the
// file at off, where it has none. Guarded by mu.
func (st *Stage) overlay(p []byte, off int64, missing []Extent) {
	for _, m := range missing {
		copy(p[m.Off-off:m.End-off], st.held.bytes[m.Off:m.End])
	}
}

package writeback

import (
	"os"
	"path/filepath"
)

// retain takes one more reference.
func (st *Stage) retain() *Stage {
	st.refMu.Lock()
	defer st.refMu.Unlock()
	st.refs++
	return st
}

// hold takes a reference for a change in the journal: the file stays until drop is called.
func (st *Stage) hold() {
	st.refMu.Lock()
	defer st.refMu.Unlock()
	st.refs++
	st.holders++
}

// drop gives the reference of a change back that is not in the journal any more.
func (st *Stage) drop() {
	st.refMu.Lock()
	st.holders--
	st.refMu.Unlock()
	st.Release()
}

// Release gives a reference back. The last but those of the journal closes the file, the
// last of all removes it, unless the journal has a use for it.
func (st *Stage) Release() {
	st.refMu.Lock()
	st.refs--
	last, idle, kept := st.refs == 0, st.refs <= st.holders, st.holders > 0
	st.refMu.Unlock()
	if !last && !idle {
		return
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.file != nil && st.slot != nil {
		st.slot.close()
	} else if st.file != nil {
		_ = st.file.Close() // what has to be on the disk was synced
	}
	st.file = nil
	if !last {
		return
	}
	st.spoil()
	st.letHeldGo()
	st.home.space.give(st.have.bytes())
	if !kept {
		st.remove()
	}
}

// remove gives back where the content lies, and lay. Guarded by mu.
func (st *Stage) remove() {
	for _, p := range st.left {
		p.free()
	}
	if st.slot != nil {
		st.slot.free()
		return
	}
	name := filepath.Join(st.home.dir, st.own)
	if !st.home.spares.keep(name) {
		_ = os.Remove(name)
	}
}

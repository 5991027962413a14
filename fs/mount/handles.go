package mount

import (
	"sync"
)

// closer is a handle that the kernel has open: *openFile or *openDir.
type closer interface{ close() }

// handles is the table of what the kernel has open. Safe for concurrent use.
type handles struct {
	mu   sync.RWMutex
	open map[uint64]closer // guarded by mu
	last uint64            // guarded by mu
}

// add returns the number that the kernel is to use for h.
func (t *handles) add(h closer) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last++
	t.open[t.last] = h
	return t.last
}

// remove takes the handle out of the table.
func (t *handles) remove(fh uint64) closer {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.open[fh]
	delete(t.open, fh)
	return h
}

// drain empties the table.
func (t *handles) drain() []closer {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []closer
	for _, h := range t.open {
		all = append(all, h)
	}
	clear(t.open)
	return all
}

// file returns the open file fh, nil if there is none.
func (t *handles) file(fh uint64) *openFile {
	t.mu.RLock()
	defer t.mu.RUnlock()
	f, _ := t.open[fh].(*openFile)
	return f
}

// dir returns the open directory fh, nil if there is none.
func (t *handles) dir(fh uint64) *openDir {
	t.mu.RLock()
	defer t.mu.RUnlock()
	d, _ := t.open[fh].(*openDir)
	return d
}

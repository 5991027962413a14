package writeback

import "github.com/meshmount/meshmount/remote"

// Quiet tells whether no pending change concerns a directory or a name in it: its listing
// is what the server shows.
func (b *Branch) Quiet(dir string) bool {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	if len(b.queue.lines[dir]) > 0 {
		return false
	}
	for name := range b.queue.kids[dir] {
		if len(b.queue.lines[remote.Join(dir, name)]) > 0 {
			return false
		}
	}
	return true
}

// State returns the state of the last pending change at path (Pending, Uploading,
// Waiting, Parked or Blocked), "" if there is none.
func (b *Branch) State(path string) string {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	c := b.queue.last(path)
	if c == nil || c.kind == opForeign {
		return ""
	}
	return b.item(c).State
}

// Stable brings all that was committed to stable storage.
func (b *Branch) Stable() error {
	if err := b.store.syncNow(); err != nil {
		return remote.E("sync", "/", kindOfDisk(err), err)
	}
	return nil
}

// resolved returns e, or what the server has of it if that is a local version which it
// has by now: who asks may not have been told yet. Guarded by store.mu.
func (b *Branch) resolved(e remote.Entry) remote.Entry {
	if c, ok := b.contents[e.Version]; ok && IsLocal(e.Version) && c.stage == nil {
		path := e.Path
		e = *c.entry
		e.Path = path
	}
	return e
}

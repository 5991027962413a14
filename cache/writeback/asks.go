package writeback

import (
	"context"
	"errors"
	"maps"
	"strings"
	"time"

	"github.com/meshmount/meshmount/remote"
)

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
	if c == nil || c.kind == opForeign || c.guards() {
		return ""
	}
	return b.item(c, b.anyParked()).State
}

// Stable brings all that was committed to stable storage.
func (b *Branch) Stable() error {
	if err := b.store.syncNow(); err != nil {
		return remote.E("sync", "/", kindOfDisk(err), err)
	}
	return nil
}

// Reach waits until the server has what is pending at path. Unlike Sync, it fails as soon
// as an attempt has failed.
func (b *Branch) Reach(ctx context.Context, path string) error {
	return b.alone(ctx, []string{path}, false, func() error { return nil })
}

// Told waits until the function of OnSettled has been told of all that has settled. It
// must not be called by that function.
func (b *Branch) Told() { b.teller.told() }

// attrKey is where contents keeps what a change of attributes alone has made of a version
// of the server.
func attrKey(path, version string) string { return "attributes:" + path + "\x00" + version }

// reattributed notes that c has made now of the version was, by its attributes alone.
// Guarded by store.mu.
func (b *Branch) reattributed(c *change, was string, now remote.Entry) {
	if was == "" || now.Type != remote.File {
		return
	}
	b.remember(attrKey(c.path, was), now)
	if now.Version == was {
		return
	}
	b.became(now)
	for _, d := range b.queue.lines[c.path] {
		b.rebase(d)
	}
}

// became notes that a file of the server is e now: versions may come back, and then what
// attributes have once made of it is over. Guarded by store.mu.
func (b *Branch) became(e remote.Entry) {
	if e.Type == remote.File {
		delete(b.contents, attrKey(e.Path, e.Version))
	}
}

// becameOther notes that all at and below a path is something else now. Guarded by store.mu.
func (b *Branch) becameOther(path string) {
	own, below := attrKey(path, ""), strings.TrimSuffix(attrKey(path, ""), "\x00")+"/"
	maps.DeleteFunc(b.contents, func(key string, _ *content) bool {
		return strings.HasPrefix(key, own) || strings.HasPrefix(key, below)
	})
}

// rebase has the stage of c lie over what changes of attributes have made of its base.
// Guarded by store.mu.
func (b *Branch) rebase(c *change) {
	if c.stage == nil {
		return
	}
	was := c.stage.Base()
	if now := b.resolved(remote.Entry{Path: was.Path, Version: was.Version}); now.Version != was.Version && was.Version != "" {
		c.stage.Rebase(remote.Ref{Path: was.Path, Version: now.Version, Size: was.Size})
	}
}

// Reattributed returns what a change of attributes alone, made here, has made of a
// version of the file on the server: some give a file a new version for that.
func (b *Branch) Reattributed(path, was string) (remote.Entry, bool) {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	if c, ok := b.contents[was]; ok && c.aside { // what is at path is somebody else's
		return remote.Entry{Path: path, Version: was}, false
	}
	now := b.resolved(remote.Entry{Path: path, Version: was})
	return b.clad(now), now.Version != was
}

// Clad returns e, which the server has, with the attributes that are pending at its path.
func (b *Branch) Clad(e remote.Entry) remote.Entry {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	return b.clad(e)
}

// clad is guarded by store.mu.
func (b *Branch) clad(e remote.Entry) remote.Entry {
	if s := b.sees(e.Path); !s.known {
		dress(&e, s.attrs)
	}
	return e
}

// resolved returns e, or what the server has of it by our doing, if that is another
// version by now: who asks may not have been told yet. Guarded by store.mu.
func (b *Branch) resolved(e remote.Entry) remote.Entry {
	path, first := e.Path, e.Version
	for range maxSteps {
		was := e.Version
		key := was
		if !IsLocal(key) {
			key = attrKey(path, key)
		}
		c, ok := b.contents[key]
		if !ok || c.stage != nil || c.entry.Version == first { // who asks knows the attributes
			break
		}
		e = *c.entry
		e.Path = path
		if e.Version == was {
			break // with other attributes
		}
	}
	return e
}

// maxSteps bounds the changes of attributes that are followed.
const maxSteps = 100

func absent(op, path string) error {
	return &remote.Error{Op: op, Path: path, Kind: remote.NotExist}
}

// askedFor returns how long the server asked to wait, within bounds.
func askedFor(err error) time.Duration {
	var e *remote.Error
	if errors.As(err, &e) {
		return min(e.RetryAfter, mostAsked)
	}
	return 0
}

// mostAsked is how long a server may ask to wait.
const mostAsked = 10 * time.Minute

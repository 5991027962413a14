package writeback

import (
	"context"
	"errors"
	"slices"

	"github.com/meshmount/meshmount/remote"
)

// RemoveDir removes an empty directory. The caller knows that it is one; whether it is
// empty is looked up.
func (b *Branch) RemoveDir(ctx context.Context, path string) error {
	if err := remote.CheckPath("remove", path); err != nil {
		return err
	}
	s := b.store
	at := b.beginning()
	defer b.ended(at)
	if err := b.empty(ctx, path); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// With the lock free, something may have been made in it, and be on the server by now.
	if b.madeSince(path, at) {
		return &remote.Error{Op: "remove", Path: path, Kind: remote.NotEmpty}
	}
	return b.removeDir(path)
}

// madeSince tells whether the server has an entry of a directory by what ended after at, of
// which only the last end at each path counts. What is pending is not its business. Guarded by
// store.mu.
func (b *Branch) madeSince(dir string, at uint64) bool {
	seen := map[string]struct{}{}
	for _, r := range slices.Backward(b.recent) {
		if up, _ := remote.Split(r.path); up != dir || r.path == "/" || r.at <= at {
			continue
		}
		if _, again := seen[r.path]; again {
			continue
		}
		seen[r.path] = struct{}{}
		if r.entry.Type != 0 && !b.sees(r.path).known {
			return true
		}
	}
	return false
}

var errStop = errors.New("enough")

// empty returns NotEmpty if a directory has entries with all changes made.
func (b *Branch) empty(ctx context.Context, path string) error {
	err := b.List(ctx, path, func(remote.Entry) error { return errStop })
	if errors.Is(err, errStop) {
		return &remote.Error{Op: "remove", Path: path, Kind: remote.NotEmpty}
	}
	return err
}

// removeDir queues the removal. Guarded by store.mu.
func (b *Branch) removeDir(path string) error {
	for name := range b.queue.kids[path] {
		p := remote.Join(path, name)
		if s := b.sees(p); s.known && s.entry.Type != 0 || !s.known && len(b.queue.kids[p]) > 0 {
			return &remote.Error{Op: "remove", Path: path, Kind: remote.NotEmpty}
		}
	}
	seen := b.sees(path)
	last, free := b.queue.tail(path)
	switch {
	case seen.known && seen.entry.Type == 0:
		return absent("remove", path)
	case seen.known && seen.entry.Type != remote.Dir:
		return &remote.Error{Op: "remove", Path: path, Kind: remote.NotDir}
	case last != nil && free && last.untouched() && last.kind == opMkdir && last.fresh() && len(b.queue.kids[path]) == 0:
		return b.cancelOut(last)
	}
	if err := b.submit(&change{kind: opRemove, path: path, typ: remote.Dir, deep: true, after: last}); err != nil {
		return err
	}
	b.regather(path)
	return nil
}

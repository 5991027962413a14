package keep

import (
	"context"
	"slices"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive"
)

// Remove implements remote.Backend.
func (k *Backend) Remove(ctx context.Context, path string, opts remote.RemoveOptions) error {
	if err := k.visible(ctx, "remove", path); err != nil {
		return err
	}
	if opts.Type == remote.Dir {
		return k.removeDir(ctx, path, opts)
	}
	ours := archive.IsVersion(opts.Version)
	find := k.hint
	if ours {
		find = k.look
	}
	old, err := k.below(ctx, path, find)
	if err != nil {
		return err
	}
	if len(old) == 0 && !ours {
		if err = k.inner.Remove(ctx, path, opts); !missing(err) {
			return err
		}
		given := err // of the server: what was hinted may be too old
		if old, err = k.below(ctx, path, k.look); err != nil || len(old) == 0 {
			return firstOf(err, given)
		}
	}
	return k.removeFile(ctx, path, opts, old)
}

// firstOf returns the first that is an error.
func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// removeFile removes a member that shows, or a plain file with the members that it hides.
func (k *Backend) removeFile(ctx context.Context, path string, opts remote.RemoveOptions, old []*member) error {
	e, plain, err := k.plainAt(ctx, path)
	switch {
	case err != nil:
		return err
	case !plain && len(old) == 0:
		return fail("remove", path, remote.NotExist)
	case !plain && opts.Version != "" && opts.Version != old[0].Version():
		return fail("remove", path, remote.Conflict)
	case !plain:
		return k.kill(ctx, "remove", path, old)
	case e.Type == remote.Dir:
		return fail("remove", path, remote.IsDir)
	}
	if archive.IsVersion(opts.Version) {
		cond, err := k.now(ctx, "remove", e, remote.Cond{Version: opts.Version})
		if err != nil {
			return err
		}
		opts.Version = cond.Version
	}
	if err := k.kill(ctx, "remove", path, old); err != nil {
		return err
	}
	return k.inner.Remove(ctx, path, opts)
}

// removeDir removes a directory in which there is nothing but what is dead.
func (k *Backend) removeDir(ctx context.Context, path string, opts remote.RemoveOptions) error {
	err := k.inner.Remove(ctx, path, opts)
	switch {
	case isKind(err, remote.NotEmpty):
		if err := k.purge(ctx, "remove", path); err != nil {
			return err
		}
		err = k.inner.Remove(ctx, path, opts)
	case missing(err):
		return k.explain(ctx, "remove", path, remote.NotDir, err)
	}
	if err == nil {
		k.forget(path)
	}
	return err
}

// purge removes what is dead in a directory in which nothing else is: NotEmpty otherwise.
func (k *Backend) purge(ctx context.Context, op, dir string) error {
	full := fail(op, dir, remote.NotEmpty)
	v, err := k.list(ctx, dir, func(remote.Entry) error { return full })
	if err != nil {
		return err
	}
	if v.pending {
		return full
	}
	for _, h := range v.archives {
		if !v.spent(h) {
			return full
		}
	}
	k.forget(dir)
	for _, h := range v.archives { // the tombstones are still there if this fails
		if err := k.discard(ctx, h.entry); err != nil {
			return err
		}
	}
	errs := make([]error, len(v.tombs))
	parallel(len(v.tombs), func(i int) { errs[i] = k.discard(ctx, v.tombs[i].entry) })
	return firstOf(errs...)
}

// discard removes a file of ours, if it is still there.
func (k *Backend) discard(ctx context.Context, e remote.Entry) error {
	err := k.inner.Remove(ctx, e.Path, remote.RemoveOptions{Type: remote.File, Version: e.Version})
	if missing(err) {
		return nil
	}
	return err
}

// RemoveTree implements remote.TreeRemover. Archives go with their directories.
func (k *Backend) RemoveTree(ctx context.Context, path string) error {
	r, ok := remote.As[remote.TreeRemover](k.inner)
	if !ok {
		return fail("removetree", path, remote.Unsupported)
	}
	if err := k.visible(ctx, "removetree", path); err != nil {
		return err
	}
	err := r.RemoveTree(ctx, path)
	if missing(err) {
		return k.explain(ctx, "removetree", path, remote.NotDir, err)
	}
	k.forget(path)
	return err
}

// kill writes the tombstones of members of one name, and removes what is of no use without
// them.
func (k *Backend) kill(ctx context.Context, op, path string, old []*member) error {
	dir, _ := remote.Split(path)
	errs := make([]error, len(old))
	parallel(len(old), func(i int) { errs[i] = k.entomb(ctx, dir, old[i].Origin) })
	if err := firstOf(errs...); err != nil {
		return err
	}
	if len(old) > 0 {
		k.tidy(ctx, dir)
	}
	return nil
}

// entomb writes a tombstone.
func (k *Backend) entomb(ctx context.Context, dir string, uid archive.UID) error {
	opts := remote.PutOptions{Cond: remote.Cond{NotExist: true}}
	_, err := k.inner.Put(ctx, remote.Join(dir, uid.Tombstone()), bytesSource(nil), opts)
	if err != nil && !isKind(err, remote.Exist) {
		return err
	}
	if v := k.remembered(dir); v != nil {
		v.bury(uid)
	}
	return nil
}

// drop is kill of members that a plain file hides already: what fails is done by the next
// change of that name.
func (k *Backend) drop(ctx context.Context, path string, old []*member) {
	_ = k.kill(ctx, "put", path, old)
}

// Bounds of what one call tidies up.
const (
	sweeps    = 16       // old tombstones
	leastGain = 64 << 10 // bytes that a compaction frees
)

// tidy removes archives in which nothing is alive, rewrites those in which little is, and
// removes old tombstones. What fails is done by another call.
func (k *Backend) tidy(ctx context.Context, dir string) {
	v := k.remembered(dir)
	if v == nil || ctx.Err() != nil {
		return
	}
	changed := false
	for _, h := range v.archives {
		switch {
		case v.spent(h):
			changed = k.discard(ctx, h.entry) == nil || changed
		case v.wasteful(h):
			changed = k.compact(ctx, dir, h.index.ID) == nil || changed
		}
	}
	k.sweep(ctx, v)
	if changed {
		k.forgetOnly(dir)
	}
}

// forgetOnly drops what is known of one directory.
func (k *Backend) forgetOnly(dir string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lose(dir)
}

// wasteful tells whether a compaction of the archive pays.
func (v *view) wasteful(h *held) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	var all, dead int64
	for i := range h.index.Members {
		m := &h.index.Members[i]
		all += m.Size
		if v.dead[m.Origin] {
			dead += m.Size
		}
	}
	return dead >= leastGain && dead > all/2
}

// sweep removes tombstones of members that have not been there for long.
func (k *Backend) sweep(ctx context.Context, v *view) {
	if v.pending || len(v.plain) > 0 {
		return // they may be of archives that cannot be read now
	}
	before := k.opts.Now().Add(-k.opts.Linger)
	late := slices.DeleteFunc(slices.Clone(v.tombs), func(t tomb) bool { return !t.entry.MTime.Before(before) })
	if len(late) == 0 {
		return
	}
	there := map[archive.UID]bool{}
	for _, h := range v.archives {
		for i := range h.index.Members {
			there[h.index.Members[i].Origin] = true
		}
	}
	var old []remote.Entry
	for _, t := range late {
		if !there[t.uid] && len(old) < sweeps {
			old = append(old, t.entry)
		}
	}
	parallel(len(old), func(i int) { _ = k.discard(ctx, old[i]) })
}

// compact carries what is alive of an archive to a new one, which supersedes it.
func (k *Backend) compact(ctx context.Context, dir string, id archive.ID) error {
	v, err := k.list(ctx, dir, nil)
	if err != nil {
		return err
	}
	var old *held
	var items []archive.Item
	for _, all := range v.names {
		for _, m := range all {
			if m.in.index.ID != id {
				continue
			}
			old = m.in
			if slices.Contains(v.named(m.Name), m) {
				items = append(items, archive.Item{Member: *m.Member, Source: &memberSource{ctx, k, m}})
			}
		}
	}
	slices.SortFunc(items, func(a, b archive.Item) int { return a.Member.Origin.Compare(b.Member.Origin) })
	if old == nil || len(items) == 0 {
		return fail("compact", dir, remote.NotExist) // somebody was quicker
	}
	if _, _, err := k.putArchive(ctx, dir, v.newest(), []archive.ID{id}, items, ""); err != nil {
		return err
	}
	return k.discard(ctx, old.entry)
}

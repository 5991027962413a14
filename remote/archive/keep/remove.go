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
	switch {
	case opts.Type == remote.Dir:
		return k.removeDir(ctx, path, opts)
	case archive.IsVersion(opts.Version):
		return k.removeVersion(ctx, path, opts)
	}
	return k.removePlain(ctx, path, opts)
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

// removeVersion removes the version of a member. What was seen of the directory before need
// not be seen again: the tombstone is of that very member.
func (k *Backend) removeVersion(ctx context.Context, path string, opts remote.RemoveOptions) error {
	dir, name := remote.Split(path)
	v := k.remembered(dir)
	if v == nil || v.find(name) == nil || v.find(name)[0].Version() != opts.Version {
		var err error
		if v, err = k.lookAbove(ctx, path); err != nil {
			return err
		}
	}
	for range moves {
		e, plain, err := k.plainAt(ctx, path)
		if err != nil {
			return err
		}
		if plain {
			return k.removeUnpacked(ctx, path, opts, e)
		}
		c := v.find(name)
		switch {
		case c == nil:
			return fail("remove", path, remote.NotExist)
		case !c.isOf(opts.Version):
			return fail("remove", path, remote.Conflict)
		}
		if gone, err := k.kill(ctx, path, dir, c); gone || err != nil {
			return err
		}
		if v, err = k.lookAbove(ctx, path); err != nil { // it may be in another archive by now
			return err
		}
	}
	return fail("remove", path, remote.Unavailable)
}

// kill removes a file that shows. gone is false if somebody else had done so.
func (k *Backend) kill(ctx context.Context, path, dir string, c claim) (gone bool, err error) {
	first, err := k.bury(ctx, dir, c)
	if err != nil {
		return false, unsure("remove", path, err)
	}
	if first {
		k.upkeep(ctx, dir)
	}
	return first, nil
}

// removeUnpacked removes the plain file that a member has become, if that is of its version.
func (k *Backend) removeUnpacked(ctx context.Context, path string, opts remote.RemoveOptions, e remote.Entry) error {
	if e.Type == remote.Dir {
		return fail("remove", path, remote.IsDir)
	}
	cond, err := k.now(ctx, "remove", e, remote.Cond{Version: opts.Version})
	if err != nil {
		return err
	}
	opts.Version = cond.Version
	return k.removePlain(ctx, path, opts)
}

// removePlain removes what is at path, which most probably is no member.
func (k *Backend) removePlain(ctx context.Context, path string, opts remote.RemoveOptions) error {
	dir, name := remote.Split(path)
	v, err := k.probable(ctx, path)
	if err != nil {
		return err
	}
	var hidden claim
	if v != nil {
		if hidden, err = k.hiddenBy(ctx, path, v); err != nil {
			return err
		}
	}
	err = k.inner.Remove(ctx, path, opts)
	if err == nil {
		k.noted(path, (*view).uncover)
		err = k.buryAll(ctx, "remove", path, hidden)
		k.upkeep(ctx, dir)
		return err
	}
	if !missing(err) {
		return err
	}
	given := err
	for range moves {
		if v, err = k.lookAbove(ctx, path); err != nil {
			return err
		}
		c := v.find(name)
		switch {
		case c == nil:
			return given
		case opts.Version != "" && !c.isOf(opts.Version):
			return fail("remove", path, remote.Conflict)
		}
		if gone, err := k.kill(ctx, path, dir, c); gone || err != nil {
			return err
		}
	}
	return given
}

// hiddenBy returns the members that do not show because the plain file at path is there of
// which they were made. They are to be declared dead when that has gone, and not before: who
// packs may be about to remove it.
func (k *Backend) hiddenBy(ctx context.Context, path string, v *view) (claim, error) {
	_, name := remote.Split(path)
	_, hidden := v.living(name)
	if hidden == nil {
		return nil, nil
	}
	e, plain, err := k.plainAt(ctx, path)
	if err != nil || !plain {
		return nil, err
	}
	return slices.DeleteFunc(hidden, func(m *member) bool { return m.From != e.Version }), nil
}

// buryAll writes the tombstones of members that would show in the place of what was at path.
func (k *Backend) buryAll(ctx context.Context, op, path string, all claim) error {
	dir, _ := remote.Split(path)
	for _, m := range all {
		if _, err := k.entomb(ctx, dir, m.uid()); err != nil {
			return unsure(op, path, err)
		}
	}
	return nil
}

// removeDir removes a directory in which there is nothing but what is dead.
func (k *Backend) removeDir(ctx context.Context, path string, opts remote.RemoveOptions) error {
	err := k.inner.Remove(ctx, path, opts)
	switch {
	case isKind(err, remote.NotEmpty):
		err = k.removeHidden(ctx, path, opts)
	case missing(err):
		return k.explain(ctx, "remove", path, remote.NotDir, err)
	}
	if err == nil {
		k.forget(path)
	}
	return err
}

// removeHidden removes a directory in which there are files of ours, if all are dead.
func (k *Backend) removeHidden(ctx context.Context, path string, opts remote.RemoveOptions) error {
	v, err := k.onlyDead(ctx, "remove", path)
	if err != nil {
		return err
	}
	if p, ok := remote.As[remote.Pruner](k.inner); ok && p.Prunes() {
		if done, err := v.prune(ctx, p); done {
			return err
		}
	}
	if err := k.purge(ctx, v); err != nil {
		return err
	}
	return k.inner.Remove(ctx, path, opts)
}

// prune removes the directory in one step, if that can be done.
func (v *view) prune(ctx context.Context, p remote.Pruner) (done bool, err error) {
	known, ok := v.raw.known()
	if !ok {
		return false, nil
	}
	err = p.Prune(ctx, v.dir, known)
	switch {
	case isKind(err, remote.Unsupported):
		return false, nil
	case isKind(err, remote.Conflict):
		return true, &remote.Error{Op: "remove", Path: v.dir, Kind: remote.NotEmpty, Err: err, Unsure: isUnsure(err)}
	}
	return true, err
}

// known returns our files; false if one has no version.
func (l *listing) known() (all []remote.Known, ok bool) {
	for _, e := range l.entries() {
		if e.Version == "" {
			return nil, false
		}
		all = append(all, remote.Known{Path: e.Path, Type: remote.File, Version: e.Version})
	}
	return all, true
}

// entries returns our files, archives first. Damaged ones are among them.
func (l *listing) entries() (all []remote.Entry) {
	for _, files := range l.files {
		for _, g := range files {
			all = append(all, g.entry)
		}
	}
	for _, e := range l.tombs {
		all = append(all, e)
	}
	return all
}

// onlyDead looks at a directory, and returns NotEmpty unless all in it is dead.
func (k *Backend) onlyDead(ctx context.Context, op, dir string) (*view, error) {
	full := fail(op, dir, remote.NotEmpty)
	v, err := k.listed(ctx, dir, "", func(remote.Entry) error { return full })
	if err != nil {
		return nil, err
	}
	for _, h := range v.count {
		if v.aliveIn(h) > 0 {
			return nil, full
		}
	}
	return v, nil
}

// aliveIn returns how many members of an archive are not dead.
func (v *view) aliveIn(h *held) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return h.alive
}

// purge removes the files of ours in a directory in which all is dead. Graves go last: until
// then nobody can bring to life what was dead, by a compaction that was begun before.
func (k *Backend) purge(ctx context.Context, v *view) error {
	k.forget(v.dir)
	var files, tombs, graves []remote.Entry
	last := map[string]bool{}
	for _, h := range v.count {
		e := h.entry
		if len(h.index.Members) > 0 {
			if !k.compacts() {
				continue
			}
			var err error
			if e, err = k.succeed(ctx, v.dir, h, nil); err != nil {
				return err
			}
		}
		graves = append(graves, e)
		last[e.Path] = true
	}
	for _, all := range v.raw.files {
		for _, g := range all {
			if !last[g.entry.Path] {
				files = append(files, g.entry)
			}
		}
	}
	for _, e := range v.raw.tombs {
		tombs = append(tombs, e)
	}
	for _, lot := range [][]remote.Entry{files, tombs, graves} {
		if err := k.discardAll(ctx, lot); err != nil {
			return err
		}
	}
	return nil
}

// discardAll removes files of ours.
func (k *Backend) discardAll(ctx context.Context, all []remote.Entry) error {
	errs := make([]error, len(all))
	parallel(len(all), func(i int) { errs[i] = k.discard(ctx, all[i]) })
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

package keep

import (
	"context"

	"github.com/meshmount/meshmount/remote"
)

// moves is how often a change is tried again that others are in the way of, and how often a
// member is looked up whose archive has gone.
const moves = 4

// Rename implements remote.Backend. A member that is renamed becomes a plain file.
func (k *Backend) Rename(ctx context.Context, from, to string, opts remote.RenameOptions) error {
	if err := k.visible(ctx, "rename", from); err != nil {
		return err
	}
	if err := takes("rename", to); err != nil {
		return err
	}
	v, err := k.probable(ctx, from)
	if err != nil {
		return err
	}
	_, name := remote.Split(from)
	if v == nil {
		return k.renamePlain(ctx, from, to, nil, opts)
	}
	if c := v.find(name); c != nil {
		_, plain, err := k.plainAt(ctx, from)
		if err != nil {
			return err
		}
		if !plain {
			return k.renameMember(ctx, from, to, c, opts)
		}
	}
	hidden, err := k.hiddenBy(ctx, from, v)
	if err != nil {
		return err
	}
	return k.renamePlain(ctx, from, to, hidden, opts)
}

// renamePlain renames what the server itself has at from, and hides those members.
func (k *Backend) renamePlain(ctx context.Context, from, to string, hidden claim, opts remote.RenameOptions) error {
	look := k.probable
	if opts.NoReplace {
		look = k.lookAbove
	}
	v, err := look(ctx, to)
	if err != nil {
		return err
	}
	var target, under claim
	if v != nil && from != to {
		_, name := remote.Split(to)
		if target = v.find(name); target != nil {
			if err := k.mayReplace(ctx, from, to, opts); err != nil {
				return err
			}
		} else if !opts.NoReplace {
			if under, err = k.hiddenBy(ctx, to, v); err != nil {
				return err
			}
		}
	}
	err = k.inner.Rename(ctx, from, to, opts)
	switch {
	case isKind(err, remote.NotEmpty) && !remote.Within(from, to):
		dead, err := k.onlyDead(ctx, "rename", to)
		if err == nil {
			err = k.purge(ctx, dead)
		}
		if err == nil {
			err = k.inner.Rename(ctx, from, to, opts)
		}
		if err != nil {
			return err
		}
	case missing(err):
		return k.renameMissing(ctx, from, to, opts, err)
	case err != nil:
		return err
	}
	if from == to {
		return nil
	}
	if err := firstOf(k.buryAll(ctx, "rename", from, hidden), k.buryAll(ctx, "rename", to, under)); err != nil {
		return err
	}
	return k.renamed(ctx, from, to, target)
}

// renameMissing renames a member of which a look a moment ago knew nothing.
func (k *Backend) renameMissing(ctx context.Context, from, to string, opts remote.RenameOptions, given error) error {
	v, err := k.lookAbove(ctx, from)
	if err != nil {
		return err
	}
	_, name := remote.Split(from)
	if c := v.find(name); c != nil {
		return k.renameMember(ctx, from, to, c, opts)
	}
	return given
}

// renamed ends the rename of something plain. It is never taken back: somebody may have changed
// by then what is there. A member that was stored under that name meanwhile shows beside it.
func (k *Backend) renamed(ctx context.Context, from, to string, target claim) error {
	k.forget(from)
	k.forget(to)
	k.noted(from, (*view).uncover)
	k.noted(to, (*view).cover)
	dir, _ := remote.Split(to)
	if target != nil {
		if _, err := k.bury(ctx, dir, target); err != nil {
			return unsure("rename", to, err)
		}
		k.upkeep(ctx, dir)
	}
	return nil
}

// mayReplace returns what forbids to put something in the place of a member, as rename(2)
// says it, if that shows.
func (k *Backend) mayReplace(ctx context.Context, from, to string, opts remote.RenameOptions) error {
	_, plain, err := k.plainAt(ctx, to)
	if err != nil || plain {
		return err
	}
	e, err := k.inner.Stat(ctx, from)
	switch {
	case err != nil:
		return err
	case e.Type == remote.Dir && remote.Within(to, from):
		return fail("rename", to, remote.Invalid)
	case opts.NoReplace:
		return fail("rename", to, remote.Exist)
	case e.Type == remote.Dir:
		return fail("rename", to, remote.NotDir)
	}
	return nil
}

// renameMember stores a member under another name and then removes it under its own.
func (k *Backend) renameMember(ctx context.Context, from, to string, c claim, opts remote.RenameOptions) error {
	switch {
	case from == to && opts.NoReplace:
		return fail("rename", to, remote.Exist)
	case from == to:
		return nil
	case remote.Within(to, from):
		return fail("rename", to, remote.NotDir)
	}
	p, err := k.content(ctx, from, c[0])
	if err != nil {
		return err
	}
	for range moves {
		r := renaming{k: k, from: from, to: to, source: c, content: p}
		err = r.put(ctx, opts)
		if err == nil {
			return r.finish(ctx)
		}
		if opts.NoReplace || isUnsure(err) || !isKind(err, remote.Conflict, remote.Exist) {
			return err
		}
	}
	return err
}

// renaming is a rename of a member under way.
type renaming struct {
	k        *Backend
	from, to string
	source   claim
	content  bytesSource
	target   claim // what showed at to
	under    claim // what did not show because of the plain file there
}

// put stores the content under its new name.
func (r *renaming) put(ctx context.Context, opts remote.RenameOptions) error {
	k := r.k
	dir, name := remote.Split(r.to)
	v, err := k.look(ctx, dir)
	if err != nil {
		return as("rename", r.to, err)
	}
	r.target = v.find(name)
	e, plain, err := k.plainAt(ctx, r.to)
	if err != nil {
		return err
	}
	put := remote.PutOptions{Attrs: r.source[0].attrs(), Cond: remote.Cond{NotExist: true}}
	if plain {
		if e.Type == remote.File && e.ModeKnown && put.Attrs.Mode == nil {
			put.Attrs.Mode = &k.opts.Mode // not that of what it replaces
		}
		if r.target = nil; e.Type == remote.File {
			if cond, err := k.now(ctx, "rename", e, remote.Cond{Version: r.source[0].Version()}); err == nil {
				// An attempt before has come this far; or it is somebody else's who takes it back
				// in a moment: it is made anew.
				put.Cond = cond
				_, err = k.inner.Put(ctx, r.to, r.content, put)
				return err
			}
		}
	}
	switch {
	case opts.NoReplace && (plain || r.target != nil):
		return fail("rename", r.to, remote.Exist)
	case plain && e.Type == remote.Dir:
		return fail("rename", r.to, remote.IsDir)
	case plain && e.Type == remote.Symlink:
		put.Cond = remote.Cond{}
	case plain:
		if r.under, err = k.hiddenBy(ctx, r.to, v); err != nil {
			return err
		}
		put.Cond = remote.Cond{Version: e.Version, Provisional: e.Provisional}
	}
	if _, err = k.inner.Put(ctx, r.to, r.content, put); err == nil {
		k.noted(r.to, (*view).cover)
	}
	return err
}

// finish declares dead what was at the new name, and then what is at the old one. The new file
// is never taken back: somebody who renames the same member may have seen it by then. A member
// that was stored under that name meanwhile shows beside it.
func (r *renaming) finish(ctx context.Context) error {
	k := r.k
	if dir, _ := remote.Split(r.to); r.target != nil {
		if _, err := k.bury(ctx, dir, r.target); err != nil {
			return unsure("rename", r.to, err)
		}
	}
	if err := k.buryAll(ctx, "rename", r.to, r.under); err != nil {
		return err
	}
	// A tombstone of somebody else is as good: he may have seen our file.
	dir, _ := remote.Split(r.from)
	if err := k.buryAll(ctx, "rename", r.from, r.source); err != nil {
		return err
	}
	k.upkeep(ctx, dir)
	return nil
}

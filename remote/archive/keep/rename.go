package keep

import (
	"context"

	"github.com/meshmount/meshmount/remote"
)

// Rename implements remote.Backend. A member that is renamed becomes a plain file.
func (k *Backend) Rename(ctx context.Context, from, to string, opts remote.RenameOptions) error {
	if err := k.visible(ctx, "rename", from); err != nil {
		return err
	}
	if err := takes("rename", to); err != nil {
		return err
	}
	source, err := k.probable(ctx, from)
	if err != nil {
		return err
	}
	if len(source) > 0 {
		e, plain, err := k.plainAt(ctx, from)
		switch {
		case err != nil:
			return err
		case !plain:
			return k.renameMember(ctx, from, to, source, opts)
		case e.Type != remote.Dir: // or they would show when it is away
			if err := k.kill(ctx, "rename", from, source); err != nil {
				return err
			}
		}
	}
	return k.renamePlain(ctx, from, to, opts)
}

// renamePlain renames what the server itself has at from.
func (k *Backend) renamePlain(ctx context.Context, from, to string, opts remote.RenameOptions) error {
	target, err := k.probable(ctx, to)
	if err != nil {
		return err
	}
	if len(target) > 0 {
		if err := k.mayReplace(ctx, from, to, opts); err != nil {
			return err
		}
	}
	err = k.inner.Rename(ctx, from, to, opts)
	switch {
	case isKind(err, remote.NotEmpty) && !remote.Within(from, to):
		if err := k.purge(ctx, "rename", to); err != nil {
			return err
		}
		err = k.inner.Rename(ctx, from, to, opts)
	case missing(err):
		source, lookErr := k.below(ctx, from, k.look)
		if lookErr == nil && len(source) > 0 {
			return k.renameMember(ctx, from, to, source, opts)
		}
		return firstOf(lookErr, err)
	}
	if err != nil {
		return err
	}
	k.forget(from)
	k.forget(to)
	if from != to {
		k.drop(ctx, to, target)
	}
	if !opts.NoReplace {
		return nil
	}
	return k.settle(ctx, "rename", to, func() error {
		return k.inner.Rename(ctx, to, from, remote.RenameOptions{NoReplace: true})
	})
}

// mayReplace returns what forbids to put something in the place of members, as rename(2)
// says it, if they show.
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
func (k *Backend) renameMember(ctx context.Context, from, to string, source []*member, opts remote.RenameOptions) error {
	switch {
	case from == to && opts.NoReplace:
		return fail("rename", to, remote.Exist)
	case from == to:
		return nil
	case remote.Within(to, from):
		return fail("rename", to, remote.NotDir)
	}
	p, err := k.content(ctx, from, source[0])
	if err != nil {
		return err
	}
	for range moves {
		var target []*member
		target, err = k.putRenamed(ctx, to, p, source[0], opts)
		if err == nil {
			k.drop(ctx, to, target)
			if err := k.kill(ctx, "rename", from, source); err != nil {
				return unsure("rename", from, err)
			}
			return nil
		}
		if opts.NoReplace || !isKind(err, remote.Conflict, remote.Exist) {
			return err
		}
	}
	return err
}

// putRenamed stores what is renamed, and returns the members whose place it has taken.
func (k *Backend) putRenamed(ctx context.Context, to string, p []byte, m *member, opts remote.RenameOptions) ([]*member, error) {
	dir, name := remote.Split(to)
	v, err := k.look(ctx, dir)
	if err != nil {
		return nil, as("rename", to, err)
	}
	target := v.named(name)
	e, plain, err := k.plainAt(ctx, to)
	put := remote.PutOptions{Attrs: m.attrs(), Cond: remote.Cond{NotExist: true}}
	switch {
	case err != nil:
		return nil, err
	case plain && e.Type == remote.Dir && !opts.NoReplace:
		return nil, fail("rename", to, remote.IsDir)
	case opts.NoReplace && (plain || len(target) > 0):
		return nil, fail("rename", to, remote.Exist)
	case plain && e.Type == remote.Symlink:
		put.Cond = remote.Cond{}
	case plain:
		put.Cond = remote.Cond{Version: e.Version, Provisional: e.Provisional}
	}
	_, err = k.inner.Put(ctx, to, bytesSource(p), put)
	return target, err
}

package memory

import (
	"context"

	"github.com/meshmount/meshmount/remote"
)

// Rename implements remote.Backend. The object keeps its identity, version and
// attributes. Onto itself it does nothing, as rename(2), but Exist with NoReplace.
// The root can be neither end (Invalid).
func (b *Backend) Rename(ctx context.Context, from, to string, opts remote.RenameOptions) error {
	if err := b.begin(ctx, "rename", from); err != nil {
		return err
	}
	if err := b.beginChange(ctx, "rename", to); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.alive(ctx, "rename", from); err != nil {
		return err
	}
	if from == "/" || to == "/" {
		return fail("rename", from, remote.Invalid)
	}
	source, err := b.place("rename", from)
	switch {
	case err != nil:
		return err
	case source.node == nil:
		return fail("rename", from, remote.NotExist)
	}
	target, err := b.place("rename", to)
	if err != nil {
		return err
	}
	return b.move(source, target, opts)
}

// move carries out a rename whose ends are known. Both directories exist.
func (b *Backend) move(source, target place, opts remote.RenameOptions) error {
	if kind := moveKind(source, target, opts); kind != remote.Other {
		return fail("rename", target.path, kind)
	}
	if source.node == target.node {
		return nil
	}
	if target.node != nil {
		b.drop(target)
	}
	delete(source.dir.children, source.name)
	b.touch(source.dir, true)
	b.put(target, source.node)
	return nil
}

// moveKind tells what forbids the move; Other if nothing does.
func moveKind(source, target place, opts remote.RenameOptions) remote.Kind {
	switch isDir := source.node.kind == remote.Dir; {
	case isDir && source.path != target.path && remote.Within(target.path, source.path):
		return remote.Invalid
	case target.node == nil:
		return remote.Other
	case opts.NoReplace:
		return remote.Exist
	case source.node == target.node:
		return remote.Other
	case isDir && target.node.kind != remote.Dir:
		return remote.NotDir
	case !isDir && target.node.kind == remote.Dir:
		return remote.IsDir
	case len(target.node.children) > 0:
		return remote.NotEmpty
	}
	return remote.Other
}

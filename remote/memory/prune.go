package memory

import (
	"context"
	"fmt"

	"github.com/meshmount/meshmount/remote"
)

// Prunes implements remote.Pruner.
func (b *Backend) Prunes() bool { return true }

// Foresees implements remote.Foreseer: there is no need to.
func (b *Backend) Foresees() bool { return false }

// Foresee implements remote.Foreseer.
func (b *Backend) Foresee(ctx context.Context, path string) error {
	return b.begin(ctx, "foresee", path)
}

// Prune implements remote.Pruner. Proof and removal are one step.
func (b *Backend) Prune(ctx context.Context, path string, known []remote.Known) error {
	const op = "prune"
	if err := b.beginChange(ctx, op, path); err != nil {
		return err
	}
	if path == "/" {
		return fail(op, path, remote.Invalid)
	}
	table, err := remote.KnownPaths(op, path, known)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.alive(ctx, op, path); err != nil {
		return err
	}
	at, err := b.place(op, path)
	switch {
	case err != nil:
		return err
	case at.node == nil:
		return fail(op, path, remote.NotExist)
	case at.node.kind != remote.Dir:
		return fail(op, path, remote.NotDir)
	}
	if err := b.proved(path, at.node, table); err != nil {
		return err
	}
	remote.Progress(ctx)
	b.drop(at)
	return nil
}

// proved returns nil if all below dir is in the table.
func (b *Backend) proved(dir string, n *node, table map[string]remote.Known) error {
	for name, child := range n.children {
		path := remote.Join(dir, name)
		k, ok := table[path]
		if !ok || (k.Type == remote.Dir) != (child.kind == remote.Dir) {
			return &remote.Error{Op: "prune", Path: path, Kind: remote.Conflict, Err: fmt.Errorf("a %v that is not known", child.kind)}
		}
		var err error
		if child.kind == remote.Dir {
			err = b.proved(path, child, table)
		} else {
			err = b.checkVersion("prune", path, child, k.Version, remote.Conflict)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

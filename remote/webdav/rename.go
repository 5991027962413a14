package webdav

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"github.com/meshmount/meshmount/remote"
)

// Rename implements remote.Backend. A MOVE with Overwrite: T replaces whatever is at
// its destination, a full directory included, so both ends are looked at first, and T
// is sent only for a file onto a file. Otherwise F keeps what came in between (XRootD
// ignores it).
//
// An empty directory at the destination is removed first. Servers that implement the
// replacement of a file as a deletion and a move show no file for an instant.
func (b *Backend) Rename(ctx context.Context, from, to string, opts remote.RenameOptions) error {
	ctx, c, done, err := b.begin(ctx, "rename", from)
	if err != nil {
		return err
	}
	defer done()
	if err := remote.CheckPath("rename", to); err != nil {
		return err
	}
	if from == "/" || to == "/" {
		return c.fail(remote.Invalid, nil)
	}
	if b.hidden(from) {
		return c.fail(remote.NotExist, nil)
	}
	if err := c.checkName(to); err != nil {
		return err
	}
	for try := 1; ; try++ {
		err := c.rename(ctx, from, to, opts)
		// Overwrite: F found something that was not there a moment ago: look again.
		if try == lostRaces || !errors.Is(err, errAppeared) {
			return err
		}
	}
}

// errAppeared: something came to the destination after we looked.
var errAppeared = errors.New("something appeared at the destination")

func (c *call) rename(ctx context.Context, from, to string, opts remote.RenameOptions) error {
	source, target, serr, err := c.lookAtBoth(ctx, from, to)
	if serr != nil {
		return c.explain(ctx, serr)
	}
	isDir := source.Type == remote.Dir
	if isDir && from != to && remote.Within(to, from) {
		return c.failf(remote.Invalid, "a directory cannot be moved into itself")
	}
	missing := remote.KindOf(err) == remote.NotExist
	switch {
	case missing && c.b.makesParents(from, to):
		parent, _ := remote.Split(to)
		if err := c.needDir(ctx, parent); err != nil {
			return err
		}
	case missing:
	case err != nil:
		return c.explainTo(ctx, to, err)
	case opts.NoReplace:
		return c.failTo(to, remote.Exist, nil)
	case from == to:
		return nil
	case isDir && target.Type != remote.Dir:
		return c.failTo(to, remote.NotDir, nil)
	case !isDir && target.Type == remote.Dir:
		return c.failTo(to, remote.IsDir, nil)
	case isDir:
		if err := c.clear(ctx, to); err != nil {
			return err
		}
		missing = true
	}
	return c.carry(ctx, from, to, isDir, missing, opts)
}

// makesParents tells whether the server may make the parent of to if it is missing.
func (b *Backend) makesParents(from, to string) bool {
	old, _ := remote.Split(from)
	parent, _ := remote.Split(to)
	return b.traits.deepMkcol || b.traits.deepMove && old != parent
}

// lookAtBoth looks at two paths at once.
func (c *call) lookAtBoth(ctx context.Context, from, to string) (source, target found, serr, terr error) {
	var other sync.WaitGroup
	other.Go(func() { target, terr = c.lookAt(ctx, to) })
	source, serr = c.lookAt(ctx, from)
	other.Wait()
	return source, target, serr, terr
}

// clear removes the empty directory at the destination.
func (c *call) clear(ctx context.Context, to string) error {
	d := &call{b: c.b, op: c.op, path: to}
	return d.removeDir(ctx, "")
}

// carry sends the MOVE. free says that nothing was seen at the destination.
func (c *call) carry(ctx context.Context, from, to string, isDir, free bool, opts remote.RenameOptions) error {
	source, target := c.b.fileURL(from), c.b.fileURL(to)
	if isDir {
		source, target = c.b.dirURL(from), c.b.dirURL(to)
	}
	err := c.move(ctx, source, target, !free, map[string]string{})
	switch status := statusOf(err); {
	case err == nil:
		return nil
	case status == http.StatusPreconditionFailed && opts.NoReplace:
		return c.failTo(to, remote.Exist, errors.Unwrap(err))
	case status == http.StatusPreconditionFailed && free:
		return c.failTo(to, remote.Conflict, errAppeared)
	}
	return c.explainTo(ctx, to, err)
}

// failTo is fail about the destination.
func (c *call) failTo(to string, kind remote.Kind, cause error) error {
	return (&call{b: c.b, op: c.op, path: to}).fail(kind, cause)
}

// explainTo is explain about the destination. Without a parent there MOVE is 409, 500
// (mod_dav), 403 (rclone) or 404.
func (c *call) explainTo(ctx context.Context, to string, err error) error {
	var e *remote.Error
	if errors.As(err, &e) && e.Unsure {
		return err
	}
	return (&call{b: c.b, op: c.op, path: to}).explain(ctx, err)
}

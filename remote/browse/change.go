package browse

import (
	"context"
	"errors"
	"slices"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive/foreign"
)

var errInView = errors.New("what is in an archive cannot be changed; unpack it elsewhere")

// fault gives the error of a call its form. What package foreign says of an archive, or of
// a member, is the word of the file and no accident.
func fault(c *remote.Call, err error) error {
	if err == nil {
		return nil
	}
	if format, ok := errors.AsType[*foreign.FormatError](err); ok {
		return c.Fail(format.Kind, err)
	}
	return remote.E(string(c.Op), c.Path, remote.Corrupt, err)
}

// change refuses the change of what is in a view, and lets others through.
func (b *Backend) change(ctx context.Context, c *remote.Call, next remote.Next) error {
	makes := c.Op == remote.OpMkdir || c.Op == remote.OpSymlink || c.Put.Cond.NotExist
	if err := b.refusal(ctx, c, c.Path, makes); err != nil {
		return err
	}
	if c.Op == remote.OpRename {
		if err := b.refusal(ctx, c, c.To, c.Rename.NoReplace); err != nil {
			return err
		}
	}
	return next(ctx)
}

// refusal returns why path cannot be changed, nil if it is in no view. makes tells that
// something new is to be made there.
func (b *Backend) refusal(ctx context.Context, c *remote.Call, path string, makes bool) error {
	there := false
	handled, err := b.inView(ctx, path, func(v *view) error {
		there = v.rel == ""
		if !makes || there {
			return nil
		}
		x, err := b.index(ctx, v.archive)
		if err == nil {
			_, there = x.Find(v.rel)
		}
		return err
	})
	switch {
	case !handled:
		return nil
	case err != nil:
		return fault(c, err)
	case makes && there:
		return c.Fail(remote.Exist, nil)
	}
	return c.Fail(remote.ReadOnly, errInView)
}

// putBatch refuses the files of a batch that are in views, and puts the others.
func (b *Backend) putBatch(ctx context.Context, c *remote.Call, next remote.Next) error {
	if !slices.ContainsFunc(c.Batch, func(i remote.BatchItem) bool { return len(viewsIn(i.Path)) > 0 }) {
		return next(ctx)
	}
	results := make([]remote.BatchResult, len(c.Batch))
	var rest []remote.BatchItem
	for i, item := range c.Batch {
		if len(viewsIn(item.Path)) > 0 {
			one := &remote.Call{Op: c.Op, Path: item.Path}
			results[i].Err = b.refusal(ctx, one, item.Path, true)
		}
		if results[i].Err == nil {
			rest = append(rest, item)
		}
	}
	if len(rest) > 0 {
		c.Batch = rest
		if err := next(ctx); err != nil {
			return err
		}
	}
	stored := c.Stored
	for i := range results {
		if results[i].Err == nil && len(stored) > 0 {
			results[i], stored = stored[0], stored[1:]
		}
	}
	c.Stored = results
	return nil
}

// changed answers Changed of a directory that may be in a view: it may have changed if
// anything has in the directory that holds the archive.
func (b *Backend) changed(ctx context.Context, c *remote.Call, next remote.Next) error {
	dir := c.Path
	handled, err := b.inView(ctx, dir, func(v *view) error {
		if v.rel != "" {
			x, err := b.index(ctx, v.archive)
			if err != nil {
				return err
			}
			if _, ok := x.Find(v.rel); !ok {
				return c.Fail(remote.NotExist, nil)
			}
		}
		c.Path, _ = remote.Split(v.root)
		return nil
	})
	if err != nil {
		return fault(c, err)
	}
	holder := c.Path
	err = next(ctx)
	if !handled {
		return err
	}
	c.Path = dir
	if err != nil {
		return err
	}
	c.Changes.All = c.Changes.All || slices.Contains(c.Changes.Dirs, holder)
	c.Changes.Dirs = nil
	return nil
}

// other answers the calls that are about attributes of what may be in a view.
func (b *Backend) other(ctx context.Context, c *remote.Call, next remote.Next) error {
	isDir, holder := true, ""
	handled, err := b.inView(ctx, c.Path, func(v *view) error {
		holder = v.archive.Path
		if v.rel == "" {
			return nil
		}
		x, err := b.index(ctx, v.archive)
		if err != nil {
			return err
		}
		n, ok := x.Find(v.rel)
		if !ok {
			return c.Fail(remote.NotExist, nil)
		}
		isDir = x.Item(n).Type == remote.Dir
		return nil
	})
	switch {
	case !handled:
		return next(ctx)
	case err != nil:
		return fault(c, err)
	case c.Op == remote.OpXattrs:
		c.Xattrs = map[string][]byte{}
		return nil
	case c.Op == remote.OpSweep: // no upload was ever there
		return nil
	case c.Op == remote.OpReplicas && isDir:
		return c.Fail(remote.IsDir, nil)
	case c.Op == remote.OpReplicas: // those of the archive
		path := c.Path
		c.Path = holder
		err := next(ctx)
		c.Path = path
		return err
	}
	return c.Fail(remote.Unsupported, errInView)
}

package memory

import (
	"context"
	"errors"
	"slices"

	"github.com/meshmount/meshmount/remote"
)

// tear is what is known of a file whose change has not been finished.
type tear struct {
	from   string // version before the change, "" if there was nothing
	hidden bool   // its content is refused to readers
	dead   bool   // whoever changed it has given up
}

// refuse is the error of a read of a file with this tear.
func (t *tear) refuse(op, path string) error {
	switch {
	case t == nil || !t.hidden:
		return nil
	case t.dead:
		return fail(op, path, remote.Corrupt)
	}
	return fail(op, path, remote.Locked)
}

// redo tells whether what is at the place is what a change under the same condition has
// left, and may be replaced.
func (at place) redo(opts remote.PutOptions) bool {
	if !opts.Redo || at.node == nil || at.node.kind != remote.File || at.node.tear == nil {
		return false
	}
	switch from := at.node.tear.from; {
	case opts.Cond.Version != "":
		return from == opts.Cond.Version
	case opts.Cond.NotExist:
		return from == ""
	}
	return true
}

// tearOf returns the tear that a change of what is at the place makes.
func (b *Backend) tearOf(at place, opts remote.PutOptions) *tear {
	switch {
	case at.redo(opts):
		return &tear{from: at.node.tear.from}
	case at.node != nil && at.node.kind == remote.File:
		return &tear{from: b.entry(at.path, at.node).Version}
	}
	return &tear{}
}

// Tear leaves the file as a Patch of its present version does that is cut off before its
// first byte: readers are refused with Corrupt, and only a Put without a condition, or a
// Put or Patch of that version with PutOptions.Redo, makes it whole. The error is that of
// Stat, or Invalid if it is no file.
func (b *Backend) Tear(path string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, err := b.find("tear", path)
	switch {
	case err != nil:
		return err
	case n.kind != remote.File:
		return fail("tear", path, remote.Invalid)
	}
	t := &tear{from: b.entry(path, n).Version, hidden: true, dead: true}
	b.setData(n, slices.Clone(n.data))
	n.tear = t
	b.touch(n.parent, false)
	return nil
}

// Sweep implements remote.Sweeper. What is not complete is nowhere here.
func (b *Backend) Sweep(ctx context.Context, path string, _ int64, _ func(tag string) bool) error {
	if err := remote.CheckPath("sweep", path); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.alive(ctx, "sweep", path)
}

// Patch implements remote.Patcher. While it goes on, readers are refused with Locked, and
// after it was cut off with Corrupt. An error after the first change is Unsure.
func (b *Backend) Patch(ctx context.Context, path string, p remote.Patch, opts remote.PutOptions) (remote.Entry, error) {
	if err := b.beginChange(ctx, "patch", path); err != nil {
		return remote.Entry{}, err
	}
	if opts.Cond.Version == "" || !wellFormed(p) {
		return remote.Entry{}, fail("patch", path, remote.Invalid)
	}
	n, version, err := b.tearOpen(ctx, path, p.Size, opts)
	if err != nil {
		return remote.Entry{}, err
	}
	c := &patching{b: b, path: path, file: n, version: version}
	if err := c.apply(ctx, p); err != nil {
		return remote.Entry{}, c.giveUp(err)
	}
	e, err := c.finish(ctx, opts.Attrs)
	if err != nil {
		return remote.Entry{}, c.giveUp(err)
	}
	return e, nil
}

// wellFormed tells whether the ranges are as remote.Patch wants them.
func wellFormed(p remote.Patch) bool {
	end := int64(-1)
	for _, r := range p.Ranges {
		if r.Offset <= end || r.Length <= 0 || r.Length > p.Size-r.Offset {
			return false
		}
		end = r.Offset + r.Length
	}
	return p.Size >= 0
}

// tearOpen makes the file at path torn, of the new size and still without a range. It
// returns the file and its version from then on.
func (b *Backend) tearOpen(ctx context.Context, path string, size int64, opts remote.PutOptions) (*node, uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.alive(ctx, "patch", path); err != nil {
		return nil, 0, err
	}
	at, err := b.placePut("patch", path, size, opts)
	switch {
	case err != nil:
		return nil, 0, err
	case at.node == nil || at.node.kind != remote.File: // without guards
		return nil, 0, fail("patch", path, remote.Conflict)
	}
	t := b.tearOf(at, opts)
	t.hidden = true
	n := b.fileAt(at)
	data := make([]byte, size)
	copy(data, n.data)
	b.setData(n, data)
	n.tear = t
	return n, n.version, nil
}

// patching is a Patch on its way. It writes into the data of its file, which no reader
// sees, as long as that is of its version.
type patching struct {
	b       *Backend
	path    string
	file    *node
	version uint64
}

var errOvertaken = errors.New("somebody else changed the file during the patch")

// check tells whether the file is still ours. mu is held.
func (c *patching) check(ctx context.Context) error {
	if err := c.b.alive(ctx, "patch", c.path); err != nil {
		return err
	}
	if n, err := c.b.find("patch", c.path); err != nil || n != c.file || n.version != c.version {
		return &remote.Error{Op: "patch", Path: c.path, Kind: remote.Conflict, Err: errOvertaken}
	}
	return nil
}

// apply writes the ranges.
func (c *patching) apply(ctx context.Context, p remote.Patch) error {
	buf := make([]byte, uploadPiece)
	for _, r := range p.Ranges {
		for off, end := r.Offset, r.Offset+r.Length; off < end; {
			piece := buf[:min(uploadPiece, end-off)]
			if n, err := p.Bytes.ReadAt(piece, off); n < len(piece) {
				return remote.E("patch", c.path, remote.Invalid, shortRead(err))
			}
			if err := c.write(ctx, piece, off); err != nil {
				return err
			}
			remote.Progress(ctx)
			off += int64(len(piece))
		}
	}
	return nil
}

func (c *patching) write(ctx context.Context, p []byte, off int64) error {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	if err := c.check(ctx); err != nil {
		return err
	}
	copy(c.file.data[off:], p)
	return nil
}

func (c *patching) finish(ctx context.Context, a remote.Attrs) (remote.Entry, error) {
	b := c.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := c.check(ctx); err != nil {
		return remote.Entry{}, err
	}
	b.setData(c.file, c.file.data)
	b.setAttrs(c.file, a)
	b.touch(c.file.parent, false)
	return b.entry(c.path, c.file), nil
}

// giveUp leaves the file torn and tells so.
func (c *patching) giveUp(err error) error {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	if c.file.version == c.version && c.file.tear != nil {
		c.file.tear.dead = true
	}
	var e *remote.Error
	if !errors.As(err, &e) {
		return err // of the context
	}
	return &remote.Error{Op: "patch", Path: c.path, Kind: e.Kind, Err: err, Unsure: true, RetryAfter: e.RetryAfter}
}

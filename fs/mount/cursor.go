package mount

import (
	"context"

	"github.com/meshmount/meshmount/fs"
)

// stream is a forward stream of a directory; *fs.DirStream is one.
type stream interface {
	Next(ctx context.Context) (fs.DirEntry, error)
	Rewind()
}

// cursor reads a stream from any offset. The offset of an entry is the number of
// entries up to and including it; 0 is before the first. The kernel asks for more
// than fits into the program's buffer, drops the rest, and asks for it again: so the
// entries of the last answer are kept. It is not safe for concurrent use.
type cursor struct {
	src  stream
	kept []fs.DirEntry // what follows offset base, as far as it was read
	base uint64
	next int    // index into kept of the entry to give next
	told uint64 // offset of the last entry that the kernel was told of with attributes
}

// seek makes the entry after offset off the next one and forgets what is before it.
func (c *cursor) seek(ctx context.Context, off uint64) error {
	if off < c.base {
		c.src.Rewind()
		c.kept, c.base, c.told = c.kept[:0], 0, 0
	}
	for off > c.base+uint64(len(c.kept)) {
		c.base += uint64(len(c.kept))
		c.kept = c.kept[:0]
		if err := c.read(ctx); err != nil {
			return err
		}
	}
	n := copy(c.kept, c.kept[off-c.base:])
	clear(c.kept[n:])
	c.kept, c.base, c.next = c.kept[:n], off, 0
	return nil
}

// read takes one more entry from the stream.
func (c *cursor) read(ctx context.Context) error {
	e, err := c.src.Next(ctx)
	if err == nil {
		c.kept = append(c.kept, e)
	}
	return err
}

// take returns the next entry and its offset, and whether the kernel was told of it
// before. The error is io.EOF at the end.
func (c *cursor) take(ctx context.Context) (e fs.DirEntry, off uint64, again bool, err error) {
	if c.next == len(c.kept) {
		if err := c.read(ctx); err != nil {
			return e, 0, false, err
		}
	}
	e = c.kept[c.next]
	c.next++
	off = c.base + uint64(c.next)
	return e, off, off <= c.told, nil
}

// putBack undoes the last take: the entry did not fit into the answer.
func (c *cursor) putBack() { c.next-- }

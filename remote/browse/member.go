package browse

import (
	"context"
	"errors"
	"io"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive/foreign"
)

// member is a file in an archive.
type member struct {
	x    *index
	item *foreign.Item
}

const (
	// smallPacked and smallSize bound the members, in bytes, that are unpacked whole
	// whenever something of them is asked for.
	smallPacked = 256 << 10
	smallSize   = 1 << 20
	// withHeader is the most of a member's content that is asked for together with its
	// header, in bytes; more goes straight to where it is wanted.
	withHeader = 1 << 20
)

// member returns the file that a read or an open is about; handled is false if that is in
// no view.
func (b *Backend) member(ctx context.Context, c *remote.Call) (m member, handled bool, err error) {
	if c.Ref.Version == "" {
		handled, err = b.inView(ctx, c.Path, func(v *view) error {
			x, err := b.index(ctx, v.archive)
			if err == nil {
				m, err = x.file(c, v.rel)
			}
			return err
		})
		return m, handled, err
	}
	p, ours := parseVersion(c.Path, c.Ref.Version)
	if !ours {
		return m, false, nil
	}
	if p.root == "" {
		return m, true, c.Fail(remote.Changed, nil)
	}
	x, err := b.pinnedIndex(ctx, archiveOf(p.root), p.version)
	if err != nil {
		return m, true, err
	}
	m, err = x.file(c, c.Path[min(len(p.root)+1, len(c.Path)):])
	if err != nil || stampOf(m.item) != p.stamp {
		return m, true, c.Fail(remote.Changed, err)
	}
	return m, true, nil
}

// file returns a file that can be read.
func (x *index) file(c *remote.Call, rel string) (member, error) {
	n, ok := x.Find(rel)
	switch {
	case rel == "" || ok && x.Item(n).Type == remote.Dir:
		return member{}, c.Fail(remote.IsDir, nil)
	case !ok:
		return member{}, c.Fail(remote.NotExist, nil)
	case x.Item(n).Type != remote.File:
		return member{}, c.Fail(remote.Invalid, errors.New("a symbolic link has no content"))
	}
	return member{x, x.Item(n)}, nil
}

// readMember fills p from an offset, as far as the member reaches.
func (b *Backend) readMember(ctx context.Context, m member, p []byte, off int64) (int, error) {
	switch {
	case b.closed.Load():
		return 0, &remote.Error{Op: "read", Path: m.x.path, Kind: remote.BadHandle}
	case ctx.Err() != nil:
		return 0, remote.ContextErr(ctx)
	}
	switch m.item.Flaw {
	case foreign.Readable:
	case foreign.Damaged:
		return 0, &foreign.FormatError{Kind: remote.Corrupt, Text: m.item.Flaw.String()}
	default:
		return 0, &foreign.FormatError{Kind: remote.Unsupported, Text: m.item.Flaw.String()}
	}
	p = p[:max(0, min(int64(len(p)), m.item.Size-off))]
	if len(p) == 0 {
		return 0, nil
	}
	var err error
	switch {
	case !m.item.Deflated:
		err = b.stored(ctx, m, p, off)
	case m.item.Packed <= smallPacked && m.item.Size <= smallSize:
		err = b.unpacked(ctx, m, p, off)
	default:
		err = b.pool.read(ctx, b, m, p, off)
	}
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// stored reads what is in the archive as it is.
func (b *Backend) stored(ctx context.Context, m member, p []byte, off int64) error {
	err := b.packed(ctx, m, p, off)
	if err == nil && isZip(m.x.path) && int64(len(p)) == m.item.Size {
		err = foreign.Check(m.item, p)
	}
	return err
}

// unpacked unpacks a whole small member.
func (b *Backend) unpacked(ctx context.Context, m member, p []byte, off int64) error {
	packed := make([]byte, m.item.Packed)
	if err := b.packed(ctx, m, packed, 0); err != nil {
		return err
	}
	whole := p
	if int64(len(p)) != m.item.Size {
		whole = make([]byte, m.item.Size)
	}
	if err := foreign.Unpack(m.item, packed, whole); err != nil {
		return err
	}
	if int64(len(p)) != m.item.Size {
		copy(p, whole[off:])
	}
	return nil
}

// packed fills p from an offset of what a member is in the archive, in one request if that
// is not much.
func (b *Backend) packed(ctx context.Context, m member, p []byte, from int64) error {
	header, known := m.x.headerOf(m.item)
	if known && len(p) > smallPacked {
		return b.fetch(ctx, m.x.ref(), p, m.item.At+int64(header)+from)
	}
	if known {
		return b.pages.read(ctx, b, m.x, p, m.item.At+int64(header)+from)
	}
	guess := int64(foreign.HeaderGuess(m.item))
	together := from+int64(len(p)) <= withHeader
	if together {
		guess += from + int64(len(p))
	}
	head := make([]byte, min(guess, m.x.size-m.item.At))
	if err := b.pages.read(ctx, b, m.x, head, m.item.At); err != nil {
		return err
	}
	header, err := foreign.HeaderLength(m.item, head)
	if err != nil {
		return err
	}
	at := int64(header) + from
	if m.item.Packed > m.x.size-m.item.At-int64(header) {
		return &foreign.FormatError{Kind: remote.Corrupt, Text: "the member reaches over the end of the archive"}
	}
	m.x.setHeader(m.item, header)
	n := copy(p, head[min(at, int64(len(head))):])
	if n == len(p) {
		return nil
	}
	return b.fetch(ctx, m.x.ref(), p[n:], m.item.At+at+int64(n))
}

// fetch fills p from an offset of an archive.
func (b *Backend) fetch(ctx context.Context, ref remote.Ref, p []byte, off int64) error {
	n, err := b.inner.ReadAt(ctx, ref, p, off)
	if n == len(p) && (err == nil || err == io.EOF) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = &remote.Error{Op: "read", Path: ref.Path, Kind: remote.Changed, Err: errShorter}
	}
	return err
}

var errShorter = errors.New("the archive is shorter than it was")

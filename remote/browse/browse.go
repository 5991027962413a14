package browse

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/meshmount/meshmount/remote"
)

// Options qualify Wrap. The zero value is good.
type Options struct {
	// Memory bounds the indexes that are kept in memory, in bytes, 0 for 32 MiB. The one
	// that was used last is kept whatever its size.
	Memory int64
	// Dir is a private directory for indexes, which is made if it is missing; "" for none.
	// Several backends may share it.
	Dir string
	// Disk bounds what is in Dir, in bytes, 0 for 256 MiB.
	Disk int64
	// Tree names the remote tree in Dir, the same at every mount.
	Tree string
	// Log is told of archives that were read; nil for nobody.
	Log *slog.Logger
}

const (
	defaultMemory = 32 << 20
	defaultDisk   = 256 << 20
)

// Backend shows the archives of another Backend as directories. It is safe for concurrent
// use.
type Backend struct {
	remote.Backend // with the views
	inner          remote.Backend
	shelf          *shelf
	pool           *pool
	pages          *pages
	closed         atomic.Bool
}

var _ interface {
	remote.Backend
	remote.Locator
	remote.Unwrapper
} = (*Backend)(nil)

// Wrap shows the archives of inner as directories. Closing it closes inner.
func Wrap(inner remote.Backend, opts Options) *Backend {
	if opts.Memory == 0 {
		opts.Memory = defaultMemory
	}
	if opts.Disk == 0 {
		opts.Disk = defaultDisk
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	b := &Backend{inner: inner, shelf: newShelf(opts), pool: newPool(), pages: &pages{}}
	b.Backend = remote.Intercept(inner, b.around)
	return b
}

// Unwrap implements remote.Unwrapper.
func (b *Backend) Unwrap() remote.Backend { return b.Backend }

// Close implements remote.Backend.
func (b *Backend) Close() error {
	b.closed.Store(true)
	return b.inner.Close()
}

// URL implements remote.Locator. What is in a view has the address of the archive, with
// its name as the fragment. It costs no request: a view is told by its name alone.
func (b *Backend) URL(path string) string {
	inner, ok := remote.As[remote.Locator](b.inner)
	if !ok {
		return ""
	}
	roots := viewsIn(path)
	if len(roots) == 0 {
		return inner.URL(path)
	}
	rel := strings.TrimPrefix(path[len(roots[0]):], "/")
	return inner.URL(archiveOf(roots[0])) + "#" + rel
}

// around stands around each call.
func (b *Backend) around(ctx context.Context, c *remote.Call, next remote.Next) error {
	switch c.Op {
	case remote.OpStream, remote.OpUsage:
		return next(ctx)
	case remote.OpList:
		return b.list(ctx, c, next)
	case remote.OpPutBatch:
		return b.putBatch(ctx, c, next)
	case remote.OpSetAttrBatch:
		if slices.ContainsFunc(c.AttrItems, func(i remote.AttrItem) bool { return len(viewsIn(i.Path)) > 0 }) {
			return c.Fail(remote.Unsupported, errors.New("some are in archives")) // each by itself is told what is wrong
		}
		return next(ctx)
	case remote.OpReadBundle:
		return b.bundle(ctx, c, next)
	}
	if len(viewsIn(c.Path)) == 0 && len(viewsIn(c.To)) == 0 {
		return next(ctx)
	}
	if c.Op.Mutates() {
		return b.change(ctx, c, next)
	}
	switch c.Op {
	case remote.OpRead:
		return b.read(ctx, c, next)
	case remote.OpOpen:
		return b.open(ctx, c, next)
	case remote.OpStat:
		return b.stat(ctx, c, next)
	case remote.OpChanged:
		return b.changed(ctx, c, next)
	}
	return b.other(ctx, c, next)
}

// stat answers Stat of a path that may be in a view.
func (b *Backend) stat(ctx context.Context, c *remote.Call, next remote.Next) error {
	handled, err := b.inView(ctx, c.Path, func(v *view) error {
		if v.rel == "" {
			c.Entry = v.dir("")
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
		c.Entry = v.entry(x.Item(n))
		return nil
	})
	if !handled {
		return next(ctx)
	}
	return fault(c, err)
}

// list answers List: of a view, or of another directory with the views in it.
func (b *Backend) list(ctx context.Context, c *remote.Call, next remote.Next) error {
	handled := false
	if len(viewsIn(c.Path)) > 0 {
		var err error
		handled, err = b.inView(ctx, c.Path, func(v *view) error { return b.listView(ctx, c, v) })
		if handled {
			return fault(c, err)
		}
	}
	yield := c.Yield
	var archives []remote.Entry
	taken := map[string]bool{} // names of views that something else has
	c.Yield = func(e remote.Entry) error {
		if isArchive(e) {
			archives = append(archives, e)
		}
		if _, name := remote.Split(e.Path); archiveName(name) != "" {
			taken[e.Path] = true
		}
		return yield(e)
	}
	if err := next(ctx); err != nil || c.Halt != nil {
		return err
	}
	for _, e := range archives {
		v := view{archive: e, root: e.Path + Suffix}
		if taken[v.root] {
			continue
		}
		if c.Halt = yield(v.dir("")); c.Halt != nil {
			return nil
		}
	}
	return nil
}

// listView lists a directory of a view.
func (b *Backend) listView(ctx context.Context, c *remote.Call, v *view) error {
	x, err := b.index(ctx, v.archive)
	if err != nil {
		return err
	}
	dir := -1
	if v.rel != "" {
		n, ok := x.Find(v.rel)
		if !ok {
			return c.Fail(remote.NotExist, nil)
		}
		if dir = n; x.Item(n).Type != remote.Dir {
			return c.Fail(remote.NotDir, nil)
		}
	}
	for item := range x.Children(dir) {
		if err := remote.ContextErr(ctx); err != nil {
			return err
		}
		if len(v.root)+1+len(item.Path) > remote.MaxPath {
			continue
		}
		if c.Halt = c.Yield(v.entry(item)); c.Halt != nil {
			return nil
		}
	}
	return nil
}

// open answers Open of a file that may be in a view.
func (b *Backend) open(ctx context.Context, c *remote.Call, next remote.Next) error {
	m, handled, err := b.member(ctx, c)
	if !handled {
		return next(ctx)
	}
	if err != nil {
		return fault(c, err)
	}
	c.Stream = &stream{ctx: ctx, b: b, m: m, call: c}
	return nil
}

// read answers ReadAt of a file that may be in a view.
func (b *Backend) read(ctx context.Context, c *remote.Call, next remote.Next) error {
	m, handled, err := b.member(ctx, c)
	if !handled {
		return next(ctx)
	}
	if err != nil {
		return fault(c, err)
	}
	if c.Off < 0 {
		return c.Fail(remote.Invalid, nil)
	}
	c.N, err = b.readMember(ctx, m, c.Buf, c.Off)
	if err != nil {
		c.N = 0
		return fault(c, err)
	}
	c.EOF = c.N < len(c.Buf)
	return nil
}

// stream reads a member from its beginning to its end.
type stream struct {
	ctx  context.Context // of the Open
	b    *Backend
	m    member
	call *remote.Call
	pos  int64
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	if s.pos == s.m.item.Size {
		return 0, io.EOF
	}
	n, err := s.b.readMember(s.ctx, s.m, p, s.pos)
	if err != nil {
		return 0, fault(s.call, err)
	}
	s.pos += int64(n)
	return n, nil
}

// Close implements io.Closer.
func (s *stream) Close() error { return nil }

package memory

import (
	"context"
	"io"

	"github.com/meshmount/meshmount/remote"
)

// Stat implements remote.Backend.
func (b *Backend) Stat(ctx context.Context, path string) (remote.Entry, error) {
	if err := b.begin(ctx, "stat", path); err != nil {
		return remote.Entry{}, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	n, err := b.find("stat", path)
	if err != nil {
		return remote.Entry{}, err
	}
	return b.entry(path, n), nil
}

// List implements remote.Backend. It shows the directory as it was at one moment.
func (b *Backend) List(ctx context.Context, dir string, yield func(remote.Entry) error) error {
	if err := b.begin(ctx, "list", dir); err != nil {
		return err
	}
	entries, err := b.children(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := remote.ContextErr(ctx); err != nil {
			return err
		}
		remote.Progress(ctx)
		if err := yield(e); err != nil {
			return err
		}
	}
	return nil
}

func (b *Backend) children(dir string) ([]remote.Entry, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	n, err := b.find("list", dir)
	switch {
	case err != nil:
		return nil, err
	case n.kind != remote.Dir:
		return nil, fail("list", dir, remote.NotDir)
	}
	entries := make([]remote.Entry, 0, len(n.children))
	for name, child := range n.children {
		entries = append(entries, b.entry(remote.Join(dir, name), child))
	}
	return entries, nil
}

// content returns the bytes of the version that ref wants.
func (b *Backend) content(ctx context.Context, op string, ref remote.Ref) ([]byte, error) {
	if err := b.begin(ctx, op, ref.Path); err != nil {
		return nil, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	n, err := b.find(op, ref.Path)
	switch {
	case err != nil:
		return nil, err
	case n.kind == remote.Dir:
		return nil, fail(op, ref.Path, remote.IsDir)
	case n.kind == remote.Symlink:
		return nil, fail(op, ref.Path, remote.Invalid)
	}
	if err := b.checkVersion(op, ref.Path, n, ref.Version, remote.Changed); err != nil {
		return nil, err
	}
	return n.data, n.tear.refuse(op, ref.Path)
}

// ReadAt implements remote.Backend. An empty p reads nothing and is no error at any
// offset, a negative offset is Invalid.
func (b *Backend) ReadAt(ctx context.Context, ref remote.Ref, p []byte, off int64) (int, error) {
	data, err := b.content(ctx, "read", ref)
	switch {
	case err != nil:
		return 0, err
	case off < 0:
		return 0, fail("read", ref.Path, remote.Invalid)
	case len(p) == 0:
		return 0, nil
	case off >= int64(len(data)):
		return 0, io.EOF
	}
	n := copy(p, data[off:])
	remote.Progress(ctx)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Open implements remote.Opener. The stream stays on the bytes it was opened on.
func (b *Backend) Open(ctx context.Context, ref remote.Ref) (io.ReadCloser, error) {
	data, err := b.content(ctx, "open", ref)
	if err != nil {
		return nil, err
	}
	return &stream{ctx: ctx, b: b, path: ref.Path, rest: data}, nil
}

// stream reads the bytes of one version. It is for one goroutine.
type stream struct {
	ctx    context.Context
	b      *Backend
	path   string
	rest   []byte
	closed bool
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	if s.closed {
		return 0, fail("read", s.path, remote.BadHandle)
	}
	if err := s.b.begin(s.ctx, "read", s.path); err != nil {
		return 0, err
	}
	if len(s.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	remote.Progress(s.ctx)
	return n, nil
}

// Close implements io.Closer.
func (s *stream) Close() error {
	s.closed, s.rest = true, nil
	return nil
}

// Usage implements remote.Usager.
func (b *Backend) Usage(ctx context.Context) (remote.Usage, error) {
	if err := b.begin(ctx, "usage", "/"); err != nil {
		return remote.Usage{}, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	u := remote.Usage{Used: b.used, Available: -1}
	if b.opts.Quota > 0 {
		u.Available = max(b.opts.Quota-b.used, 0)
	}
	return u, nil
}

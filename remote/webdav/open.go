package webdav

import (
	"context"
	"io"
	"net/http"

	"github.com/meshmount/meshmount/remote"
)

// Open implements remote.Opener: one GET of the whole file, conditional where the
// server does that, with the same checks as ReadAt. The stream ends with the backend
// and with ctx.
func (b *Backend) Open(ctx context.Context, ref remote.Ref) (io.ReadCloser, error) {
	began, c, done, err := b.begin(ctx, "open", ref.Path)
	if err != nil {
		return nil, err
	}
	defer done()
	if b.hidden(ref.Path) {
		return nil, c.fail(remote.NotExist, nil)
	}
	ctx, release := b.bind(ctx)
	s, err := c.open(began, ctx, ref)
	if err != nil {
		release()
		return nil, err
	}
	s.release = release
	return s, nil
}

// open sends the request under the context of the stream, which outlives the call.
func (c *call) open(call, ctx context.Context, ref remote.Ref) (*stream, error) {
	ref, err := c.sized(call, ref)
	if err != nil {
		return nil, err
	}
	r := c.get(ref)
	r.expects = ref.Size
	resp, err := c.send(ctx, r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, c.readRefusal(call, r, resp)
	}
	w := &part{ref: ref, whole: true}
	if err := c.checkVersion(w, resp.Header, resp.ContentLength); err != nil {
		_ = resp.Body.Close() // the error is what matters
		return nil, err
	}
	left := resp.ContentLength
	if left < 0 {
		left = ref.Size
	}
	return &stream{c: c, ctx: ctx, w: w, body: resp.Body, left: left}, nil
}

// stream is a file being read from its start. It is for one goroutine.
type stream struct {
	c       *call
	ctx     context.Context // of the request: ends with Close
	w       *part
	body    io.ReadCloser
	left    int64 // bytes still to come
	release func()
	closed  bool
	err     error // sticks
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	switch {
	case s.closed:
		return 0, s.c.fail(remote.BadHandle, nil)
	case s.err != nil:
		return 0, s.err
	case len(p) == 0:
		return 0, nil
	}
	n, err := s.body.Read(p)
	if int64(n) > s.left {
		s.err = s.c.failf(remote.Corrupt, "the server sends more than the file holds")
		return 0, s.err
	}
	s.left -= int64(n)
	if err != nil {
		s.err = s.ended(err)
		if n > 0 {
			return n, nil // the error is told by the next Read
		}
	}
	return n, s.err
}

// ended judges the end of the body.
func (s *stream) ended(err error) error {
	switch {
	case err != io.EOF && s.ctx.Err() != nil:
		return s.c.broken(s.ctx, err, false)
	case err != io.EOF:
		return s.c.fail(remote.Unavailable, err)
	case s.left > 0:
		return s.c.failf(remote.Unavailable, "the body ended %d bytes early", s.left)
	}
	if err := s.c.stillThere(s.ctx, s.w); err != nil {
		return err
	}
	return io.EOF
}

// Close implements io.Closer.
func (s *stream) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	err := s.body.Close()
	s.release()
	return err
}

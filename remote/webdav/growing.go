package webdav

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"sync"

	"github.com/meshmount/meshmount/remote"
)

// streamRule says what a PUT whose length is not known is good for.
type streamRule uint8

const (
	streamNone streamRule = iota // refused
	streamTemp                   // for a temporary name: one that is cut may leave a part
	streamPut                    // one that is cut leaves what was there
)

// PutGrowing implements remote.GrowingPutter. How a file is sent while it is written:
//
//   - Nextcloud: by chunked upload v2, each chunk as soon as it is complete, read straight
//     from src.
//   - mod_dav: a new file in ranges, to a temporary name, and MOVE; a file that is there by
//     one PUT without a length, which replaces nothing if it is cut. The look that the
//     condition needs is repeated before the end of the body is sent.
//   - rclone, others: by a PUT without a length to a temporary name, and MOVE.
//   - oCIS, OpenCloud and Reva: by tus, if the server offers the extension
//     creation-defer-length.
//
// Elsewhere it is Unsupported, without a request: also where a server of an unknown kind
// has refused such bodies before. No more than half of the connections (Options.MaxConns)
// are given to bodies that may have to wait for their end; a file that finds none is sent
// when it is complete.
//
// With opts.Resume, the chunks on a Nextcloud stay there after errors that may pass, and
// when ctx ends, for a Put or PutGrowing that goes on; not after an error of src.
func (b *Backend) PutGrowing(ctx context.Context, path string, src remote.Growing, opts remote.PutOptions) (remote.Entry, error) {
	const op = string(remote.OpPutGrowing)
	if !b.grows() {
		return remote.Entry{}, &remote.Error{Op: op, Path: path, Kind: remote.Unsupported, Err: errNoGrowing}
	}
	ctx, c, done, err := b.beginChange(ctx, op, path)
	if err != nil {
		return remote.Entry{}, err
	}
	defer done()
	if path == "/" {
		return remote.Entry{}, c.fail(remote.IsDir, nil)
	}
	opts.Attrs = remote.Attrs{} // src has them
	u := &upload{c: c, path: path, opts: opts, grow: &growth{src: src}}
	f, err := u.runGrowing(ctx)
	if cause := u.grown.failed(); err != nil && cause != nil {
		return remote.Entry{}, cause
	}
	return f.Entry, err
}

var errNoGrowing = errors.New("the server takes no file whose size is not known")

// grows tells whether files can be sent while they are written.
func (b *Backend) grows() bool {
	t := &b.traits
	return b.chunks.base != "" || t.over == wayTus && b.tus.deferred ||
		t.over != wayTus && t.stream != streamNone && cap(b.streams) > 0 && !b.noStreams.Load()
}

// runGrowing waits for the first bytes and sends.
func (u *upload) runGrowing(ctx context.Context) (found, error) {
	u.grown, u.src = u.grow, u.grow
	release, err := u.takeStream(ctx)
	if err != nil {
		return found{}, err
	}
	defer release()
	if u.grow.isWhole() {
		// Nothing is growing here any more.
		u.opts.Attrs = u.grow.src.Attrs()
		u.src, u.grow = section{u.grow.src, u.grow.Size()}, nil
	}
	return u.run(ctx)
}

// takeStream waits until there is something to send, and takes a place among the bodies
// whose end is not known, where such a body will be sent. If there is none, it waits
// until the content is whole.
func (u *upload) takeStream(ctx context.Context) (release func(), err error) {
	b, release := u.c.b, func() {}
	want := int64(1)
	if b.chunks.base == "" && b.traits.over != wayTus {
		select {
		case b.streams <- struct{}{}:
			release = func() { <-b.streams }
		default:
			want = math.MaxInt64
		}
	}
	if _, _, err := u.grow.waitFor(ctx, want); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// storeGrowing stores content that is still growing.
func (u *upload) storeGrowing(ctx context.Context) (stored, error) {
	switch t := &u.c.b.traits; {
	case u.c.b.chunks.base != "":
		return u.storeChunked(ctx)
	case u.way == wayTus && !u.exclusive:
		return u.storeTus(ctx, u.path, u.match)
	case u.inRanges():
		return u.storeRanges(ctx)
	case u.way == wayPut && t.stream == streamPut:
		return u.storePut(ctx)
	}
	return u.storeTemp(ctx)
}

// refusedStream takes note of a server that does not take bodies of unknown length.
func (u *upload) refusedStream(err error) error {
	if u.grow == nil || err == nil {
		return err
	}
	refused := false
	switch statusOf(err) {
	case http.StatusLengthRequired, http.StatusNotImplemented:
		refused = true
	case http.StatusBadRequest:
		refused = u.c.b.traits.name == Unknown
	}
	if !refused {
		return err
	}
	u.c.b.noStreams.Store(true)
	return u.c.fail(remote.Unsupported, fmt.Errorf("%w: %w", errNoGrowing, errors.Unwrap(err)))
}

// growth is content that grows, as a Source: its size is what is there so far.
type growth struct {
	src remote.Growing

	mu    sync.Mutex // guards what follows
	told  int64
	whole bool
	err   error // of the content: it will never be whole
}

// Size implements remote.Source.
func (g *growth) Size() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.told
}

func (g *growth) isWhole() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.whole
}

// Open implements remote.Source, for the content as it is now.
func (g *growth) Open() (io.ReadCloser, error) { return section{g.src, g.Size()}.Open() }

// failed returns the error of the content, if there is one.
func (g *growth) failed() error {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// waitFor waits until end bytes are there, or all. It returns how many are.
func (g *growth) waitFor(ctx context.Context, end int64) (size int64, whole bool, err error) {
	for {
		g.mu.Lock()
		size, whole, err = g.told, g.whole, g.err
		g.mu.Unlock()
		if err != nil || whole || size >= end {
			return size, whole, err
		}
		size, whole, err = g.src.Wait(ctx, size)
		if err != nil && ctx.Err() != nil {
			return 0, false, remote.ContextErr(ctx)
		}
		g.learn(size, whole, err)
	}
}

// learn takes note of what Wait has said.
func (g *growth) learn(size int64, whole bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case err != nil:
		g.err = err
	case !g.whole:
		g.told, g.whole = max(g.told, size), whole
	}
}

// stream is the content as the body of a request that ends when the content does. last,
// if not nil, is called before the end is sent; its error breaks the request off.
func (g *growth) stream(sums *digests, last func(context.Context) error) *outgoing {
	return &outgoing{size: -1, sums: sums, open: func(ctx context.Context) (io.ReadCloser, error) {
		return io.NopCloser(&growthReader{g: g, ctx: ctx, last: last}), nil
	}}
}

// growthReader reads a growth from its beginning to its end, and waits for more.
type growthReader struct {
	g    *growth
	ctx  context.Context // ends with the request
	pos  int64
	last func(context.Context) error
}

// Read implements io.Reader.
func (r *growthReader) Read(p []byte) (int, error) {
	size, _, err := r.g.waitFor(r.ctx, r.pos+1)
	switch {
	case r.ctx.Err() != nil:
		return 0, errGone
	case err != nil:
		return 0, err
	case r.pos >= size:
		return 0, r.end()
	}
	n, err := r.g.src.ReadAt(p[:min(int64(len(p)), size-r.pos)], r.pos)
	if r.pos += int64(n); n > 0 {
		return n, nil
	}
	if err == nil || err == io.EOF {
		err = errShort
	}
	return 0, err
}

// end says io.EOF, unless there is something against it.
func (r *growthReader) end() error {
	if r.last == nil {
		return io.EOF
	}
	last := r.last
	r.last = nil
	err := last(r.ctx)
	switch {
	case r.ctx.Err() != nil:
		return errGone
	case err != nil:
		return err
	}
	return io.EOF
}

// section is a Source whose bytes can be read anywhere.
type section struct {
	io.ReaderAt
	size int64
}

// Size implements remote.Source.
func (s section) Size() int64 { return s.size }

// Open implements remote.Source.
func (s section) Open() (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(s, 0, s.size)), nil
}

// body returns the content as the body of a request. final says that the request makes it
// the file: then what is there is looked at before the end of one that grows.
func (u *upload) body(sums *digests, final bool) *outgoing {
	switch {
	case u.grow == nil:
		return sourceBody(u.src, sums)
	case final:
		return u.grow.stream(sums, u.lookAgain)
	}
	return u.grow.stream(sums, nil)
}

package webdav

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"

	"github.com/meshmount/meshmount/remote"
)

// crew is some goroutines that send parts of one file. The first error ends all.
type crew struct {
	ctx    context.Context // ends with the first error
	cancel context.CancelFunc
	slots  chan struct{} // one for each goroutine under way
	wg     sync.WaitGroup

	mu    sync.Mutex // guards first
	first error
}

func newCrew(ctx context.Context, size int) *crew {
	c := &crew{slots: make(chan struct{}, size)}
	c.ctx, c.cancel = context.WithCancel(ctx)
	return c
}

func (c *crew) fail(err error) {
	if err == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first == nil {
		c.first = err
		c.cancel()
	}
}

// start runs f once there is a slot, and tells whether it does: not after an error.
func (c *crew) start(f func(ctx context.Context) error) bool {
	select {
	case c.slots <- struct{}{}:
	case <-c.ctx.Done():
		return false
	}
	c.wg.Go(func() {
		c.fail(f(c.ctx))
		<-c.slots
	})
	return true
}

// wait waits for all and returns the first error.
func (c *crew) wait(outer context.Context) error {
	c.wg.Wait()
	c.cancel()
	if c.first == nil {
		return remote.ContextErr(outer)
	}
	return c.first
}

// sendAll sends the chunks, some at once. It returns when all are there or one has
// failed.
func (k *chunkUpload) sendAll(ctx context.Context) error {
	if at, ok := k.u.readerAt(); ok {
		return k.sendAt(ctx, at)
	}
	return k.sendRead(ctx)
}

// sendAt sends the chunks of content that can be read anywhere, each straight from
// there. It waits for content that is still growing.
func (k *chunkUpload) sendAt(ctx context.Context, at io.ReaderAt) error {
	team := newCrew(ctx, k.u.c.b.chunks.parallel)
	team.fail(k.eachChunk(team.ctx, func(n int, off, size int64, last bool) bool {
		if k.has(n, size, last) {
			return true
		}
		total := k.size
		return team.start(func(ctx context.Context) error {
			return k.send(ctx, n, sectionBody(at, off, size), total)
		})
	}))
	return team.wait(ctx)
}

// eachChunk hands the chunks to give as they become complete, until give says no. At the
// end, size and count are those of the whole.
func (k *chunkUpload) eachChunk(ctx context.Context, give func(n int, off, size int64, last bool) bool) error {
	for off, n := int64(0), 0; ; n++ {
		known, whole, err := k.u.waitFor(ctx, off+k.sizes.of(n))
		if err != nil {
			return err
		}
		k.size, k.count = known, n
		size := min(k.sizes.of(n), known-off)
		switch {
		case size == 0:
			return nil
		case n == maxChunks:
			return k.tooMany()
		}
		k.count = n + 1
		end := whole && off+size == known
		if !give(n, off, size, end) || end {
			return nil
		}
		off += size
	}
}

// readerAt returns the content if it can be read anywhere.
func (u *upload) readerAt() (io.ReaderAt, bool) {
	if u.grow != nil {
		return u.grow.src, true
	}
	at, ok := u.src.(io.ReaderAt)
	return at, ok
}

// waitFor waits until end bytes of the content are there, or it is whole. It returns how
// many are.
func (u *upload) waitFor(ctx context.Context, end int64) (int64, bool, error) {
	if u.grow == nil {
		return u.src.Size(), true, nil
	}
	return u.grow.waitFor(ctx, end)
}

// sectionBody is a body of size bytes of at from off on.
func sectionBody(at io.ReaderAt, off, size int64) *outgoing {
	return &outgoing{size: size, open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(at, off, size)), nil
	}}
}

// bufferBody is a body of bytes that are in memory.
func bufferBody(p []byte) *outgoing { return sectionBody(bytes.NewReader(p), 0, int64(len(p))) }

// sendRead reads the source, chunk by chunk, in the calling goroutine, into buffers.
func (k *chunkUpload) sendRead(ctx context.Context) error {
	k.count = k.sizes.count(k.size)
	parallel := int(max(1, min(int64(k.u.c.b.chunks.parallel), int64(k.count), chunkMemory/k.sizes.of(k.count))))
	buffers := make(chan []byte, parallel)
	for range parallel {
		buffers <- nil
	}
	team := newCrew(ctx, parallel)
	team.fail(k.u.pieces(team.ctx, cutter{
		size: k.sizes.of, buffers: buffers,
		skip: func(n int, size int64) bool { return k.has(n, size, n == k.count-1) },
		give: func(n int, chunk []byte) error {
			started := team.start(func(ctx context.Context) error {
				err := k.send(ctx, n, bufferBody(chunk), k.size)
				buffers <- chunk
				return err
			})
			if !started {
				return remote.ContextErr(team.ctx)
			}
			return nil
		},
	}))
	return team.wait(ctx)
}

// cutter says how a source is cut into pieces, numbered from 0, the last one shorter.
type cutter struct {
	size    func(n int) int64
	buffers chan []byte                     // of the pieces; give gives them back
	skip    func(n int, size int64) bool    // nil, or tells which are not wanted
	give    func(n int, piece []byte) error // its error ends the cutting and is passed on
}

// pieces cuts the source.
func (u *upload) pieces(ctx context.Context, c cutter) error {
	r, err := u.src.Open()
	if err != nil {
		return u.c.sourceError(ctx, err)
	}
	err = c.all(ctx, untilDone{r, ctx}, u.src.Size())
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return u.c.sourceError(ctx, err)
	}
	return nil
}

func (c cutter) all(ctx context.Context, r io.Reader, total int64) error {
	for n := 0; total > 0; n++ {
		want := min(c.size(n), total)
		total -= want
		buf, err := c.read(ctx, r, n, want)
		if err == nil && total == 0 {
			err = atEnd(r)
		}
		if err == nil && buf != nil {
			err = c.give(n, buf)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// read returns piece n, nil if it is skipped.
func (c cutter) read(ctx context.Context, r io.Reader, n int, want int64) ([]byte, error) {
	if c.skip != nil && c.skip(n, want) {
		got, err := io.CopyN(io.Discard, r, want)
		return nil, short(got, want, err)
	}
	var buf []byte
	select {
	case buf = <-c.buffers:
	case <-ctx.Done():
		return nil, remote.ContextErr(ctx)
	}
	if int64(cap(buf)) < want {
		buf = make([]byte, want)
	}
	buf = buf[:want]
	got, err := io.ReadFull(r, buf)
	return buf, short(int64(got), want, err)
}

// short makes errShort of an end of the source that comes too early.
func short(got, want int64, err error) error {
	if got < want && (err == io.EOF || err == io.ErrUnexpectedEOF) {
		return errShort
	}
	return err
}

// untilDone is a reader that fails once ctx has ended.
type untilDone struct {
	r   io.Reader
	ctx context.Context
}

// Read implements io.Reader.
func (u untilDone) Read(p []byte) (int, error) {
	if err := remote.ContextErr(u.ctx); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

// atEnd checks that nothing is left in r.
func atEnd(r io.Reader) error {
	var one [1]byte
	switch n, err := io.ReadFull(r, one[:]); {
	case n > 0:
		return errLong
	case err != io.EOF:
		return err
	}
	return nil
}

// send puts one chunk, a second time if the network fails the first and the server does
// not ask for a pause. total is as many bytes as are known of the file: the server
// refuses what it has no space for.
func (k *chunkUpload) send(ctx context.Context, n int, body *outgoing, total int64) error {
	for try := 0; ; try++ {
		r := &request{
			method: http.MethodPut, url: k.folder + "/" + chunkName(n), body: body,
			header: map[string]string{"Destination": k.target, "OC-Total-Length": strconv.FormatInt(total, 10)},
		}
		resp, err := k.u.c.expect(ctx, r, http.StatusCreated, http.StatusNoContent)
		if err == nil {
			closeBody(resp)
			return nil
		}
		if try > 0 || !remote.Retryable(err) || askedToWait(err) || ctx.Err() != nil {
			return k.uploadError(err)
		}
	}
}

// askedToWait tells whether the server said when to come again.
func askedToWait(err error) bool {
	var e *remote.Error
	return errors.As(err, &e) && e.RetryAfter > 0
}

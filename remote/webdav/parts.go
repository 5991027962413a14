package webdav

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"

	"github.com/meshmount/meshmount/remote"
)

// parts is content that is sent in parts, some at once.
type parts struct {
	u     *upload
	sizes func(n int) int64                       // bytes of part n, counted from 0, if it is not the last
	most  int                                     // parts
	lanes int                                     // parts under way at once, at most
	has   func(n int, size int64, last bool) bool // nil, or tells which need not be sent
	send  func(ctx context.Context, p outPart, body *outgoing) error

	count int   // parts that were sent or need not be
	size  int64 // bytes as far as they are known; all of them in the end
}

// outPart is one of them.
type outPart struct {
	n         int
	off, size int64
	total     int64 // bytes that are known of the whole
}

// errParts is the error of content that does not fit into as many parts as there may be.
var errParts = errors.New("more parts than there may be")

// sendAll sends the parts. It returns when all are there or one has failed.
func (s *parts) sendAll(ctx context.Context) error {
	if at, ok := s.u.readerAt(); ok {
		return s.sendAt(ctx, at)
	}
	return s.sendRead(ctx)
}

// sendAt sends the parts of content that can be read anywhere, each straight from there.
// It waits for content that is still growing.
func (s *parts) sendAt(ctx context.Context, at io.ReaderAt) error {
	team := newCrew(ctx, s.lanes)
	team.fail(s.each(team.ctx, func(p outPart, last bool) bool {
		if s.has != nil && s.has(p.n, p.size, last) {
			return true
		}
		return team.start(func(ctx context.Context) error {
			return s.send(ctx, p, sectionBody(at, p.off, p.size))
		})
	}))
	return team.wait(ctx)
}

// each hands the parts to give as they become complete, until give says no.
func (s *parts) each(ctx context.Context, give func(p outPart, last bool) bool) error {
	for p := (outPart{}); ; p.n++ {
		known, whole, err := s.u.waitFor(ctx, p.off+s.sizes(p.n))
		if err != nil {
			return err
		}
		p.size, p.total = min(s.sizes(p.n), known-p.off), known
		s.size, s.count = known, p.n
		switch {
		case p.size == 0:
			return nil
		case p.n == s.most:
			return errParts
		}
		s.count = p.n + 1
		last := whole && p.off+p.size == known
		if !give(p, last) || last {
			return nil
		}
		p.off += p.size
	}
}

// sendRead reads the source, part by part, in the calling goroutine, into buffers.
func (s *parts) sendRead(ctx context.Context) error {
	s.size = s.u.src.Size()
	s.count = countParts(s.sizes, s.size, s.most)
	lanes, release := s.buffers(s.sizes(s.count))
	defer release()
	buffers := make(chan []byte, lanes)
	for range lanes {
		buffers <- nil
	}
	team, off := newCrew(ctx, lanes), int64(0)
	team.fail(s.u.pieces(team.ctx, cutter{
		size: s.sizes, buffers: buffers,
		skip: func(n int, size int64) bool {
			skips := s.has != nil && s.has(n, size, n == s.count-1)
			if skips {
				off += size
			}
			return skips
		},
		give: func(n int, piece []byte) error {
			p := outPart{n, off, int64(len(piece)), s.size}
			off += p.size
			started := team.start(func(ctx context.Context) error {
				err := s.send(ctx, p, bufferBody(piece))
				buffers <- piece
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

// buffers returns how many buffers of size bytes may be used: one at least, and not many
// while other uploads have theirs.
func (s *parts) buffers(size int64) (lanes int, release func()) {
	held := &s.u.c.b.buffered
	most := min(chunkMemory, allBuffers-held.Load())
	lanes = int(max(1, min(int64(s.lanes), int64(s.count), most/size)))
	bytes := int64(lanes) * size
	held.Add(bytes)
	return lanes, func() { held.Add(-bytes) }
}

// countParts returns the number of parts of size bytes; more than most if they do not fit.
func countParts(sizes func(n int) int64, size int64, most int) int {
	n := 0
	for ; size > 0 && n <= most; n++ {
		size -= sizes(n)
	}
	return n
}

// crew is some goroutines that send parts of one file. After the first error no other part is
// begun. Those under way are not broken off: a server may carry out what it has got of them
// later, and make anew what the failed upload has just removed.
type crew struct {
	outer  context.Context // of the parts under way
	ctx    context.Context // ends with the first error, too
	cancel context.CancelFunc
	slots  chan struct{} // one for each goroutine under way
	wg     sync.WaitGroup

	mu    sync.Mutex // guards first
	first error
}

func newCrew(ctx context.Context, size int) *crew {
	c := &crew{outer: ctx, slots: make(chan struct{}, size)}
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
		c.fail(f(c.outer))
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

// putPart sends the PUT of a part, some times if the network fails and the server does not
// ask for a pause: when it does, it takes all connections that wait for their next use.
func (c *call) putPart(ctx context.Context, r *request) error {
	for try := 0; ; try++ {
		resp, err := c.expect(ctx, r, http.StatusOK, http.StatusCreated, http.StatusNoContent)
		if err == nil {
			closeBody(resp)
			return nil
		}
		if try == len(patience) || !remote.Retryable(err) || askedToWait(err) || !sleep(ctx, patience[try]) {
			return err
		}
	}
}

// askedToWait tells whether the server said when to come again.
func askedToWait(err error) bool {
	var e *remote.Error
	return errors.As(err, &e) && e.RetryAfter > 0
}

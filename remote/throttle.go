package remote

import (
	"context"
	"io"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Rate is a bound of bytes per second for all transfers that share it: a token bucket
// that is full after 100 ms of rest. The zero value, and a nil *Rate, bound nothing. It is
// safe for concurrent use.
//
// Transfers take their bytes in pieces of about 50 ms, in the order of asking, so that
// those that always have more to send get equal shares, and a small one waits for one
// piece of each other, not for their ends.
type Rate struct {
	now atomic.Pointer[bucket] // nil: no bound
	set sync.Mutex             // held by Set
}

// bucket is a Rate between two calls of Set.
type bucket struct {
	tokens  *rate.Limiter
	bytes   int64
	piece   int64         // the most that is taken at once
	changed chan struct{} // closed when another bucket has taken its place
}

// The sizes of the pieces that a Rate is given out in.
const (
	leastPiece = 1 << 10
	mostPiece  = 256 << 10
)

// NewRate returns a Rate of so many bytes per second, without a bound if that is 0 or less.
func NewRate(bytesPerSecond int64) *Rate {
	r := &Rate{}
	r.Set(bytesPerSecond)
	return r
}

// Set changes the bound, also for transfers that are under way, at once.
func (r *Rate) Set(bytesPerSecond int64) {
	r.set.Lock()
	defer r.set.Unlock()
	var next *bucket
	if bytesPerSecond > 0 {
		piece := min(max(bytesPerSecond/20, leastPiece), mostPiece)
		next = &bucket{
			tokens:  rate.NewLimiter(rate.Limit(bytesPerSecond), int(max(bytesPerSecond/10, piece))),
			bytes:   bytesPerSecond,
			piece:   piece,
			changed: make(chan struct{}),
		}
	}
	if before := r.now.Swap(next); before != nil {
		close(before.changed)
	}
}

// BytesPerSecond returns the bound, 0 if there is none.
func (r *Rate) BytesPerSecond() int64 {
	if b := r.bucket(); b != nil {
		return b.bytes
	}
	return 0
}

func (r *Rate) bucket() *bucket {
	if r == nil {
		return nil
	}
	return r.now.Load()
}

// piece returns how much of n bytes is to be moved at once.
func (r *Rate) piece(n int64) int64 {
	if b := r.bucket(); b != nil {
		return min(n, b.piece)
	}
	return n
}

// take waits until n bytes may go, piece by piece.
func (r *Rate) take(ctx context.Context, n int64) error {
	for n > 0 {
		b := r.bucket()
		if b == nil {
			return nil
		}
		piece := min(n, b.piece)
		paid, err := b.pay(ctx, piece)
		if err != nil {
			return err
		}
		if paid {
			n -= piece
		}
	}
	return nil
}

// pay waits for n tokens. It is false if the bucket was replaced meanwhile.
func (b *bucket) pay(ctx context.Context, n int64) (bool, error) {
	turn := b.tokens.ReserveN(time.Now(), int(n))
	wait := turn.Delay()
	if wait <= 0 {
		return true, nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return true, nil
	case <-b.changed:
		turn.Cancel()
		return false, nil
	case <-ctx.Done():
		turn.Cancel()
		return false, ContextErr(ctx)
	}
}

// Throttle bounds the file content that goes through b: what puts and patches send by up,
// what reads and streams receive by down. Many backends may share one Rate. Other calls,
// and what protocols add to the content, are not counted. It keeps no bytes.
//
// What is sent is counted as it is read from its source, before the backend has it. Of a
// stream, and of a bundle, each piece is counted when it has arrived, and the server held
// back by not reading on. A ReadAt begins when its first piece may go, and returns when all that came
// may; in between its bytes come as fast as they do. One of more than half a second's
// bytes is made of several, if it is of a version and the backend has ranges.
//
// It stands outside the Watchdog, for which the waits of uploads are then the caller's
// time and those of reads no part of the call, and inside Limit, which would otherwise
// lend the slots of calls that wait here while their connections are busy.
func Throttle(b Backend, up, down *Rate) Backend {
	return Intercept(b, func(ctx context.Context, c *Call, next Next) error {
		switch c.Op {
		case OpPut:
			c.Source = &slowedSource{c.Source, ctx, up}
		case OpPutBatch:
			c.Batch = slowedItems(ctx, c.Batch, up)
		case OpPutGrowing:
			c.Growing = &slowedGrowing{c.Growing, slowedBytes{c.Growing, ctx, up}}
		case OpPatch:
			c.Patch.Bytes = slowedBytes{c.Patch.Bytes, ctx, up}
		case OpStream:
			return down.stream(ctx, c, next)
		case OpRead:
			return down.read(ctx, c, next, b.Caps().Ranges && c.Ref.Version != "")
		case OpReadBundle:
			ctx = WithPace(ctx, func(n int) error { return down.take(ctx, int64(n)) })
		}
		return next(ctx)
	})
}

// stream counts one Read of a stream.
func (r *Rate) stream(ctx context.Context, c *Call, next Next) error {
	c.Buf = c.Buf[:r.piece(int64(len(c.Buf)))]
	if err := next(ctx); err != nil {
		return err
	}
	return r.take(ctx, int64(c.N))
}

// request returns the most that is to be asked for at once.
func (r *Rate) request() int64 {
	if b := r.bucket(); b != nil {
		return max(b.bytes/2, mostPiece)
	}
	return math.MaxInt64
}

// read makes a ReadAt, of several ones if it may be split.
func (r *Rate) read(ctx context.Context, c *Call, next Next, split bool) error {
	buf, off := c.Buf, c.Off
	defer func() { c.Buf, c.Off = buf, off }()
	for n := 0; ; {
		if c.Buf, c.Off = buf[n:], off+int64(n); split {
			c.Buf = c.Buf[:min(int64(len(c.Buf)), r.request())]
		}
		err := r.part(ctx, c, next)
		short := c.N < len(c.Buf)
		n += c.N
		c.N = n
		if err != nil || c.EOF || short || n == len(buf) {
			return err
		}
	}
}

// part makes a ReadAt and counts it. The time in which its bytes are on the way counts as well, or one
// reader alone would never reach the bound.
func (r *Rate) part(ctx context.Context, c *Call, next Next) error {
	c.N = 0
	want := int64(len(c.Buf))
	if c.Ref.Size >= 0 {
		want = min(want, max(c.Ref.Size-c.Off, 0))
	}
	paid := r.piece(want)
	if err := r.take(ctx, paid); err != nil {
		return err
	}
	paying, stop := context.WithCancel(ctx)
	defer stop()
	var payer sync.WaitGroup
	if paid < want {
		payer.Go(func() {
			for n := r.piece(want - paid); n > 0 && r.take(paying, n) == nil; n = r.piece(want - paid) {
				paid += n
			}
		})
	}
	err := next(ctx)
	stop()
	payer.Wait()
	if err != nil {
		return err
	}
	return r.take(ctx, int64(c.N)-paid)
}

// slowedSource is a Source whose bytes are counted.
type slowedSource struct {
	Source
	ctx context.Context // of the call
	r   *Rate
}

// Open implements Source.
func (s *slowedSource) Open() (io.ReadCloser, error) {
	r, err := s.Source.Open()
	if err != nil {
		return nil, err
	}
	return &slowedReader{r, s}, nil
}

type slowedReader struct {
	io.ReadCloser
	src *slowedSource
}

// Read implements io.Reader.
func (r *slowedReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p[:r.src.r.piece(int64(len(p)))])
	if terr := r.src.r.take(r.src.ctx, int64(n)); terr != nil {
		return 0, terr
	}
	return n, err
}

// Seek implements io.Seeker if the source's reader does.
func (r *slowedReader) Seek(offset int64, whence int) (int64, error) {
	return seek(r.ReadCloser, offset, whence)
}

// slowedBytes are bytes that are counted.
type slowedBytes struct {
	io.ReaderAt
	ctx context.Context // of the call
	r   *Rate
}

// ReadAt implements io.ReaderAt.
func (b slowedBytes) ReadAt(p []byte, off int64) (int, error) {
	n, err := b.ReaderAt.ReadAt(p, off)
	if terr := b.r.take(b.ctx, int64(n)); terr != nil {
		return 0, terr
	}
	return n, err
}

// slowedGrowing is a Growing whose bytes are counted.
type slowedGrowing struct {
	Growing
	bytes slowedBytes
}

// ReadAt implements io.ReaderAt.
func (g *slowedGrowing) ReadAt(p []byte, off int64) (int, error) { return g.bytes.ReadAt(p, off) }

package browse

import (
	"cmp"
	"context"
	"io"
	"slices"
	"sync"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive/foreign"
)

// Deflated members are unpacked from their beginning on. What is unpacked goes on where
// the last read has ended, and remembers the last bytes, for reads that come out of order.
const (
	maxStreams = 4       // open at a time
	maxBack    = 4 << 20 // bytes that a stream remembers
	leastInput = 256 << 10
	mostInput  = 1 << 20
	skipStep   = 64 << 10
)

// pool holds the open streams, each of which one reader uses at a time.
type pool struct {
	mu      sync.Mutex    // guards what follows
	streams []*inflated   // last used last
	waiting []*waiter     // in the order in which they came
	moved   chan struct{} // closed when something has changed
}

// waiter is a read that wants a stream.
type waiter struct {
	m   member
	off int64
}

func newPool() *pool { return &pool{moved: make(chan struct{})} }

// read fills p from an offset of a deflated member.
func (s *pool) read(ctx context.Context, b *Backend, m member, p []byte, off int64) error {
	st, err := s.take(ctx, b, &waiter{m, off})
	if err != nil {
		return err
	}
	err = st.read(ctx, p, off)
	s.give(st, err != nil)
	return err
}

// take waits for the stream of a member, or for room for one.
func (s *pool) take(ctx context.Context, b *Backend, w *waiter) (*inflated, error) {
	s.mu.Lock()
	s.waiting = append(s.waiting, w)
	for {
		if st := s.grant(b, w); st != nil {
			s.leave(w)
			s.mu.Unlock()
			return st, nil
		}
		moved := s.moved
		s.mu.Unlock()
		select {
		case <-moved:
			s.mu.Lock()
		case <-ctx.Done():
			s.mu.Lock()
			s.leave(w)
			s.mu.Unlock()
			return nil, remote.ContextErr(ctx)
		}
	}
}

// leave ends a wait. Guarded by mu.
func (s *pool) leave(w *waiter) {
	s.waiting = slices.DeleteFunc(s.waiting, func(x *waiter) bool { return x == w })
	s.tell()
}

// tell wakes all who wait. Guarded by mu.
func (s *pool) tell() {
	close(s.moved)
	s.moved = make(chan struct{})
}

// grant returns the stream that a waiter may use now. Guarded by mu.
func (s *pool) grant(b *Backend, w *waiter) *inflated {
	i := slices.IndexFunc(s.streams, func(st *inflated) bool { return st.m == w.m })
	if i < 0 {
		return s.open(b, w.m)
	}
	st := s.streams[i]
	if st.busy || s.next(st) != w {
		return nil
	}
	st.busy = true
	s.streams = append(slices.Delete(s.streams, i, i+1), st)
	return st
}

// open makes a stream, in place of an idle one if there are many. Guarded by mu.
func (s *pool) open(b *Backend, m member) *inflated {
	if len(s.streams) >= maxStreams {
		i := slices.IndexFunc(s.streams, func(st *inflated) bool { return !st.busy && s.next(st) == nil })
		if i < 0 {
			return nil
		}
		s.streams = slices.Delete(s.streams, i, i+1)
	}
	st := &inflated{b: b, m: m, busy: true}
	s.streams = append(s.streams, st)
	return st
}

// next returns who is to use a stream next: the one whose bytes come next, and those
// whose bytes it has behind it only after that. Guarded by mu.
func (s *pool) next(st *inflated) *waiter {
	var best *waiter
	rank := func(w *waiter) (int, int64) {
		if w.off < st.oldest() {
			return 1, w.off // it has to begin anew
		}
		return 0, w.off
	}
	for _, w := range s.waiting {
		if w.m != st.m {
			continue
		}
		if best == nil {
			best = w
			continue
		}
		x, at := rank(w)
		y, bestAt := rank(best)
		if cmp.Or(cmp.Compare(x, y), cmp.Compare(at, bestAt)) < 0 {
			best = w
		}
	}
	return best
}

// give gives a stream back. One that failed is not used again.
func (s *pool) give(st *inflated, failed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st.busy = false
	if failed {
		s.streams = slices.DeleteFunc(s.streams, func(x *inflated) bool { return x == st })
	}
	s.tell()
}

// inflated is a deflated member that is being unpacked. Who has taken it from the pool
// uses it alone; oldest may be asked for under the lock of the pool while nobody has.
type inflated struct {
	b    *Backend
	m    member
	busy bool // guarded by pool.mu

	in   *input
	out  *foreign.Unpacker // nil before the first read
	back []byte            // a ring of the last bytes: that of position n is at n modulo its length
	skip []byte
}

// oldest returns the first position that can be read without beginning anew.
func (s *inflated) oldest() int64 {
	if s.out == nil {
		return 0
	}
	return max(0, s.out.Pos()-int64(len(s.back)))
}

// read fills p from an offset.
func (s *inflated) read(ctx context.Context, p []byte, off int64) error {
	if s.out == nil || off < s.oldest() {
		s.begin()
	}
	s.in.ctx = ctx
	for s.out.Pos() < off {
		if err := s.unpack(s.skip[:min(int64(len(s.skip)), off-s.out.Pos())]); err != nil {
			return err
		}
	}
	for len(p) > 0 && off < s.out.Pos() {
		at := int(off % int64(len(s.back)))
		n := copy(p, s.back[at:min(int64(len(s.back)), int64(at)+s.out.Pos()-off)])
		p, off = p[n:], off+int64(n)
	}
	for len(p) > 0 {
		n := min(len(p), skipStep)
		if err := s.unpack(p[:n]); err != nil {
			return err
		}
		p = p[n:]
	}
	return remote.ContextErr(ctx)
}

// begin goes back to the beginning of the member.
func (s *inflated) begin() {
	if s.back == nil {
		s.back, s.skip = make([]byte, min(maxBack, s.m.item.Size)), make([]byte, skipStep)
	}
	s.in = &input{b: s.b, m: s.m}
	s.out = foreign.NewUnpacker(s.m.item, s.in)
}

// unpack fills p with what comes next, and remembers it.
func (s *inflated) unpack(p []byte) error {
	pos := s.out.Pos()
	if _, err := io.ReadFull(s.out, p); err != nil {
		return err
	}
	for len(p) > 0 {
		n := copy(s.back[pos%int64(len(s.back)):], p)
		p, pos = p[n:], pos+int64(n)
	}
	return nil
}

// input reads what a member is in the archive, in ever larger requests.
type input struct {
	ctx  context.Context // of who reads at present
	b    *Backend
	m    member
	pos  int64 // of what comes after buf
	buf  []byte
	room []byte
	size int
}

// Read implements io.Reader.
func (r *input) Read(p []byte) (int, error) {
	if err := remote.ContextErr(r.ctx); err != nil {
		return 0, err
	}
	if len(r.buf) == 0 {
		left := r.m.item.Packed - r.pos
		if left <= 0 {
			return 0, io.EOF
		}
		r.size = min(max(2*r.size, leastInput), mostInput)
		n := int(min(int64(r.size), left))
		if cap(r.room) < n {
			r.room = make([]byte, n)
		}
		if err := r.b.packed(r.ctx, r.m, r.room[:n], r.pos); err != nil {
			return 0, err
		}
		r.buf, r.pos = r.room[:n], r.pos+int64(n)
	}
	n := copy(p, r.buf)
	r.buf = r.buf[n:]
	return n, nil
}

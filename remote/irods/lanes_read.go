package irods

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// A stretch of a large object is read piece by piece, by one lane or more, each with the
// object open on its own connection. A lane that fails gives its piece back to the first
// one, whose failure is the failure of all. Nobody keeps a connection while there is no
// room for more pieces.

// proof tells what proves that the bytes are of the wanted version.
type proof int

const (
	proofEach  proof = iota // a question behind each piece, in the same round trip
	proofWhole              // a question at the end of all
	proofSum                // the receiver compares the checksum of the whole
)

// sometimes is after how many pieces a question is asked although the checksum will
// prove it all: a version that is gone is noticed before everything has been read.
const sometimes = 16

// fetch reads a stretch of one version of an object.
type fetch struct {
	r     *reading
	ctx   context.Context
	stop  context.CancelFunc
	proof proof
	into  []byte // where the stretch goes; nil: into pieces that next hands out in order
	begin int64
	end   int64
	crew  *crew
	tasks sync.WaitGroup // the lanes but, if its caller is one, the first

	mu     sync.Mutex // guards the fields below
	change sync.Cond
	taken  int64   // up to where lanes have taken pieces
	parts  []*part // that were taken and not yet handed out, in order
	back   []*part // those of them that are to be taken again
	free   [][]byte
	missed bool // the receiver waits
	proved bool
	err    error
}

// part is a piece of a stretch.
type part struct {
	off   int64
	buf   []byte
	ready bool
}

// newFetch begins to read from off to end. stop must be called in the end.
func (r *reading) newFetch(ctx context.Context, how proof, into []byte, off, end int64) *fetch {
	f := &fetch{r: r, proof: how, into: into, begin: off, end: end, taken: off, crew: r.b.muster(reads, end-off)}
	f.change.L = &f.mu
	f.ctx, f.stop = context.WithCancel(ctx)
	return f
}

// readLarge fills p from off with several lanes; the caller is the first.
func (r *reading) readLarge(ctx context.Context, p []byte, off int64) error {
	f := r.newFetch(ctx, proofWhole, p, off, off+int64(len(p)))
	defer f.stop()
	f.crew.hire = func() { f.tasks.Go(f.help) }
	watch := context.AfterFunc(f.ctx, f.wake)
	f.lead()
	watch()
	f.stop()
	f.tasks.Wait()
	f.crew.disband()
	return f.err
}

// wake wakes up everybody who waits, for a look at ctx.
func (f *fetch) wake() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.change.Broadcast()
}

// lead is the first lane, from begin to end.
func (f *fetch) lead() {
	for {
		waited, ok := f.await(true)
		if !ok {
			break
		}
		err := f.r.b.doWith(f.ctx, "read", f.r.ref.Path, false, f.r.path, func(s *session) error {
			return f.carry(s, true, waited)
		})
		if err != nil {
			f.fail(err)
			return
		}
	}
	if err := f.settle(); err != nil {
		f.fail(err)
	}
}

// settle is the end of the first lane: all is there, or ctx has ended. It proves the
// version if that is left to do.
func (f *fetch) settle() error {
	f.mu.Lock()
	short, proved := f.taken < f.end || f.pending(), f.proved || f.proof != proofWhole
	f.mu.Unlock()
	switch {
	case short:
		return remote.ContextErr(f.ctx)
	case !proved:
		return f.r.wantStanding(f.ctx)
	}
	return nil
}

func (f *fetch) fail(err error) {
	f.mu.Lock()
	if f.err == nil {
		f.err = err
	}
	f.change.Broadcast()
	f.mu.Unlock()
	f.stop()
}

// help is a further lane, from its hiring to its end.
func (f *fetch) help() {
	joined := false
	for {
		waited, ok := f.await(false)
		if !ok {
			break
		}
		s := f.r.b.pool.spare(f.ctx, f.r.path)
		if s == nil {
			break
		}
		if !joined {
			joined = true
			f.crew.begin()
		}
		err := f.carry(s, false, waited)
		f.r.b.pool.put(s)
		if err != nil {
			f.r.b.opts.Logger.Debug("a lane has ended", "path", f.r.ref.Path, "err", err)
			break
		}
		if f.crew.surplus() {
			break
		}
	}
	if !joined {
		f.crew.unhired()
		return
	}
	f.crew.end()
	f.wake() // there is less room now
}

// await waits until there is a piece to take. ok is false if there are no more for this
// lane: the first one stays until all are there. It returns the time for which there was
// no room because of the receiver.
func (f *fetch) await(first bool) (waited time.Duration, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.err == nil && f.ctx.Err() == nil {
		left := f.taken < f.end
		switch {
		case len(f.back) > 0, left && f.room():
			return waited, true
		case !left && !(first && f.pending()):
			return waited, false
		}
		idle, begin := left && !f.missed, time.Now()
		f.change.Wait()
		if idle {
			waited += time.Since(begin)
		}
	}
	return waited, false
}

// pending tells whether a piece that was taken is not there yet. Guarded by mu.
func (f *fetch) pending() bool {
	return slices.ContainsFunc(f.parts, func(p *part) bool { return !p.ready })
}

// room tells whether another piece may be taken: there is one for each lane and one for
// the receiver. Guarded by mu.
func (f *fetch) room() bool {
	if f.into != nil {
		return true
	}
	lanes, _ := f.crew.count()
	return len(f.parts) < lanes+1
}

// carry reads pieces on a connection as long as there are any to be had at once, and
// nobody is in greater need of the connection.
func (f *fetch) carry(s *session, first bool, waited time.Duration) error {
	for {
		p := f.take()
		if p == nil {
			return nil
		}
		ask := f.asks(p)
		if err := f.r.readPart(f.ctx, s, p.buf, p.off, ask); err != nil {
			f.giveBack(p)
			return err
		}
		left := f.done(p, ask)
		f.crew.moved(int64(len(p.buf)), left, waited)
		waited = 0
		if f.r.b.pool.starved() || !first && f.crew.surplus() {
			return nil
		}
	}
}

// take returns the next piece, nil if there is none at once.
func (f *fetch) take() *part {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.err != nil || f.ctx.Err() != nil:
		return nil
	case len(f.back) > 0:
		p := f.back[0]
		f.back = f.back[1:]
		return p
	case f.taken >= f.end || !f.room():
		return nil
	}
	n := min(f.end-f.taken, int64(f.r.b.piece))
	p := &part{off: f.taken}
	switch {
	case f.into != nil:
		p.buf = f.into[f.taken-f.begin:][:n:n]
	case len(f.free) > 0:
		p.buf = f.free[0][:n]
		f.free = f.free[1:]
	default:
		p.buf = make([]byte, n, min(f.end-f.begin, int64(f.r.b.piece)))
	}
	f.parts = append(f.parts, p)
	f.taken += n
	return p
}

// asks tells whether a question for the version goes with a piece.
func (f *fetch) asks(p *part) bool {
	switch f.proof {
	case proofWhole: // with the last piece, if all others have come on the same connection
		_, ever := f.crew.count()
		return ever == 1 && p.off+int64(len(p.buf)) == f.end
	case proofSum:
		return (p.off-f.begin)/int64(f.r.b.piece)%sometimes == 0
	}
	return true
}

// giveBack leaves a piece to another lane.
func (f *fetch) giveBack(p *part) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.back = append(f.back, p)
	f.change.Broadcast()
}

// done notes that a piece has been read and returns how much no lane has taken.
func (f *fetch) done(p *part, asked bool) (left int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p.ready = true
	if f.proof == proofWhole && asked {
		f.proved = true
	}
	if f.into != nil {
		f.parts = slices.DeleteFunc(f.parts, func(o *part) bool { return o == p })
	}
	f.change.Broadcast()
	return f.end - f.taken
}

// next hands out the next piece in order, io.EOF-free: nil is the end. The receiver gives
// it back by release.
func (f *fetch) next() ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer func() { f.missed = false }()
	for {
		switch {
		case len(f.parts) > 0 && f.parts[0].ready:
			return f.parts[0].buf, nil
		case f.err != nil:
			return nil, f.err
		case f.ctx.Err() != nil:
			return nil, remote.ContextErr(f.ctx)
		case len(f.parts) == 0 && f.taken >= f.end:
			return nil, nil
		}
		f.missed = true
		f.change.Wait()
	}
}

// release makes room for another piece in place of the one that next returned.
func (f *fetch) release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.free = append(f.free, f.parts[0].buf[:cap(f.parts[0].buf)])
	f.parts = f.parts[1:]
	f.change.Broadcast()
}

var errChecksum = errors.New("the bytes do not have the checksum that the catalog has")

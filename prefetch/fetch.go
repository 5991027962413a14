package prefetch

import (
	"context"
	"errors"
	"io"
	"math/bits"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// demand asks for [off, until), rounded to pages within the gap that it lies in, and
// returns the piece: nil if there is no memory, or the version is gone, so that the read
// has to try itself.
func (r *Reader) demand(off, until int64) *piece {
	if r.changed != nil {
		return nil
	}
	off, long := r.round(off, max(until, r.stretch(off, until)))
	buf := r.account.get(long-off, false)
	if buf == nil && long > until {
		off, long = r.round(off, until)
		buf = r.account.get(long-off, false)
	}
	if buf == nil {
		return nil
	}
	until = long
	r.stats.Demanded += until - off
	return r.start(&piece{off: off, n: until - off, buf: buf})
}

// stretch returns where a request for [off, until) is to end. As long as the branch is so
// busy that the reader waits for a lane, nothing comes ahead; then a sequential reader
// asks for a large part of its window at once, since otherwise all readers of a busy
// branch would end up with requests of the kernel's size.
func (r *Reader) stretch(off, until int64) int64 {
	if !r.queued {
		return until
	}
	r.spans = r.window.plan(r.spans[:0])
	for _, s := range r.spans {
		if !s.back && s.off <= off && off < s.end() && s.window > until-off {
			end := min(off+1<<(bits.Len64(uint64(s.window))-1), s.end(), off+r.p.opts.MaxRequest)
			_, gap := r.pieces.at(off, end)
			return gap
		}
	}
	return until
}

// round widens a gap to whole pages, but not over the file's end or other pieces.
func (r *Reader) round(off, until int64) (int64, int64) {
	from, to := off&^(page-1), (until+page-1)&^(page-1)
	i := r.pieces.from(off)
	if i > 0 {
		from = max(from, r.pieces[i-1].end())
	}
	if i < len(r.pieces) {
		to = min(to, r.pieces[i].off)
	}
	if r.size >= 0 {
		to = min(to, r.size)
	}
	if to-from > largest {
		return off, until
	}
	return from, to
}

// start lists a piece and begins to fetch it.
func (r *Reader) start(pc *piece) *piece {
	ctx, cancel := context.WithCancel(r.ctx)
	pc.done, pc.cancel, pc.refs = make(chan struct{}), cancel, 1
	r.pieces.insert(pc)
	r.stats.Requests++
	r.work.Go(func() { r.fetch(ctx, pc) })
	return pc
}

// fetch gets a piece. One that is ahead has its lane already.
func (r *Reader) fetch(ctx context.Context, pc *piece) {
	defer pc.cancel()
	if !pc.ahead {
		if err := r.p.lanes.Acquire(ctx); err != nil {
			r.finish(pc, 0, remote.ContextErr(ctx))
			return
		}
	}
	n, err := r.src.ReadAt(ctx, r.ref, pc.buf, pc.off)
	short := r.finish(pc, n, err)
	r.p.lanes.Release()
	r.refill(short)
}

// finish takes note of what came, wakes who waits, and plans on.
func (r *Reader) finish(pc *piece, n int, err error) (short int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pc.got, pc.err = r.judge(pc.off, len(pc.buf), n, err)
	close(pc.done)
	if pc.ahead {
		r.came(-1)
	}
	switch {
	case pc.err == nil:
		r.climb.arrived(pc.got, time.Now())
		r.paused = r.paused && pc.ahead
	default:
		r.failed(pc)
	}
	r.unref(pc)
	return r.pump(false)
}

// failed takes a piece out whose fetch has failed, so that the next read tries again.
func (r *Reader) failed(pc *piece) {
	abandoned := !pc.listed && errors.Is(pc.err, context.Canceled)
	r.pieces.remove(pc)
	if errors.Is(pc.err, remote.Changed) {
		r.changed = pc.err
	}
	r.paused = r.paused || !abandoned
}

// judge checks an answer against the contract of Source and learns the file's size.
func (r *Reader) judge(off int64, wanted, n int, err error) (int64, error) {
	switch {
	case n == wanted && (err == nil || err == io.EOF):
		return int64(n), nil
	case err == nil:
		return 0, &remote.Error{Op: "read", Path: r.ref.Path, Kind: remote.Corrupt, Err: io.ErrShortBuffer}
	case err != io.EOF:
		return 0, err
	case r.size >= 0 && off+int64(n) < min(r.size, off+int64(wanted)):
		return 0, &remote.Error{Op: "read", Path: r.ref.Path, Kind: remote.Corrupt, Err: io.ErrUnexpectedEOF}
	}
	if r.size < 0 {
		r.window.limit(off + int64(n))
		if n > 0 {
			r.size = off + int64(n)
		}
	}
	return int64(n), nil
}

// direct reads straight into p, for a read that has no memory of the budget or whose
// piece somebody else failed to get. It ends with ctx and with Close.
func (r *Reader) direct(ctx context.Context, p []byte, off int64) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.ctx, cancel)()
	if err := r.enter(int64(len(p))); err != nil {
		return 0, err
	}
	defer r.work.Done()
	if err := r.p.lanes.Acquire(ctx); err != nil {
		return 0, r.told(remote.ContextErr(ctx))
	}
	n, err := r.src.ReadAt(ctx, r.ref, p, off)
	r.p.lanes.Release()
	r.mu.Lock()
	defer r.mu.Unlock()
	got, err := r.judge(off, len(p), n, err)
	switch {
	case errors.Is(err, remote.Changed):
		r.changed = err
	case err == nil:
		r.paused = false
	}
	if err == nil && got < int64(len(p)) {
		err = io.EOF
	}
	return int(got), r.told(err)
}

// enter begins a direct read, unless it is known to fail.
func (r *Reader) enter(n int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return r.fault(remote.BadHandle, "reader is closed")
	case r.changed != nil:
		return r.changed
	}
	r.stats.Requests++
	r.stats.Demanded += n
	r.work.Add(1)
	return nil
}

// pump asks for what the plan wants and is not there, as far as the streams, the lanes
// and the memory go. With granted there is one lane already, which is used for the
// first piece. It returns how many bytes there was no memory for, 0 if none.
func (r *Reader) pump(granted bool) (short int64) {
	for !r.closed && !r.paused && r.changed == nil && r.onWay < r.climb.n && (granted || !r.queued) {
		off, n := r.next()
		if n == 0 {
			return 0
		}
		if r.isHere(off, n) {
			continue
		}
		buf := r.account.get(n, true)
		if buf == nil {
			return n
		}
		if !granted && !r.p.lanes.try(r) {
			r.queued = true
			r.account.put(buf)
			return 0
		}
		granted = false
		r.came(+1)
		r.stats.Ahead += n
		r.start(&piece{off: off, n: n, buf: buf, ahead: true})
	}
	return 0
}

// isHere notes what the Local has of a stretch that is to be fetched, and tells whether it
// has the beginning.
func (r *Reader) isHere(off, n int64) bool {
	if r.local == nil {
		return false
	}
	have := min(r.local.HasLocal(r.ref, off, n), n)
	if have <= 0 {
		return false
	}
	r.pieces.insert(&piece{off: off, n: have, got: have, here: true})
	return true
}

// came counts the pieces on the way ahead.
func (r *Reader) came(change int) {
	before := r.onWay
	r.onWay += change
	if before == 0 || r.onWay == 0 {
		r.p.lanes.use(change)
	}
}

// granted uses the lane that the reader waited for. It implements taker.
func (r *Reader) granted() bool {
	r.mu.Lock()
	r.queued = false
	before := r.onWay
	short := r.pump(true)
	used := r.onWay > before
	r.mu.Unlock()
	r.refill(short)
	return used
}

// refill has others give memory back and tries again, once.
func (r *Reader) refill(short int64) {
	if short == 0 || !r.account.reclaim(short) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pump(false)
}

// next returns the piece to fetch ahead that will be needed first; n is 0 if there is
// none.
func (r *Reader) next() (off, n int64) {
	r.spans = r.window.plan(r.spans[:0])
	streams := int64(min(r.climb.n, r.p.lanes.fair()))
	best := int64(-1)
	for _, s := range r.spans {
		from, length := r.pick(s, r.stagger(unit(s.window, streams, r.p.opts.MaxRequest)))
		if length == 0 {
			continue
		}
		dist := s.dist + from - s.off
		if s.back {
			dist = s.dist + s.end() - from - length
		}
		if best < 0 || dist < best {
			best, off, n = dist, from, length
		}
	}
	return off, n
}

// stagger halves the length of a request while streams of the reader stand still, and of
// every third long one: requests of one length that begin together end together, and
// the path would be empty for a round trip each time.
func (r *Reader) stagger(size int64) int64 {
	if r.onWay < r.climb.n*3/4 || size >= 1<<20 && r.stats.Requests%3 == 0 {
		return max(size/2, minPiece)
	}
	return size
}

// pick returns the first stretch of a span that is missing, of size bytes at most and
// ending at a multiple of size. At the span's open end less than that is left alone
// until the window has moved on; n is 0 then.
func (r *Reader) pick(s span, size int64) (off, n int64) {
	if s.back {
		start, end, ok := r.pieces.lastGap(s.off, s.end())
		if !ok || start == s.off && !s.closed && end-start < size {
			return 0, 0
		}
		start = max(start, (end-1)/size*size)
		return start, end - start
	}
	start, end, ok := r.pieces.gap(s.off, s.end())
	if !ok || end == s.end() && !s.closed && end-start < size {
		return 0, 0
	}
	end = min(end, (start/size+1)*size)
	return start, end - start
}

// unit returns the length of one request, a power of two: as many as there are streams,
// two at least, fit into the window; once they are 2 MiB long, twice as many, so that
// there is something to read while they are on the way.
func unit(window, streams, most int64) int64 {
	each := window / max(streams, 2)
	each = min(each, max(2<<20, each/2), most)
	return 1 << (bits.Len64(uint64(max(each, minPiece))) - 1)
}

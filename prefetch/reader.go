package prefetch

import (
	"cmp"
	"context"
	"errors"
	"io"
	"sync"

	"github.com/meshmount/meshmount/remote"
)

// ErrNoMemory is the error of View when the budget has no memory left for the bytes.
// ReadAt, which brings its own, works nevertheless.
var ErrNoMemory = errors.New("prefetch: memory budget is used up")

// Reader reads one version of one file, for one handle. All methods may be called from
// many goroutines at once.
type Reader struct {
	p       *Prefetcher
	src     Source
	local   Local // src, if it is one
	ref     remote.Ref
	account *account
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	work    sync.WaitGroup // fetches; added to under mu while not closed

	mu      sync.Mutex // guards everything below
	closed  bool
	size    int64 // -1 if unknown
	window  *window
	climb   climber
	pieces  pieces
	spans   []span // the plan, reused
	onWay   int    // pieces on the way ahead
	queued  bool   // among those who wait for a lane
	paused  bool   // a fetch ahead failed, and no read has succeeded since
	changed error  // the version is gone; sticky
	stats   Stats
}

// Stats counts what a Reader did.
type Stats struct {
	Reads    int64 // calls of ReadAt and View
	Waits    int64 // of these, calls that found something missing
	Local    int64 // of these, calls that a Local served
	Demanded int64 // bytes asked for because a read waited
	Ahead    int64 // bytes asked for ahead
	Requests int64 // to the Source
	Unused   int64 // bytes fetched ahead that were thrown away without being read
}

// Stats returns the counts so far.
func (r *Reader) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}

// ReadAt fills p from offset off, as remote.Backend.ReadAt does: len(p) bytes, or those
// up to the end of the file and io.EOF, or an error with the bytes before it. When ctx
// ends, this wait ends and a fetch that others share goes on. Errors: those of the
// Source; remote.Changed, from then on for all that is not fetched yet;
// remote.BadHandle after Close.
func (r *Reader) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if n, ok := r.readLocal(p, off); ok {
		return n, eofIf(n < len(p))
	}
	h, err := r.hold(off, int64(len(p)))
	if err != nil {
		return 0, err
	}
	defer r.drop(h.parts)
	n := 0
	for _, part := range h.parts {
		m, err := r.fill(ctx, p[n:n+int(part.n)], part)
		n += m
		if err != nil {
			return n, err
		}
	}
	if h.eof {
		return n, io.EOF
	}
	return n, nil
}

// View returns up to n bytes at off without copying them: fewer than n when they lie in
// several pieces or the file ends. At the end of the file it returns none and io.EOF.
// The slice must not be changed, and stays as it is until release is called, once;
// release is never nil. Errors are those of ReadAt, and ErrNoMemory.
func (r *Reader) View(ctx context.Context, off, n int64) (data []byte, release func(), err error) {
	nothing := func() {}
	for {
		h, err := r.hold(off, n)
		if err != nil {
			return nil, nothing, err
		}
		if len(h.parts) == 0 {
			return nil, nothing, eofIf(h.eof)
		}
		first := h.parts[0]
		r.drop(h.parts[1:])
		if first.piece == nil {
			return nil, nothing, cmp.Or(r.gone(), ErrNoMemory)
		}
		data, err := r.await(ctx, first)
		if err == nil && len(data) > 0 {
			return data, sync.OnceFunc(func() { r.drop([]part{first}) }), nil
		}
		r.drop([]part{first})
		if err == nil {
			return nil, nothing, io.EOF
		}
		if first.own || ctx.Err() != nil || r.ctx.Err() != nil {
			return nil, nothing, err
		}
	}
}

// Lend is View for a read whose bytes one piece has, or has on its way: all n of them, or
// those up to the end of the file. Else ok is false and nothing has happened: ReadAt is
// the better way.
func (r *Reader) Lend(ctx context.Context, off, n int64) (data []byte, release func(), ok bool) {
	end := off + n
	r.mu.Lock()
	if r.size >= 0 {
		end = min(end, r.size)
	}
	if off >= 0 && off < end && !r.closed {
		pc, until := r.pieces.at(off, end)
		ok = pc != nil && !pc.here && until == end
	}
	r.mu.Unlock()
	if !ok {
		return nil, nil, false
	}
	h, err := r.hold(off, n)
	if err != nil || len(h.parts) == 0 {
		return nil, nil, false // ReadAt says why
	}
	first := h.parts[0]
	r.drop(h.parts[1:])
	if first.piece != nil && first.n == end-off {
		data, err = r.await(ctx, first)
	}
	if err != nil || int64(len(data)) < end-off {
		r.drop([]part{first})
		return nil, nil, false
	}
	return data, sync.OnceFunc(func() { r.drop([]part{first}) }), true
}

// gone returns the error that says so when the version is gone, or nil.
func (r *Reader) gone() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

// eofIf returns io.EOF if the file ends.
func eofIf(end bool) error {
	if end {
		return io.EOF
	}
	return nil
}

// part is a stretch of one read and the piece that has it: none if there was no memory.
type part struct {
	off, n int64
	piece  *piece
	own    bool // the piece was asked for by this read
}

// held is what a read has to wait for or to copy.
type held struct {
	parts []part
	eof   bool // the read reaches beyond the end of the file
}

// hold takes note of a read, asks for what is missing, plans ahead, and returns the
// parts of the read. Each must be dropped.
func (r *Reader) hold(off, n int64) (held, error) {
	if off < 0 {
		return held{}, r.fault(remote.Invalid, "negative offset")
	}
	r.account.touch()
	share := r.account.share()
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return held{}, r.fault(remote.BadHandle, "reader is closed")
	}
	r.stats.Reads++
	n, eof := r.clip(off, n)
	h := held{eof: eof}
	h.parts = r.cover(off, n)
	r.observe(off, n, share, h.parts)
	short := r.pump(false)
	for _, part := range h.parts {
		if part.piece == nil && r.changed == nil {
			short = max(short, min(part.n, largest))
		}
	}
	r.mu.Unlock()
	r.refill(short)
	return h, nil
}

// readLocal serves a read from what is at hand, unless its bytes are in memory or on the
// way to it.
func (r *Reader) readLocal(p []byte, off int64) (int, bool) {
	if r.local == nil || off < 0 || len(p) == 0 {
		return 0, false
	}
	r.mu.Lock()
	pc, _ := r.pieces.at(off, off+int64(len(p)))
	skip := r.closed || pc != nil && !pc.here || r.size >= 0 && off >= r.size
	r.mu.Unlock()
	if skip {
		return 0, false
	}
	n, ok := r.local.ReadLocal(r.ref, p, off)
	if !ok {
		return 0, false
	}
	r.account.touch()
	share := r.account.share()
	r.mu.Lock()
	r.stats.Reads++
	r.stats.Local++
	r.observe(off, int64(n), share, nil)
	short := r.pump(false)
	r.mu.Unlock()
	r.refill(short)
	return n, true
}

// forgetHere removes the notes about bytes that are at hand from a range: who comes here
// has found that they are not.
func (r *Reader) forgetHere(off, end int64) {
	for i := r.pieces.from(off); i < len(r.pieces) && r.pieces[i].off < end; {
		if r.pieces[i].here {
			r.pieces.remove(r.pieces[i])
		} else {
			i++
		}
	}
}

// clip cuts a read at the end of the file.
func (r *Reader) clip(off, n int64) (int64, bool) {
	if r.size < 0 || off+n <= r.size {
		return n, false
	}
	return max(r.size-off, 0), true
}

// cover returns the parts of a read, each with a reference to its piece, and asks for
// what has none.
func (r *Reader) cover(off, n int64) []part {
	parts := make([]part, 0, 2)
	r.forgetHere(off, off+n)
	for end := off + n; off < end; {
		pc, until := r.pieces.at(off, end)
		own := pc == nil
		if own {
			until = min(until, off+r.p.opts.MaxRequest)
			pc = r.demand(off, until)
		}
		if pc != nil {
			pc.refs++
			pc.used = true
		}
		parts = append(parts, part{off: off, n: until - off, piece: pc, own: own})
		off = until
	}
	return parts
}

// observe feeds the window with a read and throws away what it no longer wants.
func (r *Reader) observe(off, n, share int64, parts []part) {
	stalled := false
	for _, part := range parts {
		stalled = stalled || part.piece == nil || !part.piece.arrived()
	}
	if stalled {
		r.stats.Waits++
		r.climb.wait()
	}
	r.window.setMax(min(r.p.opts.MaxWindow, share))
	r.window.read(off, n, stalled)
	r.p.learn(r.window.peak, r.climb.n)
	r.sweep()
}

// fill copies one part to p, or reads it straight into p if nobody else could.
func (r *Reader) fill(ctx context.Context, p []byte, part part) (int, error) {
	if part.piece == nil {
		return r.direct(ctx, p, part.off)
	}
	data, err := r.await(ctx, part)
	switch {
	case err == nil && len(data) < len(p):
		return copy(p, data), io.EOF
	case err == nil:
		return copy(p, data), nil
	case part.own || ctx.Err() != nil || r.ctx.Err() != nil:
		return 0, err
	}
	return r.direct(ctx, p, part.off) // what somebody else asked for has failed
}

// await waits for a part and returns its bytes: fewer than wanted at the end of a file
// whose size was not known.
func (r *Reader) await(ctx context.Context, part part) ([]byte, error) {
	pc := part.piece
	select {
	case <-pc.done:
	default:
		select {
		case <-pc.done:
		case <-ctx.Done():
			return nil, remote.ContextErr(ctx)
		case <-r.ctx.Done():
			return nil, r.fault(remote.BadHandle, "reader was closed")
		}
	}
	if pc.err != nil {
		return nil, r.told(pc.err)
	}
	from := part.off - pc.off
	return pc.buf[min(from, pc.got):min(from+part.n, pc.got)], nil
}

// told turns the error of a fetch that Close ended into that of a closed handle.
func (r *Reader) told(err error) error {
	if r.ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return r.fault(remote.BadHandle, "reader was closed")
	}
	return err
}

// drop gives back the references of a read.
func (r *Reader) drop(parts []part) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, part := range parts {
		if part.piece != nil {
			r.unref(part.piece)
		}
	}
}

// unref gives back one reference and frees a piece that nobody needs.
func (r *Reader) unref(pc *piece) {
	pc.refs--
	if pc.refs > 0 || !r.closed && pc.listed && r.window.near(pc.off, pc.n) {
		return
	}
	r.free(pc)
}

// free gives the memory of a piece back. It must have no reference.
func (r *Reader) free(pc *piece) {
	r.pieces.remove(pc)
	if pc.buf != nil {
		r.account.put(pc.buf)
		pc.buf = nil
	}
	if pc.ahead && !pc.used {
		r.stats.Unused += pc.got
	}
}

// sweep frees what the window no longer wants, and ends fetches ahead of that kind.
func (r *Reader) sweep() {
	for i := len(r.pieces) - 1; i >= 0; i-- {
		pc := r.pieces[i]
		if r.window.near(pc.off, pc.n) {
			continue
		}
		switch {
		case pc.refs == 0:
			r.free(pc)
		case pc.refs == 1 && pc.ahead && !pc.arrived():
			r.pieces.remove(pc)
			pc.cancel()
		}
	}
}

// spare is called by the budget when others need the memory: everything that is not in
// use goes.
func (r *Reader) spare() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := len(r.pieces) - 1; i >= 0; i-- {
		if pc := r.pieces[i]; pc.refs == 0 {
			r.free(pc)
		}
	}
}

// Close ends the reader's fetches and waits for them. Reads in flight fail with
// remote.BadHandle. Slices from View stay good until they are released. It never fails.
func (r *Reader) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cancel()
	r.p.lanes.leave(r)
	r.work.Wait()
	r.spare()
	r.account.leave()
	r.p.forget(r)
	return nil
}

// fault returns an error of the handle's own.
func (r *Reader) fault(kind remote.Kind, why string) error {
	return &remote.Error{Op: "read", Path: r.ref.Path, Kind: kind, Err: errors.New(why)}
}

package prefetch

import "slices"

// Bounds of the window's judgement.
const (
	// behind is how far back of a stream's position bytes are kept: two requests of
	// the kernel, which may come swapped, or two of the length that it asks for.
	behind = 256 << 10
	// nearby is how far back of a stream's position a read still belongs to it, or four
	// times the length of its reads.
	nearby = 1 << 20
	// eager is the length from which a first read at offset 0 is taken for the start
	// of a sequential one. A shorter one may be a look at the file's header.
	eager = 64 << 10
	// guess is how much is fetched ahead after such a read, until a second one proves
	// the guess right.
	guess = 256 << 10
	// maxStreams is how many streams on one handle are told apart.
	maxStreams = 8
	// stale is how many reads elsewhere end a stream.
	stale = 64
	// maxBlocks bounds the blocks fetched ahead of a strided reader.
	maxBlocks = 64
)

// pattern is what the latest reads look like.
type pattern uint8

const (
	unknown pattern = iota
	forward
	backward
	strided
	random
)

func (p pattern) String() string {
	return [...]string{"unknown", "forward", "backward", "strided", "random"}[p]
}

// span is a stretch of a file, in bytes, that is worth fetching ahead.
type span struct {
	off, len int64
	window   int64 // of the stream that it belongs to; pieces are sized by it
	dist     int64 // bytes that the reader will read before it gets here
	back     bool  // the reader comes from the end
	closed   bool  // nothing beyond its far end is wanted
}

func (s span) end() int64 { return s.off + s.len }

// window watches the reads of one handle and plans what to fetch ahead. It has no
// clock, no lock and no goroutine: the Reader calls it under its own lock.
type window struct {
	size       int64 // of the file; -1 if unknown
	start, max int64 // bounds of the bytes ahead; max is for all streams together
	tick       int   // counts reads
	known      int64 // window that other files have needed, 0 if none
	peak       int64 // largest window that a wait has called for
	misses     int   // latest reads in a row that continued nothing
	streams    []stream
	stride     stride
	seen       pattern
}

// newWindow returns the window of a handle on a file of the given size (-1 if
// unknown), that starts with start bytes and never plans more than limit.
func newWindow(size, start, limit int64) *window {
	return &window{size: size, start: min(start, limit), max: limit}
}

// setMax changes the bound on the bytes ahead, for all streams together: this is how
// the memory's state gets here. 0 plans nothing.
func (w *window) setMax(limit int64) { w.max = max(limit, 0) }

// limit tells that the file has size bytes at most.
func (w *window) limit(size int64) {
	if w.size < 0 || size < w.size {
		w.size = size
	}
}

// read takes note of one read of length bytes at off. stalled says that not all of it
// was there, so that the reader has to wait.
func (w *window) read(off, length int64, stalled bool) {
	if length <= 0 {
		return
	}
	w.tick++
	if s := w.match(off, length); s != nil {
		w.misses = 0
		s.take(w, off, length, stalled)
		w.stride.extended(s)
		w.seen = s.pattern()
		if w.stride.active() {
			w.seen = strided
		}
		return
	}
	w.begin(off, length, stalled)
}

// begin takes note of a read that continues no stream.
func (w *window) begin(off, length int64, stalled bool) {
	w.stride.begin(off, length, stalled)
	switch {
	case w.stride.active():
		w.misses, w.seen = 0, strided
	default:
		w.misses++
		w.seen = unknown
	}
	if w.misses >= 2 {
		w.seen = random
		w.shrink()
	}
	s := stream{low: off, high: off + length, last: length, tick: w.tick}
	if off == 0 && length >= eager && w.tick == 1 {
		s.confirm(w, +1)
		s.window = min(s.window, guess)
		w.seen = forward
	}
	w.add(s)
}

// shrink halves all windows, down to the start.
func (w *window) shrink() {
	for i := range w.streams {
		s := &w.streams[i]
		s.window = max(min(s.window, w.start), s.window/2)
	}
}

// match returns the stream that a read continues, the latest if there are several.
func (w *window) match(off, length int64) *stream {
	var best *stream
	for i := range w.streams {
		s := &w.streams[i]
		if s.takes(off, length) && (best == nil || s.tick > best.tick) {
			best = s
		}
	}
	return best
}

// add puts s among the streams, in the place of the one least likely to go on.
func (w *window) add(s stream) {
	if len(w.streams) < maxStreams {
		w.streams = append(w.streams, s)
		return
	}
	worth := func(s stream) int {
		if s.dir != 0 {
			return s.tick + 2*maxStreams
		}
		return s.tick
	}
	oldest := 0
	for i := range w.streams {
		if worth(w.streams[i]) < worth(w.streams[oldest]) {
			oldest = i
		}
	}
	w.streams[oldest] = s
}

// plan appends to dst what to fetch ahead, without regard to what is there already.
// Nothing of it overlaps the file's end.
func (w *window) plan(dst []span) []span {
	live := 0
	for i := range w.streams {
		if w.ahead(&w.streams[i]) {
			live++
		}
	}
	for i := range w.streams {
		if s := &w.streams[i]; w.ahead(s) {
			dst = w.clip(dst, s.plan(min(s.window, w.max/int64(live))))
		}
	}
	for k := range w.stride.ahead(w.max) {
		dst = w.clip(dst, w.stride.block(k))
	}
	return dst
}

// ahead tells whether the stream is to be fetched ahead on its own account.
func (w *window) ahead(s *stream) bool {
	return s.dir != 0 && w.tick-s.tick <= stale && !w.stride.covers(s)
}

// clip appends the part of s that lies in the file.
func (w *window) clip(dst []span, s span) []span {
	if s.off < 0 {
		s.len += s.off
		s.off, s.closed = 0, true
	}
	if w.size >= 0 && s.end() >= w.size {
		s.len = w.size - s.off
		s.closed = s.closed || !s.back
	}
	if s.len <= 0 {
		return dst
	}
	return append(dst, s)
}

// near tells whether bytes of the range are likely to be asked for: everything else
// can be thrown away.
func (w *window) near(off, length int64) bool {
	return w.stride.near(off, length) || slices.ContainsFunc(w.streams, func(s stream) bool {
		if s.tick != w.tick && (s.dir == 0 || w.tick-s.tick > stale) {
			return false
		}
		from, to := s.keeps()
		return off < to && off+length > from
	})
}

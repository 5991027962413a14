package prefetch

// stream is one sequence of adjacent reads.
type stream struct {
	low, high int64 // what the reads have covered
	last      int64 // length of the latest read
	dir       int   // +1 forward, -1 backward, 0 not known yet
	turns     int   // reads in a row that went against dir
	tick      int   // of the latest read
	window    int64 // bytes to be ahead
	// mark is the position from which a wait counts: what lies before it was asked
	// for before the window last grew, and tells nothing of the present window.
	mark int64
	// front is the farthest position that was ever planned.
	front int64
}

func (s *stream) pattern() pattern {
	switch s.dir {
	case +1:
		return forward
	case -1:
		return backward
	}
	return unknown
}

// takes tells whether a read continues the stream: it is adjacent, or leaves out not
// more than one read (the one that it was swapped with), or repeats what was read a
// moment ago.
func (s *stream) takes(off, length int64) bool {
	end, gap := off+length, max(length, s.last)
	near := max(nearby, 4*s.last)
	up := off >= max(s.low, s.high-near) && off <= s.high+gap
	down := end <= min(s.high, s.low+near) && end >= s.low-gap
	switch s.dir {
	case +1:
		return up
	case -1:
		return down || (off >= s.low && off < s.low+near && off < s.high)
	}
	return up || down
}

// take moves the stream by a read that it takes.
func (s *stream) take(w *window, off, length int64, stalled bool) {
	end := off + length
	up, down := end > s.high, off < s.low
	planned := s.far(min(s.window, w.max))
	s.low, s.high = min(s.low, off), max(s.high, end)
	s.last, s.tick = length, w.tick
	s.steer(w, up, down)
	if s.dir == 0 {
		return
	}
	s.window = max(s.window, w.start)
	if !stalled || !s.beyond(off, end) {
		return
	}
	s.mark = planned
	s.window = min(max(2*s.window, w.known), max(w.max, s.window))
	w.peak = max(w.peak, s.window)
}

// steer finds the direction. Forward needs one step, backward two, because the first
// two requests of a forward reader may come swapped.
func (s *stream) steer(w *window, up, down bool) {
	switch {
	case s.dir == 0 && (up || down && s.low == 0):
		s.confirm(w, +1)
	case s.dir == 0 && down:
		if s.turns++; s.turns >= 2 {
			s.confirm(w, -1)
		}
	case s.dir == -1 && up:
		if s.turns++; s.turns >= 2 {
			s.confirm(w, +1)
		}
	case s.dir == -1 && down:
		s.turns = 0
	}
}

// confirm gives the stream its direction and its first window.
func (s *stream) confirm(w *window, dir int) {
	s.dir, s.turns, s.window = dir, 0, w.start
	s.mark = s.far(0)
	s.front = s.mark
}

// far is the position distance bytes ahead.
func (s *stream) far(distance int64) int64 {
	if s.dir < 0 {
		return s.low - distance
	}
	return s.high + distance
}

// beyond tells whether a read lies on the far side of the mark.
func (s *stream) beyond(off, end int64) bool {
	if s.dir < 0 {
		return end <= s.mark
	}
	return off >= s.mark
}

// plan returns the span of the given length ahead of the stream.
func (s *stream) plan(length int64) span {
	p := span{off: s.high, len: length, window: length}
	if s.dir < 0 {
		p.off, p.back = s.low-length, true
		s.front = min(s.front, p.off)
	} else {
		s.front = max(s.front, p.end())
	}
	return p
}

// keeps returns the range that is worth keeping.
func (s *stream) keeps() (from, to int64) {
	back := max(behind, 2*s.last)
	switch s.dir {
	case +1:
		return s.high - back, max(s.front, s.high)
	case -1:
		return min(s.front, s.low), s.low + back
	}
	return s.low, s.high
}

// stride recognises blocks of one length at one distance, forward or backward. A block
// may be read by several requests.
type stride struct {
	start, len int64 // of the latest block
	step       int64 // from the block before it to the latest
	equal      int   // steps in a row that were the same, over blocks of one length
	runs       int   // blocks seen
	full       int64 // length of the blocks before the latest
	blocks     int   // to be ahead
	mark       int   // value of equal from which a wait counts
}

// active tells whether the pattern is established: three blocks at one distance.
func (t *stride) active() bool { return t.equal >= 1 }

// begin takes note of a read that starts a block.
func (t *stride) begin(off, length int64, stalled bool) {
	step, full := off-t.start, t.len
	same := t.runs >= 2 && step == t.step && full == t.full
	t.start, t.len, t.step, t.full = off, length, step, full
	t.runs++
	if !same || step == 0 {
		t.runs, t.equal = min(t.runs, 2), 0
		return
	}
	switch t.equal++; {
	case t.equal == 1:
		t.blocks, t.mark = 2, 2
	case stalled && t.equal >= t.mark:
		t.mark = t.equal + t.blocks
		t.blocks = min(2*t.blocks, maxBlocks)
	}
}

// extended takes note of a read that went to the stream s. If that has outgrown the
// latest block, the blocks have no common length and the pattern is over.
func (t *stride) extended(s *stream) {
	if t.runs == 0 || !(s.low <= t.start && s.high > t.start) {
		return
	}
	t.len = max(t.len, s.high-t.start)
	if t.equal > 0 && t.len > t.full {
		t.equal, t.runs = 0, 1
	}
}

// covers tells whether the stream is no more than one of the blocks.
func (t *stride) covers(s *stream) bool { return t.active() && s.high-s.low <= t.full }

// ahead returns how many blocks to plan when limit bytes may be ahead, with the rest
// of the latest one as the first.
func (t *stride) ahead(limit int64) int {
	if !t.active() {
		return 0
	}
	return int(min(int64(t.blocks)+1, limit/max(t.full, 1)))
}

// block returns the k-th block from the latest, which is number 0.
func (t *stride) block(k int) span {
	off := t.start + int64(k)*t.step
	return span{off: off, len: t.full, window: t.full, dist: int64(k) * t.full, closed: true}
}

// near tells whether the range touches a block that is planned.
func (t *stride) near(off, length int64) bool {
	if !t.active() {
		return false
	}
	for k := range t.blocks + 1 {
		if b := t.block(k); off < b.end() && off+length > b.off {
			return true
		}
	}
	return false
}

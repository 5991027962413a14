package foreign

import (
	"context"
	"io"

	"github.com/meshmount/meshmount/remote"
)

// Sizes of requests, in bytes.
const (
	firstWindow = 64 << 10
	leastWindow = 8 << 10
	mostWindow  = 4 << 20
	// shortGap is what is cheaper to read than to skip by a request of its own.
	shortGap = 256 << 10
)

// What the walk through a tar may take, in requests and in bytes: some minutes.
const (
	MaxTarRequests = 50_000
	MaxTarBytes    = 4 << 30
)

// stride says how much to read at a time of an archive of which only some places are
// wanted, in order. Where they lie close together, requests double, and nearly all is read:
// a request costs as much time as some hundred kibibytes. Where they lie far apart, only
// a little is read at each.
type stride struct{ last int }

// next returns the size of the next request; gap is what lies between the end of the one
// before and its beginning, negative if that is before it.
func (s *stride) next(gap int64) int {
	switch {
	case s.last == 0:
		s.last = firstWindow
	case gap >= 0 && gap <= shortGap:
		s.last = min(2*s.last, mostWindow)
	default:
		s.last = leastWindow
	}
	return s.last
}

// walker reads an archive through a window that moves with it. It is an io.ReadSeeker for
// one goroutine.
type walker struct {
	ctx      context.Context
	src      Ranged
	pos      int64
	stride   stride
	win      []byte
	at       int64 // where win begins
	requests int
	moved    int64 // bytes
	bounded  bool  // by MaxTarRequests and MaxTarBytes
	err      error // the last error of src
}

// Read implements io.Reader.
func (w *walker) Read(p []byte) (int, error) {
	if w.pos >= w.src.Size {
		return 0, io.EOF
	}
	if w.pos < w.at || w.pos >= w.at+int64(len(w.win)) {
		if w.err = w.move(); w.err != nil {
			return 0, w.err
		}
	}
	n := copy(p, w.win[w.pos-w.at:])
	w.pos += int64(n)
	return n, nil
}

// move puts the window where the position is.
func (w *walker) move() error {
	size := w.stride.next(w.pos - w.at - int64(len(w.win)))
	size = int(min(int64(size), w.src.Size-w.pos))
	if cap(w.win) < size {
		w.win = make([]byte, size)
	}
	w.win, w.at = w.win[:size], w.pos
	w.requests++
	w.moved += int64(size)
	if w.bounded && (w.requests > MaxTarRequests || w.moved > MaxTarBytes) {
		w.win = w.win[:0]
		return &FormatError{remote.TooLarge, "the tar archive has too many members to look at each; a zip has a directory"}
	}
	if err := w.src.Read(w.ctx, w.win, w.pos); err != nil {
		w.win = w.win[:0]
		return err
	}
	return nil
}

// Seek implements io.Seeker. Places beyond the end are allowed; nothing is there.
func (w *walker) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += w.pos
	case io.SeekEnd:
		offset += w.src.Size
	}
	if offset < 0 {
		return w.pos, damaged("a place before the beginning")
	}
	w.pos = offset
	return offset, nil
}

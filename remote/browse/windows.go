package browse

import (
	"context"
	"math"
	"slices"
	"sync"

	"github.com/meshmount/meshmount/remote"
)

// Many small members lie side by side in an archive, and programs read them in that order
// more often than not. Then one request brings many: what is asked for right behind what
// was asked for before is read through a window, as large as twice what was read so.
const (
	maxWindows  = 4 // archives at a time
	leastWindow = 256 << 10
	mostWindow  = 2 << 20
	// windowGap is the most that may lie between two reads that are in order, in bytes.
	windowGap = 64 << 10
)

// windows are the places where archives are being read in order.
type windows struct {
	mu  sync.Mutex // guards all, and the fields of each window that say so
	all []*window  // last used last
}

// window is a part of an archive.
type window struct {
	id   ident
	from int64         // guarded by windows.mu: the beginning of the last read
	last int64         // guarded by windows.mu: its end
	run  int64         // guarded by windows.mu: where reads in order began
	busy chan struct{} // of one element, which who uses the fields below has taken
	at   int64
	buf  []byte
}

// read fills p from an offset of an archive.
func (ws *windows) read(ctx context.Context, b *Backend, x *index, p []byte, off int64) error {
	w, run := ws.find(x, off, len(p))
	if w == nil || len(p) > leastWindow {
		return b.fetch(ctx, x.ref(), p, off)
	}
	if run > 0 { // whoever has it may be bringing just this
		select {
		case w.busy <- struct{}{}:
		case <-ctx.Done():
			return remote.ContextErr(ctx)
		}
		defer func() { <-w.busy }()
		return w.fill(ctx, b, x, p, off, 2*run)
	}
	if w.has(p, off) {
		return nil
	}
	return b.fetch(ctx, x.ref(), p, off)
}

// has fills p if it is in the window and nobody has that.
func (w *window) has(p []byte, off int64) bool {
	select {
	case w.busy <- struct{}{}:
	default:
		return false
	}
	defer func() { <-w.busy }()
	if !w.holds(p, off) {
		return false
	}
	copy(p, w.buf[off-w.at:])
	return true
}

// find returns the window of an archive, and how much was read in order up to that, 0 if
// this read does not go on there; nil if bytes of that version must not be used again.
func (ws *windows) find(x *index, off int64, n int) (w *window, run int64) {
	if x.provisional {
		return nil, 0
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if i := slices.IndexFunc(ws.all, func(w *window) bool { return w.id == x.ident }); i >= 0 {
		w = ws.all[i]
		ws.all = slices.Delete(ws.all, i, i+1)
	} else {
		w = &window{id: x.ident, from: math.MaxInt64, busy: make(chan struct{}, 1)}
	}
	if len(ws.all) == maxWindows {
		ws.all = slices.Delete(ws.all, 0, 1)
	}
	ws.all = append(ws.all, w)
	// What is read of a member with its header may reach into the next.
	if off > w.from && off <= w.last+windowGap {
		run = off - w.run
	} else {
		w.run = off
	}
	w.from, w.last = off, off+int64(n)
	return w, run
}

// holds tells whether all of that is in the window.
func (w *window) holds(p []byte, off int64) bool {
	return off >= w.at && off+int64(len(p)) <= w.at+int64(len(w.buf))
}

// fill fills p, and puts a window of about that size there if it is elsewhere.
func (w *window) fill(ctx context.Context, b *Backend, x *index, p []byte, off, size int64) error {
	if !w.holds(p, off) {
		n := min(min(max(size, leastWindow), mostWindow), x.size-off)
		if int64(cap(w.buf)) < n {
			w.buf = make([]byte, n)
		}
		w.buf, w.at = w.buf[:n], off
		if err := b.fetch(ctx, x.ref(), w.buf, off); err != nil {
			w.buf = w.buf[:0]
			return err
		}
	}
	copy(p, w.buf[off-w.at:])
	return nil
}

package keep

import (
	"context"
	"io"

	"github.com/meshmount/meshmount/remote"
)

// Who reads several members of an archive probably reads more of them: then they come many
// at a time, in windows of the archive's file.
const (
	windowSize = 1 << 20
	maxWindows = 12 // that are kept; so many MiB of memory at most
	hot        = 3  // reads of members after which windows are read
)

// spot names a window of an archive.
type spot struct {
	archive string // key of its file
	number  int64
}

// window is a part of an archive's file, read once for all who wait for it.
type window struct {
	done chan struct{} // closed when data is there, or nil for good
	data []byte
}

// fromWindow fills p from offset off of an archive's file, if that lies in one window and
// members of the archive are being read in numbers. It is false if p is to be read alone.
func (k *Backend) fromWindow(ctx context.Context, e *remote.Entry, p []byte, off int64) bool {
	at := spot{key(*e), off / windowSize}
	if e.Version == "" || !k.inner.Caps().Ranges || len(p) == 0 || (off+int64(len(p))-1)/windowSize != at.number {
		return false
	}
	w, mine := k.window(at)
	switch {
	case w == nil:
		return false
	case mine:
		k.fetch(ctx, e, at, w)
	}
	select {
	case <-w.done:
	case <-ctx.Done():
		return false
	}
	from := off - at.number*windowSize
	if ctx.Err() != nil || int64(len(w.data)) < from+int64(len(p)) {
		return false
	}
	copy(p, w.data[from:])
	return true
}

// window returns a window, and whether the caller is to read it; nil if the archive is not
// read in numbers, or the backend is closed.
func (k *Backend) window(at spot) (w *window, mine bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if w := k.windows[at]; w != nil || k.closed {
		return w, false
	}
	if len(k.reads) > maxViews {
		clear(k.reads)
	}
	if k.reads[at.archive]++; k.reads[at.archive] <= hot {
		return nil, false
	}
	for old := range k.windows {
		if len(k.windows) < maxWindows {
			break
		}
		delete(k.windows, old)
	}
	w = &window{done: make(chan struct{})}
	k.windows[at] = w
	return w, true
}

// fetch reads a window. If that fails, it is forgotten, and each reads what it wants alone.
func (k *Backend) fetch(ctx context.Context, e *remote.Entry, at spot, w *window) {
	defer close(w.done)
	from := at.number * windowSize
	data := make([]byte, min(windowSize, e.Size-from))
	n, err := k.inner.ReadAt(ctx, remote.Ref{Path: e.Path, Version: e.Version, Size: e.Size}, data, from)
	if n == len(data) && (err == nil || err == io.EOF) {
		w.data = data
		return
	}
	k.forgetWindow(at)
}

// forgetWindow drops a window.
func (k *Backend) forgetWindow(at spot) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.windows, at)
}

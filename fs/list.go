package fs

import (
	"bufio"
	"context"
	"encoding/gob"
	"errors"
	"io"
	"os"
	"sync"

	"github.com/meshmount/meshmount/cache/writeback"
	"github.com/meshmount/meshmount/remote"
)

// notifyEvery is how many entries of a listing arrive before its readers are woken.
const notifyEvery = 128

// dirFetch is one listing on its way from the server. It is drained as fast as the
// server sends, whatever its readers do: a program that pauses between two entries
// must not hold a connection. The first maxKeepDir entries stay in memory, the rest
// go to a file, so that memory does not grow with the directory.
type dirFetch struct {
	origin
	cancel context.CancelFunc
	ahead  bool // runs to its end, whoever waits for it

	mu      sync.Mutex
	most    int            // guarded by mu; names after which it is given up, 0 if it is not
	given   bool           // guarded by mu; it is given up
	read    bool           // guarded by mu; a program reads it
	entries []remote.Entry // guarded by mu
	spool   *os.File       // guarded by mu; nil while all entries fit
	spooled int64          // guarded by mu; bytes in spool that can be read
	done    bool           // guarded by mu
	err     error          // guarded by mu; why it ended early
	more    chan struct{}  // guarded by mu; closed at the next change of the above
	readers int            // guarded by mu
}

// fetchDir returns the listing of rel that is under way, if it is young enough, or
// starts one. The caller leaves it in the end.
func (f *FS) fetchDir(ctx context.Context, b *branch, rel string) *dirFetch {
	return f.fetch(ctx, b, rel, reading, false)
}

// reading is the bound of a listing that a program reads: none.
const reading = -1

// fetch is fetchDir. One that is ahead has no readers as yet, and nobody to leave it. One
// that finds more than most names, if that is not 0, is given up, unless somebody else has
// joined.
func (f *FS) fetch(ctx context.Context, b *branch, rel string, most int, ahead bool) *dirFetch {
	b.meta.awaitMark(ctx)
	o := b.meta.asking(rel)
	b.fetchMu.Lock()
	defer b.fetchMu.Unlock()
	if d, ok := b.fetches[rel]; ok && d.mark == o.mark && o.at.Sub(d.at) < b.DirTTL && (ahead || d.join(most)) {
		b.meta.answered(rel, o)
		return d
	}
	d := &dirFetch{origin: o, ahead: ahead, most: max(most, 0), read: most == reading, more: make(chan struct{})}
	if !ahead {
		d.readers = 1
	}
	b.fetches[rel] = d
	d.cancel = f.detach(ctx, func(ctx context.Context) {
		d.run(ctx, f, b, rel)
		b.fetchMu.Lock()
		defer b.fetchMu.Unlock()
		if b.fetches[rel] == d {
			delete(b.fetches, rel)
		}
	})
	return d
}

// list asks the server for a directory and waits until the answer is known. If it has more
// than most names, that may fail; 0 is any number.
func (f *FS) list(ctx context.Context, b *branch, rel string, most int) error {
	d := f.fetch(ctx, b, rel, most, false)
	defer d.leave()
	return d.wait(ctx)
}

// wait waits for the end of the listing.
func (d *dirFetch) wait(ctx context.Context) error {
	for {
		d.mu.Lock()
		done, err, more := d.done, d.err, d.more
		d.mu.Unlock()
		if done {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-more:
		}
	}
}

// join takes part in a listing for which most names are not too many, 0 being any number.
func (d *dirFetch) join(most int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.readers == 0 && (!d.ahead || d.done) || d.err != nil || d.given {
		return false
	}
	d.readers++
	d.read = d.read || most == reading
	if most = max(most, 0); most == 0 || d.most != 0 && d.most < most {
		d.most = most
	}
	return true
}

// leave ends one reader's interest; the last one ends the fetch.
func (d *dirFetch) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.readers--; d.readers > 0 {
		return
	}
	if !d.ahead || d.spool != nil {
		d.cancel()
	}
	if d.done && d.spool != nil {
		_ = d.spool.Close()
	}
}

// How a listing that nobody needs as a whole ends, if it is too large.
var (
	errNobody = errors.New("nobody waits for it")
	errEnough = errors.New("it is too large for those who wait for it")
)

func (d *dirFetch) run(ctx context.Context, f *FS, b *branch, rel string) {
	defer b.meta.answered(rel, d.origin)
	var w spoolWriter
	var changes []change
	err := b.Backend.List(ctx, rel, func(e remote.Entry) error {
		if c, differs := b.meta.seen(e, d.origin); differs && len(changes) < maxChanges {
			changes = append(changes, c)
		}
		if d.giveUp(func() bool { return d.most > 0 && len(d.entries) >= d.most }) {
			return errEnough
		}
		if w.enc == nil {
			if d.add(e) {
				return nil
			}
			if d.giveUp(func() bool { return d.readers == 0 }) {
				return errNobody
			}
			if err := w.open(f.stages); err != nil {
				return local("list", b.abs(rel), err)
			}
			d.mu.Lock()
			d.spool = w.file
			d.mu.Unlock()
		}
		if err := w.enc.Encode(e); err != nil {
			return local("list", b.abs(rel), err)
		}
		if w.n++; w.n%notifyEvery == 0 {
			return local("list", b.abs(rel), w.flush(d))
		}
		return nil
	})
	if err == nil && w.enc != nil {
		err = local("list", b.abs(rel), w.flush(d))
	}
	if err == nil && w.enc == nil && !d.unread() {
		b.ahead.listed(ctx, rel, d.entries)
	}
	b.meta.hear()
	gone := d.finish(b, rel, err)
	f.tellChanges(b, append(changes, gone...))
	if err != nil {
		b.walk.failed(rel)
		return
	}
	f.walked(b, rel, d.entries)
}

// unread tells whether nobody reads a listing that is ahead.
func (d *dirFetch) unread() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.readers == 0
}

// giveUp gives a listing up if so, which is told with mu held: nobody joins it any more.
func (d *dirFetch) giveUp(so func() bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if so() {
		d.given = true
	}
	return d.given
}

// finish records the listing, if it is complete and not too large, and wakes those who
// wait for it. It returns what is gone.
func (d *dirFetch) finish(b *branch, rel string, err error) (gone []change) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done, d.err = true, err; err == nil && d.spool == nil {
		o := d.origin
		o.implied = !d.read && !d.ahead
		gone = b.meta.setListing(rel, d.entries, o)
	} else if err == nil {
		b.Tree.Forget(rel) // it is too large to be kept now
	}
	if d.readers == 0 && d.spool != nil {
		_ = d.spool.Close()
	}
	close(d.more)
	return gone
}

// tellChanges tells the kernel what a listing has shown. Who has a file open is told by
// other means: an open file stays what it was.
func (f *FS) tellChanges(b *branch, all []change) {
	for _, c := range all {
		path := b.abs(c.rel)
		if f.opened(path) == nil {
			f.tell(Invalidation{Path: path, Ino: f.inos.of(path), Content: c.content, Entry: c.name})
		}
	}
}

// add keeps e in memory, or returns false if there are too many already.
func (d *dirFetch) add(e remote.Entry) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.entries) >= maxKeepDir {
		return false
	}
	if d.entries = append(d.entries, e); len(d.entries)%notifyEvery == 0 {
		d.wake()
	}
	return true
}

// wake tells the readers. Guarded by mu.
func (d *dirFetch) wake() {
	close(d.more)
	d.more = make(chan struct{})
}

// spoolWriter appends the entries that do not stay in memory to a nameless file.
type spoolWriter struct {
	file *os.File
	buf  *bufio.Writer
	enc  *gob.Encoder
	size int64
	n    int
}

func (w *spoolWriter) Write(p []byte) (int, error) {
	n, err := w.file.WriteAt(p, w.size)
	w.size += int64(n)
	return n, err
}

func (w *spoolWriter) open(dir *writeback.Stages) (err error) {
	if w.file, err = dir.Temp(); err != nil {
		return err
	}
	w.buf = bufio.NewWriter(w)
	w.enc = gob.NewEncoder(w.buf)
	return nil
}

func (w *spoolWriter) flush(d *dirFetch) error {
	if err := w.buf.Flush(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.spooled = w.size
	d.wake()
	return nil
}

// dirCursor reads the entries of a dirFetch in order.
type dirCursor struct {
	d    *dirFetch
	next int
	off  int64 // in the spool
	dec  *gob.Decoder
}

// Next returns the next entry, or io.EOF.
func (c *dirCursor) Next(ctx context.Context) (remote.Entry, error) {
	for {
		c.d.mu.Lock()
		entries, spool, done, err, more := c.d.entries, c.d.spool, c.d.done, c.d.err, c.d.more
		c.d.mu.Unlock()
		switch {
		case c.next < len(entries):
			c.next++
			return entries[c.next-1], nil
		case spool != nil:
			return c.fromSpool(ctx)
		case done && err != nil:
			return remote.Entry{}, err
		case done:
			return remote.Entry{}, io.EOF
		}
		select {
		case <-ctx.Done():
			return remote.Entry{}, ctx.Err()
		case <-more:
		}
	}
}

func (c *dirCursor) fromSpool(ctx context.Context) (e remote.Entry, err error) {
	if c.dec == nil {
		c.dec = gob.NewDecoder(bufio.NewReader(c))
	}
	// A wait that ends in the middle of an entry would leave the decoder useless:
	// the caller's interrupt is looked at between entries only.
	if ctx.Err() != nil {
		return e, ctx.Err()
	}
	err = c.dec.Decode(&e)
	return e, err
}

// Read gives the decoder what was spooled so far and waits for more.
func (c *dirCursor) Read(p []byte) (int, error) {
	for {
		c.d.mu.Lock()
		spool, size, done, err, more := c.d.spool, c.d.spooled, c.d.done, c.d.err, c.d.more
		c.d.mu.Unlock()
		switch {
		case c.off < size:
			n, err := spool.ReadAt(p[:min(int64(len(p)), size-c.off)], c.off)
			c.off += int64(n)
			return n, err
		case done && err != nil:
			return 0, err
		case done:
			return 0, io.EOF
		}
		<-more
	}
}

func (c *dirCursor) rewind() { *c = dirCursor{d: c.d} }

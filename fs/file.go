package fs

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshmount/meshmount/cache/writeback"
	"github.com/meshmount/meshmount/remote"
)

// file is one open file; see the package documentation for its life and its locks.
type file struct {
	fs  *FS
	b   *branch
	ino uint64

	// content is held by whoever changes the staged bytes, one at a time. Readers need
	// it not: each call of a Stage is atomic.
	content sync.Mutex
	// frozen is closed when the upload of the staged bytes is over; nil without one.
	// Writers wait for that, but not under content.
	frozen chan struct{} // guarded by content

	mu      sync.Mutex
	path    string           // guarded by mu; in the tree
	gone    bool             // guarded by mu; removed or replaced: never to be put
	base    remote.Entry     // guarded by mu; version on the server; zero if none yet
	exists  bool             // guarded by mu; base is on the server
	stage   *writeback.Stage // guarded by mu, set with content held; nil: all bytes are on the server
	dirty   bool             // guarded by mu; stage or attributes differ from the server
	gen     uint64           // guarded by mu; counts changes of content
	size    int64            // guarded by mu
	mtime   time.Time        // guarded by mu
	mode    *uint32          // guarded by mu; permission bits to store, nil: as they are
	setTime bool             // guarded by mu; mtime was set by the program
	failed  error            // guarded by mu; of the last upload, nil after a success or a change
	untold  error            // guarded by mu; a conflict that no close or fsync has reported yet
	puts    uint64           // guarded by mu; counts changes of base
	fresh   time.Time        // guarded by mu; until when base need not be compared with the server's
	setting int              // guarded by mu; changes of attributes under way on the server
	moving  chan struct{}    // guarded by mu; closed when the rename under way is over, nil without one

	// telling is held from the commit of content until it is the base, and by whoever is
	// told what has become of it.
	telling sync.Mutex

	filling chan struct{} // holds a token while somebody runs fill
	used    atomic.Bool   // a handle has read or written

	refs    int  // guarded by FS.mu; handles
	writers int  // guarded by FS.mu; handles that can write
	keep    bool // guarded by FS.mu; the kernel could keep its pages at the first open
}

// newFile returns the file object for path, which is in no table yet.
func (f *FS) newFile(b *branch, path string) *file {
	return &file{fs: f, b: b, path: path, ino: f.inos.of(path), filling: make(chan struct{}, 1)}
}

// local tells whether this mount knows more of the file than the server.
func (x *file) local() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.dirty || !x.exists
}

// pathNow returns the path in the tree.
func (x *file) pathNow() string {
	path, _ := x.where()
	return path
}

func (x *file) where() (path, rel string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.path, x.b.rel(x.path)
}

// entry returns the file as an entry of its branch. Guarded by mu.
func (x *file) entry() remote.Entry {
	e := x.base
	e.Path, e.Type, e.Size, e.MTime = x.b.rel(x.path), remote.File, x.size, x.mtime
	if x.mode != nil {
		e.Mode, e.ModeKnown = *x.mode, true
	}
	return e
}

// attr returns the attributes from memory.
func (x *file) attr() Attr {
	x.mu.Lock()
	defer x.mu.Unlock()
	ttl := x.b.AttrTTL
	if x.exists && !x.dirty && !x.gone {
		ttl = max(0, x.fresh.Sub(x.fs.now()))
	}
	a := x.fs.attr(x.b, x.entry(), ttl)
	a.Ino = x.ino
	if x.gone {
		a.Nlink = 0
	}
	return a
}

// overlay returns the attributes and path if the server does not show the file as
// it is.
func (x *file) overlay() (a Attr, path string, mine bool) {
	if !x.local() {
		return a, "", false
	}
	path, _ = x.where()
	return x.attr(), path, true
}

// sameVersion tells whether e is the version that x is based on.
func (x *file) sameVersion(e remote.Entry) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.isBase(e)
}

// isBase is sameVersion. Guarded by mu.
func (x *file) isBase(e remote.Entry) bool {
	switch {
	case e.Type != remote.File:
		return false
	case e.Version != "" || x.base.Version != "":
		return x.b.sameContent(x.b.rel(x.path), e.Version, x.base.Version)
	}
	return e.Size == x.base.Size && e.MTime.Equal(x.base.MTime)
}

// ref names the base version. Guarded by mu.
func (x *file) ref() remote.Ref {
	return remote.Ref{Path: x.b.rel(x.path), Version: x.base.Version, Size: x.base.Size}
}

// staged returns the staging file, nil if there is none.
func (x *file) staged() *writeback.Stage {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.stage
}

// ensureStage gives the file a staging file. Called with content held.
func (x *file) ensureStage() (*writeback.Stage, error) {
	x.mu.Lock()
	st, size, base, path := x.stage, x.size, x.base, x.path
	base.Path = x.b.rel(path)
	if !x.exists {
		base = remote.Entry{}
	}
	x.mu.Unlock()
	if st != nil {
		return st, nil
	}
	st, err := x.fs.newStage(x.b, size, base)
	if err != nil {
		return nil, local("write", path, err)
	}
	x.mu.Lock()
	x.stage = st
	x.mu.Unlock()
	x.follow() // the base may be another meanwhile
	return st, nil
}

// lockContent holds content, with no upload under way.
func (x *file) lockContent() {
	for {
		x.content.Lock()
		frozen := x.frozen
		if frozen == nil {
			return
		}
		x.content.Unlock()
		<-frozen
	}
}

// touch records a change of content. Called with content held.
func (x *file) touch(size int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.dirty {
		x.fs.pages.swap(x.ino, "") // they are of no version on the server
	}
	x.size, x.dirty, x.setTime, x.failed = size, true, false, nil
	x.gen++
	x.mtime = x.b.truncateTime(x.fs.now())
}

func (b *branch) truncateTime(t time.Time) time.Time {
	if g := b.caps().TimeGranularity; g > 0 {
		return t.Truncate(g)
	}
	return t
}

// writeAt writes all of p, at the end if atEnd.
func (x *file) writeAt(p []byte, off int64, atEnd bool) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := x.full(false); err != nil {
		return 0, err
	}
	x.lockContent()
	defer x.content.Unlock()
	st, err := x.ensureStage()
	if err != nil {
		return 0, err
	}
	size := x.attrSize()
	if atEnd {
		off = size
	}
	if n, err := st.WriteAt(p, off); err != nil {
		if n > 0 {
			// A write that did not fit left its beginning, as on a local disk.
			x.touch(size)
		}
		if e := st.Truncate(size); e != nil {
			err = errors.Join(err, e)
		}
		path, _ := x.where()
		return 0, local("write", path, err)
	}
	x.touch(max(size, off+int64(len(p))))
	x.sendEarly(st)
	return len(p), nil
}

func (x *file) attrSize() int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.size
}

// truncate sets the size.
func (x *file) truncate(size int64) error {
	x.lockContent()
	defer x.content.Unlock()
	return x.resize(size)
}

// extend makes the file at least size bytes long.
func (x *file) extend(size int64) error {
	x.lockContent()
	defer x.content.Unlock()
	if size <= x.attrSize() {
		return nil
	}
	return x.resize(size)
}

// resize sets the size. Called with content held.
func (x *file) resize(size int64) error {
	path, _ := x.where()
	st, err := x.ensureStage()
	if err != nil {
		return err
	}
	if err := st.Truncate(size); err != nil {
		return local("truncate", path, err)
	}
	x.touch(size)
	return nil
}

// readAt reads up to len(p) bytes; fewer only at the end of the file. What is on the
// server comes through base.
func (x *file) readAt(ctx context.Context, base *baseReader, p []byte, off int64) (int, error) {
	if err := x.wantStage(ctx); err != nil {
		return 0, err
	}
	for {
		x.mu.Lock()
		st, size, ref := x.stage, x.size, x.ref()
		x.mu.Unlock()
		if off >= size {
			return 0, nil
		}
		p = p[:min(int64(len(p)), size-off)]
		if st == nil {
			n, err := base.readAt(ctx, x, ref, p, off)
			if errors.Is(err, errMoved) || x.movedSince(ctx, x.present, ref, err) {
				continue
			}
			return n, x.readError(ref, n, len(p), err)
		}
		n, hole, err := st.ReadStaged(p, off)
		if err != nil || hole == nil {
			return n, local("read", x.pathNow(), err)
		}
		if !x.fs.diskFull() {
			err = x.fillHole(ctx, st, *hole)
		}
		switch {
		case x.fs.diskFull() || x.fs.noRoom(err):
			return x.readPast(ctx, st, p, off)
		case err != nil:
			return 0, err
		}
	}
}

// readError makes the result of reading base bytes the program's.
func (x *file) readError(ref remote.Ref, n, want int, err error) error {
	switch {
	case err == nil || errors.Is(err, io.EOF) && n == want:
		return nil
	case errors.Is(err, io.EOF):
		err = fail("read", x.b.abs(ref.Path), remote.Changed, errors.New("the file became shorter on the server"))
	case remote.KindOf(err) == remote.NotExist:
		err = fail("read", x.b.abs(ref.Path), remote.Changed, errors.New("the file was removed on the server"))
	}
	if remote.KindOf(err) == remote.Changed {
		x.b.meta.forget(ref.Path, remote.File) // the next open is to see the new version
	}
	return err
}

// movedSince tells whether a read of ref failed because the file was renamed here: now
// tells what has to be read. It waits for a rename that is under way: the server may know
// of it before us.
func (x *file) movedSince(ctx context.Context, now func() remote.Ref, ref remote.Ref, err error) bool {
	if err == nil {
		return false
	}
	x.mu.Lock()
	moving := x.moving
	x.mu.Unlock()
	if moving != nil {
		select {
		case <-ctx.Done():
			return false
		case <-moving:
		}
	}
	x.overtaken(ctx, err)
	return now() != ref
}

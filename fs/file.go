package fs

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// file is one open file; see the package documentation for its life and its locks.
type file struct {
	fs  *FS
	b   *branch
	ino uint64

	// content guards the staged bytes: writers hold it exclusively, readers of
	// staged bytes and uploads share it.
	content sync.RWMutex

	mu      sync.Mutex
	path    string       // guarded by mu; in the tree
	gone    bool         // guarded by mu; removed or replaced: never to be put
	base    remote.Entry // guarded by mu; version on the server; zero if none yet
	exists  bool         // guarded by mu; base is on the server
	stage   *stage       // guarded by mu and content; nil: all bytes are on the server
	dirty   bool         // guarded by mu; stage or attributes differ from the server
	gen     uint64       // guarded by mu; counts changes of content
	size    int64        // guarded by mu
	mtime   time.Time    // guarded by mu
	mode    *uint32      // guarded by mu; permission bits to store, nil: as they are
	setTime bool         // guarded by mu; mtime was set by the program
	failed  error        // guarded by mu; of the last upload, nil after a success or a change

	refs    int // guarded by FS.mu; handles
	writers int // guarded by FS.mu; handles that can write
}

// local tells whether this mount knows more of the file than the server.
func (x *file) local() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.dirty || !x.exists
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
	a := x.fs.attr(x.b, x.entry(), x.b.AttrTTL)
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
	if e.Version != "" || x.base.Version != "" {
		return e.Version == x.base.Version
	}
	return e.Size == x.base.Size && e.MTime.Equal(x.base.MTime)
}

// ref names the base version. Guarded by mu.
func (x *file) ref() remote.Ref {
	return remote.Ref{Path: x.b.rel(x.path), Version: x.base.Version, Size: x.base.Size}
}

// ensureStage gives the file a staging file. Called with content held exclusively.
func (x *file) ensureStage() (*stage, error) {
	x.mu.Lock()
	st, size, base, path := x.stage, x.size, x.base.Size, x.path
	if !x.exists {
		base = 0
	}
	x.mu.Unlock()
	if st != nil {
		return st, nil
	}
	st, err := x.fs.stages.newStage(size, base)
	if err != nil {
		return nil, local("write", path, err)
	}
	x.mu.Lock()
	x.stage = st
	x.mu.Unlock()
	return st, nil
}

// touch records a change of content. Called with content held exclusively.
func (x *file) touch(size int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
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
	x.content.Lock()
	defer x.content.Unlock()
	st, err := x.ensureStage()
	if err != nil {
		return 0, err
	}
	size := x.attrSize()
	if atEnd {
		off = size
	}
	if err := st.write(p, off); err != nil {
		// A write that did not fit left its beginning, as on a local disk.
		x.touch(size)
		if e := st.truncate(size); e != nil {
			err = errors.Join(err, e)
		}
		path, _ := x.where()
		return 0, local("write", path, err)
	}
	x.touch(max(size, off+int64(len(p))))
	return len(p), nil
}

func (x *file) attrSize() int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.size
}

// truncate sets the size.
func (x *file) truncate(size int64) error {
	x.content.Lock()
	defer x.content.Unlock()
	path, _ := x.where()
	st, err := x.ensureStage()
	if err != nil {
		return err
	}
	if err := st.truncate(size); err != nil {
		return local("truncate", path, err)
	}
	x.touch(size)
	return nil
}

// readAt reads up to len(p) bytes; fewer only at the end of the file.
func (x *file) readAt(ctx context.Context, p []byte, off int64) (int, error) {
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
			n, err := x.b.Backend.ReadAt(ctx, ref, p, off)
			if x.movedSince(ref, err) {
				continue
			}
			return n, x.readError(ref, n, len(p), err)
		}
		n, hole, err := x.readStaged(p, off)
		if err != nil || hole == nil {
			return n, err
		}
		if err := x.fillHole(ctx, *hole); err != nil {
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
		return fail("read", x.b.abs(ref.Path), remote.Changed, errors.New("the file became shorter on the server"))
	case remote.KindOf(err) == remote.NotExist:
		return fail("read", x.b.abs(ref.Path), remote.Changed, errors.New("the file was removed on the server"))
	}
	return err
}

// movedSince tells whether a read failed because the file was renamed here.
func (x *file) movedSince(ref remote.Ref, err error) bool {
	if err == nil {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return ref.Path != x.b.rel(x.path) || ref.Version != x.base.Version
}

// readStaged reads from the staging file, or returns the first hole to fill.
func (x *file) readStaged(p []byte, off int64) (int, *extent, error) {
	x.content.RLock()
	defer x.content.RUnlock()
	x.mu.Lock()
	st, size, path := x.stage, x.size, x.path
	x.mu.Unlock()
	if off >= size {
		return 0, nil, nil
	}
	p = p[:min(int64(len(p)), size-off)]
	if m := st.missing(off, off+int64(len(p))); len(m) > 0 {
		return 0, &m[0], nil
	}
	n, err := st.f.ReadAt(p, off)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, nil, local("read", path, err)
}

// fillHole reads base bytes into the staging file.
func (x *file) fillHole(ctx context.Context, h extent) error {
	for {
		x.mu.Lock()
		ref := x.ref()
		x.mu.Unlock()
		p := make([]byte, h.end-h.off)
		n, err := x.b.Backend.ReadAt(ctx, ref, p, h.off)
		if x.movedSince(ref, err) {
			continue
		}
		if err := x.readError(ref, n, len(p), err); err != nil {
			return err
		}
		return x.putFill(p, h.off)
	}
}

func (x *file) putFill(p []byte, off int64) error {
	x.content.Lock()
	defer x.content.Unlock()
	path, _ := x.where()
	return local("read", path, x.stage.fill(p, off))
}

// Sizes for filling a staging file from the server.
const (
	fillChunk     = 8 << 20
	wholeIfShaky  = 64 << 20 // files up to this are read in one piece while their version is no proof
	maxOpenerTrys = 3
)

// wantStage brings the whole file here first where reading it in pieces is wrong
// or hopeless: servers without ranges, and fresh files whose version is no proof
// yet, so that two ranges could be of two contents.
func (x *file) wantStage(ctx context.Context) error {
	x.mu.Lock()
	shaky := x.base.Provisional && x.size <= wholeIfShaky
	need := x.exists && x.stage == nil && x.size > 0 && (shaky || !x.b.caps().Ranges)
	x.mu.Unlock()
	if !need {
		return nil
	}
	return x.fill(ctx)
}

// fill brings all bytes that are missing into the staging file.
func (x *file) fill(ctx context.Context) error {
	x.content.Lock()
	_, err := x.ensureStage()
	x.content.Unlock()
	if err != nil {
		return err
	}
	opener, ok := remote.As[remote.Opener](x.b.Backend)
	x.mu.Lock()
	inOneGo := ok && (!x.b.caps().Ranges || x.base.Provisional)
	x.mu.Unlock()
	for try := 1; ; try++ {
		h := x.firstHole()
		if h == nil {
			return nil
		}
		if inOneGo {
			err = x.fillStream(ctx, opener)
		} else {
			err = x.fillHole(ctx, extent{h.off, min(h.end, h.off+fillChunk)})
			try = 0
		}
		if err != nil && (!inOneGo || try >= maxOpenerTrys || !remote.Retryable(err)) {
			return err
		}
	}
}

func (x *file) firstHole() *extent {
	x.content.RLock()
	defer x.content.RUnlock()
	if m := x.stage.missing(0, x.attrSize()); len(m) > 0 {
		return &m[0]
	}
	return nil
}

// fillStream reads the whole base version once.
func (x *file) fillStream(ctx context.Context, o remote.Opener) error {
	x.mu.Lock()
	ref := x.ref()
	x.mu.Unlock()
	r, err := o.Open(ctx, ref)
	if err != nil {
		return x.readError(ref, 0, 1, err)
	}
	defer r.Close()
	buf := make([]byte, 1<<20)
	for off := int64(0); off < ref.Size; {
		n, err := io.ReadFull(r, buf[:min(int64(len(buf)), ref.Size-off)])
		if errors.Is(err, io.ErrUnexpectedEOF) || err == io.EOF {
			return x.readError(ref, n, int(ref.Size-off), io.EOF)
		}
		if err != nil {
			return err
		}
		if err := x.putFill(buf[:n], off); err != nil {
			return err
		}
		off += int64(n)
	}
	return nil
}

// insert puts x into the tables and takes a reference. Called with FS.mu held.
func (f *FS) insert(x *file, path string) {
	f.files[path] = x
	f.byIno[x.ino] = append(f.byIno[x.ino], x)
}

// dropName takes x out of the table of names: the name is now something else.
// Called with FS.mu held.
func (f *FS) dropName(x *file, path string) {
	if f.files[path] == x {
		delete(f.files, path)
	}
}

// drop takes x out of both tables. Called with FS.mu held.
func (f *FS) drop(x *file) {
	path, _ := x.where()
	f.dropName(x, path)
	left := slices.DeleteFunc(f.byIno[x.ino], func(y *file) bool { return y == x })
	if len(left) == 0 {
		delete(f.byIno, x.ino)
	} else {
		f.byIno[x.ino] = left
	}
}

// opened returns the file that is open at path, if any.
func (f *FS) opened(path string) *file {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.files[path]
}

// grab is opened with a reference: the file stays open until release is called.
func (f *FS) grab(path string) (x *file, release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	x = f.files[path]
	if x == nil {
		return nil, func() {}
	}
	x.refs++
	return x, (&Handle{x: x}).Release
}

// replaced separates the open file x from its name, because the server now has
// another version there: the name gets a new inode number.
func (f *FS) replaced(x *file, path string) {
	f.mu.Lock()
	was := f.files[path] == x
	f.dropName(x, path)
	f.mu.Unlock()
	if was {
		f.inos.gone(path)
		f.tell(Invalidation{Path: path, Ino: x.ino, Entry: true})
	}
}

package cache

import (
	"context"
	"errors"
	"io"
	"math"
	"sync"

	"github.com/meshmount/meshmount/remote"
)

// Policy is how one branch uses a Store.
type Policy struct {
	// Branch names the remote tree in the Store, the same at every mount.
	Branch string
	// MaxRequest is the most that one request fetches, in bytes, 0 for 8 MiB. It
	// is rounded down to whole blocks, but is at least one.
	MaxRequest int
	// Piece is what is fetched, in bytes, for a small read at a random place in a
	// large file, a power of two, 0 for 64 KiB. A negative value fetches blocks.
	Piece int
	// PieceMemory bounds the pieces that are kept in memory, in bytes, 0 for 16 MiB.
	PieceMemory int
	// Hint tells how the blocks of a file are offered to the Store; nil is Normal
	// for all. It is called from many goroutines.
	Hint func(remote.Ref) Hint
}

func (p Policy) withDefaults(blockSize int) Policy {
	if p.MaxRequest == 0 {
		p.MaxRequest = 8 << 20
	}
	p.MaxRequest = max(p.MaxRequest/blockSize, 1) * blockSize
	if p.Piece == 0 {
		p.Piece = 64 << 10
	}
	if p.Piece > blockSize || p.Piece&(p.Piece-1) != 0 {
		p.Piece = -1
	}
	if p.PieceMemory == 0 {
		p.PieceMemory = 16 << 20
	}
	if p.Hint == nil {
		p.Hint = func(remote.Ref) Hint { return Normal }
	}
	return p
}

// Cached is a remote.Backend that serves reads of pinned versions from a Store. All
// else, and reads without a version, goes through. It is safe for concurrent use.
//
// Blocks are keyed by path and version, which by the contract of remote name the same
// bytes for ever, unless the version is provisional: Cached notes that from the entries
// that Stat, List, SetAttr and the puts return, and keys such blocks apart until an entry
// shows the version as proven. A put that leaves a version which was provisional before
// drops the blocks of the file: they may be of other bytes. When a file changes, the blocks
// of its old version stay readable; those that are missing give remote.Changed.
type Cached struct {
	inner  remote.Backend
	store  *Store
	policy Policy

	ctx     context.Context // of the fetches; ended by Close
	end     context.CancelCauseFunc
	fetches sync.WaitGroup

	mu      sync.Mutex // guards what follows and the fields of each fetch that say so
	flights map[unit]*fetch
	sparse  *sparse
	// provisional holds the versions that were seen and not proven; beyond
	// maxProvisional, all versions count as provisional.
	provisional map[pathVersion]bool
	doubtAll    bool
	closed      bool
}

type pathVersion struct{ path, version string }

const maxProvisional = 1 << 16

var _ interface {
	remote.Backend
	remote.AttrSetter
	remote.AttrBatcher
	remote.GrowingPutter
	remote.Patcher
	remote.Unwrapper
} = (*Cached)(nil)

// Wrap returns b with its reads served from the Store. Closing it closes b, and not
// the Store.
func (s *Store) Wrap(b remote.Backend, p Policy) *Cached {
	p = p.withDefaults(s.BlockSize())
	c := &Cached{inner: b, store: s, policy: p, flights: map[unit]*fetch{}, provisional: map[pathVersion]bool{}}
	c.sparse = newSparse(p.PieceMemory)
	c.ctx, c.end = context.WithCancelCause(context.Background())
	return c
}

// Unwrap implements remote.Unwrapper.
func (c *Cached) Unwrap() remote.Backend { return c.inner }

// Caps implements remote.Backend.
func (c *Cached) Caps() remote.Caps { return c.inner.Caps() }

// Stat implements remote.Backend.
func (c *Cached) Stat(ctx context.Context, path string) (remote.Entry, error) {
	e, err := c.inner.Stat(ctx, path)
	return c.saw(e, err)
}

// List implements remote.Backend.
func (c *Cached) List(ctx context.Context, dir string, yield func(remote.Entry) error) error {
	return c.inner.List(ctx, dir, func(e remote.Entry) error {
		c.note(e)
		return yield(e)
	})
}

// Put implements remote.Backend.
func (c *Cached) Put(ctx context.Context, path string, src remote.Source, opts remote.PutOptions) (remote.Entry, error) {
	e, err := c.inner.Put(ctx, path, src, opts)
	return c.changed(path, e, err)
}

// PutGrowing implements remote.GrowingPutter.
func (c *Cached) PutGrowing(ctx context.Context, path string, src remote.Growing, opts remote.PutOptions) (remote.Entry, error) {
	inner, ok := remote.As[remote.GrowingPutter](c.inner)
	if !ok {
		return remote.Entry{}, &remote.Error{Op: "putgrowing", Path: path, Kind: remote.Unsupported}
	}
	e, err := inner.PutGrowing(ctx, path, src, opts)
	return c.changed(path, e, err)
}

// Patch implements remote.Patcher.
func (c *Cached) Patch(ctx context.Context, path string, p remote.Patch, opts remote.PutOptions) (remote.Entry, error) {
	inner, ok := remote.As[remote.Patcher](c.inner)
	if !ok {
		return remote.Entry{}, &remote.Error{Op: "patch", Path: path, Kind: remote.Unsupported}
	}
	e, err := inner.Patch(ctx, path, p, opts)
	return c.changed(path, e, err)
}

// SetAttr implements remote.AttrSetter.
func (c *Cached) SetAttr(ctx context.Context, path string, a remote.Attrs) (remote.Entry, error) {
	inner, ok := remote.As[remote.AttrSetter](c.inner)
	if !ok {
		return remote.Entry{}, &remote.Error{Op: "setattr", Path: path, Kind: remote.Unsupported}
	}
	e, err := inner.SetAttr(ctx, path, a)
	return c.saw(e, err)
}

// AttrBatches implements remote.AttrBatcher.
func (c *Cached) AttrBatches() int {
	if inner, ok := remote.As[remote.AttrBatcher](c.inner); ok {
		return inner.AttrBatches()
	}
	return 0
}

// SetAttrBatch implements remote.AttrBatcher.
func (c *Cached) SetAttrBatch(ctx context.Context, items []remote.AttrItem) ([]remote.BatchResult, error) {
	inner, ok := remote.As[remote.AttrBatcher](c.inner)
	if !ok || len(items) == 0 {
		return nil, &remote.Error{Op: "setattrbatch", Kind: remote.Unsupported}
	}
	results, err := inner.SetAttrBatch(ctx, items)
	for _, r := range results {
		_, _ = c.saw(r.Entry, r.Err)
	}
	return results, err
}

// Mkdir implements remote.Backend.
func (c *Cached) Mkdir(ctx context.Context, path string) (remote.Entry, error) {
	return c.inner.Mkdir(ctx, path)
}

// Remove implements remote.Backend.
func (c *Cached) Remove(ctx context.Context, path string, opts remote.RemoveOptions) error {
	return c.inner.Remove(ctx, path, opts)
}

// Rename implements remote.Backend.
func (c *Cached) Rename(ctx context.Context, from, to string, opts remote.RenameOptions) error {
	return c.inner.Rename(ctx, from, to, opts)
}

// Close ends the fetches, waits for them and closes the backend below.
func (c *Cached) Close() error {
	c.mu.Lock()
	c.closed = true
	c.end(&remote.Error{Op: "read", Kind: remote.BadHandle})
	c.mu.Unlock()
	err := c.inner.Close()
	c.fetches.Wait()
	return err
}

// saw notes the entry that a call returned.
func (c *Cached) saw(e remote.Entry, err error) (remote.Entry, error) {
	if err == nil {
		c.note(e)
	}
	return e, err
}

// changed notes what a put has made of the content at path. Where versions are made of
// size and time, what is cached under the same one, or is being fetched, may be of other
// bytes; after an error, that holds for any version that is not proven.
func (c *Cached) changed(path string, e remote.Entry, err error) (remote.Entry, error) {
	if c.doubts(path, e.Version, err != nil) {
		c.Invalidate(path)
	}
	return c.saw(e, err)
}

// doubts tells whether that version of a file, or any of it, was seen and not proven.
func (c *Cached) doubts(path, version string, anyVersion bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !anyVersion {
		return c.doubtAll || c.provisional[pathVersion{path, version}]
	}
	for seen := range c.provisional {
		if seen.path == path {
			return true
		}
	}
	return c.doubtAll
}

// Note tells of an entry that did not come through this Cached, for example from a
// Tree: whether its version is proven decides under which keys its blocks are.
func (c *Cached) Note(e remote.Entry) { c.note(e) }

// note learns whether the version of a file is proven.
func (c *Cached) note(e remote.Entry) {
	if e.Type != remote.File || e.Version == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := pathVersion{e.Path, e.Version}
	switch {
	case !e.Provisional:
		delete(c.provisional, seen)
	case len(c.provisional) < maxProvisional:
		c.provisional[seen] = true
	default:
		c.doubtAll = true
	}
}

// key returns the key of a block.
func (c *Cached) key(ref remote.Ref, index uint32) Key {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Key{
		Branch: c.policy.Branch, Object: ref.Path, Version: ref.Version, Index: index,
		Provisional: c.doubtAll || c.provisional[pathVersion{ref.Path, ref.Version}],
	}
}

// caches tells whether a read of that place can be served in blocks.
func (c *Cached) caches(ref remote.Ref, off, n int64) bool {
	return ref.Version != "" && n > 0 && off >= 0 && off <= math.MaxInt64-n &&
		(off+n)/int64(c.store.BlockSize()) < math.MaxUint32
}

// ReadAt implements remote.Backend.
func (c *Cached) ReadAt(ctx context.Context, ref remote.Ref, p []byte, off int64) (int, error) {
	if err := c.ready(ctx, ref.Path); err != nil {
		return 0, err
	}
	if !c.caches(ref, off, int64(len(p))) {
		return c.inner.ReadAt(ctx, ref, p, off)
	}
	all, ends := p, ref.Size >= 0 && off+int64(len(p)) > ref.Size
	if ends {
		p = p[:max(ref.Size-off, 0)]
	}
	var n int
	var err error
	switch {
	case c.store.admits():
		n, err = c.read(ctx, ref, p, off)
	default: // a whole block for each piece of it would be for nothing
		var ok bool
		if n, ok = c.ReadLocal(ref, p, off); !ok && len(p) > 0 {
			err = errMismatch
		}
	}
	if errors.Is(err, errMismatch) {
		if c.store.admits() {
			c.store.Drop(c.policy.Branch, ref.Path) // or it would be in the way for ever
		}
		return c.inner.ReadAt(ctx, ref, all, off)
	}
	if err == nil && (ends || n < len(p)) {
		err = io.EOF
	}
	return n, err
}

// ready returns why no call can be made.
func (c *Cached) ready(ctx context.Context, path string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return &remote.Error{Op: "read", Path: path, Kind: remote.BadHandle}
	}
	return remote.ContextErr(ctx)
}

// errMismatch is found when a cached block ends before the file does, or when there is
// none and none is to be made: the read goes through.
var errMismatch = errors.New("the cached block is shorter than the file's size demands")

// part is one unit's share of a read.
type part struct {
	unit  unit
	at    int64 // where the unit begins in the file
	size  int   // of the unit, as far as the file reaches
	skip  int   // from there to the first byte wanted
	p     []byte
	n     int // bytes that were there
	fetch *fetch
}

// read fills p, or as much of it as the file has if its size is not known.
func (c *Cached) read(ctx context.Context, ref remote.Ref, p []byte, off int64) (int, error) {
	parts, err := c.parts(ref, p, off)
	if err != nil {
		return 0, err
	}
	c.join(ctx, ref, parts)
	defer c.leave(parts)
	n := 0
	for _, part := range parts {
		if part.fetch != nil {
			if err := part.wait(ctx); err != nil {
				return 0, err
			}
		}
		n += part.n
		if part.n < len(part.p) && ref.Size >= 0 {
			return 0, errMismatch // fetched for somebody who did not know the size
		} else if part.n < len(part.p) {
			break
		}
	}
	return n, nil
}

// parts cuts a read into units, and fills those that are here.
func (c *Cached) parts(ref remote.Ref, p []byte, off int64) ([]*part, error) {
	var all []*part
	size := int64(c.store.BlockSize())
	small := c.isSparse(ref, off, len(p))
	for len(p) > 0 {
		block := off / size
		n := int(min(int64(len(p)), (block+1)*size-off))
		part := c.part(ref, unit{c.key(ref, uint32(block)), whole}, block*size, int(size), off, p[:n])
		got, ok := c.store.Get(part.unit.key, off-block*size, part.p)
		switch {
		case ok && got < n && ref.Size >= 0:
			return nil, errMismatch
		case ok:
			part.n = got
			all = append(all, part)
		case small && part.size > c.policy.Piece && c.touched(part.unit.key):
			all = append(all, c.pieces(ref, part)...)
		default:
			all = append(all, part)
			part.n = missing
		}
		p, off = p[n:], off+int64(n)
	}
	return all, nil
}

// missing is the n of a part that has to be fetched.
const missing = -1

// part makes the part of a read at off that lies within the unit.
func (c *Cached) part(ref remote.Ref, u unit, at int64, size int, off int64, p []byte) *part {
	if ref.Size >= 0 {
		size = int(min(int64(size), ref.Size-at))
	}
	return &part{unit: u, at: at, size: size, skip: int(off - at), p: p}
}

// Warm brings the blocks of a range into the Store, as far as they are not there, one
// request after the other. Without a version, or with a Store that does not admit
// blocks, it does nothing.
func (c *Cached) Warm(ctx context.Context, ref remote.Ref, off, n int64) error {
	if ref.Size >= 0 {
		n = min(n, ref.Size-off)
	}
	skip := off % int64(c.store.BlockSize())
	off, n = off-skip, n+skip
	for n > 0 && c.caches(ref, off, n) && c.store.admits() {
		if err := c.ready(ctx, ref.Path); err != nil {
			return err
		}
		step := min(n, int64(c.policy.MaxRequest))
		if err := c.warm(ctx, ref, off, step); err != nil {
			return err
		}
		off, n = off+step, n-step
	}
	return nil
}

func (c *Cached) warm(ctx context.Context, ref remote.Ref, off, n int64) error {
	var parts []*part
	size := int64(c.store.BlockSize())
	for block := off / size; block*size < off+n; block++ {
		part := c.part(ref, unit{c.key(ref, uint32(block)), whole}, block*size, int(size), block*size, nil)
		if !c.store.Has(part.unit.key) {
			part.n = missing
			parts = append(parts, part)
		}
	}
	c.join(ctx, ref, parts)
	defer c.leave(parts)
	for _, part := range parts {
		if err := part.await(ctx, part.fetch.stored); err != nil {
			return err
		}
	}
	return nil
}

// Prime puts content that is known to be of a version into the Store, for example what
// was just uploaded. A version that is not proven is marked as in ReadAt.
func (c *Cached) Prime(ref remote.Ref, r io.ReaderAt, size int64) error {
	if !c.caches(ref, 0, max(size, 1)) {
		return nil
	}
	buf := make([]byte, min(size, int64(c.store.BlockSize())))
	for off := int64(0); off < size; off += int64(len(buf)) {
		p := buf[:min(size-off, int64(len(buf)))]
		if n, err := r.ReadAt(p, off); n < len(p) {
			return remote.E("prime", ref.Path, remote.Other, err)
		}
		c.store.Put(c.key(ref, uint32(off/int64(c.store.BlockSize()))), p, c.policy.Hint(ref))
	}
	return nil
}

// Invalidate forgets all that is cached of a file, in all its versions. What is being
// fetched of it reaches those who wait for it, and is not kept.
func (c *Cached) Invalidate(path string) {
	var flying []*fetch
	c.mu.Lock()
	for u, f := range c.flights {
		if u.key.Object == path {
			f.unwanted.Store(true)
			flying = append(flying, f)
			delete(c.flights, u)
		}
	}
	c.sparse.forget(path)
	c.mu.Unlock()
	for _, f := range flying {
		select {
		case <-f.done:
			<-f.stored // it may be on its way to the disk
		default: // it will find itself unwanted
		}
	}
	c.store.Drop(c.policy.Branch, path)
}

package browse

import (
	"container/list"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive/foreign"
)

// provisionalFor is how long the index of an archive is used whose version may cover a
// later change. It is read again then.
const provisionalFor = time.Second

// ident names one version of an archive.
type ident struct {
	path, version string
	provisional   bool
}

// index is what is in one version of an archive.
type index struct {
	*foreign.Contents
	ident
	size int64     // of the archive
	at   time.Time // when it was asked for
	err  error     // why there are no contents: a *foreign.FormatError

	mu      sync.Mutex
	headers map[*foreign.Item]int // lengths of local headers of a zip, as far as they are known
}

// ref names the bytes of the archive.
func (x *index) ref() remote.Ref {
	return remote.Ref{Path: x.path, Version: x.version, Size: x.size}
}

// headerOf returns the length of what comes before a member's content; known is false if
// that has to be read first.
func (x *index) headerOf(item *foreign.Item) (n int, known bool) {
	if isTar(x.path) {
		return 0, true
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	n, known = x.headers[item]
	return n, known
}

func (x *index) setHeader(item *foreign.Item, n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.headers[item] = n
}

// headerCost is about what a length in index.headers takes, in bytes.
const headerCost = 48

func (x *index) cost() int64 {
	cost := int64(512 + len(x.path) + len(x.version))
	if x.Contents != nil {
		cost += x.Cost()
		if !isTar(x.path) {
			cost += int64(x.Len()) * headerCost
		}
	}
	return cost
}

// shelf keeps indexes, those that were used last, and reads each once for all who want it.
type shelf struct {
	most int64
	disk *disk
	log  *slog.Logger

	mu      sync.Mutex // guards what follows
	used    int64
	order   *list.List // of *index, last used first
	kept    map[ident]*list.Element
	reading map[ident]*reading
}

// reading is an index on its way.
type reading struct {
	done chan struct{} // closed when the rest is there
	x    *index
	err  error
}

func newShelf(opts Options) *shelf {
	return &shelf{
		most: opts.Memory, disk: newDisk(opts), log: opts.Log,
		order: list.New(), kept: map[ident]*list.Element{}, reading: map[ident]*reading{},
	}
}

// get returns the index of an archive, read by load if it is not there. load has the
// context of one of those who wait.
func (s *shelf) get(ctx context.Context, id ident, load func() (*index, error)) (*index, error) {
	for {
		x, r, mine := s.join(id)
		if x != nil {
			return x, x.err
		}
		if mine {
			r.x, r.err = load()
			s.finish(id, r)
		}
		select {
		case <-r.done:
		case <-ctx.Done():
			return nil, remote.ContextErr(ctx)
		}
		switch {
		case r.err == nil:
			return r.x, r.x.err
		case mine || !isContextErr(r.err):
			return nil, r.err
		} // the context of another has ended
	}
}

func isContextErr(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// join returns the index that is there, or its reading; mine if the caller is to read.
func (s *shelf) join(id ident) (x *index, r *reading, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.lookup(id); x != nil {
		return x, nil, false
	}
	if r := s.reading[id]; r != nil {
		return nil, r, false
	}
	r = &reading{done: make(chan struct{})}
	s.reading[id] = r
	return nil, r, true
}

// peek returns the index if it is there.
func (s *shelf) peek(id ident) *index {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lookup(id)
}

// lookup is guarded by mu.
func (s *shelf) lookup(id ident) *index {
	element := s.kept[id]
	if element == nil {
		return nil
	}
	x := element.Value.(*index)
	if id.provisional && time.Since(x.at) >= provisionalFor {
		return nil
	}
	s.order.MoveToFront(element)
	return x
}

// finish ends a reading.
func (s *shelf) finish(id ident, r *reading) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.reading, id)
	if r.err == nil {
		s.drop(s.kept[id])
		s.kept[id] = s.order.PushFront(r.x)
		s.used += r.x.cost()
		for s.used > s.most && s.order.Len() > 1 {
			s.drop(s.order.Back())
		}
	}
	close(r.done)
}

// drop forgets an index. Guarded by mu.
func (s *shelf) drop(element *list.Element) {
	if element != nil {
		x := s.order.Remove(element).(*index)
		delete(s.kept, x.ident)
		s.used -= x.cost()
	}
}

// index returns the index of an archive that was just seen.
func (b *Backend) index(ctx context.Context, e remote.Entry) (*index, error) {
	id := ident{e.Path, e.Version, e.Provisional}
	return b.shelf.get(ctx, id, func() (*index, error) { return b.load(ctx, id, e.Size) })
}

// load brings an index from the disk or from the archive.
func (b *Backend) load(ctx context.Context, id ident, size int64) (*index, error) {
	x := &index{ident: id, size: size, at: time.Now(), headers: map[*foreign.Item]int{}}
	if x.Contents = b.shelf.disk.load(id, size); x.Contents != nil {
		return x, nil
	}
	src := foreign.Ranged{Size: size, Read: func(ctx context.Context, p []byte, off int64) error {
		return b.fetch(ctx, x.ref(), p, off)
	}}
	readIndex := foreign.ReadZip
	if isTar(id.path) {
		readIndex = foreign.ReadTar
	}
	var err error
	if x.Contents, err = readIndex(ctx, src); err != nil {
		if _, ok := errors.AsType[*foreign.FormatError](err); !ok {
			return nil, err
		}
		x.err = err
		return x, nil
	}
	b.shelf.log.Debug("archive read", "path", id.path, "entries", x.Len(), "left_out", x.LeftOut, "took", time.Since(x.at))
	b.shelf.disk.save(x)
	return x, nil
}

// pinnedIndex returns the index of a version of an archive: Changed if that cannot be had.
func (b *Backend) pinnedIndex(ctx context.Context, path, version string) (*index, error) {
	for _, provisional := range []bool{false, true} {
		if x := b.shelf.peek(ident{path, version, provisional}); x != nil {
			return x, x.err
		}
	}
	e, err := b.inner.Stat(ctx, path)
	if err != nil {
		return nil, err
	}
	if e.Version != version || !isArchive(e) {
		return nil, &remote.Error{Op: "read", Path: path, Kind: remote.Changed}
	}
	return b.index(ctx, e)
}

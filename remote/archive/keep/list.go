package keep

import (
	"cmp"
	"context"
	"errors"
	"hash/maphash"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive"
)

// listing is what one listing shows of ours.
type listing struct {
	files map[archive.ID][]generation // of archives, the newest generation first
	tombs map[archive.UID]remote.Entry
	odd   map[string]remote.Entry // of names like ours: damaged archives, and what is no file
	ill   map[archive.ID]bool     // of which a file is damaged
	clock time.Time               // the newest time of our files, by the server's clock
}

// generation is a file of an archive.
type generation struct {
	number int
	entry  remote.Entry
}

// mark is what a listing shows of a plain entry.
type mark struct {
	kind    remote.Type
	version [2]uint64
	proven  bool // version is one, and not provisional
	by      *hasher
}

// is tells whether the entry is a file of that version.
func (k mark) is(version string) bool {
	return k.proven && k.kind == remote.File && k.version == k.by.hash(version)
}

// hasher makes 128-bit hashes.
type hasher [2]maphash.Seed

func (h *hasher) hash(text string) [2]uint64 {
	return [2]uint64{maphash.String(h[0], text), maphash.String(h[1], text)}
}

// marks are those of a whole listing, by hashes of the names.
type marks struct {
	*hasher
	all map[[2]uint64]mark
}

func newMarks() *marks {
	return &marks{&hasher{maphash.MakeSeed(), maphash.MakeSeed()}, map[[2]uint64]mark{}}
}

// first notes an entry and tells whether its name is new.
func (s *marks) first(e remote.Entry) bool {
	_, name := remote.Split(e.Path)
	key := s.hash(name)
	_, again := s.all[key]
	s.all[key] = mark{e.Type, s.hash(e.Version), e.Version != "" && !e.Provisional, s.hasher}
	return !again
}

// of returns what there is of that name. A nil *marks knows none.
func (s *marks) of(name string) (mark, bool) {
	if s == nil {
		return mark{}, false
	}
	k, ok := s.all[s.hash(name)]
	return k, ok
}

// lists is how often a directory is listed in which archives come and go.
const lists = 5

// listed lists a directory and remembers what it has seen, with what has died by us meanwhile.
func (k *Backend) listed(ctx context.Context, dir, version string, each func(remote.Entry) error) (*view, error) {
	v, err := k.list(ctx, dir, version, each)
	if err == nil {
		k.remember(v)
	}
	return v, err
}

// list lists a directory and reads the archives in it. What is not ours is told to each, some
// of it more than once; its error ends the listing. version is the directory's from before.
func (k *Backend) list(ctx context.Context, dir, version string, each func(remote.Entry) error) (*view, error) {
	if each == nil {
		each = func(remote.Entry) error { return nil }
	}
	for range lists {
		at, seen := time.Now(), newMarks()
		raw, err := k.raw(ctx, dir, func(e remote.Entry) error {
			seen.first(e)
			return each(e)
		})
		if err != nil {
			return nil, err
		}
		count, err := k.readIndexes(ctx, &raw, func(e remote.Entry) error {
			seen.first(e)
			return each(e)
		})
		if isKind(err, remote.NotExist, remote.Changed) {
			version = ""
			continue // it has gone meanwhile
		}
		if err != nil {
			return nil, err
		}
		v := newView(dir, at, raw, count, seen)
		v.version = version
		return v, nil
	}
	return nil, &remote.Error{Op: "list", Path: dir, Kind: remote.Unavailable, Err: errors.New("its archives change all the time")}
}

// raw is one listing: archives and tombstones by their names, others told to each.
func (k *Backend) raw(ctx context.Context, dir string, each func(remote.Entry) error) (listing, error) {
	l := listing{files: map[archive.ID][]generation{}, tombs: map[archive.UID]remote.Entry{}, odd: map[string]remote.Entry{}, ill: map[archive.ID]bool{}}
	err := k.inner.List(ctx, dir, func(e remote.Entry) error {
		_, name := remote.Split(e.Path)
		if !archive.Hidden(name) {
			return each(e)
		}
		if e.Type != remote.File {
			l.odd[name] = e
			return each(e)
		}
		if e.MTime.After(l.clock) {
			l.clock = e.MTime
		}
		if uid, ok := archive.ParseTombstone(name); ok {
			l.tombs[uid] = e
		} else if id, g, ok := archive.ParseFileName(name); ok {
			l.files[id] = append(l.files[id], generation{g, e})
		}
		return nil
	})
	for _, all := range l.files {
		slices.SortFunc(all, func(a, b generation) int { return cmp.Compare(b.number, a.number) })
	}
	return l, err
}

// readIndexes makes known what counts of each archive. What is damaged is told to each as the
// plain file that it is. NotExist or Changed: a file is not there any more.
func (k *Backend) readIndexes(ctx context.Context, l *listing, each func(remote.Entry) error) (count []*held, err error) {
	ids := make([]archive.ID, 0, len(l.files))
	for id := range l.files {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	found, bad, errs := make([]*held, len(ids)), make([][]remote.Entry, len(ids)), make([]error, len(ids))
	parallel(len(ids), func(i int) { found[i], bad[i], errs[i] = k.newest(ctx, ids[i], l.files[ids[i]]) })
	if err := firstOf(errs...); err != nil {
		return nil, err
	}
	for i, id := range ids {
		for _, e := range bad[i] {
			_, name := remote.Split(e.Path)
			l.odd[name], l.ill[id] = e, true
			if err := each(e); err != nil {
				return nil, err
			}
		}
		if found[i] != nil {
			count = append(count, found[i])
		}
	}
	return count, nil
}

// newest returns the newest generation of an archive that can be read, nil if there is none,
// and those after it.
func (k *Backend) newest(ctx context.Context, id archive.ID, files []generation) (*held, []remote.Entry, error) {
	var bad []remote.Entry
	for _, g := range files {
		x, err := k.index(ctx, id, g)
		switch {
		case err == nil:
			h := &held{entry: g.entry, index: x, born: x.Born}
			if x.Generation == 0 {
				h.born = g.entry.MTime
			}
			return h, bad, nil
		case errors.Is(err, archive.ErrDamaged), isKind(err, remote.Corrupt, remote.Permission, remote.TooLarge):
			k.tell(g.entry, err)
			bad = append(bad, g.entry)
		default:
			return nil, nil, err
		}
	}
	return nil, bad, nil
}

// tell logs once that a file is no archive.
func (k *Backend) tell(e remote.Entry, err error) {
	k.mu.Lock()
	if len(k.told) > maxViews {
		clear(k.told)
	}
	first := !k.told[e.Path]
	k.told[e.Path] = true
	k.mu.Unlock()
	if first {
		k.opts.Logger.Warn("an archive of small files cannot be read: it is shown as the file that it is, and its members are not", "file", e.Path, "err", err)
	}
}

// workers is how many requests of one call are under way at a time.
const workers = 8

// parallel calls f for 0 to n-1, some at a time, and waits for all.
func parallel(n int, f func(i int)) {
	if n == 1 {
		f(0)
		return
	}
	next := make(chan int)
	var all sync.WaitGroup
	for range min(n, workers) {
		all.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	all.Wait()
}

// known is the index of an archive.
type known struct {
	index *archive.Index
	bytes int
}

// newKnown measures an index.
func newKnown(x *archive.Index) *known {
	n := &known{index: x}
	for i := range x.Members {
		n.bytes += len(x.Members[i].Name) + len(x.Members[i].From) + 200
	}
	return n
}

// key names the content of an archive's file.
func key(e remote.Entry) string { return e.Path + "\x00" + e.Version }

// index returns what a generation of an archive holds.
func (k *Backend) index(ctx context.Context, id archive.ID, g generation) (*archive.Index, error) {
	k.mu.Lock()
	got := k.indexes[key(g.entry)]
	k.mu.Unlock()
	if got != nil && got.index.ID == id && g.entry.Version != "" {
		return got.index, nil
	}
	x, err := k.readIndex(ctx, id, g)
	if errors.Is(err, archive.ErrDamaged) { // or the answer was
		x, err = k.readIndex(ctx, id, g)
	}
	if err == nil {
		k.know(g.entry, x)
	}
	return x, err
}

// know remembers what an archive holds.
func (k *Backend) know(e remote.Entry, x *archive.Index) {
	n := newKnown(x)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.indexes[key(e)] != nil || e.Version == "" || e.Provisional {
		return
	}
	for other, o := range k.indexes {
		if k.held+len(x.Members) <= maxHeld && k.bytes+n.bytes <= maxBytes && len(k.indexes) < maxHeld {
			break
		}
		k.held -= len(o.index.Members)
		k.bytes -= o.bytes
		delete(k.indexes, other)
	}
	k.indexes[key(e)] = n
	k.held += len(x.Members)
	k.bytes += n.bytes
}

// tails is how many requests an index may take.
const tails = 3

// readIndex reads the end of a file of an archive.
func (k *Backend) readIndex(ctx context.Context, id archive.ID, g generation) (*archive.Index, error) {
	size := g.entry.Size
	if size > archive.MaxSize {
		return nil, archive.ErrDamaged
	}
	from := max(size-archive.FirstTail, 0)
	for range tails {
		tail := make([]byte, size-from)
		ref := remote.Ref{Path: g.entry.Path, Version: g.entry.Version, Size: size}
		n, err := k.inner.ReadAt(ctx, ref, tail, from)
		if err != nil && err != io.EOF {
			return nil, err
		}
		if n < len(tail) {
			return nil, archive.ErrDamaged
		}
		x, err := archive.Parse(id, g.number, tail, size)
		var short *archive.ShortError
		if !errors.As(err, &short) {
			return x, err
		}
		from = short.From
	}
	return nil, archive.ErrDamaged
}

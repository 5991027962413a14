package keep

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive"
)

// keeps tells whether files can be kept in archives. An archive must never be seen in part,
// nor be replaced by another, and it must be listed.
func (k *Backend) keeps() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.inner.Caps()
	return !k.off && !c.ReadOnly && c.AtomicPut && c.Create >= remote.GuardLook
}

// Batches implements remote.Batcher. Where files cannot be kept in archives, it is what the
// server can do without.
func (k *Backend) Batches() remote.Batches {
	if !k.keeps() {
		if b, ok := remote.As[remote.Batcher](k.inner); ok {
			return b.Batches()
		}
		return remote.Batches{}
	}
	return remote.Batches{Files: archive.MaxMembers / 2, Bytes: archive.MaxSize / 4, Size: maxMember, Parallel: 4}
}

// PutBatch implements remote.Batcher: one archive for each directory.
func (k *Backend) PutBatch(ctx context.Context, items []remote.BatchItem) ([]remote.BatchResult, error) {
	if err := remote.ContextErr(ctx); err != nil {
		return nil, err
	}
	if !k.keeps() {
		return k.putPlain(ctx, items)
	}
	results := make([]remote.BatchResult, len(items))
	groups := map[string]*group{}
	var order []*group
	for i, it := range items {
		if results[i].Err = k.canHold(it); results[i].Err != nil {
			continue
		}
		dir, name := remote.Split(it.Path)
		g := groups[dir]
		if g == nil {
			g = &group{k: k, dir: dir}
			groups[dir] = g
			order = append(order, g)
		}
		g.files = append(g.files, &file{item: it, name: name, result: &results[i]})
	}
	parallel(len(order), func(i int) { order[i].store(ctx) })
	return results, remote.ContextErr(ctx)
}

// putPlain stores the files of a batch as plain files.
func (k *Backend) putPlain(ctx context.Context, items []remote.BatchItem) ([]remote.BatchResult, error) {
	b, ok := remote.As[remote.Batcher](k.inner)
	if !ok {
		return nil, fail("put", items[0].Path, remote.Unsupported)
	}
	results := make([]remote.BatchResult, len(items))
	var some []remote.BatchItem
	var at []int
	for i, it := range items {
		if results[i].Err = takes("put", it.Path); results[i].Err == nil {
			some, at = append(some, it), append(at, i)
		}
	}
	if len(some) == 0 {
		return results, nil
	}
	got, err := b.PutBatch(ctx, some)
	if err != nil {
		return nil, err
	}
	for i, r := range got {
		results[at[i]] = r
	}
	return results, nil
}

// canHold returns why a file cannot be in an archive.
func (k *Backend) canHold(it remote.BatchItem) error {
	if err := takes("put", it.Path); err != nil {
		return err
	}
	_, name := remote.Split(it.Path)
	if most := k.inner.Caps().MaxName; !archive.CanHold(name) || most > 0 && len(name) > most || it.Source.Size() > maxMember {
		return fail("put", it.Path, remote.Unsupported)
	}
	return nil
}

// group is the files of a batch that are in one directory.
type group struct {
	k     *Backend
	dir   string
	files []*file
}

// file is one of them.
type file struct {
	item   remote.BatchItem
	name   string
	number int // of its member
	result *remote.BatchResult
}

// fail is the end of the files that have none yet.
func (g *group) fail(err error, sure bool) {
	for _, f := range g.files {
		if f.result.Err != nil {
			continue
		}
		f.result.Err = as("put", f.item.Path, err)
		if !sure {
			f.result.Err = unsure("put", f.item.Path, err)
		}
	}
}

// as makes an error one of another path.
func as(op, path string, err error) error {
	var e *remote.Error
	if !errors.As(err, &e) {
		return err
	}
	return &remote.Error{Op: op, Path: path, Kind: e.Kind, Err: err, Unsure: e.Unsure, RetryAfter: e.RetryAfter}
}

// store puts the files.
func (g *group) store(ctx context.Context) {
	k := g.k
	if len(g.files) < k.opts.Fewest {
		for _, f := range g.files {
			o := remote.PutOptions{Cond: remote.Cond{NotExist: true}, Attrs: f.item.Attrs, Loose: f.item.Loose, Redo: f.item.Redo, Tag: f.item.Tag}
			f.result.Entry, f.result.Err = k.Put(ctx, f.item.Path, f.item.Source, o)
		}
		return
	}
	v, err := k.hint(ctx, g.dir)
	if err != nil {
		g.fail(err, true)
		return
	}
	items := g.measured(ctx, v)
	if len(items) == 0 {
		return
	}
	a, err := archive.New(archive.Index{ID: archive.NewID(time.Now())}, items)
	if err != nil {
		g.fail(&remote.Error{Op: "put", Path: g.dir, Kind: remote.Unsupported, Err: err}, true)
		return
	}
	e, err := k.putArchive(ctx, g.dir, a, g.files[0].item.Tag)
	if err != nil && !isUnsure(err) {
		_, isRemote := errors.AsType[*remote.Error](err)
		g.fail(err, isRemote && !isKind(err, remote.Exist))
		return
	}
	if err == nil {
		k.know(e, a.Index())
	}
	g.settle(ctx, a, err)
}

// measured returns the files whose names are free, with what an archive must know of them. An
// attempt before may have put one as a plain file, alone.
func (g *group) measured(ctx context.Context, v *view) (items []archive.Item) {
	sums, errs := make([]archive.Sum, len(g.files)), make([]error, len(g.files))
	parallel(len(g.files), func(i int) {
		f := g.files[i]
		if f.item.Redo {
			if _, plain, err := g.k.plainAt(ctx, f.item.Path); err != nil || plain {
				f.result.Err = firstOf(err, fail("put", f.item.Path, remote.Exist))
				return
			}
		}
		if v.find(f.name) == nil {
			sums[i], errs[i] = archive.Measure(g.files[i].item.Source)
		}
	})
	for i, f := range g.files {
		switch {
		case f.result.Err != nil:
			continue
		case v.find(f.name) != nil:
			f.result.Err = fail("put", f.item.Path, remote.Exist)
			continue
		case errs[i] != nil:
			f.result.Err = remote.E("put", f.item.Path, remote.Invalid, errs[i])
			continue
		}
		m := archive.Member{Name: f.name, MTime: time.Now().Round(0), Sum: sums[i]}
		if t := f.item.Attrs.MTime; t != nil {
			m.MTime = t.Round(0)
		}
		if mode := f.item.Attrs.Mode; mode != nil && !f.item.Attrs.Spares(remote.File) {
			m.Mode, m.ModeKnown = *mode&0o7777, true
		}
		f.number = len(items)
		items = append(items, archive.Item{Member: m, Source: f.item.Source})
	}
	return items
}

// putArchive stores the first generation of an archive.
func (k *Backend) putArchive(ctx context.Context, dir string, a *archive.Archive, tag string) (remote.Entry, error) {
	path := remote.Join(dir, a.Index().ID.FileName(0))
	return k.inner.Put(ctx, path, a, remote.PutOptions{Cond: remote.Cond{NotExist: true}, Tag: tag})
}

// verify compares what the server shows of an archive with what was sent.
func verify(e remote.Entry, a *archive.Archive) error {
	bad := &remote.Error{Op: "put", Path: e.Path, Kind: remote.Corrupt, Unsure: true, Err: errors.New("the server has not stored the archive as it was sent")}
	if e.Size != a.Size() {
		return bad
	}
	h := remote.NewHash(e.Checksum.Algorithm)
	if h == nil {
		return nil
	}
	r, err := a.Open()
	if err != nil {
		return remote.E("put", e.Path, remote.Invalid, err)
	}
	_, err = io.Copy(h, r)
	if err = firstOf(err, r.Close()); err != nil {
		return remote.E("put", e.Path, remote.Invalid, err)
	}
	if !strings.EqualFold(hex.EncodeToString(h.Sum(nil)), e.Checksum.Hex) {
		return bad
	}
	return nil
}

// errUnlisted says that a listing does not show an archive that was stored.
var errUnlisted = errors.New("the archive that was just stored is not listed")

// stored lists a directory in which an archive was put, and returns the view and the archive
// in it.
func (k *Backend) stored(ctx context.Context, dir string, a *archive.Archive) (*view, *held, error) {
	v, err := k.listed(ctx, dir, "", nil)
	if err != nil {
		return nil, nil, err
	}
	i := slices.IndexFunc(v.count, func(h *held) bool { return h.index.ID == a.Index().ID })
	if i < 0 {
		return nil, nil, &remote.Error{Op: "put", Path: dir, Kind: remote.Unavailable, Err: errUnlisted}
	}
	if h := v.count[i]; h.index.Generation == 0 {
		if err := verify(h.entry, a); err != nil {
			return nil, nil, err
		}
	}
	return v, v.count[i], nil
}

// settle lists the directory and takes back the files whose names others have as well. cause
// is why it is not known whether the archive was stored, nil if it is.
func (g *group) settle(ctx context.Context, a *archive.Archive, cause error) {
	k := g.k
	v, h, err := k.stored(ctx, g.dir, a)
	switch {
	case err != nil && cause != nil:
		g.fail(cause, false)
		return
	case errors.Is(err, errUnlisted) && k.hides(ctx, g.dir, a):
		g.fail(fail("put", g.dir, remote.Unsupported), true)
		return
	case err != nil:
		g.fail(err, false)
		return
	}
	var lost []*file
	for _, f := range g.files {
		if f.result.Err != nil {
			continue
		}
		uid := archive.UID{Archive: h.index.ID, Number: f.number}
		all, _ := v.living(f.name)
		if c := v.find(f.name); len(all) == 1 && c.has(uid) && c[0].Name == f.name {
			f.result.Entry = c[0].entry(f.item.Path)
			continue
		}
		lost = append(lost, f) // also if it comes first: the other may have been told before that his is there
	}
	parallel(len(lost), func(i int) {
		f := lost[i]
		mine, err := k.entomb(ctx, g.dir, archive.UID{Archive: h.index.ID, Number: f.number})
		f.result.Err = fail("put", f.item.Path, remote.Exist)
		if err != nil {
			f.result.Err = unsure("put", f.item.Path, err)
		} else if !mine { // somebody has taken it elsewhere
			f.result.Err = unsure("put", f.item.Path, f.result.Err)
		}
	})
	k.upkeep(ctx, g.dir)
}

// hides tells whether the server has an archive and does not list it. Then it is removed, and
// no others are made.
func (k *Backend) hides(ctx context.Context, dir string, a *archive.Archive) bool {
	e, err := k.inner.Stat(ctx, remote.Join(dir, a.Index().ID.FileName(0)))
	if err != nil || e.Size != a.Size() {
		return false
	}
	if _, _, err := k.stored(ctx, dir, a); !errors.Is(err, errUnlisted) {
		return false
	}
	k.mu.Lock()
	first := !k.off
	k.off = true
	k.mu.Unlock()
	if first {
		k.opts.Logger.Warn("the server does not list files whose names begin with a dot: small files are not kept in archives there", "dir", dir)
	}
	return k.discard(ctx, e) == nil
}

// memberSource is the bytes of a member, for another archive. Errors are those of ctx.
type memberSource struct {
	ctx context.Context
	k   *Backend
	m   *member
}

// Size implements remote.Source.
func (s *memberSource) Size() int64 { return s.m.Size }

// Open implements remote.Source.
func (s *memberSource) Open() (io.ReadCloser, error) {
	dir, _ := remote.Split(s.m.in.entry.Path)
	p := make([]byte, s.m.Size)
	if n, err := s.k.readPart(s.ctx, remote.Join(dir, s.m.Name), s.m, p, 0); err != nil && err != io.EOF {
		return nil, err
	} else if n < len(p) {
		return nil, io.ErrUnexpectedEOF
	}
	return bytesSource(p).Open()
}

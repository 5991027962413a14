package keep

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive"
)

// Batches implements remote.Batcher. An archive must never be seen in part, so that servers
// that show files while they are stored get none.
func (k *Backend) Batches() remote.Batches {
	if c := k.inner.Caps(); c.ReadOnly || !c.AtomicPut {
		return remote.Batches{}
	}
	return remote.Batches{Files: archive.MaxMembers / 2, Bytes: archive.MaxSize / 4, Size: maxMember, Parallel: 4}
}

// PutBatch implements remote.Batcher: one archive for each directory.
func (k *Backend) PutBatch(ctx context.Context, items []remote.BatchItem) ([]remote.BatchResult, error) {
	if err := remote.ContextErr(ctx); err != nil {
		return nil, err
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
	member archive.Member
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
	items := g.measured(v)
	if len(items) == 0 {
		return
	}
	h, made, err := k.putArchive(ctx, g.dir, v.newest(), nil, items, g.files[0].item.Tag)
	if err != nil {
		g.fail(err, !made)
		return
	}
	g.settle(ctx, h)
}

// measured returns the files whose names are free, with what an archive must know of them.
func (g *group) measured(v *view) (items []archive.Item) {
	sums, errs := make([]archive.Sum, len(g.files)), make([]error, len(g.files))
	parallel(len(g.files), func(i int) {
		if len(v.named(g.files[i].name)) == 0 {
			sums[i], errs[i] = archive.Measure(g.files[i].item.Source)
		}
	})
	for i, f := range g.files {
		switch {
		case len(v.named(f.name)) > 0:
			f.result.Err = fail("put", f.item.Path, remote.Exist)
			continue
		case errs[i] != nil:
			f.result.Err = remote.E("put", f.item.Path, remote.Invalid, errs[i])
			continue
		}
		f.member = archive.Member{Name: f.name, MTime: g.k.opts.Now().Round(0), Sum: sums[i]}
		if t := f.item.Attrs.MTime; t != nil {
			f.member.MTime = t.Round(0)
		}
		if mode := f.item.Attrs.Mode; mode != nil {
			f.member.Mode, f.member.ModeKnown = *mode&0o7777, true
		}
		items = append(items, archive.Item{Member: f.member, Source: f.item.Source})
	}
	return items
}

// putArchive stores a new archive and checks that the server has it whole. made tells, with
// an error, that it may be there.
func (k *Backend) putArchive(ctx context.Context, dir string, after archive.ID, older []archive.ID, items []archive.Item, tag string) (h *held, made bool, err error) {
	id := archive.NewID(k.opts.Now(), after)
	a, err := archive.New(id, older, items)
	if err != nil {
		return nil, false, &remote.Error{Op: "put", Path: dir, Kind: remote.Unsupported, Err: err}
	}
	path := remote.Join(dir, id.FileName())
	e, err := k.inner.Put(ctx, path, a, remote.PutOptions{Cond: remote.Cond{NotExist: true}, Tag: tag})
	if err != nil {
		var re *remote.Error
		if !errors.As(err, &re) || !re.Unsure {
			return nil, false, err
		}
		found, lookErr := k.inner.Stat(ctx, path) // the answer was lost: what it was is seen
		if lookErr != nil {
			return nil, true, err
		}
		e = found
	}
	if err := verify(e, a); err != nil {
		return nil, true, firstOf(err, k.discard(ctx, e))
	}
	k.know(e, a.Index())
	return &held{e, a.Index()}, true, nil
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

// settle lists the directory and takes back the files whose names others have as well.
func (g *group) settle(ctx context.Context, h *held) {
	k := g.k
	ours := map[string]bool{}
	for i := range h.index.Members {
		ours[h.index.Members[i].Name] = true
	}
	taken := map[string]bool{}
	v, err := k.list(ctx, g.dir, func(e remote.Entry) error {
		if _, name := remote.Split(e.Path); ours[name] {
			taken[name] = true
		}
		return nil
	})
	if err == nil && !slices.ContainsFunc(v.archives, func(o *held) bool { return o.index.ID == h.index.ID }) {
		err = &remote.Error{Op: "put", Path: g.dir, Kind: remote.Unavailable, Err: errors.New("the archive that was just stored is not there")}
	}
	if err != nil {
		g.fail(err, false)
		return
	}
	k.remember(v)
	var lost []*file
	for _, f := range g.files {
		if f.result.Err != nil {
			continue
		}
		m := &member{find(h.index, f.name), h}
		if alive := v.named(f.name); taken[f.name] || len(alive) != 1 || alive[0].Origin != m.Origin {
			f.member.Origin = m.Origin
			lost = append(lost, f)
			continue
		}
		f.result.Entry = m.entry(f.item.Path)
	}
	g.takeBack(ctx, lost)
}

// find returns the member of that name, which is there.
func find(x *archive.Index, name string) *archive.Member {
	i := slices.IndexFunc(x.Members, func(m archive.Member) bool { return m.Name == name })
	return &x.Members[i]
}

// takeBack removes files of ours whose names are taken.
func (g *group) takeBack(ctx context.Context, lost []*file) {
	parallel(len(lost), func(i int) {
		f := lost[i]
		if err := g.k.entomb(ctx, g.dir, f.member.Origin); err != nil {
			f.result.Err = unsure("put", f.item.Path, err)
			return
		}
		f.result.Err = fail("put", f.item.Path, remote.Exist)
	})
	if len(lost) > 0 {
		g.k.tidy(ctx, g.dir)
	}
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

package keep

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive"
)

// Converted is what Pack or Unpack has done.
type Converted struct {
	Files, Archives int   // that were packed or unpacked
	Bytes           int64 // of the files
	Left            []Left
}

// Left is a file that is as it was.
type Left struct {
	Path string
	Err  error // why
}

// add sums up.
func (c *Converted) add(d Converted) {
	c.Files += d.Files
	c.Archives += d.Archives
	c.Bytes += d.Bytes
	c.Left = append(c.Left, d.Left...)
}

// leave notes what stays as it is.
func (c *Converted) leave(path string, err error) { c.Left = append(c.Left, Left{path, err}) }

// walk calls f for dir and each directory below it, parents first.
func (k *Backend) walk(ctx context.Context, dir string, f func(dir string, plain []remote.Entry, v *view) error) error {
	for todo := []string{dir}; len(todo) > 0; todo = todo[1:] {
		names := newMarks()
		var plain []remote.Entry
		v, err := k.listed(ctx, todo[0], "", func(e remote.Entry) error {
			if names.first(e) {
				plain = append(plain, e)
			}
			return nil
		})
		if missing(err) && todo[0] != dir {
			continue // it has gone meanwhile
		}
		if err == nil {
			err = f(todo[0], plain, v)
		}
		if err != nil {
			return err
		}
		for _, e := range plain {
			if e.Type == remote.Dir {
				todo = append(todo, e.Path)
			}
		}
	}
	return nil
}

// Unpack makes plain files of all members in dir and below it, of each under the name that
// shows. What fails is told in Left and stays as it is; the error is one of a directory, or of
// the context. It can be broken off and begun again, and others may write there meanwhile.
// Archives and tombstones go when they are of no use to anybody any more, which takes a minute
// and more, with a later change of any client in the directory.
func (k *Backend) Unpack(ctx context.Context, dir string) (all Converted, err error) {
	if err := remote.CheckPath("unpack", dir); err != nil {
		return all, err
	}
	err = k.walk(ctx, dir, func(dir string, _ []remote.Entry, v *view) error {
		all.add(k.unpackDir(ctx, dir, v))
		return remote.ContextErr(ctx)
	})
	return all, err
}

// unpackDir unpacks the archives of one directory.
func (k *Backend) unpackDir(ctx context.Context, dir string, v *view) (done Converted) {
	for name := range v.raw.odd {
		done.leave(remote.Join(dir, name), archive.ErrDamaged)
	}
	show := v.shown()
	slices.SortFunc(show, func(a, b showing) int { return a.claim[0].compare(b.claim[0]) })
	errs := make([]error, len(show))
	parallel(len(show), func(i int) {
		if errs[i] = k.unburied(ctx, dir, show[i].claim); errs[i] == nil {
			errs[i] = k.unpackFile(ctx, "unpack", remote.Join(dir, show[i].name), show[i].claim)
		}
	})
	for i, o := range show {
		switch {
		case missing(errs[i]):
			continue // somebody has removed or renamed it meanwhile
		case errs[i] != nil:
			done.leave(remote.Join(dir, o.name), errs[i])
			continue
		}
		done.Files++
		done.Bytes += o.claim[0].Size
	}
	for _, h := range v.count {
		if len(h.index.Members) > 0 && v.aliveIn(h) == 0 {
			done.Archives++
			k.upkeep(ctx, dir)
		}
	}
	return done
}

// unburied returns NotExist if a file was declared dead since its directory was listed, which
// may be long ago: to make a plain file of it would bring back what somebody has removed.
func (k *Backend) unburied(ctx context.Context, dir string, c claim) error {
	path := remote.Join(dir, c[0].uid().Tombstone())
	_, err := k.inner.Stat(ctx, path)
	if err == nil {
		return fail("unpack", path, remote.NotExist)
	}
	if isKind(err, remote.NotExist, remote.NotDir) {
		return nil
	}
	return err
}

// unpackFile makes a plain file of a member, and the member dead after it.
func (k *Backend) unpackFile(ctx context.Context, op, path string, c claim) error {
	m := c[0]
	dir, _ := remote.Split(path)
	if own := remote.Join(dir, m.Name); own != path { // it may have been unpacked by half
		e, plain, err := k.plainAt(ctx, own)
		if err != nil {
			return err
		}
		if plain && e.Type == remote.File {
			if _, err := k.now(ctx, op, e, remote.Cond{Version: m.Version()}); err == nil {
				return k.buryAll(ctx, op, own, c)
			}
		}
	}
	p, err := k.content(ctx, path, m)
	if err != nil {
		return err
	}
	_, err = k.inner.Put(ctx, path, bytesSource(p), remote.PutOptions{Cond: remote.Cond{NotExist: true}, Attrs: m.attrs()})
	if err != nil {
		return err
	}
	k.noted(path, (*view).cover)
	// A tombstone of somebody else is as good: he may have seen our file.
	return k.buryAll(ctx, op, remote.Join(dir, m.Name), c)
}

// asUnsure is unsure of what may be no error.
func asUnsure(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return unsure(op, path, err)
}

// Bounds of an archive that Pack makes. Its files are in memory while it is made.
const (
	packFiles = 1000
	packBytes = 16 << 20
)

// errFresh and the others are reasons to leave files as they are.
var (
	errFresh  = errors.New("its version is too young to tell a change, or there is none")
	errXattrs = errors.New("it has extended attributes, which a member cannot keep")
)

// Pack puts the plain files of up to size bytes in dir and below it in archives, in each
// directory those that are there. A file that somebody changes meanwhile stays as it is.
// What is left out although it is small enough is told in Left; the error is one of a
// directory, or of the context.
func (k *Backend) Pack(ctx context.Context, dir string, size int64) (all Converted, err error) {
	if err := remote.CheckPath("pack", dir); err != nil {
		return all, err
	}
	if !k.keeps() || k.inner.Caps().RemoveGuard == remote.GuardNone {
		return all, fail("pack", dir, remote.Unsupported)
	}
	err = k.walk(ctx, dir, func(dir string, plain []remote.Entry, _ *view) error {
		var some []remote.Entry
		var bytes int64
		for _, e := range plain {
			if !k.packable(ctx, e, size, &all) {
				continue
			}
			if len(some) == packFiles || bytes+e.Size > packBytes && len(some) > 0 {
				all.add(k.pack(ctx, dir, some))
				some, bytes = nil, 0
			}
			some, bytes = append(some, e), bytes+e.Size
		}
		all.add(k.pack(ctx, dir, some))
		return remote.ContextErr(ctx)
	})
	return all, err
}

// packable tells whether a file is to be packed.
func (k *Backend) packable(ctx context.Context, e remote.Entry, size int64, all *Converted) bool {
	_, name := remote.Split(e.Path)
	if e.Type != remote.File || e.Size > min(size, packBytes) || !archive.CanHold(name) {
		return false
	}
	if e.Version == "" || e.Provisional {
		all.leave(e.Path, errFresh)
		return false
	}
	if err := k.bare(ctx, e.Path); err != nil {
		all.leave(e.Path, err)
		return false
	}
	return true
}

// bare returns why a file has more to it than a member can keep, nil if it has not.
func (k *Backend) bare(ctx context.Context, path string) error {
	x, ok := remote.As[remote.Xattrer](k.inner)
	if !ok {
		return nil
	}
	attrs, err := x.Xattrs(ctx, path)
	if err == nil && len(attrs) > 0 {
		err = errXattrs
	}
	return err
}

// pack puts files of one directory in an archive. Until one is removed its member does not
// show. Each packer relies on its own archive alone, also where another, or one that was broken
// off, has the same file in his: equal members show as one file.
func (k *Backend) pack(ctx context.Context, dir string, files []remote.Entry) (done Converted) {
	if len(files) < k.opts.Fewest {
		return done
	}
	contents, errs := make([]bytesSource, len(files)), make([]error, len(files))
	parallel(len(files), func(i int) { contents[i], errs[i] = k.readPlainFile(ctx, files[i]) })
	var items []archive.Item
	byName := map[string]remote.Entry{}
	for i, e := range files {
		if errs[i] != nil {
			done.leave(e.Path, errs[i])
			continue
		}
		_, name := remote.Split(e.Path)
		sum, err := archive.Measure(contents[i])
		if err != nil {
			done.leave(e.Path, err)
			continue
		}
		m := archive.Member{Name: name, MTime: e.MTime, Mode: e.Mode & 0o7777, ModeKnown: e.ModeKnown, Sum: sum, From: e.Version}
		items = append(items, archive.Item{Member: m, Source: contents[i]})
		byName[name] = e
	}
	if len(items) < k.opts.Fewest {
		return done
	}
	return k.replaceByArchive(ctx, dir, items, byName, done)
}

// replaceByArchive stores an archive of plain files, and removes them.
func (k *Backend) replaceByArchive(ctx context.Context, dir string, items []archive.Item, files map[string]remote.Entry, done Converted) Converted {
	a, err := archive.New(archive.Index{ID: archive.NewID(time.Now())}, items)
	var v *view
	var h *held
	if err == nil {
		var e remote.Entry
		if e, err = k.putArchive(ctx, dir, a, ""); err == nil {
			k.know(e, a.Index())
		}
	}
	if err == nil || isUnsure(err) {
		v, h, err = k.stored(ctx, dir, a)
		if errors.Is(err, errUnlisted) {
			k.hides(ctx, dir, a)
		}
	}
	if err != nil {
		done.leave(dir, err)
		return done
	}
	done.Archives++
	errs := make([]error, len(h.index.Members))
	parallel(len(errs), func(i int) {
		m := &member{&h.index.Members[i], h}
		if errs[i] = remote.ContextErr(ctx); errs[i] == nil {
			errs[i] = k.unlink(ctx, dir, m, files[m.Name])
		}
	})
	for i := range errs {
		m := &h.index.Members[i]
		if errs[i] != nil {
			done.leave(remote.Join(dir, m.Name), errs[i])
			continue
		}
		done.Files++
		done.Bytes += m.Size
	}
	k.forgetOnly(v.dir)
	return done
}

// unlink removes a plain file that is in an archive now. If it is another by then, or somebody
// else has removed it, its member goes.
func (k *Backend) unlink(ctx context.Context, dir string, m *member, e remote.Entry) error {
	err := k.inner.Remove(ctx, e.Path, remote.RemoveOptions{Type: remote.File, Version: e.Version})
	if err == nil {
		k.noted(e.Path, (*view).uncover)
		return nil
	}
	if isKind(err, remote.NotExist, remote.Conflict, remote.IsDir) && !isUnsure(err) {
		if _, terr := k.entomb(ctx, dir, m.uid()); terr != nil {
			return unsure("pack", e.Path, terr)
		}
	}
	return err
}

package keep

import (
	"context"
	"errors"
	"io"
	"slices"

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
		names := newSeen()
		var plain []remote.Entry
		v, err := k.list(ctx, todo[0], func(e remote.Entry) error {
			if _, name := remote.Split(e.Path); names.first(name) {
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

// Unpack makes plain files of all members in dir and below it, archive by archive: the files
// first, then the archive goes. What fails is told in Left and stays as it is; the error is
// one of a directory, or of the context. It can be broken off and begun again. Tombstones
// go as well, so that nothing of this package is left: no other client that keeps archives
// may be writing there meanwhile.
func (k *Backend) Unpack(ctx context.Context, dir string) (all Converted, err error) {
	if err := remote.CheckPath("unpack", dir); err != nil {
		return all, err
	}
	err = k.walk(ctx, dir, func(dir string, plain []remote.Entry, v *view) error {
		all.add(k.unpackDir(ctx, dir, plain, v))
		return remote.ContextErr(ctx)
	})
	return all, err
}

// unpackDir unpacks the archives of one directory.
func (k *Backend) unpackDir(ctx context.Context, dir string, plain []remote.Entry, v *view) (all Converted) {
	hidden := map[string]bool{}
	for _, e := range plain {
		_, name := remote.Split(e.Path)
		hidden[name] = true
	}
	whole := !v.pending && len(v.plain) == 0
	for name := range v.plain {
		all.leave(remote.Join(dir, name), archive.ErrDamaged)
	}
	if v.pending {
		all.leave(dir, errPending)
	}
	for _, h := range v.archives {
		done := k.unpack(ctx, dir, hidden, v, h)
		all.add(done)
		if len(done.Left) > 0 {
			whole = false
			continue
		}
		if err := k.discard(ctx, h.entry); err != nil {
			all.leave(h.entry.Path, err)
			whole = false
			continue
		}
		all.Archives++
	}
	defer k.forgetOnly(dir)
	if !whole {
		return all
	}
	errs := make([]error, len(v.tombs))
	parallel(len(v.tombs), func(i int) { errs[i] = k.discard(ctx, v.tombs[i].entry) })
	if err := firstOf(errs...); err != nil {
		all.leave(dir, err)
	}
	return all
}

// unpack makes plain files of what shows of an archive.
func (k *Backend) unpack(ctx context.Context, dir string, hidden map[string]bool, v *view, h *held) (done Converted) {
	var show []*member
	for _, all := range v.names {
		for _, m := range all {
			if m.in == h && v.shown(m.Name) == m && !hidden[m.Name] {
				show = append(show, m)
			}
		}
	}
	slices.SortFunc(show, func(a, b *member) int { return a.Origin.Compare(b.Origin) })
	errs := make([]error, len(show))
	parallel(len(show), func(i int) { errs[i] = k.unpackFile(ctx, remote.Join(dir, show[i].Name), show[i]) })
	for i, m := range show {
		if errs[i] != nil {
			done.leave(remote.Join(dir, m.Name), errs[i])
			continue
		}
		done.Files++
		done.Bytes += m.Size
	}
	return done
}

// unpackFile makes a plain file of a member, which it hides then.
func (k *Backend) unpackFile(ctx context.Context, path string, m *member) error {
	p := make([]byte, m.Size)
	n, err := k.readPart(ctx, path, m, p, 0)
	if err != nil && err != io.EOF {
		return err
	}
	if n < len(p) {
		return fail("unpack", path, remote.Corrupt)
	}
	_, err = k.inner.Put(ctx, path, bytesSource(p), remote.PutOptions{Cond: remote.Cond{NotExist: true}, Attrs: m.attrs()})
	if isKind(err, remote.Exist) {
		return nil // somebody has made one: it is what shows
	}
	return err
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
	if k.Batches().Files == 0 {
		return all, fail("pack", dir, remote.Unsupported)
	}
	err = k.walk(ctx, dir, func(dir string, plain []remote.Entry, v *view) error {
		var some []remote.Entry
		var bytes int64
		for _, e := range plain {
			if !k.packable(ctx, e, size, v, &all) {
				continue
			}
			if len(some) == packFiles || bytes+e.Size > packBytes && len(some) > 0 {
				all.add(k.pack(ctx, dir, some, v.newest()))
				some, bytes = nil, 0
			}
			some, bytes = append(some, e), bytes+e.Size
		}
		all.add(k.pack(ctx, dir, some, v.newest()))
		return remote.ContextErr(ctx)
	})
	return all, err
}

// packable tells whether a file is to be packed.
func (k *Backend) packable(ctx context.Context, e remote.Entry, size int64, v *view, all *Converted) bool {
	_, name := remote.Split(e.Path)
	if e.Type != remote.File || e.Size > min(size, packBytes) || !archive.CanHold(name) {
		return false
	}
	if e.Version == "" || e.Provisional {
		all.leave(e.Path, errFresh)
		return false
	}
	err := k.bare(ctx, e.Path)
	packed := false
	if err == nil {
		packed, err = k.finish(ctx, e, v.named(name))
	}
	if err != nil {
		all.leave(e.Path, err)
	} else if packed {
		all.Files++
		all.Bytes += e.Size
	}
	return err == nil && !packed
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

// finish settles a file that hides members: if the one that would show has its bytes, it is
// from a Pack that was broken off, and the file goes; otherwise the members do.
func (k *Backend) finish(ctx context.Context, e remote.Entry, old []*member) (packed bool, err error) {
	if len(old) == 0 {
		return false, nil
	}
	same, err := k.holds(ctx, e, old[0].Version())
	if err != nil {
		return false, err
	}
	if same {
		return true, k.inner.Remove(ctx, e.Path, remote.RemoveOptions{Type: remote.File, Version: e.Version})
	}
	return false, k.kill(ctx, "pack", e.Path, old)
}

// errPending is why archives are left that Unpack has met.
var errPending = errors.New("an archive is being written there")

// pack puts files of one directory in an archive. Until one is removed it hides its member.
func (k *Backend) pack(ctx context.Context, dir string, files []remote.Entry, after archive.ID) (done Converted) {
	if len(files) < k.opts.Fewest {
		return done
	}
	contents, errs := make([]bytesSource, len(files)), make([]error, len(files))
	parallel(len(files), func(i int) { contents[i], errs[i] = k.readFile(ctx, files[i]) })
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
		m := archive.Member{Name: name, MTime: e.MTime, Mode: e.Mode & 0o7777, ModeKnown: e.ModeKnown, Sum: sum}
		items = append(items, archive.Item{Member: m, Source: contents[i]})
		byName[name] = e
	}
	if len(items) < k.opts.Fewest {
		return done
	}
	h, _, err := k.putArchive(ctx, dir, after, nil, items, "")
	if err != nil {
		done.leave(dir, err)
		return done
	}
	done.Archives++
	done.add(k.unlink(ctx, dir, h, byName))
	k.forgetOnly(dir)
	return done
}

// readFile reads a plain file as it was listed.
func (k *Backend) readFile(ctx context.Context, e remote.Entry) (bytesSource, error) {
	p := make([]byte, e.Size)
	n, err := k.inner.ReadAt(ctx, remote.Ref{Path: e.Path, Version: e.Version, Size: e.Size}, p, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if n < len(p) {
		return nil, fail("pack", e.Path, remote.Changed)
	}
	return p, nil
}

// unlink removes the files that are in an archive now. One that is another by then stays,
// and its member goes.
func (k *Backend) unlink(ctx context.Context, dir string, h *held, files map[string]remote.Entry) (done Converted) {
	errs := make([]error, len(h.index.Members))
	parallel(len(errs), func(i int) {
		m := &h.index.Members[i]
		e := files[m.Name]
		err := k.inner.Remove(ctx, e.Path, remote.RemoveOptions{Type: remote.File, Version: e.Version})
		if err != nil {
			errs[i] = firstOf(k.entomb(ctx, dir, m.Origin), err)
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
	return done
}

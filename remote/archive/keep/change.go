package keep

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive"
)

// plainAt returns what the server itself has at path; false if it has nothing.
func (k *Backend) plainAt(ctx context.Context, path string) (remote.Entry, bool, error) {
	e, err := k.inner.Stat(ctx, path)
	if isKind(err, remote.NotExist, remote.NotDir) {
		return e, false, nil
	}
	return e, err == nil, err
}

// probable returns a view of a path's directory, nil if that is not there. If it shows nothing
// in an archive of the path's name, it may be a moment old; otherwise it is true now.
func (k *Backend) probable(ctx context.Context, path string) (*view, error) {
	dir, name := remote.Split(path)
	v, err := k.hint(ctx, dir)
	if err == nil {
		if all, hidden := v.living(name); len(all) == 0 && hidden == nil && v.find(name) == nil {
			return v, nil
		}
		v, err = k.look(ctx, dir)
	}
	if isKind(err, remote.NotExist, remote.NotDir) {
		return nil, nil
	}
	return v, err
}

// putter stores a plain file.
type putter func(remote.PutOptions) (remote.Entry, error)

// Put implements remote.Backend.
func (k *Backend) Put(ctx context.Context, path string, src remote.Source, opts remote.PutOptions) (remote.Entry, error) {
	return k.store(ctx, "put", path, src, opts, func(o remote.PutOptions) (remote.Entry, error) {
		return k.inner.Put(ctx, path, src, o)
	})
}

// PutGrowing implements remote.GrowingPutter.
func (k *Backend) PutGrowing(ctx context.Context, path string, src remote.Growing, opts remote.PutOptions) (remote.Entry, error) {
	g, ok := remote.As[remote.GrowingPutter](k.inner)
	if !ok {
		return remote.Entry{}, fail("putgrowing", path, remote.Unsupported)
	}
	return k.store(ctx, "putgrowing", path, nil, opts, func(o remote.PutOptions) (remote.Entry, error) {
		return g.PutGrowing(ctx, path, src, o)
	})
}

// store makes a plain file by put, in the place of a member if there is one. src is its
// content, nil if that is not known before.
func (k *Backend) store(ctx context.Context, op, path string, src remote.Source, opts remote.PutOptions, put putter) (remote.Entry, error) {
	if err := takes(op, path); err != nil {
		return remote.Entry{}, err
	}
	switch {
	case archive.IsVersion(opts.Cond.Version):
		return k.overwrite(ctx, op, path, src, opts, put)
	case opts.Cond.Version != "":
		return put(opts) // of a plain file
	case opts.Cond.NotExist:
		return k.storeNew(ctx, op, path, opts, put)
	}
	v, err := k.lookAbove(ctx, path)
	if err != nil {
		return remote.Entry{}, err
	}
	_, name := remote.Split(path)
	c := v.find(name)
	if c == nil {
		e, err := put(opts)
		if err != nil {
			return e, err
		}
		return e, k.supersede(ctx, op, path, e.Version)
	}
	if opts.Attrs.Mode == nil && c[0].ModeKnown {
		opts.Attrs.Mode = &c[0].Mode
	}
	return k.replace(ctx, op, path, c, put, opts)
}

// supersede declares dead what others have stored under a name before a plain file was put
// there whatever there was.
func (k *Backend) supersede(ctx context.Context, op, path, version string) error {
	dir, name := remote.Split(path)
	v, err := k.listed(ctx, dir, "", nil)
	if isKind(err, remote.NotExist, remote.NotDir) {
		return nil
	}
	if err != nil {
		return unsure(op, path, err)
	}
	all, _ := v.living(name)
	for _, c := range all {
		if c.isOf(version) {
			continue
		}
		if _, err := k.bury(ctx, dir, c); err != nil {
			return unsure(op, path, err)
		}
	}
	return nil
}

// lookAbove looks at the directory of path. Of one that is not there the view is empty.
func (k *Backend) lookAbove(ctx context.Context, path string) (*view, error) {
	dir, _ := remote.Split(path)
	v, err := k.look(ctx, dir)
	if isKind(err, remote.NotExist, remote.NotDir) {
		return &view{}, nil
	}
	return v, err
}

// storeNew makes a plain file where there is nothing.
func (k *Backend) storeNew(ctx context.Context, op, path string, opts remote.PutOptions, put putter) (remote.Entry, error) {
	_, name := remote.Split(path)
	v, err := k.probable(ctx, path)
	if err != nil {
		return remote.Entry{}, err
	}
	if v != nil && v.find(name) != nil {
		return remote.Entry{}, fail(op, path, remote.Exist)
	}
	e, err := put(opts)
	if err != nil {
		return e, err
	}
	return e, k.settle(ctx, op, e, path, func() error {
		return k.inner.Remove(ctx, path, remote.RemoveOptions{Type: remote.File, Version: e.Version})
	})
}

// settle looks, after something new was made at path, whether somebody has stored a member
// of that name: then what we made is taken back, and the error is Exist. A file with the bytes
// of a member stays: somebody may have seen it, and rely on it.
func (k *Backend) settle(ctx context.Context, op string, e remote.Entry, path string, undo func() error) error {
	dir, name := remote.Split(path)
	v, err := k.listed(ctx, dir, "", nil)
	if isKind(err, remote.NotExist, remote.NotDir) {
		return nil
	}
	if err != nil {
		return unsure(op, path, err)
	}
	taken, equal, err := k.rivals(ctx, e, v, name)
	if err != nil {
		return unsure(op, path, err)
	}
	switch {
	case len(equal) > 0:
		_, err = k.bury(ctx, dir, equal)
		return asUnsure(op, path, err)
	case !taken:
		return nil
	}
	if err = undo(); err != nil {
		return unsure(op, path, err)
	}
	k.noted(path, (*view).uncover)
	return fail(op, path, remote.Exist)
}

// rivals tells whether members claim the name of a new entry, and returns those that have its
// bytes.
func (k *Backend) rivals(ctx context.Context, e remote.Entry, v *view, name string) (taken bool, equal claim, err error) {
	all, hidden := v.living(name)
	for _, c := range append(all, hidden) {
		if len(c) == 0 || e.Version != "" && c.isOf(e.Version) {
			continue // there is none, or it was just packed
		}
		same, err := k.holds(ctx, e, c[0].Version())
		if err != nil {
			return false, nil, err
		}
		if same {
			equal = append(equal, c...)
		}
		taken = true
	}
	return taken, equal, nil
}

// overwrite makes a plain file in the place of the version of a member.
func (k *Backend) overwrite(ctx context.Context, op, path string, src remote.Source, opts remote.PutOptions, put putter) (remote.Entry, error) {
	v, err := k.lookAbove(ctx, path)
	if err != nil {
		return remote.Entry{}, err
	}
	_, name := remote.Split(path)
	c := v.find(name)
	if c != nil && c[0].Version() == opts.Cond.Version {
		if opts.Attrs.Mode == nil && c[0].ModeKnown {
			opts.Attrs.Mode = &c[0].Mode
		}
		return k.replace(ctx, op, path, c, put, opts)
	}
	e, plain, err := k.plainAt(ctx, path)
	switch {
	case err != nil:
		return remote.Entry{}, err
	case !plain:
		return remote.Entry{}, fail(op, path, remote.Conflict)
	}
	all, _ := v.living(name)
	for _, c := range all {
		if c[0].Version() != opts.Cond.Version {
			continue
		}
		same, err := k.sameAs(ctx, e, src)
		if err != nil && !isKind(err, remote.Changed, remote.NotExist) {
			return remote.Entry{}, err // it may be that attempt's
		}
		if !same {
			break
		}
		if _, err := k.bury(ctx, v.dir, c); err != nil { // an attempt before has come this far
			return remote.Entry{}, unsure(op, path, err)
		}
		return e, nil
	}
	if opts.Cond, err = k.now(ctx, op, e, opts.Cond); err != nil {
		return remote.Entry{}, err
	}
	return put(opts)
}

// replace makes a plain file where a member shows, and the member dead after it.
func (k *Backend) replace(ctx context.Context, op, path string, c claim, put putter, opts remote.PutOptions) (remote.Entry, error) {
	opts.Cond = remote.Cond{NotExist: true}
	e, err := put(opts)
	if isKind(err, remote.Exist) {
		return e, &remote.Error{Op: op, Path: path, Kind: remote.Conflict, Err: err, Unsure: isUnsure(err)}
	}
	if err != nil {
		return e, err
	}
	k.noted(path, (*view).cover)
	dir, _ := remote.Split(path)
	first, err := k.bury(ctx, dir, c)
	switch {
	case err != nil:
		return e, unsure(op, path, err)
	case first:
		k.upkeep(ctx, dir)
		return e, nil
	}
	if same, err := k.holds(ctx, e, c[0].Version()); err != nil {
		return e, unsure(op, path, err)
	} else if same { // it is what others take for the member by now
		return e, nil
	}
	return e, k.takeBack(ctx, op, path, e.Version)
}

// takeBack removes a plain file of ours, because what it was to replace has been changed by
// somebody else: Conflict, or an error that is Unsure. The file must not have the bytes of what
// it was to replace.
func (k *Backend) takeBack(ctx context.Context, op, path, version string) error {
	if err := k.inner.Remove(ctx, path, remote.RemoveOptions{Type: remote.File, Version: version}); err != nil {
		return unsure(op, path, err)
	}
	dir, _ := remote.Split(path)
	k.forgetOnly(dir)
	return fail(op, path, remote.Conflict)
}

// isUnsure tells whether a change may have happened despite an error.
func isUnsure(err error) bool {
	var e *remote.Error
	return errors.As(err, &e) && e.Unsure
}

// now turns a condition on a member's version into one on the plain file that it has become
// by an Unpack: the one with its bytes and its time.
func (k *Backend) now(ctx context.Context, op string, e remote.Entry, cond remote.Cond) (remote.Cond, error) {
	at, ok := archive.VersionTime(cond.Version)
	if exact := k.inner.Caps().TimeGranularity; !ok || at.Sub(e.MTime).Abs() > exact {
		return cond, fail(op, e.Path, remote.Conflict)
	}
	same, err := k.holds(ctx, e, cond.Version)
	if err != nil {
		return cond, err
	}
	if !same {
		return cond, fail(op, e.Path, remote.Conflict)
	}
	return remote.Cond{Version: e.Version, Provisional: e.Provisional}, nil
}

// maxMember is the largest file that may ever be a member, in bytes.
const maxMember = 64 << 20

// holds tells whether a plain file has the bytes of a member's version.
func (k *Backend) holds(ctx context.Context, e remote.Entry, version string) (bool, error) {
	if e.Type != remote.File || e.Size > maxMember {
		return false, nil
	}
	if e.Checksum.Algorithm == "sha256" {
		return e.Checksum.Hex == archive.Digest(version), nil
	}
	p, err := k.readPlainFile(ctx, e)
	if isKind(err, remote.Changed, remote.NotExist) {
		return false, nil
	}
	return err == nil && digest(p) == archive.Digest(version), err
}

// sameAs tells whether a plain file has the bytes of a source, which may be nil.
func (k *Backend) sameAs(ctx context.Context, e remote.Entry, src remote.Source) (bool, error) {
	if src == nil || e.Type != remote.File || e.Size != src.Size() || e.Size > maxMember {
		return false, nil
	}
	r, err := src.Open()
	if err != nil {
		return false, err
	}
	want, err := io.ReadAll(r)
	if err = firstOf(err, r.Close()); err != nil {
		return false, err
	}
	got, err := k.readPlainFile(ctx, e)
	return err == nil && bytes.Equal(got, want), err
}

// readPlainFile reads a plain file as it was listed.
func (k *Backend) readPlainFile(ctx context.Context, e remote.Entry) (bytesSource, error) {
	p := make([]byte, e.Size)
	n, err := k.inner.ReadAt(ctx, remote.Ref{Path: e.Path, Version: e.Version, Size: e.Size}, p, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if n < len(p) {
		return nil, fail("read", e.Path, remote.Changed)
	}
	return p, nil
}

// unsure makes an error of a change that may have happened.
func unsure(op, path string, err error) error {
	var e *remote.Error
	if !errors.As(err, &e) {
		return err // of an ended context
	}
	return &remote.Error{Op: op, Path: path, Kind: e.Kind, Err: err, Unsure: true, RetryAfter: e.RetryAfter}
}

// Mkdir implements remote.Backend.
func (k *Backend) Mkdir(ctx context.Context, path string) (remote.Entry, error) {
	return k.create(ctx, "mkdir", path, remote.Dir, func() (remote.Entry, error) { return k.inner.Mkdir(ctx, path) })
}

// Symlink implements remote.Symlinker.
func (k *Backend) Symlink(ctx context.Context, path, target string) (remote.Entry, error) {
	s, ok := remote.As[remote.Symlinker](k.inner)
	if !ok {
		return remote.Entry{}, fail("symlink", path, remote.Unsupported)
	}
	return k.create(ctx, "symlink", path, remote.Symlink, func() (remote.Entry, error) { return s.Symlink(ctx, path, target) })
}

// create makes something that is no file, where there is nothing.
func (k *Backend) create(ctx context.Context, op, path string, kind remote.Type, create func() (remote.Entry, error)) (remote.Entry, error) {
	if err := takes(op, path); err != nil {
		return remote.Entry{}, err
	}
	_, name := remote.Split(path)
	if name != "" {
		v, err := k.probable(ctx, path)
		if err != nil {
			return remote.Entry{}, err
		}
		if v != nil && v.find(name) != nil {
			return remote.Entry{}, fail(op, path, remote.Exist)
		}
	}
	e, err := create()
	if err != nil {
		return e, err
	}
	return e, k.settle(ctx, op, e, path, func() error {
		return k.inner.Remove(ctx, path, remote.RemoveOptions{Type: kind, Version: linkVersion(e)})
	})
}

// linkVersion returns the version of what is no directory.
func linkVersion(e remote.Entry) string {
	if e.Type == remote.Dir {
		return ""
	}
	return e.Version
}

// bury writes the tombstones of a claim. The first one decides: first is false if somebody
// else had written that, and the file is no longer ours to change. It is also false, with an
// error, if that is not known.
func (k *Backend) bury(ctx context.Context, dir string, c claim) (first bool, err error) {
	for i, m := range c {
		mine, err := k.entomb(ctx, dir, m.uid())
		if i == 0 {
			first = mine
		}
		if err != nil {
			return first, err
		}
		if !first {
			return false, nil
		}
	}
	return first, nil
}

// entomb writes a tombstone, and tells whether there was none. Its content tells our attempts
// from those of others.
func (k *Backend) entomb(ctx context.Context, dir string, uid archive.UID) (mine bool, err error) {
	opts := remote.PutOptions{Cond: remote.Cond{NotExist: true}}
	_, err = k.inner.Put(ctx, remote.Join(dir, uid.Tombstone()), bytesSource(rand.Text()), opts)
	if err != nil && (!isKind(err, remote.Exist) || isUnsure(err)) {
		return false, err
	}
	if v := k.remembered(dir); v != nil {
		v.bury(uid)
	}
	return err == nil, nil
}

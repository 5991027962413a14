package keep

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive"
)

// below returns the living members of a path's name, as find (hint or look) knows
// them. A directory that is not there has none.
func (k *Backend) below(ctx context.Context, path string, find finder) ([]*member, error) {
	dir, name := remote.Split(path)
	if name == "" {
		return nil, remote.ContextErr(ctx)
	}
	v, err := find(ctx, dir)
	if isKind(err, remote.NotExist, remote.NotDir) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return v.named(name), nil
}

// finder is one of the ways to know what is in a directory.
type finder func(ctx context.Context, dir string) (*view, error)

// probable returns the living members of a path's name. That there are none may be a moment
// old, that there are some is true now.
func (k *Backend) probable(ctx context.Context, path string) ([]*member, error) {
	all, err := k.below(ctx, path, k.hint)
	if err != nil || len(all) == 0 {
		return all, err
	}
	return k.below(ctx, path, k.look)
}

// plainAt returns what the server itself has at path; false if it has nothing.
func (k *Backend) plainAt(ctx context.Context, path string) (remote.Entry, bool, error) {
	e, err := k.inner.Stat(ctx, path)
	if isKind(err, remote.NotExist, remote.NotDir) {
		return e, false, nil
	}
	return e, err == nil, err
}

// Put implements remote.Backend.
func (k *Backend) Put(ctx context.Context, path string, src remote.Source, opts remote.PutOptions) (remote.Entry, error) {
	return k.store(ctx, "put", path, opts, func(o remote.PutOptions) (remote.Entry, error) {
		return k.inner.Put(ctx, path, src, o)
	})
}

// PutGrowing implements remote.GrowingPutter.
func (k *Backend) PutGrowing(ctx context.Context, path string, src remote.Growing, opts remote.PutOptions) (remote.Entry, error) {
	g, ok := remote.As[remote.GrowingPutter](k.inner)
	if !ok {
		return remote.Entry{}, fail("putgrowing", path, remote.Unsupported)
	}
	return k.store(ctx, "putgrowing", path, opts, func(o remote.PutOptions) (remote.Entry, error) {
		return g.PutGrowing(ctx, path, src, o)
	})
}

// store makes a plain file by put, in the place of a member if there is one.
func (k *Backend) store(ctx context.Context, op, path string, opts remote.PutOptions, put func(remote.PutOptions) (remote.Entry, error)) (remote.Entry, error) {
	if err := takes(op, path); err != nil {
		return remote.Entry{}, err
	}
	ours := archive.IsVersion(opts.Cond.Version)
	find := k.probable
	if ours {
		find = func(ctx context.Context, path string) ([]*member, error) { return k.below(ctx, path, k.look) }
	}
	old, err := find(ctx, path)
	if err != nil {
		return remote.Entry{}, err
	}
	if len(old) > 0 || ours {
		e, plain, err := k.plainAt(ctx, path)
		switch {
		case err != nil:
			return remote.Entry{}, err
		case !plain:
			return k.replace(ctx, op, path, old, opts, put)
		case ours:
			if opts.Cond, err = k.now(ctx, op, e, opts.Cond); err != nil {
				return remote.Entry{}, err
			}
		}
	}
	e, err := put(opts)
	if err != nil {
		return e, err
	}
	k.drop(ctx, path, old)
	if opts.Cond.NotExist {
		err = k.settle(ctx, op, path, func() error {
			return k.inner.Remove(ctx, path, remote.RemoveOptions{Type: remote.File, Version: e.Version})
		})
	}
	return e, err
}

// replace makes a plain file where the first of old shows.
func (k *Backend) replace(ctx context.Context, op, path string, old []*member, opts remote.PutOptions, put func(remote.PutOptions) (remote.Entry, error)) (remote.Entry, error) {
	cond := opts.Cond
	switch {
	case cond.NotExist && len(old) > 0:
		return remote.Entry{}, fail(op, path, remote.Exist)
	case cond.Version != "" && (len(old) == 0 || old[0].Version() != cond.Version):
		return remote.Entry{}, fail(op, path, remote.Conflict)
	case cond.Version != "":
		opts.Cond = remote.Cond{NotExist: true}
	}
	if opts.Attrs.Mode == nil && old[0].ModeKnown {
		opts.Attrs.Mode = &old[0].Mode
	}
	e, err := put(opts)
	if isKind(err, remote.Exist) {
		return e, &remote.Error{Op: op, Path: path, Kind: remote.Conflict, Err: err}
	}
	if err != nil {
		return e, err
	}
	k.drop(ctx, path, old)
	return e, nil
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
	p := make([]byte, e.Size)
	n, err := k.inner.ReadAt(ctx, remote.Ref{Path: e.Path, Version: e.Version, Size: e.Size}, p, 0)
	if isKind(err, remote.Changed, remote.NotExist) {
		return false, nil
	}
	if err != nil && err != io.EOF {
		return false, err
	}
	return n == len(p) && digest(p) == archive.Digest(version), nil
}

// settle looks, after something new was made at path, whether somebody has stored a member
// of that name meanwhile: then what we made is taken back.
func (k *Backend) settle(ctx context.Context, op, path string, undo func() error) error {
	m, err := k.member(ctx, path)
	if err == nil && m == nil || isKind(err, remote.NotExist, remote.NotDir) {
		return nil
	}
	if err == nil {
		if err = undo(); err == nil || isKind(err, remote.NotExist) {
			return fail(op, path, remote.Exist)
		}
	}
	return unsure(op, path, err)
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
	old, err := k.probable(ctx, path)
	if err != nil {
		return remote.Entry{}, err
	}
	if len(old) > 0 {
		return remote.Entry{}, fail(op, path, remote.Exist) // of the member, or of what hides it
	}
	e, err := create()
	if err != nil {
		return e, err
	}
	return e, k.settle(ctx, op, path, func() error {
		return k.inner.Remove(ctx, path, remote.RemoveOptions{Type: kind})
	})
}

// bytesSource is a Source over bytes.
type bytesSource []byte

// Size implements remote.Source.
func (b bytesSource) Size() int64 { return int64(len(b)) }

// Open implements remote.Source.
func (b bytesSource) Open() (io.ReadCloser, error) { return bytesReader{bytes.NewReader(b)}, nil }

// bytesReader can seek, so that an upload can be resumed.
type bytesReader struct{ *bytes.Reader }

// Close implements io.Closer.
func (bytesReader) Close() error { return nil }

// attrs are the attributes of a member, for a plain file.
func (m *member) attrs() remote.Attrs {
	a := remote.Attrs{MTime: &m.MTime}
	if m.ModeKnown {
		a.Mode = &m.Mode
	}
	return a
}

// plain makes a plain file of the member at path, if it is not one.
func (k *Backend) plain(ctx context.Context, op, path string) error {
	for range moves {
		old, err := k.below(ctx, path, k.look)
		if err != nil {
			return err
		}
		_, is, err := k.plainAt(ctx, path)
		switch {
		case err != nil || is:
			return err
		case len(old) == 0:
			return fail(op, path, remote.NotExist)
		}
		p, err := k.content(ctx, path, old[0])
		if err == nil {
			_, err = k.inner.Put(ctx, path, bytesSource(p), remote.PutOptions{Cond: remote.Cond{NotExist: true}, Attrs: old[0].attrs()})
		}
		if err == nil {
			k.drop(ctx, path, old)
			return nil
		}
		if !isKind(err, remote.Exist, remote.Changed) {
			return err
		}
	}
	return fail(op, path, remote.Locked)
}

// Patch implements remote.Patcher. A member cannot be changed in parts (Unsupported): it is
// small, and a Put replaces it as a whole.
func (k *Backend) Patch(ctx context.Context, path string, p remote.Patch, opts remote.PutOptions) (remote.Entry, error) {
	inner, ok := remote.As[remote.Patcher](k.inner)
	if !ok {
		return remote.Entry{}, fail("patch", path, remote.Unsupported)
	}
	if err := takes("patch", path); err != nil {
		return remote.Entry{}, err
	}
	if archive.IsVersion(opts.Cond.Version) {
		return remote.Entry{}, fail("patch", path, remote.Unsupported)
	}
	return inner.Patch(ctx, path, p, opts)
}

// SetAttr implements remote.AttrSetter. A member is made a plain file first.
func (k *Backend) SetAttr(ctx context.Context, path string, a remote.Attrs) (remote.Entry, error) {
	s, ok := remote.As[remote.AttrSetter](k.inner)
	if !ok {
		return remote.Entry{}, fail("setattr", path, remote.Unsupported)
	}
	if err := k.visible(ctx, "setattr", path); err != nil {
		return remote.Entry{}, err
	}
	e, err := s.SetAttr(ctx, path, a)
	if !missing(err) {
		return e, err
	}
	if err := k.plain(ctx, "setattr", path); err != nil {
		return remote.Entry{}, err
	}
	return s.SetAttr(ctx, path, a)
}

// XattrPrefix implements remote.Xattrer.
func (k *Backend) XattrPrefix() string {
	if x, ok := remote.As[remote.Xattrer](k.inner); ok {
		return x.XattrPrefix()
	}
	return ""
}

// xattrs returns the ability.
func (k *Backend) xattrs(ctx context.Context, op, path string) (remote.Xattrer, error) {
	x, ok := remote.As[remote.Xattrer](k.inner)
	if !ok {
		return nil, fail(op, path, remote.Unsupported)
	}
	return x, k.visible(ctx, op, path)
}

// Xattrs implements remote.Xattrer. A member has none.
func (k *Backend) Xattrs(ctx context.Context, path string) (map[string][]byte, error) {
	x, err := k.xattrs(ctx, "xattrs", path)
	if err != nil {
		return nil, err
	}
	all, err := x.Xattrs(ctx, path)
	if !missing(err) {
		return all, err
	}
	m, lookErr := k.member(ctx, path)
	if lookErr == nil && m != nil {
		return map[string][]byte{}, nil
	}
	return nil, err
}

// SetXattr implements remote.Xattrer. A member is made a plain file first, so that its
// version becomes another; its old one can still be read.
func (k *Backend) SetXattr(ctx context.Context, path, name string, value []byte, mode remote.XattrMode) error {
	x, err := k.xattrs(ctx, "setxattr", path)
	if err != nil {
		return err
	}
	if err = x.SetXattr(ctx, path, name, value, mode); !missing(err) {
		return err
	}
	if mode == remote.XattrReplace {
		return k.explain(ctx, "setxattr", path, remote.NoXattr, err)
	}
	if err := k.plain(ctx, "setxattr", path); err != nil {
		return err
	}
	return x.SetXattr(ctx, path, name, value, mode)
}

// RemoveXattr implements remote.Xattrer.
func (k *Backend) RemoveXattr(ctx context.Context, path, name string) error {
	x, err := k.xattrs(ctx, "removexattr", path)
	if err != nil {
		return err
	}
	if err = x.RemoveXattr(ctx, path, name); !missing(err) {
		return err
	}
	return k.explain(ctx, "removexattr", path, remote.NoXattr, err)
}

// Replicas implements remote.Replicator. Those of a member are those of its archive.
func (k *Backend) Replicas(ctx context.Context, path string) ([]remote.Replica, error) {
	r, ok := remote.As[remote.Replicator](k.inner)
	if !ok {
		return nil, fail("replicas", path, remote.Unsupported)
	}
	if err := k.visible(ctx, "replicas", path); err != nil {
		return nil, err
	}
	all, err := r.Replicas(ctx, path)
	if !missing(err) {
		return all, err
	}
	m, lookErr := k.member(ctx, path)
	if lookErr != nil || m == nil {
		return nil, err
	}
	if all, err = r.Replicas(ctx, m.in.entry.Path); err != nil {
		return nil, err
	}
	for i := range all {
		all[i].Size, all[i].Checksum = -1, remote.Checksum{}
	}
	return all, nil
}

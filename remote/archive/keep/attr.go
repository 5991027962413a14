package keep

import (
	"bytes"
	"context"
	"io"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive"
)

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
	dir, name := remote.Split(path)
	v, err := k.look(ctx, dir)
	if err != nil {
		return err
	}
	c := v.find(name)
	_, is, err := k.plainAt(ctx, path)
	switch {
	case err != nil || is:
		return err
	case c == nil:
		return fail(op, path, remote.NotExist)
	}
	return k.unpackFile(ctx, op, path, c)
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
	e, err = s.SetAttr(ctx, path, a)
	return e, asUnsure("setattr", path, err) // it is another file already
}

// AttrBatches implements remote.AttrBatcher.
func (k *Backend) AttrBatches() int {
	if s, ok := remote.As[remote.AttrBatcher](k.inner); ok {
		return s.AttrBatches()
	}
	return 0
}

// SetAttrBatch implements remote.AttrBatcher. Members go alone, after those that the server
// itself has.
func (k *Backend) SetAttrBatch(ctx context.Context, items []remote.AttrItem) ([]remote.BatchResult, error) {
	s, ok := remote.As[remote.AttrBatcher](k.inner)
	if !ok {
		return nil, fail("setattrbatch", "/", remote.Unsupported)
	}
	results := make([]remote.BatchResult, len(items))
	var plain []remote.AttrItem
	var at []int // in items
	for i, it := range items {
		if results[i].Err = k.visible(ctx, "setattr", it.Path); results[i].Err == nil {
			plain, at = append(plain, it), append(at, i)
		}
	}
	if len(plain) == 0 {
		return results, remote.ContextErr(ctx)
	}
	got, err := s.SetAttrBatch(ctx, plain)
	if err != nil {
		return nil, err
	}
	parallel(len(plain), func(i int) {
		if it := plain[i]; missing(got[i].Err) {
			got[i].Entry, got[i].Err = k.SetAttr(ctx, it.Path, it.Attrs)
		}
		results[at[i]] = got[i]
	})
	return results, nil
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
	return asUnsure("setxattr", path, x.SetXattr(ctx, path, name, value, mode)) // it is another file already
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

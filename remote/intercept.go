package remote

import (
	"context"
	"errors"
	"io"
)

// Intercept returns b with f around each of its calls, those of the optional
// abilities and of opened streams included. Locator and Caps pass through, Close
// as well.
//
// This is the one mechanism of the decorators of this package. They are stacked,
// innermost first:
//
//	adapter -> Watchdog -> Throttle -> Limit -> Observe -> Breaker -> Retry
//
// Watchdog is innermost, so that waiting for a slot or for bandwidth is not taken for a
// dead server. Throttle is within Limit: a transfer that waits for bandwidth keeps its
// slot, because its connection is busy all the same.
// Limit holds a slot for what is really on the way and not for a back-off. Observe
// sees every attempt with its wait for a slot, but not the calls that the Breaker
// turns away. Breaker judges attempts, not the outcome of many, and knows the
// Watchdog's errors. Retry is outermost: it waits without a slot, and its next
// attempt is turned away at once when the Breaker has found the server dead.
func Intercept(b Backend, f Interceptor) Backend { return &decorator{inner: b, around: f} }

// decorator is a Backend with an Interceptor around each call.
type decorator struct {
	inner  Backend
	around Interceptor
}

var _ interface {
	Backend
	AttrSetter
	Symlinker
	Opener
	Usager
	Locator
	Xattrer
	Replicator
	TreeRemover
	Tracker
	GrowingPutter
	Patcher
	Batcher
	Bundler
	Pruner
	Foreseer
	AttrBatcher
	Unwrapper
} = (*decorator)(nil)

// run passes a call through the interceptor.
func (d *decorator) run(ctx context.Context, c *Call, next Next) error {
	streaming := false
	defer func() {
		if !streaming {
			c.finish()
		}
	}()
	err := d.around(ctx, c, next)
	streaming = c.Op == OpOpen && err == nil
	return err
}

// entry passes a call through that returns an Entry.
func (d *decorator) entry(ctx context.Context, c *Call, f func(context.Context) (Entry, error)) (Entry, error) {
	err := d.run(ctx, c, func(ctx context.Context) (err error) {
		c.Entry, err = f(ctx)
		return err
	})
	if err != nil {
		return Entry{}, err
	}
	return c.Entry, nil
}

// Unwrap implements Unwrapper.
func (d *decorator) Unwrap() Backend { return d.inner }

// Caps implements Backend.
func (d *decorator) Caps() Caps { return d.inner.Caps() }

// Close implements Backend.
func (d *decorator) Close() error { return d.inner.Close() }

// Stat implements Backend.
func (d *decorator) Stat(ctx context.Context, path string) (Entry, error) {
	c := &Call{Op: OpStat, Path: path}
	return d.entry(ctx, c, func(ctx context.Context) (Entry, error) { return d.inner.Stat(ctx, c.Path) })
}

// List implements Backend.
func (d *decorator) List(ctx context.Context, dir string, yield func(Entry) error) error {
	c := &Call{Op: OpList, Path: dir, Yield: yield}
	err := d.run(ctx, c, func(ctx context.Context) error {
		err := d.inner.List(ctx, c.Path, c.yield)
		if c.Halt != nil {
			return nil
		}
		return err
	})
	if err == nil {
		err = c.Halt
	}
	return err
}

// ReadAt implements Backend.
func (d *decorator) ReadAt(ctx context.Context, ref Ref, p []byte, off int64) (int, error) {
	c := &Call{Op: OpRead, Path: ref.Path, Ref: ref, Buf: p, Off: off}
	err := d.run(ctx, c, func(ctx context.Context) error {
		n, err := d.inner.ReadAt(ctx, c.Ref, c.Buf, c.Off)
		return c.bytes(n, err)
	})
	return c.result(err)
}

// bytes takes the result of a read.
func (c *Call) bytes(n int, err error) error {
	c.N, c.EOF = n, err == io.EOF
	if c.EOF {
		return nil
	}
	return err
}

// result gives the result of a read.
func (c *Call) result(err error) (int, error) {
	if err == nil && c.EOF {
		err = io.EOF
	}
	return c.N, err
}

// Put implements Backend.
func (d *decorator) Put(ctx context.Context, path string, src Source, opts PutOptions) (Entry, error) {
	c := &Call{Op: OpPut, Path: path, Source: src, Put: opts}
	return d.entry(ctx, c, func(ctx context.Context) (Entry, error) {
		return d.inner.Put(ctx, c.Path, &awaySource{c.Source, c}, c.Put)
	})
}

// Mkdir implements Backend.
func (d *decorator) Mkdir(ctx context.Context, path string) (Entry, error) {
	c := &Call{Op: OpMkdir, Path: path}
	return d.entry(ctx, c, func(ctx context.Context) (Entry, error) { return d.inner.Mkdir(ctx, c.Path) })
}

// Remove implements Backend.
func (d *decorator) Remove(ctx context.Context, path string, opts RemoveOptions) error {
	c := &Call{Op: OpRemove, Path: path, Remove: opts}
	return d.run(ctx, c, func(ctx context.Context) error { return d.inner.Remove(ctx, c.Path, c.Remove) })
}

// Rename implements Backend.
func (d *decorator) Rename(ctx context.Context, from, to string, opts RenameOptions) error {
	c := &Call{Op: OpRename, Path: from, To: to, Rename: opts}
	return d.run(ctx, c, func(ctx context.Context) error { return d.inner.Rename(ctx, c.Path, c.To, c.Rename) })
}

var errNoAbility = errors.New("the backend has not this ability")

// SetAttr implements AttrSetter.
func (d *decorator) SetAttr(ctx context.Context, path string, a Attrs) (Entry, error) {
	c := &Call{Op: OpSetAttr, Path: path, Attrs: a}
	inner, ok := As[AttrSetter](d.inner)
	if !ok {
		return Entry{}, c.Fail(Unsupported, errNoAbility)
	}
	return d.entry(ctx, c, func(ctx context.Context) (Entry, error) { return inner.SetAttr(ctx, c.Path, c.Attrs) })
}

// Symlink implements Symlinker.
func (d *decorator) Symlink(ctx context.Context, path, target string) (Entry, error) {
	c := &Call{Op: OpSymlink, Path: path, Target: target}
	inner, ok := As[Symlinker](d.inner)
	if !ok {
		return Entry{}, c.Fail(Unsupported, errNoAbility)
	}
	return d.entry(ctx, c, func(ctx context.Context) (Entry, error) { return inner.Symlink(ctx, c.Path, c.Target) })
}

// Usage implements Usager.
func (d *decorator) Usage(ctx context.Context) (Usage, error) {
	c := &Call{Op: OpUsage}
	inner, ok := As[Usager](d.inner)
	if !ok {
		return Usage{}, c.Fail(Unsupported, errNoAbility)
	}
	err := d.run(ctx, c, func(ctx context.Context) (err error) {
		c.Usage, err = inner.Usage(ctx)
		return err
	})
	return c.Usage, err
}

// URL implements Locator. It is "" if the adapter knows none.
func (d *decorator) URL(path string) string {
	if inner, ok := As[Locator](d.inner); ok {
		return inner.URL(path)
	}
	return ""
}

// XattrPrefix implements Xattrer. It is "" if the adapter has not this ability.
func (d *decorator) XattrPrefix() string {
	if inner, ok := As[Xattrer](d.inner); ok {
		return inner.XattrPrefix()
	}
	return ""
}

// Xattrs implements Xattrer.
func (d *decorator) Xattrs(ctx context.Context, path string) (map[string][]byte, error) {
	c := &Call{Op: OpXattrs, Path: path}
	inner, ok := As[Xattrer](d.inner)
	if !ok {
		return nil, c.Fail(Unsupported, errNoAbility)
	}
	err := d.run(ctx, c, func(ctx context.Context) (err error) {
		c.Xattrs, err = inner.Xattrs(ctx, c.Path)
		return err
	})
	if err != nil {
		return nil, err
	}
	return c.Xattrs, nil
}

// SetXattr implements Xattrer.
func (d *decorator) SetXattr(ctx context.Context, path, name string, value []byte, mode XattrMode) error {
	c := &Call{Op: OpSetXattr, Path: path, Name: name, Value: value, XattrMode: mode}
	inner, ok := As[Xattrer](d.inner)
	if !ok {
		return c.Fail(Unsupported, errNoAbility)
	}
	return d.run(ctx, c, func(ctx context.Context) error {
		return inner.SetXattr(ctx, c.Path, c.Name, c.Value, c.XattrMode)
	})
}

// RemoveXattr implements Xattrer.
func (d *decorator) RemoveXattr(ctx context.Context, path, name string) error {
	c := &Call{Op: OpRemoveXattr, Path: path, Name: name}
	inner, ok := As[Xattrer](d.inner)
	if !ok {
		return c.Fail(Unsupported, errNoAbility)
	}
	return d.run(ctx, c, func(ctx context.Context) error { return inner.RemoveXattr(ctx, c.Path, c.Name) })
}

// Replicas implements Replicator.
func (d *decorator) Replicas(ctx context.Context, path string) ([]Replica, error) {
	c := &Call{Op: OpReplicas, Path: path}
	inner, ok := As[Replicator](d.inner)
	if !ok {
		return nil, c.Fail(Unsupported, errNoAbility)
	}
	err := d.run(ctx, c, func(ctx context.Context) (err error) {
		c.Replicas, err = inner.Replicas(ctx, c.Path)
		return err
	})
	if err != nil {
		return nil, err
	}
	return c.Replicas, nil
}

// RemoveTree implements TreeRemover.
func (d *decorator) RemoveTree(ctx context.Context, path string) error {
	c := &Call{Op: OpRemoveTree, Path: path}
	inner, ok := As[TreeRemover](d.inner)
	if !ok {
		return c.Fail(Unsupported, errNoAbility)
	}
	return d.run(ctx, c, func(ctx context.Context) error { return inner.RemoveTree(ctx, c.Path) })
}

// Changed implements Tracker.
func (d *decorator) Changed(ctx context.Context, dir, mark string) (Changes, error) {
	c := &Call{Op: OpChanged, Path: dir, Mark: mark}
	inner, ok := As[Tracker](d.inner)
	if !ok {
		return Changes{}, c.Fail(Unsupported, errNoAbility)
	}
	err := d.run(ctx, c, func(ctx context.Context) (err error) {
		c.Changes, err = inner.Changed(ctx, c.Path, c.Mark)
		return err
	})
	if err != nil {
		return Changes{}, err
	}
	return c.Changes, nil
}

// PutGrowing implements GrowingPutter.
func (d *decorator) PutGrowing(ctx context.Context, path string, src Growing, opts PutOptions) (Entry, error) {
	c := &Call{Op: OpPutGrowing, Path: path, Growing: src, Put: opts}
	inner, ok := As[GrowingPutter](d.inner)
	if !ok {
		return Entry{}, c.Fail(Unsupported, errNoAbility)
	}
	return d.entry(ctx, c, func(ctx context.Context) (Entry, error) {
		return inner.PutGrowing(ctx, c.Path, &awayGrowing{c.Growing, c}, c.Put)
	})
}

// Patch implements Patcher.
func (d *decorator) Patch(ctx context.Context, path string, p Patch, opts PutOptions) (Entry, error) {
	c := &Call{Op: OpPatch, Path: path, Patch: p, Put: opts}
	inner, ok := As[Patcher](d.inner)
	if !ok {
		return Entry{}, c.Fail(Unsupported, errNoAbility)
	}
	return d.entry(ctx, c, func(ctx context.Context) (Entry, error) {
		p := c.Patch
		p.Bytes = &awayBytes{c.Patch.Bytes, c}
		return inner.Patch(ctx, c.Path, p, c.Put)
	})
}

// Sweep implements Sweeper.
func (d *decorator) Sweep(ctx context.Context, path string, size int64, dead func(tag string) bool) error {
	c := &Call{Op: OpSweep, Path: path}
	inner, ok := As[Sweeper](d.inner)
	if !ok {
		return c.Fail(Unsupported, errNoAbility)
	}
	return d.run(ctx, c, func(ctx context.Context) error { return inner.Sweep(ctx, c.Path, size, dead) })
}

// Open implements Opener.
func (d *decorator) Open(ctx context.Context, ref Ref) (io.ReadCloser, error) {
	c := &Call{Op: OpOpen, Path: ref.Path, Ref: ref}
	inner, ok := As[Opener](d.inner)
	if !ok {
		return nil, c.Fail(Unsupported, errNoAbility)
	}
	err := d.run(ctx, c, func(ctx context.Context) (err error) {
		c.Stream, err = inner.Open(ctx, c.Ref)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &stream{ctx: ctx, d: d, open: c}, nil
}

// stream passes each Read of an opened stream through the interceptor.
type stream struct {
	ctx  context.Context // of the Open
	d    *decorator
	open *Call
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	c := &Call{Op: OpStream, Path: s.open.Path, Buf: p, Opened: s.open}
	err := s.d.run(s.ctx, c, func(context.Context) error {
		n, err := s.open.Stream.Read(c.Buf)
		return c.bytes(n, err)
	})
	return c.result(err)
}

// Close implements io.Closer and ends the Open's Call.
func (s *stream) Close() error {
	defer s.open.finish()
	return s.open.Stream.Close()
}

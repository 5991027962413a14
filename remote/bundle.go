package remote

import "context"

// Bundler is the ability to send the small files of a directory in one answer.
type Bundler interface {
	// Bundles tells what one bundle can hold, as far as that is known now. It costs no
	// request.
	Bundles() Bundles

	// ReadBundle asks for a directory in one request, and calls yield for files of it that
	// have come whole: i is the place in files, data the content, which is valid during the
	// call. Each is given at most once, in no order, and only if it is wanted and its bytes
	// are of the version of its Ref, as ReadAt promises it.
	//
	// files are all files of the directory as one listing has shown them, with their sizes
	// and versions: what comes is told apart by them. There are no directories and no
	// symbolic links beside them. At least one is wanted; the version of one that is wanted
	// is not provisional.
	//
	// A file that is not given is no error. It may be another by now, or be missing in what
	// the server sends, or stand behind such a one: it is to be read alone, which tells
	// what is wrong with it. So it is after an error, also if that is Unsupported: the
	// server does not do this, or has done it badly a while ago. An error of yield ends the
	// call and is returned as it is.
	ReadBundle(ctx context.Context, dir string, files []BundleFile, yield func(i int, data []byte) error) error
}

// Bundles is what a Bundler can do. The zero value is: nothing at present.
type Bundles struct {
	// Files and Bytes bound one bundle, with all files of the directory, also those that are
	// not wanted. With Files of 1 or less there is nothing to win.
	Files int
	Bytes int64
	// Size bounds a file that is wanted.
	Size int64
}

// BundleFile is a file of the directory that a bundle is of.
type BundleFile struct {
	Ref  Ref
	Want bool
}

type paceKey struct{}

// WithPace returns a context in which Received waits for pace.
func WithPace(ctx context.Context, pace func(n int) error) context.Context {
	return context.WithValue(ctx, paceKey{}, pace)
}

// Received tells whoever bounds the rate that n bytes of content have come, and waits
// until more may come. An adapter calls it for each piece of a bundle, where many files
// come in one call. The error is that of the end of the context.
func Received(ctx context.Context, n int) error {
	if pace, ok := ctx.Value(paceKey{}).(func(int) error); ok {
		return pace(n)
	}
	return nil
}

// Bundles implements Bundler. It is zero if the adapter has not this ability.
func (d *decorator) Bundles() Bundles {
	if inner, ok := As[Bundler](d.inner); ok {
		return inner.Bundles()
	}
	return Bundles{}
}

// ReadBundle implements Bundler.
func (d *decorator) ReadBundle(ctx context.Context, dir string, files []BundleFile, yield func(i int, data []byte) error) error {
	c := &Call{Op: OpReadBundle, Path: dir, Bundle: files, Unpack: yield}
	inner, ok := As[Bundler](d.inner)
	if !ok {
		return c.Fail(Unsupported, errNoAbility)
	}
	err := d.run(ctx, c, func(ctx context.Context) error {
		err := inner.ReadBundle(c.pacing(ctx), c.Path, c.Bundle, c.unpack)
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

// pacing makes the waits of Received, for which somebody above has asked, steps into the
// caller's code.
func (c *Call) pacing(ctx context.Context) context.Context {
	pace, ok := ctx.Value(paceKey{}).(func(int) error)
	if !ok {
		return ctx
	}
	return WithPace(ctx, func(n int) error {
		back := c.leave()
		err := pace(n)
		if berr := back(); err == nil {
			err = berr
		}
		return err
	})
}

// unpack is what the inner backend gets as the yield of ReadBundle.
func (c *Call) unpack(i int, data []byte) error {
	back := c.leave()
	c.N += len(data)
	err := c.Unpack(i, data)
	if err != nil {
		c.Halt = err
	}
	if berr := back(); err == nil {
		err = berr
	}
	return err
}

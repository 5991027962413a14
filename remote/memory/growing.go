package memory

import (
	"cmp"
	"context"
	"io"

	"github.com/meshmount/meshmount/remote"
)

// PutGrowing implements remote.GrowingPutter. A quota that the part that has arrived
// exceeds ends it at once. It keeps nothing for PutOptions.Resume.
func (b *Backend) PutGrowing(ctx context.Context, path string, src remote.Growing, opts remote.PutOptions) (remote.Entry, error) {
	if err := b.beginChange(ctx, "putgrowing", path); err != nil {
		return remote.Entry{}, err
	}
	if err := b.canPut(ctx, "putgrowing", path, 0, opts); err != nil {
		return remote.Entry{}, err
	}
	u := &upload{b: b, op: "putgrowing", path: path, opts: opts}
	u.shown = b.opts.InPlacePut && !opts.Cond.NotExist
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(b.life, cancel)()
	if err := u.grow(waiting, src); err != nil {
		return remote.Entry{}, cmp.Or(b.begin(ctx, u.op, path), err)
	}
	return u.finish(ctx, src.Attrs())
}

// grow takes what src tells of until it is whole.
func (u *upload) grow(ctx context.Context, src remote.Growing) error {
	for {
		size, whole, err := src.Wait(ctx, int64(u.data.Len()))
		switch {
		case err != nil:
			return err
		case !whole && size <= int64(u.data.Len()), whole && size < int64(u.data.Len()):
			return u.sourceError(errShort)
		}
		if err := u.b.canPut(ctx, u.op, u.path, size, u.unguarded()); err != nil {
			return err
		}
		if err := u.take(ctx, src, size); err != nil || whole {
			return err
		}
	}
}

// unguarded are the options for a look at the space alone, while the part is shown.
func (u *upload) unguarded() remote.PutOptions {
	opts := u.opts
	if u.mine != 0 {
		opts.Cond = remote.Cond{}
	}
	return opts
}

// take reads src up to size.
func (u *upload) take(ctx context.Context, src io.ReaderAt, size int64) error {
	buf := make([]byte, min(uploadPiece, size-int64(u.data.Len())))
	for int64(u.data.Len()) < size {
		if err := u.b.begin(ctx, u.op, u.path); err != nil {
			return err
		}
		p := buf[:min(int64(len(buf)), size-int64(u.data.Len()))]
		if n, err := src.ReadAt(p, int64(u.data.Len())); n < len(p) {
			return u.sourceError(shortRead(err))
		}
		u.data.Write(p)
		remote.Progress(ctx)
		u.show()
	}
	return nil
}

// shortRead is the error of a ReaderAt that gave less than was asked for.
func shortRead(err error) error {
	if err == nil || err == io.EOF {
		return errShort
	}
	return err
}

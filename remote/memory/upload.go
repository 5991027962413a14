package memory

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/meshmount/meshmount/remote"
)

// uploadPiece is how much of an upload arrives at a time.
const uploadPiece = 64 << 10

// upload is content on its way to a path.
type upload struct {
	b     *Backend
	op    string
	path  string
	opts  remote.PutOptions
	shown bool // readers see what has arrived
	data  bytes.Buffer
	mine  uint64 // version of the part that is shown, 0 before
}

// partKey names what is kept of an upload that has failed.
type partKey struct{ path, name string }

// Resumed returns the bytes that Puts had not to read of their sources because an earlier
// Put with the same PutOptions.Resume had brought them.
func (b *Backend) Resumed() int64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.resumed
}

func (u *upload) key() partKey { return partKey{u.path, u.opts.Resume} }

// resume takes what an earlier upload of the same name has brought.
func (u *upload) resume(size int64) {
	u.b.mu.Lock()
	defer u.b.mu.Unlock()
	if part := u.b.parts[u.key()]; u.opts.Resume != "" && int64(len(part)) <= size {
		u.data.Write(part)
		u.b.resumed += int64(len(part))
	}
}

// keep keeps what has arrived for an upload of the same name.
func (u *upload) keep() {
	u.b.mu.Lock()
	defer u.b.mu.Unlock()
	if u.opts.Resume != "" && !u.b.closed {
		u.b.parts[u.key()] = u.data.Bytes()
	}
}

// slurp reads the rest of src, piece by piece, and checks that it holds what it said.
func (u *upload) slurp(ctx context.Context, src remote.Source) error {
	r, err := src.Open()
	if err != nil {
		return u.sourceError(err)
	}
	err = u.copy(ctx, src.Size(), r)
	if cerr := r.Close(); err == nil && cerr != nil {
		err = u.sourceError(cerr)
	}
	return err
}

func (u *upload) copy(ctx context.Context, size int64, r io.Reader) error {
	if err := remote.Skip(r, int64(u.data.Len())); err != nil {
		return u.sourceError(err)
	}
	// The bytes at the end are what Buffer wants to have free in order to see the end.
	u.data.Grow(int(min(size, 16<<20)) + bytes.MinRead)
	// One byte more than the size, to notice a source that goes on.
	limited := io.LimitReader(r, size+1-int64(u.data.Len()))
	for {
		n, err := io.CopyN(&u.data, limited, uploadPiece)
		if n > 0 {
			remote.Progress(ctx)
			u.show()
		}
		switch {
		case err == nil:
			err = remote.ContextErr(ctx)
		case errors.Is(err, io.EOF):
			return u.checkLength(size)
		default:
			err = u.sourceError(err)
		}
		if err != nil {
			return err
		}
	}
}

func (u *upload) checkLength(size int64) error {
	switch got := int64(u.data.Len()); {
	case got < size:
		return u.sourceError(errShort)
	case got > size:
		u.data.Truncate(int(size))
		return u.sourceError(errLong)
	}
	return nil
}

// show shows the part of an upload that has arrived, if the backend is to be that bad.
func (u *upload) show() {
	b := u.b
	if !u.shown {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	at, err := b.place(u.op, u.path)
	if err != nil || b.closed || at.node != nil && at.node.kind == remote.Dir {
		return
	}
	torn := b.tearOf(at, u.opts)
	n := b.fileAt(at)
	if n.version == u.mine {
		torn = n.tear
	}
	b.setData(n, bytes.Clone(u.data.Bytes()))
	n.tear, u.mine = torn, n.version
}

// finish makes what has arrived the content.
func (u *upload) finish(ctx context.Context, a remote.Attrs) (remote.Entry, error) {
	b := u.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.alive(ctx, u.op, u.path); err != nil {
		return remote.Entry{}, err
	}
	delete(b.parts, u.key())
	if u.shown {
		u.opts.Cond = remote.Cond{} // our own first bytes would break it
	}
	at, err := b.placePut(u.op, u.path, int64(u.data.Len()), u.opts)
	if err != nil {
		return remote.Entry{}, err
	}
	n := b.fileAt(at)
	b.setData(n, u.data.Bytes())
	b.setAttrs(n, a)
	return b.entry(u.path, n), nil
}

// sourceError marks a failure on our side of a Put. It is Invalid: no retry helps
// against a source that is not what it says. A source's own *remote.Error stays.
func (u *upload) sourceError(err error) error {
	return remote.E(u.op, u.path, remote.Invalid, err)
}

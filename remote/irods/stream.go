package irods

import (
	"context"
	"errors"
	"io"

	"github.com/meshmount/meshmount/remote"
)

// Open implements remote.Opener. The last byte comes only after the version has been
// proved: by the checksum of all bytes, or by a question after each piece.
func (b *Backend) Open(ctx context.Context, ref remote.Ref) (io.ReadCloser, error) {
	const op = "open"
	if err := b.check(op, ref.Path); err != nil {
		return nil, absent(op, ref.Path, err)
	}
	r := &reading{b: b, ref: ref, path: b.full(ref.Path)}
	if ref.Version == "" || ref.Size < 0 || ref.Size == 0 {
		if err := r.wantStanding(ctx); err != nil {
			return nil, err
		}
	}
	return &stream{ctx: ctx, r: r}, nil
}

// stream reads an object piece by piece. It is for one goroutine.
type stream struct {
	ctx    context.Context
	r      *reading
	buf    []byte // what is read and not yet given out
	room   []byte
	off    int64 // of the end of buf
	err    error
	closed bool
}

// Read implements io.Reader.
func (t *stream) Read(p []byte) (int, error) {
	if t.closed {
		return 0, &remote.Error{Op: "open", Path: t.r.ref.Path, Kind: remote.BadHandle, Err: errors.New("the stream is closed")}
	}
	if len(p) == 0 {
		return 0, nil
	}
	if len(t.buf) == 0 && t.err == nil {
		t.fill()
	}
	if len(t.buf) == 0 {
		return 0, t.err
	}
	n := copy(p, t.buf)
	t.buf = t.buf[n:]
	return n, nil
}

func (t *stream) fill() {
	if t.off >= t.r.ref.Size {
		t.err = io.EOF
		return
	}
	if t.room == nil {
		t.room = make([]byte, min(t.r.ref.Size, pieceSize))
	}
	n, err := t.r.b.ReadAt(t.ctx, t.r.ref, t.room, t.off)
	t.buf = t.room[:n]
	t.off += int64(n)
	if err != nil && err != io.EOF {
		t.err = err
	}
}

// Close implements io.Closer.
func (t *stream) Close() error {
	t.closed = true
	return nil
}

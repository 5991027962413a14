package webdav

import (
	"context"
	"io"

	"github.com/meshmount/meshmount/remote"
)

// cutter says how a source is cut into pieces, numbered from 0, the last one shorter.
type cutter struct {
	size    func(n int) int64
	buffers chan []byte                     // of the pieces; give gives them back
	skip    func(n int, size int64) bool    // nil, or tells which are not wanted
	give    func(n int, piece []byte) error // its error ends the cutting and is passed on
}

// pieces cuts the source.
func (u *upload) pieces(ctx context.Context, c cutter) error {
	r, err := u.src.Open()
	if err != nil {
		return u.c.sourceError(ctx, err)
	}
	err = c.all(ctx, untilDone{r, ctx}, u.src.Size())
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return u.c.sourceError(ctx, err)
	}
	return nil
}

func (c cutter) all(ctx context.Context, r io.Reader, total int64) error {
	for n := 0; total > 0; n++ {
		want := min(c.size(n), total)
		total -= want
		buf, err := c.read(ctx, r, n, want)
		if err == nil && total == 0 {
			err = atEnd(r)
		}
		if err == nil && buf != nil {
			err = c.give(n, buf)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// read returns piece n, nil if it is skipped.
func (c cutter) read(ctx context.Context, r io.Reader, n int, want int64) ([]byte, error) {
	if c.skip != nil && c.skip(n, want) {
		got, err := io.CopyN(io.Discard, r, want)
		return nil, short(got, want, err)
	}
	var buf []byte
	select {
	case buf = <-c.buffers:
	case <-ctx.Done():
		return nil, remote.ContextErr(ctx)
	}
	if int64(cap(buf)) < want {
		buf = make([]byte, want)
	}
	buf = buf[:want]
	got, err := io.ReadFull(r, buf)
	return buf, short(int64(got), want, err)
}

// short makes errShort of an end of the source that comes too early.
func short(got, want int64, err error) error {
	if got < want && (err == io.EOF || err == io.ErrUnexpectedEOF) {
		return errShort
	}
	return err
}

// untilDone is a reader that fails once ctx has ended.
type untilDone struct {
	r   io.Reader
	ctx context.Context
}

// Read implements io.Reader.
func (u untilDone) Read(p []byte) (int, error) {
	if err := remote.ContextErr(u.ctx); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

// atEnd checks that nothing is left in r.
func atEnd(r io.Reader) error {
	var one [1]byte
	switch n, err := io.ReadFull(r, one[:]); {
	case n > 0:
		return errLong
	case err != io.EOF:
		return err
	}
	return nil
}

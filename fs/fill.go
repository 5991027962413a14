package fs

import (
	"context"
	"errors"
	"io"

	"github.com/meshmount/meshmount/cache/writeback"
	"github.com/meshmount/meshmount/remote"
)

// Sizes for filling a staging file from the server.
const (
	fillChunk     = 8 << 20
	wholeIfShaky  = 64 << 20 // files up to this are read in one piece while their version is no proof
	maxOpenerTrys = 3
)

// wantStage brings the whole file here first where reading it in pieces is wrong
// or hopeless: servers without ranges, and fresh files whose version is no proof
// yet, so that two ranges could be of two contents.
func (x *file) wantStage(ctx context.Context) error {
	x.mu.Lock()
	shaky := x.base.Provisional && x.size <= wholeIfShaky
	need := x.exists && x.size > 0 && (shaky || !x.b.caps().Ranges)
	st := x.stage
	x.mu.Unlock()
	if !need || st != nil && isHere(st) {
		return nil
	}
	_, err := x.bring(ctx) // what has no room is read in pieces all the same
	return err
}

// fill brings all bytes that are missing into the staging file. One caller at a time
// does: two streams of a version that is no proof could be of two contents.
func (x *file) fill(ctx context.Context) error {
	select {
	case x.filling <- struct{}{}:
		defer func() { <-x.filling }()
	case <-ctx.Done():
		return ctx.Err()
	}
	st, err := x.stageToFill()
	if err != nil {
		return err
	}
	opener, ok := remote.As[remote.Opener](x.b.server())
	x.mu.Lock()
	inOneGo := ok && (!x.b.caps().Ranges || x.base.Provisional)
	x.mu.Unlock()
	for try := 1; ; try++ {
		if err := st.Unhold(); err != nil {
			return local("read", x.pathNow(), err)
		}
		h := firstHole(st)
		if h == nil {
			return nil
		}
		if inOneGo {
			err = x.fillStream(ctx, st, opener)
		} else {
			err = x.fillHole(ctx, st, writeback.Extent{Off: h.Off, End: min(h.End, h.Off+fillChunk)})
			try = 0
		}
		if err != nil && (!inOneGo || try >= maxOpenerTrys || !remote.Retryable(err)) {
			return err
		}
	}
}

// stageToFill returns the staging file, which is made if needed. A writer who waits for
// room has one already: readers do not wait for him.
func (x *file) stageToFill() (*writeback.Stage, error) {
	if st := x.staged(); st != nil {
		return st, nil
	}
	x.content.Lock()
	defer x.content.Unlock()
	return x.ensureStage()
}

func firstHole(st *writeback.Stage) *writeback.Extent {
	if m := st.Missing(0, st.Size()); len(m) > 0 {
		return &m[0]
	}
	return nil
}

// fillStream reads the whole base version once. Where the version is no proof, the
// bytes become the file's only when all have come: the next attempt could get
// another content.
func (x *file) fillStream(ctx context.Context, st *writeback.Stage, o remote.Opener) error {
	x.mu.Lock()
	path, shaky := x.path, x.base.Provisional
	x.mu.Unlock()
	ref, put := st.Base(), st.Fill
	if shaky {
		put = st.Draft
	}
	err := x.stream(ctx, o, ref, func(p []byte, off int64) error { return local("read", path, put(p, off)) })
	if x.movedSince(ctx, st.Base, ref, err) {
		return nil // the caller tries again
	}
	if err == nil && shaky {
		st.Adopt(ref) // if it is another base by now, the caller tries again
	}
	return err
}

// stream gives the bytes of ref to sink in order.
func (x *file) stream(ctx context.Context, o remote.Opener, ref remote.Ref, sink func([]byte, int64) error) error {
	r, err := o.Open(ctx, ref)
	if err != nil {
		return x.readError(ref, 0, 1, err)
	}
	defer r.Close()
	err = copyChunks(r, ref.Size, sink)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return x.readError(ref, 0, 1, err)
}

// copyChunks gives size bytes of r to sink in order.
func copyChunks(r io.Reader, size int64, sink func([]byte, int64) error) error {
	buf := make([]byte, min(size, 1<<20))
	for off := int64(0); off < size; {
		n, err := io.ReadFull(r, buf[:min(int64(len(buf)), size-off)])
		if err != nil {
			return err
		}
		if err := sink(buf[:n], off); err != nil {
			return err
		}
		off += int64(n)
	}
	return nil
}

// fillHole reads base bytes into the staging file.
func (x *file) fillHole(ctx context.Context, st *writeback.Stage, h writeback.Extent) error {
	p := make([]byte, h.End-h.Off)
	if err := x.fetch(ctx, st, p, h.Off); err != nil {
		return err
	}
	return local("read", x.pathNow(), st.Fill(p, h.Off))
}

// fetch reads base bytes.
func (x *file) fetch(ctx context.Context, st *writeback.Stage, p []byte, off int64) error {
	for {
		ref := st.Base()
		n, err := x.b.server().ReadAt(ctx, ref, p, off)
		if err != nil {
			st.AwaitSent(ctx)
		}
		if !x.movedSince(ctx, st.Base, ref, err) {
			return x.readError(ref, n, len(p), err)
		}
	}
}

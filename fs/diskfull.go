package fs

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/meshmount/meshmount/cache/writeback"
	"github.com/meshmount/meshmount/remote"
)

// fullTime is how long a disk that was found full is not tried by who only reads.
const fullTime = time.Second

// fullDisk remembers that this node's disk has no room. Reading goes on without it: what
// is not here comes from the server each time; small files of which one content must be
// seen are kept in memory. It is safe for concurrent use.
type fullDisk struct{ until atomic.Int64 } // ns since 1970

// noRoom tells whether err says that the disk is full, and remembers it.
func (f *FS) noRoom(err error) bool {
	if err == nil || remote.KindOf(err) != remote.NoSpace {
		return false
	}
	f.disk.until.Store(f.now().Add(fullTime).UnixNano())
	return true
}

// diskFull tells whether the disk was found full a moment ago.
func (f *FS) diskFull() bool { return f.now().UnixNano() < f.disk.until.Load() }

// bring brings the whole file here: to the disk or, where that is full, to memory. It
// returns false if there is room for it in neither.
func (x *file) bring(ctx context.Context) (bool, error) {
	var err error
	if !x.fs.diskFull() {
		if err = x.fill(ctx); !x.fs.noRoom(err) {
			return err == nil, err
		}
	}
	return x.holdBase(ctx)
}

// holdBase brings the base version to memory, if there is room.
func (x *file) holdBase(ctx context.Context) (bool, error) {
	select {
	case x.filling <- struct{}{}:
		defer func() { <-x.filling }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	st, err := x.stageToFill()
	if err != nil {
		if x.fs.noRoom(err) {
			err = nil
		}
		return false, err
	}
	for try := 1; ; try++ {
		if isHere(st) {
			return true, nil
		}
		ok, err := st.Hold(func(ref remote.Ref, p []byte) error { return x.fetchWhole(ctx, st, ref, p) })
		if err == nil || try >= maxOpenerTrys || !errors.Is(err, errMoved) && !remote.Retryable(err) {
			return ok, err
		}
	}
}

// isHere tells whether nothing of a file has to be fetched any more.
func isHere(st *writeback.Stage) bool { return st.Held() || firstHole(st) == nil }

// fetchWhole reads all of ref at once.
func (x *file) fetchWhole(ctx context.Context, st *writeback.Stage, ref remote.Ref, p []byte) error {
	var err error
	if opener, ok := remote.As[remote.Opener](x.b.server()); ok {
		err = x.stream(ctx, opener, ref, func(q []byte, off int64) error { copy(p[off:], q); return nil })
	} else {
		var n int
		n, err = x.b.server().ReadAt(ctx, ref, p, 0)
		err = x.readError(ref, n, len(p), err)
	}
	if x.movedSince(ctx, st.Base, ref, err) {
		return errMoved
	}
	return err
}

// readPast reads where nothing can be kept: what is not staged comes from the server.
func (x *file) readPast(ctx context.Context, st *writeback.Stage, p []byte, off int64) (int, error) {
	for done := 0; ; {
		at := off + int64(done)
		n, hole, err := st.ReadStaged(p[done:], at)
		switch {
		case err != nil || hole == nil:
			return done + n, local("read", x.pathNow(), err)
		case hole.Off > at:
			n, _, err = st.ReadStaged(p[done:hole.Off-off], at)
			err = local("read", x.pathNow(), err)
		default:
			n = int(hole.End - at)
			err = x.fetch(ctx, st, p[done:done+n], at)
		}
		if done += n; err != nil || done == len(p) {
			return done, err
		}
		if n == 0 { // it was cut meanwhile
			return done, io.ErrUnexpectedEOF
		}
	}
}

package webdav

import (
	"context"
	"fmt"
	"math"
	"net/http"
)

// rangePlan says how a new file is sent in ranges to mod_dav.
type rangePlan struct {
	piece int64 // bytes
	lanes int   // at once, at most
}

// usualRanges is that of every Backend. Over 50 ms and a window of 4 MiB one connection
// carries 84 MB/s, and what is left at the end of a file is on its way soon.
var usualRanges = rangePlan{piece: 4 << 20, lanes: 6}

// inRanges tells whether to send the file by storeRanges: a new one, because mod_dav
// removes what is there before it moves, and one of more than a piece.
func (u *upload) inRanges() bool {
	b := u.c.b
	if u.way != wayPut || !u.exclusive || !b.traits.putRanges || b.noPutRanges.Load() {
		return false
	}
	return u.grow != nil || u.src.Size() > 2*b.ranges.piece
}

// storeRanges stores a new file by PUTs of ranges of it to a temporary name, some at once,
// and MOVE. A window's worth of bytes in a round trip is what one connection carries,
// and large files are slowed down by it.
func (u *upload) storeRanges(ctx context.Context) (stored, error) {
	piece := u.c.b.ranges.piece
	if _, whole, err := u.waitFor(ctx, piece+1); err != nil {
		return stored{}, err
	} else if whole && u.src.Size() <= piece {
		return u.storePut(ctx)
	}
	if err := u.lookAgain(ctx); err != nil {
		return stored{}, err // before all of it is sent
	}
	u.ranged = true
	s, err := u.storeTemp(ctx)
	u.ranged = false
	if err != nil && u.c.b.noPutRanges.Load() {
		return u.storePut(ctx)
	}
	return s, err
}

// putRanges sends the content to path.
func (u *upload) putRanges(ctx context.Context, path string) (stored, error) {
	plan := u.c.b.ranges
	if u.opts.Resume != "" {
		// What an earlier process left may be longer.
		if err := u.c.discard(ctx, u.c.b.fileURL(path)); err != nil {
			return stored{}, err
		}
	}
	s := parts{
		u: u, sizes: func(int) int64 { return plan.piece }, most: math.MaxInt32, lanes: min(plan.lanes, u.c.b.opts.MaxConns),
		send: func(ctx context.Context, p outPart, body *outgoing) error {
			return u.c.putPart(ctx, &request{
				method: http.MethodPut, url: u.c.b.fileURL(path), body: body,
				header: map[string]string{
					"Content-Range": fmt.Sprintf("bytes %d-%d/*", p.off, p.off+p.size-1),
					"Content-Type":  "application/octet-stream",
				},
			})
		},
	}
	err := s.sendAll(ctx)
	switch statusOf(err) {
	case http.StatusBadRequest, http.StatusNotImplemented:
		u.c.b.noPutRanges.Store(true)
	}
	return stored{}, err
}

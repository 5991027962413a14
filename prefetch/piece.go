package prefetch

import (
	"context"
	"slices"
)

// piece is a stretch of a file that is fetched or on the way. Its fields are guarded
// by Reader.mu, except buf's bytes, n, got and err, which do not change once done is
// closed.
type piece struct {
	off, n int64 // what was asked for
	got    int64 // what came; less than n at the end of the file
	buf    []byte
	err    error
	done   chan struct{}
	ahead  bool               // nobody waited when it was asked for
	used   bool               // somebody waited for it or read it since
	cancel context.CancelFunc // ends the fetch
	refs   int                // the fetch, and those who wait or read
	listed bool               // among Reader.pieces
	here   bool               // no piece but a note: the Local has these bytes
}

func (p *piece) end() int64 { return p.off + p.n }

// arrived tells whether the fetch is over.
func (p *piece) arrived() bool {
	if p.here {
		return true
	}
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// pieces are the pieces of a file in order. They do not overlap.
type pieces []*piece

// from returns the index of the first piece that ends after off.
func (ps pieces) from(off int64) int {
	i, _ := slices.BinarySearchFunc(ps, off, func(p *piece, off int64) int {
		if p.end() <= off {
			return -1
		}
		return 1
	})
	return i
}

// at returns the piece that holds off, or nil and where the gap at off ends, limit at
// most.
func (ps pieces) at(off, limit int64) (*piece, int64) {
	i := ps.from(off)
	if i == len(ps) {
		return nil, limit
	}
	if ps[i].off <= off {
		return ps[i], min(ps[i].end(), limit)
	}
	return nil, min(ps[i].off, limit)
}

// gap returns the first stretch of [from, to) without a piece, and whether there is one.
func (ps pieces) gap(from, to int64) (start, end int64, ok bool) {
	for from < to {
		p, end := ps.at(from, to)
		if p == nil {
			return from, end, true
		}
		from = p.end()
	}
	return 0, 0, false
}

// lastGap is gap from the other end.
func (ps pieces) lastGap(from, to int64) (start, end int64, ok bool) {
	for from < to {
		i := ps.from(to - 1)
		switch {
		case i < len(ps) && ps[i].off < to:
			to = ps[i].off
		case i > 0:
			return max(from, ps[i-1].end()), to, true
		default:
			return from, to, true
		}
	}
	return 0, 0, false
}

// insert adds a piece in its place.
func (ps *pieces) insert(p *piece) {
	*ps = slices.Insert(*ps, ps.from(p.off), p)
	p.listed = true
}

// remove takes a piece out.
func (ps *pieces) remove(p *piece) {
	if i := ps.from(p.off); p.listed && i < len(*ps) && (*ps)[i] == p {
		*ps = slices.Delete(*ps, i, i+1)
	}
	p.listed = false
}

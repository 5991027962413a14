package browse

import (
	"context"
	"slices"
	"sync"

	"github.com/meshmount/meshmount/remote"
)

// Many small members lie side by side in an archive, and programs mostly read many of them,
// in about that order, several at a time. Then one request brings a whole page of the
// archive, for all who want something of it: a page of which several reads were, or that
// comes after one that was fetched. A lone read asks for no more than it needs.
const (
	pageSize   = 1 << 20
	maxPages   = 12  // with content, of a branch
	maxTouched = 256 // of which only reads were counted
	// worthAll is the number of the read of a page by which it is fetched whole.
	worthAll = 3
	// maxPaged is the longest read that may go by pages, in bytes.
	maxPaged = smallPacked + 4096
)

// place names a page.
type place struct {
	id ident
	n  int64 // it begins at n times pageSize
}

// page is a part of an archive. Its content does not change.
type page struct {
	place
	reads int           // guarded by pages.mu
	done  chan struct{} // guarded by pages.mu: nil if it is not being fetched; closed when the rest is there
	data  []byte
	err   error
}

// pages are parts of archives of which small members are being read.
type pages struct {
	mu      sync.Mutex // guards what follows
	fetched []*page    // or on their way, last used last
	touched []*page    // others, last read last
}

// read fills p from an offset of an archive.
func (ps *pages) read(ctx context.Context, b *Backend, x *index, p []byte, off int64) error {
	if x.provisional || len(p) > maxPaged {
		return b.fetch(ctx, x.ref(), p, off)
	}
	for len(p) > 0 {
		n := min(int64(len(p)), (off/pageSize+1)*pageSize-off)
		pg, begin := ps.join(place{x.ident, off / pageSize})
		if pg == nil { // it is small: all that is left comes with it
			return b.fetch(ctx, x.ref(), p, off)
		}
		if begin {
			ps.bring(ctx, b, x, pg)
		}
		if err := pg.copy(ctx, b, x, p[:n], off); err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

// join counts a read of a page, and returns it if the whole page is to be used; begin
// tells the caller to fetch it.
func (ps *pages) join(at place) (pg *page, begin bool) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if i := find(ps.fetched, at); i >= 0 {
		pg = ps.fetched[i]
		ps.fetched = append(slices.Delete(ps.fetched, i, i+1), pg)
		return pg, false
	}
	if i := find(ps.touched, at); i >= 0 {
		pg = ps.touched[i]
		ps.touched = slices.Delete(ps.touched, i, i+1)
	} else {
		pg = &page{place: at}
	}
	pg.reads++
	if pg.reads < worthAll && find(ps.fetched, place{at.id, at.n - 1}) < 0 {
		ps.touched = trimmed(append(ps.touched, pg), maxTouched)
		return nil, false
	}
	pg.done = make(chan struct{})
	ps.fetched = trimmed(append(ps.fetched, pg), maxPages)
	return pg, true
}

func find(list []*page, at place) int {
	return slices.IndexFunc(list, func(pg *page) bool { return pg.place == at })
}

// trimmed drops the first of too many.
func trimmed(list []*page, most int) []*page {
	return slices.Delete(list, 0, max(0, len(list)-most))
}

// bring fetches a page. One that cannot be had is forgotten.
func (ps *pages) bring(ctx context.Context, b *Backend, x *index, pg *page) {
	defer close(pg.done)
	data := make([]byte, min(pageSize, x.size-pg.n*pageSize))
	if pg.err = b.fetch(ctx, x.ref(), data, pg.n*pageSize); pg.err == nil {
		pg.data = data
		return
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.fetched = slices.DeleteFunc(ps.fetched, func(other *page) bool { return other == pg })
}

// copy fills p, which is all in the page, from an offset of the archive.
func (pg *page) copy(ctx context.Context, b *Backend, x *index, p []byte, off int64) error {
	select {
	case <-pg.done:
	case <-ctx.Done():
		return remote.ContextErr(ctx)
	}
	if pg.err != nil { // of another's call, whose context may have ended: this one has its own
		return b.fetch(ctx, x.ref(), p, off)
	}
	if copy(p, pg.data[min(off-pg.n*pageSize, int64(len(pg.data))):]) < len(p) {
		return &remote.Error{Op: "read", Path: x.path, Kind: remote.Corrupt, Err: errShorter}
	}
	return nil
}

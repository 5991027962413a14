package writeback

import (
	"context"
	"errors"
	"hash/crc32"
	"io"
	"slices"

	"github.com/meshmount/meshmount/remote"
)

// digest is what is known of a content by its bytes: enough to know it again on a disk after
// a power failure, and on a server after an answer was lost.
type digest struct {
	ok    bool // the other fields count
	size  int64
	crc   uint32   // CRC-32C of the parts, one after the other
	parts []Extent // the bytes that are ours; nil for all
}

// How many bytes are read for a digest at most, where it is not known from the writing.
const (
	maxSum      = 4 << 20   // at a commit
	maxAnnounce = 256 << 20 // before an upload, and to trust what a power failure has left
)

// maxParts is how many parts a digest has at most: each is read alone, and is in the journal.
const maxParts = 1000

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// equal tells whether both are known and the same.
func (d digest) equal(o digest) bool {
	return d.ok && o.ok && d.size == o.size && d.crc == o.crc && slices.Equal(d.parts, o.parts)
}

// ordered is the checksum of the first end bytes of a content that is written in order; -1 if
// it was not.
type ordered struct {
	end int64
	crc uint32
}

// wrote adds what was written at off.
func (r *ordered) wrote(p []byte, off int64) {
	switch {
	case off == r.end:
		r.crc = crc32.Update(r.crc, castagnoli, p)
		r.end += int64(len(p))
	case off < r.end:
		r.cut(off)
		if off == 0 {
			r.wrote(p, 0)
		}
	}
}

// cut tells that the bytes from off on have changed.
func (r *ordered) cut(off int64) {
	switch {
	case off == 0:
		*r = ordered{}
	case off < r.end:
		*r = ordered{end: -1}
	}
}

// digest returns that of the first size bytes, as far as they are here. If it has to read more
// than most bytes for that, it knows nothing.
func (st *Stage) digest(size, most int64) digest {
	st.mu.RLock()
	run := st.run
	missing := st.have.missing(0, min(size, st.limit))
	st.mu.RUnlock()
	d := digest{ok: true, size: size, crc: run.crc}
	if run.end == size {
		return d
	}
	all := []Extent{{0, size}}
	if len(missing) > 0 {
		absent := extents{missing}
		all = absent.missing(0, size)
		d.parts = all
	}
	if len(missing) > 0 && len(all) == 0 || len(all) > maxParts {
		return digest{}
	}
	return st.digestOf(size, d.parts, most)
}

// digestOf returns that of some parts, nil for all.
func (st *Stage) digestOf(size int64, parts []Extent, most int64) digest {
	all := parts
	if parts == nil {
		all = []Extent{{0, size}}
	}
	if (&extents{all}).bytes() > most {
		return digest{}
	}
	h := crc32.New(castagnoli)
	for _, x := range all {
		if n, err := io.Copy(h, io.NewSectionReader(staged{st}, x.Off, x.End-x.Off)); err != nil || n != x.End-x.Off {
			return digest{}
		}
	}
	return digest{ok: true, size: size, crc: h.Sum32(), parts: parts}
}

// announce has the journal know what is about to be sent, before it is: whether we hear of its
// end or not, it is ours if it is found on the server. What the program has written over since
// its commit is sent as it is now.
func (j *job) announce(size int64) error {
	d := j.stage.digest(size, maxAnnounce)
	s, c := j.b.store, j.c
	s.mu.Lock()
	known := c.state == over || c.gen == j.gen && c.announced && c.digest.equal(d)
	synced := c.synced
	s.mu.Unlock()
	if known {
		return nil
	}
	if synced { // so must be what the record speaks of
		if err := j.stage.Sync(); err != nil {
			return remote.E("put", j.path, kindOfDisk(err), err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case c.state == over:
		return nil
	case c.gen == j.gen && c.size == size:
		c.ghosts = haunted(c.ghosts, c.traces()...)
		c.digest, c.announced = d, true
	default: // it has another content by now
		c.ghosts = haunted(c.ghosts, ghost{size: size, digest: d, since: c.since})
	}
	j.stage.note(s)
	return nil
}

// isGhost tells whether a file of the server is what an attempt of ours has stored.
func (j *job) isGhost(ctx context.Context, e remote.Entry) (bool, error) {
	j.b.store.mu.Lock()
	like := append(slices.Clone(j.ghosts), j.c.ghosts...) // also what was noted since the attempt began
	j.b.store.mu.Unlock()
	return j.isOneOf(ctx, e, like)
}

// isOneOf tells whether a file of the server is one of some contents.
func (j *job) isOneOf(ctx context.Context, e remote.Entry, like []ghost) (bool, error) {
	like = slices.DeleteFunc(like, func(g ghost) bool { return e.Type != remote.File || g.size != e.Size })
	if len(like) == 0 {
		return false, nil
	}
	if slices.ContainsFunc(like, func(g ghost) bool { return g.timed(e) }) {
		return true, nil
	}
	// A few bytes of ours prove little of a file that has been there before.
	like = slices.DeleteFunc(like, func(g ghost) bool { return !g.ok || g.parts != nil && !g.young(e) })
	sums := make([]uint32, len(like))
	ref := remote.Ref{Path: e.Path, Version: e.Version, Size: e.Size}
	buf := make([]byte, min(e.Size, 1<<20))
	for off := int64(0); off < e.Size && len(like) > 0; {
		n := int(min(int64(len(buf)), e.Size-off))
		if got, err := j.b.below.ReadAt(ctx, ref, buf[:n], off); got < n {
			return false, inMotion(e.Path, err)
		}
		for i, g := range like {
			sums[i] = g.update(sums[i], buf[:n], off)
		}
		off += int64(n)
	}
	for i, g := range like {
		if sums[i] == g.crc {
			return true, nil
		}
	}
	return false, nil
}

// inMotion makes an error of reading what was just seen on the server one that passes, if
// somebody has replaced that meanwhile: it is looked at again.
func inMotion(path string, err error) error {
	switch k := remote.KindOf(err); {
	case err == nil, errors.Is(err, io.EOF), k == remote.Changed, k == remote.NotExist:
		return &remote.Error{Op: "read", Path: path, Kind: remote.Unavailable, Err: err}
	}
	return err
}

// update adds to a checksum what of p, which lies at off, is ours.
func (d digest) update(sum uint32, p []byte, off int64) uint32 {
	if d.parts == nil {
		return crc32.Update(sum, castagnoli, p)
	}
	end := off + int64(len(p))
	for _, x := range d.parts {
		if from, to := max(x.Off, off), min(x.End, end); from < to {
			sum = crc32.Update(sum, castagnoli, p[from-off:to-off])
		}
	}
	return sum
}

// mostPuzzled is after how many refusals a provisional version is taken for another content's.
const mostPuzzled = 8

// puzzled tells whether a version that is still there after a refusal is that of the content
// before: a provisional one may be that of another content by now, for which a request that
// was refused by mistake goes away when it is made again.
func (j *job) puzzled(provisional bool) bool {
	j.b.store.mu.Lock()
	defer j.b.store.mu.Unlock()
	return !provisional || j.c.tries < mostPuzzled
}

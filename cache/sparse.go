package cache

import (
	"container/list"

	"github.com/meshmount/meshmount/remote"
)

// sparse serves small reads at random places in large files: a request of 4 KiB
// should not cost a block. Pieces are kept in memory, the least recently used going
// first. A block of which several pieces were wanted is fetched whole, and then kept
// on the disk. It is guarded by Cached.mu.
type sparse struct {
	limit   int // bytes
	held    int
	order   *list.List // of *piece, most recently used first
	pieces  map[unit]*list.Element
	touches map[Key]int      // pieces fetched of a block
	last    map[string]int64 // where the last read of a file ended
}

type piece struct {
	unit unit
	data []byte
}

const (
	// wholeAfter is the number of reads after which a block is fetched whole: with
	// pieces of 64 KiB, less than a quarter of it was fetched in vain.
	wholeAfter = 3
	// near is the distance from the last read within which a read is no random one.
	near = 512 << 10
	// maxTracked bounds what is remembered of files and blocks.
	maxTracked = 4096
)

func newSparse(limit int) *sparse {
	return &sparse{
		limit: limit, order: list.New(), pieces: map[unit]*list.Element{},
		touches: map[Key]int{}, last: map[string]int64{},
	}
}

// random tells whether a read at off is far from the one before, and notes it. The
// first read of a file counts as random unless it is at its beginning.
func (s *sparse) random(path string, off, n int64) bool {
	last := s.last[path]
	if len(s.last) >= maxTracked {
		clear(s.last)
	}
	s.last[path] = off + n
	return off > last+near || off+near < last
}

// touch counts a read in a block, and tells whether it should be served in pieces.
func (s *sparse) touch(k Key) bool {
	if len(s.touches) >= maxTracked {
		clear(s.touches)
	}
	s.touches[k]++
	if s.touches[k] > wholeAfter {
		delete(s.touches, k)
		return false
	}
	return true
}

func (s *sparse) get(u unit) []byte {
	e := s.pieces[u]
	if e == nil {
		return nil
	}
	s.order.MoveToFront(e)
	return e.Value.(*piece).data
}

func (s *sparse) put(u unit, data []byte) {
	if s.pieces[u] != nil {
		return
	}
	data = append([]byte(nil), data...) // not the whole of a larger answer
	s.pieces[u] = s.order.PushFront(&piece{u, data})
	s.held += len(data)
	for s.held > s.limit {
		s.drop(s.order.Back())
	}
}

func (s *sparse) drop(e *list.Element) {
	p := s.order.Remove(e).(*piece)
	delete(s.pieces, p.unit)
	s.held -= len(p.data)
}

// forget drops the pieces of a file.
func (s *sparse) forget(path string) {
	for u, e := range s.pieces {
		if u.key.Object == path {
			s.drop(e)
		}
	}
}

// isSparse tells whether what is missing for a read should be fetched in pieces.
func (c *Cached) isSparse(ref remote.Ref, off int64, n int) bool {
	if c.policy.Piece < 0 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	random := c.sparse.random(ref.Path, off, int64(n))
	return random && n <= c.policy.Piece && ref.Size > int64(c.store.BlockSize())
}

func (c *Cached) touched(k Key) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sparse.touch(k)
}

// pieces cuts a part of a block into pieces, and fills those that are in memory.
func (c *Cached) pieces(ref remote.Ref, block *part) []*part {
	var all []*part
	size := int64(c.policy.Piece)
	off, p := block.at+int64(block.skip), block.p
	for len(p) > 0 {
		number := (off - block.at) / size
		at := block.at + number*size
		n := int(min(int64(len(p)), at+size-off))
		part := c.part(ref, unit{block.unit.key, int32(number)}, at, int(size), off, p[:n])
		c.mu.Lock()
		data := c.sparse.get(part.unit)
		c.mu.Unlock()
		part.n = missing
		if data != nil {
			part.n = copy(part.p, data[min(part.skip, len(data)):])
		}
		all = append(all, part)
		p, off = p[n:], off+int64(n)
	}
	return all
}

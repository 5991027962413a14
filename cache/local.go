package cache

import "github.com/meshmount/meshmount/remote"

// ReadLocal fills p from off, or as much of it as the file has, if all of that is in the
// Store or in memory: it makes no request and waits for none. Else ok is false and p may
// have been written to.
func (c *Cached) ReadLocal(ref remote.Ref, p []byte, off int64) (n int, ok bool) {
	if c.ready(c.ctx, ref.Path) != nil || !c.caches(ref, off, int64(len(p))) {
		return 0, false
	}
	if ref.Size >= 0 && off+int64(len(p)) > ref.Size {
		p = p[:max(ref.Size-off, 0)]
	}
	size := int64(c.store.BlockSize())
	for len(p) > 0 {
		block := off / size
		want := int(min(int64(len(p)), (block+1)*size-off))
		key := c.key(ref, uint32(block))
		got, ok := c.store.peek(key, off-block*size, p[:want])
		if !ok {
			got, ok = c.pieceLocal(key, off-block*size, p[:want])
		}
		n += got
		switch {
		case !ok, got < want && ref.Size >= 0:
			return 0, false
		case got < want:
			return n, true
		}
		p, off = p[want:], off+int64(want)
	}
	return n, true
}

// pieceLocal serves a read within one block from the pieces in memory.
func (c *Cached) pieceLocal(key Key, off int64, p []byte) (int, bool) {
	size := int64(c.policy.Piece)
	if size <= 0 || int64(len(p)) > size {
		return 0, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for n < len(p) {
		at := off + int64(n)
		data := c.sparse.get(unit{key, int32(at / size)})
		if at%size >= int64(len(data)) {
			return 0, false
		}
		n += copy(p[n:], data[at%size:])
	}
	return n, true
}

// HasLocal returns how many of the n bytes from off on are in the Store, up to the first
// that is not, and has the kernel read them from the disk. They may be gone, or found to
// be rotten, when they are read.
func (c *Cached) HasLocal(ref remote.Ref, off, n int64) int64 {
	if ref.Size >= 0 {
		n = min(n, ref.Size-off)
	}
	if !c.caches(ref, off, n) {
		return 0
	}
	size := int64(c.store.BlockSize())
	end := off
	for end < off+n && c.store.want(c.key(ref, uint32(end/size))) {
		end = (end/size + 1) * size
	}
	return min(end-off, n)
}

// BlockSize of the Store in bytes.
func (c *Cached) BlockSize() int64 { return int64(c.store.BlockSize()) }

// Admits tells whether what is fetched is kept at present. Without, ReadAt fetches what
// it is asked for and no more.
func (c *Cached) Admits() bool { return c.store.admits() }

// Room returns about how many new blocks find a place without one of them being given up
// for another: those that are free, or half of what new blocks have to themselves.
func (c *Cached) Room() int {
	s := c.store
	s.mu.Lock()
	defer s.mu.Unlock()
	free := len(s.queue.free)
	if !s.stuck {
		free += s.slab.slots - len(s.queue.slots)
	}
	return max(free, len(s.queue.slots)/20)
}

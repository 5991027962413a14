package cache

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Get fills p from offset off of a block, as far as the block reaches, and returns the
// number of bytes. ok is false if the block is not here whole and sound; then p may
// have been written to. A block that ends at or before off is here with n 0.
func (s *Store) Get(k Key, off int64, p []byte) (n int, ok bool) {
	n, ok = s.peek(k, off, p)
	if !ok && off >= 0 && s.serves() {
		s.count.misses.Add(1)
	}
	return n, ok
}

// peek is Get for who will ask again after a miss: it does not count that.
func (s *Store) peek(k Key, off int64, p []byte) (n int, ok bool) {
	s.running.RLock()
	defer s.running.RUnlock()
	if !s.serves() || off < 0 {
		return 0, false
	}
	n, ok = s.get(k, off, p)
	if ok {
		s.count.hits.Add(1)
		s.count.hitBytes.Add(int64(n))
	}
	return n, ok
}

func (s *Store) get(k Key, off int64, p []byte) (int, bool) {
	n, drops, ok := s.getHot(k, off, p)
	if ok {
		return n, true
	}
	i := k.ident(s.session)
	loc, err := s.index.get(i.id)
	if err != nil {
		if !errors.Is(err, errNotFound) {
			s.fault("index", err)
		}
		return 0, false
	}
	at, ok := s.pin(loc.slot)
	if !ok {
		return 0, false
	}
	h, err := at.head(i, loc)
	if err == nil {
		n, err = at.read(h, p, off)
	}
	s.mu.Lock()
	if err == nil {
		s.queue.touch(loc.slot, int(min(off, int64(h.length))), n, h.length)
		s.hot.put(k, loc.slot, h, drops)
	} else if rotten(err) && !errors.Is(err, errOther) {
		s.vacate(loc.slot)
	}
	s.queue.unpin(loc.slot)
	s.mu.Unlock()
	if err != nil {
		s.reject(i.id, loc, err)
	}
	return n, err == nil
}

// getHot is get for a block that was read a moment ago. Any error is left to get. drops is
// for hotBlocks.put.
func (s *Store) getHot(k Key, off int64, p []byte) (n int, drops uint64, ok bool) {
	s.mu.Lock()
	drops = s.hot.drops
	hot, ok := s.hot.get(k)
	if !ok {
		s.mu.Unlock()
		return 0, drops, false
	}
	s.queue.slots[hot.slot].pins++
	at := s.slab.at(hot.slot)
	s.mu.Unlock()
	n, err := at.read(hot.h, p, off)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.queue.touch(hot.slot, int(min(off, int64(hot.h.length))), n, hot.h.length)
	} else {
		s.hot.drop(hot.slot)
	}
	s.queue.unpin(hot.slot)
	return n, drops, err == nil
}

// want tells the kernel that a block will be read soon, and whether it is here.
func (s *Store) want(k Key) bool {
	s.running.RLock()
	defer s.running.RUnlock()
	if !s.serves() {
		return false
	}
	s.mu.Lock()
	_, known := s.hot.get(k)
	drops := s.hot.drops
	s.mu.Unlock()
	if known {
		return true // it was asked for then
	}
	i := k.ident(s.session)
	loc, err := s.index.get(i.id)
	if err != nil {
		return false
	}
	at, ok := s.pin(loc.slot)
	if !ok {
		return false
	}
	h, err := at.head(i, loc)
	if err == nil {
		// A hint: if the kernel does not take it, the read takes longer.
		_ = unix.Fadvise(int(at.file.Fd()), at.off+headerSize, int64(h.length), unix.FADV_WILLNEED)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.hot.put(k, loc.slot, h, drops)
	}
	s.queue.unpin(loc.slot)
	return err == nil
}

// vacate gives back a slot that holds nothing any more. Called with mu held.
func (s *Store) vacate(slot int32) {
	s.hot.drop(slot)
	s.queue.empty(slot)
}

// reject forgets an entry that led to nothing, or turns a failing disk off.
func (s *Store) reject(k id, loc location, err error) {
	if !rotten(err) {
		s.fault("read", err)
		return
	}
	if !errors.Is(err, errOther) {
		s.count.corrupt.Add(1)
	}
	if now, getErr := s.index.get(k); getErr != nil || now != loc {
		return // another was written meanwhile
	}
	if err := s.index.delete(k); err != nil {
		s.fault("index", err)
	}
}

// pin keeps a slot that holds a block from being used for another.
func (s *Store) pin(slot int32) (place, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slot < 0 || int(slot) >= len(s.queue.slots) || s.queue.slots[slot].lane == inFree {
		return place{}, false
	}
	s.queue.slots[slot].pins++
	return s.slab.at(slot), true
}

// holds tells whether a block is here, by its header alone.
func (s *Store) holds(i ident) bool {
	loc, err := s.index.get(i.id)
	if err != nil {
		return false
	}
	at, ok := s.pin(loc.slot)
	if !ok {
		return false
	}
	_, err = at.head(i, loc)
	s.mu.Lock()
	s.queue.unpin(loc.slot)
	s.mu.Unlock()
	return err == nil
}

// Has tells whether a block is here, without a look at its bytes.
func (s *Store) Has(k Key) bool {
	s.running.RLock()
	defer s.running.RUnlock()
	if !s.serves() {
		return false
	}
	s.mu.Lock()
	_, ok := s.hot.get(k)
	s.mu.Unlock()
	return ok || s.holds(k.ident(s.session))
}

package writeback

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// space bounds the bytes in staging files. A nil space has no bound. Its methods are
// safe for concurrent use.
type space struct {
	dir      string
	limit    int64         // 0: no bound
	reserve  int64         // bytes of the file system that are left free
	patience time.Duration // how long a writer waits while nothing moves
	stuck    func() bool   // tells whether nothing will be given back soon; nil if that is not known

	mu     sync.Mutex
	used   int64         // guarded by mu
	free   int64         // guarded by mu; of the file system, less what was taken since looked
	looked time.Time     // guarded by mu
	moved  chan struct{} // guarded by mu; closed when bytes were given back or sent
}

func newSpace(dir string, limit, reserve int64, patience time.Duration) *space {
	return &space{dir: dir, limit: limit, reserve: reserve, patience: patience, moved: make(chan struct{})}
}

// lookEvery is how long the free space of the file system is believed.
const lookEvery = 500 * time.Millisecond

// take asks for room for n bytes. While there is none it waits, as long as uploads go
// on; then it is ENOSPC.
func (s *space) take(n int64) error {
	if s == nil || n <= 0 {
		return nil
	}
	for {
		s.mu.Lock()
		moved := s.moved
		s.mu.Unlock()
		if s.tryTake(n) {
			return nil
		}
		if s.stuck != nil && s.stuck() {
			if s.tryTake(n) { // given back a moment ago
				return nil
			}
			return unix.ENOSPC
		}
		select {
		case <-moved:
		case <-time.After(s.patience):
			return unix.ENOSPC
		}
	}
}

// watch returns what is closed when bytes are given back or sent.
func (s *space) watch() <-chan struct{} {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.moved
}

// refused waits, when the disk has refused bytes for which there should have been room, for
// an upload that has moved since watch was called. It returns false if none does.
func (s *space) refused(moved <-chan struct{}) bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	s.free, s.looked = 0, time.Time{}
	s.mu.Unlock()
	select {
	case <-moved:
		return true
	default:
	}
	if s.stuck == nil || s.stuck() {
		return false
	}
	select {
	case <-moved:
		return true
	case <-time.After(s.patience):
		return false
	}
}

// tryTake takes room for n bytes, if there is any.
func (s *space) tryTake(n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.fits(n) {
		return false
	}
	s.used += n
	s.free -= n
	return true
}

// fits tells whether n more bytes have room. Guarded by mu.
func (s *space) fits(n int64) bool {
	if s.limit > 0 && s.used+n > s.limit {
		return false
	}
	if s.reserve <= 0 {
		return true
	}
	if s.free-n < s.reserve || time.Since(s.looked) > lookEvery {
		if !s.look() {
			return true // the write itself will tell
		}
	}
	return s.free-n >= s.reserve
}

// look asks how much of the file system is free. Guarded by mu.
func (s *space) look() bool {
	var st unix.Statfs_t
	if unix.Statfs(s.dir, &st) != nil {
		return false
	}
	s.free, s.looked = int64(min(st.Bavail, 1<<62/uint64(st.Bsize)))*st.Bsize, time.Now()
	return true
}

// leastWrite is the least that there must be room for.
const leastWrite = 4096

// full returns in words why there is no room for what a program writes, "" if there is.
func (s *space) full() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.limit > 0 && s.used+leastWrite > s.limit:
		return fmt.Sprintf("no room for more written data: all of the %d bytes for it are in use", s.limit)
	case s.look() && s.free-leastWrite < s.reserve:
		return fmt.Sprintf("no room for more written data: the file system of %s has %d bytes free, and %d are to stay free", s.dir, s.free, s.reserve)
	}
	return ""
}

// force counts n bytes that are there whether they fit or not.
func (s *space) force(n int64) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used += n
	s.free -= n
}

// give gives n bytes back.
func (s *space) give(n int64) {
	if s == nil || n == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used -= n
	if n > 0 {
		s.free += n
		s.wake()
	}
}

// wake lets those who wait look again. Guarded by mu.
func (s *space) wake() {
	close(s.moved)
	s.moved = make(chan struct{})
}

// tick tells that uploads go on.
func (s *space) tick() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wake()
}

// staged returns the bytes in staging files and their bound.
func (s *space) staged() (used, limit int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used, s.limit
}

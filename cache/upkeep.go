package cache

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// lookEvery is how often the disk is looked at while blocks are admitted.
const lookEvery = 250 * time.Millisecond

// look checks, now and then or at once, that the directory is still there and that the
// file system has enough space left for others.
func (s *Store) look(now bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !now && time.Since(s.looked) < lookEvery && s.puts.Add(1)%32 != 0 {
		return
	}
	s.looked = time.Now()
	if s.index == nil || !s.serves() {
		return
	}
	st, err := os.Stat(filepath.Join(s.dir, formatName))
	if err != nil || !os.SameFile(st, s.made) {
		s.turnOff(fmt.Errorf("the directory is gone: %w", errors.Join(err, os.ErrNotExist)))
		return
	}
	if err := s.makeRoom(); err != nil {
		s.turnOff(err)
	}
}

// makeRoom gives segments back while less than Reserve is free, and stops or starts
// the admission of blocks.
func (s *Store) makeRoom() error {
	for {
		free, err := freeSpace(s.dir)
		if err != nil {
			return err
		}
		if free >= s.opts.Reserve {
			room := len(s.slab.files) > 0 || free-s.slab.segmentSize()-margin >= s.opts.Reserve
			if !room {
				s.pause(fmt.Errorf("%w: %d bytes are free", errNoSpace, free))
			} else if free >= s.need {
				s.need = 0
				s.pause(nil)
			}
			return nil
		}
		if len(s.slab.files) == 0 || !s.queue.shrink(s.slab.segSlots) {
			s.pause(fmt.Errorf("%w: %d bytes are free, %d must stay", errNoSpace, free, s.opts.Reserve))
			return nil
		}
		for i := range s.slab.segSlots {
			s.hot.drop(int32(len(s.queue.slots) + i))
		}
		if err := s.slab.dropLast(); err != nil {
			return err
		}
	}
}

// Drop forgets all blocks of all versions of an object, as far as they are in the
// index when it is called.
func (s *Store) Drop(branch, object string) {
	s.drop(objectPrefix(branch, object))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hot.forget(branch, object)
}

// DropBranch forgets all blocks of a branch.
func (s *Store) DropBranch(branch string) {
	s.drop(branchPrefix(branch))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hot.forget(branch, "")
}

// dropAtOnce is how many entries are collected before they are deleted.
const dropAtOnce = 4096

func (s *Store) drop(prefix []byte) {
	s.running.RLock()
	defer s.running.RUnlock()
	for s.serves() {
		var keys []id
		var locs []location
		err := s.index.scan(prefix, func(k id, loc location) bool {
			keys, locs = append(keys, k), append(locs, loc)
			return len(keys) < dropAtOnce
		})
		if err == nil { // the slots first: they forget even if the index has no space
			err = s.freeAll(keys, locs)
		}
		if err == nil {
			err = s.index.delete(keys...)
		}
		if err != nil {
			s.fault("drop", err)
		}
		if err != nil || len(keys) < dropAtOnce {
			return
		}
	}
}

// freeAll gives the slots of entries back. The headers are read, as the entries may
// have been old.
func (s *Store) freeAll(keys []id, locs []location) error {
	for n, loc := range locs {
		at, ok := s.pin(loc.slot)
		if !ok {
			continue
		}
		var h header
		err := at.readHeader(&h)
		held := err == nil && h.state == slotFull && h.id == keys[n] && h.generation == loc.generation
		if held {
			err = at.mark(slotFree, loc.generation)
		}
		s.mu.Lock()
		if held {
			s.vacate(loc.slot)
		}
		s.queue.unpin(loc.slot)
		s.mu.Unlock()
		if err != nil && !rotten(err) {
			return err
		}
	}
	return nil
}

// Stats returns counts, after a look at the disk.
func (s *Store) Stats() Stats {
	s.running.RLock()
	defer s.running.RUnlock()
	s.look(true)
	now := s.state.Load()
	c := &s.count
	st := Stats{
		State: now.state, MaxSlots: s.slab.slots,
		Hits: c.hits.Load(), Misses: c.misses.Load(), HitBytes: c.hitBytes.Load(),
		Puts: c.puts.Load(), PutBytes: c.putBytes.Load(), Refused: c.refused.Load(),
		Evicted: c.evicted.Load(), Corrupt: c.corrupt.Load(), Meta: s.meta.stats(),
	}
	if now.reason != nil {
		st.Reason = now.reason.Error()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Slots, st.Free = len(s.queue.slots), len(s.queue.free)
	return st
}

// Close ends the use of the directory and waits for calls that are on their way.
// Calls after it find nothing. A second Close does nothing.
func (s *Store) Close() error {
	s.look(true)
	s.running.Lock()
	defer s.running.Unlock()
	before := s.state.Swap(&condition{state: StateClosed})
	if before.state == StateClosed {
		return nil
	}
	if s.meta != nil {
		s.meta.close()
	}
	var err error
	if s.index != nil {
		err = s.index.close(before.state == StateOff)
	}
	err = errors.Join(err, s.slab.close())
	if before.state == StateOff {
		err = nil // what failed was told when it did
	}
	return errors.Join(err, s.lock.Close())
}

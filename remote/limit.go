package remote

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// lendAfter is how long a call may stay in its caller's code before its slot is
// lent to others.
const lendAfter = 50 * time.Millisecond

// Limit lets at most n calls of b be on the way at once; more wait, as long as
// their context lives. A stream holds its slot until it is closed.
//
// A call that is out in its caller's code for long (the yield of List and ReadBundle, the readers of a
// Source, a Growing that waits for more) lends its slot meanwhile, so that this code may
// itself call the backend: with a slot held fast, n such calls would wait for each other
// forever.
func Limit(b Backend, n int) Backend {
	slots := semaphore.NewWeighted(int64(max(n, 1)))
	return Intercept(b, func(ctx context.Context, c *Call, next Next) error {
		if c.Op == OpStream {
			return next(ctx) // its Open has the slot
		}
		if err := slots.Acquire(ctx, 1); err != nil {
			return ContextErr(ctx)
		}
		s := &slot{ctx: ctx, slots: slots}
		c.Defer(s.give)
		switch c.Op {
		case OpList, OpPut, OpPutGrowing, OpPatch, OpPutBatch, OpReadBundle:
			c.Away = s.away
		}
		return next(ctx)
	})
}

// slot is one call's place among those that may be on the way.
type slot struct {
	ctx   context.Context
	slots *semaphore.Weighted

	mu    sync.Mutex // guards the fields below; not held while waiting for a slot
	state slotState
	timer *time.Timer // lends the slot
}

type slotState uint8

const (
	slotHeld slotState = iota
	slotAway           // held by a call that is in its caller's code
	slotLent           // others have it
	slotGone           // the call is over
)

// away is the Call.Away that lends the slot when it takes long.
func (s *slot) away() (back func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == slotHeld {
		s.state = slotAway
		if s.timer == nil {
			s.timer = time.AfterFunc(lendAfter, s.lend)
		} else {
			s.timer.Reset(lendAfter)
		}
	}
	return s.back
}

func (s *slot) lend() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == slotAway {
		s.state = slotLent
		s.slots.Release(1)
	}
}

// back takes the slot again if it was lent.
func (s *slot) back() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == slotAway {
		s.state = slotHeld
		s.timer.Stop()
	}
	if s.state != slotLent {
		return nil
	}
	s.mu.Unlock()
	err := s.slots.Acquire(s.ctx, 1)
	s.mu.Lock()
	switch {
	case err != nil:
		return ContextErr(s.ctx)
	case s.state == slotGone:
		s.slots.Release(1)
	default:
		s.state = slotHeld
	}
	return nil
}

// give ends the call's use of the slot.
func (s *slot) give() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == slotHeld || s.state == slotAway {
		s.slots.Release(1)
	}
	s.state = slotGone
	if s.timer != nil {
		s.timer.Stop()
	}
}

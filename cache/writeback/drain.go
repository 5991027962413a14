package writeback

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// Drain waits until nothing is left that can be brought to a server: the error is that of
// the context, or tells how many changes are parked.
func (s *Store) Drain(ctx context.Context) error { return s.Flush(ctx, "", "/") }

// Flush waits until nothing is pending at or below path of a branch, by its name; with ""
// of all branches. What is committed meanwhile counts. It fails if something is parked.
func (s *Store) Flush(ctx context.Context, branch, path string) error {
	defer context.AfterFunc(ctx, s.broadcast)()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining++
	defer func() { s.draining-- }()
	for _, b := range s.branches {
		b.hurryBelow(branch, path)
	}
	s.poke()
	for {
		left, stuck, why := s.leftBelow(branch, path)
		switch {
		case left == 0 && stuck == 0:
			return nil
		case left == 0:
			return &remote.Error{Op: "flush", Path: path, Kind: remote.KindOf(why),
				Err: fmt.Errorf("%d changes cannot be brought to the server, the first because: %w", stuck, why)}
		case ctx.Err() != nil:
			return ctx.Err()
		case s.closed:
			return &remote.Error{Op: "flush", Path: path, Kind: remote.BadHandle}
		}
		s.wake.Wait()
		if left > manyLeft { // to count them at the end of each would take long
			s.mu.Unlock()
			time.Sleep(recount)
			s.mu.Lock()
		}
	}
}

const (
	manyLeft = 1000
	recount  = 50 * time.Millisecond
)

// leftBelow counts what is pending and what is stuck, with the cause of one of those.
// Guarded by mu.
func (s *Store) leftBelow(branch, path string) (left, stuck int, why error) {
	for _, b := range s.branches {
		l, p, err := b.leftBelow(branch, path)
		left, stuck, why = left+l, stuck+p, cmp.Or(why, err)
	}
	return left, stuck, why
}

// concerns tells whether a change of the branch is at or below path.
func (b *Branch) concerns(c *change, branch, path string) bool {
	return branch == "" || b.policy.Name == branch && slices.ContainsFunc(c.paths(), func(p string) bool { return remote.Within(p, path) })
}

func (b *Branch) hurryBelow(branch, path string) {
	for _, c := range b.all {
		if b.concerns(c, branch, path) {
			b.queue.hurry(c)
		}
	}
}

// leftBelow counts what is pending and what is stuck, with the cause of one of those.
// Guarded by store.mu.
func (b *Branch) leftBelow(branch, path string) (left, stuck int, why error) {
	for _, c := range b.all {
		if c.state == parked && b.concerns(c, branch, path) {
			stuck, why = stuck+1, c.cause
		} else if b.concerns(c, branch, path) {
			left++
		}
	}
	if stuck == 0 || left > manyLeft {
		return left, stuck, why
	}
	for _, c := range b.all {
		if c.state != parked && b.concerns(c, branch, path) && behindParked(c, map[*change]bool{}) {
			left, stuck = left-1, stuck+1
		}
	}
	return left, stuck, why
}

package webdav

import (
	"context"
	"sync"

	"github.com/meshmount/meshmount/remote"
)

// proofs lets parts of one file that are read side by side share the looks that prove
// their version (see stillThere). A look proves all parts whose bytes were there before
// it began: whoever comes while one is on its way waits for the next, together with all
// others that come meanwhile. So there is one look at a time for each file, and not one
// for each part.
type proofs struct {
	mu    sync.Mutex // guards what follows
	paths map[string]*pathProofs
}

// pathProofs are those of one path.
type pathProofs struct {
	users int           // calls of look that are not over
	turn  chan struct{} // held by the one that looks
	next  *proof        // not begun; nil if nobody waits for one
}

// proof is one look, begun or not.
type proof struct {
	done  chan struct{} // closed when found and err are set
	found found
	err   error
}

// join returns the proofs of path and the one that begins next.
func (s *proofs) join(path string) (*pathProofs, *proof) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.paths[path]
	if p == nil {
		if s.paths == nil {
			s.paths = map[string]*pathProofs{}
		}
		p = &pathProofs{turn: make(chan struct{}, 1)}
		s.paths[path] = p
	}
	p.users++
	if p.next == nil {
		p.next = &proof{done: make(chan struct{})}
	}
	return p, p.next
}

func (s *proofs) leave(path string, p *pathProofs) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.users--; p.users == 0 {
		delete(s.paths, path)
	}
}

// begin takes one out of next: who comes from now on waits for another.
func (s *proofs) begin(p *pathProofs, one *proof) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.next == one {
		p.next = nil
	}
}

// look is lookAt of path, begun after the call and perhaps shared with others. If the
// one that looks is cancelled, another of those that wait looks in its place.
func (s *proofs) look(ctx context.Context, c *call, path string) (found, error) {
	p, mine := s.join(path)
	defer s.leave(path, p)
	select {
	case <-mine.done:
		return mine.found, mine.err
	case <-ctx.Done():
		return found{}, remote.ContextErr(ctx)
	case p.turn <- struct{}{}:
	}
	defer func() { <-p.turn }()
	select {
	case <-mine.done: // while this one waited for its turn
		return mine.found, mine.err
	default:
	}
	s.begin(p, mine)
	f, err := c.lookAt(ctx, path)
	if err != nil && ctx.Err() != nil {
		return found{}, err // this caller's end, and nobody else's
	}
	mine.found, mine.err = f, err
	close(mine.done)
	return f, err
}

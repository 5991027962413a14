package mount

import (
	"errors"
	"slices"
	"sync"

	"github.com/meshmount/meshmount/remote"
)

// errStale is the error of an operation on a node that has lost its name, or whose
// name has passed to another object. The kernel looks up the name again and repeats
// the call where that can help.
var errStale = errors.New("the name has passed to another object")

// holds are the paths in use. Operations share a path; a rename or a removal has it,
// and all below it, for itself. Who waits for an exclusive hold keeps later comers
// waiting; exclusive holds are served in their order. A waiter waits only for
// earlier ones, so there is no deadlock.
type holds struct {
	changed   sync.Cond // on tree.mu; when a hold goes
	waiting   int
	shared    map[*hold]struct{}
	exclusive []*hold // holders and waiters, oldest first
}

// hold is one operation's hold on the paths that it uses. Its paths do not change,
// and keep naming the same objects, until release.
type hold struct {
	tree  *tree
	paths []string
}

// claim is what an operation wants to hold: a node, or a name in it.
type claim struct {
	n    *node
	name string // "" for the node itself
}

// hold waits for renames and removals under way at or above the path of c, and
// keeps later ones away until release. The error is errStale.
func (t *tree) hold(c claim) (*hold, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := &hold{tree: t, paths: make([]string, 0, 1)}
	for {
		if err := h.locate(c); err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(t.holds.exclusive, h.inside) {
			break
		}
		t.holds.wait()
	}
	if t.holds.shared == nil {
		t.holds.shared = map[*hold]struct{}{}
	}
	t.holds.shared[h] = struct{}{}
	return h, nil
}

// holdAlone waits until nobody uses the paths of the claims or anything below them.
func (t *tree) holdAlone(claims ...claim) (*hold, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := &hold{tree: t}
	t.holds.exclusive = append(t.holds.exclusive, h)
	for {
		if err := h.locate(claims...); err != nil {
			h.releaseLocked()
			return nil, err
		}
		if !t.holds.blocks(h) {
			return h, nil
		}
		t.holds.wait()
	}
}

// locate sets the paths of h. Guarded by tree.mu.
func (h *hold) locate(claims ...claim) error {
	h.paths = h.paths[:0]
	for _, c := range claims {
		path, ok := h.tree.path(c.n)
		if !ok {
			return errStale
		}
		if c.name != "" {
			path = remote.Join(path, c.name)
		}
		h.paths = append(h.paths, path)
	}
	return nil
}

// blocks tells whether the exclusive hold h must wait. Guarded by tree.mu.
func (s *holds) blocks(h *hold) bool {
	for _, earlier := range s.exclusive {
		if earlier == h {
			break
		}
		if h.inside(earlier) || earlier.inside(h) {
			return true
		}
	}
	for other := range s.shared {
		if other.inside(h) {
			return true
		}
	}
	return false
}

// inside tells whether a path of h is one of the exclusive hold e or lies below one.
func (h *hold) inside(e *hold) bool {
	for _, p := range h.paths {
		for _, top := range e.paths {
			if remote.Within(p, top) {
				return true
			}
		}
	}
	return false
}

func (s *holds) wait() {
	s.waiting++
	s.changed.Wait()
	s.waiting--
}

func (h *hold) release() {
	h.tree.mu.Lock()
	defer h.tree.mu.Unlock()
	h.releaseLocked()
}

func (h *hold) releaseLocked() {
	s := &h.tree.holds
	delete(s.shared, h)
	s.exclusive = slices.DeleteFunc(s.exclusive, func(e *hold) bool { return e == h })
	if s.waiting > 0 {
		s.changed.Broadcast()
	}
}

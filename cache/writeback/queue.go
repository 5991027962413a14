package writeback

import (
	"slices"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// queue is the changes of one branch that are not over, with their order. It is pure: no
// locks, clocks or goroutines.
type queue struct {
	lines map[string][]*change           // by path, in order
	kids  map[string]map[string]struct{} // directory -> names with lines at or below them
	heap  dueHeap                        // idle ones that wait for nobody
	small dueHeap                        // of these, those that may leave together
	gone  dueHeap                        // of these, removals that may go with their directory
	attrs dueHeap                        // of these, changes of attributes that may go together
	rest  dueHeap                        // of these, attributes that batches of files have left
	// together, prunable and dressing tell which may be in small, gone and attrs; nil: none.
	together func(*change) bool
	prunable func(*change) bool
	dressing func(*change) bool
}

func newQueue() queue {
	return queue{lines: map[string][]*change{}, kids: map[string]map[string]struct{}{}}
}

// last returns the latest change that concerns path itself, nil if there is none.
func (q *queue) last(path string) *change {
	if l := q.lines[path]; len(l) > 0 {
		return l[len(l)-1]
	}
	return nil
}

// tail returns the latest change that makes something of path, which those after it build
// on, nil if there is none; free tells that no call of others waits behind it.
func (q *queue) tail(path string) (own *change, free bool) {
	free = true
	for _, c := range slices.Backward(q.lines[path]) {
		switch c.kind {
		case opForeign:
			free = false
		case opClean: // what follows it waits for it all the same
		default:
			return c, free
		}
	}
	return nil, free
}

// add queues c behind all that it must not overtake.
func (q *queue) add(c *change) {
	c.slot = -1
	for _, p := range c.paths() {
		for a := p; ; a, _ = remote.Split(a) {
			if l := q.barrier(a, a == p); l != nil {
				c.follow(l)
			}
			if a == "/" {
				break
			}
		}
		if c.deep {
			q.below(p, func(l []*change) {
				if d := l[len(l)-1]; c.kind != opSetAttr || d.state != parked {
					c.follow(d)
				}
			})
		}
	}
	for _, d := range []*change{c.after, c.toAfter} {
		if d != nil && d.state != over {
			c.follow(d)
		}
	}
	for _, p := range c.paths() {
		q.lines[p] = append(q.lines[p], c)
		q.index(p)
	}
	if c.kind != opSetAttr {
		for _, d := range c.prev {
			q.sooner(d)
		}
	}
	q.release(c)
}

// sooner has attributes not give way to content any more, as something else waits for them.
func (q *queue) sooner(c *change) {
	if !c.later {
		return
	}
	c.later, c.delay = false, time.Time{}
	if c.slot >= 0 && c.heap == &q.rest {
		q.drop(c)
		q.release(c)
	}
}

// barrier returns the latest change of path that one at it (own) or below it must not
// overtake: attributes of a directory do not concern what is in it.
func (q *queue) barrier(path string, own bool) *change {
	for _, c := range slices.Backward(q.lines[path]) {
		if own || c.kind != opSetAttr {
			return c
		}
	}
	return nil
}

// follow makes c wait for d.
func (c *change) follow(d *change) {
	if d == c || len(c.prev) <= len(d.next) && slices.Contains(c.prev, d) || len(c.prev) > len(d.next) && slices.Contains(d.next, c) {
		return // of a large tree one of the lists is long
	}
	c.prev = append(c.prev, d)
	d.next = append(d.next, c)
}

// release puts c among those that can be started, if it waits for nobody.
func (q *queue) release(c *change) {
	if len(c.prev) > 0 || c.state != idle {
		return
	}
	if c.kind == opForeign {
		c.state = running
		close(c.ready)
		return
	}
	if c.slot < 0 {
		c.heap = &q.heap
		if q.together != nil && q.together(c) {
			c.heap = &q.small
		} else if q.prunable != nil && q.prunable(c) {
			c.heap = &q.gone
		} else if q.dressing != nil && q.dressing(c) {
			c.heap = &q.attrs
			if c.later {
				c.heap = &q.rest
			}
		}
	}
	c.heap.put(c)
}

// alone has a change go alone that was among those that may leave together.
func (q *queue) alone(c *change) {
	q.drop(c)
	c.heap = &q.heap
	q.heap.put(c)
}

// awaited has a change go alone and before others, as somebody waits for it.
func (q *queue) awaited(c *change) {
	if c.lone = true; c.slot >= 0 && c.heap != &q.heap {
		q.alone(c)
	}
	q.hurry(c)
}

// fix finds the place of c anew.
func (q *queue) fix(c *change) {
	if c.heap != nil {
		c.heap.fix(c)
	}
}

// drop takes c from those that can be started.
func (q *queue) drop(c *change) {
	if c.heap != nil {
		c.heap.drop(c)
	}
}

// index notes that there is a line at path.
func (q *queue) index(path string) {
	for path != "/" {
		dir, name := remote.Split(path)
		names := q.kids[dir]
		if names == nil {
			names = map[string]struct{}{}
			q.kids[dir] = names
		}
		if _, ok := names[name]; ok {
			return
		}
		names[name] = struct{}{}
		path = dir
	}
}

// unindex forgets path and what is above it, as far as there is nothing any more.
func (q *queue) unindex(path string) {
	for path != "/" && len(q.lines[path]) == 0 && len(q.kids[path]) == 0 {
		dir, name := remote.Split(path)
		names := q.kids[dir]
		delete(names, name)
		if len(names) > 0 {
			return
		}
		delete(q.kids, dir)
		path = dir
	}
}

// below calls f with each line below a directory.
func (q *queue) below(dir string, f func([]*change)) {
	for name := range q.kids[dir] {
		p := remote.Join(dir, name)
		if l := q.lines[p]; len(l) > 0 {
			f(l)
		}
		q.below(p, f)
	}
}

// remove takes c out of the queue. Those behind it that waited for what c waited for, by
// way of c, go on waiting.
func (q *queue) remove(c *change) {
	q.drop(c)
	c.state = over
	for _, p := range c.paths() {
		l := slices.DeleteFunc(q.lines[p], func(d *change) bool { return d == c })
		if len(l) == 0 {
			delete(q.lines, p)
			q.unindex(p)
		} else {
			q.lines[p] = l
		}
	}
	for _, d := range c.prev {
		d.next = slices.DeleteFunc(d.next, func(n *change) bool { return n == c })
	}
	for _, n := range c.next {
		n.prev = slices.DeleteFunc(n.prev, func(d *change) bool { return d == c })
		for _, d := range c.prev {
			n.follow(d)
		}
		q.release(n)
	}
	c.prev, c.next = nil, nil
}

// excuse lets the attributes of directories go that wait for c below them: it may never
// be over.
func (q *queue) excuse(c *change) {
	for _, n := range slices.Clone(c.next) {
		if n.kind != opSetAttr || n.path == c.path || n.path == c.to {
			continue
		}
		c.next = slices.DeleteFunc(c.next, func(d *change) bool { return d == n })
		n.prev = slices.DeleteFunc(n.prev, func(d *change) bool { return d == c })
		q.release(n)
	}
}

// any tells whether there is something that waits for nobody.
func (q *queue) any() bool {
	return q.heap.top() != nil || q.small.top() != nil || q.gone.top() != nil || q.attrs.top() != nil || q.rest.top() != nil
}

// again puts a change that was running back among the idle ones.
func (q *queue) again(c *change) {
	c.state = idle
	q.release(c)
}

// hurry makes c and all that it waits for go before others, without delay.
func (q *queue) hurry(c *change) {
	if c.urgent {
		return
	}
	c.urgent = true
	q.fix(c)
	for _, d := range c.prev {
		q.hurry(d)
	}
}

// trouble returns why c, or something that it waits for, does not go on; nil if nothing
// has failed, or may go on by itself (unless patient is false).
func (c *change) trouble(patient bool, seen map[*change]bool) error {
	if seen[c] {
		return nil
	}
	seen[c] = true
	if c.cause != nil && (c.state == parked || c.state == idle && (!patient || permanent(c.cause))) {
		return c.cause
	}
	for _, d := range c.prev {
		if err := d.trouble(patient, seen); err != nil {
			return err
		}
	}
	return nil
}

// due returns when the change may be started.
func (c *change) due() time.Time {
	if c.urgent || c.delay.Before(c.retry) {
		return c.retry
	}
	return c.delay
}

// dueHeap orders changes by when they may be started: a binary heap.
type dueHeap struct{ list []*change }

func (h *dueHeap) before(i, j int) bool { return h.list[i].before(h.list[j]) }

// before tells whether c is to be started first.
func (c *change) before(d *change) bool {
	if x, y := c.due(), d.due(); !x.Equal(y) {
		return x.Before(y)
	}
	return c.id < d.id
}

func (h *dueHeap) swap(i, j int) {
	h.list[i], h.list[j] = h.list[j], h.list[i]
	h.list[i].slot, h.list[j].slot = i, j
}

func (h *dueHeap) up(i int) {
	for i > 0 && h.before(i, (i-1)/2) {
		h.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (h *dueHeap) down(i int) {
	for {
		k := 2*i + 1
		if k >= len(h.list) {
			return
		}
		if k+1 < len(h.list) && h.before(k+1, k) {
			k++
		}
		if !h.before(k, i) {
			return
		}
		h.swap(i, k)
		i = k
	}
}

func (h *dueHeap) put(c *change) {
	if c.slot >= 0 {
		h.fix(c)
		return
	}
	c.slot = len(h.list)
	h.list = append(h.list, c)
	h.up(c.slot)
}

func (h *dueHeap) fix(c *change) {
	if c.slot >= 0 {
		h.up(c.slot)
		h.down(c.slot)
	}
}

func (h *dueHeap) drop(c *change) {
	i := c.slot
	if i < 0 {
		return
	}
	n := len(h.list) - 1
	h.swap(i, n)
	h.list[n] = nil
	h.list = h.list[:n]
	c.slot = -1
	if i < n {
		h.up(i)
		h.down(i)
	}
}

// first returns the earliest of a kind, nil if there is none. It looks at all.
func (h *dueHeap) first(is func(*change) bool) (c *change) {
	for _, d := range h.list {
		if is(d) && (c == nil || d.before(c)) {
			c = d
		}
	}
	return c
}

// top returns the first, nil if there is none.
func (h *dueHeap) top() *change {
	if len(h.list) == 0 {
		return nil
	}
	return h.list[0]
}

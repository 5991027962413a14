package irods

import (
	"context"
	"sync"
	"time"
)

// crew is the lanes that carry the pieces of one transfer. Its methods may be called
// from many goroutines, one for each lane.
type crew struct {
	b     *Backend
	dir   direction
	hire  func() // begins another lane in a goroutine of its own; set before the first moved
	mu    sync.Mutex
	lanes growth
	made  int // lanes that have ever been at work
	hired int // that were hired and are not at work yet
	going int // that are at work, but have been told to end
}

// muster begins a transfer of size bytes with its first lane.
func (b *Backend) muster(dir direction, size int64) *crew {
	c := &crew{b: b, dir: dir}
	piece := int64(b.piece)
	most := min(int64(b.opts.MaxConns), (size+piece-1)/piece)
	c.lanes = newGrowth(int(most), b.lessons.get(dir), size, c.price(), time.Now())
	if b.expects(size) {
		c.lanes.expect(farLanes)
	}
	c.begin()
	return c
}

// farLanes is how many lanes a large transfer has at least if the server is far away: the
// window of one connection is then less than the path holds, and to find that out takes
// longer than the transfer of many an object.
const farLanes = 3

// longDistance is the round trip from which on a server is far away. A window of 4 MiB is
// 1.7 Gbit/s then.
const longDistance = 20 * time.Millisecond

// expects tells whether the transfer of so many bytes is worth more than one connection
// from the beginning.
func (b *Backend) expects(size int64) bool {
	return size >= 4*farLanes*int64(b.piece) && b.pace.far(longDistance)
}

// warm makes connections for the lanes of a transfer of so many bytes, while the object is
// opened.
func (b *Backend) warm(size int64) {
	if b.expects(size) {
		b.pool.warm(min(farLanes, b.opts.MaxConns))
	}
}

// begin notes that a lane is at work.
func (c *crew) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lanes.joined()
	c.made++
	if c.made > 1 {
		c.hired--
	}
}

// bored notes that a lane has ended because nothing came for it.
func (c *crew) bored() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lanes.bored(time.Now())
}

// end notes that a lane has ended.
func (c *crew) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lanes.gone(time.Now())
}

// unhired notes that a lane that was hired cannot be had.
func (c *crew) unhired() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hired--
	c.lanes.refused(time.Now())
}

// moved notes that a lane has carried a piece of n bytes after it had waited for the
// other end, and hires more lanes if that is wanted. left is how much no lane has taken.
func (c *crew) moved(n, left int64, waited time.Duration) {
	price := c.price()
	c.mu.Lock()
	c.lanes.did(time.Now(), n, left, waited, price)
	c.mu.Unlock()
	c.fill(left)
}

// fill hires the lanes that are wanted and missing, no more than there are pieces left.
func (c *crew) fill(left int64) {
	piece := int64(c.b.piece)
	c.mu.Lock()
	missing := max(min(c.lanes.want-c.lanes.lanes-c.hired, int((left+piece-1)/piece)), 0)
	c.hired += missing
	c.mu.Unlock()
	for range missing {
		c.hire()
	}
}

// surplus tells a lane that is not the first one whether to end: there are too many, or
// calls wait for connections that the pool cannot make.
func (c *crew) surplus() bool {
	starved := c.b.pool.starved()
	c.mu.Lock()
	defer c.mu.Unlock()
	return starved || c.lanes.lanes > c.lanes.want
}

// excess is surplus for a lane that ends later, which counts from now on as if it had
// ended: so not all are told. It must be told once only, and then call gone in the end.
func (c *crew) excess() bool {
	starved := c.b.pool.starved()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !starved && c.lanes.lanes-c.going <= c.lanes.want {
		return false
	}
	c.going++
	return true
}

// gone is end for a lane that excess has told.
func (c *crew) gone() {
	c.mu.Lock()
	c.going--
	c.mu.Unlock()
	c.end()
}

// count returns how many lanes are at work, and how many have ever been.
func (c *crew) count() (now, ever int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lanes.lanes, c.made
}

// alone tells whether there can never be a second lane.
func (c *crew) alone() bool { return c.lanes.most == 1 }

// disband leaves what was learned to the next transfers.
func (c *crew) disband() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.b.lessons.put(c.dir, c.lanes.known)
}

// openCost is how long the server takes to open an object (measured on 5.0.2).
const openCost = 10 * time.Millisecond

// price is what another lane costs before it moves anything.
func (c *crew) price() time.Duration {
	return c.b.pool.price() + c.b.pace.roundTrip() + openCost
}

// price is what it takes to get another connection now.
func (p *pool) price() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) > 0 {
		return 0
	}
	return p.cost
}

// starved tells whether calls wait for connections and no more can be made.
func (p *pool) starved() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.full() && len(p.waiting) > p.dialing
}

// vacancies tells whether there is a connection that nobody uses, and whether another one
// may be made.
func (p *pool) vacancies() (free, room bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.free) > 0, !p.full()
}

// launch runs f in a goroutine that close waits for. It is false if the pool is closed.
func (p *pool) launch(f func(ctx context.Context)) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.tasks.Go(func() { f(p.ctx) })
	return true
}

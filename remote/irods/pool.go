package irods

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// pool keeps the connections of a branch. Each is a process and a database connection
// at the server, so the pool starts with one and makes another only for a call that
// has waited longer than a part of what making it would take. When the server refuses
// more, the pool works with what it has and tries again after a while.
type pool struct {
	dial  func(context.Context) (*session, error)
	limit int
	idle  time.Duration // how long an unused connection is kept

	mu      sync.Mutex
	closed  bool
	free    []*session            // the one used last at the end
	open    int                   // connections that are there
	busy    map[*session]struct{} // those in use
	dialing int                   // connections that are being made
	warming int                   // those of them that no call waits for
	claims  []chan *session       // of those; each has room for one
	waiting []*waiter             // first come, first served
	ceiling ceiling
	cost    time.Duration // of making a connection, the shortest seen

	ctx   context.Context // ends with Close
	stop  context.CancelFunc
	tasks sync.WaitGroup
}

// waiter is a call that waits for a connection.
type waiter struct {
	got chan grant // has room for one
}

// grant is what a waiter gets: a connection or an error.
type grant struct {
	s   *session
	err error
}

// ceiling remembers that the server refused a connection when there were so many.
type ceiling struct {
	most  int
	until time.Time
	pause time.Duration
}

// The pauses after a refusal, and the shares of time that a call waits before another
// connection is made for it.
const (
	firstPause   = time.Second
	longestPause = time.Minute
	minPatience  = 5 * time.Millisecond
	maxPatience  = 100 * time.Millisecond
)

func newPool(dial func(context.Context) (*session, error), limit int, idle time.Duration) *pool {
	ctx, stop := context.WithCancel(context.Background())
	p := &pool{dial: dial, limit: limit, idle: idle, busy: map[*session]struct{}{}, ctx: ctx, stop: stop}
	p.tasks.Go(p.sweep)
	return p
}

var errClosed = errors.New("the branch is closed")

// get returns a connection for the caller alone, which gives it back with put. One
// that has the object open for reading is preferred.
func (p *pool) get(ctx context.Context, object string) (*session, error) {
	p.mu.Lock()
	if err := p.usable(); err != nil {
		p.mu.Unlock()
		return nil, err
	}
	if s := p.take(object); s != nil {
		p.mu.Unlock()
		return s, nil
	}
	w := &waiter{got: make(chan grant, 1)}
	p.waiting = append(p.waiting, w)
	first := p.open+p.dialing == 0
	if first {
		p.grow()
	}
	patience := p.patience()
	p.mu.Unlock()
	return p.wait(ctx, w, patience)
}

// usable returns why there are no connections any more. Guarded by mu.
func (p *pool) usable() error {
	if p.closed {
		return &remote.Error{Op: "connect", Kind: remote.BadHandle, Err: errClosed}
	}
	return nil
}

// patience is how long a call waits before another connection is made for it.
func (p *pool) patience() time.Duration {
	return min(max(p.cost/2, minPatience), maxPatience)
}

// take removes a free connection that is still alive. Guarded by mu.
func (p *pool) take(object string) *session {
	for len(p.free) > 0 {
		i := len(p.free) - 1
		if object != "" {
			if j := slices.IndexFunc(p.free, func(s *session) bool { return s.has(object) }); j >= 0 {
				i = j
			}
		}
		s := p.free[i]
		p.free = slices.Delete(p.free, i, i+1)
		if s.conn.Alive() {
			p.busy[s] = struct{}{}
			return s
		}
		p.open--
		_ = s.conn.Close() // it is dead already
	}
	return nil
}

// wait waits until w gets something, and makes another connection when that takes long.
func (p *pool) wait(ctx context.Context, w *waiter, patience time.Duration) (*session, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case g := <-w.got:
			return g.s, g.err
		case <-timer.C:
			p.mu.Lock()
			p.grow()
			p.mu.Unlock()
			timer.Reset(maxPatience)
		case <-ctx.Done():
			p.leave(w)
			return nil, remote.ContextErr(ctx)
		}
	}
}

// leave takes w out of the queue. What it got in the same moment goes to the next.
func (p *pool) leave(w *waiter) {
	p.mu.Lock()
	p.waiting = slices.DeleteFunc(p.waiting, func(o *waiter) bool { return o == w })
	p.mu.Unlock()
	select {
	case g := <-w.got:
		if g.s != nil {
			p.put(g.s)
		}
	default:
	}
}

// grow begins to make a connection if there are waiters for it and it is allowed.
// Guarded by mu.
func (p *pool) grow() {
	if p.closed || p.full() || p.dialing >= len(p.waiting) {
		return
	}
	p.dialing++
	p.tasks.Go(p.connect)
}

// warm makes connections in the background until there are n, as far as that is allowed:
// a burst of calls is coming for which making them one by one would take too long. Those
// that turn out to be unused are closed like others.
func (p *pool) warm(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.closed && !p.full() && p.open+p.dialing < n {
		p.dialing++
		p.warming++
		p.tasks.Go(p.preheat)
	}
}

// preheat makes a connection for who has claimed one, unless calls wait.
func (p *pool) preheat() {
	s := p.establish(p.ctx)
	if !p.hand(s) && s != nil {
		p.put(s)
	}
}

// hand gives a connection that was made for nobody in particular, nil if it could not be
// made, to the first who has claimed one. False: it is still to be given back.
func (p *pool) hand(s *session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.warming--
	if len(p.claims) == 0 {
		return false
	}
	claim := p.claims[0]
	p.claims = p.claims[1:]
	if s == nil || p.closed || len(p.waiting) > 0 {
		claim <- nil
		return false
	}
	p.busy[s] = struct{}{}
	claim <- s
	return true
}

// claim waits for a connection that is being made for nobody in particular. Guarded by mu,
// which it gives back.
func (p *pool) claim(ctx context.Context) *session {
	c := make(chan *session, 1)
	p.claims = append(p.claims, c)
	p.mu.Unlock()
	select {
	case s := <-c:
		return s
	case <-ctx.Done():
	}
	p.mu.Lock()
	p.claims = slices.DeleteFunc(p.claims, func(o chan *session) bool { return o == c })
	p.mu.Unlock()
	select {
	case s := <-c:
		if s != nil {
			p.put(s)
		}
	default:
	}
	return nil
}

// connect makes a connection and hands it to a waiter.
func (p *pool) connect() {
	if s := p.establish(p.ctx); s != nil {
		p.put(s)
	}
}

// establish makes a connection, which dialing has counted already. nil: that failed.
func (p *pool) establish(ctx context.Context) *session {
	begin := time.Now()
	s, err := p.dial(ctx)
	took := time.Since(begin)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dialing--
	if err != nil {
		p.failed(err)
		return nil
	}
	p.open++
	if p.cost == 0 || took < p.cost {
		p.cost = took
	}
	if p.open > p.ceiling.most {
		p.ceiling = ceiling{}
	}
	return s
}

// failed settles what an attempt to connect means for those who wait. Guarded by mu.
func (p *pool) failed(err error) {
	if p.open > 0 {
		c := &p.ceiling
		c.pause = min(max(2*c.pause, firstPause), longestPause)
		c.most, c.until = p.open, time.Now().Add(c.pause)
		return
	}
	if p.dialing > 0 {
		return // another attempt is under way
	}
	for _, w := range p.waiting {
		w.got <- grant{err: err}
	}
	p.waiting = nil
}

// put gives a connection back. One that is broken is dropped.
func (p *pool) put(s *session) {
	s.used = time.Now()
	if p.settle(s) {
		_ = s.conn.Close()
	}
}

// settle finds out what becomes of a connection that is not in use any more. It tells
// whether it is to be closed.
func (p *pool) settle(s *session) (drop bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.busy, s)
	switch {
	case s.conn.Broken() || p.closed:
		p.open--
		if p.open+p.dialing == 0 {
			p.grow()
		}
		return true
	case len(p.waiting) > 0:
		w := p.waiting[0]
		p.waiting = p.waiting[1:]
		p.busy[s] = struct{}{}
		w.got <- grant{s: s}
	default:
		p.free = append(p.free, s)
	}
	return false
}

// spare returns a connection only if there is one to be had without taking it from
// calls that wait: a free one, or a new one if there is room. nil: there is none, or ctx
// has ended. Who calls it has a connection already, or another one like it has.
func (p *pool) spare(ctx context.Context, object string) *session {
	p.mu.Lock()
	s := p.take(object)
	if s == nil && p.usable() == nil && len(p.claims) < p.warming {
		if s = p.claim(ctx); s != nil || ctx.Err() != nil {
			return s
		}
		return p.spare(ctx, object)
	}
	room := p.usable() == nil && !p.full() && len(p.waiting) <= p.dialing
	if s != nil || !room {
		p.mu.Unlock()
		return s
	}
	p.dialing++
	made := make(chan *session)
	p.tasks.Go(func() {
		s := p.establish(p.ctx)
		select {
		case made <- s:
		case <-ctx.Done():
			if s != nil {
				p.put(s)
			}
		}
	})
	p.mu.Unlock()
	select {
	case s = <-made:
	case <-ctx.Done():
		return nil
	}
	if s != nil {
		p.use(s)
	}
	return s
}

// full tells whether no more connections can be made now. Guarded by mu.
func (p *pool) full() bool {
	have := p.open + p.dialing
	return have >= p.limit || have > 0 && have >= p.ceiling.most && time.Now().Before(p.ceiling.until)
}

// use notes that a new connection is in use.
func (p *pool) use(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy[s] = struct{}{}
	if p.closed {
		_ = s.conn.Close() // who uses it drops it
	}
}

// sweep closes connections that nobody uses, with what is open on them.
func (p *pool) sweep() {
	ticker := time.NewTicker(max(p.idle/4, 10*time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-ticker.C:
			for _, s := range p.old() {
				_ = s.conn.Close()
			}
		}
	}
}

// lastLife is how many times as long as others the last connection is kept: far away, to
// make one takes longer than a program should wait for its first byte.
const lastLife = 10

// old removes the free connections that have been unused for too long.
func (p *pool) old() (old []*session) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = slices.DeleteFunc(p.free, func(s *session) bool {
		life := p.idle
		if p.open == 1 {
			life *= lastLife
		}
		if now.Sub(s.used) < life {
			return false
		}
		p.open--
		old = append(old, s)
		return true
	})
	return old
}

// ended tells whether the pool is closed.
func (p *pool) ended() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// count returns the number of connections.
func (p *pool) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open
}

// close closes all connections. Calls under way and calls that wait fail.
func (p *pool) close() {
	p.mu.Lock()
	free := p.free
	p.free, p.closed = nil, true
	p.open -= len(free)
	for _, w := range p.waiting {
		w.got <- grant{err: &remote.Error{Op: "connect", Kind: remote.BadHandle, Err: errClosed}}
	}
	p.waiting = nil
	busy := slices.Collect(maps.Keys(p.busy))
	p.mu.Unlock()
	p.stop()
	for _, s := range append(free, busy...) {
		_ = s.conn.Close() // calls under way fail, and drop it
	}
	p.tasks.Wait()
}

// session is a connection with what is open on it. Who has got it from the pool owns it.
type session struct {
	conn    *wire.Conn
	used    time.Time
	files   []*openFile // for reading, the one used last at the end
	closing []int       // descriptors that were given up and are not closed yet
}

// has tells whether the object is open for reading.
func (s *session) has(object string) bool {
	return slices.ContainsFunc(s.files, func(f *openFile) bool { return f.object == object })
}

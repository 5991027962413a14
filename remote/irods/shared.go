package irods

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// Reads share connections: the calls of several go out on one before the answers to the
// first have come, so that it is busy in both directions all the time. A connection serves
// them one after the other; so they are spread over the connections that are free, and
// others are made when all have enough to do.
//
// Whatever goes wrong with a read that shares is not judged here: the caller makes it again
// in the ordinary way, alone on a connection.

const (
	// laneDepth is how much is under way on a connection, in loads: an object or range
	// of up to 1 MiB is one, a piece of 4 MiB is four. Each small object costs the server
	// about 10 ms (measured on 5.0.2), so that more make no difference up to 80 ms away.
	laneDepth = 8
	// laneFill is how much of full pieces fills a lane to a server far away, whose window is
	// no larger; what goes out beyond that only waits.
	laneFill = 4
	// laneShare is how much there must be for each connection before a free one joins.
	laneShare = 2
	// firstRead is how much is asked for at the beginning of an object by who is likely to
	// read all of it. Connections are made for that while the first bytes come.
	firstRead = 512 << 10
	// cancelGrace is how long a cancelled read waits for its bytes, which may be coming
	// already, before the connection is given up for its sake.
	cancelGrace = 200 * time.Millisecond
)

// loadOf is the load of a read of n bytes.
func loadOf(n int) int { return 1 + min(n>>20, 3) }

// rider is a read that shares a connection.
type rider interface {
	// load is its part of laneDepth.
	load() int
	// board returns its calls, and notes what they do to the session.
	board(s *session) []*wire.Call
	// took takes the answer to one of its calls and tells whether that was the last.
	took(s *session, call *wire.Call, result wire.Result) (last bool)
	// unsettled tells that until the next answer nothing may go out behind it.
	unsettled() bool
	// strayed tells that objects may be open on the session that it does not know of.
	strayed() bool
}

// heavy is the load of a full piece, 0 for less.
func (x *ride) heavy() int {
	if n := x.load(); n == laneFill {
		return n
	}
	return 0
}

// sharing is the reads that share. It is safe for concurrent use.
type sharing struct {
	b *Backend

	mu       sync.Mutex
	change   sync.Cond // what is queued or under way is other than before
	queue    []*ride
	lanes    int  // connections at work
	starting bool // another one is to come
	joining  int  // that are about to begin, since their connections are free
	queued   int  // load
	flight   int  // load
	heavy    int  // load of both that is a full piece each
}

// ride is one read from its beginning to its end.
type ride struct {
	rider
	ctx     context.Context
	lane    *sharedLane   // guarded by sharing.mu
	stop    func() bool   // ends the watch over ctx
	arrived bool          // all answers have come
	done    chan struct{} // closed in the end
}

// read reads what is asked for. ok is false if that cannot be shared, or if anything at
// all has gone wrong.
func (m *sharing) read(ctx context.Context, r *reading, p []byte, off int64) (n int, ok bool) {
	size := r.ref.Size
	if r.ref.Version == "" || size < 0 || off >= size || !m.b.guesses() {
		return 0, false
	}
	p = p[:min(int64(len(p)), size-off)]
	switch {
	case off == 0 && int64(len(p)) == size && len(p) <= m.b.piece:
		x := r.errand() // the buffer is not the caller's, who may go away
		if !m.make(ctx, x, false) || !x.proved() {
			return 0, false
		}
		return copy(p, x.into), true
	case len(p) > largeRead*m.b.piece:
		return 0, false
	case off == 0 && len(p) >= firstRead:
		m.b.warm(size)
	}
	return len(p), m.readParts(ctx, r, p, off)
}

// readParts reads a range, in parts if it is long.
func (m *sharing) readParts(ctx context.Context, r *reading, p []byte, off int64) bool {
	var all []*stretch
	for n := 0; n < len(p); n += m.b.piece {
		all = append(all, &stretch{r: r, into: p[n:min(n+m.b.piece, len(p))], off: off + int64(n)})
	}
	oks := make([]bool, len(all))
	var tasks sync.WaitGroup
	for i, x := range all[1:] {
		tasks.Go(func() { oks[i+1] = m.make(ctx, x, true) })
	}
	oks[0] = m.make(ctx, all[0], true)
	tasks.Wait()
	for i, x := range all {
		if !oks[i] || !x.proved(ctx) {
			return false
		}
	}
	return true
}

// make queues a read and waits for its end. It is false if not all answers came. When it
// returns, nobody writes to the buffer of the read any more, if that matters.
func (m *sharing) make(ctx context.Context, r rider, borrowed bool) bool {
	x := &ride{rider: r, ctx: ctx, done: make(chan struct{})}
	m.mu.Lock()
	m.queue = append(m.queue, x)
	m.queued += x.load()
	m.heavy += x.heavy()
	m.staff()
	m.change.Broadcast()
	m.mu.Unlock()
	select {
	case <-x.done:
		return x.arrived
	case <-ctx.Done():
	}
	if m.drop(x) || !borrowed {
		return false
	}
	timer := time.NewTimer(cancelGrace)
	defer timer.Stop()
	select {
	case <-x.done:
	case <-timer.C:
		x.lane.cancel()
		<-x.done
	}
	return false
}

// drop takes a read that nobody waits for out of the queue. It is false if it is under
// way already.
func (m *sharing) drop(x *ride) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.Index(m.queue, x)
	if i < 0 {
		return x.lane == nil
	}
	m.queue = slices.Delete(m.queue, i, i+1)
	m.queued -= x.load()
	m.heavy -= x.heavy()
	m.change.Broadcast()
	return true
}

// staff begins another lane if there is enough to do. Guarded by mu.
func (m *sharing) staff() {
	if m.starting || len(m.queue) == 0 {
		return
	}
	load, far := m.flight+m.queued, m.b.pace.far(longDistance)
	free, room := m.b.pool.vacancies()
	switch {
	case m.lanes == 0:
	case free && load > laneShare*m.lanes:
	case room && far && m.lanes < farLanes && m.heavy > laneFill*m.lanes:
		m.b.pool.warm(farLanes)
	case room && load > laneDepth*m.lanes:
		if far {
			m.b.pool.warm((load + laneDepth - 1) / laneDepth)
		}
	default:
		return
	}
	m.starting = m.b.pool.launch(func(life context.Context) { m.lane(life, free) })
	switch {
	case !m.starting:
		m.giveUp()
	case free:
		m.joining++
	}
}

// giveUp leaves what is queued to the callers. Guarded by mu.
func (m *sharing) giveUp() {
	for _, x := range m.queue {
		m.heavy -= x.heavy()
		close(x.done)
	}
	m.queue, m.queued = nil, 0
}

func (m *sharing) wake() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.change.Broadcast()
}

// lane is a connection at work, from its beginning to its end. joins tells that its
// connection was free.
func (m *sharing) lane(life context.Context, joins bool) {
	s, err := m.b.pool.get(life, "")
	m.mu.Lock()
	m.starting = false
	if err != nil {
		if joins {
			m.joining--
		}
		if m.lanes == 0 {
			m.giveUp()
		}
		m.mu.Unlock()
		return
	}
	m.lanes++
	m.staff()
	m.mu.Unlock()
	l := &sharedLane{m: m, s: s, joins: joins}
	ctx, cancel := context.WithCancel(remote.WithProgress(life, l.tick))
	l.cancel = cancel
	stop := context.AfterFunc(ctx, m.wake)
	err = s.conn.Stream(ctx, l.next, l.took)
	l.end(err)
	stop()
	cancel()
	m.b.pool.put(s)
}

// sharedLane is the reads under way on a connection.
type sharedLane struct {
	m      *sharing
	s      *session // its fields are guarded by m.mu as long as calls are under way
	cancel context.CancelFunc
	way    []*ride // guarded by m.mu, as everything below
	load   int
	taken  int
	joins  bool // it is about to begin
	over   bool // no more are taken
}

// tick tells all who wait that bytes have moved.
func (l *sharedLane) tick() {
	l.m.mu.Lock()
	way := slices.Clone(l.way)
	l.m.mu.Unlock()
	for _, x := range way {
		remote.Progress(x.ctx)
	}
}

// next returns the calls of the next read. It waits for one as long as others are under
// way, and no longer.
func (l *sharedLane) next(ctx context.Context) []*wire.Call {
	m := l.m
	stop := context.AfterFunc(ctx, m.wake)
	defer stop()
	m.mu.Lock()
	defer m.mu.Unlock()
	for ctx.Err() == nil && !l.over {
		if l.room() {
			l.joined()
			x := m.queue[0]
			m.queue = m.queue[1:]
			m.queued -= x.rider.load()
			m.flight += x.rider.load()
			l.load += x.rider.load()
			l.taken++
			l.way = append(l.way, x)
			x.lane = l
			x.stop = context.AfterFunc(x.ctx, l.abandoned)
			return x.board(l.s)
		}
		if len(l.way) == 0 {
			break
		}
		m.change.Wait()
	}
	l.retire()
	return nil
}

// room tells whether the next read goes out on this lane now. Guarded by m.mu.
func (l *sharedLane) room() bool {
	switch {
	case len(l.m.queue) == 0:
		return false
	case l.taken > 0 && l.m.b.pool.starved(): // calls of another kind wait for a connection
		return false
	case len(l.way) == 0:
		return true
	case l.way[len(l.way)-1].unsettled():
		return false
	}
	most := laneDepth
	if l.m.joining > 0 {
		most = laneShare
	}
	return l.load+l.m.queue[0].load() <= most
}

// joined notes that the lane has begun, or never will. Guarded by m.mu.
func (l *sharedLane) joined() {
	if l.joins {
		l.joins = false
		l.m.joining--
		l.m.change.Broadcast()
	}
}

// retire notes that the lane takes no more. Guarded by m.mu.
func (l *sharedLane) retire() {
	l.joined()
	if !l.over {
		l.over = true
		l.m.lanes--
		l.m.staff()
	}
}

// errStrayed ends a lane whose descriptors have other numbers than expected.
var errStrayed = errors.New("the number of a descriptor is not the expected one")

// took takes the answer to a call.
func (l *sharedLane) took(call *wire.Call, result wire.Result) error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	x := l.way[0]
	before := x.unsettled()
	last := x.took(l.s, call, result)
	if x.strayed() {
		l.m.b.blind.Store(true)
		return errStrayed
	}
	if last {
		x.arrived = true
		l.finish()
	} else if before != x.unsettled() {
		l.m.change.Broadcast()
	}
	return nil
}

// finish hands out the first read under way. Guarded by m.mu.
func (l *sharedLane) finish() {
	x := l.way[0]
	l.way = l.way[1:]
	l.load -= x.rider.load()
	l.m.flight -= x.rider.load()
	l.m.heavy -= x.heavy()
	x.stop()
	close(x.done)
	l.m.change.Broadcast()
}

// abandoned ends the lane if nobody waits for anything on it.
func (l *sharedLane) abandoned() {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	for _, x := range l.way {
		if x.ctx.Err() == nil {
			return
		}
	}
	if len(l.way) > 0 && l.borrowed() == 0 {
		l.cancel()
	}
}

// borrowed returns how many reads under way go into buffers of the callers, who see to
// their end themselves. Guarded by m.mu.
func (l *sharedLane) borrowed() (n int) {
	for _, x := range l.way {
		if _, ok := x.rider.(*stretch); ok {
			n++
		}
	}
	return n
}

// end leaves what is still under way to those who wait for it.
func (l *sharedLane) end(err error) {
	m := l.m
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(l.way) > 0 {
		l.finish()
	}
	l.retire()
	if errors.Is(err, errStrayed) {
		_ = l.s.conn.Close() // objects are open on it that nobody knows of
	}
}

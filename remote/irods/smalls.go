package irods

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// Small objects are read many at a time: the calls of several go out on one connection
// before the answers to the first have come. A connection serves them one after the
// other, so they are spread over the connections that are free, and others are made when
// all have enough to do.

const (
	// smallMost is the size in bytes up to which objects share a connection: each is
	// held back by those before it.
	smallMost = 256 << 10
	// smallDepth is how many are under way on a connection. Each costs the server about
	// 10 ms (measured on 5.0.2), so that more make no difference up to 80 ms away.
	smallDepth = 8
	// smallShare is how many there must be for each connection before a free one joins.
	smallShare = 2
)

// smalls are the small objects that are being read. It is safe for concurrent use.
type smalls struct {
	b *Backend

	mu       sync.Mutex
	change   sync.Cond // what is queued or under way is other than before
	queue    []*smallRead
	lanes    int  // connections at work
	starting bool // another one is to come
	joining  bool // at once: its connection is free
	flight   int  // objects under way
}

// smallRead is one object that is to be read.
type smallRead struct {
	*errand
	ctx   context.Context
	stop  func() bool   // ends the watch over ctx
	begun bool          // the answer to open has come
	read  bool          // all answers have
	done  chan struct{} // closed in the end
}

// read reads a whole small object. ok is false if that is not what is asked for, or if
// anything at all has gone wrong: then it must be read in the ordinary way.
func (m *smalls) read(ctx context.Context, r *reading, p []byte, off int64) (n int, ok bool) {
	size := r.ref.Size
	if off != 0 || size <= 0 || size > smallMost || size > int64(len(p)) || r.ref.Version == "" || !m.b.guesses() {
		return 0, false
	}
	// The buffer is not the caller's, who may go away.
	x := &smallRead{errand: r.errand(), ctx: ctx, done: make(chan struct{})}
	m.mu.Lock()
	m.queue = append(m.queue, x)
	m.staff()
	m.change.Broadcast()
	m.mu.Unlock()
	select {
	case <-x.done:
	case <-ctx.Done():
		m.drop(x)
		return 0, false
	}
	if !x.read || x.err != nil || !x.proved() {
		return 0, false
	}
	return copy(p, x.into[:size]), true
}

// proved tells whether the bytes are of the wanted version.
func (x *smallRead) proved() bool {
	bytes, ok := x.bytes()
	switch {
	case !ok:
		return false
	case x.proof == nil:
		same, _ := sameBytes(bytes, versionChecksum(x.r.ref.Version))
		return same
	case !x.proof.ended:
		return false // there is more to ask
	}
	o, err := readAlike(x.ctx, nil, x.proof) // of the one page that there is
	return err == nil && o != nil && x.r.weigh(o) == nil && x.r.b.choices.number(x.r.ref.Version) == x.replica
}

// drop takes out of the queue what nobody waits for.
func (m *smalls) drop(x *smallRead) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.queue = slices.DeleteFunc(m.queue, func(o *smallRead) bool { return o == x })
	m.change.Broadcast()
}

// staff begins another lane if there is enough to do. Guarded by mu.
func (m *smalls) staff() {
	if m.starting || len(m.queue) == 0 {
		return
	}
	load := m.flight + len(m.queue)
	free, room := m.b.pool.vacancies()
	switch {
	case m.lanes == 0:
	case free && load > smallShare*m.lanes:
	case room && load > smallDepth*m.lanes:
	default:
		return
	}
	m.joining = free
	m.starting = m.b.pool.launch(m.lane)
	if !m.starting {
		m.giveUp(m.queue)
		m.queue = nil
	}
}

// giveUp leaves reads to their callers.
func (m *smalls) giveUp(list []*smallRead) {
	for _, x := range list {
		close(x.done)
	}
}

// lane is a connection at work, from its beginning to its end.
func (m *smalls) lane(life context.Context) {
	s, err := m.b.pool.get(life, "")
	m.mu.Lock()
	m.starting, m.joining = false, false
	if err != nil {
		if m.lanes == 0 {
			m.giveUp(m.queue)
			m.queue = nil
		}
		m.mu.Unlock()
		return
	}
	m.lanes++
	m.staff()
	m.mu.Unlock()
	l := &smallLane{m: m, s: s}
	ctx, cancel := context.WithCancel(remote.WithProgress(life, l.tick))
	l.cancel = cancel
	err = s.conn.Stream(ctx, l.next, l.took)
	l.end(err)
	cancel()
	m.b.pool.put(s)
}

// smallLane is the reads under way on a connection.
type smallLane struct {
	m      *smalls
	s      *session
	cancel context.CancelFunc
	watch  bool
	way    []*smallRead // guarded by m.mu
	over   bool         // no more are taken; guarded by m.mu
	taken  int          // guarded by m.mu
}

// tick tells all who wait that bytes have moved.
func (l *smallLane) tick() {
	l.m.mu.Lock()
	way := slices.Clone(l.way)
	l.m.mu.Unlock()
	for _, x := range way {
		remote.Progress(x.ctx)
	}
}

// next returns the calls for the next object. It waits for one as long as others are
// under way, and longer for nobody.
func (l *smallLane) next(ctx context.Context) []*wire.Call {
	m := l.m
	if !l.watch {
		l.watch = true
		context.AfterFunc(ctx, m.wake)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for ctx.Err() == nil && !l.over {
		if len(m.queue) > 0 && len(l.way) < l.most() {
			x := m.queue[0]
			m.queue = m.queue[1:]
			m.flight++
			l.taken++
			l.way = append(l.way, x)
			x.stop = context.AfterFunc(x.ctx, l.abandoned)
			return append(l.s.closings(), x.calls(l.s)...)
		}
		if len(l.way) == 0 {
			break
		}
		m.change.Wait()
	}
	l.retire()
	return nil
}

// most is how many may be under way. Guarded by m.mu.
func (l *smallLane) most() int {
	switch {
	case l.taken > 0 && l.m.b.pool.starved(): // calls of another kind wait for a connection
		return 0
	case l.m.joining:
		return smallShare
	}
	return smallDepth
}

// retire notes that the lane takes no more. Guarded by m.mu.
func (l *smallLane) retire() {
	if !l.over {
		l.over = true
		l.m.lanes--
		l.m.staff()
	}
}

// took takes the answer to a call.
func (l *smallLane) took(call *wire.Call, result wire.Result) error {
	m := l.m
	m.mu.Lock()
	defer m.mu.Unlock()
	x := l.way[0]
	if call.API == wire.APIDataObjClose {
		if x.begun { // else it closes something else
			x.read = true
			l.finish()
		}
		return nil
	}
	x.errand.took(call, result)
	x.begun = true
	if x.strayed() {
		m.b.misguessed(x.r.path)
		return errStrayed
	}
	return nil
}

// errStrayed ends a lane whose descriptors have other numbers than expected.
var errStrayed = errors.New("the number of a descriptor is not the expected one")

// finish hands out the first object under way. Guarded by m.mu.
func (l *smallLane) finish() {
	x := l.way[0]
	l.way = l.way[1:]
	l.m.flight--
	x.stop()
	close(x.done)
	l.m.change.Broadcast()
}

// end leaves what is still under way to those who wait for it.
func (l *smallLane) end(err error) {
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

func (m *smalls) wake() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.change.Broadcast()
}

// abandoned ends the lane if nobody waits for anything on it.
func (l *smallLane) abandoned() {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	for _, x := range l.way {
		if x.ctx.Err() == nil {
			return
		}
	}
	if len(l.way) > 0 {
		l.cancel()
	}
}

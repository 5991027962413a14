package irods

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// writer is a lane with the object open for writing. Its calls go out in one goroutine
// and their answers come in another one, which is that of carry.
type writer struct {
	o     *sending
	s     *session
	desc  int
	first bool // it has opened the object
	since int  // calls that the first lane had begun when this one had opened the object

	slots chan struct{} // for pieces on their way
	quit  chan struct{} // closed when it is to take no more pieces
	there chan struct{} // has room for one: the answer to a seek
	waits chunk         // a piece behind a seek
	await bool          // there is one
	pos   int64         // behind the last piece that was taken
	going bool          // the call that closes it has gone out
	left  bool          // it has closed
	bored bool          // it has ended because nothing came for it
	over  bool          // quit is closed

	mu       sync.Mutex
	way      []chunk  // pieces without an answer
	taken    int      // pieces, ever
	out      int      // those of them that have gone out as a whole
	answered int      // those of them with an answer
	held     [][]byte // of pieces with an answer that are not known to have gone out
}

func (o *sending) writer(s *session, desc int) *writer {
	return &writer{o: o, s: s, desc: desc, slots: make(chan struct{}, writeDepth), quit: make(chan struct{}), there: make(chan struct{}, 1)}
}

// carry moves pieces until there are no more or the lane is not wanted any more.
func (l *writer) carry() {
	if err := l.s.conn.Stream(l.o.flow, l.next, l.done); err != nil {
		l.o.fail(err)
	}
}

// next returns the calls for the next piece. Before the first one goes the question for
// the token, and behind the last one, if it goes by another lane than the first, the
// closing of that lane. Without a piece it may be a call for those who want to leave.
//
// A piece elsewhere than behind the last one takes a seek. If the server refused that, it
// would write what follows in the wrong place; so where the bytes there are of worth, the
// piece goes when the seek is answered.
func (l *writer) next(ctx context.Context) (calls []*wire.Call) {
	l.sent()
	switch {
	case l.await:
		return l.stand(ctx)
	case l.going:
		return nil
	}
	select {
	case l.slots <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	p, ok := l.take(ctx)
	switch {
	case !ok:
		return l.part()
	case p.data == nil:
		<-l.slots
		l.o.count(l, 1, 0, 0)
		return []*wire.Call{describeCall(l.desc)}
	case l.asks():
		l.o.count(l, 1, 0, 0)
		calls = append(calls, describeCall(l.desc))
	}
	if l.pos != p.off {
		calls = append(calls, seekCall(l.desc, p.off))
		if l.o.cargo.precious() {
			l.waits, l.await = p, true
			return calls
		}
	}
	return l.load(p, calls)
}

// part returns the closing of a lane for which there are no more pieces, if it can go out
// behind them: then its answer comes with theirs.
func (l *writer) part() []*wire.Call {
	if l.first || l.o.soon.Err() != nil || !l.o.loaded() || !l.o.mayLeave(l) {
		return nil
	}
	l.going = true
	return []*wire.Call{leaveCall(l.desc)}
}

// stand waits for the answer to a seek, and returns the calls for the piece behind it.
func (l *writer) stand(ctx context.Context) []*wire.Call {
	select {
	case <-l.there:
		l.await = false
		return l.load(l.waits, nil)
	case <-ctx.Done():
		return nil
	}
}

// load appends the calls for a piece.
func (l *writer) load(p chunk, calls []*wire.Call) []*wire.Call {
	calls = append(calls, writeCall(l.desc, p.data))
	l.pos = p.off + int64(len(p.data))
	l.o.count(l, 1, 0, 0)
	if !l.first && p.last && l.o.mayLeave(l) {
		calls, l.going = append(calls, leaveCall(l.desc)), true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.way = append(l.way, p)
	l.taken++
	return calls
}

// sent notes that all pieces taken so far have gone out.
func (l *writer) sent() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out = l.taken
	for _, data := range l.held {
		l.o.giveBack(data)
	}
	l.held = nil
}

// boredom is how long a lane that is not the first one waits for a piece before it gives
// its connection back.
const boredom = 250 * time.Millisecond

// take waits for the next piece; ok is false if there are no more for this lane. One
// without data tells the first lane to make a call so that others can leave.
func (l *writer) take(ctx context.Context) (p chunk, ok bool) {
	if l.o.soon.Err() != nil {
		return p, false
	}
	begin := time.Now()
	bored, nudge := time.NewTicker(boredom), l.o.nudge
	defer bored.Stop()
	if !l.first {
		nudge = nil
	}
	for {
		select {
		case p, ok = <-l.o.pieces:
			p.waited = time.Since(begin)
			return p, ok
		case <-nudge:
			return p, true
		case <-bored.C:
			if l.bored = l.idle(); l.bored {
				return p, false
			}
			continue
		case <-l.quit:
		case <-ctx.Done():
		case <-l.o.soon.Done():
		}
		return p, false
	}
}

// idle tells whether a lane for which nothing came is to leave. If it may not yet, it
// asks the first lane for the call that lets it.
func (l *writer) idle() bool {
	switch {
	case l.first || l.o.loaded():
		return false
	case l.o.mayLeave(l):
		return true
	}
	select {
	case l.o.nudge <- struct{}{}:
	default: // it was asked already
	}
	return false
}

// asks tells whether the token is to be asked for with a piece.
func (l *writer) asks() bool {
	return l.first && l.taken == 0 && !l.o.crew.alone() && l.s.tells() && l.o.token() == nil
}

// done takes the answer to a call.
func (l *writer) done(call *wire.Call, r wire.Result) error {
	switch call.API {
	case wire.APIGetFileDescInfo: // without a token there is one lane only
		l.o.count(l, 0, 1, 0)
		if r.Err == nil && l.o.learn(readDescriptor(call)) {
			l.o.crew.fill(l.behind())
		}
		return nil
	case wire.APIDataObjLseek:
		return l.seeked(call, r)
	case wire.APIReplicaClose:
		l.left = r.Err == nil
	case wire.APIDataObjWrite:
		return l.wrote(r)
	}
	return r.Err
}

// seeked notes where the lane stands.
func (l *writer) seeked(call *wire.Call, r wire.Result) error {
	if r.Err != nil || !l.o.cargo.precious() {
		return r.Err
	}
	want, at := call.In.(*wire.OpenedDataObjInp).Offset, call.Out.(*wire.FileLseekOut).Offset
	if want != at {
		return fmt.Errorf("the server stands at byte %d, not at %d", at, want)
	}
	l.there <- struct{}{}
	return nil
}

// wrote notes that the server has taken a piece.
func (l *writer) wrote(r wire.Result) error {
	p := l.landed()
	<-l.slots
	switch {
	case r.Err != nil:
		return r.Err
	case r.Status != len(p.data):
		return fmt.Errorf("the server took %d of %d bytes", r.Status, len(p.data))
	}
	l.o.count(l, 0, 1, len(p.data))
	l.o.crew.moved(int64(len(p.data)), p.left, p.waited)
	if !l.first && !l.over && l.o.mayLeave(l) && l.o.crew.excess() {
		l.over = true
		close(l.quit)
	}
	return nil
}

// landed returns the piece whose answer has come, and gives its buffer back: at once, or
// when it is known that nobody reads from it any more.
func (l *writer) landed() chunk {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.way[0]
	l.way = l.way[1:]
	if l.answered < l.out {
		l.o.giveBack(p.data)
	} else {
		l.held = append(l.held, p.data)
	}
	l.answered++
	return p
}

// behind returns how many bytes were ready behind the first piece without an answer.
func (l *writer) behind() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.way) == 0 {
		return 0
	}
	return l.way[0].left
}

// leave closes the lane, which must not fail, or hangs up. It gives the connection back.
func (l *writer) leave(hangUp bool) {
	defer l.o.u.b.pool.put(l.s)
	switch {
	case l.left:
		return
	case hangUp:
		_ = l.s.conn.Close()
		return
	}
	if _, err := l.s.conn.Call(l.o.ctx, leaveCall(l.desc)); err != nil {
		l.o.fail(err)
		_ = l.s.conn.Close()
	}
}

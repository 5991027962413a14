package irods

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// A large object is written piece by piece, by one lane or more. The first one has
// opened the object, which is locked for everybody else until that lane closes it. The
// others open the same replica with a token that the server gives to the first one, and
// close it by a call that leaves the catalog alone, before the first one closes and
// registers size and checksum. What the first one's close does depends on whether that
// very lane has written (by the server's source), so it carries the first piece.
//
// A lane that loses its connection with the replica open makes the server take the
// replica for torn and end the lock, although the first lane goes on. So the end of one
// is the end of all:
//
//   - If no connection is lost, the others get a moment to close in order before the
//     first one hangs up, which ends the lock.
//   - If one is lost, all hang up at once; but a lane that is just opening the object
//     waits for the answer, lest the server do that when somebody else has written.
//
// A lane that opens the object after the first one's death gets a lock of its own, and
// if it then left without touching the catalog, the object would stay locked for good.
// So it leaves only when the first lane has begun and ended a call since.

// writeDepth is how many pieces a lane has on their way. The second one keeps the
// connection busy while the answer to the first one comes back from far away.
const writeDepth = 2

// grace is how long lanes have to close after the transfer has failed.
const grace = 500 * time.Millisecond

// descriptor is what the server tells of an open object (call 20000), as far as the
// other lanes need it.
type descriptor struct {
	Token  string `json:"replica_token"`
	Object struct {
		Hierarchy string `json:"resource_hierarchy"`
	} `json:"data_object_info"`
}

// readDescriptor reads the answer to describeCall; nil if it is not one with a token.
func readDescriptor(call *wire.Call) *descriptor {
	d := &descriptor{}
	if call.Out.(*wire.BinBytesBuf).JSON(d) != nil || d.Token == "" || d.Object.Hierarchy == "" {
		return nil
	}
	return d
}

// tells tells whether the server can be asked for descriptors: older releases pack the
// question in another way.
func (s *session) tells() bool {
	v := s.conn.Server()
	return !v.Before(4, 3, 0)
}

// describeCall asks for what the server knows of an open object.
func describeCall(desc int) *wire.Call {
	in := &wire.BinBytesBuf{Data: fmt.Appendf(nil, `{"fd":%d}`, desc)}
	return &wire.Call{API: wire.APIGetFileDescInfo, In: in, Out: &wire.BinBytesBuf{}}
}

// leaveCall closes an open object and leaves the catalog and the lock alone.
func leaveCall(desc int) *wire.Call {
	return &wire.Call{API: wire.APIReplicaClose, In: &wire.BinBytesBuf{Data: fmt.Appendf(nil, `{"fd":%d,`+
		`"update_size":false,"update_status":false,"compute_checksum":false,"send_notifications":false}`, desc)}}
}

// sending is the writing of one object's pieces.
type sending struct {
	u      *upload
	ctx    context.Context // of opening and closing; ends some time after the transfer has failed
	cancel context.CancelFunc
	flow   context.Context // of the pieces; ends at once if a connection is lost
	dam    context.CancelFunc
	soon   context.Context // ends when no more lanes are of use
	enough context.CancelFunc
	crew   *crew
	pieces chan chunk  // from the source
	free   chan []byte // buffers to be filled again
	tasks  sync.WaitGroup

	mu    sync.Mutex
	err   error       // the first one
	lost  bool        // err is the loss of a connection
	late  *time.Timer // ends ctx after err
	known *descriptor
	sent  int64     // bytes that the server has taken
	begun int       // calls of the first lane
	ended int       // those of them that were answered
	stay  []*writer // lanes that may not leave yet
}

// chunk is a piece on its way to the server.
type chunk struct {
	off  int64
	data []byte
	left int64 // bytes behind it

	waited time.Duration // of the lane for it
}

// send writes the source to an object that is open on a connection. After an error the
// connection is closed: the server takes what is not closed for torn.
func (u *upload) send(ctx context.Context, s *session, desc int) error {
	o := &sending{
		u: u, crew: u.b.muster(writes, u.src.Size()), known: u.known,
		pieces: make(chan chunk), free: make(chan []byte, writeDepth*u.b.opts.MaxConns+1),
	}
	o.ctx, o.cancel = context.WithCancel(context.WithoutCancel(ctx))
	o.flow, o.dam = context.WithCancel(o.ctx)
	o.soon, o.enough = context.WithCancel(ctx)
	defer o.cancel()
	stop := context.AfterFunc(ctx, func() { o.fail(remote.ContextErr(ctx)) })
	o.crew.hire = func() { o.tasks.Go(o.help) }
	o.tasks.Go(o.feed)
	l := o.writer(s, desc)
	l.first = true
	l.carry()
	o.enough()
	o.tasks.Wait()
	o.dismiss(s, desc)
	stop()
	o.crew.disband()
	err := o.outcome(ctx)
	if err != nil {
		_ = s.conn.Close()
	}
	return err
}

// dismiss closes the lanes that had to stay, after a call of the first lane.
func (o *sending) dismiss(s *session, desc int) {
	if len(o.stay) == 0 {
		return
	}
	_, err := s.conn.Call(o.ctx, describeCall(desc))
	if err != nil {
		o.fail(err)
	}
	for _, l := range o.stay {
		o.tasks.Go(func() { l.leave(err != nil) })
	}
	o.tasks.Wait()
}

// outcome returns the first error.
func (o *sending) outcome(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.late != nil {
		o.late.Stop()
	}
	if o.err == nil && o.sent != o.u.src.Size() {
		return cmp.Or(remote.ContextErr(ctx), io.ErrShortWrite)
	}
	return o.err
}

// fail ends the transfer. Only the first error counts.
func (o *sending) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		o.err = err
		o.enough()
		var broken *wire.BrokenError
		if o.lost = errors.As(err, &broken); o.lost {
			o.dam()
		}
		o.late = time.AfterFunc(grace, o.cancel)
	}
}

// errHalted ends the reading of the source after another error.
var errHalted = errors.New("the transfer has failed")

// feed reads the source. One piece waits while the lanes carry what they can.
func (o *sending) feed() {
	defer close(o.pieces)
	sum := remote.NewHash("sha256")
	off, size := int64(0), o.u.src.Size()
	err := o.u.eachPiece(o.buffer, func(data []byte) error {
		sum.Write(data)
		p := chunk{off: off, data: data, left: size - off - int64(len(data))}
		off += int64(len(data))
		select {
		case o.pieces <- p:
			return nil
		case <-o.soon.Done():
			return errHalted
		}
	})
	o.u.sum = remote.Checksum{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}
	if err != nil && !errors.Is(err, errHalted) {
		o.fail(err)
	}
}

// buffer returns room for a piece.
func (o *sending) buffer() []byte {
	select {
	case b := <-o.free:
		return b
	default:
		return make([]byte, o.u.b.piece)
	}
}

// giveBack returns a buffer.
func (o *sending) giveBack(data []byte) {
	select {
	case o.free <- data[:cap(data)]:
	default: // there are enough
	}
}

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
	pos   int64         // behind the last piece that was taken
	left  bool          // it has closed
	over  bool          // quit is closed

	mu       sync.Mutex
	way      []chunk  // pieces without an answer
	taken    int      // pieces, ever
	out      int      // those of them that have gone out as a whole
	answered int      // those of them with an answer
	held     [][]byte // of pieces with an answer that are not known to have gone out
}

func (o *sending) writer(s *session, desc int) *writer {
	return &writer{o: o, s: s, desc: desc, slots: make(chan struct{}, writeDepth), quit: make(chan struct{})}
}

// carry moves pieces until there are no more or the lane is not wanted any more.
func (l *writer) carry() {
	if err := l.s.conn.Stream(l.o.flow, l.next, l.done); err != nil {
		l.o.fail(err)
	}
}

// next returns the calls for the next piece. Before the first one goes the question for
// the token, and behind the last one, if it goes by another lane than the first, the
// closing of that lane.
func (l *writer) next(ctx context.Context) (calls []*wire.Call) {
	l.sent()
	select {
	case l.slots <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	p, ok := l.take(ctx)
	if !ok {
		return nil
	}
	if l.asks(p) {
		calls = append(calls, describeCall(l.desc))
	}
	if l.pos != p.off {
		calls = append(calls, seekCall(l.desc, p.off))
	}
	calls = append(calls, writeCall(l.desc, p.data))
	l.pos = p.off + int64(len(p.data))
	l.o.count(l, 1, 0, 0)
	if !l.first && p.left == 0 && l.o.mayLeave(l) {
		calls = append(calls, leaveCall(l.desc))
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

// take waits for the next piece; ok is false if there are no more for this lane.
func (l *writer) take(ctx context.Context) (p chunk, ok bool) {
	if l.o.soon.Err() != nil {
		return p, false
	}
	begin := time.Now()
	select {
	case p, ok = <-l.o.pieces:
		p.waited = time.Since(begin)
		return p, ok
	case <-l.quit:
	case <-ctx.Done():
	case <-l.o.soon.Done():
	}
	return p, false
}

// asks tells whether the token is to be asked for with a piece.
func (l *writer) asks(p chunk) bool {
	return l.first && p.off == 0 && !l.o.crew.alone() && l.s.tells() && l.o.token() == nil
}

// done takes the answer to a call.
func (l *writer) done(call *wire.Call, r wire.Result) error {
	switch call.API {
	case wire.APIGetFileDescInfo: // without a token there is one lane only
		if r.Err == nil {
			l.o.learn(readDescriptor(call))
		}
		return nil
	case wire.APIReplicaClose:
		l.left = r.Err == nil
	case wire.APIDataObjWrite:
		return l.wrote(r)
	}
	return r.Err
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

// count counts the calls of the first lane and the bytes of all.
func (o *sending) count(l *writer, begun, ended, sent int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sent += int64(sent)
	if l.first {
		o.begun += begun
		o.ended += ended
	}
}

// mayLeave tells whether the first lane has begun and ended a call since a lane has
// opened the object.
func (o *sending) mayLeave(l *writer) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ended > l.since
}

// learn keeps the answer to the question for the token.
func (o *sending) learn(known *descriptor) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.known = known
}

// token returns that answer, nil if it is not known or there is no token.
func (o *sending) token() *descriptor {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.known
}

// help is a further lane, from its hiring to its end.
func (o *sending) help() {
	l := o.join()
	if l == nil {
		o.crew.unhired()
		return
	}
	o.crew.begin()
	l.carry()
	if l.over {
		o.crew.gone()
	} else {
		o.crew.end()
	}
	lost := o.hasLost()
	if !l.left && !lost && !o.mayLeave(l) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.stay = append(o.stay, l)
		return
	}
	l.leave(lost)
}

// hasLost tells whether the transfer has failed because a connection was lost.
func (o *sending) hasLost() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lost
}

// join opens the object on another connection, nil if that is not to be had. What the
// server refuses is of no consequence. But if the connection is lost on the way, the
// server may have opened the object, and takes it for torn.
func (o *sending) join() *writer {
	known := o.token()
	if known == nil {
		return nil
	}
	s := o.u.b.pool.spare(o.soon, "")
	switch {
	case s == nil:
		return nil
	case o.soon.Err() != nil:
		o.u.b.pool.put(s)
		return nil
	}
	in := &wire.DataObjInp{Path: o.u.path, OpenFlags: wire.OpenWriteOnly, NumThreads: wire.NoThreading}
	in.Cond.Set(wire.KwReplicaToken, known.Token)
	in.Cond.Set(wire.KwRescHier, known.Object.Hierarchy)
	reply, err := s.conn.Call(o.ctx, &wire.Call{API: wire.APIDataObjOpen, In: in})
	if err == nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		l := o.writer(s, reply.Status)
		l.since = o.begun
		return l
	}
	o.u.b.opts.Logger.Debug("no further lane", "path", o.u.rel, "err", err)
	var broken *wire.BrokenError
	if errors.As(err, &broken) && broken.Sent {
		o.fail(fmt.Errorf("a further lane was lost while it opened the object: %w", err))
	}
	o.u.b.pool.put(s)
	return nil
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

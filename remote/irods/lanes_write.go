package irods

import (
	"cmp"
	"context"
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
	cargo  cargo
	ctx    context.Context // of opening and closing; ends some time after the transfer has failed
	cancel context.CancelFunc
	flow   context.Context // of the pieces; ends at once if a connection is lost
	dam    context.CancelFunc
	soon   context.Context // ends when no more lanes are of use
	enough context.CancelFunc
	crew   *crew
	pieces chan chunk    // from the source
	free   chan []byte   // buffers to be filled again
	nudge  chan struct{} // asks the first lane for a call
	tasks  sync.WaitGroup

	mu    sync.Mutex
	err   error       // the first one
	lost  bool        // err is the loss of a connection
	late  *time.Timer // ends ctx after err
	known *descriptor
	total int64     // bytes of the cargo, if all of it is loaded
	all   bool      // it is
	sent  int64     // bytes that the server has taken
	begun int       // calls of the first lane
	ended int       // those of them that were answered
	stay  []*writer // lanes that may not leave yet
}

// chunk is a piece on its way to the server.
type chunk struct {
	off  int64
	data []byte
	left int64 // bytes that are ready behind it
	last bool  // there are none behind it and there will be none

	waited time.Duration // of the lane for it
}

// send writes a cargo to an object that is open on a connection. After an error the
// connection is closed: the server takes what is not closed for torn.
func (u *upload) send(ctx context.Context, s *session, desc int, c cargo) error {
	o := &sending{
		u: u, cargo: c, crew: u.b.muster(writes, c.guess()), known: u.known, nudge: make(chan struct{}, 1),
		pieces: make(chan chunk), free: make(chan []byte, writeDepth*u.b.opts.MaxConns+1),
	}
	o.ctx, o.cancel = context.WithCancel(context.WithoutCancel(ctx))
	o.flow, o.dam = context.WithCancel(o.ctx)
	o.soon, o.enough = context.WithCancel(ctx)
	defer o.cancel()
	stop := context.AfterFunc(ctx, func() { o.fail(remote.ContextErr(ctx)) })
	o.crew.hire = func() { o.tasks.Go(o.help) }
	if o.known != nil {
		o.crew.fill(c.guess())
	}
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
	if o.err == nil && (!o.all || o.sent != o.total) {
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

// learn keeps the answer to the question for the token, and tells whether it is a new one.
func (o *sending) learn(known *descriptor) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	news := known != nil && o.known == nil
	o.known = known
	return news
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
	switch {
	case l.over:
		o.crew.gone()
	case l.bored:
		o.crew.bored()
	default:
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

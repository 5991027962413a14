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
// is the end of all; whoever can close does, so that no server process is left that
// would do the same later, under somebody else's write.

// descriptor is what the server tells of an open object (call 20000), as far as the
// other lanes need it.
type descriptor struct {
	Token  string `json:"replica_token"`
	Object struct {
		Hierarchy string `json:"resource_hierarchy"`
	} `json:"data_object_info"`
}

// readDescriptor reads the answer; nil if it is not one with a token.
func readDescriptor(answer *wire.BinBytesBuf) *descriptor {
	d := &descriptor{}
	if answer.JSON(d) != nil || d.Token == "" || d.Object.Hierarchy == "" {
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
func describeCall(desc int) (*wire.Call, *wire.BinBytesBuf, error) {
	in, err := wire.NewJSON(map[string]int{"fd": desc})
	out := &wire.BinBytesBuf{}
	return &wire.Call{API: wire.APIGetFileDescInfo, In: in, Out: out}, out, err
}

// leaveCall closes an open object and leaves the catalog and the lock alone.
func leaveCall(desc int) (*wire.Call, error) {
	in, err := wire.NewJSON(map[string]any{"fd": desc, "update_size": false, "update_status": false,
		"compute_checksum": false, "send_notifications": false})
	return &wire.Call{API: wire.APIReplicaClose, In: in}, err
}

// sending is the writing of one object's pieces.
type sending struct {
	u      *upload
	ctx    context.Context // ends when the rest is of no use
	cancel context.CancelFunc
	soon   context.Context // ends when no more lanes are of use
	crew   *crew
	pieces chan chunk    // from the source
	free   chan []byte   // buffers to be filled again
	halt   chan struct{} // closed when the source is not to be read any more
	tasks  sync.WaitGroup

	mu    sync.Mutex
	err   error // the first one
	known *descriptor
	sent  int64 // bytes that the server has taken
}

// chunk is a piece on its way to the server.
type chunk struct {
	off  int64
	data []byte
	left int64 // bytes behind it
}

// send writes the source to an object that is open on a connection. After an error the
// connection is closed: the server takes what is not closed for torn.
func (u *upload) send(ctx context.Context, s *session, desc int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	soon, enough := context.WithCancel(ctx)
	defer enough()
	o := &sending{
		u: u, ctx: ctx, cancel: cancel, soon: soon, crew: u.b.muster(writes, u.src.Size()), known: u.known,
		pieces: make(chan chunk), free: make(chan []byte, u.b.opts.MaxConns+1), halt: make(chan struct{}),
	}
	o.crew.hire = func() { o.tasks.Go(o.help) }
	o.tasks.Go(o.feed)
	o.carry(&writer{o: o, s: s, desc: desc, first: true})
	enough()
	o.tasks.Wait()
	o.crew.disband()
	if o.err == nil && o.sent != u.src.Size() { // ctx has ended between two pieces
		o.err = cmp.Or(remote.ContextErr(ctx), io.ErrShortWrite)
	}
	if o.err != nil {
		_ = s.conn.Close()
	}
	return o.err
}

// fail ends the transfer. Only the first error counts. A server's refusal leaves time
// for the lanes to close what they have open.
func (o *sending) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return
	}
	o.err = err
	close(o.halt)
	if code(err) == 0 {
		o.cancel()
	}
}

// errHalted ends the reading of the source after another error.
var errHalted = errors.New("the transfer has failed")

// feed reads the source. There is one piece more than there are lanes.
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
		case <-o.halt:
		case <-o.ctx.Done():
		}
		return errHalted
	})
	o.u.sum = remote.Checksum{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}
	if err == nil || errors.Is(err, errHalted) {
		return
	}
	o.stop(err)
}

// stop ends the transfer because of the source: nothing is wrong with the lanes, which
// close in order.
func (o *sending) stop(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		o.err = err
		close(o.halt)
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

// writer is a lane with the object open for writing.
type writer struct {
	o     *sending
	s     *session
	desc  int
	pos   int64
	first bool // it has opened the object
	left  bool // it has closed
}

// carry moves pieces until there are no more or the lane is not wanted any more.
func (o *sending) carry(l *writer) {
	for {
		begin := time.Now()
		p, ok := o.take()
		if !ok {
			return
		}
		waited := time.Since(begin)
		err := l.put(o.ctx, p)
		o.free <- p.data[:cap(p.data)] // has room for all
		if err != nil {
			o.fail(err)
			return
		}
		o.mu.Lock()
		o.sent += int64(len(p.data))
		o.mu.Unlock()
		o.crew.moved(int64(len(p.data)), p.left, waited)
		if l.left || !l.first && o.crew.surplus() {
			return
		}
	}
}

// take waits for the next piece; ok is false if there are no more for this transfer.
func (o *sending) take() (p chunk, ok bool) {
	select {
	case p, ok = <-o.pieces:
		return p, ok
	case <-o.ctx.Done():
		return p, false
	}
}

// put writes a piece. The first one asks for the token as well, and the last one, if it
// goes by another lane than the first, closes that lane.
func (l *writer) put(ctx context.Context, p chunk) error {
	var calls []*wire.Call
	if l.pos != p.off {
		calls = append(calls, &wire.Call{API: wire.APIDataObjLseek, In: &wire.OpenedDataObjInp{Desc: l.desc, Offset: p.off}, Out: &wire.FileLseekOut{}})
	}
	calls = append(calls, writeCall(l.desc, p.data))
	n := len(calls)
	leave := !l.first && p.left == 0
	if leave {
		call, err := leaveCall(l.desc)
		if err != nil {
			return err
		}
		calls = append(calls, call)
	}
	asked, answer, err := l.ask(&calls)
	if err != nil {
		return err
	}
	results, err := l.s.conn.Pipeline(ctx, calls)
	if err != nil {
		return err
	}
	if asked && results[n].Err == nil {
		l.o.learn(answer)
	}
	if asked {
		results, calls = results[:n], calls[:n]
	}
	l.left = leave && results[n].Err == nil
	l.pos = p.off + int64(len(p.data))
	return accepted(results, calls)
}

// ask adds the question for the token if it is not known yet.
func (l *writer) ask(calls *[]*wire.Call) (asked bool, answer *wire.BinBytesBuf, err error) {
	if !l.first || l.pos > 0 || l.o.known != nil || l.o.crew.alone() || !l.s.tells() {
		return false, nil, nil
	}
	call, answer, err := describeCall(l.desc)
	*calls = append(*calls, call)
	return true, answer, err
}

// learn keeps the answer. Without a token there is one lane only.
func (o *sending) learn(answer *wire.BinBytesBuf) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.known = readDescriptor(answer)
}

// help is a further lane, from its hiring to its end.
func (o *sending) help() {
	l := o.join()
	if l == nil {
		o.crew.unhired()
		return
	}
	o.crew.begin()
	o.carry(l)
	o.crew.end()
	l.leave(o.ctx)
	o.u.b.pool.put(l.s)
}

// join opens the object on another connection, nil if that is not to be had. What the
// server refuses is of no consequence. But if the connection is lost on the way, the
// server may have opened the object, and takes it for torn.
func (o *sending) join() *writer {
	o.mu.Lock()
	known := o.known
	o.mu.Unlock()
	if known == nil {
		return nil
	}
	s := o.u.b.pool.spare(o.soon, "")
	if s == nil {
		return nil
	}
	in := &wire.DataObjInp{Path: o.u.path, OpenFlags: wire.OpenWriteOnly, NumThreads: wire.NoThreading}
	in.Cond.Set(wire.KwReplicaToken, known.Token)
	in.Cond.Set(wire.KwRescHier, known.Object.Hierarchy)
	reply, err := s.conn.Call(o.ctx, &wire.Call{API: wire.APIDataObjOpen, In: in})
	if err == nil {
		return &writer{o: o, s: s, desc: reply.Status}
	}
	o.u.b.opts.Logger.Debug("no further lane", "path", o.u.rel, "err", err)
	var broken *wire.BrokenError
	if errors.As(err, &broken) && broken.Sent {
		o.fail(fmt.Errorf("a further lane was lost while it opened the object: %w", err))
	}
	o.u.b.pool.put(s)
	return nil
}

// leave closes the lane, which must not fail; see above.
func (l *writer) leave(ctx context.Context) {
	if l.left {
		return
	}
	call, err := leaveCall(l.desc)
	if err == nil && !l.s.conn.Broken() {
		_, err = l.s.conn.Call(ctx, call)
	}
	if err != nil {
		l.o.fail(err)
		_ = l.s.conn.Close()
	}
}

package wire

import (
	"context"
	"errors"
	"sync"
)

// streamDepth is how many calls of a Stream may be without reply.
const streamDepth = 64

// Stream makes calls whose number is not known before, without waiting for a reply
// before the next request goes out: on a long way a connection is busy in both
// directions all the time. The replies come in the order of the requests.
//
// next returns calls that go out together, and nil when there are no more. It runs in
// another goroutine, which ends before Stream returns, and may wait, for instance until
// there are fewer calls without reply. It must return when its context ends: ctx has
// ended, the connection is broken or done has returned an error.
//
// done gets each call with its reply in the calling goroutine. A refused call has its
// *Error in the Result. After an error of done no more calls are sent, the replies to
// those that were are read and dropped, and Stream returns that error; the connection
// stays usable. It makes no calls itself.
//
// The errors are otherwise those of Pipeline: a *BrokenError is about the first call
// without reply. If ctx ends while no reply is due, there is none, but the connection is
// broken. Calls that report progress cannot be made.
func (c *Conn) Stream(ctx context.Context, next func(ctx context.Context) []*Call, done func(*Call, Result) error) error {
	if !c.busy.CompareAndSwap(false, true) {
		if c.closed.Load() { // Close stays busy
			return &BrokenError{Err: ErrClosed}
		}
		return ErrBusy
	}
	defer c.busy.Store(false)
	if c.broken.Load() {
		return &BrokenError{Err: ErrClosed}
	}
	t := &stream{next: next, done: done, flight: make(chan *Call, streamDepth)}
	t.out.c = c
	if err := c.guard(ctx, func() error { return t.run(ctx) }); err != nil {
		return &BrokenError{API: t.api, Sent: t.before+t.out.sent > t.replies, Err: err}
	}
	return t.err
}

// stream is a Stream under way. out and before belong to the writer, the rest to the
// reader.
type stream struct {
	next   func(context.Context) []*Call
	done   func(*Call, Result) error
	flight chan *Call // in the order in which they are sent

	out    pipeline // the calls that go out together now
	before int      // requests that went out before those

	api     int // of the call whose reply is due
	replies int
	err     error // of done
}

// run sends calls and reads their replies. Who fails first breaks the connection, which
// ends the other one, and its error counts.
func (t *stream) run(ctx context.Context) error {
	var one sync.Mutex
	c := t.out.c
	tick := c.tick
	c.tick = func() { one.Lock(); defer one.Unlock(); tick() }
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var first error
	var once sync.Once
	fail := func(err error) { once.Do(func() { first = err; c.abort() }); stop() }
	var writer sync.WaitGroup
	writer.Go(func() {
		defer close(t.flight)
		if err := t.send(ctx); err != nil {
			fail(err)
		}
	})
	for call := range t.flight {
		t.api = call.API
		if err := t.receive(call, stop); err != nil {
			fail(err)
			break
		}
	}
	for range t.flight { // so that the writer can end
	}
	writer.Wait()
	return first
}

// receive reads one reply.
func (t *stream) receive(call *Call, stop func()) error {
	reply, err := t.out.c.receive(call)
	var refused *Error
	if err != nil && !errors.As(err, &refused) {
		return err
	}
	t.replies++
	if t.err != nil {
		return nil
	}
	if t.err = t.done(call, Result{reply, err}); t.err != nil {
		stop()
	}
	return nil
}

// send writes requests until there are no more. The reader learns of each before it
// goes out.
func (t *stream) send(ctx context.Context) error {
	for ctx.Err() == nil {
		calls := t.next(ctx)
		if len(calls) == 0 {
			return nil
		}
		for _, call := range calls {
			t.flight <- call
		}
		if err := t.out.send(calls); err != nil {
			return err
		}
		t.before += t.out.sent
		t.out.ends, t.out.end, t.out.taken, t.out.sent = t.out.ends[:0], 0, 0, 0
	}
	return nil
}

package remote

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// StallError is the cause of the error of a call that the Watchdog has ended.
type StallError struct {
	Timeout time.Duration // for which nothing moved
}

// Error returns "no progress for 30s".
func (e *StallError) Error() string { return fmt.Sprintf("no progress for %v", e.Timeout) }

// Watchdog ends calls that stand still: when Progress was not called for timeout
// and the call does not return, its context is cancelled and it fails with
// Unavailable, caused by a *StallError and Unsure if it was to change something.
// Time spent in the caller's code (the yield of List and ReadBundle, the readers of a Source, a Growing or a
// Patch) and time between the reads of a stream do not count. So a PutGrowing may wait
// for the program's next bytes as long as it likes; that the server has died meanwhile is
// noticed when there is something to send again, or when all is sent. The caller's own
// context keeps its meaning: if that has ended, its error comes back.
//
// It relies on the backend to return soon after the context has ended. A timeout of
// 0 or less watches nothing.
func Watchdog(b Backend, timeout time.Duration) Backend {
	if timeout <= 0 {
		return b
	}
	return Intercept(b, func(ctx context.Context, c *Call, next Next) error {
		if c.Op == OpStream {
			return c.Opened.State.(*watch).read(c, next)
		}
		w := newWatch(ctx, c, timeout)
		c.State = w
		c.Defer(w.end)
		c.Away = w.away
		err := next(w.ctx)
		w.pause()
		return w.verdict(c, err)
	})
}

// watch is the deadline of one call, streams included.
type watch struct {
	timeout time.Duration
	outer   context.Context // the caller's
	ctx     context.Context // of the call; cancelled by the timer
	cancel  context.CancelCauseFunc
	timer   *time.Timer
	start   time.Time
	last    atomic.Int64 // time of the last progress since start, or paused
	fired   atomic.Bool
	ended   atomic.Bool
}

// paused in watch.last stops the clock.
const paused = -1

func newWatch(ctx context.Context, c *Call, timeout time.Duration) *watch {
	w := &watch{timeout: timeout, outer: ctx, start: time.Now()}
	inner, cancel := context.WithCancelCause(ctx)
	w.ctx, w.cancel = WithProgress(inner, w.tick), cancel
	fault := c.Fail(Unavailable, &StallError{timeout})
	fault.Unsure = c.Op.Mutates()
	// Set first and started then: check uses the field.
	w.timer = time.AfterFunc(time.Hour, func() { w.check(fault) })
	w.timer.Reset(timeout)
	return w
}

// tick marks progress, for the watchers above as well.
func (w *watch) tick() {
	if last := w.last.Load(); last != paused {
		w.last.CompareAndSwap(last, int64(time.Since(w.start)))
	}
	Progress(w.outer)
}

func (w *watch) pause()  { w.last.Store(paused) }
func (w *watch) resume() { w.last.Store(int64(time.Since(w.start))) }

// away is the Call.Away of a watched call.
func (w *watch) away() (back func() error) {
	w.pause()
	return func() error { w.resume(); return nil }
}

// check runs when the timer does. It ends the call or waits for the rest.
func (w *watch) check(fault *Error) {
	if w.ended.Load() {
		return
	}
	rest := w.timeout
	if last := w.last.Load(); last != paused {
		rest -= time.Since(w.start) - time.Duration(last)
	}
	if rest > 0 {
		w.timer.Reset(rest)
		return
	}
	w.fired.Store(true)
	w.cancel(fault)
}

// read watches one Read of a stream.
func (w *watch) read(c *Call, next Next) error {
	w.resume()
	err := next(w.ctx)
	w.pause()
	return w.verdict(c, err)
}

// verdict turns the error of a call that was ended by the timer into the fault.
func (w *watch) verdict(c *Call, err error) error {
	var stall *StallError
	switch {
	case err == nil || !w.fired.Load():
		return err
	case !errors.Is(err, context.Canceled) && !errors.As(err, &stall):
		return err
	case w.outer.Err() != nil:
		return ContextErr(w.outer)
	}
	fault := c.Fail(Unavailable, &StallError{w.timeout})
	fault.Unsure = c.Op.Mutates()
	return fault
}

func (w *watch) end() {
	w.ended.Store(true)
	w.timer.Stop()
	w.cancel(nil)
}

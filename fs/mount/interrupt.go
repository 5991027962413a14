package mount

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// dyingPoll is how often a caller that got a signal is looked at.
	dyingPoll = 200 * time.Millisecond
	// readPatience is how long a read takes no notice of signals.
	readPatience = 3 * time.Second
)

// waiting is the context of an operation that changes nothing. The kernel tells of
// any signal to the caller, by INTERRUPT, which closes cancel. The operation ends
// early
//
//   - if the caller is dying: a process that was killed cannot go before we answer;
//   - a read, also if it hangs: when a signal has come and readPatience is over.
//
// Other signals are no reason. Programs do not expect EINTR from stat, open or fsync
// (sqlite takes it for a broken disk), and not from reading a file either as long as
// that goes on: profilers and timers send signals all the time, and so does the
// scheduler of every Go program to itself.
//
// Changes do not get such a context: once begun they are carried through.
//
// The watch begins when somebody asks for Done, that is, when the operation has to
// wait for a server; what is answered from memory pays nothing for it.
type waiting struct {
	context.Context // values and deadline
	cancel          <-chan struct{}
	pid             uint32        // the calling thread; 0 if it is in another pid name space
	patience        time.Duration // 0: signals that do not kill do not count

	once        sync.Once
	watch       context.Context
	stop        context.CancelFunc
	watcher     sync.WaitGroup
	watched     atomic.Bool // watch is set
	interrupted atomic.Bool
}

func (w *waiting) start() {
	w.once.Do(func() {
		w.watch, w.stop = context.WithCancel(w.Context)
		w.watched.Store(true)
		w.watcher.Go(w.run)
	})
}

// run ends the context when it is time to. It ends itself with the operation.
func (w *waiting) run() {
	var enough <-chan time.Time
	if w.patience > 0 {
		timer := time.NewTimer(w.patience)
		defer timer.Stop()
		enough = timer.C
	}
	select {
	case <-w.watch.Done():
		return
	case <-w.cancel:
	}
	for !dying(w.pid) {
		select {
		case <-w.watch.Done():
			return
		case <-time.After(dyingPoll):
			continue
		case <-enough:
		}
		break
	}
	w.interrupted.Store(true)
	w.stop()
}

// Done implements context.Context.
func (w *waiting) Done() <-chan struct{} {
	w.start()
	return w.watch.Done()
}

// Err implements context.Context.
func (w *waiting) Err() error {
	if w.watched.Load() {
		return w.watch.Err()
	}
	select {
	case <-w.cancel:
		w.start()
		return w.watch.Err()
	default:
		return nil // nothing but a signal ends it
	}
}

// end must be called when the operation is over.
func (w *waiting) end() {
	w.once.Do(func() { // nobody has waited: nothing to stop
		w.watch, w.stop = over, func() {}
		w.watched.Store(true)
	})
	w.stop()
	w.watcher.Wait()
}

// over is a context that has ended.
var over = func() context.Context {
	ctx, end := context.WithCancel(context.Background())
	end()
	return ctx
}()

// dying tells whether the thread has a SIGKILL pending. The kernel gives one to
// every thread of a process that any fatal signal ends.
func dying(tid uint32) bool {
	if tid == 0 {
		return false
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	return os.IsNotExist(err) || killPending(status)
}

// killPending reads the thread's own pending signals out of /proc/TID/status.
func killPending(status []byte) bool {
	const sigKill = 1 << (9 - 1)
	for line := range bytes.Lines(status) {
		if mask, ok := bytes.CutPrefix(line, []byte("SigPnd:")); ok {
			bits, err := strconv.ParseUint(string(bytes.TrimSpace(mask)), 16, 64)
			return err == nil && bits&sigKill != 0
		}
	}
	return false
}

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

// dyingPoll is how often a caller that got a signal is looked at.
const dyingPoll = 200 * time.Millisecond

// waiting is the context of an operation that changes nothing. It ends early when
// the caller got a signal (the kernel sends INTERRUPT and closes cancel):
//
//   - always for a read and an fsync, which programs know to fail with EINTR;
//   - otherwise only if the caller is dying. Programs do not expect EINTR from stat
//     or open, and a Go program gets a signal each time that its scheduler preempts
//     a goroutine; but a process that was killed could not go before we answer.
//
// Changes do not get such a context: once begun they are carried through.
//
// The watch begins when somebody asks for Done, that is, when the operation has to
// wait for a server; what is answered from memory pays nothing for it.
type waiting struct {
	context.Context // values and deadline
	cancel          <-chan struct{}
	pid             uint32 // the calling thread; 0 if it is in another pid name space
	always          bool

	once        sync.Once
	watch       context.Context
	stop        context.CancelFunc
	watcher     sync.WaitGroup
	interrupted atomic.Bool
}

func (w *waiting) start() {
	w.once.Do(func() {
		w.watch, w.stop = context.WithCancel(w.Context)
		w.watcher.Go(w.run)
	})
}

// run ends the context when it is time to. It ends itself with the operation.
func (w *waiting) run() {
	select {
	case <-w.watch.Done():
		return
	case <-w.cancel:
	}
	for !w.always && !dying(w.pid) {
		select {
		case <-w.watch.Done():
			return
		case <-time.After(dyingPoll):
		}
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
	select {
	case <-w.cancel:
		w.start()
	default:
		return nil // nothing but a signal ends it
	}
	if w.always {
		<-w.watch.Done()
	}
	return w.watch.Err()
}

// end must be called when the operation is over.
func (w *waiting) end() {
	w.once.Do(func() {}) // nothing may start now
	if w.stop != nil {
		w.stop()
		w.watcher.Wait()
	}
}

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

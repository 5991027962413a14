package webdav

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// The removal of what a failed upload left behind may go on in the background, while
// the caller waits only a moment: whoever cancels a call wants it back.
const (
	cleanupTime = 10 * time.Second
	cleanupWait = time.Second
)

// Bounds of leftovers.
const (
	maxLeftovers = 1000
	sweepPause   = time.Second
)

// leftovers are the URLs of unfinished uploads that could not be deleted, because the
// server was away or may have been at work on them. They are deleted when it answers
// again.
type leftovers struct {
	pause time.Duration // between two attempts
	some  atomic.Bool   // there are any: a glance without the lock

	mu    sync.Mutex // guards what follows
	due   map[string]time.Time
	next  time.Time // no sweep before
	sweep bool      // one is under way
}

// add notes target, to be deleted from due on.
func (l *leftovers) add(target string, due time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.due == nil {
		l.due = map[string]time.Time{}
	}
	if len(l.due) < maxLeftovers {
		l.due[target] = due
	}
	l.next = time.Now().Add(l.pause)
	l.some.Store(true)
}

// done forgets target.
func (l *leftovers) done(target string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.due, target)
	l.some.Store(len(l.due) > 0)
}

// begin returns what is to be deleted now. If that is something, the caller does it and
// calls end.
func (l *leftovers) begin(now time.Time) []string {
	if !l.some.Load() {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sweep || now.Before(l.next) {
		return nil
	}
	var all []string
	for target, due := range l.due {
		if !now.Before(due) {
			all = append(all, target)
		}
	}
	l.sweep = len(all) > 0
	return all
}

func (l *leftovers) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep, l.next = false, time.Now().Add(l.pause)
}

// cleanup deletes target, also if ctx has ended. Close gives it a moment as well. If the
// server does not answer, it is tried again later.
func (c *call) cleanup(ctx context.Context, target string) {
	b := c.b
	done := make(chan struct{})
	b.cleanups.Go(func() {
		defer close(done)
		ctx, cancel := b.cleaningTime(ctx)
		defer cancel()
		if err := c.discard(ctx, target); err != nil {
			b.left.add(target, time.Now())
		}
	})
	select {
	case <-done:
	case <-time.After(cleanupWait):
	}
}

// cleaningTime bounds a removal. It goes on when ctx has ended, but not long after the
// end of the backend.
func (b *Backend) cleaningTime(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	stop := context.AfterFunc(b.cleaning, cancel)
	return ctx, func() { stop(); cancel() }
}

// discard deletes target. It returns the errors that time may heal.
func (c *call) discard(ctx context.Context, target string) error {
	resp, err := c.expect(ctx, &request{method: http.MethodDelete, url: target},
		http.StatusOK, http.StatusNoContent, http.StatusNotFound)
	if err == nil {
		closeBody(resp)
		return nil
	}
	c.b.opts.Logger.Debug("unfinished upload left behind", "path", c.path, "err", err)
	var e *remote.Error
	if errors.As(err, &e) && e.Kind != remote.Auth && !remote.Retryable(err) {
		return nil
	}
	return err
}

// sweep deletes leftovers, if there are any and the server has just answered. It is
// called within a call, and does not hold it up.
func (b *Backend) sweep() {
	all := b.left.begin(time.Now())
	if len(all) == 0 {
		return
	}
	b.cleanups.Go(func() {
		defer b.left.end()
		ctx, cancel := b.cleaningTime(context.Background())
		defer cancel()
		for _, target := range all {
			if err := (&call{b: b, op: "cleanup"}).discard(ctx, target); err != nil {
				return
			}
			b.left.done(target)
		}
	})
}

package prefetch

import (
	"context"
	"slices"
	"sync"
)

// Lanes bounds the requests that are on the way to one branch. What somebody waits for
// goes first, and as many requests again as there are lanes may be added for it, so
// that it never stands behind what is fetched ahead. Readers that fetch ahead take turns.
// All methods may be called from many goroutines.
type Lanes struct {
	n int

	mu      sync.Mutex // guards everything below
	busy    int
	users   int // readers with something on the way ahead
	demands []chan struct{}
	queue   []taker
}

// taker waits for a lane to fetch ahead.
type taker interface {
	// granted is called, without any lock, when a lane was given to the taker. It
	// returns false if the taker has no use for it any more.
	granted() bool
}

// NewLanes returns n lanes, at least 1.
func NewLanes(n int) *Lanes { return &Lanes{n: max(n, 1)} }

// Acquire waits for a lane for a request that somebody waits for. The error is that
// of the context. Release gives the lane back.
func (l *Lanes) Acquire(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.mu.Lock()
	if l.busy < 2*l.n && len(l.demands) == 0 {
		l.busy++
		l.mu.Unlock()
		return nil
	}
	mine := make(chan struct{})
	l.demands = append(l.demands, mine)
	l.mu.Unlock()
	return l.await(ctx, mine)
}

// await waits for mine to be closed, which passes a lane on.
func (l *Lanes) await(ctx context.Context, mine chan struct{}) error {
	select {
	case <-mine:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	i := slices.Index(l.demands, mine)
	if i >= 0 {
		l.demands = slices.Delete(l.demands, i, i+1)
	}
	l.mu.Unlock()
	if i < 0 {
		l.Release() // it was given in the meantime
	}
	return ctx.Err()
}

// AcquireAhead waits, in turn with the readers that fetch ahead, for a lane for a
// request that nobody waits for. The error is that of the context.
func (l *Lanes) AcquireAhead(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w := &waiter{got: make(chan struct{})}
	if l.try(w) {
		return nil
	}
	select {
	case <-w.got:
		return nil
	case <-ctx.Done():
	}
	l.leave(w)
	if w.giveUp() {
		l.Release()
	}
	return ctx.Err()
}

// waiter is the taker of AcquireAhead.
type waiter struct {
	mu     sync.Mutex
	given  bool
	gaveUp bool
	got    chan struct{}
}

func (w *waiter) granted() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gaveUp {
		return false
	}
	w.given = true
	close(w.got)
	return true
}

// giveUp tells whether a lane was given already.
func (w *waiter) giveUp() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gaveUp = true
	return w.given
}

// try takes a lane to fetch ahead, or puts the taker in the queue. A taker must not be
// in the queue already.
func (l *Lanes) try(t taker) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy < l.n && len(l.queue) == 0 && len(l.demands) == 0 {
		l.busy++
		return true
	}
	l.queue = append(l.queue, t)
	return false
}

// leave takes the taker out of the queue. It may be granted a lane at this moment.
func (l *Lanes) leave(t taker) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = slices.DeleteFunc(l.queue, func(q taker) bool { return q == t })
}

// Release gives a lane back, to whoever is next. It must be called without locks.
func (l *Lanes) Release() {
	l.mu.Lock()
	l.busy--
	for {
		next := l.next()
		if next == nil {
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		used := next.granted()
		l.mu.Lock()
		if !used {
			l.busy--
		}
	}
}

// next hands free lanes to those who wait for their bytes, then one to the first in
// the queue, which it returns.
func (l *Lanes) next() taker {
	for len(l.demands) > 0 && l.busy < 2*l.n {
		close(l.demands[0])
		l.demands = slices.Delete(l.demands, 0, 1)
		l.busy++
	}
	if len(l.queue) == 0 || l.busy >= l.n || len(l.demands) > 0 {
		return nil
	}
	first := l.queue[0]
	l.queue = slices.Delete(l.queue, 0, 1)
	l.busy++
	return first
}

// use notes that a reader has begun (+1) or ended (-1) to fetch ahead.
func (l *Lanes) use(change int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.users += change
}

// fair is how many lanes each reader has if all are to have the same.
func (l *Lanes) fair() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(1, l.n/max(1, l.users))
}

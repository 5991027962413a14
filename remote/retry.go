package remote

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// RetryOptions qualify Retry. Zero fields take the defaults.
type RetryOptions struct {
	// Tries bounds the attempts of a call; default 10.
	Tries int
	// Elapsed bounds the time from the beginning of a call to the beginning of its
	// last attempt; default 60 s. A call that an open Breaker turned away is tried
	// again only as long as the outage is younger than this, so that a dead server
	// costs this time once and not for each call.
	Elapsed time.Duration
	// Wait is the upper bound of the first random wait (default 200 ms). The bound
	// doubles up to MaxWait (default 10 s).
	Wait, MaxWait time.Duration
	// MaxRetryAfter bounds what of Error.RetryAfter is honoured; default 30 s.
	MaxRetryAfter time.Duration
	// MaxListed is the number of entries up to which a listing remembers what it
	// has yielded; default 100,000 (about 4 MiB). A longer one is not tried again.
	MaxListed int
}

func (o RetryOptions) withDefaults() RetryOptions {
	o.Tries = positive(o.Tries, 10)
	o.Elapsed = positive(o.Elapsed, time.Minute)
	o.Wait = positive(o.Wait, 200*time.Millisecond)
	o.MaxWait = max(positive(o.MaxWait, 10*time.Second), o.Wait)
	o.MaxRetryAfter = positive(o.MaxRetryAfter, 30*time.Second)
	o.MaxListed = positive(o.MaxListed, 100_000)
	return o
}

// Retry repeats the calls of b that fail with a Retryable error, after a wait that
// grows exponentially with full jitter, up to the bounds of opts. Credentials are
// never tried twice (Auth is not retryable), nor is a Put whose own Source failed.
// A listing that is tried again does not yield an entry twice. Streams are opened
// again but not resumed: a Read that fails is the reader's to handle. A last error
// after several attempts says "after N tries". A PutGrowing gets one attempt, because the
// content may have grown whole meanwhile: its caller knows the better way to repeat it;
// a PutBatch gets one, because its files may have been stored in part, and a ReadBundle one,
// because its files can be read alone.
// So does every call in a context of WithoutRetry.
//
// A Put that is repeated after an attempt that was Unsure, or had begun to send, has
// PutOptions.Redo set; a Patch after every attempt but one that was Locked out.
//
// A change whose fate is unknown (Error.Unsure) is settled before or after the next
// attempt, see settle.go; if it cannot be, the last error is Unsure too.
//
// Close ends the waits: calls that were in one fail with BadHandle.
func Retry(b Backend, opts RetryOptions) Backend {
	r := &retrier{opts: opts.withDefaults()}
	r.decorator = &decorator{inner: b, around: r.around}
	r.life, r.end = context.WithCancel(context.Background())
	return r
}

type retrier struct {
	*decorator
	opts RetryOptions
	life context.Context // ends with Close
	end  context.CancelFunc
}

// Close implements Backend.
func (r *retrier) Close() error {
	r.end()
	return r.inner.Close()
}

func (r *retrier) around(ctx context.Context, c *Call, next Next) error {
	if withoutRetry(ctx) || c.Op == OpStream || c.Op == OpPutGrowing || c.Op == OpPutBatch || c.Op == OpReadBundle || c.Op == OpSetAttrBatch {
		return next(ctx)
	}
	a := &attempts{r: r, call: c, next: next, start: time.Now()}
	switch c.Op {
	case OpList:
		a.listed = newListed(c, r.opts.MaxListed)
	case OpPut, OpPatch:
		c.Sent = func(n int) { a.sent.Add(int64(n)) }
	}
	return a.run(ctx)
}

// attempts is one call and what is known of its attempts so far.
type attempts struct {
	r        *retrier
	call     *Call
	next     Next
	start    time.Time
	tries    int
	unsure   bool         // an attempt may have carried the change out
	sent     atomic.Int64 // bytes of the Put or Patch that were handed to attempts
	listed   *listed
	compared compared
	exp      *backoff.ExponentialBackOff // made when first needed
}

func (a *attempts) run(ctx context.Context) error {
	for {
		err := a.once(ctx)
		if err == nil || !a.again(err) {
			return a.final(err)
		}
		wait := a.wait(err)
		if a.tries >= a.r.opts.Tries || time.Since(a.start)+wait > a.r.opts.Elapsed {
			return a.final(err)
		}
		if err := a.r.sleep(ctx, a.call, wait); err != nil {
			return err
		}
	}
}

// again tells whether the call may be tried again after err.
func (a *attempts) again(err error) bool {
	var open *OpenError
	switch {
	case !Retryable(err), a.call.SourceErr() != nil, a.call.Halt != nil:
		return false
	case a.listed != nil && a.listed.over:
		return false
	case errors.As(err, &open):
		return time.Since(open.Since) < a.r.opts.Elapsed
	}
	return true
}

// wait tells how long to wait before the next attempt: a random part of a bound
// that grows, and what the server asked for before that.
func (a *attempts) wait(err error) time.Duration {
	if a.exp == nil {
		a.exp = &backoff.ExponentialBackOff{
			// A factor of 1 draws from 0 to twice the interval.
			InitialInterval: a.r.opts.Wait / 2, MaxInterval: a.r.opts.MaxWait / 2,
			RandomizationFactor: 1, Multiplier: 2,
		}
		a.exp.Reset()
	}
	wait := a.exp.NextBackOff()
	var e *Error
	if errors.As(err, &e) {
		wait += min(e.RetryAfter, a.r.opts.MaxRetryAfter)
	}
	return wait
}

func (r *retrier) sleep(ctx context.Context, c *Call, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ContextErr(ctx)
	case <-r.life.Done():
		return c.Fail(BadHandle, nil)
	}
}

// final is the last error with what the attempts before it mean.
func (a *attempts) final(err error) error {
	var e *Error
	if err == nil || a.tries == 1 || !errors.As(err, &e) {
		return err
	}
	last := *e
	last.Err, last.Unsure = fmt.Errorf("after %d tries: %w", a.tries, err), a.unsure
	return &last
}

// listed remembers what a listing has yielded, as 128-bit hashes of the names. It
// is for one call.
type listed struct {
	seeds [2]maphash.Seed
	seen  map[[2]uint64]struct{}
	limit int
	over  bool // the limit is passed: the listing cannot be tried again
}

// newListed wraps the Yield of c.
func newListed(c *Call, limit int) *listed {
	l := &listed{
		seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
		seen:  map[[2]uint64]struct{}{},
		limit: limit,
	}
	yield := c.Yield
	c.Yield = func(e Entry) error {
		if !l.fresh(e.Path) {
			return nil
		}
		return yield(e)
	}
	return l
}

// fresh notes a path and tells whether it is new.
func (l *listed) fresh(path string) bool {
	if l.over {
		return true
	}
	if len(l.seen) >= l.limit {
		l.over, l.seen = true, nil
		return true
	}
	key := [2]uint64{maphash.String(l.seeds[0], path), maphash.String(l.seeds[1], path)}
	_, double := l.seen[key]
	l.seen[key] = struct{}{}
	return !double
}

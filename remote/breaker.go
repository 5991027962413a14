package remote

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"
)

// BreakerOptions qualify Breaker. Zero fields take the defaults.
type BreakerOptions struct {
	// Name is the server's, for messages.
	Name string
	// Failures in a row that open the breaker; default 3. A call that the Watchdog
	// has ended opens it alone.
	Failures int
	// ProbeInterval is the wait before the first probe (default 1 s). It doubles
	// with each probe that fails, up to MaxProbeInterval (default 30 s).
	ProbeInterval, MaxProbeInterval time.Duration
	// ProbeTimeout ends a probe; default 15 s.
	ProbeTimeout time.Duration
	// OnChange, if set, is told when the server is found dead (with the error that
	// showed it) and when it is back (nil). It must return at once and not call
	// the backend.
	OnChange func(err error)
}

func (o BreakerOptions) withDefaults() BreakerOptions {
	o.Failures = positive(o.Failures, 3)
	o.ProbeInterval = positive(o.ProbeInterval, time.Second)
	o.MaxProbeInterval = max(positive(o.MaxProbeInterval, 30*time.Second), o.ProbeInterval)
	o.ProbeTimeout = positive(o.ProbeTimeout, 15*time.Second)
	if o.Name == "" {
		o.Name = "the server"
	}
	return o
}

func positive[T int | time.Duration](v, def T) T {
	if v > 0 {
		return v
	}
	return def
}

// OpenError is the cause of the error of a call that an open Breaker turned away.
type OpenError struct {
	Name  string    // the server's
	Since time.Time // when the breaker opened
	Last  string    // text of the last error of the server
}

// Error returns "NAME not reachable since 15:04:05, probing: last error".
func (e *OpenError) Error() string {
	return fmt.Sprintf("%s not reachable since %s, probing: %s", e.Name, e.Since.Format(time.TimeOnly), e.Last)
}

// CircuitBreaker is a backend that fails fast while its server is dead.
type CircuitBreaker struct {
	*decorator
	opts    BreakerOptions
	circuit *gobreaker.TwoStepCircuitBreaker[struct{}]
	verdict error // of the call being counted; guarded by the circuit's own lock

	life   context.Context // ends with Close
	end    context.CancelFunc
	prober sync.WaitGroup

	mu     sync.Mutex // guards the fields below; never held while calling circuit
	outage *outage    // nil while the circuit is closed
	closed bool
}

// outage is what is known of a dead server.
type outage struct {
	since time.Time
	last  string
	probe time.Time // when the next probe starts
}

// Breaker fails the calls of b fast with Unavailable (cause *OpenError, RetryAfter
// the time until the next probe) after it has found the server dead, asks the
// server in the background with a Stat of "/", and lets calls through again when
// any answer comes. Only Unavailable is a failure: every other error is an answer,
// and an ended context or a failing Source says nothing. Neither does a change that
// fails and is repeated by a plan of its caller's (WithoutRetry): what goes wrong with
// uploads alone must not keep people from reading. Calls that were on the way when the
// breaker opened go on.
//
// Close waits for the prober.
func Breaker(b Backend, opts BreakerOptions) *CircuitBreaker {
	g := &CircuitBreaker{opts: opts.withDefaults()}
	g.decorator = &decorator{inner: b, around: g.around}
	g.life, g.end = context.WithCancel(context.Background())
	g.circuit = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name: g.opts.Name,
		// The prober keeps the time, and its calls alone reach an open circuit: it
		// must be ready for them.
		Timeout:       g.opts.ProbeInterval / 2,
		IsSuccessful:  g.isSuccessful,
		IsExcluded:    isExcluded,
		ReadyToTrip:   g.readyToTrip,
		OnStateChange: g.onStateChange,
	})
	return g
}

// Outage tells since when the server is dead and with what error; ok is false if
// it is not.
func (g *CircuitBreaker) Outage() (o OpenError, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.outage == nil {
		return OpenError{}, false
	}
	return OpenError{g.opts.Name, g.outage.since, g.outage.last}, true
}

// Close implements Backend.
func (g *CircuitBreaker) Close() error {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.end()
	g.prober.Wait()
	return g.inner.Close()
}

func (g *CircuitBreaker) around(ctx context.Context, c *Call, next Next) error {
	done, err := g.enter(c)
	switch {
	case err != nil && c.Op != OpStream:
		return err
	case done == nil:
		return next(ctx) // a stream goes on in an outage, uncounted
	}
	err = next(ctx)
	if c.SourceErr() != nil || err != nil && c.Op.Mutates() && withoutRetry(ctx) {
		done(errNoVerdict)
	} else {
		done(err)
	}
	return err
}

// enter lets a call in: done is to be told its result. It is nil if the result is
// not to be counted.
func (g *CircuitBreaker) enter(c *Call) (done func(error), err error) {
	if err := g.refuse(c); err != nil {
		return nil, err
	}
	done, err = g.circuit.Allow()
	if err != nil {
		return nil, g.refuse(c) // it has opened just now
	}
	return done, nil
}

// errNoVerdict stands for a result that says nothing about the server.
var errNoVerdict = errors.New("no verdict")

// refuse returns the error of a call that must not go through. A closed backend
// refuses for itself.
func (g *CircuitBreaker) refuse(c *Call) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.outage == nil || g.closed {
		return nil
	}
	e := c.Fail(Unavailable, &OpenError{g.opts.Name, g.outage.since, g.outage.last})
	e.RetryAfter = max(time.Until(g.outage.probe), 0)
	return e
}

// isExcluded, isSuccessful and readyToTrip are called under the circuit's lock, in
// this order, for the same result.
func isExcluded(err error) bool {
	return err == errNoVerdict || err != nil && (isContextErr(err) || KindOf(err) == BadHandle)
}

func (g *CircuitBreaker) isSuccessful(err error) bool {
	g.verdict = err
	return err == nil || KindOf(err) != Unavailable
}

func (g *CircuitBreaker) readyToTrip(counts gobreaker.Counts) bool {
	var stall *StallError
	return errors.As(g.verdict, &stall) || int(counts.ConsecutiveFailures) >= g.opts.Failures
}

// onStateChange is called under the circuit's lock.
func (g *CircuitBreaker) onStateChange(_ string, from, to gobreaker.State) {
	switch {
	case to == gobreaker.StateClosed:
		g.setOutage(nil)
		g.tell(nil)
	case from == gobreaker.StateClosed:
		now := time.Now()
		g.setOutage(&outage{since: now, last: g.verdict.Error(), probe: now.Add(g.opts.ProbeInterval)})
		g.tell(g.verdict)
	}
}

func (g *CircuitBreaker) tell(err error) {
	if g.opts.OnChange != nil {
		g.opts.OnChange(err)
	}
}

// setOutage begins an outage, with a prober, or ends it.
func (g *CircuitBreaker) setOutage(o *outage) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.outage = o
	if o != nil && !g.closed {
		g.prober.Go(func() { g.probe(o) })
	}
}

// probe asks the server until it answers, the outage is over for other reasons, or
// the backend is closed.
func (g *CircuitBreaker) probe(o *outage) {
	for wait := g.opts.ProbeInterval; ; wait = min(2*wait, g.opts.MaxProbeInterval) {
		// Many nodes that lost one server must not come back at once.
		jittered := wait - wait/4 + rand.N(wait/4+1)
		if !g.update(o, func() { o.probe = time.Now().Add(jittered) }) {
			return
		}
		select {
		case <-g.life.Done():
			return
		case <-time.After(jittered):
		}
		done, err := g.circuit.Allow()
		if err != nil {
			continue
		}
		err = g.ask()
		done(err)
		if err == nil || g.life.Err() != nil {
			return
		}
		g.update(o, func() { o.last = err.Error() })
	}
}

// update changes what is known of an outage. It is false if that is over.
func (g *CircuitBreaker) update(o *outage, change func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.outage != o {
		return false
	}
	change()
	return true
}

// ask returns nil if the server gives any answer.
func (g *CircuitBreaker) ask() error {
	ctx, cancel := context.WithTimeout(g.life, g.opts.ProbeTimeout)
	defer cancel()
	_, err := g.inner.Stat(ctx, "/")
	switch {
	case err == nil || g.life.Err() != nil:
		return err
	case isContextErr(err):
		return &Error{Op: string(OpStat), Path: "/", Kind: Unavailable, Err: &StallError{g.opts.ProbeTimeout}}
	case KindOf(err) == Unavailable:
		return err
	}
	return nil
}

package remotetest

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// Fault is what an injected fault does to a call.
type Fault int

// The faults.
const (
	// FaultNone does nothing more than the rule's Latency.
	FaultNone Fault = iota
	// FaultError fails the call with the rule's Kind; nothing was done.
	FaultError
	// FaultLost carries the call out and then, if that succeeded, fails it with
	// Unavailable: the acknowledgement was lost. The error of a change is Unsure.
	FaultLost
	// FaultTruncate ends a body early and reports it, as the contract demands:
	// half of the bytes of a ReadAt, a listing or a stream come, then Unavailable.
	// A RemoveTree leaves half of the directory's children, a Prune half of the files that
	// are known; its error is Unsure.
	FaultTruncate
	// FaultReset breaks a Put, PutGrowing or Patch in the middle of its source with
	// Unavailable. Nothing was done by a put if the backend has AtomicPut. A patch
	// has lost its second half of bytes, of growing content all is lost behind half of
	// what was there at first.
	FaultReset
	// FaultStall blocks the call until its context ends or the backend is closed,
	// which fail it, or another plan is set, with which it goes on.
	FaultStall
)

// ErrInjected is the cause of every injected error.
var ErrInjected = errors.New("remotetest: injected fault")

// Rule says which calls meet a fault. A call meets the first rule that hits.
type Rule struct {
	Ops     []remote.Op   // nil for all
	P       float64       // probability from 0 to 1; 0 counts as 1
	Skip    int           // the first so many matching calls are spared
	Count   int           // at most so many calls are hit, 0 for any number
	Latency time.Duration // waited before the fault, or ended by the context
	Fault   Fault
	Kind    remote.Kind // of FaultError; Unavailable if not set
	// RetryAfter is put into the error.
	RetryAfter time.Duration
}

// Plan is a list of rules with the seed of their dice. The same plan and the same
// sequence of calls give the same faults.
type Plan struct {
	Seed  uint64
	Rules []Rule
}

// FaultyBackend is a Backend that meets the faults of its Plan.
type FaultyBackend struct {
	remote.Backend
	below    remote.Backend // without the faults
	mu       sync.Mutex     // guards the fields below
	plan     Plan
	dice     *rand.Rand
	seen     []int // matching calls by rule
	hits     []int // calls that were hit, by rule
	injected int
	closed   bool
	over     chan struct{} // closed when the plan is replaced or the backend closed
}

// Faulty returns b with the faults of plan. Faults reach optional abilities and
// streams too. It is safe for concurrent use.
func Faulty(b remote.Backend, plan Plan) *FaultyBackend {
	f := &FaultyBackend{below: b, over: make(chan struct{})}
	f.SetPlan(plan)
	f.Backend = remote.Intercept(b, f.around)
	return f
}

// Unwrap implements remote.Unwrapper: optional abilities are found on the
// interceptor below.
func (f *FaultyBackend) Unwrap() remote.Backend { return f.Backend }

// SetPlan replaces the plan; its counters start from zero.
func (f *FaultyBackend) SetPlan(plan Plan) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.plan = plan
	if !f.closed {
		close(f.over)
		f.over = make(chan struct{})
	}
	f.dice = rand.New(rand.NewPCG(plan.Seed, 0x6d657368))
	f.seen = make([]int, len(plan.Rules))
	f.hits = make([]int, len(plan.Rules))
}

// Stall makes every call hang, in the way of FaultStall, until resume is called,
// which sets the plan from before again. It fits Target.Stall.
func (f *FaultyBackend) Stall() (resume func()) {
	f.mu.Lock()
	before := f.plan
	f.mu.Unlock()
	f.SetPlan(Plan{Rules: []Rule{{Fault: FaultStall}}})
	return func() { f.SetPlan(before) }
}

// Close implements remote.Backend.
func (f *FaultyBackend) Close() error {
	f.mu.Lock()
	if !f.closed {
		f.closed = true
		close(f.over)
	}
	f.mu.Unlock()
	return f.Backend.Close()
}

// stall waits for the end of a FaultStall.
func (f *FaultyBackend) stall(ctx context.Context, c *remote.Call) error {
	f.mu.Lock()
	over := f.over
	f.mu.Unlock()
	select {
	case <-ctx.Done():
		return remote.ContextErr(ctx)
	case <-over:
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return c.Fail(remote.BadHandle, ErrInjected)
	}
	return nil
}

// Injected tells how many calls have met a fault so far, by all plans.
func (f *FaultyBackend) Injected() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.injected
}

// pick returns the rule that hits a call of op, if any.
func (f *FaultyBackend) pick(op remote.Op) (Rule, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, r := range f.plan.Rules {
		if !f.hit(i, r, op) {
			continue
		}
		f.hits[i]++
		if r.Fault != FaultNone {
			f.injected++
		}
		return r, true
	}
	return Rule{}, false
}

func (f *FaultyBackend) hit(i int, r Rule, op remote.Op) bool {
	if len(r.Ops) > 0 && !slices.Contains(r.Ops, op) {
		return false
	}
	f.seen[i]++
	switch {
	case f.seen[i] <= r.Skip, r.Count > 0 && f.hits[i] >= r.Count:
		return false
	case r.P > 0:
		return f.dice.Float64() < r.P
	}
	return true
}

func (f *FaultyBackend) around(ctx context.Context, c *remote.Call, next remote.Next) error {
	rule, ok := f.pick(c.Op)
	if !ok {
		return next(ctx)
	}
	if err := sleep(ctx, rule.Latency); err != nil {
		return err
	}
	if rule.Fault == FaultStall {
		if err := f.stall(ctx, c); err != nil {
			return err
		}
		return next(ctx)
	}
	if rule.Fault == FaultTruncate && c.Op == remote.OpRemoveTree {
		return rule.truncateRemoval(ctx, c, f.below)
	}
	if rule.Fault == FaultTruncate && c.Op == remote.OpPrune {
		return rule.truncatePrune(ctx, c, f.below)
	}
	return rule.apply(ctx, c, next)
}

func (r Rule) apply(ctx context.Context, c *remote.Call, next remote.Next) error {
	switch r.Fault {
	case FaultError:
		kind := r.Kind
		if kind == remote.Other {
			kind = remote.Unavailable
		}
		return r.fail(c, kind)
	case FaultLost:
		return r.lose(ctx, c, next)
	case FaultTruncate:
		return r.truncate(ctx, c, next)
	case FaultReset:
		return r.reset(ctx, c, next)
	}
	return next(ctx)
}

func (r Rule) fail(c *remote.Call, kind remote.Kind) *remote.Error {
	e := c.Fail(kind, ErrInjected)
	e.RetryAfter = r.RetryAfter
	return e
}

func (r Rule) lose(ctx context.Context, c *remote.Call, next remote.Next) error {
	if err := next(ctx); err != nil {
		return err
	}
	if c.Op == remote.OpOpen {
		_ = c.Stream.Close() // nobody will see the stream
	}
	e := r.fail(c, remote.Unavailable)
	e.Unsure = c.Op.Mutates()
	return e
}

func (r Rule) truncate(ctx context.Context, c *remote.Call, next remote.Next) error {
	switch c.Op {
	case remote.OpRead, remote.OpStream:
		if err := next(ctx); err != nil {
			return err
		}
		c.N /= 2
		return r.fail(c, remote.Unavailable)
	case remote.OpList:
		return r.truncateList(ctx, c, next)
	}
	return r.fail(c, remote.Unavailable)
}

// truncateList lets all entries through but the last.
func (r Rule) truncateList(ctx context.Context, c *remote.Call, next remote.Next) error {
	yield := c.Yield
	defer func() { c.Yield = yield }()
	var held *remote.Entry
	c.Yield = func(e remote.Entry) error {
		before := held
		held = &e
		if before == nil {
			return nil
		}
		return yield(*before)
	}
	if err := next(ctx); err != nil || c.Halt != nil {
		return err
	}
	return r.fail(c, remote.Unavailable)
}

// truncateRemoval removes half of the children of the tree on b.
func (r Rule) truncateRemoval(ctx context.Context, c *remote.Call, b remote.Backend) error {
	var children []remote.Entry
	err := b.List(ctx, c.Path, func(e remote.Entry) error {
		children = append(children, e)
		return nil
	})
	if err != nil {
		return err
	}
	trees, ok := remote.As[remote.TreeRemover](b)
	if !ok {
		return c.Fail(remote.Unsupported, ErrInjected)
	}
	for _, e := range children[:(len(children)+1)/2] {
		if e.Type == remote.Dir {
			err = trees.RemoveTree(ctx, e.Path)
		} else {
			err = b.Remove(ctx, e.Path, remote.RemoveOptions{Type: e.Type})
		}
		if err != nil {
			return err
		}
	}
	fault := r.fail(c, remote.Unavailable)
	fault.Unsure = true
	return fault
}

// truncatePrune removes half of what is known on b, as far as it is there.
func (r Rule) truncatePrune(ctx context.Context, c *remote.Call, b remote.Backend) error {
	for _, k := range c.Known[:len(c.Known)/2] {
		if k.Type == remote.Dir {
			continue
		}
		err := b.Remove(ctx, k.Path, remote.RemoveOptions{Type: k.Type, Version: k.Version})
		if kind := remote.KindOf(err); err != nil && kind != remote.NotExist && kind != remote.Conflict {
			return err
		}
	}
	fault := r.fail(c, remote.Unavailable)
	fault.Unsure = true
	return fault
}

// sleep waits for d or for the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return remote.ContextErr(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return remote.ContextErr(ctx)
	}
}

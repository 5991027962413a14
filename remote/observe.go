package remote

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Stats are counts of the calls of a backend since it was wrapped, by operation.
// Operations that never happened are not in it.
type Stats map[Op]OpStats

// OpStats are the counts of one operation.
type OpStats struct {
	Calls     int64 // ended
	InFlight  int64 // not ended yet
	Cancelled int64 // ended by their context
	Errors    map[Kind]int64
	Time      time.Duration // sum over the ended calls
	MaxTime   time.Duration // of one call
	Received  int64         // bytes of file content
	Sent      int64         // bytes of file content, failed attempts included
}

// Observed is a backend whose calls are counted.
type Observed struct {
	*decorator
	log *slog.Logger
	ops sync.Map // Op to *opCounter
}

type opCounter struct {
	mu    sync.Mutex // guards stats
	stats OpStats
}

// Observe counts the calls of b and writes a line for each to log at level debug.
// The reads of a stream are counted as OpStream and logged together when it is
// closed. log may be nil.
func Observe(b Backend, log *slog.Logger) *Observed {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	o := &Observed{log: log}
	o.decorator = &decorator{inner: b, around: o.around}
	return o
}

// Stats returns a copy of the counts so far.
func (o *Observed) Stats() Stats {
	all := Stats{}
	o.ops.Range(func(op, counter any) bool {
		all[op.(Op)] = counter.(*opCounter).snapshot()
		return true
	})
	return all
}

func (o *Observed) counter(op Op) *opCounter {
	if c, ok := o.ops.Load(op); ok {
		return c.(*opCounter)
	}
	c, _ := o.ops.LoadOrStore(op, &opCounter{})
	return c.(*opCounter)
}

func (o *Observed) around(ctx context.Context, c *Call, next Next) error {
	counter := o.counter(c.Op)
	counter.begin()
	var sent atomic.Int64
	c.Sent = func(n int) { sent.Add(int64(n)) }
	start := time.Now()
	err := next(ctx)
	took := time.Since(start)
	counter.end(took, int64(c.N), sent.Load(), err)
	switch c.Op {
	case OpStream:
		c.Opened.State.(*atomic.Int64).Add(int64(c.N))
	case OpOpen:
		o.logStream(ctx, c)
	}
	if c.Op != OpStream && o.log.Enabled(ctx, slog.LevelDebug) {
		o.log.LogAttrs(ctx, slog.LevelDebug, "remote call", callAttrs(c, took, sent.Load(), err)...)
	}
	return err
}

// logStream has the length of a stream logged when it is closed.
func (o *Observed) logStream(ctx context.Context, c *Call) {
	received := new(atomic.Int64)
	c.State = received
	if !o.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	c.Defer(func() {
		o.log.LogAttrs(ctx, slog.LevelDebug, "remote stream closed",
			slog.String("path", c.Path), slog.Int64("received", received.Load()))
	})
}

func callAttrs(c *Call, took time.Duration, sent int64, err error) []slog.Attr {
	attrs := []slog.Attr{slog.String("op", string(c.Op)), slog.String("path", c.Path), slog.Duration("took", took)}
	if c.To != "" {
		attrs = append(attrs, slog.String("to", c.To))
	}
	if c.N > 0 {
		attrs = append(attrs, slog.Int64("off", c.Off), slog.Int("received", c.N))
	}
	if sent > 0 {
		attrs = append(attrs, slog.Int64("sent", sent))
	}
	if err != nil {
		attrs = append(attrs, slog.String("err", err.Error()))
	}
	return attrs
}

func (c *opCounter) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.InFlight++
}

func (c *opCounter) end(took time.Duration, received, sent int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.stats
	s.InFlight--
	s.Calls++
	s.Time += took
	s.MaxTime = max(s.MaxTime, took)
	s.Received += received
	s.Sent += sent
	switch {
	case err == nil:
	case isContextErr(err):
		s.Cancelled++
	default:
		if s.Errors == nil {
			s.Errors = map[Kind]int64{}
		}
		s.Errors[KindOf(err)]++
	}
}

func (c *opCounter) snapshot() OpStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Errors = make(map[Kind]int64, len(c.stats.Errors))
	for kind, n := range c.stats.Errors {
		s.Errors[kind] = n
	}
	return s
}

// isContextErr tells whether err is the plain error of an ended context.
func isContextErr(err error) bool {
	var e *Error
	return !errors.As(err, &e) && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded))
}

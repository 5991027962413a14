package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// session is one client, or the local file system, at the work of one group.
type session struct {
	ctx   context.Context
	b     *bench
	g     group
	name  string
	c     *client // nil: the local file system
	dir   string  // where the server's files are seen
	files []file  // all that the group has on its server
	dead  error   // why the client cannot go on
}

// fresh mounts anew with an empty cache.
func (s *session) fresh() { s.remount(true) }

// again mounts anew with what the cache holds.
func (s *session) again() { s.remount(false) }

func (s *session) remount(cold bool) {
	if s.dead = s.ctx.Err(); s.c == nil || s.dead != nil {
		return
	}
	if err := s.c.unmount(); err != nil {
		s.b.warn("%s: %v", s.name, err)
	}
	s.b.settle()
	s.mount(cold)
}

// mount mounts and waits until the mount answers.
func (s *session) mount(cold bool) {
	if s.dead = s.c.mount(s.ctx, cold); s.dead == nil {
		s.dir = s.c.at
		s.dead = s.bounded(mountTime, func(context.Context) error { return lookAt(s.dir) })
	}
}

// list makes a directory known to the client, with the attributes of its files.
func (s *session) list(dir string) {
	if s.dead == nil {
		s.dead = s.bounded(time.Minute, func(context.Context) error { return lookAt(filepath.Join(s.dir, dir)) })
	}
}

func lookAt(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if err == nil {
			_, err = e.Info()
		}
	}
	return err
}

// bounded does something in the mount that is not measured. What hangs is freed by
// killing the client.
func (s *session) bounded(limit time.Duration, do func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(s.ctx, limit)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- do(ctx) }() // waited for
	return s.wait(ctx, done)
}

// below returns the group's files below a directory.
func (s *session) below(dir string) []file { return below(s.files, dir) }

// grace is how long work may go on after its time before the client is killed.
const grace = 10 * time.Second

// measure does a piece of work and makes it the row's sample. limit bounds its time. It
// returns nil when there is no mount to work on.
func (s *session) measure(name string, limit time.Duration, work func(ctx context.Context, m *meter) error) *cell {
	return s.measureFor(name, min(limit, s.b.conf.limit), work)
}

// measureFor is measure with a limit that the command line does not bound.
func (s *session) measureFor(name string, limit time.Duration, work func(ctx context.Context, m *meter) error) *cell {
	if s.dead != nil || s.ctx.Err() != nil {
		s.b.add(name, s.name, &cell{Failed: cause(s.dead, s.ctx.Err())})
		return nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, limit)
	defer cancel()
	var before usage
	if s.c != nil {
		_ = resetPeak(s.c.pid) // not allowed everywhere; the peak is that of all rows then
		before, _ = usageOf(s.c.pid)
	}
	counts := s.b.world.path.Counts()
	m := &meter{}
	done := make(chan error, 1)
	begin := time.Now()
	go func() { done <- work(ctx, m) }() // waited for below
	stopTrace := s.trace(m)
	err := s.wait(ctx, done)
	stopTrace()
	c := &cell{Seconds: time.Since(begin).Seconds()}
	if s.c != nil && s.c.process != nil {
		if after, err := usageOf(s.c.pid); err == nil {
			c.CPU, c.RSS = (after.cpu - before.cpu).Seconds(), after.peak
		} // else its end was part of the work
		d := s.b.world.path.Counts().Sub(counts)
		c.Requests, c.Conns, c.Down, c.Up = d.Requests, d.Conns, d.Down, d.Up
	}
	c.Cut = ctx.Err() != nil && s.ctx.Err() == nil
	if c.Cut {
		err = nil
	}
	if err = errors.Join(err, s.ctx.Err()); err != nil {
		c.Failed = oneLine(err)
	}
	c.fill(s.b.unitOf(name), m)
	s.b.add(name, s.name, c)
	return c
}

// mbPerStep is the speed of so many bytes in one step of a trace.
func mbPerStep(n int64) float64 { return float64(n) / 1e6 / traceStep.Seconds() }

// traceStep is how often a trace speaks.
const traceStep = 250 * time.Millisecond

// trace tells of the path and the work until the function that it returns is called.
func (s *session) trace(m *meter) (stop func()) {
	if !s.b.conf.trace {
		return func() {}
	}
	end := make(chan struct{})
	var tracer sync.WaitGroup
	tracer.Go(func() {
		var work float64
		counts := s.b.world.path.Counts()
		for tick := time.NewTicker(traceStep); ; {
			select {
			case <-end:
				tick.Stop()
				return
			case <-tick.C:
			}
			d := s.b.world.path.Counts().Sub(counts)
			m.mu.Lock()
			done := m.work - work
			m.mu.Unlock()
			s.b.warn("%12s down %.1f MB/s, up %.1f MB/s, %d requests, %d connections; work %.4g/s", s.name, mbPerStep(d.Down), mbPerStep(d.Up), d.Requests, d.Conns, done/traceStep.Seconds())
			counts, work = s.b.world.path.Counts(), work+done
		}
	})
	return func() {
		close(end)
		tracer.Wait()
	}
}

// wait returns how work has ended; work that hangs in the mount is freed by killing the
// client.
func (s *session) wait(ctx context.Context, done <-chan error) error {
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(grace):
	}
	if s.c != nil {
		s.c.destroy()
		s.dead = errors.New("it hung before and was killed")
	}
	return <-done
}

// fill computes the value of a sample.
func (c *cell) fill(u unit, m *meter) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c.P50, c.P99 = quantile(m.lat, 0.5), quantile(m.lat, 0.99)
	switch u {
	case mbPerS:
		c.Value = m.work / 1e6 / c.Seconds
	case filesPerS, readsPerS:
		c.Value = m.work / c.Seconds
	case seconds:
		c.Value = c.Seconds
	case millis:
		if c.Value = c.P50; len(m.lat) == 0 {
			c.Value = c.Seconds * 1000
		}
	case mib:
		c.Value = float64(c.RSS) / (1 << 20)
	case perEntry:
		if m.work > 0 {
			c.Value = c.Seconds * 1e6 / m.work
		}
	}
	if c.Cut && c.Failed == "" && m.work == 0 && u.more() {
		c.Failed = fmt.Sprintf("nothing in %.0f s", c.Seconds)
	}
}

// drop empties the page cache. False says that this is not possible or not wanted.
func (s *session) drop() bool {
	if s.dead != nil {
		return true // the rows then say why
	}
	return s.b.root && dropCaches() == nil
}

func cause(errs ...error) string {
	for _, err := range errs {
		if err != nil {
			return oneLine(err)
		}
	}
	return "unknown"
}

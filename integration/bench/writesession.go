package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"time"
)

// target makes a new place on the group's server to write to.
func (s *session) target() (*target, error) {
	s.b.targets++
	name := fmt.Sprintf("write/%s%d", s.name, s.b.targets)
	switch s.g.at {
	case onZone:
		return s.b.world.zoneTarget(s.ctx, name)
	case onCloud:
		return s.b.world.cloudTarget(name)
	}
	return s.b.world.diskTarget(s.g.at, name)
}

// write measures both rows of a piece of work that writes files: with a fresh mount, until
// the program is done and until the server has all, which is then compared.
func (s *session) write(name string, files []file, work func(ctx context.Context, dir string) error) {
	to, err := s.target()
	if err != nil {
		s.b.warn("%s: %v", s.name, err)
		return
	}
	s.fresh()
	s.list(path.Dir(to.name))
	program := &cell{}
	c := s.measure(name+".server", s.b.conf.size.writeCut, func(ctx context.Context, m *meter) error {
		if err := s.timed(program, func() error { return work(ctx, filepath.Join(s.dir, to.name)) }); err != nil {
			return err
		}
		return to.arrive(ctx, files, m)
	})
	s.addProgram(name+".program", program, c)
	if c.good() && !c.Cut {
		if err := s.bounded(time.Minute, func(ctx context.Context) error { return to.check(ctx, files) }); err != nil {
			s.b.fail(name+".server", s.name, fmt.Errorf("on the server: %w", err))
		}
	}
	s.leave(to)
}

// timed notes how long something takes that ends well.
func (s *session) timed(c *cell, do func() error) error {
	begin := time.Now()
	err := do()
	if err == nil {
		c.Value = time.Since(begin).Seconds()
	}
	return err
}

// addProgram adds the row of when the program was done, of work that was measured as c.
func (s *session) addProgram(row string, program, c *cell) {
	switch {
	case program.Value > 0:
	case c != nil && c.Cut:
		program.Value, program.Cut = c.Seconds, true
	default:
		program.Failed = "see above"
	}
	s.b.add(row, s.name, program)
}

// leave ends the mount and takes away what it has written.
func (s *session) leave(to *target) {
	if s.c != nil {
		if err := s.c.unmount(); err != nil {
			s.b.warn("%s: %v", s.name, err)
		}
	}
	s.b.settle()
	if err := to.remove(); err != nil {
		s.b.warn("%s: %v", s.name, err)
	}
}

// removeTree measures both rows of rm -r of a tree that the client has walked.
func (s *session) removeTree(name string, files []file) {
	to, err := s.target()
	if err == nil {
		err = s.b.world.plant(s.ctx, s.g.at, to, files)
	}
	if err != nil {
		s.b.warn("%s: %v", s.name, err)
		return
	}
	s.fresh()
	top := filepath.Join(s.dir, to.name, treeTop)
	if s.dead == nil {
		s.dead = s.bounded(s.b.conf.limit, func(ctx context.Context) error { return listAll(ctx, top, len(files), &meter{}) })
	}
	program := &cell{}
	c := s.measure(name+".server", s.b.conf.size.writeCut, func(ctx context.Context, _ *meter) error {
		if err := s.timed(program, func() error { return runProgram(ctx, "rm", "-r", top) }); err != nil {
			return err
		}
		return to.leave(ctx, treeTop)
	})
	s.addProgram(name+".program", program, c)
	s.leave(to)
}

// plant makes files in a place on a server, which may change and remove them.
func (w *world) plant(ctx context.Context, at place, to *target, files []file) error {
	if at == onZone {
		return w.plantObjects(ctx, to, files)
	}
	top := filepath.Join(w.sides[at].local, filepath.FromSlash(to.name))
	if err := w.writeFiles(ctx, top, files); err != nil {
		return err
	}
	var errs []error
	for _, dir := range parentsOf(files) {
		errs = append(errs, os.Chmod(filepath.Join(top, dir), 0o777))
	}
	if errs = append(errs, os.Chmod(top, 0o777)); at == onCloud {
		errs = append(errs, w.rescan())
	}
	return errors.Join(errs...)
}

// writeRaw measures what plain requests over some connections reach.
func (s *session) writeRaw(row string, conns int, do func(ctx context.Context, r *raw, dir string, m *meter) error) {
	to, err := s.b.world.diskTarget(onDisk, "write/"+limitName)
	if err != nil {
		s.b.warn("%v", err)
		return
	}
	r := newRaw(s.b.world.sides[onDisk].addr, conns)
	defer r.close()
	s.measure(row, time.Minute, func(ctx context.Context, m *meter) error { return do(ctx, r, to.name, m) })
	if err := to.remove(); err != nil {
		s.b.warn("%v", err)
	}
}

// writeLocally measures the local file system.
func (s *session) writeLocally(row string, do func(ctx context.Context, dir string) error) {
	dir, err := os.MkdirTemp(s.b.world.dir, "local-")
	if err != nil {
		s.b.warn("%v", err)
		return
	}
	s.measure(row, time.Minute, func(ctx context.Context, _ *meter) error { return do(ctx, dir) })
	if err := putAway(dir); err != nil {
		s.b.warn("%v", err)
	}
}

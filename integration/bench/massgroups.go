package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"syscall"
	"time"
)

// massTop is the directory of the tree whose attributes and names are changed.
const massTop = "mass"

// massGroup changes attributes and names of many entries. It is about ours only: peers keep
// no modes, and make no promise of when they are done.
func massGroup(at place) group {
	name, title := massName(at)
	return group{name: name, at: at, files: here, writes: func(z sizes) int64 { return int64(z.mass) * 2 * pageSize }, rows: func(z sizes) []rowSpec {
		return []rowSpec{
			{Name: name + ".chmod", Title: fmt.Sprintf("%s`chmod -R` of %d files, until on the server", title, z.mass), Unit: seconds},
			{Name: name + ".touch", Title: fmt.Sprintf("%s`touch` of %d files, until on the server", title, z.mass), Unit: seconds},
			{Name: name + ".mv", Title: fmt.Sprintf("%s`mv` of a tree of %d files, until on the server", title, z.mass), Unit: seconds},
			{Name: name + ".mkdir", Title: fmt.Sprintf("%s`mkdir -p` of %d directories of depth 5, until on the server", title, z.massDirs), Unit: seconds},
		}
	}, work: func(s *session) {
		files := treeFiles(massTop, s.b.conf.size.mass/50, 50)
		to, err := s.target()
		if err == nil {
			err = s.b.world.plant(s.ctx, at, to, files)
		}
		if err != nil {
			s.b.warn("%s: %v", s.name, err)
			return
		}
		defer s.leave(to)
		here := func() string { return filepath.Join(s.dir, to.name) }
		top := func() string { return filepath.Join(here(), massTop) }
		drained := func(row string, work func(ctx context.Context) error) {
			s.fresh()
			if s.dead == nil {
				s.dead = s.bounded(s.b.conf.limit, func(ctx context.Context) error { return listAll(ctx, here(), len(files), &meter{}) })
			}
			s.drained(row, work)
		}
		drained(name+".chmod", func(ctx context.Context) error { return runProgram(ctx, "chmod", "-R", "u=rwX,g=rX,o=", top()) })
		drained(name+".touch", func(ctx context.Context) error { return touchAll(ctx, here(), files) })
		drained(name+".mkdir", func(ctx context.Context) error { return makeTree(ctx, here(), s.b.conf.size.massDirs) })
		drained(name+".mv", func(ctx context.Context) error { return runProgram(ctx, "mv", top(), top()+".moved") })
	}}
}

func massName(at place) (name, title string) {
	switch at {
	case onCloud:
		return "mass.cloud", "Nextcloud dialect: "
	case onZone:
		return "mass.zone", "zone: "
	}
	return "mass.disk", ""
}

// touchAll sets the time of files to a whole second some time ago, one after the other.
func touchAll(ctx context.Context, dir string, files []file) error {
	when := time.Now().Add(-time.Hour).Truncate(time.Second)
	for _, f := range files {
		name := filepath.Join(dir, filepath.FromSlash(f.path))
		if err := errors.Join(ctx.Err(), os.Chtimes(name, when, when)); err != nil {
			return err
		}
	}
	return nil
}

// makeTree makes n directories of depth 5: chains of five, ten of which share their first two.
func makeTree(ctx context.Context, dir string, n int) error {
	for i := 0; n > 0; i++ {
		top := path.Join(dir, "tree", fmt.Sprint(i/10))
		for _, name := range []string{"", "a", fmt.Sprintf("a/b%d", i), fmt.Sprintf("a/b%d/c", i), fmt.Sprintf("a/b%d/c/d", i)} {
			if _, err := os.Stat(path.Join(top, name)); err == nil || n == 0 {
				continue
			}
			if err := errors.Join(ctx.Err(), os.MkdirAll(path.Join(top, name), 0o755)); err != nil {
				return err
			}
			n--
		}
	}
	return nil
}

// drained measures a piece of work until the client has ended in order: then the server has
// all.
func (s *session) drained(row string, work func(ctx context.Context) error) {
	s.measure(row, s.b.conf.limit, func(ctx context.Context, _ *meter) error {
		if err := work(ctx); err != nil {
			return err
		}
		return s.c.drain(ctx)
	})
}

// drain has the client end in order and waits for that.
func (c *client) drain(ctx context.Context) error {
	if err := c.process.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-c.process.done:
		return c.process.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

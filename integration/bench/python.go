package main

import (
	"context"
	_ "embed"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed put.py
var putScript string

// setPython makes a client that mounts nothing: python3-irodsclient, which puts files one
// after the other.
func (w *world) setPython(ctx context.Context, c *client) error {
	const program = "/usr/bin/python3" // which sees what Debian has installed
	if err := exec.CommandContext(ctx, program, "-c", "import irods").Run(); err != nil {
		return errors.New("python3-irodsclient is not installed")
	}
	script := filepath.Join(filepath.Dir(c.cache), "put.py")
	c.put = func(ctx context.Context, dir, name string) error {
		host, port, _ := strings.Cut(w.sides[onZone].addr, ":")
		return runProgram(ctx, program, script, host, port, zoneUser, zoneSecret, dir, zoneHome+"/"+name)
	}
	return os.WriteFile(script, []byte(putScript), 0o600)
}

// upload measures what a client without a mount takes to put files that are here already.
func (s *session) upload(name string, files []file) {
	to, err := s.target()
	if err != nil {
		s.b.warn("%s: %v", s.name, err)
		return
	}
	dir, err := os.MkdirTemp(s.b.world.dir, "upload-")
	if err == nil {
		err = s.b.world.writeFiles(s.ctx, dir, files)
	}
	if err != nil {
		s.b.warn("%s: %v", s.name, err)
		return
	}
	c := s.measure(name+".server", s.b.conf.size.writeCut, func(ctx context.Context, m *meter) error {
		if err := s.c.put(ctx, dir, to.name); err != nil {
			return err
		}
		return to.arrive(ctx, files, m)
	})
	if c.good() && !c.Cut {
		if err := to.check(s.ctx, files); err != nil {
			s.b.fail(name+".server", s.name, err)
		}
	}
	s.leave(to)
	if err := putAway(dir); err != nil {
		s.b.warn("%v", err)
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/meshmount/meshmount/integration/bench/wan"
	"github.com/meshmount/meshmount/remote/irods"
)

// The path to the servers: that of a published federation of computing centres.
const (
	pathRTT    = 50 * time.Millisecond
	pathRate   = 1.2e9 / 8
	pathWindow = 4 << 20
)

// Marks of one request in what a client sends.
const (
	httpMark = " HTTP/1.1\r\n"
	zoneMark = "RODS_API_REQ"
)

// file is one that servers hold, named by a path without a slash at its beginning.
type file struct {
	path string
	seed uint64
	size int64
}

// side is a server and its near end of the path.
type side struct {
	addr  string // over the path
	local string // the directory that a server of files serves
}

// world is everything that the clients under test have around them.
type world struct {
	dir     string // of all that is made here
	pattern *pattern
	path    *wan.Path
	sides   map[place]side
	catalog *irods.Backend              // of the zone, not over the path
	rescan  func() error                // has the cloud look at its disk
	seeds   map[place]map[string]uint64 // of files, by kind of server and path
	closers []func() error              // last one first
}

// later has something done at the end.
func (w *world) later(f func() error) { w.closers = append(w.closers, f) }

// close undoes everything.
func (w *world) close() error {
	var errs []error
	for n := len(w.closers) - 1; n >= 0; n-- {
		errs = append(errs, w.closers[n]())
	}
	w.closers = nil
	return errors.Join(errs...)
}

// runPrefix begins the name of the directory of a run.
const runPrefix = "meshmount-bench-"

// newWorld makes the data of some groups and starts the servers that they need.
func newWorld(ctx context.Context, conf config, groups []group) (w *world, err error) {
	dir, err := os.MkdirTemp("", runPrefix)
	if err != nil {
		return nil, err
	}
	w = &world{dir: dir, pattern: newPattern(), sides: map[place]side{}, seeds: map[place]map[string]uint64{}, path: wan.New(wan.Config{RTT: pathRTT, Rate: pathRate, Window: pathWindow})}
	if conf.keep {
		fmt.Fprintln(os.Stderr, "kept:", dir)
	} else {
		w.later(func() error { return os.RemoveAll(dir) })
	}
	w.later(w.path.Close)
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if err := os.Chmod(dir, 0o755); err != nil { // Apache and davfs2 give up root's rights
		return w, err
	}
	if err := w.checkSpace(groups, conf); err != nil {
		return w, err
	}
	starts := map[place]func(context.Context, []file) error{onDisk: w.startDAV, onCloud: w.startCloud, onZone: w.startZone}
	for _, at := range places {
		files := filesOf(groups, conf, at)
		w.seeds[at] = seedsOf(files)
		if len(files) == 0 {
			continue
		}
		if err := starts[at](ctx, files); err != nil {
			return w, err
		}
	}
	return w, nil
}

// filesOf collects what groups want to have on one kind of server, each path once.
func filesOf(groups []group, conf config, at place) []file {
	var all []file
	seen := map[string]bool{}
	for _, g := range groups {
		if g.at != at {
			continue
		}
		for _, f := range g.files(conf) {
			if !seen[f.path] {
				seen[f.path] = true
				f.seed = uint64(len(all) + 1)
				all = append(all, f)
			}
		}
	}
	return all
}

func seedsOf(files []file) map[string]uint64 {
	seeds := map[string]uint64{}
	for _, f := range files {
		seeds[f.path] = f.seed
	}
	return seeds
}

// checkSpace makes sure that the data fits, and a client's copy of what a group reads.
func (w *world) checkSpace(groups []group, conf config) error {
	need, most := int64(1<<30), int64(0)
	for _, g := range groups {
		size := int64(0)
		for _, f := range g.files(conf) {
			size += f.size + 2*pageSize
		}
		if g.writes != nil { // on the server and in the client's cache
			size += 2 * g.writes(conf.size)
		}
		need, most = need+size, max(most, size)
	}
	need += most
	free, err := freeSpace(w.dir)
	if err == nil && free < need {
		err = fmt.Errorf("bench: needs %s on %s, which has %s (TMPDIR chooses another place)", bytesText(need), w.dir, bytesText(free))
	}
	fmt.Fprintf(os.Stderr, "needs up to %s below %s (free: %s)\n", bytesText(need), w.dir, bytesText(free))
	return err
}

// startDAV makes files, starts Apache over them and opens a path to it.
func (w *world) startDAV(ctx context.Context, files []file) error {
	home := filepath.Join(w.dir, "apache")
	if err := os.Mkdir(home, 0o755); err != nil {
		return err
	}
	served := filepath.Join(home, "files")
	if err := w.writeFiles(ctx, served, files); err != nil {
		return err
	}
	server, err := startApache(ctx, home)
	if err != nil {
		return err
	}
	w.later(server.stop)
	addr, err := w.path.Listen(server.addr, httpMark)
	w.sides[onDisk] = side{addr: addr, local: served}
	return err
}

// writeFiles makes old files and directories.
func (w *world) writeFiles(ctx context.Context, dir string, files []file) error {
	dirs := map[string]bool{}
	for _, f := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		name := filepath.Join(dir, filepath.FromSlash(f.path))
		if d := filepath.Dir(name); !dirs[d] {
			dirs[d] = true
			if err := os.MkdirAll(d, 0o755); err != nil {
				return err
			}
		}
		if err := w.pattern.write(name, f.seed, f.size); err != nil {
			return err
		}
	}
	old := time.Now().Add(-age)
	for d := range dirs {
		for ; len(d) >= len(dir); d = filepath.Dir(d) {
			if err := os.Chtimes(d, old, old); err != nil {
				return err
			}
		}
	}
	return nil
}

// startZone makes objects, restarts the zone with the right clock and opens a path.
func (w *world) startZone(ctx context.Context, files []file) error {
	dir, log := filepath.Join(w.dir, "zone"), filepath.Join(w.dir, "zone.log")
	if err := populateZone(ctx, dir, log, w.pattern, parentsOf(files), files); err != nil {
		return fmt.Errorf("zone: %w", err)
	}
	server, err := startZone(dir, log, 0)
	if err != nil {
		return err
	}
	w.later(server.stop)
	if w.catalog, err = dialZone(ctx, server.addr); err != nil {
		return fmt.Errorf("zone: %w", err)
	}
	w.later(w.catalog.Close)
	addr, err := w.path.Listen(server.addr, zoneMark)
	w.sides[onZone] = side{addr: addr}
	return err
}

// parentsOf returns the directories of files, parents first.
func parentsOf(files []file) []string {
	var dirs []string
	seen := map[string]bool{".": true}
	var add func(dir string)
	add = func(dir string) {
		if !seen[dir] {
			seen[dir] = true
			add(filepath.Dir(dir))
			dirs = append(dirs, dir)
		}
	}
	for _, f := range files {
		add(filepath.Dir(f.path))
	}
	return dirs
}

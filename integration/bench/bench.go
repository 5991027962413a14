package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// bench is one run. Only one goroutine uses it.
type bench struct {
	conf    config
	root    bool // may drop the page cache
	world   *world
	rows    []*rowData
	missing map[string]string // clients that cannot be had, and why
	begun   time.Time
	load    string // when it began
	targets int    // places to write to that were made
}

// rowData collects a row's samples.
type rowData struct {
	rowSpec
	samples map[string][]*cell // by client, or limitName
}

// limitName stands for the limit among clients.
const limitName = "limit"

// run does the whole benchmark and reports it. What was measured before an interruption
// is printed, too, but not written to files.
func run(ctx context.Context, conf config) (err error) {
	groups := wanted(conf)
	b := &bench{conf: conf, root: os.Geteuid() == 0, missing: map[string]string{}, begun: time.Now(), load: loadAverage()}
	if !b.root {
		b.warn("not root: without davfs2, and without the rows that need an empty page cache")
	}
	for _, g := range groups {
		for _, r := range g.rows(conf.size) {
			b.rows = append(b.rows, &rowData{rowSpec: r, samples: map[string][]*cell{}})
		}
	}
	if b.world, err = newWorld(ctx, conf, groups); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.world.close()) }()
	b.warn("data and servers: %.0f s", time.Since(b.begun).Seconds())
	clients := b.clients(ctx, groups)
	for _, g := range groups {
		if ctx.Err() == nil {
			b.group(ctx, g, clients[g.at])
		}
	}
	return errors.Join(b.report(ctx.Err() == nil), ctx.Err())
}

// clients makes the clients for each kind of server, as far as they are needed.
func (b *bench) clients(ctx context.Context, groups []group) map[place][]*client {
	all := map[place][]*client{}
	for _, at := range places {
		if !slices.ContainsFunc(groups, func(g group) bool { return g.at == at }) {
			continue
		}
		for _, name := range clientNames {
			if len(b.conf.only) > 0 && !slices.Contains(b.conf.only, name) {
				continue
			}
			c, err := b.world.newClient(ctx, b.conf, name, at)
			switch {
			case errors.Is(err, errNotFor):
			case err != nil:
				b.missing[name] = oneLine(err)
				b.warn("without %s: %v", name, err)
			default:
				all[at] = append(all[at], c)
			}
		}
	}
	return all
}

// group does a group's work with the limit first and then all clients.
func (b *bench) group(ctx context.Context, g group, clients []*client) {
	var files []file
	for _, f := range filesOf([]group{g}, b.conf, g.at) {
		f.seed = b.world.seeds[g.at][f.path]
		files = append(files, f)
	}
	if g.limit != nil {
		s := &session{ctx: ctx, b: b, g: g, name: limitName, dir: b.world.sides[g.at].local, files: files}
		for range b.conf.n {
			if ctx.Err() == nil {
				b.heat(g)
				g.limit(s)
			}
		}
	}
	for _, c := range clients {
		if c.name != ours && !g.peers && !b.conf.long || c.put != nil && !g.puts {
			continue
		}
		s := &session{ctx: ctx, b: b, g: g, name: c.name, c: c, files: files}
		for range b.conf.n {
			if ctx.Err() == nil {
				b.heat(g)
				g.work(s)
			}
		}
		if err := errors.Join(c.unmount(), putAway(c.cache)); err != nil {
			b.warn("%s: %v", c.name, err)
		}
	}
}

// settle lets what an ended client has on its way over the path arrive, so that the next
// one does not share the path with it.
func (b *bench) settle() { time.Sleep(3 * pathRTT) }

// heat writes out what others have left and reads what a group's server holds, so that no
// client waits for the server's disk.
func (b *bench) heat(g group) {
	b.settle()
	unix.Sync()
	dirs := []string{filepath.Join(b.world.dir, "zone")}
	if g.at != onZone {
		dirs = nil
		for _, f := range g.files(b.conf) {
			top, _, _ := strings.Cut(f.path, "/")
			if dir := filepath.Join(b.world.sides[g.at].local, top); !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
			}
		}
	}
	buf := make([]byte, 1<<20)
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, buf)
			return errors.Join(err, f.Close())
		})
		if err != nil {
			b.warn("%v", err)
		}
	}
}

// warn says something on standard error.
func (b *bench) warn(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}

func (b *bench) row(name string) *rowData {
	for _, r := range b.rows {
		if r.Name == name {
			return r
		}
	}
	return nil
}

// unitOf returns the unit of a row, that of time for work without a row.
func (b *bench) unitOf(name string) unit {
	if r := b.row(name); r != nil {
		return r.Unit
	}
	return seconds
}

// add notes a sample.
func (b *bench) add(row, client string, c *cell) {
	if r := b.row(row); r != nil {
		r.samples[client] = append(r.samples[client], c)
		if c.Failed != "" {
			b.warn("%6.1f  %-16s %-8s failed: %s", time.Since(b.begun).Seconds(), row, client, c.Failed)
			return
		}
		b.warn("%6.1f  %-16s %-8s %s  (%.2f s, %.2f CPU s, %s, %d requests, %.1f MB)", time.Since(b.begun).Seconds(), row, client, c.text(r.Unit),
			c.Seconds, c.CPU, bytesText(c.RSS), c.Requests, float64(c.Down)/1e6)
	}
}

// fail makes the last sample a failure.
func (b *bench) fail(row, client string, err error) {
	b.warn("%s: %s: %v", row, client, err)
	if r := b.row(row); r != nil && len(r.samples[client]) > 0 {
		s := r.samples[client]
		s[len(s)-1].Failed = oneLine(err)
	}
}

// results returns the rows that were asked for, judged.
func (b *bench) results() []*row {
	var rows []*row
	for _, d := range b.rows {
		r := &row{rowSpec: d.rowSpec, Cells: map[string]*cell{}, Ref: median(d.samples[limitName])}
		for _, name := range clientNames {
			if c := median(d.samples[name]); c != nil {
				r.Cells[name] = c
			}
		}
		if b.conf.shows(r.Name) && len(r.Cells) > 0 {
			r.judge()
			rows = append(rows, r)
		}
	}
	return rows
}

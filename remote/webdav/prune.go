package webdav

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// pruneWork is how long a server may be at work on each entry of a tree that it deletes
// (Nextcloud looks at each in its database), and pruneWorkMost how long without a sign of
// life: the connection may be dead.
const (
	pruneWork     = 50 * time.Millisecond
	pruneWorkMost = 2 * time.Minute
)

// Prunes implements remote.Pruner.
func (b *Backend) Prunes() bool { return true }

// Prune implements remote.Pruner: each directory that is known is listed, as many at a time
// as there are connections, and what is there compared; then one DELETE takes the tree, with
// the entity tag of its top where the server honours that. Where tags of directories change
// with anything below (Nextcloud, the oCIS family), the top is listed first and looked at
// once more at the end: an equal tag proves that all listings were of one moment. Names that
// cannot be shown in the tree are entries that nobody knows, and so are temporary ones of
// uploads that may be under way.
func (b *Backend) Prune(ctx context.Context, path string, known []remote.Known) error {
	ctx, c, done, err := b.begin(ctx, "prune", path)
	if err != nil {
		return err
	}
	defer done()
	if path == "/" {
		return c.fail(remote.Invalid, nil)
	}
	if b.hidden(path) {
		return c.fail(remote.NotExist, nil)
	}
	table, err := remote.KnownPaths(c.op, path, known)
	if err != nil {
		return err
	}
	p := &pruning{c: c, known: table}
	if err := p.prove(ctx); err != nil {
		return err
	}
	return p.remove(ctx)
}

// pruning is one Prune.
type pruning struct {
	c     *call
	known map[string]remote.Known
	top   found // the directory itself

	mu  sync.Mutex // guards err
	err error      // the first of a listing
}

// prove lists all directories. Nobody but who calls it reads top until it is over.
func (p *pruning) prove(ctx context.Context) error {
	b := p.c.b
	var dirs []string
	for path, k := range p.known {
		if k.Type == remote.Dir {
			dirs = append(dirs, path)
		}
	}
	if len(dirs) == 0 || b.traits.propagates {
		if err := p.proveTop(ctx); err != nil {
			return err
		}
	} else {
		dirs = append(dirs, p.c.path)
	}
	if len(dirs) > 0 {
		slices.Sort(dirs)
		b.Warm(len(dirs))
		b.inLanes(ctx, len(dirs), func(i int) { p.proveDir(ctx, dirs[i]) })
	}
	if p.err != nil || len(dirs) == 0 || !b.traits.propagates {
		return p.err
	}
	now, err := p.c.lookAt(ctx, p.c.path)
	switch {
	case err != nil:
		return p.c.explain(ctx, err)
	case p.top.tag == "" || now.Type != remote.Dir || now.tag != p.top.tag:
		return p.c.failf(remote.Conflict, "something in it was changed while it was looked at")
	}
	return nil
}

// proveTop lists the directory itself before the others.
func (p *pruning) proveTop(ctx context.Context) error {
	p.proveDir(ctx, p.c.path)
	return p.err
}

// proveDir lists one directory, unless another one has failed already. One that is gone is
// no harm, but for the top.
func (p *pruning) proveDir(ctx context.Context, dir string) {
	p.mu.Lock()
	failed := p.err != nil
	p.mu.Unlock()
	if failed {
		return
	}
	err := remote.ContextErr(ctx)
	if err == nil {
		err = p.list(ctx, dir)
	}
	if err != nil && remote.KindOf(err) == remote.Unavailable && ctx.Err() == nil && statusOf(err) == 0 {
		err = p.list(ctx, dir) // servers close connections when all their workers are busy
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
}

// list compares what is in one directory with what is known.
func (p *pruning) list(ctx context.Context, dir string) error {
	c := &call{b: p.c.b, op: p.c.op, path: dir}
	d := &provenDir{p: p, c: c, h: c.b.hrefs(dir)}
	err := c.propfind(ctx, c.b.dirURL(dir), "1", false, d.one)
	remote.Progress(ctx)
	if err == nil && !d.seen {
		return c.failf(remote.Corrupt, "the server's answer does not speak of the directory")
	}
	top := dir == p.c.path
	if err == nil || statusOf(err) == http.StatusNotFound && !top {
		return nil
	}
	err = c.explainList(ctx, err)
	switch kind := remote.KindOf(err); {
	case kind == remote.NotExist && !top:
		return nil
	case kind == remote.NotDir && !top:
		return c.fail(remote.Conflict, errors.New("it was a directory before"))
	}
	return err
}

// provenDir is the listing of one directory.
type provenDir struct {
	p    *pruning
	c    *call
	h    hrefs
	seen bool // the directory itself
}

// one takes up one response.
func (d *provenDir) one(r *response, head http.Header) error {
	now := d.c.b.serverTime(head)
	name, err := d.h.resolve(r.href)
	switch {
	case err != nil:
		return d.c.failf(remote.Conflict, "there is something that cannot be shown in the tree: %w", err)
	case name == "":
		return d.itself(r, now)
	case r.status == http.StatusNotFound || r.status == http.StatusGone:
		return nil // went away meanwhile
	case r.status >= 500:
		return d.c.fail(kindOf(r.status), &statusError{method: "PROPFIND", status: r.status})
	}
	path := remote.Join(d.c.path, name)
	f, err := d.c.b.view(path, r, now)
	k, known := d.p.known[path]
	switch {
	case err != nil:
		return d.c.failf(remote.Conflict, "there is something of which too little is told: %w", err)
	case isTemp(name) && !known && f.Type != remote.Dir && !f.MTime.IsZero() && now.Sub(f.native) >= abandoned:
		return nil // nobody will ever need it
	case !known:
		return d.c.failf(remote.Conflict, "there is something that was not seen before: %q", bounded(name, 100))
	case (f.Type == remote.Dir) != (k.Type == remote.Dir), f.Type != remote.Dir && !d.c.b.sameVersion(f.Version, k.Version):
		return d.c.failf(remote.Conflict, "%q was changed", bounded(name, 100))
	}
	return nil
}

// itself takes up the response about the directory.
func (d *provenDir) itself(r *response, now time.Time) error {
	if r.status >= 400 {
		return d.c.fail(kindOf(r.status), &statusError{method: "PROPFIND", status: r.status})
	}
	f, err := d.c.b.view(d.c.path, r, now)
	switch {
	case err != nil:
		return d.c.fail(remote.Corrupt, err)
	case f.Type != remote.Dir && d.c.path != d.p.c.path:
		return d.c.fail(remote.Conflict, errors.New("it was a directory before"))
	case f.Type != remote.Dir:
		return d.c.fail(remote.NotDir, nil)
	}
	d.seen = true
	if d.c.path == d.p.c.path {
		d.p.mu.Lock()
		defer d.p.mu.Unlock()
		d.p.top = f
	}
	return nil
}

// remove deletes the tree. Of what else than a whole success says, part of it may be gone.
func (p *pruning) remove(ctx context.Context) error {
	c := p.c
	r := &request{method: http.MethodDelete, url: c.b.dirURL(c.path), changes: true, header: map[string]string{},
		work: min(time.Duration(len(p.known))*pruneWork, pruneWorkMost)}
	if tag := c.deleteTag(&p.top); tag != "" {
		r.header["If-Match"] = ifTag(tag)
	}
	resp, err := c.expect(ctx, r, http.StatusOK, http.StatusNoContent, http.StatusAccepted, http.StatusMultiStatus)
	switch status := statusOf(err); {
	case status == http.StatusPreconditionFailed:
		return c.fail(remote.Conflict, errors.Unwrap(err))
	case status == http.StatusNotFound:
		return err
	case err != nil && status != 0:
		return unsure(err)
	case err != nil:
		return err
	}
	defer closeBody(resp)
	if resp.StatusCode == http.StatusMultiStatus {
		if err := c.partial(ctx, r.method, resp); err != nil {
			return unsure(err)
		}
	}
	return nil
}

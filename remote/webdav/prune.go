package webdav

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
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
// the entity tag of its top where the server honours that. What Foresee has seen of a directory
// takes the place of its listing for proofAge, if it is as it should be.
//
// Where tags of directories change with anything below (Nextcloud, the oCIS family), the top is
// listed first. A directory in it whose tag is that of a listing of before which showed what is
// known now, and so on below it, is not listed again (see witnesses). If others were, the top is
// looked at once more at the end: an equal tag proves that all listings were of one moment.
//
// Names that cannot be shown in the tree are entries that nobody knows, and so are temporary
// ones of uploads that may be under way.
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
	p := &pruning{c: c, known: table, sights: b.foreseen.take(path), proven: map[string]bool{}, shown: map[string]string{}}
	if b.traits.propagates {
		p.whole = b.witnesses.whole(known)
	}
	if err := p.prove(ctx); err != nil {
		return err
	}
	return p.remove(ctx)
}

// pruning is one Prune.
type pruning struct {
	c      *call
	known  map[string]remote.Known
	sights map[string]*sight // of directories, by path; not changed
	whole  map[string]string // tags of directories, by path, with which all below them is as known
	top    found             // the directory itself
	// guessed: top was foreseen.
	guessed bool

	mu     sync.Mutex        // guards what follows
	err    error             // the first of a listing
	proven map[string]bool   // directories in the top whose tags prove what is below them
	used   []*sight          // what took the place of listings
	shown  map[string]string // tags of directories that the one around them showed
}

// prove finds out whether all is as known. Nobody but who calls it reads top until it is over.
func (p *pruning) prove(ctx context.Context) error {
	b := p.c.b
	var dirs []string
	for path, k := range p.known {
		if k.Type == remote.Dir {
			dirs = append(dirs, path)
		}
	}
	if !b.traits.propagates {
		return p.proveAll(ctx, append(dirs, p.c.path))
	}
	if p.proveDir(ctx, p.c.path); p.err != nil {
		return p.err
	}
	dirs = slices.DeleteFunc(dirs, func(dir string) bool { return p.proven[p.inTop(dir)] })
	if len(dirs) == 0 {
		return nil
	}
	if err := p.proveAll(ctx, dirs); err != nil {
		return err
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

// inTop returns the entry of the top in which path is.
func (p *pruning) inTop(path string) string {
	name, _, _ := strings.Cut(path[len(p.c.path)+1:], "/")
	return remote.Join(p.c.path, name)
}

// proveAll proves directories, side by side. Of those that were foreseen it lists again, when it
// is through with all, which that was too long ago for by then, and which showed another tag than
// in the directory around them: what comes and goes in a directory changes its tag, and as a rule
// the one around it was looked at later.
func (p *pruning) proveAll(ctx context.Context, dirs []string) error {
	b := p.c.b
	dirs = slices.DeleteFunc(dirs, func(dir string) bool { s := p.sights[dir]; return s != nil && s.over() && p.foreseen(ctx, dir) })
	slices.Sort(dirs)
	if len(dirs) > 0 {
		b.Warm(len(dirs))
		b.inLanes(ctx, len(dirs), func(i int) { p.proveDir(ctx, dirs[i]) })
	}
	var old []string
	for _, s := range p.used {
		if tag, ok := p.shown[s.dir]; !s.fresh(p.c.b.foreseen.age) || ok && tag != s.self.tag {
			old = append(old, s.dir)
		}
	}
	p.used, p.sights = nil, nil
	if len(old) > 0 && p.err == nil {
		b.inLanes(ctx, len(old), func(i int) { p.proveDir(ctx, old[i]) })
	}
	return p.err
}

// proveDir lists one directory, unless it was foreseen, or another one has failed already. One
// that is gone is no harm, but for the top.
func (p *pruning) proveDir(ctx context.Context, dir string) {
	p.mu.Lock()
	failed := p.err != nil
	p.mu.Unlock()
	if failed || p.foreseen(ctx, dir) {
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

// foreseen tells whether a directory was seen not long ago, and was as it should be. If not, a
// listing has the word: more may be known by now, or less be there.
func (p *pruning) foreseen(ctx context.Context, dir string) bool {
	s := p.sights[dir]
	if s == nil || !s.wait(ctx) || !s.fresh(p.c.b.foreseen.age) {
		return false
	}
	c := &call{b: p.c.b, op: p.c.op, path: dir}
	for i := range s.kids {
		if p.judge(c, &s.kids[i]) != nil {
			return false
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if dir == p.c.path {
		p.top, p.guessed = s.self, true
	}
	p.used = append(p.used, s)
	return true
}

// list compares what is in one directory with what is known.
func (p *pruning) list(ctx context.Context, dir string) error {
	c := &call{b: p.c.b, op: p.c.op, path: dir}
	self, err := c.listKids(ctx, func(k *kid) error { return p.judge(c, k) })
	top := dir == p.c.path
	if err != nil && (top || statusOf(err) != http.StatusNotFound) {
		err = c.explainList(ctx, err)
	}
	switch kind := remote.KindOf(err); {
	case err == nil && top:
		p.mu.Lock()
		defer p.mu.Unlock()
		p.top, p.guessed = self, false
		return nil
	case err == nil, kind == remote.NotExist && !top:
		return nil
	case kind == remote.NotDir && !top:
		return c.fail(remote.Conflict, errors.New("it was a directory before"))
	}
	return err
}

// judge compares one entry of the directory of c with what is known.
func (p *pruning) judge(c *call, k *kid) error {
	path := remote.Join(c.path, k.name)
	was, known := p.known[path]
	switch {
	case k.dead && !known:
		return nil // nobody will ever need it
	case !known:
		return c.failf(remote.Conflict, "there is something that was not seen before: %q", bounded(k.name, 100))
	case k.dir != (was.Type == remote.Dir), !k.dir && !c.b.sameVersion(k.version, was.Version):
		return c.failf(remote.Conflict, "%q was changed", bounded(k.name, 100))
	}
	if k.dir {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.shown[path] = k.version
		p.proven[path] = k.version != "" && p.whole[path] == k.version && c.path == p.c.path
	}
	return nil
}

// remove deletes the tree. Of what else than a whole success says, part of it may be gone. A
// top that is another one than was foreseen, perhaps by our own doing, is looked at again.
func (p *pruning) remove(ctx context.Context) error {
	err := p.delete(ctx)
	if p.guessed && statusOf(err) == http.StatusPreconditionFailed {
		if err = p.list(ctx, p.c.path); err == nil {
			err = p.delete(ctx)
		}
	}
	if statusOf(err) == http.StatusPreconditionFailed {
		return p.c.fail(remote.Conflict, errors.Unwrap(err))
	}
	return err
}

// delete sends the DELETE.
func (p *pruning) delete(ctx context.Context) error {
	c := p.c
	r := &request{method: http.MethodDelete, url: c.b.dirURL(c.path), changes: true, header: map[string]string{},
		work: min(time.Duration(len(p.known))*pruneWork, pruneWorkMost)}
	if tag := c.deleteTag(&p.top); tag != "" {
		r.header["If-Match"] = ifTag(tag)
	}
	resp, err := c.expect(ctx, r, http.StatusOK, http.StatusNoContent, http.StatusAccepted, http.StatusMultiStatus)
	switch status := statusOf(err); {
	case status == http.StatusNotFound, status == http.StatusPreconditionFailed:
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

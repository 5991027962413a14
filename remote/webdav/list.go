package webdav

import (
	"context"
	"errors"
	"hash/maphash"
	"net/http"
	"strings"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// List implements remote.Backend. It holds one connection while yield runs. To tell
// duplicates it keeps 64 bits per name.
func (b *Backend) List(ctx context.Context, dir string, yield func(remote.Entry) error) error {
	ctx, c, done, err := b.begin(ctx, "list", dir)
	if err != nil {
		return err
	}
	defer done()
	if b.hidden(dir) {
		return c.fail(remote.NotExist, nil)
	}
	l := &listing{c: c, h: b.hrefs(strings.TrimSuffix(dir, "/")), yield: func(f found) error { return yield(f.Entry) }}
	if b.traits.propagates {
		l.sum = &listSum{}
	}
	err = l.run(ctx)
	if err == nil && l.sum != nil && l.self.tag != "" {
		b.witnesses.keep(dir, witness{l.self.tag, *l.sum})
	}
	return err
}

// listing is one PROPFIND of depth 1.
type listing struct {
	c     *call
	h     hrefs
	yield func(found) error
	temps func(found) error // is told of our temporary names, if set
	// spotted is told of each name that is there, also if it is not shown, if set.
	spotted func(name string)

	// odd ends the listing at an entry that cannot be shown; nil leaves it out.
	odd error

	sum *listSum // of all entries, nil if it is not wanted or cannot be had

	seed  maphash.Seed
	names map[uint64]struct{}
	self  found     // the directory itself, once seen
	now   time.Time // on the server's clock, once an answer is there
	halt  error     // from yield
}

// run reads the listing to its end.
func (l *listing) run(ctx context.Context) error {
	l.seed, l.names = maphash.MakeSeed(), map[uint64]struct{}{}
	err := l.c.propfind(ctx, l.c.b.dirURL(l.c.path), "1", false, l.one)
	switch {
	case l.halt != nil:
		return l.halt
	case err != nil:
		return l.c.explainList(ctx, err)
	case l.self.Type == 0 && len(l.names) == 0:
		return l.c.failf(remote.Corrupt, "the server's answer does not speak of the directory")
	}
	return nil
}

// one takes up one response.
func (l *listing) one(r *response, head http.Header) error {
	if l.now.IsZero() {
		l.now = l.c.b.serverTime(head)
	}
	name, err := l.h.resolve(r.href)
	if err != nil {
		return l.refuse(r.href, err)
	}
	if name == "" {
		return l.itself(r)
	}
	return l.child(name, r)
}

// itself takes up the response about the directory.
func (l *listing) itself(r *response) error {
	if r.status >= 400 {
		return l.c.fail(kindOf(r.status), &statusError{method: "PROPFIND", status: r.status})
	}
	f, err := l.c.b.view(l.c.path, r, l.now)
	if err != nil {
		return l.c.fail(remote.Corrupt, err)
	}
	if f.Type != remote.Dir {
		return l.c.fail(remote.NotDir, nil)
	}
	l.self = f
	return nil
}

// child takes up the response about a child.
func (l *listing) child(name string, r *response) error {
	switch {
	case isTemp(name) && l.temps == nil:
		l.sum = nil
		return nil
	case r.status == http.StatusNotFound || r.status == http.StatusGone:
		l.sum = nil
		return nil // went away meanwhile
	case r.status >= 500:
		return l.c.fail(kindOf(r.status), &statusError{method: "PROPFIND", status: r.status})
	}
	if l.spotted != nil {
		l.spotted(name)
	}
	key := maphash.String(l.seed, name)
	if _, twice := l.names[key]; twice {
		return l.refuse(r.href, errDuplicate)
	}
	f, err := l.c.b.view(remote.Join(l.c.path, name), r, l.now)
	if err != nil {
		return l.refuse(r.href, err)
	}
	l.names[key] = struct{}{}
	l.testify(name, &f, r)
	if isTemp(name) {
		l.halt = l.temps(f)
	} else {
		l.halt = l.yield(f)
	}
	return l.halt
}

var errDuplicate = errors.New("name seen before")

// refuse leaves one entry out, or ends the listing.
func (l *listing) refuse(href string, why error) error {
	l.sum = nil
	l.c.b.refused.Add(1)
	l.c.b.opts.Logger.Debug("entry left out of a listing", "dir", l.c.path, "href", bounded(href, 200), "why", why)
	l.halt = l.odd
	return l.halt
}

// explainList is explain for a directory: a server may refuse the form with a slash
// for a file.
func (c *call) explainList(ctx context.Context, err error) error {
	if statusOf(err) == 0 {
		return err
	}
	if f, lerr := c.lookAt(ctx, c.path); lerr == nil && f.Type != remote.Dir {
		return c.fail(remote.NotDir, errors.Unwrap(err))
	}
	return c.explain(ctx, err)
}

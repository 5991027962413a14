package webdav

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// proofAge is how long what Foresee has seen of a directory takes the place of a listing: what
// others do there meanwhile may go unseen.
const proofAge = 3 * time.Second

// Bounds of what Foresee keeps, in entries: in one directory and in all.
const (
	maxSight  = 10_000
	maxSights = 100_000
)

// Foresees implements remote.Foreseer. Where tags of directories tell of what is below them,
// there is better proof.
func (b *Backend) Foresees() bool { return !b.traits.propagates }

// Foresee implements remote.Foreseer.
func (b *Backend) Foresee(ctx context.Context, path string) error {
	ctx, c, done, err := b.begin(ctx, "foresee", path)
	if err != nil {
		return err
	}
	defer done()
	if b.hidden(path) || path == "/" || !b.Foresees() {
		return nil
	}
	s := &sight{dir: path, at: time.Now(), done: make(chan struct{})}
	b.foreseen.add(s)
	room := b.foreseen.room
	s.self, err = c.listKids(ctx, func(k *kid) error {
		if len(s.kids) == maxSight || !room() {
			return errTooMuch
		}
		s.kids = append(s.kids, *k)
		return nil
	})
	s.ok = err == nil
	b.foreseen.end(s)
	if errors.Is(err, errTooMuch) || err != nil && remote.KindOf(err) != remote.Unavailable {
		return nil // Prune finds out what is wrong
	}
	return err
}

var errTooMuch = errors.New("too much to be kept")

// sight is one directory as Foresee has seen it. What is below done is set when that is closed.
type sight struct {
	dir  string
	at   time.Time // before the request
	done chan struct{}

	ok   bool
	self found
	kids []kid
}

// fresh tells whether it may take the place of a listing yet.
func (s *sight) fresh(age time.Duration) bool { return time.Since(s.at) < age }

// over tells whether it is there.
func (s *sight) over() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// wait waits until it is there and tells whether it is of use.
func (s *sight) wait(ctx context.Context) bool {
	select {
	case <-s.done:
		return s.ok
	case <-ctx.Done():
		return false
	}
}

// foreseen are the sights that are not old yet.
type foreseen struct {
	age time.Duration // proofAge

	mu      sync.Mutex // guards what follows
	dirs    map[string]*sight
	entries int // that are kept or have been seen
}

// add takes up a sight that begins. What was seen of the directory before is no good any more.
func (f *foreseen) add(s *sight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dirs == nil {
		f.dirs = map[string]*sight{}
	}
	f.dirs[s.dir] = s
}

// room counts one entry more, if there is room for it.
func (f *foreseen) room() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.entries == maxSights {
		return false
	}
	f.entries++
	return true
}

// end closes a sight, which is kept for its time.
func (f *foreseen) end(s *sight) {
	n := len(s.kids)
	if !s.ok {
		s.kids = nil
	}
	close(s.done)
	time.AfterFunc(f.age-time.Since(s.at), func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.entries -= n
		if f.dirs[s.dir] == s {
			delete(f.dirs, s.dir)
		}
	})
}

// take takes the sights of a directory and those below it out.
func (f *foreseen) take(top string) map[string]*sight {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := map[string]*sight{}
	for dir, s := range f.dirs {
		if remote.Within(dir, top) {
			list[dir] = s
			delete(f.dirs, dir)
		}
	}
	return list
}

// kid is what a listing shows of one entry of a directory that may be pruned.
type kid struct {
	name    string
	dir     bool
	version string // of a directory its tag
	dead    bool   // a temporary name of an upload that nobody goes on with
}

// listKids lists the directory of c, and returns what it shows of that itself. An error of each
// ends it; otherwise it is Conflict if there is something that cannot be shown. It may have to be
// explained.
func (c *call) listKids(ctx context.Context, each func(*kid) error) (self found, err error) {
	k := &kidLister{c: c, h: c.b.hrefs(c.path), each: each}
	err = c.propfind(ctx, c.b.dirURL(c.path), "1", false, k.one)
	remote.Progress(ctx)
	switch {
	case k.halt != nil:
		return found{}, k.halt
	case err == nil && !k.seen:
		return found{}, c.failf(remote.Corrupt, "the server's answer does not speak of the directory")
	}
	return k.self, err
}

// kidLister is the listing of one directory.
type kidLister struct {
	c    *call
	h    hrefs
	each func(*kid) error
	seen bool  // the directory itself
	self found // that
	halt error // from each
}

// one takes up one response.
func (l *kidLister) one(r *response, head http.Header) error {
	now := l.c.b.serverTime(head)
	name, err := l.h.resolve(r.href)
	switch {
	case err != nil:
		return l.c.failf(remote.Conflict, "there is something that cannot be shown in the tree: %w", err)
	case name == "":
		return l.itself(r, now)
	case r.status == http.StatusNotFound || r.status == http.StatusGone:
		return nil // went away meanwhile
	case r.status >= 500:
		return l.c.fail(kindOf(r.status), &statusError{method: "PROPFIND", status: r.status})
	}
	f, err := l.c.b.view(remote.Join(l.c.path, name), r, now)
	if err != nil {
		return l.c.failf(remote.Conflict, "there is something of which too little is told: %w", err)
	}
	k := kid{name: name, dir: f.Type == remote.Dir, version: f.Version}
	if k.dir {
		k.version = f.tag
	} else {
		k.dead = isTemp(name) && !f.MTime.IsZero() && now.Sub(f.native) >= abandoned
	}
	l.halt = l.each(&k)
	return l.halt
}

// itself takes up the response about the directory.
func (l *kidLister) itself(r *response, now time.Time) error {
	if r.status >= 400 {
		return l.c.fail(kindOf(r.status), &statusError{method: "PROPFIND", status: r.status})
	}
	f, err := l.c.b.view(l.c.path, r, now)
	switch {
	case err != nil:
		return l.c.fail(remote.Corrupt, err)
	case f.Type != remote.Dir:
		return l.c.fail(remote.NotDir, nil)
	}
	l.seen, l.self = true, f
	return nil
}

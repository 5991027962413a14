package writeback

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// growing is the upload of a file that is still being written.
type growing struct {
	b      *Branch
	g      *growth
	path   string
	cond   remote.Cond
	cancel context.CancelFunc
	done   chan struct{}
	entry  remote.Entry // set when done is closed
	err    error        // set when done is closed
	stored bool         // set when done is closed; the server has entry, whether it is all or not
	clean  uint64       // number of the record that has removed what is left of it, 0 for none
	guard  *change      // keeps others from the path; nil where they do not meet it
}

// Early begins to send a file that is large and still being written, if that can be done
// without harm: what was there stays until the end, and the end is a Commit at path. It
// is cheap when there is nothing to do; call it after writes.
func (b *Branch) Early(path string, st *Stage, cond remote.Cond) {
	if b.policy.Early <= 0 || !st.ripe(b.policy.Early) || IsLocal(cond.Version) {
		return
	}
	atomic := b.Caps().AtomicPut
	p, ok := remote.As[remote.GrowingPutter](b.below)
	if !ok || !cond.NotExist && !atomic {
		return
	}
	if _, err := st.Own(); err != nil { // it is read beside those who write
		return
	}
	s := b.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.paused || !s.started || !b.pace.room(b.active-b.light, s.opts.Now()) || b.queue.last(path) != nil || b.above(path) {
		return
	}
	g := st.follow()
	if g == nil {
		return
	}
	x := &growing{b: b, g: g, path: path, cond: cond, done: make(chan struct{})}
	ctx, cancel := context.WithCancel(s.life)
	x.cancel = cancel
	if _, sweeps := remote.As[remote.Sweeper](b.below); (sweeps || !atomic) && !x.note(!atomic) {
		cancel()
		g.end()
		return
	}
	st.setEarly(x)
	b.active++
	s.working.Go(func() { x.run(ctx, p) })
}

// note writes down what is to be taken away if this process dies, and with guard keeps the
// path for the upload. Guarded by store.mu.
func (x *growing) note(guard bool) bool {
	b, s := x.b, x.b.store
	x.clean = s.nextID()
	c := &change{b: b, id: x.clean, kind: opClean, path: x.path, since: s.opts.Now(), version: s.nextVersion(), state: running, grow: x}
	if guard {
		b.queue.add(c)
		x.guard = c
	}
	if r := c.record(); len(c.prev) == 0 && s.write(r) == nil {
		s.cleans[x.clean] = r
		return true
	}
	if guard { // there is something else on the way
		b.queue.remove(c)
	}
	return false
}

// guards tells whether the change stands for an early upload under way: the server may show
// something at the path that is not there for anybody.
func (c *change) guards() bool { return c.kind == opClean && c.grow != nil }

// overrule ends the early uploads to paths of which c disposes otherwise. Guarded by
// store.mu.
func (b *Branch) overrule(c *change) {
	for _, d := range c.prev {
		if d.guards() && d.grow != c.grow {
			d.grow.cancel()
		}
	}
}

func (x *growing) run(ctx context.Context, p remote.GrowingPutter) {
	defer x.cancel()
	start := x.b.store.opts.Now()
	x.entry, x.err = p.PutGrowing(remote.WithoutRetry(ctx), x.path, x.g, remote.PutOptions{Cond: x.cond, Tag: x.b.store.tag})
	if x.err == nil {
		x.stored, x.err = true, x.g.failed()
	}
	x.g.end()
	s := x.b.store
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.opts.Now()
	x.b.active--
	switch {
	case x.err == nil:
		x.b.pace.wentWell()
	case !errors.Is(x.err, errTorn) && ctx.Err() == nil:
		x.b.pace.failed(x.err, start, now, 0)
	}
	clean := x.stored || x.guard == nil && ctx.Err() == nil || remote.KindOf(x.err) == remote.Unsupported
	switch {
	case x.clean == 0 || !clean && (x.guard == nil || s.closed): // it stays in the journal
	case clean:
		delete(s.cleans, x.clean)
		s.note(record{Kind: recDone, ID: x.clean})
		if x.guard != nil {
			x.b.queue.remove(x.guard)
		}
	default:
		x.b.tidyUp(x.guard)
	}
	close(x.done)
	s.wake.Broadcast()
	s.poke()
}

// tidyUp makes a change of what keeps the path of an early upload that was given up: before
// anything else comes there, what is left of it is removed. Guarded by store.mu.
func (b *Branch) tidyUp(c *change) {
	delete(b.store.cleans, c.id)
	c.state, c.grow = idle, nil
	b.all[c.id] = c
	b.torn[c] = struct{}{}
	b.queue.release(c)
}

// wait waits for the end of the upload.
func (x *growing) wait(ctx context.Context) (remote.Entry, error) {
	select {
	case <-x.done:
		return x.entry, x.err
	case <-ctx.Done():
		x.cancel()
		<-x.done
		return remote.Entry{}, ctx.Err()
	}
}

// growing tells whether the content is still being sent as it was written.
func (c *change) growing() bool {
	if c.grow == nil {
		return false
	}
	select {
	case <-c.grow.done:
		return false
	default:
		return true
	}
}

// ripe tells whether the content was written in order up to so many bytes and nobody
// follows it yet.
func (st *Stage) ripe(least int64) bool {
	st.mu.RLock()
	defer st.mu.RUnlock()
	return st.front >= least && st.front == st.size && st.grow == nil && st.limit == 0 && st.early == nil
}

func (st *Stage) setEarly(x *growing) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.early = x
}

// grown returns the upload of the content, if it has been sent to path from its beginning
// on and is complete with this. Another one is given up.
func (st *Stage) grown(path string, cond remote.Cond, attrs remote.Attrs) *growing {
	st.mu.RLock()
	x := st.early
	st.mu.RUnlock()
	if x == nil {
		return nil
	}
	st.setEarly(nil)
	if x.path == path && x.cond == cond && st.complete(attrs) != nil {
		return x
	}
	st.unfollow()
	return nil
}

// clean removes what an early upload of ours has left: unfinished, or torn in its place.
func (j *job) clean(ctx context.Context) outcome {
	if err := j.sweep(ctx, -1); err != nil {
		return outcome{err: err}
	}
	e, err := j.b.below.Stat(ctx, j.path)
	torn := err != nil && remote.KindOf(err) == remote.Corrupt
	switch {
	case err != nil && remote.KindOf(err) == remote.NotExist:
		return outcome{}
	case err == nil && !j.b.Caps().AtomicPut:
		torn, err = j.torn(ctx, e)
	}
	if torn {
		e, err = remote.Entry{}, j.b.below.Remove(ctx, j.path, remote.RemoveOptions{Type: remote.File})
	}
	return outcome{entry: e, err: err}
}

// torn tells whether a file of the server is one that whoever wrote it last has not brought to
// its end. Some servers tell that only who reads it.
func (j *job) torn(ctx context.Context, e remote.Entry) (bool, error) {
	if e.Type != remote.File {
		return false, nil
	}
	_, err := j.b.below.ReadAt(ctx, remote.Ref{Path: e.Path, Version: e.Version, Size: -1}, make([]byte, 1), 0)
	switch {
	case err == nil, errors.Is(err, io.EOF), remote.KindOf(err) == remote.NotExist, remote.KindOf(err) == remote.Changed:
		return false, nil
	case remote.KindOf(err) == remote.Corrupt:
		return true, nil
	}
	return false, err
}

// cleanTime bounds how long awaitClean waits.
const cleanTime = 5 * time.Second

// awaitClean waits for the end of the first attempts to remove what an earlier mount may have
// left torn: nobody has made it, so nobody is to see it. Guarded by store.mu.
func (b *Branch) awaitClean(ctx context.Context, concerned func(path string) bool) {
	if len(b.torn) == 0 {
		return
	}
	s := b.store
	ctx, cancel := context.WithTimeout(ctx, cleanTime)
	defer cancel()
	waits := func() bool {
		for c := range b.torn {
			if c.tries == 0 && (c.state == idle || c.state == running) && len(c.prev) == 0 && concerned(c.path) {
				return ctx.Err() == nil && s.started && !s.paused && !s.closed && b.pace.why == nil && !s.opts.Now().Before(b.pace.until)
			}
		}
		return false
	}
	defer context.AfterFunc(ctx, s.broadcast)()
	for waits() {
		s.wake.Wait()
	}
}

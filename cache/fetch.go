package cache

import (
	"cmp"
	"context"
	"errors"
	"io"
	"sync/atomic"

	"github.com/meshmount/meshmount/remote"
)

// unit is what is fetched once for all who want it: a block, or a piece of one.
type unit struct {
	key   Key
	piece int32 // number of the piece in the block, or whole
}

const whole = int32(-1)

// fetch is one request for neighbouring units. It goes on as long as somebody waits
// for it, whoever began it.
type fetch struct {
	ref    remote.Ref
	units  []*part // in order; their p is not used
	cancel context.CancelFunc
	// unwanted keeps the bytes out of the Store.
	unwanted atomic.Bool

	waiters int  // guarded by Cached.mu: parts that refer to it
	kept    bool // guarded by Cached.mu: run is over
	dead    bool

	done   chan struct{} // closed when data and err are there
	stored chan struct{} // closed when the Store has them too
	data   []byte
	err    error
	buf    []byte // of data; guarded by Cached.mu once run is over
	ticket *ticket
}

var errShortFile = errors.New("the file ends before its size")

// join gives each missing part a fetch, its own or one that is on its way.
func (c *Cached) join(ctx context.Context, ref remote.Ref, parts []*part) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var last *fetch // begun here, and not full
	for _, part := range parts {
		if part.n != missing {
			last = nil
			continue
		}
		if f := c.flights[part.unit]; f != nil && !f.dead {
			part.fetch, last = f, nil
		} else {
			last = c.add(ctx, ref, last, part)
			part.fetch = last
		}
		part.fetch.waiters++
	}
	for _, part := range parts {
		if f := part.fetch; f != nil && f.cancel == nil {
			c.begin(ctx, f)
		}
	}
}

// add puts a part into the fetch before it, if it continues that, or into a new one.
func (c *Cached) add(ctx context.Context, ref remote.Ref, f *fetch, p *part) *fetch {
	if f == nil || !f.continues(p, c.policy.MaxRequest) {
		f = &fetch{ref: ref, done: make(chan struct{}), stored: make(chan struct{})}
	}
	f.units = append(f.units, p)
	c.flights[p.unit] = f
	return f
}

func (f *fetch) end() int64 {
	last := f.units[len(f.units)-1]
	return last.at + int64(last.size)
}

func (f *fetch) size() int { return int(f.end() - f.units[0].at) }

func (f *fetch) continues(p *part, limit int) bool {
	first := f.units[0]
	return f.end() == p.at && (first.unit.piece == whole) == (p.unit.piece == whole) &&
		p.at+int64(p.size)-first.at <= int64(limit)
}

// begin starts a fetch. Its context has the values of the caller's, but not its end.
func (c *Cached) begin(ctx context.Context, f *fetch) {
	if c.closed {
		f.cancel, f.err = func() {}, context.Cause(c.ctx)
		for _, part := range f.units {
			delete(c.flights, part.unit)
		}
		close(f.done)
		close(f.stored)
		return
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(c.ctx, func() { cancel(context.Cause(c.ctx)) })
	f.cancel = func() { cancel(context.Canceled) }
	// Here, so that they enter in the order in which a read looks at them.
	f.ticket = c.store.gate.enter(int64(bufferSize(f.size())))
	c.fetches.Go(func() {
		defer stop()
		defer cancel(nil)
		c.run(ctx, f)
	})
}

// run reads and hands out the bytes, then keeps them.
func (c *Cached) run(ctx context.Context, f *fetch) {
	defer func() {
		c.mu.Lock()
		for _, part := range f.units {
			if c.flights[part.unit] == f {
				delete(c.flights, part.unit)
			}
		}
		f.kept = true
		c.recycle(f)
		c.mu.Unlock()
		close(f.stored)
	}()
	if err := c.store.gate.wait(ctx, f.ticket); err != nil {
		f.err = cmp.Or(remote.ContextErr(ctx), err)
		close(f.done)
		return
	}
	f.buf = c.store.buffers.get(f.size())
	buf := f.buf
	n, err := c.inner.ReadAt(ctx, f.ref, buf, f.units[0].at)
	c.store.gate.fetched()
	f.data = buf[:n]
	switch {
	case err != nil && err != io.EOF:
		f.data, f.err = nil, cmp.Or(remote.ContextErr(ctx), err)
	case n < len(buf) && f.ref.Size >= 0:
		f.data, f.err = nil, &remote.Error{Op: "read", Path: f.ref.Path, Kind: remote.Corrupt, Err: errShortFile}
	}
	close(f.done)
	if f.err == nil {
		c.keep(f)
	}
}

// recycle gives the memory of a fetch back once nobody looks at it any more. Called with
// Cached.mu held.
func (c *Cached) recycle(f *fetch) {
	if f.kept && f.waiters == 0 && f.buf != nil {
		c.store.buffers.put(f.buf)
		c.store.gate.release(f.ticket.n)
		f.buf, f.data = nil, nil
	}
}

// keep stores the units that came whole. A file of unknown size ends with a short one.
func (c *Cached) keep(f *fetch) {
	hint := c.policy.Hint(f.ref)
	for _, part := range f.units {
		data := f.bytes(part)
		if len(data) == 0 || f.unwanted.Load() {
			return
		}
		if part.unit.piece == whole {
			if c.store.Put(part.unit.key, data, hint) && f.unwanted.Load() {
				c.store.Drop(part.unit.key.Branch, part.unit.key.Object)
			}
			continue
		}
		c.mu.Lock()
		if c.flights[part.unit] == f {
			c.sparse.put(part.unit, data)
		}
		c.mu.Unlock()
	}
}

// bytes returns what came of a unit.
func (f *fetch) bytes(p *part) []byte {
	from := min(int(p.at-f.units[0].at), len(f.data))
	return f.data[from:min(from+p.size, len(f.data))]
}

// wait fills the part from its fetch.
func (p *part) wait(ctx context.Context) error {
	if err := p.await(ctx, p.fetch.done); err != nil {
		return err
	}
	data := p.fetch.bytes(p)
	p.n = copy(p.p, data[min(p.skip, len(data)):])
	return nil
}

// await waits for a fetch, or for the end of the caller's context.
func (p *part) await(ctx context.Context, on chan struct{}) error {
	select {
	case <-on:
		return p.fetch.err
	case <-ctx.Done():
		return remote.ContextErr(ctx)
	}
}

// leave ends the interest of parts in their fetches, and ends those that nobody wants.
func (c *Cached) leave(parts []*part) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, part := range parts {
		f := part.fetch
		if f == nil {
			continue
		}
		if f.waiters--; f.waiters > 0 {
			continue
		}
		c.recycle(f)
		select {
		case <-f.done: // has come: it is being kept
		default:
			f.dead = true
			f.cancel()
		}
	}
}

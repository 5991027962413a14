package prefetch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/meshmount/meshmount/remote"
)

// Defaults of Options.
const (
	DefaultStreams     = 8
	DefaultMaxRequest  = 4 << 20
	DefaultStartWindow = 1 << 20
	DefaultMaxWindow   = 32 << 20
)

// Bounds of a single request.
const (
	// minPiece is the least that is fetched ahead by one request, in bytes, except at
	// the end of what is wanted.
	minPiece = 128 << 10
	// page is what a request that somebody waits for is rounded to, in bytes.
	page = 4 << 10
)

// Source is where bytes come from: a remote.Backend, or a cache before one. ReadAt
// keeps the contract of remote.Backend.
type Source interface {
	ReadAt(ctx context.Context, ref remote.Ref, p []byte, off int64) (int, error)
}

// Local is a Source that has some of the bytes at hand, such as a cache. What is at hand
// is read from there without a piece of memory, and never fetched ahead.
type Local interface {
	Source
	// ReadLocal fills p, or as much of it as the file has from off, if that takes
	// neither a request nor a wait for one. Else ok is false and p may have been
	// written to.
	ReadLocal(ref remote.Ref, p []byte, off int64) (n int, ok bool)
	// HasLocal returns how many of the n bytes from off on are at hand, up to the
	// first that is not. It is a guess: they may be gone when they are read.
	HasLocal(ref remote.Ref, off, n int64) int64
}

// Options of a Prefetcher. All but Budget may be zero, which means the default.
type Options struct {
	// Budget is the memory, shared with the other branches.
	Budget *Budget
	// Streams is how many requests may be on the way ahead, over all readers.
	// Default DefaultStreams.
	Streams int
	// MaxRequest is the longest request in bytes, 128 KiB to 8 MiB. Default
	// DefaultMaxRequest.
	MaxRequest int64
	// StartWindow and MaxWindow bound how many bytes one reader is ahead. Defaults
	// DefaultStartWindow, DefaultMaxWindow.
	StartWindow, MaxWindow int64
}

// Validate fills in the defaults and returns all faults at once.
func (o *Options) Validate() error {
	fill(&o.Streams, DefaultStreams)
	fill(&o.MaxRequest, DefaultMaxRequest)
	fill(&o.MaxWindow, DefaultMaxWindow)
	fill(&o.StartWindow, min(DefaultStartWindow, o.MaxWindow))
	var faults []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf("prefetch: "+format, args...))
		}
	}
	check(o.Budget != nil, "no budget")
	check(o.Streams > 0, "%d streams", o.Streams)
	check(o.MaxRequest >= minPiece && o.MaxRequest <= largest,
		"requests of %d bytes, not %d to %d", o.MaxRequest, minPiece, largest)
	check(o.StartWindow > 0 && o.StartWindow <= o.MaxWindow,
		"a window that starts with %d bytes and ends with %d", o.StartWindow, o.MaxWindow)
	return errors.Join(faults...)
}

// fill gives a field that is zero its default.
func fill[T int | int64](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

// Prefetcher opens the readers of one branch. Its methods may be called from many
// goroutines.
type Prefetcher struct {
	opts    Options
	lanes   *Lanes
	learned atomic.Int64 // the largest window that a reader needed, in bytes
	streams atomic.Int64 // the number of requests at once that served the latest one best

	mu      sync.Mutex // guards everything below
	closed  bool
	readers map[*Reader]struct{}
}

// New returns a Prefetcher for one branch.
func New(opts Options) (*Prefetcher, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	return &Prefetcher{opts: opts, lanes: NewLanes(opts.Streams), readers: map[*Reader]struct{}{}}, nil
}

// Lanes returns the branch's lanes, for others who fetch from it.
func (p *Prefetcher) Lanes() *Lanes { return p.lanes }

// Open returns a reader of the version ref of a file of size bytes, -1 if unknown. It
// costs no request and no memory to speak of. The reader must be closed.
func (p *Prefetcher) Open(src Source, ref remote.Ref, size int64) *Reader {
	size = max(size, -1)
	ctx, cancel := context.WithCancel(context.Background())
	r := &Reader{
		p: p, src: src, ref: ref, ctx: ctx, cancel: cancel, size: size,
		window: newWindow(size, p.opts.StartWindow, p.opts.MaxWindow),
		climb:  newClimber(p.opts.Streams),
	}
	r.window.known = p.known(size)
	if n := p.streams.Load(); n > 0 {
		r.climb.n = int(n)
	}
	r.local, _ = src.(Local)
	r.account = p.opts.Budget.join(r.spare)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		r.closed = true
		r.account.leave()
		cancel()
		return r
	}
	p.readers[r] = struct{}{}
	return r
}

// learn takes note of a window that a reader needed, and of its requests at once.
func (p *Prefetcher) learn(window int64, streams int) {
	if window > 0 {
		p.streams.Store(int64(streams))
	}
	for {
		known := p.learned.Load()
		if window <= known || p.learned.CompareAndSwap(known, window) {
			return
		}
	}
}

// known returns the window with which a reader in a file of that size goes on once the
// first one was too small: what the path has shown to take to fill it, so that the next
// files need not find that out again, a round trip for each step.
func (p *Prefetcher) known(size int64) int64 {
	known := min(p.learned.Load()/4, p.opts.MaxWindow/4)
	if size >= 0 {
		known = min(known, size/4)
	}
	return known
}

// Close closes all readers and waits for their goroutines. Readers that are opened
// later are closed already.
func (p *Prefetcher) Close() error {
	p.mu.Lock()
	p.closed = true
	open := make([]*Reader, 0, len(p.readers))
	for r := range p.readers {
		open = append(open, r)
	}
	p.mu.Unlock()
	for _, r := range open {
		r.cancel()
	}
	for _, r := range open {
		_ = r.Close() // never fails
	}
	return nil
}

func (p *Prefetcher) forget(r *Reader) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.readers, r)
}

package webdav

import (
	"context"
	"crypto/x509"
	"errors"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// Backend is one collection on a WebDAV server. It is safe for concurrent use.
type Backend struct {
	opts   Options
	http   client
	wide   *wide // set by Dial if the server speaks HTTP/2, else nil
	auth   *authorizer
	noAuth *authorizer // for other hosts: has nothing to give away
	roots  *x509.CertPool
	origin string // of the root: where credentials may go

	// Set by Dial, constant afterwards.
	traits traits
	info   Info
	root   string // URL of the root collection, escaped, without trailing slash
	dir    string // path in it, unescaped, without trailing slash
	chunks chunkPlan
	tus    tusPlan
	bulk   bulkPlan
	packs  packPlan
	skew   time.Duration

	// Facts that may become weaker while the backend lives.
	noRanges    atomic.Bool
	noDeadProps atomic.Bool
	noDigest    atomic.Bool // Want-Digest is of no use
	sawHashTag  atomic.Bool // entity tags are hashes of the content

	noStreams   atomic.Bool // bodies of unknown length are refused or spoilt
	noPutRanges atomic.Bool // the same for parts of a file

	waits   patienceWith
	ranges  rangePlan
	streams chan struct{} // one for each body under way whose end is not known
	left    leftovers
	swept   sync.Map // places of unfinished uploads (string) that were looked at

	lanes chan struct{} // held by each request of a batch
	vast  vastDirs

	buffered atomic.Int64 // bytes of buffers that uploads hold

	witnesses witnesses
	foreseen  foreseen

	proofs  proofs
	refused atomic.Int64  // names left out of listings
	making  chan struct{} // held by the one Mkdir at a time, where that is needed

	life   context.Context // ends with Close
	end    context.CancelCauseFunc
	mu     sync.Mutex // guards closed, and calls.Add against calls.Wait
	closed bool
	calls  sync.WaitGroup

	cleanups sync.WaitGroup  // started by calls only
	cleaning context.Context // ends with Close, a little later than life
	stop     context.CancelFunc
}

var _ interface {
	remote.Backend
	remote.AttrSetter
	remote.AttrBatcher
	remote.Symlinker
	remote.Opener
	remote.Usager
	remote.Locator
	remote.GrowingPutter
	remote.Sweeper
	remote.Batcher
	remote.Bundler
	remote.Pruner
	remote.Foreseer
} = (*Backend)(nil)

var errClosed = &remote.Error{Op: "close", Kind: remote.BadHandle, Err: errors.New("the backend is closed")}

// newBackend returns a backend that knows nothing of its server yet.
func newBackend(o Options) (*Backend, error) {
	roots, err := certPool(o.CAFile)
	if err != nil {
		return nil, err
	}
	b := &Backend{
		opts: o, http: newClient(o, roots, true), roots: roots, origin: origin(o.URL),
		auth: newAuthorizer(o), noAuth: &authorizer{}, making: make(chan struct{}, 1),
		waits: usualPatience, ranges: usualRanges, left: leftovers{pause: sweepPause}, streams: make(chan struct{}, o.MaxConns/2),
		lanes: make(chan struct{}, max(1, o.MaxConns-o.MaxConns/16)),
	}
	b.foreseen.age = proofAge
	b.packs.turn, b.packs.idle = make(chan struct{}, 1), packIdle
	b.life, b.end = context.WithCancelCause(context.Background())
	b.cleaning, b.stop = context.WithCancel(context.Background())
	b.setRoot(o.URL.Path)
	return b, nil
}

// setRoot makes path, unescaped, the root collection.
func (b *Backend) setRoot(path string) {
	b.dir = strings.TrimRight(path, "/")
	b.root = b.opts.URL.Scheme + "://" + b.opts.URL.Host + escape(b.dir)
	b.info.Root = b.root + "/"
}

// Close implements remote.Backend.
func (b *Backend) Close() error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.end(errClosed)
	b.calls.Wait()
	grace := time.AfterFunc(cleanupWait, b.stop)
	b.cleanups.Wait()
	grace.Stop()
	b.stop()
	b.http.close()
	if b.wide != nil {
		b.wide.close()
	}
	return nil
}

// begin starts a call. Its context also ends with the backend; done must be called
// when the call is over.
func (b *Backend) begin(ctx context.Context, op, path string) (context.Context, *call, func(), error) {
	c := &call{b: b, op: op, path: path}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, nil, nil, c.fail(remote.BadHandle, nil)
	}
	if err := remote.ContextErr(ctx); err != nil {
		return nil, nil, nil, err
	}
	if err := remote.CheckPath(op, path); err != nil {
		return nil, nil, nil, err
	}
	b.calls.Add(1)
	ctx, release := b.bind(ctx)
	return ctx, c, func() { release(); b.calls.Done() }, nil
}

// bind returns a context that also ends with the backend.
func (b *Backend) bind(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(b.life, func() { cancel(errClosed) })
	return ctx, func() { stop(); cancel(nil) }
}

// beginChange adds to begin what changes need: a name that the server keeps as it is.
func (b *Backend) beginChange(ctx context.Context, op, path string) (context.Context, *call, func(), error) {
	ctx, c, done, err := b.begin(ctx, op, path)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := c.checkName(path); err != nil {
		done()
		return nil, nil, nil, err
	}
	return ctx, c, done, nil
}

// Caps implements remote.Backend.
func (b *Backend) Caps() remote.Caps {
	t := &b.traits
	keeps := b.keepsProps()
	return remote.Caps{
		Dialect:           t.name,
		AtomicPut:         t.atomicPut,
		Overwrite:         t.overwrite,
		Create:            t.create,
		RemoveGuard:       t.remove,
		Ranges:            t.ranges && !b.noRanges.Load(),
		PropagatesVersion: t.propagates,
		StoresMTime:       t.setTime || keeps,
		StoresMode:        keeps,
		StoresSymlinks:    keeps,
		TimeGranularity:   time.Second,
		MaxName:           t.maxName,
	}
}

// keepsProps tells whether the server keeps dead properties, as far as is known.
func (b *Backend) keepsProps() bool { return b.traits.deadProps && !b.noDeadProps.Load() }

// Warm has connections made, in the background, so that n requests at once need not
// wait for them: for callers that know of a burst a round trip before it begins. It costs
// no request. More than Options.MaxConns are never made; what nobody has used after ten
// seconds is closed. With HTTP/2 one connection does for all but large bodies.
func (b *Backend) Warm(n int) { b.http.dialer.warm(n) }

// Info returns what Dial found out.
func (b *Backend) Info() Info { return b.info }

// Stats counts what a Backend has met.
type Stats struct {
	RefusedNames int64 // entries left out of listings because of their names
}

// Stats returns the counters.
func (b *Backend) Stats() Stats { return Stats{RefusedNames: b.refused.Load()} }

// URL implements remote.Locator.
func (b *Backend) URL(path string) string { return b.root + escape(strings.TrimSuffix(path, "/")) }

// fileURL is the address of path without a trailing slash, dirURL with one.
func (b *Backend) fileURL(path string) string {
	if path == "/" {
		return b.root + "/"
	}
	return b.root + escape(path)
}

func (b *Backend) dirURL(path string) string {
	return strings.TrimSuffix(b.fileURL(path), "/") + "/"
}

// escape percent-encodes each name of a path.
func escape(path string) string {
	var s strings.Builder
	for i, name := range strings.Split(path, "/") {
		if i > 0 {
			s.WriteByte('/')
		}
		s.WriteString(url.PathEscape(name))
	}
	return s.String()
}

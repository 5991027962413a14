package irods

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// slowDials makes the next connections of a branch wait until release is called with what
// becomes of them, and counts them.
func slowDials(t *testing.T, b *Backend) (dials *atomic.Int32, release func(error)) {
	gate, outcome := make(chan struct{}), error(nil)
	release = func(err error) {
		outcome = err
		close(gate)
	}
	dials, inner := new(atomic.Int32), b.pool.dial
	b.pool.dial = func(ctx context.Context) (*session, error) {
		if dials.Add(1) > 2 {
			return inner(ctx)
		}
		select {
		case <-gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if outcome != nil {
			return nil, outcome
		}
		return inner(ctx)
	}
	return dials, release
}

// spares asks for n spare connections at once.
func spares(ctx context.Context, b *Backend, n int) (wait func() []*session) {
	got := make([]*session, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { got[i] = b.pool.spare(ctx, "") })
	}
	return func() []*session { all.Wait(); return got }
}

func claims(b *Backend) int {
	b.pool.mu.Lock()
	defer b.pool.mu.Unlock()
	return len(b.pool.claims)
}

// TestSpareWaitsForWarm wants connections that are being made already to be used instead of
// more of them.
func TestSpareWaitsForWarm(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	own := b.pool.spare(t.Context(), "")
	dials, release := slowDials(t, b)
	b.pool.warm(3)
	wait := spares(t.Context(), b, 2)
	eventually(t, "two claims", func() bool { return claims(b) == 2 })
	release(nil)
	for _, s := range append(wait(), own) {
		if s == nil {
			t.Fatal("there was no connection")
		}
		b.pool.put(s)
	}
	if dials.Load() != 2 || b.pool.count() != 3 {
		t.Errorf("%d connections were made, there are %d", dials.Load(), b.pool.count())
	}
}

// TestSpareGivesUpWarm cancels who waits for a connection: it is there for others. Calls that
// wait come first.
func TestSpareGivesUpWarm(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	own := b.pool.spare(t.Context(), "")
	dials, release := slowDials(t, b)
	b.pool.warm(3)
	ctx, cancel := context.WithCancel(t.Context())
	given, kept := spares(ctx, b, 1), stats(t.Context(), b, 1)
	eventually(t, "a claim and a call", func() bool { return claims(b) == 1 && waiting(b) == 1 })
	cancel()
	if s := given()[0]; s != nil {
		t.Error("a connection for who has given up")
	}
	release(nil)
	if err := errors.Join(kept()...); err != nil {
		t.Error(err)
	}
	b.pool.put(own)
	eventually(t, "three free connections", func() bool { return b.pool.count() == 3 && busy(b) == 0 })
	if dials.Load() != 2 {
		t.Errorf("%d connections were made", dials.Load())
	}
}

// TestSpareWithoutWarm has the connections that are being made fail: there is still the way
// to make one, unless the server has just refused.
func TestSpareWithoutWarm(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	own := b.pool.spare(t.Context(), "")
	defer b.pool.put(own)
	_, release := slowDials(t, b)
	b.pool.warm(3)
	wait := spares(t.Context(), b, 2)
	eventually(t, "two claims", func() bool { return claims(b) == 2 })
	release(errors.New("no more"))
	for _, s := range wait() {
		if s != nil {
			t.Error("a connection right after the server has refused some")
			b.pool.put(s)
		}
	}
	if n := claims(b); n != 0 {
		t.Errorf("%d claims are left", n)
	}
}

// TestFarWriteBegins writes content that grows to a server far away: it has three connections
// before more than a few pieces have gone, and makes no others.
func TestFarWriteBegins(t *testing.T) {
	z := startZone(t, zone.Options{})
	far := newLongWay(t, z.Addr(), 2*longDistance, 4<<20)
	opts := options(z, far.listener.Addr().String())
	opts.MaxConns = 8
	b := dialSmall(t, opts)
	stat(t, b, "/")
	src := &swell{Growth: &remotetest.Growth{}}
	data := content(40*testPiece, 5)
	g := newGate(z, wire.APIDataObjWrite, 0)
	src.Grow(data)
	done := putGrowing(t.Context(), b, "/f", src)
	g.await(t, farLanes)
	if n := b.pool.count(); n != farLanes {
		t.Errorf("%d connections, want %d", n, farLanes)
	}
	g.open(all)
	src.End(remote.Attrs{})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	wantObject(t, b, "/f", data)
}

// TestFill hires no more lanes than there are pieces.
func TestFill(t *testing.T) {
	c := crew{b: &Backend{piece: testPiece, pool: &pool{}}, dir: writes, hire: func() {}}
	c.lanes = newGrowth(8, lesson{}, 1<<30, 0, time.Now())
	c.lanes.expect(farLanes)
	c.begin()
	if c.fill(0); c.hired != 0 {
		t.Errorf("%d lanes for nothing", c.hired)
	}
	if c.fill(testPiece); c.hired != 1 {
		t.Errorf("%d lanes for one piece", c.hired)
	}
	if c.fill(1 << 30); c.hired != farLanes-1 {
		t.Errorf("%d lanes for many pieces", c.hired)
	}
}

// TestFarReadBegins reads the beginning of a large object far away, or parts of it at once:
// more connections are made while the first bytes come. A look at its header makes none.
func TestFarReadBegins(t *testing.T) {
	z := startZone(t, zone.Options{})
	const size = 4 * farLanes * pieceSize
	e := mustPut(t, dial(t, options(z, z.Addr())), "/f", content(size, 1), remote.PutOptions{})
	for name, c := range map[string]struct {
		offs  []int64
		len   int
		conns int
	}{
		"header":      {[]int64{0}, firstRead - 1, 1},
		"beginning":   {[]int64{0}, firstRead, farLanes},
		"middle":      {[]int64{pieceSize}, pieceSize, 1},
		"many pieces": {[]int64{pieceSize, 2 * pieceSize, 3 * pieceSize}, pieceSize, farLanes},
	} {
		t.Run(name, func(t *testing.T) {
			far := newLongWay(t, z.Addr(), 2*longDistance, 4<<20)
			opts := options(z, far.listener.Addr().String())
			opts.MaxConns = 8
			b := dial(t, opts)
			stat(t, b, "/")
			g := newGate(z, wire.APIDataObjRead, 0)
			var reads sync.WaitGroup
			for _, off := range c.offs {
				reads.Go(func() {
					if _, err := b.ReadAt(t.Context(), remote.Ref{Path: "/f", Version: e.Version, Size: e.Size}, make([]byte, c.len), off); err != nil {
						t.Error(err)
					}
				})
			}
			g.await(t, 1)
			eventually(t, "the connections", func() bool { return b.pool.count() >= c.conns })
			g.open(all)
			reads.Wait()
			if n := b.pool.count(); n != c.conns {
				t.Errorf("%d connections, want %d", n, c.conns)
			}
		})
	}
}

// TestLanePartsBehindPieces has a lane for which there are no more pieces: its closing goes out
// at once, behind what is still on its way, unless it may not leave yet.
func TestLanePartsBehindPieces(t *testing.T) {
	b := &Backend{piece: testPiece, pool: &pool{}, opts: Options{MaxConns: 4}}
	for name, c := range map[string]struct {
		first, loaded bool
		ended         int
		want          bool
	}{
		"no more pieces":     {false, true, 1, true},
		"the first lane":     {true, true, 1, false},
		"more may come":      {false, false, 1, false},
		"it may not leave":   {false, true, 0, false},
		"nobody has a piece": {false, false, 0, false},
	} {
		o := &sending{u: b.upload("put", "/f", fresh), pieces: make(chan chunk), crew: &crew{b: b}, all: c.loaded, ended: c.ended}
		o.soon, o.enough = context.WithCancel(t.Context())
		close(o.pieces)
		l := o.writer(nil, 7)
		l.first = c.first
		l.slots <- struct{}{} // a piece without an answer
		calls := l.next(t.Context())
		if got := len(calls) == 1 && calls[0].API == wire.APIReplicaClose; got != c.want || len(calls) > 1 {
			t.Errorf("%s: %d calls", name, len(calls))
		}
		if c.want && l.next(t.Context()) != nil {
			t.Errorf("%s: there was something to do after the closing", name)
		}
		o.enough()
	}
}

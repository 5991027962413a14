package prefetch

import (
	"context"
	"encoding/binary"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// sector is how often a simulated file shows where one is.
const sector = 512

// link is a path to a server in virtual time: a round trip, a bandwidth that all
// requests share, and a window per request. It must be used in a synctest bubble.
type link struct {
	rtt    time.Duration
	rate   float64 // bytes per second, shared
	window int64   // bytes per round trip of one request

	mu   sync.Mutex
	free time.Time // when the path has sent what was given to it
}

// chunk is how much the link sends of one request before it turns to the next.
const chunk = 64 << 10

// transfer waits as long as a request for n bytes takes.
func (l *link) transfer(ctx context.Context, n int64) error {
	if err := pause(ctx, l.rtt); err != nil {
		return err
	}
	own := time.Now()
	for ; n > 0; n -= chunk {
		part := min(n, chunk)
		l.mu.Lock()
		start := latest(time.Now(), l.free, own)
		l.free = start.Add(time.Duration(float64(part) / l.rate * 1e9))
		end := l.free
		l.mu.Unlock()
		if l.window > 0 {
			own = start.Add(time.Duration(float64(part) / float64(l.window) * float64(l.rtt)))
		}
		if err := pause(ctx, time.Until(end)); err != nil {
			return err
		}
	}
	return nil
}

func latest(times ...time.Time) time.Time {
	var last time.Time
	for _, t := range times {
		if t.After(last) {
			last = t
		}
	}
	return last
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return remote.ContextErr(ctx)
	}
}

// simFile is a Source: one file behind a link, every sector of which begins with its
// own number. It counts what was asked for.
type simFile struct {
	link *link
	size int64
	// fail, if set, may answer a request with an error.
	fail func(number, off, n int64) error

	requests, bytes atomic.Int64
	now, most       atomic.Int64 // requests on the way
}

func (f *simFile) ReadAt(ctx context.Context, _ remote.Ref, p []byte, off int64) (int, error) {
	number := f.requests.Add(1)
	f.bytes.Add(int64(len(p)))
	now := f.now.Add(1)
	defer f.now.Add(-1)
	for most := f.most.Load(); now > most && !f.most.CompareAndSwap(most, now); most = f.most.Load() {
	}
	n := max(min(int64(len(p)), f.size-off), 0)
	if f.link != nil {
		if err := f.link.transfer(ctx, n); err != nil {
			return 0, err
		}
	}
	if f.fail != nil {
		if err := f.fail(number, off, int64(len(p))); err != nil {
			return 0, err
		}
	}
	stamp(p[:n], off)
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

// stamp writes the sectors' numbers into p, which lies at off, and of one that is cut by
// an end of p the part that is in it.
func stamp(p []byte, off int64) {
	for i := -(off % sector); i < int64(len(p)); i += sector {
		var number [8]byte
		binary.LittleEndian.PutUint64(number[:], uint64((off+i)/sector))
		if i+8 > 0 {
			copy(p[max(i, 0):], number[max(-i, 0):])
		}
	}
}

// check tells whether p is what lies at off.
func check(t *testing.T, p []byte, off int64) {
	t.Helper()
	for i := (sector - off%sector) % sector; i+8 <= int64(len(p)); i += sector {
		if got, want := binary.LittleEndian.Uint64(p[i:]), uint64((off+i)/sector); got != want {
			t.Fatalf("at %d: sector %d, want %d", off+i, got, want)
		}
	}
}

// wan is the path of the benchmark: 50 ms, 1.2 Gbit/s, 4 MiB per connection.
func wan() *link { return &link{rtt: 50 * time.Millisecond, rate: 150e6, window: 4 << 20} }

// newPrefetcher returns a Prefetcher with a budget of its own, which is closed and
// checked at the end of the test.
func newPrefetcher(t *testing.T, budget int64, opts Options) *Prefetcher {
	t.Helper()
	opts.Budget = NewBudget(budget)
	p, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { settled(t, p) })
	return p
}

// open returns a reader of f with a Prefetcher of its own.
func open(t *testing.T, f *simFile, budget int64, opts Options) *Reader {
	t.Helper()
	p := newPrefetcher(t, budget, opts)
	return p.Open(f, remote.Ref{Path: "/f", Version: "1", Size: f.size}, f.size)
}

// settled closes p and checks that nothing is left.
func settled(t *testing.T, p *Prefetcher) {
	t.Helper()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	s := p.opts.Budget.Stats()
	if s.Used != 0 || s.Readers != 0 || s.Most > s.Limit || s.Kept > s.Limit {
		t.Errorf("after Close: %+v", s)
	}
	if l := p.lanes; l.busy != 0 || l.users != 0 || len(l.queue) != 0 || len(l.demands) != 0 {
		t.Errorf("after Close: %d lanes busy, %d users, %d and %d waiting", l.busy, l.users, len(l.queue), len(l.demands))
	}
}

// readAll reads the stretch with requests of the given length, one after the other.
func readAll(t *testing.T, r *Reader, from, to int64, length int) {
	t.Helper()
	buf := make([]byte, length)
	for off := from; off < to; {
		n, err := r.ReadAt(t.Context(), buf, off)
		if err != nil && err != io.EOF || n == 0 {
			t.Fatalf("read at %d: %d bytes, %v", off, n, err)
		}
		check(t, buf[:n], off)
		off += int64(n)
	}
}

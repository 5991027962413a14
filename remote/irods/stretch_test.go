package irods

import (
	"bytes"
	"context"
	"sync"
	"testing"

	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// ranges is the reading of all pieces of an object, each in a goroutine of its own.
type ranges struct {
	data   []byte
	faults []error
	wait   func()
}

// readRanges begins to read an object piece by piece.
func readRanges(ctx context.Context, b *Backend, e remote.Entry) *ranges {
	n := int(e.Size) / b.piece
	r := &ranges{data: make([]byte, n*b.piece), faults: make([]error, n)}
	var tasks sync.WaitGroup
	for i := range n {
		tasks.Go(func() {
			off := i * b.piece
			_, r.faults[i] = b.ReadAt(ctx, refOf(e), r.data[off:off+b.piece], int64(off))
		})
	}
	r.wait = tasks.Wait
	return r
}

func (r *ranges) want(t testing.TB, data []byte) {
	t.Helper()
	r.wait()
	for i, err := range r.faults {
		if err != nil {
			t.Errorf("piece %d: %v", i, err)
		}
	}
	if !bytes.Equal(r.data, data[:len(r.data)]) {
		t.Error("the bytes are not those of the object")
	}
}

// large makes an object of some pieces and a bit, and a client with one connection.
func large(t testing.TB, pieces int) (*zone.Zone, *Backend, remote.Entry, []byte) {
	t.Helper()
	z, b, _ := onOne(t, 0)
	b.piece = testPiece
	data := content(pieces*testPiece+9, 5)
	return z, b, mustPut(t, dial(t, options(z, z.Addr())), "/large", data, fresh), data
}

// TestRangesShare reads many ranges of an object on one connection, several at a time.
func TestRangesShare(t *testing.T) {
	z, b, e, data := large(t, 2*laneDepth)
	before := z.Calls()[wire.APIDataObjOpen]
	g := newGate(z, wire.APIDataObjRead, 0)
	r := readRanges(t.Context(), b, e)
	eventually(t, "the sharing of a connection", func() bool { return onTheirWay(b) == laneDepth })
	g.open(all)
	r.want(t, data)
	if n := z.Calls()[wire.APIDataObjOpen] - before; n != 1 || b.pool.count() != 1 {
		t.Errorf("it was opened %d times, on %d connections", n, b.pool.count())
	}
}

// TestRangesLong reads what takes two pieces in one call.
func TestRangesLong(t *testing.T) {
	_, b, e, data := large(t, 3)
	p := make([]byte, 2*testPiece)
	for _, off := range []int{0, 5, testPiece + 9} {
		if n, err := b.ReadAt(t.Context(), refOf(e), p, int64(off)); err != nil || !bytes.Equal(p[:n], data[off:off+len(p)]) {
			t.Errorf("at %d: %d bytes, %v", off, n, err)
		}
	}
}

// TestRangesCancelled cancels a read whose bytes do not come. The others on the
// connection come another way, and its buffer is the caller's again.
func TestRangesCancelled(t *testing.T) {
	z, b, e, data := large(t, 3)
	g := newGate(z, wire.APIDataObjRead, 0)
	ctx, cancel := context.WithCancel(t.Context())
	p := make([]byte, testPiece)
	gone := make(chan error)
	go func() {
		_, err := b.ReadAt(ctx, refOf(e), p, 7)
		gone <- err
	}()
	g.await(t, 1)
	r := readRanges(t.Context(), b, e)
	eventually(t, "the others", func() bool { return onTheirWay(b) == 4 })
	cancel()
	if err := <-gone; err != context.Canceled {
		t.Errorf("the cancelled one: %v", err)
	}
	clear(p) // a race if somebody still writes to it
	g.open(all)
	r.want(t, data)
}

// TestRangesBroken loses the connection while ranges are under way.
func TestRangesBroken(t *testing.T) {
	z, b, e, data := large(t, 5)
	var mu sync.Mutex
	reads := 0
	z.SetFaults(func(c zone.Call) *zone.Fault {
		mu.Lock()
		defer mu.Unlock()
		if c.API == wire.APIDataObjRead {
			reads++
		}
		return &zone.Fault{Kill: c.API == wire.APIDataObjRead && reads == 2}
	})
	readRanges(t.Context(), b, e).want(t, data)
}

// TestRangesRefused reads ranges that the server refuses among others.
func TestRangesRefused(t *testing.T) {
	z, b, e, data := large(t, 4)
	put(t, b, "/locked", "content", fresh)
	locked := stat(t, b, "/locked")
	connect(t, z, "alice").open(b.full("/locked"), wire.OpenWriteOnly)
	for range 3 {
		var tasks sync.WaitGroup
		for range 3 {
			tasks.Go(func() {
				_, err := b.ReadAt(t.Context(), refOf(locked), make([]byte, 3), 1)
				wantKind(t, err, remote.Locked, "a range of a locked object")
			})
		}
		readRanges(t.Context(), b, e).want(t, data)
		tasks.Wait()
	}
	if !b.guesses() {
		t.Error("the refusal was taken for another numbering")
	}
}

// TestRangesChanged overwrites an object in place while its ranges are read from an open
// descriptor: the old version is refused, whatever bytes come.
func TestRangesChanged(t *testing.T) {
	z, b, e, _ := large(t, 4)
	p := make([]byte, 100)
	if _, err := b.ReadAt(t.Context(), refOf(e), p, 9); err != nil {
		t.Fatal(err)
	}
	other := content(4*testPiece+9, 6)
	now := mustPut(t, dialSmall(t, options(z, z.Addr())), "/large", other, remote.PutOptions{})
	r := readRanges(t.Context(), b, e)
	r.wait()
	for i, err := range r.faults {
		wantKind(t, err, remote.Changed, "piece %d of the old version", i)
	}
	readRanges(t.Context(), b, now).want(t, other)
}

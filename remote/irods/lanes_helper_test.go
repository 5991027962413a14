package irods

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// testPiece is the size of the pieces in tests, in bytes.
const testPiece = 64 << 10

// dialSmall returns a client that takes what is larger than a testPiece for large.
func dialSmall(t testing.TB, opts Options) *Backend {
	t.Helper()
	b := dial(t, opts)
	b.piece = testPiece
	return b
}

// useLanes makes the next transfers begin with so many lanes.
func useLanes(b *Backend, lanes int) {
	x := lesson{lanes: lanes, rate: 1, stop: time.Now().Add(time.Hour), until: time.Now().Add(time.Hour)}
	b.lessons.mu.Lock()
	defer b.lessons.mu.Unlock()
	b.lessons.read, b.lessons.write = x, x
}

// testPatience bounds what tests wait for.
const testPatience = 4 * time.Minute

// gate holds calls of one API back. The zone asks it in the goroutine of each call.
type gate struct {
	api     int
	mu      sync.Mutex
	free    int           // calls that may pass
	blocked int           // calls that wait now
	change  chan struct{} // closed at each change
}

// newGate lets the first free calls of an API pass.
func newGate(z *zone.Zone, api, free int) *gate {
	g := &gate{api: api, free: free, change: make(chan struct{})}
	z.SetFaults(func(c zone.Call) *zone.Fault {
		if c.API == g.api {
			g.pass()
		}
		return nil
	})
	return g
}

func (g *gate) pass() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.blocked++
	g.changed()
	for g.free <= 0 && g.wait() {
	}
	g.free--
	g.blocked--
	g.changed()
}

// changed and wait are guarded by mu.
func (g *gate) changed() {
	close(g.change)
	g.change = make(chan struct{})
}

// wait is false if nothing has changed for long.
func (g *gate) wait() bool {
	change := g.change
	g.mu.Unlock()
	defer g.mu.Lock()
	select {
	case <-change:
		return true
	case <-time.After(testPatience):
		return false
	}
}

// open lets n more calls pass.
func (g *gate) open(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.free += n
	g.changed()
}

// await waits until n calls are blocked.
func (g *gate) await(t testing.TB, n int) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.blocked < n || g.free > 0 {
		if !g.wait() {
			t.Fatalf("%d calls of %s wait, want %d", g.blocked, wire.APIName(g.api), n)
		}
	}
}

// all is more calls than any test makes.
const all = 1 << 30

// eventually waits until f is true.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for begin := time.Now(); !f(); time.Sleep(time.Millisecond) {
		if time.Since(begin) > testPatience {
			t.Fatalf("%s did not happen", what)
		}
	}
}

// countedSource tells how far it was read.
type countedSource struct {
	data []byte
	read atomic.Int64
}

func (s *countedSource) Size() int64 { return int64(len(s.data)) }
func (s *countedSource) Open() (io.ReadCloser, error) {
	s.read.Store(0)
	return io.NopCloser(&countedReader{s, bytes.NewReader(s.data)}), nil
}

type countedReader struct {
	s *countedSource
	r io.Reader
}

func (r *countedReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.s.read.Add(int64(n))
	return n, err
}

// content returns n bytes that differ from piece to piece and from seed to seed.
func content(n int, seed byte) []byte {
	const period = 1<<12 + 9
	p := make([]byte, n)
	copy(p, remotetest.Pattern(min(n, period), seed))
	for done := period; done < n; done *= 2 {
		copy(p[done:], p[:done])
	}
	return p
}

// mustPut stores data.
func mustPut(t testing.TB, b *Backend, path string, data []byte, opts remote.PutOptions) remote.Entry {
	t.Helper()
	e, err := b.Put(t.Context(), path, remotetest.Bytes(data), opts)
	if err != nil {
		t.Fatalf("put %s: %v", path, err)
	}
	return e
}

// readAll reads a whole object by one call.
func readAll(ctx context.Context, b *Backend, e remote.Entry) ([]byte, error) {
	p := make([]byte, e.Size)
	n, err := b.ReadAt(ctx, remote.Ref{Path: e.Path, Version: e.Version, Size: e.Size}, p, 0)
	if err == io.EOF && n == len(p) {
		err = nil
	}
	return p[:n], err
}

// streamAll reads a whole object as a stream.
func streamAll(ctx context.Context, b *Backend, e remote.Entry) ([]byte, error) {
	r, err := b.Open(ctx, remote.Ref{Path: e.Path, Version: e.Version, Size: e.Size})
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	return data, errors.Join(err, r.Close())
}

// wantObject checks that both ways of reading give data.
func wantObject(t testing.TB, b *Backend, path string, data []byte) remote.Entry {
	t.Helper()
	e, err := b.Stat(t.Context(), path)
	if err != nil {
		t.Fatalf("stat %s: %v", path, err)
	}
	if e.Size != int64(len(data)) {
		t.Fatalf("%s has %d bytes, want %d", path, e.Size, len(data))
	}
	for what, read := range map[string]func(context.Context, *Backend, remote.Entry) ([]byte, error){"read": readAll, "stream": streamAll} {
		got, err := read(t.Context(), b, e)
		if err != nil {
			t.Errorf("%s %s: %v", what, path, err)
		} else if !bytes.Equal(got, data) {
			t.Errorf("%s %s: %d bytes that differ from what was written", what, path, len(got))
		}
	}
	return e
}

// putBare stores an object without a checksum, as other programs do.
func putBare(t testing.TB, b *Backend, path string, data []byte) remote.Entry {
	t.Helper()
	err := b.do(t.Context(), "put", path, true, func(s *session) error {
		in := b.createInput(b.full(path), int64(len(data)), 0o644)
		in.Cond = nil
		reply, err := s.conn.Call(t.Context(), &wire.Call{API: wire.APIDataObjCreate, In: in})
		if err != nil {
			return err
		}
		for off := 0; off < len(data); off += testPiece {
			if _, err := s.conn.Call(t.Context(), writeCall(reply.Status, data[off:min(off+testPiece, len(data))])); err != nil {
				return err
			}
		}
		_, err = s.conn.Call(t.Context(), closeCall(reply.Status))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	e, err := b.Stat(t.Context(), path)
	if err != nil || e.Checksum.Hex != "" {
		t.Fatalf("%+v, error %v: want an object without checksum", e, err)
	}
	return e
}

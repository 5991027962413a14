package irods

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// readLaneGate holds all reads but the first back until so many lanes have opened the
// object; then it lets everything pass.
func readLaneGate(z *zone.Zone, lanes int) {
	g := newGate(z, wire.APIDataObjRead, 1)
	opens := make(chan struct{}, 100)
	z.SetFaults(func(c zone.Call) *zone.Fault {
		switch c.API {
		case wire.APIDataObjOpen:
			opens <- struct{}{}
			if len(opens) == lanes {
				g.open(all)
			}
		case wire.APIDataObjRead:
			g.pass()
		}
		return nil
	})
}

// TestReadWithLanes reads stretches of all kinds with three lanes.
func TestReadWithLanes(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dialSmall(t, options(z, z.Addr()))
	const p = testPiece
	data := content(7*p+123, 5)
	e := mustPut(t, dialSmall(t, options(z, z.Addr())), "/f", data, remote.PutOptions{})
	bare := putBare(t, b, "/bare", data)
	for _, c := range []struct{ off, n int }{
		{0, len(data)}, {0, len(data) + 1}, {0, 2*p + 1}, {1, 3 * p}, {p - 1, 2*p + 2}, {4 * p, 9 * p}, {5*p + 124, 2*p + 5}, {7 * p, 3 * p}, {len(data), 3 * p},
	} {
		for _, ref := range []remote.Ref{
			{Path: "/f", Version: e.Version, Size: e.Size}, {Path: "/f", Size: -1}, {Path: "/bare", Version: bare.Version, Size: -1},
		} {
			useLanes(b, 3)
			want := data[c.off:min(c.off+c.n, len(data))]
			buf := bytes.Repeat([]byte{0xAA}, c.n+1)
			n, err := b.ReadAt(t.Context(), ref, buf[:c.n], int64(c.off))
			if wantErr := c.n > len(want); (err == io.EOF) != wantErr || err != nil && err != io.EOF {
				t.Errorf("%d at %d of %+v: error %v", c.n, c.off, ref, err)
			}
			if !bytes.Equal(buf[:n], want) || buf[c.n] != 0xAA {
				t.Errorf("%d at %d of %+v: %d bytes that are wrong", c.n, c.off, ref, n)
			}
		}
	}
}

// TestReadUsesLanes wants the lanes to be used and, of an object without checksum, a
// stretch to be proved by one question.
func TestReadUsesLanes(t *testing.T) {
	z := startZone(t, zone.Options{})
	data := content(8*testPiece, 5)
	bare := putBare(t, dialSmall(t, options(z, z.Addr())), "/f", data)
	for _, stream := range []bool{false, true} {
		b := dialSmall(t, options(z, z.Addr()))
		useLanes(b, 3)
		readLaneGate(z, 3)
		z.ResetCalls()
		read, questions := readAll, 1
		if stream {
			read, questions = streamAll, 8
		}
		got, err := read(t.Context(), b, bare)
		z.SetFaults(nil)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("stream %v: %d bytes, error %v", stream, len(got), err)
		}
		calls := z.Calls()
		if calls[wire.APIDataObjOpen] != 3 || calls[wire.APIDataObjRead] != 8 || calls[wire.APIGenQuery] != questions {
			t.Errorf("stream %v: calls %v, want 3 opens, 8 reads and %d questions", stream, calls, questions)
		}
	}
}

// TestStreamBound wants no more pieces to be read ahead than there are lanes, and one;
// and the pool to have all connections meanwhile.
func TestStreamBound(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dialSmall(t, options(z, z.Addr()))
	const lanes = 3
	data := content(12*testPiece, 5)
	e := mustPut(t, b, "/f", data, remote.PutOptions{})
	useLanes(b, lanes)
	readLaneGate(z, lanes)
	z.ResetCalls()
	r, err := b.Open(t.Context(), remote.Ref{Path: "/f", Version: e.Version, Size: e.Size})
	if err != nil {
		t.Fatal(err)
	}
	begin := make([]byte, testPiece+1) // one piece is used up, the next one is not
	if _, err := io.ReadFull(r, begin); err != nil {
		t.Fatal(err)
	}
	const most = 1 + lanes + 1
	eventually(t, "the reading ahead", func() bool { return z.Calls()[wire.APIDataObjRead] == most })
	time.Sleep(100 * time.Millisecond)
	if n := z.Calls()[wire.APIDataObjRead]; n > most {
		t.Errorf("%d pieces were read with one used up and %d lanes", n, lanes)
	}
	eventually(t, "the giving back of the connections", func() bool {
		b.pool.mu.Lock()
		defer b.pool.mu.Unlock()
		return len(b.pool.busy) == 0
	})
	rest, err := io.ReadAll(r)
	if got := append(begin, rest...); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, error %v", len(got), err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, remote.BadHandle) {
		t.Errorf("read of a closed stream: %v", err)
	}
}

// TestStreamEnds ends streams in the middle in all ways, and wants no goroutine to stay.
func TestStreamEnds(t *testing.T) {
	z := startZone(t, zone.Options{})
	setup := dialSmall(t, options(z, z.Addr()))
	e := mustPut(t, setup, "/f", content(10*testPiece, 5), remote.PutOptions{})
	ref := remote.Ref{Path: "/f", Version: e.Version, Size: e.Size}
	before := runtime.NumGoroutine()
	for what, end := range map[string]func(b *Backend, cancel func(), r io.ReadCloser) error{
		"close": func(_ *Backend, _ func(), r io.ReadCloser) error { return r.Close() },
		"cancel": func(_ *Backend, cancel func(), r io.ReadCloser) error {
			cancel()
			if _, err := io.Copy(io.Discard, r); !errors.Is(err, context.Canceled) {
				return fmt.Errorf("read after the end of the context: %w", err)
			}
			return r.Close()
		},
		"close of the branch": func(b *Backend, _ func(), r io.ReadCloser) error {
			err := b.Close()
			if _, err := io.Copy(io.Discard, r); !errors.Is(err, remote.BadHandle) {
				return fmt.Errorf("read after the end of the branch: %w", err)
			}
			return err // and the stream is never closed
		},
	} {
		for _, stalled := range []bool{false, true} {
			b := dialSmall(t, options(z, z.Addr()))
			useLanes(b, 3)
			ctx, cancel := context.WithCancel(t.Context())
			r, err := b.Open(ctx, ref)
			if err == nil {
				_, err = io.ReadFull(r, make([]byte, testPiece+1))
			}
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			g := newGate(z, wire.APIDataObjRead, 0)
			if !stalled {
				g.open(all)
			}
			if err := end(b, cancel, r); err != nil {
				t.Errorf("%s, stalled %v: %v", what, stalled, err)
			}
			g.open(all)
			cancel()
			_ = b.Close()
			z.SetFaults(nil)
		}
	}
	eventually(t, "the end of all goroutines", func() bool { return runtime.NumGoroutine() <= before })
}

// TestStreamOfChange overwrites an object while it is read as a stream. Every byte that
// comes is of the wanted version, or the end does not come.
func TestStreamOfChange(t *testing.T) {
	z := startZone(t, zone.Options{})
	b, other := dialSmall(t, options(z, z.Addr())), dialSmall(t, options(z, z.Addr()))
	old := content(10*testPiece, 1)
	for _, bare := range []bool{false, true} {
		for _, size := range []int{10 * testPiece, 5 * testPiece, 11 * testPiece} {
			what := fmt.Sprintf("bare %v, %d bytes", bare, size)
			path := fmt.Sprintf("/f%v%d", bare, size)
			var e remote.Entry
			if bare {
				e = putBare(t, b, path, old)
			} else {
				e = mustPut(t, b, path, old, remote.PutOptions{})
			}
			useLanes(b, 3)
			r, err := b.Open(t.Context(), remote.Ref{Path: path, Version: e.Version, Size: e.Size})
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, testPiece)
			if _, err := io.ReadFull(r, got); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			when := e.MTime.Add(10 * time.Second)
			mustPut(t, other, path, content(size, 2), remote.PutOptions{Attrs: remote.Attrs{MTime: &when}})
			rest, err := io.ReadAll(r)
			if !errors.Is(err, remote.Changed) {
				t.Errorf("%s: the stream ends with %v after %d bytes, want Changed", what, err, len(got)+len(rest))
			}
			if n := len(got) + len(rest); n >= len(old) {
				t.Errorf("%s: all of %d bytes came", what, n)
			}
			if got = append(got, rest...); bare && !bytes.Equal(got, old[:len(got)]) {
				t.Errorf("%s: bytes came that nothing has proved", what)
			}
			_ = r.Close()
			if n, err := b.ReadAt(t.Context(), remote.Ref{Path: path, Version: e.Version, Size: e.Size}, make([]byte, len(old)), 0); !errors.Is(err, remote.Changed) || n > 0 {
				t.Errorf("%s: read of all gives %d bytes and %v, want Changed", what, n, err)
			}
		}
	}
}

// TestReadOfChange overwrites an object between the pieces of a large read.
func TestReadOfChange(t *testing.T) {
	z := startZone(t, zone.Options{})
	b, other := dialSmall(t, options(z, z.Addr())), dialSmall(t, options(z, z.Addr()))
	for _, lanes := range []int{1, 3} {
		path := fmt.Sprintf("/f%d", lanes)
		e := putBare(t, b, path, content(10*testPiece, 1))
		useLanes(b, lanes)
		reads := newGate(z, wire.APIDataObjRead, 4)
		done := make(chan error, 1)
		var n int
		go func() {
			var err error
			n, err = b.ReadAt(t.Context(), remote.Ref{Path: path, Version: e.Version, Size: e.Size}, make([]byte, e.Size), 0)
			done <- err
		}()
		reads.await(t, lanes)
		when := e.MTime.Add(10 * time.Second)
		mustPut(t, other, path, content(10*testPiece, 2), remote.PutOptions{Attrs: remote.Attrs{MTime: &when}})
		reads.open(all)
		if err := <-done; !errors.Is(err, remote.Changed) || n != 0 {
			t.Errorf("%d lanes: %d bytes and %v, want Changed", lanes, n, err)
		}
		z.SetFaults(nil)
	}
}

// TestStreamOfRot has bytes on the server's disk that are not those of the checksum.
func TestStreamOfRot(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dialSmall(t, options(z, z.Addr()))
	data := content(6*testPiece, 1)
	e := mustPut(t, b, "/f", data, remote.PutOptions{})
	rot(t, data)
	useLanes(b, 3)
	got, err := streamAll(t.Context(), b, e)
	if !errors.Is(err, remote.Corrupt) || len(got) > 5*testPiece {
		t.Errorf("%d bytes and %v, want Corrupt and not the last piece", len(got), err)
	}
}

// rot changes a byte in the middle of the file of the test that holds data.
func rot(t *testing.T, data []byte) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(filepath.Dir(t.TempDir()), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		held, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(held, data) {
			return err
		}
		files++
		held[len(held)/2] ^= 1
		return os.WriteFile(path, held, 0o600)
	})
	if err != nil || files != 1 {
		t.Fatalf("%d files hold the object, error %v", files, err)
	}
}

// TestReadBreaks breaks things at random moments of reads with several lanes. There are
// the right bytes or an error, and the next read works.
func TestReadBreaks(t *testing.T) {
	z := startZone(t, zone.Options{})
	proxy := remotetest.NewProxy(t, z.Addr())
	b := dialSmall(t, options(z, proxy.Addr()))
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 1))
	data := content(7*testPiece+5, 1)
	list := []remote.Entry{mustPut(t, b, "/f", data, remote.PutOptions{}), putBare(t, b, "/bare", data)}
	whole := 0
	for i := range breakRounds() {
		e, read := list[i%2], readAll
		if i%4 >= 2 {
			read = streamAll
		}
		useLanes(b, 3)
		ctx, stop := context.WithCancel(t.Context())
		k := &breaker{z: z, proxy: proxy, rnd: rnd, stop: stop}
		what := fmt.Sprintf("seed %d, round %d, %s", seed, i, k.arm(16, len(data)))
		got, err := read(ctx, b, e)
		stop()
		k.disarm()
		if err == nil {
			whole++
		}
		if err == nil && !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes that are wrong", what, len(got))
		}
		if len(got) > len(data) || !bytes.Equal(got, data[:len(got)]) {
			t.Errorf("%s (%v): %d bytes came that are wrong", what, err, len(got))
		}
		err = insist(func() error { got, err = read(t.Context(), b, e); return err })
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: the next read gives %d bytes and %v", what, len(got), err)
		}
	}
	t.Logf("%d of %d reads have come to the end", whole, breakRounds())
}

// TestReadSurvivesLane kills a further lane, which the first one makes up for.
func TestReadSurvivesLane(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dialSmall(t, options(z, z.Addr()))
	data := content(8*testPiece, 1)
	e := mustPut(t, b, "/f", data, remote.PutOptions{})
	for _, read := range []func(context.Context, *Backend, remote.Entry) ([]byte, error){readAll, streamAll} {
		useLanes(b, 2)
		opens := 0
		g := newGate(z, wire.APIDataObjRead, 1)
		z.SetFaults(func(c zone.Call) *zone.Fault {
			switch c.API {
			case wire.APIDataObjRead:
				g.pass()
			case wire.APIDataObjOpen:
				g.mu.Lock()
				opens++
				second := opens == 2
				g.mu.Unlock()
				if second {
					g.open(all)
					return &zone.Fault{Kill: true}
				}
			}
			return nil
		})
		if got, err := read(t.Context(), b, e); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes and %v", len(got), err)
		}
		z.SetFaults(nil)
		if opens < 2 {
			t.Errorf("%d lanes", opens)
		}
		z.KillAgents() // no connection has the object open now
		eventually(t, "the end of the connections", func() bool { return z.Agents() == 0 })
	}
}

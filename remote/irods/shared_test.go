package irods

import (
	"context"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// onOne returns a client with one connection, and n small objects.
func onOne(t testing.TB, n int) (*zone.Zone, *Backend, []remote.Entry) {
	t.Helper()
	z := startZone(t, zone.Options{})
	maker := dial(t, options(z, z.Addr()))
	list := make([]remote.Entry, n)
	for i := range list {
		list[i] = put(t, maker, fmt.Sprintf("/f%d", i), fmt.Sprintf("content of %d", i), fresh)
	}
	opts := options(z, z.Addr())
	opts.MaxConns = 1
	b := dial(t, opts)
	return z, b, list
}

func refOf(e remote.Entry) remote.Ref {
	return remote.Ref{Path: e.Path, Version: e.Version, Size: e.Size}
}

// readSmalls reads each object in a goroutine of its own.
func readSmalls(ctx context.Context, b *Backend, list []remote.Entry) (texts []string, faults []error, wait func()) {
	texts, faults = make([]string, len(list)), make([]error, len(list))
	var tasks sync.WaitGroup
	for i, e := range list {
		tasks.Go(func() {
			p, err := readAll(ctx, b, e)
			texts[i], faults[i] = string(p), err
		})
	}
	return texts, faults, tasks.Wait
}

func wantSmalls(t testing.TB, texts []string, faults []error) {
	t.Helper()
	for i := range texts {
		if want := fmt.Sprintf("content of %d", i); faults[i] != nil || texts[i] != want {
			t.Errorf("object %d: %q, %v", i, texts[i], faults[i])
		}
	}
}

// onTheirWay returns how many small objects are under way.
func onTheirWay(b *Backend) int {
	b.shared.mu.Lock()
	defer b.shared.mu.Unlock()
	return b.shared.flight
}

// TestSmallsShare reads many objects on one connection, which carries several at a time.
func TestSmallsShare(t *testing.T) {
	z, b, list := onOne(t, 3*laneDepth)
	g := newGate(z, wire.APIDataObjOpen, 0)
	texts, faults, wait := readSmalls(t.Context(), b, list)
	eventually(t, "the sharing of a connection", func() bool { return onTheirWay(b) == laneDepth })
	g.open(all)
	wait()
	wantSmalls(t, texts, faults)
	if n := b.pool.count(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestSmallsSpread sees that a connection that is free takes a part.
func TestSmallsSpread(t *testing.T) {
	z, _, list := onOne(t, 4)
	opts := options(z, z.Addr())
	opts.MaxConns = 2
	b := dial(t, opts)
	held, err := b.pool.get(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	second, err := b.pool.get(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	b.pool.put(held)
	b.pool.put(second)
	g := newGate(z, wire.APIDataObjOpen, 0)
	texts, faults, wait := readSmalls(t.Context(), b, list)
	g.await(t, 2) // one on each connection
	g.open(all)
	wait()
	wantSmalls(t, texts, faults)
}

// TestSmallsCancelled cancels one of the reads on a connection, and then all.
func TestSmallsCancelled(t *testing.T) {
	z, b, list := onOne(t, 4)
	g := newGate(z, wire.APIDataObjOpen, 0)
	ctx, cancel := context.WithCancel(t.Context())
	_, gone, waitGone := readSmalls(ctx, b, list[:1])
	eventually(t, "the first read", func() bool { return onTheirWay(b) == 1 })
	texts, faults, wait := readSmalls(t.Context(), b, list)
	eventually(t, "the others", func() bool { return onTheirWay(b) == 5 })
	cancel()
	waitGone()
	if gone[0] != context.Canceled {
		t.Errorf("the cancelled one: %v", gone[0])
	}
	g.open(all)
	wait()
	wantSmalls(t, texts, faults)

	held := newGate(z, wire.APIDataObjRead, 0)
	ctx, cancel = context.WithCancel(t.Context())
	_, _, waitGone = readSmalls(ctx, b, list)
	eventually(t, "the reads", func() bool { return onTheirWay(b) == len(list) })
	cancel()
	waitGone()
	held.open(all)
	eventually(t, "the end of the lane", func() bool { return onTheirWay(b) == 0 })
	texts, faults, wait = readSmalls(t.Context(), b, list)
	wait()
	wantSmalls(t, texts, faults)
}

// TestSmallsBroken loses the connection in the middle.
func TestSmallsBroken(t *testing.T) {
	z, b, list := onOne(t, 6)
	opens := 0
	var mu sync.Mutex
	z.SetFaults(func(c zone.Call) *zone.Fault {
		mu.Lock()
		defer mu.Unlock()
		if c.API == wire.APIDataObjOpen {
			opens++
		}
		if opens == 3 {
			opens++
			return &zone.Fault{Kill: true}
		}
		return nil
	})
	texts, faults, wait := readSmalls(t.Context(), b, list)
	wait()
	wantSmalls(t, texts, faults)
}

// TestSmallsChanged overwrites one of several objects.
func TestSmallsChanged(t *testing.T) {
	z, b, list := onOne(t, 3)
	put(t, dial(t, options(z, z.Addr())), "/f1", "CONTENT of 1", remote.PutOptions{})
	texts, faults, wait := readSmalls(t.Context(), b, list)
	wait()
	wantKind(t, faults[1], remote.Changed, "the one that has changed")
	texts[1], faults[1] = "content of 1", nil
	wantSmalls(t, texts, faults)
}

// TestSmallsBare reads an object without a checksum: a question proves it.
func TestSmallsBare(t *testing.T) {
	z, b, _ := onOne(t, 0)
	e := putBare(t, b, "/f", []byte("content"))
	wantCalls(t, z, "the read of an object without a checksum", map[string]int{"open": 1, "read": 1, "query": 1, "close": 1}, func() {
		if p, err := readAll(t.Context(), b, e); err != nil || string(p) != "content" {
			t.Errorf("%q, %v", p, err)
		}
	})
	putBare(t, b, "/other", []byte("CONTENT"))
	if err := b.Rename(t.Context(), "/other", "/f", remote.RenameOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err := readAll(t.Context(), b, e)
	wantKind(t, err, remote.Changed, "a read of the old version")
}

// TestMisguess has an object open on the connection of which the client does not know, so
// that the numbers of descriptors are not the expected ones.
func TestMisguess(t *testing.T) {
	for _, large := range []bool{false, true} {
		t.Run(fmt.Sprint(large), func(t *testing.T) {
			z, b, list := onOne(t, 4)
			content := content(testPiece+7, 1)
			e := mustPut(t, dial(t, options(z, z.Addr())), "/large", content, fresh)
			err := b.do(t.Context(), "read", "/f0", false, func(s *session) error {
				_, err := s.conn.Call(t.Context(), openCall(b.full("/f0"), anyReplica))
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			readLarge := func() {
				p := make([]byte, testPiece)
				if n, err := b.ReadAt(t.Context(), refOf(e), p, 7); err != nil && err != io.EOF || n != len(p) || string(p) != string(content[7:]) {
					t.Errorf("%d bytes, %v", n, err)
				}
			}
			if large {
				readLarge()
			}
			texts, faults, wait := readSmalls(t.Context(), b, list)
			wait()
			wantSmalls(t, texts, faults)
			readLarge()
			if b.guesses() {
				t.Error("numbers are still guessed")
			}
			wantCalls(t, z, "the next read", map[string]int{"open": 1, "read": 1, "close": 1}, func() {
				if p, err := readAll(t.Context(), b, list[2]); err != nil || string(p) != "content of 2" {
					t.Errorf("%q, %v", p, err)
				}
			})
		})
	}
}

// TestRangeRequests counts the calls of reads of ranges.
func TestRangeRequests(t *testing.T) {
	z, b, _ := onOne(t, 0)
	const size = 1 << 20
	e := mustPut(t, b, "/large", content(size, 1), fresh)
	read := func(off int64) func() {
		return func() {
			p := make([]byte, 4096)
			if _, err := b.ReadAt(t.Context(), refOf(e), p, off); err != nil || string(p) != string(content(size, 1)[off:][:4096]) {
				t.Errorf("at %d: %v", off, err)
			}
		}
	}
	wantCalls(t, z, "the first range", map[string]int{"open": 1, "seek": 1, "read": 1, "query": 1}, read(8192))
	wantCalls(t, z, "the next one", map[string]int{"read": 1, "query": 1}, read(12288))
	wantCalls(t, z, "one elsewhere", map[string]int{"seek": 1, "read": 1, "query": 1}, read(0))
	for i := range mostFiles {
		e := mustPut(t, b, fmt.Sprintf("/f%d", i), remotetest.Pattern(100, byte(i)), fresh)
		if _, err := b.ReadAt(t.Context(), refOf(e), make([]byte, 10), 0); err != nil {
			t.Fatal(err)
		}
	}
	wantCalls(t, z, "a range of what was closed", map[string]int{"open": 1, "read": 1, "query": 1, "close": 1}, read(0))
}

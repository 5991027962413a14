package irods

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// laneGate holds all writes back until so many lanes have opened the object; then it lets
// everything pass. If the first one passed before, the first lane could end while the
// second one has all that is left, and no third one would be made.
func laneGate(z *zone.Zone, lanes int) {
	var opened atomic.Int64
	ready := make(chan struct{})
	z.SetFaults(func(c zone.Call) *zone.Fault {
		switch {
		case c.API == wire.APIDataObjOpen && opened.Add(1) == int64(lanes):
			close(ready)
		case c.API == wire.APIDataObjWrite:
			select {
			case <-ready:
			case <-time.After(testPatience):
			}
		}
		return nil
	})
}

// TestWriteWithLanes writes objects of all kinds of sizes with three lanes, new ones and
// over others that are longer, shorter and as long.
func TestWriteWithLanes(t *testing.T) {
	z := startZone(t, zone.Options{})
	b, other := dialSmall(t, options(z, z.Addr())), dialSmall(t, options(z, z.Addr()))
	const p = testPiece
	when := time.Unix(1_500_000_000, 0)
	for i, c := range []struct{ size, before int }{
		{p + 1, -1}, {2*p - 1, 2 * p}, {2 * p, 2 * p}, {2*p + 1, p}, {3 * p, -1}, {3*p - 1, 4*p + 1}, {5*p + 12345, 2 * p},
	} {
		path := fmt.Sprintf("/f%d", i)
		opts := remote.PutOptions{Attrs: remote.Attrs{MTime: &when}, Cond: remote.Cond{NotExist: true}}
		if c.before >= 0 {
			opts.Cond = remote.Cond{Version: mustPut(t, other, path, content(c.before, 99), remote.PutOptions{}).Version}
		}
		lanes := min(3, (c.size+p-1)/p)
		useLanes(b, lanes)
		z.ResetCalls()
		laneGate(z, lanes)
		data := content(c.size, byte(i))
		e := mustPut(t, b, path, data, opts)
		z.SetFaults(nil)
		sum := sha256.Sum256(data)
		if e.Checksum.Hex != hex.EncodeToString(sum[:]) || !e.MTime.Equal(when) || e.Size != int64(c.size) {
			t.Errorf("%d over %d: %+v", c.size, c.before, e)
		}
		if n := z.Calls()[wire.APIReplicaClose]; n < lanes-1 {
			t.Errorf("%d over %d: %d lanes beside the first, want %d", c.size, c.before, n, lanes-1)
		}
		if got := wantObject(t, other, path, data); got.Version != e.Version {
			t.Errorf("%d over %d: version %s, put returned %s", c.size, c.before, got.Version, e.Version)
		}
	}
	if n := z.Agents(); n > 2*4 {
		t.Errorf("%d connections of two clients with up to 4 each", n)
	}
}

// TestWriteBound wants no more pieces in memory than the lanes have on their way, and one.
func TestWriteBound(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dialSmall(t, options(z, z.Addr()))
	const lanes, passed = 3, 4
	useLanes(b, lanes)
	writes := newGate(z, wire.APIDataObjWrite, passed)
	src := &countedSource{data: content(16*testPiece, 1)}
	done := make(chan error, 1)
	go func() {
		_, err := b.Put(t.Context(), "/f", src, remote.PutOptions{})
		done <- err
	}()
	writes.await(t, lanes)
	for last := int64(-1); last != src.read.Load(); time.Sleep(200 * time.Millisecond) {
		last = src.read.Load()
	}
	if read := src.read.Load(); read > (passed+writeDepth*lanes+1)*testPiece {
		t.Errorf("%d pieces were read with %d at the server and %d lanes", read/testPiece, passed, lanes)
	}
	writes.open(all)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	wantObject(t, b, "/f", src.data)
}

// TestWriteIsLocked wants readers and writers to be told of the lock while lanes write,
// and never to get bytes.
func TestWriteIsLocked(t *testing.T) {
	z := startZone(t, zone.Options{})
	b, other := dialSmall(t, options(z, z.Addr())), dialSmall(t, options(z, z.Addr()))
	old := mustPut(t, other, "/f", content(3*testPiece, 1), remote.PutOptions{})
	useLanes(b, 3)
	writes := newGate(z, wire.APIDataObjWrite, 2)
	data := content(12*testPiece, 2)
	done := make(chan error, 1)
	go func() {
		_, err := b.Put(t.Context(), "/f", remotetest.Bytes(data), remote.PutOptions{Cond: remote.Cond{Version: old.Version}})
		done <- err
	}()
	writes.await(t, 3)
	for _, ref := range []remote.Ref{{Path: "/f", Size: -1}, {Path: "/f", Version: old.Version, Size: old.Size}} {
		for _, n := range []int{100, 3 * testPiece} {
			if got, err := other.ReadAt(t.Context(), ref, make([]byte, n), 0); !errors.Is(err, remote.Locked) || got != 0 {
				t.Errorf("a read of %d of %+v gave %d bytes and %v, want Locked", n, ref, got, err)
			}
		}
	}
	if got, err := streamAll(t.Context(), other, old); !errors.Is(err, remote.Locked) || len(got) != 0 {
		t.Errorf("a stream gave %d bytes and %v, want Locked", len(got), err)
	}
	writes.open(all)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	wantObject(t, other, "/f", data)
}

// TestWriteComparesUnderLock has somebody else write between the look at the version
// and the opening of the object.
func TestWriteComparesUnderLock(t *testing.T) {
	z := startZone(t, zone.Options{})
	b, other := dialSmall(t, options(z, z.Addr())), dialSmall(t, options(z, z.Addr()))
	base := mustPut(t, b, "/f", content(2*testPiece, 1), remote.PutOptions{})
	theirs := content(1000, 7)
	var entry remote.Entry
	var once sync.Once
	z.SetFaults(func(c zone.Call) *zone.Fault {
		if c.API == wire.APIDataObjOpen {
			once.Do(func() { entry = mustPut(t, other, "/f", theirs, remote.PutOptions{}) })
		}
		return nil
	})
	_, err := b.Put(t.Context(), "/f", remotetest.Bytes(content(3*testPiece, 2)),
		remote.PutOptions{Cond: remote.Cond{Version: base.Version}})
	var e *remote.Error
	if !errors.As(err, &e) || e.Kind != remote.Conflict || e.Unsure {
		t.Errorf("put over somebody else's: %v, want a sure Conflict", err)
	}
	if got := wantObject(t, other, "/f", theirs); got.Version != entry.Version || !got.MTime.Equal(entry.MTime) {
		t.Errorf("the object of somebody else was %s and is %s", entry.Version, got.Version)
	}
	if n := z.Calls()[wire.APIDataObjWrite]; n != 2 { // of the old content
		t.Errorf("%d pieces were written", n)
	}
}

// TestWriteRefusedLanes has a server that takes no more connections.
func TestWriteRefusedLanes(t *testing.T) {
	for _, agents := range []int{1, 2} {
		z := startZone(t, zone.Options{MaxAgents: agents})
		b := dialSmall(t, options(z, z.Addr()))
		useLanes(b, 4)
		laneGate(z, agents)
		data := content(6*testPiece+1, 3)
		mustPut(t, b, "/f", data, remote.PutOptions{})
		z.SetFaults(nil)
		if n := z.Calls()[wire.APIReplicaClose]; n != agents-1 {
			t.Errorf("%d further lanes where %d connections are allowed", n, agents)
		}
		wantObject(t, b, "/f", data)
	}
}

// TestWriteRefusedToken has a server that gives no token, or does not take it.
func TestWriteRefusedToken(t *testing.T) {
	for _, refusal := range []struct {
		api  int
		good int64
	}{{wire.APIGetFileDescInfo, 0}, {wire.APIDataObjOpen, 1}} {
		z := startZone(t, zone.Options{})
		b := dialSmall(t, options(z, z.Addr()))
		useLanes(b, 4)
		var calls atomic.Int64
		z.SetFaults(func(c zone.Call) *zone.Fault {
			if c.API == refusal.api && calls.Add(1) > refusal.good {
				return &zone.Fault{Code: wire.CodeIntermediate}
			}
			return nil
		})
		data := content(5*testPiece, 3)
		mustPut(t, b, "/f", data, remote.PutOptions{})
		z.SetFaults(nil)
		wantObject(t, b, "/f", data)
	}
}

// TestWriteLends wants a small call to get a connection in the middle of a transfer that
// has all of them.
func TestWriteLends(t *testing.T) {
	z := startZone(t, zone.Options{})
	opts := options(z, z.Addr())
	opts.MaxConns = 2
	b := dialSmall(t, opts)
	useLanes(b, 2)
	writes := newGate(z, wire.APIDataObjWrite, 1)
	ctx, cancel := context.WithTimeout(t.Context(), testPatience)
	defer cancel()
	data := content(60*testPiece, 3)
	done := make(chan error, 1)
	go func() {
		_, err := b.Put(ctx, "/f", remotetest.Bytes(data), remote.PutOptions{})
		done <- err
	}()
	writes.await(t, 2)
	stat := make(chan error, 1)
	go func() {
		_, err := b.Stat(ctx, "/")
		stat <- err
	}()
	eventually(t, "the wait for a connection", b.pool.starved)
	// The lane that is to leave has pieces on their way, which may not be the next to pass.
	var lent bool
	for passed := 0; passed < 50 && !lent; passed += 5 {
		writes.open(5)
		select {
		case err := <-stat:
			lent = true
			if err != nil {
				t.Errorf("stat during a transfer: %v", err)
			}
		case <-time.After(time.Second):
		}
	}
	if !lent {
		t.Error("stat waits for the end of the transfer")
	}
	writes.open(all)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	wantObject(t, b, "/f", data)
}

// TestWriteOlderServer has a server whose calls for lanes are packed in another way.
func TestWriteOlderServer(t *testing.T) {
	z := startZone(t, zone.Options{Release: "rods4.2.12"})
	b := dialSmall(t, options(z, z.Addr()))
	useLanes(b, 4)
	old := mustPut(t, b, "/f", content(2*testPiece, 1), remote.PutOptions{})
	data := content(3*testPiece, 2)
	mustPut(t, b, "/f", data, remote.PutOptions{Cond: remote.Cond{Version: old.Version}})
	if n := z.Calls()[wire.APIGetFileDescInfo]; n != 0 {
		t.Errorf("%d questions for descriptors", n)
	}
	wantObject(t, b, "/f", data)
	if bytes.Equal(data[:100], content(100, 1)) {
		t.Fatal("the two contents are alike")
	}
}

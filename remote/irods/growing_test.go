package irods

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// swell is content that grows as a test says, and does not keep what it holds.
type swell struct {
	*remotetest.Growth
	attrs atomic.Int32 // calls of Attrs
}

func (s *swell) Attrs() remote.Attrs {
	s.attrs.Add(1)
	return s.Growth.Attrs()
}

// putGrowing begins a put of what grows, whose result comes by the channel.
func putGrowing(ctx context.Context, b *Backend, path string, src remote.Growing) chan error {
	done := make(chan error, 1)
	go func() {
		_, err := b.PutGrowing(ctx, path, src, fresh)
		done <- err
	}()
	return done
}

// busy returns how many connections are in use.
func busy(b *Backend) int {
	b.pool.mu.Lock()
	defer b.pool.mu.Unlock()
	return len(b.pool.busy)
}

// TestGrowing writes content that grows in bursts: nobody sees it as content before it is
// complete, and then it has its time and mode.
func TestGrowing(t *testing.T) {
	z := startZone(t, zone.Options{})
	b, other := dialSmall(t, options(z, z.Addr())), dialSmall(t, options(z, z.Addr()))
	useLanes(b, 3)
	data := content(12*testPiece+77, 3)
	src := &swell{Growth: &remotetest.Growth{}}
	done := putGrowing(t.Context(), b, "/f", src)
	for off, step := 0, 5*testPiece/2; off < len(data); off += step {
		src.Grow(data[off:min(off+step, len(data))])
		sent := (off + step) / testPiece
		eventually(t, "the writing of what is there", func() bool { return z.Calls()[wire.APIDataObjWrite] >= min(sent, 12) })
	}
	e, err := other.Stat(t.Context(), "/f")
	if err != nil || !e.Provisional {
		t.Errorf("while it grows: %+v, %v", e, err)
	}
	if _, err := readAll(t.Context(), other, e); !errors.Is(err, remote.Locked) {
		t.Errorf("a read of what grows: %v", err)
	}
	if src.attrs.Load() != 0 {
		t.Error("the attributes of what is not whole were asked for")
	}
	when, mode := time.Unix(1_400_000_000, 0), uint32(0o751)
	src.End(remote.Attrs{MTime: &when, Mode: &mode})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if e = wantObject(t, other, "/f", data); !e.MTime.Equal(when) || e.Mode != mode || e.Checksum.Hex == "" || e.Provisional {
		t.Errorf("%+v", e)
	}
	eventually(t, "the end of all use of connections", func() bool { return busy(b) == 0 })
}

// TestGrowingIsThrifty wants content that pauses to hold one connection only, and content
// of less than a piece none.
func TestGrowingIsThrifty(t *testing.T) {
	z := startZone(t, zone.Options{})
	opts := options(z, z.Addr())
	opts.MaxConns = 6
	b := dialSmall(t, opts)
	useLanes(b, 3)
	src, small := &swell{Growth: &remotetest.Growth{}}, &swell{Growth: &remotetest.Growth{}}
	smallDone := putGrowing(t.Context(), b, "/small", small)
	small.Grow(content(100, 1))
	eventually(t, "the wait for a piece", func() bool { return small.Wanted() > 100 })
	if n := busy(b); n != 0 {
		t.Errorf("%d connections for less than a piece", n)
	}
	done := putGrowing(t.Context(), b, "/f", src)
	const burst = 40
	data := content(2*burst*testPiece, 3)
	// The first burst waits until there are three lanes.
	laneGate(z, 3)
	src.Grow(data[:burst*testPiece])
	eventually(t, "three lanes", func() bool { return z.Calls()[wire.APIDataObjOpen] >= 3 })
	eventually(t, "the pause with one connection", func() bool {
		return z.Calls()[wire.APIDataObjWrite] == burst && busy(b) == 1
	})
	src.Grow(data[burst*testPiece:])
	src.End(remote.Attrs{})
	small.End(remote.Attrs{})
	if err := errors.Join(<-done, <-smallDone); err != nil {
		t.Fatal(err)
	}
	wantObject(t, b, "/f", data)
	wantObject(t, b, "/small", content(100, 1))
}

// TestGrowingLeavesRoom has more growing contents than connections: other calls go on, and
// what is complete does not wait for what is not.
func TestGrowingLeavesRoom(t *testing.T) {
	for _, conns := range []int{1, 2, 4} {
		z := startZone(t, zone.Options{})
		opts := options(z, z.Addr())
		opts.MaxConns = conns
		b := dialSmall(t, opts)
		var all []*swell
		var results []chan error
		names := []string{"/a", "/b", "/c", "/d", "/e"}
		for _, name := range names {
			src := &swell{Growth: &remotetest.Growth{}}
			src.Grow(content(3*testPiece, name[1]))
			all, results = append(all, src), append(results, putGrowing(t.Context(), b, name, src))
			eventually(t, "the beginning of "+name, func() bool { return src.Wanted() > 3*testPiece })
		}
		if n := busy(b); n > conns/2 {
			t.Errorf("%d of %d connections are held", n, conns)
		}
		if waiting := all[len(all)-1].Wanted(); waiting != math.MaxInt64 {
			t.Errorf("the last one waits for %d bytes", waiting)
		}
		if _, err := b.Stat(t.Context(), "/"); err != nil {
			t.Error(err)
		}
		for i := len(all) - 1; i >= 0; i-- {
			all[i].End(remote.Attrs{})
			if err := <-results[i]; err != nil {
				t.Errorf("%d connections: %s: %v", conns, names[i], err)
			}
			wantObject(t, b, names[i], content(3*testPiece, names[i][1]))
		}
	}
}

var errSpoilt = errors.New("the content has become another")

// TestGrowingFails gives up in each way: nothing is left, and the error is the right one.
func TestGrowingFails(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dialSmall(t, options(z, z.Addr()))
	for name, x := range map[string]struct {
		fail func(stop context.CancelFunc, src *swell)
		want func(error) bool
	}{
		"the content": {
			func(_ context.CancelFunc, src *swell) { src.Fail(errSpoilt) },
			func(err error) bool { return err == errSpoilt },
		},
		"the caller": {
			func(stop context.CancelFunc, _ *swell) { stop() },
			func(err error) bool { return errors.Is(err, context.Canceled) },
		},
		"the server": {
			func(_ context.CancelFunc, src *swell) {
				z.KillAgents()
				src.Grow(content(4*testPiece, 1))
			},
			func(err error) bool { return errors.Is(err, remote.Unavailable) && !unsure(err) },
		},
		"the disk": {
			func(_ context.CancelFunc, src *swell) {
				z.SetFaults(once(wire.APIDataObjWrite, 1, func() *zone.Fault { return &zone.Fault{Code: wire.CodeUnixWrite - 28} }))
				src.Grow(content(4*testPiece, 1))
			},
			func(err error) bool { return errors.Is(err, remote.NoSpace) && !unsure(err) },
		},
		"the catalog": {
			func(_ context.CancelFunc, src *swell) {
				z.SetFaults(once(wire.APIDataObjClose, 1, func() *zone.Fault { return &zone.Fault{Code: wire.CodeCatalogSQL} }))
				src.End(remote.Attrs{})
			},
			func(err error) bool { return errors.Is(err, remote.Unavailable) && !unsure(err) },
		},
	} {
		for _, pieces := range []int{0, 3} {
			if name != "the content" && name != "the caller" && pieces == 0 {
				continue // there is nothing at the server that could fail
			}
			src := &swell{Growth: &remotetest.Growth{}}
			ctx, stop := context.WithCancel(t.Context())
			before := z.Calls()[wire.APIDataObjWrite]
			done := putGrowing(ctx, b, "/f", src)
			src.Grow(content(pieces*testPiece, 1))
			eventually(t, "the first pieces", func() bool { return z.Calls()[wire.APIDataObjWrite] == before+pieces })
			x.fail(stop, src)
			err := <-done
			stop()
			z.SetFaults(nil)
			if !x.want(err) {
				t.Errorf("%s fails after %d pieces: %v", name, pieces, err)
			}
			if _, err := b.Stat(t.Context(), "/f"); !errors.Is(err, remote.NotExist) {
				t.Errorf("%s fails after %d pieces, and leaves something: %v", name, pieces, err)
			}
		}
	}
}

// TestGrowingAfterTear repeats what has left a torn object.
func TestGrowingAfterTear(t *testing.T) {
	for _, redo := range []bool{false, true} {
		z := startZone(t, zone.Options{})
		b := dialSmall(t, options(z, z.Addr()))
		src := &swell{Growth: &remotetest.Growth{}}
		done := putGrowing(t.Context(), b, "/f", src)
		src.Grow(content(3*testPiece, 1))
		eventually(t, "the first pieces", func() bool { return z.Calls()[wire.APIDataObjWrite] == 3 })
		z.SetFaults(once(wire.APIDataObjUnlink, 1, func() *zone.Fault { return &zone.Fault{Code: wire.CodeCatalogSQL} }))
		z.KillAgents()
		src.Grow(content(4*testPiece, 1))
		if err := <-done; !unsure(err) {
			t.Fatalf("the first attempt: %v", err)
		}
		z.SetFaults(nil)
		if redo { // another process, that knows of no tear
			b = dialSmall(t, options(z, z.Addr()))
		}
		again := &swell{Growth: &remotetest.Growth{}}
		again.Grow(content(5*testPiece, 2))
		time.AfterFunc(50*time.Millisecond, func() { again.End(remote.Attrs{}) })
		opts := remote.PutOptions{Cond: remote.Cond{NotExist: true}, Redo: redo}
		if _, err := b.PutGrowing(t.Context(), "/f", again, opts); err != nil {
			t.Errorf("redo %v: %v", redo, err)
		}
		wantObject(t, b, "/f", content(5*testPiece, 2))
	}
}

// TestGrowingRefusals wants an object that is there to be left alone, and to be
// overwritten when the content is whole.
func TestGrowingRefusals(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dialSmall(t, options(z, z.Addr()))
	old := mustPut(t, b, "/f", content(10, 1), fresh)
	for i, opts := range []remote.PutOptions{{}, upon(mustPut(t, b, "/h", content(10, 1), fresh))} {
		src, data := &remotetest.Growth{}, content(3*testPiece, byte(i))
		src.Grow(data)
		done := make(chan error, 1)
		go func() {
			_, err := b.PutGrowing(t.Context(), "/h", src, opts)
			done <- err
		}()
		eventually(t, "the wait for the end", func() bool { return src.Wanted() == math.MaxInt64 })
		wantObject(t, b, "/h", content(10, 1))
		src.End(remote.Attrs{})
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		wantObject(t, b, "/h", data)
		mustPut(t, b, "/h", content(10, 1), remote.PutOptions{})
	}
	for _, size := range []int{10, 3 * testPiece} {
		_, err := b.PutGrowing(t.Context(), "/f", remotetest.Grown(content(size, 2), remote.Attrs{}), fresh)
		wantKind(t, err, remote.Exist, "%d bytes over an object", size)
		src := &remotetest.Growth{}
		src.Grow(content(3*testPiece, 2))
		_, err = b.PutGrowing(t.Context(), "/f", src, fresh)
		wantKind(t, err, remote.Exist, "growing over an object")
	}
	if e := wantObject(t, b, "/f", content(10, 1)); e.Version != old.Version {
		t.Errorf("was %+v, is %+v", old, e)
	}
	src := &remotetest.Growth{}
	src.Grow(content(3*testPiece, 2))
	done := putGrowing(t.Context(), b, "/g", src)
	eventually(t, "the wait for more", func() bool { return src.Wanted() > 3*testPiece })
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	wantKind(t, <-done, remote.BadHandle, "growing at the end of the branch")
}

// TestSlowChecksum has a server that takes long to close a large object, or to compute its
// checksum then: it is waited for longer than for other calls, but not for ever, and not if
// the server is dead.
func TestSlowChecksum(t *testing.T) {
	t.Parallel()
	for _, api := range []int{wire.APIDataObjClose, wire.APIDataObjChksum} {
		t.Run(wire.APIName(api), func(t *testing.T) {
			t.Parallel()
			slowChecksum(t, api)
		})
	}
}

func slowChecksum(t *testing.T, api int) {
	z := startZone(t, zone.Options{})
	proxy := remotetest.NewProxy(t, z.Addr())
	b := dialSmall(t, options(z, proxy.Addr()))
	size := 3 * testPiece
	const patience = time.Second
	put := func(path string) error {
		_, err := remote.Watchdog(b, patience).Put(t.Context(), path, remotetest.Bytes(content(size, 1)), fresh)
		return err
	}
	for i, c := range []struct {
		most, delay time.Duration
		stall, fine bool
	}{
		{time.Minute, 2 * patience, false, true},
		{patience, time.Minute, false, false},
		{time.Minute, time.Minute, true, false},
	} {
		path := "/f" + string(rune('0'+i))
		b.vigil = vigil{pulse: patience / 10, rate: int64(float64(size) / c.most.Seconds())}
		z.SetFaults(once(api, 1, func() *zone.Fault {
			if c.stall {
				proxy.Stall()
			}
			return &zone.Fault{Delay: c.delay}
		}))
		begin := time.Now()
		err := put(path)
		z.SetFaults(nil)
		proxy.Resume()
		switch {
		case c.fine && err != nil:
			t.Errorf("case %d: %v after %v", i, err, time.Since(begin))
		case c.fine:
			wantObject(t, b, path, content(size, 1))
		default:
			wantKind(t, err, remote.Unavailable, "case %d, after %v", i, time.Since(begin))
		}
	}
}

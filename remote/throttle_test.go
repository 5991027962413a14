package remote_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// The tests run in bubbles, whose time passes only while all wait: a transfer takes as
// long as it is held back.

const perSecond = 1 << 20

// transfer moves all of data in one way.
type transfer func(ctx context.Context, b remote.Backend, path string, data []byte) error

// uploads are the ways of content to the server.
var uploads = map[string]transfer{
	"Put": func(ctx context.Context, b remote.Backend, path string, data []byte) error {
		_, err := b.Put(ctx, path, remotetest.Bytes(data), remote.PutOptions{})
		return err
	},
	"PutGrowing": func(ctx context.Context, b remote.Backend, path string, data []byte) error {
		_, err := putGrowing(ctx, b, path, remotetest.Grown(data, remote.Attrs{}))
		return err
	},
	"Patch": func(ctx context.Context, b remote.Backend, path string, data []byte) error {
		base, err := b.Stat(ctx, path)
		if err != nil {
			return err
		}
		p, _ := remote.As[remote.Patcher](b)
		size := int64(len(data))
		_, err = p.Patch(ctx, path, remote.Patch{
			Size: size, Ranges: []remote.ByteRange{{Length: size}}, Bytes: bytes.NewReader(data),
		}, remote.PutOptions{Cond: remote.Cond{Version: base.Version}})
		return err
	},
}

// downloads are the ways from there.
var downloads = map[string]transfer{
	"ReadAt": func(ctx context.Context, b remote.Backend, path string, data []byte) error {
		return readIn(ctx, b, path, data, 1<<20)
	},
	"ReadAt in one go": func(ctx context.Context, b remote.Backend, path string, data []byte) error {
		return readIn(ctx, b, path, data, len(data))
	},
	"ReadAt beyond the end": func(ctx context.Context, b remote.Backend, path string, data []byte) error {
		got := make([]byte, 10*len(data))
		n, err := b.ReadAt(ctx, remote.Ref{Path: path, Size: -1}, got, 0)
		if err == io.EOF && bytes.Equal(got[:n], data) {
			return nil
		}
		return errors.Join(errors.New("other bytes"), err)
	},
	"Open": func(ctx context.Context, b remote.Backend, path string, data []byte) error {
		o, _ := remote.As[remote.Opener](b)
		r, err := o.Open(ctx, remote.Ref{Path: path, Size: -1})
		if err != nil {
			return err
		}
		defer r.Close()
		got, err := io.ReadAll(r)
		if err == nil && !bytes.Equal(got, data) {
			err = errors.New("other bytes")
		}
		return err
	},
}

// readIn reads in steps of that many bytes.
func readIn(ctx context.Context, b remote.Backend, path string, data []byte, step int) error {
	got := make([]byte, len(data))
	for off := 0; off < len(data); off += step {
		p := got[off:min(off+step, len(data))]
		if _, err := b.ReadAt(ctx, remote.Ref{Path: path, Size: int64(len(data))}, p, int64(off)); err != nil {
			return err
		}
	}
	if !bytes.Equal(got, data) {
		return errors.New("other bytes")
	}
	return nil
}

// took runs f and returns how long it was held back.
func took(t *testing.T, f func() error) time.Duration {
	t.Helper()
	start := time.Now()
	if err := f(); err != nil {
		t.Error(err)
	}
	return time.Since(start)
}

// near tells whether got is want, but for a tenth and the burst.
func near(got, want time.Duration) bool {
	return (got - want).Abs() <= want/10+200*time.Millisecond
}

// TestThrottleRates moves 8 s worth of bytes in every way, at the rate and at half of it,
// and the other way without a bound.
func TestThrottleRates(t *testing.T) {
	data := remotetest.Pattern(8*perSecond, 1)
	for _, up := range []bool{true, false} {
		ways := map[bool]map[string]transfer{true: uploads, false: downloads}[up]
		for name, move := range ways {
			synctest.Test(t, func(t *testing.T) {
				r := remote.NewRate(perSecond)
				below := memory.New(memory.Options{})
				b, other := remote.Throttle(below, r, nil), remote.Throttle(below, nil, r)
				if !up {
					b, other = other, b
				}
				put(t, below, "/f", string(data))
				full := took(t, func() error { return move(t.Context(), b, "/f", data) })
				r.Set(perSecond / 2)
				half := took(t, func() error { return move(t.Context(), b, "/f", data) })
				if !near(full, 8*time.Second) || !near(half, 16*time.Second) {
					t.Errorf("%s: 8 s worth of bytes took %v, and %v at half the rate", name, full, half)
				}
				if free := took(t, func() error { return move(t.Context(), other, "/f", data) }); free != 0 {
					t.Errorf("%s: it is held back by the other direction: %v", name, free)
				}
			})
		}
	}
}

// TestThrottleOverlaps wants the time in which a ReadAt is on its way to count.
func TestThrottleOverlaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner, _ := slow(800 * time.Millisecond)
		data := remotetest.Pattern(8*perSecond, 1)
		put(t, inner, "/f", string(data))
		b := remote.Throttle(inner, nil, remote.NewRate(perSecond))
		got := took(t, func() error { return readIn(t.Context(), b, "/f", data, perSecond) })
		if got > 9*time.Second {
			t.Errorf("requests of 0.8 s for bytes of 1 s took %v, not 8 s", got)
		}
	})
}

// TestThrottleSplits wants a large ReadAt made of requests of half a second, and of one
// where the parts could be of two versions or would each begin at the start of the file.
func TestThrottleSplits(t *testing.T) {
	data := remotetest.Pattern(4*perSecond+5, 1)
	for name, c := range map[string]struct {
		opts    memory.Options
		pinned  bool
		rate    int64
		want    int
		missing int // bytes asked for beyond the end
	}{
		"pinned":       {pinned: true, rate: perSecond, want: 9},
		"to the end":   {pinned: true, rate: perSecond, want: 9, missing: 1 << 20},
		"any version":  {rate: perSecond, want: 1},
		"no ranges":    {opts: memory.Options{NoRanges: true}, pinned: true, rate: perSecond, want: 1},
		"a wide line":  {pinned: true, rate: 100 * perSecond, want: 1},
		"without rate": {pinned: true, want: 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			below := memory.New(c.opts)
			seen := remote.Observe(below, nil)
			e := put(t, below, "/f", string(data))
			ref := remote.Ref{Path: "/f", Size: e.Size}
			if c.pinned {
				ref.Version = e.Version
			}
			got := make([]byte, len(data)+c.missing)
			n, err := remote.Throttle(seen, nil, remote.NewRate(c.rate)).ReadAt(t.Context(), ref, got, 0)
			if n != len(data) || (c.missing > 0) != (err == io.EOF) || !bytes.Equal(got[:n], data) {
				t.Errorf("%s: %d bytes, %v", name, n, err)
			}
			if calls := seen.Stats()[remote.OpRead].Calls; calls != int64(c.want) {
				t.Errorf("%s: %d requests, want %d", name, calls, c.want)
			}
		})
	}
}

// TestThrottleShares has transfers of all kinds over two backends share one rate: together
// they take as long as they must, and each about as long as the others.
func TestThrottleShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, data := remote.NewRate(perSecond), remotetest.Pattern(4*perSecond, 1)
		var all sync.WaitGroup
		var mu sync.Mutex
		var times []time.Duration
		for range 2 {
			below := memory.New(memory.Options{})
			b := remote.Throttle(below, r, r)
			for _, move := range []transfer{uploads["Put"], uploads["PutGrowing"], downloads["ReadAt"], downloads["Open"]} {
				path := string([]byte{'/', 'a' + byte(len(times))})
				put(t, below, path, string(data))
				all.Go(func() {
					d := took(t, func() error { return move(t.Context(), b, path, data) })
					mu.Lock()
					times = append(times, d)
					mu.Unlock()
				})
			}
		}
		all.Wait()
		if first, last := slices.Min(times), slices.Max(times); !near(last, 32*time.Second) || first < last*3/4 {
			t.Errorf("8 transfers of 4 s took %v", times)
		}
	})
}

// TestThrottleSmallOnes reads little while others move much.
func TestThrottleSmallOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, data := remote.NewRate(perSecond), remotetest.Pattern(20*perSecond, 1)
		below := memory.New(memory.Options{})
		b := remote.Throttle(below, r, r)
		put(t, below, "/small", "small")
		put(t, below, "/large", string(data))
		var all sync.WaitGroup
		for range 2 {
			all.Go(func() { took(t, func() error { return downloads["ReadAt in one go"](t.Context(), b, "/large", data) }) })
			all.Go(func() { took(t, func() error { return uploads["Put"](t.Context(), b, "/new", data) }) })
		}
		time.Sleep(10 * time.Second)
		alone := took(t, func() error { return readIn(t.Context(), b, "/small", []byte("small"), 5) })
		if alone > time.Second {
			t.Errorf("a read of 5 bytes waited %v behind 4 large transfers", alone)
		}
		all.Wait()
	})
}

// TestThrottleBursts moves little after a rest.
func TestThrottleBursts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := remote.Throttle(memory.New(memory.Options{}), remote.NewRate(perSecond), nil)
		for range 3 {
			data := remotetest.Pattern(perSecond/10, 1)
			if d := took(t, func() error { return uploads["Put"](t.Context(), b, "/f", data) }); d != 0 {
				t.Errorf("100 ms worth of bytes after a rest took %v", d)
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
}

// TestThrottleSet changes the bound under transfers that wait.
func TestThrottleSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, data := remote.NewRate(1), remotetest.Pattern(perSecond, 1)
		below := memory.New(memory.Options{})
		b := remote.Throttle(below, r, r)
		put(t, below, "/f", string(data))
		var all sync.WaitGroup
		start := time.Now()
		for _, move := range []transfer{downloads["ReadAt"], downloads["Open"], downloads["ReadAt in one go"]} {
			all.Go(func() { took(t, func() error { return move(t.Context(), b, "/f", data) }) })
		}
		time.Sleep(time.Minute)
		r.Set(perSecond)
		time.Sleep(time.Second)
		if got := r.BytesPerSecond(); got != perSecond {
			t.Errorf("the bound is %d", got)
		}
		r.Set(0)
		all.Wait()
		if d := time.Since(start); d != time.Minute+time.Second || r.BytesPerSecond() != 0 {
			t.Errorf("it took %v, the bound is %d", d, r.BytesPerSecond())
		}
		if (*remote.Rate)(nil).BytesPerSecond() != 0 || new(remote.Rate).BytesPerSecond() != 0 {
			t.Error("no Rate has a bound")
		}
	})
}

// TestThrottleContext cancels transfers of every kind that wait.
func TestThrottleContext(t *testing.T) {
	data := remotetest.Pattern(perSecond, 1)
	for _, ways := range []map[string]transfer{uploads, downloads} {
		for name, move := range ways {
			synctest.Test(t, func(t *testing.T) {
				r, below := remote.NewRate(16), memory.New(memory.Options{})
				b := remote.Throttle(below, r, r)
				put(t, below, "/f", string(data))
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				start := time.Now()
				err := move(ctx, b, "/f", data)
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Hour {
					t.Errorf("%s: %v after %v", name, err, time.Since(start))
				}
				r.Set(perSecond)
				if d := took(t, func() error { return move(t.Context(), b, "/f", remotetest.Pattern(perSecond, 1)) }); !near(d, time.Second) {
					t.Errorf("%s: after one that was cancelled, the next took %v", name, d)
				}
			})
		}
	}
}

// TestThrottleSparesWatchdog holds calls back for much longer than the watchdog's
// patience, in the order of the stack.
func TestThrottleSparesWatchdog(t *testing.T) {
	data := remotetest.Pattern(8<<10, 1)
	for _, ways := range []map[string]transfer{uploads, downloads} {
		for name, move := range ways {
			synctest.Test(t, func(t *testing.T) {
				r, below := remote.NewRate(10), memory.New(memory.Options{})
				put(t, below, "/f", string(data))
				b := remote.Limit(remote.Throttle(remote.Watchdog(below, patience), r, r), 1)
				if d := took(t, func() error { return move(t.Context(), b, "/f", data) }); d < 10*patience {
					t.Errorf("%s: the test needs longer waits than %v", name, d)
				}
			})
		}
	}
}

// TestThrottleKeepsSlots wants no more calls at once than the limit, although they wait.
func TestThrottleKeepsSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner, most := slow(0)
		b := remote.Limit(remote.Throttle(inner, remote.NewRate(perSecond), nil), 2)
		var all sync.WaitGroup
		for _, path := range []string{"/a", "/b", "/c", "/d"} {
			all.Go(func() { put(t, b, path, string(remotetest.Pattern(perSecond, 1))) })
		}
		all.Wait()
		if n := most.Load(); n != 2 {
			t.Errorf("%d calls at once", n)
		}
	})
}

// TestThrottleErrors wants the errors of the source, and seeking readers, to pass through.
func TestThrottleErrors(t *testing.T) {
	below := memory.New(memory.Options{})
	b := remote.Throttle(below, remote.NewRate(1<<30), nil)
	for _, good := range []int64{0, 500_000} {
		_, err := b.Put(t.Context(), "/f", remotetest.FailingSource(1_000_000, good), remote.PutOptions{Resume: "x"})
		if !errors.Is(err, remotetest.ErrSource) {
			t.Errorf("%v", err)
		}
	}
	seen := remote.Observe(b, nil)
	if _, err := seen.Put(t.Context(), "/f", remotetest.Bytes(make([]byte, 1_000_000)), remote.PutOptions{Resume: "x"}); err != nil {
		t.Error(err)
	}
	if sent := seen.Stats()[remote.OpPut].Sent; sent != 500_000 || below.Resumed() != 500_000 {
		t.Errorf("%d bytes of 1,000,000 were sent after 500,000, %d resumed", sent, below.Resumed())
	}
}

// TestSkip passes over bytes in both ways.
func TestSkip(t *testing.T) {
	for _, r := range []io.Reader{bytes.NewReader([]byte("0123456789")), bytes.NewBuffer([]byte("0123456789"))} {
		for _, want := range []byte("259") {
			p := make([]byte, 1)
			if err := remote.Skip(r, map[byte]int64{'2': 2, '5': 2, '9': 3}[want]); err != nil {
				t.Error(err)
			}
			if _, err := io.ReadFull(r, p); err != nil || p[0] != want {
				t.Errorf("%q, %v", p, err)
			}
		}
	}
	if err := remote.Skip(bytes.NewBuffer([]byte("x")), 2); err != io.ErrUnexpectedEOF {
		t.Errorf("an end too early: %v", err)
	}
	if err := remote.Skip(nil, 0); err != nil {
		t.Error(err)
	}
}

package cache

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
)

// TestGate: no more than the bound has passed, in order, and who gives up is not missed.
func TestGate(t *testing.T) {
	g := gate{limit: 10}
	a, b, c, d := g.enter(6), g.enter(6), g.enter(3), g.enter(100)
	passed := func(k *ticket) bool {
		select {
		case <-k.passed:
			return true
		default:
			return false
		}
	}
	if !passed(a) || passed(b) || passed(c) {
		t.Fatal("the bound does not hold, or the order")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.wait(ended, b); !errors.Is(err, context.Canceled) || !passed(c) {
		t.Fatalf("%v, or those behind it still wait", err)
	}
	g.fetched()
	if passed(d) {
		t.Fatal("the largest has passed while another is on its way")
	}
	g.fetched() // none is on its way, but a and c are still looked at
	if !passed(d) {
		t.Fatal("the largest never passes")
	}
	g.fetched()
	g.release(6)
	g.release(3)
	g.release(100)
	if g.used != 0 || g.active != 0 || len(g.queue) != 0 {
		t.Errorf("left: %d bytes, %d on their way, %d waiting", g.used, g.active, len(g.queue))
	}
}

// TestFetchMemory reads many cold files at once, each larger than a request, through a
// slow server: the memory stays in its bound, and all is read.
func TestFetchMemory(t *testing.T) {
	const files, limit = 64, 2 << 20
	s := openStore(t, t.TempDir()+"/c", Options{Size: 128 << 20, BlockSize: testBlock, FetchMemory: limit})
	defer closeStore(t, s)
	m := memory.New(memory.Options{})
	var now, most atomic.Int64
	slow := remote.Intercept(m, func(ctx context.Context, c *remote.Call, next remote.Next) error {
		if c.Op == remote.OpRead {
			n := now.Add(int64(bufferSize(len(c.Buf))))
			for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
			}
			time.Sleep(time.Millisecond)
			defer now.Add(-int64(bufferSize(len(c.Buf))))
		}
		return next(ctx)
	})
	c := s.Wrap(slow, Policy{Branch: "b", MaxRequest: 2 * testBlock})
	defer c.Close()
	w := &wrapped{Cached: c, memory: m, store: s}
	data := make([]byte, 5*testBlock+99)
	for i := range data {
		data[i] = byte(i * 7)
	}
	var all sync.WaitGroup
	for i := range files {
		ref := w.file(t, "/f"+string(rune('A'+i)), data)
		all.Go(func() { w.want(t, ref, data, 0, len(data)) })
		if i%8 == 0 { // somebody else reads the same, and gives up
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Millisecond)
				defer cancel()
				_, _ = c.ReadAt(ctx, ref, make([]byte, len(data)), 0)
			})
		}
	}
	all.Wait()
	if n := most.Load(); n > limit+2*testBlock {
		t.Errorf("%d bytes were on their way at once", n)
	}
	w.fetched(t)
	for range 200_000 { // the last ones are given back behind the reads
		s.gate.mu.Lock()
		used := s.gate.used
		s.gate.mu.Unlock()
		if used == 0 {
			return
		}
		runtime.Gosched()
		time.Sleep(time.Millisecond)
	}
	t.Errorf("%d bytes were never given back", s.gate.used)
}

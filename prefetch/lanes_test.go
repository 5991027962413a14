package prefetch

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestLanesPriority: who waits for bytes goes before what is fetched ahead, may use as
// many lanes again, and takes none from it that it holds.
func TestLanesPriority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLanes(2)
		var mu sync.Mutex
		var order []string
		note := func(s string) {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, s)
		}
		for range 2 {
			if err := l.AcquireAhead(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := l.Acquire(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		var wg sync.WaitGroup
		wg.Go(func() { _ = l.AcquireAhead(t.Context()); note("ahead") })
		synctest.Wait()
		wg.Go(func() { _ = l.Acquire(t.Context()); note("wait") })
		synctest.Wait()
		if len(order) != 0 {
			t.Fatalf("more than four are on the way: %v", order)
		}
		for range 3 {
			l.Release()
			synctest.Wait()
		}
		l.Release()
		wg.Wait()
		if len(order) != 2 || order[0] != "wait" {
			t.Errorf("order %v", order)
		}
		l.Release()
		l.Release()
		if l.busy != 0 {
			t.Errorf("%d busy", l.busy)
		}
	})
}

// TestLanesTurns: those who fetch ahead take turns.
func TestLanesTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLanes(1)
		var turns [4]int
		var wg sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		for i := range turns {
			wg.Go(func() {
				for l.AcquireAhead(ctx) == nil {
					turns[i]++
					time.Sleep(time.Millisecond)
					l.Release()
				}
			})
		}
		time.Sleep(400 * time.Millisecond)
		cancel()
		wg.Wait()
		for _, n := range turns {
			if n < 95 || n > 105 {
				t.Errorf("turns %v", turns)
			}
		}
		if l.busy != 0 || len(l.queue) != 0 {
			t.Errorf("%d busy, %d waiting", l.busy, len(l.queue))
		}
	})
}

// TestLanesCancelled: a wait that is cancelled, also just when its lane comes, loses
// no lane.
func TestLanesCancelled(t *testing.T) {
	for _, acquire := range []func(*Lanes, context.Context) error{(*Lanes).Acquire, (*Lanes).AcquireAhead} {
		l := NewLanes(1)
		for range 300 {
			for range 2 {
				if err := l.Acquire(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() {
				if err := acquire(l, ctx); err == nil {
					l.Release()
				} else if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
			wg.Go(cancel)
			wg.Go(func() { l.Release(); l.Release() })
			wg.Wait()
		}
		if l.busy != 0 || len(l.queue) != 0 || len(l.demands) != 0 {
			t.Errorf("%d busy, %d and %d waiting", l.busy, len(l.queue), len(l.demands))
		}
		if err := acquire(l, cancelled()); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

func cancelled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// TestClimber feeds the rates of paths and looks at the number that it settles on.
func TestClimber(t *testing.T) {
	tests := []struct {
		name     string
		rate     func(n int) float64 // bytes per second with n requests at once
		max      int
		min, end int
	}{
		{"each request has its own limit", func(n int) float64 { return 10e6 * float64(n) }, 16, 16, 16},
		{"four fill the path", func(n int) float64 { return 25e6 * float64(min(n, 4)) }, 16, 4, 4},
		{"eight fill the path", func(n int) float64 { return 10e6 * float64(min(n, 8)) }, 32, 8, 8},
		{"more is worse", func(n int) float64 { return 100e6 / float64(n) }, 16, 4, 4},
		{"one lane", func(n int) float64 { return 1e6 }, 1, 1, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c, now := newClimber(test.max), time.Unix(0, 0)
			at := map[int]int{}
			for range 4000 {
				now = now.Add(time.Duration(1e6 / test.rate(c.n) * 1e9))
				c.wait()
				c.arrived(1e6, now)
				at[c.n]++
				if c.n < 1 || c.n > test.max {
					t.Fatalf("%d at once", c.n)
				}
			}
			if at[test.end] < 3000 {
				t.Errorf("times at each number: %v, want mostly %d", at, test.end)
			}
		})
	}
}

// TestClimberSlowReader: nothing is learned from a reader that does not wait.
func TestClimberSlowReader(t *testing.T) {
	c, now := newClimber(16), time.Unix(0, 0)
	for i := range 1000 {
		now = now.Add(time.Duration(1000-i) * time.Millisecond)
		c.arrived(1e6, now)
	}
	if c.n != 4 {
		t.Errorf("%d at once", c.n)
	}
}

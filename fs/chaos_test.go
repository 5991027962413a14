package fs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// TestChaos is TestConcurrentPrograms on servers that fail in every way, with more
// kinds of work. Whatever happens, nothing hangs, leaks or is mixed.
func TestChaos(t *testing.T) {
	rounds := uint64(6)
	if os.Getenv("MESHMOUNT_LONG") != "" {
		rounds = 200
	}
	for seed := range rounds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { chaos(t, seed) })
	}
}

func chaos(t *testing.T, seed uint64) {
	before := runtime.NumGoroutine()
	var flaky *remotetest.FaultyBackend
	w := newWorld(t, memory.Options{NoRanges: seed%3 == 1, AttrVersions: seed%3 == 2}, func(b *[]Branch) {
		flaky = remotetest.Faulty((*b)[0].Backend, remotetest.Plan{})
		(*b)[0].Backend = flaky
		if seed%2 == 0 {
			uncached(&(*b)[0])
		}
	})
	for _, d := range []string{"/a/d0", "/a/d1"} {
		_, err := w.Mkdir(t.Context(), d, 0o755)
		w.must(err)
	}
	flaky.SetPlan(remotetest.Plan{Seed: seed, Rules: []remotetest.Rule{
		{P: 0.04, Fault: remotetest.FaultError}, {P: 0.03, Fault: remotetest.FaultLost},
		{P: 0.03, Fault: remotetest.FaultTruncate}, {P: 0.03, Fault: remotetest.FaultReset},
		{P: 0.2, Latency: 500 * time.Microsecond},
	}})
	var wg sync.WaitGroup
	for g := range uint64(8) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(g, seed))
			for range 150 {
				if err := w.chaosStep(r); err != nil {
					t.Errorf("program %d: %v", g, err)
					return
				}
			}
		})
	}
	wg.Go(func() {
		r := rand.New(rand.NewPCG(77, seed))
		for range 50 {
			p := (&model{}).path(r)[len("/a"):]
			_, _ = w.a.Put(context.Background(), p, text(whole(r)), remote.PutOptions{}) // the directory may be away
			time.Sleep(time.Millisecond)
		}
	})
	w.soonDone(&wg)
	flaky.SetPlan(remotetest.Plan{})
	w.nothingOpen()
	w.drain()
	w.uniformTree("/")
	w.finish()
	for range 10_000 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("%d goroutines before, %d after", before, runtime.NumGoroutine())
}

func (w *world) soonDone(wg *sync.WaitGroup) {
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Minute):
		panic("the programs hang")
	}
}

func (w *world) nothingOpen() {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.files) != 0 || len(w.byIno) != 0 {
		w.t.Errorf("%d names and %d numbers are still open", len(w.files), len(w.byIno))
	}
	w.paths.mu.Lock()
	defer w.paths.mu.Unlock()
	if len(w.paths.queue) != 0 {
		w.t.Errorf("%d path locks are held", len(w.paths.queue))
	}
}

func (w *world) uniformTree(dir string) {
	w.t.Helper()
	w.must(w.a.List(context.Background(), dir, func(e remote.Entry) error {
		switch {
		case e.Type == remote.Dir:
			w.uniformTree(e.Path)
		case e.Type == remote.File && !strings.Contains(e.Path, ".inplace") && !uniform(w.server(e.Path)):
			w.t.Errorf("%s on the server is a mixture", e.Path)
		}
		return nil
	}))
}

// chaosStep does one thing that programs do. It returns an error for wrong bytes
// only: everything else may happen when a server fails.
func (w *world) chaosStep(r *rand.Rand) error {
	ctx, m := context.Background(), &model{}
	p := m.path(r)
	own := p + ".inplace" // whoever reads along sees the rewriting, as on any disk
	switch r.IntN(12) {
	case 0: // rewrite in place, whole
		h, _, err := w.Create(ctx, own, syscall.O_RDWR|syscall.O_TRUNC, 0o644)
		if err == nil {
			_, _ = h.WriteAt(ctx, []byte(whole(r)), 0)
			_ = h.Flush(ctx)
			h.Release()
		}
	case 1:
		when := time.Unix(r.Int64N(1e9), 0)
		mode := uint32(r.IntN(0o1000))
		_, _ = w.Setattr(ctx, p, nil, 0, SetAttr{MTime: &when, Mode: &mode})
	case 2:
		size := int64(r.IntN(100))
		_, _ = w.Setattr(ctx, own, nil, 0, SetAttr{Size: &size})
	case 3:
		_, _ = w.Stat(ctx, p)
	case 4:
		_ = w.Rename(ctx, "/a/d0", "/a/d2", 0)
		_ = w.Rename(ctx, "/a/d2", "/a/d0", 0)
	default:
		if err := w.program(r); err != nil && remote.KindOf(err) == remote.Other && !errors.Is(err, syscall.EINVAL) {
			return err
		}
	}
	return nil
}

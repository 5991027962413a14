package prefetch

import (
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// mbps is bytes over virtual time in units of 1e6 bytes per second.
func mbps(bytes int64, d time.Duration) float64 { return float64(bytes) / d.Seconds() / 1e6 }

// pathRate is the rate of wan in these units.
const pathRate = 150

// TestSequentialRate reads a large file in requests of the kernel's size and demands
// the path's rate, and no byte twice.
func TestSequentialRate(t *testing.T) {
	for name, length := range map[string]int64{"one request": 0, "two requests, swapped": 128 << 10, "two large requests, swapped": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &simFile{link: wan(), size: 1 << 30}
				r := open(t, f, 128<<20, Options{})
				begin := time.Now()
				if length == 0 {
					readAll(t, r, 0, f.size, 128<<10)
				} else {
					readSwapped(t, r, f.size, length)
				}
				rate := mbps(f.size, time.Since(begin))
				t.Logf("%.1f MB/s, %+v, %+v", rate, r.Stats(), r.p.opts.Budget.Stats())
				want := 0.95
				if length > 128<<10 {
					want = 0.75 // each pair is waited for
				}
				if rate < want*pathRate {
					t.Errorf("%.1f MB/s, want %.0f%% of %d", rate, 100*want, pathRate)
				}
				if f.bytes.Load() != f.size {
					t.Errorf("%d bytes asked for, the file has %d", f.bytes.Load(), f.size)
				}
				if most := f.most.Load(); most > DefaultStreams+2 {
					t.Errorf("%d requests at once", most)
				}
			})
		})
	}
}

// readSwapped reads the file as the kernel does: two requests on the way, of which the
// second comes first.
func readSwapped(t *testing.T, r *Reader, size, length int64) {
	for off := int64(0); off < size; off += 2 * length {
		var wg sync.WaitGroup
		for _, at := range []int64{off + length, off} {
			wg.Go(func() { readAll(t, r, at, at+length, int(length)) })
			synctest.Wait()
		}
		wg.Wait()
	}
}

// TestParallelFiles: four readers of one branch share the path evenly and fill it.
func TestParallelFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 256 << 20
		l := wan()
		p := newPrefetcher(t, 128<<20, Options{})
		begin := time.Now()
		var wg sync.WaitGroup
		var took [4]time.Duration
		for i := range took {
			wg.Go(func() {
				f := &simFile{link: l, size: size}
				r := p.Open(f, remote.Ref{Path: "/f"}, size)
				readAll(t, r, 0, size, 128<<10)
				took[i] = time.Since(begin)
				_ = r.Close()
			})
		}
		wg.Wait()
		if rate := mbps(4*size, time.Since(begin)); rate < 0.95*pathRate {
			t.Errorf("%.1f MB/s, want 95%% of %d; %v", rate, pathRate, took)
		}
		for _, d := range took {
			if d < time.Since(begin)*2/3 {
				t.Errorf("one of four was much faster: %v", took)
			}
		}
	})
}

// TestManyReaders: 64 readers under a small budget all get on, and fill the path.
func TestManyReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size, budget = 8 << 20, 64 << 20
		l := wan()
		p := newPrefetcher(t, budget, Options{})
		begin := time.Now()
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				f := &simFile{link: l, size: size}
				r := p.Open(f, remote.Ref{Path: "/f"}, size)
				defer func() { _ = r.Close() }()
				readAll(t, r, 0, size, 128<<10)
				if got := f.requests.Load(); got > size/(256<<10) {
					t.Errorf("%d requests for %d bytes", got, size)
				}
			})
		}
		wg.Wait()
		rate := mbps(64*size, time.Since(begin))
		t.Logf("%.1f MB/s, %+v", rate, p.opts.Budget.Stats())
		if rate < 0.8*pathRate {
			t.Errorf("%.1f MB/s with 64 readers", rate)
		}
	})
}

// TestSlowStreams: where each connection is slow, the reader uses all of them. Each
// request of 1 or 2 MiB pays a round trip beside its 100 or 200 ms, so that two thirds
// of what the connections could carry without a pause is what can be had.
func TestSlowStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &simFile{link: &link{rtt: 50 * time.Millisecond, rate: 1e9, window: 512 << 10}, size: 512 << 20}
		r := open(t, f, 128<<20, Options{})
		begin := time.Now()
		readAll(t, r, 0, f.size, 128<<10)
		limit := 8 * float64(512<<10) / 0.05 / 1e6
		if rate := mbps(f.size, time.Since(begin)); rate < 0.65*limit {
			t.Errorf("%.1f MB/s, eight connections could bring %.1f", rate, limit)
		}
	})
}

// TestFirstByte: the first read of a cold file takes a round trip and its own bytes,
// and so does a read elsewhere while everything is busy ahead.
func TestFirstByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &simFile{link: wan(), size: 1 << 30}
		r := open(t, f, 128<<20, Options{})
		begin := time.Now()
		readAll(t, r, 0, 128<<10, 128<<10)
		if d := time.Since(begin); d > 60*time.Millisecond {
			t.Errorf("first read took %v", d)
		}
		readAll(t, r, 128<<10, 64<<20, 128<<10)
		begin = time.Now()
		readAll(t, r, 900<<20, 900<<20+4<<10, 4<<10)
		if d := time.Since(begin); d > 60*time.Millisecond {
			t.Errorf("a read elsewhere took %v behind what is fetched ahead", d)
		}
	})
}

// TestSlowReader: who is slower than the path does not wait, and is not far ahead.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &simFile{link: wan(), size: 64 << 20}
		r := open(t, f, 128<<20, Options{})
		buf := make([]byte, 128<<10)
		for off := int64(0); off < f.size; off += int64(len(buf)) {
			if _, err := r.ReadAt(t.Context(), buf, off); err != nil {
				t.Fatal(err)
			}
			check(t, buf, off)
			time.Sleep(20 * time.Millisecond) // 6.5 MB/s
		}
		if s := r.Stats(); s.Waits > 8 {
			t.Errorf("%d waits: %+v", s.Waits, s)
		}
		if most := r.p.opts.Budget.Stats().Most; most > 8<<20 {
			t.Errorf("%d bytes held for a slow reader", most)
		}
	})
}

// TestSparseReads: random reads fetch what was asked, in pages, and take a round trip.
func TestSparseReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &simFile{link: wan(), size: 1 << 30}
		r := open(t, f, 64<<20, Options{})
		rnd := rand.New(rand.NewPCG(3, 4))
		buf := make([]byte, 4000)
		const count = 500
		begin := time.Now()
		for range count {
			off := 4096 * (1 + rnd.Int64N(f.size/4096-1))
			if n, err := r.ReadAt(t.Context(), buf, off); n != len(buf) || err != nil {
				t.Fatal(n, err)
			}
			check(t, buf, off)
		}
		if got := f.bytes.Load(); got > count*4096 {
			t.Errorf("%d bytes fetched for %d reads of a page", got, count)
		}
		if each := time.Since(begin) / count; each > 51*time.Millisecond {
			t.Errorf("%v for each read", each)
		}
	})
}

// TestPatternRates: what is not plainly forward is fetched ahead, too, and little else.
func TestPatternRates(t *testing.T) {
	const size = 256 << 20
	tests := []struct {
		name   string
		reads  []access
		faster float64 // than one round trip for each read
		waste  int64   // bytes
	}{
		{"backward", run(size-128*k, -128*k, 128*k, size/(128<<10)), 20, 0},
		{"strided", run(1<<20, 1<<20, 4*k, 200), 3, 64 * 4 * k},
		{"two streams", interleave(run(0, 64*k, 64*k, 1000), run(size/2, 64*k, 64*k, 1000)), 20, 64 << 20},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &simFile{link: wan(), size: size}
				r := open(t, f, 128<<20, Options{})
				begin, total := time.Now(), int64(0)
				buf := make([]byte, 128<<10)
				for _, a := range test.reads {
					if _, err := r.ReadAt(t.Context(), buf[:a.len], a.off); err != nil && err != io.EOF {
						t.Fatal(err)
					}
					check(t, buf[:a.len], a.off)
					total += a.len
				}
				took, one := time.Since(begin), time.Duration(len(test.reads))*50*time.Millisecond
				t.Logf("%v for %d reads, %d bytes of %d", took, len(test.reads), f.bytes.Load(), total)
				if float64(took)*test.faster > float64(one) {
					t.Errorf("%v, one after the other takes %v", took, one)
				}
				if got := f.bytes.Load(); got > total+test.waste {
					t.Errorf("%d bytes fetched, %d read", got, total)
				}
			})
		})
	}
}

// TestLearned: once one file has shown how much has to be ahead, the next one reaches the
// path's rate sooner, and a reader that does not need it does not lose it again.
func TestLearned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 32 << 20
		l := wan()
		p := newPrefetcher(t, 128<<20, Options{})
		var took [3]time.Duration
		for i := range took {
			f := &simFile{link: l, size: size}
			r := p.Open(f, remote.Ref{Path: "/f"}, size)
			begin := time.Now()
			readAll(t, r, 0, size, 128<<10)
			took[i] = time.Since(begin)
			if f.bytes.Load() != size {
				t.Errorf("%d bytes asked for", f.bytes.Load())
			}
			_ = r.Close()
			small := p.Open(f, remote.Ref{Path: "/g"}, size)
			readAll(t, small, 0, 128<<10, 128<<10)
			_ = small.Close()
		}
		t.Log(took)
		if took[1]+took[2] > took[0]*19/10 {
			t.Errorf("the files took %v", took)
		}
	})
}

package prefetch

import (
	"testing"
	"testing/synctest"
	"time"
)

// mbps is bytes over virtual time in units of 1e6 bytes per second.
func mbps(bytes int64, d time.Duration) float64 { return float64(bytes) / d.Seconds() / 1e6 }

// TestSequentialRate reads a large file as the kernel does and demands the path's rate.
func TestSequentialRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &simFile{link: wan(), size: 1 << 30}
		r := open(t, f, 128<<20, Options{})
		begin := time.Now()
		readAll(t, r, 0, f.size, 128<<10)
		took := time.Since(begin)
		rate := mbps(f.size, took)
		t.Logf("%.1f MB/s in %v, %+v, window %d, streams %d, %+v", rate, took, r.Stats(), r.window.streams[0].window, r.climb.n, r.p.opts.Budget.Stats())
		if rate < 0.95*150 {
			t.Errorf("%.1f MB/s, want 95%% of 150", rate)
		}
		if f.bytes.Load() != f.size {
			t.Errorf("%d bytes asked for, the file has %d", f.bytes.Load(), f.size)
		}
	})
}

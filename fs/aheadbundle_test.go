package fs

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshmount/meshmount/cache"
	"github.com/meshmount/meshmount/remote"
)

// bundleWorld is a world with directories of small files, whose server can send bundles.
type bundleWorld struct {
	*fastWorld
	reads, bundles atomic.Int64
	gate           atomic.Pointer[chan struct{}] // bundles wait for it, if there is one
	fail           atomic.Bool                   // bundles fail
}

const bundleFiles, bundleSize = 300, 4 << 10

// newBundleWorld makes one whose server takes that long for a file alone.
func newBundleWorld(t *testing.T, latency time.Duration, change ...func(*Branch)) *bundleWorld {
	t.Helper()
	w := &bundleWorld{}
	w.fastWorld = newFastWorld(t, 0, append([]func(*Branch){func(b *Branch) {
		hooked := remote.Intercept(b.Blocks.Unwrap(), func(ctx context.Context, c *remote.Call, next remote.Next) error {
			switch c.Op {
			case remote.OpRead:
				w.reads.Add(1)
				time.Sleep(latency)
			case remote.OpReadBundle:
				w.bundles.Add(1)
				if err := w.pass(ctx, c); err != nil {
					return err
				}
			}
			return next(ctx)
		})
		b.Blocks = newStore(t).Wrap(hooked, cache.Policy{Branch: "a"})
		b.Backend, b.SmallAhead, b.BundleReads = b.Blocks, 64, true
	}}, change...)...)
	return w
}

// ahead returns what fetches small files ahead.
func (w *bundleWorld) ahead() *dirAheads {
	b, _ := w.ns.resolve("/a")
	return b.ahead
}

// pass lets a bundle wait, and fail.
func (w *bundleWorld) pass(ctx context.Context, c *remote.Call) error {
	if gate := w.gate.Load(); gate != nil {
		select {
		case <-*gate:
		case <-ctx.Done():
			return remote.ContextErr(ctx)
		}
	}
	if w.fail.Load() {
		return c.Fail(remote.Corrupt, nil)
	}
	return nil
}

func (w *bundleWorld) path(dir, i int) string { return fmt.Sprintf("/d%d/f%03d", dir, i) }

func (w *bundleWorld) content(dir, i int) string {
	return string(random(bundleSize + dir*bundleFiles + i))
}

// fill makes a directory.
func (w *bundleWorld) fill(dir int) {
	w.t.Helper()
	w.must(errOf(w.a.Mkdir(w.t.Context(), fmt.Sprintf("/d%d", dir))))
	for i := range bundleFiles {
		w.elsewhere(w.path(dir, i), w.content(dir, i))
	}
}

// readAll lists a directory and reads its files from one to another in order.
func (w *bundleWorld) readAll(dir, from, to int) {
	w.t.Helper()
	if from == 0 {
		w.list("/a")
		w.list(fmt.Sprintf("/a/d%d", dir))
	}
	for i := from; i < to; i++ {
		if got := w.read("/a" + w.path(dir, i)); got != w.content(dir, i) {
			w.t.Fatalf("%s holds %d other bytes", w.path(dir, i), len(got))
		}
	}
}

// TestBundleBringsTheRest: most of a directory that is read in order comes in one request.
func TestBundleBringsTheRest(t *testing.T) {
	w := newBundleWorld(t, 100*time.Millisecond)
	w.fill(0)
	w.readAll(0, 0, bundleFiles)
	t.Logf("%d requests for single files", w.reads.Load())
	if n := w.reads.Load(); w.bundles.Load() != 1 || n > bundleFiles/2 {
		t.Errorf("%d bundles, %d single reads", w.bundles.Load(), n)
	}
}

// TestBundleThatDoesNotCome: nobody waits for one longer than the files take alone, and it
// is not asked for again soon.
func TestBundleThatDoesNotCome(t *testing.T) {
	w := newBundleWorld(t, 5*time.Millisecond)
	w.fill(0)
	w.fill(1)
	gate := make(chan struct{}) // stays closed: the bundle is cut off
	w.gate.Store(&gate)
	w.readAll(0, 0, bundleFiles)
	if w.bundles.Load() != 1 || w.reads.Load() < bundleFiles-20 {
		t.Errorf("%d bundles, %d single reads", w.bundles.Load(), w.reads.Load())
	}
	d := w.ahead()
	w.eventually("the end of the bundle", func() bool { d.mu.Lock(); defer d.mu.Unlock(); return d.bundle == nil })
	if !d.bundling.Resting(time.Now()) {
		t.Error("it was not taken for slow")
	}
	w.readAll(1, 0, bundleFiles)
	if w.bundles.Load() != 1 {
		t.Errorf("%d bundles", w.bundles.Load())
	}
}

// TestBundleOvertaken: while a bundle is on its way files are changed here. What comes of
// their old versions is not kept, and everybody reads what is there.
func TestBundleOvertaken(t *testing.T) {
	w := newBundleWorld(t, 100*time.Millisecond) // or it is cut off before
	w.fill(0)
	gate := make(chan struct{})
	w.gate.Store(&gate)
	w.readAll(0, 0, 20)
	w.eventually("a bundle", func() bool { return w.bundles.Load() == 1 })
	w.write("/a"+w.path(0, 290), "written here")
	w.must(w.Rename(t.Context(), "/a"+w.path(0, 291), "/a"+w.path(0, 292), 0))
	close(gate)
	d := w.ahead()
	w.eventually("the end of the bundle", func() bool { d.mu.Lock(); defer d.mu.Unlock(); return d.bundle == nil })
	w.readAll(0, 20, 60)
	for i, want := range map[int]string{290: "written here", 292: w.content(0, 291), 299: w.content(0, 299)} {
		if got := w.read("/a" + w.path(0, i)); got != want {
			t.Errorf("%s holds %.20q", w.path(0, i), got)
		}
	}
	if d.bundling.Resting(time.Now()) {
		t.Error("that was not the server's fault")
	}
}

// TestNoBundle: directories that a bundle is not for.
func TestNoBundle(t *testing.T) {
	for name, prepare := range map[string]func(w *bundleWorld){
		"a subdirectory": func(w *bundleWorld) { w.must(errOf(w.a.Mkdir(w.t.Context(), "/d0/sub"))) },
		"a symbolic link": func(w *bundleWorld) {
			w.must(errOf(w.a.Symlink(w.t.Context(), "/d0/link", "f000")))
		},
		"a large file beside": func(w *bundleWorld) { w.elsewhere("/d0/large", string(random(20<<20))) },
		"it is off":           func(w *bundleWorld) { w.ahead().bundler = nil },
	} {
		t.Run(name, func(t *testing.T) {
			w := newBundleWorld(t, 10*time.Millisecond)
			w.fill(0)
			prepare(w)
			w.readAll(0, 0, bundleFiles)
			if n := w.bundles.Load(); n != 0 {
				t.Errorf("%d bundles", n)
			}
		})
	}
}

// TestAwaitBundle: who opens a file that is about to come in a bundle waits for it, and for
// nothing else.
func TestAwaitBundle(t *testing.T) {
	w := newBundleWorld(t, 0)
	d := w.ahead()
	d.alone(time.Hour, 1)
	begin := func(due time.Time) *bundle {
		x := &bundle{dir: "/d", over: make(chan struct{}), more: make(chan struct{}), left: map[string]bool{"f": true}, due: due,
			mark: d.b.meta.mark("/d"), files: []remote.BundleFile{{Ref: remote.Ref{Path: "/d/f", Version: "v", Size: 1}, Want: true}}}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.bundle = x
		return x
	}
	begin(time.Now().Add(2 * time.Hour)) // later than alone
	d.await(t.Context(), "/d/f")
	begin(time.Time{}) // nobody knows when
	d.await(t.Context(), "/d/f")
	x := begin(time.Now())
	d.await(t.Context(), "/d/other")
	d.await(t.Context(), "/other/f")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d.await(ctx, "/d/f")
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.await(context.WithoutCancel(t.Context()), "/d/f")
	}()
	select {
	case <-done:
		t.Error("it did not wait")
	case <-time.After(50 * time.Millisecond):
	}
	w.must(d.deliver(x, 0, []byte("x")))
	<-done
	d.mu.Lock()
	d.bundle = nil
	d.mu.Unlock()
}

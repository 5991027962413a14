package fs

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/meshmount/meshmount/cache/writeback"
	"github.com/meshmount/meshmount/prefetch"
	"github.com/meshmount/meshmount/remote"
)

// Bounds of bundles.
const (
	bundleLeast = 24      // files that are worth one
	bundleProof = 1 << 20 // bytes of a directory for each open that followed the order
)

// bundle is one on its way: the rest of a directory whose files are being opened in order.
// The next few files are fetched alone all the while, and whoever opens one of the others
// asks for it alone, unless the bundle is just about to come.
type bundle struct {
	dir   string
	of    *dirAhead
	mark  uint64 // of dir in the metadata: after a change here nothing more is kept
	files []remote.BundleFile
	taken []string // names of files that are not fetched alone until then
	began time.Time
	over  chan struct{} // closed when it is

	left     map[string]bool // guarded by dirAheads.mu; names of files that are wanted and have not come
	more     chan struct{}   // guarded by dirAheads.mu; closed and made anew when one has come
	due      time.Time       // guarded by dirAheads.mu; when it is expected, zero if nobody knows
	released bool            // guarded by dirAheads.mu; the files are fetched alone as well
	cut      bool            // guarded by dirAheads.mu; it was cut off, as it did not come
}

// errOvertaken ends a bundle of a directory that has changed here.
var errOvertaken = errors.New("fs: the directory has changed here")

// pack has the rest of a directory fetched in a bundle, if its files are read in order, the
// server can do that and it is worth it. It does not wait.
func (d *dirAheads) pack(ctx context.Context, dir string) {
	if d.bundler == nil {
		return
	}
	most := d.bundler.Bundles()
	if most.Files <= 1 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	a, ok := d.dirs.get(dir)
	if !ok || d.bundle != nil || a.packed || !a.plain || d.bundling.Resting(time.Now()) || len(a.list) > most.Files || d.bundling.Once() == 0 ||
		a.bytes > min(most.Bytes, int64(a.at().Run())*bundleProof) {
		return
	}
	rest := a.at().Rest()
	rest = rest[:min(len(rest), d.b.Blocks.Room())] // what comes too early is given up again
	if len(rest) < bundleLeast {
		return
	}
	x := &bundle{dir: dir, of: a, over: make(chan struct{}), left: map[string]bool{}, more: make(chan struct{}), mark: d.b.meta.mark(dir)}
	for _, f := range rest {
		x.left[f.Name] = true
		x.taken = append(x.taken, f.Name)
	}
	a.at().Take(rest)
	a.packed, d.bundle = true, x
	d.run(ctx, func(ctx context.Context) { d.fetchBundle(ctx, x, most) })
}

// fetchBundle brings a bundle into the block cache.
func (d *dirAheads) fetchBundle(ctx context.Context, x *bundle, most remote.Bundles) {
	n := d.choose(ctx, x, most)
	if hold, ok := d.expect(x, n); ok {
		read, cut := context.WithCancel(ctx)
		d.run(ctx, func(ctx context.Context) { d.hold(ctx, x, hold, cut) })
		// Who opens a file that has not come asks for it, and hears of an error then.
		err := d.bundler.ReadBundle(read, x.dir, x.files, func(i int, data []byte) error { return d.deliver(x, i, data) })
		cut()
		d.came(x, n, err)
	}
	close(x.over)
	d.mu.Lock()
	if d.bundle = nil; !x.released && len(x.left) == 0 {
		d.mu.Unlock()
		return
	}
	d.mu.Unlock()
	d.release(ctx, x)
}

// choose says which files of the directory are wanted, and returns their number; 0 if the
// bundle is not worth it. If it is, the others are fetched alone.
func (d *dirAheads) choose(ctx context.Context, x *bundle, most remote.Bundles) (n int) {
	d.mu.Lock()
	rest := maps.Clone(x.left)
	d.mu.Unlock()
	var wanted, all int64
	for _, f := range x.of.list {
		k, ok := d.b.meta.recall(remote.Join(x.dir, f.Name))
		e := k.e
		if !ok || k.absent || e.Type != remote.File || e.Version == "" || writeback.IsLocal(e.Version) {
			return 0 // who is to tell where its bytes end?
		}
		want := rest[f.Name] && !e.Provisional && e.Size > 0 && e.Size <= most.Size && d.b.small(e.Size) && !d.here(e)
		if all += e.Size; want {
			wanted += e.Size
			n++
		} else {
			delete(rest, f.Name)
		}
		x.files = append(x.files, remote.BundleFile{Ref: remote.Ref{Path: e.Path, Version: e.Version, Size: e.Size}, Want: want})
	}
	if n < bundleLeast || wanted < all/2 {
		return 0
	}
	d.mu.Lock()
	maps.DeleteFunc(x.left, func(name string, _ bool) bool { _, ok := rest[name]; return !ok })
	others := x.of.at().GiveBack(x.without(rest))
	d.mu.Unlock()
	d.start(ctx, x.dir, others)
	return n
}

// without returns the names that were taken for the bundle and are not wanted.
func (x *bundle) without(wanted map[string]bool) (names []string) {
	for _, name := range x.taken {
		if !wanted[name] {
			names = append(names, name)
		}
	}
	return names
}

// expect tells how long n files are to wait for the bundle, and whether it is worth it.
func (d *dirAheads) expect(x *bundle, n int) (hold time.Duration, ok bool) {
	if n == 0 {
		return 0, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	x.began = time.Now()
	hold, due, ok := d.bundling.Plan(x.began, n, d.b.SmallAhead)
	if due > 0 {
		x.due = x.began.Add(due)
	}
	return hold, ok
}

// hold keeps the files from being fetched alone for a while, and cuts the bundle off when
// nothing more has come of it for as long again: all of it would come twice.
func (d *dirAheads) hold(ctx context.Context, x *bundle, hold time.Duration, cut context.CancelFunc) {
	t := time.NewTicker(max(hold, time.Millisecond))
	defer t.Stop()
	for before := -1; ; {
		select {
		case <-t.C:
		case <-x.over:
			return
		case <-ctx.Done():
			return
		}
		d.release(ctx, x)
		d.mu.Lock()
		left := len(x.left)
		x.cut = left == before
		d.mu.Unlock()
		if left == before {
			cut()
			return
		}
		before = left
	}
}

// release has the files fetched alone that have not come.
func (d *dirAheads) release(ctx context.Context, x *bundle) {
	d.mu.Lock()
	var files []prefetch.File
	if !x.released {
		x.released = true
		files = x.of.at().GiveBack(slices.Collect(maps.Keys(x.left)))
	}
	d.mu.Unlock()
	d.start(ctx, x.dir, files)
}

// deliver puts a file into the block cache.
func (d *dirAheads) deliver(x *bundle, i int, data []byte) error {
	ref := x.files[i].Ref
	if d.b.meta.mark(x.dir) != x.mark {
		return errOvertaken
	}
	if err := d.b.Blocks.Prime(ref, bytes.NewReader(data), int64(len(data))); err != nil {
		return err
	}
	if d.b.meta.mark(x.dir) != x.mark {
		d.b.Blocks.Invalidate(ref.Path) // the change did not find it there
		return errOvertaken
	}
	_, name := remote.Split(ref.Path)
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(x.left, name)
	close(x.more)
	x.more = make(chan struct{})
	return nil
}

// came judges a bundle of n files that is over.
func (d *dirAheads) came(x *bundle, n int, err error) {
	switch kind := remote.KindOf(err); {
	case err != nil && d.b.meta.mark(x.dir) != x.mark, errors.Is(err, context.Canceled) && !d.wasCut(x):
		return // that is not the server's fault
	case err != nil && (kind == remote.Unsupported || kind == remote.NotExist):
		return // nothing was tried, or Bundles tells it from now on
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	missing := 0
	for _, f := range x.files {
		if _, name := remote.Split(f.Ref.Path); f.Want && x.left[name] {
			missing++
		}
	}
	now := time.Now()
	d.bundling.Came(now, n-missing, n, d.b.SmallAhead, now.Sub(x.began))
}

// wasCut tells whether hold has cut the bundle off.
func (d *dirAheads) wasCut(x *bundle) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return x.cut
}

// await waits for a file of the bundle on its way, if that is about to come sooner than an
// answer to a request for the file alone.
func (d *dirAheads) await(ctx context.Context, path string) {
	dir, name := remote.Split(path)
	var end <-chan time.Time
	for {
		d.mu.Lock()
		x := d.bundle
		if x == nil || x.dir != dir || x.released || !x.left[name] || x.due.IsZero() {
			d.mu.Unlock()
			return
		}
		once, more, wait := d.bundling.Once(), x.more, time.Until(x.due)
		d.mu.Unlock()
		if end == nil {
			if wait > once || wait < -once/2 {
				return
			}
			t := time.NewTimer(wait + once/2)
			defer t.Stop()
			end = t.C
		}
		select {
		case <-more:
		case <-x.over:
			return
		case <-end:
			return
		case <-ctx.Done():
			return
		}
	}
}

// readAt reads a small file: out of the bundle that brings it, from the cache or from the
// server.
func (d *dirAheads) readAt(ctx context.Context, b remote.Backend, ref remote.Ref, p []byte, off int64) (int, error) {
	if d == nil || d.bundler == nil {
		return b.ReadAt(ctx, ref, p, off)
	}
	if d.b.Blocks.HasLocal(ref, 0, ref.Size) >= ref.Size {
		return b.ReadAt(ctx, ref, p, off)
	}
	d.await(ctx, ref.Path)
	d.mu.Lock()
	known := d.bundling.Once() > 0
	d.mu.Unlock()
	if known || d.b.Blocks.HasLocal(ref, 0, ref.Size) >= ref.Size {
		return b.ReadAt(ctx, ref, p, off)
	}
	began := time.Now()
	n, err := b.ReadAt(ctx, ref, p, off)
	d.alone(time.Since(began), 1)
	return n, err
}

// alone takes note of how long a file took that came alone, while so many were on the way.
func (d *dirAheads) alone(took time.Duration, flying int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bundling.Alone(took, flying, d.b.SmallAhead)
}

package fs

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/meshmount/meshmount/cache/writeback"
	"github.com/meshmount/meshmount/prefetch"
	"github.com/meshmount/meshmount/remote"
)

// Bounds of reading small files ahead.
const (
	maxAheadFiles = 50_000           // in the directories that are watched
	aheadMemory   = 10 * time.Second // how long a directory read in order speaks for the next
	maxCredit     = 16               // directories that may be begun on trust
	aheadCredit   = 2                // of these, what one directory that was read in order earns
)

// dirAheads watches in which order the small files of a branch's directories are opened,
// and brings those that come next into the block cache. Safe for concurrent use.
type dirAheads struct {
	b     *branch
	now   func() time.Time
	run   detacher
	slots chan struct{} // a token for each file on the way
	// bundler is nil if directories are not to be fetched in bundles.
	bundler remote.Bundler

	mu     sync.Mutex
	dirs   generations[string, *dirAhead] // guarded by mu
	proven time.Time                      // guarded by mu; when a directory was last read in order
	batch  int                            // guarded by mu; files that were ahead then
	credit int                            // guarded by mu; directories that may be begun without a proof of their own

	bundle   *bundle           // guarded by mu; on its way
	bundling prefetch.Bundling // guarded by mu
}

// dirAhead is one directory.
type dirAhead struct {
	list   []prefetch.File
	most   int
	block  int64
	watch  *prefetch.DirAhead // made when it is needed: most directories are only listed
	proven bool               // its own opens have earned credit
	begun  bool               // on trust
	plain  bool               // there are only files
	bytes  int64              // of all files
	packed bool               // a bundle was asked for, or found not to be worth it
}

// newDirAheads returns nil if nothing is to be fetched ahead.
func newDirAheads(b *branch, now func() time.Time, run detacher) *dirAheads {
	if b.Blocks == nil || b.SmallAhead <= 0 {
		return nil
	}
	d := &dirAheads{b: b, now: now, run: run, slots: make(chan struct{}, b.SmallAhead),
		dirs: newGenerations[string, *dirAhead](maxAheadFiles)}
	d.dirs.cost = func(a *dirAhead) int { return len(a.list) + 1 }
	if b.BundleReads {
		d.bundler, _ = remote.As[remote.Bundler](b.Blocks.Unwrap())
	}
	return d
}

// listed tells the order in which a program is shown the entries of a directory. If it
// has just read the small files of another one, the first ones here are fetched. It does
// not wait.
func (d *dirAheads) listed(ctx context.Context, dir string, entries []remote.Entry) {
	if d == nil {
		return
	}
	a := d.watch(entries)
	d.mu.Lock()
	if old, ok := d.dirs.get(dir); ok && slices.Equal(old.list, a.list) {
		d.mu.Unlock()
		return // what was seen of it holds on
	}
	var files []prefetch.File
	if d.trusted(a) {
		files = a.at().Begin(d.batch)
	}
	d.dirs.put(dir, a)
	d.mu.Unlock()
	d.start(ctx, dir, files)
}

// watch begins to watch a directory.
func (d *dirAheads) watch(entries []remote.Entry) *dirAhead {
	a := &dirAhead{most: d.b.SmallAhead, block: d.b.Blocks.BlockSize(), list: make([]prefetch.File, 0, len(entries))}
	for _, e := range entries {
		if e.Type == remote.File {
			_, name := remote.Split(e.Path)
			a.list = append(a.list, prefetch.File{Name: strings.Clone(name), Size: e.Size})
			a.bytes += e.Size
		}
	}
	a.plain = len(a.list) == len(entries)
	return a
}

// at returns the watch.
func (a *dirAhead) at() *prefetch.DirAhead {
	if a.watch == nil {
		a.watch = prefetch.NewDirAhead(a.list, a.block, a.most)
	}
	return a.watch
}

// opened takes note that a file is opened for reading and fetches what probably comes
// next. It does not wait.
func (d *dirAheads) opened(ctx context.Context, e remote.Entry) {
	if d == nil || e.Size <= 0 || !d.b.small(e.Size) || writeback.IsLocal(e.Version) {
		return
	}
	dir, name := remote.Split(e.Path)
	stalled := !d.here(e)
	d.start(ctx, dir, d.next(dir, name, stalled))
	if stalled {
		d.pack(ctx, dir)
	}
}

// start fetches files of a directory, as far as it is known what they are.
func (d *dirAheads) start(ctx context.Context, dir string, files []prefetch.File) {
	for _, f := range files {
		// Whatever its age: if the file is another by now, its bytes are of no use, and
		// that is all.
		k, ok := d.b.meta.recall(remote.Join(dir, f.Name))
		if ok && !k.absent && k.e.Type == remote.File && !k.e.Provisional && !writeback.IsLocal(k.e.Version) && d.b.small(k.e.Size) && !d.here(k.e) {
			d.run(ctx, func(ctx context.Context) { d.fetch(ctx, k.e) })
		}
	}
}

// here tells whether a small file is in the block cache.
func (d *dirAheads) here(e remote.Entry) bool {
	return d.b.Blocks.HasLocal(remote.Ref{Path: e.Path, Version: e.Version, Size: e.Size}, 0, e.Size) >= e.Size
}

// fetch brings a small file into the block cache.
func (d *dirAheads) fetch(ctx context.Context, e remote.Entry) {
	select {
	case d.slots <- struct{}{}:
	case <-ctx.Done():
		return
	}
	defer func() { <-d.slots }()
	began, here := time.Now(), d.bundler == nil || d.here(e)
	// Who opens the file asks again, and hears of an error then.
	err := d.b.Blocks.Warm(ctx, remote.Ref{Path: e.Path, Version: e.Version, Size: e.Size}, 0, e.Size)
	if err == nil && !here {
		d.alone(time.Since(began), len(d.slots))
	}
}

// next returns the files to fetch.
func (d *dirAheads) next(dir, name string, stalled bool) []prefetch.File {
	d.mu.Lock()
	defer d.mu.Unlock()
	a, ok := d.dirs.get(dir)
	if !ok {
		entries, _, known := d.b.meta.listed(dir)
		if !known {
			return nil
		}
		a = d.watch(slices.Clip(entries))
		d.dirs.put(dir, a)
	}
	if !a.at().Active() && d.trusted(a) {
		a.at().Expect(d.batch)
	}
	files := a.at().Open(name, stalled)
	if a.at().Proven() {
		d.proven, d.batch = d.now(), a.at().Batch()
		if !a.proven {
			a.proven, d.credit = true, min(d.credit+aheadCredit, maxCredit)
		}
	}
	return files
}

// trusted tells whether a directory is to be begun without a proof of its own, because
// others were just read in order. Each takes of the credit that those have earned, so
// that a program that only lists, or opens one file in each, soon gets nothing. Guarded
// by mu.
func (d *dirAheads) trusted(a *dirAhead) bool {
	if a.begun || d.credit == 0 || d.now().Sub(d.proven) >= aheadMemory {
		return false
	}
	a.begun = true
	d.credit--
	return true
}

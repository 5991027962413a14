package keep

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive"
)

// Options qualify Wrap. Zero fields take the defaults.
type Options struct {
	// Logger is told of damaged archives; default none.
	Logger *slog.Logger
	// Fewest is from how many files of a directory on they become an archive; fewer are
	// put as plain files. Default 2.
	Fewest int
	// Mode is what the permission bits of a file are of which none are known; default 0644.
	Mode uint32
}

// Backend shows a tree in which small files are in archives.
type Backend struct {
	inner remote.Backend
	opts  Options

	mu      sync.Mutex
	views   map[string]*view  // guarded by mu; of directories, what was seen last
	viewed  int               // guarded by mu; members in views
	indexes map[string]*known // guarded by mu; of archives, by path and version
	held    int               // guarded by mu; members in indexes
	bytes   int               // guarded by mu; that indexes take
	told    map[string]bool   // guarded by mu; damaged archives that were logged
	blind   bool              // guarded by mu; directories have no versions
	windows map[spot]*window  // guarded by mu
	reads   map[string]int    // guarded by mu; of members, by the archive's key
	off     bool              // guarded by mu; the server does not list archives
	closed  bool              // guarded by mu
}

var _ interface {
	remote.Backend
	remote.AttrSetter
	remote.AttrBatcher
	remote.Symlinker
	remote.Opener
	remote.Usager
	remote.Locator
	remote.Xattrer
	remote.Replicator
	remote.TreeRemover
	remote.Tracker
	remote.GrowingPutter
	remote.Patcher
	remote.Sweeper
	remote.Batcher
	remote.Bundler
	remote.Pruner
	remote.Replacer
	remote.Foreseer
	remote.Unwrapper
} = (*Backend)(nil)

// Wrap returns inner with the files in its archives as plain files. It is to stand around
// the Retry of the stack, and below whatever caches. Closing it closes inner.
func Wrap(inner remote.Backend, opts Options) *Backend {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Fewest <= 0 {
		opts.Fewest = 2
	}
	opts.Mode = cmp.Or(opts.Mode, 0o644)
	return &Backend{inner: inner, opts: opts, views: map[string]*view{}, indexes: map[string]*known{}, told: map[string]bool{},
		windows: map[spot]*window{}, reads: map[string]int{}}
}

// Unwrap implements remote.Unwrapper. Every optional ability that the adapter may have is
// implemented here as well, so that none goes past the archives.
func (k *Backend) Unwrap() remote.Backend { return k.inner }

// Caps implements remote.Backend. Conditions cannot be checked by the server alone where
// archives are, so that they are looked at.
func (k *Backend) Caps() remote.Caps {
	c := k.inner.Caps()
	c.Overwrite, c.Create = min(c.Overwrite, remote.GuardLook), min(c.Create, remote.GuardLook)
	c.RemoveGuard = min(c.RemoveGuard, remote.GuardLook)
	return c
}

// Close implements remote.Backend.
func (k *Backend) Close() error {
	k.mu.Lock()
	k.closed = true
	clear(k.windows)
	k.mu.Unlock()
	return k.inner.Close()
}

// URL implements remote.Locator. Of a file in an archive it is where it would be.
func (k *Backend) URL(path string) string {
	if l, ok := remote.As[remote.Locator](k.inner); ok {
		return l.URL(path)
	}
	return ""
}

// Usage implements remote.Usager.
func (k *Backend) Usage(ctx context.Context) (remote.Usage, error) {
	u, ok := remote.As[remote.Usager](k.inner)
	if !ok {
		return remote.Usage{}, fail("usage", "/", remote.Unsupported)
	}
	return u.Usage(ctx)
}

// Changed implements remote.Tracker: archives and tombstones are in the directory that they
// are about.
func (k *Backend) Changed(ctx context.Context, dir, mark string) (remote.Changes, error) {
	t, ok := remote.As[remote.Tracker](k.inner)
	if !ok {
		return remote.Changes{}, fail("changed", dir, remote.Unsupported)
	}
	c, err := t.Changed(ctx, dir, mark)
	if !missing(err) {
		return c, err
	}
	return c, k.explain(ctx, "changed", dir, remote.NotDir, err)
}

// Sweep implements remote.Sweeper.
func (k *Backend) Sweep(ctx context.Context, path string, size int64, dead func(tag string) bool) error {
	s, ok := remote.As[remote.Sweeper](k.inner)
	if !ok {
		return fail("sweep", path, remote.Unsupported)
	}
	return s.Sweep(ctx, path, size, dead)
}

// fail makes the error of one call.
func fail(op, path string, kind remote.Kind) error {
	return &remote.Error{Op: op, Path: path, Kind: kind}
}

// missing tells whether err says that there is nothing at a path.
func missing(err error) bool { return err != nil && errors.Is(err, remote.NotExist) }

// isKind tells whether err is of one of the kinds.
func isKind(err error, kinds ...remote.Kind) bool {
	if err == nil {
		return false
	}
	for _, k := range kinds {
		if errors.Is(err, k) {
			return true
		}
	}
	return false
}

// isOurs tells whether the path may be one of our own files.
func isOurs(path string) bool {
	_, name := remote.Split(path)
	return archive.Hidden(name)
}

// visible returns an error unless a path can be spoken of: our own files are not there, but
// for those that are damaged.
func (k *Backend) visible(ctx context.Context, op, path string) error {
	if err := remote.CheckPath(op, path); err != nil {
		return err
	}
	if !isOurs(path) {
		return nil
	}
	dir, name := remote.Split(path)
	v, err := k.look(ctx, dir)
	if err != nil {
		return err
	}
	if _, there := v.raw.odd[name]; !there {
		return fail(op, path, remote.NotExist)
	}
	return nil
}

// takes returns an error if nothing can be made at path.
func takes(op, path string) error {
	if err := remote.CheckPath(op, path); err != nil {
		return err
	}
	if isOurs(path) {
		return &remote.Error{Op: op, Path: path, Kind: remote.Invalid, Err: errors.New("names of this kind are for the archives of meshmount")}
	}
	return nil
}

// explain returns the error of a call that found nothing at path: kind, if a member is
// there, or that the server gave.
func (k *Backend) explain(ctx context.Context, op, path string, kind remote.Kind, given error) error {
	m, err := k.member(ctx, path)
	switch {
	case isKind(err, remote.NotExist, remote.NotDir):
		return given
	case err != nil:
		return err
	case m != nil:
		return fail(op, path, kind)
	}
	return given
}

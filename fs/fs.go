package fs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/meshmount/meshmount/cache"
	"github.com/meshmount/meshmount/cache/writeback"
	"github.com/meshmount/meshmount/prefetch"
	"github.com/meshmount/meshmount/remote"
)

// Options configure an FS. Validate reports all faults.
type Options struct {
	UID, GID uint32 // owner of everything
	Umask    uint32 // taken from 0666 and 0777 for entries that have no stored mode
	// StageDir holds the content of files that are open for writing. It must exist
	// and be private; what a dead mount left there is removed by New.
	StageDir string
	// ParkDir receives the content of files that could not be put to the server,
	// with a JSON description beside each.
	ParkDir string
	// MetaMemory bounds the attributes and listings in memory, of all branches together,
	// in bytes, about; 0 for 64 MiB.
	MetaMemory int64
	// Hostname is part of the names of conflict copies.
	Hostname string
	// FsyncRemote makes fsync wait until the server has the file, where there is a
	// journal. Else it waits for this node's disk.
	FsyncRemote bool
	Logger      *slog.Logger
	Now         func() time.Time // nil: time.Now
}

// metaMemory returns MetaMemory with its default.
func (o *Options) metaMemory() int {
	if o.MetaMemory <= 0 {
		return defaultMetaMemory
	}
	return int(o.MetaMemory)
}

// Validate reports all faults of o.
func (o *Options) Validate() error {
	var errs []error
	for _, d := range []struct{ name, dir string }{{"StageDir", o.StageDir}, {"ParkDir", o.ParkDir}} {
		if st, err := os.Stat(d.dir); err != nil || !st.IsDir() {
			errs = append(errs, fmt.Errorf("fs: %s %q is not a directory", d.name, d.dir))
		}
	}
	if strings.ContainsAny(o.Hostname, "/\x00") {
		errs = append(errs, fmt.Errorf("fs: host name %q cannot be part of a file name", o.Hostname))
	}
	if o.Umask&^0o777 != 0 {
		errs = append(errs, fmt.Errorf("fs: umask %#o is out of range", o.Umask))
	}
	return errors.Join(errs...)
}

// Branch is one remote tree and where it appears.
type Branch struct {
	Prefix string // "/" or "/name" or "/deeper/name"
	// Backend is the tree. It may be nil if Back is not.
	Backend remote.Backend
	// Back takes changes into its journal and brings them to the server behind; nil puts
	// each file to the server when it is closed. The caller closes its Store after the
	// FS and before Backend.
	Back     *writeback.Branch
	ReadOnly bool
	// AttrTTL is how old attributes may be when they are used again; 0 asks the
	// server at each open and lookup. DirTTL is the same for the names in a
	// directory, NegTTL for the absence of a name.
	AttrTTL, DirTTL, NegTTL time.Duration
	// Blocks is Backend, or what is below Back, if that serves reads from a block cache,
	// else nil.
	Blocks *cache.Cached
	// Ahead reads ahead for the files of this branch; nil reads what is asked for and
	// no more. The caller closes it after Close and before Backend.
	Ahead *prefetch.Prefetcher
	// SmallAhead is how many small files of a directory that is being read in order are
	// fetched ahead, 0 for none.
	SmallAhead int
	// BundleReads has the files of such a directory fetched in one request, where the server
	// can pack them and that is quicker.
	BundleReads bool
	// Tree remembers listings over remounts; nil remembers them in memory only.
	Tree *cache.Tree
	// DirStale is how much longer than DirTTL an old listing is shown while a new one is
	// fetched behind it; 0 is never.
	DirStale time.Duration
	// Listings is how many directories at most are listed ahead when a tree is walked, 0
	// for 16.
	Listings int
}

// branch is a Branch at work.
type branch struct {
	Branch
	prefix string
	caps   func() remote.Caps
	meta   *metaCache
	usage  usageCache
	ahead  *dirAheads // nil if nothing is fetched ahead
	walk   walk

	fetchMu sync.Mutex
	fetches map[string]*dirFetch // guarded by fetchMu; listings under way
}

// FS is the tree. All methods are safe for concurrent use.
type FS struct {
	opts   Options
	usual  *remote.Modes // of entries without stored ones
	log    *slog.Logger
	now    func() time.Time
	ns     *namespace
	inos   *inodes
	paths  locker
	stages *writeback.Stages
	disk   fullDisk
	pages  *versions // version whose pages the kernel may hold, by inode

	xattrs   *inoCache[map[string][]byte] // extended attributes that servers keep
	replicas *inoCache[string]

	start time.Time

	mu         sync.Mutex
	files      map[string]*file   // guarded by mu; open, by present path
	byIno      map[uint64][]*file // guarded by mu; open, newest last, also unlinked ones
	invalidate func(Invalidation) // guarded by mu

	background sync.WaitGroup
	closing    context.Context
	stop       context.CancelFunc
}

// Invalidation tells the kernel's side what to forget.
type Invalidation struct {
	Path    string
	Ino     uint64
	Content bool // cached pages and attributes
	Entry   bool // the name
}

// New builds the tree over the branches. It sends no request. The caller closes the
// backends after Close.
func New(opts Options, branches []Branch) (*FS, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	f := &FS{opts: opts, usual: remote.ModesOf(opts.Umask), log: opts.Logger, now: opts.Now, inos: newInodes(), pages: newVersions(),
		files: map[string]*file{}, byIno: map[uint64][]*file{}, invalidate: func(Invalidation) {}}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	if f.now == nil {
		f.now = time.Now
	}
	f.xattrs = newInoCache(f.now, maxXattrBytes, xattrCost)
	f.replicas = newInoCache(f.now, maxReplicaBytes, textCost)
	f.start = f.now()
	f.closing, f.stop = context.WithCancel(context.Background())
	var list []*branch
	for _, b := range branches {
		if b.Back != nil {
			b.Backend = b.Back
		}
		x := &branch{Branch: b, prefix: b.Prefix, caps: b.Backend.Caps,
			meta:    newMetaCache(b, f.now, f.detach, opts.metaMemory()/len(branches), f.usual),
			fetches: map[string]*dirFetch{}}
		x.ahead = newDirAheads(x, f.now, f.detach)
		x.walk.init(b)
		x.meta.list = func(ctx context.Context, dir string, most int) error { return f.list(ctx, x, dir, most) }
		list = append(list, x)
	}
	var err error
	if f.ns, err = newNamespace(list); err != nil {
		return nil, err
	}
	if f.stages, err = writeback.OpenStages(opts.StageDir); err != nil {
		return nil, err
	}
	for _, b := range list {
		if b.Back != nil {
			b.Back.OnSettled(func(s writeback.Settled) { f.settled(b, s) })
		}
	}
	return f, nil
}

// detach is the detacher of f.
func (f *FS) detach(ctx context.Context, do func(context.Context)) context.CancelFunc {
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	release := context.AfterFunc(f.closing, cancel)
	f.background.Go(func() {
		defer release()
		defer cancel()
		do(inner)
	})
	return cancel
}

// OnInvalidate registers the function that tells the kernel what to forget. It must
// not block and must not call back into the FS.
func (f *FS) OnInvalidate(fn func(Invalidation)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.invalidate = fn
}

func (f *FS) tell(i Invalidation) {
	f.mu.Lock()
	fn := f.invalidate
	f.mu.Unlock()
	fn(i)
}

// Close puts what is still open and changed to the servers, or into the journal, parks
// what cannot be put before ctx ends, and waits for the goroutines. The kernel must not
// use the FS any more. The error names every file that was parked.
func (f *FS) Close(ctx context.Context) error {
	f.mu.Lock()
	var open []*file
	for _, list := range f.byIno {
		open = append(open, list...)
	}
	f.mu.Unlock()
	var errs []error
	for _, x := range open {
		errs = append(errs, x.finish(ctx))
	}
	f.stop()
	f.background.Wait()
	return errors.Join(errs...)
}

// fail makes an error of the core itself.
func fail(op, path string, kind remote.Kind, why error) error {
	return &remote.Error{Op: op, Path: path, Kind: kind, Err: why}
}

// local translates an error of the local disk, unless it has a kind already.
func local(op, path string, err error) error {
	var known *remote.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return err
	case errors.Is(err, syscall.EFBIG):
		return fail(op, path, remote.TooLarge, fmt.Errorf("staging: %w", err))
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fail(op, path, remote.NoSpace, fmt.Errorf("staging: %w", err))
	}
	return fail(op, path, remote.Other, fmt.Errorf("staging: %w", err))
}

// writable returns the branch for a change at path, or why there can be none.
func (f *FS) writable(op, path string) (*branch, string, error) {
	if err := remote.CheckPath(op, path); err != nil {
		return nil, "", err
	}
	b, rel := f.ns.resolve(path)
	if _, name := remote.Split(path); len(name) > nameMax {
		return nil, "", fail(op, path, remote.NameTooLong, nil)
	}
	switch {
	case b == nil, b.ReadOnly, b.caps().ReadOnly:
		return nil, "", fail(op, path, remote.ReadOnly, nil)
	}
	return b, rel, nil
}

const nameMax = 255

// Package memory is a remote.Backend that keeps its tree in memory. It is the
// executable specification of the contract: what the prose of package remote leaves
// open is answered here in the strictest way, and the Options make it weaker in
// the ways real servers are weaker.
//
// It has all optional abilities: remote.AttrSetter, Symlinker, Opener, Usager,
// Locator, Xattrer, Replicator, TreeRemover, Tracker, GrowingPutter, Patcher, Batcher,
// Bundler and Pruner. To get a backend without them, embed it: struct{ remote.Backend }.
package memory

import (
	"context"
	"crypto/rand"
	"errors"
	"net/url"
	"sync"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// Options make a Backend weaker or more talkative. The zero value gives the
// strongest backend that the contract knows.
type Options struct {
	// Quota in bytes over all contents, 0 for none. A Put beyond it is NoSpace.
	Quota int64
	// MaxFile is the largest file in bytes, 0 for any. A larger one is TooLarge.
	MaxFile int64
	// MaxName is the longest name in bytes, 0 for any. A longer one is NameTooLong.
	MaxName int
	// RefuseName, if set, tells which names are Invalid.
	RefuseName func(name string) bool
	// ReadOnly refuses every change with ReadOnly. See Backend.SetReadOnly.
	ReadOnly bool
	// NoRanges shows Caps.Ranges as false. ReadAt works all the same.
	NoRanges bool
	// Propagate changes the version of all directories above a change.
	Propagate bool
	// Unguarded ignores all conditions and shows GuardNone for them.
	Unguarded bool
	// InPlacePut stores a Put byte by byte over the old content: readers see the
	// part that has arrived, and a Put that fails leaves it. Its conditions are
	// looked at before the first byte only (GuardLook). PutGrowing does so as well,
	// unless it is to make a new file (Cond.NotExist).
	InPlacePut bool
	// WeakVersions derives the version of a file from its size and the time of its
	// last change, cut to Granularity, and marks it Provisional until that time
	// unit is over.
	WeakVersions bool
	// Granularity cuts all times, 0 for exact times.
	Granularity time.Duration
	// AttrVersions gives a file a new version when its attributes are set.
	AttrVersions bool
	// NoMTime and NoMode drop that attribute.
	NoMTime, NoMode bool
	// NoSymlinks refuses symbolic links.
	NoSymlinks bool
	// Checksums shows the sha256 of each file.
	Checksums bool
	// Access is shown on every entry if it holds remote.AccessKnown.
	Access remote.Access
	// RefuseXattr, if set, tells which extended attributes are Invalid.
	RefuseXattr func(name string, value []byte) bool
	// Journal is the number of changes that Changed can look back on at least, 0 for
	// 65,536.
	Journal int
	// Batches is what the Batcher says. Zero: it can do nothing in batches.
	Batches remote.Batches
	// Bundles is what the Bundler says. Zero: there is never anything in a bundle.
	Bundles remote.Bundles
	// Clock tells the time, time.Now if nil.
	Clock func() time.Time
}

// Backend is a tree in memory. It is safe for concurrent use.
type Backend struct {
	opts Options
	life context.Context // ends with Close
	end  context.CancelFunc

	mu       sync.RWMutex // guards what follows and every node
	root     *node
	serial   uint64 // last version or ID that was handed out
	used     int64  // bytes in all files
	readOnly bool
	closed   bool
	journal  journal
	parts    map[partKey][]byte // of Puts with PutOptions.Resume that failed
	resumed  int64
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
} = (*Backend)(nil)

// New returns a backend that holds an empty root directory.
func New(opts Options) *Backend {
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	if opts.Journal == 0 {
		opts.Journal = defaultJournal
	}
	b := &Backend{opts: opts, readOnly: opts.ReadOnly, parts: map[partKey][]byte{}}
	b.life, b.end = context.WithCancel(context.Background())
	b.journal = journal{owner: rand.Text(), most: opts.Journal}
	b.root = b.newNode(remote.Dir)
	return b
}

// SetReadOnly changes whether changes are refused, so that a read-only backend can
// be filled first. Caps follows.
func (b *Backend) SetReadOnly(on bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.readOnly = on
}

// Caps implements remote.Backend.
func (b *Backend) Caps() remote.Caps {
	b.mu.RLock()
	defer b.mu.RUnlock()
	guard := remote.GuardAtomic
	if b.opts.Unguarded {
		guard = remote.GuardNone
	}
	putGuard := guard
	if b.opts.InPlacePut {
		putGuard = min(guard, remote.GuardLook)
	}
	return remote.Caps{
		Dialect:           "memory",
		ReadOnly:          b.readOnly,
		AtomicPut:         !b.opts.InPlacePut,
		Overwrite:         putGuard,
		Create:            putGuard,
		RemoveGuard:       guard,
		Ranges:            !b.opts.NoRanges,
		PropagatesVersion: b.opts.Propagate,
		StoresMTime:       !b.opts.NoMTime,
		StoresMode:        !b.opts.NoMode,
		StoresSymlinks:    !b.opts.NoSymlinks,
		TimeGranularity:   b.opts.Granularity,
		MaxName:           b.opts.MaxName,
	}
}

// Close implements remote.Backend. The content is gone.
func (b *Backend) Close() error {
	defer b.end()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.root.children, b.parts = nil, nil
	return nil
}

// URL implements remote.Locator.
func (b *Backend) URL(path string) string {
	return (&url.URL{Scheme: "memory", Path: path}).String()
}

// fail makes the *remote.Error of one call.
func fail(op, path string, kind remote.Kind) error {
	return &remote.Error{Op: op, Path: path, Kind: kind}
}

var (
	errShort = errors.New("source ended before its size")
	errLong  = errors.New("source goes on after its size")
)

package writeback

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/remote"
)

// Options configure a Store.
type Options struct {
	// Size bounds the bytes in staging files, 0 for no bound. When it is reached, writers
	// wait for uploads, and after Patience without any they get ENOSPC.
	Size int64
	// Reserve is how many bytes of the file system are left free.
	Reserve int64
	// Patience is how long a writer waits for space while no upload moves, 0 for 30 s.
	Patience time.Duration
	// RetryWait is the first wait after a failure, 0 for half a second; it doubles up to a
	// minute.
	RetryWait time.Duration
	// SyncEvery is how often what was committed without a sync is brought to stable
	// storage, 0 for one second.
	SyncEvery time.Duration
	// Grace is how long the changes of an earlier mount wait before they are carried out
	// again: its last requests may still be on their way to a server that takes them.
	Grace time.Duration
	// Late is how long a request that was cut off may take to reach its server, 0 for five
	// seconds.
	Late time.Duration
	// Hostname is part of the names of conflict copies.
	Hostname string
	Logger   *slog.Logger
	Now      func() time.Time // nil: time.Now
	// BootID names the run of the machine, "" for what the kernel says.
	BootID string
}

func (o Options) withDefaults() Options {
	o.Late = cmp.Or(o.Late, 5*time.Second)
	o.Patience = cmp.Or(o.Patience, 30*time.Second)
	o.RetryWait = cmp.Or(o.RetryWait, 500*time.Millisecond)
	o.SyncEvery = cmp.Or(o.SyncEvery, time.Second)
	o.Hostname = cmp.Or(o.Hostname, "localhost")
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// LockedError tells that another process has the journal open.
type LockedError struct{ Dir string }

func (e *LockedError) Error() string {
	return "the journal in " + e.Dir + " is in use by another process"
}

// Store is the journal and the staging files of one mount. Its methods are safe for
// concurrent use.
type Store struct {
	opts    Options
	log     *slog.Logger
	lock    *os.File
	stages  *Stages
	space   *space
	journal *journal
	session string // part of the versions of this process
	tag     string // of its uploads, "" for none

	syncMu sync.Mutex // held by syncNow; before mu

	mu        sync.Mutex
	wake      sync.Cond            // for those who wait for the end of changes; on mu
	branches  []*Branch            // guarded by mu
	staged    map[string]bool      // names of staging files at the beginning
	orphans   map[uint64]*orphan   // guarded by mu; changes of branches that are not mounted
	cleans    map[uint64]record    // guarded by mu; of early uploads under way
	conflicts []conflictNote       // guarded by mu
	lastID    uint64               // guarded by mu
	versions  uint64               // guarded by mu
	unsynced  map[*change]struct{} // guarded by mu
	dirty     bool                 // guarded by mu; the journal has records that are not synced
	started   bool                 // guarded by mu
	paused    bool                 // guarded by mu
	draining  int                  // guarded by mu
	closed    bool                 // guarded by mu
	turn      int                  // guarded by mu; the branch to be served next
	syncing   int                  // guarded by mu; who keeps staging files for a sync

	kick    chan struct{}
	life    context.Context
	end     context.CancelFunc
	working sync.WaitGroup // uploads
	owners  sync.WaitGroup // the loops
}

// Open opens the journal in dir, or makes one: the directory must exist and be private.
// The error is a *LockedError if another process has it.
func Open(dir string, opts Options) (*Store, error) {
	opts = opts.withDefaults()
	s := &Store{opts: opts, log: opts.Logger, session: fmt.Sprintf("%08x", rand.Uint32()), orphans: map[uint64]*orphan{}, cleans: map[uint64]record{},
		unsynced: map[*change]struct{}{}, kick: make(chan struct{}, 1)}
	s.wake.L = &s.mu
	s.life, s.end = context.WithCancel(context.Background())
	if err := s.acquire(dir); err != nil {
		return nil, err
	}
	s.sign()
	staging, logs := filepath.Join(dir, "staging"), filepath.Join(dir, "journal")
	for _, d := range []string{staging, logs} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, errors.Join(err, s.lock.Close())
		}
	}
	s.space = newSpace(staging, opts.Size, opts.Reserve, opts.Patience)
	s.space.stuck = s.stuck
	s.stages = &Stages{dir: staging, space: s.space, spares: spares{most: maxSpares}, slots: slots{dir: staging, all: map[string]*segment{}}}
	var err error
	if s.journal, err = openLog(logs, logOptions{BootID: opts.BootID, Logger: opts.Logger}); err == nil {
		err = s.replay()
	}
	if err != nil {
		return nil, errors.Join(err, s.lock.Close())
	}
	return s, nil
}

// acquire locks the directory.
func (s *Store) acquire(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = &LockedError{dir}
		}
		return errors.Join(err, f.Close())
	}
	s.lock = f
	return nil
}

// Start begins the uploads.
func (s *Store) Start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started || s.closed {
		return
	}
	s.started = true
	s.owners.Go(s.schedule)
	s.owners.Go(s.syncer)
}

// Close stops the uploads at once. What is pending stays in the journal.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.wake.Broadcast()
	branches := slices.Clone(s.branches)
	s.mu.Unlock()
	s.end()
	s.owners.Wait()
	s.working.Wait()
	for _, b := range branches {
		b.teller.close()
	}
	s.unshare()
	err := s.syncNow()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.branches {
		b.letGo()
	}
	s.stages.slots.clear()
	return errors.Join(err, s.stages.spares.clear(), s.journal.close(), s.lock.Close())
}

// stuck tells whether no upload will end soon: all are paused, held or parked, or there
// are none.
func (s *Store) stuck() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.syncing > 0 {
		return false
	}
	if s.paused || !s.started || s.closed {
		return true
	}
	for _, b := range s.branches {
		if b.active > 0 || b.pace.why == nil && b.queue.any() {
			return false
		}
	}
	return true
}

// poke has the scheduler look.
func (s *Store) poke() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// nextID returns a number for a change. Guarded by mu.
func (s *Store) nextID() uint64 {
	s.lastID++
	return s.lastID
}

// nextVersion returns a version for content. Guarded by mu.
func (s *Store) nextVersion() string {
	s.versions++
	return fmt.Sprintf("%s%s.%x", localPrefix, s.session, s.versions)
}

// write appends records to the journal. Guarded by mu.
func (s *Store) write(group ...record) error {
	err := s.journal.append(pointers(group), false)
	if remote.KindOf(err) == remote.NoSpace && err != nil {
		s.shrink(true) // what is over may give way
		err = s.journal.append(pointers(group), false)
	}
	s.dirty = s.dirty || err == nil
	return err
}

func pointers(group []record) []*record {
	list := make([]*record, len(group))
	for i := range group {
		list[i] = &group[i]
	}
	return list
}

// note is write for what must not fail the caller: the fact is repeated, or found again,
// by a replay. Guarded by mu.
func (s *Store) note(group ...record) {
	s.dirty = true
	if err := s.journal.appendReserved(pointers(group), false); err != nil {
		s.log.Error("the journal of written data cannot be written; what is done may be done again after a restart", "err", err)
	}
}

// done returns the record of the end of a change.
func doneRecord(c *change) record { return record{Kind: recDone, ID: c.id} }

// tidy makes the journal smaller when most of it is of no use any more. Guarded by mu.
func (s *Store) tidy() { s.shrink(false) }

// shrink is tidy, on a full disk also where little is to be had. Guarded by mu.
func (s *Store) shrink(full bool) {
	live := len(s.orphans) + len(s.conflicts)
	for _, b := range s.branches {
		live += len(b.all)
	}
	if !s.journal.bloated(live, full) {
		return
	}
	if err := s.journal.compact(s.live); err != nil {
		s.log.Warn("the journal of written data could not be made smaller", "err", err)
	}
}

// live yields all records that matter. Guarded by mu.
func (s *Store) live(yield func(*record) bool) {
	for _, o := range s.orphans {
		for _, r := range o.records() {
			if !yield(&r) {
				return
			}
		}
	}
	for _, b := range s.branches {
		ids := make([]*change, 0, len(b.all))
		for _, c := range b.all {
			ids = append(ids, c)
		}
		slices.SortFunc(ids, func(a, b *change) int { return cmp.Compare(a.id, b.id) })
		for _, c := range ids {
			if !c.yield(yield) {
				return
			}
		}
	}
	for _, r := range s.cleans {
		if !yield(&r) {
			return
		}
	}
	for i := range s.conflicts {
		r := s.conflicts[i].record()
		if !yield(&r) {
			return
		}
	}
}

// yield gives the records of a change.
func (c *change) yield(yield func(*record) bool) bool {
	r := c.record()
	if !yield(&r) {
		return false
	}
	if c.state == parked {
		p := c.parkedRecord()
		return yield(&p)
	}
	return true
}

// parkedRecord returns the record of a failure for good.
func (c *change) parkedRecord() record {
	return record{Kind: recParked, ID: c.id, Cause: c.cause.Error(), ErrKind: remote.KindOf(c.cause), Time: c.since}
}

// syncer brings to stable storage what was committed without.
func (s *Store) syncer() {
	t := time.NewTicker(s.opts.SyncEvery)
	defer t.Stop()
	for {
		select {
		case <-s.life.Done():
			return
		case <-t.C:
		}
		if err := s.syncNow(); err != nil {
			s.log.Error("written data cannot be brought to stable storage: it would not survive a power failure", "err", err)
		}
	}
}

// manySyncs is from how many files on the whole file system is synced.
const manySyncs = 32

// syncNow syncs all that is not, and notes it.
func (s *Store) syncNow() error {
	s.syncMu.Lock() // who comes second waits for what the first one syncs
	defer s.syncMu.Unlock()
	s.mu.Lock()
	if !s.dirty && len(s.unsynced) == 0 {
		s.mu.Unlock()
		return nil
	}
	type shot struct {
		c     *change
		gen   uint64
		stage *Stage
	}
	s.dirty = false
	s.syncing++
	var shots []shot
	for c := range s.unsynced {
		x := shot{c: c, gen: c.gen}
		if c.stage != nil {
			x.stage = c.stage.retain()
		}
		shots = append(shots, x)
	}
	s.mu.Unlock()
	var err error
	if len(shots) > manySyncs {
		err = unix.Syncfs(int(s.lock.Fd()))
	}
	for _, x := range shots {
		if x.stage == nil {
			continue
		}
		if len(shots) <= manySyncs && err == nil {
			err = x.stage.Sync()
		}
		x.stage.Release()
	}
	if err == nil && len(shots) > 0 {
		err = s.stages.sync()
	}
	if err == nil {
		err = s.journal.sync()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.syncing--
	if err != nil {
		s.dirty = true
		return err
	}
	var group []record
	for _, x := range shots {
		if x.c.gen == x.gen && x.c.state != over {
			x.c.synced = true
			group = append(group, record{Kind: recSynced, ID: x.c.id, Gen: x.gen})
		}
		if x.c.gen == x.gen {
			delete(s.unsynced, x.c)
		}
	}
	if len(group) > 0 {
		// These may wait for the next sync: without them a replay is only more careful.
		dirty := s.dirty
		err := s.write(group...)
		s.dirty = dirty
		return err
	}
	return nil
}

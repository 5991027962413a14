package cache

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Hint tells what is known about the use of a block.
type Hint uint8

// The hints.
const (
	// Normal: admitted.
	Normal Hint = iota
	// Stream: part of a pass that will not be repeated. Admitted only if the block
	// was here, or was offered, not long ago.
	Stream
)

// Store is a block cache in a directory. It is safe for concurrent use.
//
// Locks: x.mu of the index and mu are never held together. mu is held for short
// moments without I/O, but for making and deleting segments.
type Store struct {
	dir     string
	opts    Options
	log     *slog.Logger
	buffers buffers
	gate    gate
	session uint64 // separates provisional blocks from those of other Opens
	serial  atomic.Uint64
	lock    *os.File
	made    os.FileInfo // of the format file
	index   *index      // nil if the store was off from the start
	slab    *slab
	meta    *metaLog // nil if it cannot be opened

	running sync.RWMutex // held for reading by calls, for writing by Close
	state   atomic.Pointer[condition]
	puts    atomic.Int64

	mu     sync.Mutex // guards what follows and slab.files
	queue  *queue
	hot    hotBlocks
	looked time.Time // last look at the disk
	need   int64     // bytes that must be free before blocks are admitted again
	stuck  bool      // the disk has no space for another segment

	count counters
}

// condition is a state with its reason.
type condition struct {
	state  State
	reason error
}

type counters struct {
	hits, misses, hitBytes, puts, putBytes, refused, evicted, corrupt atomic.Int64
}

// Open opens the block cache in dir, which is made if need be.
//
// Errors: *LockedError if another process, or another Store of this one, has it open;
// ErrFormat if it holds anything but a block cache of this version; others if the
// directory cannot be made or belongs to somebody else. A disk that is full or fails
// is no error: the Store is returned in StateOff or StateFull.
func Open(dir string, opts Options) (*Store, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if err := private(dir); err != nil {
		return nil, err
	}
	s := &Store{dir: dir, opts: opts, gate: gate{limit: opts.FetchMemory}, buffers: buffers{most: int(opts.FetchMemory / 4)}, log: opts.Logger, session: rand.Uint64() | 1}
	// Generations grow over all Opens, as long as the clock does not go back; they
	// are a second guard, the identity in the header is the first.
	s.serial.Store(uint64(time.Now().UnixNano()))
	s.state.Store(&condition{state: StateReady})
	if s.lock, err = lock(dir); err != nil {
		return nil, err
	}
	if err := s.start(); err != nil {
		_ = s.lock.Close()
		return nil, err
	}
	return s, nil
}

// start reads or makes what is in the directory.
func (s *Store) start() error {
	l := plan(s.opts.Size, s.opts.BlockSize)
	s.queue, s.slab = newQueue(l.slots), newSlab(s.dir, l)
	have, err := readFormat(s.dir)
	switch {
	case errors.Is(err, os.ErrNotExist) || err == nil && (have.blockSize != l.blockSize || have.segSlots > l.slots):
		if err = wipe(s.dir); err == nil {
			err = writeFormat(s.dir, format{l.blockSize, l.segSlots})
		}
	case err == nil:
		l.segSlots = have.segSlots
		l.slots = l.slots / l.segSlots * l.segSlots
		s.slab.layout = l
	}
	if err == nil {
		s.made, err = os.Stat(filepath.Join(s.dir, formatName))
	}
	if err == nil {
		err = s.load()
	}
	if diskTrouble(err) {
		s.turnOff(err)
		err = nil
	}
	if err == nil {
		s.startMeta()
	}
	return err
}

// diskTrouble tells whether an error means that the disk is full or failing.
func diskTrouble(err error) bool {
	for _, e := range []error{errNoSpace, errIndex, syscall.ENOSPC, syscall.EDQUOT, syscall.EIO} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// load opens segments and index.
func (s *Store) load() error {
	if err := s.slab.openAll(); err != nil {
		return err
	}
	if err := s.checkReserve(); err != nil {
		return err
	}
	x, fresh, err := openIndex(s.dir, s.slab.layout, s.log)
	if err != nil {
		return err
	}
	s.index = x
	for fresh && len(s.slab.files) > 0 { // nothing leads to what is in them
		if err := s.slab.dropLast(); err != nil {
			return err
		}
	}
	return s.fillQueue()
}

// fillQueue enters the slots that are there.
func (s *Store) fillQueue() error {
	n := len(s.slab.files)
	if n == 0 {
		return nil
	}
	used, err := s.slab.used()
	if err != nil {
		return err
	}
	s.queue.grow(n*s.slab.segSlots, used+(n-1)*s.slab.segSlots)
	return nil
}

// checkReserve looks whether the index may take the space that it has not yet. It gives
// segments back for that, if that is enough.
func (s *Store) checkReserve() error {
	free, err := freeSpace(s.dir)
	if err != nil {
		return err
	}
	all, err := taken(s.dir)
	if err != nil {
		return err
	}
	meta, err := taken(filepath.Join(s.dir, metaDirName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	has := max(all-meta-int64(len(s.slab.files))*s.slab.segmentSize(), 0)
	lacks := s.opts.Reserve + max(s.slab.index-has, 0) - free
	if lacks > int64(len(s.slab.files))*s.slab.segmentSize() {
		return fmt.Errorf("%w: %d bytes are free, %d must stay", errNoSpace, free, s.opts.Reserve)
	}
	for ; lacks > 0; lacks -= s.slab.segmentSize() {
		if err := s.slab.dropLast(); err != nil {
			return err
		}
	}
	return nil
}

// turnOff ends the use of the disk for good.
func (s *Store) turnOff(reason error) {
	for {
		now := s.state.Load()
		if now.state == StateOff || now.state == StateClosed {
			return
		}
		if s.state.CompareAndSwap(now, &condition{StateOff, reason}) {
			s.log.Warn("the block cache is off; reads go to the server", "dir", s.dir, "err", reason)
			return
		}
	}
}

// pause stops the admission of blocks, or ends that with a nil reason.
func (s *Store) pause(reason error) {
	from, to := StateFull, &condition{state: StateReady}
	if reason != nil {
		from, to = StateReady, &condition{StateFull, reason}
	}
	if now := s.state.Load(); now.state == from && s.state.CompareAndSwap(now, to) {
		s.log.Warn("the block cache changed its state", "dir", s.dir, "state", to.state, "err", reason)
	}
}

// fault judges an error of the disk.
func (s *Store) fault(what string, err error) {
	if errors.Is(err, errNoSpace) {
		if free, err := freeSpace(s.dir); err == nil {
			s.mu.Lock()
			s.need = free + 2*margin
			s.mu.Unlock()
		}
		s.pause(err)
		return
	}
	s.turnOff(fmt.Errorf("%s: %w", what, err))
}

// serves and admits tell what the state allows.
func (s *Store) serves() bool {
	now := s.state.Load().state
	return now == StateReady || now == StateFull
}

func (s *Store) admits() bool { return s.state.Load().state == StateReady }

// BlockSize of the store in bytes.
func (s *Store) BlockSize() int { return s.opts.BlockSize }

// Put stores a whole block, or the last, shorter one of an object, and tells whether
// it was admitted. It does not keep data.
func (s *Store) Put(k Key, data []byte, hint Hint) bool {
	s.running.RLock()
	defer s.running.RUnlock()
	ok := s.put(k, data, hint)
	if ok {
		s.count.puts.Add(1)
		s.count.putBytes.Add(int64(len(data)))
	} else {
		s.count.refused.Add(1)
	}
	return ok
}

func (s *Store) put(k Key, data []byte, hint Hint) bool {
	if !s.serves() || len(data) == 0 || len(data) > s.opts.BlockSize || k.Version == "" {
		return false
	}
	s.look(false)
	if !s.admits() {
		return false
	}
	i := k.ident(s.session)
	if s.holds(i) {
		return true
	}
	if hint == Stream && !s.recall(i.id) {
		return false
	}
	slot, at, victim, ok := s.take()
	if !ok {
		return false
	}
	loc := location{slot, s.serial.Add(1)}
	err := s.fill(i, loc, at, victim, data)
	if err == nil {
		err = s.index.set(i.id, loc)
	}
	s.mu.Lock()
	if err == nil {
		s.queue.filled(slot, i.id.hash())
	} else {
		s.queue.unpin(slot)
	}
	s.mu.Unlock()
	if err != nil {
		s.fault("write", err)
	}
	return err == nil
}

// recall tells whether a block was here or was offered before, and notes the offer.
func (s *Store) recall(k id) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queue.isGhost(k.hash()) {
		return true
	}
	s.queue.remember(k.hash())
	return false
}

// victims are what stands in a slot that is taken.
type victims struct{ any, fromSmall bool }

// take finds a slot: a free one, one of a new segment, or one whose block must go.
func (s *Store) take() (int32, place, victims, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue.free) == 0 && len(s.slab.files) < s.slab.segments() {
		s.extend()
	}
	had := len(s.queue.free) == 0
	slot, fromSmall, ok := s.queue.take()
	if !ok {
		return 0, place{}, victims{}, false
	}
	s.hot.drop(slot)
	return slot, s.slab.at(slot), victims{had, fromSmall}, true
}

// extend makes another segment if the disk has the space. Without, the store works
// with those it has, and says so once. Called with mu held.
func (s *Store) extend() {
	free, err := freeSpace(s.dir)
	if err == nil && free-s.slab.segmentSize()-margin < s.opts.Reserve {
		err = fmt.Errorf("%d bytes are free, and %d are to stay free", free, s.opts.Reserve)
	}
	var file *os.File
	if err == nil {
		file, err = s.slab.create(len(s.slab.files))
	}
	if err != nil {
		if !s.stuck {
			s.log.Warn("the block cache cannot grow", "dir", s.dir, "blocks", len(s.slab.files)*s.slab.segSlots, "err", err)
		}
		s.stuck = true
		return
	}
	s.stuck = false
	s.slab.files = append(s.slab.files, file)
	s.queue.grow(s.slab.segSlots, 0)
}

// fill writes a block into a slot, after the one that stands there was forgotten.
func (s *Store) fill(i ident, loc location, at place, v victims, data []byte) error {
	if v.any {
		if err := s.evict(loc.slot, at, v); err != nil {
			return err
		}
	}
	return at.write(i, loc.generation, data)
}

// evict forgets the block in a slot: its header tells which that is.
func (s *Store) evict(slot int32, at place, v victims) error {
	var h header
	err := at.readHeader(&h)
	if err != nil && !rotten(err) {
		return err
	}
	if err != nil || h.state != slotFull {
		return nil
	}
	s.count.evicted.Add(1)
	if v.fromSmall {
		s.mu.Lock()
		s.queue.remember(h.id.hash())
		s.mu.Unlock()
	}
	loc, err := s.index.get(h.id)
	if errors.Is(err, errNotFound) || err == nil && loc.slot != slot {
		return nil
	} else if err != nil {
		return err
	}
	return s.index.delete(h.id)
}

package cache

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	cleanName = "clean"
	// Segments are between these, and 16 of them the whole.
	minMetaSegment = 64 << 10
	maxMetaSegment = 16 << 20
	// maxQueued bounds the bytes that wait for the disk, and maxForgets the records
	// without a body among them.
	maxQueued  = 8 << 20
	maxForgets = 1 << 17
	// maxKept bounds the records that are known, and maxPruned the trees that are
	// forgotten.
	maxKept   = 1 << 18
	maxPruned = 1 << 16
)

// metaShare is how much of size bytes goes to metadata.
func metaShare(size int64) int64 { return min(max(size/32, 1<<20), 256<<20) }

// spot is where a record begins: the number of the segment, and the offset in it. It
// orders all records of a log.
type spot uint64

func spotOf(segment uint32, off int64) spot { return spot(segment)<<32 | spot(uint32(off)) }

func (s spot) segment() uint32 { return uint32(s >> 32) }
func (s spot) off() int64      { return int64(uint32(s)) }

// kept is what is known of a record.
type kept struct {
	at   spot
	turn uint64 // of its making
	size int32
	used bool // since it was written
}

// pruned is a tree that was forgotten.
type pruned struct {
	turn uint64
	at   spot // 0 as long as that is not on the disk
}

// write is a record on its way to the disk.
type write struct {
	record
	turn uint64
	p    []byte
}

// metaLog is the metadata of all branches of a Store: an append-only log in segments.
// When there are too many, the oldest is dropped, and what of it was used is written
// again. One goroutine writes; where each record lies is in memory (about 60 bytes for
// each), so that a listing costs one write, and one read that is checked.
//
// It is not in Badger: values of the size of listings would go through its value log,
// which it maps and gives back late, or through its tables, which it writes again and
// again, and a flush of the index stops Badger. (Measured: see BenchmarkMetaOpen and
// BenchmarkMetaLoad.)
//
// The order of the records is the promise: what was forgotten is on the disk before
// what was saved after it. A process that dies leaves a log whose last records are
// missing. So the ages of records hold only if the log was closed; with a record whose
// age is unknown, the caller has to prove it by the server's word, and whatever was
// changed before the end makes that proof fail.
type metaLog struct {
	dir     string
	log     *slog.Logger
	segSize int64
	segMax  int
	spares  func(n int64) bool // tells whether n bytes may be taken
	boot    uint64

	mu      sync.Mutex
	cond    *sync.Cond          // told of each change of queue, wiped and closing
	index   map[uint64]kept     // guarded by mu; by key
	trees   map[uint64]pruned   // guarded by mu; by key
	waiting map[uint64]*write   // guarded by mu; the newest in queue of each key
	queue   []*write            // guarded by mu
	queued  int                 // guarded by mu; bytes in queue
	files   map[uint32]*os.File // guarded by mu; by segment
	trust   spot                // guarded by mu; the ages of records from here on hold
	turn    uint64              // guarded by mu; counts records
	wiped   bool                // guarded by mu; all segments are to be removed
	closing bool                // guarded by mu
	reason  error               // guarded by mu; why it is off
	bytes   int64               // guarded by mu; in the segments
	count   MetaStats           // guarded by mu; only the counts
	writer  sync.WaitGroup

	segments []*metaSegment // of the writer; oldest first
}

// openMeta opens the metadata in dir, within size bytes. What is there and cannot be
// used is deleted. spares tells whether the file system has that many bytes for us.
func openMeta(dir string, size int64, spares func(int64) bool, log *slog.Logger) (*metaLog, error) {
	l := &metaLog{dir: dir, log: log, spares: spares, boot: bootID(),
		index: map[uint64]kept{}, trees: map[uint64]pruned{}, waiting: map[uint64]*write{}, files: map[uint32]*os.File{}}
	l.cond = sync.NewCond(&l.mu)
	l.segSize = min(max(size/16, minMetaSegment), maxMetaSegment)
	l.segMax = int(size / l.segSize)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	clean, trust := readClean(filepath.Join(dir, cleanName))
	whole, err := l.replay()
	if err != nil {
		log.Warn("the metadata of the cache is damaged; beginning with none", "dir", dir, "err", err)
		if err := l.removeAll(); err != nil {
			return nil, err
		}
	}
	if l.trust = l.end(); whole && clean == l.trust {
		l.trust = trust
	}
	for l.bytes > size { // there was more space the last time
		if _, err := l.dropOldest(false); err != nil {
			return nil, errors.Join(err, l.closeFiles())
		}
	}
	// From now on, the log is not whole until it is closed.
	if err := removeDurably(dir, cleanName); err != nil {
		return nil, errors.Join(err, l.closeFiles())
	}
	l.writer.Go(l.run)
	return l, nil
}

// replay learns which records there are, and whether anything follows the last.
func (l *metaLog) replay() (whole bool, err error) {
	numbers, err := segmentNumbers(l.dir)
	if err != nil {
		return false, err
	}
	whole = true
	for i, n := range numbers {
		s, torn, err := openSegment(l.dir, n, func(r record) { l.learn(n, r) })
		if err != nil {
			return false, err
		}
		l.segments = append(l.segments, s)
		l.files[n] = s.file
		last := i == len(numbers)-1
		if !last && (torn || !s.sealed) {
			return false, fmt.Errorf("%w: segment %d", errDamaged, n)
		}
		whole = !torn
		if torn && !s.sealed {
			err = s.file.Truncate(s.end)
		}
		st, statErr := s.file.Stat()
		if err = errors.Join(err, statErr); err != nil {
			return false, err
		}
		l.bytes += st.Size()
	}
	return whole, nil
}

// learn takes one record of replay into the index.
func (l *metaLog) learn(segment uint32, r record) {
	l.turn++
	at := spotOf(segment, r.off)
	switch r.kind {
	case recordListing, recordMark:
		l.index[r.key] = kept{at: at, turn: l.turn, size: int32(r.size())}
	case recordForget:
		delete(l.index, r.key)
	case recordPrune:
		l.trees[r.key] = pruned{l.turn, at}
	}
}

// end is where the next record goes.
func (l *metaLog) end() spot {
	if len(l.segments) == 0 {
		return 0
	}
	s := l.segments[len(l.segments)-1]
	return spotOf(s.n, s.end)
}

// removeAll deletes all segments, and forgets what is known of them.
func (l *metaLog) removeAll() error {
	err := l.closeFiles()
	numbers, readErr := segmentNumbers(l.dir)
	err = errors.Join(err, readErr)
	for _, n := range numbers {
		err = errors.Join(err, os.Remove(segmentPath(l.dir, n)))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.index)
	clear(l.trees)
	l.bytes = 0
	return err
}

func (l *metaLog) closeFiles() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var err error
	for n, file := range l.files {
		err = errors.Join(err, file.Close())
		delete(l.files, n)
	}
	l.segments = nil
	return err
}

// save has a record written, or drops it if too much waits already.
func (l *metaLog) save(kind recordKind, key uint64, at time.Time, body []byte) {
	w := &write{record: record{kind: kind, key: key, boot: l.boot, booted: bootedAt()}}
	if !at.IsZero() {
		w.at = at.UnixNano()
	}
	w.p = w.encode(body)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reason != nil || l.closing {
		return
	}
	if l.queued+len(w.p) > maxQueued || w.size()+metaHead > l.segSize/2 {
		l.count.Dropped++
		if kind == recordListing { // what was known before is older than what the caller knows
			l.forgetLocked(recordForget, key)
		}
		return
	}
	l.count.Saves++
	l.waiting[key] = w
	l.enqueue(w)
}

// enqueue is called with mu held.
func (l *metaLog) enqueue(w *write) {
	l.turn++
	w.turn = l.turn
	l.queue = append(l.queue, w)
	l.queued += len(w.p)
	l.cond.Broadcast()
}

// forget takes effect at once, and is written in its turn.
func (l *metaLog) forget(kind recordKind, key uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forgetLocked(kind, key)
}

// forgetLocked is called with mu held.
func (l *metaLog) forgetLocked(kind recordKind, key uint64) {
	_, known := l.index[key]
	_, waits := l.waiting[key]
	nothing := kind == recordForget && !known && !waits || len(l.index)+len(l.waiting) == 0
	if l.reason != nil || l.closing || nothing {
		return
	}
	if len(l.queue) >= maxForgets || len(l.trees) >= maxPruned {
		l.wipe()
		return
	}
	delete(l.index, key)
	delete(l.waiting, key)
	w := &write{record: record{kind: kind, key: key}}
	w.p = w.encode(nil)
	l.enqueue(w)
	if kind == recordPrune {
		l.trees[key] = pruned{turn: l.turn}
	}
}

// wipe forgets everything. Called with mu held.
func (l *metaLog) wipe() {
	l.wiped = true
	clear(l.index)
	clear(l.trees)
	clear(l.waiting)
	l.queue, l.queued = nil, 0
	l.cond.Broadcast()
}

// load returns the newest record of a key, unless it lies below a tree that was
// forgotten: line are the keys from the root to it.
func (l *metaLog) load(key uint64, line []uint64) (r record, body []byte, ok bool) {
	l.mu.Lock()
	l.count.Loads++
	l.mu.Unlock()
	for range loadTries {
		var moved bool
		if r, body, moved = l.loadOnce(key, line); !moved {
			return r, body, body != nil
		}
	}
	return record{}, nil, false
}

// loadTries is how often a record is looked for that is written again elsewhere meanwhile.
const loadTries = 3

// loadOnce is load; body is nil if there is nothing, or if the record has moved while it was
// being read.
func (l *metaLog) loadOnce(key uint64, line []uint64) (r record, body []byte, moved bool) {
	l.mu.Lock()
	if w := l.waiting[key]; w != nil && !l.dead(line, w.turn) {
		l.count.Hits++
		r := record{kind: w.kind, key: w.key, at: w.at, boot: w.boot, booted: w.booted} // the writer sets the rest
		l.mu.Unlock()
		return r, w.p[recordHead:], false
	}
	k, ok := l.index[key]
	if ok && l.dead(line, k.turn) {
		delete(l.index, key)
		ok = false
	}
	file := l.files[k.at.segment()]
	if !ok || file == nil {
		l.mu.Unlock()
		return record{}, nil, false
	}
	k.used = true
	l.index[key] = k
	trusted := k.at >= l.trust
	l.mu.Unlock()
	r, body, err := readRecord(file, k.at.off(), int(k.size))
	l.mu.Lock()
	defer l.mu.Unlock()
	if now, still := l.index[key]; err != nil || r.key != key {
		if still && now.at == k.at {
			delete(l.index, key)
			l.count.Corrupt++
			return record{}, nil, false
		}
		return record{}, nil, still || l.waiting[key] != nil // its segment was dropped
	}
	l.count.Hits++
	if !trusted {
		r.at = 0
	}
	return r, body, false
}

// dead tells whether one of the trees of line was forgotten after turn. Called with mu
// held.
func (l *metaLog) dead(line []uint64, turn uint64) bool {
	if len(l.trees) == 0 {
		return false
	}
	for _, key := range line {
		if t, ok := l.trees[key]; ok && t.turn > turn {
			return true
		}
	}
	return false
}

// stats returns the counts so far.
func (l *metaLog) stats() MetaStats {
	if l == nil {
		return MetaStats{Reason: "it could not be opened"}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.count
	s.On, s.Kept = l.reason == nil && !l.closing, len(l.index)
	s.Bytes, s.MaxBytes = l.bytes, int64(l.segMax)*l.segSize
	if l.reason != nil {
		s.Reason = l.reason.Error()
	}
	return s
}

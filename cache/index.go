package cache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// location is where a block lies.
type location struct {
	slot       int32
	generation uint64
}

var (
	errIndex    = errors.New("the index failed")
	errNotFound = badger.ErrKeyNotFound
)

const (
	// entryCost is more than what one change takes of Badger's table in memory and
	// of its log: key, value, and a node of the skip list of up to 96 bytes.
	entryCost = 300
	// manyTables is the number of unsorted tables at which they are merged.
	manyTables = 4
	// flushWait is how long an old log may take to become a table.
	flushWait = 20 * time.Second
	// asideExt is added to the name of the index while it must not be written to.
	asideExt = ".aside"
	// margin is what must be free besides what a flush needs.
	margin = 2 << 20
)

// index is the Badger database with the space that was put aside for it.
type index struct {
	dir     string // of the Store
	log     *slog.Logger
	layout  layout
	ballast *ballast
	sums    sums

	// mu is held for reading by everybody who uses db, for writing to replace it.
	mu     sync.RWMutex
	db     *badger.DB
	broken *atomic.Bool // set by Badger's goroutines when a flush failed
	merge  bool         // the tables are to be merged when db is closed
	ops    atomic.Int64 // changes since the last flush
}

// openIndex reserves the space and opens the database. A damaged one is deleted, and
// fresh says so. The error is errNoSpace if Badger must not be started.
func openIndex(dir string, l layout, log *slog.Logger) (x *index, fresh bool, err error) {
	x = &index{dir: dir, log: log, layout: l}
	if x.ballast, err = openBallast(filepath.Join(dir, ballastName)); err != nil {
		return nil, false, err
	}
	if err := x.putBack(); err != nil {
		return nil, false, errors.Join(err, x.ballast.close())
	}
	if err := x.verify(); err != nil {
		log.Warn("the index of the cache is damaged; beginning with an empty one", "dir", dir, "err", err)
		fresh = true
	}
	if !fresh {
		if err = x.open(); err != nil && !errors.Is(err, errNoSpace) {
			log.Warn("the index of the cache cannot be opened; beginning with an empty one", "dir", dir, "err", err)
			fresh = true
		}
	}
	if fresh {
		err = x.startAgain()
	}
	if err != nil {
		return nil, false, errors.Join(err, x.ballast.close())
	}
	return x, fresh, nil
}

func (x *index) path() string { return filepath.Join(x.dir, indexName) }

// putBack gives the index its name again after a Store was left in the lurch by a
// full disk.
func (x *index) putBack() error {
	if _, err := os.Lstat(x.path() + asideExt); err != nil {
		return nil
	}
	return errors.Join(os.RemoveAll(x.path()), os.Rename(x.path()+asideExt, x.path()))
}

// startAgain deletes the index and opens an empty one.
func (x *index) startAgain() error {
	if err := os.RemoveAll(x.path()); err != nil {
		return err
	}
	x.sums = nil
	return x.open()
}

// sweep deletes the value log, which is not used but would be read, and what Badger had
// begun to delete: it cuts a file to nothing first, and stumbles over the rest.
func (x *index) sweep() error {
	entries, err := os.ReadDir(x.path())
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return err
		}
		ext := filepath.Ext(e.Name())
		emptied := info.Size() == 0 && (ext == ".mem" || ext == ".sst")
		if !emptied && ext != ".vlog" && e.Name() != "DISCARD" {
			continue
		}
		if err := os.Remove(filepath.Join(x.path(), e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// verify compares the files of the index with the sums of the last flush, before
// Badger, which takes them for right, maps them.
func (x *index) verify() error {
	all, err := readSums(filepath.Join(x.dir, sumsName))
	if err != nil {
		return err
	}
	if err := x.sweep(); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := all.verify(x.path()); err != nil {
		return err
	}
	x.sums = all
	return nil
}

// open reserves the space that the index may come to need, opens Badger and takes
// the rest of the space back.
func (x *index) open() error {
	if err := os.MkdirAll(x.path(), 0o700); err != nil {
		return err
	}
	if err := x.reserve(); err != nil {
		return err
	}
	if err := x.openDB(); err != nil {
		return err
	}
	return x.settle()
}

// reserve takes all the space of the index and gives it back for the moments that
// follow: what is free then is at least that.
func (x *index) reserve() error {
	used, err := taken(x.path())
	if err != nil {
		return err
	}
	if err := x.ballast.hold(x.layout.index - used); err != nil {
		x.log.Debug("the ballast of the cache is not whole", "err", err)
	}
	return x.release()
}

// release gives the ballast back and looks whether that is enough to go on. If not, it
// takes back what it can.
func (x *index) release() error {
	if err := x.ballast.release(); err != nil {
		return err
	}
	free, err := freeSpace(x.dir)
	if err != nil {
		return err
	}
	tables, err := x.tables()
	if err != nil {
		return err
	}
	// Badger writes the tables anew beside the old ones, a new one, and a new log
	// and an unused value log of 2 MiB beside the old of each.
	if need := tables + 3*x.layout.table + 4<<20 + margin; free < need {
		return errors.Join(fmt.Errorf("%w: the index needs %d bytes, %d are free", errNoSpace, need, free), x.refill())
	}
	return nil
}

// tables returns the bytes of Badger's tables.
func (x *index) tables() (int64, error) {
	paths, err := filepath.Glob(filepath.Join(globEscape(x.path()), "*.sst"))
	var sum int64
	for _, path := range paths {
		if st, err := os.Stat(path); err == nil {
			sum += st.Size()
		}
	}
	return sum, err
}

// refill takes the space back that the index has not used, as far as there is any.
func (x *index) refill() error {
	used, err := taken(x.path())
	if err != nil {
		return err
	}
	if err := x.ballast.hold(x.layout.index - used); err != nil {
		x.log.Debug("the ballast of the cache is not whole", "err", err)
	}
	return nil
}

// openDB starts Badger and allocates its log in full. Panics of Badger are errors.
func (x *index) openDB() (err error) {
	broken := new(atomic.Bool)
	defer guard(&err)
	if err := x.sweep(); err != nil {
		return err
	}
	db, err := badger.Open(x.badgerOptions(broken))
	if err != nil {
		return fmt.Errorf("%w: %w", errIndex, err)
	}
	x.db, x.broken = db, broken
	x.ops.Store(0)
	return nil
}

func (x *index) badgerOptions(broken *atomic.Bool) badger.Options {
	return badger.DefaultOptions(x.path()).
		WithLogger(&badgerLog{log: x.log, broken: broken}).
		WithCompression(options.None).WithBlockCacheSize(0).WithIndexCacheSize(0).
		WithMetricsEnabled(false).WithDetectConflicts(false).WithSyncWrites(false).
		WithMemTableSize(x.layout.table).WithNumMemtables(4).
		WithValueThreshold(1 << 10).WithValueLogFileSize(1 << 20).
		WithBaseTableSize(2 << 20).WithBaseLevelSize(1 << 30).
		WithNumCompactors(0).WithNumLevelZeroTables(100).WithNumLevelZeroTablesStall(200).
		WithCompactL0OnClose(x.merge).
		WithChecksumVerificationMode(options.OnTableAndBlockRead).
		WithBypassLockGuard(true) // the Store has the lock
}

// many tells whether the tables should be merged soon.
func (x *index) many() bool {
	levels := x.db.Levels()
	return len(levels) > 0 && levels[0].NumTables >= manyTables
}

// settle ends a moment in which Badger made files: it waits until old logs have
// become tables, allocates the new log and holds the rest of the space.
func (x *index) settle() error {
	if err := x.awaitFlush(); err != nil {
		return err
	}
	logs, err := filepath.Glob(filepath.Join(globEscape(x.path()), "*.mem"))
	if err != nil || len(logs) == 0 {
		return errors.Join(errIndex, err)
	}
	for _, path := range append(logs, filepath.Join(x.path(), "DISCARD")) {
		if err := allocatePath(path); err != nil {
			return errors.Join(errNoSpace, err)
		}
	}
	if x.sums, err = x.sums.renew(x.path()); err != nil {
		return err
	}
	if err := x.sums.write(filepath.Join(x.dir, sumsName)); err != nil {
		return err
	}
	return x.refill()
}

// allocatePath gives every byte of a file a block.
func allocatePath(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	st, err := file.Stat()
	if err == nil {
		err = allocate(file, st.Size())
	}
	return errors.Join(err, file.Close())
}

// awaitFlush waits until no log but the newest is there.
func (x *index) awaitFlush() error {
	for end := time.Now().Add(flushWait); ; time.Sleep(time.Millisecond) {
		logs, err := filepath.Glob(filepath.Join(globEscape(x.path()), "*.mem"))
		if err != nil || len(logs) <= 1 {
			return err
		}
		if x.broken.Load() || time.Now().After(end) {
			return fmt.Errorf("%w: its log does not become a table", errIndex)
		}
	}
}

// guard turns a panic into an error, also one of a memory map whose disk fails.
func guard(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%w: %v", errIndex, r)
	}
}

// use calls f with the database.
func (x *index) use(f func(*badger.DB) error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer guard(&err)
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.db == nil {
		return errIndex
	}
	return f(x.db)
}

// get returns errNotFound if there is no entry.
func (x *index) get(k id) (loc location, err error) {
	err = x.use(func(db *badger.DB) error {
		return db.View(func(txn *badger.Txn) error {
			item, err := txn.Get(k[:])
			if err != nil {
				return err
			}
			return item.Value(loc.decode)
		})
	})
	return loc, err
}

func (l *location) decode(p []byte) error {
	if len(p) != 12 {
		return errIndex
	}
	l.slot = int32(binary.BigEndian.Uint32(p))
	l.generation = binary.BigEndian.Uint64(p[4:])
	return nil
}

func (l location) encode() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, uint32(l.slot)), l.generation)
}

// set makes the entry of a block.
func (x *index) set(k id, loc location) error {
	return x.change(1, func(txn *badger.Txn) error { return txn.Set(k[:], loc.encode()) })
}

// delete removes entries.
func (x *index) delete(keys ...id) error {
	for len(keys) > 0 {
		n := min(len(keys), 256)
		err := x.change(n, func(txn *badger.Txn) error {
			for _, k := range keys[:n] {
				if err := txn.Delete(k[:]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}

// change makes n changes in one transaction, after a flush if they might not fit.
func (x *index) change(n int, f func(*badger.Txn) error) error {
	limit := x.layout.table * 8 / 10 / entryCost
	for x.ops.Add(int64(n)) > limit {
		x.ops.Add(-int64(n))
		if err := x.flush(limit - int64(n)); err != nil {
			return err
		}
	}
	return x.use(func(db *badger.DB) error {
		return db.Update(f)
	})
}

// scan calls f for each entry whose key begins with prefix, until it returns false.
func (x *index) scan(prefix []byte, f func(id, location) bool) error {
	return x.use(func(db *badger.DB) error {
		return db.View(func(txn *badger.Txn) error {
			it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix, PrefetchValues: false})
			defer it.Close()
			for it.Rewind(); it.Valid(); it.Next() {
				var k id
				var loc location
				copy(k[:], it.Item().Key())
				if err := it.Item().Value(loc.decode); err != nil {
					return err
				}
				if !f(k, loc) {
					return nil
				}
			}
			return nil
		})
	})
}

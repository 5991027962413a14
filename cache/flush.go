package cache

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"
)

// flush has Badger write its table in memory to a file, if there are more than limit
// changes in it. It closes and opens the database: only so are the moments known in
// which Badger needs new blocks of the file system.
func (x *index) flush(limit int64) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ops.Load() <= limit {
		return nil // somebody else has done it
	}
	if x.db == nil {
		return errIndex
	}
	if err := x.release(); err != nil {
		return err
	}
	x.merge = x.many() // Badger takes that at its opening: it is done at the next flush
	if err := x.closeDB(); err != nil {
		return err
	}
	if err := x.openDB(); err != nil {
		return err
	}
	return x.settle()
}

// closeDB stops Badger, which flushes.
func (x *index) closeDB() (err error) {
	defer guard(&err)
	db := x.db
	x.db = nil
	if err := db.Close(); err != nil {
		return fmt.Errorf("%w: %w", errIndex, err)
	}
	if x.broken.Load() {
		return errIndex
	}
	return nil
}

// close ends the use of the index. If there is no space to flush, or harsh is set,
// Badger is stopped without: its log holds everything and is read at the next Open.
func (x *index) close(harsh bool) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	var err error
	if x.db != nil {
		if harsh || x.release() != nil {
			err = x.abandon()
		} else if err = x.closeDB(); err == nil {
			if x.sums, err = x.sums.renew(x.path()); err == nil {
				err = x.sums.write(x.dir + "/" + sumsName)
			}
		}
	}
	// The ballast stays: the next Open may need it more than this one did.
	return errors.Join(err, x.refill(), x.ballast.close())
}

// abandon stops Badger in such a way that it finds no directory to write to. See
// badgerLog for how it is kept from trying forever. Badger keeps its log open and
// mapped after that, until the process ends: there is no call to make it let go.
func (x *index) abandon() error {
	moved := os.Rename(x.path(), x.path()+asideExt) == nil
	err := x.closeDB()
	if moved {
		return os.Rename(x.path()+asideExt, x.path())
	}
	if errors.Is(err, errIndex) {
		return nil // the directory is gone; so is what could not be written
	}
	return err
}

// badgerLog takes the lines of Badger as debug lines of ours.
//
// It is also the only way to end Badger's endless attempts to flush a table to a
// disk that does not take it, for which Badger's Close would wait: the goroutine that
// complains about that is ended. It holds no lock at that point and is waited for by
// a deferred call (read in v4.9.6). The database is only closed after that.
type badgerLog struct {
	log    *slog.Logger
	broken *atomic.Bool
}

var _ badger.Logger = (*badgerLog)(nil)

// Errorf implements badger.Logger.
func (b *badgerLog) Errorf(format string, args ...any) {
	b.log.Debug("badger: "+strings.TrimSpace(fmt.Sprintf(format, args...)), "severity", "error")
	if strings.HasPrefix(format, "error flushing memtable to disk") {
		b.broken.Store(true)
		runtime.Goexit()
	}
}

// Warningf implements badger.Logger.
func (b *badgerLog) Warningf(format string, args ...any) {
	b.log.Debug("badger: "+strings.TrimSpace(fmt.Sprintf(format, args...)), "severity", "warning")
}

// Infof implements badger.Logger.
func (b *badgerLog) Infof(string, ...any) {}

// Debugf implements badger.Logger.
func (b *badgerLog) Debugf(string, ...any) {}

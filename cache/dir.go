package cache

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Names in the directory of a Store.
const (
	lockName    = "lock"
	formatName  = "format"
	ballastName = "ballast"
	indexName   = "index"
	sumsName    = "sums"
	segmentExt  = ".slab"
	metaDirName = "meta"

	formatWord    = "meshmount-blocks"
	formatVersion = 1
)

// ErrFormat is the error of a directory that this version cannot read.
var ErrFormat = errors.New("no block cache of this version")

// LockedError is the error of a directory that another Store has open.
type LockedError struct {
	Dir string
	PID int // of the holder, 0 if unknown
}

// Error names the holder.
func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("cache directory %s is in use by another process", e.Dir)
	}
	return fmt.Sprintf("cache directory %s is in use by process %d", e.Dir, e.PID)
}

// private makes dir with mode 0700, or checks that it belongs to this user and that
// nobody else can change it.
func private(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return checkPrivate(dir)
}

func checkPrivate(dir string) error {
	st, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	switch {
	case !st.IsDir():
		return fmt.Errorf("cache directory %s is not a directory", dir)
	case ok && int(sys.Uid) != os.Geteuid():
		return fmt.Errorf("cache directory %s belongs to another user (uid %d)", dir, sys.Uid)
	case st.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("cache directory %s is open to others (mode %04o, want 0700)", dir, st.Mode().Perm())
	}
	return nil
}

// lock takes the one lock of the directory. It ends when the file is closed.
func lock(dir string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		text, _ := io.ReadAll(io.LimitReader(file, 32))
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		_ = file.Close()
		return nil, &LockedError{Dir: dir, PID: pid}
	} else if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("lock of %s: %w", dir, err)
	}
	// The number is only for people; a full disk may keep it from being written.
	if file.Truncate(0) == nil {
		_, _ = file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return file, nil
}

// format is what the directory says about itself.
type format struct{ blockSize, segSlots int }

// readFormat returns os.ErrNotExist for a directory with nothing in it, and ErrFormat
// for one that belongs to something else or to a newer version.
func readFormat(dir string) (format, error) {
	text, err := os.ReadFile(filepath.Join(dir, formatName))
	if errors.Is(err, os.ErrNotExist) {
		return format{}, checkEmpty(dir)
	} else if err != nil {
		return format{}, err
	}
	var word string
	var version int
	if n, _ := fmt.Sscan(string(text), &word, &version); n < 2 || word != formatWord {
		return format{}, fmt.Errorf("%s: %w: its file %q is foreign", dir, ErrFormat, formatName)
	}
	if version != formatVersion {
		return format{}, fmt.Errorf("%s: %w: it has version %d, known is %d", dir, ErrFormat, version, formatVersion)
	}
	var f format
	if n, _ := fmt.Sscan(string(text), &word, &version, &f.blockSize, &f.segSlots); n < 4 || !f.sane() {
		return format{}, fmt.Errorf("%s: %w: its file %q is damaged", dir, ErrFormat, formatName)
	}
	return f, nil
}

func (f format) sane() bool {
	return f.blockSize >= MinBlockSize && f.blockSize <= MaxBlockSize && f.segSlots > 0 && f.segSlots <= 1<<20
}

// checkEmpty returns os.ErrNotExist if nothing but the lock and what an interrupted
// first start leaves is in dir.
func checkEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != lockName && e.Name() != formatName+".new" {
			return fmt.Errorf("%s: %w: it holds %q, but no file %q", dir, ErrFormat, e.Name(), formatName)
		}
	}
	return os.ErrNotExist
}

func writeFormat(dir string, f format) error {
	text := fmt.Sprintf("%s %d %d %d\n", formatWord, formatVersion, f.blockSize, f.segSlots)
	return replace(filepath.Join(dir, formatName), []byte(text))
}

// replace writes a whole file or leaves the old one.
func replace(path string, text []byte) error {
	file, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// wipe deletes what a Store has made in dir, but for the lock and the format. The
// index goes first: without it, no slot is found.
func wipe(dir string) error {
	var err error
	for _, name := range []string{indexName, indexName + asideExt, metaDirName} {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, name)))
	}
	for _, name := range []string{sumsName, sumsName + ".new", ballastName} {
		if e := os.Remove(filepath.Join(dir, name)); !errors.Is(e, os.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	segments, globErr := filepath.Glob(filepath.Join(globEscape(dir), "*"+segmentExt))
	err = errors.Join(err, globErr)
	for _, path := range segments {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// globEscape quotes what filepath.Glob would take for a pattern.
func globEscape(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

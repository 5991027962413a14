package writeback

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// logFS are the operations of a journal on its directory. Tests put themselves here, to
// fail them and to lose what was not synced.
type logFS interface {
	list() ([]string, error)
	open(name string) (logFile, error)
	create(name string) (logFile, error) // empty, also if it was there
	rename(from, to string) error
	remove(name string) error
	syncDir() error
}

// logFile is an open file of a journal.
type logFile interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	size() (int64, error)
	allocate(size int64) error // takes the space for that many bytes; those new are zero
	truncate(size int64) error
	sync() error // the bytes, and what is needed to find them
}

// logDir is the logFS of a directory of the system.
type logDir string

func (d logDir) path(name string) string { return filepath.Join(string(d), name) }

func (d logDir) list() ([]string, error) {
	entries, err := os.ReadDir(string(d))
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

func (d logDir) open(name string) (logFile, error) { return d.openFile(name, 0) }

func (d logDir) create(name string) (logFile, error) {
	return d.openFile(name, os.O_CREATE|os.O_TRUNC)
}

func (d logDir) openFile(name string, flags int) (logFile, error) {
	file, err := os.OpenFile(d.path(name), os.O_RDWR|unix.O_NOFOLLOW|flags, 0o600)
	if err != nil {
		return nil, err
	}
	return logOSFile{file}, nil
}

func (d logDir) rename(from, to string) error { return os.Rename(d.path(from), d.path(to)) }
func (d logDir) remove(name string) error     { return os.Remove(d.path(name)) }
func (d logDir) syncDir() error               { return logSyncDir(string(d)) }

// make makes the directory, if it is not there, so that it is there after a loss of power.
func (d logDir) make() error {
	if err := os.Mkdir(string(d), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return logSyncDir(filepath.Dir(string(d)))
}

func logSyncDir(dir string) error {
	file, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

type logOSFile struct{ *os.File }

func (f logOSFile) size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (f logOSFile) truncate(size int64) error { return f.Truncate(size) }

func (f logOSFile) sync() error {
	return f.control("fdatasync", unix.Fdatasync)
}

func (f logOSFile) allocate(size int64) error {
	err := f.control("fallocate", func(fd int) error { return unix.Fallocate(fd, 0, 0, size) })
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return f.extend(size)
	}
	return err
}

// extend is allocate on a file system that cannot: it writes zeros.
func (f logOSFile) extend(size int64) error {
	now, err := f.size()
	if err == nil {
		err = logZero(f, now, size)
	}
	if err == nil {
		err = f.sync() // some find out only now that there is no space
	}
	return err
}

// control calls do with the descriptor until it is not interrupted.
func (f logOSFile) control(name string, do func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	ended := conn.Control(func(fd uintptr) {
		for err = unix.EINTR; err == unix.EINTR; {
			err = do(int(fd))
		}
	})
	if err = errors.Join(ended, err); err != nil {
		return &os.PathError{Op: name, Path: f.Name(), Err: err}
	}
	return nil
}

// logZero makes the bytes [from, to) zero.
func logZero(file logFile, from, to int64) error {
	zeros := make([]byte, min(max(to-from, 0), 256<<10))
	for from < to {
		n, err := file.WriteAt(zeros[:min(to-from, int64(len(zeros)))], from)
		if err != nil {
			return err
		}
		from += int64(n)
	}
	return nil
}

// logNoSpace tells whether err says that the disk or the user's share of it is full.
func logNoSpace(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG)
}

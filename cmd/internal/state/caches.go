package state

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// CacheDir is the cache directory of a mount that is or was.
type CacheDir struct {
	Dir   string
	Point string // where the mount was last; "" if unknown
	PID   int    // of the process that has it at present, 0 if none
	// Control is the name of that process's control socket.
	Control string
}

// LookAt returns what is known of a cache directory.
func LookAt(dir string) CacheDir {
	c := CacheDir{Dir: dir}
	var h Holder
	if err := readJSON(filepath.Join(dir, lockName), &h); err == nil && h.CacheDir != "" {
		c.Point = h.Point
		if h.Alive() {
			c.PID, c.Control = h.PID, h.Control
		}
	}
	return c
}

// CacheDirs returns the cache directories below root, see CacheRoot. If root is not
// there, there are none.
func CacheDirs(root string) ([]CacheDir, error) {
	entries, err := os.ReadDir(root)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var list []CacheDir
	for _, e := range entries {
		dir := filepath.Join(root, e.Name())
		if _, err := os.Lstat(filepath.Join(dir, lockName)); e.IsDir() && err == nil {
			list = append(list, LookAt(dir))
		}
	}
	return list, err
}

// CacheDirsOf returns the cache directories of mounts at a real mount point: that of the
// process that serves it at present, wherever it is, and those below root.
func CacheDirsOf(root, point string) ([]CacheDir, error) {
	list, err := CacheDirs(root)
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(c CacheDir) bool { return c.Point != point })
	if h, err := Registered(point); err == nil && !slices.ContainsFunc(list, func(c CacheDir) bool { return c.Dir == h.CacheDir }) {
		list = append(list, LookAt(h.CacheDir))
	}
	return list, nil
}

// AllCacheDirs returns the cache directories below root and, wherever they are, those of
// mounts that are registered: of processes that are at work, were killed, or have left
// changes behind.
func AllCacheDirs(root string) ([]CacheDir, error) {
	list, err := CacheDirs(root)
	if err != nil {
		return nil, err
	}
	registered, err := filepath.Glob(filepath.Join(root, "mounts", "*.json"))
	for _, name := range registered {
		var h Holder
		if readJSON(name, &h) != nil || h.CacheDir == "" {
			continue // it has just ended
		}
		if slices.ContainsFunc(list, func(c CacheDir) bool { return c.Dir == h.CacheDir }) {
			continue
		}
		c := LookAt(h.CacheDir)
		if c.Point == "" {
			c.Point = h.Point
		}
		list = append(list, c)
	}
	return list, err
}

// CanReserve tells whether the file system of a directory can reserve space for a file
// (fallocate(2)), as the block cache needs it. It leaves nothing behind.
func CanReserve(dir string) error {
	file, err := unnamed(dir)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	for {
		if err := unix.Fallocate(int(file.Fd()), 0, 0, 1<<16); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// unnamed makes a file without a name.
func unnamed(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return os.NewFile(uintptr(fd), dir), nil
	}
	if !errors.Is(err, syscall.EOPNOTSUPP) && !errors.Is(err, syscall.EISDIR) {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	file, err := os.CreateTemp(dir, ".meshmount-*")
	if err != nil {
		return nil, err
	}
	return file, os.Remove(file.Name())
}
